"""The charts of a study, as plotly takes them: the swarm and the map, with what each trial was. No torch."""

from collections.abc import Sequence

import numpy as np

from gersgorin.report.page import Chart, log_axis, plain
from optim_study.columns import Swarm
from optim_study.map_plot import bias_bins, bias_words
from optim_study.plots import colors_of
from optim_study.results import Row, by_network
from rhn.cell_names import with_depth
from rhn.engine.curves import Objective
from rhn.figures import RED
from rhn.wording import counted

ROWS = 60  # of points above one another, in a column of the swarm
WIDEST, STEP = 0.42, 0.06  # half a column's width, whose neighbours are 1 away, and the least distance of two points
LOSSES = {"train": "best training loss (nats a frame)", "valid": "best validation loss (nats a frame)"}
DASHES = {"constant": "dash", "learned": "dashdot", "below": "dot"}
SYMBOLS = {"circle": "●", "square": "■", "triangle-up": "▲", "diamond": "◆", "triangle-down": "▼"}
GREY = "#888888"  # seen on light and on dark


def swarm_chart(found: Swarm) -> Chart:
    """A point a trial, a column a network. The axis ends where the study's figure does: what is above is there for who moves it."""
    columns, loss = found.columns, found.loss
    colours = colors_of((column.arch, column.depth) for column in columns)
    seen = found.values
    log = bool(seen.min() > 0 and seen.max() > 10 * seen.min())
    ends = np.append(seen, [level for level, _ in found.levels.values()])
    low, high = float(ends.min()), float(found.ceiling or ends.max())
    height = (np.ptp(np.log(ends) if log else ends) or 1.0) / ROWS
    traces = []
    for k, column in enumerate(columns):
        trials = [*column.shown, *column.hidden]
        y = np.array([row.loss(loss) for row in trials])
        x = k + swarm_offsets(np.log(y) if log else y, height)
        symbols = ["x" if row.diverged else "circle" for row in trials]
        traces.append(points(x, y, {"color": colours[column.arch], "size": 7, "symbol": symbols}, trials, loss))
    ticks = [x for k in range(len(columns)) for x in (k - 0.4, k + 0.4, None)]
    medians = [y for column in columns for y in (column.median, column.median, None)]
    traces.append(_line(ticks, medians, "median", "solid"))
    for name, (level, words) in found.levels.items():
        traces.append(_line([-0.5, len(columns) - 0.5], [level, level], words, DASHES[name]))
    above = [
        {
            "x": k,
            "y": 1,
            "yref": "paper",
            "yanchor": "bottom",
            "text": f"↑{column.above}",
            "showarrow": False,
            "font": {"size": 10},
        }
        for k, column in enumerate(columns)
        if column.above
    ]
    caption = "A point a trial, a column an architecture and depth (in brackets: trials); crosses diverged." + (
        f" At the top: how many are above {found.ceiling:g} (move the axis to see them)." if above else ""
    )
    margin = 0.06 * ((np.log10(high) - np.log10(low)) if log else high - low) or 0.5
    limits = [float(np.log10(end) if log else end) for end in (low, high)]
    layout = {
        "xaxis": {
            "tickvals": list(range(len(columns))),
            "ticktext": [plain(f"{column.arch} {column.depth} ({column.trials})") for column in columns],
            "range": [-0.6, len(columns) - 0.4],
            "tickangle": -45,
        },
        "yaxis": {
            "title": {"text": LOSSES[loss]},
            **(log_axis(low, high) if log else {}),
            "range": [limits[0] - margin, limits[1] + (0 if above else margin)],
        },
        "annotations": above,
        "shapes": _borders(found),
        "showlegend": True,
        "legend": {"orientation": "h", "y": 1.1, "yanchor": "bottom"},
    }
    return Chart(caption=caption, traces=traces, layout=layout, tall=True)


NO_GATES = "cross"  # the symbol of cells without transform gates


def map_charts(rows: Sequence[Row], loss: Objective) -> list[Chart]:
    """A chart for each network: learning rate and initial standard deviation, the colour the loss, the symbol the transform bias.

    Axes and colours are the same in all of them.
    """
    values, bins = np.array([row.loss(loss) for row in rows]), bias_bins([row.transform_bias for row in rows])
    least, most = float(values.min()), map_end(values)
    limits = [_log_limits([getattr(row, name) for row in rows]) for name in ("learning_rate", "init_std")]
    charts = []
    for (arch, depth), trials in by_network(rows).items():
        marker = {
            "color": [row.loss(loss) for row in trials],
            "cmin": least,
            "cmax": most,
            "colorscale": "Viridis",
            "reversescale": True,
            "size": 9,
            "symbol": [_symbol(row.transform_bias, bins) for row in trials],
            "line": {"width": 0.5, "color": GREY},
            "colorbar": {"thickness": 10, "title": {"text": "nats a<br>frame"}},
        }
        x, y = (np.array([getattr(row, name) for row in trials]) for name in ("learning_rate", "init_std"))
        ended = np.array([row.diverged for row in trials])
        crosses = {"symbol": "x-thin", "size": 10, "line": {"color": RED, "width": 2}}
        traces = [points(x, y, marker, trials, loss)]
        if ended.any():
            traces.append(points(x[ended], y[ended], crosses, [row for row in trials if row.diverged], loss))
        power = {"type": "log", "exponentformat": "power"}
        layout = {
            "xaxis": {"title": {"text": "learning rate"}, "dtick": 1, "range": limits[0], **power},
            "yaxis": {"title": {"text": "initial standard deviation"}, "dtick": 2, "range": limits[1], **power},
        }
        charts.append(Chart(caption=f"{with_depth(arch, depth)}, n = {len(trials)}", traces=traces, layout=layout))
    return charts


