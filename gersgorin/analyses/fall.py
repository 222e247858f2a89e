"""The law by which an influence falls with the lag: exponential, or a power law.

Two straight lines are fitted to its logarithm: against the lag k for r^k, and against log(k + 1)
for (k + 1)^-b. At each lag the squared misfits p of the power law and e of the exponential are
compared by (p - e) / (p + e), from -1 to 1. The law is the nearer one, if the 95 % interval of the
mean comparison does not contain 0. As misfits of neighbouring lags are alike, the interval is that
of the means of sqrt(n) blocks of n lags, with Student's factor. Other laws are not considered.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

ROUNDING = 1e-9  # of a logarithm: a misfit by rounding
FEWEST = 9  # lags, for three blocks of three


@dataclass(frozen=True)
class Fall:
    """The law by which positive values fall with their place, and its fit.

    >>> fall_of(0.5 ** np.arange(64)).law, fall_of(1 / np.arange(1, 65)).law
    ('exponential', 'power law')
    """

    law: str
    """ "exponential", "power law", or "" if neither fits better, or nothing falls."""
    rate: float
    """-log r, or b; NaN without a law."""
    fit: np.ndarray
    """The fitted values; NaN without a law, and after the last positive value."""
    comparison: tuple[float, float] = (math.nan, math.nan)
    """95 % interval of the mean comparison: 1 for an exponential, -1 for a power law."""


def fall_of(values: np.ndarray) -> Fall:
    """The law by which values from the largest on fall; those from the first 0 on are left out."""
    ends = np.flatnonzero(~(values > 0))
    n = int(ends[0]) if len(ends) else len(values)
    unknown = Fall("", math.nan, np.full(len(values), np.nan))
    if n < FEWEST:
        return unknown
    y, lags = np.log(values[:n]), np.arange(n)
    laws = {"exponential": lags, "power law": np.log1p(lags)}
    lines = {law: np.polynomial.Polynomial.fit(x, y, 1).convert() for law, x in laws.items()}
    fits = {law: lines[law](x) for law, x in laws.items()}
    e, p = (np.square(_rounded(y - fit)) for fit in fits.values())
    low, high = _interval(np.divide(p - e, p + e, out=np.zeros(n), where=p + e > 0))
    law = "exponential" if low > 0 else "power law" if high < 0 else ""
    rate = -lines[law].coef[-1] if law else math.nan
    if not rate > 0:
        return Fall("", math.nan, unknown.fit, (low, high))
    fit = np.append(np.exp(fits[law]), unknown.fit[n:])
    return Fall(law, float(rate), fit, (low, high))


def _rounded(misfit: np.ndarray) -> np.ndarray:
    return np.where(np.abs(misfit) > ROUNDING, misfit, 0)


def _interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of values of which neighbours are alike, from means of blocks."""
    blocks = np.array([block.mean() for block in np.array_split(values, math.isqrt(len(values)))])
    error = blocks.std(ddof=1) / math.sqrt(len(blocks))
    half = float(student.ppf(0.975, len(blocks) - 1)) * error
    return float(blocks.mean() - half), float(blocks.mean() + half)
