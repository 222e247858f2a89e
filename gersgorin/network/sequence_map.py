"""A model on sequences as a differentiable map from the inputs x[t] to its outputs o[t], or to the
losses of these outputs.

The model can be a recurrence, a convolution or attention, with one output per step or one per
sequence. x is passed to the model unchanged. If x contains ids, the inputs are the vectors that the
first embedding returns for them.

Legend: T time steps; B sequences; m numbers of an input; S outputs (T, or 1 if there is one output
for each sequence); k numbers of an output; the leaf is the tensor of inputs that has gradients.
"""

import inspect
import random
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence
from torch.overrides import TorchFunctionMode

from gersgorin.data.inputs import call, check_not_empty, ids_hint
from gersgorin.data.layout import as_module_takes, has_batch, is_ids
from gersgorin.data.sequences import Sequences
from gersgorin.losses import IGNORED, Loss, frame_costs, name_of_loss
from gersgorin.network.along_sequence import reader_of
from gersgorin.network.find import kept_hint, part_of, run_by_equations, step_hint
from gersgorin.run.autodiff import BLOCK, vjps
from gersgorin.run.cell import cell_name, own_title
from gersgorin.run.run import Label
from gersgorin.run.slopes import (
    ERROR,
    OFFSETS,
    different,
    note,
    random_direction,
    slope_of_cut,
)
from gersgorin.run.state import Sizes, State
from gersgorin.validate import (
    check_order,
    check_precision,
    check_weights,
    copy_of_module,
    finite_tensor,
    in_precision,
    like_weights,
    random_numbers_kept,
    real_tensor,
    uncompiled,
    users_code,
    with_gradients,
)
from rhn.cells import Cell
from rhn.errors import USERS_FAULT, InvalidInputError, RhnError, UsersCodeError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.utils.validation import in_short

OUTPUTS = "outputs"
LENGTHS = re.compile(r"((x|seq|sequence|input|src)_?)?(lens?|lengths?)")  # names of an argument
BESIDE = 5  # steps of x, and as many behind them, along which slopes are compared
RANDOM = "{name} draws random numbers as it runs: these numbers are of one draw."
WITH_STATES = (Cell, nn.RNNBase, nn.RNNCellBase, LanguageModel, PolyphonicModel)
ROWS = 128  # products at once, at most: with more, states of many numbers leave the caches
IN_PLACE = (
    "if it changes its cache in place, switch that off: a model of transformers by "
    "x={'input_ids': ids, 'use_cache': False}"
)


@dataclass(frozen=True, kw_only=True)
class ModelWithData:
    """A model with its sequences, as the user passed them; see `gersgorin.influence`."""

    model: Callable
    x: Any
    y: Any = None
    submodule: str | None = None
    batch_axis: int | None = None
    s0: State | None = None
    state_size: Sizes | None = None
    label: Label | None = None


def on_next_frames(
    model: nn.Module, frames: Tensor, of: Any, *, batch_axis: int | None = None, **fields
) -> ModelWithData:
    """A model with sequences (T, m) or (T, S, m), or ids. If there is a loss, the targets are the
    next frames.
    """
    x, y = (frames, None) if of == OUTPUTS else (frames[:-1], frames[1:])
    if y is not None:
        y = as_module_takes(model, y, batch_axis)
    x = as_module_takes(model, x, batch_axis)
    return ModelWithData(model=model, x=x, y=y, batch_axis=batch_axis, **fields)


class Embedded(TorchFunctionMode):
    """Context in which the vectors that an embedding returns at its first call, for the ids of x,
    are a leaf.
    """

    def __init__(self, sequences: Sequences, shift: Tensor | float):
        super().__init__()
        self._of, self._shift = sequences, shift
        self.leaf: Tensor | None = None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if self.leaf is not None or func not in (F.embedding, torch.embedding):
            return made
        tensors = [v for v in (*args, *(kwargs or {}).values()) if isinstance(v, Tensor)]
        ids = next(v for v in tensors if not v.is_floating_point())
        self.leaf, made = self._of.leaf_of(ids, made, self._shift) or (None, made)
        return made


