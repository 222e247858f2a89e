"""Find how several outputs for one target change with the unit of the targets.

    scale = rescaling_of(loss_fn, output, y)     # None if the loss does not determine it
    raw = scale(standardised, mean, spread)      # outputs for targets y * spread + mean

A likelihood of numbers changes by a constant if targets and outputs get another unit: a mean is
scaled and shifted, a standard deviation is scaled, its logarithm is shifted. If targets grow by the
factor 1 + e, output k changes by e (a_k z_k + b_k). The numbers a and b solve a linear system, with
one equation for each example:

    sum over k of (a_k z_k + b_k) dL/dz_k + y dL/dy = c L + d

Legend: N examples or frames, K outputs for each target.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gersgorin.losses import Loss
from rhn.errors import USERS_FAULT
from trainability.autograd import slope_at
from trainability.data import noise_like
from trainability.losses import EQUAL
from trainability.scores import TINY

SPREAD = 0.3  # of the logarithms of the factors on outputs: equations of other outputs
DRAWS = 4  # of such outputs
PREFERRED = 1e4  # weight of a change of the loss by a constant, which outputs could also make
SOLVED = 1e-6  # relative error of a solution: rounding in double precision
MEAN, UNIT = 3.0, 2.0  # of other targets, with which a solution is tested


@dataclass(frozen=True)
class Rescaling:
    """How outputs (..., K) change with the unit of their targets."""

    powers: Tensor
    """(K,) a: an output is multiplied by spread^a."""
    offsets: Tensor
    """(K,) b: the change of an output beside this factor."""
    shifts: Tensor
    """(K,) how far an output moves if targets move by 1."""

    def __call__(self, output: Tensor, mean: float, spread: float) -> Tensor:
        """Return outputs for targets y * spread + mean, given outputs for targets y."""
        log = torch.tensor(spread, dtype=torch.double).log()
        factors = (self.powers * log).exp()
        grown = torch.where(self.powers.abs() > SOLVED, (factors - 1) / self.powers, log)
        moved = self.offsets * grown + self.shifts * mean
        return output * factors.to(output) + moved.to(output)


def rescaling_of(loss_fn: Loss, output: Tensor, y: Tensor) -> Rescaling | None:
    """Return how outputs change with the unit of the targets; None if no such change leaves the
    loss as it is, up to a factor and a constant.

    Args:
        loss_fn: a loss in double precision, the mean over examples or frames.
        output: outputs (..., K) for standardised targets.
        y: standardised targets, (...,) or (..., 1).
    """
    count = output.shape[-1]
    if output.numel() != count * y.numel() or count == 1:
        return None
    scale, shift = list[Tensor](), list[Tensor]()
    try:
        for draw in range(DRAWS):
            z = output.double() * (SPREAD * noise_like(output.double(), draw)).exp()
            losses, slopes, of_y = _slopes(loss_fn, z, y.double())
            z, one = z.reshape(-1, count), torch.ones_like(of_y)
            known = -y.double().reshape(-1, 1) * of_y
            constants = (-PREFERRED * losses, -PREFERRED * one)
            scale.append(torch.cat((z * slopes, slopes, *constants, known), 1))
            shift.append(torch.cat((slopes, -of_y), 1))
    except USERS_FAULT:  # of a loss that takes no double precision, or other outputs
        return None
    found, moved = (_solved(torch.cat(rows)) for rows in (scale, shift))
    if found is None or moved is None:
        return None
    rescaling = Rescaling(found[:count], found[count : 2 * count], moved)
    return rescaling if _is_true(rescaling, loss_fn, output.double(), y.double()) else None


def _is_true(rescaling: Rescaling, loss_fn: Loss, output: Tensor, y: Tensor) -> bool:
    """True if the slopes of a loss keep their ratios for targets in another unit. False for a loss
    that compares targets with limits of its own.
    """

    def of_others(z: Tensor, y: Tensor) -> Tensor:
        return loss_fn(rescaling(z, MEAN, UNIT), y * UNIT + MEAN)

    one, other = (
        slope / slope.norm() for slope in (slope_at(f, output, y) for f in (loss_fn, of_others))
    )
    return torch.allclose(one, other, rtol=EQUAL, atol=EQUAL * float(one.abs().max()))


@torch.enable_grad()
def _slopes(loss_fn: Loss, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (losses of the examples (N, 1), slopes in their outputs (N, K) and targets (N, 1)).

    The slopes are those of the sum over examples. A frame gets the mean loss of its example.
    """
    z, y = z.detach().clone().requires_grad_(), y.detach().clone().requires_grad_()
    loss = loss_fn(z, y)
    of_z, of_y = torch.autograd.grad(loss * y.numel(), (z, y), materialize_grads=True)
    pairs = zip(z.detach().split(1), y.detach().split(1), strict=True)
    each = torch.stack([loss_fn(*pair).reshape(()) for pair in pairs])
    losses = each.reshape(-1, 1).repeat_interleave(y.numel() // len(each), 0)
    return losses, of_z.reshape(-1, z.shape[-1]), of_y.reshape(-1, 1)


def _solved(rows: Tensor) -> Tensor | None:
    """Return the shortest solution of linear equations, whose last column is the right side; None
    if there is none.
    """
    left, right = rows[:, :-1], rows[:, -1]
    solution = torch.linalg.pinv(left) @ right
    apart = (left @ solution - right).norm()
    solved = bool(apart.isfinite()) and apart <= SOLVED * right.norm().clamp_min(TINY)
    return solution if solved else None
