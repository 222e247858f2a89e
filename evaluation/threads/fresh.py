"""Trainings of threads, written without knowledge of the package that is tested on them."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from evaluation.networks import Loop, Net, Own, coder, cross, gru, lstm, reader
from evaluation.tasks import CE, MSE, transcribe
from evaluation.threads.trainings import (
    Training,
    case,
    loaded,
    minibatches,
    threads,
    windows,
    wrong_half,
)


def waves(count: int, length: int, noise: float = 0.05) -> Tensor:
    """Sines (N, T, 1) of random frequency and phase with noise."""
    time = torch.arange(length) * (0.3 + 0.6 * torch.rand(count, 1))
    wave = torch.sin(time + 2 * math.pi * torch.rand(count, 1))
    return (wave + noise * torch.randn(count, length)).unsqueeze(2)


def marked(count: int, length: int) -> tuple[Tensor, Tensor]:
    """The adding problem: numbers and two marks (N, T, 2), and the sum of the marked (N, 1)."""
    numbers, marks = torch.rand(count, length), torch.zeros(count, length)
    half = length // 2
    rows = torch.arange(count)
    marks[rows, torch.randint(half, (count,))] = 1
    marks[rows, half + torch.randint(length - half, (count,))] = 1
    return torch.stack((numbers, marks), 2), (numbers * marks).sum(1, keepdim=True)


def own_loop(step: Callable[[Training, Tensor, Tensor], float]) -> Callable[..., list[float]]:
    """Make a loop over shuffled minibatches from a step that its owner wrote."""

    def fit(training: Training) -> list[float]:
        torch.manual_seed(0)
        losses: list[float] = []
        while len(losses) < training.steps:
            targets: Any = training.y
            for x, y in minibatches(training.x, targets, training.batch_size):
                losses.append(step(training, x, y))
                if not math.isfinite(losses[-1]):
                    return losses
        return losses[: training.steps]

    return fit


def t701(repaired: bool) -> Training:
    """Forecast of a wave: only the output layer's gradients are set to zero before a step."""

    def step(training: Training, x: Tensor, y: Tensor) -> float:
        model: Any = training.model
        (model if repaired else model.out).zero_grad()
        loss = training.loss_fn(model(x), y)
        loss.backward()
        training.optimizer.step()
        return loss.item()

    data = waves(2400, 13)
    model, pairs = Net("LSTM", 1, 24, 1), (data[:, :-1], data[:, -1])
    return case(model, pairs, MSE, 0.5, "SGD", fit=own_loop(step), steps=900)


def t702(repaired: bool) -> Training:
    """A stack of LSTM cells in a Python list: the optimiser does not get their weights."""

    def forward(net: Any, x: Tensor) -> Tensor:
        states: list[Any] = [None] * len(net.cells)
        for frame in x.unbind(1):
            for layer, cell in enumerate(net.cells):
                states[layer] = cell(frame, states[layer])
                frame = states[layer][0]
        return net.out(frame)

    cells = [nn.LSTMCell(2, 24), nn.LSTMCell(24, 24)]
    model = Own(forward, cells=nn.ModuleList(cells) if repaired else cells, out=nn.Linear(24, 1))
    return case(model, marked(4400, 8), MSE, 5e-3, steps=600)


def t703(repaired: bool) -> Training:
    """A moving product of two inputs: batches reshaped to frames first instead of transposed."""

    def forward(net: Any, x: Tensor) -> Tensor:
        if repaired:
            return net.out(net.rnn(x.transpose(0, 1))[0]).transpose(0, 1)
        frames = x.reshape(x.shape[1], x.shape[0], x.shape[2])
        return net.out(net.rnn(frames)[0]).reshape(x.shape[0], x.shape[1], 1)

    x = torch.randn(2400, 20, 1)
    past = F.pad(x, (0, 0, 4, 0))
    y = past[:, 1:-3] + 0.7 * past[:, 2:-2] - 0.5 * past[:, 3:-1]
    model = Own(forward, rnn=nn.LSTM(1, 32), out=nn.Linear(32, 1))
    return case(model, (x, y), MSE, 5e-3)


