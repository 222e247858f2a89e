"""Numbers by name: a number, or a number with the ends of its interval; their text, and the table
docs/results/paper.csv in which `make paper` stores them.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
RESULTS, FIGURES = ROOT / "docs" / "results", ROOT / "docs" / "figures"
STORED = RESULTS / "paper.csv"
HEADER = ("name", "value", "from", "to")
DIGITS = 3  # of a number in the page and in the table

Value = float | tuple[float, float, float]
"""A number, or (number, low, high)."""


def student(values: Sequence[float] | np.ndarray) -> Value:
    """Return the mean of values, and its interval of 95 % by Student's t."""
    from scipy.stats import t  # loads in a second

    mean, n = float(np.mean(values)), len(values)
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
    return mean, mean - half, mean + half


def seeds(values: Sequence[float] | np.ndarray) -> Value:
    """Return the mean of a few seeds, and the smallest and largest."""
    return float(np.mean(values)), float(np.min(values)), float(np.max(values))


def median_and_quartiles(values: Sequence[float] | np.ndarray) -> Value:
    """Return the median of values, and their lower and upper quartile."""
    median, low, high = np.quantile(values, (0.5, 0.25, 0.75)).tolist()
    return median, low, high


def number_text(value: float) -> str:
    """Return a number with three digits; a count whole."""
    is_count = float(value).is_integer() and abs(value) < 1e6
    return str(int(value)) if is_count else f"{value:.{DIGITS}g}"


def text_of(value: Value) -> str:
    """Return `value`, or `value (low to high)`."""
    if not isinstance(value, tuple):
        return number_text(value)
    middle, low, high = map(number_text, value)
    return f"{middle} ({low} to {high})"


def write_values(values: Mapping[str, Value], path: Path = STORED) -> None:
    """Write values with three digits, one row each."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for name, value in values.items():
            numbers = value if isinstance(value, tuple) else (value,)
            padding = [""] * (len(HEADER) - 1 - len(numbers))
            writer.writerow([name, *map(number_text, numbers), *padding])


def read_values(path: Path = STORED) -> dict[str, Value]:
    """Read the table of `write_values`."""
    found = dict[str, Value]()
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            value = float(row["value"])
            has_interval = bool(row["from"])
            interval = (value, float(row["from"] or "nan"), float(row["to"] or "nan"))
            found[row["name"]] = interval if has_interval else value
    return found


def print_rows(rows: Mapping[str, Value]) -> Mapping[str, Value]:
    """Print each value with its ends, and return them all."""
    for name, value in rows.items():
        numbers = value if isinstance(value, tuple) else (value,)
        print(f"{name:32}", *(f"{number:10.4g}" for number in numbers))
    return rows
