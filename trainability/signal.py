"""How far back the gradient of a training run reaches.

    reach = measure_reach(training)
    reach.seen, reach.frames                     # 18, 200: the last 18 of 200 time steps

The reach takes one backward pass. The loss of the last frame with a loss is differentiated with
respect to the input at each time step (for ids, the output of their embedding). A dependence on
frames that the gradient does not reach cannot be learned before the weights have changed. A short
reach is only a risk: some networks with a short reach learn. `gersgorin.influence` measures all
frames in float64. The reach is measured on one minibatch in the precision of the training run,
whose rounding limits it.

Legend: T frames.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gersgorin.linalg.products import share_from
from gersgorin.validate import random_numbers_kept, with_gradients
from rhn.training.ensemble import flushed
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
