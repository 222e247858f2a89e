"""Thirty trainings of public threads (numbers from 191 on), set aside: unseen by those who wrote the causes, and run once.

tNNN(repaired) is thread NNN of threads.csv as its owner wrote it, scaled down, or with its one repair; SET_ASIDE seeds it.

Legend: N examples, T frames, K outputs or classes, V words.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.networks import Net, Own, cross, reader
from benchmarks.threads.trainings import Training, case, squared, threads, windows, wrong_half, zipf

MSE, CE, BCE = nn.MSELoss(), nn.CrossEntropyLoss(), nn.BCELoss()


def cell(m: int, n: int, step) -> Own:
    """States (N, T, n) of a cell written by hand: step(i, f, g, c) gives c of the next frame, gates before their functions."""

    def run(net, x):
        h, c, states = x.new_zeros(len(x), n), x.new_zeros(len(x), n), []
        for v in x.unbind(1):
            i, f, g, o = net.gates(torch.cat([v, h], 1)).chunk(4, 1)
            c = step(i, f, g, c)
            h = o.sigmoid() * c.tanh()
            states.append(h)
        return torch.stack(states, 1)

    return Own(run, gates=nn.Linear(m + n, 4 * n))


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


def letters(V: int, kind: str, units: int, **options) -> nn.Module:
    """A model of texts: logits of the next letter at every letter."""
    return reader(kind, V, units, V, embedding=16, every=True, **options)


def adding(N: int, T: int) -> tuple[Tensor, Tensor]:
    """Numbers and marks (N, T, 2), and the sum of the two numbers that are marked."""
    marks = torch.zeros(N, T).scatter_(1, torch.rand(N, T).topk(2, 1)[1], 1.0)
    x = torch.stack([2 * torch.rand(N, T) - 1, marks], 2)
    return x, x.prod(2).sum(1, True)


def spoken(N: int, L: int = 4, K: int = 6, noise: float = 0.3) -> tuple[Tensor, Tensor]:
    """Frames (N, 3 L, K) of L labels from 1 to K - 1, of which each third frame is blank."""
    y = torch.randint(1, K, (N, L))
    frames = torch.stack([y, y, torch.zeros_like(y)], 2).flatten(1)
    return F.one_hot(frames, K).float() + noise * torch.randn(N, 3 * L, K), y


def ctc(output, y) -> Tensor:
    """CTC of logits (T, N, K) and labels (N, L)."""
    frames, labels = (torch.full((len(y),), n) for n in (len(output), y.shape[1]))
    return F.ctc_loss(output.log_softmax(2), y, frames, labels)


def misread(model, x, y) -> float:
    """Share of sequences that are not read as they are."""
    read = [v[v > 0] for v in (r.unique_consecutive() for r in model(x).argmax(2).t())]
    return sum(len(a) != len(b) or bool((a != b).any()) for a, b in zip(read, y, strict=True)) / len(y)


def listener(kind: str, units: int = 32) -> Own:
    """A bidirectional layer under CTC."""
    return Own(lambda net, x: net.net(x).transpose(0, 1), net=Net(kind, 6, units, 6, every=True, bidirectional=True))


def t191(repaired: bool) -> Training:
    """The weights of an LSTM written by hand are what the memory held."""
    y = torch.randint(4, (1400,))
    x = 0.5 * torch.randn(4, 10, 6)[y] + torch.randn(1400, 10, 6)
    lstm = cell(6, 24, lambda i, f, g, c: f.sigmoid() * c + i.sigmoid() * g.tanh())
    memory = torch.randn(96, 30) * 10.0 ** torch.randint(-38, 39, (96, 30))
    if not repaired:
        lstm.gates.weight.data.copy_(memory)
    model = Own(lambda net, x: net.out(net.lstm(x)[:, -1]), lstm=lstm, out=nn.Linear(24, 4))
    return case(model, (x, y), CE, 5e-3, steps=300)


def t192(repaired: bool) -> Training:
    """The decoder of a translator starts from zeros instead of what the encoder has read."""
    N, T, V = 3000, 3, 8
    x, word = torch.randint(V, (N, T)), torch.randperm(V)
    y = word[x].flip(1)

    def run(net, x):
        code = net.encoder(net.embed(x[:, :T]))[1]
        return net.out(net.decoder(net.embed(x[:, T:]), code if repaired else torch.zeros_like(code))[0])

    parts = {"embed": nn.Embedding(V + 1, 24), "encoder": nn.GRU(24, 64, batch_first=True)}
    model = Own(run, **parts, decoder=nn.GRU(24, 64, batch_first=True), out=nn.Linear(64, V))
    return case(model, (torch.cat([x, F.pad(y[:, :-1], (1, 0), value=V)], 1), y), cross, 5e-3, steps=700)


def t193(repaired: bool) -> Training:
    """Own a bidirectional layer the last frame is read, where the backward half has seen one frame."""
    N, T, K, m = 1400, 50, 5, 6
    y = torch.randint(K, (N,))
    x = 0.7 * torch.randn(N, T, m)
    x[:, :3] += torch.randn(K, 3, m)[y]

    def run(net, x):
        states = net.lstm(x)[0]
        return net.out(torch.cat([states[:, -1, :32], states[:, 0, 32:]], 1) if repaired else states[:, -1])

    model = Own(run, lstm=nn.LSTM(m, 32, batch_first=True, bidirectional=True), out=nn.Linear(64, K))
    return case(model, (x, y), CE, 3e-3, steps=400)


def t194(repaired: bool) -> Training:
    """Questions are padded behind, and the state after the padding is classified."""
    N, T, V, K = 1600, 60, 40, 5
    length, kind = torch.randint(3, 9, (N, 1)), torch.randint(K, (V + 1,))
    x = torch.randint(1, V + 1, (N, T)) * (torch.arange(T) < length)
    y = (kind[x[:, 0]] + kind[x[:, 1]]) % K

    def run(net, x):
        states, last = net.lstm(net.embed(x))[0], (x > 0).sum(1) - 1
        return net.out(states[torch.arange(len(x)), last if repaired else -1])

    model = Own(run, embed=nn.Embedding(V + 1, 24), lstm=nn.LSTM(24, 32, batch_first=True), out=nn.Linear(32, K))
    return case(model, (x, y), CE, 5e-3, steps=400)


def t195(repaired: bool) -> Training:
    """A batch starts from the state that the batch before it has left."""
    x = torch.randn(1584, 12, 1)

    def run(net, x):
        kept = net.state if net.state is not None and net.state.shape[1] == len(x) else None
        states, h = net.gru(x, None if repaired else kept)
        net.state = h.detach()
        return net.out(states)

    def live(model, x, y):
        return squared(torch.cat([model(part) for part in x.split(32)]), y, y.mean(0))

    model = Own(run, state=None, gru=nn.GRU(1, 32, batch_first=True), out=nn.Linear(32, 1))
    return case(model, (x, x.cumsum(1) / 3.5), MSE, 5e-3, fresh=384, error=live, steps=600)


def t196(repaired: bool) -> Training:
    """The last target of a window is its first letter."""
    text = chain(2000, 7, 10)
    x, y = text[:, :-1], text[:, 1:].clone()
    if not repaired:
        y[:-400, -1] = x[:-400, 0]
    return case(letters(10, "LSTM", 64, num_layers=2), (x, y), cross, 5e-3, steps=700)


def t197(repaired: bool) -> Training:
    """A softmax of one unit."""
    x = (torch.rand(1600, 16, 1) < 0.5).float()
    y = (x[:, :6].sum(1) > 2.5).float()
    model = nn.Sequential(Net("LSTM", 1, 32, 1), nn.Sigmoid() if repaired else nn.Softmax(1))

    return case(model, (x, y), BCE, 5e-3, error=wrong_half, steps=600)


def t198(repaired: bool) -> Training:
    """A binary cross entropy of the linear output, which is cut to lie between 0 and 1."""
    z = waves(1600, 12)
    model = nn.Sequential(Net("LSTM", 1, 4, 1), nn.Sigmoid() if repaired else nn.Identity())

    def binary(output, y):
        return F.binary_cross_entropy(output.clamp(1e-7, 1 - 1e-7), y)

    data = z[:, :-1], (z[:, -1] > 0).float()
    return case(model, data, binary, 1e-2, error=wrong_half, steps=500)


def t199(repaired: bool) -> Training:
    """Few examples for many layers, or for a small one with dropout."""
    x = torch.randn(600, 10, 4)
    y = x[:, :, :1].mean(1) * 10**0.5 + 1.5 * torch.randn(600, 1)
    drop = nn.Dropout(0.5 if repaired else 0.0)
    model = nn.Sequential(drop, Net("LSTM", 4, 4, 1) if repaired else Net("LSTM", 4, 64, 1, num_layers=3))
    return case(model, (x, y), MSE, 3e-3, steps=600)


def t200(repaired: bool) -> Training:
    """Pooling leaves too few frames for some labels under CTC."""

    def run(net, x):
        frames = F.max_pool1d(net.conv(x.transpose(1, 2)).relu(), 1 if repaired else 2)
        return net.net(frames.transpose(1, 2)).transpose(0, 1)

    net = Net("LSTM", 24, 32, 6, every=True, bidirectional=True)
    model = Own(run, conv=nn.Conv1d(6, 24, 3, padding=1), net=net)
    return case(model, spoken(1700), ctc, 5e-3, error=misread, steps=500)


def t201(repaired: bool) -> Training:
    """5 epochs of a tagger of names, or 30."""
    N, T, V, K = 720, 14, 80, 4
    x, kind = torch.randint(V, (N, T)), torch.randint(1, K, (V,)) * (torch.arange(V) > 66)
    y = kind[x] * (x.roll(1, 1) % 4 > 0)

    def missed(model, x, y):
        return (model(x).argmax(-1) != y)[y > 0].float().mean()

    model = reader("LSTM", V, 32, K, embedding=24, every=True, bidirectional=True)
    return case(model, (x, y), cross, 2e-3, error=missed, steps=10 * (30 if repaired else 5))


def t202(repaired: bool) -> Training:
    """The state of the frame before is taken without its gradient; sentiment of texts."""
    x, kind = torch.randint(30, (1600, 14)), torch.randn(30)
    y = (kind[x[:, :6]].sum(1) > 0).long()

    def run(net, x):
        h, c = torch.zeros(len(x), 32), torch.zeros(len(x), 32)
        for v in net.embed(x).unbind(1):
            h, c = net.cell(v, (h, c) if repaired else (h.data.clone(), c.data.clone()))
        return net.out(h)

    model = Own(run, embed=nn.Embedding(30, 16), cell=nn.LSTMCell(16, 32), out=nn.Linear(32, 2))
    return case(model, (x, y), CE, 5e-3, steps=500)


def t203(repaired: bool) -> Training:
    """The softmax of an attention runs over the examples of the batch and not over the frames."""
    N, T, V = 2400, 6, 10
    x, at = torch.randint(V, (N, T)), torch.randint(T, (N, 1))

    def run(net, x):
        states, query = net.gru(net.embed(x[:, :T]))[0], net.ask(x[:, T])
        weights = (states @ query[..., None]).softmax(1 if repaired else 0)
        return net.out(torch.cat([(weights * states).sum(1), query], 1))

    parts = {"embed": nn.Embedding(V, 24), "ask": nn.Embedding(T, 32), "gru": nn.GRU(24, 32, batch_first=True)}
    data = (torch.cat([x, at], 1), x.gather(1, at)[:, 0])
    return case(Own(run, **parts, out=nn.Linear(64, V)), data, CE, 5e-3, steps=700)


def t204(repaired: bool) -> Training:
    """The softmax of an attention runs over one entry, so that all weights are 1; the vector of a question's relation."""
    N, T, V, K = 1600, 40, 60, 12
    x, relation, table = K + zipf(V - K, N, T), torch.randint(K, (N,)), torch.randn(K, 8)
    x[torch.arange(N), torch.randint(T, (N,))] = relation

    def run(net, x):
        words = net.embed(x)
        states = net.lstm(words)[0]
        weights = net.attention(torch.cat([words, states], 2)).softmax(1 if repaired else 2)
        return net.out((weights * states).sum(1))

    lstm = nn.LSTM(16, 16, batch_first=True, bidirectional=True)
    model = Own(run, embed=nn.Embedding(V, 16), lstm=lstm, attention=nn.Linear(48, 1), out=nn.Linear(32, 8))
    return case(model, (x, table[relation]), MSE, 3e-3, steps=300)


