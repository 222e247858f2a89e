"""The steps that the gradient of a network reaches: one backward pass, without training.

    reach = measure_reach(training)
    reach.seen, reach.frames       # 18, 200: the gradient comes from the last 18 of 200 steps

The loss of the last frame that has one is differentiated with respect to the input of each step
(ids: to the output of their embedding). What a network does not see cannot be learned before its
weights have moved. That is a risk and no verdict: some networks that see little of a sequence
leave their plateau.

`gersgorin.influence` measures all frames in float64. Here it is one pass of a minibatch in the
training's own precision, whose rounding decides what a training can see.

Legend: T frames.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gersgorin._validate import random_numbers_kept, with_gradients
from gersgorin.linalg.products import share_from
from rhn.training.ensemble import flushed
from trainability.losses import class_axis
from trainability.probe import Probe
from trainability.training import Training

SEEN = 1e-3  # share of the gradient, below which it does not see a step
EXPLODES = 1e4  # times that the gradient is larger at another lag than at the last step


@dataclass(frozen=True)
class Reach:
    """The size of the gradient at each lag, for the weights of a network."""

    norms: np.ndarray
    """(T,) ||dL/dx|| at each lag; may be 0 or infinite."""

    @property
    def frames(self) -> int:
        """T."""
        return len(self.norms)

    @property
    def share(self) -> np.ndarray:
        """(T,) of the gradient, from each lag on, in norm; NaN for a gradient of 0."""
        return share_from(self.norms)

    @property
    def seen(self) -> int:
        """Number of last steps that the gradient comes from, all but a thousandth of it."""
        return int((self.share >= SEEN).sum())

    @property
    def blind(self) -> bool:
        """True if the gradient does not see the first half of a sequence."""
        return self.seen <= self.frames // 2

    @property
    def explodes(self) -> bool:
        """True if the gradient grows towards earlier steps beyond any use."""
        if not np.isfinite(self.norms).all():
            return True
        return bool(self.norms.max() > EXPLODES * self.norms[0] > 0)

    @property
    def unevenness(self) -> float:
        """|ln| of the gradient at the first half of a sequence relative to that at the second.

        Infinity if one of them is 0.
        """
        near, far = (math.hypot(*half) for half in np.array_split(self.norms, 2))
        return abs(math.log(far / near)) if 0 < far < math.inf and 0 < near < math.inf else math.inf

    @property
    def warning(self) -> str:
        """A sentence if the gradient sees less than half of a sequence, or explodes; else empty."""
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
    """The reach of the gradient; None if x has no steps of numbers or ids that can be followed."""
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
    steps = [slope.double().movedim(1 - probe.axis, 0)[:last] for slope in slopes]
    squares = sum((s.flatten(1).square().sum(1).flip(0) for s in steps), torch.zeros(()))
    return Reach(squares.sqrt().numpy(force=True))


def _last_errors(probe: Probe, output: Tensor) -> tuple[Tensor, int]:
    """(dL/doutput, of outputs of frames only that of the last one with a loss, frames up to it)."""
    z = output.detach().requires_grad_()
    loss = probe.training.loss(z.clone(), probe.y)
    (errors,) = torch.autograd.grad(loss, z, materialize_grads=True)
    axis, frames = frame_axis(probe, output), probe.frames or 1
    if axis is None:
        return errors, frames
    with_loss = errors.movedim(axis, 0).flatten(1).any(1).nonzero()
    at = int(with_loss[-1]) if len(with_loss) else frames - 1
    last = torch.zeros_like(errors)
    last.select(axis, at).copy_(errors.select(axis, at))
    return last, at + 1


def frame_axis(probe: Probe, output: Tensor) -> int | None:
    """The axis of frames in an output; None if it has none."""
    fits = [
        a for a in range(output.dim()) if output.shape[a] == probe.frames and a != probe.output_axis
    ]
    units = class_axis(output, probe.y)
    units = output.dim() - 1 if units is None else units
    others = [a for a in fits if a != units]
    if others or not fits:
        return others[0] if others else None
    return fits[0] if output.dim() > 2 or output.shape == probe.y.shape else None
