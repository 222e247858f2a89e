"""Train copies of a network for a while: the real optimiser on real minibatches, at several
learning rates.

    trials = run_trials(loop, factors=[1.0, 10.0], steps=300, seconds=20)
    trials[0].left           step at which the loss has fallen below `LEFT` of the best constant output's; inf: not seen
    trials[0].diverged       step at which the loss left all bounds; inf: not seen

Both losses are means over a window of `WINDOW` steps, or of all steps of a shorter training, on the
same minibatches, so that the difficulty of the minibatches cancels. A loss that falls below for a
moment has not left: it must stay below for `WINDOW` steps, or fall clearly below.

Copies run one after another: as one program by `torch.func.vmap`, nine copies of recurrent networks
took as long.

Legend: W steps of a window, S steps.
"""

import copy
import math
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor, nn

from gersgorin._validate import random_numbers_kept
from gersgorin.checking.reach import Reach
from gersgorin.training.losses import NegativeLossError
from gersgorin.training.minibatches import Examples, Inputs, Pair, sequence_of
from gersgorin.training.training import Training
from rhn.training.ensemble import flushed
from rhn.training.state import LEFT

CLEARLY = 0.05  # below `LEFT`: a loss that needs no confirmation
DIVERGED = 10.0  # times the larger of the first loss and the constant's
WINDOW = 32  # steps of a mean
SCHEDULED = 10_000  # steps whose settings are read from a scheduler at first
# minibatches for which the best constant output is searched, if not for all of the data
CONSTANT_BATCHES = 64
CONSTANT_SIZE = 2**21  # most numbers in their outputs
# most multiplications for these outputs, if they are computed as one large batch
CONSTANT_WORK = 5 * 10**8
ROUNDING = 1e-6  # of the constant's loss: a loss that is 0 but for rounding
HEADROOM = 1.5  # times the last step's time that must be left for another


@dataclass(eq=False)
class Trial:
    """The losses of a short training, and when it left or diverged."""

    factor: float
    """On the learning rates of the optimiser."""
    losses: list[float] = field(default_factory=list)
    """(S,) of the minibatches."""
    constants: list[float] = field(default_factory=list)
    """(S,) losses of the best constant output on the same minibatches."""
    slopes: list[float] = field(default_factory=list)
    """(S,) -<g, d>: d are the deviations of the outputs from their mean, g is the gradient of the
    loss at the constant output.
    """
    powers: list[float] = field(default_factory=list)
    """(S,) mean squares of these deviations."""
    curvatures: list[float] = field(default_factory=list)
    """Second derivatives of the loss at the constant output along them, for a mean square of 1; at
    some steps.
    """
    reaches: list[tuple[int, Reach]] = field(default_factory=list)
    """(Step, reach of the gradient) at some steps of the training itself."""
    left: float = math.inf
    """Last step of the first window in which the loss is below `LEFT` times the constant's, and
    stays there for `WINDOW` steps or to the end of the trial; inf: not seen.
    """
    diverged: float = math.inf
    """Step at which the loss was not finite, or the median of a window `DIVERGED` times that of the
    start; inf: not seen.
    """
    cut: bool = False
    """True if the time ended it before it left, diverged or made all its steps."""

    def add(self, loss: float, constant: float, slope: Tensor, d: Tensor) -> None:
        """Add a step: its loss, that of the constant output with its gradient, and the deviations
        of the outputs.
        """
        self.losses.append(loss)
        self.constants.append(constant)
        self.slopes.append(-float((slope * d).sum()))
        self.powers.append(float(d.square().mean()))

    @property
    def steps(self) -> int:
        return len(self.losses)

    @property
    def ratios(self) -> np.ndarray:
        """(S,) mean losses relative to the constant's, over the last `WINDOW` steps or as many as
        there are.
        """
        return _sums(self.losses) / _sums(self.constants)

    def error(self, step: int) -> float:
        """Standard error of `ratios[step]`, of the scatter of its minibatches; NaN for fewer than a
        window.
        """
        losses, constants = (
            np.array(each[step - WINDOW + 1 : step + 1]) for each in (self.losses, self.constants)
        )
        if step < WINDOW - 1:
            return math.nan
        return float(
            (losses - losses.sum() / constants.sum() * constants).std()
            / constants.mean()
            / math.sqrt(WINDOW)
        )

    @property
    def jump(self) -> float:
        """First step with a loss `DIVERGED` times the larger of the first one and the constant's;
        inf: none.
        """
        high = np.array(self.losses) > DIVERGED * np.maximum(self.losses[:1], self.constants)
        return float(high.argmax() + 1) if high.any() else math.inf

    @property
    def began_below(self) -> bool:
        """True if the loss is clearly below `LEFT` from the first step on, as that of a trained
        network.
        """
        return self.left <= WINDOW and bool((self.ratios[:WINDOW] < LEFT - CLEARLY).all())

    @property
    def confirmed(self) -> bool:
        """True if it left for `WINDOW` steps or more and is below at its end, or clearly below."""
        end = self.ratios[-1] if self.left < math.inf else math.inf
        return end < LEFT - CLEARLY or (end < LEFT and self.steps - self.left >= WINDOW)


