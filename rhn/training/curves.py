"""Read the losses of training runs from their folders, and draw them over epochs, without torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import LogFormatter, MaxNLocator

from rhn.errors import DataError, InvalidInputError, first_line
from rhn.utils.composer import composed
from rhn.utils.figures import COLOURS, call_text, figure_width
from rhn.utils.io import check_file, read_config
from rhn.utils.named_curves import cut_above
from rhn.utils.seed_folders import home_of

TITLE = "Training (dashed) and validation losses"
CURVE_COLUMNS = ("run", "measure", "epoch", "train", "valid")
MEASURES = {
    "perplexity": "perplexity",
    "bits_per_character": "bits per character",
    "nll": "nats per frame",
}


@dataclass(frozen=True, eq=False)
class Curves:
    """The losses of one seed of a training run over its E epochs, arrays (E,)."""

    name: str
    measure: str
    epochs: np.ndarray
    train: np.ndarray
    valid: np.ndarray
    place: int
    """The row of the epoch of the checkpoint: the first with the lowest loss by the objective."""

    def rows(self) -> list[tuple]:
        """Return a row of `CURVE_COLUMNS` for each epoch."""
        losses = zip(self.epochs.tolist(), self.train.tolist(), self.valid.tolist(), strict=True)
        return [(self.name, self.measure, *row) for row in losses]


def read_curves(run: Path) -> list[Curves]:
    """Read the losses of every seed of a training run. Raises DataError or InvalidInputError."""
    config = read_config(home_of(run) / "config.json")
    files = sorted([*run.glob("metrics.jsonl"), *run.glob("seed-*/metrics.jsonl")])
    if not files:
        raise DataError(f"{run} has no metrics.jsonl: expected a run with an epoch that has ended")
    return [_read(file, run.resolve().name, config.get("objective")) for file in files]


def _read(file: Path, run: str, objective: str | None) -> Curves:
    check_file(file)
    try:
        whole, _, _ = file.read_text(encoding="utf-8").rpartition("\n")  # the last may be cut
        lines = [json.loads(line) for line in whole.splitlines()]
        (measure, *_) = (name for name in MEASURES if f"valid_{name}" in lines[0])
        names = ("epoch", f"train_{measure}", f"valid_{measure}")
        epochs, train, valid = np.array([[line[name] for name in names] for line in lines], float).T
        losses = train if objective == "train" else valid
        are_finite = np.isfinite(train) & np.isfinite(valid)
        place = int(np.nanargmin(np.where(are_finite, losses, np.nan)))
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(f"{file} has no epoch with finite losses: {first_line(error)}") from error
    name = run if file.parent.name == run else f"{run}, {file.parent.name}"
    return Curves(name, measure, epochs.astype(int), train, valid, place)


def _cut_first(ax: Axes, curves: Sequence[Curves]) -> None:
    """Show the range of all epochs but the first, whose losses may be far above."""
    later = np.concatenate([losses[1:] for c in curves for losses in (c.train, c.valid)])
    later = later[np.isfinite(later)]
    first = max(loss for c in curves for loss in (c.train[0], c.valid[0]))
    if len(later):
        cut_above(ax, min(c.epochs[0] for c in curves), first, later)


def draw_curves(curves: Sequence[Curves], size: str = "page") -> Figure:
    """Draw training (dashed) and validation losses over epochs, with the epoch of the checkpoint as
    a dot. Raises InvalidInputError unless all have the same measure.
    """
    if len(found := {MEASURES[c.measure] for c in curves}) > 1:
        raise InvalidInputError(f"runs are {', '.join(sorted(found))}: expected one measure")
    label = found.pop()

    def draw(part: SubFigure) -> float:
        ax = part.add_subplot()
        ax.set(xlabel="epoch", ylabel=label)
        for k, c in enumerate(curves):
            color = COLOURS[k % len(COLOURS)]
            ax.plot(c.epochs, c.train, "--", color=color, linewidth=1)
            ax.plot(c.epochs, c.valid, color=color, linewidth=1.3, label=c.name)
            ax.plot(c.epochs[c.place], c.valid[c.place], "o", color=color, markersize=5)
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        ax.set_yscale("log")
        _cut_first(ax, curves)
        ax.yaxis.set(major_formatter=LogFormatter(), minor_formatter=LogFormatter())
        for name in part.legend(loc="outside right upper").get_texts():
            name.set_parse_math(False)
        return 0.6 * figure_width(part)

    return composed(draw, TITLE, size, call=call_text(draw_curves.__name__, size=size))
