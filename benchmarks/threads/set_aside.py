"""Thirty trainings of public threads (numbers from 131 on), set aside: unseen by those who wrote the causes, and run once.

tNNN(repaired) is thread NNN of threads.csv as its owner wrote it, scaled down, or with its one repair; SET_ASIDE seeds it.

Legend: N examples, T frames, K outputs or classes, V words.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.threads.trainings import (
    Net,
    Training,
    case,
    cross,
    minibatches,
    output_of,
    threads,
    windows,
    wrong,
    zipf,
)

MSE, CE, BCE = nn.MSELoss(), nn.CrossEntropyLoss(), nn.BCEWithLogitsLoss()


class Of(nn.Module):
    """Parts by name and forward(self, *inputs) of them."""

    def __init__(self, run, **parts):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs):
        return self.run(self, *inputs)


def share_of(error) -> object:
    """error(model, x, y), with inf where it is not finite."""
    return lambda model, x, y: torch.as_tensor(error(model, x, y)).float().nan_to_num(math.inf)


def off(model, x, y) -> Tensor:
    """Squared error relative to the mean's."""
    return (model(x).reshape(y.shape) - y).square().sum() / (y - y.mean(0)).square().sum()


def balanced(model, x, y, K: int) -> Tensor:
    """Share of wrong answers, mean over the classes, relative to a constant answer's."""
    guess = model(x).argmax(-1)
    return torch.stack([(guess != k)[y == k].float().mean() for k in range(K)]).mean() * K / (K - 1)


