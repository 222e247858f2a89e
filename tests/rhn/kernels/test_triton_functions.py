"""tanh and sigmoid of the Triton kernels have a small relative error for every float32 number."""

import numpy as np
import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

import triton
import triton.language as tl

from rhn.kernels.persistent import blocks

TINIEST = 2.0**-149
LARGEST_ERROR = 6 * 2.0**-24  # relative; where the result is subnormal, one unit of its last place


@triton.jit
def both_kernel(Z, H, Gate, N, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    z = tl.load(Z + at, mask=at < N, other=0.0)
    tl.store(H + at, blocks.tanh(z), mask=at < N)
    tl.store(Gate + at, blocks.sigmoid(z), mask=at < N)


def both(z):
    """(tanh, sigmoid) as the kernels compute them."""
    z = torch.as_tensor(z, dtype=torch.float32).to("cuda" if torch.cuda.is_available() else "cpu")
    h, gate = torch.empty_like(z), torch.empty_like(z)
    both_kernel[(triton.cdiv(len(z), 4096),)](z, h, gate, len(z), BLOCK=4096)
    return h.cpu().double().numpy(), gate.cpu().double().numpy()


def relative_error(found, exact):
    return np.max(np.abs(found - exact) / np.maximum(np.abs(exact), TINIEST / LARGEST_ERROR))


def numbers():
    """Of every size from the smallest subnormal to the largest float32, more of them where the functions bend, and their negatives."""
    sizes = np.concatenate(
        [2.0 ** np.linspace(-149, 127.9, 20_000), np.linspace(0, 20, 50_000), np.linspace(20, 110, 10_000)]
    ).astype(np.float32)
    return np.concatenate([sizes, -sizes])


def test_the_relative_error_is_a_few_roundings_at_every_size():
    z = numbers()
    h, gate = both(z)
    wide = z.astype(np.float64)
    exact = np.exp(-np.abs(wide))
    assert relative_error(h, np.tanh(wide)) < LARGEST_ERROR
    assert relative_error(gate, np.where(z < 0, exact, 1) / (1 + exact)) < LARGEST_ERROR


def test_numpy_s_float64_tanh_is_a_judge():
    mpmath = pytest.importorskip("mpmath")
    for z in numbers()[::997]:
        assert float(mpmath.tanh(mpmath.mpf(float(z)))) == pytest.approx(np.tanh(float(z)), rel=1e-14, abs=0)


def test_special_values():
    h, gate = both([0.0, -0.0, np.inf, -np.inf, np.nan, 1e38, -1e38])
    np.testing.assert_array_equal(h, [0, 0, 1, -1, np.nan, 1, -1])
    np.testing.assert_array_equal(gate, [0.5, 0.5, 1, 0, np.nan, 1, 0])
