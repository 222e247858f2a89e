"""What a worker tells about its work while it works, for whoever draws the progress."""

from collections.abc import Mapping
from dataclasses import dataclass

from .swarm_protocol import Outcome


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something happened in a study."""

    study: str
    """Name of the study."""


@dataclass(frozen=True, kw_only=True)
class Claimed(Event):
    """Trials were claimed."""

    epochs: Mapping[int, int]
    """Trial -> the epoch it goes on from, 0 for a new one."""


@dataclass(frozen=True, kw_only=True)
class EpochDone(Event):
    """A swarm has trained for one epoch."""

    epoch: int
    """Epochs of training done."""
    live: tuple[int, ...]
    """The trials that go on."""


@dataclass(frozen=True, kw_only=True)
class Saved(Event):
    """Trials were saved and their losses reported."""

    epoch: int
    numbers: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """A trial is complete."""

    number: int
    outcome: Outcome
