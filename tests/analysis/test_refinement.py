"""The loss if the readout gets the output of each layer, against plain loops over the equations."""

import numpy as np
import pytest
import torch
from networks import GATED, SUBJECTS, drawn, jackknife, language_network, network, rolls, tokens
from scipy.special import expit
from torch import nn

from analysis import gate_activity, lesion, refinement
from rhn import PolyphonicModel
from rhn.cells import RHN, Cell
from rhn.errors import InvalidInputError

PIECES = SUBJECTS["chorales"][1]
n = 6


def outputs_by_loop(cell, x) -> np.ndarray:
    """s_0 and the output of each layer (L + 1, T, n) along inputs (T, m), by the equations."""
    weights = {name: p.detach().numpy() for name, p in cell.named_parameters()}
    layers_of_step = {"RHN": rhn_layers, "DTRNN": dt_layers, "LSTM": lstm_layers}
    one_step = layers_of_step[type(cell).__name__]
    s, found = np.zeros(cell.state_size), []
    for x_t in x:
        states = one_step(cell, weights, x_t, s)
        s = states[-1]
        found.append([state[: cell.hidden_size] for state in states])
    return np.array(found).swapaxes(0, 1)


def rhn_layers(cell, weights, x, s) -> list[np.ndarray]:
    n, states = cell.hidden_size, [s]
    for layer, (R, b) in enumerate(zip(weights["weight_hh"], weights["bias"], strict=True)):
        z = R @ s + b + (weights["weight_ih"] @ x if layer == 0 else 0)
        h, t = np.tanh(z[:n]), expit(z[n : 2 * n] + cell.gate_constant)
        c = 1 - t if cell.coupled else expit(z[2 * n :])
        s = h * t + s * c
        states.append(s)
    return states


def dt_layers(cell, weights, x, s) -> list[np.ndarray]:
    states = [s]
    for layer, (R, b) in enumerate(zip(weights["weight_hh"], weights["bias"], strict=True)):
        s = np.tanh(R @ s + b + (weights["weight_ih"] @ x if layer == 0 else 0))
        states.append(s)
    return states


def lstm_layers(cell, weights, x, s) -> list[np.ndarray]:
    h, c = np.split(s, 2)
    z = weights["weight_ih"] @ x + weights["weight_hh"] @ h + weights["bias"]
    z_i, z_f, z_g, z_o = np.split(z, 4)
    c = expit(z_f) * c + expit(z_i) * np.tanh(z_g)
    return [s, np.concatenate((expit(z_o) * np.tanh(c), c))]


def nats_of_frames(logits, frames) -> float:
    return float(np.sum(np.logaddexp(0, logits) - frames * logits))


def nats_of_tokens(logits, ids) -> float:
    chosen = np.take_along_axis(logits, ids[:, None], 1)[:, 0]
    return float(np.sum(np.logaddexp.reduce(logits, 1) - chosen))


def by_loop(model, part) -> tuple[list[float], list[float]]:
    """The losses and distances of each layer along a sequence, summed over its predicted steps."""
    weights = {name: p.detach().numpy() for name, p in model.named_parameters()}
    is_text = part.ndim == 1
    x = weights["embedding"][part[:-1]] if is_text else part[:-1].astype(float)
    if is_text:
        W = weights["embedding" if model.tied else "output_weight"]
        b, nats = weights["output_bias"], nats_of_tokens
    else:
        W, b, nats = weights["output.weight"], weights["output.bias"], nats_of_frames
    losses, distances = [], []
    for cell in model.cells:
        outputs = outputs_by_loop(cell, x)
        moved = np.linalg.norm(outputs[0] - outputs[-1], axis=1)
        for y in outputs:
            losses.append(nats(y @ W.T + b, part[1:]))
            distances.append(np.sum(np.linalg.norm(y - outputs[-1], axis=1) / moved))
        x = outputs[-1]
    return losses, distances


@pytest.mark.parametrize(
    ("kind", "case", "options"),
    [
        pytest.param("chorales", GATED[0], {}, id="rhn"),
        pytest.param("chorales", GATED[1], {"layers": 2}, id="two rhn with carry gates"),
        pytest.param("chorales", ("dt-rnn", 3, {}), {}, id="dt-rnn"),
        pytest.param("chorales", GATED[2], {"layers": 2}, id="two lstm"),
        pytest.param("texts", GATED[0], {"layers": 2}, id="two rhn of texts"),
        pytest.param("texts", GATED[2], {"tied": True}, id="tied lstm of texts"),
    ],
)
def test_losses_and_distances_are_those_of_a_plain_loop(kind, case, options):
    build, data, _ = SUBJECTS[kind]
    model = build(*case, **options)
    found = refinement(model, data)
    usable = [part for part in data if len(part) > 1]
    losses, distances = zip(*(by_loop(model, part) for part in usable), strict=True)
    assert found.lengths.tolist() == [len(part) - 1 for part in usable]
    np.testing.assert_allclose(found.loss_sums.T, losses, rtol=1e-12)
    np.testing.assert_allclose(found.distance_sums.T, distances, rtol=1e-12)


