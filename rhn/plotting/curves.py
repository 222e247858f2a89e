"""Read and draw training runs from their folders, without torch: curves over epochs, and perplexity
by depth as in figure 5(a) of Zilly et al. (2017).

The file of a training run names its measure: perplexity, bits_per_character, or nll (chorales, in
nats per frame). Every `plot_*` draws into given axes and returns them; every `draw_*` returns a
whole figure.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from rhn.cells.registry import is_known, resolve_cell
from rhn.errors import DataError, InvalidInputError, first_line
from rhn.plotting.figure import Block, Shown, WholeTicks, compose
from rhn.plotting.provenance import read_facts, shared
from rhn.presets import PTB_BY_DEPTH, PTB_WORDS
from rhn.training.config import LanguageConfig
from rhn.training.state import Objective, best_epoch
from rhn.utils.figures import COLOURS, GREY
from rhn.utils.io import check_file, read_json
from rhn.utils.old import MARKERS, counted, drawable, real_path, run_folder

PAPER = ("rhn", "rhn, tied")  # the paper's series have the same colours in every figure
DASHED = {"linestyle": "--", "linewidth": 1}
CURVE_LABELS = {
    "perplexity": "perplexity",
    "bits_per_character": "bits per character",
    "nll": "nats per frame",
}
NETWORK = ["cell", "tied", "depth", "layers"]
SHAPE = (*NETWORK, "hidden_size", "vocabulary_size", "max_tokens")
DEPTH_COLUMNS = ("run", *SHAPE, "epochs", "valid_perplexity", "published_valid_perplexity")
WHOLE = {"vocabulary_size": "Int64", "max_tokens": "Int64"}  # whole numbers, or missing


@dataclass(frozen=True, eq=False)
class Curves:
    """The curves of one seed of a training run over its E epochs: arrays (E,), with NaN for a loss
    that was not finite.
    """

    name: str
    measure: str
    epochs: np.ndarray
    train: np.ndarray
    valid: np.ndarray
    learning_rate: np.ndarray | None
    """The learning rate of each epoch; None for a training run with a constant learning rate."""
    facts: tuple[str, ...] = ()
    """Descriptions of network, initialisation, learning rate, seed and data."""
    objective: Objective = "valid"
    """The loss that chose the weights of the checkpoint."""

    @property
    def place(self) -> int:
        """The row of the epoch of the checkpoint, which is the best epoch by the objective. If
        several epochs are equal, it is the first of them.
        """
        return best_epoch(np.stack((self.train, self.valid), 1), self.objective)

    @property
    def best(self) -> tuple[int, float]:
        """The epoch of the checkpoint, and its loss by the objective."""
        losses = self.train if self.objective == "train" else self.valid
        return int(self.epochs[self.place]), float(losses[self.place])

    def table(self) -> pd.DataFrame:
        """Return a table with one row for each epoch. The table has the column learning_rate only
        if the rate changes.
        """
        losses = {f"train_{self.measure}": self.train, f"valid_{self.measure}": self.valid}
        rates = {} if self.learning_rate is None else {"learning_rate": self.learning_rate}
        return pd.DataFrame({"run": self.name, "epoch": self.epochs} | losses | rates)


def read_curves(run: Path) -> list[Curves]:
    """Read the curves of every seed of a training run. Raises InvalidInputError if there is no such
    folder, and DataError for a folder without curves.
    """
    name, alone = real_path(run_folder(run)).name, run / "metrics.jsonl"
    if alone.is_file():
        return [_curves(alone, name, run, read_facts(run))]
    homes = sorted(path.parent for path in run.glob("seed-[0-9]*/metrics.jsonl"))
    if not homes:
        raise DataError(f"{run} holds no metrics.jsonl, so there are no losses yet: {_advice(run)}")
    seeds = {home: int(home.name.removeprefix("seed-")) for home in homes}
    return [
        _curves(home / alone.name, f"{name}, {home.name}", run, read_facts(run, seed))
        for home, seed in seeds.items()
    ]


def require_one_measure(curves: Sequence[Curves]) -> str:
    """Return the measure that all curves have. Raises InvalidInputError if the measures of curves
    differ.
    """
    found = sorted({c.measure for c in curves})
    if len(found) > 1:
        raise InvalidInputError(
            f"these training runs are measured in {' and '.join(found)}: report on them one by one"
        )
    return found[0]


def read_depth(runs: Iterable[Path]) -> pd.DataFrame:
    """Read the numbers of these training runs for figure 5(a): a table with one row for each seed,
    with its best validation perplexity and the paper's.

    The columns are `DEPTH_COLUMNS`; a missing vocabulary_size or max_tokens means the whole text.
    Networks may be smaller than the paper's, and their text may be shorter.

    runs: folders of training runs, or tables (.csv) that `rhn report --depth` wrote.

    Raises DataError for a training run that is not on Penn Treebank, and InvalidInputError if the
    texts of the training runs differ.
    """
    tables = [
        _read_table(run) if run.suffix == ".csv" and run.is_file() else _best(run) for run in runs
    ]
    table = pd.concat(tables, ignore_index=True).astype(WHOLE)
    others = table.run[table.text != table.text[0]]
    if len(others):
        names = f"{table.run[0]} and {others.iloc[0]}"
        raise InvalidInputError(
            f"{names} were trained on different texts or sizes of them: report on them one by one"
        )
    paper = published()[[*NETWORK, "valid_perplexity"]].rename(columns="published_{}".format)
    keys = {"left_on": NETWORK, "right_on": [f"published_{name}" for name in NETWORK]}
    table = table.assign(other=table.cell != "rhn").merge(paper, how="left", **keys)
    order = ["other", *NETWORK[:3]]
    return table.sort_values(order, kind="stable", ignore_index=True)[[*DEPTH_COLUMNS]]


def published() -> pd.DataFrame:
    """Return the paper's networks of figure 5(a), without and with tied weights, as a table with
    columns of `read_depth`.
    """
    untied = [(False, row, row.valid) for row in PTB_BY_DEPTH]
    tied = [(True, row, row.valid_tied) for row in PTB_BY_DEPTH]
    rows = [
        ("the paper's", "rhn", is_tied, row.depth, 1, row.units, PTB_WORDS, pd.NA, valid)
        for is_tied, row, valid in untied + tied
    ]
    return pd.DataFrame(rows, columns=["run", *SHAPE, "valid_perplexity"]).astype(WHOLE)


def sizes(table: pd.DataFrame) -> str:
    """Describe the sizes of the networks and of their text for a title: "200 to 255 units, 2,000
    words".
    """
    low, high = table.hidden_size.min(), table.hidden_size.max()
    words, tokens = table.vocabulary_size[0], table.max_tokens[0]
    parts = [f"{low:,} to {high:,} units" if high > low else f"{low:,} units"]
    parts.append("the whole vocabulary" if pd.isna(words) else f"{words:,} words")
    return ", ".join(parts if pd.isna(tokens) else [*parts, f"the first {tokens:,} tokens"])


def _objective(run: Path) -> Objective:
    """Return the objective of a training run, from its config.json; "valid" if that has none."""
    try:
        return "train" if read_json(run / "config.json")["objective"] == "train" else "valid"
    except (OSError, LookupError, TypeError, ValueError):
        return "valid"


def _curves(file: Path, name: str, run: Path, facts: tuple[str, ...]) -> Curves:
    check_file(file)
    try:
        # the last line may be half written
        whole, _, _ = file.read_text(encoding="utf-8").rpartition("\n")
        if not whole:
            raise DataError(f"{file} is empty, no epoch has ended: {_advice(file.parent)}")
        lines = pd.DataFrame([json.loads(line) for line in whole.splitlines()]).astype(float)
        measure = next(m for m in CURVE_LABELS if f"valid_{m}" in lines)
        train, valid = (lines[f"{split}_{measure}"].to_numpy() for split in ("train", "valid"))
        rates = lines["learning_rate"].to_numpy() if "learning_rate" in lines else None
        epochs = lines["epoch"].astype(int).to_numpy()
        curves = Curves(name, measure, epochs, train, valid, rates, facts, _objective(run))
    except (KeyError, RecursionError, StopIteration, TypeError, ValueError) as error:
        raise DataError(
            f"{file} is not of a training run: expected an epoch, a train_... and a valid_..., "
            f"numbers, in every line ({error})"
        ) from error
    if not np.isfinite(curves.best[1]):
        raise DataError(
            f"{file} has no epoch with finite losses: that run diverged in its first epoch"
        )
    return curves


def _advice(run: Path) -> str:
    """Return advice about a training run without losses. Its state is in its folder, or for several
    seeds in the parent folder.
    """
    if (run / "trials.csv").is_file():
        return f"it is a study: optim-study plot {run}"
    if any((folder / "state.safetensors").is_file() for folder in (run, run.parent)):
        return (
            "the first epoch of its training has not ended; if it was stopped, `rhn resume` "
            "continues it"
        )
    return (
        "it has no state to continue from; if no training runs there, train again in a new "
        "folder, `rhn train ... --out NEW`"
    )


def _best(run: Path) -> pd.DataFrame:
    """Read the best epoch of each seed of a training run on Penn Treebank, with the checksum of its
    text.
    """
    curves = read_curves(run)
    try:
        config = read_json(run / "config.json")
        shape, text = {name: config[name] for name in SHAPE}, str(config["text"])
        corpus = LanguageConfig(corpus=config["corpus"], **shape).corpus
    except (OSError, ValueError, KeyError, TypeError) as error:
        if (run.parent / "config.json").is_file():
            raise DataError(f"{run} is the folder of a seed: give that of the run") from error
        raise DataError(
            f"{run / 'config.json'} does not describe a training run on a text "
            f"({first_line(error)})"
        ) from error
    if corpus != "ptb":
        raise DataError(
            f"{run} was trained on {corpus!r}, expected training runs on 'ptb', as the paper's: "
            "leave out --depth"
        )
    epochs = max(int(c.epochs[-1]) for c in curves)
    about = {"run": real_path(run).name, "text": text, **shape, "epochs": epochs}
    return pd.DataFrame([about | {"valid_perplexity": c.best[1]} for c in curves])


def _read_table(path: Path) -> pd.DataFrame:
    """Read a table that `rhn report --depth` wrote. Its path replaces the checksum of the text."""
    exact = {"valid_perplexity": float}  # the reader of pandas may differ in the last digit
    types = {"run": str, "cell": str} | WHOLE
    try:
        table = pd.read_csv(path, dtype=types, converters=exact)[[*DEPTH_COLUMNS[:-1]]]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{path} is not a table of `rhn report --depth` ({first_line(error)})"
        ) from error
    return table.assign(text=str(path))


def plot_curves(curves: Sequence[Curves], ax: Axes) -> Axes:
    """Draw training losses (dashed) and validation losses (solid) over epochs on a logarithmic
    axis. Each training run has its own symbol, which is large at its best epoch.

    Losses before training (epoch 0) are drawn only if there are no other epochs, because they would
    take most of the axis.
    """
    for k, c in enumerate(curves):
        drawn, (epoch, best) = c.epochs >= min(1, c.epochs[-1]), c.best
        style = _style(k) | {"markersize": 3, "markevery": max(1, int(drawn.sum()) // 8)}
        dashed = style | DASHED | {"marker": ".", "alpha": 0.7}
        ax.plot(c.epochs[drawn], c.train[drawn], **dashed)
        ax.plot(c.epochs[drawn], c.valid[drawn], linewidth=1.4, **style)
        label = f"{drawable(c.name)}: {best:.4g} at epoch {epoch}"
        ax.plot(epoch, best, linewidth=1.4, markersize=7, label=label, **_style(k))
    # a training run on chorales has no dropout
    names = {
        "valid": "validation",
        "train": "training" if curves[0].measure == "nll" else "training, with its dropout",
    }
    chosen = {c.objective for c in curves}
    for split, line in (("valid", {"linewidth": 1.4}), ("train", DASHED)):
        marked = "; large symbol: the checkpoint" if split in chosen else ""
        ax.plot([], [], color=GREY, label=names[split] + marked, **line)
    label = "epoch"
    if any(0 in c.epochs[:-1] for c in curves):
        label += " (0, before the training, is not drawn)"
    ax.set(xlabel=label, ylabel=CURVE_LABELS[curves[0].measure])
    if min(np.nanmin(np.append(c.train, c.valid)) for c in curves) > 0:
        ax.set_yscale("log")
    ax.xaxis.set_major_locator(WholeTicks())
    return ax


def draw_curves(curves: Sequence[Curves]) -> Shown:
    """Draw a figure of the curves of training runs. Its footer has the facts that they share."""
    block = Block([partial(plot_curves, curves)], 3.4)
    return compose("Training curves", shared([c.facts for c in curves]), block)


def _style(k: int) -> dict:
    """Return the colour and symbol of the k-th series."""
    return {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)]}


def plot_depth(table: pd.DataFrame, ax: Axes, source: str = "trained here") -> Axes:
    """Draw the best validation perplexity by recurrence depth. Points are seeds, and lines are
    their means; a cell without recurrence depth is a horizontal line.

    table: from `read_depth` or `published`. source: where the training runs are from, for the
    title.
    """
    series = table.groupby(_series(table), sort=False)
    labels = list(dict.fromkeys([*PAPER, *series.groups]))
    for label, members in series:
        style, name = _style(labels.index(label)), drawable(label)
        means = members.groupby(["run", "depth"], sort=False).valid_perplexity.mean()
        cell = members.cell.iloc[0]
        if is_known(cell) and not getattr(resolve_cell(cell), "deep", True):
            line: dict = {"linestyle": ":", "linewidth": 1.2, "color": style["color"]}
            for mean in means:
                ax.axhline(mean, label=f"{name} ({mean:.1f})", **line)
            continue
        line = {"linestyle": "-" if len(means) > 1 else "none", "linewidth": 1.2, "markersize": 4}
        line |= style
        ax.plot(means.index.get_level_values("depth"), means, label=name, markevery=[], **line)
        ax.plot(members.depth, members.valid_perplexity, **line | {"linestyle": "none"})
    deepest = max(table.depth.max(), 2)
    ax.set(xlabel="recurrence depth", ylabel="best validation perplexity")
    ax.set(xlim=(0.5, deepest + 0.5), xticks=range(1, deepest + 1))
    ax.set_title(f"{source}: {sizes(table)}", loc="left")
    return ax


def draw_depth(table: pd.DataFrame) -> Shown:
    """Draw figure 5(a) for these training runs beside the paper's figure 5(a). Each panel has its
    own axis.
    """
    here = f"here, at most {counted(table.epochs.max(), 'epoch')}"
    tables = {here: table, "Zilly et al. (2017)": published()}
    draws = [
        lambda ax, source=source, found=found: plot_depth(found, ax, source)
        for source, found in tables.items()
    ]
    about = "Penn Treebank; trained here: symbols are seeds, lines their means"
    return compose(depth_title(table), about, Block(draws, 3.6, 2), width=8)


def depth_title(table: pd.DataFrame) -> str:
    """Return a title that names the depth up to which the perplexity of RHNs falls. The perplexity
    falls from one depth to the next if it is lower for every seed of the deeper network than for
    every seed of the shallower network.

    table: from `read_depth`; if it has several series, only the first is used.
    """
    rhn = table[table.cell == "rhn"]
    seeds = [
        (depth, each.valid_perplexity)
        for depth, each in rhn[_series(rhn) == np.array(_series(rhn))[:1]].groupby("depth")
    ]
    falls = [later.max() < before.min() for (_, before), (_, later) in pairwise(seeds)]
    if not falls:
        return "Best validation perplexity by recurrence depth"
    best = falls.index(False) if False in falls else len(falls)
    if not best:
        return f"Perplexity does not fall from depth {seeds[0][0]} to {seeds[1][0]}"
    return f"Perplexity falls with recurrence depth, here up to depth {seeds[best][0]}"


def _series(table: pd.DataFrame) -> list[str]:
    """Return the label of the series of each row."""

    def label(cell: str, tied: bool, layers: int) -> str:
        words = [cell, "tied" if tied else "", f"{layers} layers" if layers > 1 else ""]
        return ", ".join(filter(None, words))

    rows = table[["cell", "tied", "layers"]].itertuples(index=False)
    return [label(*row) for row in rows]
