"""One minibatch of a training before its first step, and what its outputs depend on.

    probe = Probe(training)
    probe.noise                  # largest difference of two calls with the same input
    probe.mixed                  # number of other examples that change with one
    probe.unread(0, axis=2)      # features of the sequence that no output depends on

Dependence is shown by finite changes of numbers that change the outputs. No dependence is shown by
autograd, which has no gradient, and by changes of three sizes that change no bit of the outputs, at
the given weights and at torch's own. The same input twice comes first: of a network whose outputs
differ then nothing is measured.

Legend: B examples, T frames, m numbers of a frame.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves, tree_map

from gersgorin._validate import random_numbers_kept
from rhn.errors import RhnError
from trainability.activation import Activation, last_activation, states_of
from trainability.data import Inputs, examples_axis
from trainability.losses import graph, slope_at
from trainability.training import Training, attributes, same, state_of

MOVED = 1e-3  # standard deviation of what is added to weights
APART = 0.02  # of what is added to weights that torch leaves alike
SCALES = 0.01, 1.0, 100.0  # of changes of numbers, times their own
EXAMPLES = 8  # that are changed, one at a time
CLEAR = 100.0  # times the rounding of the outputs: a change that is none
NUDGE = 0.01  # of a small change, times the scale of the numbers
BENT = 0.2  # of a change: what twice the change lacks to twice its effect
UNDERFLOW = 1e-30  # a gradient that is smaller may vanish, and prove nothing
WRONG = 0.01  # relative difference of a gradient, far beyond rounding
TESTS = 24  # of groups of frames or features


def differ(states: list[Any], others: list[Any]) -> bool:
    """True unless these are the same objects, or equal whole numbers."""
    pairs = zip(states, others, strict=False)
    same = all(a is b or (isinstance(a, int) and isinstance(b, int) and a == b) for a, b in pairs)
    return len(states) != len(others) or not same


class Probe:
    """A training with one of its minibatches; nothing here changes it."""

    def __init__(self, training: Training):
        self.training = training.copy()
        self.x, self.y = training.data.sample(training_batch(training))
        self.leaves: list[Tensor] = tree_leaves(self.x)
        self.axis = training.axis
        self.first = self.leaves[0]
        self.count = self.first.shape[self.axis] if self.first.dim() > self.axis else 1

    # ---- outputs and gradients ---------------------------------------------------------------

    @property
    def output(self) -> Tensor:
        """Of the untrained model in training mode, with its graph."""
        return self._forward[0]

    @property
    def last_activation(self) -> Activation | None:
        """The last operation on the outputs, if it bounds them."""
        return self._forward[1]

    @cached_property
    def _forward(self) -> tuple[Tensor, Activation | None, list[str]]:
        model = self.training.model.train()
        before = {name: state_of(value) for name, value in attributes(model).items()}
        with states_of(model) as states:
            output = self.training.output(self.x)
        after = {name: state_of(value) for name, value in attributes(model).items()}
        stored = [name for name, state in after.items() if differ(state, before.get(name, []))]
        return output, last_activation(output, states), stored

    @cached_property
    def loss(self) -> Tensor:
        """Of `output`, with its graph."""
        loss = self.training.loss(self.output, self.y)
        self.training.check_loss(loss, self._forward[2])
        return loss

    @cached_property
    def gradients(self) -> dict[str, Tensor | None]:
        """Of the loss by parameter; None for one that the loss does not reach."""
        trained = {n: p for n, p in self.training.model.named_parameters() if p.requires_grad}
        found = torch.autograd.grad(
            self.loss, list(trained.values()), allow_unused=True, retain_graph=True
        )
        return dict(zip(trained, found, strict=True))

    @torch.no_grad()
    def evaluated(self, x: Inputs) -> Tensor:
        """The outputs of the model in evaluation mode."""
        self.training.model.eval()
        return self.training.output(x)

    @cached_property
    def in_double(self) -> Training | None:
        """The training in evaluation mode and double precision, away from the kinks of ReLU.

        None if the model or the loss takes no such numbers, or is not repeatable.
        """
        other = self.training.copy()
        other.model.eval().double()
        generator = torch.Generator().manual_seed(0)
        try:
            other = other.with_loss(self.training.loss_in_double())
            with torch.no_grad():
                for p in other.model.parameters():
                    noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
                    p.add_(MOVED * noise.to(p.device))
                x, y = tree_map(
                    lambda v: v.double() if v.is_floating_point() else v, (self.x, self.y)
                )
                once, twice = (other.loss(other.output(x), y) for _ in range(2))
        except RhnError:
            return None
        return other if torch.equal(once, twice) else None

    @cached_property
    def before(self) -> Tensor:
        """The outputs in evaluation mode."""
        return self.evaluated(self.x)

    @cached_property
    def noise(self) -> float:
        """Largest difference of the outputs between two calls in evaluation mode.

        The same input twice, and once more after the examples in another order.
        """
        again = _difference(self.evaluated(self.x), self.before)
        with suppress(RhnError):  # of a model that expects them in an order, such as by length
            self.evaluated(tree_map(lambda v: v.flip(self._axis_of(v)), self.x))
        return max(again, _difference(self.evaluated(self.x), self.before))

    @property
    def is_rounding(self) -> bool:
        """True if such calls differ by the rounding of the outputs at most."""
        largest = float(self.before.nan_to_num().abs().max())
        return self.noise <= CLEAR * torch.finfo(self.before.dtype).eps * largest

    @cached_property
    def draws(self) -> bool:
        """True if two calls in evaluation mode agree with the same random numbers only."""
        outputs = []
        for _ in range(2):
            with random_numbers_kept(self.training.model):
                outputs.append(self.evaluated(self.x))
        return self.noise > 0 and _difference(*outputs) == 0

    @property
    def kept(self) -> list[str]:
        """Attributes that forward changes."""
        return self._forward[2]

    @cached_property
    def generic(self) -> Training:
        """The training at torch's own weights, those that torch leaves alike moved apart."""
        other = self.training.with_default_weights()
        other.model.eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in other.model.parameters():
                noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
                p.add_(APART * noise.to(p))
        return other

    # ---- axes --------------------------------------------------------------------------------

    @property
    def frames(self) -> int | None:
        """T; None if the sequence has no frames."""
        has = self.first.dim() == 2 + self.first.is_floating_point()
        return self.first.shape[1 - self.axis] if has else None

    @property
    def output_axis(self) -> int | None:
        """Axis of the examples in the output; None: it has none."""
        shape = self.before.shape
        order = (self.axis, 0) if self.of_frames else (0, self.axis, 1)
        return next((a for a in order if a < len(shape) and shape[a] == self.count), None)

    @property
    def target_axis(self) -> int:
        """Axis of the examples in the targets."""
        return self.axis if self.y.shape[:2] == self.first.shape[:2] else 0

    @property
    def of_frames(self) -> bool:
        """True if there is an output for each frame."""
        shape = self.before.shape
        return (
            self.frames is not None
            and len(shape) >= 2
            and shape[:2] == self.first.shape[:2]
            and (self.y.dim() >= 2 and self.y.shape[:2] == shape[:2])
        )

    # ---- dependence --------------------------------------------------------------------------

    def follows(self, leaf: int) -> bool:
        """True if outputs can be followed back to an input: they repeat, and it has other values.

        Those of ids are other ids.
        """
        x = self.leaves[leaf]
        numbers = x.is_floating_point() and not self._is_cast(x)
        return not self.noise and (numbers or bool((x != x.flatten()[0]).any()))

    def _is_cast(self, x: Tensor) -> bool:
        """True for whole numbers that the network may turn into ids."""
        has_ids = any(isinstance(part, nn.Embedding) for part in self.training.model.modules())
        return has_ids and torch.equal(x, x.round())

    def changed(self, leaf: int, marks: Tensor, size: int) -> Inputs:
        """Inputs with other numbers where marks are True.

        Numbers are moved by 0.01, 1 or 100 of their scale (size 0, 1 or 2), ids become others.
        """
        x = self.leaves[leaf]
        if x.is_floating_point() and not self._is_cast(x):
            noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(size)).to(x)
            other = x + SCALES[size] * _scale(x, whole=size == 2) * noise
        else:
            other = x
            for _ in range(size + 1):
                other = next_ids(other, x)
        other = torch.where(marks, other, x)
        places = iter(range(len(self.leaves)))
        return tree_map(lambda v: other if next(places) == leaf else v, self.x)

    @torch.no_grad()
    def changes(self, leaf: int, marks: Tensor) -> Iterator[Tensor]:
        """Yield changes of the outputs, in units of rounding, with other numbers in an input.

        At the given weights and at torch's, for three sizes of the change. 0: not a bit differs.
        """
        for training in (self.training, self.generic):
            training.model.eval()
            before = training.output(self.x)
            unit = torch.finfo(before.dtype).eps * before.abs().max().clamp_min(1e-30)
            for size in range(len(SCALES)):
                after = training.output(self.changed(leaf, marks, size))
                apart = ((after - before).abs() / unit).nan_to_num(nan=math.inf)
                yield apart.masked_fill(after == before, 0.0)

    def depends(self, leaf: int, marks: Tensor) -> bool:
        """True if an output changes with some numbers of an input."""
        return any(bool(change.any()) for change in self.changes(leaf, marks))

    def slopes(self, leaf: int, weights: Callable[[Tensor], Tensor] = same) -> Tensor | None:
        """The gradient of random sums of the outputs in an input at torch's weights.

        None if it is no number. weights: changes the weights of the outputs in the sum.
        """
        x = self.leaves[leaf]
        if not x.is_floating_point() or self._is_cast(x):
            return None
        places, given = iter(range(len(self.leaves))), x.detach().clone().requires_grad_()
        inputs = tree_map(lambda v: given if next(places) == leaf else v, self.x)
        with torch.backends.cudnn.flags(enabled=False):
            output = self.generic.output(inputs)
        if not output.requires_grad:
            return torch.zeros_like(x)
        drawn = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
        total = (output * weights(drawn)).sum()
        return torch.autograd.grad(total, given, materialize_grads=True)[0]

    def unread(self, leaf: int, axis: int) -> list[int]:
        """Indices of the entries of an axis of an input on which no output depends.

        They have no gradient, and changes of three sizes change no bit of any output. Indices at
        which all examples are equal, as of padding, are left out.
        """
        x, slopes = self.leaves[leaf], self.slopes(leaf)
        rows = x.movedim(self._axis_of(x), 0)
        varies = (rows != rows[:1]).any(0).movedim(axis - (axis > self._axis_of(x)), 0)
        free = varies.reshape(len(varies), -1).any(1)
        if slopes is not None:
            size = rows_of(slopes.abs(), axis).amax(1)
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
            if not self.depends(leaf, marks):
                found += part
            elif len(part) > 1:
                waiting += [part[: len(part) // 2], part[len(part) // 2 :]]
        return sorted(found)

    @cached_property
    def mixed(self) -> int:
        """Number of other examples whose outputs change with one of them."""
        if self.output_axis is None or self.count < 2 or not self.follows(0):
            return 0
        number = min(EXAMPLES, self.count // 2)
        some = torch.linspace(0, self.count - 1, number).long().unique().tolist()
        with fixed_statistics(self.training.model), fixed_statistics(self.generic.model):
            if not self._changed_beside(some):
                return 0
            return max(self._changed_beside([k]) for k in some)

    def _changed_beside(self, some: list[int]) -> int:
        """Number of others that change with some examples, if one does by more than rounding."""
        index = torch.tensor(some, device=self.first.device)
        marks = torch.zeros(self.first.shape, dtype=torch.bool, device=self.first.device)
        for change in self.changes(0, marks.index_fill_(self.axis, index, True)):
            rows = rows_of(change, self.output_axis or 0).amax(1).index_fill(0, index, 0.0)
            if (rows > CLEAR).any():
                return int((rows > 0).sum())
        return 0

    def _axis_of(self, value: Tensor) -> int:
        """The axis of the examples in one of the inputs."""
        return examples_axis(value, self.first, self.axis) or 0

    # ---- frames ------------------------------------------------------------------------------

    def _marks(self, frames: Tensor) -> Tensor:
        """True at some frames (T,) of the sequence."""
        shape = [1] * self.first.dim()
        shape[1 - self.axis] = -1
        return frames.to(self.first.device).reshape(shape).expand(self.first.shape)

    @cached_property
    def looks_ahead(self) -> bool:
        """True if the output of a frame changes with later frames."""
        T = self.frames
        if T is None or T < 2 or not self.of_frames or self.mixed or not self.follows(0):
            return False
        for first in sorted({1, T // 4, T // 2, 3 * T // 4, T - 1} - {0}):
            marks = self._marks(torch.arange(T) >= first)
            for change in self.changes(0, marks):
                if (change.narrow(1 - self.axis, 0, first) > CLEAR).any():
                    return True
        return False

    @cached_property
    def reads_own_frame(self) -> bool:
        """True if the output of the first frame changes with that frame."""
        if self.frames is None or not self.of_frames or not self.follows(0):
            return False
        marks = self._marks(torch.arange(self.frames) == 0)
        return any(
            bool((change.select(1 - self.axis, 0) > CLEAR).any())
            for change in self.changes(0, marks)
        )

    @cached_property
    def only_own_frame(self) -> bool:
        """True if the output of a frame depends on no other frame.

        Each two frames lie in different halves for one bit of their numbers: the outputs of one
        half do not change with the other, and have no gradient in it.
        """
        T = self.frames
        if T is None or T < 2 or not self.of_frames or not self.reads_own_frame:
            return False
        numbers, axis = torch.arange(T), 1 - self.axis
        for bit in range((T - 1).bit_length()):
            for value in (0, 1):
                moved = (numbers >> bit & 1) == value
                still = (~moved).nonzero().flatten().to(self.first.device)
                if self._reaches(moved, still, axis):
                    return False
        return True

    def _reaches(self, moved: Tensor, still: Tensor, axis: int) -> bool:
        """True if outputs of some frames depend on others, which are moved."""

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
        """(T,) True for each frame that the gradient of the last output reaches; None: not known.

        For any example, with random weights of the outputs.
        """
        if self.frames is None or self.output_axis is None or self.mixed or not self.follows(0):
            return None
        leaves: list[Tensor] = []

        def leaf(values: Tensor) -> Tensor:
            leaves.append(values.detach().requires_grad_())
            return leaves[-1].clone()

        output = self._last(self.with_leaves(leaf))
        if not leaves or not output.requires_grad:
            return None
        weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
        slopes = torch.autograd.grad((output * weights).sum(), leaves, materialize_grads=True)
        each = [rows_of(s, 1 - self.axis).any(1) for s in slopes]
        return torch.stack(each).any(0)

    def _last(self, output: Tensor) -> Tensor:
        """The output of the last frame; all of one that has no frames."""
        return output.select(1 - self.axis, -1) if self.of_frames else output

    @torch.no_grad()
    def moving_frames(self, example: int) -> Tensor:
        """(T,) True for each frame of an example whose small change moves the last output.

        By twice as much if the change is twice as large: no kink or threshold lies between.
        """
        T, index = self.frames or 0, torch.full((self.count,), example, device=self.first.device)
        x = tree_map(lambda v: v.index_select(self._axis_of(v), index.to(v.device)), self.x)
        before = self._rows(self.with_leaves(same, x))
        unit = torch.finfo(before.dtype).eps * before.abs().max().clamp_min(1e-30)
        found = []
        for start in range(0, T, self.count):
            number = min(self.count, T - start)
            once, twice = (
                self._rows(self.with_leaves(partial(self._moved, start=start, size=size), x))
                for size in (NUDGE, 2 * NUDGE)
            )
            one, two = (once - before).abs().amax(1), (twice - before).abs().amax(1)
            bent = (twice - 2 * once + before).abs().amax(1)
            found.append(((one > CLEAR * unit) & (bent < BENT * two))[:number])
        return torch.cat(found)

    def _moved(self, values: Tensor, start: int, size: float) -> Tensor:
        """Frame start + k of copy k moved."""
        noise = torch.randn(values.shape, generator=torch.Generator().manual_seed(0)).to(values)
        marks = torch.zeros(values.shape[:2], dtype=torch.bool, device=values.device)
        by_example = marks.movedim(self.axis, 0)
        for k in range(min(self.count, by_example.shape[1] - start)):
            by_example[k, start + k] = True
        marks = marks.reshape(*marks.shape, *[1] * (values.dim() - 2))
        return values + size * _scale(values) * noise * marks

    def _rows(self, output: Tensor) -> Tensor:
        """The last output of each example, (B, ...)."""
        axis = 0 if self.of_frames else self.output_axis or 0
        return rows_of(self._last(output), axis)

    def with_leaves(self, leaf: Callable[[Tensor], Tensor], x: Inputs | None = None) -> Tensor:
        """Outputs whose sequence, or what embeddings make of it, is what `leaf` makes of it."""
        self.training.model.eval()
        x = self.x if x is None else x
        with ExitStack() as hooks, torch.backends.cudnn.flags(enabled=False):
            if self.first.is_floating_point() and not self._is_cast(self.first):
                places = iter(range(len(self.leaves)))
                x = tree_map(lambda v: leaf(v) if next(places) == 0 else v, x)
                return self.training.output(x)
            for part in self.training.model.modules():
                if isinstance(part, nn.Embedding):

                    def replace(part: nn.Module, ids: tuple, made: Tensor) -> Tensor:
                        whole = ids[0].shape == self.first.shape
                        return leaf(made) if whole else made

                    hooks.enter_context(part.register_forward_hook(replace))
            return self.training.output(x)

    # ---- the loss ----------------------------------------------------------------------------

    @cached_property
    def moved_by_a_target(self) -> Tensor | None:
        """(B,) changes of the loss's gradient in the outputs of each example, if the target of the
        first one becomes that of another; None if examples have no targets of their own.
        """
        y, axis = self.y, self.target_axis
        if self.output_axis is None or self.count < 3 or y.dim() == 0:
            return None
        if y.shape[axis] != self.count:
            return None
        rows = rows_of(y, axis)
        other = int((rows != rows[0]).any(1).long().argmax())
        if torch.equal(rows[other], rows[0]):
            return None
        changed = y.clone()
        changed.select(axis, 0).copy_(y.select(axis, other))
        z = self.output.detach()
        z = z + 0.1 * torch.randn(z.shape, generator=torch.Generator().manual_seed(0)).to(z)
        slopes = [slope_at(self.training.loss, z, targets) for targets in (y, y, changed)]
        if not torch.equal(slopes[0], slopes[1]):  # it is random, or counts its calls
            return None
        return rows_of((slopes[1] - slopes[2]).abs(), self.output_axis).sum(1)

    @property
    def is_unpaired(self) -> bool:
        """True if the loss does not compare each output with the target of the same example."""
        moved = self.moved_by_a_target
        if moved is None or not moved.sum() or moved[0] > 0.5 * moved.sum():
            return False
        # as of a correlation, if its own target counts most
        return not bool(moved[0] > (1 + WRONG) * moved[1:].max())

    # ---- weights -----------------------------------------------------------------------------

    def uses(self, name: str) -> bool:
        """True if an output depends on a parameter: by autograd, or when it changes."""
        if self.noise:
            return True
        for training in (self.training, self.generic):
            parameter = training.model.get_parameter(name)
            kept, wanted = parameter.detach().clone(), parameter.requires_grad
            try:
                parameter.requires_grad_(True)
                output = training.output(self.x)
                if any(getattr(node, "variable", None) is parameter for node in graph(output)):
                    return True
                if self._moves(training, parameter, output):
                    return True
            finally:
                with torch.no_grad():
                    parameter.copy_(kept)
                parameter.requires_grad_(wanted)
        return False

    @torch.no_grad()
    def _moves(self, training: Training, parameter: Tensor, before: Tensor) -> bool:
        """True if outputs change with a parameter."""
        kept = parameter.detach().clone()
        for k, size in enumerate(SCALES):
            noise = torch.randn(kept.shape, generator=torch.Generator().manual_seed(k)).to(kept)
            parameter.copy_(kept + size * _scale(kept, whole=True) * noise)
            if not torch.equal(training.output(self.x), before):
                return True
        return False


def rows_of(values: Tensor, axis: int) -> Tensor:
    """Numbers (B, ...) of each example in one row."""
    return values.movedim(axis, 0).reshape(values.shape[axis], -1)


def _difference(one: Tensor, other: Tensor) -> float:
    """Largest difference of outputs; NaN in the same places is none."""
    apart = (one - other).abs().masked_fill((one == other) | (one.isnan() & other.isnan()), 0.0)
    return apart.nan_to_num(nan=math.inf).max().item()


def _scale(values: Tensor, *, whole: bool = False) -> float:
    """The standard deviation of numbers, at least tiny; whole: with their mean size."""
    spread = float(values.double().std(correction=0))
    size = float(values.double().abs().mean())
    return (spread + size if whole else spread) or size or 1.0


@contextmanager
def fixed_statistics(model: nn.Module) -> Iterator[None]:
    """Context manager: batch norm that keeps no statistics takes 0 and 1 for them."""
    parts = [p for p in model.modules() if isinstance(p, _BatchNorm) and p.running_mean is None]
    for part in parts:
        part.running_mean = next(model.parameters()).new_zeros(part.num_features)
        part.running_var = torch.ones_like(part.running_mean)
    try:
        yield
    finally:
        for part in parts:
            part.running_mean = part.running_var = None


def next_ids(ids: Tensor, known: Tensor | None = None) -> Tensor:
    """Other ids, each the next larger one that occurs; the least one after the largest.

    known: the ids that occur; None: those that are given.

    >>> next_ids(torch.tensor([3, 7, 9, 3]))
    tensor([7, 9, 3, 7])
    """
    known = (ids if known is None else known).unique()
    places = torch.searchsorted(known, ids.contiguous())
    return known[(places + 1) % len(known)]


def training_batch(training: Training) -> int:
    """The number of examples of a minibatch."""
    return getattr(training.data, "batch_size", 32)
