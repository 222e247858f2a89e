"""`TracedCell` and `extract_cell`: the run of a recurrent cell while its module reads a sequence.

Legend: T time steps, B sequences, m inputs of the cell, L layers of a torch.nn module, N entries of
a state of one layer.
"""

import copy
import hashlib
from dataclasses import replace
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence
from torch.utils._pytree import tree_leaves

import rhn.cells
from gersgorin.data.inputs import (
    Input,
    as_input,
    converted,
    ids_hint,
    main_input,
    one_sequence,
    reads_ids,
    shape_of,
    unpacked,
)
from gersgorin.data.layout import (
    Layout,
    check_batch_axis,
    has_batch,
    several_in_words,
    with_batch,
)
from gersgorin.network.calls import (
    TracedCall,
    Undetached,
    check_loop,
    doubt_of_loop,
    first_sequence,
    own_step,
    recorded_calls,
)
from gersgorin.network.find import (
    TORCH_CLASSES,
    as_step,
    declare_size,
    find_cell,
    kept_hint,
    layer_count,
    part_of,
    title_in,
)
from gersgorin.run.cell import Step, StepCell, as_cell, converted_cell
from gersgorin.run.run import Run
from gersgorin.run.state import Sizes, State, flat_state, real_view, state_in, takes
from gersgorin.validate import (
    check_order,
    check_weights,
    copy_of_module,
    in_precision,
    like_weights,
    uncompiled,
    users_code,
)
from rhn.errors import USERS_FAULT, InvalidInputError, RhnError, UsersCodeError
from rhn.plotting.provenance import words_of_built
from rhn.utils.old import counted, typed
from rhn.utils.validation import in_short


class OneStepError(InvalidInputError):
    """x is read as one step of several sequences."""

    def __init__(self, sequences: int, m: int):
        self.sequences = sequences
        super().__init__(
            f"x is read as (T=1, B={sequences}, m={m}), one step of {sequences} sequences: "
            "expected more steps"
        )


