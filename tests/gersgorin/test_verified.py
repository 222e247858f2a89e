"""Verified eigenvalues and discs: against exact spectra, 80 digits, exact fractions; both ways that find them."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import MATRICES, REAL_MATRICES, grcar, square_matrices
from tables import for_each

from gersgorin.analyses.enclosures import of_run
from gersgorin.cell_run import CellRun
from gersgorin.linalg.enclosures import VerifiedEigenvalues, has_flint, verified_discs, verified_eigenvalues
from rhn.cells import RNN
from rhn.errors import InvalidInputError

needs_flint = pytest.mark.skipif(not has_flint(), reason="python-flint is not installed")
METHODS = ["float64", pytest.param("flint", marks=needs_flint)]


def frank(n):
    i, j = np.indices((n, n))
    return np.where(j >= i - 1, n - np.maximum(i, j), 0).astype(float)


def kahan(n, angle=1.2):
    s, c = np.sin(angle), np.cos(angle)
    return np.diag(s ** np.arange(n)) @ (np.eye(n) - c * np.triu(np.ones((n, n)), 1))


HARD = {
    "grcar": grcar(16),
    "frank": frank(12),
    "kahan": kahan(14),
    "kahan_transposed": kahan(14).T,
    "companion": scipy.linalg.companion(np.poly(np.arange(1, 11))),
    "companion_of_unity": scipy.linalg.companion([1, *[0] * 11, -1]),
    "random": MATRICES["random"].numpy()[:12, :12],
    "complex": MATRICES["complex"].numpy(),
    "badly_scaled": MATRICES["badly_scaled"].numpy(),
}


def true_eigenvalues(A):
    """To 80 digits."""
    mp = pytest.importorskip("mpmath", reason="mpmath is not installed: nothing to check against").mp.clone()
    mp.dps = 80
    return [mp.mpc(value) for value in mp.eig(mp.matrix(A.tolist()), left=False, right=False)]


def assert_holds(found, eigenvalues, error=1e-30):
    """Each connected set of k discs holds exactly k eigenvalues, known up to an error (relative to the largest)."""
    largest = max([abs(value) for value in eigenvalues] + [0])
    held = [
        [abs(value - complex(c)) <= float(r) + error * largest for c, r in zip(found.centers, found.radii, strict=True)]
        for value in eigenvalues
    ]
    for component in range(found.component.max() + 1):
        members = found.component == component
        count = sum(any(inside for inside, of_it in zip(row, members, strict=True) if of_it) for row in held)
        assert count == members.sum(), f"set {component} of {members.sum()} discs holds {count} eigenvalues"


@pytest.mark.parametrize("method", METHODS)
@for_each("name", HARD)
def test_hard_matrices_against_eighty_digits(name, method):
    found = verified_eigenvalues(HARD[name], method=method)
    assert_holds(found, true_eigenvalues(HARD[name]))
    assert found.radii.max() < 1e-4 * np.abs(HARD[name]).max() and (found.clusters == 1).all()
    if method == "flint":
        assert found.radii.max() < 1e-6 * np.abs(HARD[name]).max()


def integer_matrices():
    """(S^-1 T S, eigenvalues): exact in float64, with Jordan blocks and repeated values."""

    @st.composite
    def build(draw):
        n = draw(st.integers(1, 6))
        values = draw(st.lists(st.integers(-3, 3), min_size=n, max_size=n))
        T = np.diag(values).astype(object)
        for i in range(n - 1):
            T[i, i + 1] = draw(st.integers(-2, 2))
        for _ in range(draw(st.integers(0, 8)) if n > 1 else 0):
            i, j, k = draw(st.integers(0, n - 1)), draw(st.integers(0, n - 1)), draw(st.integers(-2, 2))
            if i != j:  # by elementary matrices I + k e_i e_j', whose inverse is I - k e_i e_j'
                T[i] = T[i] + k * T[j]
                T[:, j] = T[:, j] - k * T[:, i]
        return T.astype(float), values

    return build()


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=150)
@given(integer_matrices())
def test_known_spectra_even_of_defective_matrices(method, matrix):
    A, values = matrix
    found = verified_eigenvalues(A, method=method)
    assert_holds(found, [Fraction(value) for value in values], error=0)
    if method == "float64":
        assert np.isfinite(found.radii).all()


@pytest.mark.parametrize("off", [0.0, 1e-3], ids=["LAPACK's", "poor"])
def test_any_eigenvectors_and_inverse_give_true_discs(off, monkeypatch):
    """Poor ones show what a residual and an inverse cost; good ones of two by two matrices often leave a residual of zero, computed."""
    inverse, eigen = np.linalg.inv, np.linalg.eig
    monkeypatch.setattr(np.linalg, "inv", lambda X: (1 - 400 * off) * inverse(X))
    monkeypatch.setattr(np.linalg, "eig", lambda A: (eigen(A)[0] + off, eigen(A)[1]))
    mp = pytest.importorskip("mpmath", reason="mpmath is not installed: nothing to check against").mp.clone()
    mp.dps = 60
    rng = np.random.default_rng(4)
    for A in np.round(rng.standard_normal((400, 2, 2)), 1):
        (a, b), (c, d) = [[mp.mpf(value) for value in row] for row in A.tolist()]
        root = mp.sqrt(mp.mpc((a - d) ** 2 + 4 * b * c))
        assert_holds(verified_eigenvalues(A, method="float64"), [(a + d + root) / 2, (a + d - root) / 2])


@for_each("name", MATRICES)
def test_what_numpy_computes_lies_nearby(name):
    A = MATRICES[name].numpy()
    found = verified_eigenvalues(A)
    computed = np.linalg.eigvals(A)
    slack = 1e-3 * np.abs(A).max()  # of NumPy's own error, of Jordan blocks
    distance = np.abs(computed[:, None] - found.centers) - found.radii
    assert (distance.min(1) <= slack).all() and len(found.centers) == len(A)
    assert found.clusters.sum() == sum(k * k for k in np.bincount(found.component))


def test_a_jordan_block_is_one_cluster_and_no_false_precision():
    A = REAL_MATRICES["jordan_of_rotations"].numpy()
    found = verified_eigenvalues(A, method="float64")
    assert_holds(found, [1j] * 4 + [-1j] * 4, error=0)
    assert (found.clusters >= 4).all()


def test_entries_beyond_each_other_s_range():
    found = verified_eigenvalues(np.array([[1e300, 1.0], [0.0, 1e-300]]), method="float64")
    assert_holds(found, [Fraction(1e300), Fraction(1e-300)], error=0)


def test_inside_and_outside_the_unit_circle():
    inside, outside = verified_eigenvalues(0.999 * np.eye(4)), verified_eigenvalues(np.diag([0.5, 1.001, -2.0]))
    assert inside.none_outside and inside.outside == 0
    assert not outside.none_outside and outside.outside == 2
    across = {"centers": np.array([0.9 + 0j, 1.2]), "radii": np.array([0.2, 0.15]), "component": np.array([0, 0])}
    assert VerifiedEigenvalues(**across, method="float64").outside == 0  # both eigenvalues may be in the first disc
    on_it = verified_eigenvalues(MATRICES["rotations"], method="float64")
    assert not on_it.none_outside and on_it.outside == 0  # rounding leaves it open


@settings(max_examples=100)
@given(square_matrices(6), st.sampled_from(["row", "column"]))
def test_discs_are_rounded_outwards_and_by_little(A, axis):
    discs = verified_discs(A, axis)
    exact = [[Fraction(abs(value)) for value in row] for row in (A if axis == "row" else A.T).tolist()]
    for i, row in enumerate(exact):
        radius = sum(row) - row[i]
        assert Fraction(discs.radii[i].item()) >= radius and discs.centers[i] == A[i, i]
        assert discs.radii[i].item() <= float(radius) * (1 + 1e-14) + 1e-300


def test_along_a_run():
    x = torch.rand(7, 5, dtype=torch.float64)
    small, large = (RNN(5, 9, init=f"gaussian:{scale}", dtype=torch.float64) for scale in (0.1, 3.0))
    found = of_run(CellRun(small, x))
    assert found.none_outside.all() and "no eigenvalue outside the unit circle at all 7 steps" in found.summary()
    large = of_run(CellRun(large, 0 * x))  # tanh' = 1: the weights themselves
    assert (large.outside > 0).all() and "an eigenvalue outside the unit circle at all 7" in large.summary()
    mixed = type(found)(
        outside=np.array([0, 2, 0]),
        none_outside=np.array([True, False, False]),
        radius=np.array([1e-9, 1, 1]),
        cluster=np.array([1, 1, 3]),
    )
    assert (
        "of 3 steps 1 have an eigenvalue outside the unit circle and 1 have none, and 1 are left open"
        in mixed.summary()
    )
    assert mixed.to_dict()["largest_cluster"] == 3


@pytest.mark.parametrize(
    ("A", "words"),
    [
        (np.zeros((2, 3)), "expected square matrices"),
        (np.zeros((2, 2, 2)), r"expected one matrix \(n, n\), got shape \(2, 2, 2\)"),
        (np.full((2, 2), np.nan), "NaN or infinite"),
        ([["a"]], "expected a matrix of numbers"),
        ("text", "expected a matrix of numbers"),
        (np.zeros((0, 0)), "n >= 1"),
    ],
    ids=["not square", "several", "nan", "words", "text", "empty"],
)
def test_refused_with_a_sentence(A, words):
    with pytest.raises(InvalidInputError, match=words):
        verified_eigenvalues(A)


def test_unknown_and_missing_methods_are_refused(monkeypatch):
    with pytest.raises(InvalidInputError, match="unknown method 'exact': expected one of float64, flint"):
        verified_eigenvalues(np.eye(2), method="exact")
    monkeypatch.setattr("gersgorin.linalg.enclosures.has_flint", lambda: False)
    with pytest.raises(InvalidInputError, match="python-flint is not installed"):
        verified_eigenvalues(np.eye(2), method="flint")
