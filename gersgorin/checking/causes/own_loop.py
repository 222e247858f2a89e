"""Causes in a user's own loop: its losses beside those of the same training in a plain loop.

Legend: S losses of the user's run, one a step.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch

from gersgorin._validate import random_numbers_kept
from gersgorin.checking.causes.case import Case
from gersgorin.checking.causes.cause import Cause
from gersgorin.checking.causes.rates import too_few
from gersgorin.checking.trials import LEFT, WINDOW, Trial
from rhn.training.ensemble import flushed

FIRST = 5  # losses of a start
SEVERAL = 3.0  # standard deviations by which losses differ by more than chance
OTHER = 1.5  # times the loss of the first steps, at least, that is another start
FELL = 0.95  # of the constant's loss, below which the plain loop has learned something
# of the way down from the constant's loss that the user's training must miss to be worse
WORSE = 0.25
SHORT = 200  # steps of the loops with a mistake
MOST = 1e12  # a loss that counts
MISTAKES: dict[str, tuple[dict[str, bool], str, str]] = {
    "": (
        {},
        "",
        "Compare your loop with: optimizer.zero_grad(); loss.backward(); optimizer.step(), "
        "model.train(), shuffled data.",
    ),
    "zero_grad": (
        {"clears": False},
        "; yours behave as in a loop without optimizer.zero_grad(), in which the gradients of "
        "all steps add up",
        "Call optimizer.zero_grad() before loss.backward() in each step.",
    ),
    "step": (
        {"moves": False},
        "; yours fall as little as if no weight moved",
        "Check that its batches are these x and y, also after transforms, that "
        "optimizer.step() is called after loss.backward(), that "
        "the optimiser holds the weights of this model, and its "
        "learning rate.",
    ),
}


def own_losses(case: Case, losses: Sequence[float], trial: Trial) -> Iterator[Cause]:
    """The losses of a user's run start elsewhere, do not fall where those of the same training do,
    or end too early.
    """
    n = min(len(losses), trial.steps)
    if n < FIRST:
        return
    theirs, ours, constants = (
        np.asarray(values[:n], float) for values in (losses, trial.losses, trial.constants)
    )
    tail = slice(max(0, n - WINDOW), n)
    constant, own, noise = (
        constants[tail].mean(),
        ours[tail].mean(),
        ours[tail].std() / math.sqrt(min(n, WINDOW)),
    )
    end = theirs[tail].mean() if np.isfinite(theirs[tail]).all() else math.inf
    start, own_start = theirs[:FIRST].mean(), ours[:FIRST].mean()
    apart = abs(start - own_start) > SEVERAL * ours[:WINDOW].std()
    if own < FELL * constant and end - own > max(WORSE * (constant - own), SEVERAL * noise):
        words, remedy = _mistake(case, theirs, ours)
        yield Cause(
            "own loop",
            f"After {n:,} steps your loss is {end:.3g}, that of the same training in a plain "
            f"loop {own:.3g} (that of the best constant "
            f"output {constant:.3g}){words}.",
            remedy,
            {"yours": end, "plain": own, "constant": constant, "steps": n},
            sure=True,
        )
    elif max(start, own_start) > OTHER * min(start, own_start) and apart:
        yield Cause(
            "own loop",
            f"Your first losses have a mean of {start:.3g}, those of the same model on the "
            f"same data {own_start:.3g}: your loop starts "
            "from other data or weights.",
            "Compare the scale and order of the data, the weights, the reduction of the loss, "
            "train() and eval().",
            {"yours": start, "plain": own_start},
        )
    elif len(losses) < trial.left < math.inf and end > LEFT * constant:
        yield too_few(len(losses), trial.left)


def _mistake(case: Case, theirs: np.ndarray, ours: np.ndarray) -> tuple[str, str]:
    """(Which usual mistake gives such losses in words, what to do)."""
    n = min(len(theirs), SHORT)

    def distance(others: np.ndarray) -> float:
        a, b = (_smooth(v[: min(n, len(others))]) for v in (theirs, others))
        return float(np.abs(np.log(np.maximum(a, 1e-12)) - np.log(np.maximum(b, 1e-12))).mean())

    best, found = distance(ours), ""
    with flushed(), random_numbers_kept(case.loop.model):
        for name, (options, _, _) in [*MISTAKES.items()][1:]:
            torch.manual_seed(0)
            others = np.array(
                [min(loss.item(), MOST) for _, _, loss in islice(case.training(**options), n)]
            )
            if (far := distance(np.nan_to_num(others, nan=MOST))) < best / 2:
                best, found = far, name
    return MISTAKES[found][1:]


def _smooth(values: np.ndarray) -> np.ndarray:
    size = min(16, len(values))
    return np.convolve(np.nan_to_num(values, nan=MOST, posinf=MOST), np.ones(size) / size, "valid")
