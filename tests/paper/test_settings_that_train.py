"""The measures of untrained networks of trials, and the table of their shares of ordered pairs."""

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from optim_study import read_csv, small
from optim_study.backend import models_of_trials
from paper import settings_that_train
from paper.pair_order import Order
from paper.predictions import ABOVE, HALF, PREDICTED
from paper.settings_that_train import (
    FAST,
    FIRST,
    HELD_OUT,
    MEASURES,
    POOLED,
    STUDIES,
    Trials,
    is_right,
    orders,
    outcomes,
    predicted,
    read_orders,
    shares_text,
    starts,
    write_orders,
)
from paper.values import RESULTS, read_values
from rhn.data import chorales
from rhn.errors import DataError

ROWS = read_csv(RESULTS / STUDIES[FIRST])


@pytest.mark.parametrize("depth", [1, 6])
def test_an_rhn_with_tiny_weights_has_the_radius_of_its_carry_gates(depth):
    """Weights of at most 1e-7 leave c = 1 - sigmoid(b) in each layer: A = c^L I."""
    tiny = [r for r in ROWS if r.arch == "rhn" and r.depth == depth and r.init_std < 1e-7]
    carry = np.array([1 - 1 / (1 + np.exp(-row.transform_bias)) for row in tiny])
    measured = starts(tiny)
    assert len(tiny) > 2
    for name in ("spectral radius", "row discs", "column discs", "2-norm"):
        found = [MEASURES[name](start) for start in measured]
        assert found == pytest.approx(carry**depth, rel=1e-4), name
    growth = [MEASURES["growth of the product"](start) for start in measured]
    assert growth == pytest.approx(depth * np.log(carry), rel=1e-4)


def jacobians_by_autograd(row) -> tuple[np.ndarray, np.ndarray]:
    """ds'/ds (T, n, n) and ds'/dx (T, n, keys) of the untrained network of a row, by the cell's
    equation in float64, step by step.
    """
    corpus = chorales()
    (config,) = small(arch=(row.arch,), depth=(row.depth,), seed=row.seed).studies(corpus.checksum)
    model = models_of_trials(config, {row.trial: config.settings(row.trial)})[row.trial]
    cell = next(iter(model.cells)).double()
    state, by_state, by_input = torch.zeros(row.hidden_size).double(), [], []
    for x in torch.as_tensor(corpus.train[0][:32]).double():
        A, B = torch.autograd.functional.jacobian(cell.step, (x, state))[::-1]
        by_state.append(A.numpy())
        by_input.append(B.numpy())
        state = cell.step(x, state).detach()
    return np.stack(by_state), np.stack(by_input)


@pytest.mark.parametrize("arch", ["rhn", "dts-rnn"])
def test_measures_are_medians_over_the_steps_by_numpy(arch):
    """Of the trial with the largest weights: its rows and columns differ."""
    own = [row for row in ROWS if row.arch == arch and row.depth == 2]
    row = max(own, key=lambda row: row.init_std)
    A, B = jacobians_by_autograd(row)
    product = np.linalg.multi_dot(A[::-1])
    wanted = {
        "spectral radius": np.median(np.abs(np.linalg.eigvals(A)).max(1)),
        "row discs": np.median(np.abs(A).sum(2).max(1)),
        "column discs": np.median(np.abs(A).sum(1).max(1)),
        "2-norm": np.median(np.linalg.norm(A, 2, (1, 2))),
        "growth of the product": np.log(np.linalg.norm(product, 2)) / len(A),
        "input gain": np.median(np.linalg.norm(B, 2, (1, 2))),
        "learning rate": row.learning_rate,
        "deviation": row.init_std,
        "is an RHN": float(arch == "rhn"),
    }
    (start,) = starts([row])
    found = {name: of(start) for name, of in MEASURES.items() if name != "transform bias"}
    assert found == pytest.approx(wanted, rel=1e-6)
    bias = MEASURES["transform bias"](start)
    assert bias == row.transform_bias if arch == "rhn" else np.isnan(bias)


def test_a_trial_whose_settings_its_seed_does_not_draw_is_refused():
    with pytest.raises(DataError, match="trial 3 of rhn-depth1 has other settings"):
        starts([replace(ROWS[3], learning_rate=0.5)])


def test_the_trials_of_the_first_study_that_train_are_those_of_its_results(monkeypatch):
    """docs/results.md, and a count of the table by hand: losses below 9.5."""
    monkeypatch.setattr(settings_that_train, "starts", lambda rows: [])
    found = settings_that_train.trials_of(RESULTS / STUDIES[FIRST])
    counts = Counter(n for n, trains in zip(found.networks, found.trains, strict=True) if trains)
    assert len(found.networks) == 720
    assert counts == {
        "rhn, depth 1": 7,
        "rhn, depth 2": 18,
        "rhn, depth 4": 15,
        "rhn, depth 6": 11,
        "dt-rnn, depth 1": 11,
        "dt-rnn, depth 2": 15,
        "dts-rnn, depth 1": 12,
        "dts-rnn, depth 2": 3,
    }


