"""Train copies of a network for a while: the real optimiser on real minibatches, at several learning rates.

    trials = run_trials(loop, factors=[1.0, 10.0], steps=[300, 150], seconds=20)
    trials.left           (K,) step at which the loss has fallen below `LEFT` of the best constant output's; inf: not seen
    trials.diverged       (K,) step at which a trial left all bounds; inf: not seen

Both losses are means over a window of `WINDOW` steps, or of all steps of a shorter training, on the same minibatches, so that the
difficulty of the minibatches cancels. A loss that falls
below for a moment has not left: it must stay below for `WINDOW` steps, or fall clearly below.

Copies run one after another: as one program by `torch.func.vmap`, nine copies of recurrent networks took as long.

Legend: K trials, W steps of a window, S steps.
"""

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor, nn

from gersgorin.checking.loop import TrainingLoop, random_numbers_kept
from gersgorin.checking.minibatches import Examples, Inputs, sequence_of
from rhn.training.ensemble import flushed
from rhn.training.state import LEFT

CLEARLY = 0.05  # below `LEFT`: a loss that needs no confirmation
DIVERGED = 10.0  # times the larger of the first loss and the constant's
WINDOW = 32  # steps of a mean
ROWS = 1024  # steps for which the curves have room at first
SCHEDULED = 10_000  # steps whose settings are read from a scheduler at first
CONSTANT_BATCHES = 64  # minibatches for which the best constant output is searched, if not for all of the data
CONSTANT_SIZE = 2**21  # most numbers in their outputs
CONSTANT_WORK = 5 * 10**8  # most multiplications for these outputs, if they are computed as one large batch
HEADROOM = 1.5  # times the last step's time that must be left for another


@dataclass(frozen=True)
class Trials:
    """The losses of K short trainings, and when they left or diverged."""

    factors: np.ndarray
    """(K,) learning rates relative to those of the optimiser."""
    losses: np.ndarray
    """(S, K) of the minibatches; NaN after the end of a trial."""
    constants: np.ndarray
    """(S, K) losses of the best constant output on the same minibatches."""
    left: np.ndarray
    """(K,) last step of the first window in which the loss is below `LEFT` times the constant's, and stays there for `WINDOW` steps or
    to the end of the trial; inf: not seen."""
    diverged: np.ndarray
    """(K,) step at which the loss was not finite, or the median of a window `DIVERGED` times that of the start; inf: not seen."""
    constant: float
    """Mean loss of the best constant output."""
    step_seconds: float
    """Of one copy, a mean."""
    timed_out: bool
    """True if the time ended trials that had neither left nor diverged nor made all steps."""

    @property
    def steps(self) -> np.ndarray:
        """(K,) steps that each trial took."""
        return (~np.isnan(self.constants)).sum(0)

    @property
    def confirmed(self) -> np.ndarray:
        """(K,) True for a trial that left and stayed below for `WINDOW` steps, or fell clearly below at its end."""
        last = self.ratios[np.maximum(self.steps - 1, 0), range(len(self.factors))]
        return (self.left < math.inf) & ((self.steps - self.left >= WINDOW) | (last < LEFT - CLEARLY))

    @property
    def ratios(self) -> np.ndarray:
        """(S, K) mean losses relative to the constant's, over the last `WINDOW` steps or as many as there are."""
        return _means(self.losses) / _means(self.constants)


def run_trials(
    loop: TrainingLoop,
    factors: Sequence[float],
    *,
    steps: int | Sequence[int],
    seconds: float,
    constant: "Constant | None" = None,
    after: float = 1.0,
    until_first: bool = False,
    seed: int = 0,
) -> Trials:
    """Train a copy of the loop's model for each factor on the learning rate, all on the same minibatches.

    Args:
        factors: (K,) factors on the learning rates of the optimiser.
        steps: most steps of a trial, or of each.
        seconds: most time of all trials together.
        constant: the best constant output; None: computed.
        after: how many times its escape a trial that has left goes on for, a window at least; inf: to its end.
        until_first: the end of the first trial ends all.
        seed: of the order of the minibatches and of random numbers in the model.
    """
    end = time.monotonic() + seconds
    constant = Constant(loop) if constant is None else constant
    most = np.broadcast_to(np.asarray(steps), (len(factors),))
    stream, longest = loop.data.stream(seed), int(most.max())
    schedule = [] if loop.scheduler is None else loop.schedule(min(longest, SCHEDULED))
    curves = np.full((2, min(longest, ROWS), len(factors)), np.nan)  # grows: the time may be up long before
    active = list(range(len(factors)))
    step = used = 0
    stepping = 0.0  # seconds
    last = len(factors) * constant.step_seconds
    with flushed(), random_numbers_kept(loop.model):
        torch.manual_seed(seed)
        trials = [_Trial(loop, factor, after, min(WINDOW, longest)) for factor in factors]
        while active and time.monotonic() + HEADROOM * last < end:
            if loop.scheduler is not None and step == len(schedule):
                schedule = loop.schedule(min(longest, 2 * step))
            if step == curves.shape[1]:
                curves = np.concatenate([curves, np.full_like(curves, np.nan)], 1)
            losses, constants = curves
            x, y = next(stream)
            began = time.monotonic()
            losses[step, active] = [trials[k].take(x, y, schedule[step] if schedule else ()) for k in active]
            constants[step, active] = constant.loss_of(trials[active[0]].shape, y)
            last = time.monotonic() - began
            stepping, used, step = stepping + last, used + len(active), step + 1
            last_rows = slice(max(0, step - WINDOW), step)
            for k in active:
                trials[k].look(losses[last_rows, k], constants[last_rows, k], step, losses[0, k])
            active = [k for k in active if not trials[k].ended and step < most[k]]
            active *= not until_first or 0 in active
    return Trials(
        factors=np.asarray(factors, float),
        losses=curves[0, :step],
        constants=curves[1, :step],
        left=np.array([min(trial.left, trial.below) for trial in trials]),
        diverged=np.array([trial.diverged for trial in trials]),
        constant=constant.loss,
        step_seconds=stepping / used if used else math.inf,
        timed_out=any(trials[k].left == math.inf for k in active),
    )


