"""Each repair of a training changes what its name says, and nothing else."""

import pytest
import torch
import torch.nn.functional as F
from tables import for_each
from torch import nn

from gersgorin.checking.causes.case import Case
from gersgorin.checking.causes.data import scaled_alone
from gersgorin.checking.causes.diagnosis import before
from gersgorin.checking.causes.repairs import _repairs
from gersgorin.training.training import Training
from tests.gersgorin.test_causes import (
    CE,
    CLASS,
    MSE,
    PATHS,
    SOFTMAX,
    SUM,
    N,
    Net,
    T,
    X,
    padded,
    words,
)


class Deep(Net):
    """A stack of layers, whose first state is given or not."""

    def __init__(self, layers, *, given=False):
        super().__init__(kind=nn.LSTM, num_layers=layers)
        self.given = given

    def forward(self, x):
        state = (x.new_zeros(self.rnn.num_layers, len(x), 8),) * 2
        if self.given:
            state = x.new_zeros(4, len(x), 8), x.new_zeros(4, len(x), 8)
        return self.out(self.rnn(x, state)[0][:, -1])


class Normal(Net):
    """Layer normalisation of the inputs, or of the states."""

    def __init__(self, size):
        super().__init__()
        self.norm, self.first = nn.LayerNorm(size), size == 3

    def forward(self, x):
        states = self.rnn(self.norm(x) if self.first else x)[0][:, -1]
        return self.out(states if self.first else self.norm(states))


def repaired(model, x, y, loss):
    """(The training as it is, the repaired one by the name of its repair)."""
    loop = Training(model, x, y, loss, torch.optim.Adam(model.parameters(), 1e-3))
    case = Case(loop, 1000)
    likely = {cause.name: cause for _, cause in before(case)[0]}
    return loop, {repair.name: repair.applied(loop) for repair in _repairs(case, likely, False)}


def test_one_layer_is_the_first_of_a_deep_stack():
    loop, others = repaired(model := Deep(4), X, SUM, MSE)
    model.rnn, stack = nn.LSTM(3, 8, batch_first=True), model.rnn
    model.rnn.load_state_dict({name: stack.state_dict()[name] for name in model.rnn.state_dict()})
    changed = others["one layer"]
    assert (
        torch.equal(changed.output(changed.model, X), model(X)) and loop.model.rnn.num_layers == 4
    )
    held = {id(p) for group in changed.optimizer.param_groups for p in group["params"]}
    assert held >= {id(p) for p in changed.model.parameters()}


# not deep; its own code gives a state for each of four layers
@for_each("model", [Deep(2), Deep(4, given=True)])
def test_other_stacks_stay(model):
    assert "one layer" not in repaired(model, X, SUM, MSE)[1]


def test_no_normalisation_leaves_the_inputs_as_they_are():
    changed = repaired(model := Normal(3), X, SUM, MSE)[1]["no normalisation of inputs"]
    model.norm = nn.Identity()
    assert torch.equal(changed.output(changed.model, X), Net.forward(model, X))


def test_a_normalisation_of_states_stays():
    assert "no normalisation of inputs" not in repaired(Normal(8), X, SUM, MSE)[1]


def test_logits_are_those_of_the_softmax_that_is_there():
    loop, others = repaired(model := Net(2, SOFTMAX), X, CLASS, CE)
    shares = model(X).detach()
    assert others["logits"].loss_fn(shares, CLASS) == pytest.approx(
        F.nll_loss(shares.log(), CLASS).item(), rel=1e-5
    )
    assert loop.loss_fn(shares, CLASS) == pytest.approx(F.cross_entropy(shares, CLASS).item())


def test_targets_in_the_range_of_the_last_activation_keep_their_order():
    y = repaired(Net(1, nn.Tanh()), X, 50 + 3 * SUM, MSE)[1]["targets in the range"].data.y
    assert (
        torch.equal(y.argsort(0), SUM.argsort(0)) and y.mean().abs() < 0.2 and 0.4 < y.std() < 0.6
    )


def test_exchanged_axes_undo_a_reshape():
    changed = repaired(Net(), PATHS.mT.reshape(N, T, 3), SUM, MSE)[1]["exchanged axes"]
    assert torch.equal(changed.data.x, PATHS)


def test_padding_in_front_keeps_the_order_of_the_words():
    changed = repaired(words(), x := padded(40), SUM, MSE)[1]["padding in front"].data.x
    assert (changed[:, -1] > 0).all()
    assert all(torch.equal(new[new > 0], old[old > 0]) for new, old in zip(changed, x, strict=True))


class OwnCell(nn.Module):
    """A tanh network with matrices of its own, (3, 64) and (64, 64)."""

    def __init__(self, size):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.w_in = nn.Parameter(0.56 * torch.randn(3, 64, generator=generator))
        self.w_rec = nn.Parameter(size * torch.randn(64, 64, generator=generator))
        self.out = nn.Linear(64, 1)

    def forward(self, x):
        h = x.new_zeros(len(x), 64)
        for step in x.unbind(1):
            h = torch.tanh(step @ self.w_in + h @ self.w_rec)
        return self.out(h)


def test_own_matrices_are_drawn_again_only_if_they_are_far_from_both_sizes():
    model = OwnCell(1.0)
    changed = repaired(model, X, SUM, MSE)[1]["default initial weights"].model
    assert changed.w_rec.std() < 0.08 and 0.4 < changed.w_in.std() / model.w_in.std() < 1
    assert "default initial weights" not in repaired(OwnCell(0.1), X, SUM, MSE)[1]


def test_plain_recurrent_weights_that_fade_become_orthogonal():
    model = Net(kind=nn.RNN)
    nn.init.normal_(model.rnn.weight_hh_l0, 0.0, 0.01)
    repair = repaired(model, X, SUM, MSE)[1]["orthogonal recurrent weights"]
    W = repair.model.rnn.weight_hh_l0
    torch.testing.assert_close(W @ W.T, torch.eye(8))
    assert repair.model.rnn.weight_ih_l0.equal(model.rnn.weight_ih_l0)
    nn.init.eye_(model.rnn.weight_hh_l0)
    for other in (model, Net(kind=nn.LSTM)):
        assert "orthogonal recurrent weights" not in repaired(other, X, SUM, MSE)[1]


def test_features_of_a_tiny_spread_are_standardised_and_not_said_to_be_scaled_one_by_one():
    # one scale for all features
    pressure = torch.tensor([0.0, 0.9, 0.0]) + X * torch.tensor([1e-6, 1e-2, 1e-6])
    case = Case(Training(Net(), pressure, SUM, MSE, "adam", learning_rate=1e-3), 1000)
    assert not [cause for _, cause in before(case)[0] if cause.name == "scaled one by one"]
    assert "standardised inputs" in repaired(Net(), pressure, SUM, MSE)[1]
    assert "standardised inputs" not in repaired(Net(), X, SUM, MSE)[1]


def test_features_that_hardly_ever_differ_are_read():
    x = (X.amax(1, keepdim=True) == X) * (
        1 + torch.rand(X.shape, generator=torch.Generator().manual_seed(0))
    )
    # one number beside zeros: all quartiles are 0
    loop = Training(Net(), x, SUM, MSE, "adam", learning_rate=1e-3)
    assert not [*scaled_alone(Case(loop, 1000))]
