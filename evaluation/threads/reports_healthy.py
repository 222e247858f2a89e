"""Trainings without a fault after tutorials, papers and repositories, written with `reports`."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR

from evaluation.networks import Loop, Net, Own, cross, gru, lstm
from evaluation.tasks import CE, MSE
from evaluation.threads.trainings import Training, case, loaded, share, sources, squared


class EntityAwareLSTM(nn.Module):
    """LSTM cells whose input gate depends on what is constant of a basin only, examples first."""

    def __init__(self, inputs: int, constants: int, units: int):
        super().__init__()
        self.gate = nn.Linear(constants, units)
        self.x, self.h = nn.Linear(inputs, 3 * units), nn.Linear(units, 3 * units, bias=False)
        self.out, self.drop = nn.Linear(units, 1), nn.Dropout(0.1)
        self.x.bias.data[:units] = 3.0

    def forward(self, x: Tensor, constants: Tensor) -> Tensor:
        i = torch.sigmoid(self.gate(constants))
        h = c = torch.zeros_like(i)
        for frame in self.x(x).unbind(1):
            f, g, o = (frame + self.h(h)).chunk(3, 1)
            c = torch.sigmoid(f) * c + i * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return self.out(self.drop(h))


def rainfall_runoff() -> Training:
    """Kratzert et al. (2019), "Towards learning universal hydrological behaviors": weather and
    constants of a basin from a DataLoader, gradients clipped at norm 1.
    """
    N, T = 1600, 25
    rain = torch.rand(N, T, 1) ** 4 * 4
    basins = torch.rand(N, 2)
    stored = flow = torch.zeros(N, 1)
    for t in range(T):
        stored = stored + rain[:, t] * (0.4 + 0.6 * basins[:, 1:])
        flow = (0.1 + 0.5 * basins[:, :1]) * stored
        stored = stored - flow
    y = (flow - flow.mean()) / flow.std() + 0.1 * torch.randn(N, 1)
    x, constants = (rain - rain.mean()) / rain.std(), (basins - 0.5) * 12**0.5
    pairs: Any = [((x[i], constants[i]), y[i]) for i in range(N - 400)]
    test: Any = (x[-400:], constants[-400:]), y[-400:]
    model, options = EntityAwareLSTM(1, 2, 32), {"clip_norm": 1.0}
    return loaded(model, pairs, test, MSE, 5e-3, options=options, steps=600)


def sold_items() -> Training:
    """Salinas et al. (2020), "DeepAR": counts by day, frames first, as Poisson distributions."""

    def error(model: nn.Module, x: Tensor, y: Tensor) -> float:
        return squared(model(x).exp(), y, y.mean())

    N, T = 1400, 21
    day = (torch.randint(7, (1, N)) + torch.arange(T + 1).view(-1, 1)) * 2 * math.pi / 7
    trend = 1 + 0.5 * torch.randn(1, N) + 0.1 * torch.randn(T + 1, N).cumsum(0)
    counts = torch.poisson((trend + 0.5 * torch.sin(day)).exp())
    week = torch.stack([torch.sin(day), torch.cos(day)], 2)
    x = torch.cat([(1 + counts[:-1]).log().unsqueeze(2), week[1:]], 2)
    model = Net("GRU", 3, 24, 1, every=True, batch_first=False)
    data, loss = (x, counts[1:].unsqueeze(2)), nn.PoissonNLLLoss()
    return case(model, data, loss, 3e-3, "RMSprop", axis=1, error=error, steps=500)


def keywords() -> Training:
    """Warden (2018), "Speech commands": a word anywhere in noise; AdamW, a cosine schedule."""
    K, N, T, m = 6, 1900, 24, 10
    y = torch.randint(K, (N,))
    x = torch.randn(N, T, m)
    start = torch.randint(T - 6, (N, 1)) + torch.arange(6)
    x[torch.arange(N).unsqueeze(1), start] += 1.5 * torch.randn(K, 6, m)[y]
    model = Net("LSTM", m, 32, K, bidirectional=True, num_layers=2, dropout=0.1)
    adamw, loss = torch.optim.AdamW(model.parameters(), 5e-3), CE
    options = {"scheduler": CosineAnnealingLR(adamw, 400)}
    return case(model, (x, y), loss, kind=adamw, options=options, steps=400)


def truncated_series() -> Training:
    """Williams and Peng (1990): the state is detached every 10 frames; some values are far out."""
    N, T = 900, 30
    series = [torch.randn(N), torch.randn(N)]
    for _ in range(T - 1):
        series.append(1.6 * series[-1] - 0.9 * series[-2] + 0.4 * torch.randn(N))
    x = torch.stack(series, 1).unsqueeze(2) / 2
    x = x + (torch.rand(x.shape) < 0.01) * torch.randn(x.shape)
    model, data = Loop("GRUCell", 1, 24, 1, every=True, cut=10), (x[:, :-1], x[:, 1:])
    return case(model, data, nn.HuberLoss(), 1e-2, steps=400)


def tied_words() -> Training:
    """Merity et al. (2018), "Regularizing and optimizing LSTM language models": the output has the
    weights of the embedding; SGD with momentum, clipping and a step schedule.
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        states = net.drop(net.rnn(net.drop(net.embed(x)))[0])
        return F.linear(states, net.embed.weight)

    V, N, T, H = 30, 1900, 20, 48
    following = torch.randint(V, (V, 3))
    x = torch.randint(V, (N, T + 1))
    for t in range(1, T + 1):
        x[:, t] = following[x[:, t - 1], torch.multinomial(torch.tensor([7.0, 2, 1]), N, True)]
    embed, rnn = nn.Embedding(V, H), lstm(H, H)
    nn.init.uniform_(embed.weight, -0.1, 0.1)
    model = Own(forward, embed=embed, drop=nn.Dropout(0.2), rnn=rnn)
    sgd = torch.optim.SGD(model.parameters(), 1.0, momentum=0.9)
    options = {"clip_norm": 0.5, "scheduler": StepLR(sgd, 250, 0.3)}
    return case(model, (x[:, :-1], x[:, 1:]), cross, kind=sgd, options=options, steps=600)


