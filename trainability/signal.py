"""Signals of a training run: how far back its gradient reaches, and which share of the variance of
the targets its outputs explain.

    reach = measure_reach(training)
    reach.seen, reach.frames                     # 18, 200: the last 18 of 200 time steps
    share = explained(outputs, targets, axes, loss_fn)    # of held-out examples, between 0 and 1
    forecast(points, count)                      # the step at which the share is a half

The reach takes one backward pass. The loss of the last frame with a loss is differentiated with
respect to the input at each time step (for ids, the output of their embedding). A dependence on
frames that the gradient does not reach cannot be learned before the weights have changed. A short
reach is only a risk: some networks with a short reach learn. `gersgorin.influence` measures all
frames in float64. The reach is measured on one minibatch in the precision of the training run,
whose rounding limits it.

On a plateau the error stays constant while the explained share grows, by about the same factor in
equal times.

Legend: T frames.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gersgorin.linalg.products import share_from
from gersgorin.losses import Loss
from gersgorin.validate import random_numbers_kept, with_gradients
from rhn.training.ensemble import flushed
from trainability.axes import OutputAxes
from trainability.losses import scored
from trainability.probe import Probe
from trainability.training import Training

SEEN = 1e-3  # share of the gradient, below which it does not see a step
EXPLODES = 1e4  # times that the gradient is larger at another lag than at the last step


@dataclass(frozen=True)
class Reach:
    """Size of the gradient at each lag: it shows how far back the gradient of a network reaches."""

    norms: np.ndarray
    """Norm of the gradient ||dL/dx|| at each lag (the number of time steps back), (T,). A norm may
    be 0 or infinite.
    """

    @property
    def frames(self) -> int:
        """T, the number of time steps."""
        return len(self.norms)

    @property
    def share(self) -> np.ndarray:
        """Norm of the gradient at each lag and all longer lags, divided by the norm of the whole
        gradient, (T,); NaN if the gradient is 0.
        """
        return share_from(self.norms)

    @property
    def seen(self) -> int:
        """Number of time steps at the end of the sequence that contain all but a thousandth of the
        gradient.
        """
        return int((self.share >= SEEN).sum())

    @property
    def blind(self) -> bool:
        """True if the gradient does not reach the first half of the sequence."""
        return self.seen <= self.frames // 2

    @property
    def explodes(self) -> bool:
        """True if the gradient at some lag is not finite, or more than 10,000 times the gradient at
        the last time step.
        """
        if not np.isfinite(self.norms).all():
            return True
        return bool(self.norms.max() > EXPLODES * self.norms[0] > 0)

    @property
    def unevenness(self) -> float:
        """|ln(a / b)|, with the gradients a and b in the first and the second half of the sequence.

        Infinite if one of them is 0 or infinite.
        """
        near, far = (math.hypot(*half) for half in np.array_split(self.norms, 2))
        return abs(math.log(far / near)) if 0 < far < math.inf and 0 < near < math.inf else math.inf

    @property
    def warning(self) -> str:
        """A sentence if the gradient reaches less than half of the sequence, or explodes;
        else "".
        """
        if self.explodes:
            return "At the given weights the gradient explodes towards earlier steps."
        if not self.blind:
            return ""
        if not self.seen:
            return "At the given weights the gradient of the last output is 0 at every step."
        return (
            "At the given weights the gradient of the last output comes only from the last "
            f"{self.seen} of {self.frames} steps."
        )


@with_gradients()
def measure_reach(training: Training) -> Reach | None:
    """Measure how far back the gradient of a training run reaches, on its first minibatch.

    None if x has no time steps, or no numbers or embedded ids to differentiate.
    """
    probe = Probe(training)
    if probe.frames is None or probe.frames < 2:
        return None
    leaves: list[Tensor] = []

    def leaf(values: Tensor) -> Tensor:
        leaves.append(values.detach().requires_grad_())
        return leaves[-1].clone()  # which the model may change in place

    with flushed(), random_numbers_kept(training.model):
        output = probe.with_leaves(leaf)
        if not leaves or not output.requires_grad:
            return None
        errors, last = _last_errors(probe, output)
        slopes = torch.autograd.grad(output, leaves, errors, materialize_grads=True)
    steps = [slope.double().movedim(probe.layout.time, 0)[:last] for slope in slopes]
    squares = sum((s.flatten(1).square().sum(1).flip(0) for s in steps), torch.zeros(()))
    return Reach(squares.sqrt().numpy(force=True))


def _last_errors(probe: Probe, output: Tensor) -> tuple[Tensor, int]:
    """Return (dL/doutput, number of frames up to the last one with a loss). If outputs have frames,
    dL/doutput is kept only at that frame.
    """
    z = output.detach().requires_grad_()
    loss = probe.training.loss(z.clone(), probe.y)
    (errors,) = torch.autograd.grad(loss, z, materialize_grads=True)
    axis, frames = probe.axes.frames, probe.frames or 1
    if axis is None:
        return errors, frames
    with_loss = errors.movedim(axis, 0).flatten(1).any(1).nonzero()
    at = int(with_loss[-1]) if len(with_loss) else frames - 1
    last = torch.zeros_like(errors)
    last.select(axis, at).copy_(errors.select(axis, at))
    return last, at + 1


NOISE = 4.0  # times the share of random outputs: less is not told from none
HALF = 0.5  # share that counts as learned
POINTS = 3  # least number for a growth


def explained(
    outputs: list[Tensor], targets: list[Tensor], axes: OutputAxes, loss_fn: Loss
) -> tuple[float, int]:
    """Return (share of the variance of the targets that the outputs explain, number of targets per
    unit).

    Each output explains the target of its own unit. loss_fn: the loss, which shows by its gradient
    which targets are padding.
    """
    columns = [
        columns_of(z.detach(), y, axes, loss_fn) for z, y in zip(outputs, targets, strict=True)
    ]
    if not columns or any(pair is None for pair in columns):
        return math.nan, 0
    z, y = (torch.cat(parts).double() for parts in zip(*filter(None, columns), strict=True))
    z, y = z - z.mean(0), y - y.mean(0)
    size = z.square().sum(0)
    by_unit = (z * y).sum(0).square() / torch.where(size > 0, size, 1.0)
    whole = y.square().sum()
    return float(by_unit.sum() / whole) if whole > 0 else math.nan, len(z)


def columns_of(
    z: Tensor, y: Tensor, axes: OutputAxes, loss_fn: Loss
) -> tuple[Tensor, Tensor] | None:
    """Return outputs and targets as (N, K) without padding, classes as indicators; None if the
    shapes do not fit.
    """
    known = scored(loss_fn, z, y, axes)
    if axes.classes is not None and z.numel() > y.numel():
        z, known = axes.classes_last(z).flatten(0, -2), (known & (y >= 0)).flatten()
        y = F.one_hot(y.flatten()[known].long().clamp_max(z.shape[1] - 1), z.shape[1])
        return z[known], y
    if z.numel() != y.numel():
        return None
    columns, rows = axes.columns(y), axes.columns(known).all(1)
    return z.reshape(columns.shape)[rows], columns[rows]


def forecast(points: Sequence[tuple[int, float]], count: int) -> float | None:
    """Return the step at which the explained share would reach a half, at its present growth.

    Infinite if the share does not grow. None if too few points lie above the noise of `count`
    examples, 1 / count.
    """
    clear = [(t, math.log(s)) for t, s in points if s > NOISE / max(count, 1)]
    clear = clear[-max(POINTS, len(clear) // 2 + 1) :]
    if len(clear) < POINTS:
        return None
    last, level = clear[-1]
    if level >= math.log(HALF):
        return float(last)
    mean_t = sum(t for t, _ in clear) / len(clear)
    mean_s = sum(s for _, s in clear) / len(clear)
    slope = sum((t - mean_t) * (s - mean_s) for t, s in clear)
    slope /= sum((t - mean_t) ** 2 for t, _ in clear)
    return last + (math.log(HALF) - level) / slope if slope > 0 else math.inf