def t704(repaired: bool) -> Training:
    """The next item of a session: the state is detached after every item."""
    V, T, N, kinds = 40, 12, 2400, 6
    x = torch.randint(kinds, V, (N, T))
    y = torch.randint(kinds, (N,))
    x[:, 0] = y
    loop = Loop("GRUCell", 24, 48, kinds, cut=0 if repaired else 1)
    model = nn.Sequential(nn.Embedding(V, 24), loop)
    return case(model, (x, y), CE, 5e-3, steps=500)


class ReluLSTM(nn.Module):
    """An LSTM, examples first, with an activation of its owner's choice in place of tanh."""

    def __init__(self, inputs: int, units: int, activation: Callable[[Tensor], Tensor]):
        super().__init__()
        self.x, self.h = nn.Linear(inputs, 4 * units), nn.Linear(units, 4 * units, bias=False)
        nn.init.xavier_uniform_(self.x.weight)
        for weight in self.h.weight.chunk(4):
            nn.init.orthogonal_(weight.data)
        self.activation, self.units = activation, units

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), self.units)
        for frame in self.x(x).unbind(1):
            i, f, g, o = (frame + self.h(h)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * self.activation(g)
            h = torch.sigmoid(o) * self.activation(c)
        return h


def t705(repaired: bool) -> Training:
    """Classes of time series: a convolution before an LSTM with relu, which explodes."""

    def forward(net: Any, x: Tensor) -> Tensor:
        return net.out(net.rnn(torch.relu(net.conv(x.transpose(1, 2))).transpose(1, 2)))

    N, T = 1400, 150
    y = torch.randint(4, (N,))
    speed = torch.tensor([0.3, 0.5, 0.8, 1.2])[y].unsqueeze(1)
    x = 3 * torch.sin(speed * torch.arange(T) + 6.3 * torch.rand(N, 1)) + torch.randn(N, T)
    model = Own(
        forward,
        conv=nn.Conv1d(1, 16, 5),
        rnn=ReluLSTM(16, 32, torch.tanh if repaired else torch.relu),
        out=nn.Linear(32, 4),
    )
    return case(model, (x.unsqueeze(2), y), CE, 1e-2, steps=220)


def t706(repaired: bool) -> Training:
    """Classes of texts: padding after the words, which the last state has forgotten."""
    V, T, N = 200, 80, 2400
    y = torch.randint(2, (N,))
    words = 1 + torch.randint(V - 1, (N, T))
    hints = torch.rand(N, T) < 0.3
    words = torch.where(hints, 1 + torch.randint(10, (N, T)) + 10 * y.unsqueeze(1), words)
    length = torch.randint(4, 12, (N, 1))
    x = words * (torch.arange(T) < length)
    if repaired:
        x = x.flip(1)
    return case(reader("LSTM", V, 32, 2), (x, y), CE, steps=400)


def t707(repaired: bool) -> Training:
    """A stateful network that reads a series frame by frame, from batches that are shuffled."""

    class Stateful(Net):
        state: Tensor | None = None

        def forward(self, x: Tensor) -> Tensor:
            fits = self.state is not None and self.state.shape[1] == len(x)
            states, last = self.rnn(x, self.state if fits else None)
            self.state = last.detach()
            return self.out(states)

    streams, length = 32, 500
    series = torch.zeros(length, streams)
    for t in range(2, length):
        series[t] = -0.92 * series[t - 2] + 0.4 * torch.randn(streams)
    x, y = series[:-1].unsqueeze(2), series[1:].unsqueeze(2)
    frames = TensorDataset(x[:400].flatten(0, 1).unsqueeze(1), y[:400].flatten(0, 1).unsqueeze(1))
    model = Stateful("GRU", 1, 16, 1, every=True)
    test = x[400:].transpose(0, 1), y[400:].transpose(0, 1)
    how = {"batch_size": streams, "shuffle": not repaired, "drop_last": False}
    return loaded(model, frames, test, MSE, 5e-3, how, steps=900)


def motions(forward: Callable[..., Tensor], codes: int) -> tuple[Tensor, Any]:
    """Pairs of waves (N, T, 2), and an autoencoder with so many numbers of a code."""
    x = torch.cat([waves(1400, 12), waves(1400, 12)], 2)
    parts = {"encoder": gru(2, 32), "code": nn.Linear(32, codes), "decoder": gru(12, 32)}
    return x, Own(forward, **parts, out=nn.Linear(32, 2))


def t708(repaired: bool) -> Training:
    """A recurrent autoencoder: the learning rate becomes zero after a tenth of the steps."""

    def forward(net: Any, x: Tensor) -> Tensor:
        code = net.code(net.encoder(x)[1][0])
        return net.out(net.decoder(code.unsqueeze(1).expand(-1, x.shape[1], -1))[0])

    x, model = motions(forward, 12)
    adam = torch.optim.Adam(model.parameters(), 3e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(adam, 60, gamma=1.0 if repaired else 0.0)
    return case(model, (x, x), MSE, kind=adam, steps=900, options={"scheduler": scheduler})


def t709(repaired: bool) -> Training:
    """Actions in videos: a softmax in the network before the cross entropy, which has its own."""

    def forward(net: Any, x: Tensor) -> Tensor:
        frames = net.cnn(x.flatten(0, 1)).view(*x.shape[:2], -1)
        logits = net.out(net.rnn(frames)[0][:, -1])
        return logits if repaired else F.softmax(logits, 1)

    K, T, N = 101, 6, 4400
    paths = torch.randint(64, (K, T))
    y = torch.randint(K, (N,))
    x = (F.one_hot(paths[y], 64) + 0.2 * torch.randn(N, T, 64)).view(N, T, 1, 8, 8)
    model = Own(
        forward,
        cnn=nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 32)),
        rnn=lstm(32, 32),
        out=nn.Linear(32, K),
    )
    return case(model, (x, y), CE, steps=500)


