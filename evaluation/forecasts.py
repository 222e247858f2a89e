"""Judge the forecasts of `trainability.check`, and `trainability.cure`, on random training runs.

    python -m evaluation.forecasts forecasts OUT.csv --minutes 60
    python -m evaluation.forecasts cures OUT.csv --minutes 60
    python -m evaluation.forecasts report OUT.csv ...

The first command compares the forecasts of check with 213 training runs. The second command counts
how many of 138 training runs work after cure. The third command prints the tables. If one of the
first two was stopped, the same command continues; `--of K N` takes share K (from 0) of N
shares of the rows. Times are processor times.

A training run *leaves* the plateau if the mean loss of 32 steps is below 0.98 times that of the
constant predictor on the same minibatches, and stays there for 32 steps, or falls below 0.93 times.
It *works* if the mean of the last 50 of 1,000 losses is below 0.9 times that of the constant
predictor.
"""

import argparse
import csv
import math
import statistics
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from evaluation.random_trainings import HERE, built, trained
from evaluation.rows import fill
from trainability.check import check
from trainability.cure import CHANGED, cure

WINDOW, LAST, WORKS = 32, 50, 0.9
SGD = ("sgd", "momentum", "nesterov")


def left(losses: np.ndarray, constants: np.ndarray) -> float:
    """Step at which a training leaves; inf: it does not."""
    sums = [np.convolve(v, np.ones(WINDOW), "valid") for v in (losses, constants)]
    ratios = sums[0] / sums[1]
    below = ratios < 0.98
    for k in np.flatnonzero(below & ~np.append(False, below[:-1])):
        stays = ratios[k : k + WINDOW + 1]
        end = np.flatnonzero(stays >= 0.98)
        stays = stays[: end[0]] if len(end) else stays
        if (stays < 0.93).any() or (not len(end) and len(stays) > WINDOW):
            return float(k + WINDOW)
    return math.inf


def forecast(row: dict, seconds: float) -> dict:
    """The outcome of `check` for a training, and its cost in trainings."""
    model, x, y, loss, optimizer, axis = built(row)
    began, steps = time.process_time(), int(row["steps"])
    found = check(model, x, y, loss, optimizer, steps=steps, seconds=seconds, batch_axis=axis)
    took = time.process_time() - began
    began = time.process_time()
    trained(model, x, y, loss, optimizer, axis, 50)
    step = (time.process_time() - began) / 50
    known = {"learns": 1.0, "learns little": 1.0, "does not learn": 0.0, "diverges": 0.0}
    undecided = 0.5 if found.forecast is None else steps / (steps + found.forecast)
    return {
        "outcome": found.outcome,
        "error": found.error,
        "part": found.part,
        "probability": known.get(found.outcome, undecided),
        "cost": took / step / steps,
    }


def cured(row: dict, seconds: float) -> dict:
    """Last loss of a training as it is and after `cure`, relative to the best constant output."""
    model, x, y, loss, optimizer, axis = built(row)
    began = time.process_time()
    found = cure(model, x, y, loss, optimizer, steps=1000, seconds=seconds, batch_axis=axis)
    cpu = time.process_time() - began
    said = {"outcome": found.outcome, "changes": found.changes, "cpu": cpu}
    said |= {"before": found.before, "error": found.error}
    if not found.changed:
        return said | {"cured": row["given"], "same": row["given"]}
    again = found.model, x, y, loss, found.optimizer(found.model.parameters()), axis
    # same: as it is, in the same order
    for name, training in (("cured", again), ("same", built(row))):
        losses, constants = trained(*training, 1000)
        said[name] = (
            losses[-LAST:].mean() / constants[-LAST:].mean() if len(losses) == 1000 else math.inf
        )
    return said


def report(rows: list[dict]) -> str:
    """The table of forecasts, or of cures."""
    if "cured" in rows[0]:
        return report_of_cures(rows)
    from sklearn.metrics import roc_auc_score

    lines = [f"{'':<10}{'trainings':>10}{'AUC':>8}{'accuracy':>10}{'open':>7}{'cost':>7}"]
    for name, chosen in (
        ("SGD", lambda r: r["optimizer"] in SGD),
        ("adaptive", lambda r: r["optimizer"] not in SGD),
        ("all", bool),
    ):
        some = [r for r in rows if chosen(r)]
        truth = np.array(
            [float(r["left"]) <= float(r["steps"]) < float(r["diverged"]) for r in some]
        )
        p = np.array([float(r["probability"]) for r in some])
        cost = statistics.median(float(r["cost"]) for r in some)
        lines.append(
            f"{name:<10}{len(some):>10}{roc_auc_score(truth, p):>8.3f}"
            f"{np.mean((p > 0.5) == truth):>10.3f}"
            f"{np.mean((p > 0.2) & (p < 0.8)):>7.2f}{cost:>7.2f}"
        )
    return "\n".join(lines)


def report_of_cures(rows: list[dict]) -> str:
    """Count networks that train after the change, that became worse, and claims that hold."""
    given, after, same = (
        np.array([float(r[name] or "inf") for r in rows]) for name in ("given", "cured", "same")
    )
    stuck, claims = given >= WORKS, np.array([r["outcome"] == CHANGED for r in rows])
    changed = np.array([bool(r["changes"]) for r in rows])
    cpu = np.array([float(r["cpu"]) for r in rows])
    return "\n".join(
        [
            f"do not learn: {stuck.sum()}, {(after[stuck] < WORKS).sum()} train after the change",
            f"without a fault: {(~stuck).sum()}, {changed[~stuck].sum()} changed, "
            f"{(after > 1.05 * given)[~stuck].sum()} more than 5 % worse, "
            f"{(after > 1.05 * same)[~stuck].sum()} than as they were in the same order of "
            "minibatches",
            f"claims of a change that helps: {claims.sum()}, "
            f"{(after[claims] < WORKS).sum()} train with other minibatches",
            "processor seconds of a search for a network that does not learn, median: "
            f"{np.median(cpu[stuck]):.0f}",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("forecasts", "cures", "report"))
    parser.add_argument("out", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument(
        "--seconds", type=float, default=120, help="of a check, or twice of a search"
    )
    parser.add_argument("--of", type=int, nargs=2, default=(0, 1), metavar=("K", "N"))
    asked = parser.parse_args()
    if asked.what == "report":
        rows = [row for path in asked.out for row in csv.DictReader(path.open())]
        kinds = [[row for row in rows if ("cured" in row) == cures] for cures in (False, True)]
        print("\n\n".join(map(report, filter(None, kinds))))
        return
    torch.set_num_threads(1)
    number, count = asked.of
    with (HERE / f"{asked.what}.csv").open() as cases:
        rows = [row for row in csv.DictReader(cases) if int(row["number"]) % count == number]
    run, seconds = (
        (cured, 2 * asked.seconds) if asked.what == "cures" else (forecast, asked.seconds)
    )
    fill(asked.out[0], ["number"], rows, partial(run, seconds=seconds), minutes=asked.minutes)


if __name__ == "__main__":
    main()
