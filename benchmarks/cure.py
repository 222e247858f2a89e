"""Cure networks that are stuck, leave healthy ones alone: share that trains after `gersgorin.cure`, beside other remedies.

    nice python -m benchmarks.cure CURVES OUT.jsonl --minutes 60     # goes on where it stopped; one line a network
    python -m benchmarks.cure CURVES OUT.jsonl --report OUT.csv      # the table, and a CSV

CURVES is the folder of `python -m benchmarks.calibration.trainings`, whose curves tell which network is stuck or healthy at which
learning rate. A training works if the mean loss of its last 50 of 1,000 steps is below 0.9 of that of the best constant output. All
results are those of plain loops written here, on other minibatches than the search saw.
"""

import argparse
import csv
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.calibration import trainings
from benchmarks.calibration.trainings import CELLS, OPTIMIZERS, STARTS, STEPS, TASKS, UNITS, Network
from gersgorin.checking.cure import cure
from gersgorin.checking.loop import LOSSES
from rhn.utils.binomial import exact_interval

WORKS, LAST, BATCH, SEED = 0.9, 50, 32, 1000
EACH = {"stuck": 18, "healthy": 11}  # networks of a task
SLOW = ("mgu",)  # cells that are left out: a step takes five times as long as an RNN's
TORCH = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
OWN = f"uniform:{UNITS**-0.5}"  # the start of torch.nn
KEYS = ("task", "cell", "start", "optimizer", "seed", "rate")
REMEDIES = ("cured", "own start", "orthogonal", "three times")


class Reader(nn.Module):
    """A module of torch.nn as torch starts it, with an output of every frame or of the last one."""

    def __init__(self, kind: str, inputs: int, outputs: int, last: bool, seed: int):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.rnn, self.out, self.last = TORCH[kind](inputs, UNITS), nn.Linear(UNITS, outputs), last

    def forward(self, x):
        states, _ = self.rnn(x)
        return self.out(states[-1] if self.last else states)


def cases(folder: Path) -> list[dict]:
    """Networks of all tasks in turn, from the recorded curves, and those of torch.nn at random learning rates."""
    found: dict[tuple[str, str], list[dict]] = {}
    for path in sorted(folder.glob("*.npz")):
        if any(f"-{cell}-" in path.name for cell in SLOW):
            continue
        task, rest = path.stem.split("-", 1)
        rest, optimizer, seed = rest.rsplit("-", 2)
        cell = next(c for c in sorted(CELLS, key=len, reverse=True) if rest.startswith(f"{c}-"))
        start = next(s for s in STARTS if s.replace(":", "") == rest.removeprefix(f"{cell}-"))
        with np.load(path) as curves:
            losses, constant, rates = curves["losses"], float(curves["constant"]), curves["rates"]
        ends = losses[-LAST:].mean(0) / constant
        works = np.isfinite(ends) & (ends < WORKS) & np.isfinite(losses).all(0) & (len(losses) == STEPS)
        draw = random.Random(path.stem)
        for kind, which in (("stuck", ~works), ("healthy", works)):
            if not which.any():
                continue
            k = draw.choice(list(np.flatnonzero(which)))
            case = {"task": task, "cell": cell, "start": start, "optimizer": optimizer, "seed": int(seed)}
            faster = None if k == 0 else bool(works[k - 1])
            case |= {
                "kind": kind,
                "rate": float(rates[k]),
                "recorded": float(ends[k]),
                "other rates work": bool(works.any()),
            }
            found.setdefault((kind, task), []).append(case | {"three times": faster})
    for task in TASKS:
        for number, (cell, optimizer) in enumerate((c, o) for c in TORCH for o in ("sgd", "adam", "rmsprop")):
            seed = 10_000 + number
            rate = OPTIMIZERS[optimizer][2] * 10 ** -random.Random(f"{task.__name__}{number}").uniform(0.5, 4)
            case = {
                "task": task.__name__,
                "cell": f"torch {cell}",
                "start": "torch",
                "optimizer": optimizer,
                "seed": seed,
            }
            found.setdefault(("torch", task.__name__), []).append(
                case | {"kind": "torch", "rate": rate, "three times": None}
            )
    chosen = []
    for (kind, _), some in sorted(found.items()):
        some.sort(key=lambda case: random.Random(json.dumps(case)).random())  # more curves change the order little
        chosen += [(n / EACH.get(kind, 4), case) for n, case in enumerate(some[: EACH.get(kind, 4)])]
    return [case for _, case in sorted(chosen, key=lambda pair: pair[0])]


def built(case: dict, start: str | None = None):
    """(Network, x, y, loss) of a case; start: another one."""
    task = getattr(trainings, case["task"])
    x, y, loss, last = task(torch.Generator().manual_seed(case["seed"]))
    outputs = int(y.max()) + 1 if loss == "cross-entropy" else y.shape[-1]
    if case["start"] == "torch":
        model = Reader(case["cell"].split()[1], x.shape[-1], outputs, last, case["seed"])
        if start == "orthogonal":
            g = torch.Generator().manual_seed(case["seed"])
            for block in model.rnn.weight_hh_l0.data.split(UNITS):
                nn.init.orthogonal_(block, generator=g)
        return model, x, y, loss
    return Network(case["cell"], start or case["start"], x.shape[-1], outputs, last, case["seed"]), x, y, loss


def optimizer_of(case: dict, model: nn.Module, factor: float = 1.0):
    kind, options, _ = OPTIMIZERS[case["optimizer"]]
    return kind(model.parameters(), lr=factor * case["rate"], **options)


