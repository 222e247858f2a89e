"""The table on the plateau: do recurrent networks of a well-known comparison fall
below the loss of a constant output, as they are and after `cure`?

    python -m evaluation.plateau_table run OUT.csv --hours 3
    python -m evaluation.plateau_table report OUT.csv [FIGURE.png]

`run` goes on where it stopped (`--only adding-200`: some rows; `--steps`, `--parameters`: smaller
trainings). `report` counts the trainings that train after the change and draws the rows but digits.

Bai, Kolter and Koltun (arXiv 1803.01271) compare a convolutional network with RNN, LSTM and GRU of
equal numbers of parameters. Tasks, parameters, clipping and kinds of optimiser are theirs as far as
they say them; learning rates are those of their code's defaults.

    adding-T      sum of two marked numbers of T, one in each half; 70,000 parameters, Adam 2e-3,
                  squared error
    copy-T        ten symbols of eight after T blanks; 16,000 parameters, RMSprop 5e-4,
                  cross-entropy of the last ten frames: of all T + 20, which they take, a network
                  without any memory learns the blanks
    recall-T      the first of T symbols, one of eight, after noise; 5,400 parameters (a plain RNN
                  of 64 units), Adam 1e-3, cross-entropy of the last frame
    digits        scikit-learn's 8 x 8 digits, pixel by pixel; 16,000 parameters, Adam 2e-3;
                  digits-permuted: in one random order

Written before the first run: 6,000 steps of 32 of 4,000 examples (digits: 1,797), gradients clipped
at norm 1, subnormal numbers set to zero, seeds 0, 1, 2. A training *does not learn* as it
is if the mean of its last 100 losses is at least 0.9 of the best constant output's. It *trains
after the change* if after `cure` it ends below 0.9 in two of three orders of minibatches that the
search did not see. `cure` gets the
seconds of ten trainings (`--trainings`). Times in the table are of the processor, on one thread.
Every row is printed.
"""

import argparse
import csv
import math
import statistics
import time
from functools import partial
from itertools import islice, product
from pathlib import Path

import torch
import torch.nn.functional as F

from evaluation import tasks
from evaluation.networks import Net, cross, minibatches, train
from evaluation.rows import fill
from rhn.plotting.figure import DASHED, Block, compose
from rhn.utils.figures import BLUE, ORANGE, save_figure
from trainability.cure import cure

STEPS, BATCH, EXAMPLES, CLIP, LAST, LEARNS = 6000, 32, 4000, 1.0, 100, 0.9
ORDERS = 1001, 1002, 1003
TASKS = ("adding-200", "adding-400", "copy-200", "digits", "digits-permuted")
COLUMNS = (
    "task",
    "network",
    "seed",
    "parameters",
    "constant",
    "given",
    "outcome",
    "changes",
    "cure_seconds",
    "cured",
    "training_seconds",
)
NONE = -100  # class of a frame without a target


def data_of(task: str, seed: int):
    """(x (N, T, m), y, loss, outputs of every frame?, number of outputs, parameters, optimiser)."""
    g = torch.Generator().manual_seed(seed)
    kind, _, length = task.partition("-")
    if kind == "adding":
        x, y = tasks.adding(g, EXAMPLES, int(length))
        return x, y, F.mse_loss, False, 1, 70_000, (torch.optim.Adam, 2e-3)
    if kind == "copy":
        T = int(length)
        symbols = torch.randint(1, 9, (EXAMPLES, 10), generator=g)
        ids = torch.zeros(EXAMPLES, T + 20, dtype=torch.long)
        ids[:, :10], ids[:, T + 9 :] = symbols, 9
        y = torch.full((EXAMPLES, T + 20), NONE)
        y[:, -10:] = symbols
        return (
            F.one_hot(ids, 10).float(),
            y,
            cross,
            True,
            10,
            16_000,
            (torch.optim.RMSprop, 5e-4),
        )
    if kind == "recall":
        x = torch.randn(EXAMPLES, int(length), 9, generator=g)
        y = torch.randint(8, (EXAMPLES,), generator=g)
        x[:, 0, :8], x[:, :, 8] = F.one_hot(y, 8).float(), 0
        x[:, 0, 8] = 1
        return x, y, F.cross_entropy, False, 8, 5_400, (torch.optim.Adam, 1e-3)
    x, y = tasks.digits()
    x = x[:, torch.randperm(64, generator=torch.Generator().manual_seed(0))] if length else x
    return x[..., None], y, F.cross_entropy, False, 10, 16_000, (torch.optim.Adam, 2e-3)


def network(kind: str, inputs: int, outputs: int, parameters: int, every_frame: bool) -> Net:
    """A layer of torch.nn with torch's initial weights, and with units for about these
    parameters.
    """
    blocks = {"RNN": 1, "GRU": 3, "LSTM": 4}[kind]
    units = min(
        range(4, 400),
        key=lambda n: abs(blocks * n * (n + inputs + 2) + outputs * (n + 1) - parameters),
    )
    return Net(kind, inputs, units, outputs, every=every_frame)


def trained(model, x, y, loss, optimizer, clip_norm, order: int, steps: int = STEPS) -> float:
    """Mean of the last losses of a plain loop; infinity if one is not finite."""
    epoch = partial(minibatches, x, y, BATCH, generator=torch.Generator().manual_seed(order))
    losses = [
        value
        for value, *_ in islice(train(model, epoch, loss, optimizer, clip_norm=clip_norm), steps)
    ]
    return statistics.fmean(losses[-LAST:]) if math.isfinite(losses[-1]) else math.inf


