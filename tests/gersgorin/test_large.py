"""Large states: products with vectors give the numbers of whole Jacobians and LAPACK, within the memory limit."""

import math

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from allocations import Allocations
from cases import SHALLOW_CASES, inputs
from tables import for_each

from gersgorin import eigenvalues, gersgorin_discs, temporal_jacobian, trajectory
from gersgorin.linalg import cumulative_log_norms
from gersgorin.operators import (
    ROW_COPIES,
    StepJacobian,
    discs_by_blocks,
    largest_singular_value,
    leading_eigenvalues,
    product_log_norms,
    products_along,
    streamed_log_norms,
)
from rhn.cells import LSTM, RHN, RNN
from rhn.errors import InvalidInputError, NotConvergedError

d = torch.float64


def of(n, seed=0):
    return torch.randn(n, n, dtype=d, generator=torch.Generator().manual_seed(seed)) / n**0.5


def linear(A):
    return (lambda x, s: A @ s), torch.zeros(1, dtype=A.dtype), torch.zeros(len(A), dtype=A.dtype)


def one_step(cell, seed=1):
    x, s = inputs(cell, seed=seed)
    return cell, x, s


def small(kind, n, depth=1):
    return one_step(kind(4, n, depth, init="gaussian:0.1", dtype=d, generator=torch.Generator().manual_seed(2)))


@for_each("case", SHALLOW_CASES)
def test_products_with_every_cells_jacobian(case):
    cell, x, s = one_step(case.build())
    dense, A = temporal_jacobian(cell, x, s).detach(), StepJacobian(cell, x, s)
    v, w = (torch.randn(len(s), dtype=d, generator=torch.Generator().manual_seed(i)) for i in (3, 4))
    torch.testing.assert_close(A.forward(v), dense @ v)
    torch.testing.assert_close(A.backward(w), dense.T @ w)
    torch.testing.assert_close(A.rows(torch.eye(len(s), dtype=d)), dense)


@pytest.mark.parametrize("limit", [None, 1.9], ids=["written", "vectors"])
@pytest.mark.parametrize(("kind", "n", "depth"), [(RNN, 200, 1), (RHN, 200, 3), (LSTM, 100, 1)])
def test_leading_eigenvalues_are_lapacks(kind, n, depth, limit):
    """By a matrix if two of them fit the memory, by vectors only if not."""
    cell, x, s = small(kind, n, depth)
    wanted = eigenvalues(temporal_jacobian(cell, x, s))
    for k in (1, 7, 8):  # 7 and 8: one of them parts two conjugates
        with Allocations() as allocated:
            found = leading_eigenvalues(cell, x, s, k, memory_limit=limit and limit * s.nbytes * len(s))
        torch.testing.assert_close(found, wanted[:k], rtol=0, atol=1e-9)
        assert (allocated.largest < s.nbytes * len(s)) == (limit is not None)


@pytest.mark.parametrize(("kind", "n", "depth"), [(RNN, 90, 1), (RHN, 40, 3), (LSTM, 50, 1)])
def test_nearly_all_eigenvalues(kind, n, depth):
    cell, x, s = small(kind, n, depth)
    wanted = eigenvalues(temporal_jacobian(cell, x, s))
    for k in (len(s) - 3, len(s) - 2, len(s)):
        torch.testing.assert_close(leading_eigenvalues(cell, x, s, k), wanted[:k], rtol=0, atol=1e-9)


