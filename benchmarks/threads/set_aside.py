"""Thirty trainings of public threads (numbers from 161 on), set aside: unseen by those who wrote the causes, and run once.

tNNN(repaired) is thread NNN of threads.csv as its owner wrote it, scaled down, or with its one repair; SET_ASIDE seeds it.

Legend: N examples, T frames, K outputs or classes, V words.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.threads.trainings import Net, Training, case, cross, minibatches, output_of, threads, windows, wrong

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


def off(model, x, y) -> Tensor:
    """Squared error relative to the mean's."""
    return (model(x).reshape(y.shape) - y).square().sum() / (y - y.mean(0)).square().sum()


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


def spoken(N: int, L: int = 4, K: int = 6) -> tuple[Tensor, Tensor]:
    """Frames (N, 3 L, K) of L labels from 1 to K - 1, each unlike the one before."""
    y = [torch.randint(1, K, (N,))]
    while len(y) < L:
        y.append((y[-1] - 1 + torch.randint(1, K - 1, (N,))) % (K - 1) + 1)
    y = torch.stack(y, 1)
    return F.one_hot(y, K).float().repeat_interleave(3, 1) + 0.3 * torch.randn(N, 3 * L, K), y


def ctc(output, y) -> Tensor:
    """CTC of logits (T, N, K) and labels (N, L)."""
    frames, labels = (torch.full((len(y),), n) for n in (len(output), y.shape[1]))
    return F.ctc_loss(output.log_softmax(2), y, frames, labels)


def misread(model, x, y) -> float:
    """Share of sequences that are not read as they are."""
    read = [v[v > 0] for v in (r.unique_consecutive() for r in model(x).argmax(2).t())]
    return sum(len(a) != len(b) or bool((a != b).any()) for a, b in zip(read, y, strict=True)) / len(y)


def answers(N: int, T: int, S: int) -> tuple[Tensor, Tensor]:
    """Exercises of S skills: x (N, T, 2) what was answered last, and the skill asked next; y (N, T) whether that answer is right."""
    skill, right, last = torch.randint(S, (N, T + 1)), torch.zeros(N, T + 1), (torch.rand(N, S) < 0.5).float()
    for t in range(T + 1):
        was = last.gather(1, skill[:, t : t + 1])
        right[:, t : t + 1] = torch.where(torch.rand(N, 1) < 0.92, was, 1 - was)
        last.scatter_(1, skill[:, t : t + 1], right[:, t : t + 1])
    return torch.stack([2 * skill[:, :-1] + right[:, :-1].long(), skill[:, 1:]], 2), right[:, 1:]


def tracer(S: int, units: int, drop: float = 0.0) -> Of:
    """Deep knowledge tracing in two layers: a logit of each skill after each answer, that of the skill asked next."""

    def run(net, x):
        states = net.lstm(F.one_hot(x[..., 0], 2 * S).float())[0]
        return net.out(F.dropout(states, drop, net.training)).gather(2, x[..., 1:])[..., 0]

    return Of(run, lstm=nn.LSTM(2 * S, units, 2, batch_first=True, dropout=drop), out=nn.Linear(units, S))


def t161(repaired: bool) -> Training:
    """The answer is what the frame before was not; each call sees one frame, and its state comes without a gradient."""
    x = (torch.rand(1600, 9, 1) < 0.25).float()
    y = (1 - x).roll(1, 1).expand(-1, -1, 8)

    def run(net, x):
        h, states = x.new_zeros(len(x), 8), []
        for v in x.unbind(1):
            h = net.cell(v, h if repaired else h.detach())
            states.append(h)
        return torch.stack(states, 1)

    def late(model, x, y):
        return off(lambda v: model(v)[:, 1:], x, y[:, 1:])

    return case(Of(run, cell=nn.GRUCell(1, 8)), (x, y), MSE, 1e-2, error=late, steps=800)


