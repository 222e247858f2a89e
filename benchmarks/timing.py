"""Paired timing: ours and the other in turn, so that a drifting machine slows both; the median of the pairs' ratios is the result."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Ratio:
    """How many times faster ours was: the median over pairs, and the smallest and largest."""

    median: float
    low: float
    high: float


def paired(ours: Callable[[], object], *others: Callable[[], object], pairs: int, device: str = "cpu") -> Ratio:
    """time(fastest of the others) / time(ours), over `pairs` rounds after one round of warming up."""

    def seconds(function) -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    for function in (ours, *others):
        function()
    ratios = []
    for k in range(pairs):
        order = (ours, *others) if k % 2 else (*others, ours)
        taken = {function: seconds(function) for function in order}
        ratios.append(min(taken[f] for f in others) / taken[ours])
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))
