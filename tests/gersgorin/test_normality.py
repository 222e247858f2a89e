"""How far matrices are from normal: pseudospectra against singular values, radii, departure and
growth against known ones.
"""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from matrices import MATRICES, REAL_MATRICES, grcar, jordan, square_matrices
from scipy.optimize import minimize_scalar
from tables import for_each, others_slow

from gersgorin.linalg import (
    departure_from_normality,
    eigenvalues,
    numerical_radius,
    pseudospectrum,
    singular_values,
    spectral_radius,
)
from gersgorin.linalg.inclusion import NumericalRange
from rhn.errors import InvalidInputError

rng = np.random.default_rng(11)
LARGER = {
    "gaussian": rng.standard_normal((70, 70)) / 8,
    "grcar": grcar(60),
    "jordan": jordan(30, 0.0),
    "normal": np.diag(np.linspace(-1, 1, 40)),
    "near_identity": 0.8 * np.eye(64) + 0.1 * rng.standard_normal((64, 64)) / 8,
}
# of tiny weights, normal or not
LARGER |= {f"tiny_{name}": 1e-8 * LARGER[name] for name in ("grcar", "jordan", "gaussian")}
CASES = REAL_MATRICES | {f"larger_{name}": torch.from_numpy(A) for name, A in LARGER.items()}
NORMAL = (
    "identity",
    "zero",
    "rotations",
    "permutation",
    "symmetric",
    "doubly_stochastic",
    "one_by_one",
)


def norm(A):
    return float(torch.linalg.matrix_norm(A, 2))


@for_each("name", [*CASES, "complex"])
def test_a_pseudospectrum_is_the_smallest_singular_value_at_every_point(name):
    matrix = (MATRICES | CASES)[name]
    A = matrix.numpy()
    x = 1.3 * (norm(matrix) or 1) * np.linspace(-1, 1, 12)
    z = np.concatenate([(x + 1j * x[:, None]).ravel(), np.linalg.eigvals(A), A.diagonal()])
    expected = [scipy.linalg.svdvals(point * np.eye(len(A)) - A)[-1] for point in z]
    rounding = 1e-15 * len(A) * norm(matrix)
    np.testing.assert_allclose(pseudospectrum(matrix, z), expected, rtol=1e-14, atol=rounding)


@given(A=square_matrices())
def test_random_pseudospectra_hold_the_spectrum_and_never_fall_faster_than_the_distance(A):
    """sigma_min(z - A) is 0 at eigenvalues, at most the distance to the nearest, and changes by at
    most |z - w|.
    """
    values, size = np.linalg.eigvals(A.numpy()), norm(A) or 1.0
    z = torch.as_tensor(np.append(size * np.exp(1j * np.arange(5)), values))
    found, rounding = pseudospectrum(A, z).numpy(), 1e-12 * size
    distances = np.abs(z.numpy()[:, None] - values).min(1)
    assert (found <= distances * (1 + 1e-6) + rounding).all()
    assert (
        np.abs(np.diff(found)) <= np.abs(np.diff(z.numpy())) + 1e-6 * found.max() + rounding
    ).all()


def test_a_grid_in_parts_has_the_same_values(monkeypatch):
    A, z = CASES["larger_near_identity"], torch.linspace(0, 2, 9)
    expected = pseudospectrum(A, z)
    monkeypatch.setattr(singular_values, "ENTRIES", 3 * A.numel())
    assert torch.equal(pseudospectrum(A, z), expected)


def test_shapes_batches_and_types_of_a_grid():
    A, z = torch.randn(2, 3, 4, 4), torch.randn(5, 6, dtype=torch.complex64)
    found = pseudospectrum(A, z)
    assert found.shape == (2, 3, 5, 6) and found.dtype == torch.float64
    assert torch.allclose(found[1, 2], pseudospectrum(A[1, 2].double(), z.numpy()))
    assert pseudospectrum(A, np.zeros((0, 3))).shape == (2, 3, 0, 3)


@pytest.mark.parametrize("n", others_slow([2, 7, 20, 60], 2, 7, 20))
def test_the_distance_to_the_circle_is_the_least_over_all_angles(n):
    """The reference: a bounded search around each low point of 300 angles and those of the
    eigenvalues.
    """
    G, turn = rng.standard_normal((n, n)) / n**0.5, np.linalg.qr(rng.standard_normal((n, n)))[0]
    similar = np.eye(n) + 2 * np.triu(G, 1)
    skewed = similar @ (0.999 * turn) @ np.linalg.inv(similar)
    for A in (
        0.999 * turn,
        (1 - 1e-5) * turn,
        0.9 * G,
        2 * G,
        skewed,
        0.98 * np.eye(n) + 0.05 * G,
        G + 1j * turn,
    ):
        angles = np.unique(
            np.append(np.linspace(-np.pi, np.pi, 300), np.angle(np.linalg.eigvals(A)))
        )

        def height(t, a, A=A):
            return scipy.linalg.svdvals(np.exp(1j * (a + t)) * np.eye(n) - A)[-1]

        values = np.array([height(0, a) for a in angles])
        least = values.min()
        low = values[1:-1] < values.min() + 0.01
        for before, a, after in np.lib.stride_tricks.sliding_window_view(angles, 3)[low]:
            sides = {"bounds": (before - a, after - a), "options": {"xatol": 1e-10}}
            least = min(least, minimize_scalar(height, args=(a,), **sides).fun)
        found = singular_values.distance_to_circle(torch.from_numpy(A))
        assert found == pytest.approx(least, rel=1e-6)


