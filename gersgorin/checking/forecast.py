"""Forecast a training from real steps of its optimiser: when it leaves the plateau, or diverges, and at which learning rates.

    found = forecast(loop, steps=3000)
    found.escape_steps, found.interval          # 1240.0, (620.0, 2480.0)

The training itself is run, as far as there is time, until it has left for a while; beside its first steps one trial at ten times its
learning rate, and without time for all of it also one at about three times. What was seen is the answer. A training that was not seen
to its end is forecast from its own trial if its loss begins to fall below the constant's, else from one at a larger rate that leaves or
is about to. With T the escape time at the learning rate asked, the escape time at f times this rate is

    ln T_f = ln T - p ln f + error                     p about 0.9 for SGD (time x rate is nearly constant), 0.75 for Adam and others

A trial that is about to leave does so when a quadratic growth would. If none is, T may be in every order of magnitude alike, from where
the trials that stay exclude it up to `FLAT` steps; in a share `BROKEN` of the trainings this holds in any case. A trial says nothing if
its rate is too high: it diverged, or its loss is above that of the training itself.

Legend: T escape time in steps, f factor on the learning rate, p exponent, S steps of the training.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import nn

from gersgorin.checking.trials import LEFT, WINDOW, Constant, Trial, run_trials
from gersgorin.training.training import Training

EXPONENT = {"sgd": (0.9, 0.1), "adaptive": (0.75, 0.25)}  # mean and standard deviation of p
Interval = tuple[float, float]
ERROR = 0.4  # standard deviation of ln T_f
NEAR = 0.01  # of the constant's loss, by which a trial is below it that is about to leave
EARLY = 1.25 * WINDOW  # steps; a trial that leaves so early may have left at any time before
ROUGH = 0.4  # further error of ln T_f of both
FLAT = 1e5  # steps, up to which T may be in every order of magnitude alike
BROKEN = 0.1
JITTER = 0.02  # of the constant's loss, by which a trial may be above another by chance
FASTER = 10.0  # factor of the second trial; the third has its square root
ASIDE = 160  # steps of the other trials for a training of 1,000, more as its square root
ASIDE_CUT = 280  # the same without time for all of it
SHARE = 0.1  # of the training, at most, if there is time for all of it
MOST = 1.2  # trainings, with those at smaller rates after a divergence
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
    loop: Training,
    steps: int,
    seconds: float = 20.0,
    *,
    constant: Constant | None = None,
    wants_more: Callable[[nn.Module, int], bool] = lambda model, step: False,
    learning_rates: Sequence[float] = (),
    progress: Callable[[str], None] = lambda doing: None,
    seed: int = 0,
) -> Forecast:
    """Forecast a training of some steps within some seconds.

    constant: the best constant output; None: computed. wants_more: see `run_trials`.
    learning_rates: further ones, at each of which the training is run afterwards, as far as there is time.
    """
    end = time.monotonic() + seconds
    constant = Constant(loop) if constant is None else constant

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
    trials = run("the training", [1.0, *others], lengths, after=after, until_first=True, wants_more=wants_more)
    last, factor = trials[0], 1 / FASTER
    while last.diverged < math.inf and factor >= SLOWEST and sum(t.steps for t in trials) < MOST * steps:
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
        sure = own.confirmed or (taken >= steps and own.ratios[-1] < LEFT)
        return left, (left * math.exp(-SPREAD), left * math.exp(SPREAD)), SAFE if sure else HALF
    if taken >= steps:
        return math.inf, (math.inf, math.inf), 1 - SAFE
    if scheduled:  # trials at other learning rates, or shorter ones, do not tell
        return math.inf, (float(taken), math.inf), OPEN
    return expected(trials, steps, law)


def expected(trials: Sequence[Trial], steps: int, law: tuple[float, float]) -> tuple[float, Interval, float]:
    """(Escape, its interval, probability) of a training that was not seen to leave; the first trial is its own."""
    own, found = trials[0], []
    after = own_steps = float(max(WINDOW, own.steps))
    for trial in trials:
        if trial.diverged < math.inf or trial.steps < WINDOW:
            continue
        below, same = 1 - trial.ratios[-1], min(trial.steps, own.steps) - 1
        scale, error = trial.factor ** law[0], math.hypot(ERROR, law[1] * math.log(trial.factor))
        if trial.left < math.inf:
            found.append((math.hypot(error, ROUGH * (trial.left <= EARLY)), trial.left * scale))
        elif below >= NEAR:
            grown = trial.steps * max(1.0, math.sqrt((1 - LEFT) / below))
            found.append((math.hypot(error, ROUGH), grown * scale))
        elif trial.ratios[same] <= own.ratios[same] + JITTER:
            after = max(after, trial.steps * scale)

    def anywhere(least: float) -> float:
        """Probability of leaving in time if T may be in every order of magnitude alike, from these steps on."""
        return math.log(max(1.0, steps / least)) / math.log(max(FLAT, FASTER * steps) / least)

    if found:
        error, time_of = min(found)
        escape = max(time_of, own_steps)
        times = NormalDist(math.log(escape), error)
        interval = max(math.exp(times.inv_cdf(0.1)), own_steps), math.exp(times.inv_cdf(0.9))
        probability = times.cdf(math.log(steps))
    else:
        escape, interval, probability = math.inf, (own_steps, math.inf), anywhere(min(after, steps))
    return escape, interval, (1 - BROKEN) * probability + BROKEN * anywhere(own_steps)
