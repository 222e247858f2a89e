"""A check: what is known of a network before it is trained, what is not, and how it is told."""

import json
import math
from dataclasses import replace

import pytest
import torch
from tables import for_each
from torch import nn

from gersgorin import Objective, check, temporal_jacobian, trajectory
from gersgorin.checking.calibration import load_calibration, unlike
from gersgorin.checking.checking import chorale_batches, chorale_probe
from gersgorin.checking.gains import PRODUCTS, SHORTEST, STATES_HELD, affordable, layer_gains, measure_gains
from gersgorin.checking.verdict import Training, lines_of_gains
from gersgorin.linalg import finite_time_exponent
from rhn.cells import CELLS, DTRNN, RHN
from rhn.data import chorales
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.training.chorales import training_batches

STUCK = {"cell": "dt-rnn", "hidden_size": 12, "depth": 6, "init": "gaussian:1e-4"}
QUICK = {"cell": "rhn", "hidden_size": 13, "depth": 2, "init": "gaussian:1e-4"}


def model(**options) -> PolyphonicModel:
    return PolyphonicModel(**options, generator=torch.Generator().manual_seed(1))


def frames() -> torch.Tensor:
    """Some of the chorales, (T, B, 88)."""
    return chorale_probe(model(**QUICK))


@pytest.fixture(scope="module")
def stuck():
    return check(model(**STUCK), learning_rate=0.1, epochs=400)


@pytest.fixture(scope="module")
def quick():
    return check(model(**QUICK), learning_rate=0.15, epochs=200)


def test_a_deep_transition_with_tiny_weights_is_told_to_stay(stuck):
    assert stuck.order == pytest.approx(5, abs=0.05)
    assert stuck.escape_epochs > 1e6
    assert stuck.probability < 0.05 and stuck.interval[0] < 0.01 and stuck.interval[1] < 0.1
    assert "order 5" in stuck.verdict and f"{stuck.outlook.learned} learned" in stuck.verdict
    assert stuck.verdict.count("\n") == 0 and stuck.verdict.endswith(".")


def test_a_highway_network_with_tiny_weights_is_told_to_learn(quick):
    assert quick.order == pytest.approx(0, abs=0.05)
    assert quick.escape_epochs < 100
    assert quick.probability > 0.5 and quick.suggestions == ()
    assert "should leave the plateau" in quick.verdict


def test_the_probability_is_that_of_the_calibrations_counts(stuck, quick):
    for found in (stuck, quick):
        delay = math.log10(found.escape_epochs / found.training.epochs)
        like = load_calibration().look_up(delay)
        assert (found.outlook.networks, found.outlook.learned) == (like.networks, like.learned)
        assert found.interval == like.interval and found.probability == like.probability


def test_each_suggestion_is_the_same_measure_of_the_changed_network(stuck):
    by_words = {s.change: s for s in stuck.suggestions}
    assert by_words.keys() == {"initialise with 1/sqrt(n)", "use gates", "a learning rate of 0.3"}
    changed = PolyphonicModel(**STUCK | {"cell": "rhn"}, generator=torch.Generator().manual_seed(0))
    again = check(changed, learning_rate=0.1, epochs=400, suggest=False)
    assert by_words["use gates"].outlook == again.outlook and by_words["use gates"].option == {"cell": "rhn"}
    faster = check(model(**STUCK), learning_rate=0.3, epochs=400, suggest=False)
    assert by_words["a learning rate of 0.3"].outlook == faster.outlook


