"""Sixty long trainings, written down before the first run, and what their clocks forecast after a
tenth and a third of their cost.

    python -m benchmarks.ahead run OUT.csv         # each to its end, by a plain loop
    python -m benchmarks.ahead forecast OUT.csv    # a third of each, by the trials of `check`
    python -m benchmarks.ahead report RUN.csv FORECAST.csv

The first two continue where they stopped. ahead.csv describes the trainings; `layers` is the depth
of rhn and dt-rnn, `clip` the largest norm of a gradient, or empty. `left` is the step at which a
training leaves, as in benchmarks/judge.py, or inf; `final` the mean of the last 100 losses over
that of the best constant output on the same minibatches, or inf; `seconds` are of the processor.
Forecasts are made after 0.09 and 0.3 of the steps: a tenth and a third of the cost, with the trial
at ten times the learning rate beside.

    recall       one of four symbols of the first frame, after `lag` blanks
    bits         three bits of the first frame, after `lag` blanks
    first        the number of the first frame, after `lag` frames of noise
    hold         whether the last pulse of eleven frames was positive, after `lag` blanks
    adding       the sum of two marked numbers, one in each half of `lag` frames
    product      the product of two marked numbers of the first half
    xor          whether two marked bits of the first two thirds differ
    order        two of two symbols of the first two thirds in order, among four other symbols
    copy         five of four symbols, repeated after `lag` blanks
    flip_flops   the last pulse of two channels, at each of 2 lag frames; one pulse a lag
    digits       handwritten digits, pixel by pixel; permuted_digits: in one random order
"""

import csv
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.judge import LOSSES, left, network_of, optimizer_of, trained
from benchmarks.rows import fill
from benchmarks.tasks import digits, of_last_frames
from gersgorin.checking.forecast import LIKELY, stays
from gersgorin.checking.forecast import forecast as forecast_of
from gersgorin.training.training import Training

TABLE, LAST, ASKED = Path(__file__).parent / "ahead.csv", 100, 5
PARTS = {"tenth": 0.09, "third": 0.3}  # of the steps
STARTS = {"rhn": "scaled", "dt-rnn": "orthogonal"}


def pulses(g, n: int, frames: int, channels: int, rate: float):
    """Pulses (n, frames, channels) of either sign, and the latest at each frame."""
    shape = n, frames, channels
    x = (torch.rand(shape, generator=g) < rate) * torch.randn(shape, generator=g).sign()
    return x, x.gather(1, (torch.arange(frames)[:, None] * (x != 0)).cummax(1).values)