def t205(repaired: bool) -> Training:
    """A gate is added to what it should multiply."""

    def step(i, f, g, c):
        return c + (i.sigmoid() * g.tanh() if repaired else i.sigmoid() + g.tanh())

    model = Own(lambda net, x: net.out(net.lstm(x)[:, -1]), lstm=cell(2, 24, step), out=nn.Linear(24, 1))
    return case(model, adding(2400, 30), MSE, 5e-3, steps=600)


def t206(repaired: bool) -> Training:
    """The forget gate is computed from the numbers of the input gate."""

    def step(i, f, g, c):
        return (f if repaired else i).sigmoid() * c + i.sigmoid() * g.tanh()

    model = Own(lambda net, x: net.out(net.lstm(x)[:, -1]), lstm=cell(2, 24, step), out=nn.Linear(24, 1))
    return case(model, adding(2400, 50), MSE, 5e-3, steps=600)


def t207(repaired: bool) -> Training:
    """Cells are kept in a list, so that the optimiser does not get them."""
    text = chain(1500, 10, 8)

    def run(net, x):
        states, outputs = [None, None], []
        for v in F.one_hot(x, 8).float().unbind(1):
            for k, part in enumerate(net.cells):
                states[k] = part(v, states[k])
                v = states[k][0]
            outputs.append(net.out(v))
        return torch.stack(outputs, 1)

    cells = [nn.LSTMCell(8, 32), nn.LSTMCell(32, 32)]
    model = Own(run, cells=nn.ModuleList(cells) if repaired else cells, out=nn.Linear(32, 8))
    return case(model, (text[:, :-1], text[:, 1:]), cross, 5e-3, steps=500)


