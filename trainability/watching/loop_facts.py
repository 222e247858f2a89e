"""The facts of a training loop: their names, the numbers of every sound loop, and meanings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trainability.facts import Fact
from trainability.watching.calls import Calls
from trainability.watching.minibatches import Minibatches
from trainability.watching.steps import OptimizerSteps
from trainability.watching.weights import WatchedWeights

OPTIMISER_STEPS = "optimiser steps"
PASSES = "backward passes, and those without a step before the next one"
REUSED = "tensors and steps that use a gradient of an earlier step again"
FOREIGN = "tensors of optimisers without gradients, of no called module"
CALLED = "weight tensors called: all, not stepped, no gradient, unchanged"
EVALUATION = "trained calls with dropout or BatchNorm in evaluation mode"
CHANGED = "tensors changed between steps, and at how many steps"
OPTIMIZERS = "optimisers, and those whose state was lost"
MINIBATCHES = "training minibatches: read, distinct, most reads of one"
LOSSES = "loss, median of the first and last tenth"
NOT_FINITE = "steps with a loss or gradient that is not finite, and the first"
STATES = "calls that get an output from before the last pass, and its graph"


@dataclass(frozen=True)
class Loop:
    """What was counted in a loop."""

    weights: WatchedWeights
    calls: Calls
    steps: OptimizerSteps
    minibatches: Minibatches
    losses: Sequence[float | None]
    """Of the backward passes; None where it is not known."""
    passes: int
    without_step: int
    """Backward passes that no step follows before the next one."""


@dataclass(frozen=True)
class LoopFact:
    """How a fact is counted."""

    name: str
    measure: Callable[[Loop], tuple[float, ...] | None]
    meaning: str = ""
    """What a star says, as on the page; "" without a sound value."""
    sound: tuple[float, ...] | None = None
    """The numbers of every sound loop; None if sound loops differ."""

    def of(self, loop: Loop) -> Fact:
        """Return the fact of a loop."""
        return Fact(self.name, self.measure(loop), self.sound)


def _weights(loop: Loop) -> tuple[float, ...]:
    called = loop.weights.in_training()
    return (
        len(called),
        sum(not weight.in_optimiser for weight in called),
        sum(not weight.has_gradient for weight in called),
        sum(not weight.is_changed for weight in called),
    )


def _losses(loop: Loop) -> tuple[float, ...] | None:
    finite = [loss for loss in loop.losses if loss is not None and np.isfinite(loss)]
    tenth = max(1, len(finite) // 10)
    if not finite:
        return None
    return float(np.median(finite[:tenth])), float(np.median(finite[-tenth:]))


LOOP_FACTS = (
    LoopFact(
        name=OPTIMISER_STEPS,
        measure=lambda loop: (loop.steps.count,),
    ),
    LoopFact(
        name=PASSES,
        measure=lambda loop: (loop.passes, loop.without_step),
    ),
    LoopFact(
        name=REUSED,
        measure=lambda loop: (len(loop.steps.reused_tensors), loop.steps.reused_steps),
        meaning="`zero_grad()` is missing after a step, or the optimiser steps twice.",
        sound=(0, 0),
    ),
    LoopFact(
        name=FOREIGN,
        measure=lambda loop: (len(loop.steps.foreign()),),
        meaning="No module that was called has these tensors, and no backward pass reached them.",
        sound=(0,),
    ),
    LoopFact(
        name=CALLED,
        measure=_weights,
    ),
    LoopFact(
        name=EVALUATION,
        measure=lambda loop: (loop.calls.in_evaluation(),),
    ),
    LoopFact(
        name=CHANGED,
        measure=lambda loop: (len(loop.steps.changed_tensors), loop.steps.changed_steps),
    ),
    LoopFact(
        name=OPTIMIZERS,
        measure=lambda loop: (len(loop.steps.optimizers), loop.steps.lost_states()),
    ),
    LoopFact(
        name=MINIBATCHES,
        measure=lambda loop: loop.minibatches.numbers(),
    ),
    LoopFact(
        name=LOSSES,
        measure=_losses,
    ),
    LoopFact(
        name=NOT_FINITE,
        measure=lambda loop: (loop.steps.not_finite, loop.steps.first_not_finite),
        meaning="A gradient that a step used, or the loss before the step, is NaN or infinite.",
        sound=(0, 0),
    ),
    LoopFact(
        name=STATES,
        measure=lambda loop: (loop.calls.with_state, loop.calls.with_graph),
    ),
)
LOOP_MEANINGS = {fact.name: fact.meaning for fact in LOOP_FACTS if fact.sound is not None}
