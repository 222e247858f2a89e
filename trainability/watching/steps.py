"""Facts of the optimisers of a loop: their steps, gradients, rates and states."""

import math
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import Tensor
from torch.optim import Optimizer

from trainability.training import first_rate
from trainability.watching.contents import Contents, versions_of
from trainability.watching.tensors import norm_of
from trainability.watching.used_gradients import UsedGradients
from trainability.watching.weights import WatchedWeight, WatchedWeights

EVERY, FIRST_STEPS = 10, 100


def is_read(step: int) -> bool:
    """Return True for steps at which all is read: the first hundred, then each tenth."""
    return step < FIRST_STEPS or step % EVERY == 0


def is_power_of_two(number: int) -> bool:
    """Return True for 1, 2, 4, 8, ...: how often is read what rarely changes."""
    return number & (number - 1) == 0


@dataclass(eq=False)
class Tensors:
    """The tensors of an optimiser, and of each later one of the same class and tensors."""

    name: str
    """The class of the optimiser."""
    weights: list[WatchedWeight]
    with_gradient: set[WatchedWeight] = field(default_factory=set)
    """Those that had a gradient at a step."""
    after_backward: list[float] = field(default_factory=list)
    """Norm of the gradient after the last backward pass before each step; NaN where not read."""
    at_step: list[float] = field(default_factory=list)
    """Norm of the gradient that each step used."""
    rates: list[float] = field(default_factory=list)
    """Learning rate of the first parameter group at each step."""
    latest: float = math.nan
    """Norm of the gradient after the latest backward pass."""
    contents: Contents | None = None
    """Numbers after the last step; None if another optimiser has changed them."""

    @property
    def steps(self) -> int:
        return len(self.rates)

    def tensors(self) -> list[Tensor]:
        """Return the tensors that are alive."""
        return [t for weight in self.weights if (t := weight.tensor()) is not None]

    def note_gradients(self) -> None:
        """Note which tensors have a gradient at this step."""
        for weight in [w for w in self.weights if w not in self.with_gradient]:
            tensor = weight.tensor()
            if tensor is not None and tensor.grad is not None:
                self.with_gradient.add(weight)

    def lonely(self) -> list[WatchedWeight]:
        """Return the weights without a gradient that belong to no called module."""
        return [w for w in self.weights if w not in self.with_gradient and not w.is_called]

    def gradients(self) -> list[Tensor]:
        """Return the gradients as they are now."""
        return [t.grad for t in self.tensors() if t.grad is not None]


@dataclass(eq=False)
class WatchedOptimizer:
    """One optimiser that has stepped."""

    optimizer: "weakref.ref[Optimizer]"
    tensors: Tensors
    used: UsedGradients
    had_state: bool
    """At the end of the last step."""
    began_with_state: bool
    first_step: int
    last_step: int = 0
    lost_state: bool = False


