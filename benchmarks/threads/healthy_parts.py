"""Data, networks and optimisers of the healthy trainings; the makers of data seed torch, the last FRESH examples are fresh."""

import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from benchmarks import judge
from benchmarks.threads.trainings import Net, Training, case, fit, wrong

FRESH = 400


# Data: n examples to train with and FRESH others


def averages(n: int, K: int = 1, T: int = 20, m: int = 3, *, every: bool = False, draw=torch.randn, noise: float = 0.0):
    """Standardised leaky averages of the inputs, of the last frame or of every frame."""
    torch.manual_seed(n + T)
    x, mix = draw((n + FRESH, T, m)).float(), F.normalize(torch.randn(m, K), dim=0)
    states = [torch.zeros(n + FRESH, K)]
    for frame in x.unbind(1):
        states.append(0.8 * states[-1] + frame @ mix)
    y = torch.stack(states[1:], 1) if every else states[-1]
    y = (y - y.flatten(0, -2).mean(0)) / y.flatten(0, -2).std(0)
    return x, (y + noise * torch.randn_like(y)) / math.sqrt(1 + noise**2)


def hums(n: int, shares=(1.0, 1.0, 1.0), T: int = 24, m: int = 2, noise: float = 0.5):
    """Sines of random phase with noise; the class is the frequency."""
    torch.manual_seed(n + T + 1)
    labels = torch.multinomial(torch.tensor(shares), n + FRESH, True)
    angles = (0.25 + 0.45 * labels)[:, None, None] * torch.arange(T)[:, None] + 6.3 * torch.rand(n + FRESH, 1, m)
    return torch.sin(angles) + noise * torch.randn(n + FRESH, T, m), labels


def waves(n: int, T: int = 30, noise: float = 0.0):
    """A sine of random frequency and phase, and its next number at every frame."""
    torch.manual_seed(n + T + 2)
    rate, phase = 0.3 + 0.5 * torch.rand(n + FRESH, 1), 6.3 * torch.rand(n + FRESH, 1)
    z = (torch.sin(rate * torch.arange(T + 1) + phase) + noise * torch.randn(n + FRESH, T + 1))[..., None]
    return z[:, :-1], z[:, 1:]


def resonances(n: int, T: int = 40):
    """An autoregressive process of order 2, and its next number; the best error is 0.05, the last number's 0.3."""
    torch.manual_seed(n + T + 3)
    z = [torch.randn(n + FRESH, 1), torch.randn(n + FRESH, 1)]
    for _ in range(T + 40):
        z.append(1.6 * z[-1] - 0.9 * z[-2] + 0.235 * torch.randn(n + FRESH, 1))
    z = torch.stack(z[-T - 1 :], 1)
    return z[:, :-1], z[:, 1:]


def reviews(n: int, V: int = 50, T: int = 20):
    """Ids of words (N, T), and whether most of them are good words."""
    torch.manual_seed(n + T + 4)
    ids, worth = torch.randint(0, V, (n + FRESH, T)), torch.randn(V)
    return ids, (worth[ids].sum(1) > 0).long()


def sentences(n: int, T: int = 30):
    """Letters of random sentences of a small grammar, and the next letters (N, T); 0 is a space."""
    torch.manual_seed(n + T + 5)
    nouns, verbs, pieces = ["cat", "bird", "teacher", "river", "moon"], ["sees", "follows", "likes", "hides"], []
    for _ in range(n + FRESH):
        a, b, c, start = (int(torch.randint(k, ())) for k in (5, 4, 5, 12))
        text = 3 * f"the {nouns[a]} {verbs[b]} the {nouns[c]} and "
        pieces.append([ord(letter) - 96 if letter != " " else 0 for letter in text[start : start + T + 1]])
    ids = torch.tensor(pieces)
    return ids[:, :-1], ids[:, 1:]


