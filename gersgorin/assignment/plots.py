"""Figures of credit over time, from records alone: who reaches whom, and what each lag is worth."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from gersgorin.assignment.record import Credit
from gersgorin.looks import as_list, complete, legend_below, wrapped
from gersgorin.shown import Shown, laid_out, own_axes
from rhn.figures import BLUE, GREY, ORANGE, drawable, our_style, titled

DECADES = 8  # of a heat map's scale: what is smaller by more is shown as nothing
SMALLEST = 1e-6  # part of the gradient that is drawn
TITLE = "Credit over time: which losses reach which states"
SCALE = r"$\log_{10}\,\|\partial L_{t_2} / \partial y_{t_1}\|$"
TRUNCATION = 35  # steps back, those of the paper's language models


@our_style()
def plot_credit(record: Credit, ax: Axes | None = None, *, top: float | None = None) -> Axes:
    """log10 ||dL[t2]/dy[t1]|| as a heat map, t1 to the right and t2 upwards, on a scale that ends at `top` (None: the largest)."""
    alone, ax = ax is None, own_axes(5.2, 4.6) if ax is None else ax
    top, values = decades([record]) if top is None else top, np.full_like(record.norms, np.nan)
    np.log10(record.norms, out=values, where=record.norms > 0)
    image = ax.imshow(values, origin="lower", cmap="viridis", vmin=top - DECADES, vmax=top, interpolation="none")
    unit = _unit(record)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set(xlabel=rf"state $t_1${unit}", ylabel=rf"loss $t_2${unit}")
    if alone:
        ax.figure.colorbar(image, ax=ax, label=SCALE, extend="min")
        complete(ax, _title(record), record.about)
    return ax


@our_style()
def plot_lags(record: Credit, ax: Axes | None = None) -> Axes:
    """By lag: its share of the gradient, and what is lost where errors go back no further."""
    alone, ax = ax is None, own_axes(5.2, 4) if ax is None else ax
    lags = np.arange(len(record.lag_share))
    ax.plot(lags, record.lag_norm, color=BLUE, label=r"norm of the lag's part, $\|g_k\| / \|g\|$")
    ax.plot(lags, record.lost, color=ORANGE, linestyle="--", label="lost beyond this lag")
    if len(lags) > TRUNCATION:
        ax.axvline(TRUNCATION, color=GREY, linestyle=":", linewidth=1, label=f"{TRUNCATION} steps")
    ax.set(
        xlabel=rf"lag $k = t_2 - t_1${_unit(record)}", xlim=(0, max(1, len(lags) - 1)), yscale="log", ylim=(SMALLEST, 2)
    )
    ax.set_ylabel("part of the gradient's norm")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return complete(ax, _title(record), record.about) if alone else ax


def decades(records: list[Credit]) -> float:
    """The largest log10 norm among the records, rounded up to a whole decade; 0 where there is nothing but zeros."""
    largest = max(float(record.norms.max()) for record in records)
    return float(np.ceil(np.log10(largest))) if largest > 0 else 0.0


@our_style()
def draw_credit(
    records: Credit | Sequence[Credit] | Mapping[str, Credit], title: str = TITLE, about: str = ""
) -> Shown:
    """Moments of a training side by side: heat maps on one scale, and under them what each lag is worth.

    records: one, or several with their names; without names they are counted.
    title, about: of the figure, what it shows and how the network came to be; "" for what all records say of that.
    """
    records = records if isinstance(records, Mapping) else _counted(as_list(records))
    figure = Shown(figsize=(max(6.5, 1.6 + 3.2 * len(records)), 7.2), layout="constrained")
    upper, lower = figure.subplots(2, len(records), squeeze=False, height_ratios=(1.4, 1))
    top = decades([*records.values()])
    for k, (above, below, (name, record)) in enumerate(zip(upper, lower, records.items(), strict=True)):
        loss = f"loss {record.loss:.3g} {record.loss_unit}"
        plot_credit(record, above, top=top).set_title("\n".join(filter(None, (wrapped(name, 34), loss))))
        long = len(record.lost) > TRUNCATION
        lost = f"beyond {TRUNCATION} steps {record.lost_beyond(TRUNCATION):.2g} of it is lost" if long else ""
        plot_lags(record, below).set_title(lost)
        if k:
            above.set_ylabel("")
            below.set_ylabel("")
    figure.colorbar(upper[-1].images[0], ax=upper, label=SCALE, extend="min")
    legend_below(figure, lower[:1])
    said = {", ".join(filter(None, (record.title, record.about))) for record in records.values()}
    titled(figure, drawable(title), drawable(about or (said.pop() if len(said) == 1 else "")))
    return laid_out(figure)


def _counted(records: list[Credit]) -> dict[str, Credit]:
    """By names that count them; alone, without one."""
    return {f"{k} of {len(records)}" * (len(records) > 1): record for k, record in enumerate(records, start=1)}


def _title(record: Credit) -> str:
    return f"{record.title}, {TITLE[0].lower()}{TITLE[1:]}" if record.title else TITLE


def _unit(record: Credit) -> str:
    return "" if record.unit == "steps" else f" ({record.unit})"