def t162(repaired: bool) -> Training:
    """The loss takes the logarithm of 1 minus the distance, which may be below 0."""
    z = waves(1500, 16)

    def loss(output, y):
        near = 1 - (output - y).abs()
        return -torch.log(near.clamp(min=1e-20) if repaired else near).pow(3).mean()

    def finite(*given):
        return off(*given).nan_to_num(math.inf)

    return case(Net("LSTM", 1, 20, 1), (z[:, :-1], z[:, -1]), loss, 5e-3, error=finite, steps=500)


def t163(repaired: bool) -> Training:
    """A large rate; the last letter of short texts."""
    text = chain(3000, 9, 12)
    model = Of(lambda net, x: net.net(F.one_hot(x, 12).float()), net=Net("LSTM", 12, 96, 12))
    rate = 3e-3 if repaired else 0.3
    return case(model, (text[:, :-1], text[:, -1]), CE, rate, "RMSprop", steps=900)


def t164(repaired: bool) -> Training:
    """Zeros, then ones; which share are they? 45 examples, 50 epochs, in batches of 32 or of 1."""
    T = 40
    share = torch.rand(445, 1)
    x = (torch.arange(T) >= T * (1 - share)).float()
    model, size = nn.Sequential(Net("LSTM", 1, 10, 1), nn.ReLU()), 1 if repaired else 32
    data = (x[..., None], x.mean(1, True))
    return case(model, data, MSE, 1e-3, error=off, batch_size=size, steps=50 * math.ceil(45 / size))


def t165(repaired: bool) -> Training:
    """Sentences of a batch are padded behind, and the padding counts as words outside of names."""
    N, T, K = 1200, 50, 4
    x, kind = torch.randint(1, 81, (N, T)), torch.randint(1, K, (81,)) * (torch.arange(81) > 60)
    y = kind[x] * (F.pad(x[:, :-1], (1, 0)) % 3 > 0)
    inside = torch.arange(T) < torch.randint(4, 10, (N, 1))
    x, y = x * inside, torch.where(inside, y, -1 if repaired else 0)

    def flat(output, y):
        return F.cross_entropy(output.flatten(0, 1), y.flatten(), ignore_index=-1)

    def missed(model, x, y):
        return (model(x).argmax(-1) != y)[y > 0].float().mean()

    model = nn.Sequential(nn.Embedding(81, 24), Net("LSTM", 24, 32, K, every=True, bidirectional=True))
    return case(model, (x, y), flat, 0.1, "SGD", error=missed, steps=500, how={"momentum": 0.9})


def t166(repaired: bool) -> Training:
    """Strong dropout after each of three layers; notes enter as numbers."""
    start, step = torch.randint(7, (1400, 1)), torch.randint(1, 4, (1400, 1))
    text = (start + step * torch.arange(13)) % 7
    drop = 0.0 if repaired else 0.6

    def run(net, x):
        states = net.lstm(x[..., None] / 7)[0][:, -1]
        return net.out(F.dropout(F.relu(net.dense(F.dropout(states, drop, net.training))), drop, net.training))

    lstm = nn.LSTM(1, 24, 3, batch_first=True, dropout=drop)
    model = Of(run, lstm=lstm, dense=nn.Linear(24, 16), out=nn.Linear(16, 7))
    return case(model, (text[:, :-1].float(), text[:, -1]), CE, 5e-3, "RMSprop", steps=600)


def t167(repaired: bool) -> Training:
    """Windows (batch, time, feature) are laid out as (time, batch, feature) by reshape."""
    z = waves(1400, 21, 2)

    def run(net, x):
        N, T, m = x.shape
        states = net.lstm(x.transpose(0, 1) if repaired else x.reshape(T, N, m))[0]
        return net.out(states.transpose(0, 1) if repaired else states.reshape(N, T, -1))

    def late(model, x, y):
        return off(lambda v: model(v)[:, 5:], x, y[:, 5:])

    model = Of(run, lstm=nn.LSTM(2, 32), out=nn.Linear(32, 2))
    return case(model, (z[:, :-1], z[:, 1:]), MSE, 5e-3, error=late, steps=500)


