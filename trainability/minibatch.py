"""One minibatch of a training run before its first step: its outputs, their axes, and its loss.

    batch = Minibatch(training)
    batch.noise                  # largest difference of two calls with the same input
    batch.is_unpaired            # does the loss compare outputs with targets of other examples?

Legend: B examples, T frames.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from gersgorin.losses import Loss
from rhn.errors import USERS_FAULT, RhnError
from trainability.activation import Activation, last_activation, states_of
from trainability.autograd import dense, slope_at
from trainability.axes import OutputAxes, time_steps
from trainability.copies import attributes, state_of
from trainability.data import Inputs, count_of, examples_axis, noise_like
from trainability.losses import canonical_loss
from trainability.minima import constant_output, searched_range
from trainability.output_range import OutputRange, range_of
from trainability.scores import MINIBATCHES
from trainability.training import Training

APART = 0.02  # of what is added to weights that torch leaves alike
# largest relative difference of sums of the same numbers in another order
SAME_SUM, SAME_SUM_IN_DOUBLE = 1e-3, 1e-5
PAIRED_SHARE = 0.5  # of the change of a gradient, at the output of the target that changes


def differ(states: list[Any], others: list[Any]) -> bool:
    """Return True unless two lists hold the same objects or equal whole numbers."""
    pairs = zip(states, others, strict=False)
    same = all(a is b or (isinstance(a, int) and isinstance(b, int) and a == b) for a, b in pairs)
    return len(states) != len(others) or not same


class Minibatch:
    """A training run with one of its minibatches; the training run is not changed."""

    def __init__(self, training: Training):
        self.training = training.copy()
        self.x, self.y = training.data.sample(training_batch(training))
        self.leaves: list[Tensor] = tree_leaves(self.x)
        self.axis, self.layout = training.axis, training.layout
        self.first = self.leaves[0]
        self.count = self.first.shape[self.axis] if self.first.dim() > self.axis else 1

    # ---- outputs and gradients ---------------------------------------------------------------

    @property
    def output(self) -> Tensor:
        """The outputs of the untrained model in training mode, with their autograd graph."""
        return self._forward[0]

    @property
    def last_activation(self) -> Activation | None:
        """The last operation on the outputs, if it bounds them; else None."""
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
        """The loss of `output`, with its autograd graph."""
        loss = self.training.loss(self.output, self.y)
        self.training.check_loss(loss, self._forward[2])
        return loss

    @cached_property
    def gradients(self) -> dict[str, Tensor | None]:
        """The gradient of the loss by parameter name; None for a parameter that the loss does not
        depend on.
        """
        trained = {n: p for n, p in self.training.model.named_parameters() if p.requires_grad}
        found = torch.autograd.grad(
            self.loss, list(trained.values()), allow_unused=True, retain_graph=True
        )
        return {n: g if g is None else dense(g) for n, g in zip(trained, found, strict=True)}

    @torch.no_grad()
    def evaluated(self, x: Inputs) -> Tensor:
        """Return the outputs of the model in evaluation mode, without a graph."""
        self.training.model.eval()
        return self.training.output(x)

    @cached_property
    def before(self) -> Tensor:
        """The outputs of the untrained model for the minibatch in evaluation mode."""
        return self.evaluated(self.x)

    @cached_property
    def noise(self) -> float:
        """Largest difference of the outputs between two calls in evaluation mode with the same
        input.

        The model is called twice with this input, and once more after a call with the examples in
        reverse order.
        """
        again = _difference(self.evaluated(self.x), self.before)
        with suppress(RhnError):  # of a model that expects them in an order, such as by length
            self.evaluated(tree_map(lambda v: v.flip(self.axis_of(v)), self.x))
        return max(again, _difference(self.evaluated(self.x), self.before))

    @cached_property
    def generic(self) -> Training:
        """The training run with torch's weights and a little noise, so that no two weights are
        equal.
        """
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
        """T, the number of frames; None if the sequence has no frames."""
        return time_steps(self.first, self.layout)

    @cached_property
    def axes(self) -> OutputAxes:
        """Which axes of outputs and targets hold the examples, frames, classes and units."""
        return self.training.output_axes(self.before, self.x, self.y)

    @cached_property
    def output_range(self) -> OutputRange:
        """The outputs that the network can give, whatever its weights."""
        return range_of(self.training, self.x, self.before, self.axes.units)

    @cached_property
    def searched_range(self) -> OutputRange:
        """The range in which the best constant output is searched."""
        z = self.output.detach()
        return searched_range(self.training.loss, z, self.y, self.output_range)

    def axis_of(self, value: Tensor) -> int:
        """Return the axis of the examples in one of the inputs."""
        return examples_axis(value, self.first, self.axis) or 0

    # ---- the loss ----------------------------------------------------------------------------

    @cached_property
    def targets(self) -> list[Tensor]:
        """The targets of some minibatches of an epoch with the shape of y; no example
        occurs twice.
        """
        data = self.training.data
        count = sum(count_of(pair, self.axis) for pair in data.trained)
        number = min(MINIBATCHES, max(1, count // self.count))
        some = [y for _, y in islice(data.stream(0), number)]
        return [y for y in some if y.shape == self.y.shape] or [self.y]

    @cached_property
    def constant_loss(self) -> float:
        """The mean loss of the best constant output, over some minibatches."""
        training, like = self.training, self.output.detach()
        within = self.searched_range
        best = constant_output(training.loss, like, self.y, self.targets, self.axes, within)
        with torch.no_grad():
            losses = [training.loss(best.expand(like.shape).clone(), y) for y in self.targets]
        return float(torch.stack(losses).mean())

    @cached_property
    def pairing(self) -> str:
        """What to pass to the loss in place of y, so that it compares each output with its own
        target: a key of `PAIRINGS`; "" if nothing helps or nothing is wrong.
        """
        z, y, loss = self.output.detach(), self.y, self.training.loss
        if y.shape == z.shape or not (self.is_unpaired or without_ones(z) == without_ones(y)):
            return ""
        for name, change in PAIRINGS.items():
            with suppress(*USERS_FAULT):
                paired = with_pairing(loss, name)
                moved = None if change(z, y).shape == y.shape else self._moved_by_a_target(paired)
                if moved is None or not moved[0] > PAIRED_SHARE * moved.sum():
                    continue
                if not torch.allclose(slope_at(paired, z, y), slope_at(loss, z, y)):
                    return name
        return ""

    @cached_property
    def repaired_loss(self) -> tuple[str, Loss] | None:
        """The loss with each target beside its own output, with its name. None if it pairs them
        already, or no repair is known.
        """
        if not self.is_unpaired:
            return None
        usual = canonical_loss(self.output, self.y, self.axes, self.training.data.targets)
        if usual is not None:
            return "the usual loss", usual
        name = self.pairing
        return (f"your loss with {name}", with_pairing(self.training.loss, name)) if name else None

    @cached_property
    def moved_by_a_target(self) -> Tensor | None:
        """How much the gradient of the loss changes in the outputs of each example, (B,), if one
        target changes.

        The target of the first example is replaced by that of another example. If targets are
        numbers, it changes from the least target to the greatest. None if examples have no targets
        of their own, or if it cannot be measured.
        """
        return self._moved_by_a_target(self.training.loss)

    def _moved_by_a_target(self, loss: Loss) -> Tensor | None:
        """`moved_by_a_target` for a loss."""
        y, axis = self.y, self.axes.targets
        if self.axes.batch is None or self.count < 3 or y.dim() == 0:
            return None
        if y.shape[axis] != self.count:
            return None
        rows = rows_of(y, axis)
        other = int((rows != rows[0]).any(1).long().argmax())
        if torch.equal(rows[other], rows[0]):
            return None
        one, changed, z = y.clone(), y.clone(), self.output.detach()
        changed.select(axis, 0).copy_(y.select(axis, other))
        if z.numel() == y.numel() and y.isfinite().all() and not ((y == 0) | (y == 1)).all():
            # slopes of absolute errors are signs, which change only from one side to the other
            one.select(axis, 0).fill_(y.min())
            changed.select(axis, 0).fill_(y.max())
            z = z - z.mean() + y.double().mean().to(z)  # between the two
        z = self.output_range.beside(z, 0.1 * noise_like(z))
        try:
            slopes = [slope_at(loss, z, targets) for targets in (one, one, changed)]
        except RhnError:  # of a loss that takes targets of some range only
            return None
        # a loss that is random, counts its calls, or is not finite
        if not (torch.equal(slopes[0], slopes[1]) and slopes[2].isfinite().all()):
            return None
        return rows_of((slopes[1] - slopes[2]).abs(), self.axes.batch).sum(1)

    @property
    def is_unpaired(self) -> bool:
        """True if the loss does not compare each output with the target of the same example."""
        moved = self.moved_by_a_target
        if moved is None or not moved.sum() or moved[0] > PAIRED_SHARE * moved.sum():
            return False
        return not self.is_relational

    @cached_property
    def is_relational(self) -> bool:
        """True if the loss compares examples with each other, and each output still belongs to its
        own target, as in a correlation or a triplet loss: another order of the examples changes
        nothing, and another order of the targets alone changes the loss.
        """
        if self.axes.batch is None:
            return False
        loss: Loss = self.training.loss
        y, axis = self.y, self.axes.targets
        z = self.output.detach()
        z, share = self.output_range.beside(z, 0.1 * noise_like(z)), SAME_SUM
        with suppress(*USERS_FAULT):
            loss_in_double = self.training.loss_in_double()
            loss_in_double(z.double(), y)
            loss, z, share = loss_in_double, z.double(), SAME_SUM_IN_DOUBLE
        orders = [torch.arange(self.count).roll(k).to(z.device) for k in (1, self.count // 2)]
        other = [y.index_select(axis, order) for order in orders]
        both = [(z.index_select(self.axes.batch, o), t) for o, t in zip(orders, other, strict=True)]
        before = float(loss(z, y))
        alone = max(abs(float(loss(z, targets)) - before) for targets in other)
        together = max(abs(float(loss(*pair)) - before) for pair in both)
        return alone > share * abs(before) and together <= share * alone


PAIRINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "y.reshape(output.shape)": lambda output, y: y.reshape(output.shape),
    "y.unsqueeze(-1)": lambda output, y: y.unsqueeze(-1),
    "y.squeeze(-1)": lambda output, y: y.squeeze(-1),
}
"""Targets in another shape, by the code that makes them."""


def with_pairing(loss_fn: Loss, name: str) -> Loss:
    """Return a loss that takes its targets in another shape, see `PAIRINGS`."""
    return lambda output, y: loss_fn(output, PAIRINGS[name](output, y))


def without_ones(values: Tensor) -> list[int]:
    """Return a shape without the axes of length 1."""
    return [size for size in values.shape if size != 1]


def rows_of(values: Tensor, axis: int) -> Tensor:
    """Return numbers with one row for each example, (B, ...)."""
    return values.movedim(axis, 0).reshape(values.shape[axis], -1)


def _difference(one: Tensor, other: Tensor) -> float:
    """Largest difference of outputs; NaN at the same places counts as equal."""
    apart = (one - other).abs().masked_fill((one == other) | (one.isnan() & other.isnan()), 0.0)
    return apart.nan_to_num(nan=math.inf).max().item()


def training_batch(training: Training) -> int:
    """Return the number of examples in a minibatch of the training run."""
    return getattr(training.data, "batch_size", 32)


def rounding_of(outputs: Tensor) -> Tensor:
    """Return the rounding error of the largest output."""
    return torch.finfo(outputs.dtype).eps * outputs.abs().max().clamp_min(1e-30)
