"""Lyapunov exponents: recorded numbers, known systems, exact sums, loops of NumPy, 200 digits, two
trajectories, kinks.
"""

import math
from dataclasses import replace
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import scipy.stats
import torch
from matplotlib.figure import Figure
from oracles import qr_exponents
from readable import other_words, without_layout, words_in
from torch import nn

from gersgorin.analyses import frames as home
from gersgorin.analyses.block_errors import standard_errors
from gersgorin.analyses.dynamics_figures import FIGURE_TEXTS
from gersgorin.analyses.frames import (
    errors_of,
    factored,
    factors_of,
    growth,
    logs_of,
    random_frame,
)
from gersgorin.analyses.lyapunov import (
    LyapunovSpectrum,
    hidden_directions,
    kaplan_yorke_dimension,
    lyapunov,
    rounding_errors,
)
from gersgorin.jacobians import LargeJacobian
from gersgorin.run import open_run
from rhn.cells import make_cell
from rhn.errors import InvalidInputError
from tests.gersgorin.published import exponents_by_autograd, exponents_by_diagonals
from tests.numbers.record import NETWORKS, cell

d = torch.float64
ZERO = torch.zeros(2, dtype=d)


def steps(number):
    """Inputs of a step that reads none."""
    return torch.zeros(number, 1, dtype=d)


def drawn(*shape, seed=0, dtype=d):
    return torch.randn(*shape, dtype=d, generator=torch.Generator().manual_seed(seed)).to(dtype)


def henon(x, s):
    return torch.stack((1 - 1.4 * s[0] ** 2 + s[1], 0.3 * s[0]))


def ikeda(x, s):
    angle = 0.4 - 6 / (1 + s @ s)
    turned = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos())).view(2, 2) @ s
    return 0.9 * turned + torch.tensor([1.0, 0.0], dtype=s.dtype)


def lorenz(x, s):
    def slope(v):
        a, b, c = v.unbind()
        return torch.stack((10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c))

    h, a = 0.05, slope(s)
    b = slope(s + h / 2 * a)
    c = slope(s + h / 2 * b)
    return s + h / 6 * (a + 2 * b + 2 * c + slope(s + h * c))


@pytest.mark.parametrize(
    ("step", "s0", "exponent", "near"),
    [
        pytest.param(lambda x, s: 4 * s * (1 - s), [0.3], math.log(2), 0.05, id="logistic"),
        pytest.param(ikeda, [0.1, 0.1], 0.507, 0.08, id="Ikeda"),
        pytest.param(lorenz, [1.0, 1.0, 20.0], 0.05 * 0.906, 0.015, id="Lorenz"),
    ],
)
def test_chaotic_maps_have_their_known_exponents(step, s0, exponent, near):
    found = lyapunov(step, steps(600), torch.tensor(s0, dtype=d), count=1, warmup=100)
    assert abs(found.exponents[0] - exponent) < near
    assert found.exponents[0] - found.margins[0] > 0


def test_henons_map():
    found = lyapunov(henon, steps(4000), ZERO, warmup=500)
    np.testing.assert_allclose(found.exponents, (0.419, -1.623), atol=0.02)
    assert found.sum == pytest.approx(math.log(0.3), abs=1e-10)
    assert found.kaplan_yorke == pytest.approx(1.258, abs=0.02)
    assert found.dimension[0] < 1.258 < found.dimension[1] < 1.4
    assert np.all(np.abs(found.exponents - (0.4192, -1.6232)) < 4 * found.standard_errors)
    np.testing.assert_allclose(found.halves.mean(0), found.exponents, rtol=1e-2)


