"""Which kernel computes a recurrence, and why a faster one does not: told while somebody listens.

    with listening() as told:
        cell(x)
    told            [Told("compiled", "it has no dropout"), Told("persistent", "it needs a CUDA device"), Told("hand-derived", None)]

The first one without a refusal computed it; where nothing was told the recurrence has no kernel, and its equation ran step by step.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

COMPILED, PERSISTENT, HAND_DERIVED, REPEATED = "compiled", "persistent", "hand-derived", "repeated"


class Told(NamedTuple):
    """A kernel that was asked to compute a recurrence. `refusal`: why it did not, None where it did."""

    kernel: str
    refusal: str | None


_LISTENER: ContextVar[list[Told] | None] = ContextVar("listener", default=None)


@contextmanager
def listening() -> Iterator[list[Told]]:
    """What is told within, in the order of asking."""
    heard: list[Told] = []
    token = _LISTENER.set(heard)
    try:
        yield heard
    finally:
        _LISTENER.reset(token)


def tell(kernel: str, refusal: str | None = None) -> str | None:
    """Say that a kernel was asked; returns its refusal."""
    if (heard := _LISTENER.get()) is not None:
        heard.append(Told(kernel, refusal))
    return refusal