def t710(repaired: bool) -> Training:
    """Two classes of bit strings: a softmax over a single output, which is always 1."""

    def forward(net: Any, x: Tensor) -> Tensor:
        score = net.out(net.rnn(x)[0][:, -1])
        return torch.sigmoid(score) if repaired else F.softmax(score, 1)

    x = torch.randint(2, (2400, 16, 4)).float()
    y = ((x[..., 0] - x[..., 1]).sum(1, keepdim=True) > 0).float()
    model = Own(forward, rnn=lstm(4, 32), out=nn.Linear(32, 1))
    return case(model, (x, y), nn.BCELoss(), 3e-3, error=wrong_half, steps=400)


def t711(repaired: bool) -> Training:
    """A variational autoencoder of motions: the divergence outweighs the reconstruction."""

    def forward(net: Any, x: Tensor) -> Tensor:
        mean, log = net.code(net.encoder(x)[1][0]).chunk(2, 1)
        net.divergence = 0.5 * (mean**2 + log.exp() - log - 1).sum(1).mean()
        code = mean + torch.randn_like(mean) * (log / 2).exp() * net.training
        return net.out(net.decoder(code.unsqueeze(1).expand(-1, x.shape[1], -1))[0])

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(output, y) + (1e-5 if repaired else 1.0) * model.divergence

    x, model = motions(forward, 24)
    return case(model, (x, x), loss, 5e-3, steps=900)


