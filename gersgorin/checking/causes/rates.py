"""Causes in the training: a learning rate, a number of steps, an explosion."""

import math
from collections.abc import Iterator
from itertools import islice

import torch

from gersgorin.checking.causes.case import Case
from gersgorin.checking.causes.cause import BELOW, Cause, listed
from gersgorin.checking.causes.data import USUAL
from gersgorin.checking.reach import Reach
from gersgorin.checking.trials import Trial
from gersgorin.training.training import times
from rhn.errors import USERS_FAULT

CLIP = 1.0  # norm of gradients
FEW, LONGER = 200, 10  # steps of a training that may need more; times these, to see whether it does
# least and greatest learning rate that is tried
RATES = {"SGD": (1e-3, 10.0), "other": (1e-5, 0.1)}
MOST_RATES = 3  # that are tried
# times the usual learning rates: one that is compared with a more usual one although it leaves
FAR = 3.0
# of the constant's loss; of the loss a third of the training before: about to leave
BEGINS, FALLS = 0.99, 0.99
GROWN = 10.0  # times the first gradient, or the output of half the sequence, at least, to be said
STILL = 1e-3  # of the highest learning rate of a schedule, below which it has ended
# of the steps: a training that leaves later, or a schedule that ends later, has no time to learn
# more
LATE = 0.8
MOST_REPEATED = 300  # steps that are repeated to see what grows


def explosion(case: Case, at: float) -> Cause:
    """The step at which a training explodes, and what grows before: the gradient of a weight, or
    the outputs along the sequence.
    """
    first: dict[str, float] = {}
    last, broken, model = first, list[str](), case.model
    for model, _, _ in islice(case.training(), int(min(at, MOST_REPEATED))):
        norms = {
            name: float(p.grad.norm()) for name, p in model.named_parameters() if p.grad is not None
        }
        broken = [name for name, norm in norms.items() if not math.isfinite(norm)]
        if broken:
            break
        first, last = first or norms, norms
    growth = {name: norm / max(first[name], 1e-30) for name, norm in last.items()}
    worst = max(growth, key=lambda name: growth[name], default="")
    half, whole = _outputs_along(case, model)
    if (worst and growth[worst] > GROWN) or whole > GROWN * half:
        grown = (
            f"the gradient of {worst} has grown {growth.get(worst, 0):.2g}-fold, to "
            f"{last.get(worst, 0):.2g}."
        )
        longer = (
            f"the outputs are {half:.2g} after half of the {case.frames} steps of a "
            f"sequence, {whole:.2g} after all of them."
        )
        return Cause(
            "explosion",
            f"The loss explodes at step {at:,.0f}: {longer if whole > GROWN * half else grown}",
            f"Clip the gradients: torch.nn.utils.clip_grad_norm_(model.parameters(), {CLIP}) "
            "before optimizer.step(); or use tanh "
            "instead of ReLU in the recurrence, or smaller recurrent weights.",
            {"step": at, "growth": growth, "half": half, "whole": whole},
            sure=True,
        )
    where = (
        f"the gradients of {listed(broken)} are not finite"
        if broken
        else "the gradients before it are finite"
    )
    return Cause(
        "not finite" if broken else "explosion",
        f"The loss is NaN or far too large at step {at:,.0f}, although nothing had grown: {where}.",
        "Look at this minibatch for rows of padding only, and in the model and the loss for a "
        "root or log of 0, or a division by 0.",
        {"step": at, "growth": growth},
        sure=True,
    )


