"""Convert networks to the form that gates and lesions need: time first, with cells of `rhn.cells`,
in the order in which the network runs the cells.

A network of `rhn.models` stays as it is. `TimeFirst` wraps any other module: its layout is decided
here once, and recurrent modules of torch.nn in it become cells of `rhn.cells` with the same
weights. Then the module reads a few random frames, to check that its cells read each frame once.

Legend: T steps, B sequences, m numbers in a frame, n units, N entries of a state.
"""

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from analysis.layout import BatchAxis, check_batch_axis, declared_axis, output_of
from rhn.cells import Cell, Layer, described_layers, from_torch
from rhn.errors import USERS_FAULT, InvalidInputError, RhnError, UsersCodeError, first_line
from rhn.models import LanguageModel, PolyphonicModel
from rhn.utils.old import counted
from rhn.utils.validation import check_device

STEPS, ROWS = 5, 3  # of the frames that a module reads to show its cells
OURS = (PolyphonicModel, LanguageModel)
TORCH = (nn.RNNBase, nn.RNNCellBase)


@dataclass(frozen=True, eq=False)
class Place:
    """The position of one layer in a network."""

    name: str
    """Name of the cell among the network's modules; "" if the network is the cell."""
    cell: Cell
    index: int
    """Number of the layer within the cell, from 0."""
    label: str
    """Name in tables and figures: "2", or in networks of several cells "1.2" (cell 1, layer 2)."""
    layer: Layer
    """The description of the layer by its cell."""


@dataclass(frozen=True, eq=False)
class CellCall:
    """One call of a cell while its network reads x."""

    name: str
    """Name of the cell."""
    x: Tensor
    """The input of the call, (T, B, m)."""
    s0: Tensor
    """The state from which the call starts, (B, N)."""
    returned: list[Tensor]
    """The last state as `forward` returned it; empty for a call of `step` or `states`."""


class Carried(Cell):
    """A cell that runs layer by layer; a layer with `carried` (L,) True passes the state through
    unchanged, s_l = s_{l-1}.

    Only for inference: the recurrence is a plain loop. A call has the arguments of the cell.
    """

    def __init__(self, cell: Cell):
        nn.Module.__init__(self)
        self.cell: Cell
        self.carried: Tensor
        self.add_module("cell", cell)
        for name in ("input_size", "hidden_size", "depth", "batch_first"):
            setattr(self, name, getattr(cell, name))
        device = next(cell.parameters()).device
        self.register_buffer("carried", torch.zeros(cell.depth, dtype=torch.bool, device=device))

    def __getattr__(self, name: str) -> Any:
        """Return a weight, or another attribute that a module reads from its cell."""
        own = vars(self)
        if name == "cell" or any(name in own[kind] for kind in ("_buffers", "_parameters")):
            return super().__getattr__(name)
        return getattr(self.cell, name)

    @property
    def state_size(self) -> int:
        return self.cell.state_size

    def outputs_of(self, s: Tensor) -> Tensor:
        return self.cell.outputs_of(s)

    def step(self, x: Tensor, s: Tensor) -> Tensor:
        y = s
        for index, carried in enumerate(self.carried):
            s = torch.where(carried, s, self.cell.run_layer(index, x, s, y))
        return s


