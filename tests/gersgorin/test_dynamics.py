"""Products over many steps, against exact integer arithmetic; what single spectra cannot say;
exponents of known systems.
"""

import math
from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matrices import square_matrices

from gersgorin import jacobian_product
from gersgorin.linalg import cumulative_log_norms, finite_time_exponent, half_life


def exact_product(integers: np.ndarray) -> tuple[np.ndarray, int]:
    """The product of integer matrices without any rounding until the end: float64 entries below 1,
    and a power of two.
    """
    P = np.eye(integers.shape[-1], dtype=int).astype(object)
    for step in integers.astype(object):
        P = step.dot(P)
    bits = max(int(abs(entry)).bit_length() for entry in P.ravel())
    entries = [math.ldexp((int(entry) << 64) >> bits, -64) for entry in P.ravel()]
    return np.array(entries).reshape(P.shape), bits


@pytest.mark.parametrize(
    "shift",
    [0, pytest.param(-15, marks=pytest.mark.slow)],
    ids=["entries_to_30", "entries_to_1e-3"],
)
def test_five_thousand_steps_against_exact_integers(shift):
    integers = np.random.default_rng(1).integers(-30, 31, (5000, 3, 3))
    A = torch.from_numpy(np.ldexp(integers.astype(float), shift))
    exact, bits = exact_product(integers)
    exact_log_norm = math.log(np.linalg.norm(exact, 2)) + (bits + shift * 5000) * math.log(2)

    P, log_scale = jacobian_product(A)
    assert P.abs().max().item() == pytest.approx(np.abs(exact).max(), rel=1e-9)
    np.testing.assert_allclose(P, exact, atol=1e-9)
    assert float(log_scale) == pytest.approx((bits + shift * 5000) * math.log(2), rel=1e-14)
    assert cumulative_log_norms(A)[-1].item() == pytest.approx(exact_log_norm, abs=1e-8)
    assert finite_time_exponent(A).item() == pytest.approx(exact_log_norm / 5000, abs=1e-12)

    assert {t.dtype for t in jacobian_product(A.float())} == {torch.float32}
    assert finite_time_exponent(A.float()).item() == pytest.approx(exact_log_norm / 5000, rel=1e-6)


@given(square_matrices(5), st.integers(1, 4))
def test_short_products_are_the_plain_ones(A, steps):
    sequence = torch.stack([A if t % 2 == 0 else A.T for t in range(steps)])
    P, log_scale = jacobian_product(sequence)
    expected = reduce(lambda P, step: step @ P, sequence)
    tolerance = 1e-13 * float(torch.linalg.matrix_norm(A)) ** steps
    torch.testing.assert_close(P * log_scale.exp(), expected, rtol=1e-13, atol=tolerance)
    assert (P == 0).all() or 0.5 <= P.abs().max() < 1


def test_a_batch_equals_its_sequences():
    A = torch.randn(6, 2, 3, 4, 4, dtype=torch.float64)
    A[2, 1, 2] = 0  # one product vanishes, the others go on
    product, log_scale = (lambda A, k=k: jacobian_product(A)[k] for k in (0, 1))
    for function in (product, log_scale, finite_time_exponent):
        whole = function(A)
        for i, j in np.ndindex(2, 3):
            torch.testing.assert_close(whole[i, j], function(A[:, i, j]))
    assert not product(A)[1, 2].any()
    assert log_scale(A)[1, 2] == 0
    assert finite_time_exponent(A)[1, 2] == -torch.inf
    norms = cumulative_log_norms(A)
    assert norms.shape == (6, 2, 3) and not norms.isnan().any()
    assert (norms[2:, 1, 2] == -torch.inf).all() and norms[:, 0].isfinite().all()


def test_no_steps():
    P, log_scale = jacobian_product(torch.zeros(0, 2, 3, 3))
    torch.testing.assert_close(P * log_scale.exp()[:, None, None], torch.eye(3).expand(2, 3, 3))
    assert cumulative_log_norms(torch.zeros(0, 2, 3, 3)).shape == (0, 2)


def test_half_life():
    assert half_life(0.0).item() == half_life(-0.0).item() == math.inf
    assert half_life(-math.inf).item() == 0
    steps = half_life(finite_time_exponent(torch.full((10, 1, 1), 0.9)))
    assert 0.9 ** steps.item() == pytest.approx(0.5)
