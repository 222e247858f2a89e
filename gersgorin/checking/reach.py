"""The steps that the gradient of an untrained network reaches: one backward pass of some
minibatches, without training.

    reach = measure_reach(loop, loop.model)
    reach.seen, reach.frames       # 18, 200: the gradient comes from the last 18 of 200 steps

The loss of the last frame that has one is differentiated with respect to the input of each step
(symbols: to the output of their embedding), in the type of the training. With g[k] the norm of
dL/dx[t] at the lag k = last - t,

    share[k] = (g[k]^2 + g[k + 1]^2 + ...)^(1/2) / (g[0]^2 + g[1]^2 + ...)^(1/2)

What a network does not see cannot be learned before its weights have moved. That is a risk and no
verdict: some networks that see little of a sequence leave their plateau.

Legend: T frames.
"""

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin._validate import random_numbers_kept, with_gradients
from gersgorin.linalg.products import share_from
from gersgorin.training.minibatches import sequence_of
from gersgorin.training.training import Training
from rhn.training.ensemble import flushed

SEEN = 1e-3  # share of the gradient, below which it does not see a step
MINIBATCHES = 2
EXPLODES = 1e4  # times that the gradient is larger at another lag than at the last step


@dataclass(frozen=True)
class Reach:
    """The size of the gradient at each lag, for one start of a network."""

    norms: np.ndarray
    """(T,) ||dL/dx|| at each lag; may be 0 or infinite."""

    @property
    def frames(self) -> int:
        return len(self.norms)

    @property
    def share(self) -> np.ndarray:
        """(T,) of the gradient, from each lag on; NaN for a gradient of 0."""
        return share_from(self.norms)

    @property
    def far(self) -> float:
        """Share of the gradient that comes from the first half of a sequence; NaN for a gradient of
        0.
        """
        return (
            float(self.share[self.frames - self.frames // 2 :][:1].sum())
            if self.frames > 1
            else math.nan
        )

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
        return bool(
            not np.isfinite(self.norms).all() or self.norms.max() > EXPLODES * self.norms[0] > 0
        )

    @property
    def unevenness(self) -> float:
        """|ln| of the gradient at the first half of a sequence relative to that at the second;
        infinity if one of them is 0.
        """
        near, far = (math.hypot(*half) for half in np.array_split(self.norms, 2))
        return abs(math.log(far / near)) if 0 < far < math.inf and 0 < near < math.inf else math.inf

    @property
    def warning(self) -> str:
        """A sentence if the gradient sees less than half of a sequence, or explodes; else empty."""
        if self.explodes:
            words = "draw smaller ones; clipping only bounds its size"
            return (
                f"With these initial weights the gradient explodes towards earlier steps: {words}."
            )
        if not self.blind:
            return ""
        seen = (
            f"comes only from the last {self.seen} of {self.frames} steps"
            if self.seen
            else "is 0 at every step"
        )
        words = "a task that depends on earlier inputs is hardly learned before they change"
        return f"At the initial weights the gradient of the last output {seen}: {words}."


@with_gradients()
def measure_reach(loop: Training, model: nn.Module) -> Reach | None:
    """The reach of a model in the training of a loop; None if x is no tensor with steps of numbers
    or symbols.
    """
    axis, squares, x = loop.frame_axis, np.zeros(0), loop.data.probe()[0]
    if axis is None or not isinstance(x, Tensor) or x.dim() != 2 + x.is_floating_point():
        return None
    called = copy.deepcopy(model)  # a normalisation counts its calls
    with flushed(), random_numbers_kept(model):
        for batch, y in loop.data.minibatches(MINIBATCHES):
            x = sequence_of(batch)
            output, inputs = loop.output_of_leaves(called, x)
            if not inputs or not output.requires_grad:
                return None
            errors, last = _last_errors(loop, output, y, axis, x.shape[axis])
            slopes = torch.autograd.grad(output, inputs, errors, materialize_grads=True)
            found = sum((_squares(slope, axis, last) for slope in slopes), np.zeros(()))
            squares, found = (
                np.pad(v, (0, max(len(squares), last) - len(v))) for v in (squares, found)
            )
            squares = squares + found
    return Reach(np.sqrt(squares))


def _last_errors(
    loop: Training, output: Tensor, y: Tensor, axis: int, frames: int
) -> tuple[Tensor, int]:
    """(dL/doutput, of the last frame with a loss alone if each frame has an output, the number of
    frames up to it).
    """
    z = output.detach().requires_grad_()
    (errors,) = torch.autograd.grad(loop.loss_fn(z.clone(), y), z)
    of_units = (n > 1 for n in loop.units.shape)
    axes = [
        a
        for a, units in enumerate(of_units)
        if not units and a != 1 - axis and output.shape[a] == frames
    ]
    if not axes:
        return errors, frames
    with_loss = errors.movedim(axes[0], 0).flatten(1).any(1).nonzero()
    at = int(with_loss[-1]) if len(with_loss) else frames - 1
    last = torch.zeros_like(errors)
    last.select(axes[0], at).copy_(errors.select(axes[0], at))
    return last, at + 1


def _squares(slope: Tensor, axis: int, last: int) -> np.ndarray:
    """(last,) squared norm at each lag, over all sequences."""
    steps = slope.double().movedim(axis, 0)[:last]
    return steps.flatten(1).square().sum(1).flip(0).numpy(force=True)
