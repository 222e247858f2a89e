"""Several ways to compute one recurrence: a call takes the first that offers itself, and its backward goes the same way.

A way has the usual kernel's signature and asks `takes(*tensors, **options)`, with the tensors (K or 1, ...) that its forward would
get. It decides by shapes, dtype and device. Which way was taken is told by the last residual, an empty tensor (K, number of the way):
residuals are tensors and are stacked as such.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from rhn.kernels.ensemble import Kernel


class Way(NamedTuple):
    """One more way to compute a recurrence, for the calls that it takes."""

    kernel: Kernel
    takes: Callable[..., bool]


def routed(usual: Kernel, *ways: Way) -> Kernel:
    """The usual kernel, with other ways for the calls that one of them takes; the first that does is chosen."""
    kernels = (usual, *(way.kernel for way in ways))

    def forward(*tensors: Tensor | None, **options) -> tuple[Tensor, ...]:
        taken = (number for number, way in enumerate(ways, 1) if way.takes(*tensors, **options))
        number = next(taken, 0)
        states, *residuals = kernels[number].forward(*tensors, **options)
        return states, *residuals, states.new_empty(len(states), number)

    def backward(grad: Tensor, needs, inputs, residuals, **options) -> tuple[Tensor | None, ...]:
        *residuals, number = residuals
        return kernels[number.shape[1]].backward(grad, needs, inputs, residuals, **options)

    return Kernel(usual.name, forward, backward)
