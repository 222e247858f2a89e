"""What finished trials came to, as rows: from the storage by `listing`, to and from CSV here. No torch, no optuna."""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from rhn.errors import DataError
from rhn.files import atomic_path

Loss = Literal["train", "valid"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One complete trial; the field names are the columns. Losses are negative log-likelihoods in nats a frame."""

    arch: str
    depth: int
    trial: int
    learning_rate: float
    init_std: float
    transform_bias: float
    hidden_size: int
    best_train_nll: float
    best_valid_nll: float
    test_nll: float
    epochs: int
    diverged: bool

    def loss(self, which: Loss) -> float:
        """The best training or validation loss."""
        return self.best_train_nll if which == "train" else self.best_valid_nll


COLUMNS = tuple(field.name for field in fields(Row))


def by_network(rows: Iterable[Row]) -> dict[tuple[str, int], list[Row]]:
    """Rows grouped by (architecture, depth), architectures in the order they appear in, depths ascending, trials ascending."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.arch, row.depth), []).append(row)
    archs = list(dict.fromkeys(arch for arch, _ in groups))
    keys = sorted(groups, key=lambda key: (archs.index(key[0]), key[1]))
    return {key: sorted(groups[key], key=lambda row: row.trial) for key in keys}


def csv_text(rows: Iterable[Row]) -> str:
    """The rows as CSV with a header; numbers at full precision, `diverged` as True or False."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
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
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(f"{path} is no table of trials: it lacks the column(s) {', '.join(missing)}")
            return [_row(values, f"{path}, line {reader.line_num}") for values in reader]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is no table of trials: {error}") from error


def _row(values: Mapping[str, str | None], place: str) -> Row:
    parsed = {}
    for field in fields(Row):
        text = (values[field.name] or "").strip()
        try:
            parsed[field.name] = _boolean(text) if field.type is bool else field.type(text)
        except ValueError:
            raise DataError(f"{place}: {field.name} is {text!r}, expected a {field.type.__name__}") from None
        if field.type is float and not math.isfinite(parsed[field.name]):
            raise DataError(f"{place}: {field.name} is {text}, expected a finite number")
    return Row(**parsed)


def _boolean(text: str) -> bool:
    try:
        return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
    except KeyError:
        raise ValueError(text) from None
