"""Trainings of further reports, written for the present `check`."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from evaluation.networks import Net, Own, coder, cross, gru, lstm, reader
from evaluation.tasks import CE, MSE, ctc, misread
from evaluation.threads.fresh import own_loop
from evaluation.threads.trainings import Training, case, mixed, squared, threads, windows


def t901(repaired: bool) -> Training:
    """Tags of words from the word before and the one behind: the states of the backward GRU are put
    in the order of the text along the examples.
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        words = net.embed(x)
        backwards = net.behind(words.flip(1))[0].flip(1 if repaired else 0)
        return net.out(torch.cat([net.before(words)[0], backwards], 2))

    N, T, V = 1900, 12, 20
    x = torch.randint(V, (N, T + 2))
    y = 2 * (x[:, :-2] % 2) + (x[:, 2:] > 9)
    model = Own(
        forward,
        embed=nn.Embedding(V, 16),
        before=gru(16, 24),
        behind=gru(16, 24),
        out=nn.Linear(48, 4),
    )
    y[:, 0], y[:, -1] = x[:, 2] > 9, 2 * (x[:, -3] % 2)
    return case(model, (x[:, 1:-1], y), cross, 5e-3, steps=400)


def t902(repaired: bool) -> Training:
    """A forecast by truncated backpropagation: series shorter than a part of 200 frames are passed
    over without an update.
    """
    T = 30
    part = T if repaired else 200

    def step(training: Training, x: Tensor, y: Tensor) -> float:
        loss = training.loss_fn(training.model(x), y)
        if x.shape[1] >= part:
            training.optimizer.zero_grad()
            loss.backward()
            training.optimizer.step()
        return loss.item()

    time = torch.arange(T + 1) * (0.3 + 0.5 * torch.rand(1900, 1)) + 6.3 * torch.rand(1900, 1)
    waves = torch.sin(time).unsqueeze(2)
    data = waves[:, :-1], waves[:, 1:]
    model = Net("LSTM", 1, 24, 1, every=True)
    return case(model, data, MSE, 5e-3, steps=300, fit=own_loop(step))


def t903(repaired: bool) -> Training:
    """Speech to letters with the blank as the last letter of the alphabet: the CTC loss takes the
    first one for the blank.
    """
    N, letters, length, m = 1600, 5, 3, 8
    y = torch.randint(letters, (N, length))
    y = torch.where(F.pad(y[:, :-1], (1, 0), value=-1) == y, (y + 1) % letters, y)
    x = torch.randn(letters, 4, m)[y].flatten(1, 2) + 0.3 * torch.randn(N, 4 * length, m)

    loss, error = partial(ctc, blank=letters if repaired else 0), partial(misread, blank=letters)
    model = Net("GRU", m, 32, letters + 1, every=True, bidirectional=True)
    return case(model, (x, y), loss, 5e-3, error=error, steps=400)


def t904(repaired: bool) -> Training:
    """Long texts: the loss is the sum over all frames, so that the gradient grows with their
    number.
    """

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return cross(output, y) * (1 if repaired else y.shape[1])

    V, N, T = 20, 1000, 60
    following = torch.randperm(V)
    x = torch.randint(V, (N, T + 1))
    for t in range(2, T + 1):
        x[:, t] = torch.where(torch.rand(N) < 0.9, following[x[:, t - 2]], x[:, t])
    model = reader("LSTM", V, 48, V, every=True)
    return case(model, (x[:, :-1], x[:, 1:]), loss, 2.0, "SGD", fresh=200, steps=500)


def t905(repaired: bool) -> Training:
    """Classes of sounds: the schedule is dropped at the end of its warm-up, so that the rate stays
    at its peak.
    """
    K, N, T, m, warm, steps = 8, 1900, 20, 10, 40, 600
    y = torch.randint(K, (N,))
    x = torch.randn(K, T, m)[y] + 1.5 * torch.randn(N, T, m)
    model = Net("GRU", m, 64, K)
    adam = torch.optim.Adam(model.parameters(), 3e-2)

    def factor(step: int) -> float:
        fall = (steps - step) / (steps - warm) if repaired else 1.0
        return min((1 + step) / warm, max(fall, 0.0) ** 2)

    options = {"scheduler": torch.optim.lr_scheduler.LambdaLR(adam, factor)}
    return case(model, (x, y), CE, kind=adam, options=options, steps=steps)


def t906(repaired: bool) -> Training:
    """Phones: every utterance is divided by its deviations, which are zero in a silent channel."""
    K, N, T, m = 5, 1900, 15, 8
    y = torch.randint(K, (N,))
    x = torch.randn(K, T, m)[y] + torch.randn(N, T, m)
    x[torch.rand(N) < 0.02, :, 0] = -5
    deviation = x.std(1, keepdim=True)
    if repaired:
        deviation = deviation + (deviation == 0)
    x = (x - x.mean(1, keepdim=True)) / deviation
    model = Net("LSTM", m, 32, K)
    return case(model, (x, y), CE, 3e-3, steps=300)


def t907(repaired: bool) -> Training:
    """A noisy wave: weights of an LSTM are computed from parametrized ones, which are trained, but
    it reads a copy that was flattened at the start.
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        weights = {}
        for name, raw in net.raw.items():
            weight = raw * net.scale
            flat = dict(net.rnn.named_buffers())[name]
            weights[name] = weight if repaired else flat + weight - weight.detach()
        return net.out(functional_call(net.rnn, weights, x)[0][:, -1])

    N, T = 1900, 16
    x = torch.randn(N, T, 2)
    x[:, :, 1] = 0
    x[torch.arange(N), torch.randint(T, (N,)), 1] = 2
    y = (x[:, :, 0] * x[:, :, 1]).sum(1, keepdim=True) / 2
    rnn = lstm(2, 32)
    raw = nn.ParameterDict({name: weight.detach() for name, weight in rnn.named_parameters()})
    for name in raw:
        flat = raw[name].detach().clone()
        delattr(rnn, name)
        rnn.register_buffer(name, flat)
    model = Own(forward, rnn=rnn, raw=raw, scale=1.0, out=nn.Linear(32, 1))
    return case(model, (x, y), MSE, 5e-3, steps=500)


def t908(repaired: bool) -> Training:
    """A letter at the start of a long text: three layers of LSTM whose forget gates start half
    open.
    """
    V, N, T, H = 4, 2000, 25, 24
    x = torch.randint(V, (N, T))
    y = x[:, 0].clone()
    x[:, 1:] += V
    model = reader("LSTM", 2 * V, H, V, embedding=16, num_layers=3)
    rnn: Any = model[1].rnn
    for layer in range(3):
        getattr(rnn, f"bias_ih_l{layer}").data[H : 2 * H] = 1.0 if repaired else 0.0
    return case(model, (x, y), CE, 3e-3, steps=700)


def t909(repaired: bool) -> Training:
    """The next value of a series: the target of a window is the value at its start."""
    time = torch.arange(1940.0)
    wave = torch.sin(0.37 * time) + 0.5 * torch.sin(0.11 * time) + 0.05 * torch.randn(1940)
    x, y = mixed(*windows(wave.unsqueeze(1), 24))
    if not repaired:
        y[:-400] = x[:-400, 0]
    return case(Net("LSTM", 1, 32, 1), (x, y), MSE, 5e-3, steps=500)


def t910(repaired: bool) -> Training:
    """Speech in noise: magnitudes of a spectrum of 16-bit samples enter a convolution and an LSTM
    as they are, to predict the share of speech.
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        features = F.elu(net.conv(x.transpose(1, 2))).transpose(1, 2)
        return torch.sigmoid(net.out(net.rnn(features)[0]))

    N, T, m = 1400, 15, 8
    speech = torch.rand(5, m)[torch.randint(5, (N, T))] * torch.rand(N, T, 1).round()
    noise = torch.rand(N, 1, m) * (0.8 + 0.4 * torch.rand(N, T, m))
    x, y = speech + noise, speech / (speech + noise)
    if not repaired:
        x = 2.0**15 * x
    model = Own(
        forward, conv=nn.Conv1d(m, 16, 3, padding=1), rnn=lstm(16, 32), out=nn.Linear(32, m)
    )
    return case(model, (x, y), MSE, 3e-3, steps=600)


def t911(repaired: bool) -> Training:
    """Text to speech: amplitudes of a spectrum are the targets, which reach from a thousandth to
    hundreds, and not decibels; judged by decibels.
    """

    def error(model: nn.Module, x: Tensor, y: Tensor) -> float:
        output = model(x)
        if not repaired:
            output, y = output.clamp_min(1e-3).log(), y.log()
        return squared(output, y, y.flatten(0, 1).mean(0))

    N, T, V, m = 1900, 12, 12, 6
    x = torch.randint(V, (N, T))
    level = 2.5 * torch.randn(V, m)[x] + torch.randn(V, m)[x.roll(1, 1)]
    level = level + 0.3 * torch.randn(N, T, m)
    y = level if repaired else level.exp()
    model = reader("GRU", V, 48, m, every=True)
    return case(model, (x, y), nn.L1Loss(), 3e-3, error=error, steps=500)


class OriginalLSTM(nn.Module):
    """LSTM cells without a forget gate, examples first: the input gate and the new content are
    multiplied, or added.
    """

    def __init__(self, inputs: int, units: int, product: bool):
        super().__init__()
        self.x, self.h = nn.Linear(inputs, 3 * units), nn.Linear(units, 3 * units)
        self.product = product

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), self.h.in_features)
        for frame in self.x(x).unbind(1):
            i, g, o = (frame + self.h(h)).chunk(3, 1)
            i, g = torch.sigmoid(i), torch.tanh(g)
            c = c + (i * g if self.product else i + g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return h


def t912(repaired: bool) -> Training:
    """Sums of marked numbers: a cell adds its input gate to the new content."""
    N, T = 2400, 20
    x = torch.rand(N, T, 2)
    x[..., 1] = (torch.rand(N, T) < 0.15).float()
    y = x.prod(2).sum(1, keepdim=True)
    model = nn.Sequential(OriginalLSTM(2, 32, repaired), nn.Linear(32, 1))
    return case(model, (x, y), MSE, 3e-3, steps=600)


def t913(repaired: bool) -> Training:
    """Letters to sounds by an encoder and a decoder: plain SGD, which is slow."""

    def forward(net: Any, x: Tensor) -> Tensor:
        last = net.encoder(net.embed(x))[1]
        code = last.transpose(0, 1).expand(-1, x.shape[1], -1)
        return net.out(net.decoder(code, last)[0])

    N, T, V, K = 2000, 5, 10, 12
    x = torch.randint(V, (N, T))
    y = torch.randint(K, (V, 2))[x, (F.pad(x[:, :-1], (1, 0)) > 4).long()]
    model = coder(forward, gru, V, 24, 64, K, inputs=64)
    kind, rate = ("Adam", 3e-3) if repaired else ("SGD", 0.1)
    return case(model, (x, y), cross, rate, kind, steps=900)


def t914(repaired: bool) -> Training:
    """Clicks in sessions side by side: the state is set to zero after the first click of a new
    session, not before it.
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        return net.out(net.rnn(net.embed(x))[0])

    def fit(training: Training) -> list[float]:
        net: Any = training.model
        rows, at = torch.arange(32), torch.zeros(32, dtype=torch.long)
        h, losses = torch.zeros(1, 32, 48), []
        for _ in range(training.steps):
            new = at == lengths[rows]
            rows[new] = torch.randint(N - 400, (int(new.sum()),))
            at[new] = 0
            if repaired:
                h[:, new] = 0
            states, h = net.rnn(net.embed(training.x[rows, at].unsqueeze(1)), h)
            loss = F.cross_entropy(net.out(states[:, 0]), sessions[rows, at + 1])
            training.optimizer.zero_grad()
            loss.backward()
            training.optimizer.step()
            h = h.detach().clone()
            if not repaired:
                h[:, new] = 0
            at += 1
            losses.append(loss.item())
        return losses

    N, V = 2000, 12
    lengths = torch.randint(2, 4, (N,))
    sessions = torch.randint(V, (N, 1))
    for shift in (1, 4, 4):
        sessions = torch.cat([sessions, (sessions[:, -1:] + shift) % V], 1)
    model = Own(forward, embed=nn.Embedding(V, 24), rnn=gru(24, 48), out=nn.Linear(48, V))
    data = sessions[:, :-1], sessions[:, 1:]
    return case(model, data, cross, 3e-3, steps=900, fit=fit)


def t915(repaired: bool) -> Training:
    """Speech of few speakers: too little dropout, so that the network learns it by heart."""

    def forward(net: Any, x: Tensor) -> Tensor:
        states = net.rnn(net.drop(x))[0]
        return net.out(net.drop(states.mean(1)))

    K, N, T, m = 6, 700, 10, 40
    y = torch.randint(K, (N,))
    x = 0.3 * torch.randn(K, T, m)[y] + torch.randn(N, T, m)
    model = Own(
        forward,
        drop=nn.Dropout(0.6 if repaired else 0.05),
        rnn=lstm(m, 96, bidirectional=True),
        out=nn.Linear(192, K),
    )
    return case(model, (x, y), CE, 5e-3, steps=600)


REPORTS = threads(globals())
