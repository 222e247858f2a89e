"""The silent faults of the gallery of torchtest2 0.1.0 (README, October 2026), as facts.

Left out: frozen weights that are trained, an over-confident initialisation, inputs that are not
read, and dropout that stays on: no facts.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from trainability.facts import facts
from trainability.failures import failed_step
from trainability.probe import Probe
from trainability.training import Training

G = torch.Generator().manual_seed(0)
X, Y = torch.randn(48, 32, generator=G), torch.randint(0, 10, (48,), generator=G)


def found_in(model, x=X, y=Y, loss=F.cross_entropy, optimizer=None, **more):
    optimizer = optimizer or torch.optim.Adam(model.parameters(), 1e-3)
    found, _ = facts(Probe(Training(model, x, y, loss, optimizer, **more)))
    return {cause.name: cause for cause in found}


def test_the_optimiser_was_made_before_the_head_was_replaced():
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 1000))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model[2] = nn.Linear(64, 10)
    cause = found_in(model, optimizer=optimizer)["untrained weights"]
    assert "2.weight" in cause.sentence and cause.part == "optimizer"


def test_the_graph_is_cut():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = nn.Linear(32, 64), nn.Linear(64, 10)

        def forward(self, x):
            return self.head(F.relu(self.backbone(x).data))

    cause = found_in(Net())["untrained weights"]
    assert "No gradient reaches backbone.weight" in cause.sentence


def test_the_last_output_of_a_backward_direction_has_read_one_frame():
    class Both(nn.Module):
        def __init__(self, reads):
            super().__init__()
            self.reads = reads
            self.lstm = nn.LSTM(3, 8, batch_first=True, bidirectional=True)
            self.out = nn.Linear(16, 1)

        def forward(self, x):
            outputs, (h, _) = self.lstm(x)
            return self.out(outputs[:, -1] if self.reads == "outputs" else torch.cat((*h,), 1))

    x = torch.randn(48, 6, 3, generator=G)
    y = x.mean((1, 2)).unsqueeze(1)
    cause = found_in(Both("outputs"), x, y, F.mse_loss)["untrained weights"]
    assert "No gradient reaches lstm.weight_hh_l0_reverse" in cause.sentence
    assert cause.remedy.startswith("At the last frame the output of the backward direction")
    assert "untrained weights" not in found_in(Both("states"), x, y, F.mse_loss)


def test_attention_takes_the_examples_for_time():
    class Encoder(nn.Module):
        def __init__(self, batch_first):
            super().__init__()
            self.attn = nn.MultiheadAttention(16, 4, batch_first=batch_first)
            self.out = nn.Linear(16, 1)

        def forward(self, x):
            return self.out(self.attn(x, x, x)[0].mean(1))

    x, y = torch.randn(48, 6, 16, generator=G), torch.randn(48, 1, generator=G)
    cause = found_in(Encoder(False), x, y, F.mse_loss)["mixed examples"]
    assert "the outputs of 31 of 31 others" in cause.sentence
    assert "nn.MultiheadAttention(..., batch_first=True)" in cause.remedy
    assert not found_in(Encoder(True), x, y, F.mse_loss)


def test_the_layer_is_named_only_if_its_axis_is_what_mixes_the_examples():
    """Ids through an embedding; the same with a view that mixes them by itself."""

    class Tagger(nn.Module):
        def __init__(self, mix):
            super().__init__()
            self.table, self.rnn, self.mix = nn.Embedding(9, 5), nn.LSTM(5, 8), mix

        def forward(self, x):
            z = self.table(x)
            if self.mix:
                return self.rnn(z.transpose(0, 1))[0].reshape(*x.shape, 8)[..., :1]
            return self.rnn(z)[0][..., :1]

    x, y = torch.randint(9, (48, 6), generator=G), torch.randn(48, 6, 1, generator=G)
    for mix in (False, True):
        cause = found_in(Tagger(mix), x, y, F.mse_loss, batch_axis=0)["mixed examples"]
        assert ("nn.LSTM(..., batch_first=True)" in cause.remedy) != mix
        assert (cause.repair != "") != mix


def test_a_gradient_is_nan_behind_a_finite_forward_pass():
    class Embedder(nn.Module):
        def __init__(self, guard):
            super().__init__()
            self.fc, self.guard = nn.Linear(32, 8), guard

        def forward(self, x):
            z = self.fc(x).reshape(len(x), 4, 2)
            apart = (z[:, :, None] - z[:, None]).pow(2).sum(-1)
            return (apart + self.guard).sqrt().mean((1, 2)).unsqueeze(1)

    y = torch.rand(48, 1, generator=G)
    cause = found_in(Embedder(0.0), X, y, F.mse_loss)["not finite"]
    assert cause.sure and "the gradient of fc.weight, fc.bias is not" in cause.sentence
    assert not found_in(Embedder(1e-6), X, y, F.mse_loss)


def test_a_loss_that_is_not_connected_to_the_graph():
    def loss(z, y):
        return torch.tensor(F.cross_entropy(z, y).item(), requires_grad=True)

    assert found_in(nn.Linear(32, 10), loss=loss)["no gradient"].sure


def test_a_gradient_becomes_nan_after_some_steps():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.var = nn.Linear(32, 10), nn.Parameter(torch.tensor(1.0))

        def forward(self, x):
            z = self.fc(x)
            if self.training:
                std = torch.where(self.var > 0, torch.sqrt(self.var), torch.zeros_like(self.var))
                z = z + std * torch.randn_like(z)
            return z

    torch.manual_seed(0)
    model = Noisy()
    training = Training(model, X, Y, F.cross_entropy, torch.optim.SGD(model.parameters(), 0.3))
    stream = training.data.stream(0)
    step = 1
    while math.isfinite(training.step(*next(stream))) and step < 3000:
        step += 1
    assert (
        "the loss is finite, but the gradient of var is not" in failed_step(training, step).sentence
    )


class Square(torch.autograd.Function):
    """The square, with half of its derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return x * grad


def test_a_backward_of_ones_own_is_wrong():
    class Net(nn.Module):
        def __init__(self, square):
            super().__init__()
            self.fc, self.square = nn.Linear(32, 10), square

        def forward(self, x):
            return self.fc(x) if self.square is None else self.square(self.fc(x))

    assert "wrong gradient" in found_in(Net(Square.apply))
    assert not found_in(Net(torch.square))
