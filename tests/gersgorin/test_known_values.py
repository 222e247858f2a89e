"""Known values: closed forms and published numbers, by mpmath where a digit could be wrong."""

import math
from dataclasses import replace
from types import SimpleNamespace

import mpmath
import numpy as np
import pytest
import torch
from cases import others_slow

import gersgorin
from gersgorin import known_values
from gersgorin.known_values import CASES, Measured

ROWS = {row.case: row for row in CASES}
LORENZ = "Lorenz: largest exponent (1 / time unit)"
CLOSED_FORMS = {
    "rows (-1, 2, -1): spectral radius": lambda m: 2 + m.sqrt(2),
    "[[1, 1], [0, 1]]: departure from normality": lambda m: 1 / m.sqrt(3),
    "[[1, 1], [0, 2]]: eigenvalue condition": lambda m: m.sqrt(2),
    "Jordan block of 8: numerical radius": lambda m: m.cos(m.pi / 9),
    "diag(0.9, 0.5): half-life (steps)": lambda m: m.log(m.mpf(1) / 2) / m.log(m.mpf(9) / 10),
    "cat map: largest exponent": lambda m: m.log((3 + m.sqrt(5)) / 2),
    "Gaussian products, n = 8: largest exponent": lambda m: (m.log(2) + m.psi(0, 4)) / 2,
    "Gaussian products, n = 8: smallest exponent": lambda m: (m.log(2) + m.psi(0, 0.5)) / 2,
}


@pytest.mark.parametrize("case", others_slow(ROWS, *(ROWS.keys() - {LORENZ})))
def test_what_is_measured_is_within_its_allowance_of_what_is_known(case):
    row = ROWS[case]
    assert abs(row.measure() - row.known) <= row.allowance


@pytest.mark.parametrize("case", CLOSED_FORMS)
def test_a_known_value_is_its_closed_form(case):
    assert float(CLOSED_FORMS[case](mpmath)) == pytest.approx(ROWS[case].known, rel=1e-6)


def test_the_point_of_a_cycle_returns_after_two_steps_and_has_the_multiplier():
    s = ROWS["logistic map, r = 3.2: point of a cycle of 2"].known
    after = 3.2 * s * (1 - s)
    assert 3.2 * after * (1 - after) == pytest.approx(s, abs=1e-14) and abs(after - s) > 0.1
    slopes = (3.2 - 6.4 * s) * (3.2 - 6.4 * after)
    assert ROWS["logistic map, r = 3.2: multiplier of the cycle"].known == pytest.approx(slopes)


def test_the_exponent_of_a_random_network_is_that_of_mean_field_theory():
    z, weights = np.polynomial.hermite_e.hermegauss(101)
    weights, q = weights / weights.sum(), 1.0
    for _ in range(200):  # the variance of an input of a unit
        q = 4 * weights @ np.tanh(math.sqrt(q) * z) ** 2
    slope = weights @ np.cosh(math.sqrt(q) * z) ** -4.0
    known = ROWS["200 random units, g = 2: largest exponent"].known
    assert known == pytest.approx(math.log(4 * slope) / 2, rel=1e-5)


def test_a_number_at_its_allowance_is_within_it():
    row = replace(CASES[0], known=1.0)
    for allowance, measured, is_within in (
        (0.0, 1.0, True),
        (0.25, 1.25, True),
        (0.25, 0.75, True),
        (0.25, 1.5, False),
        (0.25, 0.5, False),
    ):
        assert Measured(replace(row, allowance=allowance), measured).is_within == is_within


def test_cases_have_names_of_their_own_and_are_at_least_twenty():
    assert len(ROWS) == len(CASES) >= 20


