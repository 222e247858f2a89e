"""Thirty trainings of public threads (numbers from 101 on), set aside: unseen by those who wrote the causes, and run once.

tNNN(repaired) is thread NNN of threads.csv as its owner wrote it, scaled down, or with its one repair; SET_ASIDE seeds it.

Legend: N examples, T frames, K outputs or classes, V words.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.threads.trainings import Training, threads

MSE, CE, BCE = nn.MSELoss(), nn.CrossEntropyLoss(), nn.BCEWithLogitsLoss()


class Parts(nn.Module):
    """Named parts and the function that puts them together."""

    def __init__(self, how, **parts):
        super().__init__()
        self.how = how
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *x):
        return self.how(self, *x)


class Last(nn.Module):
    """A recurrent network of torch.nn, batch first, and a linear layer on its last frame, or on all."""

    def __init__(self, kind, m, units, K, every=False, **options):
        super().__init__()
        self.rnn = getattr(nn, kind)(m, units, batch_first=True, **options)
        self.head, self.every = nn.Linear(units * (2 if self.rnn.bidirectional else 1), K), every

    def forward(self, x):
        out, _ = self.rnn(x)
        return self.head(out if self.every else out[:, -1])


def make(model, x, y, loss, rate=3e-3, kind="Adam", *, fresh=300, error=None, opt=None, **rest) -> Training:
    """The last `fresh` examples are kept out; error(model, x, y) of those is what the owner complains about."""
    optimizer = getattr(torch.optim, kind)([p for p in model.parameters() if p.requires_grad], rate, **opt or {})
    kept = x[-fresh:], y[-fresh:]
    own = error and (lambda model: float(torch.as_tensor(error(model, *kept)).nan_to_num(math.inf)))
    return Training(model, x[:-fresh], y[:-fresh], loss, optimizer, kept, error=own, **rest)


def sliding(series: Tensor, T: int) -> tuple[Tensor, Tensor]:
    """Windows (N, T, m) of a series (L, m) and the value after each, shuffled."""
    cut = series.unfold(0, T + 1, 1).transpose(1, 2)
    cut = cut[torch.randperm(len(cut))]
    return cut[:, :-1].contiguous(), cut[:, -1].contiguous()


def ce(output: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(output.reshape(-1, output.shape[-1]), y.reshape(-1))


def missed(model, x, y, K: int) -> Tensor:
    """Share of wrong answers, mean over the classes, relative to a constant answer."""
    guess = model(x).argmax(-1)
    return torch.stack([(guess != y)[y == k].float().mean() for k in range(K)]).mean() * K / (K - 1)


def rate_of(model, x, y, threshold=0.0) -> Tensor:
    """Share of units on the wrong side relative to the better constant."""
    share = y.reshape(-1, y.shape[-1]).mean(0)
    return ((model(x) > threshold) != (y > 0.5)).float().mean() / torch.minimum(share, 1 - share).mean()


def t101(repaired: bool) -> Training:
    """Bits and a softmax over one unit."""
    x = torch.randint(2, (1500, 32, 1)).float()
    y = (x[:, 20:].sum(1) > x[:, :20].sum(1) * 0.6).float()
    model = nn.Sequential(Last("LSTM", 1, 32, 1), nn.Sigmoid() if repaired else nn.Softmax(-1))
    return make(model, x, y, nn.BCELoss(), 1e-2, error=partial(rate_of, threshold=0.5), batch_size=50, steps=800)


def t102(repaired: bool) -> Training:
    """Features of video frames (batch, time, feature) in an LSTM that takes time first."""
    N, T, way = 1100, 8, torch.randint(4, (1100,))
    step = torch.tensor([[0, 1], [1, 0], [0, -1], [-1, 0]])[way]
    place = (torch.randint(10, (N, 1, 2)) + torch.arange(T)[:, None] * step[:, None]) % 10
    x = 0.1 * torch.randn(N, T, 1, 10, 10)
    x[torch.arange(N)[:, None], torch.arange(T), 0, place[..., 0], place[..., 1]] += 2.0

    def how(net, x):
        f = net.cnn(x.flatten(0, 1)).view(x.shape[0], x.shape[1], -1)
        return net.out(F.relu(net.fc(net.lstm(f)[0][:, -1])))

    cnn = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(200, 32), nn.ReLU()
    )
    lstm = nn.LSTM(32, 48, batch_first=repaired)
    return make(Parts(how, cnn=cnn, lstm=lstm, fc=nn.Linear(48, 32), out=nn.Linear(32, 4)), x, way, CE, 3e-3, steps=500)


def t103(repaired: bool) -> Training:
    """Images (N, rows, columns) of ten things, blank at the rim, and batch_first=False."""
    N, side = 2000, 16
    shapes, y = (torch.rand(10, 10, 10) < 0.35).float(), torch.randint(10, (N,))
    x = torch.zeros(N, side, side)
    for k, (i, j) in enumerate(torch.randint(1, 4, (N, 2)).tolist()):
        x[k, i : i + 10, j : j + 10] = shapes[y[k]] * (0.6 + 0.4 * torch.rand(1))

    def how(net, x):
        start = [torch.zeros(1, x.shape[0 if repaired else 1], 48) for _ in range(2)]
        return net.fc(net.lstm(x, tuple(start))[0][:, -1])

    model = Parts(how, lstm=nn.LSTM(side, 48, batch_first=repaired), fc=nn.Linear(48, 10))
    return make(model, x, y, CE, 1e-2, batch_size=100, steps=300)


def t104(repaired: bool) -> Training:
    """Two LSTM cells forecast a sine each step; the state of the last one is the forecast."""
    z = 2 * torch.sin(torch.rand(700, 1) * 6.3 + torch.arange(41) / 3.2 * (0.8 + 0.4 * torch.rand(700, 1)))

    def how(net, x):
        h, c, outputs = (x.new_zeros(len(x), 40),) * 2, (x.new_zeros(len(x), 40 if repaired else 1),) * 2, []
        for frame in x.unbind(1):
            h = net.one(frame, h)
            c = net.two(h[0], c)
            outputs.append(net.out(c[0]))
        return torch.stack(outputs, 1)

    two, out = nn.LSTMCell(40, 40 if repaired else 1), nn.Linear(40, 1) if repaired else nn.Identity()
    model = Parts(how, one=nn.LSTMCell(1, 40), two=two, out=out)
    return make(model, z[:, :-1, None], z[:, 1:, None], MSE, 1e-2, fresh=200, steps=250)


def t105(repaired: bool) -> Training:
    """Labels of short comments, padded behind with 1, read from the last frame."""
    N, T = 1500, 70
    x = torch.randint(2, 60, (N, T)).where(torch.arange(T) < torch.randint(4, 16, (N, 1)), 1)
    y = torch.stack([((x > 2 + 18 * k) & (x <= 8 + 18 * k)).any(1) for k in range(3)], 1).float()

    def how(net, x):
        states = net.encoder(net.embedding(x))[0]
        last = states[torch.arange(len(x)), (x != 1).sum(1) - 1] if repaired else states[:, -1]
        return net.predictor(F.relu(net.linear(last)))

    encoder = nn.LSTM(24, 32, batch_first=True)
    model = Parts(
        how, embedding=nn.Embedding(60, 24), encoder=encoder, linear=nn.Linear(32, 32), predictor=nn.Linear(32, 3)
    )
    return make(model, x, y, BCE, 5e-3, error=rate_of, steps=500)


def t106(repaired: bool) -> Training:
    """The sine example with a rate that is far too high."""
    z = torch.sin(torch.rand(600, 1) * 6.3 + torch.arange(41) / 4 * (0.7 + 0.6 * torch.rand(600, 1)))

    def how(net, x):
        return net.linear(net.lstm(x)[0])

    model = Parts(how, lstm=nn.LSTM(1, 51, 2, batch_first=True), linear=nn.Linear(51, 1))
    return make(model, z[:, :-1, None], z[:, 1:, None], MSE, 3e-3 if repaired else 0.8, fresh=150, steps=300)


def t107(repaired: bool) -> Training:
    """An LSTM with projection on long sequences, without clipping."""
    N, T = 1500, 60
    x = torch.randn(N, T, 8)
    y = x[:, -8:, :5].sum(1).argmax(1)

    def how(net, x):
        return net.out(net.lstm(x)[0][:, -1])

    model = Parts(how, lstm=nn.LSTM(8, 48, proj_size=24, batch_first=True), out=nn.Linear(24, 5))
    return make(
        model, x, y, CE, 0.3, "SGD", opt={"momentum": 0.9}, options={"clip_norm": 1.0} if repaired else {}, steps=300
    )


def t108(repaired: bool) -> Training:
    """Attention within the lines of a song; short songs have lines of nothing."""
    N, L, T = 2500, 5, 6
    x = torch.randint(1, 30, (N, L, T)) * (torch.arange(T) < torch.randint(2, T + 1, (N, L, 1)))
    x *= torch.arange(L)[:, None] < torch.randint(2, L + 1, (N, 1, 1))
    y = (torch.randn(30, 4) * (torch.arange(30) > 0)[:, None])[x].sum((1, 2)).argmax(1)

    def pool(states, scores, keep):
        w = scores.squeeze(-1).masked_fill(~keep, -1e9 if repaired else -math.inf).softmax(-1)
        return (w[..., None] * states).sum(-2)

    def how(net, x):
        h = net.words(net.embed(x).flatten(0, 1))[0].unflatten(0, x.shape[:2])
        g = net.lines(pool(h, net.a(h), x > 0))[0]
        return net.out(pool(g, net.b(g), (x > 0).any(2)))

    words, lines = (nn.GRU(m, 16, batch_first=True, bidirectional=True) for m in (16, 32))
    model = Parts(
        how,
        embed=nn.Embedding(30, 16),
        words=words,
        lines=lines,
        a=nn.Linear(32, 1),
        b=nn.Linear(32, 1),
        out=nn.Linear(32, 4),
    )
    return make(model, x, y, CE, 5e-3, options={"clip_norm": 1.0}, steps=400)


def t109(repaired: bool) -> Training:
    """Windows of a series enter as one frame of look_back features."""
    z = [torch.randn(1), torch.randn(1)]
    for _ in range(900):
        z.append(1.6 * z[-1] - 0.8 * z[-2] + 0.4 * torch.randn(1))
    z = torch.stack(z)
    x, y = sliding(z / z.std(), 60)
    x = x if repaired else x.transpose(1, 2).contiguous()
    return make(Last("LSTM", x.shape[2], 24, 1), x, y, MSE, 5e-3, fresh=640, batch_size=16, steps=900)


def t110(repaired: bool) -> Training:
    """A character model with half of what it computes dropped."""
    V, T = 20, 25
    table, text = torch.randint(V, (V, V)), torch.randint(V, (1200, T + 1))
    for t in range(2, T + 1):
        text[:, t] = torch.where(torch.rand(1200) < 0.9, table[text[:, t - 1], text[:, t - 2]], text[:, t])

    def how(net, x):
        return net.decoder(net.drop(net.rnn(net.drop(net.encoder(x)))[0]))

    rnn, drop = nn.LSTM(16, 48, batch_first=True), nn.Dropout(0.0 if repaired else 0.5)
    model = Parts(how, encoder=nn.Embedding(V, 16), rnn=rnn, drop=drop, decoder=nn.Linear(48, V))
    return make(model, text[:, :-1], text[:, 1:], ce, 1e-2, fresh=200, steps=500)


def t111(repaired: bool) -> Training:
    """The gates over facts come from a softmax over the batch."""
    N, L = 1400, 6
    keys, worth = torch.stack([torch.randperm(10)[:L] for _ in range(N)]), torch.randint(8, (N, L))
    which = torch.randint(L, (N, 1))
    x = torch.cat([(keys * 8 + worth), 80 + keys.gather(1, which)], 1)
    y = worth.gather(1, which)[:, 0]

    def how(net, x):
        e = net.embed(x)
        facts, q = net.read(e[:, :-1])[0], e[:, -1:]
        gate = net.score(torch.tanh(net.mix(torch.cat([facts * q, facts, q.expand_as(facts)], 2)))).softmax(
            1 if repaired else 0
        )
        return net.out((gate * facts).sum(1))

    read = nn.GRU(32, 32, batch_first=True)
    model = Parts(
        how, embed=nn.Embedding(90, 32), read=read, mix=nn.Linear(96, 32), score=nn.Linear(32, 1), out=nn.Linear(32, 8)
    )
    return make(model, x, y, CE, 5e-3, steps=900)


def t112(repaired: bool) -> Training:
    """The input of each step is the value that it must predict."""
    t = torch.arange(31.0)
    z = torch.sin(t / 2.5 * (0.7 + 0.6 * torch.rand(1000, 1)) + 6.3 * torch.rand(1000, 1)) + 0.3 * torch.sin(1.3 * t)
    x = z[:, :-1, None] if repaired else z[:, 1:, None]

    def off(model, _, y):
        seen = z[-300:, :-1, None]
        return (model(seen) - y).square().sum() / (y - y.mean()).square().sum()

    return make(Last("RNN", 1, 32, 1, every=True), x, z[:, 1:, None], MSE, 3e-3, error=off, steps=500)


def t113(repaired: bool) -> Training:
    """A text detector whose LSTM layers, and what follows them, begin at zero."""
    N, T = 900, 20
    y = (torch.rand(N, T) < 0.3).float().cummax(1)[0] * (torch.arange(T) < torch.randint(8, T, (N, 1)))
    x = 0.7 * torch.randn(N, 6, T) + y[:, None] * torch.randn(6, 1)

    def how(net, x):
        return net.fc(net.lstm(F.relu(net.conv(x)).transpose(1, 2))[0])

    model = Parts(
        how,
        conv=nn.Conv1d(6, 16, 3, padding=1),
        lstm=nn.LSTM(16, 16, batch_first=True, bidirectional=True),
        fc=nn.Linear(32, 1),
    )
    if not repaired:
        for p in (*model.lstm.parameters(), *model.fc.parameters()):
            nn.init.zeros_(p)
    return make(model, x, y[..., None], BCE, 0.1, "SGD", opt={"momentum": 0.9}, error=rate_of, steps=400)


def t114(repaired: bool) -> Training:
    """The LSTM computes with flat weights from before its parametrization; the optimiser steps others."""
    N, T = 1200, 24
    x = torch.cat([torch.randn(N, T, 1), torch.zeros(N, T, 1)], 2)
    x[torch.arange(N), torch.randint(T - 4, (N,)), 1] = 1
    y = (x[..., :1] * x[..., 1:]).sum(1) + x[:, -1, :1]

    def how(net, x):
        if repaired:
            return net.linear(net.lstm(x)[0][:, -1])
        weights = {n: f + p - p.detach() for (n, p), f in zip(net.lstm.named_parameters(), net.flat, strict=True)}
        return net.linear(torch.func.functional_call(net.lstm, weights, (x,))[0][:, -1])

    lstm = nn.LSTM(2, 24, batch_first=True)
    model = Parts(how, lstm=lstm, linear=nn.Linear(24, 1))
    model.flat = [p.detach().clone() for p in lstm.parameters()]
    return make(model, x, y, MSE, 1e-2, steps=700)


def t115(repaired: bool) -> Training:
    """Softmax where the negative log likelihood takes its logarithm; names of 12 languages."""
    N, T, V, K = 1800, 8, 26, 12
    y, likes = torch.randint(K, (N,)), torch.randn(K, V).mul(1.3).softmax(1)
    x = F.one_hot(torch.multinomial(likes[y], T, True), V).float()

    def how(net, x):
        hidden = x.new_zeros(len(x), 48)
        for frame in x.unbind(1):
            combined = torch.cat([frame, hidden], 1)
            hidden = net.i2h(combined)
        return net.softmax(net.i2o(combined))

    softmax = nn.LogSoftmax(1) if repaired else nn.Softmax(1)
    model = Parts(how, i2h=nn.Linear(V + 48, 48), i2o=nn.Linear(V + 48, K), softmax=softmax)
    return make(model, x, y, nn.NLLLoss(), 0.1, "SGD", options={"clip_norm": 1.0}, steps=700)


def t116(repaired: bool) -> Training:
    """The start state of each call is drawn."""
    x = 0.1 * torch.randn(1300, 1, 2) + 0.1 * torch.randn(1300, 4, 2)
    y = x.sum(1) + 3 * x.mean(1)

    def how(net, x):
        start = [(torch.zeros if repaired else torch.randn)(1, len(x), 128) for _ in range(2)]
        return net.out(net.lstm(x, tuple(start))[0][:, -1])

    return make(Parts(how, lstm=nn.LSTM(2, 128, batch_first=True), out=nn.Linear(128, 2)), x, y, MSE, 1e-3, steps=300)


def t117(repaired: bool) -> Training:
    """Which entity is asked for; all attention weights are 1."""
    N, T, V = 1300, 36, 90
    x, entity = torch.randint(40, V, (N, T)), torch.randint(40, (N,))
    x[torch.arange(N), torch.randint(T, (N,))] = entity
    y = torch.randn(40, 8)[entity]

    def how(net, x):
        e = net.embed(x)
        h = net.gru(e)[0]
        w = net.attn(torch.cat([e, h], 2)).softmax(1 if repaired else 2)
        return (net.out(torch.tanh(net.fc(w * h)))).sum(1) if repaired else net.out(torch.tanh(net.fc(w * h))).mean(1)

    gru = nn.GRU(16, 16, batch_first=True, bidirectional=True)
    model = Parts(
        how, embed=nn.Embedding(V, 16), gru=gru, attn=nn.Linear(48, 1), fc=nn.Linear(32, 24), out=nn.Linear(24, 8)
    )
    return make(model, x, y, MSE, 5e-3, steps=400)


def t118(repaired: bool) -> Training:
    """The target is shifted the wrong way and lies within the window."""
    t = torch.arange(1300.0)
    z = torch.sin(t / 1.6)[:, None] + 0.6 * torch.sin(t / 2.7 + 1)[:, None] + 0.1 * torch.randn(1300, 1)
    x, after = sliding(z, 12)
    y = after if repaired else x[:, -2].clone()

    def off(model, x, _):
        return (model(x) - after[-300:]).square().sum() / (after - after.mean())[-300:].square().sum()

    return make(Last("LSTM", 1, 24, 1), x, y, MSE, 1e-2, error=off, steps=500)


def t119(repaired: bool) -> Training:
    """Four closes and the fifth: moves that are drawn, or that go on."""
    moves = torch.randn(1800, 1)
    for t in range(1, 1800):
        moves[t] += (0.85 if repaired else 0.0) * moves[t - 1]
    z = torch.zeros(1800, 1)
    for t in range(1, 1800):
        z[t] = 0.98 * z[t - 1] + moves[t]

    def beside(model, x, y):
        return F.mse_loss(model(x), y) / F.mse_loss(x[:, -1], y)

    return make(Last("GRU", 1, 32, 1), *sliding((z - z.mean()) / z.std(), 8), MSE, 5e-3, error=beside, steps=900)


def t120(repaired: bool) -> Training:
    """Adam with the rate 30 of SGD."""
    V, T = 24, 20
    table, text = torch.randperm(V), torch.randint(V, (1100, T + 1))
    for t in range(2, T + 1):
        text[:, t] = torch.where(torch.rand(1100) < 0.9, table[text[:, t - 2]], text[:, t])
    model = nn.Sequential(nn.Embedding(V, 24), Last("LSTM", 24, 48, V, every=True))
    return make(
        model,
        text[:, :-1],
        text[:, 1:],
        ce,
        5e-3 if repaired else 30.0,
        options={"clip_norm": 0.25},
        batch_size=20,
        steps=500,
    )


def t121(repaired: bool) -> Training:
    """Four stacked LSTMs of four units and plain SGD, or one."""
    t = torch.arange(1200.0)
    z = torch.sin(t / 3)[:, None] + 0.5 * torch.sin(t / 7.3)[:, None] + 0.05 * torch.randn(1200, 1)

    def how(net, x):
        return net.out(torch.sigmoid(net.lstm(net.enter(x))[0][:, -1]))

    lstm = nn.LSTM(10, 4, 1 if repaired else 4, batch_first=True)
    model = Parts(how, enter=nn.Linear(1, 10), lstm=lstm, out=nn.Linear(4, 1))
    return make(model, *sliding(z, 10), MSE, 0.1, "SGD", batch_size=16, steps=2500)


def t122(repaired: bool) -> Training:
    """Each batch begins with the states that the batch before left."""
    N, T = 1280, 12
    x = torch.randn(N, T, 2)
    y = torch.cat([x[..., :1].cumsum(1), x.sum(2, True)], 2) / 2

    def how(net, x):
        h = None if repaired or net.h is None or net.h.shape[1] != len(x) else net.h
        out, h = net.gru(x, h)
        net.h = h.detach()
        return net.out(out)

    model = Parts(how, gru=nn.GRU(2, 32, batch_first=True), out=nn.Linear(32, 2))
    model.h = None
    return make(model, x, y, MSE, 5e-3, fresh=320, steps=600)


def t123(repaired: bool) -> Training:
    """A reconstruction of standardised series ends in ReLU."""
    T = torch.arange(10.0)[:, None]
    z = torch.sin(T * (0.3 + torch.rand(1200, 1, 1)) + 6.3 * torch.rand(1200, 1, 1)) @ torch.randn(
        1, 5
    ) + 0.1 * torch.randn(1200, 10, 5)
    z = (z - z.mean((0, 1))) / z.std((0, 1))

    def how(net, x):
        code = net.one(x)[0][:, -1:].expand(-1, 10, -1)
        return net.end(net.out(net.two(code)[0]))

    one, two = nn.LSTM(5, 24, batch_first=True), nn.LSTM(24, 32, batch_first=True)
    model = Parts(how, one=one, two=two, out=nn.Linear(32, 5), end=nn.Identity() if repaired else nn.ReLU())
    return make(model, z, z.clone(), MSE, 5e-3, steps=900)


def t124(repaired: bool) -> Training:
    """Three classes of posts, of 6, 77 and 17 of 100, much alike."""
    N, T, V = 9000, 12, 30
    y = torch.multinomial(torch.tensor([0.06, 0.77, 0.17]), N, True)
    own = torch.tensor([0.4, 0.0, 0.4])[:, None] * torch.randn(3, V)
    x = torch.multinomial((0.5 * torch.randn(V) + own).softmax(1)[y], T, True)
    loss = nn.CrossEntropyLoss(torch.tensor([16.0, 1.3, 6.0]) / 3 if repaired else None)
    model = nn.Sequential(nn.Embedding(V, 8), Last("LSTM", 8, 16, 3))
    return make(model, x, y, loss, 5e-3, fresh=3000, error=partial(missed, K=3), batch_size=64, steps=500)


def t125(repaired: bool) -> Training:
    """13 emotions from few texts, or from enough of them."""
    N, T, V, K = 8400 if repaired else 800, 12, 300, 13
    x = torch.randint(V, (N, T))
    y = (torch.randn(V, K) * (torch.rand(V, 1) < 0.25))[x].sum(1).argmax(1)
    model = nn.Sequential(nn.Embedding(V, 50), Last("LSTM", 50, 64, K, bidirectional=True))
    return make(model, x, y, CE, 3e-3, fresh=400, steps=700)


def t126(repaired: bool) -> Training:
    """Targets near 300 are not normalised."""
    N, T = 1200, 20
    level, slope = torch.randn(N, 1, 1), torch.randn(N, 1, 1)
    x = level + slope * torch.linspace(-1, 1, T)[:, None] + 0.2 * torch.randn(N, T, 1)
    y = 300 + 60 * (level + 1.2 * slope)[:, 0]
    y = (y - y.mean()) / y.std() if repaired else y
    return make(Last("LSTM", 1, 32, 1), x, y, MSE, 3e-3, batch_size=64, steps=600)


def t127(repaired: bool) -> Training:
    """Notes as numbers, and a few epochs."""
    V, songs = 12, torch.randint(12, (6, 16))
    z = torch.cat([songs[k] for k in torch.randint(6, (110,))])
    cut = z.unfold(0, 11, 1)[torch.randperm(len(z) - 10)]
    model = Last("LSTM", 1, 64, V, num_layers=2)
    return make(model, cut[:, :-1, None] / V, cut[:, -1], CE, 3e-3, batch_size=64, steps=1500 if repaired else 100)


def t128(repaired: bool) -> Training:
    """Sentence vectors within 0 and 1 go into an embedding, that takes ids."""
    N, T = 1500, 40
    x = torch.rand(N, T)
    y = (x[:, ::4].mean(1, True) > x[:, 2::4].mean(1, True)).float()

    def how(net, x):
        return net.out(net.drop(net.lstm(net.embed(x[..., None] if repaired else x.long()))[0][:, -1]))

    embed = nn.Linear(1, 16) if repaired else nn.Embedding(100, 16)
    model = Parts(how, embed=embed, lstm=nn.LSTM(16, 32, batch_first=True), drop=nn.Dropout(0.2), out=nn.Linear(32, 1))
    return make(model, x, y, BCE, 1e-2, error=rate_of, steps=900)


def t129(repaired: bool) -> Training:
    """A few null values in the table."""
    t = torch.arange(1200.0)
    z = torch.stack([torch.sin(t / 6) + 0.1 * torch.randn(1200), torch.cos(t / 6) + 0.1 * torch.randn(1200)], 1)
    z[torch.randint(1200, (4,)), 1] = 0.0 if repaired else math.nan
    x, y = sliding(z, 20)
    keep = torch.cat([torch.arange(len(x) - 300), torch.arange(len(x))[-300:][x[-300:].isfinite().all(2).all(1)]])
    model = Last("LSTM", 2, 32, 1)
    return make(model, x[keep], y[keep, :1], MSE, 5e-3, fresh=200, steps=400)


def t130(repaired: bool) -> Training:
    """The cue is in the first frame; gradients end after each 8 of 16 frames, or 16."""
    N, T = 1200, 16
    y, cut = torch.randint(4, (N,)), 16 if repaired else 8
    x = torch.cat([F.one_hot(y, 4).float()[:, None] * (torch.arange(T) == 0)[:, None], torch.randn(N, T, 3)], 2)

    def how(net, x):
        h = None
        for part in x.split(cut, 1):
            out, h = net.gru(F.relu(net.enter(part)), h)
            h = h.detach()
        return net.policy(out[:, -1])

    model = Parts(how, enter=nn.Linear(7, 32), gru=nn.GRU(32, 32, batch_first=True), policy=nn.Linear(32, 4))
    return make(model, x, y, CE, 3e-3, steps=500)


SET_ASIDE = threads(globals())
