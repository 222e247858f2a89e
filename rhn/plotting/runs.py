"""The numbers of finished and of running trainings, read from their folders: curves over epochs, and the best by depth.

What a training is measured in is in its file: perplexity, bits_per_character, or nll (chorales, nats a frame).
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rhn.errors import DataError, InvalidInputError
from rhn.plotting.run_titles import UNTOLD, Told, told_of
from rhn.published import PTB_BY_DEPTH, PTB_WORDS
from rhn.training.config import LanguageConfig
from rhn.utils.io import MOST_TEXT, json_value, read_json, read_text_file, require_file
from rhn.utils.validation import fits
from rhn.utils.wording import first_line

NO_EPOCH = "has not ended its first epoch, so there are no losses yet: if it was stopped, `rhn resume` goes on with it"
MEASURES = ("perplexity", "bits_per_character", "nll")


@dataclass(frozen=True, eq=False)
class Curves:
    """One seed of a training over its E epochs; arrays (E,), NaN where a loss was not finite."""

    name: str
    measure: str
    epochs: np.ndarray
    train: np.ndarray
    valid: np.ndarray
    learning_rate: np.ndarray | None
    """None for trainings whose learning rate does not change."""
    told: Told = UNTOLD
    """What its folder says of it."""

    @property
    def best(self) -> tuple[int, float]:
        """(epoch, validation measure) of the best epoch, the first one of equals."""
        place = int(np.nanargmin(self.valid))
        return int(self.epochs[place]), float(self.valid[place])

    def rows(self) -> list[dict]:
        """A row an epoch, for a table."""
        rates = [None] * len(self.epochs) if self.learning_rate is None else self.learning_rate
        names = ("run", "epoch", f"train_{self.measure}", f"valid_{self.measure}", "learning_rate")
        columns = zip(self.epochs.tolist(), self.train.tolist(), self.valid.tolist(), rates, strict=True)
        return [dict(zip(names, (self.name, *values), strict=True)) for values in columns]


@dataclass(frozen=True)
class DepthPoint:
    """One training of figure 5(a), on Penn Treebank: best validation perplexity of each seed."""

    run: str
    cell: str
    tied: bool
    depth: int
    layers: int
    hidden_size: int
    vocabulary_size: int | None
    """Words kept; None: all, as in the paper."""
    max_tokens: int | None
    """Tokens kept of each split; None: all, as in the paper."""
    text: str
    """Checksum of what was read: files, vocabulary and length."""
    epochs: int
    valid: tuple[float, ...]

    @property
    def published(self) -> float | None:
        """The paper's validation perplexity of this depth, for an RHN of one layer."""
        if self.cell != "rhn" or self.layers != 1:
            return None
        row = next((row for row in PTB_BY_DEPTH if row.depth == self.depth), None)
        return row and (row.valid_tied if self.tied else row.valid)

    @property
    def has_published_size(self) -> bool:
        """Whether this is a network of the paper, on the whole text."""
        whole = self.max_tokens is None and self.vocabulary_size in (None, PTB_WORDS)
        return whole and self.published is not None and (self.depth, self.hidden_size) in _PUBLISHED_UNITS


def read_curves(run: Path) -> list[Curves]:
    """The curves of every seed of a training; raises DataError where its folder holds none."""
    files = [run / "metrics.jsonl"] if (run / "metrics.jsonl").is_file() else sorted(run.glob("seed-*/metrics.jsonl"))
    if not files:
        if (run / "config.json").is_file():
            raise DataError(f"the training in {run} {NO_EPOCH}")
        raise DataError(f"{run} holds no training: there is no metrics.jsonl in it; `rhn train` writes one")
    name = run.resolve().name
    if files[0].parent == run:
        return [_curves(files[0], name, told_of(run))]
    return [_curves(file, f"{name}, {file.parent.name}", told_of(run, _seed(file.parent))) for file in files]


def read_depth(runs: Iterable[Path]) -> list[DepthPoint]:
    """Figure 5(a)'s point of each training, by depth; networks may be smaller than the paper's, and their text shorter.

    runs: folders of trainings, or tables (.csv) that `depth_rows` filled, so that a figure can be drawn again without its trainings.

    Raises DataError for a training that is not on Penn Treebank, InvalidInputError where the trainings' texts differ.
    """
    found = (p for run in runs for p in (_table(run) if run.suffix == ".csv" and run.is_file() else [_point(run)]))
    points = sorted(found, key=lambda p: (p.cell != "rhn", p.cell, p.tied, p.depth))
    if other := next((p for p in points if p.text != points[0].text), None):
        cuts = (f"{p.run}: vocabulary_size {p.vocabulary_size}, max_tokens {p.max_tokens}" for p in (points[0], other))
        raise InvalidInputError(
            f"trainings on different texts cannot be compared ({'; '.join(cuts)}): report on them one by one"
        )
    return points


def sizes(points: Sequence[DepthPoint]) -> str:
    """What was trained, for a title: "200 to 255 units, 2,000 words"; or that it is the paper's."""
    if all(p.has_published_size for p in points if p.cell == "rhn") and any(p.cell == "rhn" for p in points):
        return "the paper's sizes"
    units = sorted({p.hidden_size for p in points})
    parts = [f"{units[0]:,} to {units[-1]:,} units" if len(units) > 1 else f"{units[0]:,} units"]
    words = points[0].vocabulary_size
    parts.append("the whole vocabulary" if words is None else f"{words:,} words")
    if points[0].max_tokens is not None:
        parts.append(f"the first {points[0].max_tokens:,} tokens")
    return ", ".join(parts)


