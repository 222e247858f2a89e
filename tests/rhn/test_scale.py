"""Products of many matrices as a tensor times a power of two are the products in exact numbers."""

import functools
import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch

from rhn.utils.scale import (
    bound_of,
    out_of_range,
    plus,
    product,
    scaled,
    scaled_matmul,
    scaled_product,
    unscaled,
)


def exact(M, exponent=0):
    """A matrix M 2^exponent of fractions."""
    whole = np.vectorize(Fraction, otypes=[object])
    return whole(M.numpy()) * Fraction(2) ** int(exponent)


def assert_exact(found, exponent, wanted, relative=1e-14):
    """The entries, to roundings of the largest one."""
    largest = max(abs(wanted).max(), Fraction(1, 10**5000))
    assert abs(exact(found, exponent) - wanted).max() <= Fraction(relative) * largest


def drawn(*shape, size=0):
    """Random signs and digits, of about 2^size."""
    g = torch.Generator().manual_seed(sum(shape) + abs(size))
    return torch.randn(shape, generator=g, dtype=torch.float64) * 2.0**size


@pytest.mark.parametrize("size", [0, -990, 990], ids=["usual", "least", "largest"])
def test_a_scaled_matrix_has_its_largest_entry_in_one_half_to_one(size):
    M = torch.stack([drawn(3, 5, size=size), -drawn(3, 5, size=size // 3), torch.zeros(3, 5)])
    found, exponent = scaled(M, 7)
    largest = found.abs().amax((1, 2))
    assert ((largest >= 0.5) & (largest < 1))[:2].all() and largest[2] == 0 == exponent[2]
    for part, e, before in zip(found[:2], exponent, M, strict=False):
        assert_exact(part, e, exact(before, 7), 0)
    assert torch.equal(unscaled(found[:2], exponent[:2] - 7), M[:2])


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param((0, 0, 0, 0), id="of the usual size"),
        pytest.param((-600, -600, 600, 600), id="that underflow on the way"),
        pytest.param((600, 600, -600, -600), id="that overflow on the way"),
        pytest.param((-700, -700, -3, -700), id="that end below the range"),
        pytest.param((700, 700, 3, 700), id="that end above the range"),
    ],
)
def test_products_of_matrices_are_those_of_fractions(sizes):
    factors = [drawn(4, 4, size=size) for size in (*sizes[:-1],)] + [drawn(2, 4, size=sizes[-1])]
    wanted = functools.reduce(lambda P, J: J @ P, map(exact, factors))
    P, exponent = scaled_product(factors)
    assert_exact(P, exponent, wanted)
    found = product(lambda: iter(factors))
    torch.testing.assert_close(found, unscaled(P, exponent), rtol=1e-13, atol=0)
    fits = Fraction(torch.finfo(found.dtype).tiny) < abs(wanted).max() < Fraction(2) ** 1024
    assert bool(found.isfinite().all() and found.any()) == fits
    P, exponent = scaled_matmul(factors[1], factors[0], 5)
    assert_exact(P, exponent, exact(factors[1]) @ exact(factors[0], 5))


@pytest.mark.parametrize(
    ("exponent", "size"), [*itertools.product((-2000, -7, 0, 9, 2000), (-900, 0, 900))]
)
def test_a_sum_with_a_scaled_product_keeps_the_larger_part(exponent, size):
    P, S = drawn(3, 3), drawn(3, 2, size=size)[:, [0, 1, 0]]
    found, e = plus(P, torch.tensor(exponent), S)
    assert_exact(found, e, exact(P, exponent) + exact(S))


@pytest.mark.parametrize(
    ("entries", "is_out"),
    [
        pytest.param([1.0, 0.0], False, id="one is zero"),
        pytest.param([1.0, -1e-40], False, id="the largest is positive"),
        pytest.param([-1.0, 1e-40], False, id="the largest is negative"),
        pytest.param([-1.0, -2.0], False, id="all negative"),
        pytest.param([1e-40, -1e-40], True, id="all subnormal"),
        pytest.param([0.0, 0.0], True, id="all zero"),
        pytest.param([1.0, torch.inf], True, id="infinite"),
        pytest.param([1.0, -torch.inf], True, id="minus infinity"),
        pytest.param([1.0, torch.nan], True, id="not a number"),
        pytest.param([2.0**-103, 0.0], False, id="the least in range"),
        pytest.param([2.0**-103 - 2.0**-127, 0.0], True, id="the next below it"),
        pytest.param([torch.finfo(torch.float32).max, 0.0], False, id="the greatest number"),
    ],
)
def test_a_matrix_is_out_of_range_by_its_largest_modulus(entries, is_out):
    both = torch.tensor([[entries], [[1.0, 1.0]]])
    assert out_of_range(both).tolist() == [is_out, False]


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_power_of_two_beyond_the_range_is_multiplied_in_halves(sign):
    M = torch.full((1, 1), 2.0 ** (-900 * sign), dtype=torch.float64)
    assert unscaled(M, torch.tensor(1900 * sign)) == 2.0 ** (1000 * sign)


def test_a_positive_bound_does_not_underflow_to_zero():
    least = torch.finfo(torch.float64).tiny
    for bound, exponent, wanted in (
        (0.5, 3, 4.0),
        (0.5, -1100, least),
        (0.0, -1100, 0.0),
        (0.5, 1100, torch.inf),
    ):
        found = bound_of(torch.full((1, 1), bound, dtype=torch.float64), torch.tensor(exponent))
        assert found.shape == () and found == wanted
