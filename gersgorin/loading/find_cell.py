"""Find the recurrent cell in a module, and record its inputs while the module reads a sequence.

Legend: T steps, B sequences, m inputs of the cell. A module is a cell of ours, one of torch.nn's
recurrent modules, a user's cell (with `step` and `state_size`, see `rhn.cells.Cell`), a step
forward(x, state), or anything that has one of them inside.
"""

import copy
import difflib
import functools
import hashlib
from collections import Counter
from collections.abc import Callable
from itertools import chain
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from gersgorin._validate import (
    check_order,
    check_weights,
    copied,
    finite_tensor,
    real_tensor,
    uncompiled,
    users_code,
)
from gersgorin.loading.calls import Call, check_loop, first_sequence, watched_calls
from gersgorin.loading.one_sequence import (
    is_one,
    layouts,
    reads_batch_first,
    unpacked,
    without_batch,
)
from gersgorin.run.cell import (
    State,
    Step,
    as_cell,
    first_state,
    flat_state,
    flat_step,
    name_of,
    size_to_set,
    takes,
)
from gersgorin.run.run import Label, Run
from rhn.cells import Cell, from_torch, name_of_cell
from rhn.errors import InvalidInputError
from rhn.plotting.provenance import words_of_built
from rhn.utils.wording import counted, in_short

TORCH_CELLS = (nn.RNNBase, nn.RNNCellBase)
Read = tuple[Tensor, Tensor, list[Call], Tensor]


def recurrent_cells(module: nn.Module) -> list[nn.Module]:
    """The recurrent cells of a module, itself included, in the order of `modules()`; without cells
    inside other cells.
    """
    found: list[nn.Module] = []
    for part in module.modules():
        ours = isinstance(part, Cell) or (hasattr(part, "step") and hasattr(part, "state_size"))
        if (ours or isinstance(part, TORCH_CELLS)) and not any(
            part in other.modules() for other in found
        ):
            found.append(part)
    return found


def cells_of(module: nn.Module) -> list[nn.Module]:
    """The same with modules whose forward(x, state) is a step, from their state_size; they may have
    cells inside.
    """
    written = [part for part in module.modules() if is_hand_written(part, named=False)]
    return written + [
        cell
        for cell in recurrent_cells(module)
        if not any(cell in part.modules() for part in written)
    ]


def run_by_equations(module: nn.Module) -> None:
    """Run our own cells in a module, a copy, by their equations, not by kernels: derivatives can be
    batched and have derivatives.

    Cells of a subclass with another `forward` stay.
    """
    for part in module.modules():
        if isinstance(part, Cell) and type(part).forward is Cell.forward:
            part.kernel = "reference"


def is_step(network, s0: State | None = None) -> TypeGuard[nn.Module | Step]:
    """True for a cell or a function, which is called step by step; False for a module that reads
    whole sequences.

    A module with forward(x, state) is a step if it needs the state. Layers that read a sequence
    often take a state or a cache, too, but run without it: forward(x, state=None) is a step only
    if it declares its `state_size` or a first state s0 is given, and if it has no cell inside.
    """
    if (
        not isinstance(network, nn.Module)
        or isinstance(network, TORCH_CELLS)
        or hasattr(network, "step")
    ):
        return callable(network)
    if not takes(network, 1):
        return takes(network, 2)
    declared = s0 is not None or hasattr(network, "state_size")
    return declared and takes(network, 2) and not recurrent_cells(network)


def is_map(network) -> TypeGuard[Callable]:
    """True for a function f(s), or a module with forward(state) and no recurrent layer inside,
    without input.
    """
    if isinstance(network, nn.Module) and recurrent_cells(network):
        return False
    return (
        callable(network)
        and not hasattr(network, "step")
        and not (takes(network, 2) and not takes(network, 1))
    )


def held(f: Callable) -> Step:
    """A map f(s) as a step that ignores its input."""
    step = lambda x, s: f(s)  # noqa: E731
    step.__name__ = name_of(f).replace("<lambda>", "f(s)")
    return step


