"""The forecast of iterations: known exponents and responses, and networks of every kind."""

import math

import pytest
import torch
from scipy.stats import spearmanr
from tables import for_each
from test_newton import DOUBLE, cell_of, drawn, recurrence_of

from rhn.kernels.newton import Recurrence, solve
from rhn.kernels.newton_forecast import measure


def linear(A: torch.Tensor) -> Recurrence:
    return Recurrence(
        lambda x, s: s @ A.T + x,
        lambda x, s: A.expand(*s.shape, len(A)),
        drawn(200, len(A)),
        torch.zeros(len(A), dtype=DOUBLE),
    )


def test_measures_of_a_linear_map():
    found = measure(linear(torch.diag(torch.tensor([0.5, -0.25], dtype=DOUBLE))))
    assert found.exponent == pytest.approx(math.log(0.5), abs=1e-6)
    assert 1 <= 10**found.log_response <= 2  # 1 / (1 - 0.5) at most
    assert found.log_remainder < -15 and found.rehearsals == (1, 1)


def test_the_forecast_is_between_one_and_all_steps():
    with torch.no_grad():
        wild = measure(recurrence_of(cell_of("rnn", n=8, scale=8), drawn(64, 3)))
        tame = measure(recurrence_of(cell_of("rnn", n=8, scale=0.1), drawn(64, 3)))
    assert 1 <= tame.iterations(4096) < 8 and 40 < wild.iterations(4096) <= 4096
    assert wild.iterations(1) == 1


@for_each("T", [1, 5, 20])
def test_a_run_shorter_than_the_rehearsals(T):
    with torch.no_grad():
        assert 1 <= measure(recurrence_of(cell_of("gru"), drawn(T, 2, 3))).iterations(T) <= max(T, 1)


@pytest.mark.filterwarnings("error")
def test_numbers_that_are_not_finite_have_a_forecast():
    x = drawn(64, 3)
    x[40] = torch.nan
    with torch.no_grad():
        assert math.isfinite(measure(recurrence_of(cell_of("gru"), x)).iterations(1000))


def test_the_forecast_ranks_networks_that_it_was_not_fitted_to():
    counted, expected = [], []
    with torch.no_grad():
        for name in ("rnn", "gru", "rhn", "leaky", "mgu"):
            for scale in (0.2, 0.9, 1.8, 3.0):
                problem = recurrence_of(cell_of(name, n=5, scale=scale, seed=11), drawn(200, 3, seed=11))
                counted.append(solve(problem, guard=False, max_iterations=60).iterations)
                expected.append(measure(problem).iterations(200))
    assert spearmanr(counted, expected)[0] > 0.85
