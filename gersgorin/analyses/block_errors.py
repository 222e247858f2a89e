"""Standard errors of the mean of correlated numbers along one run.

If b blocks of a run have the standard deviation d, and each has the correlation r with the next,
the standard error of their mean is d sqrt(s / b), s = (1 + r) / (1 - r), that of b / s independent
blocks. The estimate of r is too low by about (1 + 3 r) / b (M. Kendall, Biometrika 41, 1954), which
is added. Student's quantile for b / s - 1 degrees of freedom corrects for the estimate of d. A
short run takes the larger error of two numbers of blocks. The error is at least half of the
difference between the two halves of the run, which a slow drift moves apart.

Legend: T time steps; C consecutive pieces of a run; k means; b blocks.
"""

import numpy as np
from scipy.special import stdtrit

BLOCKS = 20, 10  # numbers of blocks for standard errors
LEAST_STEPS = 20  # of a run with standard errors
LONG = 100  # steps from which 20 blocks are long enough
QUANTILE = 0.975  # of Student's distribution, for intervals of 95 %
LEAST_FREEDOM = 1.5  # degrees of freedom of a standard error, at least


def standard_errors(lengths: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Return the standard errors of means over time steps, (k,), from the number of steps (C,) and
    the sums (C, k) of consecutive pieces of a run; NaN for fewer than 20 steps.

    >>> standard_errors(np.ones(40), np.tile([[1.0], [2.0]], (20, 1))).tolist()  # no block differs
    [0.0]
    """
    if lengths.sum() < LEAST_STEPS:
        return np.full(sums.shape[1], np.nan)
    numbers = BLOCKS if lengths.sum() < LONG else BLOCKS[:1]
    scatter = [_of_blocks(block_means(lengths, sums, b)) for b in numbers]
    first, second = block_means(lengths, sums, 2)
    with np.errstate(invalid="ignore"):
        return np.max([*scatter, np.abs(second - first) / 2], axis=0)


def block_means(lengths: np.ndarray, sums: np.ndarray, blocks: int) -> np.ndarray:
    """Return the means of consecutive blocks of (nearly) equal length, (b, k), from pieces of a
    run as for `standard_errors`; NaN for a block without a step.

    >>> block_means(np.array([2, 2]), np.array([[2.0], [6.0]]), 2).tolist()
    [[1.0], [3.0]]
    """
    pieces = np.array_split(np.arange(len(lengths)), blocks)
    with np.errstate(invalid="ignore"):
        return np.array([sums[piece].sum(0) / lengths[piece].sum() for piece in pieces])


def _of_blocks(means: np.ndarray) -> np.ndarray:
    """Standard errors (k,) from the means (b, k) of blocks; NaN if a mean is infinite."""
    b = len(means)
    with np.errstate(invalid="ignore"):
        rest = means - means.mean(0)
        squares = (rest * rest).sum(0)
        r = (rest[1:] * rest[:-1]).sum(0) / np.maximum(squares, np.finfo(float).tiny)
        r = np.clip(r + (1 + 3 * r) / b, 0, 1 - 2 / b)
        s = (1 + r) / (1 - r)
        student = stdtrit(np.maximum(b / s - 1, LEAST_FREEDOM), QUANTILE) / 2
        return np.sqrt(squares / (b - 1) * s / b) * student