@pytest.mark.parametrize(
    ("change", "code", "counts"),
    [
        pytest.param({}, 0, "2 within their allowances, 0 beyond", id="known"),
        pytest.param({"known": 0.7}, 1, "1 within their allowances, 1 beyond", id="wrong"),
        pytest.param(
            {"measure": lambda: math.nan}, 1, "1 within their allowances, 1 beyond", id="NaN"
        ),
    ],
)
def test_the_command_ends_with_1_beyond_an_allowance(monkeypatch, command, change, code, counts):
    tent, point = "tent map, slopes 1.9: exponent", "logistic map, r = 3.2: fixed point"
    monkeypatch.setattr(known_values, "CASES", [ROWS[point], replace(ROWS[tent], **change)])
    printed = command("gersgorin known-values")
    assert printed.code == code and printed.out.splitlines()[-1] == counts
    assert [line.split()[0] for line in printed.out.splitlines()[:3]] == [
        "case",
        "logistic",
        "tent",
    ]


def slopes_of_lorenz(v):
    """The derivatives of states and of small changes of them, (6, K)."""
    a, b, c, da, db, dc = v
    states = [10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c]
    changes = [10 * (db - da), da * (28 - c) - a * dc - db, da * b + a * db - 8 / 3 * dc]
    return np.stack([*states, *changes])


def next_of_lorenz(v, h=0.02):
    first = slopes_of_lorenz(v)
    second = slopes_of_lorenz(v + h / 2 * first)
    third = slopes_of_lorenz(v + h / 2 * second)
    return v + h / 6 * (first + 2 * second + 2 * third + slopes_of_lorenz(v + h * third))


def next_of_henon(v):
    a, b, da, db = v
    return np.stack([1 - 1.4 * a * a + b, 0.3 * a, -2.8 * a * da + db, 0.3 * da])


def next_of_logistic(v):
    s, ds = v
    return np.stack([4 * s * (1 - s), (4 - 8 * s) * ds])


def next_of_tent(s):
    return np.where(s < 0.5, 1.9 * s, 1.9 - 1.9 * s)


def next_of_cat(s):
    a, b = s
    return np.stack([(2 * a + b) % 1, (a + b) % 1])


def without_changes(step, n):
    """A step of states alone."""
    return lambda s: step(np.concatenate([s, np.zeros_like(s)]))[:n]


def next_of_network(s):
    generator = torch.Generator().manual_seed(1988)
    weights = torch.randn(200, 200, dtype=torch.float64, generator=generator).numpy()
    return np.tanh(2 * weights @ s / math.sqrt(200))