class OptimizerSteps:
    """What is known of the steps of a loop."""

    def __init__(self, weights: WatchedWeights) -> None:
        self.weights = weights
        self.count = 0
        self.not_finite = 0
        self.first_not_finite = 0
        self.reused_tensors = set[WatchedWeight]()
        self.reused_steps = 0
        self.changed_tensors = set[WatchedWeight]()
        self.changed_steps = 0
        self.optimizers: list[WatchedOptimizer] = []
        self.groups: list[Tensors] = []
        self.last_loss: float | None = None

    def backward_begins(self) -> None:
        for each in self._alive():
            each.used.backward_begins()

    def backward_ends(self, loss: float | None, scale: float) -> None:
        """Read gradients. scale: the factor of the loss that the pass began from."""
        self.last_loss = loss
        for each in self._alive():
            each.used.backward_ends()
        for group in self.groups:
            if is_read(group.steps):
                group.latest = norm_of(group.gradients()) / scale

    def step_begins(self, optimizer: Optimizer) -> None:
        watched = self._watched(optimizer)
        if watched.had_state and not optimizer.state:
            watched.lost_state = True
        group = watched.tensors
        if group.contents is not None and self._may_differ(group, group.contents):
            changed = group.contents.differing(Contents(group.weights))
            self.changed_tensors.update(changed)
            if changed:
                self.changed_steps += 1

    def step_ends(self, optimizer: Optimizer) -> None:
        if is_skipped_inside(optimizer):
            return
        self.count += 1
        watched = self._watched(optimizer)
        watched.last_step = self.count
        watched.had_state = bool(optimizer.state)
        group = watched.tensors
        reused = watched.used.step_ends()
        self.reused_tensors.update(reused)
        if reused:
            self.reused_steps += 1
        norm = norm_of(group.gradients())
        self._judge(norm)
        group.after_backward.append(group.latest)
        group.at_step.append(norm)
        group.rates.append(first_rate(optimizer))
        group.latest = math.nan
        group.note_gradients()
        if is_power_of_two(group.steps):  # later the modules may be gone
            self.foreign()
        self._keep_contents(group)

    def foreign(self) -> list[WatchedWeight]:
        """Return the tensors of optimisers that had a gradient at none of its steps, and belong to
        no module that was called, nor to one of which a part was called.
        """
        lonely = [weight for group in self.stepped() for weight in group.lonely()]
        self.weights.read_modules(lonely)
        return [weight for weight in lonely if not weight.beside_called]

    def stepped(self) -> list[Tensors]:
        """Return the groups with a whole step; a loop may end inside its first step."""
        return [group for group in self.groups if group.steps]

    def lost_states(self) -> int:
        """Return how many optimisers lost their state: it was emptied, or a later optimiser of the
        same tensors began without a state.
        """
        return sum(each.lost_state or self._is_replaced(each) for each in self.optimizers)

    def _is_replaced(self, one: WatchedOptimizer) -> bool:
        own = set(one.tensors.weights)
        return one.had_state and any(
            other.first_step > one.last_step
            and not other.began_with_state
            and not own.isdisjoint(other.tensors.weights)
            for other in self.optimizers
        )

    def _judge(self, norm: float) -> None:
        """Count a step with a gradient or a loss that is not finite."""
        finite_loss = self.last_loss is None or math.isfinite(self.last_loss)
        if not (finite_loss and math.isfinite(norm)):
            self.not_finite += 1
            self.first_not_finite = self.first_not_finite or self.count

    def _may_differ(self, group: Tensors, before: Contents) -> bool:
        """Return True if numbers are compared: at each n-th step, and after changes in place."""
        return is_read(group.steps) or before.versions != versions_of(group.weights)

    def _keep_contents(self, group: Tensors) -> None:
        group.contents = Contents(group.weights)
        own = set(group.weights)
        for other in self.groups:
            if other is not group and not own.isdisjoint(other.weights):
                other.contents = None

    def _alive(self) -> Iterator[WatchedOptimizer]:
        return (each for each in self.optimizers if each.optimizer() is not None)

    def _watched(self, optimizer: Optimizer) -> WatchedOptimizer:
        for each in self.optimizers:
            if each.optimizer() is optimizer:
                self._follow(each, optimizer)
                return each
        weights = self._weights_of(optimizer)
        has_state = bool(optimizer.state)
        watched = WatchedOptimizer(
            optimizer=weakref.ref(optimizer),
            tensors=self._group(type(optimizer).__name__, weights),
            used=UsedGradients(weights),
            had_state=False,
            began_with_state=has_state,
            first_step=self.count + 1,
        )
        self.optimizers.append(watched)
        return watched

    def _follow(self, watched: WatchedOptimizer, optimizer: Optimizer) -> None:
        """Read the tensors again after `add_param_group`."""
        count = sum(len(group["params"]) for group in optimizer.param_groups)
        if count != len(watched.tensors.weights):
            weights = self._weights_of(optimizer)
            watched.tensors = self._group(watched.tensors.name, weights)
            watched.used.weights = weights

    def _weights_of(self, optimizer: Optimizer) -> list[WatchedWeight]:
        weights = [self.weights.of(t) for g in optimizer.param_groups for t in g["params"]]
        for weight in weights:
            weight.in_optimiser = True
        return weights

    def _group(self, name: str, weights: Sequence[WatchedWeight]) -> Tensors:
        """Return the group of these tensors and this class; the first optimiser makes it."""
        for group in self.groups:
            if group.name == name and set(group.weights) == set(weights):
                return group
        group = Tensors(name, list(weights))
        self.groups.append(group)
        return group


def is_skipped_inside(optimizer: Optimizer) -> bool:
    """Return True if a GradScaler has told a fused optimiser to skip this step."""
    return bool(getattr(optimizer, "found_inf", None))
