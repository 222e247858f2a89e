"""How sure a difference of two losses is, when both networks were measured on the same sequences: the paired bootstrap.

A loss is a ratio of sums, sum_i nll_i / sum_i frames_i over sequences i. Frames of one chorale are not independent, chorales are: so
whole sequences are drawn again with replacement, the same draw for both networks and for numerator and denominator, and the interval
is between the quantiles of

    (sum_i nll'_i - sum_i nll_i) / sum_i frames_i        over the draws.
"""

import numpy as np

RESAMPLES = 5000
LEVEL = 0.95


def paired_bootstrap(
    nll: np.ndarray, reference: np.ndarray, frames: np.ndarray, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the 95 % interval of the difference in loss, (low, high), each (K,), in the units of nll / frames.

    nll (K, N) and reference (N,) or (K, N): summed over each of N sequences; frames (N,): how many each sum is over. NaN for a single
    sequence, which says nothing about others.

    >>> frames = np.array([4.0, 4.0, 8.0])
    >>> paired_bootstrap(3 * frames[None], frames, frames)  # every sequence loses 2 a frame
    (array([2.]), array([2.]))
    """
    rng, N = np.random.default_rng(seed), len(frames)
    if N < 2:
        return np.full(len(nll), np.nan), np.full(len(nll), np.nan)
    draws = rng.multinomial(N, np.full(N, 1 / N), size=RESAMPLES).astype(float)
    total = draws @ frames
    differences = np.asarray(nll - reference, float)
    quantiles = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    # one network at a time, so that the bits of its interval do not depend on how many there are
    low, high = np.transpose([np.quantile(draws @ d / total, quantiles) for d in differences])
    return low, high
