"""Causes in the pairing of inputs and targets: a kernel ridge regression of the targets of
examples, and of their neighbours' targets.

    found = explained(case, lacking=[])
    found[0], found[1]        # what the inputs explain of their own targets, and of those of the next example

What a kernel regression cannot explain a network may still learn. So only a pairing of neighbours
that explains much, beside one that explains nothing, shows a mistake.

Legend: N examples in their order, D numbers of an example.
"""

from collections.abc import Iterator
from itertools import islice, permutations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from gersgorin.checking.causes.case import Case, noted
from gersgorin.checking.causes.cause import Cause
from gersgorin.training.minibatches import Examples, overlap, sequence_of
from rhn.errors import InvalidInputError

MOST, FEW = 512, 50  # examples in their order
SHIFTS = 3  # examples by which targets are moved at most, in both directions
MOST_CLASSES, MOST_NUMBERS = 256, 2**22  # symbols or classes; numbers of all inputs together
# relative to the mean of the kernel's diagonal
RIDGES = torch.logspace(-4, 1, 6, dtype=torch.float64)
# share of the targets' variance: explained for sure, and no more than by chance
CLEAR, NOTHING = 0.1, 0.02
ALIKE = 0.3  # correlation of rows, above which they are one series
COPY = 0.95  # correlation of an input with a target, from which on it is this target
# times the difference of other numbers side by side in memory: that where a new series begins
JUMPS = 2.0
CHANCE = 5.0  # standard errors of a correlation of 0, above which it is none
UNEXPLAINED = (
    "A kernel regression explains nothing of the targets of left-out examples: check that each "
    "input stands beside its own target "
    "(order of files, sorting, windows that cross series), and still contains what the target "
    "depends on, after random transforms too."
)


def explained(case: Case, lacking: list[str]) -> dict[int, float]:
    """Share of the targets' variance that inputs explain, by the shift of the targets in rows;
    empty for data without such numbers.

    Of windows of one series, which hold the targets of earlier rows, and of other rows that go on
    with those before, only the share without a shift. lacking: takes a sentence if the data cannot
    be read in their order.
    """
    data: Any = case.loop.data
    if case.frames == 1 or not (
        isinstance(data, Examples) or type(data.loader) is DataLoader
    ):  # the first is another cause
        return {}
    with noted(lacking, "pairing of inputs and targets"):
        x, y = _in_order(case)
        found = _explained(_numbers(x), _numbers(y))
        if found.get(0) and overlap(
            len(x), lambda rows: x[rows]
        ):  # neighbours of a window that is left out hold most of it
            return {}
        return {0: found[0]} if any(found[k] for k in found if k) and _overlap(x) else found
    return {}


def _explained(x: Tensor | None, y: Tensor | None) -> dict[int, float]:
    """`explained` of inputs and targets (N, D).

    Ridge regression with a linear and a Gaussian kernel, judged by leaving one example out; 0 if
    the explained part is not correlated with the targets more than by chance.
    """
    if x is None or y is None or len(x) < FEW or len(y) != len(x):
        return {}
    x, y = ((part - part.mean(0)) / part.std(0).clamp_min(1e-12) for part in (x, y))
    linear, distances = x @ x.T, torch.cdist(x, x).square()
    kernel = (
        linear / linear.diagonal().mean().clamp_min(1e-30)
        + (-distances / distances.mean().clamp_min(1e-30)).exp()
    )
    values, vectors = torch.linalg.eigh(kernel)
    ridges = RIDGES * kernel.diagonal().mean()
    filters = values.clamp_min(0) / (values.clamp_min(0) + ridges[:, None])  # (ridges, N)
    # of each example on its own prediction
    own = torch.einsum("nk,rk->rn", vectors.square(), filters)

    def share(shift: int) -> float:
        moved = y.roll(-shift, 0)
        # an input holds earlier targets
        if shift < 0 and (x.T @ moved).abs().max() > COPY * len(x):
            return 0.0
        fitted = torch.einsum("nk,rk,kd->rnd", vectors, filters, vectors.T @ moved)
        left_out = (fitted - own[..., None] * moved) / (1 - own[..., None])
        best = left_out[(moved - left_out).square().sum((1, 2)).argmin()]
        related = torch.corrcoef(torch.stack([best.flatten(), moved.flatten()]))[0, 1].item()
        return max(related, 0.0) ** 2 if related * len(x) ** 0.5 > CHANCE else 0.0

    return {shift: share(shift) for shift in range(-SHIFTS, SHIFTS + 1)}


def _overlap(x: Tensor) -> bool:
    """True if a feature of a row (T, ...) is like that of the row before, as it is or some steps
    later.
    """
    x = x.flatten(2).double() if x.dim() > 2 else x[..., None].double()
    x = x - x.mean(0)  # what all rows have in common
    x = x / x.std((0, 1)).clamp_min(1e-12)
    alike = (
        (x[:-1, s:] * x[1:, : x.shape[1] - s]).mean((0, 1)).max().item() for s in range(x.shape[1])
    )
    return any(related > ALIKE for related in alike)


def mispaired(case: Case, found: dict[int, float], lacking: list[str]) -> list[Cause]:
    """Targets of other rows, or inputs that a reshape mixed. found: by `explained`, which has the
    other arguments.
    """
    causes = [*shifted_targets(found)]
    if not causes and found.get(0, 1.0) < NOTHING:
        with noted(lacking, "order of the axes"):
            causes += reshaped_inputs(case, found[0])
    return causes