class TracedCell:
    """One recurrent cell of a module, in a copy of the module in float64 and evaluation mode. The
    original is not changed.

    Args:
        module: a cell, or a module with a cell inside. `refresh` copies its present weights.
        layer: number of the recurrent cell, counted from 1; each layer of a torch.nn module counts.
            None: the first cell, with all its layers as one.
        submodule: the part of the module to search, by its name in `named_modules`: "encoder.rnn".
        s0: the first state, if the module or part is a step with forward(x, state); None: as for
            `first_state`.
        state_size: size of the state of that step: 5, or (5, 5) for two tensors.

    Raises:
        InvalidInputError: the value is not a module; there is no such part, no recurrent cell or
            too few; the cell is bidirectional or projected; or weights are NaN or infinite.
    """

    def __init__(
        self,
        module: nn.Module,
        layer: int | None = None,
        submodule: str | None = None,
        s0: State | None = None,
        state_size: Sizes | None = None,
    ):
        if not isinstance(module, nn.Module):
            raise InvalidInputError(
                f"expected a torch module, got {in_short(module)}: write it as one"
            )
        self._original = uncompiled(module)
        check_weights(part_of(self._original, submodule))
        self.module = in_precision(copy_of_module(self._original).eval(), torch.float64)
        self._part, self._s0 = submodule, s0
        if state_size is not None:
            declare_size(part_of(self.module, submodule), state_size)
        said = s0 is not None or state_size is not None
        self._cell, self._layer = find_cell(self.module, layer, submodule, said=said)
        _ = self.cell  # refuses what cannot be converted

    @property
    def cell(self) -> nn.Module | Step:
        """The cell with the weights of the copy; a module of torch.nn as a cell of `rhn`."""
        if isinstance(self._cell, TORCH_CLASSES):
            return converted_cell(self._cell, self._layer)
        return as_step(self._cell, self._s0)

    @property
    def title(self) -> str:
        """Title for figures: "rhn, depth 5, 64 units", "encoder.rnn: LSTM, 2 layers, 64 units"."""
        return title_in(self.module, self._cell, self._layer, self._part)

    @property
    def network(self) -> str:
        """The class of the module around the cell; "" if this class is one of torch or `rhn`."""
        kind = type(self.module)
        known = self._cell is self.module or kind.__module__.partition(".")[0] in ("torch", "rhn")
        return "" if known else kind.__name__

    @property
    def made(self) -> str:
        """Configuration of a cell of `rhn` in words: "built with uniform:0.04, transform bias -2";
        "" for other cells.
        """
        return words_of_built(self._cell)

    def refresh(self) -> None:
        """Copy the present weights and buffers of the original."""
        self.module.load_state_dict(self._original.state_dict())

    def reads_ids(self, x: Tensor) -> bool:
        """True if the module reads x as ids of tokens; a bare cell reads numbers."""
        return not self._is_bare(x) and reads_ids(self.module, x)

    def one_input(self, x: Any) -> Input:
        """Convert an input with one sequence to the form that `along` takes. Raises
        InvalidInputError, see `as_input` and `one_sequence`.
        """
        x = as_input(x)
        steps_itself = self._cell is self.module and not isinstance(self._cell, nn.RNNBase)
        if steps_itself and isinstance(x, PackedSequence) and len(x.data) == len(x.batch_sizes):
            x = x.data  # of one sequence
        return one_sequence(x, ids=self.reads_ids(x)) if isinstance(x, Tensor) else x

    @torch.no_grad()
    def along(self, x: Input, *, batch_axis: int | None = None, one: bool = False) -> Run:
        """The run of the cell along the inputs that it receives, (T, B, m) in float64, while the
        module reads x.

        x is passed to the module unchanged, but see `with_batch`. For packed sequences of unequal
        lengths, the run has `lengths`. The state of torch's random generator does not change.

        Args:
            x: the input of the module, see `as_input`. If the module is a cell itself: (T, m), (T,
                B, m) or (B, T, m).
            batch_axis: the axis of the batch in x; None: as in `Layout.of`.
            one: whether x must be one sequence; the inputs of the run are then (T, m).

        Raises:
            InvalidInputError: x is not finite, does not fit, or contains several sequences instead
                of one; or the module has a loop that changes states or inputs of its cell.
        """
        check_batch_axis(batch_axis)
        try:
            inputs, s0, lengths, doubt = self._sequence(x, batch_axis)
        except OneStepError as error:
            end = self._other_axes(x, batch_axis, error.sequences)
            raise InvalidInputError(f"{error}{end}") from error
        except UsersCodeError as error:
            hint = self._hint(x, batch_axis)
            raise UsersCodeError(f"{error}; {hint}" if hint else str(error)) from error
        if one and inputs.shape[1] > 1:
            raise InvalidInputError(
                f"x is read as {several_in_words(inputs.shape[1], lengths)}: expected one, such "
                "as the first without its padding; compare(network, [x1, x2], "
                "over='sequences') takes a list of them, each (T, m)"
            )
        inputs, s0 = self._of_layer(inputs, s0)
        run = Run.of(self.cell, inputs[:, 0], s0[0]) if one else Run.of(self.cell, inputs, s0)
        return replace(run.ending_at(lengths), doubt_of_loop=doubt)

    def _sequence(self, x: Input, batch_axis: int | None) -> tuple[Tensor, Tensor, list[int], str]:
        """The same as `_read` returns, also for a module that is a cell itself."""
        if not self._is_bare(x):
            return self._read(converted(self.module, x, self._like()), batch_axis)
        inputs = self._checked(self._window(self._as_numbers(x), batch_axis))
        return inputs, self._whole.first_state(inputs), [len(inputs)], ""

    def _runs(self, x: Input, batch_axis: int | None) -> bool:
        """True if the module reads x as a sequence."""
        try:
            self._sequence(x, batch_axis)
        except USERS_FAULT:
            return False
        return True

    def _hint(self, x: Input, batch_axis: int | None) -> str:
        """A change of the module or of x with which the module runs; "" if none is known."""
        if kept := kept_hint(self.module, lambda other: self._of(other)._runs(x, batch_axis)):
            return kept
        if isinstance(x, Tensor) and not takes(self.module, 1):
            return "if it is one step, give its first state as s0 or its state_size"
        if hint := ids_hint(self.module, x):
            return hint
        if not isinstance(x, Tensor) or has_batch(x, ids=self.reads_ids(x)):
            return ""
        axes = [axis for axis in (0, 1) if axis != batch_axis and self._runs(x, axis)]
        if not axes:
            return ""
        which = " or ".join(map(str, axes))
        return f"with a batch it runs: give batch_axis={which} (--batch-axis {which})"

    def _of(self, module: nn.Module) -> "TracedCell":
        """The same cell in a copy of the module."""
        place = next(name for name, part in self.module.named_modules() if part is self._cell)
        found = copy.copy(self)
        found.module, found._cell = module, module.get_submodule(place)
        return found

    def _other_axes(self, x: Input, batch_axis: int | None, sequences: int) -> str:
        """The end of the error for an x of one step of several sequences: the other layout, if the
        module reads x in it; else "".
        """
        if not isinstance(x, Tensor):
            return ""
        begin = f"; for {sequences} steps of one sequence give"
        if batch_axis is None:
            runs = x.dim() > 1 and self._runs(x.transpose(0, 1), None)
            return f"{begin} x.transpose(0, 1)" if runs else ""
        axis, has = 1 - batch_axis, has_batch(x, ids=self.reads_ids(x))
        other = x.transpose(0, 1) if has else x
        if not self._runs(other, axis):
            return ""
        with_shape = f" x {tuple(other.shape)} with" if has else ""
        return f"{begin}{with_shape} batch_axis={axis} (--batch-axis {axis})"

    def digest(self, x: Input) -> str:
        """Hash of the shapes and numbers of an input, 16 letters."""
        x = self._as_numbers(x) if self._is_bare(x) else converted(self.module, x, self._like())
        parts = [part.cpu().numpy() for part in tree_leaves(x) if isinstance(part, Tensor)]
        found = b"".join(f"{v.dtype}{v.shape}".encode() + v.tobytes() for v in parts)
        return hashlib.sha256(found).hexdigest()[:16]

    def _is_bare(self, x: Input) -> TypeGuard[Tensor]:
        """True if the module is the cell itself and reads an array."""
        return self._cell is self.module and isinstance(x, Tensor)

    @property
    def _whole(self) -> StepCell:
        """The cell with all its layers."""
        return as_cell(self._cell if isinstance(self._cell, TORCH_CLASSES) else self.cell)

    def _like(self) -> Tensor:
        """A tensor with the device and the precision of the module."""
        found = like_weights(self.module)
        return torch.empty(0, dtype=torch.float64) if found is None else found

    def _as_numbers(self, x: Tensor) -> Tensor:
        """x for a bare cell, in the precision of the cell; (T,) are T frames of one number."""
        x = x.to(self._like())
        return x[:, None] if x.dim() == 1 else x

    def _read(self, x: Input, batch_axis: int | None) -> tuple[Tensor, Tensor, list[int], str]:
        """(Inputs (T, B, m), first state (B, L N), numbers of steps of the sequences, doubt about
        the loop) of the cell while the module reads x.
        """
        undetached = Undetached()
        calls, cell, module = self._calls(x, batch_axis, undetached)
        calls = first_sequence(calls)
        if not calls or not all(isinstance(each.x, Tensor | PackedSequence) for each in calls):
            raise InvalidInputError(
                f"{type(module).__name__} does not call its {type(cell).__name__} with a tensor "
                "when it reads a sequence"
            )
        check_loop(cell, module, calls)
        windows = self._windows(calls, batch_axis)
        inputs = self._checked(torch.cat(windows))
        possible, steps = _steps_in(x, batch_axis), len(inputs)
        missed = steps not in possible or 1 == steps < max(possible)
        if missed and (len(calls) > 1 or steps == 1):
            wrong = f"is called for {counted(steps, 'frame')} of x {shape_of(x)}, not once for each"
            raise own_step(cell, module, wrong)
        s0 = self._first_state(calls[0].state, inputs)
        if len(calls) > 1:
            self._check_alone(module, calls, windows, s0)
        doubt = ""
        if undetached.used and len(calls) > 1:
            doubt = doubt_of_loop(self._calls(x, batch_axis, None)[0])
        known = len(calls) == 1 and isinstance(calls[0].x, PackedSequence)
        lengths = pad_packed_sequence(calls[0].x)[1].tolist() if known else [steps]
        return inputs, s0, lengths, doubt

    def _check_alone(
        self, module: nn.Module, calls: list[TracedCall], windows: list[Tensor], s0: Tensor
    ) -> None:
        """Raise InvalidInputError unless the cell alone, as a step on vectors, returns the same
        states as it returned inside the module.
        """
        try:
            same = self._returns(calls, windows, s0)
        except (RhnError, *USERS_FAULT) as error:
            read, states = calls[-1].x, calls[-1].state
            if max(np.ndim(part) for part in (read, *states)) < 3:
                raise
            shapes = " and ".join(str(tuple(np.shape(part))) for part in states)
            raise InvalidInputError(
                f"the {type(self._cell).__name__} of {type(module).__name__} reads frames "
                f"{tuple(read.shape)} and a state {shapes}, and takes no step from vectors: write "
                "its step as a function f(x, s) of a vector x (m,), with s0 in the shapes of the "
                "state, and give that with x (T, m)"
            ) from error
        if not same:
            raise own_step(self._cell, module, "returns other states than when it is called alone")

    def _calls(
        self, x: Input, batch_axis: int | None, undetached: Undetached | None
    ) -> tuple[list[TracedCall], nn.Module, nn.Module]:
        """(Calls of the cell, the cell, the module) while a copy of the module reads x. The module
        is copied because it may keep a state. undetached: see `recorded_calls`.
        """
        x = with_batch(x, batch_axis)
        module, cell = copy.deepcopy((self.module, self._cell))
        said = f"{type(module).__name__} does not run on x {shape_of(x)}"
        with users_code(said):
            return recorded_calls(cell, module, x, undetached), cell, module

    def _windows(self, calls: list[TracedCall], batch_axis: int | None) -> list[Tensor]:
        """The inputs of each call, (T, B, m); T = 1 for a call of one frame."""
        xs = [unpacked(each.x).detach() for each in calls]
        if self._reads_frames(calls):
            return [x.reshape(1, -1, x.shape[-1]) for x in xs]
        packed = [isinstance(each.x, PackedSequence) for each in calls]
        return [
            x if known else self._window(x, batch_axis) for x, known in zip(xs, packed, strict=True)
        ]

    def _reads_frames(self, calls: list[TracedCall]) -> bool:
        """True if each call of the cell reads one frame, False if it reads a window of a
        sequence.
        """
        if isinstance(self._cell, nn.RNNBase) or isinstance(calls[0].x, PackedSequence):
            return False
        x, state = calls[0].x, calls[0].state
        if not hasattr(self._cell, "step") or x.dim() == 1:
            return True  # forward(x, state) is the step
        of_rows = bool(state) and np.shape(state[0])[:-1] == x.shape[:1]
        return x.dim() == 2 and (len(calls) > 1 or of_rows)

    def _window(self, x: Tensor, batch_axis: int | None) -> Tensor:
        """Convert a window from the layout of the cell to (T, B, m)."""
        m = getattr(self._cell, "input_size", x.shape[-1])
        if x.dim() not in (2, 3) or x.shape[-1] != m:
            loops = ""
            if x.dim() > 3:
                loops = "; if it loops over a sequence, give one step of it, f(x, s), and s0"
            raise InvalidInputError(
                f"{self.title} reads {tuple(x.shape)}: expected (T, {m}) or (T, B, {m}){loops}"
            )
        inside = self._cell is not self.module and hasattr(self._cell, "batch_first")
        axis = None if inside or not has_batch(x, ids=False) else batch_axis
        return Layout.of(self._cell, x, axis, ids=False).to_time_first(x)

    def _checked(self, inputs: Tensor) -> Tensor:
        """Return the inputs (T, B, m) of the whole sequence. Raises InvalidInputError if they do
        not fit.
        """
        m = getattr(self._cell, "input_size", inputs.shape[-1])
        if inputs.shape[-1] != m:
            raise InvalidInputError(f"{self.title} reads frames {tuple(inputs.shape[2:])}")
        if len(inputs) == 1 < inputs.shape[1]:
            B = inputs.shape[1]
            raise OneStepError(B, inputs.shape[2])
        return inputs

    def _first_state(self, state: list, inputs: Tensor) -> Tensor:
        """The first state (B, L N) that the module passes to the cell, or else the cell's own."""
        own = self._whole.first_state(inputs)
        parts = [part.detach() for part in state if isinstance(part, Tensor)]
        if not parts or sum(real_view(part).numel() for part in parts) != own.numel():
            return own
        return flat_state(parts, layer_count(self._cell), inputs.shape[1]).to(own)

    def _returns(self, calls: list[TracedCall], windows: list[Tensor], s0: Tensor) -> bool:
        """True if the cell alone returns the same states as it returned inside the module."""
        rows = s0.shape[0]
        parts = [state_in(each.output, calls[-1].state) or [] for each in calls]
        after = [flat_state(each, layer_count(self._cell), rows).detach() for each in parts]
        before = [s0, *after[:-1]]
        if len(windows) == sum(map(len, windows)):  # one step each, all at once
            windows, before, after = (
                [torch.cat(windows, 1)],
                [torch.cat(before)],
                [torch.cat(after)],
            )
        close = torch.finfo(s0.dtype).eps ** 0.5
        found = [self._whole.states(*each)[-1] for each in zip(windows, before, strict=True)]
        return all(
            torch.allclose(a, b, rtol=close, atol=close, equal_nan=True)
            for a, b in zip(found, after, strict=True)
        )

    def _of_layer(self, inputs: Tensor, s0: Tensor) -> tuple[Tensor, Tensor]:
        """(Inputs (T, B, m), first state (B, N)) of the chosen layer; unchanged if no layer is
        chosen.
        """
        if self._layer is None:
            return inputs, s0
        states = s0.unflatten(1, (layer_count(self._cell), -1))
        for k in range(self._layer):
            below = rhn.cells.from_torch(self._cell, k)
            inputs = below.outputs_of(below.states(inputs, states[:, k]))
        return inputs, states[:, self._layer]


