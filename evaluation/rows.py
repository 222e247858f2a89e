"""Tables that grow by a row at a time."""

import csv
import math
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path


def append(path: Path, row: dict, columns: Collection[str] = ()) -> None:
    """Add a row to a table, in five digits, below a header if it is new, and print it; columns: of
    the table, if a row lacks some.
    """
    with path.open("a", newline="") as file:
        table = csv.DictWriter(file, columns or row)
        if not file.tell():
            table.writeheader()
        table.writerow({name: f"{v:.5g}" if isinstance(v, float) else v for name, v in row.items()})
    print(row, flush=True)


def fill(
    path: Path,
    keys: Collection[str],
    rows: Iterable[dict],
    run: Callable[[dict], dict],
    columns: Collection[str] = (),
    *,
    minutes: float = math.inf,
) -> None:
    """Append the rows that a table lacks by their keys, each with what run(row) adds, until the
    minutes are over.
    """
    end, done = time.monotonic() + 60 * minutes, set()
    if path.exists():
        done = {tuple(row[key] for key in keys) for row in csv.DictReader(path.open())}
    for row in rows:
        if tuple(str(row[key]) for key in keys) not in done and time.monotonic() < end:
            append(path, row | run(row), columns)
