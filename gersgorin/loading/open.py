"""Open networks and data, named by options or passed as objects: a `Run` or a
`ModelWithData`.

network   a cell's name, a checkpoint or the folder of a training, a torch module, on the command
          line also by its name
data      a chorale's name, a file of numbers or a text, an array or a tensor
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin._validate import check_order
from gersgorin.data.layout import as_module_takes
from gersgorin.loading.find_cell import (
    check_state,
    held,
    is_map,
    model_label,
    part_of,
    stepping,
)
from gersgorin.loading.inputs import without_batch
from gersgorin.loading.network import (
    KEYS,
    Subject,
    labelled,
    names_weights,
    new_cell,
    new_model,
    sizes_of_words,
    trained_cell,
    trained_network,
    watched_cell,
)
from gersgorin.loading.options import DataOptions, NetworkOptions, NewOrTrained
from gersgorin.loading.sequence_map import OUTPUTS, ModelWithData
from gersgorin.loading.sources import Source, source_of, source_of_module, source_of_options
from gersgorin.loading.watched import Watched
from gersgorin.run.cell import (
    GatesOf,
    Sizes,
    State,
    Step,
    StepCell,
    as_cell,
    checked_sizes,
    flat_state,
    layers_in,
    name_of,
    zero_state,
)
from gersgorin.run.run import Label, Run
from rhn.cells.init import for_steps
from rhn.cells.registry import import_named
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.plotting.provenance import words_of_new
from rhn.utils.ranges import check_ranges
from rhn.utils.shared_options import given_flags
from rhn.utils.validation import check_device, check_room, check_seed, fits
from rhn.utils.wording import in_short, kind_of

# options of cells by name
NEW_CELL = ("depth", "hidden_size", "init", "transform_bias", "cell_options")
# of a part of a module and of its input
OF_MODULE = ("layer", "submodule", "batch_axis")
Network = str | Path | nn.Module | Callable | Run  # see `open_run`
Data = str | Path | Tensor | np.ndarray | tuple | Mapping | None
KEPT = 8  # numbers in a result for each entry of the state at each step
VECTORS = 1000  # of the state, at least, in searches for leading eigenvalues


@torch.no_grad()
def open_run(
    network: Network = "rhn",
    x: Data = None,
    *,
    s0: State | None = None,
    depth: int | None = None,
    hidden_size: int | None = None,
    init: str | None = None,
    transform_bias: float | None = None,
    cell_options: Mapping | None = None,
    seed: int = 0,
    layer: int | None = None,
    submodule: str | None = None,
    batch_axis: int | None = None,
    state_size: Sizes | None = None,
    gates: GatesOf | None = None,
    steps: int | None = None,
    unit: str | None = None,
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
) -> Run:
    """The run of a network over data. A `Run` has read its own: it takes only s0 and gates.

    Args:
        network: a cell by name ("rhn", "torch.nn:LSTM", "my_package.cells:MyCell"), a checkpoint (a
            file or the folder of a training), a torch module with a recurrent cell, which is
            copied, or a step: a function f(x, s) in its own dtype, or a module with forward(x,
            state). A step returns the next state or (output, next state), and takes each state in
            the shapes of s0. If these are all (1, ...), x is (1, m), else (m,). With s0 and no x
            also a map f(s) -> s' without input, for a number of steps.
        x: a chorale by name ("bwv66.6", "test-0"), a file of numbers (.npy, .npz, .csv), for a
            language model a text, or one sequence: (T, m), ids of tokens (T,), or a batch of one.
            A module gets it as it is; also a packed sequence, a tuple of several inputs for
            module(*x) or a dictionary for module(**x). None: the chorale bwv269.
        s0: the first state, a tensor or a tuple of tensors; None: the cell's own, which is zero for
            most.
        depth, hidden_size, init, transform_bias, seed: of a cell by name.
        cell_options: of a cell by name, its further options, such as {"leak": 0.5}.
        layer, submodule: select a recurrent cell of a module or checkpoint; see
            `gersgorin.extract_cell`.
        batch_axis: the axis of the batch as a module takes it, 0 for (B, T, m), 1 for (T, B, m),
            which (T, m) then gets; None: by its `batch_first`, or the axis of length 1. Numbers of
            a file get the axis of `batch_first`.
        state_size: entries of the state of a step that does not say it, 5, or (5, 5) of two
            tensors; it starts at zero.
        gates: gates(x, s) of the cell returns a tensor, or a dictionary of tensors by name; None:
            those of the cell. It is called for single steps, with x and s as the step has them. Of
            torch.nn's x is (m,) and s is h (n,), or (h, c) of an LSTM; of several layers each is
            (L, n).
        steps: read only the first steps; of a map: how many to take.
        unit: of one step, for the axes of time, such as "0.1 s"; None: that of the data.
        dtype, device: of states and Jacobians.

    Raises:
        InvalidInputError, DataError, CheckpointError: network or data do not exist, cannot be read,
            or do not fit each other.

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
    if isinstance(network, Run):
        _check_none_given(
            x=x,
            depth=depth,
            hidden_size=hidden_size,
            init=init,
            transform_bias=transform_bias,
            cell_options=cell_options,
            seed=seed or None,
            layer=layer,
            submodule=submodule,
            batch_axis=batch_axis,
            state_size=state_size,
            steps=steps,
            unit=unit,
            dtype=None if dtype in (torch.float64, network.states.dtype) else dtype,
            device=None if device in ("cpu", network.states.device.type) else device,
        )
        return _reopened(network, s0, gates)
    if not fits(steps, int | None):
        raise InvalidInputError(
            f"steps is {in_short(steps)}: expected a whole number of at least 1"
        )
    check_ranges(data := DataOptions(steps=steps))
    device = _checked_device(device, dtype)
    new = NetworkOptions(
        depth=depth,
        hidden_size=hidden_size,
        init=init,
        transform_bias=transform_bias,
        seed=check_seed(seed),
    )
    options = replace(
        new,
        cell_options=dict(cell_options or {}),
        layer=layer,
        submodule=submodule,
        batch_axis=batch_axis,
    )
    if isinstance(network, str | Path):
        subject, source = _by_name(network, x, options, data, state_size)
    elif isinstance(network, nn.Module) and not _reads_nothing(network, x, s0, state_size):
        subject, source = _of_module(network, x, s0, options, data, state_size)
    else:
        subject, source, s0 = *_of_step(network, x, s0, options, data, state_size), None
    source = replace(source, unit=unit or source.unit)
    try:
        run = run_along(subject, source, device=device, dtype=dtype)
    except InvalidInputError as error:
        if x is not None or isinstance(network, str | Path):
            raise
        raise InvalidInputError(
            f"{error}; x was not given, so it read chorale {source.name}"
        ) from error
    return _starting(run, s0).with_gates(gates)


