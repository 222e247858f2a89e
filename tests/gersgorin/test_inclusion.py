"""Discs, and every registered inclusion set on every matrix: the spectrum inside, sets inside one
another, outlines, areas.
"""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from matrices import MATRICES, REAL_MATRICES, grcar, jordan, outside_by, shuffled, square_matrices
from tables import for_each

from gersgorin.linalg.discs import gersgorin_discs
from gersgorin.linalg.inclusion import (
    INCLUSION_SETS,
    Brauer,
    MinimalGersgorin,
    NumericalRange,
    Ostrowski,
)
from gersgorin.linalg.outlines import discs_outline, overlap_ends
from gersgorin.linalg.spectrum import eigenvalue_conditions, eigenvalues
from rhn.errors import InvalidInputError

gersgorin_row = INCLUSION_SETS["gersgorin-row"]
SMALL = [name for name, A in REAL_MATRICES.items() if len(A) <= 12]


def plane(A: torch.Tensor, side: int = 25) -> torch.Tensor:
    """A grid over the square that holds every set, and the points where sets have corners: centers
    and eigenvalues.
    """
    reach = 1.1 * (gersgorin_discs(A).norm.item() or 1.0)
    x = torch.linspace(-reach, reach, side, dtype=torch.float64)
    grid = torch.complex(*torch.meshgrid(x, x, indexing="ij")).ravel()
    return torch.cat([grid, A.diagonal() + 0j, eigenvalues(A)])


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
    # all on the unit circle, the discs' common boundary
    discs, values = Ostrowski(A, alpha=1), eigenvalues(A)
    outside = torch.tensor([1 + 2**-52], dtype=torch.float64)
    assert not discs.contains(outside, tol=0).any()
    assert discs.contains(outside).all() and discs.contains(values).all()
    assert not discs.contains(torch.tensor([1 + 1e-12], dtype=torch.float64)).any()
    assert discs.contains(torch.tensor([1 + 1e-9]), tol=1e-6).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["grcar", "jordan"])
def test_the_tolerance_holds_for_ill_conditioned_spectra_although_rounding_moves_them_far(
    name, dtype
):
    """Discs of a matrix eps away are hardly larger, but its eigenvalues may be far away: their
    condition says how far.
    """
    n = 100
    # off a triangle LAPACK would read the eigenvalues
    hidden = shuffled(jordan(n, 0.9)) + 1e-9 * jordan(n, 0)
    A = torch.from_numpy({"grcar": grcar(n), "jordan": hidden}[name]).to(dtype)
    values, conditions = eigenvalue_conditions(A)
    transposed = eigenvalues(A.T)  # the same spectrum, with other roundings
    for alpha in (0, 1):
        discs = Ostrowski(A, alpha)
        assert discs.contains(values).all() and discs.contains(transposed).all()
    moved = (values[:, None] - transposed).abs().amin(1).max()
    assert moved > 100 * n * torch.finfo(dtype).eps * discs.norm
    assert moved < n * conditions.max() * torch.finfo(dtype).eps * torch.linalg.matrix_norm(A, 2)


disc_lists = st.lists(
    st.tuples(st.floats(-5, 5), st.sampled_from([0.0, 1e-14]) | st.floats(0, 2)),
    min_size=1,
    max_size=9,
)


@given(disc_lists)
@example([(0.0, 1.0), (2.0, 0.0), (5e-324, 0.0)])  # two centers that are one once they are scaled
def test_the_outline_is_the_upper_envelope(pairs):
    centers, radii = np.array(pairs).T
    for curve in discs_outline(centers, radii, 33):
        assert curve[0] == curve[-1]
        x, y = curve.real, np.abs(curve.imag)
        height = np.sqrt(np.clip(radii**2 - (x[:, None] - centers) ** 2, 0, None)).max(1)
        # a square root of rounding, next to the axis
        np.testing.assert_allclose(y, height, atol=1e-6)


def test_the_overlap_may_end_before_both_unions_do():
    c = np.array([0.0, 4.0])
    rows, columns = np.array([3.0, 0.0]), np.array([0.0, 3.0])  # as of [[0, 3], [0, 4]]
    for size in (1.0, 1e-190, 1e190):
        assert overlap_ends(size * c, size * rows, size * c, size * columns) == (
            4.0 * size,
            4.0 * size,
        )
    assert overlap_ends(c, np.array([5.0, 0.1]), c, np.array([0.1, 5.0])) == pytest.approx(
        (5.0, 5.0)
    )
    assert overlap_ends(c, np.array([3.0, 0.1]), c, np.array([0.1, 2.0]))[0] == pytest.approx(4.1)


