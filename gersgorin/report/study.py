"""A study as sections of a report: how many settings train, the swarm and the map with what each trial was, the best trials."""

import shlex
from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from gersgorin.report.about import ABOUT, values_table
from gersgorin.report.page import Chart, Section, Table, plain
from optim_study.plots import colors_of
from optim_study.protocol import SharedSettings, StudyConfig
from optim_study.results import Row, by_network
from optim_study.shares import BELOW, summary, training_shares
from rhn.engine.curves import Objective
from rhn.errors import DataError
from rhn.options import flag

BEST_TRIALS = 5  # of each network
ROWS = 60  # of points above one another, in a column of the swarm
WIDEST, STEP = 0.42, 0.06  # half a column's width, whose neighbours are 1 away, and the least distance of two points
LOSSES = {"train": "best training loss (nats a frame)", "valid": "best validation loss (nats a frame)"}
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
    """The command of studies of one protocol, as a run makes them."""
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
    return shlex.join(["optim-study", "run", "--arch", *archs, "--depth", *depths, *skip, *words])


def _about(configs: Sequence[StudyConfig], rows: Sequence[Row]) -> Section:
    done = {network: len(trials) for network, trials in by_network(rows).items()}
    counts = ", ".join(f"{c.name} {done.get((c.label, c.depth), 0)} of {c.trials}" for c in configs)
    first = configs[0]
    words = [
        f"Random search over learning rate ({first.learning_rate[0]:g} to {first.learning_rate[1]:g}), initial standard deviation "
        f"({first.init_std[0]:g} to {first.init_std[1]:g}) and transform bias ({', '.join(f'{b:g}' for b in first.transform_bias)}); "
        f"at most {first.epochs} epochs a trial, budgets of {first.budget_scale:g} times the paper's, seed {first.seed}.",
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
        [f"{s.arch}, depth {s.depth}", s.hidden_size, s.trials, s.diverged, s.best, s.median, s.below]
        + [100 * share for share in (s.share, *s.interval)]
        + [s.p_holm]
        for s in found
    ]
    words = summary(found).splitlines()
    if (least := min(s.trials for s in found)) < FEW:
        words.append(f"With as few as {least} trials a network these shares are hardly known, as the intervals say.")
    caption = "Settings that train, with exact intervals; p: Fisher's exact test against the RHN of the depth, by Holm's method"
    return Section(
        title="How many settings train", words=words, tables=[Table(caption=caption, columns=columns, rows=table)]
    )


def _swarm(rows: Sequence[Row], loss: Objective) -> Section:
    groups = by_network(rows)
    colours, values = colors_of(groups), np.array([row.loss(loss) for row in rows])
    log = values.max() > 3 * values.min()
    ends = np.log(values) if log else values
    height = (np.ptp(ends) or 1.0) / ROWS
    traces = []
    for column, ((arch, _), trials) in enumerate(groups.items()):
        y = np.array([row.loss(loss) for row in trials])
        x = column + swarm_offsets(np.log(y) if log else y, height)
        marker = {"color": colours[arch], "size": 7, "symbol": ["x" if row.diverged else "circle" for row in trials]}
        traces.append(_points(x, y, marker, trials, loss))
        middle = float(np.median(y))
        ends_of_tick = {"x": [column - 0.3, column + 0.3], "y": [middle, middle]}
        traces.append({"type": "scatter", "mode": "lines", "line": {"color": "#888888", "width": 2}, **ends_of_tick})
        traces[-1]["hovertemplate"] = "median %{y:.4g}<extra></extra>"
    names = [plain(f"{arch} {depth}") for arch, depth in groups]
    layout = {
        "xaxis": {
            "tickvals": list(range(len(names))),
            "ticktext": names,
            "range": [-0.6, len(names) - 0.4],
            "tickangle": -45,
        },
        "yaxis": {"title": {"text": LOSSES[loss]}, "type": "log" if log else "linear"},
    }
    layout["shapes"], constant = [_across(BELOW, "dot")], f" Dotted: {BELOW:g}, below which a trial counts as trained."
    told = {row.constant_nll for row in rows}
    if loss == "train" and len(told) == 1 and (level := told.pop()) is not None:
        layout["shapes"].append(_across(level, "dash"))
        constant += f" Dashed: the best constant output, {level:.4g}."
    caption = f"A point a trial, a column a network and depth; a grey tick at the median, crosses for trials that diverged.{constant}"
    return Section(title="Swarm", charts=[Chart(caption=caption, traces=traces, layout=layout, tall=True)])


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


def _across(level: float, dash: str) -> dict:
    line = {"color": "ink", "width": 1, "dash": dash}
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": level,
        "y1": level,
        "line": line,
        "layer": "between",
    }


def _map(rows: Sequence[Row], loss: Objective) -> Section:
    values = np.array([row.loss(loss) for row in rows])
    least, most = float(values.min()), float(max(values.min() * 1.01, 1.05 * np.median(values)))
    charts = []
    for (arch, depth), trials in by_network(rows).items():
        marker = {
            "color": [row.loss(loss) for row in trials],
            "cmin": least,
            "cmax": most,
            "colorscale": "Viridis",
            "reversescale": True,
            "size": 9,
            "symbol": ["x" if row.diverged else "circle" for row in trials],
            "colorbar": {"thickness": 10, "title": {"text": "loss"}},
        }
        x, y = (np.array([getattr(row, name) for row in trials]) for name in ("learning_rate", "init_std"))
        layout = {
            "xaxis": {"title": {"text": "learning rate"}, "type": "log", "dtick": 1, "exponentformat": "power"},
            "yaxis": {
                "title": {"text": "initial standard deviation"},
                "type": "log",
                "dtick": 2,
                "exponentformat": "power",
            },
        }
        traces = [_points(x, y, marker, trials, loss)]
        charts.append(Chart(caption=f"{arch}, depth {depth}", traces=traces, layout=layout))
    words = f"Where in the space of settings a trial trains; colours end at {most:.4g}, a little above the median; crosses: diverged."
    return Section(title="Map", words=[words], charts=charts)


def _best(rows: Sequence[Row], loss: Objective) -> Section:
    table = []
    for (arch, depth), trials in by_network(rows).items():
        for row in sorted(trials, key=lambda row: (row.loss(loss), row.trial))[:BEST_TRIALS]:
            settings = [getattr(row, name) for name in SETTINGS]
            table.append(
                [
                    f"{arch}, depth {depth}",
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


def _points(x: np.ndarray, y: np.ndarray, marker: dict, trials: Sequence[Row], loss: Objective) -> dict:
    """Trials that say what they are when pointed at."""
    said = [
        plain(f"{r.arch}, depth {r.depth}, trial {r.trial}")
        + f"<br>loss {r.loss(loss):.4g}, {r.epochs} epochs{', diverged' if r.diverged else ''}"
        + f"<br>learning rate {r.learning_rate:.3g}, bias {r.transform_bias:g}<br>{plain(r.init_scheme)}, std {r.init_std:.3g}"
        for r in trials
    ]
    points = {"type": "scatter", "mode": "markers", "x": x.tolist(), "y": y.tolist(), "marker": marker}
    return points | {"text": said, "hovertemplate": "%{text}<extra></extra>"}
