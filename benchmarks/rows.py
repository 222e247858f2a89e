"""Tables that grow by a row at a time."""

import csv
from collections.abc import Collection
from pathlib import Path


def known(path: Path, key: str) -> set[str]:
    """The keys of the rows that a table has already."""
    return {row[key] for row in csv.DictReader(path.open())} if path.exists() else set()


def append(path: Path, row: dict, columns: Collection[str] = ()) -> None:
    """Add a row to a table, in five digits, below a header if it is new, and print it; columns: of the table, if a row lacks some."""
    with path.open("a", newline="") as file:
        table = csv.DictWriter(file, columns or row)
        if not file.tell():
            table.writeheader()
        table.writerow({name: f"{v:.5g}" if isinstance(v, float) else v for name, v in row.items()})
    print(row, flush=True)