FIRST = torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(1992))
MEASURED_RUNS = {  # case: (step, first state, steps, options)
    "200 random units, g = 2: largest exponent": (
        next_of_network, FIRST.tolist(), 300, {"count": 1, "warmup": 100},
    ),
    "logistic map, r = 4: exponent": (
        without_changes(next_of_logistic, 1), [0.3], 2000, {"warmup": 100},
    ),
    "tent map, slopes 1.9: exponent": (next_of_tent, [0.3], 500, {}),
    "cat map: largest exponent": (next_of_cat, [0.1, 0.2], 500, {}),
    "Henon: largest exponent": (
        without_changes(next_of_henon, 2), [0.0, 0.0], 3000, {"warmup": 300},
    ),
    "Henon: sum of the exponents": (without_changes(next_of_henon, 2), [0.0, 0.0], 500, {}),
    LORENZ: (
        without_changes(next_of_lorenz, 3), [1.0, 1.0, 20.0], 6000, {"count": 1, "warmup": 500},
    ),
    "Lorenz: sum of the exponents (1 / time unit)": (
        without_changes(next_of_lorenz, 3), [1.0, 1.0, 20.0], 500, {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MEASURED_RUNS)
def test_allowances_are_for_runs_of_these_maps_states_and_lengths(case, monkeypatch):
    step, s0, count, options = MEASURED_RUNS[case]
    runs = []

    def lyapunov(network, x, s, **how):
        runs.append((network, x, s, how))
        return SimpleNamespace(exponents=np.zeros(len(s)), sum=0.0)

    monkeypatch.setattr(gersgorin, "lyapunov", lyapunov)
    ROWS[case].measure()
    ((network, x, s, how),) = runs
    assert (s.tolist(), len(x), how) == (s0, count, options)
    states = np.random.default_rng(0).uniform(0, 1, (5, len(s0)))
    for state in states:
        found = network(x[0], torch.from_numpy(state))
        np.testing.assert_allclose(found, step(state), rtol=1e-12, atol=1e-14)


def test_samples_have_the_sizes_of_their_allowances(monkeypatch):
    sizes = []

    def random_layers(count):
        sizes.append(count)
        return torch.zeros(count, 4, 4), torch.zeros(count, 4, 4)

    def lyapunov(network, x, **how):
        sizes.append(len(x))
        return SimpleNamespace(exponents=np.zeros(8))

    monkeypatch.setattr(known_values, "random_layers", random_layers)
    monkeypatch.setattr(gersgorin, "lyapunov", lyapunov)
    for case in (
        "layers outside equation 14 as printed (share)",
        "the same with transposed derivatives (share)",
        "Gaussian products, n = 8: largest exponent",
        "Gaussian products, n = 8: smallest exponent",
    ):
        ROWS[case].measure()
    assert sizes == [2000] * 4


def test_a_layer_is_outside_with_one_eigenvalue_that_is(monkeypatch):
    values = torch.zeros(4, 4)
    values[:3, 0] = 5.0
    monkeypatch.setattr(known_values, "random_layers", lambda count: torch.zeros(2, 4, 4, 4))
    monkeypatch.setattr(known_values.linalg, "eigenvalues", lambda A: values)
    assert known_values.printed_equation() == known_values.corrected_equation() == 0.75


def test_jacobians_of_random_layers_are_those_of_autograd():
    """s' = h t + s c with t and c of their own; as printed, the derivatives are transposed."""
    generator = torch.Generator().manual_seed(2017)

    def drawn(*sizes):
        return torch.randn(3, *sizes, dtype=torch.float64, generator=generator)

    s = drawn(4).tanh()
    weights = [drawn(4, 4) for _ in range(3)]
    biases = [drawn(4) for _ in range(3)]
    jacobians, printed = known_values.random_layers(3)
    for k in range(3):

        def layer(s, k=k):
            z = [R[k] @ s + b[k] for R, b in zip(weights, biases, strict=True)]
            h, t, c = z[0].tanh(), z[1].sigmoid(), z[2].sigmoid()
            return h * t + s * c

        wanted = torch.autograd.functional.jacobian(layer, s[k])
        torch.testing.assert_close(jacobians[k], wanted, rtol=1e-12, atol=1e-14)
        # equation 14 has R' where the derivative has R
        z = [R[k] @ s[k] + b[k] for R, b in zip(weights, biases, strict=True)]
        h, t, c = z[0].tanh(), z[1].sigmoid(), z[2].sigmoid()
        transposed = (
            c.diag()
            + t.diag() @ ((1 - h**2).diag() @ weights[0][k]).T
            + h.diag() @ ((t * (1 - t)).diag() @ weights[1][k]).T
            + s[k].diag() @ ((c * (1 - c)).diag() @ weights[2][k]).T
        )
        torch.testing.assert_close(printed[k], transposed, rtol=1e-12, atol=1e-14)


RUNS_OF = {  # case: (step of states and changes, first states, steps, those not counted, time)
    "logistic map, r = 4: exponent": (next_of_logistic, [0.5], 2000, 100, 1),
    "Henon: largest exponent": (next_of_henon, [0.0, 0.0], 3000, 300, 1),
    "Lorenz: largest exponent (1 / time unit)": (next_of_lorenz, [1.0, 1.0, 20.0], 6000, 500, 0.02),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", RUNS_OF)
def test_allowances_for_the_length_of_a_run_are_four_standard_deviations(case):
    step, middle, steps, warmup, time = RUNS_OF[case]
    n, rng = len(middle), np.random.default_rng(0)
    states = np.array(middle)[:, None] + rng.uniform(-0.1, 0.1, (n, 200))
    v, logs = np.concatenate([states, np.ones_like(states)]), 0.0
    for t in range(steps):
        v = step(v)
        size = np.linalg.norm(v[n:], axis=0)
        v[n:] /= size
        logs = logs + np.log(size) if t >= warmup else logs
    exponents = logs / (steps - warmup) / time
    row = ROWS[case]
    assert abs(exponents.mean() - row.known) < 0.2 * row.allowance
    assert 0.5 * row.allowance < 4 * exponents.std() < row.allowance
