"""Test which inputs of a minibatch its outputs depend on.

    probe = Probe(training)
    probe.mixed                  # how many others change if one example changes
    probe.unread(0, axis=2)      # features of the sequence that no output depends on

An output depends on an input if a finite change of the input changes the output. An output does not
depend on an input if autograd has no gradient, and changes of three sizes change no bit of the
output. Both must hold at the given weights and at the initial weights of torch. First the same
input is given twice. If the outputs differ, dependence is not measured.

Legend: B examples, T frames, m numbers of a frame.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map

from trainability.axes import time_steps
from trainability.data import (
    Inputs,
    noise_like,
    padded_frames,
    sequence_of,
    with_leaf,
    with_sequence,
)
from trainability.differences import BEYOND_ROUNDING
from trainability.minibatch import Minibatch, rounding_of, rows_of
from trainability.training import same

SCALES = 0.01, 1.0, 100.0  # of changes of numbers, times their own
EXAMPLES = 8  # that are changed, one at a time
NUDGE = 0.01  # of a small change, times the scale of the numbers
BENT = 0.2  # of a change: what twice the change lacks to twice its effect
UNDERFLOW = 1e-30  # a gradient that is smaller may vanish, and prove nothing
TESTS = 24  # of groups of frames or features


class Probe(Minibatch):
    """Tests of what the outputs of a minibatch depend on; the training run is not changed."""

    def follows(self, leaf: int) -> bool:
        """True if it can be tested whether outputs depend on an input.

        Outputs must be repeatable, and the input must have other possible values. For ids these are
        other ids.
        """
        x = self.leaves[leaf]
        return not self.noise and (self.is_number(x) or bool((x != x.flatten()[0]).any()))

    def is_number(self, x: Tensor) -> bool:
        """True for an input of numbers; False for ids, and for floats that the model may turn into
        ids.
        """
        has_ids = any(isinstance(part, nn.Embedding) for part in self.training.model.modules())
        return x.is_floating_point() and not (has_ids and torch.equal(x, x.round()))

    @cached_property
    def padding(self) -> Tensor | None:
        """True for each number of the sequence that is padding, in the shape of the sequence; None
        if there is no padding.

        Padding is a frame that fills the ends of sequences of unequal length, and occurs nowhere
        else.
        """
        if self.frames is None or self.layout.batch is None:
            return None
        x = self.first.movedim(self.axis, 0)
        pad = x[:, -1].mode(0).values
        lengths = padded_frames(x, pad)
        ends = torch.arange(x.shape[1], device=x.device) >= x.shape[1] - lengths[:, None]
        same = (x == pad).reshape(*x.shape[:2], -1).all(2)
        if not torch.equal(same, ends) or len(lengths.unique()) == 1:
            return None
        whole = ends.reshape(*ends.shape, *[1] * (x.dim() - 2)).expand(x.shape)
        return whole.movedim(0, self.axis) if len(x[~whole].unique()) > 1 else None

    def real(self, leaf: int) -> Tensor:
        """Return True for each number of an input that is no padding."""
        if leaf or self.padding is None:
            return torch.ones_like(self.leaves[leaf], dtype=torch.bool)
        return ~self.padding

    def changed(self, leaf: int, marks: Tensor, size: int) -> Inputs:
        """Return inputs with other values where marks are True.

        For size 0, 1 or 2, numbers are changed by 0.01, 1 or 100 times their scale. Ids become
        other ids, of the same column if a frame has several.
        """
        x = self.leaves[leaf]
        if self.is_number(x):
            other = x + SCALES[size] * scale(x, whole=size == 2) * noise_like(x, size)
        else:
            several = x.dim() > 2 and self.axis_of(x) != x.dim() - 1
            real = self.real(leaf)
            columns = zip(x.unbind(-1), real.unbind(-1), strict=True) if several else [(x, real)]
            other = torch.stack([_later_ids(ids, ids[of], size + 1) for ids, of in columns], -1)
            other = other.reshape(x.shape)
        return with_leaf(self.x, leaf, torch.where(marks, other, x))

    @torch.no_grad()
    def changes(self, leaf: int, marks: Tensor) -> Iterator[Tensor]:
        """Yield the changes of the outputs, in units of rounding, if an input is changed where
        marks are True.

        There is one result for each of three sizes, at the given weights and at torch's. 0 means
        that no bit differs.
        """
        for training in (self.training, self.generic):
            training.model.eval()
            before = training.output(self.x)
            unit = rounding_of(before)
            for size in range(len(SCALES)):
                after = training.output(self.changed(leaf, marks, size))
                apart = ((after - before).abs() / unit).nan_to_num(nan=math.inf)
                yield apart.masked_fill(after == before, 0.0)

    def depends(self, leaf: int, marks: Tensor) -> bool:
        """True if an output changes when an input is changed where marks are True."""
        return any(bool(change.any()) for change in self.changes(leaf, marks))

    def slopes(self, leaf: int, weights: Callable[[Tensor], Tensor] = same) -> Tensor | None:
        """Return the gradient of a random sum of the outputs with respect to an input, at torch's
        weights.

        None if the input does not consist of numbers. weights: function that changes the weights of
        the outputs in the sum.
        """
        x = self.leaves[leaf]
        if not self.is_number(x):
            return None
        given = x.detach().clone().requires_grad_()
        with torch.backends.cudnn.flags(enabled=False):
            output = self.generic.output(with_leaf(self.x, leaf, given))
        if not output.requires_grad:
            return torch.zeros_like(x)
        total = (output * weights(noise_like(output))).sum()
        return torch.autograd.grad(total, given, materialize_grads=True)[0]

    def is_unread(self, leaf: int) -> bool:
        """True if no output depends on an input. Padding does not count."""
        if not self.follows(leaf):
            return False
        slopes, real = self.slopes(leaf), self.real(leaf)
        if slopes is not None and slopes[real].any():
            return False
        return not self.depends(leaf, real)

    def unread(self, leaf: int, axis: int) -> list[int]:
        """Return the indices along an axis of an input on which no output depends.

        At these indices the gradient is 0, and changes of three sizes change no bit of any output.
        Padding does not count, and indices at which all examples are equal are left out.
        """
        x, slopes = self.leaves[leaf], self.slopes(leaf)
        rows = x.movedim(self.axis_of(x), 0)
        varies = (rows != rows[:1]).any(0).movedim(axis - (axis > self.axis_of(x)), 0)
        free = varies.reshape(len(varies), -1).any(1)
        if slopes is not None:
            size = rows_of(slopes.abs() * self.real(leaf), axis).amax(1)
            if ((size > 0) & (size < UNDERFLOW)).any():  # it may vanish
                return []
            free &= size == 0
        waiting, found, left = [free.nonzero().flatten().tolist()], list[int](), TESTS
        while waiting:
            part = waiting.pop()
            if not part or not left:
                continue
            left -= 1
            marks = torch.zeros(x.shape, dtype=torch.bool, device=x.device)
            marks.index_fill_(axis, torch.tensor(part, device=x.device), True)
            marks &= self.real(leaf)
            if not self.depends(leaf, marks):
                found += part
            elif len(part) > 1:
                waiting += [part[: len(part) // 2], part[len(part) // 2 :]]
        return sorted(found)

    @cached_property
    def mixed(self) -> int:
        """Number of other examples whose outputs change if one example is changed."""
        if self.axes.batch is None or self.count < 2 or not self.follows(0):
            return 0
        number = min(EXAMPLES, self.count // 2)
        some = torch.linspace(0, self.count - 1, number).long().unique().tolist()
        with fixed_statistics(self.training.model), fixed_statistics(self.generic.model):
            if not self._changed_beside(some):
                return 0
            return max(self._changed_beside([k]) for k in some)

    def _changed_beside(self, some: list[int]) -> int:
        """Number of other examples that change with some examples, if one of them changes by more
        than rounding; else 0.
        """
        index = torch.tensor(some, device=self.first.device)
        marks = torch.zeros(self.first.shape, dtype=torch.bool, device=self.first.device)
        for change in self.changes(0, marks.index_fill_(self.axis, index, True)):
            rows = rows_of(change, self.axes.batch or 0).amax(1).index_fill(0, index, 0.0)
            if (rows > BEYOND_ROUNDING).any():
                return int((rows > 0).sum())
        return 0

    # ---- frames ------------------------------------------------------------------------------

    def _marks(self, frames: Tensor, leaf: int = 0) -> Tensor:
        """Return a mask of an input that is True at some frames (T,), except for padding."""
        x = self.leaves[leaf]
        shape = [1] * x.dim()
        shape[self.layout.time] = -1
        return frames.to(x.device).reshape(shape).expand(x.shape) & self.real(leaf)

    def paired_frames(self, leaf: int) -> int | None:
        """T, the number of frames of an input; None if it has no frames, or outputs have not one
        for each of them, or it cannot be tested what they depend on.
        """
        x, T = self.leaves[leaf], time_steps(self.leaves[leaf], self.layout)
        each = self.before.shape[:2] == x.shape[:2] == self.y.shape[:2] and self.axes.classes != 1
        return T if each and not self.mixed and self.follows(leaf) else None

    def looks_ahead(self, leaf: int) -> bool:
        """True if the output for a frame changes with later frames of an input."""
        T = self.paired_frames(leaf) or 0
        for first in sorted({1, T // 4, T // 2, 3 * T // 4, T - 1} - {0}) if T > 1 else ():
            marks = self._marks(torch.arange(T) >= first, leaf)
            for change in self.changes(leaf, marks):
                if (change.narrow(self.layout.time, 0, first) > BEYOND_ROUNDING).any():
                    return True
        return False

    def reads_frame(self, leaf: int, shift: int) -> bool:
        """True if the output for some frame t depends on frame t + `shift` of an input: the output
        has a gradient there, and changes with that frame.
        """
        T = self.paired_frames(leaf)
        if T is None or T < 3:
            return False
        for t in sorted({0, (T - 1 - shift) // 2, T - 1 - shift}):
            marks = self._marks(torch.arange(T) == t + shift, leaf)
            if self._has_gradient(leaf, marks, t) and any(
                bool((change.select(self.layout.time, t) > BEYOND_ROUNDING).any())
                for change in self.changes(leaf, marks)
            ):
                return True
        return False

    def _has_gradient(self, leaf: int, marks: Tensor, frame: int) -> bool:
        """True if the output for a frame has a gradient in an input where marks are True; for ids,
        in their embedding.
        """

        def of_frame(weights: Tensor) -> Tensor:
            kept = torch.zeros_like(weights)
            kept.select(self.layout.time, frame).copy_(weights.select(self.layout.time, frame))
            return kept

        slopes = self.slopes(leaf, of_frame)
        if slopes is not None:
            return bool(slopes[marks].any())
        output, read = self._with_embeddings(self.x)
        _, other = self._with_embeddings(self.changed(leaf, marks, 0))
        made = [embedded for _, embedded in read]
        if not made or not output.requires_grad:
            return False
        total = (output * of_frame(noise_like(output))).sum()
        found = torch.autograd.grad(total, made, materialize_grads=True)
        moved = [ids != changed for (ids, _), (changed, _) in zip(read, other, strict=True)]
        return any(bool(slope[at].any()) for slope, at in zip(found, moved, strict=True))

    def _with_embeddings(self, x: Inputs) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Return (the outputs at torch's weights, pairs of ids and what an embedding makes of them,
        as leaves of the graph).
        """
        read: list[tuple[Tensor, Tensor]] = []

        def keep(_: nn.Module, ids: tuple, made: Tensor) -> Tensor:
            read.append((ids[0], made.detach().requires_grad_()))
            return read[-1][1].clone()

        with ExitStack() as hooks, torch.backends.cudnn.flags(enabled=False):
            for part in self.generic.model.modules():
                if isinstance(part, nn.Embedding):
                    hooks.enter_context(part.register_forward_hook(keep))
            return self.generic.output(x), read

    @cached_property
    def reads_own_frame(self) -> bool:
        """True if the output for the first frame changes with that frame."""
        if self.frames is None or not self.axes.for_each_frame or not self.follows(0):
            return False
        marks = self._marks(torch.arange(self.frames) == 0)
        return any(
            bool((change.select(self.layout.time, 0) > BEYOND_ROUNDING).any())
            for change in self.changes(0, marks)
        )

    @cached_property
    def only_own_frame(self) -> bool:
        """True if the output for each frame depends on no other frame.

        The frames are split in halves by each bit of their numbers, so that any two frames are in
        different halves for some bit. Outputs of one half must not change with the other half, and
        have no gradient in it.
        """
        T = self.frames
        if T is None or T < 2 or not self.axes.for_each_frame or not self.reads_own_frame:
            return False
        numbers, axis = torch.arange(T), self.layout.time
        for bit in range((T - 1).bit_length()):
            for value in (0, 1):
                moved = (numbers >> bit & 1) == value
                still = (~moved).nonzero().flatten().to(self.first.device)
                if self._reaches(moved, still, axis):
                    return False
        return True

    def _reaches(self, moved: Tensor, still: Tensor, axis: int) -> bool:
        """True if outputs for the frames `still` depend on the frames `moved`."""

        def of_still(weights: Tensor) -> Tensor:
            return torch.zeros_like(weights).index_copy_(
                axis, still, weights.index_select(axis, still)
            )

        slopes = self.slopes(0, of_still)
        if slopes is not None and slopes[self._marks(moved)].any():
            return True
        changes = self.changes(0, self._marks(moved))
        return any(bool(change.index_select(axis, still).any()) for change in changes)

    @cached_property
    def gradient_frames(self) -> Tensor | None:
        """True for each frame that the gradient of the last output reaches, (T,); None if not
        known.

        The gradient is that of a sum of the last output with random weights, and may be that of any
        example.
        """
        if self.frames is None or self.axes.batch is None or self.mixed or not self.follows(0):
            return None
        leaves: list[Tensor] = []

        def leaf(values: Tensor) -> Tensor:
            leaves.append(values.detach().requires_grad_())
            return leaves[-1].clone()

        output = self._last(self.with_leaves(leaf))
        if not leaves or not output.requires_grad:
            return None
        total = (output * noise_like(output)).sum()
        slopes = torch.autograd.grad(total, leaves, materialize_grads=True)
        each = [rows_of(s, self.layout.time).any(1) for s in slopes]
        return torch.stack(each).any(0)

    def _last(self, output: Tensor) -> Tensor:
        """The output for the last frame, or the whole output if it has no frames."""
        return output.select(self.layout.time, -1) if self.axes.for_each_frame else output

    def moving_frames(self, example: int) -> Tensor:
        """Return (T,) True for each frame of an example with which the last output changes
        smoothly.

        A small change of the frame changes the output, and twice the change has twice the effect:
        no kink or threshold lies between.
        """
        once, twice = (self._moved_by_frame(example, size) for size in (NUDGE, 2 * NUDGE))
        bent = (twice - 2 * once).abs().amax(1)
        beyond = once.abs().amax(1) > BEYOND_ROUNDING * rounding_of(self.before)
        return beyond & (bent < BENT * twice.abs().amax(1))

    @cached_property
    def read_frames(self) -> Tensor:
        """True for each frame with which the last output of any example changes, by at least one
        bit, (T,).
        """
        found = torch.zeros(self.frames or 0, dtype=torch.bool, device=self.first.device)
        for example in range(min(self.count, EXAMPLES)):
            for size in SCALES:
                if not found.all():
                    found |= self._moved_by_frame(example, size).any(1)
        return found

    @torch.no_grad()
    def _moved_by_frame(self, example: int, size: float) -> Tensor:
        """(T, ...) changes of the last output of an example, one for each frame that is changed.

        size: size of the change, in units of the scale of the numbers.
        """
        T, index = self.frames or 0, torch.full((self.count,), example, device=self.first.device)
        x = tree_map(lambda v: v.index_select(self.axis_of(v), index.to(v.device)), self.x)
        before, found = self._rows(self.with_leaves(same, x)), []
        for start in range(0, T, self.count):
            after = self._rows(self.with_leaves(partial(self._moved, start=start, size=size), x))
            found.append((after - before)[: T - start])
        return torch.cat(found)

    def _moved(self, values: Tensor, start: int, size: float) -> Tensor:
        """Return values in which frame start + k of copy k is changed."""
        noise = noise_like(values)
        marks = torch.zeros(values.shape[:2], dtype=torch.bool, device=values.device)
        by_example = marks.movedim(self.axis, 0)
        for k in range(min(self.count, by_example.shape[1] - start)):
            by_example[k, start + k] = True
        marks = marks.reshape(*marks.shape, *[1] * (values.dim() - 2))
        return values + size * scale(values) * noise * marks

    def _rows(self, output: Tensor) -> Tensor:
        """The last output of each example, (B, ...)."""
        axis = 0 if self.axes.for_each_frame else self.axes.batch or 0
        return rows_of(self._last(output), axis)

    def with_leaves(self, leaf: Callable[[Tensor], Tensor], x: Inputs | None = None) -> Tensor:
        """Return the outputs if `leaf` is applied to the sequence, or to the embedding of
        its ids.
        """
        self.training.model.eval()
        x = self.x if x is None else x
        with ExitStack() as hooks, torch.backends.cudnn.flags(enabled=False):
            if self.is_number(self.first):
                return self.training.output(with_sequence(x, leaf(sequence_of(x))))
            for part in self.training.model.modules():
                if isinstance(part, nn.Embedding):

                    def replace(part: nn.Module, ids: tuple, made: Tensor) -> Tensor:
                        whole = ids[0].shape == self.first.shape
                        return leaf(made) if whole else made

                    hooks.enter_context(part.register_forward_hook(replace))
            return self.training.output(x)


