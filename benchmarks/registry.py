"""The benchmarks by name. One is a function of the device that returns (ours, *others), callables of no arguments."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One row of the table."""

    name: str
    prepare: Callable[[str], tuple[Callable[[], object], ...]]
    against: str
    """What the others are, in words; the fastest of them counts."""
    floor: float = 1.0
    """The least ratio that passes: 1 against plain torch, NumPy or nn.*; 0.95 if both make the same call; less only if ours does more.
    Above 1: what the project promises."""
    pairs: int = 7
    full: bool = False
    """Only with --full."""
    devices: tuple[str, ...] = ("cpu",)


BENCHMARKS: list[Benchmark] = []


def benchmark(name: str, against: str, floor: float = 1.0, **options):
    """Enrol a `prepare` function."""

    def enrol(prepare):
        BENCHMARKS.append(Benchmark(name=name, prepare=prepare, against=against, floor=floor, **options))
        return prepare

    return enrol
