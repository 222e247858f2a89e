"""Newton's method for all states at once: the scans against dense solves, the solutions against the loop, and the guard."""

import pytest
import torch
from tables import for_each

from rhn.cells import CELLS, GRU, RNN, make_cell
from rhn.errors import InvalidInputError
from rhn.kernels.newton import (
    BLOCKS,
    METHODS,
    Recurrence,
    damped_correction,
    linear_scan,
    solve,
    transposed_scan,
)

DOUBLE = torch.float64


def drawn(*shape, seed: int = 0, dtype=DOUBLE):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE).to(dtype)


def cell_of(name: str, m: int = 3, n: int = 4, *, scale: float = 1.0, seed: int = 0, depth: int = 1, dtype=DOUBLE):
    """A cell with recurrent weights of the order 1/sqrt(n), times a factor."""
    generator = torch.Generator().manual_seed(seed)
    depth = depth if getattr(CELLS[name], "deep", True) else 1
    cell = make_cell(name, m, n, depth, init="scaled", generator=generator, dtype=dtype)
    with torch.no_grad():
        for key, p in cell.named_parameters():
            if "ih" not in key and "bias" not in key and "lambda" not in key:
                p.mul_(scale)
    return cell


def recurrence_of(cell, x, s0=None, **options) -> Recurrence:
    s0 = x.new_zeros(*x.shape[1:-1], cell.state_size) if s0 is None else s0
    return Recurrence(cell.step, cell.jacobian, x, s0, **options)


def loop(recurrence: Recurrence) -> torch.Tensor:
    """The states one after the other."""
    s, states = recurrence.s0, []
    for x in recurrence.x:
        s = recurrence.step(x, s)
        states.append(s)
    return torch.stack(states)


def dense(J: torch.Tensor) -> torch.Tensor:
    """L (T N, T N) of (L d)[t] = d[t] - J[t] d[t-1], for J (T, N, N)."""
    T, N, _ = J.shape
    L = torch.eye(T * N, dtype=J.dtype)
    for t in range(1, T):
        L[t * N : (t + 1) * N, (t - 1) * N : t * N] = -J[t]
    return L


def relative(found, wanted) -> float:
    return float(((found - wanted).abs() / wanted.abs().clamp(min=1)).max().detach())


@for_each("T", [1, 2, 3, 7, 8, 33])
@for_each("N", [1, 3])
def test_the_scan_solves_the_block_bidiagonal_system(T, N):
    J, b = drawn(T, N, N), drawn(T, N, seed=1)
    wanted = torch.linalg.solve(dense(J), b.reshape(-1)).reshape(T, N)
    torch.testing.assert_close(linear_scan(J, b), wanted)
    transposed = torch.linalg.solve(dense(J).T, b.reshape(-1)).reshape(T, N)
    torch.testing.assert_close(transposed_scan(J, b), transposed)


@for_each("T", [1, 2, 5, 16])
def test_the_scan_of_a_diagonal_is_that_of_its_matrices(T):
    D, b = drawn(T, 2, 3), drawn(T, 2, 3, seed=1)
    torch.testing.assert_close(linear_scan(D, b), linear_scan(torch.diag_embed(D), b))
    torch.testing.assert_close(transposed_scan(D, b), transposed_scan(torch.diag_embed(D), b))


@for_each("T", [1, 2, 3, 6, 9, 20])
def test_the_damped_correction_minimises_its_sum_of_squares(T):
    J, r, damping = drawn(T, 2, 3, 3), drawn(T, 2, 3, seed=1), torch.tensor([0.1, 2.0], dtype=DOUBLE)
    found = damped_correction(J, r, damping)
    for k in range(2):
        L = dense(J[:, k])
        normal = L.T @ L + damping[k] * torch.eye(len(L), dtype=DOUBLE)
        wanted = torch.linalg.solve(normal, L.T @ r[:, k].reshape(-1)).reshape(T, 3)
        torch.testing.assert_close(found[:, k], wanted)


@for_each("name", CELLS)
def test_solutions_are_the_loops(name):
    """With the other registered cells: 208 networks of 1 to 6 units, 1 to 60 steps, scales 0.1 to 4."""
    for seed in range(13):
        generator = torch.Generator().manual_seed(seed)
        n, depth, scale = 1 + seed % 6, 1 + seed % 3, 0.1 * 40 ** (seed / 12)
        T = int(torch.randint(1, 60, (), generator=generator))
        cell = cell_of(name, n=n, scale=scale, seed=seed, depth=depth)
        with torch.no_grad():
            problem = recurrence_of(cell, drawn(T, 2, 3, seed=seed))
            assert relative(solve(problem).states, loop(problem)) < 1e-10, (seed, n, scale, T)