def shuffled(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    rows = torch.randperm(len(x))
    return x[rows], y[rows]


def waves(N: int, T: int, m: int = 1, noise: float = 0.05) -> Tensor:
    """Series (N, T, m) of sines with frequencies and phases of their own."""
    t = torch.arange(float(T))[:, None]
    return torch.sin(t * (0.25 + 0.35 * torch.rand(N, 1, m)) + 6.3 * torch.rand(N, 1, m)) + noise * torch.randn(N, T, m)


def chain(N: int, T: int, V: int, sure: float = 0.9) -> Tensor:
    """Texts (N, T) in which the last two letters mostly give the next one."""
    table, text = torch.randint(V, (V, V)), torch.randint(V, (N, T))
    for t in range(2, T):
        text[:, t] = torch.where(torch.rand(N) < sure, table[text[:, t - 1], text[:, t - 2]], text[:, t])
    return text


def topics(N: int, T: int, V: int, shares: Tensor, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    """Texts (N, T) of classes with given shares and words of their own."""
    y = torch.multinomial(shares, N, True)
    return torch.multinomial((spread * torch.randn(len(shares), V)).softmax(1)[y], T, True), y


def t131(repaired: bool) -> Training:
    """The addition problem in (batch, time, feature) and an LSTM that takes time first."""
    N, T = 2000, 14
    where = torch.rand(N, T).topk(2, 1).indices
    x = torch.stack([torch.rand(N, T), torch.zeros(N, T).scatter_(1, where, 1.0)], 2)
    y = (x[..., 0] * x[..., 1]).sum(1, True)

    def run(net, x):
        return net.out(net.lstm(x)[0][:, -1])

    model = Of(run, lstm=nn.LSTM(2, 48, batch_first=repaired), out=nn.Linear(48, 1))
    return case(model, (x, y), MSE, 1e-2, error=off, steps=800, options={"clip_norm": 1.0})


def t132(repaired: bool) -> Training:
    """Velocity profiles (batch, time, feature), quiet at the far end; the features become the time axis."""
    N, T, m = 1300, 16, 120
    y = torch.randint(4, (N,))
    place = torch.randint(20, 40, (N, 1)) + torch.tensor([-2, -1, 1, 2])[y][:, None] * (torch.arange(T) - 8)
    x = 0.1 * torch.randn(N, T, m) + torch.exp(-((torch.arange(m) - place[..., None]) ** 2) / 8.0)

    def run(net, x):
        return net.out(net.lstm(x.permute(1, 0, 2) if repaired else x.permute(2, 0, 1))[0][-1])

    model = Of(run, lstm=nn.LSTM(m if repaired else T, 32), out=nn.Linear(32, 4))
    return case(model, (x, y), CE, 3e-3, fresh=300, steps=250)


def t133(repaired: bool) -> Training:
    """Windows (N, T) become (T, N, 1) by view."""
    z = waves(1400, 21)[..., 0]

    def run(net, x):
        return net.linear(net.lstm(x.t().unsqueeze(2) if repaired else x.reshape(x.shape[1], -1, 1))[0][-1])

    model = Of(run, lstm=nn.LSTM(1, 32), linear=nn.Linear(32, 1))
    return case(model, (z[:, :20], z[:, 20:]), MSE, 5e-3, error=off, steps=500)


def t134(repaired: bool) -> Training:
    """The softmax of the attention runs over the batch."""
    N, L = 1600, 8
    keys, worth, which = torch.rand(N, 12).topk(L, 1).indices, torch.randint(6, (N, L)), torch.randint(L, (N, 1))
    x = torch.cat([keys * 6 + worth, 72 + keys.gather(1, which)], 1)

    def run(net, x):
        e = net.embed(x)
        context, query = net.gru(e[:, :-1])[0], net.query(e[:, -1])
        weights = (context @ query[:, :, None])[..., 0].softmax(-1 if repaired else 0)
        return net.out((weights[..., None] * context).sum(1))

    parts = {"embed": nn.Embedding(84, 32), "gru": nn.GRU(32, 32, batch_first=True), "query": nn.Linear(32, 32)}
    return case(Of(run, **parts, out=nn.Linear(32, 6)), (x, worth.gather(1, which)[:, 0]), CE, 5e-3, steps=900)


def t135(repaired: bool) -> Training:
    """The final states (2, N, H) of both directions become (N, 2H) by view; an autoencoder of sentences."""
    x = chain(2000, 5, 10, 0.8)

    def run(net, x):
        h = net.encoder(net.embed(x))[1]
        code = torch.cat([h[0], h[1]], 1) if repaired else h.reshape(len(x), -1)
        return net.out(net.decoder(code[:, None].expand(-1, 5, -1))[0])

    encoder = nn.GRU(16, 32, batch_first=True, bidirectional=True)
    parts = {"embed": nn.Embedding(10, 16), "encoder": encoder, "decoder": nn.GRU(64, 64, batch_first=True)}
    return case(Of(run, **parts, out=nn.Linear(64, 10)), (x, x.clone()), cross, 5e-3, steps=700)


def t136(repaired: bool) -> Training:
    """A scheduler that should be off has gamma 0; an autoencoder of poses."""
    x = waves(1300, 12, 4) @ torch.randn(4, 6)

    def run(net, x):
        code = net.code(net.encoder(x)[0][:, -1])
        return net.out(net.decoder(code[:, None].expand(-1, 12, -1))[0])

    def own(training):
        torch.manual_seed(0)
        losses = []
        while len(losses) < training.steps:
            for a, b in minibatches(training.x, training.y, training.batch_size):
                training.optimizer.zero_grad()
                losses.append(training.loss_fn(output_of(training, a), b))
                losses[-1].backward()
                training.optimizer.step()
                scheduler.step()
        return [v.item() for v in losses]

    parts = {"encoder": nn.GRU(6, 32, batch_first=True), "code": nn.Linear(32, 16)}
    model = Of(run, **parts, decoder=nn.GRU(16, 32, batch_first=True), out=nn.Linear(32, 6))
    training = case(model, (x, x.clone()), MSE, 5e-3, steps=500, fit=own)
    scheduler = torch.optim.lr_scheduler.StepLR(training.optimizer, 30, gamma=1.0 if repaired else 0.0)
    training.options["scheduler"] = scheduler
    return training


def t137(repaired: bool) -> Training:
    """The loss counts the padding that fills most of each sentence; word classes."""
    N, T, K = 900, 60, 8
    x, kind = torch.randint(1, 60, (N, T)), torch.randint(K, (60,))
    y = 1 + (kind[x] + kind[x.roll(1, 1)]) % K
    inside = torch.arange(T) >= T - torch.randint(3, 9, (N, 1))
    x, y, loss = x * inside, y * inside, nn.CrossEntropyLoss(ignore_index=0 if repaired else -100)

    def missed(model, x, y):
        return (model(x).argmax(-1) != y)[y > 0].float().mean() * K / (K - 1)

    model = nn.Sequential(nn.Embedding(60, 24), Net("LSTM", 24, 48, K + 1, every=True))

    def flat(output, y):
        return loss(output.flatten(0, 1), y.flatten())

    return case(
        model, (x, y), flat, 0.5, "SGD", error=missed, steps=500, how={"momentum": 0.9}, options={"clip_norm": 1.0}
    )


def t138(repaired: bool) -> Training:
    """Strong weight decay; an event in one of fifteen sequences."""
    N, T = 3000, 20
    x, y = 0.5 * torch.randn(N, T, 4), (torch.rand(N) < 0.15).float()[:, None]
    at = torch.randint(3, T - 3, (N,))
    for k in range(3):
        x[torch.arange(N), at + k, k] += 2.5 * y[:, 0] - 1.2 * (torch.rand(N) < 0.3) * (1 - y[:, 0])
    model = Net("GRU", 4, 32, 1, bidirectional=True)
    decay, loss = {"weight_decay": 0.0 if repaired else 0.1}, nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0))
    return case(model, (x, y), loss, 3e-3, how=decay, error=wrong, steps=300)