class TorchForm(nn.Module):
    """A recurrent module of torch.nn, computed by cells of `rhn.cells` with the same weights. Calls
    have the arguments and results of the module.

    Raises InvalidInputError for bidirectional modules, projections, and packed sequences.
    """

    bidirectional = False

    def __init__(self, module: nn.RNNBase | nn.RNNCellBase):
        super().__init__()
        self.kind, self.lstm = type(module).__name__, isinstance(module, nn.LSTM | nn.LSTMCell)
        self.one_step = isinstance(module, nn.RNNCellBase)
        self.input_size, self.hidden_size = module.input_size, module.hidden_size
        self.num_layers: int = getattr(module, "num_layers", 1)
        self.batch_first: bool = getattr(module, "batch_first", False)
        cells: list[Any] = [from_torch(module, k) for k in range(self.num_layers)]
        for cell in cells:
            cell.batch_first = False
        self.cells: Any = nn.ModuleList(cells)

    def flatten_parameters(self) -> None:
        """Do nothing, like the method of torch.nn on a CPU."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """Return what the module of torch.nn would return."""
        if isinstance(input, PackedSequence):
            raise InvalidInputError(
                f"the {self.kind} reads packed sequences: expected a module that gives it a tensor"
            )
        if self.one_step:
            layout, x = BatchAxis(1 if input.dim() == 2 else None), input.unsqueeze(0)
        else:
            layout = BatchAxis(None if input.dim() == 2 else 0 if self.batch_first else 1)
            x = input
        x, last = layout.to_time_first(x), []
        for cell, s in zip(self.cells, self._states(hx, layout), strict=True):
            x, s = cell(x, s)
            last.append(s)
        state = self._as_torch(torch.stack(last), layout)
        return state if self.one_step else (layout.back(x), state)

    def _states(self, hx: Any, layout: BatchAxis) -> Sequence[Tensor | None]:
        """Return the first state of each layer, (B, N)."""
        if hx is None:
            return [None] * self.num_layers
        parts = hx if self.lstm else (hx,)
        return [*torch.cat([self._rows(part, layout) for part in parts], -1)]

    def _rows(self, part: Tensor, layout: BatchAxis) -> Tensor:
        """Return a part of a state of torch.nn as (layers, B, n)."""
        part = part.unsqueeze(0) if self.one_step else part
        return part.unsqueeze(1) if layout.batch is None else part

    def _as_torch(self, states: Tensor, layout: BatchAxis) -> Any:
        """Return states (layers, B, N) in the form of torch.nn."""
        parts = states.split(self.hidden_size, -1)
        if layout.batch is None:
            parts = [part.squeeze(1) for part in parts]
        if self.one_step:
            parts = [part.squeeze(0) for part in parts]
        return tuple(parts) if self.lstm else parts[0]


class TimeFirst(nn.Module):
    """A module of any layout, wrapped so that it reads frames (T, B, m) and returns outputs (T, B,
    K).
    """

    def __init__(self, module: nn.Module, layout: BatchAxis, order: tuple[str, ...] = ()):
        super().__init__()
        self.module, self.layout, self.order = module, layout, order
        self.returned: tuple[int, ...] = ()
        """Shape of the outputs for `STEPS` frames of `ROWS` sequences."""

    def forward(self, frames: Tensor) -> Tensor:
        """Return the outputs; raises UsersCodeError if the module does not run."""
        x = self.layout.back(frames)
        try:
            output = output_of(self.module(x))
        except USERS_FAULT as error:
            kind = "" if isinstance(error, RhnError) else f"{type(error).__name__}: "
            raise UsersCodeError(
                f"{type(self.module).__name__} does not run on x of shape {tuple(x.shape)}: "
                f"{kind}{first_line(error)}"
            ) from error
        return self.layout.to_time_first(output) if output.dim() > 1 else output


def open_network(
    model: nn.Module,
    width: int,
    *,
    batch_axis: int | None = None,
    device: torch.device | str | None = None,
) -> nn.Module:
    """Return a copy of a model, in evaluation mode, that reads frames (T, B, m) or ids (T, B): a
    network of `rhn.models`, or a `TimeFirst` around any other module.

    Args:
        model: a network of `rhn.models`, a cell, or a module with cells of `rhn.cells` or torch.nn.
        width: m, the number of values in a frame.
        batch_axis: the axis of the batch in the module's input, 0 for (B, T, m), 1 for (T, B, m);
            None: the axis that is not the time axis of its cells.
        device: device of the copy; None: that of the model.

    Raises InvalidInputError for a module that has no such cell, a cell that cannot be converted, or
    cells that do not read each frame of each sequence once.
    """
    check_batch_axis(batch_axis)
    if not isinstance(model, nn.Module):
        raise InvalidInputError(f"expected a torch module or a file of one, got {model!r:.60}")
    copied = copy.deepcopy(model)
    device = None if device is None else check_device(device)
    copied = copied.to(device or next(iter(copied.parameters()), torch.empty(0)).device).eval()
    if isinstance(model, OURS):
        _ = cells_of(copied)  # refuses one without
        return copied
    theirs, axis = copy.deepcopy(copied), batch_axis
    if axis is None:
        axis = declared_axis(copied)
    cells_of(module := _replaced(copied, TORCH, TorchForm))
    network = TimeFirst(module, BatchAxis(1 if axis is None else axis))
    return _checked(network, theirs, width, batch_axis)


def carried(network: nn.Module) -> nn.Module:
    """Replace the cells of a network by `Carried` cells, in place, and return the network."""
    return _replaced(network, Cell, Carried)


def _replaced(module: nn.Module, kind: Any, made: Callable[[Any], nn.Module]) -> nn.Module:
    """Replace the parts of a module that are of this kind, in place and under all their names.
    Returns the module.
    """
    found = {
        name: part
        for name, part in module.named_modules(remove_duplicate=False)
        if isinstance(part, (Cell, *TORCH))
    }
    outer = {
        name: part
        for name, part in found.items()
        if isinstance(part, kind) and not _inside(name, found)
    }
    new = {part: made(part) for part in dict.fromkeys(outer.values())}
    for name, part in outer.items():
        if not name:
            return new[part]
        module.set_submodule(name, new[part])
    return module


def _inside(name: str, cells: dict) -> bool:
    """Return True if the name is that of a part of a cell."""
    parts = name.split(".") if name else []
    return any(".".join(parts[:k]) in cells for k in range(len(parts)))


def cells_of(network: nn.Module) -> dict[str, Cell]:
    """Return the recurrent cells that the network runs, by name, in the order in which it runs
    them. Raises InvalidInputError if there is none.
    """
    every = {
        name: part
        for name, part in network.named_modules()
        if isinstance(part, Cell) and not isinstance(part, Carried)
    }
    cells = {name: part for name, part in every.items() if not _inside(name, every)}
    if not cells:
        kind = type(getattr(network, "module", network)).__name__
        raise InvalidInputError(
            f"{kind} holds no recurrent cell of rhn.cells or torch.nn: its gates and layers are "
            "not known"
        )
    order = network.order if isinstance(network, TimeFirst) else ()
    if not order:
        return cells
    inner = {name.removesuffix(".cell") if name not in order else name: name for name in cells}
    return {inner[name]: cells[inner[name]] for name in order}


def places(network: nn.Module) -> list[Place]:
    """Return every layer of every recurrent cell, in the order in which the network runs them."""
    cells = cells_of(network)
    return [
        Place(name, cell, index, f"{k}.{index + 1}" if len(cells) > 1 else str(index + 1), layer)
        for k, (name, cell) in enumerate(cells.items(), start=1)
        for index, layer in enumerate(described_layers(cell))
    ]


@contextmanager
def recorded_cells(network: nn.Module) -> Iterator[list[CellCall]]:
    """Record the calls of the network's cells inside a `with` block, including calls of their
    methods `step` and `states`. Yields the list of calls.
    """
    calls, cells = list[CellCall](), cells_of(network)
    watches = [_Watch(name, cell, calls) for name, cell in cells.items()]
    try:
        yield calls
    finally:
        for watch in watches:
            watch.end()


class _Watch:
    """Add the calls of a cell to a list, until `end` is called."""

    def __init__(self, name: str, cell: Cell, calls: list[CellCall]):
        self.name, self.cell, self.calls, self.running = name, cell, calls, False
        self.hooks = [
            cell.register_forward_pre_hook(self.before, with_kwargs=True),
            cell.register_forward_hook(self.after),
        ]
        self.methods = {"step": cell.step, "states": cell.states}
        for method in self.methods:
            setattr(cell, method, partial(self.direct, method))

    def end(self) -> None:
        for hook in self.hooks:
            hook.remove()
        for method in self.methods:
            delattr(self.cell, method)

    def add(self, x: Tensor, s0: Tensor | None) -> None:
        """Add a call with x (T, B, m) and s0 (B, N)."""
        start = x.new_zeros(x.shape[1], self.cell.state_size) if s0 is None else s0
        self.calls.append(CellCall(self.name, x.detach().clone(), start.detach().clone(), []))

    def before(self, cell: Cell, args: tuple, keywords: dict) -> None:
        """Add a call of `forward` in the layout of the cell."""
        x, s0, *_ = (*inspect.signature(cell.forward).bind(*args, **keywords).args, None)
        layout = BatchAxis(None if x.dim() == 2 else 0 if cell.batch_first else 1)
        if s0 is not None and layout.batch is None:
            s0 = s0.unsqueeze(0)
        self.add(layout.to_time_first(x), s0)
        self.running = True

    def after(self, cell: Cell, args: tuple, output: Any) -> None:
        """Add the state that the call returned."""
        self.running = False
        self.calls[-1].returned[:] = [part.detach().clone() for part in output[1:2]]

    def direct(self, method: str, x: Tensor, s: Tensor, *more: Any) -> Tensor:
        """Call `step` or `states`, and add it unless it is a part of another call."""
        if self.running:
            return self.methods[method](x, s, *more)
        rows, start = (x.unsqueeze(0) if method == "step" else x), s
        if rows.dim() == 2:  # a step of one sequence
            rows, start = rows.unsqueeze(1), start.unsqueeze(0)
        self.add(rows, start)
        self.running = True
        found = self.methods[method](x, s, *more)
        self.running = False
        return found


def passes_of(network: nn.Module, calls: Sequence[CellCall], T: int, B: int) -> dict[str, list]:
    """Return the passes of each cell over T steps of B sequences, by the name of the cell. A pass
    is a list of calls that follow each other in time and together read T frames. Either all calls
    of a cell are one pass, or each call reads T frames and is a pass.

    Raises InvalidInputError for calls that read anything else.
    """
    passes = {}
    for name, cell in cells_of(network).items():
        own = [call for call in calls if call.name == name]
        if not _fit(own, T, B):
            raise _misread(network, cell, own, T, B)
        in_all = sum(len(call.x) for call in own) == T
        passes[name] = [own] if in_all else [[call] for call in own]
    return passes


def _fit(calls: Sequence[CellCall], T: int, B: int) -> bool:
    """Return True if all calls together, or each of them, read T frames of B sequences."""
    frames, rows = [len(call.x) for call in calls], {call.x.shape[1] for call in calls}
    return rows == {B} and (sum(frames) == T or {*frames} == {T})


def _misread(
    network: nn.Module, cell: Cell, calls: Sequence[CellCall], T: int, B: int
) -> InvalidInputError:
    read = ", ".join(dict.fromkeys(f"{len(c.x)} of {c.x.shape[1]}" for c in calls[:3]))
    times = f"is called {counted(len(calls), 'time')}, for steps {read} sequences"
    return InvalidInputError(
        f"the {type(cell).__name__} in {_kind(network)} {times}: expected one call for all {T} "
        f"steps of {counted(B, 'sequence')}, or one call for each step"
    )


def _kind(network: nn.Module) -> str:
    return type(getattr(network, "module", network)).__name__


@torch.no_grad()
def _checked(
    network: TimeFirst, theirs: nn.Module, width: int, batch_axis: int | None
) -> TimeFirst:
    """Find the layout of a network and the order of its cells from what the cells read of random
    frames. Returns the network.
    """
    like = next(network.parameters())
    g = torch.Generator().manual_seed(0)
    frames = torch.rand(STEPS, ROWS, width, generator=g, device="cpu").to(like)
    calls = _calls_for(network, frames)
    if calls and _steps_along_rows(calls):
        if batch_axis is not None:
            raise InvalidInputError(
                f"batch_axis is {batch_axis}, and the cells of {_kind(network)} step along that "
                f"axis of x: expected batch_axis={1 - batch_axis}"
            )
        network.layout = BatchAxis(1 - (network.layout.batch or 0))
        calls = _calls_for(network, frames)
    network.order = tuple(dict.fromkeys(call.name for call in calls))
    if not calls:
        raise InvalidInputError(f"{_kind(network)} does not call its cells while it reads x")
    passes_of(network, calls, STEPS, ROWS)
    if not close(network(frames), TimeFirst(theirs, network.layout)(frames)):
        raise InvalidInputError(
            f"{_kind(network)} has other outputs with cells of ours in place of torch.nn's: "
            "expected cells without hooks and without a forward of their own"
        )
    later = frames.clone()
    later[-1] = 1 - later[-1]
    _check_causal(network, calls, _calls_for(network, later))
    return network


def _calls_for(network: TimeFirst, frames: Tensor) -> list[CellCall]:
    with recorded_cells(network) as calls:
        network.returned = tuple(network(frames).shape)
    return calls


def _steps_along_rows(calls: Sequence[CellCall]) -> bool:
    """Return True if the first cell read ROWS steps of STEPS sequences."""
    return _fit([call for call in calls if call.name == calls[0].name], ROWS, STEPS)


def _check_causal(
    network: TimeFirst, calls: Sequence[CellCall], changed: Sequence[CellCall]
) -> None:
    """Raise InvalidInputError if a cell reads the last frame before the last step. In such a
    network, the frames after the end of a shorter sequence would change its gates and its loss.
    """
    both = zip(*(passes_of(network, c, STEPS, ROWS).items() for c in (calls, changed)), strict=True)
    for (name, passes), (_, others) in both:
        for one, other in zip(passes, others, strict=True):
            x, y = (torch.cat([call.x for call in part])[:-1] for part in (one, other))
            if not close(x, y):
                cell = cells_of(network)[name]
                raise InvalidInputError(
                    f"the {type(cell).__name__} in {_kind(network)} reads the last frame of x "
                    "before the last step: expected a module that reads no frame ahead of its time"
                )


def original(network: nn.Module) -> nn.Module:
    """Return the module inside a `TimeFirst`; return any other network unchanged."""
    return network.module if isinstance(network, TimeFirst) else network


def gates_of(cell: Cell, calls: Sequence[CellCall]) -> tuple[Tensor, ...]:
    """Return the transform gates of the layers over the calls of one pass, as tensors (T, B, n)."""
    each = [_gates_of_call(cell, call) for call in calls]
    return tuple(map(torch.cat, zip(*each, strict=True)))


def _gates_of_call(cell: Cell, call: CellCall) -> tuple[Tensor, ...]:
    states = cell.states(call.x, call.s0)
    for last in call.returned:
        if not close(last.reshape(states[-1].shape), states[-1]):
            raise InvalidInputError(
                f"{type(cell).__name__} called on a sequence returns another state than its steps: "
                "its gates along the sequence are not known"
            )
    return cell.gates(call.x, torch.cat((call.s0.unsqueeze(0), states[:-1]))).t


def close(one: Tensor, other: Tensor) -> bool:
    """Return True if numbers are equal up to the rounding of a computation in another order."""
    tolerance = torch.finfo(other.dtype).eps ** 0.5
    scale = float(other.nan_to_num(posinf=0, neginf=0).abs().max()) if other.numel() else 0.0
    one = one.to(other)
    return torch.allclose(one, other, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