def test_the_last_layer_has_the_loss_of_the_network():
    found, table = refinement(network(), PIECES), lesion(network(), PIECES)
    assert found.loss[-1] == pytest.approx(table.baseline, rel=1e-12)
    assert found.constant == table.constant
    np.testing.assert_allclose(found.loss_sums[-1], table.baseline_sums, rtol=1e-12)


def test_rows_are_named_by_layers_and_begin_with_the_state_before():
    assert refinement(network(depth=2), PIECES).labels == ("before 1", "1", "2")
    stacked = refinement(network(depth=2, layers=2), PIECES)
    assert stacked.labels == ("before 1.1", "1.1", "1.2", "before 2.1", "2.1", "2.2")
    assert stacked.depth.tolist() == [0, 1, 2, 0, 1, 2]


def test_columns_are_ratios_of_sums_with_their_jackknife_intervals():
    found = refinement(network(depth=2, layers=2), PIECES)
    first_rows, last_rows, frames = (0, 3), (2, 5), found.lengths

    def columns(*names):
        table = found.table()
        return np.stack([table[name] for name in names], 1)

    losses = columns("loss", "loss from", "loss to")
    changes = columns("change by layer", "change from", "change to")
    distances = columns("distance to last", "distance from", "distance to")
    for row, (own, far) in enumerate(zip(found.loss_sums, found.distance_sums, strict=True)):
        wanted = [own.sum() / frames.sum(), *jackknife(own, frames)]
        assert losses[row] == pytest.approx(wanted)
        if row in first_rows:
            assert np.isnan(changes[row]).all(), "s_0 has no layer before it"
            assert distances[row].tolist() == [1, 1, 1]
            continue
        more = own - found.loss_sums[row - 1]
        wanted = [more.sum() / frames.sum(), *jackknife(more, frames)]
        assert changes[row] == pytest.approx(wanted, abs=1e-11)
        if row in last_rows:
            assert distances[row].tolist() == [0, 0, 0]
        else:
            wanted = [far.sum() / frames.sum(), *jackknife(far, frames)]
            assert distances[row] == pytest.approx(wanted)


def test_pieces_of_two_batches_are_those_of_each_alone():
    """Rows of padding fill the second one."""
    model, pieces = network(depth=2), rolls(*range(2, 72))
    found = refinement(model, pieces)
    assert found.loss_sums.shape == (3, 70)
    for number in (0, 5, 6, 69):
        alone = refinement(model, pieces[number])
        np.testing.assert_allclose(found.loss_sums[:, number], alone.loss_sums[:, 0])
        np.testing.assert_allclose(found.distance_sums[:, number], alone.distance_sums[:, 0])


def test_texts_of_many_batches_are_those_of_one(monkeypatch):
    model, data = language_network(), tokens(3, 12, 1, 7, 3)
    wanted = refinement(model, data)
    monkeypatch.setattr("analysis.sequences.TEXT_ROWS", 2)
    found = refinement(model, data)
    assert found.lengths.tolist() == [2, 11, 6, 2]
    np.testing.assert_allclose(found.loss_sums, wanted.loss_sums, rtol=1e-12)
    np.testing.assert_allclose(found.distance_sums, wanted.distance_sums, rtol=1e-12)


class Net(nn.Module):
    """Frames through a recurrence that is called somehow, and a readout."""

    def __init__(self, cell, call=lambda cell, x: cell(x)[0], batch_first=False):
        super().__init__()
        self.cell, self.above = cell, nn.Sequential(nn.LayerNorm(n), nn.Linear(n, 88))
        self.call, self.batch_first = call, batch_first

    def forward(self, x):
        return self.above(self.call(self.cell, x))


def turned(cell, x):
    return cell(x.transpose(0, 1))[0].transpose(0, 1)


def packed(cell, x):
    y, _ = cell(nn.utils.rnn.pack_padded_sequence(x, [len(x)] * x.shape[1]))
    return nn.utils.rnn.pad_packed_sequence(y)[0]


