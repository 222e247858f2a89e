"""The growth of the product of the Jacobians of a run: its rows in tables, and its curve.

Legend: T time steps. Logarithms are natural, unless a label says log10.
"""

import math
from typing import Any

import numpy as np

from gersgorin.linalg import doubling_time, half_life
from gersgorin.results import FROM_FIRST

# Rounding moves a double eigenvalue by the root of the precision, 1.5e-8. A rate of 1e-7 changes a
# norm by a thousandth in 10,000 steps.
ROUNDING = 1e-7
GROWTH = "log10 ||ds[t]/ds[0]||"
GROWTH_AFTER = "log10 ||ds[t+1]/ds[0]||"
LOG_NORM = "log10 ||ds[T]/ds[0]||"
RATE = "growth rate of ||ds[t]/ds[0]|| (1/step)"
HALF_LIFE = "half-life of ||ds[t]/ds[0]|| by the mean rate (steps)"
DOUBLING = "doubling time of ||ds[t]/ds[0]|| by the mean rate (steps)"


def growth_rows(log_norm: np.ndarray) -> dict[str, Any]:
    """The rows of a table about log norms ||ds[t+1]/ds[0]|| (T,), natural logarithms. A growth
    rate of at most 1e-7 counts as 0.

    >>> rows = growth_rows(np.log(0.5) * np.arange(1, 5))
    >>> round(rows[HALF_LIFE], 9), rows[DOUBLING]
    (1.0, inf)
    """
    whole = np.float64(log_norm[-1])
    rate = whole / len(log_norm)
    if abs(rate) <= ROUNDING:
        rate = np.float64(0)
    return {
        LOG_NORM: float(whole) / math.log(10),
        RATE: float(rate),
        HALF_LIFE: float(half_life(rate)),
        DOUBLING: float(doubling_time(rate)),
    }


def growth_curve(log_norm: np.ndarray) -> dict[str, np.ndarray]:
    """The curve of log norms (T,) of a figure, in decades, from the first state on."""
    return {FROM_FIRST: np.append(0, log_norm) / math.log(10)}