def _reads_nothing(f: Callable, x: Data, s0: State | None, state_size: Sizes | None) -> bool:
    """True for a map f(s) without input: there is a state, but no x."""
    return x is None and not (s0 is None and state_size is None) and is_map(f)


def _check_none_given(**given: Any) -> None:
    """Raise InvalidInputError for an argument beside a `Run`."""
    names = [name for name, value in given.items() if value is not None]
    if names:
        raise InvalidInputError(
            f"{names[0]} is given with a Run, which has been computed without it: leave it out, "
            "or give the network in place of the run"
        )


def _reopened(run: Run, s0: State | None, gates: GatesOf | None) -> Run:
    """An open run of one sequence, from another first state and with other gates if given."""
    if run.states.dim() != 2:
        raise InvalidInputError(
            f"the run has {run.states.shape[1]} sequences: expected that of one, x[:, :1]"
        )
    return _starting(run, s0).with_gates(gates)


def _by_name(
    name: str | Path, x: Data, options: NetworkOptions, data: DataOptions, state_size: Any
) -> tuple[Subject, Source]:
    """A cell by its name, or that of a checkpoint, and its data."""
    if state_size is not None:
        raise InvalidInputError(
            f"state_size is for a step of your own, and {name} says its own: leave it out"
        )
    _refuse(options, ("submodule", "batch_axis"), "is for a module, not for a cell by its name")
    stored = isinstance(name, Path) or names_weights(name)
    options = replace(options, **({"checkpoint": Path(name)} if stored else {"cell": str(name)}))
    source = source_of(x, data, options)
    return network_of_options(options, source.input_size, source.steps), source


def _of_module(
    module: nn.Module,
    x: Data,
    s0: State | None,
    options: NetworkOptions,
    data: DataOptions,
    state_size: Sizes | None,
) -> tuple[Subject, Source]:
    """The recurrent cell of a module, and the input of the module."""
    _refuse(options, NEW_CELL, "is for a new cell by its name, not for this network")
    watched = Watched(module, options.layer, options.submodule, s0, state_size)
    source = source_of_module(x, data, options, watched)
    return watched_cell(watched, name_of(watched.cell), options.batch_axis), source


