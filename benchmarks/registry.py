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
    floor: float
    """The ratio the project promises: at most 0.8 of the least that any machine gave, so that no machine decides it."""
    aim: float | None = None
    pairs: int = 7
    full: bool = False
    """Only with --full."""
    devices: tuple[str, ...] = ("cpu",)


BENCHMARKS: list[Benchmark] = []


def benchmark(name: str, against: str, floor: float, **options):
    """Enrol a `prepare` function."""

    def enrol(prepare):
        BENCHMARKS.append(Benchmark(name=name, prepare=prepare, against=against, floor=floor, **options))
        return prepare

    return enrol
