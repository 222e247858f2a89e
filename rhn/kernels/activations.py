"""Nonlinearities with their derivatives.

Training uses f' as a function of h, which is cheap. The Jacobians use f' as a function of z, which
is accurate: 1 - h^2 has no correct digits if tanh rounds to 1, for |z| from 9 in float32 and from
19 in float64.
"""

from collections.abc import Callable
from math import inf
from typing import NamedTuple

from torch import Tensor, ones_like, positive, relu, relu_, sigmoid, sigmoid_, tanh, tanh_

Function = Callable[[Tensor], Tensor]


class Nonlinearity(NamedTuple):
    """One nonlinearity f: h = function(z) and in_place(z), f'(z) = slope(h) and derivative(z) (for
    relu 0 at z = 0), the largest f'(z) and the largest |h|.
    """

    function: Function
    in_place: Function
    slope: Function
    derivative: Function
    steepest: float
    bound: float


def sigmoid_derivative(z: Tensor) -> Tensor:
    """Return the derivative of the logistic function, accurate to a few units in the last place
    down to the smallest normal number.

    >>> import torch
    >>> sigmoid_derivative(torch.tensor([0.0, 60.0]))
    tensor([2.5000e-01, 8.7565e-27])
    """
    return sigmoid(z) * sigmoid(-z)


def tanh_derivative(z: Tensor) -> Tensor:
    """Return the derivative of tanh, 1 / cosh(z)^2, as accurately as `sigmoid_derivative`.

    >>> import torch
    >>> tanh_derivative(torch.tensor([0.0, 30.0]))
    tensor([1.0000e+00, 3.5026e-26])
    """
    return 4 * (sigmoid(2 * z) * sigmoid(-2 * z))


def _is_positive(v: Tensor) -> Tensor:
    return (v > 0).to(v.dtype)


ACTIVATIONS = {
    "tanh": Nonlinearity(tanh, tanh_, lambda h: 1 - h * h, tanh_derivative, 1.0, 1.0),
    "relu": Nonlinearity(relu, relu_, _is_positive, _is_positive, 1.0, inf),
    "sigmoid": Nonlinearity(sigmoid, sigmoid_, lambda h: h * (1 - h), sigmoid_derivative, 0.25, 1),
    "linear": Nonlinearity(positive, positive, ones_like, ones_like, 1.0, inf),
}