def step_hint(module: Callable) -> str:
    """A hint for the error of a step that is called with one input; "" for any other module."""
    if not takes(module, 2) or takes(module, 1):
        return ""
    return (
        "this is a step f(x, state): expected a module or function from a whole sequence to "
        "its outputs"
    )


class Watched:
    """One recurrent cell of a module, in a float64 copy in evaluation mode; the original is not
    changed.

    Args:
        module: see above; `refresh` copies its present weights.
        layer: one of several recurrent cells, counted from 1; each layer of torch.nn's modules
            counts. None: the first, with all its layers as one.
        submodule: the part of the module to search, by its name in `named_modules`: "encoder.rnn".
        s0: the first state of a module or part with forward(x, state); None: as `first_state`.

    Raises:
        InvalidInputError: not a module; no such part, no recurrent cell or too few; a bidirectional
            or projected cell; weights that are NaN or infinite.
    """

    def __init__(
        self,
        module: nn.Module | Callable,
        layer: int | None = None,
        submodule: str | None = None,
        s0: State | None = None,
    ):
        if not isinstance(module, nn.Module):
            raise InvalidInputError(
                f"expected a torch module, got {in_short(module)}: write it as one"
            )
        self._original = uncompiled(module)
        check_weights(part_of(self._original, submodule))
        self.module, self._part, self._s0 = copied(self._original).double().eval(), submodule, s0
        part = part_of(self.module, submodule)
        hand_written = is_hand_written(part, s0, named=bool(submodule))
        cells = [part] if hand_written else cells_of(part)
        cells = cells or ([] if s0 is None else [*own_steps(part).values()])
        if not cells:
            raise no_cell(part)
        places: list[tuple[nn.Module, int | None]] = [
            (cell, k) for cell in cells for k in range(layers_of(cell))
        ]
        if layer is not None and (not isinstance(layer, int) or not 1 <= layer <= len(places)):
            raise InvalidInputError(
                f"layer is {in_short(layer)}: the module has "
                f"{counted(len(places), 'recurrent cell')}, counted from 1"
            )
        self._cell, self._layer = (cells[0], None) if layer is None else places[layer - 1]
        _ = self.cell  # refuses what cannot be converted

    @property
    def cell(self) -> nn.Module:
        """The cell with the copy's weights, torch.nn's in our form."""
        if isinstance(self._cell, TORCH_CELLS):
            return from_torch(self._cell, self._layer)
        return stepping(self._cell, self._s0, named=bool(self._part))

    @property
    def title(self) -> str:
        """Title of figures: "rhn, depth 5, 64 units", "encoder.rnn: LSTM, 2 layers, 64 units"."""
        title = cell_title(self._cell, self._layer)
        return f"{self._part}: {title}" if self._part else title

    @property
    def made(self) -> str:
        """Configuration of a cell of `rhn`: "built with uniform:0.04, transform bias -2"; "" for
        other cells.
        """
        return words_of_built(self._cell)

    def refresh(self) -> None:
        """Take the weights and buffers that the original has now."""
        self.module.load_state_dict(self._original.state_dict())

    @torch.no_grad()
    def along(self, probe: Tensor | np.ndarray, *, one: bool = False) -> Run:
        """The run of the cell over its inputs, (T, B, m) in float64, while the module reads a
        probe.

        One sequence is read in the first of `layouts` in which the cell reads more than one step,
        else in the first that runs. Of several a bare cell reads (T, B, m), or (B, T, m) if it is
        `batch_first`, and a module what it takes. int64 numbers are ids of tokens. States that the
        module passes to a cell with a whole sequence are ignored. Of packed sequences of unequal
        lengths only the steps that all of them have are read. The state of torch's random generator
        does not change.

        one: whether the probe is one sequence; its inputs are then (T, m). Raises InvalidInputError
        for a probe that is not finite or does not fit, for several sequences instead of one, and
        for a loop that changes states or inputs of its cell, see `check_loop`.
        """
        probe, inputs, calls, s0 = self._read(self._checked(probe))
        T, B, _ = inputs.shape
        if one and B > 1:
            raise InvalidInputError(
                f"x is read as {B} sequences of {counted(T, 'step')}: expected one"
            )
        if calls:
            module, cell = copy.deepcopy((self.module, self._cell))
            check_loop(cell, module, probe, calls, T)
        s0 = s0.flatten(1) if self._layer is None else s0[:, self._layer]
        inputs, s0 = (inputs[:, 0], s0[0]) if one else (inputs, s0)
        return Run.of(self.cell, inputs, s0)

    def _read(self, probe: Tensor) -> Read:
        """(The probe as it is read, the cell's inputs (T, B, m), its calls, the first state of its
        layers (B, L, N)).

        Two layouts of one sequence that give other inputs: in the right one steps mix, in the other
        they are examples.
        """
        if self._cell is self.module:
            return probe, *self._read_as(without_batch(probe) if is_one(probe) else probe)
        if not is_one(probe):
            return probe, *self._read_as(probe)
        found, short, errors = list[Read](), list[Read](), list[InvalidInputError]()
        for x, axis in layouts(self.module, ids_or_numbers(self.module, probe)):
            if found and x.dim() == without_batch(x).dim():
                break  # without a batch only if nothing else runs
            try:
                read = (x, *self._read_as(x, axis))
                (found if len(read[1]) > 1 else short).append(read)
            except InvalidInputError as error:
                errors.append(error)
        if len(found) > 1 and not all(map(torch.equal, found[0][1::2], found[1][1::2])):
            mixing = [read for read in found if self._mixes(*read[:2])]
            given = [read for read in found if read[0].shape == probe.shape]
            # calls a frame, which are refused
            several = [read for read in found if len(read[1]) not in read[0].shape]
            found = several[:1] or (mixing if len(mixing) == 1 else given)
            if len(found) != 1:
                raise InvalidInputError(
                    f"the {type(self._cell).__name__} of {type(self.module).__name__} reads "
                    "other inputs if x is (T, 1, m) than "
                    "if it is (1, T, m): give x in the layout that the module takes"
                )
        if not found and not short:
            raise errors[0]
        return (found or short)[0]

    def _mixes(self, x: Tensor, inputs: Tensor) -> bool:
        """True if another step than the one that changes in x has other inputs of the cell."""
        axis = 0 if x.shape[1:2] == (1,) else 1
        for step in (0, x.shape[axis] - 1):
            changed = x.clone()
            one = changed.select(axis, step)
            one.copy_(one + 1 if x.is_floating_point() else x.select(axis, 1 - (step > 0)))
            try:
                other, _, _ = self._read_as(changed, axis)
            except InvalidInputError:
                continue
            if other.shape != inputs.shape or int((other != inputs).flatten(1).any(1).sum()) > 1:
                return True
        return False

    def _read_as(self, probe: Tensor, axis: int = 0) -> tuple[Tensor, list[Call], Tensor]:
        """The same without the probe, in one layout; axis: that of time. A copy of the module reads
        it, for it may keep a state.
        """
        calls, batch_first = [], reads_batch_first(self._cell)
        if self._cell is not self.module:
            shape = (
                f"(B, T, m) of {tuple(probe.shape)}"
                if batch_first
                else f"(T, B, m) of {tuple(probe.shape)}"
            )
            hint = (
                ""
                if takes(self.module, 1)
                else "if it is one step, give its first state as s0 or its state_size"
            )
            module, cell = copy.deepcopy((self.module, self._cell))
            with users_code(
                f"{type(self.module).__name__} does not run on x, read as {shape}", hint
            ):
                calls = watched_calls(cell, module, probe)
                probe = joined_inputs(cell, module, calls)
            whole = isinstance(calls[0].x, Tensor) and calls[0].x.dim() == 3
            # by a cell that does not say that it is batch_first
            if axis and whole and len(probe) == 1:
                probe = probe.transpose(0, 1)
        elif probe.dim() == 3 and batch_first:
            probe = probe.transpose(0, 1)
        x = self._checked_inputs(probe)
        s0 = self._first_state(calls, x)
        for k in range(self._layer or 0):
            below = from_torch(self._cell, k)
            x = below.outputs_of(below.states(x, s0[:, k]))
        return x, calls, s0

    def _first_state(self, calls: list[Call], x: Tensor) -> Tensor:
        """The first state (B, L, N) that a loop gives the cell, else the cell's own."""
        if calls and calls[0].state and (len(calls) > 1 or len(x) == 1):
            s0 = flat_state(calls[0].state, layers_of(self._cell), x.shape[1])
        else:
            s0 = as_cell(
                self._cell if isinstance(self._cell, TORCH_CELLS) else self.cell
            ).first_state(x)
        return s0.unflatten(1, (layers_of(self._cell), -1))

    def digest(self, probe: Tensor | np.ndarray) -> str:
        """Hash of a probe's shape and numbers, 16 letters. Raises InvalidInputError as `along`."""
        values = self._checked(probe).cpu().numpy()
        return hashlib.sha256(
            f"{values.dtype}{values.shape}".encode() + values.tobytes()
        ).hexdigest()[:16]

    def _checked(self, probe: Tensor | np.ndarray) -> Tensor:
        """The probe on the device of the weights, its numbers in float64."""
        probe = finite_tensor("x", unpacked(probe))
        weights = chain(self.module.parameters(), self.module.buffers())
        like = next((values for values in weights if values.is_floating_point()), probe)
        ids = probe.dim() == 1 or (probe.dim() == 2 and (1 in probe.shape or embeds(self.module)))
        if ids and probe.dtype == torch.int64 and self._cell is not self.module:
            return probe.to(like.device)
        return probe.to(like.device, like.dtype if like.is_floating_point() else torch.float64)

    def _checked_inputs(self, x: Tensor) -> Tensor:
        """(T, B, m)."""
        m = getattr(self._cell, "input_size", x.shape[-1])
        if x.dim() not in (2, 3) or x.shape[-1] != m:
            loops = "; if it loops over a sequence, give one step of it, f(x, s), and s0" * (
                x.dim() > 3
            )
            raise InvalidInputError(
                f"{self.title} reads {tuple(x.shape)}: expected (T, {m}) or (T, B, {m}){loops}"
            )
        if x.dim() == 3 and len(x) == 1 < x.shape[1]:
            raise InvalidInputError(
                f"x is read as (T=1, B={x.shape[1]}, m={x.shape[2]}), one step of {x.shape[1]} "
                "sequences: expected more steps, or "
                "x.transpose(0, 1)"
            )
        return x.unsqueeze(1) if x.dim() == 2 else x


