"""Judge forecasts of trainings: recorded ones, with a task or an optimiser left out, and fresh ones.

    python -m benchmarks.calibration.trainings RECORDINGS --minutes 60
    python -m benchmarks.calibration.calls CALLS.csv --calls 60
    python -m benchmarks.calibration.forecasts --recordings RECORDINGS --calls CALLS.csv ... --out docs/results

Writes a table of all trainings, one of the measures of each group (-tables.csv), and the figure. "Left out": the exponents of the
optimisers, the only fitted constants, are fitted without that part. The baselines have a logistic regression each, fitted without the
part too: the loss after 20 or 100 steps relative to the best constant output's, and the learning rate relative to the largest of its
optimiser.
"""

import argparse
import csv
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.calibration.calls import OTHER_OPTIMIZERS, UNSEEN
from benchmarks.calibration.judge import area_under
from benchmarks.calibration.replay import Recording, forecast_recorded
from benchmarks.calibration.trainings import OPTIMIZERS, TASKS
from gersgorin.checking.forecast import EXPONENT
from gersgorin.checking.trials import WINDOW

NAME = "2026-11-21-forecast"
STEPS = 1000
LATE = 150  # steps of an escape that is forecast
BASELINES = ("loss_20", "loss_100", "rate")
NOT_KNOWN = 0.2, 0.8
DRAWS = 200


@dataclass(frozen=True)
class Row:
    """A training: what happened, what was forecast, and the two baselines."""

    source: str
    """recorded or fresh."""
    name: str
    task: str
    network: str
    optimizer: str
    learning_rate: float
    steps: int
    left: float
    diverged: float
    escape_steps: float
    low: float
    high: float
    probability: float
    cost: float
    """Steps of all trials, recorded, or processor time of the forecast relative to 1,000 steps, fresh."""
    loss_20: float
    loss_100: float
    rate: float
    """log10 of the learning rate, relative to the largest one of the optimiser."""
    cut: bool = False
    """The time limit ended the trials."""

    @property
    def kind(self) -> str:
        return "SGD" if self.optimizer in ("sgd", "momentum", "nesterov") else "adaptive"

    @property
    def leaves(self) -> bool:
        return self.left <= self.steps < self.diverged

    @property
    def seen(self) -> bool:
        """True if it left, also if it diverged later."""
        return self.left <= self.steps


def recorded(recording: Recording, laws=EXPONENT) -> Iterable[Row]:
    """Rows of one network at all its learning rates."""
    for k, rate in enumerate(recording.rates):
        found, used = forecast_recorded(recording, k, STEPS, laws)
        outcome = recording.outcomes[k]
        yield Row(
            source="recorded",
            name=recording.name,
            task=recording.task,
            network=recording.cell,
            optimizer=recording.optimizer,
            learning_rate=float(rate),
            steps=STEPS,
            left=outcome.left,
            diverged=outcome.diverged,
            escape_steps=found.escape_steps,
            low=found.interval[0],
            high=found.interval[1],
            probability=found.probability,
            cost=used,
            loss_20=recording.ratio(k, 20),
            loss_100=recording.ratio(k, 100),
            rate=_relative(recording.optimizer, float(rate)),
        )


def fresh(path: Path) -> Iterable[Row]:
    """Rows of a table of `calls.py`."""
    for row in csv.DictReader(path.open(newline="")):
        number = {
            k: float(v)
            for k, v in row.items()
            if k not in ("task", "network", "start", "optimizer", "halves_agree", "cut")
        }
        yield Row(
            source="fresh",
            name=row["seed"],
            task=row["task"],
            network=row["network"],
            optimizer=row["optimizer"],
            cost=number["forecast_seconds"] / number["training_seconds_1000"],
            rate=_relative(row["optimizer"], number["learning_rate"]),
            steps=int(number["steps"]),
            cut=bool(row["cut"]),
            **{f.name: number[f.name] for f in fields(Row) if f.name in number and f.name != "steps"},
        )


def _relative(optimizer: str, rate: float) -> float:
    return math.log10(rate / (OPTIMIZERS | OTHER_OPTIMIZERS)[optimizer][2])


