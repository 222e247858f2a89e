"""Lyapunov spectra: known systems, exact sums, and every way to multiply against a QR loop over
dense Jacobians in NumPy.
"""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import SHALLOW_CASES, inputs
from scipy.optimize import brentq
from tables import for_each

from gersgorin import lyapunov, open_run, temporal_jacobian, trajectory
from gersgorin.analyses.lyapunov import (
    kaplan_yorke_dimension,
    of_run,
    random_frame,
    standard_errors,
)

d = torch.float64
ZERO = torch.zeros(2, dtype=d)


def henon(s):
    return torch.stack((1 - 1.4 * s[0] ** 2 + s[1], 0.3 * s[0]))


def steps(number: int) -> torch.Tensor:
    """Inputs of a step that reads none."""
    return torch.zeros(number, 1, dtype=d)


def by_loops(A: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """Mean log |R_ii|, sorted: one NumPy QR a step."""
    logs = []
    for step in A:
        Q, R = np.linalg.qr(step @ Q)
        with np.errstate(divide="ignore"):
            logs.append(np.log(np.abs(np.diag(R))))
    return np.sort(np.mean(logs, 0))[::-1]


def test_henons_map():
    found = lyapunov(lambda x, s: henon(s), steps(6000), s0=ZERO, warmup=500)
    np.testing.assert_allclose(found.exponents, (0.419, -1.623), atol=0.02)
    assert found.sum == pytest.approx(math.log(0.3), abs=1e-10)
    assert found.kaplan_yorke == pytest.approx(1.258, abs=0.02) and found.drift == 0
    assert np.all(np.abs(found.exponents - (0.4192, -1.6232)) < 4 * found.standard_errors)


def test_a_linear_system_has_its_log_moduli_and_a_rotation_none():
    g = torch.Generator().manual_seed(0)
    A = torch.randn(12, 12, dtype=d, generator=g)
    moduli = np.log(np.sort(np.abs(np.linalg.eigvals(A.numpy())))[::-1])
    start = torch.zeros(12, dtype=d)
    found = lyapunov(lambda x, s: A @ s, steps(3000), count=4, s0=start, warmup=500)
    np.testing.assert_allclose(found.exponents, moduli[:4], atol=2e-3)
    Q = torch.linalg.qr(A).Q
    still = lyapunov(lambda x, s: Q @ s, steps(100), s0=start)
    np.testing.assert_allclose(still.exponents, 0, atol=1e-13)
    assert "keeps its size" in repr(still)


# plain, deep, gated, of several states a unit
KINDS = ("rnn", "dts-rnn", "rhn", "lstm")


@pytest.mark.parametrize("case", [case for case in SHALLOW_CASES if case.key in KINDS], ids=str)
def test_every_kind_of_cell_and_every_way_gives_what_dense_jacobians_give(case, monkeypatch):
    cell = case.build()
    x, s = inputs(cell, 40)
    before = trajectory(cell, x, s[0])[:-1]
    A = temporal_jacobian(cell, x, before).detach().numpy()
    N = cell.state_size
    frame = random_frame(N, N, torch.Generator().manual_seed(3), s)
    whole = lyapunov(cell, x, s0=s[0], seed=3)
    # of what is lost, LAPACK may put any direction in the place
    told = N if whole.sum > -math.inf else 1
    np.testing.assert_allclose(
        whole.exponents[:told], by_loops(A, frame.numpy())[:told], atol=1e-10
    )
    assert whole.sum == pytest.approx(np.linalg.slogdet(A).logabsdet.mean(), abs=1e-10)
    assert whole.complete and whole.steps == 40
    one = by_loops(A[5:], np.linalg.qr(np.linalg.multi_dot([*A[4::-1], frame.numpy()[:, :1]]))[0])
    monkeypatch.setattr("gersgorin.run.run.BLOCK", 6 * N * N)  # in pieces
    # closed form, forward mode, Jacobians by autograd
    for way, small in ((cell, 0), (cell.step, 0), (cell.step, N)):
        monkeypatch.setattr("gersgorin.run.cell.SMALL", small)
        found = lyapunov(way, x, count=1, s0=s[0], seed=3, warmup=5)
        np.testing.assert_allclose(found.exponents, one, atol=1e-10)
        assert not found.complete and math.isnan(found.kaplan_yorke) == (one[0] >= 0)


def test_the_growth_of_known_steps_and_the_errors_of_their_pieces():
    x = torch.randn(400, 1, dtype=d, generator=torch.Generator().manual_seed(0))
    found = lyapunov(lambda x, s: x.exp() * s, x, s0=torch.zeros(1, dtype=d))
    growth, ends = x[:, 0].cumsum(0).numpy(), found.curve_steps
    np.testing.assert_allclose(found.curve[:, 0], growth[ends - 1] / ends, atol=1e-12)
    assert found.curve[-1, 0] == found.exponents[0] and len(ends) == 240 and ends[-1] == 400
    lengths, sums = np.diff(ends, prepend=0), np.diff(growth[ends - 1], prepend=0)[:, None]
    np.testing.assert_allclose(found.standard_errors, standard_errors(lengths, sums), rtol=1e-9)
    # of 400 normal numbers, whose mean has 1 / 20
    assert 0.9 / 20 < found.standard_errors[0] < 1.6 / 20


@pytest.mark.parametrize(
    ("steps", "memory", "least"),
    [(20, 0, 0.96), (20, 0.9, 0.86), (40, 0.9, 0.91), (100, 0.8, 0.92), (400, 0.5, 0.94)],
)
def test_two_standard_errors_cover_the_exponent_of_short_runs_and_of_long_memories(
    steps, memory, least
):
    rng = np.random.default_rng(0)
    growth = [rng.standard_normal(2000)]  # of a step, in as many runs
    for _ in range(steps - 1):
        growth.append(memory * growth[-1] + (1 - memory**2) ** 0.5 * rng.standard_normal(2000))
    pieces = np.array_split(growth, min(steps, 240))
    errors = standard_errors(
        np.array([len(p) for p in pieces]), np.array([p.sum(0) for p in pieces])
    )
    assert least < np.mean(np.abs(np.mean(growth, 0)) < 2 * errors) < 0.99


@for_each(("steps", "told"), [(20, True), (19, False)])
def test_a_run_too_short_says_nothing_of_its_errors(steps, told):
    x = torch.randn(steps, 1, dtype=d, generator=torch.Generator().manual_seed(0))
    found = lyapunov(lambda x, s: x.exp() * s, x, s0=torch.zeros(1, dtype=d))
    assert np.isfinite(found.standard_errors).all() == told == ("+-" in found.summary())
    assert told != ("The run is too short to tell how exact the exponent is" in found.summary())
    np.testing.assert_equal(found.table()[0]["margin_95"], 2 * found.standard_errors[0])
    assert told == ("95 % intervals" in found.plot().get_title("left").replace("\n", " "))


@for_each("T", [1, 3, 19])
def test_a_short_run_says_neither_that_runs_come_together_nor_that_they_part(T):
    A = torch.diag(torch.tensor([2.0] + [0.1] * 15, dtype=d))
    for seed in range(20):
        found = lyapunov(lambda x, s: A @ s, steps(T), s0=torch.ones(16, dtype=d), seed=seed)
        words = found.summary()
        assert "may grow or shrink" in words and "come together" not in words
        assert (
            words.startswith("The largest Lyapunov exponent") and "Small changes grow" not in words
        )


@for_each(("r", "T"), [(3.83, 20), (3.83, 60), (3.74, 60), (3.74, 150)])
def test_a_short_transient_before_a_cycle_is_not_called_chaotic(r, T):
    for start in torch.linspace(0.1, 0.9, 15, dtype=d):
        found = lyapunov(lambda x, s: r * s * (1 - s), steps(T), s0=start.reshape(1))
        assert not found.finding.startswith("Chaotic"), found.finding


@for_each("dtype", [torch.float32, torch.float64])
def test_intervals_include_the_rounding_of_the_run(dtype):
    torch.manual_seed(0)
    cos, sin = math.cos(0.3), math.sin(0.3)
    systems = {
        "orthogonal": (0.0, torch.linalg.qr(torch.randn(8, 8, dtype=d))[0]),
        "rotation": (0.0, torch.tensor([[cos, -sin], [sin, cos]], dtype=d)),
        "multiple of the identity": (math.log(0.7), 0.7 * torch.eye(3, dtype=d)),
    }
    for exponent, A in systems.values():
        A, x = A.to(dtype), torch.zeros(400, 1, dtype=dtype)
        for seed in range(3):
            found = lyapunov(lambda x, s, A=A: A @ s, x, s0=torch.ones(len(A)).to(A), seed=seed)
            assert (np.abs(found.exponents - exponent) <= found.margins).all(), found.margins
            assert (found.margins < 100 * found.precision).all()


def test_standard_errors_count_what_has_not_settled():
    trend = torch.linspace(0, 1, 400, dtype=d).unsqueeze(1)
    found = lyapunov(lambda x, s: x.exp() * s, trend, s0=torch.zeros(1, dtype=d))
    # its halves: 0.25 and 0.75
    assert (
        found.standard_errors[0] > 0.25 and "the exponent changes by +0.5 from" in found.summary()
    )
    W, R = (torch.rand(16, 40, dtype=d, generator=torch.Generator().manual_seed(0)) - 0.5).split(
        (8, 32), 1
    )

    def oscillators(x, s):
        """Coupled ones, positions and velocities (Rusch and Mishra 2021)."""
        y, z = s.chunk(2)
        z = z + 0.042 * (torch.tanh(0.08 * (W @ x + R @ s)) - 2.7 * y - 4.7 * z)
        return torch.cat((y + 0.042 * z, z))

    x = (torch.rand(60, 8, generator=torch.Generator().manual_seed(1)) < 0.1).to(d)
    s0 = torch.zeros(32, dtype=d)
    runs = [lyapunov(oscillators, x.repeat(k, 1), count=1, s0=s0, warmup=60) for k in (3, 10, 40)]
    values, errors = (
        np.array([getattr(r, name)[0] for r in runs]) for name in ("exponents", "standard_errors")
    )
    assert np.all(np.abs(np.diff(values)) < 4 * errors[1:]), (values, errors)


def test_two_standard_errors_cover_the_exponent_while_directions_still_turn_to_it():
    # as of Mamba's start
    rates = (torch.logspace(-3, -1, 16, dtype=d)[:, None] * torch.arange(1, 17)).flatten()
    x = torch.randn(60, 1, dtype=d, generator=torch.Generator().manual_seed(3)).exp().repeat(10, 1)
    found = lyapunov(
        lambda x, s: (-x * rates).exp() * s, x, count=1, s0=torch.zeros(256, dtype=d), warmup=60
    )
    assert abs(found.exponents[0] + 1e-3 * float(x.mean())) < 2 * found.standard_errors[0]


def test_a_lost_direction_and_a_single_step():
    found = lyapunov(lambda x, s: s * torch.tensor([2.0, 0.0], dtype=d), steps(1), s0=ZERO)
    assert found.exponents[0] > -1
    assert found.lost == 1 and found.lost_below < -34
    assert np.isnan(found.standard_errors).all()


def low_rank(N: int):
    """A step s' = tanh(U V s) + x of rank 2, and its inputs."""
    g = torch.Generator().manual_seed(5)
    U, V = torch.randn(N, 2, generator=g, dtype=d), torch.randn(2, N, generator=g, dtype=d) / 2
    return U, V, torch.randn(200, N, generator=g, dtype=d)


@for_each("N", [4, 8, 64])
def test_exponents_that_rounding_hides_are_not_numbers(N):
    """Two exponents are those of V s; all others are -inf or rounding, as LAPACK finds them."""
    U, V, x = low_rank(N)
    s, Q, logs = np.zeros(N), np.eye(2), []
    u, v = U.numpy(), V.numpy()
    for now in x.numpy():
        a = np.tanh(u @ (v @ s))
        Q, R = np.linalg.qr(v @ ((1 - a**2)[:, None] * u) @ Q)
        logs.append(np.log(np.abs(np.diag(R))))
        s = a + now
    found = lyapunov(lambda x, s: torch.tanh(U @ (V @ s)) + x, x, s0=torch.zeros(N, dtype=d))
    np.testing.assert_allclose(found.exponents[:2], np.sort(np.mean(logs, 0))[::-1], atol=0.05)
    hidden = np.isnan(found.exponents)
    assert found.lost == hidden[2:].sum() == N - 2
    assert np.isnan(found.curve[:, hidden]).all() and np.isnan(found.standard_errors[hidden]).all()
    assert math.isnan(found.sum) and "sum" not in found.summary()
    assert -40 < found.lost_below < -25
    said = re.search(
        r"Rounding hides (\d+) exponents, each of which is below (\S+) ", found.summary()
    )
    assert int(said[1]) == found.lost and 0 <= float(said[2]) - found.lost_below < 0.1
    exponents, curves = found.figure().axes[:2]
    (bars,) = exponents.containers
    assert len(bars[0].get_xdata()) == 2
    assert f"hidden by rounding: {found.lost}" in exponents.get_title("left").replace("\n", " ")
    assert all(np.isfinite(line.get_ydata()[-1]) for line in curves.lines)


def test_one_step_without_rank_hides_an_exponent_as_a_whole():
    """One rounding error is not averaged with 99 growth rates."""
    g = torch.Generator().manual_seed(0)
    A = torch.randn(100, 3, 3, generator=g, dtype=d)
    A[60] = torch.randn(3, 1, generator=g, dtype=d) @ torch.randn(1, 3, generator=g, dtype=d)
    A[60] += 1e-20
    found = lyapunov(
        lambda x, s: x.reshape(3, 3) @ s, A.reshape(100, 9), s0=torch.zeros(3, dtype=d)
    )
    assert found.lost == 2 and math.isfinite(found.exponents[0])


def test_the_dimension_of_a_run_with_hidden_exponents_is_as_wide_as_they_are():
    def logistic(x, s):
        return torch.stack((x[0] * s[0] * (1 - s[0]), 1e-30 * s[1]))

    s0 = torch.full((2,), 0.3, dtype=d)
    found = lyapunov(logistic, 3.9 + steps(500), s0=s0)
    assert found.lost == 1 and math.isnan(found.kaplan_yorke) and not found.undefined
    largest = found.exponents[0] + found.margins[0]
    assert found.dimension == f"between 1 and {1 + largest / -found.lost_below:.4g}"
    cycle = lyapunov(logistic, 3.2 + steps(500), s0=s0)
    assert cycle.lost == 1 and cycle.kaplan_yorke == 0 and cycle.dimension == "0"


def test_the_exponents_of_a_run_at_rest_are_called_those_of_a_fixed_point():
    def words(found):
        return "".join(found.sentences())

    run = open_run(lambda x, s: torch.tanh(2 * s), torch.zeros(30, 1, dtype=d), s0=ZERO)
    still = of_run(run, repeat=1)
    assert "a fixed point" in words(still) and "no attractor" in words(still)
    assert math.isnan(still.kaplan_yorke)
    assert still.dimension == ""
    assert "imension" not in words(still)
    moved = of_run(run, count=1, start_noise=1.0)
    assert moved.exponents[0] < -1
    assert "The state comes to rest." in moved.sentences()
    assert "no attractor" not in words(moved)
    s0, rates = torch.tensor([0.0, 1.0], dtype=d), torch.tensor([2.0, 0.5], dtype=d)
    assert "no attractor" in words(lyapunov(lambda x, s: s * rates, steps(99), s0=s0))


def test_a_negative_exponent_is_about_states_near_the_run():
    """Of s' = tanh(2 s), from both sides of 0: one exponent, two ends."""
    end, ends = brentq(lambda s: np.tanh(2 * s) - s, 0.5, 1), np.array([-0.1, 0.1, 0.2])
    for _ in range(500):
        ends = np.tanh(2 * ends)
    np.testing.assert_allclose(ends, [-end, end, end])
    for start in (-0.1, 0.1):
        found = lyapunov(
            lambda x, s: torch.tanh(2 * s),
            torch.zeros(500, 1),
            s0=torch.tensor([start]).double(),
            warmup=100,
        )
        assert found.exponents[0] == pytest.approx(math.log(2 * (1 - end**2)))
        assert ": states near this run come together." in found.summary()


def test_kaplan_and_yorkes_dimension():
    assert kaplan_yorke_dimension(np.array([-0.1, -2.0])) == 0
    assert kaplan_yorke_dimension(np.array([1.0, -2.0])) == 1.5
    assert math.isnan(kaplan_yorke_dimension(np.array([1.0, 0.5])))
    assert math.isnan(kaplan_yorke_dimension([0.2, math.nan, -1.0]))
    assert kaplan_yorke_dimension([-2.0, 1.0, -math.inf]) == 1.5


@pytest.mark.filterwarnings("error")
def test_a_run_too_short_for_margins_has_a_dimension_without_warnings():
    found = lyapunov(torch.nn.GRU(3, 5), torch.randn(15, 3))
    assert np.isnan(found.margins).all() or np.isinf(found.margins).all()
    assert found.dimension == "between 0 and 5"


def test_the_dimension_of_a_limit_cycle_is_between_a_points_and_its_own():
    found = lyapunov(lambda x, s: torch.tanh(s), steps(2), s0=ZERO)
    found = replace(
        found,
        exponents=np.array([-7e-5, -0.03]),
        standard_errors=np.array([7e-4, 4e-4]),
        still=False,
    )
    assert "dimension is between 0 and 1.042." in found.summary()
    assert found.to_dict()["dimension"] == "between 0 and 1.042"
    shrinks = replace(
        found, exponents=np.array([-0.01, -0.97]), standard_errors=np.array([0.02, 0.5])
    )
    assert shrinks.dimension == "between 0 and 1.03"  # not 2: volumes shrink
    assert (
        replace(
            shrinks, exponents=np.array([-0.02, -0.97]), standard_errors=np.array([0.005, 0.6])
        ).dimension
        == "0"
    )
    grows = replace(found, exponents=np.array([0.9, -1e-4]))
    assert grows.dimension == "" and "not defined: volumes" in grows.summary()
    assert "needs more exponents" in replace(grows, state_size=3).summary()


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_only_a_jacobian_of_0_gives_minus_infinity(rank):
    """LAPACK may find an exact 0 or a rounding error for a direction that is mapped to 0."""
    A = torch.diag(torch.tensor([0.5, 0.25])[:rank]).double()
    A = torch.nn.functional.pad(A, (0, 3 - rank, 0, 3 - rank))
    found = lyapunov(lambda x, s: A @ s, torch.zeros(30, 1).double(), s0=torch.ones(3).double())
    assert np.isneginf(found.exponents).sum() == (0 if rank else 3)
    assert found.lost == (3 - rank if rank else 0)
    means = found.figure().axes[1]
    finite = [np.isfinite(line.get_ydata()).any() for line in means.lines]
    assert len(means.lines) == rank + 1 and all(finite)  # and the line at 0


def test_an_exponent_of_minus_infinity_is_no_short_run():
    found = lyapunov(
        lambda x, s: 3.2 * s * (1 - s), steps(300), s0=torch.tensor([0.5], dtype=d)
    )  # the derivative there is 0
    assert "The product of the Jacobians becomes exactly 0" in found.summary()


def test_one_exponent_that_may_be_zero_leaves_the_dimension_open():
    found = lyapunov(
        lambda x, s: s + 0.3 + 0.2 * torch.sin(s), steps(3000), s0=torch.tensor([0.3], dtype=d)
    )
    # a turn around a circle: 1
    assert found.exponents[0] < 0 and found.dimension == "between 0 and 1"


def test_numbers_times_entries_of_the_state_keep_its_type():
    """torch's forward mode gives float64 tangents for a number times a 0-dim tensor."""

    def step(x, s):
        return torch.stack([0.5 * s[0], 0.25 * s[1]])

    found = lyapunov(step, torch.zeros(30, 1), s0=torch.ones(2))
    np.testing.assert_allclose(found.exponents, np.log([0.5, 0.25]), atol=1e-3)


def test_one_exponent_has_no_sum():
    found = lyapunov(lambda x, s: 0.5 * s, torch.zeros(30, 1), s0=torch.ones(2), count=1)
    assert not any("sum" in note for note in found.notes())


def of_map(step, s0, T, m=1, **options):
    s0 = torch.tensor(s0, dtype=torch.float64)
    return lyapunov(step, torch.zeros(T, m).double(), s0=s0, **options)


@pytest.mark.parametrize(
    ("step", "s0", "T"),
    [
        (lambda x, s: 1.002 * s, [0.1], 500),
        (lambda x, s: 1.002 * s, [0.1], 5000),
        (lambda x, s: torch.tanh(1.02 * s), [0.01], 60),
        (lambda x, s: torch.tanh(3 * s), [1e-12], 20),
        (lambda x, s: 3.5 * s * (1 - s), [3 / 7], 40),
    ],
    ids=["linear", "long linear", "slow transient", "fast transient", "2-cycle"],
)
def test_growth_along_a_run_is_not_called_chaos(step, s0, T):
    """A linear map, paths to a stable point, and an unstable cycle: none is chaotic."""
    found = of_map(step, s0, T)
    assert found.exponents[0] > 0 and not found.finding.startswith("Chaotic")
    assert found.finding.startswith("Small changes grow along this run: the largest Lyapunov")
    assert "to no attractor" not in found.summary()


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


STRONG = 3 * torch.randn(20, 20, generator=torch.Generator().manual_seed(0)).double() / 20**0.5


@pytest.mark.parametrize(
    ("step", "s0", "exponent", "near"),
    [
        (
            lambda x, s: torch.stack([1 - 1.4 * s[0] ** 2 + s[1], 0.3 * s[0]]),
            [0.1, 0.1],
            0.419,
            0.05,
        ),
        (lambda x, s: 4 * s * (1 - s), [0.3], math.log(2), 0.05),
        (ikeda, [0.1, 0.1], 0.507, 0.08),
        (lorenz, [1.0, 1.0, 20.0], 0.05 * 0.906, 0.015),
        (lambda x, s: torch.tanh(STRONG @ s), [0.3] * 20, None, None),
    ],
    ids=["henon", "logistic", "ikeda", "lorenz", "random tanh"],
)
def test_known_chaotic_maps_are_called_so(step, s0, exponent, near):
    found = of_map(step, s0, 600, count=1, warmup=100)
    assert found.finding.startswith("Chaotic: the largest Lyapunov exponent")
    assert exponent is None or abs(found.exponents[0] - exponent) < near
