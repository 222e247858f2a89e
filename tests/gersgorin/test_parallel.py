"""Newton's method for all states at once: the scans against dense solves, the solutions against the loop, the guard."""

import itertools

import pytest
import torch
from tables import for_each

from gersgorin.parallel import BLOCKS, METHODS, Recurrence, damped_correction, linear_scan, solve
from rhn.cells import CELLS, GRU, make_cell

DOUBLE = torch.float64
TOLERANCE = 1e-10


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


def drawn(*shape, seed: int = 0, dtype=DOUBLE):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE).to(dtype)


def cell_of(name: str, m: int = 3, n: int = 4, *, scale: float = 1.0, seed: int = 0, depth: int = 1, dtype=DOUBLE):
    """A cell with recurrent weights of the order 1/sqrt(n), times a factor."""
    generator = torch.Generator().manual_seed(seed)
    depth = depth if CELLS[name].deep else 1
    cell = make_cell(name, m, n, depth, init="scaled", generator=generator, dtype=dtype)
    for key, p in cell.named_parameters():
        if "ih" not in key and "bias" not in key:
            p.mul_(scale)
    return cell


def recurrence_of(cell, x) -> Recurrence:
    return along(cell.step, cell.jacobian, x, x.new_zeros(*x.shape[1:-1], cell.state_size))


def along(step, jacobian, x, s0) -> Recurrence:
    """A recurrence whose loop repeats the step."""

    def run(x, s0):
        return torch.stack([*itertools.accumulate(x, lambda s, x_t: step(x_t, s), initial=s0)][1:])

    return Recurrence(step, jacobian, x, s0, run)


def loop(recurrence: Recurrence) -> torch.Tensor:
    return recurrence.run(recurrence.x, recurrence.s0)


def dense(J: torch.Tensor) -> torch.Tensor:
    """L (T N, T N) of (L d)[t] = d[t] - J[t] d[t-1], for J (T, N, N)."""
    T, N, _ = J.shape
    L = torch.eye(T * N, dtype=J.dtype)
    for t in range(1, T):
        L[t * N : (t + 1) * N, (t - 1) * N : t * N] = -J[t]
    return L


def relative(found, wanted) -> float:
    return float(((found - wanted).abs() / wanted.abs().clamp(min=1)).max())


@for_each("T", [1, 2, 7, 8])
@for_each("N", [1, 3])
def test_the_scan_solves_the_block_bidiagonal_system(T, N):
    J, b = drawn(T, N, N), drawn(T, N, seed=1)
    wanted = torch.linalg.solve(dense(J), b.reshape(-1)).reshape(T, N)
    torch.testing.assert_close(linear_scan(J, b), wanted)
    D = J.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(linear_scan(D, b), linear_scan(torch.diag_embed(D), b))


@for_each("T", [1, 2, 9])
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
    """For 5 networks of 1 to 6 units, 1 to 60 steps, scales 0.1 to 4, of every cell."""
    for seed in range(0, 13, 3):
        n, depth, scale = 1 + seed % 6, 1 + seed % 3, 0.1 * 40 ** (seed / 12)
        T = int(torch.randint(1, 60, (), generator=torch.Generator().manual_seed(seed)))
        problem = recurrence_of(cell_of(name, n=n, scale=scale, seed=seed, depth=depth), drawn(T, 2, 3, seed=seed))
        assert relative(solve(problem, tolerance=TOLERANCE).states, loop(problem)) < TOLERANCE, (seed, n, scale, T)


@for_each("method", METHODS)
@for_each("saturated", [False, True])
def test_every_method_converges_where_the_network_forgets(method, saturated, monkeypatch):
    cell = cell_of("gru")
    if saturated:  # Jacobians of zero and one
        cell.weight_ih.mul_(1e4)
    problem = recurrence_of(cell, drawn(100, 3))
    monkeypatch.setitem(BLOCKS, "cpu", 7 * 4 * 4)  # 7 steps at once
    found = solve(problem, tolerance=TOLERANCE, method=method)
    assert relative(found.states, loop(problem)) < TOLERANCE
    assert saturated or (found.fallback_from is None and found.converged.all() and found.iterations < 40)


