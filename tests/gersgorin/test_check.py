"""A check without targets trains on the next frames by SGD; gains, exponents and saturation of an untrained network."""

import math

import numpy as np
import pytest
import torch
from tables import for_each
from torch import nn

from gersgorin import Objective, check, temporal_jacobian, trajectory
from gersgorin.checking import checking
from gersgorin.checking.checking import chorale_targets, frame_targets
from gersgorin.checking.gains import PRODUCTS, SHORTEST, STATES_HELD, affordable, layer_gains, measure_gains
from gersgorin.checking.prediction import lines_of_gains
from gersgorin.linalg import finite_time_exponent
from rhn.cells import CELLS, DTRNN, RHN
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel


def model(**options) -> PolyphonicModel:
    return PolyphonicModel(**options, generator=torch.Generator().manual_seed(1))


def waves(T: int = 20, B: int = 2) -> torch.Tensor:
    return torch.sin(torch.arange(T * B * 3).reshape(T, B, 3) / 5.0)


def frames() -> torch.Tensor:
    """Excerpts of 32 chorales, (T, B, 88)."""
    return chorale_targets(model(cell="rnn", hidden_size=2))[0][:12, :32]


def own(cell: str, **options) -> PolyphonicModel:
    return model(cell=cell, hidden_size=8, input_size=5, output_size=5, **options)


def rolls() -> torch.Tensor:
    return (torch.rand(12, 64, 5, generator=torch.Generator().manual_seed(0)) < 0.3).float().repeat_interleave(2, 0)


def test_a_deep_transition_with_tiny_weights_stays_and_a_highway_network_leaves(monkeypatch):
    stuck = check(own("dt-rnn", depth=6, init="gaussian:1e-4"), rolls(), learning_rate=0.1, steps=300, seconds=600)
    assert stuck.outcome == "stays" and stuck.order == pytest.approx(5, abs=0.05) and "order 5" in stuck.why
    monkeypatch.setattr(checking, "LEAST", math.inf)  # the flow takes longer than so short a training
    quick = check(own("rhn", depth=2, init="gaussian:1e-4"), rolls(), learning_rate=1.0, steps=300, seconds=36_000)
    assert quick.outcome == "leaves" and quick.order == pytest.approx(0, abs=0.05)
    assert quick.flow_steps == pytest.approx(quick.escape_steps, rel=0.5)
    assert (quick.optimizer, quick.steps_per_epoch) == ("SGD", 2)


def test_the_loss_of_next_frames_is_the_mean_over_real_ones():
    pieces = [np.eye(5)[[0, 1, 2]], np.eye(5)[[0, 1, 2, 3, 4]]]
    network = own("rnn")
    x, y, loss = frame_targets(network, pieces)
    assert x.shape == (4, 2, 5) and x.dtype == torch.float32
    costs = [network.nll(torch.from_numpy(p).float().unsqueeze(1)).flatten() for p in pieces]
    torch.testing.assert_close(loss(network(x), y), torch.cat(costs).mean())


def test_words_and_modules_are_checked_on_what_follows():
    words = LanguageModel("rnn", vocabulary_size=7, hidden_size=4)
    found = check(words, torch.arange(60).remainder(7).view(20, 3), learning_rate=1.0, steps=40)
    assert found.name == "rnn, 4 units" and found.constant_loss == pytest.approx(np.log(7), rel=0.05)
    module = nn.Sequential(nn.GRU(3, 3))
    assert check(module, waves(), learning_rate=0.1, loss_fn="squared", steps=40).steps_per_epoch == 1


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


def test_exponents_are_those_of_each_sequence():
    network, x = model(cell="lstm", hidden_size=4), frames()
    (gains,) = measure_gains(Objective(network, x))
    cell = network.double().cells[0]
    states = trajectory(cell, x[:-1].double())
    A = temporal_jacobian(cell, x[:-1].double(), states[:-1])
    assert gains.exponents == pytest.approx(finite_time_exponent(A).detach().numpy(), abs=1e-9)


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
        runs_layers = False
        layer_jacobians = None

    probe = frames()
    objective = Objective(PolyphonicModel(Closed, hidden_size=4, depth=2), probe)
    (gains,) = measure_gains(objective)
    assert len(gains.input_gain) == len(gains.state_gain) == 0 and len(gains.exponents) == probe.shape[1]


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


def test_impossible_networks_and_sequences_are_refused_in_a_sentence():
    pieces = frames()
    for sequences, says in (
        (torch.where(pieces > 0, torch.nan, pieces), "NaN"),
        (pieces[:0], "frame"),
        (torch.zeros(9, 2, 88), "same at every frame"),
        (pieces[..., :40], "40"),
    ):
        with pytest.raises(InvalidInputError, match=says):
            check(model(cell="rnn", hidden_size=2), sequences, learning_rate=0.1)
    with pytest.raises(InvalidInputError, match="no loss of its own"):
        check(nn.Linear(88, 88), pieces, learning_rate=0.1)
    for rate in (-0.1, torch.nan):
        with pytest.raises(InvalidInputError, match="learning_rate is"):
            check(model(cell="rnn", hidden_size=2), pieces, learning_rate=rate)


@for_each(("units", "depth"), [(100, 1), (500, 10), (200, 300), (5000, 1)])
def test_the_exponents_of_a_large_network_take_limited_memory_and_time(units, depth):
    """Or the fewest steps of one sequence."""
    steps, sequences = affordable(RHN(3, units, depth, device="meta"), torch.zeros(10_000, 8, 3))
    count = steps * sequences
    assert (count * units**2 <= STATES_HELD and count * units**3 * (depth + 1) <= PRODUCTS) or count == SHORTEST
    assert (
        count == SHORTEST or 2 * (count + 8) * units**2 > STATES_HELD or 2 * count * units**3 * (depth + 1) > PRODUCTS
    )