@for_each("name", CASES)
def test_the_numerical_radius_lies_between_half_the_norm_and_the_norm(name):
    A = CASES[name]
    found, size = float(numerical_radius(A)), norm(A)
    x = torch.randn(300, len(A), dtype=torch.complex128)
    quotients = torch.einsum("ki,ij,kj->k", x.conj(), A + 0j, x) / (x.conj() * x).sum(-1)
    assert size / 2 * (1 - 1e-12) <= found <= size
    assert found >= float(spectral_radius(A)) * (1 - 1e-9)
    assert found >= float(quotients.abs().max()) * (1 - 1e-12)
    if name in NORMAL:
        assert found == pytest.approx(float(spectral_radius(A)), abs=1e-12)


@pytest.mark.parametrize("n", [2, 3, 8, 20])
def test_the_range_of_a_jordan_block_is_a_disc_of_known_radius(n):
    block, radius = torch.from_numpy(jordan(n, 0.0)), math.cos(math.pi / (n + 1))
    assert (
        radius <= float(numerical_radius(block)) <= radius / math.cos(math.pi / 128) * (1 + 1e-12)
    )


@for_each("angles", [4, 6, 128])
def test_support_lines_of_a_real_matrix_are_those_of_every_angle(angles):
    A, turns = MATRICES["random"].numpy(), np.exp(-2j * np.pi * np.arange(angles) / angles)
    wanted = [np.linalg.eigvalsh((turn * A + (turn * A).conj().T) / 2)[-1] for turn in turns]
    np.testing.assert_allclose(NumericalRange(MATRICES["random"], angles).support, wanted)


@for_each("dtype", [torch.float32, torch.float64])
def test_henricis_departure_of_a_normal_matrix_is_0(dtype):
    """Diagonal matrices and rotations, whose departure is 0, and one that is not normal."""
    generator = torch.Generator().manual_seed(0)
    diagonals = torch.rand(200, 4, generator=generator, dtype=dtype).diag_embed()
    angles = 6 * torch.rand(200, generator=generator, dtype=dtype)
    rows = angles.cos(), angles.sin(), -angles.sin(), angles.cos()
    rotations = torch.stack(rows, -1).unflatten(-1, (2, 2))
    for A in (diagonals, rotations, 1e-20 * diagonals):
        assert not departure_from_normality(A).any()
    shear = torch.tensor([[1.0, 0.01], [0.0, 0.5]], dtype=dtype)
    assert float(departure_from_normality(shear)) == pytest.approx(0.01, rel=1e-2)


@for_each("name", CASES)
def test_henricis_departure_is_the_norm_above_schurs_diagonal(name):
    A = CASES[name]
    triangle, _ = scipy.linalg.schur(A.numpy() / (norm(A) or 1), output="complex")
    expected = np.linalg.norm(np.triu(triangle, 1)) * (norm(A) or 1)
    whole = float(torch.linalg.matrix_norm(A / (norm(A) or 1))) * (norm(A) or 1)
    assert float(departure_from_normality(A)) == pytest.approx(expected, abs=1e-6 * whole)
    assert float(departure_from_normality(A, relative=True)) == pytest.approx(
        expected / (whole or 1), abs=1e-6
    )
    assert name not in NORMAL or float(departure_from_normality(A, relative=True)) < 1e-6


def test_a_grid_beyond_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr("rhn.utils.validation.free_memory", lambda device: 2**20)
    message = r"a matrix of 2 and 1 points needs about .* use fewer points"
    with pytest.raises(InvalidInputError, match=message):
        pseudospectrum(torch.eye(2), 0j)


@pytest.mark.parametrize("power", [-1060, -500, 500, 1020])
def test_the_numerical_radius_scales_with_the_matrix(power):
    """Scaling by a power of two is exact; a square of such numbers overflows or underflows."""
    A = torch.tensor([[0.0, 2.0], [0.0, 0.0]], dtype=torch.float64)
    found = numerical_radius(torch.ldexp(A, torch.tensor(power)))
    assert found == pytest.approx(np.ldexp(numerical_radius(A).item(), power), rel=1e-3)
    assert numerical_radius(torch.eye(2).double() * 1e308) == pytest.approx(1e308)


def test_eigenvalues_in_single_precision_are_eigenvalues():
    A = torch.randn(3, 6, 6).double()
    given = departure_from_normality(A, eigenvalues(A.float()))
    assert torch.allclose(given, departure_from_normality(A), atol=1e-3)
