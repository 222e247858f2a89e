"""Count the training minibatches that a DataLoader gives, by content."""

import weakref
from collections import Counter
from typing import Any

from trainability.watching.tensors import content_of, tensors_in


class Minibatches:
    """A minibatch is a training minibatch if a backward pass follows before its loader gives the
    next one.
    """

    def __init__(self) -> None:
        self.reads: Counter[tuple[int | None, ...]] = Counter()
        self.has_unreadable = False
        self._waiting: weakref.WeakKeyDictionary[Any, tuple[int | None, ...]]
        self._waiting = weakref.WeakKeyDictionary()

    def read(self, iterator: Any, minibatch: Any) -> None:
        """Note a minibatch that an iterator gives."""
        self._waiting[iterator] = tuple(map(content_of, tensors_in(minibatch)))

    def used(self) -> None:
        """Count the minibatches that were read last: a backward pass begins."""
        for content in self._waiting.values():
            self.reads[content] += 1
            self.has_unreadable |= not content or None in content
        self._waiting.clear()

    def numbers(self) -> tuple[float, ...] | None:
        """Return how many were read, how many differ, and the most reads of one; None without a
        DataLoader, or if the content of one is unknown.
        """
        if not self.reads or self.has_unreadable:
            return None
        return self.reads.total(), len(self.reads), max(self.reads.values())
