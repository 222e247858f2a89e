"""Differences and jumps beside a state, in numbers of known steps."""

import numpy as np
import pytest
import torch

from gersgorin.smoothness import difference, jumps, random_signs

d = torch.float64
EPS = torch.finfo(d).eps


def test_a_difference_is_relative_up_to_rounding():
    """A slope of 1e-8, for which 3e-8 is given: the difference is 2e-8 |v|, rounding 3.7e-8 |v|."""
    s, x = torch.ones(2, 3, dtype=d), torch.zeros(2, 1, dtype=d)
    found = difference(lambda x, s: 1e-8 * s, x, s, lambda v: 3e-8 * v)
    rounding = 1000 * EPS ** (2 / 3)
    np.testing.assert_allclose(found, 2e-8 / (1e-8 + rounding), rtol=1e-4)
    cubic = difference(lambda x, s: s**3, x, s, lambda v: 3 * v)
    assert (cubic < 3e-10).all()


def test_a_jump_is_the_smaller_one_of_two_distances():
    """Curvature shows at the long distance, rounding and a narrow kink at the short one."""
    s, x = torch.ones(1, 2, dtype=d), torch.zeros(1, 1, dtype=d)
    curved = jumps(lambda x, s: 1e3 * (s - 1) ** 2, x, s, torch.zeros(1, 2, dtype=d))
    assert curved.item() == pytest.approx(2e3 * EPS**0.5, rel=1e-6)
    narrow = jumps(lambda x, s: (s - 1).abs().clamp(max=1e-8), x, s, torch.zeros_like(s))
    assert narrow.item() == pytest.approx(2e-8 / EPS ** (1 / 3), rel=1e-6)
    flat = jumps(lambda x, s: 1e6 + s, x, s, 1e6 + s)
    assert flat.item() < 1e-4


def test_random_signs_are_as_large_as_a_state_and_1_beside_a_state_of_zero():
    s = torch.tensor([[0.0, 0.0, 0.0], [1.0, -3.0, 0.0], [0.25, 0.0, 0.5]], dtype=d)
    assert random_signs(s).abs().tolist() == [[1.0] * 3, [3.0] * 3, [0.5] * 3]
    assert random_signs(s, torch.tensor(7.0)).abs().unique().tolist() == [7.0]
