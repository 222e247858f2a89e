"""A Lyapunov spectrum as numbers, without torch.

Legend: T counted steps; N entries of a state; k exponents, descending; C points of the convergence curves; b blocks. Exponents are
natural logarithms per step.
"""

import math
from dataclasses import dataclass

import numpy as np

from rhn.result import Result


@dataclass(frozen=True, kw_only=True, repr=False)
class LyapunovSpectrum(Result):
    """The k leading exponents of one run, how sure they are, and how they came about."""

    exponents: np.ndarray
    """(k,), descending; -inf for a direction that is lost."""
    standard_errors: np.ndarray
    """(k,), twice which are intervals of 95 %: from the scatter of consecutive blocks' means and its memory, see
    `gersgorin.lyapunov.errors`. Of this run alone; NaN for fewer than 20 steps, or 10 QR decompositions: too short to say."""
    curve_steps: np.ndarray
    """(C,) steps after which the running estimates stand; the last is T."""
    curve: np.ndarray
    """(C, k) the exponents of the first steps of the run alone."""
    state_size: int
    """N."""
    warmup: int
    """Steps run before any was counted."""
    every: int
    """Steps between two QR decompositions."""
    title: str = ""
    """What a figure calls the run."""
    unit: str = "steps"
    """What a step is, for the axis of time."""
    about: str = ""
    """How network and sequence came to be, under a figure's title."""

    @property
    def steps(self) -> int:
        """T."""
        return int(self.curve_steps[-1])

    @property
    def complete(self) -> bool:
        """Whether these are all exponents, k = N: their sum is then the mean of log |det A[t]|."""
        return len(self.exponents) == self.state_size

    @property
    def tells_errors(self) -> bool:
        """Whether the run was long enough for standard errors."""
        return not np.isnan(self.standard_errors).all()

    @property
    def sum(self) -> float:
        """Sum of the k exponents: the mean log growth a step of k-dimensional volumes."""
        return float(self.exponents.sum())

    @property
    def kaplan_yorke(self) -> float:
        """The Kaplan-Yorke dimension; NaN where more exponents are needed to tell."""
        return kaplan_yorke_dimension(self.exponents, complete=self.complete)

    def summary(self) -> dict:
        """JSON-ready."""
        arrays = {name: getattr(self, name).tolist() for name in ("exponents", "standard_errors")}
        counts = {name: getattr(self, name) for name in ("steps", "warmup", "every", "state_size", "complete", "sum")}
        curve = {"steps": self.curve_steps.tolist(), "exponents": self.curve.tolist()}
        return (
            {"title": self.title, "unit": self.unit}
            | arrays
            | {"kaplan_yorke": self.kaplan_yorke}
            | counts
            | {"curve": curve}
        )


def kaplan_yorke_dimension(exponents: np.ndarray, *, complete: bool = True) -> float:
    """j + (l_1 + ... + l_j) / |l_{j+1}|, with the largest j whose sum is not negative (J. Kaplan, J. Yorke 1979).

    0 where the first is negative: everything ends on one orbit. Without a negative partial sum it is the number of exponents where
    they are `complete`, and NaN where there may be more, or where one of them is NaN. Their order does not matter.

    >>> round(kaplan_yorke_dimension(np.array([0.906, 0.0, -14.572])), 3)  # Lorenz's attractor
    2.062
    """
    exponents = -np.sort(-np.asarray(exponents, dtype=float))
    if np.isnan(exponents).any():
        return math.nan
    sums = np.cumsum(exponents)
    negative = np.flatnonzero(sums < 0)
    if len(negative) == 0:
        return float(len(exponents)) if complete else math.nan
    j = int(negative[0])
    return j + (float(sums[j - 1]) / abs(float(exponents[j])) if j else 0.0)