def test_the_largest_exponent_is_the_growth_between_two_trajectories():
    """A reservoir of 100 units on its own output, and a second one that is set back each step."""
    g = torch.Generator().manual_seed(0)
    W = 1.8 * torch.randn(100, 100, dtype=d, generator=g) / 10

    def step(x, s):
        return torch.tanh(W @ s)

    found = lyapunov(step, steps(600), torch.full((100,), 0.1, dtype=d), count=3, warmup=200)
    s, near, logs = torch.full((100,), 0.1, dtype=d), 1e-7, []
    other = s + near * torch.nn.functional.normalize(torch.randn(100, dtype=d, generator=g), dim=0)
    for t in range(600):
        s, other = step(None, s), step(None, other)
        distance = (other - s).norm()
        other = s + near / distance * (other - s)
        logs += [float((distance / near).log())] if t >= 200 else []
    assert np.mean(logs) == pytest.approx(found.exponents[0], abs=1e-3) and np.mean(logs) > 0.05


def test_a_linear_system_has_its_log_moduli_and_a_rotation_none():
    A = drawn(12, 12)
    moduli = np.log(np.sort(np.abs(np.linalg.eigvals(A.numpy())))[::-1])
    start = torch.zeros(12, dtype=d)
    found = lyapunov(lambda x, s: A @ s, steps(2000), start, count=4, warmup=500)
    np.testing.assert_allclose(found.exponents, moduli[:4], atol=2e-3)
    Q = torch.linalg.qr(A).Q
    still = lyapunov(lambda x, s: Q @ s, steps(100), start)
    np.testing.assert_allclose(still.exponents, 0, atol=1e-13)


@pytest.mark.parametrize("name", ["rnn", "dts-rnn 3", "rhn 3", "lstm", "nn.LSTM"])
def test_every_kind_of_cell_and_every_way_gives_what_dense_jacobians_give(name, monkeypatch):
    f, x, how = NETWORKS[name]()
    run = open_run(f, x, **how)
    A, N = run.jacobians().numpy(), run.state_size
    whole, frame = lyapunov(run, seed=3), random_frame(N, N, 3, run.states).numpy()
    np.testing.assert_allclose(whole.exponents, qr_exponents(A, frame), atol=1e-10)
    assert whole.sum == pytest.approx(np.linalg.slogdet(A).logabsdet.mean(), abs=1e-10)
    one = qr_exponents(A[5:], np.linalg.qr(np.linalg.multi_dot([*A[4::-1], frame[:, :1]]))[0])
    for limit in (4096, N - 1):  # whole Jacobians in blocks, products with one vector
        monkeypatch.setattr(home, "BLOCK", 6 * N * N)
        monkeypatch.setattr(home, "LARGE", limit)
        found = lyapunov(f, x, **how, count=1, seed=3, warmup=5)
        np.testing.assert_allclose(found.exponents, one, atol=1e-10)
        assert math.isnan(found.kaplan_yorke) == (one[0] >= 0)


@pytest.mark.parametrize(("name", "depth", "lost"), [("rhn", 5, False), ("dt-rnn", 16, True)])
def test_log_growth_has_the_digits_of_an_exact_product(name, depth, lost):
    """Against 200 digits; one QR decomposition of a step with 16 layers would lose them."""
    f, x, _ = cell(name, str(depth))
    run = open_run(f, x[:3])
    Q = random_frame(6, 6, 0, run.states)
    (log, most, _), layers = growth(run, Q)[0].numpy(), run.step.cell.layer_jacobians(*run.at())
    assert np.array_equal(log, most)
    with mpmath.workdps(200):
        P, before, exact = mpmath.matrix(Q.tolist()), 0, []
        for t in range(3):
            for J in layers:
                P = mpmath.matrix(J[t].tolist()) * P
            L = mpmath.cholesky(P.T * P)
            total = np.array([float(mpmath.log(L[i, i])) for i in range(6)])
            exact.append(total - before)
            before = total
    # the frame itself is orthonormal only to rounding
    np.testing.assert_allclose(log, exact, rtol=0, atol=1e-10)
    A = np.linalg.multi_dot([J[0].numpy() for J in layers[::-1]])
    whole = np.log(np.abs(np.diag(np.linalg.qr(A @ Q.numpy())[1])))
    assert (abs(whole - exact[0]).max() > 1e-9) == lost