def test_the_seed_decides_the_bits_and_not_the_values():
    cell, x, s = small(RNN, 90)
    first, again, other = (leading_eigenvalues(cell.step, x, s, 5, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    torch.testing.assert_close(first, other)


def test_a_closed_gate_and_a_dead_step():
    n = 30
    closed = leading_eigenvalues(*linear(torch.eye(n, dtype=d)), 4)
    torch.testing.assert_close(closed, torch.ones(4, dtype=torch.complex128))
    dead = lambda x, s: torch.zeros_like(s) * s  # noqa: E731
    assert not leading_eigenvalues(dead, torch.zeros(1), torch.ones(n), 4).any()
    assert not discs_by_blocks(dead, torch.zeros(1), torch.ones(n)).radii.any()


def test_what_does_not_converge_is_told_with_what_did():
    with pytest.raises(
        NotConvergedError, match=r"^\d+ of the 21 eigenvalues sought were found in 3 restarts"
    ) as caught:
        leading_eigenvalues(*linear(of(400)), 20, restarts=3)
    found, all_of_them = caught.value.found, eigenvalues(of(400))
    assert len(found) < 21
    assert all((all_of_them - value).abs().min() < 1e-8 for value in found)


@pytest.mark.parametrize(("axis", "rows"), [("row", 1), ("column", 7), ("row", 64), ("column", 1000)])
def test_discs_by_blocks_are_those_of_the_matrix_within_the_bound(axis, rows):
    cell, x, s = small(RHN, 120, 2)
    bound = rows * ROW_COPIES * s.nbytes
    wanted = gersgorin_discs(temporal_jacobian(cell, x, s).detach(), axis)
    with Allocations() as allocated:
        found = discs_by_blocks(cell, x, s, axis, memory_limit=bound)
    torch.testing.assert_close(found.centers, wanted.centers)
    torch.testing.assert_close(found.radii, wanted.radii)
    assert allocated.largest <= bound


def test_no_radius_is_lost_near_closed_gates():
    A = torch.eye(20, dtype=d) + 1e-20 * torch.ones(20, 20, dtype=d).triu(1)
    assert torch.equal(discs_by_blocks(*linear(A)).radii, gersgorin_discs(A).radii)


@for_each(("n", "T", "gain"), [(1, 5, 2.0), (2, 200, 1e4), (23, 40, 0.7), (40, 15, 1e-6)])
def test_norms_of_products_are_those_of_whole_jacobians(n, T, gain):
    A = torch.stack([gain * of(n, seed) for seed in range(T)])
    steps = [(lambda v, M=M: M @ v, lambda u, M=M: M.T @ u) for M in A]
    found = torch.tensor([*product_log_norms(steps.__getitem__, T, A[0, 0])], dtype=d)
    torch.testing.assert_close(found, cumulative_log_norms(A), rtol=0, atol=1e-9)
    steps[T // 2] = (torch.zeros_like, torch.zeros_like)
    found = torch.tensor([*product_log_norms(steps.__getitem__, T, A[0, 0])])
    assert torch.isfinite(found).sum() == T // 2 and (found[T // 2 :] == -math.inf).all()


def test_along_a_run_of_a_cell():
    cell, x = RHN(4, 30, 2, init="gaussian:0.3", dtype=d, generator=torch.Generator().manual_seed(2)), torch.rand(12, 4)
    states = trajectory(cell, x.double())
    wanted = cumulative_log_norms(temporal_jacobian(cell, x.double(), states[:-1]).detach())
    torch.testing.assert_close(streamed_log_norms(cell, x.double()), wanted, rtol=0, atol=1e-9)


def test_a_run_that_does_not_fit_the_block_of_kept_steps(monkeypatch):
    cell, x = RNN(4, 12, init="gaussian:0.4", dtype=d, generator=torch.Generator().manual_seed(2)), torch.rand(9, 4)
    wanted = streamed_log_norms(cell, x.double())
    monkeypatch.setattr("gersgorin.operators.BLOCK_BYTES", 1)
    assert products_along(cell, x.double(), trajectory(cell, x.double())).cache_parameters()["maxsize"] == 1
    assert torch.equal(streamed_log_norms(cell, x.double()), wanted)


@for_each("dtype", [torch.float32, d])
@for_each("scale", [1e-30, 1.0, 1e30])
@for_each("n", [1, 2, 7, 300])
def test_norms_are_lapacks(n, scale, dtype):
    """Scales whose squares no float32 holds."""
    A = (scale * of(n)).to(dtype)
    found, u = largest_singular_value(lambda v: A @ v, lambda u: A.T @ u, A[0])
    wanted = float(torch.linalg.matrix_norm(A.double(), 2))
    assert found == pytest.approx(wanted, rel=1e-10 if dtype == d else 2e-6)
    assert float((A.T @ u).double().norm()) == pytest.approx(wanted, rel=1e-3) and float(u.norm()) == pytest.approx(1)


def test_a_norm_that_does_not_converge_has_a_lower_bound():
    A = of(200)
    with pytest.raises(NotConvergedError, match="did not converge in 1 restarts") as caught:
        largest_singular_value(lambda v: A @ v, lambda u: A.T @ u, A[0], restarts=1)
    assert 0 < caught.value.found <= np.linalg.norm(A, 2)


def test_a_highway_of_830_units():
    cell, x, s = one_step(RHN(4, 830, 2, dtype=d, generator=torch.Generator().manual_seed(0)))
    A = temporal_jacobian(cell, x, s).detach()
    found = leading_eigenvalues(cell, x, s, 3, tol=1e-9)
    wanted = scipy.sparse.linalg.eigs(A.numpy(), 12, ncv=60, v0=np.ones(830), return_eigenvectors=False)
    np.testing.assert_allclose(found.abs(), np.sort(np.abs(wanted))[::-1][:3], rtol=1e-7)
    torch.testing.assert_close(discs_by_blocks(cell, x, s, memory_limit=4e6).radii, gersgorin_discs(A).radii)


class Reservoir(torch.nn.Module):
    """A leaky echo state network with a sparse recurrent matrix, of which a few units keep their state."""

    def __init__(self, n, each, leak):
        super().__init__()
        rng = np.random.default_rng(0)
        places = np.repeat(np.arange(n), each), rng.integers(n, size=n * each)
        held = np.r_[np.linspace(1.6, 1.0, 16), np.zeros(n - 16)]
        self.matrix = scipy.sparse.csr_array((rng.normal(0, 0.4 / each**0.5, n * each), places), shape=(n, n))
        self.matrix = (self.matrix + scipy.sparse.diags_array(held)).tocsr()
        parts = map(torch.from_numpy, (self.matrix.indptr, self.matrix.indices, self.matrix.data))
        self.R = torch.sparse_csr_tensor(*parts, (n, n), check_invariants=True)
        self.state_size, self.leak = n, leak

    def step(self, x, s):
        return (1 - self.leak) * s + self.leak * torch.tanh(x + (self.R @ s.unsqueeze(-1)).squeeze(-1))


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_a_sparse_reservoir_of_ten_thousand_units():
    n, k = 10_000, 10
    cell, x, s = Reservoir(n, 10, 0.4), torch.zeros(n, dtype=d), torch.full((n,), 0.1, dtype=d)
    slope = cell.leak * (1 - np.tanh(cell.matrix @ s.numpy()) ** 2)
    A = (1 - cell.leak) * scipy.sparse.eye_array(n) + scipy.sparse.diags_array(slope) @ cell.matrix
    wanted = scipy.sparse.linalg.eigs(A.tocsr(), k + 1, v0=np.ones(n), return_eigenvectors=False)
    with Allocations() as allocated:
        found = leading_eigenvalues(cell, x, s, k, memory_limit=50e6)
    np.testing.assert_allclose(found, wanted[np.argsort(-np.abs(wanted))][:k], rtol=1e-9)
    assert allocated.largest <= 8 * 12 * n


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_rows_of_a_sparse_step_whose_products_cannot_be_batched():
    cell, x, s = Reservoir(50, 5, 0.4), torch.zeros(50, dtype=d), torch.full((50,), 0.1, dtype=d)
    slope = cell.leak * (1 - np.tanh(cell.matrix @ s.numpy()) ** 2)
    dense = torch.from_numpy(0.6 * np.eye(50) + slope[:, None] * cell.matrix.toarray())
    torch.testing.assert_close(discs_by_blocks(cell, x, s).radii, gersgorin_discs(dense).radii)


class Once(torch.autograd.Function):
    """A user's operation that has no second derivative."""

    @staticmethod
    def forward(context, s):
        return 2 * s

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context, w):
        return 2 * w


V, X = torch.ones(20, dtype=d), torch.ones(1, dtype=d)


@for_each(
    ("call", "words"),
    [
        (lambda: leading_eigenvalues(*linear(of(20)), 21), "k is 21: expected how many of the 20 eigenvalues"),
        (lambda: leading_eigenvalues(*linear(of(20)), 2.5), "k is 2.5: expected"),
        (
            lambda: leading_eigenvalues(lambda x, s: s, X, V * math.nan),
            "s is torch.float64 of shape .20,.: expected a finite",
        ),
        (lambda: leading_eigenvalues(lambda x, s: s[:3], X, V), "must return one state of 20 entries"),
        (lambda: leading_eigenvalues(lambda x, s: s.detach() + 1, X, V), "gives no gradient to its state"),
        (lambda: leading_eigenvalues(lambda x, s: Once.apply(s), X, V, 3), "is not differentiable twice"),
        (lambda: leading_eigenvalues(lambda x, s: (s - 1).sqrt(), X, V, 3), "the Jacobian is NaN or infinite"),
        (lambda: leading_eigenvalues(*linear(of(20)), 3, memory_limit=-1), "memory_limit is -1: expected a number"),
        (
            lambda: leading_eigenvalues(*linear(of(20)), 3, memory_limit=99),
            "Arnoldi's basis for 3 eigenvalues needs about",
        ),
        (lambda: discs_by_blocks(*linear(of(20)), "rows"), "axis: expected 'row' or 'column', got 'rows'"),
        (lambda: discs_by_blocks(*linear(of(20)), memory_limit=99), "one row of a Jacobian of 20 entries needs"),
        (
            lambda: streamed_log_norms(lambda x, s: s * 1e200, X.expand(9, 1), V),
            "a state of the run is NaN or infinite",
        ),
    ],
)
def test_what_cannot_be_done_is_one_sentence(call, words):
    with pytest.raises(InvalidInputError, match=words):
        call()
