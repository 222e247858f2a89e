"""What the comparison came to, a row a cell: the table of the note."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.cells.networks import Network
from benchmarks.cells.studies import Study

MOMENTS = ("initial", "usual", "trained")


@dataclass(frozen=True)
class Interval:
    """A mean over seeds, with Student's interval of 95 %."""

    mean: float
    low: float
    high: float


def over_seeds(values: Sequence[float]) -> Interval:
    """The mean of independent values and its interval; no interval (NaN) where there are fewer than two, or one is not finite.

    >>> over_seeds([1.0, 2.0, 3.0])
    Interval(mean=2.0, low=-0.484..., high=4.484...)
    """
    from scipy.special import stdtrit  # not scipy.stats, which takes a second to load

    values = np.asarray(values, dtype=float)
    if len(values) < 2 or not np.isfinite(values).all():
        return Interval(float(np.mean(values)), math.nan, math.nan)
    half = float(stdtrit(len(values) - 1, 0.975)) * values.std(ddof=1) / math.sqrt(len(values))
    return Interval(float(values.mean()), float(values.mean() - half), float(values.mean() + half))


def ranked(studies: Mapping[str, Study], networks: Mapping[str, Sequence[Network]]) -> list[str]:
    """The cells, the least mean training loss over the seeds first."""
    return sorted(studies, key=lambda cell: np.mean([n.train_nll for n in of(networks[cell], "trained")]))


def of(networks: Sequence[Network], moment: str) -> list[Network]:
    """Those of one moment."""
    return [network for network in networks if network.moment == moment]


def losses_table(studies: Mapping[str, Study], networks: Mapping[str, Sequence[Network]]) -> str:
    """How well the cells train, as Markdown, in nats a frame."""
    lines = [
        "| cell | units | parameters | best of 60 | left the plateau | best setting, 5 seeds | validation |",
        "|---" * 7 + "|",
    ]
    for cell in ranked(studies, networks):
        study, trained = studies[cell], of(networks[cell], "trained")
        _, low, high = study.share
        left = f"{study.left} of {len(study.rows)} ({100 * low:.0f} to {100 * high:.0f} %)"
        size = f"{trained[0].hidden_size} | {trained[0].parameters:,}"
        learnt = [n for n in trained if n.epoch > 0]
        train, valid = (_interval([getattr(n, name) for n in learnt or trained]) for name in ("train_nll", "valid_nll"))
        if len(learnt) < len(trained):
            train += f", {len(learnt)} of {len(trained)} seeds: the others diverged"
        lines.append(f"| {cell} | {size} | {study.best.best_train_nll:.2f} | {left} | {train} | {valid} |")
    return "\n".join(lines)


def spectra_table(studies: Mapping[str, Study], networks: Mapping[str, Sequence[Network]]) -> str:
    """Spectra of the best setting's start, of the usual start and after training, medians over the seeds, as Markdown."""
    names = ("radius", "bulk", "exponent", "half_life", "input_gain", "looseness")
    lines = ["| cell | " + " | ".join(name.replace("_", "-") for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    for cell in ranked(studies, networks):
        each = (
            [f"{np.median([getattr(n, name) for n in of(networks[cell], m)]):.3g}" for m in MOMENTS] for name in names
        )
        lines.append(f"| {cell} | " + " | ".join(map(" · ".join, each)) + " |")
    return "\n".join(lines)


def _interval(values: Sequence[float]) -> str:
    found = over_seeds(values)
    return f"{found.mean:.2f}" + (f" ({found.low:.2f} to {found.high:.2f})" if math.isfinite(found.low) else "")
