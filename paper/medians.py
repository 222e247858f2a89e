"""Medians with quartiles, and the printed table of the rows of a claim."""

from collections.abc import Mapping, Sequence

import numpy as np

from paper.values import Value


def median_and_quartiles(values: Sequence[float] | np.ndarray) -> Value:
    """Return the median of values, and their lower and upper quartile."""
    median, low, high = np.quantile(values, (0.5, 0.25, 0.75)).tolist()
    return median, low, high


def print_rows(rows: Mapping[str, Value]) -> Mapping[str, Value]:
    """Print each value with its ends, and return them all."""
    for name, value in rows.items():
        numbers = value if isinstance(value, tuple) else (value,)
        print(f"{name:32}", *(f"{number:10.4g}" for number in numbers))
    return rows