def _steps_in(x: Input, batch_axis: int | None) -> tuple[int, ...]:
    """The number of steps of x. If the axis of time is not known, the lengths of both axes that may
    be time.
    """
    frames = main_input(x)
    if isinstance(frames, PackedSequence):
        return (len(frames.batch_sizes),)
    if batch_axis is None and has_batch(frames):
        return tuple(frames.shape[:2])
    return (Layout(batch_axis if has_batch(frames) else None).sizes(frames)[0],)


@typed
def extract_cell(
    module: nn.Module,
    x: Any,
    *,
    layer: int | None = None,
    submodule: str | None = None,
    batch_axis: int | None = None,
) -> tuple[nn.Module | Step | Run, Tensor]:
    """Return the recurrent cell of a module, and the inputs (T, B, m) that the cell receives when
    the module reads x.

    The cell and the inputs are float64 copies. They can be passed to functions that take a cell. If
    packed sequences have unequal lengths, T is the number of steps that all of them have. Arguments
    as for `TracedCell` and its method `along`; without `layer` the first recurrent cell is
    returned, with all its layers. Raises InvalidInputError if the module has no recurrent cell or
    fewer than `layer` cells, or if the shape of x does not match its input.

    If the module starts the cell from a state of its own, such as a parameter, the first result is
    a `Run` from this state. Functions such as `lyapunov` and `spectra` accept the run in place of a
    cell.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.LSTM(3, 4, num_layers=2))
    >>> cell, inputs = extract_cell(model, torch.zeros(5, 1, 2))
    >>> cell.state_size, inputs.shape
    (16, torch.Size([5, 1, 3]))
    """
    check_order("extract_cell(module, x)", module=module, x=x)
    run = TracedCell(module, layer, submodule).along(as_input(x), batch_axis=batch_axis).shared()
    starts_at_its_own = torch.equal(run.states[0], run.cell.first_state(run.inputs))
    return run.cell.module if starts_at_its_own else run, run.inputs
