"""Count the training minibatches that a DataLoader gives, by content.

A minibatch is a training minibatch if a backward pass begins while its iterator is in use, or after
`next(iter(loader))`. Minibatches that are read in `no_grad` are none.
"""

import weakref
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch

from trainability.watching.tensors import content_hash, tensors_in


@dataclass(eq=False)
class LoaderReads:
    """The minibatches that one iterator has given since the last backward pass."""

    iterator: "weakref.ref[Any]"
    contents: list[tuple[int | None, ...]] = field(default_factory=list)
    is_trained_on: bool = False
    """A backward pass has begun while the iterator was in use."""


class Minibatches:
    """The training minibatches of a loop."""

    def __init__(self) -> None:
        self.reads: Counter[tuple[int | None, ...]] = Counter()
        self._readings: dict[int, LoaderReads] = {}

    def read(self, iterator: Any, minibatch: Any) -> None:
        """Note a minibatch that an iterator gives."""
        if not torch.is_grad_enabled():
            return
        reading = self._readings.get(id(iterator))
        if reading is None or reading.iterator() is not iterator:
            reading = LoaderReads(weakref.ref(iterator))
            self._readings[id(iterator)] = reading
        reading.contents.append(tuple(map(content_hash, tensors_in(minibatch))))

    def ended(self, iterator: Any) -> None:
        """Count what an iterator gave before its end, if it is one of training."""
        reading = self._readings.pop(id(iterator), None)
        if reading is not None and reading.is_trained_on:
            self.reads.update(reading.contents)

    def used(self) -> None:
        """Count what was read until now: a backward pass begins."""
        for key, reading in [*self._readings.items()]:
            if reading.iterator() is None:
                self.reads.update(reading.contents[-1:])
                del self._readings[key]
            else:
                self.reads.update(reading.contents)
                reading.contents.clear()
                reading.is_trained_on = True

    def numbers(self) -> tuple[float, ...] | None:
        """Return how many were read, how many differ, and the most reads of one; None without a
        DataLoader, or if the content of one is unknown.
        """
        is_unknown = any(not content or None in content for content in self.reads)
        if not self.reads or is_unknown:
            return None
        return self.reads.total(), len(self.reads), max(self.reads.values())