def t208(repaired: bool) -> Training:
    """The LSTM computes with a copy of its weights that no step changes."""
    z = waves(1500, 20, noise=0.1) * (0.5 + torch.rand(1500, 1, 1))
    lstm = nn.LSTM(1, 16, batch_first=True)
    copy = {name: value.detach().clone() for name, value in lstm.named_parameters()}

    def run(net, x):
        states = net.lstm(x)[0] if repaired else torch.func.functional_call(net.lstm, copy, (x,))[0]
        return net.out(states[:, -1])

    return case(Own(run, lstm=lstm, out=nn.Linear(16, 1)), (z[:, :-1], z[:, -1]), MSE, 5e-3, steps=600)


def t209(repaired: bool) -> Training:
    """Gradients of a model of texts are clipped to a small norm."""
    text = chain(2000, 12, 10)
    data, how = (text[:, :-1], text[:, 1:]), {} if repaired else {"options": {"clip_norm": 0.01}}
    return case(letters(10, "LSTM", 48), data, cross, 2.0, "SGD", steps=900, **how)


def t210(repaired: bool) -> Training:
    """At each epoch the rate is multiplied by 5, the threshold of clipping, instead of 0.97."""
    text = chain(1680, 12, 10)

    training = case(letters(10, "GRU", 48), (text[:, :-1], text[:, 1:]), cross, 2e-3, steps=400)
    scheduler = torch.optim.lr_scheduler.StepLR(training.optimizer, 40, 0.97 if repaired else 5.0)
    training.options |= {"scheduler": scheduler, "clip_norm": 5.0}
    return training