@for_each("name", SMALL)
def test_the_overlap_of_both_unions_ends_where_a_grid_of_points_does(name):
    A = MATRICES[name]
    pairs = [[part.numpy() for part in gersgorin_discs(A, axis)] for axis in ("row", "column")]
    reach, right = overlap_ends(*pairs[0], *pairs[1])
    side = max(float((np.abs(c) + r).max()) for c, r in pairs)
    x = np.linspace(-side, side, 401)
    z = x[:, None] + 1j * x
    z = z[np.logical_and.reduce([(np.abs(z[..., None] - c) <= r).any(-1) for c, r in pairs])]
    far, edge = np.abs(z).max(initial=0.0), z.real.max(initial=-side)
    assert far <= reach * (1 + 1e-12) and edge <= right + 1e-12 * side
    assert reach >= eigenvalues(A).abs().max() - 1e-6 * side
    # else isolated points, which no grid meets
    assert len(z) < 1000 or max(reach - far, right - edge) <= 0.03 * side


def test_an_isolated_point_is_a_curve_while_an_inner_one_is_not():
    curves = discs_outline(np.array([0.0, 4.0, 4.5]), np.array([0.0, 1.0, 0.0]), 5)
    assert len(curves) == 2
    assert (curves[0] == 0).all()
    assert curves[1].real.min() == pytest.approx(3.0)
    assert Ostrowski(MATRICES["zero"], alpha=1).area() == 0


@pytest.mark.parametrize("key", INCLUSION_SETS)
@for_each("name", REAL_MATRICES)
def test_the_spectrum_lies_inside(name, key):
    A = MATRICES[name]
    assert INCLUSION_SETS[key](A).contains(eigenvalues(A)).all()


@pytest.mark.parametrize("key", INCLUSION_SETS)
@given(A=square_matrices(5))
def test_random_spectra_lie_inside(key, A):
    assert INCLUSION_SETS[key](A).contains(eigenvalues(A)).all()
    assert INCLUSION_SETS[key](A.float()).contains(eigenvalues(A.float())).all()


@for_each("tol", [0.0, 0.13, None])
@for_each("name", REAL_MATRICES)
def test_minimal_inside_brauer_inside_gersgorin(name, tol):
    A = MATRICES[name]
    z = plane(A)
    tol = tol and tol * float(gersgorin_discs(A).norm)
    minimal, brauer, row = (
        kind(A).contains(z, tol) for kind in (MinimalGersgorin, Brauer, gersgorin_row)
    )
    column = MinimalGersgorin(A.mT).contains(z, tol)
    # on the boundary itself, where a permutation has its eigenvalues, the sets may round apart
    grid = slice(25 * 25)
    assert torch.equal(minimal[grid], column[grid])
    known = grid if tol == 0 else slice(None)
    assert not (minimal & ~brauer)[known].any() and not (brauer & ~row)[known].any()


@for_each("name", REAL_MATRICES)
def test_brauer_is_its_definition(name):
    A = MATRICES[name] / (MATRICES[name].abs().max() or 1)
    z = plane(A)[: 25 * 25]
    radii, distances = gersgorin_discs(A).radii, (z[:, None] - A.diagonal()).abs()
    i, j = torch.tril_indices(len(A), len(A), -1)
    ovals = distances[:, i] * distances[:, j] <= radii[i] * radii[j]
    expected = ovals.any(1) if len(A) > 1 else distances[:, 0] == 0
    assert torch.equal(Brauer(A).contains(z, tol=0), expected)


@for_each("name", SMALL)
def test_minimal_is_vargas_definition(name):
    """z belongs exactly if the Perron root of |A off the diagonal| - diag |z - a_ii| is not
    negative.
    """
    A = MATRICES[name] / (MATRICES[name].abs().max() or 1)
    z = plane(A)[: 25 * 25]
    Q = A.abs().fill_diagonal_(0) - torch.diag_embed((z[:, None] - A.diagonal()).abs())
    root = torch.from_numpy(np.linalg.eigvals(Q.numpy()).real.max(1))
    # where Q is defective, the root itself is known to a few digits only
    sure = root.abs() > 1e-3 / len(A)
    assert torch.equal(MinimalGersgorin(A).contains(z, tol=0)[sure], root[sure] >= 0)