def run_trials(
    loop: Training,
    factors: Sequence[float],
    *,
    steps: int,
    seconds: float,
    constant: "Constant | None" = None,
    after: float = 1.0,
    until_any: bool = False,
    interval: int | None = None,
    read: Callable[[nn.Module, Trial], bool] = lambda model, trial: False,
    wants_more: Callable[[nn.Module, int], bool] = lambda model, step: False,
    seed: int = 0,
) -> list[Trial]:
    """Train a copy of the loop's model for each factor on the learning rate, all on the same
    minibatches.

    Args:
        factors: (K,) factors on the learning rates of the optimiser.
        steps: most steps of a trial.
        seconds: most time of all trials together.
        constant: the best constant output; None: computed.
        after: how many times its escape a trial that has left goes on for, a window at least; inf:
            to its end.
        until_any: the first one that has left and ended ends all.
        interval: steps from one reading of the clocks (`gersgorin.checking.clocks`) to the next;
            None: no readings.
        read: takes the model of the first trial and the trial at each reading; True ends all.
        wants_more: takes the model of the first trial and its step when the trial has left; True
            lets it go on.
        seed: of the order of the minibatches and of random numbers in the model.
    """
    end = time.monotonic() + seconds
    constant = Constant(loop) if constant is None else constant
    step = 0
    if loop.scheduler is not None:
        loop.scheduled(min(steps, SCHEDULED) - 1)  # may fail: before the first step
    last = len(factors) * loop.step_seconds
    with flushed(), random_numbers_kept(loop.model), closing(loop.data.stream(seed)) as stream:
        torch.manual_seed(seed)
        active = every = [_Training(loop, factor, after, min(WINDOW, steps)) for factor in factors]
        while active and time.monotonic() + HEADROOM * last < end:
            scheduled = [] if loop.scheduler is None else loop.scheduled(step)
            x, y = next(stream)
            began = time.monotonic()
            losses = [training.take(x, y, scheduled) for training in active]
            lowest, slope = constant.slope_of(active[0].output.shape, y)
            for training, loss in zip(active, losses, strict=True):
                training.look(loss, lowest, slope, constant.deviations(training.output))
            last, step = time.monotonic() - began, step + 1
            reads = interval is not None and step % interval == 0
            for training in active if reads or step == 1 else ():
                training.trial.curvatures.append(constant.curvature_of(training.output, y))
            if reads and every[0] in active and read(every[0].model, every[0].trial):
                active = []
            ended = [
                (t.ended or step == steps)
                and not (
                    t is every[0]
                    and t.below
                    and t.trial.diverged == math.inf
                    and wants_more(t.model, step)
                )
                for t in every
            ]
            active = [
                t
                for t, e in zip(every, ended, strict=True)
                if t in active and not e and step < steps
            ]
            active *= not until_any or not any(
                t.ended and t.trial.diverged == math.inf for t in every
            )
    for training in active:
        training.trial.cut = training.trial.left == math.inf
    return [training.trial for training in every]


