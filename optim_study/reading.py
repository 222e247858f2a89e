"""The paper's claim as numbers: how many random settings get near the best loss, and the best itself, by architecture and depth.

    share = #{trials with loss <= 1.1 reference} / #trials

The reference at a depth is the least loss that any network of this depth *or a shallower one* reached, of any architecture in the
table: budgets grow with depth, so a deeper network could do at least as well. (Against its own best, a network whose trials all
stay on the plateau would have a share of 100 %.)

Intervals are percentiles of a bootstrap over the trials of a study, with the reference held fixed. Where no trial, or every one, is
near, resampling cannot vary, and the interval is a point: by the rule of three up to 3/n of further trials might still differ.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .records import Loss, Row, by_network

NEAR = 1.10
RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the trials of one architecture and depth came to. Losses in nats a frame, intervals of 95 %."""

    study: str
    arch: str
    depth: int
    hidden_size: int
    trials: int
    diverged: int
    best: float
    best_trial: int
    best_interval: tuple[float, float]
    median: float
    reference: float
    near: int
    """Trials with a loss within 10 % of the reference."""
    share: float
    share_interval: tuple[float, float]


def read(rows: Iterable[Row], loss: Loss = "train", *, seed: int = 0) -> list[Reading]:
    """A reading for each architecture and depth in the table, in the order of `by_network`."""
    groups = by_network(rows)
    best = {key: min(row.loss(loss) for row in trials) for key, trials in groups.items()}
    readings = []
    for (arch, depth), trials in groups.items():
        reference = min(value for (_, other), value in best.items() if other <= depth)
        readings.append(_read(arch, depth, trials, loss, reference, np.random.default_rng([seed, depth])))
    return readings


def summary(readings: list[Reading]) -> str:
    """A sentence an architecture.

    >>> summary([])
    ''
    """
    sentences = []
    for arch in dict.fromkeys(r.arch for r in readings):
        ours = [r for r in readings if r.arch == arch]
        shares = ", ".join(f"{r.near} of {r.trials} at depth {r.depth}" for r in ours)
        bests = ", ".join(f"{r.best:.2f}" for r in ours)
        sentences.append(f"{arch}: {shares} came within 10 % of the best loss so far (best: {bests}).")
    return "\n".join(sentences)


def _read(arch: str, depth: int, trials: list[Row], loss: Loss, reference: float, rng: np.random.Generator) -> Reading:
    losses = np.array([row.loss(loss) for row in trials])
    near = losses <= NEAR * reference
    resampled = rng.integers(len(losses), size=(RESAMPLES, len(losses)))
    return Reading(
        study=f"{arch}-depth{depth}",
        arch=arch,
        depth=depth,
        hidden_size=trials[0].hidden_size,
        trials=len(trials),
        diverged=sum(row.diverged for row in trials),
        best=float(losses.min()),
        best_trial=trials[int(losses.argmin())].trial,
        best_interval=_interval(losses[resampled].min(1)),
        median=float(np.median(losses)),
        reference=reference,
        near=int(near.sum()),
        share=float(near.mean()),
        share_interval=_interval(near[resampled].mean(1)),
    )


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