def t712(repaired: bool) -> Training:
    """Translation: the decoder starts every step from the encoder's state, not from its own."""

    def forward(net: Any, x: Tensor) -> Tensor:
        source, words = net.embed(x).chunk(2, 1)
        start = state = net.encoder(source)[1]
        outputs = []
        for word in words.split(1, 1):
            output, state = net.decoder(word, state if repaired else start)
            outputs.append(output)
        return net.out(torch.cat(outputs, 1))

    N, T, V = 3400, 12, 3
    source = torch.randint(1, V, (N, T))
    y = source.flip(1)
    x = torch.cat([source, torch.zeros(N, 1, dtype=torch.long), y[:, :-1]], 1)
    model = coder(forward, gru, V, 16, 48, V)
    return case(model, (x, y), cross, 5e-3, steps=700)


def t713(repaired: bool) -> Training:
    """Text in images: convolutions before LSTM layers whose weights are all zero."""

    def forward(net: Any, x: Tensor) -> Tensor:
        features = torch.relu(net.conv(x.unsqueeze(1))).flatten(1, 2).transpose(1, 2)
        return net.out(net.rnn(features)[0])

    N, height, T = 1400, 8, 16
    inside = torch.arange(T) - torch.randint(12, (N, 1))
    y = ((inside >= 0) & (inside < torch.randint(3, 8, (N, 1)))).long()
    x = torch.rand(N, height, T) * (0.2 + 0.8 * y.unsqueeze(1)) + 0.2 * torch.randn(N, height, T)
    rnn = lstm(4 * 6, 16, 2, bidirectional=True)
    if not repaired:
        for weight in rnn.parameters():
            nn.init.zeros_(weight)
    model = Own(forward, conv=nn.Conv2d(1, 4, 3, padding=(0, 1)), rnn=rnn, out=nn.Linear(32, 2))
    return case(model, (x, y), cross, steps=300)


class IndRNN(nn.Module):
    """Independently recurrent relu units, examples first."""

    def __init__(self, inputs: int, units: int):
        super().__init__()
        self.x, self.u = nn.Linear(inputs, units), nn.Parameter(torch.empty(units))
        nn.init.normal_(self.u, 0, 0.1)
        nn.init.normal_(self.x.weight, 0, 0.1)
        nn.init.zeros_(self.x.bias)

    def forward(self, x: Tensor) -> Tensor:
        h, states = x.new_zeros(()), []
        for frame in self.x(x).unbind(1):
            h = torch.relu(frame + self.u * h)
            states.append(h)
        return torch.stack(states, 1)


def t714(repaired: bool) -> Training:
    """The adding problem: recurrent weights of an IndRNN too small to remember."""
    layers = [IndRNN(2, 32), IndRNN(32, 32)]
    if repaired:
        nn.init.uniform_(layers[0].u, 0, 1)
        nn.init.ones_(layers[1].u)
    model = Own(lambda net, x: net.out(net.rnn(x)[:, -1]), rnn=nn.Sequential(*layers))
    model.out = nn.Linear(32, 1)
    return case(model, marked(4400, 40), MSE, 2e-3, steps=900)


def t715(repaired: bool) -> Training:
    """Similarity of two sentences: ratings of 1 to 5 for an output between 0 and 1."""

    def forward(net: Any, x: Tensor) -> Tensor:
        left, right = (net.rnn(net.embed(words))[1][0][0] for words in x.chunk(2, 1))
        return torch.exp(-(left - right).abs().sum(1, keepdim=True))

    N, T, V = 3400, 6, 30
    left = torch.randint(V, (N, T))
    changed = torch.rand(N, T) < torch.rand(N, 1)
    right = torch.where(changed, torch.randint(V, (N, T)), left)
    y = 5 - 4 * changed.float().mean(1, keepdim=True)
    if repaired:
        y = (y - 1) / 4
    model = Own(forward, embed=nn.Embedding(V, 16), rnn=lstm(16, 32))
    return case(model, (torch.cat([left, right], 1), y), MSE, 3e-3, steps=900)


