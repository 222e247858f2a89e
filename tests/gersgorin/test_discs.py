"""Discs: their numbers, what rounding does, the count of eigenvalues a component, the outline; `test_inclusion` has the rest."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from matrices import MATRICES, grcar, jordan, shuffled, square_matrices
from tables import for_each

from gersgorin.linalg.discs import Discs, default_tolerance, gersgorin_discs
from gersgorin.linalg.pseudospectra import pseudospectrum
from gersgorin.linalg.spectrum import eigenvalue_conditions, eigenvalues
from rhn.errors import InvalidInputError

disc_lists = st.lists(
    st.tuples(st.floats(-5, 5), st.sampled_from([0.0, 1e-14]) | st.floats(0, 2)), min_size=1, max_size=9
)


def discs_of(pairs) -> Discs:
    centers, radii = torch.tensor(pairs, dtype=torch.float64).unbind(-1)
    return Discs(centers, radii)


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
    discs, values = gersgorin_discs(A), eigenvalues(A)  # all on the unit circle, the discs' common boundary
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
    for axis in ("row", "column"):
        discs = gersgorin_discs(A, axis)
        assert discs.contains(values).all() and discs.contains(transposed).all()
    moved = (values[:, None] - transposed).abs().amin(1).max()
    tolerance = default_tolerance(discs.norm, n, dtype)
    assert moved > 10 * tolerance
    assert moved < n * conditions.max() * torch.finfo(dtype).eps * torch.linalg.matrix_norm(A, 2)


def test_known_measures_and_those_of_a_batch():
    discs = discs_of([(0.5, 0.5), (-0.5, 0.6), (0.0, 0.2), (1.0, 0.0)])
    assert discs.rightmost == 1.0 and discs.inside_unit_circle == 0.75
    A = torch.randn(4, 3, 6, 6, dtype=torch.float64)
    discs = gersgorin_discs(A)
    assert discs.centers.shape == discs.radii.shape == (4, 3, 6)
    for i, j in np.ndindex(4, 3):
        one = gersgorin_discs(A[i, j])
        assert one.rightmost == discs.rightmost[i, j]
        assert one.inside_unit_circle == discs.inside_unit_circle[i, j]
        assert one.components() == discs[i, j].components()


@given(square_matrices())
def test_a_component_holds_as_many_eigenvalues_as_discs(A):
    discs, values = gersgorin_discs(A), eigenvalues(A)
    components = discs.components()
    assert sorted(i for component in components for i in component) == list(range(len(A)))
    for component in components:
        part = Discs(discs.centers[list(component)], discs.radii[list(component)])
        tolerance = 10 * len(A) * torch.finfo(A.dtype).eps * discs.norm  # the whole matrix's
        assert part.contains(values, tol=tolerance).sum() == len(component)


def test_known_components():
    assert gersgorin_discs(MATRICES["separate_discs"]).components() == ((0,), (1, 2), (3, 4), (5,))
    assert gersgorin_discs(MATRICES["identity"]).components() == ((0, 1, 2, 3, 4),)
    touching = discs_of([(0.0, 1.0), (5.0, 1.0), (2.0, 1.0)])
    assert touching.components(tol=0) == ((0, 2), (1,))
    assert touching.components(tol=0.6) == ((0, 1, 2),)
    assert Discs(torch.tensor([0, 3j]), torch.tensor([1.0, 1.5])).components() == ((0,), (1,))


@given(disc_lists)
@example([(0.0, 1.0), (2.0, 0.0), (5e-324, 0.0)])  # two centers that are one once they are scaled
def test_the_outline_is_the_upper_envelope(pairs):
    discs = discs_of(pairs)
    centers, radii = discs.centers.numpy(), discs.radii.numpy()
    for curve in discs.outline(33):
        assert curve[0] == curve[-1]
        x, y = curve.real, np.abs(curve.imag)
        height = np.sqrt(np.clip(radii**2 - (x[:, None] - centers) ** 2, 0, None)).max(1)
        np.testing.assert_allclose(y, height, atol=1e-6)  # a square root of rounding, next to the axis


@given(disc_lists)
def test_the_outline_has_one_curve_a_component_from_end_to_end(pairs):
    discs = discs_of(pairs)
    margin = 1e-9
    loose, tight = discs.components(tol=margin), discs.components(tol=-margin)
    curves = discs.outline(9)
    assert len(loose) <= len(curves)
    if loose == tight:  # nothing touches
        left, right = discs.centers - discs.radii, discs.centers + discs.radii
        expected = sorted((min(left[i] for i in c).item(), max(right[i] for i in c).item()) for c in loose)
        ends = [(curve.real.min(), curve.real.max()) for curve in curves]
        np.testing.assert_allclose(ends, expected, atol=1e-12)


def test_areas_and_an_isolated_point_which_is_a_curve_while_an_inner_one_is_not():
    curves = discs_of([(0.0, 0.0), (4.0, 1.0), (4.5, 0.0)]).outline(5)
    assert len(curves) == 2 and (curves[0] == 0).all() and curves[1].real.min() == pytest.approx(3.0)
    polygon = (np.pi / 2001) ** 2  # what one of so many corners leaves out of a circle, relative
    assert discs_of([(3.0, 2.0)]).area(points=2001) == pytest.approx(4 * np.pi, rel=polygon)
    lens = 2 * np.arccos(0.5) - np.sqrt(3) / 2  # two unit discs whose centers are 1 apart
    assert discs_of([(0.0, 1.0), (1.0, 1.0)]).area(2001) == pytest.approx(2 * np.pi - lens, rel=polygon)
    assert discs_of([(0.0, 1.0), (0.2, 0.1), (9.0, 1.0)]).area(2001) == pytest.approx(2 * np.pi, rel=polygon)
    assert gersgorin_discs(MATRICES["zero"]).area() == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gersgorin_discs(torch.eye(2), axis="rows"), "axis: expected 'row' or 'column', got 'rows'"),
        (lambda: gersgorin_discs(torch.zeros(0, 0)), "n >= 1"),
        (lambda: gersgorin_discs(torch.eye(2, dtype=torch.int32)), "int32"),
        (lambda: gersgorin_discs(torch.zeros(3, 2, 2)).components(), r"got a batch \(3,\)"),
    ],
)
def test_refused_with_a_sentence(call, message):
    with pytest.raises(InvalidInputError, match=message):
        call()


def test_a_conjugate_transpose_which_torch_does_not_write_down_is_a_matrix_as_any():
    A = torch.tensor([[1, 2j], [0.5, 3 + 1j]], dtype=torch.complex128)
    written = A.mH.resolve_conj()
    assert gersgorin_discs(A.mH).components() == gersgorin_discs(written).components()
    assert torch.equal(pseudospectrum(A.mH, A[0].conj()), pseudospectrum(written, A[0].conj().resolve_conj()))
