"""Which axis of outputs and targets is which, beside torch's cross entropy and plain loops."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gersgorin.data.layout import Layout
from trainability.axes import OutputAxes
from trainability.losses import canonical_loss, losses_of_examples, scored
from trainability.probe import Probe
from trainability.race import race_of
from trainability.scores import score_of
from trainability.swaps import targets_standardised
from trainability.training import Training

B, T, M = 6, 5, 3
ORDERS = ("BTK", "BKT", "TBK", "TKB")
G = torch.Generator().manual_seed(0)


def case(order, K):
    """(Outputs in an order of axes, classes (B, T) or (T, B), the loss of torch, x, its layout)."""
    z, y = torch.randn(B, T, K, generator=G), torch.randint(K, (B, T), generator=G)
    x, layout = torch.randn(B, T, M, generator=G), Layout(0 if order.index("B") == 0 else 1)
    if layout.batch == 1:
        x, y = x.transpose(0, 1), y.T
    places = ["BTK".index(name) for name in order]
    classes = order.index("K")

    def loss(z, y):
        return F.cross_entropy(z.movedim(classes, 1), y)

    return z.permute(places), y, loss, x, layout


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("K", [4, T, B], ids=["others", "as frames", "as examples"])
def test_the_axes_of_classes_for_each_frame_are_those_of_torchs_cross_entropy(order, K):
    z, y, loss, x, layout = case(order, K)
    axes = OutputAxes.of(z, y, loss, x, layout)
    assert (axes.batch, axes.frames, axes.classes) == tuple(order.index(name) for name in "BTK")
    assert (axes.units, axes.targets) == (axes.classes, layout.batch)
    assert axes.for_each_frame is (order[2] == "K")
    usual = canonical_loss(z, y, axes)
    assert float(usual(z, y)) == pytest.approx(float(loss(z, y)))


@pytest.mark.parametrize("order", ORDERS)
def test_losses_and_errors_of_examples_are_those_of_a_loop(order):
    z, y, loss, x, layout = case(order, 4)
    axes = OutputAxes.of(z, y, loss, x, layout)
    losses, wrong = [], []
    for b in range(B):
        logits = torch.empty(T, 4)
        for t, k in itertools.product(range(T), range(4)):
            logits[t, k] = z[tuple({"B": b, "T": t, "K": k}[name] for name in order)]
        own = y[b] if layout.batch == 0 else y[:, b]
        losses.append(float(F.cross_entropy(logits, own)))
        wrong.append(float((logits.argmax(1) != own).double().mean()))
    assert losses_of_examples(loss, z, y, axes).tolist() == pytest.approx(losses)
    score = score_of(loss, z, [(x, y)], axes)
    assert score.errors(z, y).tolist() == pytest.approx(wrong)


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("shape", ["(B,)", "(B, 1)", "(B, T)", "(B, T, 2)", "(1, B, 2)"])
def test_outputs_of_numbers(shape, batch):
    z, places = {
        "(B,)": (torch.randn(B), (0, None, None)),
        "(B, 1)": (torch.randn(B, 1), (0, None, 1)),
        "(B, T)": (torch.randn(B, T), (0, 1, None)),
        "(B, T, 2)": (torch.randn(B, T, 2), (0, 1, 2)),
        "(1, B, 2)": (torch.randn(1, B, 2), (1, None, 2)),
    }[shape]
    x, y = torch.randn(B, T, M), torch.randn(z.shape if "1, B" not in shape else (B, 2))
    if batch:
        x = x.transpose(0, 1)
        if "T" in shape:
            z, y, places = z.transpose(0, 1), y.transpose(0, 1), (1, 0, places[2])
    axes = OutputAxes.of(z, y, F.mse_loss, x, Layout(batch))
    assert (axes.batch, axes.frames, axes.units) == places
    assert axes.classes is None and axes.for_each_frame is ("T" in shape)


def test_padding_of_either_layout_is_not_scored():
    y, z = torch.randn(B, T, 2, generator=G), torch.randn(B, T, 2, generator=G)
    real = torch.arange(T) < torch.arange(B).clamp_min(1)[:, None]

    def loss(z, y):  # no numbers are 9, and what is 9 has no loss
        return ((z - y).square() * (y != 9)).mean()

    y[~real] = 9
    y[B - 1, 0] = 9  # left out by the loss, and no padding
    expected = real.unsqueeze(-1).expand(B, T, 2)
    axes = OutputAxes.of(z, y, loss, y, Layout(0))
    assert torch.equal(scored(loss, z, y, axes), expected)
    axes = OutputAxes.of(z.transpose(0, 1), y.transpose(0, 1), loss, y.transpose(0, 1), Layout(1))
    assert torch.equal(
        scored(loss, z.transpose(0, 1), y.transpose(0, 1), axes), expected.transpose(0, 1)
    )


class Net(nn.Module):
    """A GRU with outputs (B, T), (B, T, K) or (B T, K) in either layout."""

    def __init__(self, batch, K=0, flat=False):
        super().__init__()
        self.gru, self.out = nn.GRU(M, 4, batch_first=batch == 0), nn.Linear(4, K or 1)
        self.K, self.flat = K, flat

    def forward(self, x):
        z = self.out(self.gru(x)[0])
        return z.flatten(0, 1) if self.flat else z if self.K else z.squeeze(-1)


def data_of(kind, batch):
    """Examples of inputs with numbers for each frame: tensors, or minibatches of other lengths."""
    own = torch.Generator().manual_seed(0)  # the same data in any order of the tests

    def pair(count, frames):
        x = torch.randn(count, frames, M, generator=own)
        y = 3 + x.sum(-1).cumsum(1)
        return (x, y) if batch == 0 else (x.transpose(0, 1), y.transpose(0, 1))

    if kind == "minibatches":
        return [pair(8, 5 + k % 3) for k in range(24)], None
    return pair(*(2, 400) if kind == "long sequences" else (70, T))


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("kind", ["sequences", "long sequences", "minibatches"])
def test_a_number_for_each_frame_is_scored_as_in_a_loop(kind, batch):
    """A RuntimeError: the frames, or the examples, of targets were taken for units."""
    torch.manual_seed(0)
    training = Training(Net(batch), *data_of(kind, batch), "mse", "sgd", batch_axis=batch)
    race = race_of(training, Probe(training))
    outputs = training.answers([x for x, _ in race.pairs])
    targets = [y for _, y in race.pairs]
    known = [v for _, y in training.data.trained for v in y.flatten().tolist()]
    mean, own, constant = sum(known) / len(known), [], []
    for z, y in zip(outputs, targets, strict=True):
        for rows in zip(z, y, strict=True) if batch == 0 else zip(z.T, y.T, strict=True):
            own.append(float((rows[0] - rows[1]).square().mean()))
            constant.append(float((mean - rows[1]).square().mean()))
    found = race.scores["error"].in_pairs(outputs, targets)
    assert found.relative == pytest.approx(sum(own) / sum(constant), rel=1e-4)
    standard = targets_standardised(training)
    assert torch.cat(
        [standard.change_targets(y).flatten() for _, y in training.data.trained]
    ).std() == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("batch", [0, 1])
def test_outputs_of_all_frames_in_one_axis_have_a_score(batch):
    """The constant predictor had the shape of the outputs of a larger minibatch."""
    torch.manual_seed(0)
    x, y = data_of("sequences", batch)
    y = (y > 3).long()
    net = Net(batch, K=2, flat=True)

    def loss(z, y):
        return F.cross_entropy(z, y.flatten())

    training = Training(net, x, y, loss, "sgd", batch_axis=batch)
    race = race_of(training, Probe(training))
    targets = [y for _, y in race.pairs]
    outputs = training.answers([x for x, _ in race.pairs])
    shares = y.flatten().bincount() / y.numel()
    expected = [float(F.nll_loss(shares.log().expand(t.numel(), 2), t.flatten())) for t in targets]
    found = race.scores["error"].in_pairs(outputs, targets)
    assert found.constant.tolist() == pytest.approx(expected, rel=0.02)