@torch.no_grad()
def _outputs_along(case: Case, model: torch.nn.Module) -> tuple[float, float]:
    """Size of the outputs of a trained model for the first half of the sequences, and for all of
    it; 0 if these are not to be had.
    """
    if (case.frames or 0) < 4 or not isinstance(case.x, torch.Tensor):
        return 0.0, 0.0
    try:
        half = case.loop.output(model, case.x.narrow(1 - case.axis, 0, (case.frames or 0) // 2))
        sizes = [float(output.abs().max()) for output in (half, case.loop.output(model, case.x))]
    except USERS_FAULT:  # of a model that takes one number of frames
        return 0.0, 0.0
    return (
        (sizes[0], sizes[1]) if math.isfinite(sizes[0]) and not math.isnan(sizes[1]) else (0.0, 0.0)
    )


def exploding_start(reach: Reach) -> Cause:
    """A start whose gradient grows towards earlier steps beyond any use."""
    grown = float(reach.norms.max() / reach.norms[0])
    return Cause(
        "explosion",
        f"At the initial weights the gradient explodes: at one of {reach.frames} steps it is "
        f"{grown:.1g} times that at the last.",
        "Draw smaller recurrent weights, use tanh instead of ReLU, and clip the gradients.",
        {"grown": grown, "frames": reach.frames},
    )


def rate_is_usual(case: Case) -> bool:
    """True if the learning rate is in the range that is rarely the cause."""
    low, high = USUAL[case.kind]
    return low <= case.loop.learning_rate <= high


def decades(case: Case) -> list[float]:
    """Factors on the learning rate: the decades nearest to the usual ones."""
    rate, (least, most), (low, high) = case.loop.learning_rate, RATES[case.kind], USUAL[case.kind]
    if case.loop.scheduler is not None:
        return []
    factors = [
        10.0**k for k in range(-9, 10) if k and least * 0.999 <= rate * 10.0**k <= most * 1.001
    ]
    outside = lambda factor: abs(math.log(min(max(rate * factor, low), high) / (rate * factor)))  # noqa: E731
    return sorted(factors, key=lambda factor: (round(outside(factor), 6), abs(math.log(factor))))[
        :MOST_RATES
    ]


def rate_cause(case: Case, trial: Trial) -> Cause:
    """A learning rate with which the training leaves, or is better."""
    rate, better = case.loop.learning_rate, times(case.loop.learning_rate, trial.factor)
    word = "low" if trial.factor > 1 else "high"
    leaves = f": at {better:.4g} the loss {BELOW} after {trial.left:,.0f} steps" * (
        trial.left < math.inf
    )
    return Cause(
        f"learning rate too {word}",
        f"The learning rate {rate:.4g} is too {word}{leaves}.",
        f"Set lr={better:g}.",
        {"learning_rate": better, "left": trial.left},
    )


def towards_usual(case: Case) -> float:
    """A tenth or ten times the learning rate, as a factor, if this is far from the usual ones; else
    1.
    """
    rate, (low, high) = case.loop.learning_rate, USUAL[case.kind]
    if case.loop.scheduler is not None or low / FAR <= rate <= high * FAR:
        return 1.0
    return 0.1 if rate > high else 10.0


def scheduled_end(case: Case) -> int:
    """Step from which a scheduler keeps the learning rate below `STILL` of its highest one; the
    last step if it does so in time.
    """
    rows = [case.loop.scheduled(step) for step in range(case.steps)]
    rates = [
        max(group["lr"] * rate for group, rate in zip(row, case.loop.rates, strict=True))
        for row in rows
    ]
    end = 1 + max(step for step, rate in enumerate(rates) if rate >= STILL * max(rates))
    return end if end < LATE * case.steps else case.steps


def too_few(steps: int, left: float) -> Cause:
    """The cause of a training that is too short."""
    return Cause(
        "too few steps",
        f"The training has {steps:,} steps, but its loss {BELOW} only after {left:,.0f}.",
        f"Train for {4 * left:,.0f} steps or more.",
        {"steps": steps, "left": left},
    )


def still_falling(trial: Trial) -> Iterator[Cause]:
    """A training that ends when its loss begins to fall."""
    ratios = trial.ratios
    if len(ratios) > 3 and ratios[-1] < min(BEGINS, FALLS * ratios[-(len(ratios) // 3)]):
        yield Cause(
            "too few steps",
            f"After {trial.steps:,} steps the loss is {ratios[-1]:.3f} times that of the best "
            "constant output, and still falls.",
            f"Train for {4 * trial.steps:,} steps or more.",
            {"steps": trial.steps, "loss": float(ratios[-1])},
        )