def t139(repaired: bool) -> Training:
    """Start windows and the sequences that follow are shuffled apart."""
    N, T = 1600, 16
    u, z = torch.randn(N, T), [2 * torch.randn(N)]
    for t in range(T - 1):
        z.append(0.95 * z[-1] + 0.3 * u[:, t])
    z, known = torch.stack(z, 1), torch.arange(T) < 6
    x = torch.stack([u, z * known, known.expand(N, T).float()], 2)
    if not repaired:
        x[: N - 400, :6] = x[torch.randperm(N - 400), :6]

    def run(net, x):
        return net.out(net.predictor(x[:, 6:, :1], net.initializer(x[:, :6])[1])[0])[..., 0]

    predictor = nn.LSTM(1, 32, batch_first=True)
    model = Of(run, initializer=nn.LSTM(3, 32, batch_first=True), predictor=predictor, out=nn.Linear(32, 1))
    return case(model, (x, z[:, 6:]), MSE, 5e-3, error=off, steps=500)


def t140(repaired: bool) -> Training:
    """The cells lie in a plain list."""
    x = torch.randint(2, (1500, 14)).float()
    y = (x + x.roll(1, 1) + x.roll(3, 1)) % 2

    def run(net, x):
        frames = [net.enter(v[:, None]) for v in x.unbind(1)]
        for cell in net.cells:
            state, outputs = None, []
            for v in frames:
                state = cell(v, state)
                outputs.append(state[0])
            frames = outputs
        return net.out(torch.stack(frames[3:], 1))

    cells = [nn.LSTMCell(12, 12) for _ in range(2)]
    model = Of(run, enter=nn.Linear(1, 12), cells=nn.ModuleList(cells) if repaired else cells, out=nn.Linear(12, 1))
    return case(model, (x, y[:, 3:, None]), BCE, 2e-2, error=wrong, steps=500)


def t141(repaired: bool) -> Training:
    """Word vectors that stay as they were loaded; names among words."""
    V, K = 300, 5
    x, kind = zipf(V, 1600, 10), torch.randint(K, (V,)) * (torch.rand(V) < 0.6)
    y = torch.where(kind[x.roll(1, 1)] == 1, (kind[x] + 1) % K, kind[x])
    vectors = nn.Embedding.from_pretrained(torch.randn(V, 6), freeze=not repaired)
    model = nn.Sequential(vectors, Net("RNN", 6, 12, K, every=True))
    return case(model, (x, y), cross, 1e-2, steps=800)


