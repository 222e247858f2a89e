"""What the predictions of a study came to, by architecture and depth, and how that looks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from benchmarks.plateau.trials import ARCHITECTURES, Prediction, groups
from rhn.plotting.figures import GREY, titled

NEVER = 400  # where the figure puts what is not predicted within twice the epochs


@dataclass(frozen=True)
class Group:
    """One architecture and depth; the field names are the columns."""

    arch: str
    depth: int
    trials: int
    left: int
    """Left the plateau within the epochs of the study."""
    hits: int
    """Left, as predicted."""
    missed: int
    """Left, and were predicted not to."""
    false_alarms: int
    """Predicted to leave, and did not."""
    median_ratio: float
    """Predicted / observed epoch of those that left."""
    ratio_10: float
    ratio_90: float
    rank_correlation: float
    """Spearman's, of predicted and observed epoch, of those that left."""
    by_learning_rate: float
    """The same of 1 / learning rate: what is known without any of this."""


@dataclass(frozen=True)
class Overall:
    """All trials together; the names as in `Group`."""

    trials: int
    left: int
    hits: int
    false_alarms: int
    half_within: float
    """Half of the predictions of those that left are off by at most this part of the observed epoch."""
    within_factor_2: int


def summary(rows: Sequence[Prediction]) -> list[Group]:
    """A row a group."""
    return [_group(arch, depth, found) for arch, depth, found in groups(list(rows))]


def overall(rows: Sequence[Prediction]) -> Overall:
    """What README and the note quote."""
    found = summary(rows)
    ratios = np.array([r.predicted_epoch / max(r.observed_epoch, 1) for r in rows if r.observed_epoch is not None])
    sums = (sum(getattr(group, name) for group in found) for name in ("trials", "left", "hits", "false_alarms"))
    return Overall(*sums, float(np.median(abs(ratios - 1))), int(((ratios >= 0.5) & (ratios <= 2)).sum()))


def _group(arch: str, depth: int, rows: list[Prediction]) -> Group:
    left = [row for row in rows if row.observed_epoch is not None]
    hits = sum(row.predicted_epoch <= row.epochs for row in left)
    alarms = sum(row.predicted_epoch <= row.epochs for row in rows) - hits
    ratios = [row.predicted_epoch / max(row.observed_epoch, 1) for row in left]
    low, median, high = np.quantile(ratios, (0.1, 0.5, 0.9)) if left else (math.nan,) * 3
    observed = [row.observed_epoch for row in left]
    ranks = [
        float(spearmanr(observed, guess).statistic) if len(left) > 2 else math.nan
        for guess in ([row.predicted_epoch for row in left], [1 / row.learning_rate for row in left])
    ]
    return Group(arch, depth, len(rows), len(left), hits, len(left) - hits, alarms, median, low, high, *ranks)


def draw_predictions(rows: Sequence[Prediction]) -> Figure:
    """Predicted against observed epoch, a panel an architecture; above, the trials that did not leave."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    shown = [arch for arch in ARCHITECTURES if any(row.arch == arch for row in rows)]
    axes = figure.subplots(1, len(shown), sharex=True, sharey=True, squeeze=False)[0]
    for ax, arch in zip(axes, shown, strict=True):
        mine = [row for row in rows if row.arch == arch]
        for depth, marker in zip((1, 2, 4, 6), "o^sD", strict=True):
            found = [row for row in mine if row.depth == depth]
            x = [min(row.predicted_epoch, NEVER) for row in found]
            y = [
                300 * 1.12 ** (depth - 3) if row.observed_epoch is None else max(row.observed_epoch, 1) for row in found
            ]
            ax.plot(
                x,
                y,
                marker,
                color=ARCHITECTURES[arch],
                markersize=4,
                alpha=0.5,
                markeredgewidth=0,
                label=f"depth {depth}",
            )
        ax.plot([3, 120], [3, 120], "--", color=GREY, linewidth=1)
        ax.axvline(120, color=GREY, linewidth=0.8, linestyle=":")
        ax.axhline(150, color=GREY, linewidth=0.8, linestyle=":")
        ax.set(
            xscale="log", yscale="log", title=arch, xlabel="predicted epoch of leaving", xlim=(3, 600), ylim=(3, 600)
        )
        ax.set_yticks([3, 10, 30, 100, 300], ["3", "10", "30", "100", "not in 120"])
        ax.set_xticks([3, 10, 30, 120, NEVER], ["3", "10", "30", "120", "later"])
        ax.minorticks_off()
    title = "When networks leave the plateau: predicted from the first weights, and observed"
    titled(
        figure,
        title,
        f"{len(rows)} trials of the small study (gaussian starts, seed 0, at most 120 epochs) on the rebuilt chorales; "
        "dashed: as predicted; dotted: the last epoch",
    )
    axes[0].set_ylabel("observed epoch of leaving")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure
