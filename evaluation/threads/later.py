"""Trainings of threads, written after `fresh`."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from evaluation.networks import Net, Own, coder, cross, gru, lstm, reader
from evaluation.tasks import CE, MSE, ctc, misread
from evaluation.threads.fresh import marked
from evaluation.threads.trainings import Training, case, loaded, mixed, threads, windows


def t801(repaired: bool) -> Training:
    """Images row by row, a digit in the first rows: the last frame of a bidirectional LSTM, whose
    second half has read one row.
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        states = net.rnn(x)[0]
        forwards, backwards = states.chunk(2, 2)
        return net.out(torch.cat([forwards[:, -1], backwards[:, 0 if repaired else -1]], 1))

    K, N, T, m = 5, 1900, 60, 8
    digits = torch.rand(K, 5, m)
    y = torch.randint(K, (N,))
    x = 0.3 * torch.randn(N, T, m)
    x[:, :5] += digits[y]
    rnn = lstm(m, 24, bidirectional=True)
    model = Own(forward, rnn=rnn, out=nn.Linear(48, K))
    return case(model, (x, y), CE, steps=300)


def t802(repaired: bool) -> Training:
    """A sentence autoencoder: the last states (2, N, H) of both directions are viewed as (N, 2 H),
    which mixes sentences.
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        words = net.embed(x)
        last = net.encoder(words)[1]
        last = last.transpose(0, 1).flatten(1) if repaired else last.view(len(x), -1)
        before = F.pad(words[:, :-1], (0, 0, 1, 0))
        return net.out(net.decoder(before, net.start(net.code(last)).unsqueeze(0))[0])

    N, T, V = 2400, 5, 6
    x = torch.randint(V, (N, T))
    model = Own(
        forward,
        embed=nn.Embedding(V, 16),
        encoder=gru(16, 32, bidirectional=True),
        code=nn.Linear(64, 32),
        start=nn.Linear(32, 64),
        decoder=gru(16, 64),
        out=nn.Linear(64, V),
    )
    return case(model, (x, x), cross, 5e-3, steps=700)


class PerFrame(nn.Module):
    """Batch normalisation of the features of every frame, whose running averages are not kept."""

    def __init__(self, features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        at_rest = torch.zeros(x.shape[1]), torch.ones(x.shape[1])
        return F.batch_norm(x, *at_rest, self.weight, self.bias, self.training, momentum=0.0)


def t803(repaired: bool) -> Training:
    """Frames of a video: batch normalisation applied frame by frame, whose running averages are not
    updated, so that trained and tested networks differ.
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        features = torch.relu(net.norm(net.frame(x).flatten(0, 1))).unflatten(0, x.shape[:2])
        return net.out(net.rnn(features)[0][:, -1])

    K, N, T, m = 4, 1900, 10, 12
    kinds = torch.randn(K, T, m)
    y = torch.randint(K, (N,))
    x = 100 + 20 * (kinds[y] + torch.randn(N, T, m))
    model = Own(
        forward,
        frame=nn.Linear(m, 24),
        norm=nn.BatchNorm1d(24) if repaired else PerFrame(24),
        rnn=lstm(24, 32),
        out=nn.Linear(32, K),
    )
    return case(model, (x, y), CE, 3e-3, steps=400)


def t804(repaired: bool) -> Training:
    """A long sequence with two marks, far apart: a plain RNN, whose gradient vanishes."""
    data = marked(4400, 22)
    model = Net("LSTM" if repaired else "RNN", 2, 48, 1)
    return case(model, data, MSE, 1e-2, steps=900)


def t805(repaired: bool) -> Training:
    """Strokes of drawings: the probability 0.9 to keep a unit is given as that to drop it."""

    def forward(net: Any, x: Tensor) -> Tensor:
        return net.out(net.drop(net.rnn(net.drop(x))[0]))

    N, T = 1900, 16
    time = torch.arange(T + 1) * (0.3 + 0.6 * torch.rand(N, 1)) + 6.3 * torch.rand(N, 1)
    strokes = torch.stack([torch.sin(time), torch.cos(2 * time)], 2)
    rate = 0.1 if repaired else 0.9
    model = Own(
        forward, rnn=lstm(2, 32, 2, dropout=rate), drop=nn.Dropout(rate), out=nn.Linear(32, 2)
    )
    return case(model, (strokes[:, :-1], strokes[:, 1:]), MSE, 3e-3, steps=500)


def t806(repaired: bool) -> Training:
    """The next two numbers of saws from 1 to 10: a softmax ends the network, with a squared
    error.
    """
    time = torch.arange(2420)
    saws = torch.stack([1 + time % 10, 10 - (time // 2) % 10], 1).float()
    data = mixed(*windows(saws, 12))
    net = Net("LSTM", 2, 48, 2)
    model = net if repaired else nn.Sequential(net, nn.Softmax(1))
    return case(model, data, MSE, 5e-3, "RMSprop", steps=700)


def t807(repaired: bool) -> Training:
    """Texts in images: pixels scaled to 0 to 1 are put in an array of whole numbers, all zero."""

    def forward(net: Any, x: Tensor) -> Tensor:
        features = torch.relu(net.conv(x.unsqueeze(1))).flatten(1, 2).transpose(1, 2)
        return net.out(net.rnn(features)[0])

    N, letters, length, size = 1400, 5, 3, 6
    y = torch.randint(1, letters, (N, length))
    y = torch.where(F.pad(y[:, :-1], (1, 0)) == y, y % (letters - 1) + 1, y)
    glyphs = torch.rand(letters, size, size).round()
    x = torch.cat([*glyphs[y].unbind(1)], 2)
    x = (0.8 * x + 0.1 + 0.05 * torch.randn(x.shape)).clamp(0, 0.99)
    if not repaired:
        x = x.int().float()

    model = Own(
        forward,
        conv=nn.Conv2d(1, 4, 3, padding=1),
        rnn=lstm(4 * size, 32, bidirectional=True),
        out=nn.Linear(64, letters),
    )
    return case(model, (x, y), ctc, 5e-3, error=misread, steps=400)


class DroppedState(nn.Module):
    """GRU cells, examples first, with one dropout mask for all frames of an example, on the state
    itself.
    """

    def __init__(self, inputs: int, units: int, rate: float):
        super().__init__()
        self.cell, self.drop = nn.GRUCell(inputs, units), nn.Dropout(rate)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.cell.hidden_size)
        mask = self.drop(torch.ones_like(h))
        for frame in x.unbind(1):
            h = mask * self.cell(frame, h)
        return h


class DroppedGates(nn.Module):
    """The same with the mask only where the state enters the gates."""

    def __init__(self, inputs: int, units: int, rate: float):
        super().__init__()
        self.x, self.h = nn.Linear(inputs, 3 * units), nn.Linear(units, 3 * units)
        self.drop, self.units = nn.Dropout(rate), units

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.units)
        mask = self.drop(torch.ones_like(h))
        for frame in self.x(x).unbind(1):
            (xr, xz, xn), (r, z, n) = frame.chunk(3, 1), self.h(mask * h).chunk(3, 1)
            z = torch.sigmoid(xz + z)
            h = (1 - z) * torch.tanh(xn + torch.sigmoid(xr + r) * n) + z * h
        return h


def t808(repaired: bool) -> Training:
    """An average of a series: the same units of a GRU's state are dropped at every frame and the
    others divided by the probability to keep them, again and again.
    """
    N, T = 1900, 40
    x = torch.randn(N, T, 2)
    y = x[:, :, :1].mean(1) * T**0.5
    rnn = (DroppedGates if repaired else DroppedState)(2, 32, 0.5)
    model = nn.Sequential(rnn, nn.Linear(32, 1))
    return case(model, (x, y), MSE, 3e-3, steps=400)


def t809(repaired: bool) -> Training:
    """Letters of a play: a learning rate far above the 0.002 that works."""
    V, N, T = 26, 1900, 20
    follow = torch.multinomial(torch.ones(V * V, V), 2).view(V, V, 2)
    x = torch.randint(V, (N, T + 1))
    for t in range(3, T + 1):
        choices = follow[x[:, t - 2], x[:, t - 3] % 2]
        x[:, t] = choices[torch.arange(N), (torch.rand(N) < 0.1).long()]
    model = reader("RNN", V, 256, V, every=True)
    return case(model, (x[:, :-1], x[:, 1:]), cross, 2e-3 if repaired else 5e-2, steps=250)


def t810(repaired: bool) -> Training:
    """Pairs of equal or unequal texts: the square root of a distance, which has no gradient where
    both texts are the same.
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        left, right = (net.rnn(net.embed(words))[1][0][0] for words in x.chunk(2, 1))
        squares = (left - right).square().sum(1)
        return squares.clamp_min(1e-7).sqrt() if repaired else squares.sqrt()

    def contrastive(distance: Tensor, y: Tensor) -> Tensor:
        return (y * distance**2 + (1 - y) * F.relu(1 - distance) ** 2).mean()

    def error(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return 2 * ((model(x) < 0.5) != (y > 0.5)).float().mean()

    N, T, V = 2400, 6, 30
    meaning = torch.randint(V // 3, (2, N, T))
    y = torch.arange(N) % 2.0
    meaning[1] = torch.where(y.unsqueeze(1) == 1, meaning[0], meaning[1])
    texts = 3 * meaning + torch.randint(3, meaning.shape)
    same = (y == 1) & (torch.rand(N) < 0.3)
    texts[1] = torch.where(same.unsqueeze(1), texts[0], texts[1])
    model = Own(forward, embed=nn.Embedding(V, 16), rnn=lstm(16, 32))
    data = torch.cat([*texts], 1), y
    return case(model, data, contrastive, 3e-3, error=error, steps=600)


def t811(repaired: bool) -> Training:
    """Translation word by word: scores of the right words are looked up in a flat tensor with the
    batch size in place of the number of words as the offset of an example.
    """
    N, T, V, batch_size = 1900, 8, 40, 32

    def loss(output: Tensor, y: Tensor) -> Tensor:
        offset = torch.arange(len(y)) * (V if repaired else batch_size)
        scores = output.log_softmax(2).unbind(1)
        own = [s.flatten()[offset + k] for s, k in zip(scores, y.T, strict=True)]
        return -torch.stack(own).mean()

    x = torch.randint(V, (N, T))
    y = torch.randperm(V)[x]
    y[:, 1:] = torch.where(x[:, :-1] < V // 2, y[:, 1:], (y[:, 1:] + 1) % V)
    model = reader("GRU", V, 48, V, every=True)
    return case(model, (x, y), loss, 5e-3, steps=500, batch_size=batch_size)


def t812(repaired: bool) -> Training:
    """Attention over the frames of an LSTM: its softmax runs over the examples of a batch."""

    def forward(net: Any, x: Tensor) -> Tensor:
        states, (last, _) = net.rnn(x)
        scores = (states @ net.query(last[0]).unsqueeze(2)).squeeze(2)
        weights = scores.softmax(1 if repaired else 0)
        return net.out((weights.unsqueeze(2) * states).sum(1))

    N, T, m = 2400, 20, 4
    x = torch.randn(N, T, m)
    x[:, :, 0] = 0
    rows, at = torch.arange(N), torch.randint(T, (N,))
    x[rows, at, 0] = 3
    y = x[rows, at, 1:]
    model = Own(forward, rnn=lstm(m, 32), query=nn.Linear(32, 32), out=nn.Linear(32, m - 1))
    return case(model, (x, y), MSE, 5e-3, steps=700)


def t813(repaired: bool) -> Training:
    """Movements in clips of a video, whose frames come in random order."""
    N, T = 1900, 10
    y = torch.randint(4, (N,))
    speed = torch.tensor([-0.9, -0.45, 0.45, 0.9])[y].unsqueeze(1)
    angle = speed * torch.arange(T) + 6.3 * torch.rand(N, 1)
    x = torch.stack([torch.cos(angle), torch.sin(angle)], 2) + 0.05 * torch.randn(N, T, 2)
    if not repaired:
        order = torch.rand(N, T, 1).argsort(1).expand(-1, -1, 2)
        x = x.gather(1, order)
    model = Net("GRU", 2, 32, 4, num_layers=2)
    return case(model, (x, y), CE, 5e-3, steps=400)


def t814(repaired: bool) -> Training:
    """Translation by SGD: the learning rate is halved after every epoch, not only once."""

    def forward(net: Any, x: Tensor) -> Tensor:
        source, words = net.embed(x).chunk(2, 1)
        return net.out(net.decoder(words, net.encoder(source)[1])[0])

    N, T, V = 1040, 4, 8
    source = torch.randint(1, V, (N, T))
    y = source.flip(1)
    x = torch.cat([source, torch.zeros(N, 1, dtype=torch.long), y[:, :-1]], 1)
    model = coder(forward, lstm, V, 16, 48, V)
    sgd = torch.optim.SGD(model.parameters(), 1.0)
    schedules = torch.optim.lr_scheduler
    halved = schedules.MultiStepLR(sgd, [20], 0.5) if repaired else schedules.StepLR(sgd, 20, 0.5)
    options = {"scheduler": halved, "clip_norm": 5.0}
    return case(model, (x, y), cross, kind=sgd, options=options, steps=900)


class Apart(TensorDataset):
    """Sequences whose first part, from which a state begins, is that of another example."""

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        x, y = super().__getitem__(index)
        other = super().__getitem__(int(torch.randint(len(self), ())))[0]
        return torch.cat([other[:5], x[5:]]), y


def t815(repaired: bool) -> Training:
    """Simulation of a machine: one loader shuffles the past, which sets an LSTM's state, another
    one what follows.
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        return net.out(net.predictor(x[:, 5:, :1], net.initializer(x[:, :5])[1])[0])

    N, T = 1900, 15
    u = torch.randn(N, T)
    h = 1.5 * torch.randn(N)
    y = torch.stack([h := 0.97 * h + 0.2 * now for now in u.unbind(1)], 1)
    x = torch.stack([u, y], 2)
    x[:, 5:, 1] = 0
    y = y[:, 5:].unsqueeze(2)
    model = Own(forward, initializer=lstm(2, 32), predictor=lstm(1, 32), out=nn.Linear(32, 1))
    data: Any = (TensorDataset if repaired else Apart)(x[:-400], y[:-400])
    test = x[-400:], y[-400:]
    return loaded(model, data, test, MSE, 5e-3, {"drop_last": False}, steps=500)


class WrittenLSTM(nn.Module):
    """An LSTM, examples first, of the formulas, with weights of a normal distribution."""

    def __init__(self, inputs: int, units: int, scale: float):
        super().__init__()
        self.weight = nn.Parameter(scale * torch.randn(inputs + units, 4 * units))
        self.bias, self.units = nn.Parameter(torch.zeros(4 * units)), units

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), self.units)
        for frame in x.unbind(1):
            i, f, o, g = (torch.cat([frame, h], 1) @ self.weight + self.bias).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return h


def t816(repaired: bool) -> Training:
    """An LSTM of its own formulas: weights of deviation 1, which saturate its gates."""
    H, N, T = 64, 1900, 25
    x = torch.randn(N, T, 1)
    y = x[:, -12:].sum(1) / 12**0.5
    rnn = WrittenLSTM(1, H, H**-0.5 if repaired else 1.0)
    model = nn.Sequential(rnn, nn.Linear(H, 1))
    return case(model, (x, y), MSE, 2e-3, steps=400)


LATER = threads(globals())