def test_the_numerical_range_of_normal_matrices_is_the_hull_of_the_spectrum():
    # a cycle: its eigenvalues are the fourth roots of 1
    square = torch.eye(4, dtype=torch.float64).roll(1, 0)
    around = NumericalRange(square)
    assert around.contains(torch.tensor([0.49 + 0.49j, 0.51 + 0.51j])).tolist() == [True, False]
    assert around.area() == pytest.approx(2, rel=1e-3)
    with pytest.raises(InvalidInputError, match="angles is 5: expected an even number"):
        NumericalRange(square, angles=5)


@for_each("key", INCLUSION_SETS)
def test_known_areas(key):
    A = torch.tensor([[0.0, 2.0], [0.5, 0.0]], dtype=torch.float64)
    ellipse = np.pi * 1.25 * 0.75  # foci +-1, minor axis sqrt(|A|_F^2 - 2)
    expected = dict.fromkeys(("gersgorin-row", "gersgorin-column"), 4 * np.pi) | {
        "numerical-range": ellipse
    }
    assert INCLUSION_SETS[key](A).area() == pytest.approx(expected.get(key, np.pi), rel=2e-3)


@pytest.mark.parametrize("key", INCLUSION_SETS)
@for_each("name", SMALL)
def test_the_outline_separates_inside_from_outside(name, key):
    A = MATRICES[name]
    region, scale = INCLUSION_SETS[key](A), float(gersgorin_discs(A).norm) or 1.0
    # a numerical range has a support line for each angle, also those of its outline
    points = 65 if key == "numerical-range" else 129
    outline = [curve / scale for curve in region.outline(points)]
    assert all(curve[0] == curve[-1] for curve in outline)
    assert outside_by(A.diagonal().numpy() / scale + 0j, outline).max() <= 1e-3
    z = plane(A)[: 25 * 25]
    inside, outside = (
        region.contains(z, tol=0).numpy(),
        ~region.contains(z, tol=1e-3 * scale).numpy(),
    )
    assert (outside_by(z[inside].numpy() / scale, outline) <= 1e-3).all()
    assert (outside_by(z[outside].numpy() / scale, outline) > 0).all()


@pytest.mark.parametrize("key", INCLUSION_SETS)
def test_a_batch_equals_its_matrices(key):
    A = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    z = torch.randn(2, 3, 40, dtype=torch.complex128) * 3
    tol = torch.rand(2, 3)
    batch = INCLUSION_SETS[key](A)
    inside, wide, shared = batch.contains(z), batch.contains(z, tol), batch.contains(z[0, 0])
    assert inside.any() and not inside.all()
    for i, j in np.ndindex(2, 3):
        one = INCLUSION_SETS[key](A[i, j])
        assert torch.equal(inside[i, j], one.contains(z[i, j]))
        assert torch.equal(wide[i, j], one.contains(z[i, j], tol[i, j]))
        assert torch.equal(shared[i, j], one.contains(z[0, 0]))


@for_each("axis", ["row", "column"])
def test_discs_contain_what_their_set_contains(axis):
    A, z = (
        torch.randn(2, 3, 5, 5, dtype=torch.float64),
        torch.randn(2, 3, 40, dtype=torch.complex128) * 3,
    )
    inside = gersgorin_discs(A, axis).contains(z)
    assert torch.equal(inside, INCLUSION_SETS[f"gersgorin-{axis}"](A).contains(z))
    assert inside.any()
    assert not inside.all()


@for_each("key", INCLUSION_SETS)
def test_refused_with_a_sentence(key):
    calls = {
        "NaN": lambda kind: kind(torch.full((2, 2), torch.nan)),
        r"got shape \(2, 3\)": lambda kind: kind(torch.zeros(2, 3)),
        r"batch \(4,": lambda kind: kind(torch.zeros(4, 2, 2)).outline(),
        "points: expected at least 3": lambda kind: kind(torch.eye(2)).outline(points=2),
    }
    calls["expected real matrices"] = lambda kind: kind(MATRICES["complex"])
    for message, call in calls.items():
        with pytest.raises(InvalidInputError, match=message):
            call(INCLUSION_SETS[key])
