"""Discs: their numbers, what rounding does, the outline of their union; `test_inclusion` has the rest."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from matrices import MATRICES, grcar, jordan, shuffled
from tables import for_each

from gersgorin.linalg.discs import gersgorin_discs
from gersgorin.linalg.inclusion import Ostrowski
from gersgorin.linalg.outlines import discs_outline, polygon_area
from gersgorin.linalg.spectrum import eigenvalue_conditions, eigenvalues
from rhn.errors import InvalidInputError

disc_lists = st.lists(
    st.tuples(st.floats(-5, 5), st.sampled_from([0.0, 1e-14]) | st.floats(0, 2)), min_size=1, max_size=9
)


def area(*discs: tuple[float, float], points: int = 2001) -> float:
    return polygon_area(discs_outline(*np.array(discs).T, points))


@for_each("name", MATRICES)
def test_centers_radii_and_norm_are_those_of_numpy(name):
    A = MATRICES[name].numpy()
    for axis, sum_axis, order in (("row", 1, np.inf), ("column", 0, 1)):
        discs = gersgorin_discs(MATRICES[name], axis)
        radii = np.abs(A - np.diag(np.diag(A))).sum(sum_axis)
        np.testing.assert_array_equal(discs.centers, np.diag(A))
        np.testing.assert_allclose(discs.radii, radii, rtol=1e-14)
        np.testing.assert_allclose(discs.norm, np.linalg.norm(A, order), rtol=1e-14)


def test_the_default_tolerance_is_needed_and_small():
    A = MATRICES["permutation"]
    discs, values = Ostrowski(A, alpha=1), eigenvalues(A)  # all on the unit circle, the discs' common boundary
    outside = torch.tensor([1 + 2**-52], dtype=torch.float64)
    assert not discs.contains(outside, tol=0).any()
    assert discs.contains(outside).all() and discs.contains(values).all()
    assert not discs.contains(torch.tensor([1 + 1e-12], dtype=torch.float64)).any()
    assert discs.contains(torch.tensor([1 + 1e-9]), tol=1e-6).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["grcar", "jordan"])
def test_the_tolerance_holds_for_ill_conditioned_spectra_although_rounding_moves_them_far(name, dtype):
    """Discs of a matrix eps away are hardly larger, but its eigenvalues may be far away: their condition says how far."""
    n = 100
    hidden = shuffled(jordan(n, 0.9)) + 1e-9 * jordan(n, 0)  # off a triangle LAPACK would read the eigenvalues
    A = torch.from_numpy({"grcar": grcar(n), "jordan": hidden}[name]).to(dtype)
    values, conditions = eigenvalue_conditions(A)
    transposed = eigenvalues(A.T)  # the same spectrum, with other roundings
    for alpha in (0, 1):
        discs = Ostrowski(A, alpha)
        assert discs.contains(values).all() and discs.contains(transposed).all()
    moved = (values[:, None] - transposed).abs().amin(1).max()
    assert moved > 100 * n * torch.finfo(dtype).eps * discs.norm
    assert moved < n * conditions.max() * torch.finfo(dtype).eps * torch.linalg.matrix_norm(A, 2)


@given(disc_lists)
@example([(0.0, 1.0), (2.0, 0.0), (5e-324, 0.0)])  # two centers that are one once they are scaled
def test_the_outline_is_the_upper_envelope(pairs):
    centers, radii = np.array(pairs).T
    for curve in discs_outline(centers, radii, 33):
        assert curve[0] == curve[-1]
        x, y = curve.real, np.abs(curve.imag)
        height = np.sqrt(np.clip(radii**2 - (x[:, None] - centers) ** 2, 0, None)).max(1)
        np.testing.assert_allclose(y, height, atol=1e-6)  # a square root of rounding, next to the axis


def test_areas_and_an_isolated_point_which_is_a_curve_while_an_inner_one_is_not():
    curves = discs_outline(np.array([0.0, 4.0, 4.5]), np.array([0.0, 1.0, 0.0]), 5)
    assert len(curves) == 2 and (curves[0] == 0).all() and curves[1].real.min() == pytest.approx(3.0)
    polygon = (np.pi / 2001) ** 2  # what one of so many corners leaves out of a circle, relative
    assert area((3.0, 2.0)) == pytest.approx(4 * np.pi, rel=polygon)
    lens = 2 * np.arccos(0.5) - np.sqrt(3) / 2  # two unit discs whose centers are 1 apart
    assert area((0.0, 1.0), (1.0, 1.0)) == pytest.approx(2 * np.pi - lens, rel=polygon)
    assert area((0.0, 1.0), (0.2, 0.1), (9.0, 1.0)) == pytest.approx(2 * np.pi, rel=polygon)
    assert Ostrowski(MATRICES["zero"], alpha=1).area() == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gersgorin_discs(torch.eye(2), axis="rows"), "axis: expected 'row' or 'column', got 'rows'"),
        (lambda: gersgorin_discs(torch.zeros(0, 0)), "n >= 1"),
        (lambda: gersgorin_discs(torch.eye(2, dtype=torch.int32)), "int32"),
    ],
)
def test_refused_with_a_sentence(call, message):
    with pytest.raises(InvalidInputError, match=message):
        call()
