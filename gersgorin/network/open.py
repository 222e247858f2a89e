"""`open_run`: run a network along data. Every analysis takes the resulting `Run`.

network   a torch module with a recurrent cell, a step f(x, s), or an open run
data      an array or a tensor, a packed sequence, several inputs; a chorale or a file by its name
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin.data.files import CHORALE, Dataset, is_array, read_data
from gersgorin.data.inputs import is_several, one_sequence, shape_of, unpacked
from gersgorin.data.layout import Layout
from gersgorin.network.batch_axis import axis_for
from gersgorin.network.find import as_step, check_state
from gersgorin.network.trace import TracedCell
from gersgorin.run.cell import GatesOf, StepCell, as_cell, cell_name, layers_in, own_title
from gersgorin.run.run import Label, Run
from gersgorin.run.state import Sizes, State, checked_sizes, flat_state, zero_state
from gersgorin.validate import check_order, finite_tensor
from rhn.errors import InvalidInputError
from rhn.utils.old import counted, typed
from rhn.utils.validation import check_device, check_room, in_short

NetworkLike = nn.Module | Callable | Run  # see `open_run`
DataLike = str | Path | Tensor | np.ndarray | tuple | Mapping | Dataset | None
KEPT = 8  # numbers in a result for each entry of the state at each step
VECTORS = 1000  # of the state, at least, in searches for leading eigenvalues


@torch.no_grad()
@typed
def open_run(
    network: NetworkLike,
    x: DataLike = None,
    *,
    s0: State | None = None,
    state_size: Sizes | None = None,
    layer: int | None = None,
    submodule: str | None = None,
    batch_axis: int | None = None,
    gates: GatesOf | None = None,
    unit: str | None = None,
    device: str | torch.device = "cpu",
) -> Run:
    """Run a network along a sequence, and return a `Run`, which every analysis takes. If `network`
    is already a `Run`, only s0 and gates can be given.

    Args:
        network: a torch module, or a step f(x, s). A module with a recurrent cell is copied, and
            the cell is measured in float64 while the module reads x. A recurrent cell is one of
            `rhn` or torch.nn, or a module with a `state_size` and either `step` or forward(x,
            state). If s0 or state_size is given, any other network is called as a step. A step is a
            function, which runs in its own precision (float32 or float64), or a module with
            forward(x, state). A step returns the next state or (output, next state). The step gets
            the state in the shapes of s0. It gets x as (1, m) if all shapes of s0 are (1, ...),
            else as (m,).
        x: one sequence: (T, m), token ids (T,), or a batch of one sequence. A module gets x
            unchanged. x can also be a packed sequence, a tuple of several inputs for module(*x), or
            a dictionary for module(**x). A string names a chorale ("bwv66.6", "test-0") or a file
            of numbers (.npy, .npz, .csv). None: the chorale bwv269.
        s0: the first state, a tensor or a tuple of tensors; None: the first state of the cell,
            which is zero for most cells.
        state_size: size of the state, for a step without the attribute `state_size`: 5, or (5, 5)
            for two tensors. The state starts at zero.
        layer, submodule: select a recurrent cell of a module; see `gersgorin.extract_cell`.
        batch_axis: the axis of the batch that the module expects: 0 for (B, T, m), 1 for (T, B, m).
            A sequence (T, m) without a batch axis gets this axis, even if it is read from a file.
            None: the axis that `batch_first` of the module declares, or the axis of length 1.
        gates: a function gates(x, s) that returns a tensor, or a dictionary of tensors by name;
            None: the gates of the cell. The function is called for single steps, with x and s as
            the step gets them. For cells of torch.nn, x is (m,) and s is h (n,), or (h, c) for an
            LSTM. With several layers h and c are (L, n).
        unit: length of one time step, for the axes of figures, such as "0.1 s"; None: the unit of
            the data.
        device: device of states and Jacobians.

    Raises:
        InvalidInputError, DataError: the network or the data do not exist, cannot be read, or do
            not fit each other.
        NotFiniteError: a state along the run is NaN or infinite.

    >>> run = open_run(lambda x, s: torch.tanh(s + x.sum()), torch.zeros(9, 3), state_size=2)
    >>> run.states.shape, len(run)
    (torch.Size([10, 2]), 9)
    """
    check_order("the network first, then x, then s0", network=network, x=x)
    s0 = None if s0 is None else check_state(s0)
    if s0 is not None and state_size is not None:
        raise InvalidInputError(
            "s0 and state_size are given: s0 has its size, leave state_size out"
        )
    part = {"layer": layer, "submodule": submodule, "batch_axis": batch_axis}
    if isinstance(network, Run):
        other = None if device in ("cpu", network.states.device.type) else device
        given = part | {"x": x, "state_size": state_size, "unit": unit, "device": other}
        _check_none(
            given,
            "with a Run, which has been computed without it: leave it out, or give the network in "
            "place of the run",
        )
        if network.states.dim() != 2:
            raise InvalidInputError(
                f"the run has {network.states.shape[1]} sequences: expected that of one, x[:, :1]"
            )
        return _starting(network, s0).with_gates(gates).require_finite()
    device = check_device(device)
    _check_names(network)
    try:
        if isinstance(network, nn.Module):
            traced = TracedCell(network, layer, submodule, s0, state_size)
            run = _starting(_of_module(traced, x, batch_axis, device), s0)
        else:
            _check_none(part, "with a function, and is for a module: leave it out")
            run = _of_function(network, x, s0, state_size, device)
    except InvalidInputError as error:
        if x is not None:
            raise
        raise InvalidInputError(
            f"{error}; x is not given, so the input is the chorale {CHORALE}"
        ) from error
    run = run.named(replace(run.label, unit=unit or run.label.unit))
    return run.with_gates(gates).require_finite()


def _check_names(network: Any) -> None:
    """Raise InvalidInputError if the name of a network is passed instead of a network."""
    if isinstance(network, str | Path):
        raise InvalidInputError(
            f"network is the name {in_short(str(network))}: expected a module or a step f(x, s); "
            'rhn.make_cell("rhn", 88, 64) makes a cell by its name, rhn.load("runs/mine") reads a '
            "checkpoint, and the commands take names, gersgorin plot --cell rhn"
        )


def _check_none(given: Mapping[str, Any], words: str) -> None:
    """Raise InvalidInputError if one of these arguments is given."""
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise InvalidInputError(f"{names[0]} is given {words}")


def _of_module(traced: TracedCell, x: DataLike, batch_axis: int | None, device: str) -> Run:
    """The run of the recurrent cell of a module while the module reads one sequence."""
    if is_array(x) or is_several(x):
        passed = traced.one_input(x)
        names = {"sequence": f"of {' x '.join(map(str, shape_of(passed)))}"}
    else:
        data = read_data(x)
        ids = traced.reads_ids(data.x)
        passed = data.first(axis_for(traced.module, data, batch_axis, ids=ids), ids=ids)
        names = names_of_data(data)
    check_memory(traced.cell, max(shape_of(passed)[:2]), device)
    traced.module.to(device)
    run = traced.along(passed, batch_axis=batch_axis, one=True)
    network = {"name": cell_name(traced.cell), "title": traced.title, "made": traced.made}
    return run.named(Label(network=traced.network, **network, **names))


def _of_function(
    f: Callable, x: DataLike, s0: State | None, state_size: Sizes | None, device: str
) -> Run:
    """The run of a step f(x, s) along one sequence of numbers."""
    if is_array(x):
        values = one_sequence(finite_tensor("x", unpacked(x)))
        names = {"sequence": f"of {' x '.join(map(str, values.shape))}"}
        values = Layout.of_one(values).frames(values)
    else:
        data = read_data(x)
        values, names = data.sequence().double(), names_of_data(data)
    if values.dim() != 2:
        raise InvalidInputError(
            f"x has frames of shape {tuple(values.shape[1:])}: expected numbers (T, m)"
        )
    if state_size is not None:
        s0 = zero_state(checked_sizes(state_size), values)
    cell = as_cell(as_step(f, s0))
    check_memory(cell, len(values), device)
    label = Label(name=cell_name(f), title=own_title(f), **names)
    return Run.of(cell, values, _flat(cell, s0)).named(label)


def names_of_data(data: Dataset) -> dict[str, str]:
    """The fields of a `Label` about the first sequence of data."""
    return {
        "sequence": data.first_label,
        "reads": data.kind,
        "unit": data.unit,
        "data": data.first_about,
    }


def _starting(run: Run, s0: State | None) -> Run:
    """The run from another first state; None: the run unchanged."""
    start = _flat(run.cell, s0)
    return run if start is None else run.starting_at(start.to(run.states))


def _flat(cell: StepCell, s0: State | None) -> Tensor | None:
    """A first state as one vector (N,); several layers are joined layer by layer."""
    return None if s0 is None else flat_state(s0, layers_in(cell.module))[0]


def check_memory(cell: Any, steps: int, device: str) -> None:
    """Raise InvalidInputError if weights, results and work vectors exceed the free memory."""
    cell = as_cell(cell)
    weights = cell.module.parameters() if isinstance(cell.module, nn.Module) else ()
    of_any = sum(p.numel() for p in weights) + VECTORS * cell.state_size
    size, what = torch.float64.itemsize, f"a state of {cell.state_size}"
    check_room(size * of_any, what, "use fewer hidden units", device)
    need = size * (of_any + KEPT * steps * cell.state_size)
    what = f"{what} over {counted(steps, 'step')}"
    check_room(need, what, "use fewer hidden units or fewer steps", device)