def marked(task: str, g, n: int, lag: int):
    """Tasks of two things among others, as `data_of`."""
    end = {"adding": lag, "product": lag // 2}.get(task, 2 * lag // 3)
    at = [torch.randint(low, low + end // 2, (n,), generator=g) for low in (0, end // 2)]
    if task == "order":
        x = torch.randint(2, 6, (n, lag), generator=g)
        symbols = torch.randint(2, (2, n), generator=g)
        x[range(n), at[0]], x[range(n), at[1]] = symbols
        return x, 2 * symbols[0] + symbols[1], "cross-entropy", True
    values = (
        torch.rand(n, lag, generator=g)
        if task != "xor"
        else torch.randn(n, lag, generator=g).sign()
    )
    x = torch.stack([values, sum(F.one_hot(k, lag) for k in at)], -1)
    a, b = (values[range(n), k, None] for k in at)
    y = {"adding": a + b, "product": a * b, "xor": (a != b).float()}[task]
    return x, y, "bernoulli" if task == "xor" else "mse", True


def data_of(task: str, g: torch.Generator, n: int, lag: int):
    """Inputs (n, T, m) or symbols (n, T), targets, loss, and whether the last frame alone has an
    output.
    """
    x = torch.zeros(n, lag + 1, 5)
    x[:, lag, 4] = 1
    if task == "recall":
        y = torch.randint(4, (n,), generator=g)
        x[range(n), 0, y] = 1
        return x, y, "cross-entropy", True
    if task == "bits":
        y = torch.randint(2, (n, 3), generator=g).float()
        x[:, 0, :3] = 2 * y - 1
        return x, y, "bernoulli", True
    if task == "first":
        y = 2 * torch.rand(n, 1, generator=g) - 1
        return torch.cat([y[:, None], 0.1 * torch.randn(n, lag, 1, generator=g)], 1), y, "mse", True
    if task == "hold":
        x, y = pulses(g, n, 11, 1, 0.3)
        return F.pad(x, (0, 0, 0, lag)), (y[:, -1] > 0).float(), "bernoulli", True
    if task == "flip_flops":
        return *pulses(g, n, 2 * lag, 2, 1 / lag), "mse", False
    if task == "copy":
        x, y = torch.full((n, lag + 2 * ASKED), 4), torch.randint(4, (n, ASKED), generator=g)
        x[:, :ASKED], x[:, -ASKED:] = y, 5
        return x, y, of_last_frames, False
    if task in ("digits", "permuted_digits"):
        (x, y), pixels = digits(), torch.randperm(lag, generator=g)
        return (
            (x[:, pixels] if task == "permuted_digits" else x)[:, :lag, None],
            y,
            "cross-entropy",
            True,
        )
    return marked(task, g, n, lag)


def built(row: dict):
    """(Network, x, y, name of the loss or its function, optimiser, axis of the examples, clip norm
    or None) of a row.
    """
    g = torch.Generator().manual_seed(int(row["seed"]))
    x, y, loss, last = data_of(row["task"], g, int(row["examples"]), int(row["lag"]))
    model = network_of(row, x, y, last, 1, init=STARTS.get(row["network"]))
    return (
        model,
        x,
        y,
        loss,
        optimizer_of(row, model),
        0,
        float(row["clip"]) if row["clip"] else None,
    )


def whole(row: dict) -> dict:
    """Step of leaving, last losses and cost of a training, by a plain loop."""
    began = time.process_time()
    *training, clip_norm = built(row)
    losses, constants = trained(*training, int(row["steps"]), clip_norm, batch=int(row["batch"]))
    final = (
        losses[-LAST:].mean() / constants[-LAST:].mean() if math.isfinite(losses[-1]) else math.inf
    )
    return {"left": left(losses, constants), "final": final, "seconds": time.process_time() - began}


def ahead(row: dict) -> dict:
    """Forecasts after some parts of the steps."""
    model, x, y, name, optimizer, axis, clip_norm = built(row)
    loss, batch, steps, found = LOSSES.get(name, name), int(row["batch"]), int(row["steps"]), {}
    training = Training(
        model, x, y, loss, optimizer, batch_size=batch, batch_axis=axis, clip_norm=clip_norm
    )
    training.data.keep_out()
    for part, share in PARTS.items():
        said = forecast_of(training, steps, 1e9, most=int(share * steps))
        values = said.escape_steps, *said.interval, said.probability, said.trials[0].steps
        found |= dict(
            zip(
                (f"{part}_{v}" for v in ("escape", "low", "high", "p", "steps")),
                values,
                strict=True,
            )
        )
    return found


def report(runs: Path, forecasts: Path) -> str:
    """Numbers of forecasts that are decided, and of those that are right."""
    from sklearn.metrics import roc_auc_score

    truth = {
        r["number"]: float(r["left"]) <= float(r["steps"]) for r in csv.DictReader(runs.open())
    }
    rows = list(csv.DictReader(forecasts.open()))
    lines = [f"{sum(truth.values())} of {len(truth)} leave"]
    for part in PARTS:
        p = np.array([float(r[f"{part}_p"]) for r in rows])
        y = np.array([truth[r["number"]] for r in rows])
        leaves = p >= LIKELY
        still = np.array([stays(float(r[f"{part}_p"]), int(r["steps"])) for r in rows])
        open_ = ~leaves & ~still
        lines.append(
            f"a {part}: AUC {roc_auc_score(y, p):.3f}, on the right side of 0.5 "
            f"{np.mean((p > 0.5) == y):.2f}; "
            f"'leaves' {leaves.sum()}, true {y[leaves].sum()}; 'stays' {still.sum()}, true "
            f"{(~y[still]).sum()}; "
            f"open {open_.sum()}, of which leave {y[open_].sum()}"
        )
    return "\n".join(lines)


def main() -> None:
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    what, *paths = sys.argv[1], *map(Path, sys.argv[2:])
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if what == "report":
        print(report(*paths))
    else:
        fill(
            paths[0],
            ["number"],
            csv.DictReader(TABLE.open()),
            {"run": whole, "forecast": ahead}[what],
        )


if __name__ == "__main__":
    main()
