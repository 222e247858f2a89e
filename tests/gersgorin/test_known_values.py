"""Known values: closed forms and published numbers, by mpmath where a digit could be wrong."""

import math
from dataclasses import replace

import mpmath
import numpy as np
import pytest

from gersgorin import known_values
from gersgorin.known_values import CASES

ROWS = {row.case: row for row in CASES}
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


@pytest.mark.parametrize("case", ROWS)
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
