"""`trainability.check`: outcomes, orders, layers at fault, own losses and validation sets."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rhn.errors import InvalidInputError
from trainability import check, swaps
from trainability.probe import Probe
from trainability.race import UNCHANGED, Row
from trainability.reference import layers_of, stand_ins
from trainability.training import Training
from trainability.verdict import of_losses

LONG = 1e4  # seconds: a busy machine changes nothing


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
    found = check(model, x, y, "mse", "adam", learning_rate=0.01, steps=100, seconds=LONG)
    assert found.part == "network"
    assert "With only self.attention replaced" in str(found)


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


def test_an_explosion_is_confirmed_in_other_orders():
    x, y = sums()
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    sgd = torch.optim.SGD(model.parameters(), 10.0)
    found = check(model, x, y, "mse", sgd, steps=200, seconds=LONG)
    assert (found.outcome, found.part) == ("diverges", "optimizer")
    assert len(found.orders) == 3
    assert all(math.isinf(error) for error in found.orders)
    assert found.causes[-1].sure and "Confirmed in three minibatch orders" in str(found)


def test_losses_of_an_own_loop_that_does_not_learn():
    x, y = sums()
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    adam = torch.optim.Adam(model.parameters(), 0.01)
    found = check(model, x, y, "mse", adam, steps=300, seconds=LONG, losses=[0.4] * 300)
    assert found.part == "loop" and "learns in a plain loop: " in found.verdict
    adam = torch.optim.Adam(model.parameters(), 0.01)
    found = check(model, x, y, "mse", adam, steps=300, seconds=LONG, losses=[])
    assert found.outcome == "learns" and found.part is None


@pytest.mark.parametrize(
    ("theirs", "plain", "constant", "steps"),
    [
        ([2.0] * 100, [9.0, *[0.1] * 99], 2.0, 100),  # most of the way to the constant's loss
        ([0.2] * 100, [9.0, *[0.1] * 99], 2.0, 0),
        ([9.0] * 100, [9.0, *[2.5] * 99], 2.0, 100),  # the plain loop is no better than a constant
        ([2.6] * 100, [9.0, *[2.5] * 99], 2.0, 0),
        ([*[2.0] * 60, *[0.1] * 40], [9.0, *[0.1] * 59], 2.0, 60),  # at the same step
        ([2.0] * 100, [1.9, 2.1] * 50, 2.05, 0),  # by chance
        ([math.nan] * 100, [2.0] * 100, 2.0, 100),
        ([1.0, math.inf] * 50, [2.0] * 100, 2.0, 100),
    ],
)
def test_an_own_loop_is_measured_against_a_plain_one_and_the_constant(
    theirs, plain, constant, steps
):
    found = of_losses(theirs, Row(UNCHANGED, None, steps=len(plain), losses=plain), constant)
    assert (found is not None) == bool(steps)
    if found is not None:
        assert f"of the last {steps // 10} of {steps} steps is" in found.sentence
        assert f"and {plain[-1]:.3g} in this plain loop." in found.sentence


def test_one_sequence_of_which_nothing_is_held_out_and_a_loop_without_zero_grad():
    """The loss of the constant is the variance, by torch; the plain loop is far below it."""
    x = torch.linspace(0, 1, 21).reshape(1, 21, 1)
    model, y = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1)), x + 0.1
    adam = torch.optim.Adam(model.parameters(), 0.02)
    stuck = [9.8, *[float(y.var(correction=0)) * 1.01] * 199]
    found = check(model, x, y, "mse", adam, steps=200, seconds=LONG, losses=stuck)
    assert found.part == "loop"
    probe = Probe(Training(model, x, y, "mse", adam))
    assert probe.constant_loss == pytest.approx(float(y.var(correction=0)))
    found = check(model, x, y, "mse", adam, steps=200, seconds=LONG)
    assert "No known good training learns" not in str(found) and found.part is None


def test_a_validation_set_on_another_scale():
    x, y = sums()
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    adam = torch.optim.Adam(model.parameters(), 0.01)
    other, targets = sums(100)
    given = {"steps": 400, "seconds": LONG}
    found = check(model, x, y, "mse", adam, validation=(other * 255 + 20, targets), **given)
    assert found.causes[0].name == "validation on another scale"
    found = check(model, x, y, "mse", adam, validation=(other, targets), **given)
    assert found.part is None
    found = check(model, x, y, "mse", adam, validation=(other, targets.flip(0)), **given)
    assert found.causes[0].name == "other validation set"


def test_a_validation_set_shows_overfitting_if_nothing_is_held_out():
    """The errors of a plain loop on both sets: 0 on the 40 examples, about 1 on the others."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(60, 64), nn.Tanh(), nn.Linear(64, 1))
    (x, y), (others, targets) = (
        (torch.randn(number, 30, 2), torch.randn(number, 1)) for number in (40, 200)
    )
    adam = torch.optim.Adam(model.parameters(), 0.01)
    given = {"steps": 400, "seconds": LONG}
    found = check(model, x, y, "mse", adam, validation=(others, targets), **given)
    for _ in range(400):
        adam.zero_grad()
        F.mse_loss(model(x), y).backward()
        adam.step()
    errors = [F.mse_loss(model(a), b).item() / b.var() for a, b in ((x, y), (others, targets))]
    assert errors[0] < 1e-3 and errors[1] > 0.9
    words = " ".join(found.remarks)
    assert "These are errors on training examples: 0 examples are held out" in words
    assert "Overfitting: relative error" in words and "on your validation set" in words
    assert found.part is None and not found.causes and "held-out examples" not in str(found)
    found = check(model, x, y, "mse", adam, validation=(255 * x + 20, y), **given)
    assert found.causes[0].name == "validation on another scale"
    assert "on training examples" in found.causes[0].sentence