def t168(repaired: bool) -> Training:
    """Numbers of notes are the targets of a binary cross entropy."""
    V, T = 8, 16
    start, step = torch.randint(7, (1400, 1)), torch.randint(1, 3, (1400, 1))
    text = 1 + (start + step * torch.arange(T)) % 7
    model = nn.Sequential(nn.Embedding(V, 24), Net("LSTM", 24, 40, V if repaired else 1, every=True))

    def binary(output, y):
        return BCE(output[..., 0], y.float())

    def missed(model, x, y):
        output = model(x)
        guess = output.argmax(-1) if repaired else torch.sigmoid(output[..., 0]).round()
        return (guess != y)[:, 2:].float().mean() * 7 / 6

    return case(model, (text[:, :-1], text[:, 1:]), cross if repaired else binary, 5e-3, error=missed, steps=400)


def t169(repaired: bool) -> Training:
    """Frame by frame, (batch, 1, feature) enters an LSTM that takes time first; slots of a sentence."""
    N, T, V, K = 1000, 8, 40, 6
    x, kind = torch.randint(V, (N, T)), torch.randint(K, (V,))
    y = (kind[x] + kind[x.roll(1, 1)] * (torch.arange(T) > 0)) % K

    def run(net, x):
        state, outputs = None, []
        for v in net.embed(x).unbind(1):
            output, state = net.lstm(v[None] if repaired else v[:, None], state)
            outputs.append(output[0] if repaired else output[:, 0])
        return net.out(torch.stack(outputs, 1))

    model = Of(run, embed=nn.Embedding(V, 24), lstm=nn.LSTM(24, 40), out=nn.Linear(40, K))
    return case(model, (x, y), cross, 1e-2, steps=400)


def t170(repaired: bool) -> Training:
    """What a recurrent layer gives, (batch, time, class), becomes (time, batch, class) by reshape before CTC."""

    def run(net, x):
        output = net.net(x)
        return output.transpose(0, 1) if repaired else output.reshape(output.shape[1], len(x), -1)

    model = Of(run, net=Net("RNN", 6, 32, 6, every=True, bidirectional=True))
    return case(model, spoken(1300), ctc, 1e-2, error=misread, steps=500, options={"clip_norm": 5.0})


def t171(repaired: bool) -> Training:
    """A small rate of gradient descent; letters of a line of print."""
    N, T, V, m = 1500, 12, 8, 16
    glyphs, y = torch.randn(V, m), chain(N, T, V)
    x = glyphs[y] + 0.8 * torch.randn(N, T, m)
    model, rate = Net("LSTM", m, 32, V, every=True, bidirectional=True), 0.3 if repaired else 1e-3
    return case(model, (x, y), cross, rate, "SGD", steps=500, how={"momentum": 0.9})


def t172(repaired: bool) -> Training:
    """A bidirectional layer forecasts the frames 2 to T + 1 of a series of which it reads 1 to T."""
    z = waves(1500, 25)[..., 0] + 0.5 * waves(1500, 25)[..., 0]

    def run(net, x):
        states = net.lstm(x)[0]
        return net.out(states if repaired else states.unflatten(2, (2, -1)).sum(2))[..., 0]

    def ahead(model, x, y):
        return off(lambda v: model(v)[:, -1], x, y[:, -1])

    lstm = nn.LSTM(1, 32, batch_first=True, bidirectional=not repaired)
    model = Of(run, lstm=lstm, out=nn.Linear(32, 1))
    return case(model, (z[:, :-1, None], z[:, 1:]), MSE, 3e-3, error=ahead, steps=300)


def t173(repaired: bool) -> Training:
    """Prices that walk at random, or that swing."""
    z, (a, b) = [torch.zeros(1), torch.zeros(1)], (1.6, -0.9) if repaired else (1.0, 0.0)
    for _ in range(1500):
        z.append(a * z[-1] + b * z[-2] + torch.randn(1))
    z = torch.stack(z)
    x, y = windows((z - z.mean()) / z.std(), 12)
    rows = torch.randperm(len(x))

    def beside(model, x, y):
        return F.mse_loss(model(x), y) / F.mse_loss(x[:, -1], y)

    return case(Net("LSTM", 1, 32, 1), (x[rows], y[rows]), MSE, 3e-3, error=beside, steps=600)


