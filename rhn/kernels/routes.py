"""Several ways to compute one recurrence: a call takes the first that offers itself, and its backward goes the same way.

A way has the usual kernel's signature and says `refuses(*tensors, **options)`, with the tensors (K or 1, ...) that its forward would
get: why it does not take a call, None where it does. It decides by shapes, dtype and device. Which way was taken is told by the last
residual, an empty tensor (K, number of the way): residuals are tensors and are stacked as such.

A way whose forward or backward raises `LaunchError` is left for the rest of the process, with one warning: the usual kernel computes
that pass, after a forward pass of its own if the other way's backward failed.
"""

import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rhn.kernels.ensemble import Kernel
from rhn.kernels.told import PERSISTENT, tell


class Way(NamedTuple):
    """One more way to compute a recurrence, for the calls that it does not refuse. `name` is what listeners are told."""

    kernel: Kernel
    refuses: Callable[..., str | None]
    name: str = PERSISTENT


class LaunchError(RuntimeError):
    """A kernel did not start and has changed nothing: another one can compute the same."""


def routed(usual: Kernel, *ways: Way) -> Kernel:
    """The usual kernel, with other ways for the calls that one of them takes; the first that does is chosen."""
    left: dict[tuple[int, torch.device], str] = {}

    def leave(number: int, device: torch.device, problem: LaunchError) -> str:
        kernel = ways[number - 1].kernel.name
        warnings.warn(f"the {kernel} kernel is left for the hand-derived one: {problem}", stacklevel=3)
        return left.setdefault((number, device), str(problem))

    def forward(*tensors: Tensor | None, **options) -> tuple[Tensor, ...]:
        device = tensors[0].device
        for number, way in enumerate(ways, 1):
            refusal = left.get((number, device)) or way.refuses(*tensors, **options)
            if refusal is None:
                try:
                    states, *residuals = way.kernel.forward(*tensors, **options)
                except LaunchError as problem:
                    refusal = leave(number, device, problem)
            if tell(way.name, refusal) is None:
                return states, *residuals, states.new_empty(len(states), number)
        states, *residuals = usual.forward(*tensors, **options)
        return states, *residuals, states.new_empty(len(states), 0)

    def backward(grad: Tensor, needs, inputs, residuals, **options) -> tuple[Tensor | None, ...]:
        *residuals, way = residuals
        number = way.shape[1]
        if number > 0:
            try:
                return ways[number - 1].kernel.backward(grad, needs, inputs, residuals, **options)
            except LaunchError as problem:
                leave(number, grad.device, problem)
            _, *residuals = usual.forward(*inputs, **options)
            residuals = [r.expand(len(grad), *r.shape[1:]) for r in residuals]
        return usual.backward(grad, needs, inputs, residuals, **options)

    return Kernel(usual.name, forward, backward)