def test_a_training_that_has_no_time_is_undecided():
    x, y = sums()
    model = nn.GRU(2, 256, num_layers=3, batch_first=True)
    sgd = torch.optim.SGD(model.parameters(), 1e-6)
    target = torch.zeros(400, 6, 256) + y.unsqueeze(1)
    found = check(model, x, target, "mse", sgd, steps=100_000, seconds=3)
    assert found.outcome == "undecided"
    assert found.steps < found.of_steps == 100_000


def test_a_check_leaves_the_order_of_a_loader_alone():
    data = torch.utils.data.TensorDataset(*sums(60))
    own = torch.Generator()
    for generator in (None, own):
        loader = torch.utils.data.DataLoader(data, 20, shuffle=True, generator=generator)
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
        before = torch.get_rng_state(), own.get_state()
        check(model, loader, None, "mse", torch.optim.SGD(model.parameters(), 0.1), steps=4)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert torch.equal(own.get_state(), before[1])


def test_the_default_type_of_numbers_does_not_matter():
    x, y = sums()
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1, bias=False))
    given = {"steps": 4, "seconds": LONG}
    torch.set_default_dtype(torch.float64)
    try:
        found = check(model, x, y, "mse", torch.optim.SGD(model.parameters(), 1e-6), **given)
    finally:
        torch.set_default_dtype(torch.float32)
    assert not found.left_out
    model = model.double()
    sgd = torch.optim.SGD(model.parameters(), 1e-6)
    assert not check(model, x.double(), y.double(), "mse", sgd, **given).left_out


def test_a_schedule_that_is_shorter_than_the_training_is_refused_in_a_sentence():
    x, y = sums(60)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    sgd = torch.optim.SGD(model.parameters(), 1e-6)
    schedule = torch.optim.lr_scheduler.OneCycleLR(sgd, 1e-6, total_steps=5)
    with pytest.raises(InvalidInputError, match="a step of OneCycleLR fails"):
        check(model, x, y, "mse", sgd, scheduler=schedule, steps=20)


def test_a_swap_that_returns_no_training_is_left_out_with_a_reason():
    x, y = sums(60)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    swaps.register_swap("network", "a bare module")(lambda training: training.model)
    try:
        found = check(model, x, y, "mse", torch.optim.SGD(model.parameters(), 1e-6), steps=4)
    finally:
        swaps.SWAPS.pop()
    words = "a bare module: it returned a Sequential, expected a Training or None"
    assert words in found.left_out


def test_layers_inside_of_a_wrapped_network_have_their_whole_names():
    class Wrapper(nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x)

    model = Wrapper(Wrapper(Tagger(broken=False)))
    assert list(layers_of(model)) == ["net.net.read", "net.net.attention", "net.net.head"]