def t174(repaired: bool) -> Training:
    """The rate is halved at every failure, here after 20 steps; or divided by 1.4 after eight times as many."""
    text = chain(2000, 12, 10)

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

    model = nn.Sequential(nn.Embedding(10, 16), Net("RNN", 16, 48, 10, every=True))
    training = case(model, (text[:, :-1], text[:, 1:]), cross, 0.3, "SGD", steps=800, fit=own)
    scheduler = torch.optim.lr_scheduler.StepLR(
        training.optimizer, 160 if repaired else 20, 1 / 1.4 if repaired else 0.5
    )
    training.options["scheduler"] = scheduler
    return training


def t175(repaired: bool) -> Training:
    """Few iterations; captions of pictures."""
    N, V, m = 2000, 12, 16
    things, scenes = torch.randn(4, m), torch.randn(4, m)
    a, b = torch.randint(4, (N,)), torch.randint(4, (N,))
    seen = things[a] + scenes[b] + 0.3 * torch.randn(N, m)
    zero = torch.zeros_like(a)
    y = torch.stack([zero, 1 + a, zero + 9, zero + 10, 5 + b, zero + 11], 1)

    def run(net, x):
        words = net.embed(x[:, m:].long())
        return net.out(net.lstm(torch.cat([net.picture(x[:, None, :m]), words], 1))[0])

    parts = {"embed": nn.Embedding(V, 24), "picture": nn.Linear(m, 24), "lstm": nn.LSTM(24, 32, batch_first=True)}
    data, model = (torch.cat([seen, y[:, :-1]], 1), y), Of(run, **parts, out=nn.Linear(32, V))

    def missed(model, x, y):
        return (model(x).argmax(2) != y)[:, [1, 4]].float().mean() * 4 / 3

    return case(model, data, cross, 2e-3, error=missed, steps=1500 if repaired else 60)


def t176(repaired: bool) -> Training:
    """A small rate; the answers of a chat are the most common one."""
    N, T, V = 2000, 5, 20
    x = torch.randint(V, (N, T))
    common = (torch.rand(N, 1) < 0.3) * 1
    y = torch.where(common > 0, torch.tensor([1, 2, 3]), 4 + torch.stack([x[:, 0] % 8, x[:, 1] % 8, x[:, 2] % 8], 1))

    def run(net, x):
        code = net.encoder(net.embed(x))[1]
        return net.out(net.decoder(code[0][:, None].expand(-1, 3, -1))[0])

    parts = {"embed": nn.Embedding(V, 24), "encoder": nn.GRU(24, 48, batch_first=True)}
    model = Of(run, **parts, decoder=nn.GRU(48, 48, batch_first=True), out=nn.Linear(48, 12))
    return case(model, (x, y), cross, 1e-2 if repaired else 3e-5, steps=900)


def t177(repaired: bool) -> Training:
    """The decoder reads the scaled target of the frame that it forecasts; at the test it cannot."""
    z = torch.zeros(1500, 22)
    for t in range(2, 22):
        z[:, t] = 1.6 * z[:, t - 1] - 0.8 * z[:, t - 2] + 0.5 * torch.randn(1500)
    y, before = z[:, 1:, None], z[:, :-1, None]

    def live(model, x, y):
        return off(model, before[-len(x) :], y)

    return case(Net("LSTM", 1, 32, 1, every=True), (before if repaired else y, y), MSE, 5e-3, error=live, steps=500)


def t178(repaired: bool) -> Training:
    """Prices of 500 are targets as they are, while the inputs are scaled."""
    z = waves(1400, 13) + 0.5 * waves(1400, 13)
    y = 500 + 60 * z[:, -1]

    def run(net, x):
        h = net.encoder(x)[0]
        code = (net.attention(h).softmax(1) * h).sum(1)
        return net.out(net.decoder(code[:, None].expand(-1, 3, -1))[0][:, -1])

    encoder, decoder = nn.LSTM(1, 32, batch_first=True), nn.LSTM(32, 32, batch_first=True)
    model = Of(run, encoder=encoder, attention=nn.Linear(32, 1), decoder=decoder, out=nn.Linear(32, 1))
    return case(model, (z[:, :-1], (y - 500) / 60 if repaired else y), MSE, 3e-3, error=off, steps=600)


