"""What a training learns that carries over to examples kept out of it, and whether a forecast is better than repeating the last value.

    watch = Watch(case, constant)
    run_trials(..., watch=watch)           # the first trial goes on until this can be told, or to its end
    watch.causes()

A reading is the mean gain, 1 - loss / that of the best constant output, over parts of the examples, with its standard error. What is
learned by heart gains on the examples of the training and nothing on others.

Legend: P parts of the examples.
"""

import copy
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin.checking.causes.case import Case
from gersgorin.checking.causes.cause import Cause
from gersgorin.checking.causes.wiring import continues
from gersgorin.checking.loop import random_numbers_kept
from gersgorin.checking.minibatches import Examples, Pair, sequence_of
from gersgorin.checking.trials import Constant
from rhn.errors import InvalidInputError

PARTS = 16
LATER = 1.1  # times the steps of a reading that does not decide, for the next one
GAINS = 0.05  # of the constant's loss, on examples of the training, from which on a reading decides
CARRIES = 0.2  # share of that gain that examples kept out have as well
ERRORS = 2.0  # standard errors
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

    @property
    def by_heart(self) -> bool | None:
        """True if nothing carries over, False if something does, None if that cannot be told."""
        if self.trained < GAINS or math.isnan(self.error):
            return None
        if self.kept + ERRORS * self.error < CARRIES * self.trained:
            return True
        return False if self.kept - ERRORS * self.error > CARRIES * self.trained or self.kept > self.trained / 2 else None


class Watch:
    """Readings of the first trial after its loss has left."""

    def __init__(self, case: Case, constant: Constant):
        self.loop, self.constant, self.next = case.loop, constant, 0
        self.readings: list[Reading] = []
        kept, trained = case.loop.data.kept_out(PARTS) if isinstance(case.loop.data, Examples) else ([], [])
        self.kept, self.trained = kept, trained
        self.last = self._repeats(case) if kept else None

    def _repeats(self, case: Case) -> tuple[float, float, list[float]] | None:
        """(Mean loss of repeating the last value relative to the constant's, that of a linear map of it, losses (P,)); None if the
        targets are no forecast."""
        if not case.y.is_floating_point() or self.loop.before is not None:
            return None
        shape, every = case.output.shape, [self._last_frame(case, pair) for pair in (*self.kept, *self.trained)]
        if any(frame is None for frame in every) or shape[-1] != every[0].shape[-1]:
            return None
        with suppress(InvalidInputError), torch.no_grad():
            constants = [self._constant(pair) for pair in self.kept]
            losses = [self.loop.loss_fn(frame, y).item() for frame, (_, y) in zip(every, self.kept, strict=False)]
            ratio = sum(losses) / sum(constants)
            if not (continues(case) or ratio < STRONG):
                return None
            x, y = (torch.cat([part.reshape(-1, shape[-1]) for part in parts]).double() for parts in (every[len(losses) :], [y for _, y in self.trained]))
            ones = torch.ones(len(x), 1).to(x)
            weights = torch.linalg.lstsq(torch.cat([x, ones], 1), y).solution
            mapped = [(frame.double() @ weights[:-1] + weights[-1]).to(frame) for frame in every[: len(losses)]]
            linear = sum(self.loop.loss_fn(frame, y).item() for frame, (_, y) in zip(mapped, self.kept, strict=True))
            return ratio, linear / sum(constants), losses
        return None

    def _last_frame(self, case: Case, pair: Pair) -> Tensor | None:
        """The last value before each target, in the shape of the targets."""
        x, y = sequence_of(pair[0]), pair[1]
        if x.dim() < 3 or not x.is_floating_point():
            return None
        frame = x if x.shape[:2] == y.shape[:2] else x.select(1 - case.axis, -1)
        frame = frame[..., : y.shape[-1]]
        return frame.expand(y.shape) if frame.dim() == y.dim() and frame.shape[-1] in (1, y.shape[-1]) else None

    def _constant(self, pair: Pair) -> float:
        (goal,) = self.loop.goals([pair])
        return self.constant.loss_of(*goal)

    def wants_more(self, model: nn.Module, step: int) -> bool:
        """True if a trial that has left goes on: its last reading does not decide."""
        if not self.kept:
            return False
        if step >= self.next:
            self.readings.append(self._read(model, step))
            self.next = math.ceil(LATER * step)
        return self.readings[-1].by_heart is None or self._behind

    @property
    def _behind(self) -> bool:
        """True if repeating the last value is as good."""
        return self.last is not None and self.last[0] < STRONG and not self.readings[-1].ahead > ERRORS

    @torch.no_grad()
    def _read(self, model: nn.Module, step: int) -> Reading:
        model = copy.deepcopy(model)  # in training mode, as its loss is; normalisations count their calls
        with random_numbers_kept(model):
            constants = np.array([self._constant(pair) for pair in self.kept])
            kept, trained = (np.array([self.loop.loss(model, *pair).item() for pair in pairs]) for pairs in (self.kept, self.trained))
        gains = (constants - kept) / constants.mean()
        own = 1 - trained.sum() / sum(self._constant(pair) for pair in self.trained)
        ahead = math.nan
        if self.last is not None:
            ahead = _in_errors(np.array(self.last[2]) - kept)
        return Reading(step, own, gains.mean(), gains.std(ddof=1) / math.sqrt(len(gains)), ahead)

    def causes(self) -> Iterator[Cause]:
        """What the last reading shows."""
        if not self.readings:
            return
        last, step = self.readings[-1], f"{self.readings[-1].step:,} steps"
        if last.by_heart:
            yield Cause(
                "learned by heart",
                f"After {step} the loss on examples of the training is {1 - last.trained:.3g} of the best constant output's, on examples kept out of it "
                f"{1 - last.kept:.3g} ({1 - last.kept - 2 * last.error:.2g} to {1 - last.kept + 2 * last.error:.2g}): it learns its examples, and "
                "nothing that carries over.",
                "Check that each input still belongs to its target (shuffled apart, shifted, sorted); else take more data, a smaller "
                "network, dropout or weight decay.",
                {"trained": 1 - last.trained, "kept_out": 1 - last.kept, "error": last.error, "step": last.step},
            )
        elif self._behind and self.last is not None:
            repeated, linear, _ = self.last
            yield Cause(
                "repeats the last value",
                f"After {step} the loss on examples kept out is {1 - last.kept:.3g} of the best constant output's; repeating the last value has {repeated:.3g}, a "
                f"linear map of it {linear:.3g}. The forecast is no better than these.",
                "Predict the change, y - x[:, -1], in place of the value: a constant then stands for repeating it. If the series is a "
                "random walk, nothing does better.",
                {"loss": 1 - last.kept, "repeated": repeated, "linear": linear, "step": last.step},
            )


def _in_errors(values: np.ndarray) -> float:
    """The mean in standard errors."""
    return float(values.mean() / max(values.std(ddof=1) / math.sqrt(len(values)), 1e-30))