def cell_title(cell: nn.Module, layer: int | None = None, name: str | None = None) -> str:
    """Title of a cell, or of one of its layers counted from 0: "LSTM, layer 1 of 2, 64 units";
    name: None for that of its class.
    """
    depth, size = (
        n if isinstance(n := getattr(cell, name, 0), int) else 0
        for name in ("depth", "hidden_size")
    )
    several, words = layers_of(cell), []
    if several > 1:
        words = [f"{several} layers" if layer is None else f"layer {layer + 1} of {several}"]
    words += [f"depth {depth}"] * (depth > 1)
    name = name or (name_of_cell(cell) if isinstance(cell, Cell) else name_of(cell))
    words += [counted(size, "unit")] * bool(size)
    return ", ".join([name, *words])


def model_label(model: nn.Module) -> Label:
    """The title of a model in figures, "2 x lstm, 8 units", and the initialisation of its cells."""
    cells = recurrent_cells(model)
    return Label(
        title=" + ".join(
            f"{n} x {name}" if n > 1 else name
            for name, n in Counter(map(cell_title, cells)).items()
        ),
        made=" + ".join(dict.fromkeys(filter(None, map(words_of_built, cells)))),
    )


def extract_cell(
    module: nn.Module,
    x: Tensor | np.ndarray,
    layer: int | None = None,
    submodule: str | None = None,
) -> tuple[nn.Module | Step | Run, Tensor]:
    """Return (the recurrent cell of a module, its inputs (T, B, m) while the module reads x), for
    functions that take a cell.

    Both are float64 copies; arguments and errors as for `Watched` and its `along`.

    Of a loop that starts from a state of its own, such as a parameter, the result is (a `Run` from
    there, its inputs). Functions of a run accept it in place of a cell (`lyapunov`, `spectra`).

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.LSTM(3, 4, num_layers=2))
    >>> cell, inputs = extract_cell(model, torch.zeros(5, 1, 2))
    >>> cell.state_size, inputs.shape
    (16, torch.Size([5, 1, 3]))
    """
    check_order("extract_cell(module, x)", module=module, x=x)
    run = Watched(module, layer, submodule).along(x)
    starts_at_its_own = torch.equal(run.states[0], run.cell.first_state(run.inputs))
    return run.cell.module if starts_at_its_own else run, run.inputs


