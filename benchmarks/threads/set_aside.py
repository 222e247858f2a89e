"""Twenty trainings of public threads that fail, set aside: unseen by those who wrote the causes, and run once.

tNNN(repaired) is thread NNN of threads.csv as its owner wrote it, scaled down, or with its one repair; SET_ASIDE seeds it.
Five of them (406, 407, 408, 414, 419) had been rebuilt for an earlier set by somebody else, and are not counted.

Legend: N examples, T frames, m inputs, K classes, V words.
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.networks import Net, Own, cross, reader
from benchmarks.tasks import digits
from benchmarks.threads.trainings import Training, case, share, threads, wrong, zipf


class Recurrence(nn.Module):
    """An LSTM written by hand, with dropout of what comes from the last frame."""

    def __init__(self, inputs, units, act, drop):
        super().__init__()
        self.ih, self.hh, self.out = (
            nn.Linear(inputs, 4 * units),
            nn.Linear(units, 4 * units, False),
            nn.Linear(units, 1),
        )
        nn.init.xavier_uniform_(self.ih.weight)
        nn.init.orthogonal_(self.hh.weight)
        self.act, self.drop = act, drop

    def forward(self, x):
        h = c = x.new_zeros(len(x), self.hh.in_features)
        mask = F.dropout(torch.ones_like(h), self.drop, self.training)
        for frame in self.ih(x).unbind(1):
            i, f, g, o = (frame + self.hh(h * mask)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * self.act(g)
            h = o.sigmoid() * self.act(c)
        return self.out(h)


class Memory(nn.Module):
    """A GRU written by hand with one dropout mask for all frames; masked: mix the candidate with the masked state."""

    def __init__(self, inputs, units, drop, masked):
        super().__init__()
        self.ih, self.zr = nn.Linear(inputs, 3 * units), nn.Linear(units, 2 * units, False)
        self.hn, self.out, self.drop, self.masked = nn.Linear(units, units, False), nn.Linear(units, 1), drop, masked

    def forward(self, x):
        h = x.new_zeros(len(x), self.hn.in_features)
        mask = F.dropout(torch.ones_like(h), self.drop, self.training)
        for frame in self.ih(x).unbind(1):
            d = h * mask
            a, b, n = frame.chunk(3, 1)
            z, r = (torch.cat([a, b], 1) + self.zr(d)).sigmoid().chunk(2, 1)
            h = (1 - z) * torch.tanh(n + self.hn(r * d)) + z * (d if self.masked else h)
        return self.out(h)


def letters(N, K, T=8, skew=0.0):
    """Names of T letters, one-hot, of K languages with letters of their own frequencies."""
    k = torch.multinomial(torch.exp(-skew * torch.arange(K)), N, True)
    x = torch.multinomial(torch.softmax(1.3 * torch.randn(K, 26), 1)[k], T, True)
    return F.one_hot(x, 26).float(), k


def t401(repaired):
    T, V, K = 8, 30, 2
    text = torch.randint(3, V, (2400, T))
    order = (100 * (text < 12) - torch.arange(T)).argsort(1, descending=True)[:, :K]  # the first words of the topic
    y = text.gather(1, order)
    x = torch.cat([text, torch.zeros(2400, 1, dtype=torch.long), y[:, :-1]], 1)

    def forward(net, x):
        state = net.encoder(net.embed(x[:, :T]))[1]
        return net.out(net.decoder(net.embed(x[:, T:]), state)[0])

    gru = [nn.GRU(32, 64, batch_first=True) for _ in range(2)]
    net = Own(forward, embed=nn.Embedding(V, 32), encoder=gru[0], decoder=gru[1], out=nn.Linear(64, V))
    return case(net, (x, y), cross, 3e-3 if repaired else 0.5, steps=700)


def t402(repaired):
    x = torch.randn(1000, 100, 16)
    y = torch.randint(2, (1000, 1)).float()
    x[..., :4] += 0.12 * (2 * y[..., None] - 1) * torch.linspace(0, 1, 100)[:, None]
    net = Recurrence(16, 64, torch.tanh if repaired else F.relu, 0.2)
    return case(net, (x, y), nn.BCEWithLogitsLoss(), 1e-3, "NAdam", steps=180, error=wrong)


def t403(repaired):
    x = 0.5 * torch.randn(1200, 60, 6)
    y = x[:, 30:, :2].mean(1).mul(6).tanh().sum(1, keepdim=True) + 0.05 * torch.randn(1200, 1)
    return case(Memory(6, 32, 0.4, not repaired), (x, y), nn.MSELoss(), 3e-3, steps=300)


def t404(repaired):
    y = torch.randint(10, (1200,))
    x = 0.12 * torch.randn(10, 25, 13).cumsum(1)[y] + torch.randn(1200, 25, 13)
    return case(
        Net("LSTM", 13, 64, 10, num_layers=2), (x, y), nn.CrossEntropyLoss(), 1e-3 if repaired else 0.3, steps=500
    )


def t405(repaired):
    V, T = 30, 12
    w = torch.randint(V, (1200, T))
    kind = torch.randint(4, (V,))[w]
    y = torch.randint(5, (4, 4))[kind, kind.roll(1, 1)]
    x = torch.randn(V, 40)[w] + 0.3 * torch.randn(1200, T, 40)
    fresh = 400
    if not repaired:
        x, y, fresh = x.view(-1, 1, 40), y.view(-1, 1), 400 * T
    net = Own(lambda net, x: net.out(net.rnn(x)[0]), rnn=nn.LSTM(40, 64, batch_first=True), out=nn.Linear(64, 5))
    return case(net, (x, y), cross, 2e-3, "RMSprop", steps=600, fresh=fresh)


def t406(repaired):
    T, m = 15, 20
    y = torch.randint(3, (1400,))
    x = torch.randn(1400, T, m) + 0.22 * torch.randn(3, m)[y][:, None] * torch.rand(1400, T, 1)
    rnn = Net("LSTM", m, 32, 32)
    rnn.out = nn.BatchNorm1d(32)
    dense = nn.Sequential(
        nn.Linear(32, 100), nn.Sigmoid(), nn.BatchNorm1d(100), nn.Linear(100, 200), nn.Dropout(0.2), nn.ReLU()
    )
    net = nn.Sequential(rnn, dense, nn.Linear(200, 3))
    l2 = [0.0, 0.0] if repaired else [2 * 0.1, 2 * 0.25]
    groups = [{"params": dense[i].parameters(), "weight_decay": d} for i, d in zip((0, 3), l2, strict=True)]
    groups.append({"params": [*rnn.parameters(), *dense[2].parameters(), *net[2].parameters()]})
    sgd = torch.optim.SGD(groups, 0.01, momentum=0.9, nesterov=True)
    return case(net, (x, y), nn.CrossEntropyLoss(), kind=sgd, steps=1500, options={"clip_norm": 0.1})


def t407(repaired):
    K, V, T = 20, 200, 15
    k = torch.randint(K, (1600,))
    x = torch.where(torch.rand(1600, T) < 0.35, 8 * k[:, None] + torch.randint(12, (1600, T)), zipf(V, 1600, T))
    y = F.one_hot(k, K).float()
    units = 20 if repaired else 1
    head = nn.Sequential(nn.Sigmoid(), nn.Linear(units, K), nn.Softmax(-1))
    net = nn.Sequential(reader("LSTM", V, 64, units), head)

    def error(model, x, y):
        return share(model(x).argmax(-1), y.argmax(-1))

    return case(net, (x, y), nn.BCELoss(), 5e-3, steps=900, error=error)


def t408(repaired):
    a, d = torch.rand(2, 1000, 1, 1).unbind(0)
    x = 5 * a + (0.5 + 0.5 * d) * torch.arange(20.0)[:, None] + 0.1 * torch.randn(1000, 20, 1)
    y = x**2
    if repaired:
        x, y = x / 24, y / 24**2
    return case(Net("LSTM", 1, 32, 1, every=True), (x, y), nn.MSELoss(), 1e-2, steps=500)


def t409(repaired):
    N = 6400 if repaired else 630
    x = torch.randn(N, 6, 10)
    score = (x * torch.randn(6, 10)).sum((1, 2))
    y = (score + 3 * torch.randn(N) > 0).float()[:, None]
    net = Net("LSTM", 10, 128, 1)
    net.out = nn.Sequential(nn.Dropout(0.5), nn.Linear(128, 1))
    return case(net, (x, y), nn.BCEWithLogitsLoss(), 1e-3, "RMSprop", steps=1500, batch_size=30, error=wrong)


def t410(repaired):
    T, K, V = 6, 4, 15
    text = torch.randint(1, V, (3000, T))
    y = (torch.randperm(V - 1) + 1)[text[:, :K] - 1]
    given = torch.cat([torch.zeros(3000, 1, dtype=torch.long), y[:, :-1]], 1) if repaired else y

    def decode(net, word, state):
        return net.decoder(net.embed(word), state)

    def forward(net, x):
        return net.out(decode(net, x[:, T:], net.encoder(net.embed(x[:, :T]))[1])[0])

    def error(net, x, y):
        state, word, words = net.encoder(net.embed(x[:, :T]))[1], torch.zeros_like(x[:, :1]), []
        for _ in range(K):
            h, state = decode(net, word, state)
            word = net.out(h).argmax(-1)
            words.append(word)
        return share(torch.cat(words, 1), y)

    gru = [nn.GRU(32, 96, batch_first=True) for _ in range(2)]
    net = Own(forward, embed=nn.Embedding(V, 32), encoder=gru[0], decoder=gru[1], out=nn.Linear(96, V))
    return case(net, (torch.cat([text, given], 1), y), cross, 3e-3, steps=700, error=error)


def t411(repaired):
    K, L, T, m = 5, 3, 20, 20
    y = torch.stack([torch.randperm(K)[:L] + 1 for _ in range(1000)])
    ends = (torch.arange(1, L) * T / L + torch.randint(-2, 3, (1000, L - 1))).long()
    at = (torch.arange(T) >= ends[..., None]).sum(1)
    x = torch.randn(K + 1, m)[y.gather(1, at)] + 0.7 * torch.randn(1000, T, m)
    norm = nn.BatchNorm1d if repaired else lambda n: nn.Identity()
    layers = [
        part for i in range(6) for part in (nn.Conv1d(m if i == 0 else 48, 48, 3, padding=1), norm(48), nn.ReLU())
    ]
    net = Own(
        lambda net, x: net.rest(net.tdnn(x.transpose(1, 2)).transpose(1, 2)),
        tdnn=nn.Sequential(*layers),
        rest=Net("LSTM", 48, 48, K + 1, every=True, num_layers=2),
    )

    def ctc(out, y):
        sizes = [torch.full((len(y),), size) for size in (T, L)]
        return F.ctc_loss(out.log_softmax(-1).transpose(0, 1), y, *sizes)

    def error(model, x, y):
        best = [[k for k in row.unique_consecutive().tolist() if k] for row in model(x).argmax(-1)]
        return sum(
            1 - sum(a == b for a, b in zip(p, q, strict=False)) / L for p, q in zip(best, y.tolist(), strict=True)
        ) / len(y)

    return case(net, (x, y), ctc, 3e-3, steps=500, error=error)


def t412(repaired):
    x, y = letters(1600, 8)
    first, second = (nn.Sequential(Net("RNN", 26, 64, 8), nn.LogSoftmax(-1)) for _ in range(2))
    optimizer = torch.optim.SGD(first.parameters(), 0.05)
    return case(first if repaired else second, (x, y), nn.NLLLoss(), kind=optimizer, steps=1200, batch_size=16)


def t413(repaired):
    T, m = 24, 16
    edge = torch.randint(T, (1000, 2)).sort(1)[0][..., None]
    y = ((torch.arange(T) >= edge[:, 0]) & (torch.arange(T) <= edge[:, 1])).long()
    x = 0.5 * torch.randn(2, m)[y] + torch.randn(1000, T, m)
    rnn = nn.LSTM(m, 32, bidirectional=True, batch_first=True)
    dense = nn.Linear(64, 32)
    if not repaired:
        for name, weight in [*rnn.named_parameters(), *dense.named_parameters()]:
            nn.init.normal_(weight, 0, 0.0 if "reverse" in name or "bias" in name else 0.01)
    net = Own(lambda net, x: net.out(F.relu(net.dense(net.rnn(x)[0]))), rnn=rnn, dense=dense, out=nn.Linear(32, 2))
    return case(net, (x, y), cross, 0.003, "SGD", steps=500, how={"momentum": 0.9})


def t414(repaired):
    V, T = 300, 12
    words = torch.randperm(V - 1) + 1
    x = words[8:][torch.randint(V - 9, (1600, T))]
    at = torch.randint(T, (1600,))
    x[torch.arange(1600), at] = words[torch.randint(8, (1600,))]
    y = F.one_hot(at, T).float()
    first = nn.Embedding(V, 32) if repaired else nn.Unflatten(1, (T, 1))
    rnn = Net("LSTM", 32 if repaired else 1, 64, 1, every=True)
    net = nn.Sequential(first, rnn, nn.Flatten(), nn.Sigmoid())
    return case(net, (x if repaired else x.float(), y), nn.MSELoss(), 3e-3, steps=700)


def t415(repaired):
    x, y = letters(1600, 8, skew=0.15)
    net = Own(
        lambda net, x: net.last(net.output_layer(net.rnn_layer(net.input_layer(x))[0][:, -1])),
        input_layer=nn.Linear(26, 64),
        rnn_layer=nn.LSTM(64, 64, 2, dropout=0.05, batch_first=True),
        output_layer=nn.Linear(64, 8),
        last=nn.LogSoftmax(-1) if repaired else nn.Identity(),
    )
    return case(net, (x, y), nn.NLLLoss(), 2e-3, steps=500)


def t416(repaired):
    V, T, N = 80, 12, 1200
    y = torch.cat([torch.tensor([1, 0]).repeat(N // 2), torch.randint(2, (400,))])[:, None]
    good = torch.rand(N + 400, T) < 0.3 + 0.4 * y
    x = torch.where(
        torch.rand(N + 400, T) < 0.6, 1 + torch.randint(20, (N + 400, T)) + 20 * good, 40 + zipf(V - 41, N + 400, T)
    )
    short = torch.randint(6, (N + 400, 1))
    x[torch.arange(T) < short] = 0
    net = Own(
        lambda net, x: net.fc(net.lstm(net.embed(x))[0][:, -1]),
        embed=nn.Embedding(V, 32),
        lstm=nn.LSTM(32, 64, 2, batch_first=repaired),
        fc=nn.Linear(64, 1),
    )
    loader = DataLoader(TensorDataset(x[:N], y[:N].float()), 50)
    test = x[N:], y[N:].float()
    adam = torch.optim.Adam(net.parameters(), 2e-3)
    return Training(
        net, loader, None, nn.BCEWithLogitsLoss(), adam, test, steps=400, error=lambda model: float(wrong(model, *test))
    )


def t417(repaired):
    x, y = digits()
    rows = torch.randperm(len(x))
    rnn, out = nn.LSTM(8, 64, 2), nn.Linear(64, 10)

    def forward(net, x):
        images = x.transpose(0, 1) if repaired else x.reshape(8, -1, 8)
        return net.fc(net.lstm(images)[0][-1])

    data = x[rows].view(-1, 8, 8), y[rows]
    return case(Own(forward, lstm=rnn, fc=out), data, nn.CrossEntropyLoss(), 0.01, steps=400)


def t418(repaired):
    N, T, m = 500, 100, 20
    pitch, gain = torch.rand(N, 1, 1) * 4 + 3, torch.rand(N, 3, 1, 1)
    t, f = torch.arange(T)[:, None] / T, torch.arange(m)
    clean = sum(
        g * torch.exp(-((f - (k + 1) * pitch - 2 * torch.sin(6 * t + k)) ** 2) / 3)
        for k, g in enumerate(gain.unbind(1))
    )
    x = (clean + 0.15 * torch.randn(N, T, m)).abs()
    net = Net("LSTM", m, 96, m, every=True, bidirectional=True, num_layers=2)
    if not repaired:
        for weight in net.rnn.parameters():
            nn.init.uniform_(weight, -1, 1)
    return case(net, (x, clean), nn.MSELoss(), 1e-3, steps=80, batch_size=16, fresh=100)


def t419(repaired):
    K, V, T = 6, 120, 14
    k = torch.randint(K, (1400,))
    x = torch.where(
        torch.rand(1400, T) < 0.3, 20 * k[:, None] + torch.randint(20, (1400, T)), torch.randint(V, (1400, T))
    )
    net = nn.Sequential(reader("LSTM", V, 48, K if repaired else 1, bidirectional=True), nn.Softmax(-1))

    def loss(output, y):
        return F.binary_cross_entropy(output.expand_as(y), y)

    def error(model, x, y):
        return share(model(x).argmax(-1), y.argmax(-1))

    return case(net, (x, F.one_hot(k, K).float()), loss, 3e-3, steps=400, error=error)


def t420(repaired):
    V, T = 40, 35
    chain = torch.softmax(3.5 * torch.randn(V, V), 1)
    words = [torch.randint(V, (1000,))]
    for _ in range(T):
        words.append(torch.multinomial(chain[words[-1]], 1)[:, 0])
    text = torch.stack(words, 1)
    net = reader("RNN", V, 64, V, every=True, num_layers=2, nonlinearity="tanh" if repaired else "relu", embedding=64)
    return case(net, (text[:, :-1], text[:, 1:]), cross, 5, "SGD", steps=300, batch_size=20)


SET_ASIDE = threads(globals())
