"""Forecast a training from short trials: when it leaves the plateau, or diverges, and at which learning rates it works.

    found = forecast(loop, steps=3000)
    found.escape_steps, found.interval          # 1240.0, (870.0, 1800.0)
    found.window                                # (6e-4, 1e-2): learning rates that leave in 3,000 steps

Trials are real steps of the real optimiser (`trials.py`), for every optimiser.

The first two trials run together: the training itself on one half of the data, and ten times its learning rate on the other half. If
the training leaves, it is repeated on the other half; on all of the data if it left after two passes through its half, which is
learned by heart sooner. If it does not leave, its escape is forecast from the larger rates, which leave earlier. With T the escape time
at the learning rate asked, the escape time at f times this rate is

    ln T_f = ln T - p ln f + error                     p about 0.9 for SGD (time x rate is nearly constant), 0.75 for Adam and others

T and p are estimated together by Bayes' rule on a grid. The prior of ln T is flat up to `FLAT` steps and falls as 1/sqrt(T) from there
to the longest training; the other networks never leave. p and the error are normal. If the result is not clear, or the halves disagree,
the training is run on all of the data, until all trials together have taken as many steps as the training has: some escapes cannot be
seen earlier. If there is no time for so many, the first two trials are longer, and one at about three times the learning rate comes
before. A training whose learning rate changes is followed to its end.
What a trial contributes:

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

import numpy as np
import torch

from gersgorin.checking.loop import MOST_STEPS, TrainingLoop
from gersgorin.checking.trials import LEFT, WINDOW, Constant, Trials, run_trials

EXPONENT = {"sgd": (0.9, 0.1), "adaptive": (0.75, 0.25)}  # mean and standard deviation of p
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
BUDGET = 160, 280  # steps of the first two trials for a training of 1,000; if there is no time for all of it
FASTER = 10.0  # factor of the second trial; the third has its square root
THIRD = 1.3  # steps of the third trial, relative to the budget
SLOWEST = 1e-6  # factor of the least learning rate that is tried after a divergence
UNDECIDED = 0.08  # probability, and its complement, from which the training is run
SAFE = 0.98  # probability of a training that was seen to leave
HALF = 0.7  # the same, if one half leaves and there is no time to see that all of the data does, or if the other half diverges
OPEN = 0.5  # probability of a training that was not seen to its end, where nothing else tells
AFTERWARDS = 1.5  # times its escape that the other half is followed for: a loss may explode then
SPREAD = 0.2  # least half-width of ln T


@dataclass(frozen=True)
class Forecast:
    """Prediction for a training of S steps, and the trials behind it."""

    escape_steps: float
    """From the first step; inf: does not leave within S steps."""
    interval: tuple[float, float]
    """Of the escape; from trials on disjoint halves of the data, or on all of it."""
    diverges_at: float
    """Step at which the loss explodes, before or after leaving; inf: not seen."""
    window: tuple[float, float] | None
    """Learning rates of the first group that leave within S steps and do not diverge; None: none was found."""
    probability: float
    """Of leaving within S steps without diverging."""
    halves_agree: bool
    """False if one half of the data leaves and the other does not, or more than twice as late."""
    cut: str | None
    """What was left out for lack of time."""
    trials: Trials


def forecast(
    loop: TrainingLoop,
    steps: int,
    seconds: float = 20.0,
    *,
    progress: Callable[[str], None] = lambda doing: None,
    seed: int = 0,
) -> Forecast:
    """Forecast a training of so many steps, in no more than so many seconds."""
    end = time.monotonic() + seconds
    progress("the best constant output")
    constant = Constant(loop)

    def run(doing: str, factors: Sequence[float], parts: Sequence[int | None], order: int = 0, **options) -> Trials:
        progress(doing)
        left = end - time.monotonic()
        return run_trials(loop, factors, parts, seconds=left, constant=constant, seed=seed + order, **options)

    halves = (0, 1) if loop.data.divisible else (None, None)
    slow = steps * constant.step_seconds > end - time.monotonic()
    return decide(
        run,
        halves,
        steps,
        exponent_of(loop),
        loop.learning_rate,
        slow=slow,
        epoch=loop.data.epoch,
        scheduled=loop.scheduler is not None,
    )


def decide(
    run: Callable[..., Trials],
    halves: tuple[int | None, int | None],
    steps: int,
    law: tuple[float, float],
    learning_rate: float,
    *,
    slow: bool = False,
    epoch: float = math.inf,
    scheduled: bool = False,
) -> Forecast:
    """Choose the trials, one after another, and read them.

    Args:
        run: run(description, factors, parts, **options of `run_trials`).
        halves: disjoint parts of the data.
        steps: of the training.
        law: mean and standard deviation of the exponent p.
        learning_rate: of the training.
        slow: there is no time for as many steps as the training has.
        epoch: steps of one pass through all of the data.
        scheduled: the learning rate changes.
    """
    course = _Course(run, halves, steps, law, slow, epoch, scheduled)
    doing = "the training, and ten times its learning rate"
    first = course.more(doing, [1.0, FASTER], halves, steps, budget=course.budget, until_first=True)
    if first.diverged[0] < math.inf:
        answer = _after_divergence(course, float(first.diverged[0]), float(first.left[0]))
    elif first.left[0] < math.inf:
        answer = _after_escape(course, float(first.left[0]))
    elif first.steps[0] >= steps:
        answer = _Answer(math.inf, (math.inf, math.inf), 1 - SAFE)
    else:
        answer = _undecided(course)
    joined = joined_trials(course.done)
    return Forecast(
        escape_steps=answer.escape if answer.escape <= steps else math.inf,
        interval=answer.interval,
        diverges_at=answer.diverged,
        window=window_of(learning_rate, joined, answer.escape, None if scheduled else law[0], steps),
        probability=answer.probability,
        halves_agree=answer.halves_agree,
        cut="the time was up before the trials ended" if any(t.timed_out for t in course.done) else None,
        trials=joined,
    )


class _Course:
    """The trials of a forecast, one after another; arguments as in `decide`."""

    def __init__(self, run, halves, steps, law, slow, epoch, scheduled):
        self.run, self.halves, self.steps, self.law = run, halves, steps, law
        self.slow, self.epoch, self.scheduled = slow, epoch, scheduled
        self.afterwards = math.inf if scheduled else AFTERWARDS
        self.budget = int(BUDGET[slow] * math.sqrt(max(1.0, steps / 1000)))
        self.done: list[Trials] = []

    def by_heart(self, left: np.ndarray | float) -> np.ndarray | bool:
        """True if a trial left after two passes through its half of the data, which is learned by heart sooner than all of it."""
        return (left > self.epoch) & (left < math.inf)

    def more(self, doing: str, factors: Sequence[float], parts: Sequence[int | None], most: int, **options) -> Trials:
        """Run further trials of at most so many steps, and of the training's."""
        self.done.append(self.run(doing, factors, parts, steps=min(most, self.steps), **options))
        return self.done[-1]

    def whole(self) -> Trials | None:
        """The training on all of the data, in the steps that are left of its own number; None if these are few."""
        most = self.steps - sum(int(trials.steps.sum()) for trials in self.done)
        if self.scheduled:  # an early part of it does not tell
            most = self.steps
        if most < WINDOW:
            return None
        return self.all_data(most)

    def all_data(self, most: int, order: int = 0) -> Trials:
        """The training on all of the data, at most so many steps of it; another order of the minibatches for each number."""
        return self.more("the training on all of the data", [1.0], (None,), most, after=self.afterwards, order=order)