class Constant:
    """The best constant output of a training, and its loss on any minibatch; `step_seconds` is the time of a step."""

    def __init__(self, loop: TrainingLoop):
        self.loop, self.step_seconds = loop, loop.step_seconds
        minibatches = loop.data.minibatches(CONSTANT_BATCHES)
        x, size = minibatches[0][0], loop.goals(minibatches[:1])[0][0].numel()
        every = goals = loop.goals(minibatches[: max(1, CONSTANT_SIZE // size)])
        if isinstance(loop.data, Examples):  # one large batch is faster than many, if its outputs cost little
            work = sum(p.numel() for p in loop.model.parameters()) * math.prod(sequence_of(x).shape[:2])
            if loop.data.count <= loop.data.per_step * min(CONSTANT_SIZE // size, CONSTANT_WORK // work):
                every = loop.goals([loop.data.take(torch.arange(loop.data.count))])
        self.output = loop.constant_output(every)[0]
        self.loss = float(np.mean([self.loss_of(*goal) for goal in goals]))

    @torch.no_grad()
    def loss_of(self, shape: torch.Size, y: Tensor) -> float:
        """Of the constant output on a minibatch whose outputs have this shape."""
        return self.loop.constant_loss(self.output, shape, y).item()


class _Trial:
    """A copy of a model in training, and whether it has left or diverged; with a schedule it continues while its loss is finite."""

    def __init__(self, loop: TrainingLoop, factor: float, after: float, window: int):
        self.loop, self.after, self.window, self.recovers = loop, after, window, loop.scheduler is not None
        self.left = self.diverged = self.below = math.inf
        self.model = copy.deepcopy(loop.model)
        self.optimizer = loop.copied(loop.model, dict(self.model.named_parameters()), factor)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]

    def take(self, x: Inputs, y: Tensor, scheduled: Sequence[dict[str, Any]] = ()) -> float:
        """Take a step on a minibatch; returns the loss before it.

        scheduled: what a scheduler sets in each group; its learning rates are relative to those of the trial.
        """
        for group, rate, values in zip(self.optimizer.param_groups, self.rates, scheduled, strict=False):
            group.update(values | {"lr": rate * values["lr"]})
        self.optimizer.zero_grad()
        output = self.loop.output(self.model, x)
        self.shape, loss = output.shape, self.loop.loss_fn(output, y)
        loss.backward()
        if self.loop.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.loop.clip_norm)
        self.optimizer.step()
        return loss.item()

    @property
    def ended(self) -> bool:
        if self.diverged < math.inf and not self.recovers:
            return True
        return self.left < math.inf and self.steps >= max(self.after * self.left, self.left + self.window)

    def look(self, losses: np.ndarray, constants: np.ndarray, step: int, first: float) -> None:
        """Read the last losses, at most a window of them, after a number of steps; `first` is the loss of the first step."""
        self.steps = step
        if not math.isfinite(losses[-1]):
            self.diverged, self.recovers = step, False
        if (self.diverged < math.inf and not self.recovers) or step < self.window:
            return
        ratio = losses.sum() / constants.sum()
        limit = DIVERGED * max(first, constants.mean())
        if 2 * losses.mean() > limit and np.median(losses) > limit:  # the first is necessary, and faster
            self.diverged = min(self.diverged, step)
            return
        self.diverged = math.inf
        if self.left == math.inf:
            self.below = min(self.below, step) if ratio < LEFT else math.inf
            if ratio < LEFT - CLEARLY or step - self.below >= self.window:
                self.left = self.below


def _means(values: np.ndarray) -> np.ndarray:
    """(S, K) means over the last `WINDOW` rows, of the first rows over as many as there are."""
    windows = sliding_window_view(np.pad(values, ((WINDOW, 0), (0, 0))), WINDOW, axis=0)[1:]
    return windows.sum(-1) / np.minimum(np.arange(1, len(values) + 1), WINDOW)[:, None]
