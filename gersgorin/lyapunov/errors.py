"""How sure the exponents of one run are: from the scatter of consecutive blocks' means, which are not independent.

In b blocks with standard deviation d and a correlation r of each with the next, the mean has the standard error

    d sqrt(s / b),   s = (1 + r) / (1 - r),

as of b / s independent blocks: exact for an autoregression. r is estimated, and from few blocks too low, by about (1 + 3 r) / b
(M. Kendall, Biometrika 41, 1954). Student's quantile for b / s - 1 degrees of freedom makes up for d being estimated too. Larger blocks
know of longer memory, smaller ones are more: of a short run the larger error of two numbers of blocks is taken.

Measured, runs of 20 to 400 steps: two standard errors cover the exponent in 93 % of the runs and more of products of random matrices, a
driven tanh network and Henon's map; where growth is correlated by 0.9 a step in 88 % of the runs of 20 steps and 93 % of those of 40
and more; of a leaky network that forgets 20 % a step in 77 to 89 % of those of 20 and 40. Errors of independent steps are 1.2 times as
large as they should be, of short runs 1.7 times.

Legend: C pieces of the run, k exponents, b blocks.
"""

import numpy as np
from scipy.special import stdtrit

BLOCKS = 20, 10
LEAST_STEPS = 20  # of a run that says anything of its errors
LONG = 100  # steps from which 20 blocks are long enough


def standard_errors(lengths: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """(k,), twice which are 95 % intervals, from the steps (C,) and the growth (C, k) of consecutive pieces of the run.

    NaN for fewer than 20 steps, or 10 pieces: too short to say.
    """
    if lengths.sum() < LEAST_STEPS or len(lengths) < min(BLOCKS):
        return np.full(sums.shape[1], np.nan)
    blocks = BLOCKS if lengths.sum() < LONG else BLOCKS[:1]
    return np.max([_of_blocks(_means(lengths, sums, b)) for b in blocks if b <= len(lengths)], axis=0)


def _means(lengths: np.ndarray, sums: np.ndarray, blocks: int) -> np.ndarray:
    """(b, k), of consecutive blocks of (nearly) equal length."""
    pieces = np.array_split(np.arange(len(lengths)), blocks)
    return np.array([sums[piece].sum(0) / lengths[piece].sum() for piece in pieces])


def _of_blocks(means: np.ndarray) -> np.ndarray:
    """(k,) from the means (b, k) of blocks; NaN where one is infinite."""
    b = len(means)
    with np.errstate(invalid="ignore", divide="ignore"):
        rest = means - means.mean(0)
        squares = (rest * rest).sum(0)
        r = np.where(squares > 0, (rest[1:] * rest[:-1]).sum(0) / squares, 0)
        r = np.clip(r + (1 + 3 * r) / b, 0, 1 - 2 / b)
        s = (1 + r) / (1 - r)
        student = stdtrit(np.maximum(b / s - 1, 1.5), 0.975) / 2
        return np.sqrt(squares / (b - 1) * s / b) * student
