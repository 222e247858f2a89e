"""Tables that grow by a row at a time."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd


def append(path: Path, row: dict, columns: Sequence[str] | None = None) -> None:
    """Add a row to a table, in five digits, below a header if it is new, and print it; columns: of the table, if a row lacks some."""
    table = pd.DataFrame([row], columns=columns and [*columns])
    table.to_csv(path, mode="a", header=not path.exists(), index=False, float_format="%.5g")
    print(row, flush=True)
