"""`trainability.check`: outcomes, orders, layers at fault, own losses and validation sets."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rhn.errors import InvalidInputError
from trainability import check
from trainability.reference import layers_of, stand_ins
from trainability.signal import explained, forecast
from trainability.training import Training


class Tagger(nn.Module):
    """A linear layer, an attention of its own, and a linear head over the frames."""

    def __init__(self, broken: bool):
        super().__init__()
        self.read = nn.Linear(2, 16)
        self.attention = Attention(broken)
        self.head = nn.Linear(16, 1)

    def forward(self, x):
        return self.head(self.attention(self.read(x).tanh()))


class Attention(nn.Module):
    """A weighted mean over frames; broken: of states that are far too small."""

    def __init__(self, broken: bool):
        super().__init__()
        self.score, self.broken = nn.Linear(16, 1), broken

    def forward(self, h):
        if self.broken:
            h = 1e-6 * h
        return (self.score(h).softmax(1) * h).sum(1)


def sums(count=400, frames=6):
    """Sequences of two numbers a frame, and the sum of the first ones."""
    x = torch.randn(count, frames, 2)
    return x, x[..., :1].mean(1)


def test_the_layer_at_fault_is_named():
    x, y = sums()
    model = Tagger(broken=True)
    found = check(model, x, y, "mse", "adam", learning_rate=0.01, steps=200, seconds=30)
    assert found.part == "network"
    assert "self.attention" in " ".join(cause.sentence for cause in found.causes)


def test_stand_ins_take_the_place_of_each_layer():
    x, y = sums()
    model = Tagger(broken=False)
    training = Training(model, x, y, "mse", torch.optim.Adam(model.parameters(), 1e-3))
    layers = dict(stand_ins(training))
    assert set(layers) == {"read", "attention", "head"}
    for other in layers.values():
        assert other.output(x[:8]).shape == (8, 1)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("read", ["last", "state"])
def test_a_recurrent_layer_has_a_stand_in_with_states(kind, read):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = kind(2, 5, num_layers=2, batch_first=True, bidirectional=True)
            self.head = nn.Linear(5, 1)

        def forward(self, x):
            out, state = self.rnn(x)
            state = state[0] if isinstance(state, tuple) else state
            return self.head(out[:, -1, :5] if read == "last" else state[-1])

    x, y = sums()
    model = Net()
    training = Training(model, x, y, "mse", torch.optim.Adam(model.parameters(), 1e-3))
    assert {"rnn", "head"} == set(dict(stand_ins(training)))


def test_an_explosion_is_tried_in_other_orders():
    x, y = sums()
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    sgd = torch.optim.SGD(model.parameters(), 10.0)
    found = check(model, x, y, "mse", sgd, steps=200, seconds=30)
    assert found.outcome == "diverges"
    assert len(found.orders) == 3
    assert all(math.isinf(error) for error in found.orders)


def test_losses_of_an_own_loop_that_does_not_learn():
    x, y = sums()
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    adam = torch.optim.Adam(model.parameters(), 0.01)
    found = check(model, x, y, "mse", adam, steps=300, seconds=30, losses=[0.4] * 300)
    assert found.part == "loop"
    adam = torch.optim.Adam(model.parameters(), 0.01)
    found = check(model, x, y, "mse", adam, steps=300, seconds=30, losses=[])
    assert found.outcome == "learns" and found.part is None


def test_a_validation_set_on_another_scale():
    x, y = sums()
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    adam = torch.optim.Adam(model.parameters(), 0.01)
    other, targets = sums(100)
    given = {"steps": 400, "seconds": 30}
    found = check(model, x, y, "mse", adam, validation=(other * 255 + 20, targets), **given)
    assert found.causes[0].name == "validation on another scale"
    found = check(model, x, y, "mse", adam, validation=(other, targets), **given)
    assert found.part is None
    found = check(model, x, y, "mse", adam, validation=(other, targets.flip(0)), **given)
    assert found.causes[0].name == "other validation set"


def test_a_training_that_has_no_time_is_undecided():
    x, y = sums()
    model = nn.GRU(2, 256, num_layers=3, batch_first=True)
    sgd = torch.optim.SGD(model.parameters(), 1e-6)
    target = torch.zeros(400, 6, 256) + y.unsqueeze(1)
    found = check(model, x, target, "mse", sgd, steps=100_000, seconds=3)
    assert found.outcome == "undecided"
    assert found.steps < found.of_steps == 100_000
    assert "All its steps take about" in str(found)


def test_the_share_that_outputs_explain():
    y = torch.randn(200, 1)
    assert explained([2 * y + 1], [y])[0] == pytest.approx(1)
    assert explained([torch.randn(200, 1)], [y])[0] < 0.1
    classes = torch.randint(0, 3, (200,))
    assert explained([F.one_hot(classes, 3).float()], [classes])[0] == pytest.approx(1)


def test_the_forecast_of_a_growing_share():
    points = [(t, 0.01 * math.exp(t / 100)) for t in range(0, 200, 20)]
    assert forecast(points, 10_000) == pytest.approx(100 * math.log(50), rel=1e-3)
    assert forecast([(t, 1e-5) for t in range(10)], 1000) is None
    assert forecast([(t, 0.2) for t in range(10)], 1000) == math.inf


def test_wrong_arguments():
    x, y = sums()
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    adam = torch.optim.Adam(model.parameters(), 0.01)
    with pytest.raises(InvalidInputError, match="seconds"):
        check(model, x, y, "mse", adam, seconds=0)
    with pytest.raises(InvalidInputError, match="losses"):
        check(model, x, y, "mse", adam, losses=["a"])
    with pytest.raises(InvalidInputError, match="validation"):
        check(model, x, y, "mse", adam, validation=x, steps=5)


def test_layers_inside_of_a_wrapped_network_have_their_whole_names():
    class Wrapper(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x)

    model = Wrapper(Wrapper(Tagger(broken=False)))
    assert list(layers_of(model)) == ["net.net.read", "net.net.attention", "net.net.head"]
