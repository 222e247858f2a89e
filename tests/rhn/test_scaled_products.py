"""Products that over- or underflow on the way are computed again in scaled form."""

import math

import pytest
import torch

from rhn.utils.scale import any_out_of_range, product

ONE = torch.ones(2, 3, 3)
MATRICES = {  # name: (two matrices, whether one of them is out of range)
    "ones": (ONE, False),
    "first row is zero": (ONE.index_fill(1, torch.tensor(0), 0.0), False),
    "first rows are tiny": (ONE.index_fill(1, torch.tensor(0), 1e-36), False),
    "sum overflows": (1e38 * ONE, False),
    "one is zero": (ONE.index_fill(0, torch.tensor(1), 0.0), True),
    "one is tiny": (ONE * torch.tensor([1.0, 1e-36])[:, None, None], True),
    "large enough": (ONE * torch.tensor([1.0, 2e-31])[:, None, None], False),
    "last row is infinite": (ONE.index_fill(1, torch.tensor(2), math.inf), True),
    "last row has no number": (ONE.index_fill(1, torch.tensor(2), math.nan), True),
    "two infinities": (
        ONE.index_fill(1, torch.tensor(2), math.inf) * torch.tensor([1.0, -1, 1]),
        True,
    ),
}


@pytest.mark.parametrize("name", MATRICES)
def test_a_quick_look_says_what_the_largest_entries_say(name):
    M, wanted = MATRICES[name]
    assert any_out_of_range(M) is wanted


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param((1e-30, 1e-30, 1e30, 1e30), id="underflow and growth"),
        pytest.param((1e30, 1e30, 1e-30, 1e-30), id="overflow and decay"),
        pytest.param((1e-20, 1e-20, 1e20, 1e20), id="last digits of a subnormal number"),
    ],
)
def test_a_partial_product_that_leaves_the_range_is_found(sizes):
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    found = product(lambda: [size * turn for size in sizes])
    exact = torch.linalg.matrix_power(turn.double(), 4)
    assert torch.allclose(found.double(), exact, rtol=1e-5, atol=1e-6)