@dataclass(frozen=True)
class _Answer:
    """The parts of a forecast that are read from its trials."""

    escape: float
    interval: tuple[float, float]
    probability: float
    diverged: float = math.inf
    halves_agree: bool = True


def _after_divergence(course: _Course, diverged: float, left: float) -> _Answer:
    """The training diverges: look for a smaller learning rate that does not."""
    factor, slower = FASTER**-0.5, course.done[0]
    while slower.diverged[0] < math.inf and factor >= SLOWEST:
        slower = course.more("smaller learning rates", [factor], course.halves[:1], course.budget)
        factor /= FASTER
    return _Answer(left, (left, left), 1 - SAFE, diverged)


def _after_escape(course: _Course, left: float) -> _Answer:
    """The training leaves on one half of the data: repeat it on the other, and on all of it if they disagree.

    On all of it at once if there are no halves, or if the half was learned by heart.
    """
    if course.halves[0] is None or course.by_heart(left):
        return _after_repeats(course, left)
    most = course.steps if course.scheduled else max(int(AFTERWARDS * left) + WINDOW, course.budget)
    other = course.more("the other half of the data", [1.0], course.halves[1:], most, after=course.afterwards)
    again, diverged = float(other.left[0]), float(other.diverged[0])
    agree = other.timed_out or max(left, again) <= 2 * min(left, again)
    both = [t for t in (left, again) if t < math.inf]
    escape = min(math.exp(np.mean(np.log(both))), max(both))  # no rounding beyond the last step
    wide = max(SPREAD, abs(math.log(both[0] / both[-1])))
    interval = escape * math.exp(-wide), escape * math.exp(wide)
    if diverged < math.inf:
        return _Answer(escape, interval, 1 - HALF, diverged, agree)
    if len(both) == 2 or other.timed_out:
        return _Answer(escape, interval, SAFE, halves_agree=agree)
    if (whole := course.whole()) is None:
        return _Answer(escape, interval, HALF, halves_agree=False)
    return _read(course, [other, whole], halves_agree=False)