def require_one_measure(curves: Sequence[Curves]) -> str:
    """What all curves are measured in; raises InvalidInputError where they differ."""
    found = sorted({c.measure for c in curves})
    if len(found) > 1:
        raise InvalidInputError(f"these trainings are measured in {' and '.join(found)}: report on them one by one")
    return found[0]


def depth_rows(points: Iterable[DepthPoint]) -> list[dict]:
    """A row a seed, for a table."""
    names = ("run", *_SHAPE, "epochs")
    return [
        {name: getattr(p, name) for name in names}
        | {"valid_perplexity": valid, "published_valid_perplexity": p.published}
        for p in points
        for valid in p.valid
    ]


def _curves(file: Path, name: str, told: Told) -> Curves:
    lines = _lines(file)
    measure = next((m for m in MEASURES if all(f"{split}_{m}" in line for line in lines for split in _SPLITS)), None)
    if measure is None or not all("epoch" in line for line in lines):
        raise DataError(f"{file} is not a training's: expected an epoch, a train_... and a valid_... in every line")
    names = ["epoch", *(f"{split}_{measure}" for split in _SPLITS)] + ["learning_rate"] * ("learning_rate" in lines[0])
    epochs, train, valid, *rates = (_column(lines, name, file) for name in names)
    if not np.isfinite(valid).any():
        raise DataError(f"{file} has no finite validation loss: that training diverged in its first epoch")
    return Curves(name, measure, epochs.astype(int), train, valid, *(rates or [None]), told)


def _column(lines: list[dict], name: str, file: Path) -> np.ndarray:
    """What the lines say under a name, NaN for null; raises DataError for what is no number, or no number of an epoch."""
    for k, line in enumerate(lines, 1):
        value = line.get(name)
        if name == "epoch" and not (fits(value, int) and value >= 0):
            raise DataError(f"{file}, line {k}: epoch is {value!r:.60}, expected a whole number")
        if not fits(value, float | None):
            raise DataError(f"{file}, line {k}: {name} is {value!r:.60}, expected a number or null")
    return np.array([line.get(name) for line in lines], dtype=float)


def _seed(home: Path) -> int | None:
    """Of seed-3: 3."""
    number = home.name.rpartition("-")[2]
    return int(number) if number.isdecimal() and len(number) < 20 else None


def _lines(file: Path) -> list[dict]:
    """The whole lines of a file of JSON objects: a running training may be writing the last one."""
    lines = []
    try:
        whole, _, _ = read_text_file(file).rpartition("\n")
        for line in whole.splitlines():
            if not isinstance(value := json_value(line), dict):
                raise ValueError("expected a JSON object")
            lines.append(value)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{file}, line {len(lines) + 1} is damaged: {error}") from error
    if not lines:
        raise DataError(f"{file} is empty: the training {NO_EPOCH}")
    return lines


def _point(run: Path) -> DepthPoint:
    curves = read_curves(run)
    if (measure := require_one_measure(curves)) != "perplexity":
        raise DataError(f"{run} is measured in {measure}, expected a training on words, in perplexity")
    try:
        told = read_json(run / "config.json")
        shape = {name: told[name] for name in _SHAPE}
        LanguageConfig(corpus=told["corpus"], **shape)
        text = str(told["text"])
    except (OSError, ValueError, KeyError, TypeError, InvalidInputError) as error:
        raise DataError(f"{run / 'config.json'} does not say what was trained ({first_line(error)})") from error
    if told["corpus"] != "ptb":
        raise DataError(
            f"{run} was trained on {told['corpus']!r}, and the paper's perplexities by depth are Penn Treebank's: "
            "expected trainings on 'ptb'; leave out --depth for curves"
        )
    epochs = max(int(c.epochs[-1]) for c in curves)
    return DepthPoint(run.resolve().name, **shape, text=text, epochs=epochs, valid=tuple(c.best[1] for c in curves))


def _table(path: Path) -> list[DepthPoint]:
    """The points of a table of `depth_rows`: rows of one run are its seeds."""
    runs: dict[str, list[dict[str, str]]] = {}
    try:
        with require_file(path, MOST_TEXT).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                runs.setdefault(row["run"], []).append(row)
        if not runs:
            raise ValueError("there is no run in it")
        return [_tabled(name, rows, str(path)) for name, rows in runs.items()]
    except (OSError, ValueError, KeyError, TypeError, InvalidInputError, csv.Error) as error:
        raise DataError(f"{path} is no table of `rhn report --depth --csv` ({error!r})") from error


def _tabled(name: str, rows: list[dict[str, str]], text: str) -> DepthPoint:
    first, valid = rows[0], tuple(float(row["valid_perplexity"]) for row in rows)
    if not np.isfinite(valid).all():
        raise ValueError(f"a valid_perplexity of {name} is not finite")
    numbers = {key: int(first[key]) for key in ("depth", "layers", "hidden_size")}
    cuts = {key: int(first[key]) if first[key] else None for key in ("vocabulary_size", "max_tokens")}
    shape = numbers | cuts | {"cell": first["cell"], "tied": {"True": True, "False": False}[first["tied"]]}
    LanguageConfig(corpus="ptb", **shape)
    return DepthPoint(name, **shape, text=text, epochs=int(first["epochs"]), valid=valid)


_SPLITS = ("train", "valid")
_SHAPE = ("cell", "tied", "depth", "layers", "hidden_size", "vocabulary_size", "max_tokens")
_PUBLISHED_UNITS = {(row.depth, row.units) for row in PTB_BY_DEPTH}