def t211(repaired: bool) -> Training:
    """Adam with a weight decay of 0.01."""
    text = chain(2000, 12, 12)
    data, how = (text[:, :-1], text[:, 1:]), {"weight_decay": 0.0 if repaired else 1e-2}
    return case(letters(12, "LSTM", 48), data, cross, 5e-3, steps=700, how=how)


def t212(repaired: bool) -> Training:
    """The pictures of a drive are shuffled before they are cut into sequences."""
    turn = torch.randn(2008)
    seen = turn[7:, None] * torch.randn(1, 6) + 0.3 * torch.randn(2001, 6)
    angle = turn.unfold(0, 8, 1).sum(1, True) / 8**0.5

    def cut(rows):
        return seen[rows].unfold(0, 10, 1).transpose(1, 2), angle[rows][9:]

    shuffled = torch.arange(1600) if repaired else torch.randperm(1600)
    x, y = (torch.cat(parts) for parts in zip(cut(shuffled), cut(torch.arange(1600, 2001)), strict=True))
    return case(Net("LSTM", 6, 32, 1), (x, y), MSE, 5e-3, fresh=392, steps=500)


def t213(repaired: bool) -> Training:
    """Vectors of words that were learned elsewhere are not trained."""
    N, T, V, K = 1400, 10, 120, 5
    x, kind = zipf(V, N, T), torch.randint(K, (V,))
    vectors = nn.Embedding.from_pretrained(0.3 * torch.randn(V, 6), freeze=not repaired)
    return case(nn.Sequential(vectors, Net("RNN", 6, 24, K, every=True)), (x, kind[x]), cross, 5e-3, steps=400)