def fitted_laws(recordings: Sequence[Recording]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of the exponent p over pairs of rates a factor of 10 apart, robustly."""
    found = {}
    for kind in EXPONENT:
        slopes = []
        for r in recordings:
            times = [o.left for o in r.outcomes]
            pairs = zip(times, times[2:], strict=False)
            slopes += [
                math.log10(b / a)
                for a, b in pairs
                if r.kind == kind and 1.25 * WINDOW < a < math.inf and 150 < b < math.inf
            ]
        low, middle, high = np.percentile(slopes, [16, 50, 84])
        found[kind] = float(middle), float(max((high - low) / 2, 0.05))
    return found


def left_out(recordings: Sequence[Recording], part: Callable[[Recording], str]) -> list[Row]:
    """Rows of all recordings, each part forecast with what was fitted to the others."""
    rows = []
    for name in sorted({part(r) for r in recordings}):
        laws = fitted_laws([r for r in recordings if part(r) != name])
        rows += [row for r in recordings if part(r) == name for row in recorded(r, laws)]
    return rows


class _Logistic:
    """Logistic regression of leaving on one number."""

    def __init__(self, rows: Sequence[Row], score: str):
        from sklearn.linear_model import LogisticRegression

        self.score = score
        self.model = LogisticRegression(C=100.0).fit(self._inputs(rows), [r.leaves for r in rows])

    def __call__(self, rows: Sequence[Row]) -> np.ndarray:
        return self.model.predict_proba(self._inputs(rows))[:, 1]

    def _inputs(self, rows: Sequence[Row]) -> np.ndarray:
        values = np.array([getattr(r, self.score) for r in rows])
        return np.nan_to_num(values, nan=10.0, posinf=10.0).clip(-10, 10)[:, None]


def scores(rows: Sequence[Row]) -> dict[str, str]:
    """All measures of some rows, as text."""
    y = np.array([r.leaves for r in rows])
    p = np.array([r.probability for r in rows])
    seen = [r for r in rows if r.seen]
    late = [r for r in seen if r.left > LATE]
    unknown = (p > NOT_KNOWN[0]) & (p < NOT_KNOWN[1])
    return {
        "trainings": str(len(rows)),
        "left": f"{y.mean():.2f}",
        "AUC": f"{area_under(p, y):.3f} ({_interval(rows)})",
        "accuracy": f"{np.mean((p > 0.5) == y):.3f}",
        "Brier": f"{np.mean((p - y) ** 2):.3f}",
        "within 2x": f"{_within(seen):.2f}",
        f"within 2x, after {LATE}": f"{_within(late):.2f} of {len(late)}",
        "not known": f"{unknown.mean():.2f}",
        "cost, median (mean)": _cost(rows),
    }


def _cost(rows: Sequence[Row]) -> str:
    cost = np.array([r.cost for r in rows]) / (STEPS if rows[0].source == "recorded" else 1)
    return f"{np.median(cost):.2f} ({cost.mean():.2f})"


def _within(rows: Sequence[Row]) -> float:
    return float(np.mean([0.5 <= r.escape_steps / r.left <= 2 for r in rows])) if rows else math.nan


def _interval(rows: Sequence[Row]) -> str:
    """95 % interval of the area, from a bootstrap over networks."""
    names = sorted({r.name for r in rows})
    groups = [[(r.probability, r.leaves) for r in rows if r.name == name] for name in names]
    rng, areas = np.random.default_rng(0), []
    for _ in range(DRAWS):
        drawn = [pair for k in rng.integers(0, len(groups), len(groups)) for pair in groups[k]]
        areas.append(area_under(*zip(*drawn, strict=True)))
    low, high = np.nanpercentile(areas, [2.5, 97.5])
    return f"{low:.3f} to {high:.3f}"


def baselines(rows: Sequence[Row], part: Callable[[Row], str]) -> dict[str, dict[str, str]]:
    """Area, accuracy and Brier score of the baselines, each part by a regression fitted to the others."""
    found = {}
    for score in BASELINES:
        p = np.full(len(rows), np.nan)
        for name in {part(r) for r in rows}:
            own = np.array([part(r) == name for r in rows])
            p[own] = _Logistic([r for r in rows if part(r) != name], score)([r for r in rows if part(r) == name])
        y = np.array([r.leaves for r in rows])
        found[score] = {
            "AUC": f"{area_under(p, y):.3f}",
            "accuracy": f"{np.mean((p > 0.5) == y):.3f}",
            "Brier": f"{np.mean((p - y) ** 2):.3f}",
        }
    return found


def tables(recordings: Sequence[Recording], rows: Sequence[Row], others: Sequence[Row]) -> list[dict]:
    """The rows of all tables: the table's name, the group, its measures."""
    found = _named("recorded", _by_kind(rows))
    for name in ("task", "optimizer"):
        out = left_out(recordings, lambda r, name=name: getattr(r, name))
        found += _named(f"recorded, {name} left out", _by_kind(out))
        groups = {v: [r for r in out if getattr(r, name) == v] for v in sorted({getattr(r, name) for r in out})}
        found += _named(f"by {name}, left out", {v: scores(group) for v, group in groups.items()})
    for kind in ("SGD", "adaptive"):
        found += _named(f"baselines, {kind}", baselines([r for r in rows if r.kind == kind], lambda r: r.task))
    found += _named("reliability, recorded", _reliability(rows))
    if others:
        new = [r for r in others if r.task not in {task.__name__ for task in TASKS} or r.network.startswith("nn.")]
        found += _named("fresh", _by_kind(others)) + _named("reliability, fresh", _reliability(others))
        found += _named("fresh, not cut by the time limit", _by_kind([r for r in others if not r.cut]))
        found += _named("fresh, other tasks or cells", _by_kind(new))
        unseen = [r for r in others if r.task in {task.__name__ for task in UNSEEN}]
        found += _named("fresh, unseen tasks and optimizers", _by_kind(unseen)) if unseen else []
        y = np.array([r.leaves for r in others])
        predictions = {score: _Logistic(rows, score)(others) for score in BASELINES}
        found += _named(
            "baselines, fresh",
            {
                k: {"AUC": f"{area_under(p, y):.3f}", "accuracy": f"{np.mean((p > 0.5) == y):.3f}"}
                for k, p in predictions.items()
            },
        )
    return found


def _named(table: str, groups: dict[str, dict]) -> list[dict]:
    return [{"table": table, "group": group, **measures} for group, measures in groups.items()]


def _by_kind(rows: Sequence[Row]) -> dict[str, dict]:
    groups = {
        "SGD": [r for r in rows if r.kind == "SGD"],
        "adaptive": [r for r in rows if r.kind != "SGD"],
        "all": rows,
    }
    return {name: scores(group) for name, group in groups.items() if group}


def _reliability(rows: Sequence[Row]) -> dict[str, dict]:
    found = {}
    for low, high in pairwise(EDGES):
        group = [r for r in rows if low <= r.probability < high]
        if group:
            mean, left = np.mean([r.probability for r in group]), np.mean([r.leaves for r in group])
            name = f"{low:g} to {min(high, 1):g}"
            found[name] = {"trainings": str(len(group)), "mean probability": f"{mean:.3f}", "left": f"{left:.3f}"}
    return found


EDGES = (0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.97, 1.01)


def draw(rows: Sequence[Row], others: Sequence[Row]):
    """Reliability, and predicted over observed escape; a Figure."""
    from matplotlib.figure import Figure

    from rhn.plotting.figures import BLUE, GREY, ORANGE, titled

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    titled(
        figure,
        "Forecasts of trainings from short trials",
        "error bars: one standard error; grey: observed as predicted; dotted: by a factor of 2",
    )
    kinds = (
        (rows, f"{len(rows):,} recorded trainings of 1,000 steps", {"color": BLUE, "marker": "o"}),
        (others, f"{len(others):,} new trainings", {"color": ORANGE, "marker": "s"}),
    )
    for group, label, style in kinds:
        points = [
            (np.mean([r.probability for r in some]), np.mean([r.leaves for r in some]), len(some))
            for low, high in pairwise(EDGES)
            if len(some := [r for r in group if low <= r.probability < high]) >= 3
        ]
        if points:
            p, q, n = map(np.array, zip(*points, strict=True))
            left.errorbar(
                p, q, np.sqrt(np.maximum(q * (1 - q), 0.25 / n) / n), capsize=2, linestyle="", label=label, **style
            )
        seen = [r for r in group if r.seen and math.isfinite(r.escape_steps)]
        observed, predicted = [r.left for r in seen], [r.escape_steps for r in seen]
        right.scatter(observed, predicted, s=10, linewidths=0.3, edgecolors="white", **style)
    left.plot([0, 1], [0, 1], color=GREY, lw=1)
    left.set(xlabel="probability of leaving", ylabel="share that left")
    right.plot([30, 3000], [30, 3000], color=GREY, lw=1)
    for factor in (0.5, 2):
        right.plot([30, 3000], [30 * factor, 3000 * factor], color=GREY, lw=0.6, ls=":")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    right.set(xscale="log", yscale="log", xlabel="observed escape (steps)", ylabel="predicted escape (steps)")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=Path, required=True, metavar="DIR")
    parser.add_argument("--calls", type=Path, nargs="*", default=[], metavar="CSV")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    asked = parser.parse_args()

    from rhn.plotting.figures import save_figure
    from rhn.utils.io import write_csv

    recordings = [Recording(path) for path in sorted(asked.recordings.glob("*.npz"))]
    rows = [row for r in recordings for row in recorded(r)]
    others = [row for path in asked.calls for row in fresh(path)]
    columns = [f.name for f in fields(Row)]
    write_csv(
        asked.out / f"{NAME}.csv",
        columns,
        ([f"{v:.5g}" if isinstance(v, float) else v for v in asdict(row).values()] for row in (*rows, *others)),
    )
    found = tables(recordings, rows, others)
    columns = list(dict.fromkeys(name for row in found for name in row))
    write_csv(asked.out / f"{NAME}-tables.csv", columns, ([row.get(c, "") for c in columns] for row in found))
    save_figure(asked.out / f"{NAME}.png", lambda: draw(rows, others))
    for row in found:
        print(*row.values(), sep="  ")


if __name__ == "__main__":
    main()
