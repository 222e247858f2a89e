"""A proof with a mechanical repair is a row of the table, with its error."""

import pytest
import torch
from torch import nn

from gersgorin.data.layout import Layout
from trainability import check
from trainability.axes import OutputAxes
from trainability.facts import facts
from trainability.known_good import KnownGood
from trainability.losses import canonical_loss
from trainability.probe import Probe
from trainability.race import race_of
from trainability.swaps import every_weight, not_frozen, paired_targets
from trainability.training import Training

pytestmark = pytest.mark.filterwarnings("ignore:Using a target size")  # that is the fault
LONG = 1e4  # seconds: a busy machine changes nothing
G = torch.Generator().manual_seed(0)
X = torch.randn(400, 4, 3, generator=G)
MEAN = X[:, :, :1].mean(1)
FIFTHS = MEAN[:, 0].argsort().argsort() // 80


class Reader(nn.Module):
    """A layer over the frames, and a linear head on its last output."""

    def __init__(self, outputs: int = 1):
        super().__init__()
        self.gru, self.head = nn.GRU(3, 16, batch_first=True), nn.Linear(16, outputs)

    def forward(self, x):
        return self.head(self.gru(x)[0][:, -1])


class Attention(nn.Module):
    """Attention that treats the examples as time steps, and a linear head on its mean."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(3, 1, batch_first=False)
        self.head = nn.Linear(3, 1)

    def forward(self, x):
        return self.head(self.attention(x, x, x)[0].mean(1))


def adam(parameters, rate=0.02):
    return torch.optim.Adam(parameters, rate)


def unpaired():
    """Outputs (B, 1), targets (B,)."""
    model = Reader()
    return model, X, MEAN[:, 0], nn.MSELoss(), adam(model.parameters())


def gaussian(z, y):
    """The likelihood of means (B, 1) and logarithms of variances (B, 1)."""
    mean, log = z[:, :1], z[:, 1:]
    return 0.5 * (log + (y - mean).square() / log.exp()).mean()


def of_columns():
    """Outputs (B, 2), of which the loss broadcasts columns (B, 1) with targets (B,)."""
    model = Reader(2)
    return model, X, MEAN[:, 0], gaussian, adam(model.parameters())


def squeezed():
    """The loss takes one output of each example, (B,), and the targets are (B, 1)."""
    model = Reader(2)
    return model, X, MEAN, lambda z, y: (z[:, 0] - y).square().mean(), adam(model.parameters())


def left_out():
    """The optimiser has the head only."""
    model = Reader()
    return model, X, MEAN, nn.MSELoss(), adam(model.head.parameters())


def softmax_twice():
    """A softmax before the cross entropy."""
    model = nn.Sequential(Reader(5), nn.Softmax(-1))
    return model, X, FIFTHS, nn.CrossEntropyLoss(), adam(model.parameters())


def wrong_axis():
    """Attention treats the examples as time steps."""
    model = Attention()
    return model, X, MEAN, nn.MSELoss(), adam(model.parameters())


CASES = {
    unpaired: ("unpaired loss", "targets shaped as the outputs", 0.1),
    of_columns: ("unpaired loss", "targets shaped as the outputs", 0.5),
    squeezed: ("unpaired loss", "targets shaped as the outputs", 0.1),
    left_out: ("untrained weights", "all weights in the optimiser", 0.1),
    softmax_twice: ("softmax twice", "the usual loss", 0.6),
    wrong_axis: ("mixed examples", "examples along the other axis", 0.5),
}


@pytest.mark.parametrize(
    ("case", "code"),
    [
        (unpaired, "y.reshape(output.shape)"),
        (of_columns, "y.unsqueeze(-1)"),
        (squeezed, "y.squeeze(-1)"),
    ],
)
def test_code_that_gives_targets_another_shape_is_run_before_it_is_told(case, code):
    """With it, a change of one target moves the gradient at its own output only, by autograd."""
    model, _, _, loss_fn, _ = case()
    probe = Probe(Training(*case()))
    (cause,) = (cause for cause in facts(probe)[0] if cause.name == "unpaired loss")
    assert cause.remedy == f"Pass {code} to the loss in place of y."
    output = model(probe.x).detach().requires_grad_()
    slopes = []
    for change in (0, 1):
        y = probe.y.clone()
        y[0] += change
        (slope,) = torch.autograd.grad(loss_fn(output, eval(code)), output)
        slopes.append(slope)
    moved = (slopes[1] - slopes[0]).abs().sum(1)
    assert moved[0] > 0 and not moved[1:].any()


def test_a_loss_of_targets_in_another_order_of_axes_is_told_no_code():
    model = nn.GRU(3, 1, batch_first=True)

    def loss_fn(z, y):
        return (z.flatten() - y.transpose(0, 1).flatten()).square().mean()

    y = X[:, :, 0]
    training = Training(model, X, y, loss_fn, adam(model.parameters()), batch_size=7)
    (cause,) = (cause for cause in facts(Probe(training))[0] if cause.name == "unpaired loss")
    assert "order of axes" in cause.remedy and "y." not in cause.remedy and not cause.repair


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=pytest.mark.slow if c is left_out else []) for c in CASES]
)
def test_the_repair_is_a_row_that_learns(case):
    name, what, error = CASES[case]
    torch.manual_seed(0)
    found = check(*case(), steps=100, seconds=LONG)
    (fact,) = (cause for cause in found.facts if cause.name == name)
    (row,) = found.repairs
    assert fact.repair == row.what == what
    assert row.error < error and row.steps <= 100
    assert any(what in line for line in found.summary().splitlines())
    if case is unpaired:  # also in the known good training
        assert found.known_good < 0.1 and found.part == "loss" and found.error > 0.5


def test_errors_of_a_loss_that_pairs_wrong_targets_are_those_of_its_own_ones():
    """Perfect outputs (B, 1) have an error of 0, a constant one of 1, by NumPy's variance."""
    training = Training(*unpaired(), steps=1)
    race = race_of(training, Probe(training))
    targets = [y for _, y in race.pairs]
    perfect = race.scores["error"].in_pairs([y.unsqueeze(1) for y in targets], targets)
    assert perfect.relative == 0
    mean = torch.cat([y for _, y in training.data.trained]).mean()
    constant = race.scores["error"].in_pairs([mean.expand(len(y), 1) for y in targets], targets)
    assert constant.relative == pytest.approx(1)