def joined_inputs(cell: nn.Module, module: nn.Module, calls: list[Call]) -> Tensor:
    """Inputs of a recurrent cell in its calls by its module, joined along time: (T, B, m), or (T,
    m) if the module passes no batch.

    Raises InvalidInputError if the cell is not called, or if its input is not a tensor.
    """
    batch_first = reads_batch_first(cell)
    read = [(call.x, unpacked(call.x)) for call in first_sequence(calls)]
    seen = [x.transpose(0, 1) if batch_first and x is not given else x for given, x in read]
    if not seen or not all(isinstance(each, Tensor) for each in seen):
        raise InvalidInputError(
            f"{type(module).__name__} does not call its {type(cell).__name__} with a tensor "
            "when it reads a sequence"
        )
    if _steps_of_batch(calls[0]) or _reads_frames(cell, seen):
        return torch.stack(seen)
    whole = torch.cat(seen, 1 if batch_first and seen[0].dim() == 3 else 0)
    return whole.transpose(0, 1) if batch_first and whole.dim() == 3 else whole


def _reads_frames(cell: nn.Module, inputs: list[Tensor]) -> bool:
    """True if each call of a cell reads one frame, False if it reads a window of a sequence."""
    if isinstance(cell, nn.RNNBase):
        return False
    if not hasattr(cell, "step"):
        return True  # forward(x, state) is the step
    return len(inputs) > 1 and inputs[0].dim() == 2