def test_what_it_tells_is_json_without_nan(stuck):
    content = json.loads(json.dumps(stuck.to_json(), allow_nan=False))
    assert set(content["rates"]) == {
        "cells.0.weight_ih",
        "output.weight",
        *(f"cells.0.weight_hh[{k}]" for k in range(6)),
    }
    assert content["verdict"] == stuck.verdict and content["order"] == stuck.order
    assert content["probability"] == stuck.probability and content["interval"] == list(stuck.interval)


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ("never", "for ever"),
        ("waiting", "when its training ends"),
        ("unsettled", "not seen to leave"),
        ("diverged", "diverge"),
    ],
)
def test_a_network_that_is_not_seen_to_leave_says_why(stuck, ended, said):
    found = replace(stuck, outlook=replace(stuck.outlook, escape_epochs=math.inf, ended=ended), suggestions=())
    content = found.to_json()
    assert content["escape_epochs"] is None and content["ended"] == ended and said in found.verdict
    assert "inf" not in found.summary() and "leaves after" in found.summary()


def test_the_way_of_a_very_large_network_is_not_followed(monkeypatch):
    monkeypatch.setattr("gersgorin.checking.checking.TOO_LARGE", 100)
    found = check(model(**QUICK), learning_rate=0.1)
    assert math.isnan(found.escape_epochs) and found.probability is None and found.suggestions == ()
    assert found.to_json()["escape_epochs"] is None and found.order == pytest.approx(0, abs=0.05)
    assert "too many parameters" in found.verdict and "leaves after   not followed" in found.summary()


def test_the_summary_tells_the_gains_a_layer(stuck):
    lines = stuck.summary().splitlines()
    assert lines[0] == stuck.verdict
    (gains,) = (line.split()[2:] for line in lines if line.startswith("  input gain"))
    assert [float(word) for word in gains] == pytest.approx(stuck.cells[0].input_gain, rel=0.1)


def test_batches_are_those_of_a_training(stuck):
    batches = training_batches(chorales(progress=False).train, 32, device="cpu", dtype=torch.float32)
    assert stuck.training.batches == chorale_batches() == len(batches)


