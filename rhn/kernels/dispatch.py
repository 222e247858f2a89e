"""Choose how an operation is computed: the first implementation that supports the call; backward uses the same one.

    HIGHWAY = Operation("highway", C, FUSED)
    C.supports(*tensors, **options)         None, or why not: "70 units in batches of 5 are too many for it"

`supports` gets the tensors and options that `forward` would get. It decides by shapes, types, devices and what the machine has, never
by values, so that a call under `vmap` or in a CUDA graph is decided like any other.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor

C, FUSED, LOOP = "C", "fused", "loop"


def _always(*tensors, **options) -> None:
    return None


@dataclass(frozen=True, eq=False)
class Implementation:
    """One way to compute an operation. Forward and backward have the signatures of `rhn.kernels.autograd`.

    name: also for messages
    supports: the reason against a call, None if there is none
    available: the reason against all calls on this machine, for tables
    device_type: the only type of device that it runs on; None: all
    """

    name: str
    forward: Callable
    backward: Callable | None = None
    supports: Callable[..., str | None] = _always
    available: Callable[[], str | None] = _always
    device_type: str | None = None


class Operation:
    """An operation and its implementations, the preferred one first."""

    def __init__(self, name: str, *implementations: Implementation) -> None:
        self.name, self.implementations = name, implementations


@dataclass(frozen=True)
class Choice:
    """An implementation that was considered for a call; `reason`: why it was not used, None if it was."""

    operation: str
    implementation: str
    reason: str | None


_CHOICES: ContextVar[list[Choice] | None] = ContextVar("choices", default=None)


@contextmanager
def recorded_choices() -> Iterator[list[Choice]]:
    """The choices made within the context, in order; an inner context has its own."""
    choices: list[Choice] = []
    token = _CHOICES.set(choices)
    try:
        yield choices
    finally:
        _CHOICES.reset(token)


def choose(operation: Operation, *arguments, **options) -> Implementation | None:
    """The first implementation that supports a call; None if none does: then the caller computes the reference."""
    for implementation in operation.implementations:
        reason = implementation.supports(*arguments, **options)
        record(operation, implementation, reason)
        if reason is None:
            return implementation
    return None


class Call:
    """One call of an operation. The implementation that its forward pass chose also computes its backward pass."""

    def __init__(self, operation: Operation, options: dict) -> None:
        self.operation, self.options = operation, options
        self._chosen: Implementation | None = None

    def forward(self, *tensors: Tensor | None) -> tuple[Tensor, ...]:
        """(result, *residuals) of K models."""
        self._chosen = choose(self.operation, *tensors, **self.options)
        return self._chosen.forward(*tensors, **self.options)

    def backward(self, grad: Tensor, needs, inputs, residuals) -> tuple[Tensor | None, ...]:
        """One gradient for each tensor."""
        return self._chosen.backward(grad, needs, inputs, residuals, **self.options)


def record(operation: Operation, implementation: Implementation, reason: str | None) -> None:
    """Add a choice to those of `recorded_choices`."""
    if (choices := _CHOICES.get()) is not None:
        choices.append(Choice(operation.name, implementation.name, reason))