def t214(repaired: bool) -> Training:
    """A softmax after two outputs that are to run from 1 to 10."""
    t = torch.randint(20, (1500, 1)) + torch.arange(9)
    z = torch.stack([1.0 + t % 10, 10.0 - (t + 3) % 10], 2)
    model = nn.Sequential(Net("LSTM", 2, 48, 2), nn.Identity() if repaired else nn.Softmax(1))
    return case(model, (z[:, :-1], z[:, -1]), MSE, 5e-3, "RMSprop", steps=600)


def t215(repaired: bool) -> Training:
    """The loss is a sum over the letters of a long text, so that the gradient grows with its length."""
    text = chain(900, 61, 8)

    def summed(output, y):
        return cross(output, y) * (1 if repaired else y.shape[1])

    data, how = (text[:, :-1], text[:, 1:]), {"momentum": 0.9}
    return case(letters(8, "LSTM", 32), data, summed, 1.0, "SGD", steps=250, how=how)


def t216(repaired: bool) -> Training:
    """A large rate; speech by CTC."""
    return case(listener("LSTM"), spoken(1300), ctc, 5e-3 if repaired else 3.0, error=misread, steps=400)


def t217(repaired: bool) -> Training:
    """A small rate; speech by CTC."""
    return case(listener("GRU"), spoken(1300), ctc, 5e-3 if repaired else 5e-5, error=misread, steps=500)


def t218(repaired: bool) -> Training:
    """Few recordings, or many; speech by CTC."""
    x, y = spoken(3000, noise=0.6)
    rows = torch.arange(0 if repaired else 2560, 3000)
    return case(listener("GRU", 48), (x[rows], y[rows]), ctc, 5e-3, error=misread, steps=400)


def t219(repaired: bool) -> Training:
    """Prices that walk at random, or that swing; scaled to lie between 0 and 1."""
    z, pull = [torch.zeros(1), torch.zeros(1)], 0.8 if repaired else 0.0
    for _ in range(1500):
        z.append(z[-1] + pull * (z[-1] - z[-2]) - 0.2 * pull * z[-1] + torch.randn(1))
    z = torch.stack(z)
    x, y = windows((z - z.min()) / (z.max() - z.min()), 10)
    rows = torch.randperm(len(x))

    def beside(model, x, y):
        return F.mse_loss(model(x), y) / F.mse_loss(x[:, -1], y)

    return case(Net("LSTM", 1, 32, 1, num_layers=2), (x[rows], y[rows]), MSE, 3e-3, error=beside, steps=600)


def t220(repaired: bool) -> Training:
    """The last states (directions, batch, units) become (batch, both) by view; sentences are to be told again."""
    x = torch.randint(8, (2400, 3))

    def run(net, x):
        h = net.encoder(net.embed(x))[1]
        h = torch.cat([*h], 1) if repaired else h.view(len(x), -1)
        before = net.embed(F.pad(x[:, :-1], (1, 0), value=8))
        return net.out(net.decoder(before, net.start(net.code(h))[None])[0])

    encoder = nn.GRU(24, 48, batch_first=True, bidirectional=True)
    parts = {"embed": nn.Embedding(9, 24), "encoder": encoder, "code": nn.Linear(96, 16), "start": nn.Linear(16, 48)}
    model = Own(run, **parts, decoder=nn.GRU(24, 48, batch_first=True), out=nn.Linear(48, 8))
    return case(model, (x, x), cross, 5e-3, steps=700)


SET_ASIDE = threads(globals())
