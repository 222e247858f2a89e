"""Forecast a training from real steps of its optimiser: when it leaves the plateau, or diverges, and at which learning rates.

    found = forecast(loop, steps=3000)
    found.escape_steps, found.interval          # 1240.0, (620.0, 2480.0)

The training itself is run, as far as there is time, until it has left for a while; beside its first steps one trial at ten times its
learning rate, and without time for all of it also one at about three times. What was seen is the answer. A training that was not seen
to its end is forecast from the larger rates, which leave earlier. With T the escape time at the learning rate asked, the escape time
at f times this rate is

    ln T_f = ln T - p ln f + error                     p about 0.9 for SGD (time x rate is nearly constant), 0.75 for Adam and others

T and p are estimated together by Bayes' rule on a grid. The prior of ln T is flat up to `FLAT` steps and falls as 1/sqrt(T) from there
to the longest training; the other networks never leave. p and the error are normal. What a trial contributes:

    it left                                  a normal density of ln T_f
    it stays                                 the probability that T_f is larger than its steps
    it comes down to the constant's loss     the same with the step at which it is there, if it goes on as it does
    it is a little below the constant's      the same times a density around the time at which a quadratic growth would leave
    its rate is too high                     nothing: it diverged, or its loss is above that of the training itself

A share `BROKEN` of the trials means nothing in any case. No constant depends on the task or the network. They were chosen by hand on
recorded trainings, and the result changes little with each of them.

Legend: T escape time in steps, f factor on the learning rate, p exponent, S steps of the training.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gersgorin.checking.loop import MOST_STEPS, TrainingLoop
from gersgorin.checking.trials import LEFT, WINDOW, Constant, Trial, run_trials

EXPONENT = {"sgd": (0.9, 0.1), "adaptive": (0.75, 0.25)}  # mean and standard deviation of p
Interval = tuple[float, float]
ERROR = 0.15, 0.1  # standard deviation of ln T_f, and more for each unit of |ln f|
OWN_ERROR = 0.03  # at the learning rate asked
FLAT, FLAT_TIMES = 1e5, 300  # steps up to which the prior of ln T is flat, and points of the grid
LATER = 0.3  # share that leaves after `FLAT` steps, or never
BROKEN, OWN_BROKEN = 0.15, 1e-3
ANY_LATER = 0.3  # density of an escape that is seen in a trial that means nothing, if the network leaves after `FLAT` steps or never
EARLY = 1.25 * WINDOW  # steps; a trial that leaves so early may have left at any time before
JITTER = 0.02  # of the constant's loss, by which a trial may be above another by chance
RELAXING = 1.1  # ratio to the constant's loss from which a trial must first come down
RELAXES = 3.0  # times its steps that it comes down for, at most
NEAR = 0.003  # of the constant's loss, by which a trial is below it that is about to leave
NEAR_ERROR = 0.35  # of ln T_f then
FASTER = 10.0  # factor of the second trial; the third has its square root
ASIDE = 160  # steps of the other trials for a training of 1,000, more as its square root
ASIDE_CUT = 280  # the same without time for all of it
SHARE = 0.1  # of the training, at most, if there is time for all of it
SLOWEST = 1e-6  # factor of the least learning rate that is tried after a divergence
SAFE = 0.98  # probability of what was seen
HALF = 0.7  # of a training that has just left when the time is up
OPEN = 0.5  # of a training whose learning rate changes that was not seen to its end
AFTERWARDS = 1.5  # times its escape that a training is followed for: its loss may explode then
SPREAD = math.log(2)  # half-width of ln T for other orders of the minibatches


@dataclass(frozen=True)
class Forecast:
    """Prediction for a training of S steps, and the trials behind it."""

    escape_steps: float
    """From the first step; inf: does not leave within S steps."""
    interval: Interval
    """Of the escape: within a factor of 2 of one that was seen; else quantiles of 10 and 90 %."""
    probability: float
    """Of leaving within S steps without diverging; NaN without a step."""
    constant_loss: float
    """Mean loss of the best constant output."""
    trials: tuple[Trial, ...]
    """The first is the training itself."""

    @property
    def diverges_at(self) -> float:
        """Step at which the loss explodes, before or after leaving; inf: not seen."""
        return self.trials[0].diverged

    @property
    def cut(self) -> bool:
        """True if the time was up before the trials ended."""
        return any(trial.cut for trial in self.trials)


def forecast(
    loop: TrainingLoop,
    steps: int,
    seconds: float = 20.0,
    *,
    learning_rates: Sequence[float] = (),
    progress: Callable[[str], None] = lambda doing: None,
    seed: int = 0,
) -> Forecast:
    """Forecast a training of some steps within some seconds.

    learning_rates: further ones, at each of which the training is run afterwards, as far as there is time.
    """
    end = time.monotonic() + seconds
    progress("the best constant output")
    constant = Constant(loop)

    def run(doing: str, factors: Sequence[float], most: int | Sequence[int], **options) -> list[Trial]:
        progress(doing)
        left = end - time.monotonic()
        return run_trials(loop, factors, steps=most, seconds=left, constant=constant, seed=seed, **options)

    fits = steps * loop.step_seconds <= end - time.monotonic()
    scheduled = loop.scheduler is not None
    aside = int((ASIDE if fits else ASIDE_CUT) * math.sqrt(max(1.0, steps / 1000)))
    aside = max(1, min(aside, int(SHARE * steps) if fits else steps))
    others = [FASTER] if fits else [FASTER, FASTER**0.5]
    after = math.inf if scheduled else AFTERWARDS
    lengths = [steps, *[aside] * len(others)]
    trials = run("the training", [1.0, *others], lengths, after=after, until_first=True)
    last, factor = trials[0], 1 / FASTER
    while last.diverged < math.inf and factor >= SLOWEST and sum(t.steps for t in trials) < steps:
        trials += run("smaller learning rates", [factor], min(steps, max(aside, 2 * WINDOW)))
        last, factor = trials[-1], factor / FASTER
    if len(learning_rates):
        asked = [rate / loop.learning_rate for rate in learning_rates]
        trials += run("the learning rates that were asked for", asked, steps, after=after)
    law = EXPONENT["sgd" if isinstance(loop.optimizer, torch.optim.SGD | torch.optim.ASGD) else "adaptive"]
    escape, interval, probability = _read(trials, steps, law, scheduled)
    return Forecast(
        escape_steps=escape if escape <= steps else math.inf,
        interval=interval,
        probability=probability,
        constant_loss=constant.loss,
        trials=tuple(trials),
    )


def _read(
    trials: Sequence[Trial], steps: int, law: tuple[float, float], scheduled: bool
) -> tuple[float, Interval, float]:
    """(Escape, its interval, probability): what the first trial, the training itself, saw, else what all make probable."""
    own, left, taken = trials[0], trials[0].left, trials[0].steps
    if not taken:
        return math.inf, (math.inf, math.inf), math.nan
    if own.diverged < math.inf:
        return left, (left, left), 1 - SAFE
    if left < math.inf:
        sure = own.confirmed or taken >= steps
        return left, (left * math.exp(-SPREAD), left * math.exp(SPREAD)), SAFE if sure else HALF
    if taken >= steps:
        return math.inf, (math.inf, math.inf), 1 - SAFE
    if scheduled:  # trials at other learning rates, or shorter ones, do not tell
        return math.inf, (float(taken), math.inf), OPEN
    belief = Belief(law, evidence(trials))
    return *belief.escape(steps), belief.probability(steps)


@dataclass(frozen=True)
class Evidence:
    """Result of one trial."""

    factor: float
    """On the learning rate."""
    steps: float
    """By which it has not left, if it has not; the step to which it will come down if it is still far above."""
    left: float
    """inf: not seen."""
    ratio: float = 1.0
    """Of the last loss to the constant's."""


