"""Several ways to compute one recurrence: a call takes the first that offers itself, and its backward goes the same way.

A way has the usual kernel's signature and says `refuses(*tensors, **options)`, with the tensors (K or 1, ...) that its forward would
get: why it does not take a call, None where it does. It decides by shapes, dtype and device. Which way was taken is told by the last
residual, an empty tensor (K, number of the way): residuals are tensors and are stacked as such.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from rhn.kernels.ensemble import Kernel
from rhn.kernels.told import PERSISTENT, tell


class Way(NamedTuple):
    """One more way to compute a recurrence, for the calls that it does not refuse. `name` is what listeners are told."""

    kernel: Kernel
    refuses: Callable[..., str | None]
    name: str = PERSISTENT


def routed(usual: Kernel, *ways: Way) -> Kernel:
    """The usual kernel, with other ways for the calls that one of them takes; the first that does is chosen."""
    kernels = (usual, *(way.kernel for way in ways))

    def forward(*tensors: Tensor | None, **options) -> tuple[Tensor, ...]:
        asked = ((number, way.name, way.refuses(*tensors, **options)) for number, way in enumerate(ways, 1))
        taken = (number for number, name, refusal in asked if tell(name, refusal) is None)
        number = next(taken, 0)
        states, *residuals = kernels[number].forward(*tensors, **options)
        return states, *residuals, states.new_empty(len(states), number)

    def backward(grad: Tensor, needs, inputs, residuals, **options) -> tuple[Tensor | None, ...]:
        *residuals, number = residuals
        return kernels[number.shape[1]].backward(grad, needs, inputs, residuals, **options)

    return Kernel(usual.name, forward, backward)