def shifted_targets(found: dict[int, float]) -> Iterator[Cause]:
    """Targets of neighbouring examples. found: by `explained`."""
    shift = max(found, key=lambda k: found[k], default=0)
    if shift and found[shift] > CLEAR and found[0] < NOTHING:
        other = f"{abs(shift)} row{'s' * (abs(shift) > 1)} {'later' if shift > 0 else 'earlier'}"
        lines = (
            f"x, y = x[:-{shift}], y[{shift}:]"
            if shift > 0
            else f"x, y = x[{-shift}:], y[:{shift}]"
        )
        yield Cause(
            "shifted targets",
            f"A kernel regression explains {found[shift]:.0%} of the targets {other} than "
            "their inputs, and nothing of those in the "
            "same row.",
            f"Pair them again: {lines}.",
            {"shift": shift, "explained": found[shift], "own": found[0]},
            sure=True,
        )


def reshaped_inputs(case: Case, own: float) -> Iterator[Cause]:
    """Inputs that were reshaped where axes had to be moved: read in another order of axes they
    explain their targets.

    own: what they explain as they are. Not of targets that the place of their row explains: other
    orders of the axes show that place.
    """
    x, y = _in_order(case, MOST_NUMBERS * case.count // case.first.numel())
    rows, x = torch.linspace(0, len(x) - 1, min(len(x), MOST)).long(), x.movedim(0, case.axis)
    if _explained(rows[:, None].double(), _numbers(y[rows])).get(0, 0.0) > NOTHING:
        return
    for order in islice(permutations(range(x.dim())), 1, None):
        shape = [x.shape[axis] for axis in order]
        back = [order.index(axis) for axis in range(x.dim())]
        moved = x.reshape(shape).permute(back).movedim(case.axis, 0)
        share = _explained(_numbers(moved[rows]), _numbers(y[rows])).get(0, 0.0)
        if share > CLEAR:
            yield Cause(
                "reshaped inputs",
                "A kernel regression of the inputs as they are explains nothing of the "
                "targets, of the same numbers read as "
                f"{tuple(shape)} with their axes moved {share:.0%}: a reshape or view took the "
                "place of a transpose.",
                f"Where x is made, use .transpose() or .permute() in place of reshape; or x = "
                f"x.reshape{tuple(shape)}.permute{tuple(back)}.",
                {"shape": shape, "permute": back, "explained": share, "own": own},
                sure=True,
            )
            return


def mixed_frames(case: Case) -> Iterator[Cause]:
    """Whole series of single features, one after the other in memory, that are read as frames: (N,
    m, T) was reshaped to (N, T, m).

    Then numbers side by side differ most where a new series begins, each T numbers, and nowhere
    else.
    """
    if case.axis or case.frames is None or not case.first.is_floating_point():
        return
    count, T, m = case.first.shape
    # frames have to begin elsewhere than series
    if min(T, m) == 1 or m % T == 0 or count * (m - 1) < FEW:
        return
    begins, jumps = (
        torch.arange(1, m * T) % T == 0,
        case.first.flatten(1).double().diff().square().mean(0).sqrt(),
    )
    new, other = jumps[begins].min().item(), jumps[~begins].max().item()
    if new > JUMPS * other:
        yield Cause(
            "reshaped inputs",
            f"In memory, numbers side by side differ by {new:.2g} or more (root mean square) "
            f"after each {T} numbers, elsewhere by "
            f"{other:.2g} at most: the {m} features lie one after the other with all their "
            "steps, but x is read step by step.",
            "Where x is made, use .transpose(1, 2) in place of reshape or view; or x = "
            f"x.reshape(-1, {m}, {T}).transpose(1, 2).",
            {"shape": [count, m, T], "new_series": new, "others": other},
        )


def frames_apart(x: Tensor) -> Tensor:
    """The frames (N, T, m) of what was reshaped from (N, m, T)."""
    return x.reshape(len(x), x.shape[2], x.shape[1]).transpose(1, 2)


def _in_order(case: Case, most: int = MOST) -> tuple[Tensor, Tensor]:
    """The first examples in their order, with the axis of the examples first."""
    data: Any = case.loop.data
    if isinstance(data, Examples):
        x, y = data.take(torch.arange(min(data.count, most)))
    else:
        whole: Any = data.loader.dataset
        # with the examples that are held out
        whole = whole.dataset if isinstance(whole, Subset) else whole
        ready = data.loader.batch_size is None  # its rows are batches
        count = min(len(whole), -(-most // case.count) if ready else most)
        pairs = data.rows(whole, range(count), None if ready else count)
        if len({x.shape[1 - case.axis] for x in (sequence_of(x) for x, _ in pairs)}) > 1:
            raise InvalidInputError("its batches have other numbers of steps")
        x = torch.cat([sequence_of(x) for x, _ in pairs], case.axis)
        y = torch.cat([y for _, y in pairs], case.target_axis)
    return sequence_of(x).movedim(case.axis, 0), y.movedim(case.target_axis, 0)


def _numbers(values: Tensor) -> Tensor | None:
    """(N, D) of numbers, or of symbols and classes as ones and zeros; None if there are too
    many.
    """
    if not values.is_floating_point() and not 0 <= values.min() <= values.max() < MOST_CLASSES:
        return None
    if values.numel() * (1 if values.is_floating_point() else int(values.max()) + 1) > MOST_NUMBERS:
        return None
    values = values if values.is_floating_point() else F.one_hot(values.long())
    return values.flatten(1).double() if values.dim() > 1 else values[:, None].double()