class SequenceMap:
    """The `outputs` (S, B, k) of a model on x, and products with their derivatives.

    `module` is a copy in evaluation mode, in float64 if the model runs in float64. If there is a
    loss, the outputs are the losses of frames (T, B, 1), of sequences (1, B, 1), or of everything
    (1, 1, 1).

    Raises:
        InvalidInputError: x has fewer than two steps or NaN; the model does not run on x, has
            neither an output for each step nor one for each sequence, is not differentiable, or
            mixes sequences; or the loss does not fit.
    """

    @with_gradients()
    def __init__(self, subject: ModelWithData, loss: str | Loss | None = None):
        self._subject, model, x = subject, subject.model, subject.x
        check_order("the model first, then x", model=model, x=x)
        if not callable(model):
            raise InvalidInputError(
                f"expected a torch module or a function of a whole sequence, got {in_short(model)}"
            )
        x = finite_tensor("x", x) if isinstance(x, np.ndarray) else x
        self.name, self._submodule = cell_name(model), subject.submodule
        self._arguments, self._main = _arguments(x)
        first = subject.s0, subject.state_size
        module: Any = reader_of(model, self._main, *first, batch_axis=subject.batch_axis)
        if module is None and any(given is not None for given in first):
            raise InvalidInputError(
                f"{self.name} reads a whole sequence: leave s0 and state_size out, which are for "
                "a step f(x, s)"
            )
        module = module or (model if isinstance(model, nn.Module) else Function(model))
        check_weights(module)
        self.sequences = Sequences(module, self._main, subject.batch_axis)
        shape = tuple(self.sequences.values.shape)
        self.sequences.lengths = self._lengths_given(module)
        errors = []
        for dtype in (torch.float64, None):  # some modules only run in their own precision
            self.module, self._dtype = _copy(module, dtype), dtype
            try:
                returned, self._leaf, packed = self._read()
                break
            except (RhnError, *USERS_FAULT) as error:  # whatever a user's module raises
                errors.append(error)
        else:
            hint = step_hint(module) or ids_hint(module, self.sequences.values)
            with users_code(f"{self.name} does not run on x {shape}", hint):
                raise errors[-1]  # in the precision of the user
        outputs = self._frames(returned)
        check_precision(self.name, self._leaf, outputs)
        self._check_apart(outputs)
        self.sequences.lengths = self._lengths_read(outputs, packed)
        self._values = outputs
        self._of_values, self._in_loss = lambda returned, values: values, 1
        if loss is not None:
            self._of_values = partial(self._losses, loss, subject.y)
        self.outputs = self._of_values(returned, outputs)
        if loss is not None:
            self._in_loss = self._frames_in_loss(returned)
            has_loss = self._has_loss(loss, subject.y)
            self.sequences.lengths = self._lengths_read(self.outputs, [], has_loss)
        names = {"name": self.name, "title": own_title(model), "data": self.sequences.words}
        self.label = subject.label or Label(sequence=self.sequences.size, **names)
        self.at_once = max(1, min(ROWS, BLOCK // max(self._leaf.numel(), self.outputs.numel())))

    @property
    def input_size(self) -> int:
        """m, the number of entries of an input."""
        zeros = torch.zeros_like(self._leaf).unsqueeze(0)
        return self.sequences.by_step(zeros, len(self.outputs)).shape[-1]

    def norms(
        self, steps: Sequence[int], w: Tensor, feature: int | None = None
    ) -> tuple[Tensor, int]:
        """Compute the influence of all inputs on the outputs of some steps.

        Args:
            w: j weight vectors for each of the n outputs, (n, j, B, k).
            feature: the number of the input entry that counts in the norm; None: all entries.

        Returns:
            (||w[i, j] d o[steps[i]] / d x[t1]||, (n, j, T, B), float64; the number of these
            outputs, over all sequences, that depend on no input). If each sequence has one output,
            the outputs that do not depend on the last input are counted.
        """
        numbers = slice(None) if feature is None else slice(feature, feature + 1)
        n, j = w.shape[:2]
        whole = w.new_zeros(n, j, *self.outputs.shape)
        whole[range(n), :, steps] = w
        found = [self._pulled(part) for part in whole.flatten(0, 1).split(self.at_once)]
        norms = torch.cat([scaled_norm(each[..., numbers], -1) for each in found])
        read = slice(-1, None) if len(self.outputs) == 1 else slice(None)
        depends = torch.cat([each[:, read].any(-1).any(1) for each in found])
        present = self._present(steps)
        without = (~depends.unflatten(0, (n, j)).any(1) & present).sum()
        return torch.where(present[:, None, None], norms.unflatten(0, (n, j)), 0), int(without)

    def sequences_with(self, steps: Sequence[int]) -> Tensor:
        """Number of sequences that have each pair of an output and an input, (n, T); at least 1."""
        has = self.sequences.present(len(self.outputs))
        pairs = self._present(steps)[:, None] & has
        return pairs.sum(-1).clamp(min=1).double().to(self.outputs.device)

    def _present(self, steps: Sequence[int]) -> Tensor:
        """True for the outputs at these steps that a sequence has, (n, B)."""
        has = self.sequences.present(len(self.outputs))
        return has[-1:] if len(self.outputs) == 1 else has[steps]

    def _pulled(self, w: Tensor, outputs: Tensor | None = None) -> Tensor:
        """w[j] d outputs / d x for weights w (j, S, B, k): (j, T, B, m)."""
        outputs = self.outputs if outputs is None else outputs
        said = f"the gradient of {self.name} cannot be computed"
        with users_code(said, IN_PLACE), torch.backends.cudnn.flags(enabled=False):
            slopes = vjps(outputs, [self._leaf], w)[0]
        return self.sequences.by_step(slopes, len(outputs))

    def doubt(self) -> str:
        """A sentence about the gradient if it may be wrong; else "". There are three cases. The
        model draws random numbers. The gradient of the outputs differs from their slope along a few
        steps of x, in the middle and at the end. The gradient of the measured output or loss is 0
        for an input on which it depends. There is no sentence if the outputs for the same x and the
        same random numbers differ.
        """
        end = self.sequences.longest - 2
        middle = end // 2 if len(self._values) > 1 else end
        try:
            if self._differs(other_numbers=True):
                return "" if self._differs() else RANDOM.format(name=self.name)
            pairs = (self._different(t, seed) for seed, t in enumerate((middle, end)))
            return note("the outputs is not their", pairs) or self._cut()
        except (RhnError, *USERS_FAULT):
            return ""

    def _differs(self, *, other_numbers: bool = False) -> bool:
        """True if the outputs for the same x differ. other_numbers: compare with other random
        numbers.
        """
        with random_numbers_kept(self._values):
            if other_numbers:
                _ = torch.rand(1), random.random(), np.random.rand()  # noqa: NPY002
            again = self._frames(self._read()[0])
        return bool(((again - self._values).abs() > ERROR * self._values.abs()).any())

    def _cut(self) -> str:
        """A sentence if the gradient of the last output, or of its loss, is 0 for some earlier
        inputs, but its slope for the last of these inputs is not 0; else "".
        """
        row = min(self.sequences.longest, len(self.outputs)) - 1
        w = torch.zeros_like(self.outputs).unsqueeze(0)
        w[0, row] = random_weights(self.outputs)
        with torch.backends.cudnn.flags(enabled=False):
            slopes = vjps(self.outputs, [self._leaf], w)[0][0]
        leaf = self._leaf.detach()
        steps = self.sequences.steps_of(leaf).expand_as(leaf)
        reached = {*steps[slopes != 0].tolist()}
        cut = [t for t in range(self.sequences.longest - 1) if t not in reached]
        if not reached or not cut:
            return ""
        v = random_direction(leaf, 0) * ((leaf != 0) & (steps == cut[-1]))
        values = []
        for place in OFFSETS:
            returned = self._read(place * v)[0]
            values.append(self._of_values(returned, self._frames(returned))[row].detach().flatten())
        slope = slope_of_cut(torch.stack(values)) / float(v.norm().clamp(min=1))
        if not slope:
            return ""
        what = "the last output" if self.outputs is self._values else "the last loss"
        return (
            f"The gradient of {what} in the input of step {cut[-1]} is 0, but its slope by finite "
            f"differences is {slope:.2g} in one direction: some path is detached, or has "
            "a gradient of its own. These numbers are of autograd's gradient."
        )

    def joined_losses(self) -> str:
        """A sentence if one loss depends on the outputs of several frames; else ""."""
        if self._in_loss < 2:
            return ""
        return (
            f"The loss is one number of {self._in_loss} frames, and lags are counted from the last "
            "frame: an input may act through the loss of its own frame. For lags from each frame, "
            "give a loss that returns one number for each frame."
        )

    def _frames_in_loss(self, returned: Tensor) -> int:
        """Number of frames whose outputs a single loss depends on; 1 if each frame has a loss."""
        if len(self.outputs) > 1 or len(self._values) == 1:
            return 1
        (slopes,) = torch.autograd.grad(self.outputs.sum(), returned, retain_graph=True)
        return int(self._frames(slopes.requires_grad_()).flatten(1).any(1).sum())

    def other_axis(self, influence: np.ndarray) -> str:
        """A sentence if no output depends on an input of another step, but outputs do depend on
        other steps if the axes of x are swapped; else "". The influence is (T, T).
        """
        others = influence.copy()
        np.fill_diagonal(others, 0)
        if self.sequences.layout.batch is None or others.any() or len(influence) == 1:
            return ""
        if not self._has_memory_if_swapped():
            return ""
        shape, axis = tuple(self.sequences.values.shape), self.sequences.layout.time
        given = self._subject.batch_axis is not None
        also = f" with batch_axis={axis} (--batch-axis {axis})" if given else ""
        return (
            f"Axis {axis} of x {shape} counts as time. If it holds the sequences for {self.name}, "
            f"give x.transpose(0, 1){also}."
        )

    def _has_memory_if_swapped(self) -> bool:
        """True if an output depends on an input of another step once the first two axes of x are
        swapped.
        """
        swapped = self.sequences.values.transpose(0, 1)
        given = self._arguments
        if isinstance(given, dict):
            x: Any = {k: swapped if v is self._main else v for k, v in given.items()}
        else:
            x = tuple(swapped if v is self._main else v for v in given)
        axis = self._subject.batch_axis
        other = None if axis is None else 1 - axis
        return _has_memory(replace(self._subject, x=x, batch_axis=other))

    def _different(self, t: int, seed: int) -> tuple[float, float] | None:
        """The result of `different` for a few steps of x, of which t is the last, and the outputs
        after them; if these agree, for the outputs that include those of the moved steps.
        """
        leaf = self._leaf.detach()
        steps = self.sequences.steps_of(leaf)
        # entries of 0 may be padding, by which a model finds the ends of sequences
        moved = (leaf != 0) & (t - BESIDE < steps) & (steps <= t)
        v = random_direction(leaf, seed) * moved
        values = [self._frames(self._read(place * v)[0]).detach() for place in OFFSETS]
        for first in (t + 1, t + 1 - BESIDE):
            rows = slice(max(0, first), t + 1 + BESIDE) if len(values[0]) > 1 else slice(None)
            along = partial(self._along, v, rows)
            if pair := different(torch.stack([o[rows].flatten() for o in values]), along, seed):
                return pair
        return None

    def _along(self, v: Tensor, rows: slice, W: Tensor) -> Tensor:
        """w J v for weights w (j, n) of the outputs at some steps."""
        w = W.new_zeros(len(W), *self._values.shape)
        w[:, rows] = W.reshape(w[:, rows].shape)
        with torch.backends.cudnn.flags(enabled=False):
            slopes = vjps(self._values, [self._leaf], w)[0]
        return (slopes * v).flatten(1).sum(1)

    def _read(self, shift: Tensor | float = 0.0) -> tuple[Tensor, Any, list[PackedSequence]]:
        """(The output of the module, or of its part, for x; the leaf that the output depends on;
        the packed sequences that parts of the module read).

        shift: numbers that are added to the leaf.
        """
        part, of, calls = part_of(self.module, self._submodule), self.sequences, list[Any]()
        dtype, like = self._dtype, like_weights(self.module)
        like = of.values if like is None else like
        if dtype is None and like.is_floating_point():
            dtype = like.dtype
        of.values = of.values.to(like.device)
        embedded = Embedded(of, shift) if of.ids else None
        leaf = None if of.ids else of.values.to(dtype).detach().clone().requires_grad_()
        main = of.values if leaf is None else leaf + shift  # a module may change it in place
        packed = list[PackedSequence]()
        keep = partial(_keep_packed, packed)
        hooks = [part.register_forward_hook(lambda part, args, output: calls.append(output))]
        hooks += [each.register_forward_pre_hook(keep) for each in self.module.modules()]
        with (
            random_numbers_kept(like),
            torch.backends.cudnn.flags(enabled=False),
            embedded or nullcontext(),
        ):
            self._call(main, like.device, dtype)
        for hook in hooks:
            hook.remove()
        found = [o for call in calls if (o := first_tensor(call)) is not None]
        if not found:
            raise InvalidInputError(f"{self.name} returns no tensor of real numbers")
        self.output = which_output(part, calls[0])
        output = found[0] if len(found) == 1 else torch.stack(found)  # of a cell, step by step
        return output, embedded.leaf if embedded else leaf, packed

    def _call(self, main: Tensor, device: torch.device, dtype: torch.dtype | None) -> None:
        """Call the module with the user's arguments and `main` as the sequence."""

        def moved(value: Any) -> Any:
            if value is self._main:
                packed = self.sequences.packed
                return packed.to(device)._replace(data=main) if packed else main  # type: ignore[arg-type]
            if not isinstance(value, Tensor) or value.dim() < 2:
                return value  # lengths stay on the CPU
            return value.to(device, dtype if value.is_floating_point() else None)

        given = self._arguments
        if isinstance(given, dict):
            call(self.module, {name: moved(value) for name, value in given.items()})
        else:
            call(self.module, tuple(map(moved, given)))

    def _frames(self, o: Tensor) -> Tensor:
        """The outputs as (S, B, k). Raises InvalidInputError for other shapes."""
        of, shape = self.sequences, tuple(self.sequences.values.shape)
        found = of.by_frame(o)
        if found is not None and len(found) > 1 and found.dim() == 2 and self._is_one(o):
            found = o.reshape(1, of.B, -1)
        if found is None:
            raise InvalidInputError(
                f"{self.name} returns outputs of shape {tuple(o.shape)} for x {shape} of {of.T} "
                "steps: expected one output for each step, or one for each sequence"
            )
        if not torch.isfinite(o).all():
            raise InvalidInputError(
                f"{self.name} returns NaN or infinite outputs: expected finite ones"
            )
        if self._leaf is None or not o.requires_grad:
            raise InvalidInputError(
                f"the outputs of {self.name} have no gradient in its inputs: compute them from x "
                "by operations of torch, without detach(), no_grad() or NumPy"
            )
        return found.flatten(2) if found.dim() > 2 else found.unsqueeze(2)

    def _is_one(self, o: Tensor) -> bool:
        """True if an output with as many numbers as there are steps is a single output: for a
        shorter x it has as many numbers.
        """
        of = self.sequences
        if self._submodule or of.packed is not None or len(self._arguments) > 1:
            return False
        shorter = of.layout.first_steps(of.values, of.T - 1).to(o.device)
        try:
            with torch.no_grad(), random_numbers_kept(o):
                module = copy_of_module(self.module)
                again = first_tensor(module(shorter if of.ids else shorter.to(o.dtype)))
        except USERS_FAULT:
            return False
        return again is not None and again.shape == o.shape

    def _lengths_given(self, module: nn.Module) -> Tensor | None:
        """The lengths (B,) of packed sequences, or those in an argument: whole numbers, one for
        each sequence, with a name such as lengths or seq_len.
        """
        of = self.sequences
        if of.packed is not None or len(self._arguments) < 2:
            return of.lengths
        named = self._arguments
        if not isinstance(named, dict):
            try:
                named = inspect.signature(module.forward).bind(*self._arguments).arguments
            except TypeError:
                return None
        for name, value in named.items():
            if LENGTHS.fullmatch(name) and np.shape(value) == (of.B,):
                return _checked_lengths(name, value, of.T)
        return None

    def _lengths_read(
        self, o: Tensor, packed: list[PackedSequence], has_loss: Tensor | None = None
    ) -> Tensor | None:
        """The lengths (B,) that are given, or those up to which the outputs depend on inputs.

        The latter are returned if they are the lengths of sequences that the module packs, or if
        the longest sequence ends with x and no output after the end of a sequence depends on any
        input. None: all sequences have T steps.

        o: the outputs, or the losses.
        has_loss: True for the frames with a target, (T, B). A sequence then lasts at least until
            its last target, and the longest sequence may end before x. None: not known.
        """
        of, guessed = self.sequences, has_loss is None
        if of.lengths is not None or (of.B == 1 and guessed):
            return of.lengths
        w = random_weights(o).expand_as(o).unsqueeze(0)
        reads = self._pulled(w, o)[0].any(-1).cpu()  # (T, B)
        if has_loss is not None:
            reads |= has_loss
        lengths = (torch.arange(1, of.T + 1, device="cpu").unsqueeze(1) * reads).amax(0)
        given = [pad_packed_sequence(each)[1] for each in packed[:1]]
        if given and torch.equal(lengths.sort()[0], given[0].sort()[0]):
            return lengths
        if int(lengths.min()) in (0, of.T) or (guessed and int(lengths.max()) < of.T):
            return None
        beyond = torch.arange(len(o), device="cpu").unsqueeze(1) >= lengths
        if len(o) > 1 and self._pulled(w * beyond.unsqueeze(2).to(w), o).any():
            return None
        return lengths

    def _check_apart(self, o: Tensor) -> None:
        """Raise InvalidInputError if outputs of the first or last sequence depend on other
        sequences.
        """
        if o.shape[1] == 1:
            return
        w = o.new_zeros(2, *o.shape)
        w[0, :, 0] = w[1, :, -1] = random_weights(o)
        first, last = self._pulled(w, o)
        if first[:, 1:].any() or last[:, :-1].any():
            axis, shape = self.sequences.layout.batch, tuple(self.sequences.values.shape)
            raise InvalidInputError(
                f"outputs of {self.name} for one sequence depend on others, with axis {axis} of x "
                f"{shape} as the batch: give the right batch_axis, or one sequence"
            )

    def _targets(self, y: Any) -> Tensor:
        """The user's targets as (T, B, ...), or unchanged if they are not targets of frames."""
        y = _unpacked(y)
        frames = self.sequences.by_frame(y) if len(self._values) > 1 else None
        return y if frames is None else frames

    def _has_loss(self, loss: str | Loss, y: Any) -> Tensor | None:
        """True for the frames that have a loss, (T, B); None if the targets do not show this."""
        if not isinstance(loss, str) or name_of_loss(loss) != "categorical":
            return None
        if len(self._values) == 1:
            return None
        return (self._targets(y) != IGNORED).reshape(self._values.shape[:2]).cpu()

    def _losses(self, loss: str | Loss, y: Any, returned: Tensor, z: Tensor) -> Tensor:
        """The losses of outputs z (S, B, k): (S, B, 1), or (1, 1, 1). Raises InvalidInputError if y
        or the result of the loss does not fit.
        """
        of = self.sequences
        if y is None:
            raise InvalidInputError("y is missing: expected the targets of the loss")
        if isinstance(loss, str):
            targets, shape = self._targets(y).to(z.device), tuple(_unpacked(y).shape)
            return frame_costs(loss, z, targets, shape).unsqueeze(2)
        y = _unpacked(y).to(returned.device)
        y = y.to(returned.dtype) if y.is_floating_point() else y
        name = name_of_loss(loss)
        said = f"the loss {name} cannot take outputs {tuple(returned.shape)} and y {tuple(y.shape)}"
        with users_code(said):
            costs = loss(returned, y)
        if not isinstance(costs, Tensor) or not costs.requires_grad:
            raise InvalidInputError(
                f"the loss {name} returns {in_short(costs)}: expected a tensor with a gradient"
            )
        found = costs.reshape(1, 1) if costs.dim() == 0 else of.by_frame(costs)
        if found is None:
            raise InvalidInputError(
                f"the loss {name} returns {tuple(costs.shape)}: expected one number, or one for "
                "each frame or sequence of x"
            )
        return found.flatten(2).sum(2, keepdim=True) if found.dim() > 2 else found.unsqueeze(2)


def sequence_map(subject: ModelWithData, loss: str | Loss | None = None) -> SequenceMap:
    """The map of a model with its sequences, or of its losses. The error of a model that does not
    run names a change of the model or of x with which it runs. Raises InvalidInputError, see
    `SequenceMap`.
    """
    try:
        return SequenceMap(subject, loss)
    except UsersCodeError as error:
        hint = "" if _runs(subject) else _hint(subject)
        raise UsersCodeError(f"{error}; {hint}" if hint else str(error)) from error


def keeps_apart(
    module: nn.Module, frames: Tensor, axis: int, state_size: Sizes | None = None
) -> bool:
    """True if outputs of a module for one sequence do not depend on another, with an axis of its
    input as the batch. frames: a sequence, (T, m) or ids (T,). state_size: see `ModelWithData`.
    """
    two = torch.stack((frames, frames.flip(0)), axis)
    return _runs(ModelWithData(model=module, x=two, batch_axis=axis, state_size=state_size))


def runs_without_batch(module: nn.Module, frames: Tensor, state_size: Sizes | None = None) -> bool:
    """True if a module runs on one sequence without an axis of the batch, see `keeps_apart`."""
    return _runs(ModelWithData(model=module, x=frames, state_size=state_size))


def _hint(subject: ModelWithData) -> str:
    """A change of the model or of x with which the model runs; "" if none is known."""
    model, x = subject.model, subject.x
    if isinstance(model, nn.Module):
        hint = kept_hint(model, lambda other: _runs(replace(subject, model=other)))
        if hint:
            return hint
    if not isinstance(x, Tensor | np.ndarray):
        return ""
    x = real_tensor("x", x)
    if is_ids(x) and _runs(replace(subject, x=x.float())):
        return "if x holds numbers and not ids, give x.float()"
    if has_batch(x) or subject.batch_axis is not None:
        return ""
    for axis, words in enumerate(("x[None]", "x[:, None]")):
        if _has_memory(replace(subject, x=x.unsqueeze(axis))):
            return f"with a batch it runs: give {words} (--batch-axis {axis})"
    return ""


def _runs(subject: ModelWithData) -> bool:
    """True if a model runs on its sequences."""
    try:
        SequenceMap(subject)
    except USERS_FAULT:
        return False
    return True


def _has_memory(subject: ModelWithData) -> bool:
    """True if a model runs, and an output depends on an input of another step."""
    try:
        map_ = SequenceMap(subject)
        S, B, k = map_.outputs.shape
        w = random_weights(map_.outputs).expand(S, 1, B, k)
        norms = map_.norms(range(S), w)[0].sum((1, 3))
    except USERS_FAULT:
        return False
    return bool(norms.tril(-1).any() or norms.triu(1).any())


def _unpacked(y: Any) -> Tensor:
    """The user's targets as a tensor; packed ones are padded."""
    return finite_tensor("y", pad_packed_sequence(y)[0] if isinstance(y, PackedSequence) else y)


def scaled_norm(values: Tensor, axis: int) -> Tensor:
    """2-norms along an axis, in float64, even of numbers whose squares would over- or underflow.

    >>> scaled_norm(torch.tensor([3e-200, 4e-200], dtype=torch.float64), 0).item()
    5e-200
    """
    values = values.double()
    largest = values.abs().amax(axis, keepdim=True)
    scale = torch.where((largest > 0) & largest.isfinite(), largest, 1)
    return torch.linalg.vector_norm(values / scale, dim=axis) * scale.squeeze(axis)


def random_weights(o: Tensor) -> Tensor:
    """Positive random weights (k,) for outputs (S, B, k), so that no derivatives cancel by
    symmetry.
    """
    # on the CPU, where a default device of the caller counts for nothing
    generator = torch.Generator("cpu").manual_seed(0)
    return torch.rand(o.shape[2], generator=generator, device="cpu").to(o) + 0.5


def _checked_lengths(name: str, value: Any, T: int) -> Tensor:
    """Lengths (B,) as whole numbers on the CPU. Raises InvalidInputError unless they are 1 to T."""
    numbers = torch.as_tensor(value).cpu()
    wrong = (numbers < 1) | (numbers > T) | (numbers != numbers.long())
    if wrong.any():
        raise InvalidInputError(
            f"{name} holds {numbers[wrong][0].item():g}: expected whole numbers from 1 to {T}, "
            "the steps of each sequence"
        )
    return numbers.long()


def _keep_packed(found: list[PackedSequence], module: nn.Module, args: tuple) -> None:
    """Hook that stores the packed sequences that a module reads."""
    found.extend(each for each in args if isinstance(each, PackedSequence))


class Function(nn.Module):
    """A function of x as a module."""

    def __init__(self, function: Callable):
        super().__init__()
        self.forward = function


def _arguments(x: Any) -> tuple[tuple | dict, Any]:
    """(The arguments of the model, the sequence among them: the first floating-point argument)."""
    check_not_empty(x)
    several = isinstance(x, tuple | Mapping) and not isinstance(x, PackedSequence)
    arguments = (dict(x) if isinstance(x, Mapping) else tuple(x)) if several else (x,)
    values = [*(arguments.values() if isinstance(arguments, dict) else arguments)]
    return arguments, next(filter(_is_floating, values), values[0])


def _is_floating(value: Any) -> bool:
    value = value.data if isinstance(value, PackedSequence) else value
    return "float" in str(getattr(value, "dtype", ""))


def _copy(module: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    module = copy_of_module(uncompiled(module)).eval()
    module.requires_grad_(False)
    run_by_equations(module)  # three times as fast for many derivatives
    return in_precision(module, dtype) if dtype else module


def which_output(module: nn.Module, returned: Any) -> str:
    """The output that `first_tensor` chooses, if a module returns several: "output 1 of 2"; else
    "". The states that a recurrent cell returns beside its outputs do not count.

    >>> which_output(nn.Identity(), (None, torch.ones(2), torch.ones(3)))
    'output 2 of 3'
    >>> which_output(nn.Identity(), {"h": torch.ones(2), "y": torch.ones(3)})
    "output 'h' of 2"
    """
    if isinstance(module, WITH_STATES) or isinstance(returned, Tensor | PackedSequence):
        return ""
    named = dict(returned) if isinstance(returned, Mapping) else dict(enumerate(returned, 1))
    found = [name for name, value in named.items() if first_tensor(value) is not None]
    return f"output {found[0]!r} of {len(named)}" if len(found) > 1 else ""


def first_tensor(output) -> Tensor | None:
    """The first floating-point tensor of what a module returns; a packed one is padded."""
    if isinstance(output, Tensor):
        return output if output.is_floating_point() else None
    if isinstance(output, PackedSequence):
        return pad_packed_sequence(output)[0]
    if isinstance(output, Mapping):
        output = tuple(output.values())
    parts = output if isinstance(output, tuple | list) else ()
    return next((found for part in parts if (found := first_tensor(part)) is not None), None)
