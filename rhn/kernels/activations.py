"""The nonlinearities of a recurrence's candidate state, h = f(z), with the derivative f' as a
function of h and as a function of z.

Training uses f' as a function of h, which is cheap. The Jacobians use f' as a function of z, which
is accurate: 1 - h^2 has no correct digits if tanh rounds to 1, for |z| from 9 in float32 and from
19 in float64.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Nonlinearity(NamedTuple):
    """One nonlinearity f, with its derivatives and bounds.

    function:   z -> h
    in_place:   z -> h, which overwrites z
    slope:      h -> f'(z)
    derivative: z -> f'(z), for relu 0 at z = 0
    steepest:   the largest f'(z)
    bound:      the largest |h|
    """

    function: Callable[[Tensor], Tensor]
    in_place: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    steepest: float
    bound: float


def sigmoid_derivative(z: Tensor) -> Tensor:
    """Return the derivative of the logistic function, accurate to a few units in the last place
    down to the smallest normal number.

    >>> sigmoid_derivative(torch.tensor([0.0, 60.0]))
    tensor([2.5000e-01, 8.7565e-27])
    """
    return torch.sigmoid(z) * torch.sigmoid(-z)


def tanh_derivative(z: Tensor) -> Tensor:
    """Return the derivative of tanh, 1 / cosh(z)^2, as accurately as `sigmoid_derivative`.

    >>> tanh_derivative(torch.tensor([0.0, 30.0]))
    tensor([1.0000e+00, 3.5026e-26])
    """
    return 4 * sigmoid_derivative(2 * z)


def _is_positive(v: Tensor) -> Tensor:
    return (v > 0).to(v.dtype)


ACTIVATIONS = {
    "tanh": Nonlinearity(torch.tanh, torch.tanh_, lambda h: 1 - h * h, tanh_derivative, 1.0, 1.0),
    "relu": Nonlinearity(torch.relu, torch.relu_, _is_positive, _is_positive, 1.0, float("inf")),
    "sigmoid": Nonlinearity(
        torch.sigmoid, torch.sigmoid_, lambda h: h * (1 - h), sigmoid_derivative, 0.25, 1.0
    ),
    "linear": Nonlinearity(
        lambda z: z, lambda z: z, torch.ones_like, torch.ones_like, 1.0, float("inf")
    ),
}
