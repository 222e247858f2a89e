"""Gradients that a step has used, and whether a later step of the same optimiser uses them again.

A gradient is used again if neither `zero_grad` nor another tensor has replaced it: a backward pass
has added to it, or the optimiser steps twice.
"""

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from rhn.utils.torch_private import version_of
from trainability.watching.tensors import dense, norm_of
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
        self._used = [used for used in self._present() if _is_same(used)]
        self._versions = {used: _version(used) for used in self._used}

    def backward_ends(self) -> None:
        """Note to which gradients the pass has added, in place or by a new tensor."""
        for used in self._used:
            tensor = used.weight.tensor()
            gradient = None if tensor is None else tensor.grad
            if gradient is None:
                continue
            is_new = used.gradient() is not gradient
            if is_new or version_of(gradient) != self._versions[used]:
                used.is_added_to = True
                used.gradient = weakref.ref(gradient)

    def step_ends(self) -> list[WatchedWeight]:
        """Return the tensors whose gradient was used before. Then all gradients are used."""
        again = [used.weight for used in self._present() if _is_same(used)]
        self._used = []
        for weight in self.weights:
            tensor = weight.tensor()
            if tensor is not None and tensor.grad is not None:
                gradient = tensor.grad
                used = UsedGradient(weight, weakref.ref(gradient), version_of(gradient))
                self._used.append(used)
        return again

    def _present(self) -> Iterator[UsedGradient]:
        """Yield the used gradients that are still there, and not zero."""
        there = [used for used in self._used if _gradient(used) is not None]
        if not there or not norm_of([g for used in there if (g := _gradient(used)) is not None]):
            return
        for used in there:
            gradient = _gradient(used)
            if gradient is not None and bool(dense(gradient).any()):
                yield used


def _gradient(used: UsedGradient) -> Tensor | None:
    """Return the used gradient if its tensor still has it."""
    gradient = used.gradient()
    if gradient is None:
        return None
    tensor = used.weight.tensor()
    return gradient if tensor is not None and tensor.grad is gradient else None


def _version(used: UsedGradient) -> int:
    gradient = used.gradient()
    return used.version if gradient is None else version_of(gradient)


def _is_same(used: UsedGradient) -> bool:
    """Return True unless other numbers were written into the gradient."""
    gradient = used.gradient()
    return used.is_added_to or (gradient is not None and version_of(gradient) == used.version)