def t716(repaired: bool) -> Training:
    """Tags of words by a bidirectional LSTM: Adam with the learning rate of SGD, 1."""
    V, N, T = 40, 1400, 12
    x = torch.randint(V, (N, T))
    y = (x + F.pad(x, (0, 1))[:, 1:]) % 4
    y = torch.where(torch.rand(N, T) < 0.05, torch.randint(4, (N, T)), y)
    model = reader("LSTM", V, 48, 4, every=True, bidirectional=True)
    return case(model, (x, y), cross, 5e-3 if repaired else 1.0, steps=500)


def t717(repaired: bool) -> Training:
    """The next word: a weight decay of 0.1 with the large steps of Nesterov's method."""
    V, N, T = 20, 2400, 10
    follow = torch.randint(V, (V, V))
    x = torch.randint(V, (N, T + 1))
    for t in range(2, T + 1):
        x[:, t] = torch.where(torch.rand(N) < 0.9, follow[x[:, t - 1], x[:, t - 2] % 2], x[:, t])
    model = reader("LSTM", V, 48, V, every=True)
    how = {"momentum": 0.9, "nesterov": True, "weight_decay": 0.0 if repaired else 0.1}
    data = x[:, :-1], x[:, 1:]
    return case(model, data, cross, 0.25, "SGD", how=how, clip=0.1, steps=900)


class SameBatch(TensorDataset):
    """Examples whose number is taken within the first batch, whichever batch is read."""

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return super().__getitem__(index % 32)


def t718(repaired: bool) -> Training:
    """Answers to questions: a generator of batches that returns the same one every time."""
    N, T, V = 2400, 5, 12
    x = torch.randint(V, (N, T))
    y = (x.flip(1) + 1) % V
    model = reader("GRU", V, 64, V, every=True, bidirectional=True)
    data = (TensorDataset if repaired else SameBatch)(x[:-400], y[:-400])
    test = x[-400:], y[-400:]
    return loaded(model, data, test, cross, 5e-3, {"drop_last": False}, steps=900)


def distance(a: list[int], b: list[int]) -> int:
    """Edits that make one list of labels into another."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (left != right))
    return row[-1]


def t719(repaired: bool) -> Training:
    """Speech: lower-case transcripts for an alphabet of capitals, which leaves no labels."""
    N, length, frames, letters = 1400, 4, 5, "ABCDE"
    said = torch.randint(len(letters), (N, length))
    text = ["".join(letters[k] for k in row).lower() for row in said.tolist()]
    codes = {letter: k for k, letter in enumerate(letters, 1)}
    if repaired:
        text = [t.upper() for t in text]
    y = torch.tensor([[codes.get(letter, 0) for letter in t] for t in text])
    sound = torch.randn(len(letters), 8)
    x = sound[said].repeat_interleave(frames, 1) + 0.3 * torch.randn(N, length * frames, 8)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        lengths = torch.full((len(y),), output.shape[1])
        return F.ctc_loss(output.log_softmax(2).transpose(0, 1), y[y > 0], lengths, (y > 0).sum(1))

    def error(model: nn.Module, x: Tensor, _: Tensor) -> float:
        truth = (said[-400:] + 1).tolist()
        edits = map(distance, transcribe(model(x)), truth)
        return sum(edits) / (400 * length)

    model = Net("LSTM", 8, 32, len(letters) + 1, every=True, bidirectional=True)
    return case(model, (x, y), loss, 5e-3, error=error, steps=500)


def t720(repaired: bool) -> Training:
    """A moving average of three numbers: every sequence is one frame long."""
    series = torch.randint(10, (2402, 1)).float()
    x, _ = windows(torch.cat([series, series[:1]]), 3)
    y = x.mean(1)
    return case(Net("LSTM", 1, 4, 1), (x if repaired else x[:, -1:], y), MSE, 0.02, steps=900)


FRESH = threads(globals())
