"""The nonlinearities of a recurrence's candidate state, h = f(z), with f' as a function of h."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Activation(NamedTuple):
    """One nonlinearity.

    function: z -> h;  in_place: the same, into z;  inverse: h -> z;  slope: h -> f'(z) (relu: 0 at 0)
    steepest: the largest f'(z);  bound: the largest |h|
    """

    function: Callable[[Tensor], Tensor]
    in_place: Callable[[Tensor], Tensor]
    inverse: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    steepest: float
    bound: float


ACTIVATIONS = {
    "tanh": Activation(torch.tanh, torch.tanh_, torch.atanh, lambda h: 1 - h * h, 1.0, 1.0),
    "relu": Activation(torch.relu, torch.relu_, lambda h: h, lambda h: (h > 0).to(h.dtype), 1.0, float("inf")),
    "sigmoid": Activation(torch.sigmoid, torch.sigmoid_, torch.logit, lambda h: h * (1 - h), 0.25, 1.0),
    "linear": Activation(lambda z: z, lambda z: z, lambda h: h, torch.ones_like, 1.0, float("inf")),
}
