"""`watch`: the facts of a training loop as it stands.

with trainability.watch() as seen:
    train()
found = seen.result()
print(found)
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rhn.utils.validation import whole_number
from trainability.watching.calls import Calls
from trainability.watching.hooks import hooks_for
from trainability.watching.loop_facts import LOOP_FACTS, Loop
from trainability.watching.loop_result import LoopResult, OptimizerRow
from trainability.watching.minibatches import Minibatches
from trainability.watching.steps import OptimizerSteps, Tensors, is_power_of_two
from trainability.watching.weights import WatchedWeights


class EnoughPassesError(BaseException):
    """Ends a watched loop. It is no Exception, so that `except Exception` does not catch it."""


@dataclass(frozen=True)
class ScaledLoss:
    """A loss that a GradScaler has multiplied by a factor."""

    scaled: "weakref.ref[Tensor] | None"
    loss: float | None
    factor: float

    def before(self, tensors: Any) -> float | None:
        """Return the loss of a backward pass from these tensors, before it was scaled."""
        is_known = self.scaled is not None and self.scaled() is tensors
        if is_known:
            return self.loss
        loss = _loss_of(tensors)
        return None if loss is None else loss / self.factor


UNSCALED = ScaledLoss(None, None, 1.0)


class WatchedLoop:
    """The events of a training loop, counted. `result` returns the facts."""

    def __init__(self, passes: int | None) -> None:
        self._most = passes
        self._passes = 0
        self._without_step = 0
        self._step_follows = True
        """False from the begin of a backward pass until a step."""
        self._in_step = False
        self._scaled = UNSCALED
        """The next loss, if a GradScaler has multiplied it."""
        self._losses: list[float | None] = []
        """Of the backward passes; None for a pass that does not begin from single numbers."""
        self._weights = WatchedWeights()
        self._calls = Calls(self._weights)
        self._steps = OptimizerSteps(self._weights)
        self._minibatches = Minibatches()

    def result(self) -> LoopResult:
        """Return the facts of the loop until now."""
        self._weights.read_changes()
        at_the_end = 0 if self._step_follows else 1
        loop = Loop(
            weights=self._weights,
            calls=self._calls,
            steps=self._steps,
            minibatches=self._minibatches,
            losses=self._losses,
            passes=self._passes,
            without_step=self._without_step + at_the_end,
        )
        return LoopResult(
            facts=tuple(fact.of(loop) for fact in LOOP_FACTS),
            optimizers=tuple(map(_row, self._steps.stepped())),
            losses=np.array(self._losses, dtype=float),
        )

    def call_begins(self) -> None:
        if self._is_over() and self._step_follows:
            raise EnoughPassesError

    def call_ends(self, module: nn.Module, given: Any, output: Any) -> None:
        self._calls.add(module, given, output)

    def backward_begins(self, tensors: Any) -> None:
        if self._is_over():
            raise EnoughPassesError
        if not self._step_follows:
            self._without_step += 1
        self._step_follows = self._in_step
        self._passes += 1
        self._losses.append(self._scaled.before(tensors))
        self._minibatches.used()
        self._steps.backward_begins()
        if is_power_of_two(self._passes):
            self._weights.read_changes()

    def backward_ends(self) -> None:
        self._calls.backward_ends()
        self._steps.backward_ends(self._losses[-1], self._scaled.factor)
        self._scaled = UNSCALED
        self._weights.read_gradients()

    def step_begins(self, optimizer: torch.optim.Optimizer) -> None:
        self._in_step = True
        self._steps.step_begins(optimizer)

    def step_ends(self, optimizer: torch.optim.Optimizer) -> None:
        self._in_step = False
        self._step_follows = True
        self._steps.step_ends(optimizer)

    def loss_scaled(self, loss: Any, scaled: Any, factor: float) -> None:
        is_one = isinstance(scaled, Tensor)
        known = weakref.ref(scaled) if is_one else None
        self._scaled = ScaledLoss(known, _loss_of(loss) if is_one else None, factor)

    def minibatch_read(self, iterator: Any, minibatch: Any) -> None:
        self._minibatches.read(iterator, minibatch)

    def minibatches_end(self, iterator: Any) -> None:
        self._minibatches.ended(iterator)

    def _is_over(self) -> bool:
        return self._most is not None and self._passes >= self._most


@contextmanager
def watch(passes: int | None = None) -> Iterator[WatchedLoop]:
    """Watch the training loop in a `with` block, and change nothing of it.

    Args:
        passes: backward passes after which the block ends; None: it ends by itself.

    Raises:
        InvalidInputError: passes is wrong, or another `watch` is in use.

    >>> model, x = torch.nn.Linear(3, 1), torch.randn(8, 3)
    >>> adam = torch.optim.Adam(model.parameters())
    >>> with watch() as seen:
    ...     for _ in range(2):
    ...         model(x).square().mean().backward()
    ...         adam.step()
    >>> seen.result().starred
    ('tensors and steps that use a gradient of an earlier step again',)
    """
    most = None if passes is None else whole_number("passes", passes)
    loop = WatchedLoop(most)
    with hooks_for(loop):
        try:
            yield loop
        except EnoughPassesError:
            return


def _row(group: Tensors) -> OptimizerRow:
    return OptimizerRow(
        name=group.name,
        tensors=len(group.weights),
        steps=len(group.rates),
        after_backward=np.array(group.after_backward),
        at_step=np.array(group.at_step),
        rates=np.array(group.rates),
    )


def _loss_of(tensors: Any) -> float | None:
    """Return the sum of the numbers from which a backward pass begins; None for other tensors."""
    every = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if all(isinstance(t, Tensor) and t.numel() == 1 and not t.is_meta for t in every):
        return sum(float(t.detach()) for t in every)
    return None
