"""Finite differences, which show whether a gradient of autograd is the slope of the loss.

derivative(change, loss)                    # from central differences, if they have converged
slope_and_gradient(loss_fn, output, y)      # in outputs: by differences, and by autograd
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gersgorin.losses import Loss
from gersgorin.validate import with_gradients
from rhn.errors import USERS_FAULT
from trainability.data import in_double, noise_like
from trainability.output_range import FREE, OutputRange

WRONG = 0.01  # relative difference of a gradient, far beyond rounding
NUDGES = 1e-5, 1e-6, 1e-8  # steps over which a derivative must be the same
AGREE = 1e-3  # relative difference of derivatives over steps of these lengths
BEYOND_ROUNDING = 100.0  # times the rounding of the outputs: a change that is none


def derivative(change: Callable[[float], float], loss: float) -> tuple[float, float] | None:
    """Return (the derivative of a loss over the shortest step, how far those over longer steps
    differ from it); None if they differ by more than rounding.

    The longest step is a thousand times the shortest. If a gradient explodes, the loss bends within
    every step that double precision allows, and the derivatives do not agree.

    Args:
        change: function that returns the derivative over a step of some length.
        loss: the loss, whose rounding is divided by the step.
    """
    near = [change(step) for step in NUDGES]
    apart = max(near) - min(near)
    agree = math.isfinite(near[-1]) and apart <= AGREE * abs(near[-1]) + rounding(loss)
    return (near[-1], apart) if agree else None


def rounding(loss: float) -> float:
    """Return a bound on the rounding of a derivative of a loss over the shortest step."""
    return BEYOND_ROUNDING * torch.finfo(torch.float64).eps * abs(loss) / min(NUDGES)


@with_gradients()
def slope_and_gradient(
    loss_fn: Loss, output: Tensor, y: Tensor, within: OutputRange = FREE, seed: int = 0
) -> tuple[float, float] | None:
    """Return how a loss changes per unit of change of outputs in a range, and how it does so by
    autograd; None if the change bends or is rounding, or the loss takes no double precision.

    Outputs change along one random direction, drawn by the seed.
    """
    start, noise = within.numbers(output).double(), noise_like(output, seed).double()

    def along(t: Tensor) -> Tensor:
        return loss_fn(within.outputs(start + t * noise), in_double(y)).reshape(())

    @torch.no_grad()
    def change(step: float) -> float:
        return float(along(t + step) - along(t - step)) / (2 * step)

    t = start.new_zeros(()).requires_grad_()
    try:
        loss = along(t)
        (gradient,) = torch.autograd.grad(loss, t, materialize_grads=True)
        found = derivative(change, loss.item())
    except USERS_FAULT:
        return None
    if found is None or max(abs(found[0]), abs(float(gradient))) <= rounding(loss.item()):
        return None
    return found[0], float(gradient)


def is_slope(found: tuple[float, float]) -> bool:
    """True if a gradient is the slope, see `slope_and_gradient`."""
    near, gradient = found
    return abs(near - gradient) <= WRONG * max(abs(near), abs(gradient))