def scale(values: Tensor, *, whole: bool = False) -> float:
    """Return the standard deviation of numbers; if it is 0, their mean absolute value, or else 1.
    whole: add the mean absolute value to the deviation.
    """
    spread = float(values.double().std(correction=0))
    size = float(values.double().abs().mean())
    return (spread + size if whole else spread) or size or 1.0


@contextmanager
def fixed_statistics(model: nn.Module) -> Iterator[None]:
    """Context manager: batch norm layers without running statistics use mean 0 and variance 1."""
    parts = [p for p in model.modules() if isinstance(p, _BatchNorm) and p.running_mean is None]
    for part in parts:
        part.running_mean = next(model.parameters()).new_zeros(part.num_features)
        part.running_var = torch.ones_like(part.running_mean)
    try:
        yield
    finally:
        for part in parts:
            part.running_mean = part.running_var = None


def _later_ids(ids: Tensor, known: Tensor, steps: int) -> Tensor:
    """Return other ids, some steps of `next_ids` later."""
    for _ in range(steps):
        ids = next_ids(ids, known)
    return ids


def next_ids(ids: Tensor, known: Tensor | None = None) -> Tensor:
    """Return other ids: each becomes the next larger id that occurs, and the largest becomes the
    least.

    known: all ids that occur; None: `ids`.

    >>> next_ids(torch.tensor([3, 7, 9, 3]))
    tensor([7, 9, 3, 7])
    """
    known = (ids if known is None else known).unique()
    places = torch.searchsorted(known, ids.contiguous())
    return known[(places + 1) % len(known)]
