"""Eigenvalues: NumPy and SciPy as references, order, batches, threads, and what is refused."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from matrices import MATRICES, square_matrices
from rounding import assert_within
from scipy.optimize import linear_sum_assignment
from tables import for_each

from gersgorin.linalg.spectrum import eigenvalue_conditions, eigenvalues, spectral_radius
from rhn.errors import InvalidInputError

DEFECTIVE = {"jordan_of_rotations"}  # blocks of 4: rounding moves eigenvalues by eps^(1/4) = 1e-4


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """The largest distance in the pairing of two spectra that has the least sum of distances."""
    distances = np.abs(a[:, None] - b)
    return distances[linear_sum_assignment(distances)].max()


@for_each("name", MATRICES)
def test_eigenvalues_are_those_of_numpy(name):
    A = MATRICES[name]
    tolerance = (1e-3 if name in DEFECTIVE else 1e-11) * A.abs().max().item()
    assert_within(
        distance(eigenvalues(A).numpy(), np.linalg.eigvals(A.numpy())), tolerance, "eigenvalues"
    )


@given(square_matrices())
def test_sorted_by_modulus_then_real_then_imaginary_part_with_the_trace_as_sum(A):
    values = eigenvalues(A)
    keys = [(abs(v), v.real, v.imag) for v in values.numpy()]
    assert keys == sorted(keys, reverse=True)
    assert_within(
        abs(values.sum() - A.trace()).item(), 1e-13 * len(A) * A.abs().sum().item(), "trace"
    )
    assert spectral_radius(A) == values.abs().max()


@given(st.lists(st.integers(0, 4), max_size=3), st.integers(1, 6))
def test_a_batch_equals_its_matrices(batch, n):
    A = torch.randn(*batch, n, n)
    values = eigenvalues(A)
    assert values.shape == (*batch, n)
    assert all(torch.equal(values[index], eigenvalues(A[index])) for index in np.ndindex(*batch))


def test_any_number_of_workers_gives_the_same_bits():
    A = torch.randn(37, 12, 12)
    default = eigenvalues(A)
    for workers in (1, 2, 3, 64):
        assert torch.equal(eigenvalues(A, workers=workers), default)


@for_each("name", ["random", "companion", "stochastic", "badly_scaled", "symmetric", "complex"])
def test_conditions_are_those_of_scipys_left_and_right_eigenvectors(name):
    A = MATRICES[name]
    values, conditions = eigenvalue_conditions(A)
    assert torch.equal(values, eigenvalues(A))
    found, left, right = scipy.linalg.eig(A.numpy(), left=True)  # columns of norm 1
    nearest = np.abs(values.numpy()[:, None] - found).argmin(1)
    np.testing.assert_allclose(
        conditions, 1 / np.abs((left.conj() * right).sum(0))[nearest], rtol=1e-6
    )


@for_each(
    ("name", "A"),
    (
        ("nilpotent", MATRICES["nilpotent"]),
        ("a Jordan block", torch.eye(6, dtype=torch.float64) / 2 + torch.ones(5).double().diag(1)),
        ("a Jordan block up to rounding", torch.tensor([[0, 1], [0, 1e-17]]).double()),
    ),
)
def test_the_condition_of_a_defective_matrix_is_infinite(name, A):
    """SciPy finds fewer eigenvectors than rows, up to rounding."""
    vectors = scipy.linalg.eig(A.numpy())[1]
    assert np.linalg.matrix_rank(vectors, tol=1e-15) < len(A)
    assert eigenvalue_conditions(A)[1].isinf().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128])
@pytest.mark.parametrize("above", [100, 2, 1, 0.5, 0.1, 1e-3])
@pytest.mark.parametrize("value", [1, 0.9, 0.3, 0])
def test_the_condition_of_every_jordan_block_is_infinite(value, above, dtype):
    A = torch.tensor([[value, above, 0], [0, value, 0], [0, 0, 2 * value]], dtype=dtype)
    for block in (A[:2, :2], A[:2, :2].T, A):
        values, conditions = eigenvalue_conditions(block.contiguous())
        assert conditions[values.abs() < 1.5 * value].isinf().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_eigenvalue_that_occurs_twice_with_two_eigenvectors_has_a_finite_condition(dtype):
    """In closed form: all conditions of the identity are 1, and that of 2 is the length of the row
    (5, 7, 1).
    """
    assert (eigenvalue_conditions(torch.eye(5, dtype=dtype))[1] == 1).all()
    A = torch.tensor([[1, 0, 5], [0, 1, 7], [0, 0, 2]], dtype=dtype)
    conditions = eigenvalue_conditions(A)[1]
    assert conditions[0].item() == pytest.approx(75**0.5) and conditions.isfinite().all()


@pytest.mark.parametrize("gap", [1e-3, 1e-10])
def test_the_condition_of_two_near_eigenvalues_is_finite(gap):
    """In closed form: sqrt(1 + 1 / gap^2)."""
    found = eigenvalue_conditions(torch.tensor([[0, 1], [0, gap]]).double())[1]
    np.testing.assert_allclose(found, math.hypot(1, 1 / gap), rtol=1e-5)


@pytest.mark.gpu
def test_a_gpu_batch_comes_back_to_the_gpu():
    A = torch.randn(4, 6, 6, device="cuda")
    values = eigenvalues(A)
    assert values.is_cuda and torch.equal(values.cpu(), eigenvalues(A.cpu()))


def three_groups(units: int = 63) -> torch.Tensor:
    """Rank 3, sixty eigenvalues 0 and three 1.5: torch's LAPACK gives up on it."""
    signs = torch.randint(2, (units,), generator=torch.Generator().manual_seed(0)).double() * 2 - 1
    group = torch.arange(units).remainder(3)
    return 1.5 * signs[:, None] * signs * (group[:, None] == group) / (units / 3)


@pytest.mark.parametrize(
    "function", [eigenvalues, lambda A: eigenvalue_conditions(A)[0]], ids=["values", "conditions"]
)
def test_where_one_lapack_gives_up_the_other_is_asked(function, monkeypatch):
    A = three_groups().expand(2, -1, -1)
    torch.testing.assert_close(
        function(A)[:, :3].real, torch.full((2, 3), 1.5, dtype=torch.float64)
    )
    assert function(A.float()).dtype == torch.complex64

    def gives_up(*_):
        raise np.linalg.LinAlgError

    def fails(*_):
        raise torch.linalg.LinAlgError

    for name in ("eig", "eigvals"):
        monkeypatch.setattr(torch.linalg, name, fails)
    assert function(A).dtype == torch.complex128 and function(A.float()).dtype == torch.complex64
    torch.testing.assert_close(
        function(A)[:, :3].real, torch.full((2, 3), 1.5, dtype=torch.float64)
    )
    # of real eigenvalues NumPy gives real numbers
    assert function(torch.eye(2)).dtype == torch.complex64
    for name in ("eig", "eigvals"):
        monkeypatch.setattr(np.linalg, name, gives_up)
    with pytest.raises(InvalidInputError, match="did not converge"):
        function(A)