def _of_step(
    f: Callable,
    x: Data,
    s0: State | None,
    options: NetworkOptions,
    data: DataOptions,
    state_size: Sizes | None,
) -> tuple[Subject, Source]:
    """A step f(x, s) and its input; a map f(s) reads none, but takes a number of steps."""
    _refuse(options, NEW_CELL, "is for a new cell by its name, not for this network")
    _refuse(options, OF_MODULE, "is for a module, not for a function")
    if _reads_nothing(f, x, s0, state_size):
        if data.steps is None:
            raise InvalidInputError(
                "steps is missing: expected the number of steps of the map f(s), which reads no x"
            )
        inputs = torch.zeros(1, 1).expand(data.steps, 1)
        source = replace(source_of(inputs, data, options), name="", kind="no input")
        f = held(f)
    else:
        source = source_of(x, data, options)
    if state_size is not None:
        s0 = zero_state(checked_sizes(state_size), source.sequence())
    cell = as_cell(stepping(f, s0))
    start = _flat(cell, s0)

    def opened(x: Tensor, device: str, dtype: torch.dtype) -> Run:
        x = without_batch(x)
        if x.dim() != 2:
            raise InvalidInputError(
                f"x has frames of shape {tuple(x.shape[1:])}: expected numbers (T, m)"
            )
        return Run.of(cell, x, start)

    title = name_of(f).replace("<lambda>", "f(x, s)")
    return Subject(name_of(f), title, cell, opened), source


def _refuse(options: NetworkOptions, names: tuple[str, ...], words: str) -> None:
    """Raise InvalidInputError for options that are given."""
    if given := given_flags(options, names):
        name = given[0].removeprefix("--").replace("-", "_")
        raise InvalidInputError(f"{name} {words}: leave it out")


def _starting(run: Run, s0: State | None) -> Run:
    """The run from a first state; None: as it is."""
    start = _flat(run.cell, s0)
    return run if start is None else run.starting_at(start.to(run.states))


def _flat(cell: StepCell, s0: State | None) -> Tensor | None:
    """A first state as one vector (N,), of several layers layer by layer."""
    return None if s0 is None else flat_state(s0, layers_in(cell.module))[0]


def run_along(
    subject: Subject, source: Source, *, device: str = "cpu", dtype: torch.dtype = torch.float64
) -> Run:
    """The run of a resolved network over the first sequence of a source, if the memory is
    enough.
    """
    check_memory(subject.cell, source.steps, device, dtype)
    if subject.watched is not None and source.given is None:
        source = source.for_module(subject.watched, subject.batch_axis)
    x = source.sequence()
    if source.given is None:
        x = x.to(device, dtype if x.dim() > 1 else torch.int64)
    label = label_of_source(source, name=subject.name, title=subject.title, made=subject.made)
    return subject.open(x, device, dtype).named(label)


def label_of_source(source: Source, **network: str) -> Label:
    """The names of a network and of the first sequence of a source."""
    return Label(
        **network,
        sequence=source.first_label,
        reads=source.kind,
        unit=source.unit,
        data=source.first_about,
    )


def network_of_options(
    options: NewOrTrained, input_size: int | None, steps: int = 100, *, fresh: bool = False
) -> Subject:
    """The network of a command's options, for data of `steps` frames; fresh: see `trained_network`.
    Raises its errors.
    """
    check_network_options(options)
    if options.module or options.checkpoint:
        return trained_cell(options, input_size, fresh=fresh)
    return new_cell(replace(options, init=for_steps(options.init, steps)), input_size)


def run_of_options(options, *, device: str) -> Run:
    """The run that a command's options name, in float64. Raises RhnError."""
    source = source_of_options(options, options)
    subject = network_of_options(options, source.input_size, source.steps)
    gates = None if options.gates is None else import_named(options.gates, "gates")
    return run_along(subject, source, device=device).with_gates(gates)


def model_with_data(options, *, device: str) -> ModelWithData:
    """The model that a command's options name, with their sequences; for a loss (`options.of`) a
    network with an output, and the next frames as targets. Raises RhnError.
    """
    check_network_options(options)
    source, of = source_of_options(options, options), getattr(options, "of", OUTPUTS)
    module: Any
    if of == OUTPUTS and not (options.module or options.checkpoint):
        run = run_along(network_of_options(options, source.input_size, source.steps), source)
        label, module = run.label, run.cell.module
    else:
        if of == OUTPUTS or options.module:
            module, made, _ = trained_network(options, source.input_size)
        else:
            _, module, _, made = model_of_options(options, source.input_size or KEYS)
        own = model_label(module)
        words = own.title if options.submodule or not options.module else ""
        title = labelled(options.submodule or "", words or type(module).__name__)
        label = label_of_source(source, title=title, made=made or own.made)
    return on_next_frames(
        module.to(device),
        source.frames_for(module),
        of,
        batch_axis=getattr(options, "batch_axis", None),
        submodule=options.submodule,
        state_size=None if hasattr(module, "state_shapes") else sizes_of_words(options.state_size),
        label=replace(label, sequence=source.label, data=source.about),
    )