def remaining_life() -> Training:
    """Zheng et al. (2017), "LSTM network for remaining useful life estimation", with dropout."""
    N, T, m = 1700, 30, 6
    life = 1.3 * torch.rand(N, 1)
    time = torch.linspace(-0.4, 0, T).view(1, T, 1)
    wear = torch.exp(-3 * (life.unsqueeze(2) - time))
    x = wear * torch.randn(m) + 0.3 * torch.randn(N, T, m)
    model = Net("LSTM", m, 32, 1, num_layers=2, dropout=0.2)
    return case(model, (x, life.clamp_max(1.0)), MSE, 1e-3, steps=500)


def event_times() -> Training:
    """Du et al. (2016), "Recurrent marked temporal point processes": the kind of the next event and
    the time until then, whose logarithm is put in, by likelihood.
    """

    def loss(output: Tensor, y: Tensor) -> Tensor:
        rate, wait = output[..., 0], y[..., 1]
        return cross(output[..., 1:], y[..., 0].long()) + (rate.exp() * wait - rate).mean()

    def error(model: nn.Module, x: Tensor, y: Tensor) -> float:
        return share(model(x)[..., 1:].argmax(2), y[..., 0].long())

    N, T, K = 1900, 15, 4
    kinds = torch.randint(K, (N, T + 1))
    random = -torch.rand(N, T + 1).log()
    for t in range(2, T + 1):
        turn = (kinds[:, t - 1] + torch.where(random[:, t - 2] > 0.7, 1, 2)) % K
        kinds[:, t] = torch.where(torch.rand(N) < 0.8, turn, kinds[:, t])
    waits = random / torch.tensor([0.3, 1.0, 3.0, 9.0])[kinds]
    x = torch.cat([F.one_hot(kinds, K).float(), waits.unsqueeze(2).add(1e-3).log()], 2)[:, :-1]
    data = x, torch.stack([kinds.float(), waits], 2)[:, 1:]
    return case(Net("GRU", 5, 32, 5, every=True), data, loss, 3e-3, error=error, steps=500)


def attended_reviews() -> Training:
    """Yang et al. (2016), "Hierarchical attention networks": a weighted sum of the states of both
    directions; Adagrad, and weights of the classes, of which one is rare.
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        states = net.rnn(net.embed(x))[0]
        return net.out((net.score(states).softmax(1) * states).sum(1))

    N, T, V, K = 1900, 15, 60, 4
    y = torch.multinomial(torch.tensor([0.3, 0.3, 0.3, 0.1]), N, True)
    x = torch.randint(8 * K, V, (N, T))
    x = torch.where(torch.rand(N, T) < 0.15, 8 * y.unsqueeze(1) + torch.randint(8, (N, T)), x)
    rnn = gru(24, 24, bidirectional=True)
    parts = {"embed": nn.Embedding(V, 24), "rnn": rnn, "score": nn.Linear(48, 1)}
    model = Own(forward, **parts, out=nn.Linear(48, K))
    loss = nn.CrossEntropyLoss(torch.tensor([1.0, 1.0, 1.0, 2.0]))
    return case(model, (x, y), loss, 0.03, "Adagrad", steps=500)


REPORTS_HEALTHY = sources(globals(), 920)