def map_words(rows: Sequence[Row], loss: Objective) -> str:
    """What the map's colours and symbols mean."""
    bins = bias_bins([row.transform_bias for row in rows])
    symbols = ", ".join(f"{sign} {bias_words(*ends)}" for sign, ends in zip(SYMBOLS.values(), bins, strict=False))
    end = map_end(np.array([row.loss(loss) for row in rows]))
    without = any(row.transform_bias is None for row in rows)
    symbols += ", ✚ no gates" * without
    shown = f"; the symbol its transform bias, of cells with gates: {symbols}" if bins else ""
    return (
        f"Where in the space of settings a trial trains. The colour is its {LOSSES[loss]}, which ends at {end:.4g}, a little above the "
        f"median{shown}.{' Red crosses: diverged.' * any(row.diverged for row in rows)}"
    )


def _log_limits(values: Sequence[float]) -> list[float]:
    """Both ends of a logarithmic axis, in powers of ten, a little beyond all values."""
    low, high = float(np.log10(min(values))), float(np.log10(max(values)))
    margin = 0.05 * (high - low) or 0.5
    return [low - margin, high + margin]


def map_end(values: np.ndarray) -> float:
    """Where the map's colours end."""
    return float(max(values.min() * 1.01, 1.05 * np.median(values)))


def swarm_offsets(y: np.ndarray, height: float) -> np.ndarray:
    """Places of a column's points beside its middle, (n,) within WIDEST: each as near to it as points within `height` let it.

    >>> swarm_offsets(np.array([0.0, 0.0, 0.5, 5.0]), 1.0).tolist()
    [0.0, 0.06, -0.06, 0.0]
    """
    places = sorted(np.arange(-int(WIDEST / STEP), int(WIDEST / STEP) + 1), key=lambda k: (abs(k), -k))
    last, offsets = dict.fromkeys(places, -np.inf), np.zeros(len(y))
    for i in np.argsort(y, kind="stable"):
        place = next((k for k in places if y[i] - last[k] > height), min(places, key=last.__getitem__))
        last[place], offsets[i] = y[i], STEP * place
    return offsets


def points(x: np.ndarray, y: np.ndarray, marker: dict, trials: Sequence[Row], loss: Objective) -> dict:
    """Trials that say what they are when pointed at."""
    said = [
        plain(f"{with_depth(r.arch, r.depth)}, trial {r.trial}")
        + f"<br>loss {r.loss(loss):.4g}, {counted(r.epochs, 'epoch')}{', diverged' if r.diverged else ''}"
        + f"<br>learning rate {r.learning_rate:.3g}{_bias(r)}<br>{plain(r.init_scheme)}, std {r.init_std:.3g}"
        for r in trials
    ]
    trace = {"type": "scatter", "mode": "markers", "x": x.tolist(), "y": y.tolist(), "marker": marker}
    return trace | {"text": said, "hovertemplate": "%{text}<extra></extra>", "showlegend": False}


def _bias(row: Row) -> str:
    return "" if row.transform_bias is None else f", bias {row.transform_bias:g}"


def _symbol(bias: float | None, bins: Sequence[tuple[float, float]]) -> str:
    if bias is None:
        return NO_GATES
    return next(name for name, (low, high) in zip(SYMBOLS, bins, strict=False) if low <= bias <= high)


def _line(x: list, y: list, name: str, dash: str) -> dict:
    line = {"color": GREY, "width": 2 if dash == "solid" else 1.2, "dash": dash}
    hover = f"{name}: %{{y:.4g}}<extra></extra>"
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": name, "line": line, "hovertemplate": hover}


def _borders(found: Swarm) -> list[dict]:
    """Lines between groups of columns."""
    ends = np.cumsum([len(group) for group in found.groups])[:-1] - 0.5
    line = {"color": GREY, "width": 0.7}
    return [
        {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": float(x), "x1": float(x), "line": line} for x in ends
    ]