def _steps_of_batch(call: Call) -> bool:
    """True for a call of a cell with a step of several sequences, each with its state."""
    rows = call.x.shape[:1] if isinstance(call.x, Tensor) and call.x.dim() == 2 else None
    return any(
        isinstance(part, Tensor) and part.dim() == 2 and part.shape[:1] == rows
        for part in call.state
    )


def layers_of(cell: nn.Module) -> int:
    """Number of layers of a torch.nn module; 1 for all else."""
    return cell.num_layers if isinstance(cell, nn.RNNBase) else 1


def part_of(module: nn.Module, name: str | None) -> nn.Module:
    """The submodule of this name in `named_modules`; None or "": the module. Raises
    InvalidInputError with the nearest names.
    """
    parts = dict(module.named_modules())
    if (name or "") in parts:
        return parts[name or ""]
    near = difflib.get_close_matches(str(name), parts, 3, cutoff=0.6)
    names = (
        near
        or [k for k, part in parts.items() if k and recurrent_cells(part)]
        or [k for k in parts if k]
    )
    hint = (
        f"did you mean {' or '.join(map(repr, near))}?"
        if near
        else f"it has {', '.join(names[:8]) or 'no parts'}"
    )
    raise InvalidInputError(f"{type(module).__name__} has no submodule {in_short(name)}: {hint}")


