"""Gradients that a step has used, and whether a later step of the same optimiser uses them again.

A gradient is used again if neither `zero_grad` nor another tensor has replaced it: a backward pass
has added to it, or the optimiser steps twice.
"""

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from rhn.utils.torch_private import version_of
from trainability.watching.tensors import is_nonzero
from trainability.watching.weights import WatchedWeight


@dataclass(eq=False)
class UsedGradient:
    """The gradient of one tensor that a step used."""

    weight: WatchedWeight
    gradient: "weakref.ref[Tensor]"
    version: int
    """Of the gradient, after the step: it counts changes in place."""
    is_added_to: bool = False
    """A backward pass has added to this gradient."""


class UsedGradients:
    """The gradients that the last step of one optimiser used."""

    def __init__(self, weights: Sequence[WatchedWeight]) -> None:
        self.weights = weights
        self._used: list[UsedGradient] = []
        self._versions: dict[UsedGradient, int] = {}
        """When the backward pass began."""

    def backward_begins(self) -> None:
        """Forget gradients that were set to zero, replaced or written again."""
        present = [
            (used, gradient) for used, gradient in self._present() if _is_same(used, gradient)
        ]
        self._used = [used for used, _ in present]
        self._versions = {used: version_of(gradient) for used, gradient in present}

    def backward_ends(self) -> None:
        """Note to which gradients the pass has added, in place or by a new tensor."""
        for used, version in self._versions.items():
            tensor = used.weight.tensor()
            gradient = None if tensor is None else tensor.grad
            if gradient is None:
                continue
            is_new = used.gradient() is not gradient
            if is_new or version_of(gradient) != version:
                used.is_added_to = True
                used.gradient = weakref.ref(gradient)

    def step_ends(self) -> list[WatchedWeight]:
        """Return the tensors whose gradient was used before. Then all gradients are used."""
        again = [used.weight for used, gradient in self._present() if _is_same(used, gradient)]
        self._used = []
        for weight in self.weights:
            tensor = weight.tensor()
            if tensor is not None and tensor.grad is not None:
                gradient = tensor.grad
                used = UsedGradient(weight, weakref.ref(gradient), version_of(gradient))
                self._used.append(used)
        return again

    def _present(self) -> Iterator[tuple[UsedGradient, Tensor]]:
        """Yield the used gradients that their tensors still have, and that are not zero."""
        for used in self._used:
            tensor, gradient = used.weight.tensor(), used.gradient()
            if tensor is None or gradient is None or tensor.grad is not gradient:
                continue
            if is_nonzero(gradient):
                yield used, gradient


def _is_same(used: UsedGradient, gradient: Tensor) -> bool:
    """Return True unless other numbers were written into the gradient."""
    return used.is_added_to or version_of(gradient) == used.version
