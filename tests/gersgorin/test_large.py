"""Large states: products with vectors give the numbers of whole Jacobians and LAPACK, within the
memory limit.

And `gersgorin plot --leading`, with eigenvalues that did not converge.
"""

import json
import math
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import torch
from allocations import Allocations
from cases import SHALLOW_CASES, inputs
from tables import for_each

from gersgorin import eigenvalues, gersgorin_discs, temporal_jacobian
from gersgorin.analyses.spectra import Spectra, spectra
from gersgorin.cli.analysis import main
from gersgorin.figures import draw_run, plot_crowd
from gersgorin.linalg import cumulative_log_norms
from gersgorin.run import operators
from gersgorin.run.cell import as_cell
from gersgorin.run.operators import ROW_COPIES, StepOperator, log_norms
from gersgorin.run.run import Run
from rhn.cells import LSTM, RHN, RNN
from rhn.errors import InvalidInputError, NotConvergedError
from tests.readable import whole_title

d = torch.float64


def of(n, seed=0):
    return torch.randn(n, n, dtype=d, generator=torch.Generator().manual_seed(seed)) / n**0.5


def operator(cell, x=None, s=None, seed=1):
    """The Jacobian of a step of a cell."""
    x, s = inputs(cell, seed=seed) if x is None else (x, s)
    return StepOperator.of_step(as_cell(cell), x, s)


def linear(A):
    return operator(
        lambda x, s: A @ s, torch.zeros(1, dtype=A.dtype), torch.zeros(len(A), dtype=A.dtype)
    )


def small(kind, n, depth=1):
    return kind(
        4, n, depth, init="gaussian:0.1", dtype=d, generator=torch.Generator().manual_seed(2)
    )


@pytest.fixture
def by_vectors(monkeypatch):
    """No Jacobian fits."""
    monkeypatch.setattr(operators, "WRITTEN", math.inf)


@for_each("case", SHALLOW_CASES)
def test_products_with_every_cells_jacobian(case, by_vectors):
    cell = case.build()
    x, s = inputs(cell, seed=1)
    dense, A = temporal_jacobian(cell, x, s).detach(), operator(cell)
    v, w = (
        torch.randn(len(s), dtype=d, generator=torch.Generator().manual_seed(i)) for i in (3, 4)
    )
    torch.testing.assert_close(A.forward(v), dense @ v)
    torch.testing.assert_close(A.backward(w), dense.T @ w)
    torch.testing.assert_close(torch.cat([rows for _, rows in A.blocks()]), dense)
    np.testing.assert_allclose(A.T @ w.numpy(), (dense.T @ w).numpy(), atol=1e-12)  # as SciPy's own


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize(("kind", "n", "depth"), [(RNN, 200, 1), (RHN, 200, 3), (LSTM, 100, 1)])
def test_leading_eigenvalues_are_lapacks(kind, n, depth, written, monkeypatch):
    cell = small(kind, n, depth)
    x, s = inputs(cell, seed=1)
    wanted = eigenvalues(temporal_jacobian(cell, x, s))
    if not written:
        monkeypatch.setattr(operators, "LIMIT", 1.9 * s.nbytes * len(s))
    for k in (1, 7, 8):  # 7 and 8: one of them parts two conjugates
        with Allocations() as allocated:
            found = operator(cell).eigenvalues(k)
        torch.testing.assert_close(found, wanted[:k], rtol=0, atol=1e-9)
        assert (allocated.largest < s.nbytes * len(s)) == (not written)


def test_a_closed_gate_and_a_dead_step(by_vectors):
    torch.testing.assert_close(
        linear(torch.eye(30, dtype=d)).eigenvalues(4), torch.ones(4, dtype=torch.complex128)
    )
    dead = operator(lambda x, s: torch.zeros_like(s) * s, torch.zeros(1), torch.ones(30))
    assert not dead.eigenvalues(4).any() and not dead.discs()[0].radii.any()


