"""Forecast the first steps of a training from short trials: when it leaves the plateau, or diverges, and at which learning rates.

    found = forecast(loop, steps=3000)
    found.escape_steps, found.interval          # 1240.0, (870.0, 1800.0)
    found.window                                # (6e-4, 1e-2): learning rates that leave in 3,000 steps

Trials are real steps of the real optimiser (`trials.py`). A training that leaves within a few hundred steps is seen to leave. A later
escape is forecast from trials at larger learning rates, which leave earlier. With T the escape time at the learning rate asked, the
escape time at f times this rate is

    ln T_f = ln T - p ln f + error                               p about 1 for SGD (time x rate is constant), smaller for Adam

T and p are estimated together by Bayes' rule on a grid: ln T has a flat prior, with a share `NEVER` that never leaves; p and the error
are normal. A trial that has not left in n steps contributes the probability of ln T_f > ln n. A share `BROKEN` of the trials at other
rates means nothing, because a rate may be too large.

Legend: T escape time in steps, f factor on the learning rate, p exponent, S steps of the training.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gersgorin.checking.loop import TrainingLoop
from gersgorin.checking.trials import WINDOW, Constant, Trials, run_trials

EXPONENT = {"sgd": (0.92, 0.08), "adaptive": (0.75, 0.2)}  # mean and standard deviation of p
ERROR = 0.15, 0.1  # of ln T_f, and more for each unit of |ln f|
NEVER = 0.35
BROKEN = 0.15
EARLY = 1.25 * WINDOW  # steps; a trial that leaves so early may have left at any time before
BUDGET = 300  # steps of the first two trials, for a training of 1,000
FASTER = 10.0  # first larger factor, and its square root the second
UNCLEAR = 0.08  # probabilities between this and its complement ask for one more trial
SAFE = 0.98  # probability of a training that was seen to leave
LATEST = 1e9  # steps
SPREAD = 0.2  # least half-width of ln T that two halves of the data give


@dataclass(frozen=True)
class Forecast:
    """What short trials say about a training of S steps."""

    escape_steps: float
    """From the first step; inf: does not leave within S steps."""
    interval: tuple[float, float]
    """Of the escape; from trials on disjoint halves of the data."""
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
    budget = int(BUDGET * math.sqrt(max(1.0, steps / 1000)))
    halves = (0, 1) if loop.data.count >= 2 * loop.data.per_step else (None, None)
    all_trials: list[Trials] = []

    def run(doing: str, factors: Sequence[float], parts: Sequence[int | None], **options) -> Trials:
        progress(doing)
        left = end - time.monotonic()
        found = run_trials(loop, factors, parts, seconds=left, constant=constant, seed=seed, **options)
        all_trials.append(found)
        return found

    first = run(
        "the training, and ten times its learning rate",
        [1.0, FASTER],
        halves,
        steps=[steps, min(steps, budget // 2)],
        budget=budget,
        until_first=True,
    )
    law = exponent_of(loop)
    left, diverged, agree = float(first.left[0]), float(first.diverged[0]), True
    if diverged < math.inf:
        for factor in (FASTER**-0.5, 1 / FASTER, FASTER**-2):
            slower = run("smaller learning rates", [factor], halves[:1], steps=min(steps, budget // 2))
            if slower.diverged[0] == math.inf:
                break
        spread, probability, escape = (left, left), 1 - SAFE, left
    elif left < math.inf:
        other = run("the other half of the data", [1.0], halves[1:], steps=min(steps, int(2 * left) + WINDOW))
        again = float(other.left[0])
        agree = other.timed_out or max(left, again) <= 2 * min(left, again)
        diverged = float(other.diverged[0])
        both = [t for t in (left, again) if t < math.inf]
        escape = math.exp(np.mean(np.log(both)))
        wide = max(SPREAD, abs(math.log(both[0] / both[-1])))
        spread = escape * math.exp(-wide), escape * math.exp(wide)
        probability = SAFE if agree else 0.5
    elif first.steps[0] >= steps:
        escape, spread, probability = math.inf, (math.inf, math.inf), 1 - SAFE
    else:
        belief = Belief(law, evidence(all_trials))
        if UNCLEAR < belief.probability(steps) < 1 - UNCLEAR:
            run("three times its learning rate", [FASTER**0.5], halves[:1], steps=min(steps, int(0.8 * budget)))
            belief = Belief(law, evidence(all_trials))
        probability = belief.probability(steps)
        escape, spread = belief.escape(steps)
    joined = joined_trials(all_trials)
    return Forecast(
        escape_steps=escape if escape <= steps else math.inf,
        interval=spread,
        diverges_at=diverged,
        window=window_of(loop, joined, escape, law[0], steps),
        probability=probability,
        halves_agree=agree,
        cut="the time was up before the trials ended" if any(t.timed_out for t in all_trials) else None,
        trials=joined,
    )


def exponent_of(loop: TrainingLoop) -> tuple[float, float]:
    """Mean and standard deviation of p for the loop's optimiser."""
    return EXPONENT["sgd" if isinstance(loop.optimizer, torch.optim.SGD | torch.optim.ASGD) else "adaptive"]


