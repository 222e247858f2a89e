"""The published procedures that the benchmarks time, and what they are timed against, find the
same.
"""

import numpy as np
import pytest
import torch

from benchmarks.procedures import (
    discs_by_loops,
    exponents_by_autograd,
    exponents_by_diagonals,
    fixed_points_by_adam,
    three_bits,
)
from gersgorin import fixed_points, gersgorin_discs, lyapunov

d = torch.float64


def test_adams_points_are_the_same_27():
    (rnn, starts), x = three_bits(15, 300), torch.zeros(3, dtype=d)
    ours = fixed_points(rnn, x, starts=starts)
    theirs, q, spectra = fixed_points_by_adam(rnn, x, starts, rate=0.1)
    assert len(theirs) == len(ours.states) == 27 and not ours.is_slow.any() and q.max() < 1e-11
    nearest = np.abs(theirs.numpy()[:, None] - ours.states).max(-1).argmin(1)
    assert sorted(nearest) == [*range(27)]
    np.testing.assert_allclose(theirs, ours.states[nearest], atol=1e-4)
    np.testing.assert_allclose(
        np.abs(spectra).max(1), np.abs(ours.eigenvalues[nearest, 0]), atol=1e-4
    )
    assert (
        ours.found_from.tolist() == sorted(ours.found_from, reverse=True)
        and ours.found_from.sum() == 300
    )
    assert sorted(ours.unstable) == [0] * 8 + [1] * 12 + [2] * 6 + [3]


@pytest.mark.parametrize(
    "theirs", [pytest.param(exponents_by_autograd, marks=pytest.mark.slow), exponents_by_diagonals]
)
def test_exponents_are_the_same(theirs):
    rnn, x = torch.nn.RNN(3, 6, dtype=d), torch.randn(4000, 3, dtype=d)
    found = lyapunov(rnn, x)  # from other directions than theirs: equal in the long run
    np.testing.assert_allclose(theirs(rnn, x), found.exponents, atol=3e-3)
    assert float(theirs(rnn, x).sum()) == pytest.approx(found.sum, abs=1e-10)
    assert exponents_by_autograd(rnn, x[:9], 2).shape == (2,)


def test_discs_are_the_same():
    A = torch.randn(2, 5, 5, dtype=d)
    discs = gersgorin_discs(A)
    for ours, loops in zip((discs.centers, discs.radii), discs_by_loops(A.numpy()), strict=True):
        np.testing.assert_allclose(ours, loops, atol=1e-14)
