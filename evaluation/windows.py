"""Train on text with windows shorter and longer than the one that `gersgorin.truncation` prints.

    nice python -m evaluation.windows DATA_FOLDER docs/results/windows.csv

writes a row for each training run, those that the file lacks, prints the table, and draws it beside
the file. DATA_FOLDER has the Penn Treebank text.

The plan, written before the first run
- A GRU of 64 units reads characters; Adam at 0.003, clipping at 1. 32 rows of the training text
  are read at once; the state is carried on, and detached every K steps.
- W is the window for an error of 10 % at the initial weights, of 4 rows of 128 characters.
- K is a quarter of W, half of W, W, and twice W; five seeds of the initial weights.
- Measured: the loss of 32 rows of 2,500 characters of the validation text (nats per character),
  after 1,000 optimiser steps, and after 7 seconds of processor time in training; the windows for
  10 % and 1 % at the initial weights, and at those after 1,000 optimiser steps. Losses are compared
  with those of K = W of the same seed; intervals of 95 % are Student's over seeds.

Changed after a first run of all, whose losses after equal steps were the same: the training runs of
a seed take turns, so that a second of each has the same load of the machine. The stored rows are
those of the second run.

Predicted
- W is between 12 and 24 for each seed. In trials with one seed it was 16, and 24 after three
  optimiser steps.
- After training the window for 10 % is longer in every run.
- After equal optimiser steps, in which longer windows read more text, a quarter of W has a loss at
  least 0.02 higher than W, and twice W has a lower loss than W, by less than 0.02.
- After equal time all differences are below 0.02.

Legend: T time steps, B rows of text, K steps of a window.
"""

import argparse
import csv
import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from torch import Tensor, nn
from torch.nn import functional as F

from analysis import paired_interval
from gersgorin import truncation
from rhn.data.text import in_rows, read_text
from rhn.utils.composer import composed, pair
from rhn.utils.figures import BLUE, GREY
from rhn.utils.tables import aligned, formatted

SHARES = 0.25, 0.5, 1.0, 2.0  # of W
SEEDS = range(5)


@dataclass(frozen=True)
class Plan:
    """The sizes of all training runs."""

    units: int = 64
    rows: int = 32
    steps: int = 1000
    seconds: float = 7.0
    """Processor time of training."""
    measured_rows: int = 4
    measured_steps: int = 128
    valid_steps: int = 2500


@dataclass(frozen=True)
class Row:
    """One training run."""

    seed: int
    share: float
    """K / W."""
    window: int
    """K."""
    initial_window_10: float
    initial_window_1: float
    """NaN if there is none below T."""
    trained_window_10: float
    trained_window_1: float
    loss_after_steps: float
    """Of the validation text, in nats per character."""
    loss_after_seconds: float
    seconds_of_steps: float
    steps_in_seconds: int


class Text(NamedTuple):
    """Ids of characters, (T, B)."""

    train: Tensor
    valid: Tensor
    symbols: int


