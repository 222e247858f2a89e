"""Finite differences, which show whether a gradient of autograd is the slope of the loss.

derivative(change, loss)                    # from central differences, if they have converged
"""

import math
from collections.abc import Callable

import torch

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
