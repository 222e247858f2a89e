"""Forecast a training from real steps of its optimiser: when it leaves the plateau, or diverges.

    found = forecast(loop, steps=3000)
    found.escape_steps, found.interval          # 1240.0, (620.0, 2480.0)

The training itself is run until its clocks decide (`clocks.py`), until it has left for a while, or
as far as there is time. If it was seen to leave, to stay or to diverge, that is the answer; else
what its clocks make probable.

Legend: S steps of the training.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from gersgorin.checking.clocks import OPEN, Interval, expected
from gersgorin.checking.reach import measure_reach
from gersgorin.checking.trials import LEFT, Constant, Trial, run_trials
from gersgorin.training.training import Training

# of the clocks, in the steps that there is time for; least steps between two
READINGS, LEAST = 15, 20
AGREE = 3  # readings in a row that decide: of many looks at a clock some are likely by chance
# probability from which on a training leaves; so did 27 of 29 (docs/results/2026-11-24-clocks.md)
LIKELY = 0.7
# up to which a training stays, if it has more steps than `LONG`; else up to 1 - LIKELY
UNLIKELY, LONG = 0.1, 5000
# of the steps: before, a trial ends only if its probability of leaving is below `UNLIKELY`
ENOUGH = 0.6
SAFE = 0.98  # probability of what was seen
HALF = 0.6  # of a training that has just left when the time is up
AFTERWARDS = 1.5  # times its escape that a training is followed for: its loss may explode then
SPREAD = math.log(2)  # half-width of ln T for other orders of the minibatches


@dataclass(frozen=True)
class Forecast:
    """Prediction for a training of S steps, and the trial behind it; by default of one that no
    trial can help.
    """

    escape_steps: float = math.inf
    """From the first step; inf: does not leave within S steps."""
    interval: Interval = (math.inf, math.inf)
    """Of the escape: within a factor of 2 of one that was seen; else quantiles of 10 and 90 %."""
    probability: float = 0.0
    """Of leaving within S steps without diverging; NaN without a step."""
    constant_loss: float = math.nan
    """Mean loss of the best constant output."""
    trials: tuple[Trial, ...] = (Trial(1.0),)
    """The first is the training itself, the others at other learning rates."""

    @property
    def diverges_at(self) -> float:
        """Step at which the loss explodes, before or after leaving; inf: not seen."""
        return self.trials[0].diverged

    @property
    def cut(self) -> bool:
        """True if the time was up before the trials ended."""
        return any(trial.cut for trial in self.trials)


def forecast(
    loop: Training,
    steps: int,
    seconds: float = 20.0,
    *,
    constant: Constant | None = None,
    wants_more: Callable[[nn.Module, int], bool] | None = None,
    most: int | None = None,
    progress: Callable[[str], None] = lambda doing: None,
    seed: int = 0,
) -> Forecast:
    """Forecast a training of some steps within some seconds.

    constant: the best constant output; None: computed.
    wants_more: see `run_trials`; None: a training that is going to leave is not followed until it
    does. most: steps of the training that are run; None: as many as there is time for.
    """
    end = time.monotonic() + seconds
    constant = Constant(loop) if constant is None else constant
    after = math.inf if loop.scheduler is not None else AFTERWARDS

    def read(model: nn.Module, trial: Trial) -> bool:
        """Read the reach; True if the clocks have decided, and more steps would not show more."""
        if (reach := measure_reach(loop, model)) is not None:
            trial.reaches.append((trial.steps, reach))
        if trial.left < math.inf or trial.diverged < math.inf or loop.scheduler is not None:
            return False
        escape, _, probability = _read(trial, steps, scheduled=False)
        rest = (escape - trial.steps) * loop.step_seconds
        follows = wants_more is not None and rest < end - time.monotonic()
        probabilities.append(probability)
        last, late = probabilities[-AGREE:], trial.steps >= ENOUGH * steps
        known = (min(last) > LIKELY and not follows) or (
            stays(max(last), steps) if late else max(last) < UNLIKELY
        )
        return known and len(last) == AGREE

    probabilities = list[float]()  # of leaving, at each reading
    first = measure_reach(loop, loop.model)
    most = steps if most is None else min(most, steps)
    planned = max(1, min(most, int((end - time.monotonic()) / loop.step_seconds)))
    progress("the training")
    (own,) = run_trials(
        loop,
        [1.0],
        steps=most,
        seconds=end - time.monotonic(),
        constant=constant,
        after=after,
        interval=max(LEAST, planned // READINGS),
        read=read,
        wants_more=wants_more or (lambda model, step: False),
        seed=seed,
    )
    own.reaches[:0] = [(0, first)] if first else []
    escape, interval, probability = _read(own, steps, loop.scheduler is not None)
    return Forecast(
        escape_steps=escape if escape <= steps else math.inf,
        interval=interval,
        probability=probability,
        constant_loss=constant.loss,
        trials=(own,),
    )


def stays(probability: float, steps: int) -> bool:
    """True if a probability of leaving is low. Long trainings in which nothing moves may leave
    late: these are left open.
    """
    return probability < (UNLIKELY if steps > LONG else 1 - LIKELY)


def _read(own: Trial, steps: int, scheduled: bool) -> tuple[float, Interval, float]:
    """(Escape, its interval, probability): what the training itself showed, else what its clocks
    make probable.
    """
    if not own.steps:
        return math.inf, (math.inf, math.inf), math.nan
    if own.diverged < math.inf:
        return own.left, (own.left, own.left), 1 - SAFE
    if own.left < math.inf:
        sure = own.confirmed or (own.steps >= steps and own.ratios[-1] < LEFT)
        left = 0.0 if own.began_below else own.left
        return left, (left * math.exp(-SPREAD), left * math.exp(SPREAD)), SAFE if sure else HALF
    ended = own.steps >= steps
    if scheduled:  # the growth of the clocks follows the learning rate
        return (
            math.inf,
            (math.inf if ended else float(own.steps), math.inf),
            1 - SAFE if ended else OPEN,
        )
    escape, interval, probability = (
        (math.inf, (math.inf, math.inf), 1 - SAFE) if ended else expected(own, steps)
    )
    # in another order of the minibatches it may leave in half the time
    later, _, double = expected(own, 2 * steps)
    return escape, interval, max(probability, double / 2) if later < math.inf else probability