def test_what_does_not_converge_is_told_with_what_did(by_vectors):
    with pytest.raises(
        NotConvergedError, match=r"^\d+ of the 21 eigenvalues sought were found in 3 restarts"
    ) as error:
        linear(of(400)).eigenvalues(20, restarts=3)
    all_of_them = eigenvalues(of(400))
    assert len(error.value.found) < 21
    assert all((all_of_them - value).abs().min() < 1e-8 for value in error.value.found)
    with pytest.raises(NotConvergedError, match="did not converge in 1 restarts") as caught:
        linear(of(200)).norm(restarts=1)
    assert 0 < caught.value.found <= np.linalg.norm(of(200), 2)


@pytest.mark.parametrize("rows", [7, 1000])
def test_discs_are_those_of_the_matrix_within_the_bound(rows, monkeypatch, by_vectors):
    cell = small(RHN, 120, 2)
    x, s = inputs(cell, seed=1)
    A = temporal_jacobian(cell, x, s).detach()
    monkeypatch.setattr(operators, "BLOCK_BYTES", rows * ROW_COPIES * s.nbytes)
    with Allocations() as allocated:
        found = operator(cell).discs()
    for discs, wanted in zip(
        found, (gersgorin_discs(A), gersgorin_discs(A, "column")), strict=True
    ):
        torch.testing.assert_close(discs.centers, wanted.centers)
        torch.testing.assert_close(discs.radii, wanted.radii)
    assert allocated.largest <= operators.BLOCK_BYTES


