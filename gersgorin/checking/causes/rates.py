"""Causes in the training: a learning rate, a number of steps, an explosion.

A training that stays is tried at learning rates of all decades, and for more steps if it is short.
"""

import math
from collections.abc import Iterator
from itertools import islice

import torch

from gersgorin.checking.causes.case import Case
from gersgorin.checking.causes.cause import Cause, listed
from gersgorin.checking.causes.data import USUAL
from gersgorin.checking.causes.repairs import CLIP, Trials, left
from gersgorin.checking.forecast import Forecast
from gersgorin.checking.trials import Trial
from gersgorin.training.training import times

SHORT, LEAST = 0.15, 100  # of the steps of a training, for one at another learning rate; least steps
MOVES = 0.98  # of the training's own loss at the same step: one at another rate that is followed to its end
LONGER = 4  # times the steps of the training, to see whether it needs more
FEW_STEPS, FEW_EPOCHS = 200, 2.0  # of a training that may need more
RATES = {"SGD": (1e-3, 10.0), "other": (1e-5, 0.1)}  # least and greatest learning rate that is tried
FAR = 3.0  # times the usual learning rates: one that is compared with a more usual one although it leaves
BETTER = 0.7  # of the loss at the same step: a rate that is better
LATE = 0.8  # of the steps: a training that leaves later has no time to learn
GROWN = 10.0  # times the first gradient, at least, to be said
MOST_REPEATED = 300  # steps that are repeated to see what grows


def explosion(case: Case, at: float) -> Cause:
    """The step at which a training explodes, and the weight whose gradient grows most before."""
    first: dict[str, float] = {}
    last, broken = first, list[str]()
    for model, _, _ in islice(case.training(), int(min(at, MOST_REPEATED))):
        norms = {name: float(p.grad.norm()) for name, p in model.named_parameters() if p.grad is not None}
        broken = [name for name, norm in norms.items() if not math.isfinite(norm)]
        if broken:
            break
        first, last = first or norms, norms
    growth = {name: norm / max(first[name], 1e-30) for name, norm in last.items()}
    worst = max(growth, key=lambda name: growth[name], default="")
    if worst and growth[worst] > GROWN:
        return Cause(
            "explosion",
            f"The loss explodes at step {at:,.0f}: the gradient of {worst} has grown {growth[worst]:.2g} times, to {last[worst]:.2g}.",
            f"Clip the gradients: torch.nn.utils.clip_grad_norm_(model.parameters(), {CLIP}) before optimizer.step().",
            {"step": at, "growth": growth},
            sure=True,
        )
    where = f"the gradients of {listed(broken)} are not finite" if broken else "the gradients are finite before"
    return Cause(
        "not finite" if broken else "explosion",
        f"The loss is no number, or beyond all bounds, at step {at:,.0f}, and nothing had grown: {where}.",
        "Look at this minibatch for rows of padding only, and in the model and the loss for a root or log of 0, or a division by 0.",
        {"step": at, "growth": growth},
        sure=True,
    )


def rate_is_usual(case: Case) -> bool:
    """True if the learning rate is in the range that is rarely the cause."""
    low, high = USUAL[_kind(case)]
    return low <= case.loop.learning_rate <= high


def _kind(case: Case) -> str:
    return "SGD" if isinstance(case.loop.optimizer, torch.optim.SGD) else "other"


def rate_or_length(case: Case, found: Forecast, trials: Trials) -> tuple[list[Cause], list[Trial]]:
    """(A learning rate or a length with which the training leaves, the trials at other rates)."""
    own, tried = found.trials[0], list[Trial]()
    few = case.steps <= FEW_STEPS or case.steps < FEW_EPOCHS * case.loop.data.epoch or _falls(own)
    questions = [_longer, _other_rates] if rate_is_usual(case) and few else [_other_rates] + [_longer] * few
    for question in questions:
        cause, more = question(case, found, trials)
        tried += more
        if cause is not None:
            return [cause], tried
    return [], tried


def better_rate(case: Case, found: Forecast, trials: Trials) -> Iterator[Cause]:
    """A learning rate far from the usual ones, at a tenth or ten times of which the loss is much lower after the same steps."""
    rate, (low, high), own = case.loop.learning_rate, USUAL[_kind(case)], found.trials[0]
    if case.loop.scheduler is not None or low / FAR <= rate <= high * FAR:
        return
    factor, word = (0.1, "high") if rate > high else (10.0, "low")
    trials.progress("a more usual learning rate")
    for trial in trials.run(case.loop, [factor], own.steps, to_the_end=True):
        ends = float(own.ratios[-1]), float(trial.ratios[-1])
        if trial.steps == own.steps and ends[1] < BETTER * ends[0]:
            yield Cause(
                f"learning rate too {word}",
                f"After {own.steps:,} steps at the learning rate {rate:.4g} the loss is {ends[0]:.2g} of a constant output's, at "
                f"{times(rate, factor):.4g} {ends[1]:.2g}.",
                f"Set lr={times(rate, factor):g}.",
                {"learning_rate": times(rate, factor), "loss": ends[0], "better": ends[1]},
            )


def _falls(trial: Trial) -> bool:
    """True if the loss fell by 1 % in the last third of a trial."""
    ratios = trial.ratios
    return len(ratios) > 3 and bool(ratios[-1] < 0.99 * ratios[-(len(ratios) // 3)])


def _longer(case: Case, found: Forecast, trials: Trials) -> tuple[Cause | None, list[Trial]]:
    if case.loop.scheduler is not None:
        return None, []
    trials.progress("more steps")
    longer = trials.run(case.loop, [1.0], LONGER * case.steps)
    if not longer or not case.steps < longer[0].left < math.inf or longer[0].diverged < math.inf:
        return None, []
    return too_few(case.steps, longer[0].left), []


def too_few(steps: int, left: float) -> Cause:
    """The cause of a training that is too short."""
    return Cause(
        "too few steps",
        f"The training has {steps:,} steps, and leaves the loss of a constant output after {left:,.0f}.",
        f"Train for {LONGER * left:,.0f} steps or more.",
        {"steps": steps, "left": left},
    )


def _other_rates(case: Case, found: Forecast, trials: Trials) -> tuple[Cause | None, list[Trial]]:
    rate, limits = case.loop.learning_rate, RATES[_kind(case)]
    factors = [10.0**k for k in range(-7, 8) if k and limits[0] * 0.999 <= rate * 10.0**k <= limits[1] * 1.001]
    if not factors or case.loop.scheduler is not None:
        return None, []
    trials.progress("learning rates of all decades")
    length = max(LEAST, int(SHORT * case.steps))
    tried = trials.run(case.loop, factors, length)
    if tried and not any(map(left, tried)) and length < case.steps:
        best = min(
            tried, key=lambda trial: trial.ratios[-1] if trial.diverged == math.inf and trial.steps else math.inf
        )
        if best.steps and best.ratios[-1] < MOVES * found.trials[0].ratios[best.steps - 1]:
            tried += trials.run(case.loop, [best.factor], case.steps)
    gone = [trial for trial in (*found.trials[1:], *tried) if left(trial) and trial.confirmed]
    if not gone:
        return None, tried
    best = min(gone, key=lambda trial: trial.ratios[-1])
    better = times(rate, best.factor)
    word = "low" if best.factor > 1 else "high"
    return (
        Cause(
            f"learning rate too {word}",
            f"The learning rate {rate:.4g} is too {word}: at {better:.4g} the training leaves after {best.left:,.0f} steps.",
            f"Set lr={better:g}.",
            {"learning_rate": better, "left": best.left},
            sure=True,
        ),
        tried,
    )