def train(model, x, y, loss, optimizer, clip_norm=None) -> float:
    """Mean loss of the last steps of a plain loop; NaN if it diverged."""
    g, losses = torch.Generator().manual_seed(SEED), []
    while len(losses) < STEPS:
        for rows in torch.randperm(x.shape[1], generator=g).split(BATCH)[: x.shape[1] // BATCH]:
            target = y[rows] if y.shape[0] == x.shape[1] and y.shape[:2] != x.shape[:2] else y[:, rows]
            value = LOSSES[loss](model(x[:, rows]), target)
            optimizer.zero_grad()
            value.backward()
            if clip_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
            optimizer.step()
            losses.append(value.item())
            if not math.isfinite(losses[-1]):
                return math.nan
    return float(np.mean(losses[STEPS - LAST : STEPS]))


def measured(case: dict, seconds: float) -> dict:
    """Cure one network and train it with each remedy; losses relative to the best constant output."""
    model, x, y, loss = built(case)
    cpu = time.process_time()
    found = cure(model, x, y, loss, optimizer_of(case, model), steps=STEPS, seconds=seconds, batch_axis=1)
    cpu = time.process_time() - cpu
    constant = found.loop.constant_output(found.loop.data.minibatches(100))[1]
    row = case | {"outcome": found.outcome, "changes": found.changes, "cpu seconds": round(cpu, 1)}
    row |= {"trial steps": sum(a.steps for a in found.attempts), "confirmed": found.confirmed, "constant": constant}
    given = case.get("recorded")
    if case["kind"] == "torch" or (case["kind"] == "healthy" and found.changed):
        given = train(model, x, y, loss, optimizer_of(case, model)) / constant
    row |= {"given": given, "cured": given}
    if row["kind"] == "torch":
        row["kind"] = "healthy" if given < WORKS else "stuck"
    if found.changed:
        clip = found.clip_norm
        row["cured"] = train(found.model, x, y, loss, found.optimizer(found.model.parameters()), clip) / constant
    return row


def compared(row: dict) -> dict:
    """Train a stuck network from torch's own start, an orthogonal one, and at three times the learning rate."""
    _, x, y, loss = built(row)
    row, constant = dict(row), row["constant"]
    for name, start in (("own start", OWN), ("orthogonal", "orthogonal"), ("three times", None)):
        if name == "three times" and row[name] is not None:  # recorded
            continue
        if name == "own start" and row["start"] == "torch":
            row[name] = row["given"]
            continue
        model = built(row, start)[0]
        row[name] = train(model, x, y, loss, optimizer_of(row, model, 1 if start else 3)) / constant
    return row


def report(rows: list[dict]) -> str:
    """The table."""
    lines = []
    stuck, healthy = ([r for r in rows if r["kind"] == kind] for kind in ("stuck", "healthy"))
    groups = {"all": stuck, "no recorded rate works": [r for r in stuck if r.get("other rates work") is False]}
    groups |= {task.__name__: [r for r in stuck if r["task"] == task.__name__] for task in TASKS}
    groups |= {name: [r for r in stuck if r["optimizer"] == name] for name in OPTIMIZERS}
    lines.append(f"{'stuck':<24}{'networks':>9}" + "".join(f"{name:>22}" for name in REMEDIES))
    for name, some in groups.items():
        line = f"{name:<24}{len(some):>9}"
        for remedy in REMEDIES:
            ends = [r[remedy] for r in some if r.get(remedy) is not None]
            works = sum(e if isinstance(e, bool) else e < WORKS for e in ends)
            low, high = exact_interval(works, len(ends)) if ends else (0, 1)
            line += f"{f'{works} of {len(ends)} ({100 * low:.0f}-{100 * high:.0f} %)':>22}"
        lines.append(line)
    ratios = [r["cured"] / r["given"] for r in healthy]
    worse = sum(not ratio <= 1.05 for ratio in ratios)
    changed = sum(bool(r["changes"]) for r in healthy)
    lines.append(
        f"healthy: {len(healthy)} networks, {changed} changed, {worse} more than 5 % worse, worst ratio {max(ratios):.3f}"
    )
    claimed = [r for r in rows if r["outcome"] == "cured"]
    kept = sum(r["cured"] < WORKS for r in claimed)
    lines.append(f"claims of a cure: {len(claimed)}, {kept} of them train with other minibatches")
    spent = sorted(r["cpu seconds"] for r in stuck)
    lines.append(
        f"CPU seconds of a search of a stuck network: median {spent[len(spent) // 2]:.0f}, most {spent[-1]:.0f}"
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("curves", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seconds", type=float, default=240, help="of each search (the machine was shared)")
    parser.add_argument("--of", type=int, nargs=2, default=(0, 1), help="share K of N processes")
    parser.add_argument("--report", type=Path, help="write this CSV and print the table")
    asked = parser.parse_args()
    lines = asked.out.read_text().splitlines() if asked.out.exists() else []
    rows = {tuple(row[key] for key in KEYS): row for row in map(json.loads, lines)}
    if asked.report:
        print(report(list(rows.values())))
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        with asked.report.open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(row | {"changes": "; ".join(row["changes"])} for row in rows.values())
        return
    torch.set_num_threads(1)
    end = time.monotonic() + 60 * asked.minutes

    def keep(row: dict) -> None:
        rows[tuple(row[key] for key in KEYS)] = row
        with asked.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)

    for number, case in enumerate(cases(asked.curves)):
        new = tuple(case[key] for key in KEYS) not in rows
        if number % asked.of[1] == asked.of[0] and new and time.monotonic() < end:
            keep(measured(case, asked.seconds))
    for row in list(rows.values()):
        if row["kind"] == "stuck" and "own start" not in row and time.monotonic() < end:
            keep(compared(row))


if __name__ == "__main__":
    main()