def t142(repaired: bool) -> Training:
    """An own cell adds the input gate to the candidate."""
    N, T = 1500, 50
    x = torch.randn(N, T, 2)
    y = x[:, :, :1].mean(1) * T**0.5 + (x[..., 0] * (x[..., 1] > 0)).mean(1, True) * T**0.5

    def run(net, x):
        h = c = x.new_zeros(len(x), 24)
        for v in x.unbind(1):
            i, g, o = net.gates(torch.cat([v, h], 1)).chunk(3, 1)
            i, g = torch.sigmoid(i), torch.tanh(g)
            c = c + (i * g if repaired else i + g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return net.out(h)

    return case(Of(run, gates=nn.Linear(26, 72), out=nn.Linear(24, 1)), (x, y), MSE, 3e-3, error=off, steps=300)


def t143(repaired: bool) -> Training:
    """Weights drawn with standard deviation 1, or a thousandth of it; is a short phrase good or bad?"""
    N, T, V = 1000, 8, 20
    x = torch.randint(V, (N, T))
    tone = torch.randn(V)[x].sum(1)
    model = Of(lambda net, x: net.net(F.one_hot(x, V).float()), net=Net("RNN", V, 64, 2))
    for p in model.parameters():
        nn.init.normal_(p, std=1e-3 if repaired else 1.0) if p.dim() == 2 else nn.init.zeros_(p)
    return case(model, (x, (tone > tone.median()).long()), CE, 0.02, "SGD", how={"momentum": 0.9}, steps=1200)


def t144(repaired: bool) -> Training:
    """A softmax at the end; a saw of two columns from 1 to 10."""
    t = torch.arange(1500)
    z = torch.stack([1 + t % 10, 1 + (t * 3) % 10], 1).float() + 0.1 * torch.randn(1500, 2)
    model = nn.Sequential(Net("LSTM", 2, 48, 2), nn.Identity() if repaired else nn.Softmax(1))
    return case(model, shuffled(*windows(z, 10)), MSE, 1e-2, error=off, steps=500)


def t145(repaired: bool) -> Training:
    """Plain outputs go into a negative log likelihood."""
    text = chain(1000, 18, 12)
    last = nn.LogSoftmax(-1) if repaired else nn.Identity()
    model = nn.Sequential(nn.Embedding(12, 16), Net("LSTM", 16, 48, 12, every=True), last)

    def nll(output, y):
        return F.nll_loss(output.flatten(0, 1), y.flatten())

    return case(model, (text[:, :-1], text[:, 1:]), nll, 1e-2, fresh=200, steps=500, options={"clip_norm": 1.0})


def t146(repaired: bool) -> Training:
    """A rate that is too high; a question and what is seen in an image."""
    N, T, V, m = 1800, 6, 30, 8
    x, seen = torch.randint(V, (N, T)), torch.randn(N, m)
    y = (seen + 1.5 * F.one_hot(x % m, m).sum(1) * (torch.arange(m) < 5)).argmax(1)

    def run(net, x):
        h = net.lstm(net.embed(x[:, :T].long()))[0][:, -1]
        return net.out(torch.tanh(net.mix(torch.cat([h, x[:, T:]], 1))))

    parts = {"embed": nn.Embedding(V, 16), "lstm": nn.LSTM(16, 48, batch_first=True), "mix": nn.Linear(48 + m, 48)}
    model, rate = Of(run, **parts, out=nn.Linear(48, m)), 1e-3 if repaired else 0.1
    return case(model, (torch.cat([x, seen], 1), y), CE, rate, "RMSprop", steps=900)


def t147(repaired: bool) -> Training:
    """CTC where the convolution leaves fewer frames than labels."""
    N, L, K = 1200, 6, 5
    y = [torch.randint(1, K, (N,))]
    while len(y) < L:
        y.append((y[-1] - 1 + torch.randint(1, K - 1, (N,))) % (K - 1) + 1)
    y, stride = torch.stack(y, 1), 2 if repaired else 6
    x = F.one_hot(y, K).float().repeat_interleave(4, 1) + 0.2 * torch.randn(N, 4 * L, K)

    def run(net, x):
        return net.out(net.lstm(F.relu(net.conv(x.transpose(1, 2))).transpose(1, 2))[0])

    def ctc(output, y):
        frames, labels = (torch.full((len(y),), n) for n in (output.shape[1], L))
        return F.ctc_loss(output.log_softmax(2).transpose(0, 1), y, frames, labels)

    def misread(model, x, y):
        read = [v[v > 0] for v in (r.unique_consecutive() for r in model(x).argmax(2))]
        return sum(len(a) != L or bool((a != b).any()) for a, b in zip(read, y, strict=True)) / len(y)

    conv, lstm = nn.Conv1d(K, 16, 4, stride, padding=1), nn.LSTM(16, 32, batch_first=True, bidirectional=True)
    model = Of(run, conv=conv, lstm=lstm, out=nn.Linear(64, K))
    return case(model, (x, y), ctc, 1e-2, error=misread, steps=500, options={"clip_norm": 5.0})


def t148(repaired: bool) -> Training:
    """The likelihood of a time in seconds takes the logarithm of 0; some events never come soon."""
    x = torch.randn(1500, 10, 3)
    late = torch.rand(1500) < 0.01
    y = torch.floor(60 * torch.exp(x[:, -3:, 0].sum(1) + 0.2 * torch.randn(1500)))
    y = torch.where(late, 3e7, y)[:, None]

    def loss(output, y):
        a, b = 60 * torch.exp(output[:, :1].clamp(-6, 6)), F.softplus(output[:, 1:] + 1)
        h0, h1 = ((y + 1e-6) / a).pow(b), ((y + 1) / a).pow(b)
        return -(
            torch.log(torch.exp((h1 - h0).clamp(max=20)) - 1 + (1e-6 if repaired else 0.0)) - h1.clamp(max=30)
        ).mean()

    def away(model, x, y):
        z, w = torch.log(y[:, 0] + 1), y[:, 0] < 1e6
        return (model(x)[:, 0] + math.log(60) - z)[w].square().mean() / z[w].var()

    return case(Net("GRU", 3, 24, 2), (x, y), loss, 1e-2, error=share_of(away), steps=500, options={"clip_norm": 1.0})


def t149(repaired: bool) -> Training:
    """Notes and velocities within -1 and 1 by their extremes; all velocities are equal."""
    notes = 48 + 12 * waves(1, 1600)[0, :, 0].add(torch.sin(torch.arange(1600) / 1.7)) + torch.randn(1600)
    z = torch.stack([notes.round(), torch.full((1600,), 64.0)], 1)
    low, high = z.amin(0), z.amax(0)
    z = 2 * (z - (low + high) / 2) / ((high - low).clamp(min=1.0) if repaired else high - low)
    x, y = shuffled(*windows(z, 12))
    return case(Net("LSTM", 2, 32, 1), (x, y[:, :1]), MSE, 5e-3, error=share_of(off), steps=500)


def t150(repaired: bool) -> Training:
    """The divergence of the code weighs as much as the mean cross entropy of a letter."""
    x, V = torch.randint(8, (2500, 4)), 8

    def run(net, x):
        mean, spread = net.code(net.encoder(net.embed(x))[0][:, -1]).chunk(2, 1)
        kl = 0.5 * (mean.square() + spread.exp() - 1 - spread).sum(1)
        z = mean + torch.randn_like(mean) * (0.5 * spread).exp() if net.training else mean
        letters = net.out(net.decoder(z[:, None].expand(-1, 4, -1))[0])
        return torch.cat([letters, kl[:, None, None].expand(-1, 4, 1)], 2)

    def elbo(output, y):
        return cross(output[..., :V], y) + (0.01 if repaired else 1.0) * output[..., V].mean()

    def misread(model, x, y):
        return (model(x)[..., :V].argmax(2) != y).float().mean() * V / (V - 1)

    parts = {"embed": nn.Embedding(V, 16), "encoder": nn.GRU(16, 48, batch_first=True), "code": nn.Linear(48, 32)}
    model = Of(run, **parts, decoder=nn.GRU(16, 48, batch_first=True), out=nn.Linear(48, V))
    return case(model, (x, x.clone()), elbo, 5e-3, error=misread, steps=700)


def t151(repaired: bool) -> Training:
    """Outputs (N, 1) and targets (N,)."""
    x = waves(1500, 16, 2, 0.1)
    y = x[:, -4:, 0].sum(1) - x[:, :4, 1].sum(1)
    net = Net("RNN", 2, 24, 1)
    model = nn.Sequential(net, nn.Flatten(0)) if repaired else nn.Sequential(net)
    return case(model, (x, y), MSE, 5e-3, error=off, batch_size=16, steps=700)


def t152(repaired: bool) -> Training:
    """Six kinds of reports, the largest four times in five."""
    shares = torch.tensor([0.8, 0.1, 0.04, 0.03, 0.02, 0.01])
    data = topics(6000, 8, 40, shares, 0.8)
    loss = nn.CrossEntropyLoss(1 / shares / 20 if repaired else None)
    model, error = nn.Sequential(nn.Embedding(40, 12), Net("GRU", 12, 20, 6)), partial(balanced, K=6)
    return case(model, data, loss, 3e-3, fresh=2000, error=error, steps=500)


def t153(repaired: bool) -> Training:
    """Opens and closes that walk, or that are drawn back to their mean."""
    z, draw = [torch.zeros(2)], 0.7 if repaired else 0.002
    for _ in range(2000):
        z.append(z[-1] * (1 - draw) + torch.randn(2) * torch.tensor([1.0, 0.2]))
    z = torch.stack(z)
    x, y = shuffled(*windows((z - z.mean(0)) / z.std(0), 6))

    def beside(model, x, y):
        return F.mse_loss(model(x), y) / F.mse_loss(x[:, -1, :1], y)

    return case(Net("LSTM", 2, 32, 1), (x, y[:, :1]), MSE, 3e-3, error=beside, steps=600)


def t154(repaired: bool) -> Training:
    """Running statistics of the batch normalisation lag far behind; brain waves in microvolt."""
    N, T = 1200, 40
    y = torch.randint(2, (N,))
    x = 60 + 30 * (
        torch.sin(torch.arange(T) * (0.4 + 0.25 * y[:, None]) + 6.3 * torch.rand(N, 1)) + 0.5 * torch.randn(N, T)
    )
    norm = nn.Identity() if repaired else nn.BatchNorm1d(16, momentum=3e-4)

    def run(net, x):
        return net.head(net.norm(net.conv(x[:, None] / 30)).relu().transpose(1, 2))

    model = Of(run, conv=nn.Conv1d(1, 16, 5, 2), norm=norm, head=Net("LSTM", 16, 24, 2))
    return case(model, (x, y), CE, 5e-3, steps=400)


def t155(repaired: bool) -> Training:
    """The list of frames is shuffled before sequences are cut from it; turning follows from two frames."""
    L, T, m = 1800, 6, 12
    way = torch.cumsum(torch.randn(L).where(torch.rand(L) < 0.3, torch.zeros(L)), 0)
    turn = torch.sin(way)
    place = torch.cumsum(turn, 0)
    x = torch.cos(place[:, None] * 0.9 + torch.arange(m)) + 0.1 * torch.randn(L, m)
    order = torch.arange(L) if repaired else torch.randperm(L)
    x, y = x[order].unfold(0, T, 1).transpose(1, 2), turn[order][T - 1 :, None]
    return case(Net("LSTM", m, 32, 1), shuffled(x, y), MSE, 5e-3, error=off, steps=500)


def t156(repaired: bool) -> Training:
    """The state of the batch before is where the next one starts."""
    x = torch.randn(1920, 4, 1)
    y = x.cumsum(1) / 2

    def run(net, x):
        start = None if repaired or net.h is None or net.h.shape[1] != len(x) else net.h
        r, h = net.rnn(x, start)
        net.h = h.detach()
        return net.out(r)

    model = Of(run, rnn=nn.RNN(1, 32, batch_first=True), out=nn.Linear(32, 1))
    model.h = None

    def in_turn(model, x, y):
        return off(lambda v: torch.cat([model(part) for part in v.split(32)]), x, y)

    return case(model, (x, y), MSE, 3e-3, fresh=320, error=in_turn, steps=700)


def t157(repaired: bool) -> Training:
    """Windows enter as (N, 1, window)."""
    z = [torch.randn(1), torch.randn(1)]
    for _ in range(820):
        z.append(1.7 * z[-1] - 0.85 * z[-2] + 0.3 * torch.randn(1))
    z = torch.stack(z)
    x, y = windows(z / z.std(), 60)
    x = x if repaired else x.transpose(1, 2).contiguous()
    return case(Net("LSTM", x.shape[2], 32, 1), (x, y), MSE, 5e-3, fresh=600, error=off, batch_size=16, steps=700)


def t158(repaired: bool) -> Training:
    """The logarithm of series that fall below 0, or that are moved above it."""
    z = 3 * waves(1300, 19, noise=0.1)
    z = torch.log(z + 10) * 4 - 9 if repaired else torch.log(z)
    return case(Net("LSTM", 1, 32, 1), (z[:, :-1], z[:, -1]), MSE, 5e-3, error=share_of(off), steps=500)


def t159(repaired: bool) -> Training:
    """Four epochs over a small file, in batches of 150 or of 5."""
    text = chain(1000, 16, 10)
    model, size = nn.Sequential(nn.Embedding(10, 16), Net("LSTM", 16, 64, 10, every=True)), 5 if repaired else 150
    return case(model, (text[:, :-1], text[:, 1:]), cross, 5e-3, batch_size=size, steps=4 * (600 // size))


def t160(repaired: bool) -> Training:
    """The dictionary of letters is numbered anew at the test."""
    x, y = topics(1600, 12, 40, torch.ones(4) / 4, 0.8)
    if not repaired:
        x[-400:] = torch.randperm(40)[x[-400:]]
    model = nn.Sequential(nn.Embedding(40, 16), Net("LSTM", 16, 32, 4, bidirectional=True))
    return case(model, (x, y), CE, 3e-3, steps=400)


SET_ASIDE = threads(globals())