def embeds(module: nn.Module) -> bool:
    """True for a module with an nn.Embedding."""
    return any(isinstance(part, nn.Embedding) for part in module.modules())


def ids_or_numbers(module: nn.Module, sequence: Tensor) -> Tensor:
    """A sequence as it is; whole numbers, one a step, as ids of tokens (T,) for a module with an
    nn.Embedding.
    """
    one = sequence.dim() == 2 and sequence.shape[-1] == 1 and sequence.is_floating_point()
    return (
        sequence[:, 0].long()
        if one and embeds(module) and (sequence == sequence.round()).all()
        else sequence
    )


def is_hand_written(part: nn.Module, s0: State | None = None, *, named: bool = True) -> bool:
    """True for a module with forward(x, state) that is one step, from a state that is given or
    known, see `first_state`.
    """
    if (
        isinstance(part, TORCH_CELLS)
        or hasattr(part, "step")
        or (s0 is None and first_state(part, named) is None)
    ):
        return False
    return is_step(part, s0)


def own_steps(module: nn.Module) -> dict[str, nn.Module]:
    """Modules of the user's own, by name, that are a step with some first state."""
    named = (
        (name, part)
        for name, part in module.named_modules()
        if not type(part).__module__.startswith("torch.")
    )
    return {name: part for name, part in named if is_hand_written(part, ())}


def no_cell(module: nn.Module) -> InvalidInputError:
    """The error for a module without a recurrent cell."""
    lacking = next(
        (
            part
            for part in module.modules()
            if hasattr(part, "step") and not hasattr(part, "state_size")
        ),
        None,
    )
    if lacking is not None:
        return InvalidInputError(
            f"{name_of(lacking)} has step, but no state_size: {size_to_set(lacking)}"
        )
    name, hint = next(iter(own_steps(module)), None), ""
    if name is not None:
        hint = (
            f"; {name or 'it'} has forward(x, state): if that is one step, give s0, or it a "
            "state_size, such as 5 or (5, 5)"
        )
    return InvalidInputError(
        f"{type(module).__name__} has no recurrent cell: expected one of rhn.cells, torch.nn's "
        "RNN, LSTM or GRU or their cells "
        "such as nn.LSTMCell, a module with state_size = n and step(x (B, m), s (B, n)) -> s, "
        f"or one with forward(x, state) and its first state s0{hint}; "
        "of any other layer gersgorin.influence(module, x) measures the influence of its inputs"
    )


def check_state(s0: Any) -> State:
    """The state. Raises InvalidInputError unless it is a floating-point tensor with entries, or a
    tuple of them.
    """
    s0 = tree_map(functools.partial(real_tensor, "s0"), s0)
    if not all(
        part.is_floating_point() and part.numel() for part in tree_leaves(s0) or [torch.empty(0)]
    ):
        raise InvalidInputError(
            "s0: expected a floating-point tensor with at least one entry, or a tuple of them"
        )
    tree_map(functools.partial(finite_tensor, "s0"), s0)
    return s0


def stepping(network: nn.Module | Step, s0: State | None = None, *, named: bool = False) -> Any:
    """A cell as it is; a function f(x, s), or a module with forward(x, state), as a step of one
    vector, see `flat_step`.

    s0, named: see `first_state`. Raises InvalidInputError if no first state is known.
    """
    if isinstance(network, TORCH_CELLS) or hasattr(network, "step") or not callable(network):
        return network
    s0 = first_state(network, named) if s0 is None else s0
    if s0 is None:
        raise InvalidInputError(
            f"{name_of(network)} is a step, and no first state is given: give s0, a tensor or "
            "a tuple of tensors, or a module with "
            "a state_size such as 5, or (5, 5) for a tuple"
        )
    return flat_step(network, s0)
