"""Gradients of a loss in the weights of a recurrent layer by truncated backpropagation.

    chunks             states are carried, and detached every K steps
    sliding windows    each loss looks K steps back

The gradient is a sum over lags, G_0 + G_1 + ...: G_k is what the losses say about the step k steps
before the state that they read. A sliding window of K steps has the first K terms.

The states are those of the whole run for every window. So one pass back through time serves the
chunks of many windows and offsets at once: a batch of derivatives in the states, which are 0 where
a chunk begins.

Legend: T time steps; B sequences; M ways to split the steps into chunks; m inputs, N entries of a
state, P weights of the layer; K steps of a window; W listed windows.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gersgorin import checks
from gersgorin.analyses.loss_slopes import LossSlopes, flat, pulled_back
from gersgorin.autodiff import BLOCK
from rhn.utils.progress import Progress, reported

OFFSETS = 4  # of the chunks of a window, at most


class Chunks(NamedTuple):
    """A way to split steps into chunks of K: the first one ends at `offset`, or at K if it is 0."""

    K: int
    offset: int

    def begins(self, T: int) -> Tensor:
        """True at steps at which a chunk begins, (T,); the first step needs no mark.

        >>> Chunks(4, 1).begins(10).nonzero().flatten().tolist()
        [1, 5, 9]
        """
        found = torch.zeros(T, dtype=torch.bool, device="cpu")
        found[self.offset :: self.K] = True
        return found


def offsets(K: int) -> list[int]:
    """The offsets of the chunks of K steps: 0, K/4, K/2, 3K/4, or all.

    >>> offsets(3), offsets(6)
    ([0, 1, 2], [0, 1, 3, 4])
    """
    count = min(K, OFFSETS)
    return [K * k // count for k in range(count)]


def in_blocks(ways: list[Chunks], size: int) -> list[list[Chunks]]:
    """Ways that fit into a block together, if one of them needs `size` numbers."""
    at_once = max(1, BLOCK // size)
    return [ways[first : first + at_once] for first in range(0, len(ways), at_once)]


def adjoints(of: LossSlopes, ways: list[Chunks]) -> Tensor:
    """The derivatives in s[t+1] of the losses in the chunk of step t, (T, M, B, N)."""
    T, M = len(of.x), len(ways)
    begins = torch.stack([way.begins(T) for way in ways], 1).to(of.s.device)
    found = of.after[:, None].repeat(1, M, 1, 1)
    for t in range(T - 1, 0, -1):  # step t reads the state that step t - 1 returns
        x, s = torch.cat([of.x[t]] * M), torch.cat([of.s[t]] * M).requires_grad_()
        (slopes,) = pulled_back([of.step.rows(x, s)], [s], [found[t].flatten(0, 1)])
        earlier = slopes.unflatten(0, found[t].shape[:2]) + of.before[t]
        found[t - 1] += earlier.masked_fill(begins[t, :, None, None], 0.0)
    return found


def gradients(of: LossSlopes, ways: list[Chunks]) -> Iterator[Tensor]:
    """Yield the gradient of each sequence by chunks, (B, P), for each of the ways."""
    sequences = range(of.after.shape[1])
    next_s = [of.step.rows(of.x[:, b], of.s[:-1, b]) for b in sequences]
    for some in in_blocks(ways, of.after.numel()):
        for w in adjoints(of, some).unbind(1):
            each = [flat(pulled_back([next_s[b]], of.weights, [w[:, b]])) for b in sequences]
            yield torch.stack(each) + of.direct


def by_lag(of: LossSlopes) -> Iterator[Tensor]:
    """Yield G_0, ..., G_{T-1}, (P,) each."""
    s = of.s[:-1].clone().requires_grad_()
    next_s = of.step.rows(of.x.flatten(0, 1), s.flatten(0, 1)).unflatten(0, s.shape[:2])
    w, more, direct = of.after, of.before, of.direct.sum(0)
    for _ in range(len(of.x)):
        slopes, *of_weights = pulled_back([next_s], [s, *of.weights], [w])
        yield flat(of_weights) + direct
        earlier = slopes + more
        w = torch.cat((earlier[1:], torch.zeros_like(earlier[:1])))
        more, direct = torch.zeros_like(more), torch.zeros_like(direct)


class TruncationErrors(NamedTuple):
    """The arrays of a `Truncation`."""

    error: np.ndarray
    cosine: np.ndarray
    sliding_error: np.ndarray
    sliding_cosine: np.ndarray
    by_lag: np.ndarray
    error_of_each: np.ndarray
    """Of chunks, for the loss of each sequence alone, (B, W)."""


def truncation_errors(of: LossSlopes, windows: list[int], progress: Progress) -> TruncationErrors:
    """The errors of chunks and of sliding windows, and the norms by lag."""
    T = len(of.x)
    one_chunk = Chunks(T, 0)
    (whole,) = gradients(of, [one_chunk])
    is_finite = bool(whole.isfinite().all())
    checks.require(is_finite, "gradient of the loss", "NaN or infinite", "numbers")
    sliding, norms = sliding_errors(of, whole.sum(0), windows, progress)
    several = [Chunks(K, offset) for K in windows[:-1] for offset in offsets(K)]
    ways, found = [one_chunk, *several], chain([whole], gradients(of, several))
    of_mean, of_each = defaultdict[int, list](list), defaultdict[int, list](list)
    with reported(progress, "chunks", total=len(ways)) as advance:
        for done, (way, g) in enumerate(zip(ways, found, strict=True), 1):
            of_mean[way.K].append(error_and_cosine(g.sum(0), whole.sum(0)))
            alone = [error_and_cosine(*pair)[0] for pair in zip(g, whole, strict=True)]
            of_each[way.K].append(alone)
            advance(done, len(ways))
    error, cosine = np.transpose([np.mean(of_mean[K], 0) for K in windows])
    sliding_error, sliding_cosine = np.transpose(sliding)
    return TruncationErrors(
        error=error,
        cosine=cosine,
        sliding_error=sliding_error,
        sliding_cosine=sliding_cosine,
        by_lag=np.array(norms),
        error_of_each=np.transpose([np.mean(of_each[K], 0) for K in windows]),
    )


def sliding_errors(
    of: LossSlopes, whole: Tensor, windows: list[int], progress: Progress
) -> tuple[list[np.ndarray], list[float]]:
    """The error and cosine of sliding windows, and the norms of all G_k."""
    total, found, norms = torch.zeros_like(whole), list[np.ndarray](), list[float]()
    T = len(of.x)
    with reported(progress, "lags", total=T) as advance:
        for k, part in enumerate(by_lag(of), 1):
            norms.append(float(part.norm()))
            total = total + part
            if k in windows:
                found.append(error_and_cosine(total, whole))
            advance(k, T)
    return found, norms


def error_and_cosine(g: Tensor, whole: Tensor) -> np.ndarray:
    """|g - G| / |G|, and the cosine between g and G; NaN for 0 / 0.

    >>> error_and_cosine(torch.tensor([3.0, 0.0]), torch.tensor([3.0, 4.0])).round(3).tolist()
    [0.8, 0.6]
    """
    size = whole.norm()
    error, cosine = (g - whole).norm() / size, (g / g.norm()) @ (whole / size)
    return np.array([float(error), float(cosine.clamp(-1, 1))])


def listed_windows(T: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, ... below T, and T.

    >>> listed_windows(20)
    [1, 2, 3, 4, 6, 8, 12, 16, 20]
    """
    powers = [2**k for k in range(T.bit_length())]
    each = {1, *powers, *(3 * power for power in powers)}
    return [*sorted(K for K in each if K < T), T]


def shortest(windows: Sequence[int] | np.ndarray, error: np.ndarray, most: float) -> float:
    """The first listed window below T whose error, and that of all longer ones, is at most `most`;
    NaN if there is none.

    >>> shortest([1, 2, 3, 4], np.array([0.05, 0.2, 0.1, 0.0]), 0.1)
    3.0
    """
    holds = np.logical_and.accumulate((error <= most)[::-1])[::-1]
    found = [float(K) for K, all_hold in zip(windows[:-1], holds[:-1], strict=True) if all_hold]
    return found[0] if found else float("nan")
