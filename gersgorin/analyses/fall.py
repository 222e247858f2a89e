"""The law by which an influence falls with the lag: an exponential or a power law.

Two straight lines are fitted to the logarithm of the influence: against the lag k for the
exponential r^k, and against log(k + 1) for the power law (k + 1)^-b. For the power law, k counts
from lag 0 or from the lag with the largest influence, whichever fits better. At each lag the
squared residual p of the power law is compared with the squared residual e of the exponential, by
(p - e) / (p + e), from -1 to 1. If the 95 % interval of the mean of this comparison does not
contain 0, one law is nearer. Residuals at neighbouring lags are correlated. The n lags are
therefore divided into sqrt(n) blocks, and the interval is computed from the means of the blocks,
with Student's factor.

The nearer law is named only if it falls by more than rounding, and fits: its line has an R^2 of at
least 0.95, and the lags at which the fit is off by at most a factor of two hold at least 95 % of
the squared influence. The factor is two because a fit that is off by a half-life does not show when
the influence halves. If the values follow one law exactly, the R^2 of the other law is at most
0.91. Other laws are not considered.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import t as student

from gersgorin.analyses.growth import SAME

ROUNDING = 1e-9  # of a logarithm: a residual by rounding
FEWEST = 9  # lags, for three blocks of three
# R^2 of a line, and share of the squares; R^2 of log(k + 1) against 9 lags k, the fewest, is 0.91
FITS = 0.95


@dataclass(frozen=True)
class Fall:
    """The law by which positive values fall with their index, and its fit.

    >>> fall_of(0.5 ** np.arange(64)).law, fall_of(1 / np.arange(1, 65)).law
    ('exponential', 'power law')
    """

    law: str
    """ "exponential" or "power law"; "" if neither fits better, or if the values do not fall."""
    rate: float
    """-log r of the exponential, or b of the power law; NaN without a law."""
    fit: np.ndarray
    """The fitted values; NaN without a law. From the first value that is not positive, all are NaN.
    """
    r_squared: float = math.nan
    """Share of the variance of the logarithm that `law` explains; if `law` is "", the larger share
    of both laws. NaN for fewer than 9 values, or if all are equal.
    """
    origin: int = 0
    """The lag from which k of a power law (k + 1)^-b is counted."""
    comparison: tuple[float, float] = (math.nan, math.nan)
    """95 % interval of the mean comparison: near 1 for an exponential, near -1 for a power law."""

    @property
    def undecided(self) -> bool:
        """True if neither law is nearer, or if there are fewer than 9 values."""
        low, high = self.comparison
        return not (low > 0 or high < 0)


def fall_of(values: np.ndarray, first: int = 0, top: int = 0) -> Fall:
    """Find the law by which values fall with the lag. The first value that is 0 or too small for
    full precision, and all values after it, are left out. The first value should be the largest.

    first: the lag of the first value. top: the lag with the largest influence.
    """
    ends = np.flatnonzero(~(values >= np.finfo(values.dtype).tiny))
    n = int(ends[0]) if len(ends) else len(values)
    unknown = Fall("", math.nan, np.full(len(values), np.nan))
    if n < FEWEST:
        return unknown
    y, lags = np.log(values[:n]), np.arange(first, first + n)
    powers = {origin: _line(np.log1p(lags - origin), y) for origin in {0, top}}
    origin = min(powers, key=lambda origin: float(np.square(y - powers[origin][1]).sum()))
    found = {"exponential": _line(lags, y), "power law": powers[origin]}
    slopes = {law: slope for law, (slope, _) in found.items()}
    fits = {law: fit for law, (_, fit) in found.items()}
    e, p = (np.square(_rounded(y - fit)) for fit in fits.values())
    low, high = _interval(np.divide(p - e, p + e, out=np.zeros(n), where=p + e > 0))
    explained = {law: _r_squared(y, fit) for law, fit in fits.items()}
    unknown = replace(unknown, r_squared=max(explained.values()), comparison=(low, high))
    law = "exponential" if low > 0 else "power law" if high < 0 else ""
    if not law:
        return unknown
    residual, squares = y - fits[law], np.square(values[:n] / values[:n].max())
    rate, r_squared = -slopes[law], explained[law]
    described = squares[np.abs(residual) <= math.log(2)].sum() / squares.sum()
    if not (rate > SAME and min(r_squared, described) >= FITS):
        return unknown
    fit = np.append(np.exp(fits[law]), unknown.fit[n:])
    return Fall(law, rate, fit, r_squared, origin, (low, high))


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """The slope of the straight line through points by least squares, and its values at x."""
    line = np.polynomial.Polynomial.fit(x, y, 1).convert()
    return float(line.coef[-1]), line(x)


def _r_squared(y: np.ndarray, fit: np.ndarray) -> float:
    """Share of the variance of y that a fit explains; NaN if all y are equal."""
    return 1 - float(np.var(y - fit) / np.var(y)) if np.ptp(y) else math.nan


def _rounded(residual: np.ndarray) -> np.ndarray:
    return np.where(np.abs(residual) > ROUNDING, residual, 0)


def _interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of values whose neighbours are correlated, from means of blocks."""
    blocks = np.array([block.mean() for block in np.array_split(values, math.isqrt(len(values)))])
    error = blocks.std(ddof=1) / math.sqrt(len(blocks))
    half = float(student.ppf(0.975, len(blocks) - 1)) * error
    return float(blocks.mean() - half), float(blocks.mean() + half)
