"""The benchmarks by name: functions of the device that return (ours, *others), callables of no
arguments; their paired timing, and the table of their ratios.
"""

import csv
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One row of the table."""

    name: str
    prepare: Callable[[str], tuple[Callable[[], object], ...]]
    against: str
    """What the others are, in words; the fastest of them counts."""
    floor: float = 1.0
    """The least ratio that passes on a CPU: 1 against plain torch, NumPy or nn.*; 0.95 if both make
    the same call; less only if ours does more. Above 1: what the project promises. No ratio of a
    GPU is promised.
    """
    pairs: int = 7
    full: bool = False
    """Only with --full."""
    devices: tuple[str, ...] = ("cpu",)


BENCHMARKS: list[Benchmark] = []


def benchmark(name: str, against: str, floor: float = 1.0, **options):
    """Enrol a `prepare` function."""

    def enrol(prepare):
        row = Benchmark(name=name, prepare=prepare, against=against, floor=floor, **options)
        BENCHMARKS.append(row)
        return prepare

    return enrol


on_both = partial(benchmark, devices=("cpu", "cuda"))


@dataclass(frozen=True)
class Ratio:
    """The factor by which ours was faster: median over pairs, smallest and largest."""

    median: float
    low: float
    high: float
    seconds: float
    """The median of ours."""


def seconds_of(function: Callable[[], object], device: str) -> float:
    """The time of one call, with all that it started on a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def paired(
    ours: Callable[[], object], *others: Callable[[], object], pairs: int, device: str = "cpu"
) -> Ratio:
    """time(fastest of the others) / time(ours), in turn, so that a drifting machine slows both; a
    first round warms up.
    """
    for function in (ours, *others):
        function()
    ratios, own = [], []
    for k in range(pairs):
        order = (ours, *others) if k % 2 else (*others, ours)
        taken = {function: seconds_of(function, device) for function in order}
        ratios.append(min(taken[f] for f in others) / taken[ours])
        own.append(taken[ours])
    return Ratio(statistics.median(ratios), min(ratios), max(ratios), statistics.median(own))


COLUMNS = "ratio", "range over pairs", "ours", "against", "on"


def make_of_processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """ "AMD", "Intel", or the architecture of any other processor."""
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    makes = {"AuthenticAMD": "AMD", "GenuineIntel": "Intel"}
    return next((make for key, make in makes.items() if key in text), platform.machine())


def write_rows(path: Path, ratios: dict[tuple[str, str], Ratio], make: str) -> None:
    """Put ratios by (ours, against), measured on this make of processor, into a table; its other
    rows stay.
    """
    rows = dict[tuple[str, ...], list[str]]()
    if path.exists():
        with path.open(newline="") as file:
            rows = {tuple(row[2:]): row for row in list(csv.reader(file))[1:]}
    for names, ratio in ratios.items():
        row = [f"{ratio.median:.2f}x", f"{ratio.low:.2f} to {ratio.high:.2f}", *names, make]
        rows[*names, make] = row
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows.values()])