def chords(n: int, T: int = 24):
    """A cycle of six chords of three of twelve keys, each held for two to four frames (a piece's tempo), and the next frame."""
    torch.manual_seed(n + T + 6)
    keys = torch.stack([torch.zeros(12).scatter_(0, torch.randperm(12)[:3], 1.0) for _ in range(6)])
    tempo, start = torch.randint(2, 5, (n + FRESH, 1)), torch.randint(0, 24, (n + FRESH, 1))
    frames = keys[(start + torch.arange(T + 1)) // tempo % 6]
    return frames[:, :-1], frames[:, 1:]


def swapped(data):
    """Time first."""
    return tuple(v.transpose(0, 1).contiguous() if v.dim() == 3 else v for v in data)


# Networks besides Net


class Frames(Net):
    """Outputs (N, K, T), as CrossEntropyLoss has them."""

    def forward(self, x):
        return super().forward(x).transpose(1, 2)


class Pooled(Net):
    """Output of the mean of all states, or of their mean by learned attention."""

    def __init__(self, *sizes: Any, attention: bool = False, **options: Any):
        super().__init__(*sizes, **options)
        self.score = nn.Linear(self.out.in_features, 1) if attention else None

    def forward(self, x):
        states = self.rnn(x)[0]
        return self.out(states.mean(1) if self.score is None else (self.score(states).softmax(1) * states).sum(1))


class Begun(Net):
    """A learned initial state."""

    def __init__(self, *sizes: Any, **options: Any):
        super().__init__(*sizes, **options)
        self.h0 = nn.Parameter(torch.zeros(1, 1, self.rnn.hidden_size))

    def forward(self, x):
        return self.out(self.rnn(x, self.h0.expand(-1, len(x), -1).contiguous())[0][:, -1])


class Packed(Net):
    """Reads (x, lengths), packed."""

    def forward(self, x, lengths):
        _, h = self.rnn(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        return self.out(h[-1])


class Both(Net):
    """Two outputs."""

    def forward(self, x):
        return super().forward(x).chunk(2, -1)


class Loop(nn.Module):
    """A cell of torch.nn in a loop over time, cut every `cut` frames."""

    def __init__(self, kind: str, inputs: int, units: int, outputs: int, cut: int = 0, every: bool = False):
        super().__init__()
        self.cell, self.out = getattr(nn, kind)(inputs, units), nn.Linear(units, outputs)
        self.cut, self.every = cut, every

    def forward(self, x):
        state, outputs = None, []
        for t, frame in enumerate(x.unbind(1)):
            state = state.detach() if self.cut and t and t % self.cut == 0 else state
            state = self.cell(frame, state)
            outputs.append(self.out(state[0] if isinstance(state, tuple) else state))
        return torch.stack(outputs, 1) if self.every else outputs[-1]


class Residual(nn.Module):
    """GRU layers around which the input goes, each after a LayerNorm."""

    def __init__(self, inputs: int, units: int, outputs: int, layers: int = 3):
        super().__init__()
        self.enter, self.out = nn.Linear(inputs, units), nn.Linear(units, outputs)
        self.layers = nn.ModuleList(nn.GRU(units, units, batch_first=True) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(units) for _ in range(layers))

    def forward(self, x):
        x = self.enter(x)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + layer(norm(x))[0]
        return self.out(x[:, -1])


class Coder(nn.Module):
    """An encoder, and a decoder that unrolls its last state over `frames` frames."""

    def __init__(self, inputs: int, units: int, outputs: int, frames: int):
        super().__init__()
        self.encoder, self.decoder = nn.GRU(inputs, units, batch_first=True), nn.GRU(units, units, batch_first=True)
        self.out, self.frames = nn.Linear(units, outputs), frames

    def forward(self, x):
        _, h = self.encoder(x)
        return self.out(self.decoder(h[-1][:, None].expand(-1, self.frames, -1), h)[0])


class Tied(nn.Module):
    """Next ids, with one matrix for the embedding and the output."""

    def __init__(self, V: int, units: int):
        super().__init__()
        self.ids, self.out = nn.Embedding(V, units), nn.Linear(units, V)
        self.rnn = nn.LSTM(units, units, batch_first=True)
        nn.init.normal_(self.ids.weight, std=0.1)
        self.out.weight = self.ids.weight

    def forward(self, x):
        return self.out(self.rnn(self.ids(x))[0])


def layer(network: str, inputs: int, outputs: int, *, last: bool, layers: int = 1):
    """A network of the judge with 32 units, which reads time first."""
    row = {"network": network, "units": 32, "layers": layers, "start": "orthogonal", "seed": 5, "batch_first": "False"}
    return (judge.Torchs if network.startswith("nn.") else judge.Ours)(row, inputs, outputs, last)


# Trainings with them


def made(data, model: nn.Module, loss, kind: Any = "Adam", rate: float = 1e-3, **more: Any):
    """The training of a network on data; the last FRESH examples are fresh."""
    error = wrong if isinstance(loss, nn.BCEWithLogitsLoss) else None
    return case(model, data, loss, rate, kind, fresh=FRESH, error=error, **more)


def scheduled(training: Training) -> list[float]:
    """The plain loop, with a step of the scheduler after each step."""
    hook = training.optimizer.register_step_post_hook(lambda *_: training.options["scheduler"].step())
    losses = fit(replace(training, fit=None))
    hook.remove()
    return losses
