"""Causes by examples kept out: learned by heart, always the commonest class, a forecast no better
than the last value.

    watch = Watch(case, constant, others=[])
    run_trials(..., wants_more=watch.wants_more)       # the first trial continues to a decision, or to its end
    watch.causes()

A reading is the mean gain, 1 - loss / that of the best constant output, over parts of the examples,
with its standard error. What is learned by heart gains on the examples of the training and nothing
on others.

Legend: P parts of the examples.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, Subset

from gersgorin._validate import random_numbers_kept, users_code
from gersgorin.checking.causes.case import Case
from gersgorin.checking.causes.cause import Cause
from gersgorin.checking.causes.data import COMMON, common_class
from gersgorin.checking.trials import ROUNDING, Constant
from gersgorin.training.losses import NegativeLossError
from gersgorin.training.minibatches import (
    FEW,
    Batches,
    Examples,
    Pair,
    number_kept,
    overlap,
    sequence_of,
)

PARTS = 16
FEW_BATCHES = 20  # of a DataLoader of batches, of which some are kept out
LATER = 1.25  # times the steps of a reading that does not decide, for the next one
# epochs after which a network may overfit; share of a training that it is watched for at most
MANY, HALF = 25, 0.5
MOST_STEPS = 1000  # of these epochs: of more examples it hardly overfits
GAINS = 0.05  # of the constant's loss, on examples of the training, from which on a reading decides
MOST_GAIN = 0.9  # on examples of the training, from which on more steps tell no more
MOST = 0.75  # share of that gain, which examples kept out do not reach if the network overfits
CARRIES = 0.2  # share of that gain that examples kept out have as well
ERRORS = 2.0  # standard errors
ENOUGH = 30  # examples kept out, without which nothing is likely
AS_GOOD = 0.8  # of the loss of repeating the last value: a network with more is no better
COPIES = 1e-3  # of the constant's loss, below which the targets are the inputs
# options of a DataLoader
KEPT = ("drop_last", "collate_fn", "num_workers", "worker_init_fn", "timeout", "generator")
STRONG = 0.5  # of the constant's loss, below which repeating the last value is a forecast


@dataclass(frozen=True)
class Reading:
    """Gains after some steps."""

    step: int
    trained: float
    """On examples of the training."""
    kept: float
    """On examples kept out."""
    error: float
    """Standard error of `kept`."""
    ahead: float = math.nan
    """Gain beyond that of repeating the last value, in standard errors."""
    commonest: bool = False
    """True if the answers are all the commonest class, which nearly all targets are."""

    @property
    def by_heart(self) -> bool | None:
        """True if nothing carries over, False if something does, None if that cannot be told."""
        if self.trained < GAINS or math.isnan(self.error):
            return None
        if self.kept + ERRORS * self.error < CARRIES * self.trained or (
            self.trained > MOST_GAIN / 2 and self.kept + self.error < 0
        ):
            return True
        return False if self.kept - ERRORS * self.error > CARRIES * self.trained else None

    @property
    def overfits(self) -> bool:
        """True if most of a large gain on the training's own examples does not hold for others,
        although some of it may.
        """
        return (
            self.by_heart is None
            and self.trained > MOST_GAIN / 2
            and self.kept + ERRORS * self.error < MOST * self.trained
        )

    @property
    def likely_by_heart(self) -> bool:
        """True if a gain on the training's own examples comes without one on others, although that
        may be by chance.
        """
        return (
            self.by_heart is None
            and self.trained > 0
            and self.kept < min(0.0, self.trained - self.error)
        )


class Watch:
    """Readings of the first trial after its loss has left. others: of a validation set, if no
    examples can be kept out.
    """

    def __init__(self, case: Case, constant: Constant, others: list[Pair]):
        self.loop, self.constant, self.next, self.steps = case.loop, constant, 0, case.steps
        self.readings: list[Reading] = []
        self.kept, self.trained = _kept_out(case.loop.data)
        if others and not self.kept:
            self.kept, self.trained = others, case.loop.data.minibatches(len(others))
        self.enough = sum(y.shape[case.target_axis] for _, y in self.kept) >= ENOUGH
        self.share = common_class(getattr(case.loop.data, "y", case.y))[1]
        self.last = self._repeats(case) if self.kept else None
        hint = (
            "it keeps what it has computed, as recurrent layers with weight_norm do: remove "
            "that for the check"
        )
        with users_code(f"{type(case.model).__name__} cannot be copied once it has run", hint):
            copy.deepcopy(case.model)
        self.model: nn.Module | None = None  # of the trial, as long as it asks for more

    def _repeats(self, case: Case) -> tuple[float, float, list[float]] | None:
        """(Mean loss of repeating the last value relative to the constant's, that of a linear map
        of it, losses (P,)); None if the targets are no forecast.
        """
        if not case.y.is_floating_point() or self.loop.before is not None:
            return None
        values = [_last_values(case, pair) for pair in (*self.kept, *self.trained)]
        kept, known = values[: len(self.kept)], values[len(self.kept) :]
        if not kept[0] or self.loop.goals(self.kept[:1])[0][0] != kept[0][0].shape:
            return None
        of = lambda frames, pairs: [
            self.loop.loss_fn(f, y).item() for f, (_, y) in zip(frames, pairs, strict=True)
        ]  # noqa: E731
        best = min(
            range(len(kept[0])), key=lambda k: sum(of([each[k] for each in known], self.trained))
        )
        frames, others = ([each[best] for each in some] for some in (kept, known))
        losses, constant = of(frames, self.kept), sum(self.constant.losses(self.kept))
        ratio = sum(losses) / constant
        if not (case.ahead == 1 or COPIES < ratio < STRONG):
            return None
        X, Y = (
            torch.cat([part.flatten(0, -2) for part in parts]).double()
            for parts in (others, [y for _, y in self.trained])
        )
        weights = torch.linalg.lstsq(F.pad(X, (0, 1), value=1.0), Y).solution
        mapped = [
            (F.pad(frame.double(), (0, 1), value=1.0) @ weights).to(frame) for frame in frames
        ]
        return ratio, sum(of(mapped, self.kept)) / constant, losses

    def wants_more(self, model: nn.Module, step: int) -> bool:
        """True if the last reading does not decide: the trial continues."""
        self.model = model
        if step >= min(self.next, self.steps):
            self.readings.append(self._read(model, step))
            self.next = math.ceil(LATER * step)
        last = self.readings[-1]
        # may overfit later
        again = step < MANY * self.loop.data.epoch <= min(HALF * self.steps, MOST_STEPS)
        return (
            ((last.by_heart is None or again) and last.trained < MOST_GAIN)
            or self._behind
            or last.commonest
        )

    @property
    def _behind(self) -> bool:
        """True if repeating the last value is as good."""
        return (
            self.last is not None and self.last[0] < STRONG and not self.readings[-1].ahead > ERRORS
        )

    @property
    def generalises(self) -> bool:
        """True if the last reading shows that something learned holds for other examples."""
        return bool(self.readings) and self.readings[-1].by_heart is False

    @torch.no_grad()
    def _read(self, model: nn.Module, step: int) -> Reading:
        """Raises NegativeLossError for losses whose mean is below 0."""
        # in training mode, as its loss is; normalisations count their calls
        model = copy.deepcopy(model)
        with random_numbers_kept(model):
            kept, trained = (
                np.array([self.loop.loss(model, *pair).item() for pair in some])
                for some in (self.kept, self.trained)
            )
            answers = [
                classes(self.loop.output(model, x), y) for x, y in self.kept if self.share >= COMMON
            ]
        constants = np.array(self.constant.losses(self.kept))
        if (least := min(kept.mean(), trained.mean())) < -ROUNDING * self.constant.loss:
            raise NegativeLossError(float(least), self.constant.loss)
        ratio = kept.sum() / constants.sum()
        # of a ratio of two means, which vary together
        errors = (kept - ratio * constants) / constants.mean()
        return Reading(
            step=step,
            trained=1 - trained.sum() / sum(self.constant.losses(self.trained)),
            kept=1 - ratio,
            error=errors.std(ddof=1) / math.sqrt(len(errors)) if len(errors) > 1 else math.nan,
            ahead=math.nan if self.last is None else _in_errors(np.array(self.last[2]) - kept),
            commonest=bool(answers) and len(torch.cat(answers).unique()) == 1,
        )

    def causes(self, *, well: bool, matched: bool = False) -> Iterator[Cause]:
        """The cause that the last reading shows, if any. well: the training leaves in time.
        matched: targets belong to their inputs.
        """
        if not self.readings:
            return
        last = self.readings[-1]
        loss, own = 1 - last.kept, 1 - last.trained
        numbers = {"kept_out": loss, "error": last.error, "trained": own, "step": last.step}
        after = (
            f"After {last.step:,} steps the loss, relative to that of the best constant output, is"
        )
        likely = last.overfits or (last.likely_by_heart and not (well and last.step < self.steps))
        if last.by_heart or (likely and self.enough):
            between = f"{loss - ERRORS * last.error:.2g} to {loss + ERRORS * last.error:.2g}"
            yield Cause(
                "learned by heart",
                f"{after} {own:.3g} on training examples and {loss:.3g} ({between}) on "
                "held-out examples: "
                f"{'' if last.by_heart else 'so far '}the network memorises its examples and "
                "does not generalise.",
                "Use more data, a smaller network, dropout or weight decay."
                if matched
                else "Check that inputs and targets still match (shuffled separately, shifted, "
                "sorted); otherwise use more data, a "
                "smaller network, dropout or weight decay.",
                numbers,
            )
        elif last.commonest:
            yield Cause(
                "class imbalance",
                f"After {last.step:,} steps every prediction on held-out examples is the "
                f"commonest class, to which {self.share:.0%} of "
                "all targets belong.",
                "Weight each class in the loss by 1 / its share, or sample the classes equally "
                "often; judge by balanced accuracy.",
                numbers | {"share": self.share},
            )
        elif (
            self._behind and self.last is not None and self.enough and loss > AS_GOOD * self.last[0]
        ):
            repeated, linear, _ = self.last
            yield Cause(
                "repeats the last value",
                f"{after} {loss:.3g} on held-out examples; repeating the last value gives "
                f"{repeated:.3g}, a linear map of it "
                f"{linear:.3g}.",
                "Predict the change, y - x[:, -1], instead of the value: a constant output "
                "then repeats the last value. For a random "
                "walk nothing better can be predicted.",
                numbers | {"repeated": repeated, "linear": linear},
            )


def _kept_out(data: Examples | Batches) -> tuple[list[Pair], list[Pair]]:
    """(Examples kept out of the training, as many of it), each in parts; a DataLoader of a dataset
    is replaced by one of the others.
    """
    if isinstance(data, Examples):
        return data.kept_out(PARTS)
    if data.held is None:
        data.held = _kept_out_of_loader(data)
    return data.held


def _kept_out_of_loader(data: Batches) -> tuple[list[Pair], list[Pair]]:
    loader: Any = data.loader
    usual = type(loader) is DataLoader and type(loader.sampler) in (
        RandomSampler,
        SequentialSampler,
    )
    ready = usual and loader.batch_size is None  # its rows are batches
    if (
        not usual
        or (ready and loader.batch_sampler)
        or len(loader.sampler) != (count := len(loader.dataset))
    ):
        return [], []
    if count < (FEW_BATCHES if ready else FEW):
        return [], []
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()
    number = min(number_kept(count), PARTS) if ready else number_kept(count)
    size = None if ready else -(-number // PARTS)
    number -= number % (size or 1)  # parts of equal sizes
    rows_of = lambda rows: sequence_of(data.rows(loader.dataset, rows, len(rows))[0][0])  # noqa: E731
    if size and (gap := overlap(count, rows_of)):
        order = [
            *range(count - number, count),
            *(row for row in order if row < count - number - gap),
        ]
    kept, others = (
        data.rows(loader.dataset, rows, size)
        for rows in (order[:number], order[number : 2 * number])
    )
    data.loader = DataLoader(
        Subset(loader.dataset, sorted(order[number:])),
        loader.batch_size,
        shuffle=isinstance(loader.sampler, RandomSampler),
        **{name: getattr(loader, name) for name in KEPT},
    )
    return kept, others


def _last_values(case: Case, pair: Pair) -> list[Tensor]:
    """Candidates for the last value before each target, in the shape of the targets: the frame
    before, or one of its features.
    """
    x, y = sequence_of(pair[0]), pair[1]
    if x.dim() < 3 or not x.is_floating_point():
        return []
    frame = x if x.dim() == y.dim() and x.shape[:2] == y.shape[:2] else x.select(1 - case.axis, -1)
    if frame.dim() != y.dim() or frame.shape[:-1] != y.shape[:-1]:
        return []
    return [frame] if frame.shape == y.shape else [part.expand_as(y) for part in frame.split(1, -1)]


def classes(output: Tensor, y: Tensor) -> Tensor:
    """The classes that outputs stand for."""
    if output.shape == y.shape:
        return (output > (0.5 if output.min() >= 0 and output.max() <= 1 else 0)).long().flatten()
    axis = next(
        (a for a in range(output.dim()) if output.shape[:a] + output.shape[a + 1 :] == y.shape), -1
    )
    return output.argmax(axis).flatten()


def _in_errors(values: np.ndarray) -> float:
    """The mean in standard errors."""
    return float(values.mean() / max(values.std(ddof=1) / math.sqrt(len(values)), 1e-30))
