"""Ten kinds of models and losses: the influence of each input is that of plain autograd, one
gradient at a time.
"""

import numpy as np
import torch
import torch.nn.functional as F
from tables import for_each
from torch import nn

import gersgorin

T, B, M, N = 7, 2, 3, 4


class Causal(nn.Module):
    """A causal convolution over time of (B, T, m)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(M, N, 3)

    def forward(self, x):
        return torch.tanh(self.conv(F.pad(x.transpose(1, 2), (2, 0)))).transpose(1, 2)


class Attention(nn.Module):
    """Causal self-attention of (B, T, m)."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(M, 1, batch_first=True)

    def forward(self, x):
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        return self.attention(x, x, x, attn_mask=mask)[0]


class Reader(nn.Module):
    """A GRU of (B, T, m) with an output for each frame, or only for the last one."""

    def __init__(self, outputs, last=False, words=0):
        super().__init__()
        self.embedding = nn.Embedding(words, M) if words else None
        self.rnn, self.out, self.last = nn.GRU(M, N, batch_first=True), nn.Linear(N, outputs), last

    def forward(self, x):
        return self.read(x if self.embedding is None else self.embedding(x))

    def read(self, vectors):
        states = self.rnn(vectors)[0]
        return self.out(states[:, -1] if self.last else states)


def numbers(first):
    return torch.randn(*((B, T) if first else (T, B)), M, dtype=torch.float64)


CASES = {  # name: (model, x, batch axis)
    "rnn": lambda: (nn.RNN(M, N), numbers(False), 1),
    "lstm": lambda: (nn.LSTM(M, N, batch_first=True), numbers(True), 0),
    "both ways": lambda: (nn.GRU(M, N, bidirectional=True), numbers(False), 1),
    "convolution": lambda: (Causal(), numbers(True), 0),
    "attention": lambda: (Attention(), numbers(True), 0),
    "ids": lambda: (Reader(5, words=6), torch.randint(6, (B, T)), 0),
    "one output": lambda: (Reader(5, last=True), numbers(True), 0),
}
LOSSES = {  # name: (model, x, y, name of the loss, the same by torch, (B, T) or (B,))
    "next frames": lambda: (
        Reader(M),
        numbers(True),
        numbers(True).sigmoid().round(),
        "bernoulli",
        lambda o, y: F.binary_cross_entropy_with_logits(o, y, reduction="none").sum(-1),
    ),
    "classes": lambda: (
        Reader(5, last=True),
        numbers(True),
        torch.tensor([4, 1]),
        "cross_entropy",
        lambda o, y: F.cross_entropy(o, y, reduction="none"),
    ),
    "numbers": lambda: (
        Reader(1),
        numbers(True),
        torch.randn(B, T, 1, dtype=torch.float64),
        "mse",
        lambda o, y: F.mse_loss(o, y, reduction="none").sum(-1) / 2,
    ),
}


def norms(outputs, x, axis):
    """Root mean square over sequences of ||d outputs[t2, b] / d x[t1, b]||, (S, T), of outputs
    (S, B, k), one gradient at a time.
    """
    squares = torch.zeros(len(outputs), x.shape[1 - axis], dtype=torch.float64)
    for t2, frame in enumerate(outputs):
        for b, numbers_ in enumerate(frame):
            for one in numbers_:
                (slope,) = torch.autograd.grad(one, x, retain_graph=True, allow_unused=True)
                if slope is not None:
                    squares[t2] += slope.select(axis, b).flatten(1).square().sum(1)
    return (squares / B).sqrt().numpy()


@for_each("name", CASES)
def test_the_influence_on_outputs_is_that_of_autograd(name):
    torch.manual_seed(0)
    model, x, axis = CASES[name]()
    found = gersgorin.influence(model, x, batch_axis=axis if name == "convolution" else None)
    model = model.double().eval()
    ids = not x.is_floating_point()
    leaf = (model.embedding(x) if ids else x).detach().requires_grad_()
    outputs = model.read(leaf) if ids else model(leaf)
    outputs = outputs[0] if isinstance(outputs, tuple) else outputs
    outputs = outputs[None] if outputs.dim() == 2 else outputs.movedim(1 - axis, 0)
    np.testing.assert_allclose(found.influence, norms(outputs, leaf, axis), rtol=1e-9, atol=1e-14)
    assert found.probes == 0 and not found.error.any()


@for_each("name", LOSSES)
def test_the_gradient_of_a_loss_is_that_of_autograd(name):
    torch.manual_seed(0)
    model, x, y, loss, by_torch = LOSSES[name]()
    found = gersgorin.influence(model, x, of=loss, y=y)
    own = gersgorin.influence(model, x, of=by_torch, y=y)
    leaf = x.clone().requires_grad_()
    costs = by_torch(model.double()(leaf), y)
    costs = costs.T[..., None] if costs.dim() == 2 else costs[None, :, None]
    np.testing.assert_allclose(found.influence, norms(costs, leaf, 0), rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(own.influence, found.influence, rtol=1e-12)