def weights_moved(training):
    """Names of the weights that one step moves."""
    before = {name: p.clone() for name, p in training.model.named_parameters()}
    training.step(*training.data.sample(8))
    return {n for n, p in training.model.named_parameters() if not torch.equal(p, before[n])}


def test_a_change_of_one_part_trains_the_weights_of_the_users_training_and_no_others():
    model = Reader()
    model.gru.weight_ih_l0.requires_grad_(False)
    everything = {name for name, _ in model.named_parameters()}
    head = {"head.weight", "head.bias"}
    training = Training(model, X, MEAN, nn.MSELoss(), adam(model.head.parameters()))
    good = KnownGood(training, Probe(training))
    assert weights_moved(training.with_adam(0.01)) == head
    assert weights_moved(every_weight(training)) == everything - {"gru.weight_ih_l0"}
    assert weights_moved(not_frozen(training)) == head | {"gru.weight_ih_l0"}
    kept = good.with_parts("network", rate=0.01)
    assert weights_moved(kept) == everything - {"gru.weight_ih_l0"}


def test_targets_that_the_loss_shapes_itself_are_left_alone():
    model, x, y, _, optimizer = unpaired()
    z, numbers = torch.zeros(4, 1), torch.rand(4)
    axes = OutputAxes.of(z, numbers, nn.MSELoss(), numbers, Layout(0))
    for loss in ("mse", canonical_loss(z, numbers, axes)):
        assert paired_targets(Training(model, x, y, loss, optimizer)) is None
    assert paired_targets(Training(model, x, y, nn.MSELoss(), optimizer)) is not None


def test_a_training_of_which_no_weight_moves_has_no_table():
    model = Reader()
    other = adam([nn.Parameter(torch.zeros(1))])
    found = check(model, X, MEAN, nn.MSELoss(), other, steps=20, seconds=LONG)
    assert not found.rows and found.part == "optimizer"


def test_a_repair_of_a_training_that_has_learned_well_is_a_row_and_no_fault():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = adam(model[3].parameters(), 0.05)
    found = check(model, X, MEAN, nn.MSELoss(), optimizer, steps=400, seconds=LONG)
    assert found.outcome == "learns" and found.part is None and found.error < 0.1
    assert [row.what for row in found.repairs] == ["all weights in the optimiser"]
