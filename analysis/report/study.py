"""The charts of a study, as plotly takes them: the swarm and the map, with what each trial was. No torch.

A study as sections of a report: how many settings train, the swarm and the map with what each trial was, the best trials.
"""

import shlex
from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from analysis.report.network import ABOUT, values_table
from analysis.report.page import Chart, Section, Table, log_axis, plain
from optim_study.columns import By, Swarm, swarm
from optim_study.map_plot import bias_bins, bias_words
from optim_study.plots import colors_of
from optim_study.protocol import SharedSettings, StudyConfig
from optim_study.results import Row, by_network
from optim_study.shares import BELOW, summary, training_shares
from rhn.cell_names import lacking, with_depth
from rhn.engine.curves import Objective
from rhn.errors import DataError
from rhn.figures import RED
from rhn.options import flag
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


BEST_TRIALS = 5  # of each network
SETTINGS = ("learning_rate", "init_scheme", "init_std", "transform_bias")
FEW = 30  # trials of a network, below which the shares say little


def study_sections(configs: Sequence[StudyConfig], rows: Sequence[Row]) -> list[Section]:
    """Everything about the finished trials of a run's studies; raises DataError where there is none."""
    if not rows:
        raise DataError("no trial of this study is finished yet: `optim-study status` says how far it is")
    loss = configs[0].objective
    return [_about(configs, rows), _shares(rows, loss), _swarm(rows, loss), _map(rows, loss), _best(rows, loss)]


def best_study(rows: Sequence[Row], configs: Sequence[StudyConfig]) -> StudyConfig:
    """The study of the best trial of all."""
    best = min(rows, key=lambda row: (row.loss(configs[0].objective), row.arch, row.depth, row.trial))
    return next(c for c in configs if (c.label, c.depth) == (best.arch, best.depth))


def study_command(configs: Sequence[StudyConfig]) -> str:
    """The command of studies of one protocol, as a run makes them, in a folder that is not theirs."""
    first, words = configs[0], []
    for f in fields(SharedSettings):
        value = getattr(first, f.name)
        if value != f.default:
            words += [flag(f.name), *map(str, value if isinstance(value, tuple) else (value,))]
    skip = [word for name, value in first.options.items() for word in (flag(name), str(value))]
    archs, depths = (
        [str(each) for each in dict.fromkeys(values)]
        for values in zip(*((c.arch, c.depth) for c in configs), strict=True)
    )
    return shlex.join(
        ["optim-study", "run", "--arch", *archs, "--depth", *depths, *skip, *words, "--out", "runs/again"]
    )


def _about(configs: Sequence[StudyConfig], rows: Sequence[Row]) -> Section:
    done = {network: len(trials) for network, trials in by_network(rows).items()}
    counts = ", ".join(f"{c.name} {done.get((c.label, c.depth), 0)} of {c.trials}" for c in configs)
    first = configs[0]
    spans = (("learning rate", first.learning_rate), ("initial standard deviation", first.init_std))
    drawn = [f"{name} ({low:g} to {high:g})" for name, (low, high) in spans]
    if not all("transform_bias" in lacking(config.label) for config in configs):
        drawn.append(f"transform bias ({', '.join(f'{bias:g}' for bias in first.transform_bias)})")
    words = [
        f"Random search over {', '.join(drawn[:-1])} and {drawn[-1]}; "
        f"at most {counted(first.epochs, 'epoch')} a trial, budgets of {first.budget_scale:g} times the paper's, seed {first.seed}.",
        f"Finished trials: {counts}.",
    ]
    words.append(f"Run it again: {study_command(configs)}")
    told = {c.name: c.protocol() | {"trials": c.trials, "fingerprint": c.fingerprint} for c in configs}
    return Section(title=ABOUT, words=words, tables=[values_table(told, "The whole protocol of every study")])


def _shares(rows: Sequence[Row], loss: Objective) -> Section:
    found = training_shares(rows, loss)
    columns = [
        "network",
        "units",
        "trials",
        "diverged",
        "best",
        "median",
        f"below {BELOW:g}",
        "share (%)",
        "95 % from",
        "to",
        "p (Holm)",
    ]
    table = [
        [with_depth(s.arch, s.depth), s.hidden_size, s.trials, s.diverged, s.best, s.median, s.below]
        + [100 * share for share in (s.share, *s.interval)]
        + [s.p_holm]
        for s in found
    ]
    words = summary(found).splitlines()
    trained, trials = sum(s.below for s in found), sum(s.trials for s in found)
    verdict = f"{trained} of {counted(trials, 'trial')} of {counted(len(found), 'network')} train (below {BELOW:g} nats a frame)."
    if (least := min(s.trials for s in found)) < FEW:
        words.append(f"With as few as {least} trials a network these shares are hardly known, as the intervals say.")
    caption = "Settings that train, with exact intervals; p: Fisher's exact test against the RHN of the depth, by Holm's method"
    return Section(
        title="How many settings train",
        verdict=verdict,
        words=words,
        tables=[Table(caption=caption, columns=columns, rows=table)],
    )


def _swarm(rows: Sequence[Row], loss: Objective) -> Section:
    charts = [swarm_chart(swarm(rows, loss=loss, by=by)) for by in _groupings(rows)]
    return Section(title="Swarm", charts=charts)


def _groupings(rows: Sequence[Row]) -> list[By]:
    """By architecture; and by depth where that is another order."""
    several = len({row.arch for row in rows}) > 1 and len({row.depth for row in rows}) > 1
    return ["arch", "depth"] if several else ["arch"]


def _map(rows: Sequence[Row], loss: Objective) -> Section:
    return Section(title="Map", words=[map_words(rows, loss)], charts=map_charts(rows, loss))


def _best(rows: Sequence[Row], loss: Objective) -> Section:
    table = []
    for (arch, depth), trials in by_network(rows).items():
        for row in sorted(trials, key=lambda row: (row.loss(loss), row.trial))[:BEST_TRIALS]:
            settings = ["" if (value := getattr(row, name)) is None else value for name in SETTINGS]
            table.append(
                [
                    with_depth(arch, depth),
                    row.trial,
                    row.best_train_nll,
                    row.best_valid_nll,
                    row.test_nll,
                    *settings,
                    row.epochs,
                ]
            )
    columns = ["network", "trial", "train", "valid", "test", "learning rate", "scheme", "std", "bias", "epochs"]
    caption = f"The best {BEST_TRIALS} of each network, losses in nats a frame"
    return Section(title="The best trials", tables=[Table(caption=caption, columns=columns, rows=table)])