@pytest.mark.parametrize("theirs", [exponents_by_autograd, exponents_by_diagonals])
def test_exponents_are_those_of_published_procedures(theirs):
    rnn, x = nn.RNN(3, 3, dtype=d), torch.randn(600, 3, dtype=d)
    found, other = lyapunov(rnn, x), theirs(rnn, x)
    np.testing.assert_allclose(other, found.exponents, atol=1e-2)  # from other directions
    assert float(other.sum()) == pytest.approx(found.sum, abs=1e-10)


def test_the_growth_of_known_steps_and_the_errors_of_their_pieces():
    x = drawn(400, 1)
    found = lyapunov(lambda x, s: x.exp() * s, x, torch.zeros(1, dtype=d))
    growth, ends = x[:, 0].cumsum(0).numpy(), found.curve_steps
    np.testing.assert_allclose(found.curve[:, 0], growth[ends - 1] / ends, atol=1e-12)
    assert found.curve[-1, 0] == found.exponents[0] and len(ends) == 240 and ends[-1] == 400
    halves = found.halves[:, 0]
    np.testing.assert_allclose(halves, [x[:200].mean(), x[200:].mean()], atol=0.02)
    lengths, sums = np.diff(ends, prepend=0), np.diff(growth[ends - 1], prepend=0)[:, None]
    np.testing.assert_allclose(found.standard_errors, standard_errors(lengths, sums), rtol=1e-9)
    # of 400 normal numbers, whose mean has 1 / 20
    assert 0.9 / 20 < found.standard_errors[0] < 1.6 / 20


@pytest.mark.parametrize(
    ("number", "memory", "least"),
    [(20, 0, 0.96), (20, 0.9, 0.86), (40, 0.9, 0.91), (100, 0.8, 0.92), (400, 0.5, 0.94)],
)
def test_two_standard_errors_cover_the_exponent_of_short_runs_and_of_long_memories(
    number, memory, least
):
    rng = np.random.default_rng(0)
    rates = [rng.standard_normal(2000)]  # of a step, in as many runs
    for _ in range(number - 1):
        rates.append(memory * rates[-1] + (1 - memory**2) ** 0.5 * rng.standard_normal(2000))
    pieces = np.array_split(rates, min(number, 240))
    lengths, sums = np.array([len(p) for p in pieces]), np.array([p.sum(0) for p in pieces])
    covered = np.abs(np.mean(rates, 0)) < 2 * standard_errors(lengths, sums)
    assert least < np.mean(covered) < 0.99


@pytest.mark.parametrize(
    ("pattern", "steps", "blocks", "correlation"),
    [
        pytest.param([1, -1] * 10, 40, 20, 0, id="against each other"),
        pytest.param([1, 1, -1, -1] * 5, 80, 10, 0, id="a short run in 10 blocks"),
        pytest.param([1, 1, -1, -1] * 5, 100, 20, 0.05 + 1.15 / 20, id="a long run in 20 blocks"),
        pytest.param([1] * 10 + [-1] * 10, 100, 20, 0.9, id="one block long, at most"),
    ],
)
def test_the_standard_error_of_correlated_blocks_is_that_of_fewer(
    pattern, steps, blocks, correlation
):
    """Blocks of variance 0.01 b / (b - 1), by the quantile of Student's distribution."""
    lengths, rates = steps / 80 * np.tile([1, 3], 20), 3 + 0.1 * np.repeat(pattern, 2)
    found = standard_errors(lengths, (lengths * rates)[:, None])
    fewer = blocks * (1 - correlation) / (1 + correlation)
    quantile = scipy.stats.t.ppf(0.975, max(fewer - 1, 1.5))
    wanted = math.sqrt(0.01 * blocks / (blocks - 1) / fewer) * quantile / 2
    np.testing.assert_allclose(found, [wanted])