def evidence(trials: Sequence[Trial]) -> list[Evidence]:
    """Of all trials whose learning rate is not too high; the first is the training itself.

    A rate is too high if its trial diverges, or if its loss stays above that of the training itself after as many steps.
    """
    found, own = [], trials[0].ratios
    for trial in trials:
        if trial.diverged < math.inf or trial.steps < WINDOW:
            continue
        ratios = trial.ratios
        same = min(trial.steps, len(own)) - 1
        if trial.left == math.inf and trial.factor > 1 and ratios[same] > own[same] + JITTER:
            continue
        found.append(Evidence(trial.factor, _still_there(ratios), trial.left, float(ratios[-1])))
    return found


def _still_there(ratios: np.ndarray) -> float:
    """Step at which a loss that comes down is as low as one that leaves, by its present slope; its last one if it does not come down.

    A loss that decays to the constant's is there later, as it slows down.
    """
    steps = len(ratios)
    before = steps - min(WINDOW, steps // 2)
    slope = (ratios[before - 1] - ratios[-1]) / (steps - before)
    if ratios[-1] <= RELAXING or slope <= 0:
        return steps
    return min(steps + (ratios[-1] - LEFT) / slope, RELAXES * steps)


class Belief:
    """Posterior distribution of the escape time T at the learning rate asked."""

    def __init__(self, law: tuple[float, float], evidence: Sequence[Evidence]):
        units = np.linspace(-2.5, 2.5, 15)
        apart = math.log(FLAT / WINDOW) / (FLAT_TIMES - 1)
        self.times = np.append(np.arange(math.log(WINDOW), math.log(MOST_STEPS), apart), math.inf)
        """(T,) logarithms; the last is of a network that never leaves."""
        self.exponents = (law[0] + law[1] * units)[:, None]
        prior = (1 - LATER) / FLAT_TIMES * np.exp(np.minimum(0.0, math.log(FLAT) - self.times) / 2)
        prior[-1] = 1 - prior.sum()
        total = np.log(prior) - 0.5 * units[:, None] ** 2
        for trial in evidence:
            total = total + self._log_likelihood(trial)
        weights = np.exp(total - total.max()).sum(0)
        self.weights = weights / weights.sum()

    def _log_likelihood(self, trial: Evidence) -> np.ndarray:
        """(P, T) of a trial for each exponent and escape time."""
        from scipy.special import log_ndtr

        distance = math.log(trial.factor)
        own = trial.factor == 1
        error = OWN_ERROR if own else ERROR[0] + ERROR[1] * abs(distance)
        broken = OWN_BROKEN if own else BROKEN
        expected = self.times - self.exponents * distance
        stays: Any = 0.0 if trial.left < math.inf else log_ndtr((expected - math.log(trial.steps)) / error)
        if trial.left == math.inf and 1 - trial.ratio < NEAR:
            fits, anything = stays, 0.0
        else:
            time = trial.left
            if time == math.inf:
                time = trial.steps * max(1.0, math.sqrt((1 - LEFT) / (1 - trial.ratio)))
                error, broken = math.hypot(error, NEAR_ERROR), BROKEN
            if time <= EARLY and not own:
                fits = log_ndtr((math.log(time) - expected) / error)
            else:
                fits = -0.5 * ((math.log(time) - expected) / error) ** 2 - math.log(error * math.sqrt(2 * math.pi))
            early = self.times < math.log(FLAT)
            fits, anything = fits + stays, stays + np.log(np.where(early, 1 / math.log(FLAT / WINDOW), ANY_LATER))
        return np.logaddexp(fits + math.log(1 - broken), math.log(broken) + anything)

    def probability(self, steps: float) -> float:
        """Of leaving within these steps."""
        return float(self.weights[self.times <= math.log(steps)].sum())

    def escape(self, steps: float) -> tuple[float, Interval]:
        """Median of T, and its quantiles of 10 and 90 %; of those that leave within the steps, if this is probable."""
        weights = self.weights
        if self.probability(steps) >= 0.5:
            weights = np.where(self.times <= math.log(steps), weights, 0.0)
        summed = np.cumsum(weights / weights.sum())
        low, middle, high = (float(np.exp(self.times[np.searchsorted(summed, q)])) for q in (0.1, 0.5, 0.9))
        return middle, (low, high)
