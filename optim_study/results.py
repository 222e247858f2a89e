"""What finished trials came to, as rows: from the storage, to and from CSV, grouped by network. No torch, no optuna."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, get_args, get_type_hints

from optim_study.protocol import HIGHEST, LOWEST, OF_ONE_SIZE, SCHEMES, StudyConfig
from rhn.cells.registry import lacking
from rhn.errors import DataError
from rhn.training.curves import Objective
from rhn.utils.io import MOST_TEXT, atomic_path, require_file

if TYPE_CHECKING:  # a table is read without optuna
    from optim_study.storage import Storage, StoredTrial


@dataclass(frozen=True, kw_only=True)
class Row:
    """One complete trial; the field names are the columns. Losses are negative log-likelihoods in nats a frame.

    `best_train_nll` and `best_valid_nll` are the least of all epochs, each from its own. `train_nll`, `valid_nll` and `test_nll` are
    the losses of the weights that are kept, those of `best_epoch`. What a table of an earlier version lacks is None, and its
    weights started Gaussian.
    """

    arch: str
    """Architecture, with the options of its cell: `rhn`, `dts-rnn-skip-last`."""
    depth: int
    trial: int
    learning_rate: float
    init_scheme: str = "gaussian"
    init_std: float
    """Of the recurrent weights: of `scaled` and `orthogonal` ones 1 / sqrt(hidden_size)."""
    transform_bias: float | None
    """None: its cell has no such gates."""
    hidden_size: int
    best_train_nll: float
    best_valid_nll: float
    best_epoch: int | None = None
    train_nll: float | None = None
    valid_nll: float | None = None
    test_nll: float
    constant_nll: float | None = None
    """The least training loss of a constant output on the same data."""
    epochs: int
    left_epoch: int | None = None
    """When its training loss came 2 % below the constant output's, see `optim_study.trainer.Outcome`; None: never, or not known."""
    diverged: bool

    def __post_init__(self):
        if "transform_bias" in lacking(self.arch):  # drawn for every trial, and used by none of these
            object.__setattr__(self, "transform_bias", None)

    def told(self) -> dict:
        """The columns as tables tell them: a setting that the cell does not have is None."""
        return asdict(self) | dict.fromkeys(lacking(self.arch))

    def loss(self, which: Objective) -> float:
        """The best training or validation loss."""
        return self.best_train_nll if which == "train" else self.best_valid_nll


COLUMNS = tuple(field.name for field in fields(Row))
_TYPES = {name: (get_args(hint) or (hint,))[0] for name, hint in get_type_hints(Row).items()}
_LATER = {field.name for field in fields(Row) if field.default is not MISSING}
"""Columns that older tables lack."""
_ABSENT = {"depth": 1, "transform_bias": None}
"""What is meant where a table tells nothing of a setting, because the cell does not have it."""
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How far a study is."""

    trials: int
    """As many as were asked for, or as another run has asked for since."""
    complete: int
    running: int
    """Begun and not complete; those of workers that died count until another takes them over."""
    diverged: int
    best: float | None
    """The least value so far, nats a frame."""


def counts(config: StudyConfig, storage: "Storage") -> Counts:
    """How far a study is; nothing done where it does not exist yet."""
    trials = storage.trials(config.name)
    complete = [t for t in trials if t.state == "COMPLETE"]
    return Counts(
        trials=max(config.trials, len(trials)),
        complete=len(complete),
        running=sum(t.state == "RUNNING" for t in trials),
        diverged=sum(bool(t.results.get("diverged")) for t in complete),
        best=min((t.value for t in complete), default=None),
    )


def stored_rows(studies: Iterable[StudyConfig], storage: "Storage") -> list[Row]:
    """The complete trials of these studies."""
    return [_stored_row(config, trial) for config in studies for trial in storage.trials(config.name, "COMPLETE")]


def by_network(rows: Iterable[Row]) -> dict[tuple[str, int], list[Row]]:
    """Rows grouped by (architecture, depth), architectures in the order they appear in, depths ascending, trials ascending."""
    rows = list(rows)
    archs = list(dict.fromkeys(row.arch for row in rows))
    rows.sort(key=lambda row: (archs.index(row.arch), row.depth, row.trial))
    return {network: list(trials) for network, trials in groupby(rows, key=lambda row: (row.arch, row.depth))}


def csv_text(rows: Iterable[Row]) -> str:
    """The rows as CSV with a header; numbers at full precision, `diverged` as True or False."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.told() for row in rows)
    return text.getvalue()


def write_csv(rows: Iterable[Row], path: Path) -> None:
    """Writes `csv_text` to a file, as a whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(csv_text(rows), encoding="utf-8")


def read_csv(path: Path) -> list[Row]:
    """Rows back from a file that `write_csv`, or `optim-study export`, wrote; other columns are ignored.

    Raises DataError where the file is missing or is not such a table; the message names the line.
    """
    try:
        with require_file(path, MOST_TEXT).open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in {*(reader.fieldnames or ()), *_LATER}]
            if missing:
                raise DataError(
                    f"{path} is no table of trials: it lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}"
                )
            return [_row(values, f"{path}, line {reader.line_num}") for values in reader]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no table of trials: {error}") from error


def check_settings(rows: Iterable[Row]) -> None:
    """Raise DataError for settings that no study has and no logarithmic axis can show, as a table from elsewhere may hold."""
    for row in rows:
        for name, highest in HIGHEST.items():
            if not LOWEST <= (value := getattr(row, name)) <= highest:
                where = f"trial {row.trial} of {row.arch} at depth {row.depth}"
                raise DataError(f"{where} has {name} {value}, expected {LOWEST:g} to {highest:g}")


def table(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A table in plain text: columns as wide as they need to be, the first and a checkpoint's to the left, the others to the right.

    >>> print(table(("study", "best"), [("rhn-depth1", 8.4)]))
    study       best
    rhn-depth1   8.4
    """
    cells = [list(map(str, line)) for line in (header, *rows)]
    columns = []
    for name, *column in zip(*cells, strict=True):
        width = max(map(len, (name, *column)))
        left = not columns or name == "checkpoint"
        columns.append([cell.ljust(width) if left else cell.rjust(width) for cell in (name, *column)])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def _stored_row(config: StudyConfig, trial: "StoredTrial") -> Row:
    values = {**trial.parameters, **trial.results}
    try:
        if values.get("init_scheme") in OF_ONE_SIZE:
            values["init_std"] = values["hidden_size"] ** -0.5
        return Row(arch=config.label, depth=config.depth, trial=trial.number, **values)
    except (KeyError, TypeError):
        raise DataError(
            f"trial {trial.number} of study {config.name} was not made by optim-study: it lacks results or has others"
        ) from None


def _row(values: Mapping[str, str | None], place: str) -> Row:
    parsed = {}
    for name, kind in _TYPES.items():
        text = (values.get(name) or "").strip()
        if not text and name in _LATER:
            continue
        if not text and name in lacking(values.get("arch") or ""):
            parsed[name] = _ABSENT[name]
            continue
        try:
            parsed[name] = _BOOLEANS[text.lower()] if kind is bool else kind(text)
        except (ValueError, KeyError):
            raise DataError(f"{place}: {name} is {text!r}, expected a {kind.__name__}") from None
        if kind is float and not math.isfinite(parsed[name]):
            raise DataError(f"{place}: {name} is {text}, expected a finite number")
        if name == "init_scheme" and text not in SCHEMES:
            raise DataError(f"{place}: {name} is {text!r}, expected one of {', '.join(SCHEMES)}")
    return Row(**parsed)