def test_a_standard_error_is_at_least_half_of_the_difference_of_two_halves():
    sums = 5 * np.array([1.6, -0.4] * 5 + [0.4, -1.6] * 5)
    np.testing.assert_allclose(standard_errors(np.full(20, 5), sums[:, None]), [0.6])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("number", "known"), [(20, True), (19, False), (1, False)])
def test_a_run_of_fewer_than_20_steps_has_no_margins(number, known):
    found = lyapunov(nn.GRU(3, 5), torch.randn(number, 3))
    assert np.isfinite(found.margins).all() == known
    assert known or found.dimension == (0, 5)


def test_a_short_run_has_no_standard_errors_even_if_rounding_is_not_bounded():
    found = lyapunov(lambda x, s: 0 * s, steps(19), ZERO)
    assert np.isneginf(found.exponents).all() and np.isnan(found.standard_errors).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_intervals_include_the_rounding_of_the_run(dtype):
    rotation = torch.tensor([[0.955336489, -0.295520207], [0.295520207, 0.955336489]]).to(d)
    for exponent, A in [
        (0.0, torch.linalg.qr(drawn(8, 8))[0]),
        (0.0, rotation / rotation.det().sqrt()),
        (math.log(0.7), 0.7 * torch.eye(3, dtype=d)),
    ]:
        A, x = A.to(dtype), torch.zeros(400, 1, dtype=dtype)
        found = lyapunov(lambda x, s, A=A: A @ s, x, torch.ones(len(A)).to(A))
        assert (np.abs(found.exponents - exponent) <= found.margins).all(), found.margins
        assert (found.margins < 100 * torch.finfo(dtype).eps).all()


def test_standard_errors_count_what_has_not_settled():
    trend = torch.linspace(0, 1, 400, dtype=d).unsqueeze(1)
    found = lyapunov(lambda x, s: x.exp() * s, trend, torch.zeros(1, dtype=d))
    np.testing.assert_allclose(found.halves[:, 0], [0.25, 0.75], atol=2e-3)
    assert found.standard_errors[0] > 0.25


@pytest.mark.parametrize("N", [4, 8, 64])
def test_exponents_that_rounding_hides_are_a_bound(N):
    """Two exponents are those of V s; all others are -inf or rounding, as LAPACK finds them."""
    g = torch.Generator().manual_seed(5)
    U, V = torch.randn(N, 2, generator=g, dtype=d), torch.randn(2, N, generator=g, dtype=d) / 2
    x, s, Q, logs = torch.randn(200, N, generator=g, dtype=d), np.zeros(N), np.eye(2), []
    u, v = U.numpy(), V.numpy()
    for now in x.numpy():
        a = np.tanh(u @ (v @ s))
        Q, R = np.linalg.qr(v @ ((1 - a**2)[:, None] * u) @ Q)
        logs.append(np.log(np.abs(np.diag(R))))
        s = a + now
    found = lyapunov(lambda x, s: torch.tanh(U @ (V @ s)) + x, x, torch.zeros(N, dtype=d))
    np.testing.assert_allclose(found.exponents[:2], np.sort(np.mean(logs, 0))[::-1], atol=0.05)
    assert np.isnan(found.exponents[2:]).all() and np.isnan(found.curve[:, 2:]).all()
    table, (note,) = found.table(), found.notes().values()
    assert note == N - 2 and math.isnan(found.sum) and -40 < found.lost_below < -25
    assert np.isnan(table["upper bound"]).tolist() == [True] * 2 + [False] * (N - 2)
    ax = Figure().subplots()
    assert found.plot(ax) is ax
    (bars,) = ax.containers
    assert len(bars[0].get_xdata()) == 2