def _after_repeats(course: _Course, left: float) -> _Answer:
    """The training leaves, after two passes through a half of the data or on all of it: repeat it on all of it, in another order."""
    itself = course.halves[0] is None and bool(course.done[0].confirmed[0])
    whole = course.all_data(course.steps, order=int(itself))
    again = float(whole.left[0])
    if whole.timed_out and whole.steps[0] < AFTERWARDS * left:
        high = left * math.exp(SPREAD) if itself else math.inf
        return _Answer(left, (left * math.exp(-SPREAD), high), SAFE if itself else HALF)
    if not itself or whole.diverged[0] < math.inf:
        return _read(course, [whole])
    if again == math.inf:
        return _read(course, [course.done[0], whole], halves_agree=False)
    low, high = sorted((left, again))
    interval = low * math.exp(-SPREAD), high * math.exp(SPREAD)
    return _Answer(math.sqrt(low * high), interval, SAFE, halves_agree=high <= 2 * low)


def _undecided(course: _Course) -> _Answer:
    """The first trials do not leave: run more until leaving or staying is probable."""

    def unclear() -> bool:
        return Belief(course.law, evidence(course.done)).unclear(course.steps, UNDECIDED)

    if course.scheduled:
        return _read(course, [course.all_data(course.steps)])
    if course.slow and unclear():
        most = int(THIRD * course.budget)
        course.more("three times its learning rate", [FASTER**0.5], course.halves[:1], most)
    if unclear() or any(course.by_heart(trials.left).any() for trials in course.done):
        course.whole()
    return _read(course, course.done)


def _read(course: _Course, trials: Sequence[Trials], halves_agree: bool = True) -> _Answer:
    """What the last trial saw if it is the training on all of the data, else what all trials make probable."""
    last = trials[-1]
    whole = last.parts == (None,) and last.factors[0] == 1
    left, diverged = (float(last.left[0]), float(last.diverged[0])) if whole else (math.inf, math.inf)
    if diverged < math.inf:
        return _Answer(left, (left, left), 1 - SAFE, diverged, halves_agree)
    if left < math.inf:
        return _Answer(left, (left * math.exp(-SPREAD), left * math.exp(SPREAD)), SAFE, diverged, halves_agree)
    if course.scheduled:  # trials at other learning rates, or shorter ones, do not tell
        if whole and last.steps[0] >= course.steps:
            return _Answer(math.inf, (math.inf, math.inf), 1 - SAFE, halves_agree=halves_agree)
        own = [(trials.steps[0], trials.left[0]) for trials in course.done if trials.factors[0] == 1]
        low = last.steps[0] if whole else max(steps for steps, _ in own)
        return _Answer(
            math.inf, (float(min(low, *(left for _, left in own))), math.inf), OPEN, halves_agree=halves_agree
        )
    belief = Belief(course.law, evidence(trials))
    return _Answer(*belief.escape(course.steps), belief.probability(course.steps), diverged, halves_agree)