class Reader(nn.Module):
    """Predict the next character."""

    def __init__(self, symbols: int, units: int):
        super().__init__()
        self.embed = nn.Embedding(symbols, 32)
        self.layer, self.out = nn.GRU(32, units), nn.Linear(units, symbols)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Read ids (T, B). Returns logits (T, B, symbols), and the state."""
        outputs, state = self.layer(self.embed(x), state)
        return self.out(outputs), state


def text_of(folder: Path, plan: Plan) -> Text:
    """The characters of a text in rows."""
    corpus = read_text("text", folder, unit="characters")

    def ids(tokens: np.ndarray) -> Tensor:
        return torch.from_numpy(in_rows(tokens, plan.rows).T.copy()).long()

    valid = ids(corpus.valid)[: plan.valid_steps + 1]
    return Text(ids(corpus.train), valid, len(corpus.vocabulary))


def loss_of(logits: Tensor, ids: Tensor) -> Tensor:
    """The mean loss in nats per character."""
    return F.cross_entropy(logits.flatten(0, 1), ids.flatten())


def training(model: Reader, ids: Tensor, K: int) -> Iterator[float]:
    """Train on chunks of K characters. Yields the seconds so far after each optimiser step."""
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    seconds = 0.0
    while True:
        state = None
        for start in range(0, len(ids) - K, K):
            begin = time.process_time()
            logits, state = model(ids[start : start + K], state)
            state = state.detach()
            optimizer.zero_grad()
            loss_of(logits, ids[start + 1 : start + K + 1]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            seconds += time.process_time() - begin
            yield seconds


@torch.no_grad()
def loss_of_text(model: Reader, ids: Tensor, chunk: int = 500) -> float:
    """The mean loss of a text whose state is carried on."""
    state, total = None, 0.0
    for start in range(0, len(ids) - 1, chunk):
        targets = ids[start + 1 : start + chunk + 1]
        logits, state = model(ids[start : start + len(targets)], state)
        total += float(loss_of(logits, targets)) * len(targets)
    return total / (len(ids) - 1)


def windows_of(model: Reader, text: Text, plan: Plan) -> tuple[float, float]:
    """The windows for errors of 10 % and 1 %."""
    ids = text.train[: plan.measured_steps + 1, : plan.measured_rows]
    found = truncation(model, ids[:-1], ids[1:], "categorical", batch_first=False)
    return found.window_10, found.window_1


def initial_model(text: Text, plan: Plan, seed: int) -> Reader:
    """The model of a seed."""
    torch.manual_seed(seed)
    return Reader(text.symbols, plan.units)


class TrainingRun:
    """One training run, an optimiser step at a time."""

    def __init__(
        self, text: Text, plan: Plan, seed: int, share: float, initial: tuple[float, float]
    ):
        self.text, self.plan = text, plan
        self.seed, self.share, self.initial = seed, share, initial
        self.model, self.K = initial_model(text, plan, seed), max(1, round(share * initial[0]))
        self.seconds_of_each_step = training(self.model, text.train, self.K)
        self.step, self.seconds = 0, 0.0
        self.after_steps: dict[str, Any] = {}
        self.after_seconds: dict[str, Any] = {}

    @property
    def is_done(self) -> bool:
        """True after both ends."""
        return len(self.after_steps) > 0 and len(self.after_seconds) > 0

    def advance(self) -> None:
        """Take one optimiser step, and measure at both ends."""
        self.step, self.seconds = self.step + 1, next(self.seconds_of_each_step)
        if self.step == self.plan.steps:
            window_10, window_1 = windows_of(self.model, self.text, self.plan)
            self.after_steps = {
                "trained_window_10": window_10,
                "trained_window_1": window_1,
                "loss_after_steps": loss_of_text(self.model, self.text.valid),
                "seconds_of_steps": self.seconds,
            }
        if self.seconds >= self.plan.seconds and not self.after_seconds:
            self.after_seconds = {
                "loss_after_seconds": loss_of_text(self.model, self.text.valid),
                "steps_in_seconds": self.step,
            }

    def row(self) -> Row:
        """The row of a run that is done."""
        window_10, window_1 = self.initial
        return Row(
            seed=self.seed,
            share=self.share,
            window=self.K,
            initial_window_10=window_10,
            initial_window_1=window_1,
            **self.after_steps,
            **self.after_seconds,
        )


def read(path: Path) -> list[Row]:
    """The rows of a file; none if it is not there."""
    if not path.exists():
        return []
    kinds = {field.name: field.type for field in dataclasses.fields(Row)}
    return [
        Row(**{name: kinds[name](value) for name, value in row.items()})  # type: ignore[operator]
        for row in csv.DictReader(path.read_text().splitlines())
    ]


def append(path: Path, row: Row) -> None:
    """Add a row to a file."""
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, dataclasses.asdict(row), lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(dataclasses.asdict(row))


def run_all(text: Text, plan: Plan, path: Path) -> None:
    """Run what a file lacks, seed by seed."""
    known = {(row.seed, row.share) for row in read(path)}
    for seed in SEEDS:
        missing = [share for share in SHARES if (seed, share) not in known]
        if missing:
            initial = windows_of(initial_model(text, plan, seed), text, plan)
            take_turns([TrainingRun(text, plan, seed, share, initial) for share in missing], path)


def take_turns(runs: list[TrainingRun], path: Path) -> None:
    """Train all, always the one that had the least time, so that all have the same load of the
    machine.
    """
    while runs:
        run = min(runs, key=attrgetter("seconds"))
        run.advance()
        if run.is_done:
            append(path, run.row())
            print(run.row(), flush=True)
            runs.remove(run)


class Column(NamedTuple):
    """Numbers by share of W: means over seeds, and differences to W with intervals of 95 %."""

    mean: list[float]
    difference: list[float]
    low: list[float]
    high: list[float]


def column(rows: list[Row], name: str) -> Column:
    """Compare a number of all training runs."""
    found = {(row.seed, row.share): getattr(row, name) for row in rows}
    seeds = sorted({row.seed for row in rows})
    values = np.array([[found[seed, share] for seed in seeds] for share in SHARES])
    reference = values[SHARES.index(1.0)]
    low, high = paired_interval(values, reference, np.ones(len(seeds)))
    difference = (values - reference).mean(1)
    return Column(*(part.tolist() for part in (values.mean(1), difference, low, high)))


LOSSES = {
    "loss after equal optimiser steps": "loss_after_steps",
    "loss after equal time": "loss_after_seconds",
}
OF_EACH_SEED = {
    "K": "window",
    "10 %, initial": "initial_window_10",
    "10 %, trained": "trained_window_10",
    "1 %, initial": "initial_window_1",
    "1 %, trained": "trained_window_1",
}
MEANS = {
    "seconds of equal optimiser steps": "seconds_of_steps",
    "optimiser steps in equal time": "steps_in_seconds",
}
OF_W, INTERVAL = "K / W", ("mean", "minus W", "95 %")


def table(rows: list[Row]) -> str:
    """The windows of all seeds, losses with their differences to W, and times."""
    blocks = [_of_each_seed(rows), *(_compared(rows, label) for label in LOSSES), _means(rows)]
    return "\n\n".join("\n".join(aligned(block)) for block in blocks)


def _of_each_seed(rows: list[Row]) -> list[list[str]]:
    lines = [[OF_W, *OF_EACH_SEED]]
    for share in SHARES:
        own = sorted((row for row in rows if row.share == share), key=lambda row: row.seed)
        columns = [[getattr(row, name) for row in own] for name in OF_EACH_SEED.values()]
        lines.append([f"{share:g}", *(", ".join(map(formatted, values)) for values in columns)])
    return lines


def _compared(rows: list[Row], label: str) -> list[list[str]]:
    lines, of = [[label, *INTERVAL]], column(rows, LOSSES[label])
    for k, share in enumerate(SHARES):
        interval = f"{of.low[k]:.4f} to {of.high[k]:.4f}"
        lines.append([f"{share:g} W", f"{of.mean[k]:.4f}", f"{of.difference[k]:.4f}", interval])
    return lines


def _means(rows: list[Row]) -> list[list[str]]:
    columns = [column(rows, name).mean for name in MEANS.values()]
    lines = [[OF_W, *MEANS]]
    for k, share in enumerate(SHARES):
        lines.append([f"{share:g}", *(formatted(values[k]) for values in columns)])
    return lines


def draw(rows: list[Row], path: Path) -> None:
    """Draw the differences in loss to W: seeds as points, means with intervals."""

    def panels(part: SubFigure) -> float:
        *axes, height = pair(part)
        for ax, (label, name) in zip(axes, LOSSES.items(), strict=True):
            plot(rows, name, ax)
            ax.set_title(label)
        axes[0].set_ylabel("nats per character, minus W")
        return height

    composed(panels, "Windows of truncated backpropagation on text", "page").savefig(path)


def plot(rows: list[Row], name: str, ax: Axes) -> None:
    """Draw the differences in one loss."""
    of = column(rows, name)
    at_w = {row.seed: getattr(row, name) for row in rows if row.share == 1.0}
    differences = [getattr(row, name) - at_w[row.seed] for row in rows]
    ax.plot([row.share for row in rows], differences, ".", color=GREY)
    margins = np.abs(np.array([of.low, of.high]) - of.difference)
    ax.errorbar(SHARES, of.difference, margins, color=BLUE, marker="o", capsize=3)
    ax.axhline(0, color=GREY, linestyle=":", zorder=0)
    ax.set(xscale="log", xlabel=OF_W)
    ax.set_xticks(SHARES, [f"{share:g}" for share in SHARES])
    ax.minorticks_off()


def main(words: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        prog="python -m evaluation.windows",
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args(words)
    torch.set_num_threads(1)
    plan = Plan()
    run_all(text_of(asked.data, plan), plan, asked.out)
    rows = read(asked.out)
    print(table(rows))
    draw(rows, asked.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