def test_one_step_without_rank_hides_an_exponent_as_a_whole():
    """One rounding error is not averaged with 99 growth rates, but it is in the bound."""

    def step(x, s):
        return x.reshape(3, 3) @ s

    A, s0 = drawn(100, 3, 3), torch.zeros(3, dtype=d)
    whole = lyapunov(step, A.reshape(100, 9), s0)
    A[60] = drawn(3, 1, seed=1) @ drawn(1, 3, seed=2) + 1e-20
    found = lyapunov(step, A.reshape(100, 9), s0)
    assert np.isnan(found.exponents).tolist() == [False, True, True]
    assert whole.exponents[2] < found.lost_below < whole.exponents[1]


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_only_a_jacobian_of_0_gives_minus_infinity(rank):
    """LAPACK may find an exact 0 or a rounding error for a direction that is mapped to 0."""
    A = torch.diag(torch.tensor([0.5, 0.25, 0.125]).double() * (torch.arange(3) < rank))
    found = lyapunov(lambda x, s: A @ s, steps(30), torch.ones(3).double())
    assert np.isneginf(found.exponents).sum() == (0 if rank else 3)
    assert np.isfinite(found.margins[:rank]).all()
    assert np.isnan(found.exponents).sum() == (3 - rank if rank else 0)
    means = without_layout(found).axes[1].lines
    assert len(means) == rank + 1  # and the line at 0


