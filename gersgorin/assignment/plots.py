"""Figures of credit over time, from records alone: who reaches whom, and what each lag is worth."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gersgorin.assignment.record import Credit
from rhn.figures import BLUE, GREY, ORANGE

DECADES = 8  # of a heat map's scale: what is smaller by more is shown as nothing
SMALLEST = 1e-6  # part of the gradient that is drawn
SCALE = r"$\log_{10}\,\|\partial L_{t_2} / \partial y_{t_1}\|$"
TRUNCATION = 35  # steps back, those of the paper's language models


def plot_credit(record: Credit, ax: Axes | None = None, *, top: float | None = None) -> Axes:
    """log10 ||dL[t2]/dy[t1]|| as a heat map, t1 to the right and t2 upwards, on a scale that ends at `top` (None: the largest)."""
    alone = ax is None
    ax = ax or Figure(figsize=(4.6, 4), layout="constrained").subplots()
    top, values = decades([record]) if top is None else top, np.full_like(record.norms, np.nan)
    np.log10(record.norms, out=values, where=record.norms > 0)
    image = ax.imshow(values, origin="lower", cmap="viridis", vmin=top - DECADES, vmax=top, interpolation="none")
    unit = _unit(record)
    ax.set(xlabel=rf"state $t_1${unit}", ylabel=rf"loss $t_2${unit}")
    if alone:
        ax.figure.colorbar(image, ax=ax, label=SCALE, extend="min")
    return ax


def plot_lags(record: Credit, ax: Axes | None = None) -> Axes:
    """By lag: its share of the gradient, and what is lost where errors go back no further."""
    ax = ax or Figure(figsize=(4.6, 3), layout="constrained").subplots()
    lags = np.arange(len(record.lag_share))
    ax.plot(lags, record.lag_norm, color=BLUE, label=r"norm of the lag's part, $\|g_k\| / \|g\|$")
    ax.plot(lags, record.lost, color=ORANGE, linestyle="--", label="lost beyond this lag")
    if len(lags) > TRUNCATION:
        ax.axvline(TRUNCATION, color=GREY, linestyle=":", linewidth=1)
    ax.set(
        xlabel=rf"lag $k = t_2 - t_1${_unit(record)}", xlim=(0, max(1, len(lags) - 1)), yscale="log", ylim=(SMALLEST, 2)
    )
    return ax


def decades(records: list[Credit]) -> float:
    """The largest log10 norm among the records, rounded up to a whole decade; 0 where there is nothing but zeros."""
    largest = max(float(record.norms.max()) for record in records)
    return float(np.ceil(np.log10(largest))) if largest > 0 else 0.0


def draw_credit(records: Mapping[str, Credit]) -> Figure:
    """Moments of a training side by side: heat maps on one scale, and under them what each lag is worth."""
    figure = Figure(figsize=(1.2 + 3.1 * len(records), 6), layout="constrained")
    upper, lower = figure.subplots(2, len(records), squeeze=False, sharex=True, sharey="row", height_ratios=(1.5, 1))
    top = decades([*records.values()])
    for above, below, (title, record) in zip(upper, lower, records.items(), strict=True):
        plot_credit(record, above, top=top).set_title(f"{title}\nloss {record.loss:.2f} {record.loss_unit}")
        plot_lags(record, below).set_title(
            f"lost beyond {TRUNCATION} steps: {record.lost_beyond(TRUNCATION):.2g}", loc="left"
        )
    figure.colorbar(upper[-1].images[0], ax=upper, label=SCALE, extend="min")
    lower[0].legend(loc="upper right")
    return figure


def _unit(record: Credit) -> str:
    return "" if record.unit == "steps" else f" ({record.unit})"