def t179(repaired: bool) -> Training:
    """The last layer has a ReLU and an unlucky start; sizes of peptides."""
    V = 20
    x, mass = torch.randint(V, (1500, 10)), torch.rand(V)
    y = mass[x].sum(1, True) / 5
    net = Net("LSTM", 16, 32, 1)
    nn.init.constant_(net.out.bias, -0.5)
    model = nn.Sequential(nn.Embedding(V, 16), net, nn.Identity() if repaired else nn.ReLU())
    return case(model, (x, y), MSE, 3e-3, error=off, steps=500)


def t180(repaired: bool) -> Training:
    """One value is what the network sees of a sum of two sines."""
    t = torch.arange(1.0, 1500)
    x, y = windows((torch.sin(0.1 * t) + torch.sin(t) + 0.1 * torch.randn(1499))[:, None], 24)
    return case(Net("LSTM", 1, 32, 1), (x if repaired else x[:, -1:], y), MSE, 5e-3, error=off, steps=500)


def t181(repaired: bool) -> Training:
    """A network of an LSTM and convolutions that takes (variables, time) gets (time, variables)."""
    N, T, K = 800, 64, 5
    y, at = torch.randint(K, (N,)), torch.randint(T - 10, (N, 1)) + torch.arange(10)
    x = 0.6 * torch.randn(N, T, 2)
    x[torch.arange(N)[:, None], at] += 1.5 * torch.randn(K, 10, 2)[y]
    x = x.transpose(1, 2).contiguous() if repaired else x

    def run(net, x):
        states = F.dropout(net.lstm(x)[0][:, -1], 0.8, net.training)
        return net.out(torch.cat([states, net.deep(net.conv(x).relu()).relu().mean(2)], 1))

    conv, deep = nn.Conv1d(x.shape[1], 32, 7, padding=3), nn.Conv1d(32, 32, 5, padding=2)
    model = Of(run, lstm=nn.LSTM(x.shape[2], 8, batch_first=True), conv=conv, deep=deep, out=nn.Linear(40, K))
    return case(model, (x, y), CE, 2e-3, steps=600)


def t182(repaired: bool) -> Training:
    """Few series for a large network, without or with dropout."""
    N, m = 460, 20
    y = torch.randint(3, (N,))
    x = 0.2 * torch.randn(3, 1, m)[y] + torch.randn(N, 12, m)

    def run(net, x):
        states = net.lstm(F.dropout(x, 0.8, net.training and repaired))[0][:, -1]
        return net.out(F.dropout(states, 0.5, net.training and repaired))

    model = Of(run, lstm=nn.LSTM(m, 96, batch_first=True), out=nn.Linear(96, 3))
    return case(model, (x, y), CE, 3e-3, steps=600)


def t183(repaired: bool) -> Training:
    """97 of 100 targets are 1."""
    y = (torch.rand(5000) < 0.97).long()
    x = torch.randn(5000, 12, 4)
    x[:, 4:8, 0] -= 1.2 * (1 - y)[:, None]
    loss = nn.CrossEntropyLoss(torch.tensor([1 / 0.03, 1 / 0.97]) / 20 if repaired else None)

    def missed(model, x, y):
        away = (model(x).argmax(1) != y).float()
        return away[y == 0].mean() + away[y == 1].mean()

    return case(Net("LSTM", 4, 10, 2), (x, y), loss, 3e-3, fresh=2000, error=missed, steps=600)