@for_each("method", METHODS)
def test_every_method_converges_where_the_network_forgets(method):
    problem = recurrence_of(cell_of("gru"), drawn(100, 3))
    with torch.no_grad():
        found = solve(problem, method=method)
        assert found.fallback_from is None and found.converged.all() and found.iterations < 40
        assert relative(found.states, loop(problem)) < 1e-10


def test_a_diagonal_recurrence_has_the_same_iterations_by_both_jacobians():
    problem = recurrence_of(cell_of("indrnn"), drawn(60, 3))
    with torch.no_grad():
        full, diagonal = (solve(problem, method=method) for method in ("full", "diagonal"))
    assert full.iterations == diagonal.iterations
    torch.testing.assert_close(full.states, diagonal.states)


def test_a_linear_recurrence_needs_one_iteration():
    with torch.no_grad():
        assert solve(recurrence_of(cell_of("lru"), drawn(100, 3))).iterations == 1


def test_damping_helps_where_the_full_correction_leaves_the_region_of_convergence():
    problem = recurrence_of(cell_of("slstm", n=8, seed=1), drawn(512, 3))
    with torch.no_grad():
        full, trust = (solve(problem, method=method) for method in ("full", "trust"))
    assert trust.iterations < 20 and trust.iterations < full.iterations


def test_single_precision_converges_to_its_own_tolerance():
    cell = cell_of("rhn", n=6, depth=2, dtype=torch.float32)
    problem = recurrence_of(cell, drawn(200, 3, dtype=torch.float32))
    with torch.no_grad():
        found = solve(problem)
    assert found.states.dtype == torch.float32 and found.fallback_from is None
    assert relative(found.states, loop(problem)) < 1e-4


def test_a_start_at_the_solution_needs_no_iteration():
    problem = recurrence_of(cell_of("rnn"), drawn(50, 3))
    with torch.no_grad():
        assert solve(problem, guess=loop(problem)).iterations == 0


def test_a_start_near_the_solution_needs_fewer_iterations():
    cell = cell_of("rnn", scale=1.7)
    with torch.no_grad():
        cold = solve(recurrence_of(cell, drawn(100, 3)))
        cell.weight_hh.mul_(1.001)
        problem = recurrence_of(cell, drawn(100, 3))
        warm = solve(problem, guess=cold.states)
        assert warm.iterations < solve(problem).iterations


@for_each("name", ["rnn", "gru", "lstm", "rhn"])
@for_each("method", METHODS)
def test_a_chaotic_run_ends_in_the_loop(name, method):
    """Its last digits decide the states, so that a single one of another order would show."""
    cell = cell_of(name, n=12, scale=8, seed=3)
    problem = recurrence_of(cell, drawn(300, 3))
    with torch.no_grad():
        found = solve(problem, method=method, max_iterations=20)
        wanted = loop(problem)
    assert found.fallback_from == 0 and not found.converged.any()
    assert torch.equal(found.states, wanted)


def test_an_unfinished_run_goes_on_in_the_loop_from_its_first_step_that_has_not_converged():
    problem = recurrence_of(cell_of("rnn", scale=1.5), drawn(200, 3))
    with torch.no_grad():
        found, wanted = solve(problem, max_iterations=3), loop(problem)
    assert 3 <= found.fallback_from < 200
    assert found.converged[: found.fallback_from].all() and not found.converged[found.fallback_from :].any()
    assert relative(found.states, wanted) < 1e-10


def test_without_the_guard_steps_that_have_not_converged_are_named():
    problem = recurrence_of(cell_of("rnn", scale=1.5), drawn(200, 3))
    with torch.no_grad():
        found, wanted = solve(problem, max_iterations=3, guard=False), loop(problem)
    wrong = ((found.states - wanted).abs() > 1e-10).any(-1)
    assert found.fallback_from is None and wrong.any() and not (found.converged & wrong).any()