@for_each("name", CELLS)
def test_gains_of_layers_multiply_small_disturbances(name):
    depth = 3 if CELLS[name].deep else 1
    cell = CELLS[name](
        4, 5, depth, init="gaussian:0.7", dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    x, s, small = torch.randn(4).double(), torch.randn(cell.state_size).double().tanh(), 1e-6
    by_input, by_state = layer_gains(cell, x, s)

    def layers(x, state_of=None):
        states = [s]
        for layer in range(depth):
            states.append(cell.run_layer(layer, x, states[-1], s) if depth > 1 else cell.step(x, s))
        return states

    before = layers(x)
    for layer in range(depth):
        change = lambda d, layer=layer: (layers(x + small * d)[layer + 1] - before[layer + 1]) / small  # noqa: E731
        columns = torch.stack([change(d) for d in torch.eye(4).double()], 1)
        assert by_input[layer].item() == pytest.approx(torch.linalg.matrix_norm(columns, 2).item(), rel=1e-4)
        run = lambda state, layer=layer: cell.run_layer(layer, x, state, s) if depth > 1 else cell.step(x, state)  # noqa: E731
        nudged = [(run(before[layer] + small * d) - run(before[layer])) / small for d in torch.eye(len(s)).double()]
        assert by_state[layer].item() == pytest.approx(
            torch.linalg.matrix_norm(torch.stack(nudged, 1), 2).item(), rel=1e-4
        )


def test_exponents_are_those_of_each_sequence_and_seed():
    build = lambda seed: PolyphonicModel("lstm", hidden_size=4, generator=torch.Generator().manual_seed(seed))  # noqa: E731
    found = check(build, learning_rate=0.1, seeds=3, suggest=False)
    assert len(found.cells) == 3 and len({tuple(c.exponents) for c in found.cells}) == 3
    probe, second = frames(), build(1).double().cells[0]
    states = trajectory(second, probe[:-1])
    A = temporal_jacobian(second, probe[:-1], states[:-1])
    assert found.cells[1].exponents == pytest.approx(finite_time_exponent(A).detach().numpy(), abs=1e-9)


def test_saturation_counts_outputs_and_gates():
    closed = model(cell="rhn", hidden_size=4, transform_bias=-40.0)
    assert measure_gains(Objective(closed, frames()))[0].saturated_gates == 1
    half = model(cell="rnn", hidden_size=4, init="gaussian:0")
    with torch.no_grad():
        half.cells[0].bias[:, :2] = 20
    (gains,) = measure_gains(Objective(half, frames()))
    assert gains.saturated_outputs == 0.5 and gains.saturated_gates is None


def test_a_cell_that_says_nothing_of_its_layers_has_no_gains():
    class Closed(DTRNN):
        run_layer = None
        runs_layers = False
        layer_jacobians = None

    probe = frames()
    objective = Objective(PolyphonicModel(Closed, hidden_size=4, depth=2), probe)
    (gains,) = measure_gains(objective)
    assert len(gains.input_gain) == len(gains.state_gain) == 0 and len(gains.exponents) == probe.shape[1]


class Own(torch.nn.Module):
    """torch.nn's LSTM with an output."""

    def __init__(self):
        super().__init__()
        self.lstm, self.out = torch.nn.LSTM(3, 5), torch.nn.Linear(5, 3)

    def forward(self, x):
        return self.out(self.lstm(x)[0])


def waves(T: int = 20, B: int = 2) -> torch.Tensor:
    return torch.sin(torch.arange(T * B * 3).reshape(T, B, 3) / 5.0)


def test_what_the_calibration_does_not_know_it_says():
    own = check(Own(), waves(), learning_rate=0.1, loss="squared", epochs=5)
    words = check(
        LanguageModel("rnn", vocabulary_size=7, hidden_size=4),
        torch.arange(60).remainder(7).view(20, 3),
        learning_rate=1.0,
    )
    kept = model(**QUICK | {"hidden_size": 3})
    for found in (own, words, check(kept, waves().repeat(1, 1, 30)[..., :88].abs(), learning_rate=0.1)):
        assert found.probability is None and found.interval is None and found.unlike
        assert "not known" in found.verdict and found.to_json()["probability"] is None
    assert own.cells[0].cell == "lstm" and own.training.batches == 1


def test_a_network_that_diverged_when_followed_may_diverge_and_is_offered_smaller_learning_rates():
    def build(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return Own()

    given = {"sequences": waves(), "loss": "squared", "learning_rate": 1000.0}
    found, one = check(build, **given), check(build(0), **given)
    assert found.outlook == one.outlook and found.outlook.ended == "diverged"
    assert (found.again, one.again, found.to_json()["another_draw_ended"]) == ("diverged", None, "diverged")
    assert check(lambda seed: build(0), **given, suggest=False).again is None  # the same weights, as of a file
    for check_, told in ((found, "both runs"), (one, "the one run"), (replace(found, again="left"), "one of two runs")):
        assert f"may diverge before it leaves the plateau, as {told} did" in check_.verdict
    assert [s.option["learning_rate"] for s in found.suggestions] == [300, 100]


@for_each(
    ("options", "training", "says"),
    [
        ({"hidden_size": 900}, {}, "hidden size of 900"),
        ({"depth": 9}, {}, "depth of 9"),
        ({"layers": 2}, {}, "stacks"),
        ({"coupled": False}, {}, "coupled"),
        ({"init": "gaussian:30"}, {}, "weight gain"),
        ({}, {"learning_rate": 3.0}, "learning rate of 3"),
        ({}, {"epochs": 10**7}, "epochs"),
    ],
)
def test_networks_and_trainings_far_from_all_that_was_tried_are_not_told_of(options, training, says):
    objective = Objective(model(**QUICK | options), frames()[:4, :2])
    constant = 11.0
    reason = unlike(objective, Training(**{"learning_rate": 0.1, "epochs": 100} | training), constant, constant)
    assert says in reason


def test_a_kind_that_was_never_tried_is_named():
    objective = Objective(model(cell="lru", hidden_size=8, init="gaussian:0.01"), frames()[:4, :2])
    reason = unlike(objective, Training(learning_rate=0.1, epochs=100), 11.0, 11.0)
    assert reason == "is of the kind lru gaussian, of which none was tried"


def test_a_start_that_was_never_tried_names_the_option_of_one_that_was():
    objective = Objective(model(cell="rhn", hidden_size=8, init="uniform:0.04"), frames()[:4, :2])
    reason = unlike(objective, Training(learning_rate=0.1, epochs=100), 11.0, 11.0)
    assert reason == "is of the kind rhn uniform, of which none was tried (it is known with --init gaussian:STD)"


class NormedLoop(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.norm, self.output = nn.GRUCell(3, 4), nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, x):
        h, states = x.new_zeros(x.shape[1], 4), []
        for frame in x:
            h = self.norm(self.cell(frame, h))
            states.append(h)
        return self.output(torch.stack(states))


def test_gains_of_a_cell_in_a_loop_of_its_module_are_not_printed():
    objective = Objective(NormedLoop(), torch.rand(6, 2, 3), "squared")
    lines = lines_of_gains(tuple(measure_gains(objective)))
    assert lines == ["cell: called in a loop of your own, which check does not measure; gersgorin plot follows it"]


def test_a_trained_network_has_left():
    trained = model(**QUICK | {"init": "gaussian:0.1"})
    pieces = frames().float()
    optimizer = torch.optim.Adam(trained.parameters(), 0.1)
    for _ in range(80):
        optimizer.zero_grad()
        trained.nll(pieces).mean().backward()
        optimizer.step()
    found = check(trained, learning_rate=0.1)
    assert found.escape_epochs == 0 and found.probability is None and "has left the plateau already" in found.verdict


@for_each(
    ("training", "says"),
    [
        ({"learning_rate": -0.1}, "learning rate is -0.1"),
        ({"learning_rate": math.nan}, "learning rate is nan"),
        ({"learning_rate": "fast"}, "learning rate is fast"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batches": 0}, "batches is 0"),
        ({"batches": 1.5}, "batches is 1.5"),
        ({"seeds": 2}, "seeds is 2"),
        ({"seeds": 0}, "seeds is 0"),
    ],
)
def test_impossible_trainings_are_refused_in_a_sentence(training, says):
    with pytest.raises(InvalidInputError, match=says):
        check(model(**QUICK), **{"learning_rate": 0.1} | training)


def test_impossible_networks_and_sequences_are_refused_in_a_sentence():
    broken = model(**QUICK)
    with torch.no_grad():
        broken.cells[0].weight_hh[0, 0, 0] = math.nan
    pieces = frames()
    for network, sequences, says in (
        (broken, None, "weight_hh"),
        (model(**QUICK), torch.where(pieces > 0, math.nan, pieces), "NaN"),
        (model(**QUICK), pieces[:0], "frame"),
        (model(**QUICK), torch.zeros(9, 2, 88), "same at every frame"),
        (model(**QUICK), pieces[..., :40], "40"),
        (torch.nn.Linear(88, 88), pieces, "loss"),
    ):
        with pytest.raises(InvalidInputError, match=says):
            check(network, sequences, learning_rate=0.1)
    with pytest.raises(InvalidInputError, match="no recurrence"):
        check(torch.nn.Linear(88, 88), pieces, learning_rate=0.1, loss="bernoulli")


@for_each(("units", "depth"), [(100, 1), (500, 10), (200, 300), (5000, 1)])
def test_the_exponents_of_a_large_network_take_limited_memory_and_time(units, depth):
    """Or the fewest steps of one sequence."""
    steps, sequences = affordable(RHN(3, units, depth, device="meta"), torch.zeros(10_000, 8, 3))
    count = steps * sequences
    assert (count * units**2 <= STATES_HELD and count * units**3 * (depth + 1) <= PRODUCTS) or count == SHORTEST
    assert (
        count == SHORTEST or 2 * (count + 8) * units**2 > STATES_HELD or 2 * count * units**3 * (depth + 1) > PRODUCTS
    )