@dataclass(frozen=True)
class Evidence:
    """What one trial says: the factor on its learning rate, its steps, and when it left or diverged (inf: not)."""

    factor: float
    steps: float
    left: float
    diverged: float


def evidence(trials: Sequence[Trials]) -> list[Evidence]:
    """Of all trials."""
    return [
        Evidence(*map(float, row))
        for found in trials
        for row in zip(found.factors, found.steps, found.left, found.diverged, strict=True)
    ]


class Belief:
    """Posterior distribution of the escape time T at the learning rate asked."""

    def __init__(self, law: tuple[float, float], evidence: Sequence[Evidence]):
        from scipy.special import log_ndtr

        self.times = np.linspace(math.log(WINDOW), math.log(LATEST), 300)
        units = np.linspace(-2.5, 2.5, 15)
        exponents = law[0] + law[1] * units
        log_prior = np.full(len(self.times) + 1, math.log((1 - NEVER) / len(self.times)))
        log_prior[-1] = math.log(NEVER)
        total = log_prior - 0.5 * units[:, None] ** 2
        for trial in evidence:
            if trial.diverged < math.inf:
                continue
            distance = math.log(trial.factor)
            own = trial.factor == 1
            error = ERROR[0] + ERROR[1] * abs(distance) if not own else 0.03
            broken = BROKEN if not own else 1e-3
            expected = self.times - exponents[:, None] * distance
            if trial.left == math.inf:
                fits = log_ndtr((expected - math.log(trial.steps)) / error)
                never = 0.0
            elif trial.left <= EARLY and not own:
                fits = log_ndtr((math.log(trial.left) - expected) / error)
                never = math.log(0.3 * BROKEN)
            else:
                fits = -0.5 * ((math.log(trial.left) - expected) / error) ** 2 - math.log(
                    error * math.sqrt(2 * math.pi)
                )
                never = math.log(0.3 * BROKEN)
            anything = 0.0 if trial.left == math.inf else -math.log(math.log(LATEST / WINDOW))
            fits = np.logaddexp(fits + math.log(1 - broken), math.log(broken) + anything)
            total = total + np.append(fits, np.full((len(units), 1), never), axis=1)
        weights = np.exp(total - total.max()).sum(0)
        self.weights = weights / weights.sum()

    def probability(self, steps: float) -> float:
        """Of leaving within so many steps."""
        return float(self.weights[:-1][self.times <= math.log(steps)].sum())

    def escape(self, steps: float) -> tuple[float, tuple[float, float]]:
        """Median of T, and its quantiles of 10 and 90 %; of those that leave within the steps, if this is probable."""
        weights = self.weights
        if self.probability(steps) >= 0.5:
            weights = np.where(np.append(self.times, math.inf) <= math.log(steps), weights, 0.0)
        summed = np.cumsum(weights / weights.sum())
        low, middle, high = (
            np.append(np.exp(self.times), math.inf)[np.searchsorted(summed, q)] for q in (0.1, 0.5, 0.9)
        )
        return float(middle), (float(low), float(high))


def window_of(
    loop: TrainingLoop, trials: Trials, escape: float, exponent: float, steps: int
) -> tuple[float, float] | None:
    """Learning rates from the least that leaves within the steps to the largest that was seen to leave, below all that diverge."""
    bad = trials.factors[np.isfinite(trials.diverged)].min(initial=math.inf)
    good = [f for f, left in zip(trials.factors, trials.left, strict=True) if left < math.inf and f < bad]
    if escape <= steps and bad > 1:
        good.append(1.0)
    if not good:
        return None
    low = min(good)
    if escape < math.inf and bad > 1:
        low = min(low, (escape / steps) ** (1 / exponent))
    return loop.learning_rate * low, loop.learning_rate * max(good)


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
