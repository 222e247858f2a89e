"""Read the results of trainings from their folders: curves over epochs, and a table of best epochs by depth.

The measure of a training is in its file: perplexity, bits_per_character, or nll (chorales, nats a frame).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from rhn.errors import DataError, InvalidInputError
from rhn.plotting.provenance import read_title
from rhn.presets import PTB_BY_DEPTH, PTB_WORDS
from rhn.training.config import LanguageConfig
from rhn.utils.io import read_json
from rhn.utils.wording import first_line

NO_EPOCH = "has not ended its first epoch, so there are no losses yet: if it was stopped, `rhn resume` continues it"
MEASURES = ("perplexity", "bits_per_character", "nll")
SHAPE = ("cell", "tied", "depth", "layers", "hidden_size", "vocabulary_size", "max_tokens")
DEPTH_COLUMNS = ("run", *SHAPE, "epochs", "valid_perplexity", "published_valid_perplexity")


@dataclass(frozen=True, eq=False)
class Curves:
    """One seed of a training over its E epochs; arrays (E,), NaN for a loss that was not finite."""

    name: str
    measure: str
    epochs: np.ndarray
    train: np.ndarray
    valid: np.ndarray
    learning_rate: np.ndarray | None
    """None for trainings with a constant learning rate."""
    network: str = ""
    """ "rhn, depth 5, 200 units"."""
    facts: tuple[str, ...] = ()
    """Initialisation, learning rate, seed, data."""

    @property
    def place(self) -> int:
        """The row of the best epoch, the first one of equals."""
        return int(np.nanargmin(self.valid))

    @property
    def best(self) -> tuple[int, float]:
        """(epoch, validation measure) of the best epoch."""
        return int(self.epochs[self.place]), float(self.valid[self.place])

    def table(self) -> pd.DataFrame:
        """One row for each epoch."""
        losses = {f"train_{self.measure}": self.train, f"valid_{self.measure}": self.valid}
        return pd.DataFrame({"run": self.name, "epoch": self.epochs} | losses | {"learning_rate": self.learning_rate})


def read_curves(run: Path) -> list[Curves]:
    """The curves of every seed of a training; raises DataError for a folder without any."""
    alone, name = run / "metrics.jsonl", run.resolve().name
    if alone.is_file():
        return [_curves(alone, name, *read_title(run))]
    files = sorted(run.glob("seed-[0-9]*/metrics.jsonl"))
    if not files:
        raise DataError(f"{run} holds no metrics.jsonl: there is no training, or it {NO_EPOCH}")
    homes = {file: file.parent.name for file in files}
    return [
        _curves(file, f"{name}, {home}", *read_title(run, int(home.removeprefix("seed-"))))
        for file, home in homes.items()
    ]


def require_one_measure(curves: Sequence[Curves]) -> str:
    """The measure of all curves; raises InvalidInputError if they differ."""
    found = sorted({c.measure for c in curves})
    if len(found) > 1:
        raise InvalidInputError(f"these trainings are measured in {' and '.join(found)}: report on them one by one")
    return found[0]


def read_depth(runs: Iterable[Path]) -> pd.DataFrame:
    """Figure 5(a) of these trainings: one row for each seed with the best validation perplexity, beside the paper's.

    Columns: `DEPTH_COLUMNS`, where a missing vocabulary_size or max_tokens means the whole text. Networks may be smaller than the
    paper's, and their text shorter.

    runs: folders of trainings, or tables (.csv) of `rhn report --depth --csv`.

    Raises DataError for a training that is not on Penn Treebank, InvalidInputError if the trainings' texts differ.
    """
    tables = [_read_table(run) if run.suffix == ".csv" and run.is_file() else _best(run) for run in runs]
    table = pd.concat(tables, ignore_index=True).astype({"vocabulary_size": "Int64", "max_tokens": "Int64"})
    table["published_valid_perplexity"] = [_published(row) for row in table.itertuples()]
    table = table.sort_values(["cell", "tied", "depth"], kind="stable", ignore_index=True)
    table = pd.concat([table[table.cell == "rhn"], table[table.cell != "rhn"]], ignore_index=True)
    others = table[table.text != table.text[0]]
    if len(others):
        cuts = [
            f"{row.run}: vocabulary_size {row.vocabulary_size}, max_tokens {row.max_tokens}"
            for row in (table.iloc[0], others.iloc[0])
        ]
        raise InvalidInputError(
            f"trainings on different texts cannot be compared ({'; '.join(cuts)}): report on them one by one"
        )
    return table[[*DEPTH_COLUMNS]]


def sizes(table: pd.DataFrame) -> str:
    """The sizes of the networks and the text, for a title: "200 to 255 units, 2,000 words", or "the paper's sizes"."""
    ours = table[table.cell == "rhn"]
    if len(ours) and all(_has_published_size(row) for row in ours.itertuples()):
        return "the paper's sizes"
    low, high = table.hidden_size.min(), table.hidden_size.max()
    words, tokens = table.vocabulary_size[0], table.max_tokens[0]
    parts = [f"{low:,} to {high:,} units" if high > low else f"{low:,} units"]
    parts.append("the whole vocabulary" if pd.isna(words) else f"{words:,} words")
    return ", ".join(parts if pd.isna(tokens) else [*parts, f"the first {tokens:,} tokens"])


def _curves(file: Path, name: str, *title) -> Curves:
    try:
        whole, _, _ = file.read_text(encoding="utf-8").rpartition(
            "\n"
        )  # a running training may be writing the last line
        if not whole:
            raise DataError(f"{file} is empty: the training {NO_EPOCH}")
        lines = pd.DataFrame([json.loads(line) for line in whole.splitlines()]).astype(float)
        measure = next(m for m in MEASURES if f"valid_{m}" in lines)
        train, valid = (lines[f"{split}_{measure}"].to_numpy() for split in ("train", "valid"))
        rates = lines["learning_rate"].to_numpy() if "learning_rate" in lines else None
        curves = Curves(name, measure, lines["epoch"].astype(int).to_numpy(), train, valid, rates, *title)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    except (KeyError, RecursionError, StopIteration, TypeError, ValueError) as error:
        raise DataError(
            f"{file} is not a training's: expected an epoch, a train_... and a valid_..., numbers, in every line ({error})"
        ) from error
    if not np.isfinite(valid).any():
        raise DataError(f"{file} has no finite validation loss: that training diverged in its first epoch")
    return curves


def _best(run: Path) -> pd.DataFrame:
    """The best epoch of each seed of a training on Penn Treebank, with the checksum of its text."""
    curves = read_curves(run)
    if (measure := require_one_measure(curves)) != "perplexity":
        raise DataError(f"{run} is measured in {measure}, expected a training on words, in perplexity")
    try:
        config = read_json(run / "config.json")
        shape = {name: config[name] for name in SHAPE}
        LanguageConfig(corpus=config["corpus"], **shape)
        about = {"run": run.resolve().name, "text": str(config["text"])} | shape
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{run / 'config.json'} does not describe a training ({first_line(error)})") from error
    if config["corpus"] != "ptb":
        raise DataError(
            f"{run} was trained on {config['corpus']!r}, and the paper's perplexities by depth are Penn Treebank's: "
            "expected trainings on 'ptb'; leave out --depth for curves"
        )
    epochs = max(int(c.epochs[-1]) for c in curves)
    return pd.DataFrame([about | {"epochs": epochs, "valid_perplexity": c.best[1]} for c in curves])


def _read_table(path: Path) -> pd.DataFrame:
    """A table of `rhn report --depth --csv`; its path stands for the checksum of the text."""
    kinds = {"run": str, "cell": str, "vocabulary_size": "Int64", "max_tokens": "Int64"}
    try:
        exact = {"valid_perplexity": float}  # the reader of pandas may differ in the last digit
        table = pd.read_csv(path, dtype=kinds, converters=exact)[[*DEPTH_COLUMNS]]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} is no table of `rhn report --depth --csv` ({first_line(error)})") from error
    return table.assign(text=str(path))


def _published(row) -> float | None:
    """The paper's validation perplexity of this depth, for an RHN of one layer."""
    found = {p.depth: p.valid_tied if row.tied else p.valid for p in PTB_BY_DEPTH}
    return found.get(row.depth) if row.cell == "rhn" and row.layers == 1 else None


def _has_published_size(row) -> bool:
    """True for a network of the paper, trained on the whole text."""
    whole = pd.isna(row.max_tokens) and (pd.isna(row.vocabulary_size) or row.vocabulary_size == PTB_WORDS)
    return whole and row.layers == 1 and (row.depth, row.hidden_size) in {(p.depth, p.units) for p in PTB_BY_DEPTH}