def test_a_small_residual_alone_does_not_convince_the_guard():
    """The orbit from a slightly different state has no residual, but along a chaotic run it is not the orbit."""
    cell = cell_of("rnn", n=12, scale=8, seed=3)
    problem = recurrence_of(cell, drawn(300, 3))
    with torch.no_grad():
        shadow = Recurrence(cell.step, cell.jacobian, problem.x, problem.s0 + 1e-11)
        found = solve(problem, guess=loop(shadow))
        assert torch.equal(found.states, loop(problem)) and found.fallback_from == 0


def test_the_loop_of_the_caller_computes_the_rest():
    calls, cell = [], cell_of("rnn", n=12, scale=8, seed=3)

    def run(x, s):
        calls.append(len(x))
        return cell.states(x.unsqueeze(1), s.unsqueeze(0)).squeeze(1)

    with torch.no_grad():
        problem = recurrence_of(cell, drawn(300, 3), run=run)
        found = solve(problem, max_iterations=5)
        assert calls[-1] == 300 and torch.equal(found.states, run(problem.x, problem.s0))


@pytest.mark.filterwarnings("error")
@for_each("method", METHODS)
def test_numbers_that_are_not_finite_are_those_of_the_loop(method):
    x = drawn(20, 3)
    x[7] = torch.nan
    problem = recurrence_of(cell_of("gru"), x)
    with torch.no_grad():
        found, wanted = solve(problem, method=method, max_iterations=30), loop(problem)
    assert found.fallback_from is not None and not found.converged[7:].any()
    torch.testing.assert_close(found.states, wanted, equal_nan=True)


@for_each("method", METHODS)
@for_each("T", [1, 2])
def test_one_unit_and_one_step(method, T):
    problem = recurrence_of(cell_of("gru", m=1, n=1), drawn(T, 1))
    with torch.no_grad():
        found = solve(problem, method=method)
    assert relative(found.states, loop(problem)) < 1e-10 and found.iterations <= 12


@for_each("method", METHODS)
def test_zero_jacobians_need_no_iteration(method):
    cell = RNN(3, 4, dtype=DOUBLE)
    with torch.no_grad():
        torch.nn.init.zeros_(cell.R if hasattr(cell, "R") else cell.weight_hh)
        found = solve(recurrence_of(cell, drawn(30, 3)), method=method)
    assert found.iterations == 0 and found.converged.all()


@for_each("method", METHODS)
def test_saturated_gates(method):
    """Closed and open gates have Jacobians of zero and one."""
    cell = GRU(3, 4, dtype=DOUBLE)
    with torch.no_grad():
        cell.weight_ih.mul_(1e4)
        problem = recurrence_of(cell, drawn(60, 3))
        assert relative(solve(problem, method=method).states, loop(problem)) < 1e-10


def test_an_unknown_method_is_refused():
    with pytest.raises(InvalidInputError, match="method is 'fast': expected one of full, diagonal, trust"):
        solve(recurrence_of(cell_of("rnn"), drawn(3, 3)), method="fast")


def test_blocks_of_steps_change_nothing(monkeypatch):
    problem = recurrence_of(cell_of("gru"), drawn(50, 2, 3))
    with torch.no_grad():
        whole, grad = solve(problem).states, drawn(50, 2, 4, seed=5)
        adjoint = problem.adjoint(whole, grad)
        monkeypatch.setitem(BLOCKS, "cpu", 7 * 2 * 4 * 4)
        torch.testing.assert_close(solve(problem).states, whole, rtol=0, atol=1e-12)
        torch.testing.assert_close(problem.adjoint(whole, grad), adjoint)


def test_a_large_chaotic_state_does_not_pass_by_its_diagonal():
    """Residuals of 1e-13 are an error of order 1 after 100 steps, which the diagonal, zero here, does not see."""
    N, T = 130, 100
    roll = torch.eye(N, dtype=DOUBLE).roll(1, 0)

    def step(x, s):
        return 1 - 1.9 * s.roll(1, -1).square() + x

    problem = Recurrence(
        step, lambda x, s: -3.8 * s.roll(1, -1).unsqueeze(-1) * roll, torch.zeros(T, N), drawn(N).tanh()
    )
    nearly = loop(Recurrence(lambda x, s: step(x, s) + 1e-13, problem.jacobian, problem.x, problem.s0))
    assert relative(nearly, loop(problem)) > 0.1
    for guard in (True, False):
        found = solve(problem, guess=nearly, method="diagonal", guard=guard)
        wrong = (found.states - loop(problem)).abs().amax(-1) > 1e-10
        assert not (wrong & found.converged).any() and not (guard and wrong.any())