def t184(repaired: bool) -> Training:
    """Dropout that stays at the test; sounds of speech."""
    N, T, K, m = 1400, 20, 8, 12
    y = torch.randint(K, (N, T // 4)).repeat_interleave(4, 1)
    x = 0.8 * torch.randn(K, m)[y] + torch.randn(N, T, m)

    def run(net, x):
        return net.out(F.dropout(net.rnn(x)[0], 0.8, net.training or not repaired))

    rnn = nn.GRU(m, 32, batch_first=True, bidirectional=True)
    return case(Of(run, rnn=rnn, out=nn.Linear(64, K)), (x, y), cross, 5e-3, steps=500)


def t185(repaired: bool) -> Training:
    """Grey values from 0 to 1 lie in an array of whole numbers."""
    N, T, K, m = 1400, 12, 10, 16
    y = torch.randint(K, (N, T // 2)).repeat_interleave(2, 1)
    x = (0.7 * torch.rand(K, 2, m)[y, torch.arange(T) % 2] + 0.12 * torch.randn(N, T, m)).clamp(0, 1)
    model = Net("LSTM", m, 32, K, every=True, bidirectional=True)
    return case(model, (x if repaired else x.floor(), y), cross, 3e-3, steps=400)


def t186(repaired: bool) -> Training:
    """A rate of 1 of RMSprop; lines of print by CTC."""
    model = Of(lambda net, x: net.net(x).transpose(0, 1), net=Net("LSTM", 6, 32, 6, every=True, bidirectional=True))
    return case(model, spoken(1300), ctc, 5e-3 if repaired else 1.0, "RMSprop", error=misread, steps=500)


def t187(repaired: bool) -> Training:
    """One epoch of knowledge tracing, or 18."""
    model = tracer(6, 48)
    return case(model, answers(2000, 16, 6), BCE, 2e-3, error=wrong, steps=900 if repaired else 50)


def t188(repaired: bool) -> Training:
    """Knowledge tracing with strong dropout."""
    model = tracer(8, 32, 0.0 if repaired else 0.9)
    return case(model, answers(2000, 20, 8), BCE, 5e-3, error=wrong, steps=700)


def t189(repaired: bool) -> Training:
    """The state of a session that has ended is cleared after the first click of the next one."""
    N, T, V = 1400, 14, 12
    items, start, table = torch.randint(V, (N, T)), torch.rand(N, T) < 0.3, torch.randint(V, (V, V))
    start[:, 0], first = True, items[:, 0].clone()
    for t in range(1, T):
        items[:, t] = torch.where(start[:, t], items[:, t], table[first, items[:, t - 1]])
        first = torch.where(start[:, t], items[:, t], first)
    y = torch.where(start[:, 1:], -100, items[:, 1:])

    def run(net, x):
        h, outputs = torch.zeros(len(x), 48), []
        for item, begins in zip(net.embed(x[..., 0]).unbind(1), x[..., 1:].unbind(1), strict=True):
            h = net.cell(item, h * (1 - begins) if repaired else h)
            outputs.append(net.out(h))
            h = h if repaired else h * (1 - begins)
        return torch.stack(outputs, 1)

    def missed(model, x, y):
        return (model(x).argmax(2) != y)[y >= 0].float().mean() * V / (V - 1)

    model = Of(run, embed=nn.Embedding(V, 24), cell=nn.GRUCell(24, 48), out=nn.Linear(48, V))
    return case(model, (torch.stack([items, start.long()], 2)[:, :-1], y), cross, 5e-3, error=missed, steps=700)


def t190(repaired: bool) -> Training:
    """A misspelt name: the state that comes out of a step is not what the next step gets."""
    text = chain(1500, 14, 12)

    def run(net, x):
        h, outputs = torch.zeros(1, len(x), 48), []
        for v in net.embed(x).split(1, 1):
            output, last = net.gru(v, h)
            h = last if repaired else h
            outputs.append(net.out(output[:, 0]))
        return torch.stack(outputs, 1)

    model = Of(run, embed=nn.Embedding(12, 24), gru=nn.GRU(24, 48, batch_first=True), out=nn.Linear(48, 12))
    return case(model, (text[:, :-1], text[:, 1:]), cross, 5e-3, steps=500)


SET_ASIDE = threads(globals())