def on_next_frames(
    model: nn.Module, frames: Tensor, of: Any, *, batch_axis: int | None = None, **fields
) -> ModelWithData:
    """A model with sequences (T, m) or (T, S, m), or ids; for a loss the targets are the next
    frames.
    """
    x, y = (frames, None) if of == OUTPUTS else (frames[:-1], frames[1:])
    if y is not None:
        y = as_module_takes(model, y, batch_axis)
    x = as_module_takes(model, x, batch_axis)
    return ModelWithData(model=model, x=x, y=y, batch_axis=batch_axis, **fields)


def own_loss(model: Any) -> str:
    """The name of the loss of a model of ours; "outputs" for any other."""
    if isinstance(model, PolyphonicModel):
        return "bernoulli"
    return "categorical" if isinstance(model, LanguageModel) else OUTPUTS


def model_of_options(options, width: int) -> tuple[str, Any, str | None, str]:
    """(A name, the model with an output that a command's options name, its loss, the origin of its
    weights), for frames of some width.

    The loss is None for a model that has its own. Raises InvalidInputError or CheckpointError.
    """
    loss = "squared" if options.input else "bernoulli"
    if options.module:
        name = f"{options.module}, {options.submodule}" if options.submodule else options.module
        return name, module_of_options(options, width), loss, ""
    if not options.checkpoint:
        title, model = new_model(options, width)
        return title, model, loss, words_of_new(model.cells[0], options.seed)
    model, made, _ = trained_network(options, width)
    if not isinstance(model, PolyphonicModel | LanguageModel):
        raise InvalidInputError(
            f"{options.checkpoint} holds only {kind_of(model)}: expected a network with an output"
        )
    return options.checkpoint.name, model, None, made


def module_of_options(options, input_size: int | None) -> nn.Module:
    """The whole module that --module, --checkpoint and --submodule name. Raises InvalidInputError
    or CheckpointError.
    """
    module, _, _ = trained_network(options, input_size)
    return part_of(module, options.submodule)


def check_network_options(options: NewOrTrained) -> None:
    """Raise InvalidInputError for options of the network that exclude each other."""
    new, wrong = given_flags(options, NEW_CELL), ""
    own = given_flags(options, ("batch_axis", "state_size"))
    if own and not options.module:
        wrong = f"{own[0]} is for --module package.module:factory: add that, or leave it out"
    elif options.module:
        if given := given_flags(options, ("cell",)) or [f for f in new if f != "--hidden-size"]:
            wrong = (
                f"{given[0]} cannot be given with --module, whose code decides it: leave one out"
            )
    elif options.submodule:
        wrong = "--submodule names a part of --module package.module:factory: add that"
    elif not options.checkpoint and given_flags(options, ("layer",)):
        wrong = "--layer is for --checkpoint FILE, not for a new cell"
    elif options.checkpoint and new:
        wrong = f"{', '.join(new)} cannot be given with --checkpoint: the file describes the cell"
    if wrong:
        raise InvalidInputError(wrong)
    check_seed(options.seed)


def check_memory(
    cell: nn.Module | Step | StepCell, steps: int, device: str, dtype: torch.dtype
) -> None:
    """Raise InvalidInputError if weights, results and vectors exceed the free memory."""
    cell = as_cell(cell)
    weights = cell.module.parameters() if isinstance(cell.module, nn.Module) else ()
    kept = sum(p.numel() for p in weights) + KEPT * steps * cell.state_size
    need = dtype.itemsize * (kept + VECTORS * cell.state_size)
    what = f"a state of {cell.state_size} over {steps} steps"
    check_room(need, what, "use fewer hidden units or fewer steps", device)


def _checked_device(device: str | torch.device, dtype: torch.dtype) -> str:
    """The name of the device. Raises InvalidInputError if this machine lacks it, and for a dtype
    that is not supported.
    """
    if dtype not in (torch.float32, torch.float64):
        raise InvalidInputError(
            f"dtype is {in_short(dtype)}: expected torch.float64 or torch.float32"
        )
    return check_device(device)