def loop(cell, x):
    """h, or (h, c), is both the output and the state."""
    s, outputs = None, []
    for x_t in x:
        s = cell(x_t, s)
        outputs.append(s[0] if isinstance(s, tuple) else s)
    return torch.stack(outputs)


def loop_of_steps(cell, x):
    s, outputs = None, []
    for x_t in x:
        y, s = cell(x_t[None], s)
        outputs.append(y[0])
    return torch.stack(outputs)


def in_two_calls(cell, x):
    first, s = cell(x[:2])
    if len(x) == 2:
        return first
    return torch.cat((first, cell(x[2:], s)[0]))


LAYOUTS = {
    "time first": lambda: Net(nn.LSTM(88, n)),
    "batch first": lambda: Net(nn.LSTM(88, n, batch_first=True), batch_first=True),
    "batch first inside": lambda: Net(nn.LSTM(88, n, batch_first=True), turned),
    "batch first outside": lambda: Net(nn.LSTM(88, n), turned, True),
    "packed": lambda: Net(nn.LSTM(88, n), packed),
    "cell of one step": lambda: Net(nn.LSTMCell(88, n), loop),
    "layer in steps": lambda: Net(nn.LSTM(88, n), loop_of_steps),
    "two calls": lambda: Net(nn.LSTM(88, n), in_two_calls),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@torch.no_grad()
def test_the_readout_of_a_module_gets_the_outputs_before_and_after_a_step(layout):
    """Whatever its axes, and however it calls its layer."""
    module, plain = LAYOUTS[layout]().double(), drawn(Net(nn.LSTM(88, n)).double())
    names = {name.replace("_l0", ""): weight for name, weight in plain.state_dict().items()}
    weights = names if layout == "cell of one step" else plain.state_dict()
    module.load_state_dict(weights)
    found = refinement(module, rolls(9, 4, 12))
    assert found.labels == ("before cell", "cell")
    for piece, losses in zip(rolls(9, 4, 12), found.loss_sums.T, strict=True):
        x = torch.from_numpy(piece).double()
        after, _ = plain.cell(x[:-1])
        before = torch.cat((torch.zeros(1, n, dtype=torch.float64), after[:-1]))
        wanted = [nats_of_frames(plain.above(y).numpy(), piece[1:]) for y in (before, after)]
        assert losses == pytest.approx(wanted, rel=1e-12)


def test_a_cell_whose_only_result_is_its_state_has_the_losses_of_its_layer():
    layer, steps = drawn(Net(nn.GRU(88, n)).double()), Net(nn.GRUCell(88, n), loop).double()
    weights = layer.state_dict().items()
    steps.load_state_dict({name.replace("_l0", ""): weight for name, weight in weights})
    found, wanted = (refinement(module, rolls(9, 4)) for module in (steps, layer))
    np.testing.assert_allclose(found.loss_sums, wanted.loss_sums, rtol=1e-12)


@torch.no_grad()
def test_a_stack_of_torch_has_two_rows_for_each_of_its_layers():
    module = drawn(Net(nn.GRU(88, n, num_layers=2)).double())
    below, above = nn.GRU(88, n).double(), nn.GRU(n, n).double()
    for layer, own in enumerate((below, above)):
        weights = module.cell.state_dict()
        own.load_state_dict({k: weights[k.replace("l0", f"l{layer}")] for k in own.state_dict()})
    (piece,) = rolls(9)
    found = refinement(module, piece)
    assert found.labels == ("before cell.1", "cell.1", "before cell.2", "cell.2")
    first, _ = below(torch.from_numpy(piece[:-1]).double())
    second, _ = above(first)
    none = torch.zeros(1, n, dtype=torch.float64)
    each = (torch.cat((none, first[:-1])), first, torch.cat((none, second[:-1])), second)
    wanted = [nats_of_frames(module.above(y).numpy(), piece[1:]) for y in each]
    assert found.loss_sums[:, 0] == pytest.approx(wanted, rel=1e-12)
    assert found.distance.tolist() == [1, 0, 1, 0]


@torch.no_grad()
def test_a_highway_in_a_module_has_the_rows_of_the_same_network_of_ours():
    ours, module = network("rhn", 3), Net(RHN(88, 7, 3)).double()
    module.above = nn.Linear(7, 88).double()
    module.cell.load_state_dict(ours.cells[0].state_dict())
    module.above.load_state_dict(ours.output.state_dict())
    found, wanted = refinement(module, PIECES), refinement(ours, PIECES)
    assert found.labels == ("before cell.1", "cell.1", "cell.2", "cell.3")
    np.testing.assert_allclose(found.loss_sums, wanted.loss_sums, rtol=1e-12)
    np.testing.assert_allclose(found.distance_sums, wanted.distance_sums, rtol=1e-12)


class Funnel(nn.Module):
    """Two layers with other numbers of units."""

    def __init__(self):
        super().__init__()
        self.wide, self.narrow, self.out = nn.GRU(88, 9), nn.GRU(9, n), nn.Linear(n, 88)

    def forward(self, x):
        return self.out(self.narrow(self.wide(x)[0])[0])


def test_a_layer_that_does_not_fit_the_readout_has_a_distance_and_no_loss():
    found = refinement(Funnel(), rolls(9, 4))
    assert np.isnan(found.loss).tolist() == [True, True, False, False]
    assert found.distance.tolist() == [1, 0, 1, 0]


@torch.no_grad()
def test_a_state_that_stays_has_no_distance():
    """With shut gates."""
    model = network(depth=2)
    model.cells[0].bias[:, 7:] = -1e4
    found = refinement(model, PIECES)
    assert np.isnan(found.distance).all()
    assert np.ptp(found.loss) == 0


def dt_rnn_of_zeros() -> PolyphonicModel:
    model = PolyphonicModel("dt-rnn", hidden_size=n, depth=2)
    for parameter in model.cells[0].parameters():
        parameter.data.zero_()
    return model


@torch.no_grad()
def test_a_state_that_moves_within_a_step_and_stays_0_has_no_distance():
    model = dt_rnn_of_zeros()
    model.cells[0].bias[0] = 1
    assert np.isnan(refinement(model, PIECES).distance).all()


@torch.no_grad()
@pytest.mark.parametrize(
    ("precision", "is_known"), [(torch.float32, False), (torch.float64, True)], ids=str
)
def test_a_state_that_moves_within_its_rounding_has_no_distance(precision, is_known):
    """The first key, played in every other frame, moves a saturated unit by 1e-7."""
    model = dt_rnn_of_zeros()
    cell = model.cells[0]
    cell.weight_ih[0, 0] = 0.1
    cell.weight_hh[1, 0, 0] = 1e-3
    cell.bias[1] = 4
    frames = np.zeros((12, 88))
    frames[::2, 0] = 1
    found = refinement(model.to(precision), [frames])
    assert np.isfinite(found.distance).all() == is_known


def test_the_network_given_is_left_as_it_was():
    module = Net(nn.GRU(88, n)).train()
    refinement(module, rolls(5))
    assert module.training and not module.cell._forward_hooks


class Whole(RHN):
    """A cell that does not run its layers one by one."""

    run_layer = Cell.run_layer


class Other(RHN):
    """A cell whose layers are not those of its step."""

    def run_layer(self, layer, x, s, y):
        return super().run_layer(layer, x, s, y) + 0.01


def backwards(cell, x):
    return cell(x.flip(0))[0].flip(0)


def test_a_layer_that_reads_later_frames_is_refused():
    with pytest.raises(InvalidInputError, match="input of cell is of later frames"):
        refinement(Net(nn.GRU(88, n), backwards), rolls(9))


def twice(cell, x):
    """Each frame passes the layer two times."""
    return cell(cell(x)[0])[0]


def test_a_layer_that_reads_each_frame_two_times_is_refused():
    module = nn.Sequential(nn.Linear(88, n), Net(nn.GRU(n, n), twice))
    with pytest.raises(InvalidInputError, match=r"number of steps that 1\.cell reads is 16"):
        refinement(module, rolls(9))
    with pytest.raises(InvalidInputError, match=r"number of steps that 1\.cell reads is 18"):
        gate_activity(module, rolls(9))


@torch.no_grad()
def test_networks_that_cannot_be_measured_are_refused():
    with pytest.raises(InvalidInputError, match="run_layer of Whole is missing"):
        refinement(network(Whole, 2), PIECES)
    with pytest.raises(InvalidInputError, match="by run_layer of Other"):
        refinement(network(Other, 2), PIECES)
    with pytest.raises(InvalidInputError, match="number of frames to predict is 0"):
        refinement(network(), rolls(1, 1))
    with pytest.raises(InvalidInputError, match="number in sequence 0"):
        refinement(network(), [np.full((4, 88), 0.5)])


def test_the_progress_counts_batches(monkeypatch):
    monkeypatch.setattr("analysis.sequences.TEXT_ROWS", 2)
    shown = []
    refinement(language_network(), tokens(5, 4, 3), progress=lambda *counts: shown.append(counts))
    assert shown == [(1, 2), (2, 2)]