def exponent_of(loop: TrainingLoop) -> tuple[float, float]:
    """Mean and standard deviation of p for the loop's optimiser."""
    return EXPONENT["sgd" if isinstance(loop.optimizer, torch.optim.SGD | torch.optim.ASGD) else "adaptive"]


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


def evidence(trials: Sequence[Trials]) -> list[Evidence]:
    """Of all trials whose learning rate is not too high.

    A rate is too high if its trial diverges, or if its loss stays above that of the training itself after as many steps.
    """
    own = trials[0]
    found = []
    for group in trials:
        for k, factor in enumerate(map(float, group.factors)):
            steps = int(group.steps[k])
            if group.diverged[k] < math.inf or steps < WINDOW:
                continue
            same = min(steps, int(own.steps[0]))
            worse = group.ratios[same - 1, k] > own.ratios[same - 1, 0] + JITTER
            if group.left[k] == math.inf and factor > 1 and worse:
                continue
            ratios = group.ratios[:steps, k]
            found.append(Evidence(factor, _still_there(ratios), float(group.left[k]), float(ratios[-1])))
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
        stays = 0.0 if trial.left < math.inf else log_ndtr((expected - math.log(trial.steps)) / error)
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
        """Of leaving within so many steps."""
        return float(self.weights[self.times <= math.log(steps)].sum())

    def unclear(self, steps: float, least: float) -> bool:
        """Whether both leaving and staying have at least this probability."""
        return least < self.probability(steps) < 1 - least

    def escape(self, steps: float) -> tuple[float, tuple[float, float]]:
        """Median of T, and its quantiles of 10 and 90 %; of those that leave within the steps, if this is probable."""
        weights = self.weights
        if self.probability(steps) >= 0.5:
            weights = np.where(self.times <= math.log(steps), weights, 0.0)
        summed = np.cumsum(weights / weights.sum())
        low, middle, high = (float(np.exp(self.times[np.searchsorted(summed, q)])) for q in (0.1, 0.5, 0.9))
        return middle, (low, high)


def window_of(
    learning_rate: float, trials: Trials, escape: float, exponent: float | None, steps: int
) -> tuple[float, float] | None:
    """Learning rates from the least that leaves within the steps to the largest that was seen to leave, below all that diverge.

    exponent: p; None: unknown, so that the least one is the least that was seen to leave.
    """
    bad = trials.factors[np.isfinite(trials.diverged)].min(initial=math.inf)
    good = [f for f, left in zip(trials.factors, trials.left, strict=True) if left < math.inf and f < bad]
    if escape <= steps and bad > 1:
        good.append(1.0)
    if not good:
        return None
    low = min(good)
    if exponent is not None and escape < math.inf and bad > 1:
        low = min(low, (escape / steps) ** (1 / exponent))
    return learning_rate * float(low), learning_rate * float(max(good))


def joined_trials(parts: Sequence[Trials]) -> Trials:
    """Trials side by side."""
    rows = max(len(part.losses) for part in parts)

    def padded(values: np.ndarray) -> np.ndarray:
        return np.pad(values, ((0, rows - len(values)), (0, 0)), constant_values=math.nan)

    return Trials(
        factors=np.concatenate([part.factors for part in parts]),
        parts=tuple(p for part in parts for p in part.parts),
        losses=np.concatenate([padded(part.losses) for part in parts], 1),
        constants=np.concatenate([padded(part.constants) for part in parts], 1),
        left=np.concatenate([part.left for part in parts]),
        diverged=np.concatenate([part.diverged for part in parts]),
        constant=parts[0].constant,
        step_seconds=min(part.step_seconds for part in parts),
        timed_out=any(part.timed_out for part in parts),
    )