def test_linear_and_diagonal_recurrences_need_what_their_jacobians_promise():
    assert solve(recurrence_of(cell_of("lru"), drawn(100, 3)), tolerance=TOLERANCE).iterations == 1
    problem = recurrence_of(cell_of("indrnn"), drawn(60, 3))
    full, diagonal = (solve(problem, tolerance=TOLERANCE, method=method) for method in ("full", "diagonal"))
    assert full.iterations == diagonal.iterations
    torch.testing.assert_close(full.states, diagonal.states)


def test_damping_helps_where_the_full_correction_leaves_the_region_of_convergence():
    problem = recurrence_of(cell_of("slstm", n=8, seed=1), drawn(512, 3))
    full, trust = (solve(problem, tolerance=TOLERANCE, method=method) for method in ("full", "trust"))
    assert trust.iterations < 20 and trust.iterations < full.iterations


@for_each("method", METHODS)
def test_a_chaotic_run_ends_in_the_loop(method):
    """Its last digits decide the states, so that a single one of another order would show."""
    problem = recurrence_of(cell_of("gru", n=12, scale=8, seed=3), drawn(300, 3))
    found = solve(problem, tolerance=TOLERANCE, method=method, max_iterations=20)
    assert found.fallback_from == 0 and not found.converged.any()
    assert torch.equal(found.states, loop(problem))


def test_an_unfinished_run_goes_on_in_the_loop_from_its_first_step_that_has_not_converged():
    problem = recurrence_of(cell_of("rnn", scale=1.5), drawn(200, 3))
    found = solve(problem, tolerance=TOLERANCE, max_iterations=3)
    assert 3 <= found.fallback_from < 200
    assert found.converged[: found.fallback_from].all() and not found.converged[found.fallback_from :].any()
    assert relative(found.states, loop(problem)) < TOLERANCE
    left = solve(problem, tolerance=TOLERANCE, max_iterations=3, guard=False)
    wrong = ((left.states - loop(problem)).abs() > TOLERANCE).any(-1)
    assert left.fallback_from is None and wrong.any() and not (left.converged & wrong).any()


def test_a_large_chaotic_state_does_not_pass_by_its_diagonal():
    """Residuals of 1e-13 are an error of order 1 after 100 steps, which the diagonal, zero here, does not see."""
    N, T = 130, 100
    roll = torch.eye(N, dtype=DOUBLE).roll(1, 0)

    def step(x, s):
        return 1 - 1.9 * s.roll(1, -1).square() + x

    def jacobian(x, s):
        return -3.8 * s.roll(1, -1).unsqueeze(-1) * roll

    problem = along(step, jacobian, torch.zeros(T, N), drawn(N).tanh())
    nearly = loop(along(lambda x, s: step(x, s) + 1e-13, jacobian, problem.x, problem.s0))
    assert relative(nearly, loop(problem)) > 0.1
    for guard in (True, False):
        found = solve(problem, tolerance=TOLERANCE, guess=nearly, method="diagonal", guard=guard)
        wrong = (found.states - loop(problem)).abs().amax(-1) > TOLERANCE
        assert not (wrong & found.converged).any() and not (guard and wrong.any())


@pytest.mark.filterwarnings("error")
@for_each("method", METHODS)
def test_numbers_that_are_not_finite_are_those_of_the_loop(method):
    x = drawn(64, 3)
    x[40] = torch.nan
    problem = recurrence_of(GRU(3, 4, dtype=DOUBLE), x)
    found = solve(problem, tolerance=TOLERANCE, method=method, max_iterations=30)
    assert found.fallback_from is not None and not found.converged[40:].any()
    torch.testing.assert_close(found.states, loop(problem), equal_nan=True)