class Constant:
    """The best constant output of a training, and its loss on any minibatch."""

    def __init__(self, loop: Training):
        self.loop = loop
        minibatches = loop.data.minibatches(CONSTANT_BATCHES)
        x, size = minibatches[0][0], loop.goals(minibatches[:1])[0][0].numel()
        every = goals = loop.goals(minibatches[: max(1, CONSTANT_SIZE // size)])
        # one large batch is faster than many, if its outputs cost little
        if isinstance(loop.data, Examples):
            work = sum(p.numel() for p in loop.model.parameters()) * math.prod(
                sequence_of(x).shape[:2]
            )
            if loop.data.count <= loop.data.per_step * min(
                CONSTANT_SIZE // size, CONSTANT_WORK // work
            ):
                every = loop.goals([loop.data.take(torch.arange(loop.data.count))])
        self.output = loop.constant_output(every)[0]
        self.loss = float(np.mean([self.loss_of(*goal) for goal in goals]))
        if self.loss < 0:
            raise NegativeLossError(self.loss, self.loss)

    def loss_of(self, shape: torch.Size, y: Tensor) -> float:
        """Of the constant output on a minibatch whose outputs have this shape."""
        return self._graph(shape, y)[0].item()

    def losses(self, pairs: list[Pair]) -> list[float]:
        """Of the constant output on each of some minibatches."""
        return [self.loss_of(*goal) for goal in self.loop.goals(pairs)]

    def slope_of(self, shape: torch.Size, y: Tensor) -> tuple[float, Tensor]:
        """(`loss_of`, its gradient in the outputs)."""
        loss, output = self._graph(shape, y)
        return loss.item(), torch.autograd.grad(loss, output, materialize_grads=True)[0]

    def curvature_of(self, output: Tensor, y: Tensor) -> float:
        """`curvature` of the loss at the constant output along the deviations of some outputs."""
        return curvature(*self._graph(output.shape, y), self.deviations(output))

    def deviations(self, output: Tensor) -> Tensor:
        """Of outputs from their mean over examples and frames, in single precision at least."""
        axes = [axis for axis, units in enumerate(self.loop.units.shape) if units == 1]
        output = output.detach().to(torch.promote_types(output.dtype, torch.float32))
        return output - output.mean(axes, keepdim=True)

    def _graph(self, shape: torch.Size, y: Tensor) -> tuple[Tensor, Tensor]:
        """(Loss with its graph, the constant output of this shape as its leaf, which the loss may
        not change in place).
        """
        output = self.output.expand(shape)
        output = (
            (output if self.loop.before is None else self.loop.before.of(output))
            .detach()
            .requires_grad_()
        )
        loss = self.loop.loss_fn(output.clone(), y).reshape(())
        return loss, output


def curvature(loss: Tensor, output: Tensor, d: Tensor) -> float:
    """Second derivative of a loss in an output along d, for a mean square of 1; 0 of a loss without
    second derivatives.
    """
    try:
        (slope,) = torch.autograd.grad(loss, output, create_graph=True)
        (bend,) = torch.autograd.grad((slope * d).sum(), output, materialize_grads=True)
    except RuntimeError:
        return 0.0
    return float((bend * d).sum() / d.square().mean())


class _Training:
    """A copy of a model in training, and its trial, which continues while the loss is finite."""

    def __init__(self, loop: Training, factor: float, after: float, window: int):
        self.loop, self.after, self.window = loop, after, window
        # sure: that it has left for more than a moment
        self.trial, self.sure, self.below = Trial(factor), False, False
        self.model = copy.deepcopy(loop.model)
        self.optimizer = loop.copied(loop.model, dict(self.model.named_parameters()), factor)
        self.rates = [group["lr"] for group in self.optimizer.param_groups]

    def take(self, x: Inputs, y: Tensor, scheduled: Sequence[dict[str, Any]] = ()) -> float:
        """Take a step on a minibatch; returns the loss before it.

        scheduled: what a scheduler sets in each group; its learning rates are relative to those of
        the trial.
        """
        for group, rate, values in zip(
            self.optimizer.param_groups, self.rates, scheduled, strict=False
        ):
            group.update(values | {"lr": rate * values["lr"]})
        self.output, loss = self.loop.step(self.model, self.optimizer, x, y)
        return loss.item()

    @property
    def ended(self) -> bool:
        trial = self.trial
        if trial.losses and not math.isfinite(trial.losses[-1]):
            return True
        return self.below and trial.steps >= max(self.after * trial.left, trial.left + self.window)

    def look(self, loss: float, constant: float, slope: Tensor, d: Tensor) -> None:
        """Read the losses of one more step: its own, the constant's with its gradient, and the
        deviations d of the outputs.

        Raises NegativeLossError if their means are below 0.
        """
        trial = self.trial
        trial.add(loss, constant, slope, d)
        losses, constants = trial.losses[-self.window :], trial.constants[-self.window :]
        total, constant = sum(losses), sum(constants)
        if min(total, constant) < -ROUNDING * abs(constant):
            raise NegativeLossError(total / len(losses), constant / len(losses))
        if not math.isfinite(loss):
            trial.diverged = trial.steps
        elif trial.steps >= self.window:
            limit = DIVERGED * max(trial.losses[0], constant / self.window)
            # the first one is faster
            if 2 * total > limit * self.window and statistics.median(losses) > limit:
                trial.diverged = min(trial.diverged, trial.steps)
                return
            trial.diverged, self.below = math.inf, total < LEFT * constant
            if not self.sure:
                trial.left = min(trial.left, trial.steps) if self.below else math.inf
                self.sure = (
                    total < (LEFT - CLEARLY) * constant or trial.steps - trial.left >= self.window
                )


def _sums(values: Sequence[float]) -> np.ndarray:
    """(S,) sums of the last `WINDOW` values, of the first ones of as many as there are."""
    return sliding_window_view(np.pad(values, (WINDOW, 0)), WINDOW)[1:].sum(-1)