@for_each(("n", "T", "gain"), [(1, 5, 2.0), (2, 200, 1e4), (40, 15, 1e-6)])
def test_norms_of_products_are_those_of_whole_jacobians(n, T, gain):
    A = torch.stack([gain * of(n, seed) for seed in range(T)])
    steps = [StepOperator.of_matrix(M) for M in A]
    torch.testing.assert_close(
        torch.tensor([*log_norms(steps)], dtype=d), cumulative_log_norms(A), rtol=0, atol=1e-9
    )
    steps[T // 2] = StepOperator.of_matrix(torch.zeros(n, n, dtype=d))
    found = torch.tensor([*log_norms(steps)])
    assert torch.isfinite(found).sum() == T // 2 and (found[T // 2 :] == -math.inf).all()


@for_each("dtype", [torch.float32, d])
@for_each("scale", [1e-30, 1e30])
@for_each("n", [1, 7, 300])
def test_norms_are_lapacks(n, scale, dtype):
    """Scales whose squares no float32 holds."""
    A = (scale * of(n)).to(dtype)
    wanted = float(torch.linalg.matrix_norm(A.double(), 2))
    assert StepOperator.of_matrix(A).norm() == pytest.approx(
        wanted, rel=1e-10 if dtype == d else 2e-6
    )


class Reservoir(torch.nn.Module):
    """A leaky echo state network with a sparse recurrent matrix, of which a few units keep their
    state.
    """

    def __init__(self, n, each, leak):
        super().__init__()
        rng = np.random.default_rng(0)
        places = np.repeat(np.arange(n), each), rng.integers(n, size=n * each)
        held = np.r_[np.linspace(1.6, 1.0, 16), np.zeros(n - 16)]
        self.matrix = scipy.sparse.csr_array(
            (rng.normal(0, 0.4 / each**0.5, n * each), places), shape=(n, n)
        )
        self.matrix = (self.matrix + scipy.sparse.diags_array(held)).tocsr().sorted_indices()
        parts = map(torch.from_numpy, (self.matrix.indptr, self.matrix.indices, self.matrix.data))
        self.R = torch.sparse_csr_tensor(*parts, (n, n), check_invariants=True)
        self.state_size, self.leak = n, leak

    def step(self, x, s):
        return (1 - self.leak) * s + self.leak * torch.tanh(
            x + (self.R @ s.unsqueeze(-1)).squeeze(-1)
        )


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_a_sparse_reservoir_of_ten_thousand_units():
    n, k = 10_000, 10
    cell, x, s = Reservoir(n, 10, 0.4), torch.zeros(n, dtype=d), torch.full((n,), 0.1, dtype=d)
    slope = cell.leak * (1 - np.tanh(cell.matrix @ s.numpy()) ** 2)
    A = (1 - cell.leak) * scipy.sparse.eye_array(n) + scipy.sparse.diags_array(slope) @ cell.matrix
    wanted = scipy.sparse.linalg.eigs(A.tocsr(), k + 1, v0=np.ones(n), return_eigenvectors=False)
    with Allocations() as allocated:
        found = operator(cell, x, s).eigenvalues(k)
    np.testing.assert_allclose(found, wanted[np.argsort(-np.abs(wanted))][:k], rtol=1e-9)
    assert allocated.largest <= 8 * 12 * n


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
        (
            lambda: linear(of(20)).eigenvalues(18),
            "leading eigenvalues of a state of 20 is 18: expected a whole number from 1 to 17",
        ),
        (lambda: operator(lambda x, s: s.detach() + 1, X, V), "gives no gradient to its state"),
        (lambda: operator(lambda x, s: Once.apply(s), X, V), "is not differentiable twice"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(call, words, by_vectors):
    with pytest.raises(InvalidInputError, match=words):
        call()


@pytest.mark.parametrize("written", [True, False])
def test_the_record_is_that_of_whole_jacobians(written, monkeypatch):
    """By one written matrix at a time, and by vectors alone, of which none is as large as a
    matrix.
    """
    n, k = 150, 6
    cell = small(LSTM, n // 2)
    run = Run.of(cell, torch.randn(5, 4, dtype=d, generator=torch.Generator().manual_seed(3)))
    whole, matrix = spectra(run), n * n * 8
    monkeypatch.setattr(operators, "LIMIT", matrix * (operators.WRITTEN if written else 9))
    with Allocations() as allocated:
        found = spectra(run, leading=k)
    np.testing.assert_allclose(found.eigenvalues, whole.eigenvalues[:, :k], atol=1e-10)
    for name in (
        "row_centers",
        "row_radii",
        "column_centers",
        "column_radii",
        "norm",
        "log_norm_product",
    ):
        np.testing.assert_allclose(
            getattr(found, name), getattr(whole, name), rtol=0, atol=1e-10, err_msg=name
        )
    np.testing.assert_array_equal(found.reach.round(9), whole.reach.round(9))
    assert allocated.largest <= 9 * matrix and np.isnan(found.norm_bound)


def plot(*words) -> int:
    return main(["--hidden-size", "40", "--steps", "6", *words])


def test_the_command_tells_the_leading_part_of_what_it_tells_without(own_folder, capsys):
    whole, part = (
        json.loads(capsys.readouterr().out)
        for words in ((), ("--leading", "3"))
        if not plot("--json", *words)
    )
    assert "leading_eigenvalues" not in whole and part["leading_eigenvalues"] == 3
    for name in (
        "spectral_radius",
        "norm",
        "reach",
        "rightmost_disc",
        "log_norm_product",
        "finite_time_exponent",
    ):
        assert [s[name] for s in part["steps"]] == pytest.approx(
            [s[name] for s in whole["steps"]], abs=1e-9
        ), name
    assert {s["eigenvalue_condition"] for s in part["steps"]} == {None}
    assert plot("--leading", "1", "--output", "x.npz") == 0
    out = capsys.readouterr().out
    assert "row discs; the 1 leading eigenvalue of 40" in out
    assert "nan" not in out
    assert "bound on the 2-norm" not in out
    record = Spectra.load("x.npz")
    assert record.leading == 1
    assert "the 1 leading eigenvalue of 40" in whole_title(draw_run(record))


def test_a_large_state_has_leading_eigenvalues(own_folder, monkeypatch, capsys):
    monkeypatch.setattr("gersgorin.analyses.spectra.WHOLE", 79)
    assert plot("--cell", "lstm") == 0
    assert "the 32 leading eigenvalues of 80\n" in capsys.readouterr().out


def test_the_free_memory_decides_only_whether_a_command_runs(own_folder, monkeypatch, capsys):
    monkeypatch.setattr("rhn.utils.validation.free_memory", lambda device: 10 << 20)
    assert plot("--cell", "lstm") == 2
    assert "10 MiB are available: use fewer" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", [torch.float32, d], ids=str)
def test_a_step_without_all_eigenvalues_has_none_and_does_not_end_the_run(
    dtype, by_vectors, monkeypatch, tmp_path
):
    """Arnoldi's method may find the second eigenvalue, and not the first."""
    eigs, calls = operators.eigs, []

    def all_but_the_first(*given, **how):
        calls.append(given)
        values = eigs(*given, **how)
        if len(calls) == 2 or len(calls) > 3:
            some = np.sort_complex(values)[:-1]
            raise operators.ArpackNoConvergence("%s", some, np.zeros((len(some), 0)))
        return values

    monkeypatch.setattr(operators, "eigs", all_but_the_first)
    A = torch.block_diag(torch.linspace(1.5, 1.2, 5, dtype=d).diag(), of(400)).to(dtype)
    cell = torch.nn.Module()
    cell.state_size = len(A)
    cell.step = lambda x, s: A @ s + 0 * x[0]
    x = torch.ones(3, 1, dtype=dtype)
    record = spectra(Run.of(cell, x), leading=20)
    assert np.isnan(record.eigenvalues).any(1).tolist() == [False, True, False]
    assert np.isnan(record.eigenvalues[1]).all()
    np.testing.assert_allclose(record.spectral_radius, [1.5, math.nan, 1.5], rtol=1e-4)
    assert np.isfinite(record.norm).all() and np.isfinite(record.log_norm_product).all()
    told = "the unit circle; the 20 leading eigenvalues did not converge at 1 step."
    assert told in record.summary()
    assert "of the 20 leading eigenvalues lie outside the unit circle;" in record.summary()
    assert (
        len(re.findall(" {10}-(?!\\d)", record.summary())) == 2 and "nan" not in record.summary()
    )  # radius and looseness
    record.save(tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text())["steps"][1]["spectral_radius"] is None
    draw_run(record).canvas.draw()
    nothing = spectra(Run.of(cell, x), leading=20)
    assert np.isnan(nothing.eigenvalues).all()
    reach = np.abs(A.double().numpy()).sum(1).max()
    assert [*nothing.sentences()][2:4] == [
        "No eigenvalue is known; the 20 leading eigenvalues did not converge at 3 steps.",
        f"The largest modulus in the row discs is {reach:.3g}, outside the unit circle.",
    ]
    assert "spectral radius" not in nothing.summary()
    draw_run(nothing).canvas.draw()


def test_a_matrix_whose_eigenvalues_do_not_converge_goes_to_lapack(monkeypatch):
    monkeypatch.setattr(operators, "BY_LAPACK", 0)
    cycle = torch.eye(150, dtype=d).roll(1, 0)  # all of modulus 1
    matrix = operators.StepOperator.of_matrix(cycle)
    without = operators.StepOperator(matrix.forward, matrix.backward, cycle[0])
    with pytest.raises(NotConvergedError):
        without.eigenvalues(5, restarts=1)
    torch.testing.assert_close(matrix.eigenvalues(5, restarts=1), eigenvalues(cycle)[:5])


@for_each("leading", [2, None])
def test_a_file_has_the_number_of_eigenvalues(leading, tmp_path):
    A = torch.diag(torch.tensor([0.9, 0.5, 0.3], dtype=torch.float64))
    x, s0 = torch.zeros(4, 1), torch.ones(3, dtype=torch.float64)
    spectra(lambda x, s: A @ s, x, s0=s0, leading=leading).save(tmp_path / "new.npz")
    assert Spectra.load(tmp_path / "new.npz").leading == leading


def test_the_legend_counts_the_eigenvalues_that_are_drawn():
    record = spectra(Run.of(RNN(2, 40), torch.zeros(6, 2)), leading=5)
    ax = plt.figure().add_subplot()
    plot_crowd(record, 0, ax, 1.0)
    drawn = {line.get_label(): len(line.get_xdata()) for line in ax.lines}
    assert drawn["the 5 leading eigenvalues of all steps"] == 5 * 6
    plt.close(ax.figure)