def trials(count: int = 40) -> Trials:
    """Trials of two networks whose learning rate decides, and whose name separates."""
    rng = np.random.default_rng(0)
    rate = 10 ** rng.uniform(-3, 0, count)
    networks = ["rhn, depth 1" if k % 2 else "dt-rnn, depth 1" for k in range(count)]
    values = {name: rng.normal(size=count) for name in MEASURES}
    is_rhn = np.array([k % 2 for k in range(count)], dtype=float)
    values |= {"learning rate": rate, "is an RHN": is_rhn}
    return Trials(values, rate + 0.1 * is_rhn > 0.15, networks)


def test_fast_trials_and_single_networks_are_measured_apart():
    every = trials()
    found = orders({FIRST: every})
    is_fast, is_rhn = every.values["learning rate"] >= FAST, every.values["is an RHN"] > 0
    trained = every.trains
    pairs = {
        "rhn, depth 1": (is_rhn & trained).sum() * (is_rhn & ~trained).sum(),
        "within, rate >= 0.1": sum(
            (own & is_fast & trained).sum() * (own & is_fast & ~trained).sum()
            for own in (is_rhn, ~is_rhn)
        ),
    }
    for scope, count in pairs.items():
        assert found[FIRST, scope, "deviation"].pairs == count
    assert found[FIRST, "within", "learning rate"].auc == 1
    assert found[FIRST, "between", "is an RHN"].auc > 0.5
    assert (FIRST, "within", "is an RHN") not in found


@pytest.mark.parametrize(
    ("low", "high", "prediction", "right"),
    [
        pytest.param(0.51, 0.9, ABOVE, True, id="above"),
        pytest.param(0.5, 0.9, ABOVE, False, id="above, touches"),
        pytest.param(0.4, 0.6, HALF, True, id="contains"),
        pytest.param(0.5, 0.6, HALF, True, id="contains its end"),
        pytest.param(0.51, 0.6, HALF, False, id="lies above"),
        pytest.param(0.3, 0.49, HALF, False, id="lies below"),
        pytest.param(np.nan, np.nan, HALF, False, id="no interval"),
    ],
)
def test_a_prediction_is_right_by_its_interval(low, high, prediction, right):
    assert is_right(Order(0.55, low, high, 10), prediction) is right


def test_the_table_is_read_back(tmp_path: Path):
    found = {(FIRST, "within", "2-norm"): Order(0.51234, 0.4, 0.625, 12)}
    write_orders(found, tmp_path / "orders.csv")
    assert read_orders(tmp_path / "orders.csv") == {
        (FIRST, "within", "2-norm"): Order(0.512, 0.4, 0.625, 12)
    }


def test_the_page_counts_the_predictions_of_the_stored_table():
    stored, values = read_orders(), read_values()
    assert values["predictions"] == len(PREDICTED)
    assert values["predictions_right"] == sum(outcomes(stored).values())
    assert predicted(stored)["radius_beyond_name"] == pytest.approx(
        values["radius_beyond_name"], abs=2e-3
    )


def test_the_page_of_the_paper_has_the_decimals_of_the_stored_table():
    """A share of 0.7453 is stored as 0.745, from which 0.74 would be printed."""
    page = (RESULTS.parent / "paper.md").read_text()
    with (RESULTS / "settings-that-train.csv").open(newline="") as file:
        stored = [row for row in csv.DictReader(file) if row["pairs"] in POOLED]
    assert len(stored) > 60
    for row in stored:
        assert f"| {row['auc']} ({row['from']} to {row['to']}) |" in page


@pytest.mark.parametrize(
    ("row", "scope", "measure"),
    [
        pytest.param("learning rate, pairs of one network", "within", "learning rate", id="rate"),
        pytest.param(
            "spectral radius, pairs of one network", "within", "spectral radius", id="radius"
        ),
        pytest.param(
            "spectral radius, pairs of two networks, rate at least 0.1",
            "between, rate >= 0.1",
            "spectral radius",
            id="radius of two networks",
        ),
        pytest.param(
            "is an RHN, the same pairs", "between, rate >= 0.1", "is an RHN", id="architecture"
        ),
    ],
)
def test_the_page_of_results_has_the_stored_shares(row, scope, measure):
    stored, text = read_orders(), (RESULTS.parent / "results.md").read_text()
    cells = [shares_text(stored[study, scope, measure]) for study in STUDIES]
    assert f"| {row} | {' | '.join(cells)} |" in text
    right = sum(outcomes(stored).values())
    assert f"{len(PREDICTED)} predictions" in text and f"{right} are right" in text


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_the_stored_shares_are_those_of_the_stored_trials(study):
    every = settings_that_train.trials_of(RESULTS / STUDIES[study])
    stored = {key: order for key, order in read_orders().items() if key[0] == study}
    found = orders({study: every})
    assert found.keys() == stored.keys()
    for key, order in found.items():
        assert stored[key] == pytest.approx(order, abs=2e-3, nan_ok=True), key


def test_the_held_out_trials_are_of_another_seed():
    held_out = read_csv(RESULTS / STUDIES[HELD_OUT])
    assert {row.seed for row in ROWS} == {0} and {row.seed for row in held_out} == {1}