@pytest.mark.parametrize(
    ("small", "decompositions"), [(1e-2, 1), (1e-8, 2)], ids=["exact", "lost in the product"]
)
def test_layers_have_one_decomposition_unless_it_loses_digits(small, decompositions):
    layer = torch.diag(torch.tensor([1e3, 1e3 * small], dtype=d))
    parts = factors_of([layer, layer], torch.eye(2, dtype=d))
    assert [part.n_jacobians for part in parts] == [2 // decompositions] * decompositions
    logs = logs_of(parts)[0].sum(0)
    np.testing.assert_allclose(logs, 2 * np.log([1e3, 1e3 * small]))


def test_layers_that_map_all_directions_to_0_together_are_one_decomposition():
    """Each of them keeps one direction."""
    layers = [torch.diag(torch.tensor(kept, dtype=d)) for kept in ([1.0, 0.0], [0.0, 1.0])]
    (whole,) = factors_of(layers, random_frame(2, 2, 0, layers[0]))
    assert not whole.R.any()


def test_some_exponents_of_layers_that_carry_the_first_state_are_the_first_of_all():
    network = make_cell("dts-rnn", 3, 6, 3, dtype=d, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        network.weight_hh.copy_(drawn(3, 6, 6))
        network.weight_skip.copy_(drawn(2, 6, 6, seed=1))
        for weight in (network.weight_hh[0], network.weight_skip):
            weight.mul_(torch.logspace(0, -12, 6, dtype=d))
    run = open_run(network, drawn(40, 3))
    some, whole = lyapunov(run, count=4), lyapunov(run)
    np.testing.assert_allclose(some.exponents, whole.exponents[:4], rtol=1e-7)


@pytest.mark.parametrize("k", [4, 2])
def test_the_error_of_a_log_growth_is_bounded_by_its_slopes_times_the_size_of_the_jacobians(k):
    """Slopes by torch's QR. The size is the Frobenius norm of one Jacobian, and the number of
    Jacobians times that of their columns for several.
    """
    A, Q, logs = drawn(7, 4, 4), random_frame(4, k, 0, ZERO), torch.zeros(k, dtype=d)
    factors, products, sizes = [], [], []
    for group in (A[:1], A[1:3], A[3:4], A[4:7]):
        factors.append(factored([*group], Q))
        J = torch.eye(4, dtype=d)
        for each in group:
            J = each @ J
        sizes.append(J.norm() if len(group) == 1 else len(group) * (J @ Q).norm())
        products.append(J.requires_grad_())
        Q = factors[-1].after
    columns = random_frame(4, k, 0, ZERO)
    for J in products:
        columns, R = torch.linalg.qr(J @ columns)
        logs = logs + R.diagonal().abs().log()
    slopes = [torch.autograd.grad(log, products, retain_graph=True) for log in logs]
    wanted = [[each[n].norm() * sizes[n] for each in slopes] for n in range(len(sizes))]
    np.testing.assert_allclose(errors_of(factors), torch.tensor(wanted), rtol=1e-9)


def test_a_growth_below_the_rounding_of_the_longest_column_is_at_most_that():
    A = torch.tensor([[1, 0, 5], [0, 1e-20, 0], [0, 0, 3]], dtype=d)
    exact, most = logs_of([factored([A], torch.eye(3, dtype=d))])
    np.testing.assert_allclose(exact, [np.log([1, 1e-20, 3])])
    np.testing.assert_allclose(most, [np.log([1, 3 * 34**0.5 * 2**-52, 3])])


@pytest.mark.parametrize(
    ("more", "numbers", "wanted"),
    [
        pytest.param(0, 100, [4], id="whole"),
        pytest.param(0, 75, [3, 1], id="blocks"),
        pytest.param(0, 1, [1, 1, 1, 1], id="more than a block"),
        pytest.param(1, 100, [1, 1, 1, 1], id="large"),
    ],
)
def test_a_state_is_large_above_the_limit_only(more, numbers, wanted, monkeypatch):
    """A large state has one step in a block, and products in place of its Jacobian."""
    run = open_run(nn.RNN(3, 5), drawn(4, 3))
    monkeypatch.setattr(home, "LARGE", 5 - more)
    monkeypatch.setattr(home, "BLOCK", numbers)
    blocks = [*home.jacobians_of(run)]
    assert [len(block.jacobians) for block in blocks] == wanted
    ends = np.cumsum([0, *wanted]).tolist()
    assert [block.now for block in blocks] == [slice(*each) for each in pairwise(ends)]
    done = []
    growth(replace(run, progress=lambda *counts: done.append(counts)), random_frame(5, 1, 0, ZERO))
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert isinstance(blocks[0].jacobians[0][0], LargeJacobian) == bool(more)


@pytest.mark.parametrize(
    ("network", "layers"),
    [
        pytest.param(lambda: make_cell("rhn", 3, 4, depth=2), 2, id="layers with Jacobians"),
        pytest.param(lambda: nn.LSTM(3, 4, 2), 1, id="a stack"),
        pytest.param(lambda: lambda x, s: s / 2 + x.sum(), 1, id="a function"),
    ],
)
def test_rounding_is_at_least_that_of_a_sum_over_entries_for_each_known_layer(network, layers):
    f = network()
    how = {} if isinstance(f, nn.Module) else {"state_size": 4}
    run = open_run(f, drawn(5, 3), **how)
    found = rounding_errors(run, np.zeros((5, 2)))
    least = torch.finfo(run.states.dtype).eps * layers * run.state_size**0.5
    np.testing.assert_allclose(found, least)
    (block,) = home.jacobians_of(run)
    assert [len(each) for each in block.jacobians] == [layers] * 5
    measured = np.array([[2.0, 0.0], [90.0, 0.0], [40.0, 0.0], [8.0, 0.0], [10.0, 0.0]])
    found = rounding_errors(run, measured)
    np.testing.assert_allclose(found, [30 * torch.finfo(run.states.dtype).eps, least])


@pytest.mark.parametrize(
    ("most", "hidden"),
    [
        pytest.param([[0, -1, -2], [0, -5, -9]], [False, False, False], id="known"),
        pytest.param([[0, -1, -2], [0, -4, -9]], [False, True, True], id="one step, and all after"),
        pytest.param([[0, -1, 3], [0, -5, -9]], [False, False, True], id="the last one"),
        pytest.param([[0, -math.inf, -2], [0, -4, -9]], [False] * 3, id="mapped to 0 in one step"),
    ],
)
def test_a_direction_is_hidden_if_its_bound_is_above_its_growth_in_one_step(most, hidden):
    log = np.array([[0.0, -1.0, -2.0], [0.0, -5.0, -9.0]])
    assert hidden_directions(log, np.array(most, float)).tolist() == hidden


def test_the_dimension_of_a_run_with_hidden_exponents_is_as_wide_as_they_are():
    def logistic(x, s):
        return torch.stack((x[0] * s[0] * (1 - s[0]), 1e-30 * s[1]))

    s0 = torch.full((2,), 0.3, dtype=d)
    found = lyapunov(logistic, 3.9 + steps(500), s0)
    assert np.isnan(found.exponents).tolist() == [False, True] and math.isnan(found.kaplan_yorke)
    largest = found.exponents[0] + found.margins[0]
    assert found.dimension == pytest.approx((1, 1 + largest / -found.lost_below))
    cycle = lyapunov(logistic, 3.2 + steps(500), s0)
    assert np.isnan(cycle.exponents[1]) and cycle.kaplan_yorke == 0 and cycle.dimension == (0, 0)


@pytest.mark.parametrize(
    ("exponents", "errors", "size", "wanted"),
    [
        ([-7e-5, -0.03], [7e-4, 4e-4], 2, (0, 1.0456)),  # 1.33e-3 / 0.0292
        ([-0.01, -0.97], [0.02, 0.5], 2, (0, 2)),  # volumes may grow
        ([-0.02, -0.97], [0.005, 0.6], 2, (0, 0)),
        ([0.5, -1.0], [0.1, 0.1], 2, (1.25, 1.875)),  # 0.3 / 1.2 and 0.7 / 0.8: each by itself
        ([0.9, -1e-4], [1e-3, 1e-3], 2, (math.nan, math.nan)),  # volumes grow
        ([0.9, -1e-4], [1e-3, 1e-3], 3, (math.nan, math.nan)),
        ([0.9, -1.0], [1e-3, 1e-3], 3, (1.89621, 1.90381)),
        ([-0.4], [0.5], 1, (0, 1)),  # the only one may be above 0
        ([0.5, -0.5], [0.01, 0.01], 3, (1.923, math.nan)),  # a third one is needed: (1 + 0.48/0.52)
        ([0.5, -math.inf], [0.1, math.nan], 2, (1, 1)),  # no volume is left in two dimensions
    ],
    ids=str,
)
def test_the_dimension_of_exponents_with_margins(exponents, errors, size, wanted):
    found = lyapunov(lambda x, s: torch.tanh(s), steps(2), ZERO)
    found = replace(found, exponents=np.array(exponents), standard_errors=np.array(errors),
                    state_size=size)  # fmt: skip
    np.testing.assert_allclose(found.dimension, wanted, atol=2e-3)


def test_a_volume_that_vanishes_adds_nothing_to_the_dimension():
    found = lyapunov(lambda x, s: torch.tanh(s), steps(2), ZERO)
    assert replace(found, exponents=np.array([0.5, -math.inf])).kaplan_yorke == 1


@pytest.mark.filterwarnings("error")
def test_kaplan_and_yorkes_dimension():
    assert kaplan_yorke_dimension(np.array([-0.1, -2.0])) == 0
    assert kaplan_yorke_dimension(np.array([0.0, -1.0])) == 1  # a cycle of a flow
    assert kaplan_yorke_dimension(np.array([1.0, -2.0])) == 1.5
    assert math.isnan(kaplan_yorke_dimension(np.array([1.0, 0.5])))
    assert math.isnan(kaplan_yorke_dimension(np.array([0.2, math.nan, -1.0])))
    assert kaplan_yorke_dimension(np.array([-2.0, 1.0, -math.inf])) == 1.5
    assert math.isnan(kaplan_yorke_dimension(np.array([math.inf, -math.inf])))


def test_numbers_times_entries_of_the_state_keep_its_type():
    """torch's forward mode gives float64 tangents for a number times a 0-dim tensor."""
    found = lyapunov(lambda x, s: torch.stack([0.5 * s[0], 0.25 * s[1]]), steps(30), torch.ones(2))
    np.testing.assert_allclose(found.exponents, np.log([0.5, 0.25]), atol=1e-3)


def test_a_sequence_that_is_read_three_times_is_three_sequences():
    f, x, _ = cell("rhn", "3")
    assert [lyapunov(f, x, repeat=times).steps for times in (1, 2)] == [24, 48]
    found, whole = lyapunov(f, x, repeat=3, warmup=24), lyapunov(f, x.repeat(3, 1), warmup=24)
    np.testing.assert_array_equal(found.exponents, whole.exponents)
    assert found.steps == 72 and found.table()["steps counted"] == 48
    assert abs(found.exponents - lyapunov(f, x, seed=1).exponents).max() > 1e-3


@pytest.mark.parametrize(
    ("slopes", "s0"),
    [((0.5, 1.5), 0.0), ((0.5, 0.25), 0.0), ((3.0, 2.0), 0.0), ((0.5, 1.5), 1.0),
     ((0.5, 1.5), -1.0), ((0.5, 0.5), 0.0)], ids=str,
)  # fmt: skip
def test_a_run_at_a_kink_has_the_jump_of_its_slopes(slopes, s0):
    found = lyapunov(lambda x, s: torch.maximum(slopes[0] * s, slopes[1] * s), steps(40),
                     torch.tensor([s0], dtype=d))  # fmt: skip
    wanted = 0 if s0 else abs(slopes[0] - slopes[1])
    np.testing.assert_allclose(found.jumps, wanted, atol=1e-6)


def test_all_steps_but_one_may_be_left_out():
    assert lyapunov(henon, steps(3), ZERO, warmup=2).table()["steps counted"] == 1
    with pytest.raises(InvalidInputError, match=r"^warmup is 3: .* from 0 to 2"):
        lyapunov(henon, steps(3), ZERO, warmup=3)


def test_the_kink_at_a_single_step_is_found():
    def step(x, s):
        return 1 + torch.where(x > 0, torch.relu(s - 1), 0.5 * (s - 1))

    x = steps(200)
    x[78] = 1
    found = lyapunov(step, x, torch.ones(1, dtype=d), warmup=5)
    assert np.isneginf(found.exponents).all()
    assert np.flatnonzero(found.jumps > 1e-3).tolist() == [78 - 5]


@pytest.mark.parametrize("scale", [1.0, 1e-6, 30.0])
def test_a_relu_network_at_states_in_general_position_has_no_jumps(scale):
    module = nn.RNN(3, 16, nonlinearity="relu")
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(min(scale, 3.0))
    assert lyapunov(module, scale * drawn(40, 3), count=2).jumps.max() < 1e-5


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_smooth_steps_have_no_jumps_in_their_own_precision(dtype):
    W = drawn(5, 5, dtype=dtype)
    for step in (
        lambda x, s: torch.tanh(9 * W @ s),
        lambda x, s: torch.sigmoid(30 * s - 40),
        lambda x, s: 3.9 * s * (1 - s),
        lambda x, s: torch.sin(20 * s),
    ):
        s0 = torch.linspace(0.1, 0.4, 5).to(dtype)
        found = lyapunov(step, torch.zeros(50, 1, dtype=dtype), s0)
        assert found.jumps.max() < (1e-3 if dtype == d else 0.5), found.jumps.max()


def test_words_are_literals_and_files_are_read_back(tmp_path):
    f, x, _ = cell("gru")
    hidden = lyapunov(lambda x, s: s * torch.tensor([2.0, 0.0], dtype=d), steps(3), ZERO)
    for found in (lyapunov(f, x), hidden):
        figure = f"{found}\n{' '.join(words_in(found.figure()))}"
        assert other_words(figure, found, (*FIGURE_TEXTS, "(time steps)")) == set()
        for suffix in (".json", ".npz"):
            path = found.save(tmp_path / f"{suffix[1:]}{suffix}")
            assert str(LyapunovSpectrum.load(path)) == str(found)
    assert [*hidden.table()] == [*found.table()]