def constant_loss(x, y, loss, outputs: int) -> float:
    """Of the best constant output on all examples."""
    if loss is F.mse_loss:
        return float(y.var(correction=0))
    known = y[y != NONE]
    shares = known.bincount(minlength=outputs) / known.numel()
    return float(torch.distributions.Categorical(probs=shares).entropy())


def training_of(task: str, kind: str, seed: int, size: int | None = None):
    """(model, x, y, loss, a function of the parameters that makes the optimiser, loss of the best
    constant output). size: number of parameters; None: that of the task.
    """
    x, y, loss, every_frame, outputs, parameters, (optimizer, rate) = data_of(task, seed)
    torch.manual_seed(seed)
    model = network(kind, x.shape[-1], outputs, size or parameters, every_frame)
    return model, x, y, loss, partial(optimizer, lr=rate), constant_loss(x, y, loss, outputs)


def row_of(row: dict, most: float, steps: int = STEPS, size: int | None = None) -> dict:
    """The columns of the table for a task, a network and a seed. most: trainings whose time a
    search has.
    """
    model, x, y, loss, optimizer_of, constant = training_of(
        row["task"], row["network"], row["seed"], size
    )
    start = {name: value.clone() for name, value in model.state_dict().items()}
    began, at = time.process_time(), time.monotonic()
    optimizer = optimizer_of(model.parameters())
    given = trained(model, x, y, loss, optimizer, CLIP, ORDERS[0], steps) / constant
    whole, waited = time.process_time() - began, time.monotonic() - at
    model.load_state_dict(start)
    row = {"parameters": sum(p.numel() for p in model.parameters()), "constant": constant}
    row |= {"given": given, "training_seconds": whole}
    if given < LEARNS:
        return row
    began = time.process_time()
    training = (model, x, y, loss, optimizer_of(model.parameters()))
    options = {"steps": steps, "clip_norm": CLIP, "batch_axis": 0, "seconds": most * waited}
    found = cure(*training, **options)
    print(found, flush=True)
    row |= {
        "outcome": found.outcome,
        "changes": found.changes,
        "cure_seconds": time.process_time() - began,
    }
    if found.changed:
        again = []
        for order in ORDERS:
            model.load_state_dict(found.model.state_dict())
            how = found.optimizer(model.parameters()), found.clip_norm, order, steps
            again.append(trained(model, x, y, loss, *how) / constant)
        row["cured"] = " ".join(f"{value:.3g}" for value in again)
    return row


def report(rows: list[dict]) -> str:
    """Count the trainings that do not learn, and those of them that train after the change."""
    stuck = [r for r in rows if float(r["given"]) >= LEARNS]
    count = sum(sum(float(v) < LEARNS for v in r["cured"].split()) >= 2 for r in stuck)
    return f"{len(stuck)} of {len(rows)} do not learn as they are; {count} train after the change."


def picture(rows: list[dict], file: Path) -> None:
    """Losses as they are and after `cure` in three orders, relative to the best constant output's;
    a line a network, by task.
    """
    tasks, kinds = sorted({r["task"] for r in rows}), ("GRU", "LSTM", "RNN")

    def losses(task: str, ax) -> None:
        for k, kind in enumerate(kinds):
            own = [r for r in rows if (r["task"], r["network"]) == (task, kind)]
            for r in own:  # the seeds a little above each other
                y, cured = k + 0.22 * (int(r["seed"]) - 1), [float(v) for v in r["cured"].split()]
                every = [float(r["given"]), *cured]
                ax.plot(every, [y] * len(every), color="0.8", linewidth=1, zorder=0)
                ax.plot(float(r["given"]), y, "s", color=ORANGE, markersize=4.5)
                ax.plot(cured, [y] * len(cured), "o", color=BLUE, markersize=4)
        ax.plot([], [], "s", color=ORANGE, label="without cure")
        ax.plot([], [], "o", color=BLUE, label="after cure, in three orders of the minibatches")
        ax.axvline(1, **DASHED, linewidth=0.8, label="constant predictor")
        ax.set(
            xscale="log",
            xlim=(1e-4, 2),
            ylim=(len(kinds) - 0.5, -0.5),
            yticks=range(len(kinds)),
            yticklabels=kinds,
        )
        ax.set(
            title=f"{task.replace('-', ', ')} steps", xlabel="loss / that of the constant predictor"
        )

    title = "After cure every network learns"
    block = Block([partial(losses, task) for task in tasks], 1.5, 1, "x", legend=True)
    save_figure(
        file,
        lambda: compose(
            title,
            "three seeds, one above the other; a square without circles: learns as it is",
            block,
            width=7,
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("out", type=Path)
    parser.add_argument("figure", type=Path, nargs="?")
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument(
        "--trainings", type=float, default=10.0, help="whose time a search has, at most"
    )
    parser.add_argument("--steps", type=int, default=STEPS, help="of a training")
    parser.add_argument("--parameters", type=int, help="of a network, in place of the table's")
    parser.add_argument("--networks", nargs="*", default=("LSTM", "GRU", "RNN"))
    parser.add_argument("--seeds", type=int, nargs="*", default=(0, 1, 2))
    parser.add_argument("--only", nargs="*", default=TASKS, metavar="TASK")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if asked.what == "report":
        found = [*csv.DictReader(asked.out.open())]
        print(report(found))
        if asked.figure:
            picture([r for r in found if not r["task"].startswith("digits")], asked.figure)
        return
    every = product(asked.seeds, asked.only, asked.networks)
    rows = [{"task": task, "network": kind, "seed": seed} for seed, task, kind in every]
    fill(
        asked.out,
        COLUMNS[:3],
        rows,
        partial(row_of, most=asked.trainings, steps=asked.steps, size=asked.parameters),
        COLUMNS,
        minutes=60 * asked.hours,
    )


if __name__ == "__main__":
    main()
