"""Thirty trainings of public threads (even numbers of threads.csv), set aside: unread by those who write the check.

tNN(repaired) is thread NN's training as its owner wrote it, scaled down, or with its one repair; SET_ASIDE seeds it.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.threads import trainings
from benchmarks.threads.trainings import Net, Training, cross, minibatches, threads, windows, wrong, zipf

case = partial(trainings.case, fresh=256)


def surprise(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross entropy of every frame over that of the frequencies."""
    return cross(model(x), y) / torch.special.entr(torch.bincount(y.flatten()) / y.numel()).sum()


def step(training: Training, x: Tensor, y: Tensor, zero: bool = True) -> float:
    """One step of an owner's own loop."""
    training.optimizer.zero_grad() if zero else None
    loss = training.loss_fn(training.model(x), y)
    loss.backward()
    training.optimizer.step()
    return loss.item()


def chain(words: int, N: int, T: int, back: int = 1) -> tuple[Tensor, Tensor]:
    """Texts (N, T) and their next words: nine of ten stand in a table beside the word `back` places before."""
    table, text = torch.randperm(words), [zipf(words, N) for _ in range(back)]
    for _ in range(T):
        text.append(torch.where(torch.rand(N) < 0.9, table[text[-back]], zipf(words, N)))
    text = torch.stack(text[back - 1 :], 1)
    return text[:, :-1], text[:, 1:]


def mood(x: Tensor, words: int) -> Tensor:
    """y (N, 1): 1 where the weights of a text's words sum up to more than the median; id 0 weighs nothing."""
    total = F.pad(torch.randn(words - 1), (1, 0))[x].sum(1, keepdim=True)
    return (total > total.median()).float()


class Words(Net):
    """Net behind an embedding; read(states, last, ids) is what the linear output gets, else the last frame or every."""

    def __init__(self, words: int, kind: str, units: int, outputs: int, *, read=None, **options):
        super().__init__(kind, 16, units, outputs, **options)
        self.embed, self.read = nn.Embedding(words, 16), read

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.embed(x)
        return self.out(self.read(*self.rnn(embedded), x)) if self.read else super().forward(embedded)


class Loop(nn.Module):
    """A cell in a loop over the frames, which gets its state through `carry`, and a linear output of its last state."""

    def __init__(self, cell: nn.Module, outputs: int, carry):
        super().__init__()
        self.cell, self.carry, self.out = cell, carry, nn.Linear(cell.hidden_size, outputs)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for frame in x.unbind(1):
            state = self.cell(frame, self.carry(state))
        return self.out(state[0] if isinstance(state, tuple) else state)


def t02(repaired: bool) -> Training:
    """A sigmoid ends the network while the targets are sums in the thousands."""
    x = torch.randint(1, 1800, (616, 1, 5)).float()
    x, y = (x / 1800, x.sum(2) / 9000) if repaired else (x, x.sum(2))
    return case(nn.Sequential(Net("RNN", 5, 10, 1), nn.Sigmoid()), (x, y), nn.MSELoss(), 0.5, "SGD")


def t04(repaired: bool) -> Training:
    """A softmax ends a regression whose two targets run from 1 to 10."""
    t = torch.arange(800)
    x, y = windows(torch.stack([t % 10 + 1.0, (t + 4) % 10 + 1.0], 1), 10)
    net = Net("LSTM", 2, 32, 2)
    return case(
        net if repaired else nn.Sequential(net, nn.Softmax(-1)), (x, y), nn.MSELoss(), 1e-3, "RMSprop", steps=800
    )


def t06(repaired: bool) -> Training:
    """The video classifier ends in a softmax and the cross entropy takes logits."""
    y, scenes, way = torch.randint(36, (2500,)), torch.rand(36, 8, 8), torch.randint(-1, 2, (36, 2)).tolist()
    clips = [scenes[k].roll((t * way[k][0], t * way[k][1]), (0, 1)) for k in range(36) for t in range(8)]
    x = torch.stack(clips).view(36, 8, 1, 8, 8)[y] + 0.4 * torch.randn(2500, 8, 1, 8, 8)
    frame = [nn.Flatten(0, 1), nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 32), nn.ReLU()]
    parts = [*frame, nn.Unflatten(0, (-1, 8)), Net("LSTM", 32, 32, 36)]
    model = nn.Sequential(*parts) if repaired else nn.Sequential(*parts, nn.Softmax(-1))
    return case(model, (x, y), nn.CrossEntropyLoss(), 1e-3, steps=205)


def t08(repaired: bool) -> Training:
    """The sentiment model ends in a sigmoid and the loss takes logits."""
    x = zipf(50, 1500, 20)
    net = Words(50, "LSTM", 32, 1, num_layers=2, bidirectional=True, dropout=0.5)
    model = net if repaired else nn.Sequential(net, nn.Sigmoid())
    return case(model, (x, mood(x, 50)), nn.BCEWithLogitsLoss(), 3e-3, error=wrong, steps=400)


def t10(repaired: bool) -> Training:
    """The signal fades in a stack of eight LSTM layers of two units."""
    x = torch.randn(1000, 5, 2)
    return case(Net("LSTM", 2, 2, 1, num_layers=2 if repaired else 8), (x, x[..., :1].mean(1)), nn.MSELoss(), 1e-3)


def t12(repaired: bool) -> Training:
    """A ReLU behind the last layer starts negative for every peptide, so nothing gets a gradient."""
    torch.manual_seed(14)  # an unlucky start
    peptides = torch.randint(20, (1200, 10))
    y = 1 + torch.rand(20)[peptides].sum(1, keepdim=True) / 2
    net = Net("LSTM", 20, 32, 1)
    model = net if repaired else nn.Sequential(net, nn.ReLU())
    return case(model, (F.one_hot(peptides, 20).float(), y), nn.MSELoss(), 3e-3)


def t14(repaired: bool) -> Training:
    """The network is fed a raw series of thousands and has to forecast it raw."""
    t = torch.arange(1000.0)
    series = 3000 + 1500 * torch.sin(t * 2 * math.pi / 12) + 300 * torch.randn(1000)
    series = (series - series.mean()) / series.std() if repaired else series
    return case(Net("RNN", 1, 25, 1), windows(series[:, None], 16), nn.MSELoss(), 1e-3)


def t16(repaired: bool) -> Training:
    """Whole numbers in the thousands, of which only equality matters, go in as they are."""
    numbers, same = torch.randint(6, (1200, 20)), torch.rand(1200, 20) < 0.3
    for t in range(2, 20):
        numbers[:, t] = torch.where(same[:, t], numbers[:, t - 2], numbers[:, t])
    y = F.pad(numbers[:, 2:] == numbers[:, :-2], (2, 0)).float()[..., None]
    x = F.one_hot(numbers, 6).float() if repaired else 1500.0 * numbers[..., None]
    return case(
        Net("LSTM", x.shape[2], 32, 1, every=True), (x, y), nn.BCEWithLogitsLoss(), 1e-2, error=wrong, steps=800
    )


def t18(repaired: bool) -> Training:
    """The word ids of a sentence are the real features of one step and the targets of a regression."""
    text = zipf(300, 1500, 20)
    if repaired:
        return case(Words(300, "LSTM", 64, 300, every=True), (text, text), cross, 3e-3, "RMSprop")
    return case(Net("LSTM", 20, 64, 20), (text[:, None].float(), text.float()), nn.MSELoss(), 1e-3, "RMSprop")


def t20(repaired: bool) -> Training:
    """One value of a sine does not tell whether it rises or falls; the forecast fed back does not swing."""
    x, y = windows(torch.sin(torch.arange(1000.0) * 2 * math.pi / 25)[:, None], 25 if repaired else 1)

    def fed_back(model, x, y):
        window = x[:1]
        for _ in range(40):
            window = torch.cat([window, model(window[:, -x.shape[1] :])[:, None]], 1)
        return (window[0, -40:] - y[:40]).square().mean() / y[:40].var()

    return case(Net("LSTM", 1, 32, 1), (x, y), nn.MSELoss(), 3e-3, error=fed_back)


def t22(repaired: bool) -> Training:
    """A constant feature has standard deviation 0, so standardising makes it NaN."""
    x = 20 + 5 * torch.randn(1000, 15, 5)
    x[:, :, 3] = 7
    y = (x[:, :, 0].mean(1, keepdim=True) - x[:, :, 1].mean(1, keepdim=True)) / 2
    x = (x - x.mean((0, 1))) / (x.std((0, 1)) + 1e-6 * repaired)
    return case(Net("GRU", 5, 32, 1), (x, y), nn.MSELoss(), 3e-3)


def t24(repaired: bool) -> Training:
    """Nearly all labels are 1, and no month is likely enough to be a 0."""
    x = torch.randn(4000, 6, 8)
    y = (torch.rand(4000, 1) > torch.where(x[:, :, 0].mean(1, keepdim=True) > 0.52, 0.3, 0.004)).float()
    loss_fn = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(0.03) if repaired else None)
    net, balanced = (
        Net("LSTM", 8, 10, 1),
        lambda net, x, y: sum(((net(x) > 0) != y)[y == k].float().mean() for k in (0, 1)),
    )
    return case(net, (x, y), loss_fn, 3e-3, "RMSprop", error=balanced, fresh=2000, batch_size=12)


def t26(repaired: bool) -> Training:
    """A window shorter than the gap between pulses holds only zeros, before a pulse and elsewhere."""
    series = (torch.arange(1200) % 20 == 0).float()[:, None]
    return case(Net("LSTM", 1, 32, 1), windows(series, 25 if repaired else 5), nn.MSELoss(), 3e-3, steps=800)


def t28(repaired: bool) -> Training:
    """The state is read after a long run of zeros behind the text."""
    x = (1 + zipf(40, 1200, 60)).where(torch.arange(60) < torch.randint(4, 10, (1200, 1)), 0)
    masked = (lambda states, _, x: states[torch.arange(len(x)), (x > 0).sum(1) - 1]) if repaired else None
    model = Words(41, "GRU", 32, 1, read=masked)
    return case(model, (x, mood(x, 41)), nn.BCEWithLogitsLoss(), 3e-3, error=wrong, steps=300)


def t30(repaired: bool) -> Training:
    """Examples come in temporal order, so the weights chase the latest stretch."""
    level = torch.cat([torch.rand(2400).sort()[0], torch.rand(600)])[:, None]
    x = torch.cat([torch.randn(3000, 10, 1), level[:, None].expand(3000, 10, 1)], 2)
    y = 2 * torch.sin(7 * level) + x[:, -3:, 0].mean(1, keepdim=True)
    training = case(Net("LSTM", 2, 32, 1), (x, y), nn.MSELoss(), 1e-2, fresh=600, batch_size=4)
    training.x, training.y = DataLoader(TensorDataset(training.x, training.y), 4, shuffle=repaired), None
    return training


def t32(repaired: bool) -> Training:
    """The layers are made anew after the optimiser, which steps on the old ones."""
    words = ["(" * d + letter + ")" * d + "." for d in (1, 2, 3, 4) for letter in "ab"]
    texts = ["".join(words[i] for i in row)[:16] for row in torch.randint(8, (1200, 6))]
    ids = torch.tensor(["().ab".index(letter) for text in texts for letter in text.ljust(16, ".")]).view(-1, 16)
    model = Words(5, "GRU", 32, 5, every=True)
    training = case(model, (ids[:, :-1], ids[:, 1:]), cross, 3e-3)
    if not repaired:
        model.__init__(5, "GRU", 48, 5, every=True)
    return training


def t34(repaired: bool) -> Training:
    """Both states are detached at every step, so no gradient goes back to the cue."""
    x, y = 0.5 * torch.randn(1500, 15, 6), torch.randint(4, (1500,))
    x[:, 0, :4] += 2 * F.one_hot(y, 4)
    model = Loop(nn.LSTMCell(6, 32), 4, lambda state: state if repaired else state and tuple(h.detach() for h in state))
    return case(model, (x, y), nn.CrossEntropyLoss(), 3e-3, steps=800)


def t36(repaired: bool) -> Training:
    """The loop hands the start state to every step, so only the last frame is read."""
    x = torch.randn(1200, 10, 2)
    return case(
        Loop(nn.RNNCell(2, 32), 1, lambda h: h if repaired else None), (x, x[..., :1].mean(1)), nn.MSELoss(), 3e-3
    )


def t38(repaired: bool) -> Training:
    """Data (batch, time, feature) go to an LSTM that takes time first, so it runs along the batch."""
    values, marks = torch.rand(2000, 12), torch.zeros(2000, 12)
    marks.scatter_(1, torch.rand(2000, 12).topk(2)[1], 1.0)
    model = Net("LSTM", 2, 32, 1)
    model.rnn.batch_first = repaired
    return case(model, (torch.stack([values, marks], 2), (values * marks).sum(1, True)), nn.MSELoss(), 5e-3, steps=800)


def t40(repaired: bool) -> Training:
    """The last states (directions, batch, units) are viewed as (batch, rest), which mixes sentences."""
    x = zipf(40, 1500, 10)
    y = F.one_hot(torch.randint(6, (40,)), 6)[x].float().add(0.2 * torch.rand(6)).sum(1).argmax(1)
    joined = (lambda _, h, x: h.transpose(0, 1).flatten(1)) if repaired else (lambda _, h, x: h.view(len(x), -1))
    return case(Words(40, "GRU", 32, 6, bidirectional=True, read=joined), (x, y), nn.CrossEntropyLoss(), 3e-3)


def t42(repaired: bool) -> Training:
    """The target is the next input, which the backward direction has read already, all but the last."""
    series = [0.1, 0.1]
    for _ in range(3000):
        series.append(1 - 1.4 * series[-1] ** 2 + 0.3 * series[-2])
    x = torch.tensor(series)[:, None].unfold(0, 60, 1).transpose(1, 2)
    net = Net("LSTM", 1, 32, 1, every=True, bidirectional=not repaired)
    x, y, last = x[:, :-1], x[:, 1:], lambda model, x, y: (model(x) - y)[:, -1].square().mean() / y[:, -1].var()
    return case(net, (x, y), nn.MSELoss(), 3e-3, error=last, steps=150)


def t44(repaired: bool) -> Training:
    """The outputs of all ten positions are compared with the one value after the window."""
    series = torch.full((1500, 1), 0.3)
    for t in range(1, 1500):
        series[t] = 3.9 * series[t - 1] * (1 - series[t - 1])
    x, y = windows(series, 10)

    def loss_fn(output, y):
        return F.mse_loss(output[:, -1:] if repaired else output, y)

    net = Net("GRU", 1, 32, 1, every=True)
    return case(net, (x, y[:, None]), loss_fn, 1e-2, error=lambda model, x, y: loss_fn(model(x), y) / y.var())


def t46(repaired: bool) -> Training:
    """Adam steps with rate 1."""
    model, rate = Words(40, "LSTM", 64, 40, every=True), 3e-3 if repaired else 1.0
    return case(model, chain(40, 1000, 20, 2), cross, rate, error=surprise)


def t48(repaired: bool) -> Training:
    """RMSprop steps with rate 1."""
    y = torch.randint(8, (1000, 6)).repeat_interleave(3, 1)
    x = torch.randn(8, 12)[y] + 2 * torch.randn(1000, 18, 12)

    class Lines(Net):
        def forward(self, x):
            return super().forward(F.relu(self.columns(x.transpose(1, 2))).transpose(1, 2))

    model = Lines("LSTM", 16, 32, 8, every=True, bidirectional=True)
    model.columns = nn.Conv1d(12, 16, 3, padding=1)
    return case(model, (x, y), cross, 1e-3 if repaired else 1.0, "RMSprop", error=surprise, steps=400)


def t50(repaired: bool) -> Training:
    """The loop halves the rate and ends at the first epoch without progress."""
    x = zipf(30, 2000, 12)
    y = torch.randint(5, (30,))[F.pad(x[:, :-1], (1, 0))]

    def loop(training):
        torch.manual_seed(0)
        losses, best, failures = [], math.inf, 0
        while failures < (8 if repaired else 1) and len(losses) < 800:
            losses += [step(training, x[rows], y[rows]) for rows in torch.randint(1700, (5, 8))]
            failures = failures + 1 if sum(losses[-5:]) >= best else 0
            best = min(best, sum(losses[-5:]))
            training.optimizer.param_groups[0]["lr"] *= (0.9 if repaired else 0.5) if failures else 1.0
        return losses

    return case(Words(30, "LSTM", 32, 5, every=True), (x, y), cross, 1.0, "SGD", fit=loop, batch_size=8)


def t52(repaired: bool) -> Training:
    """ReLU states grow along a long sequence."""
    x = torch.randn(800, 60, 8)
    y = (x + F.pad(x[:, :-1], (0, 0, 1, 0)))[..., :4].argmax(2)
    model = Net("RNN", 8, 64, 4, every=True, nonlinearity="tanh" if repaired else "relu")
    nn.init.orthogonal_(model.rnn.weight_hh_l0, 2)
    return case(model, (x, y), cross, 3e-3, steps=400)


def t54(repaired: bool) -> Training:
    """Labels of price windows follow no rule that carries over: the next step of a random walk."""
    moves = torch.randn(700, 61)
    for t in range(1, 61):
        moves[:, t] += (0.9 if repaired else 0.0) * moves[:, t - 1]
    x = 4000 + 20 * moves[:, :-1, None].cumsum(1)
    x, y = (x - x.mean(1, True)) / x.std(1, keepdim=True), (moves[:, -1:] > 0).float()
    return case(Net("LSTM", 1, 64, 1), (x, y), nn.BCEWithLogitsLoss(), 3e-3, error=wrong, steps=500)


def t56(repaired: bool) -> Training:
    """Power drawn, almost a random walk: nothing beats repeating the last value."""
    series = torch.zeros(2000, 1)
    for t in range(1, 2000):
        series[t] = 0.98 * series[t - 1] + 0.1 * torch.randn(1) + (torch.rand(1) < 0.02) * torch.randn(1)
    if repaired:
        series += 1.5 * torch.sin(torch.arange(2000.0) * 2 * math.pi / 10)[:, None]
    net, beside_copy = Net("LSTM", 1, 32, 1), lambda net, x, y: F.mse_loss(net(x), y) / F.mse_loss(x[:, -1], y)
    return case(net, windows(series, 30), nn.MSELoss(), 3e-3, error=beside_copy)


def t58(repaired: bool) -> Training:
    """Ten stacked LSTM layers stay long at the frequencies of the letters."""
    model = Words(20, "LSTM", 16, 20, every=True, num_layers=1 if repaired else 10)
    return case(model, chain(20, 1000, 20), cross, 2e-3, error=surprise, steps=230)


def t60(repaired: bool) -> Training:
    """The loop never sets the gradients to zero."""
    x = torch.randn(1000, 40, 1)
    energy = F.pad(x.square(), (0, 0, 7, 0)).unfold(1, 8, 1).mean(3)
    y = (energy > energy[:, 7:].median()).float()

    def loop(training):
        torch.manual_seed(0)
        epochs = (minibatches(training.x, training.y, 32) for _ in range(25))
        return [step(training, *batch, zero=repaired) for epoch in epochs for batch in epoch]

    return case(Net("LSTM", 1, 32, 1, every=True), (x, y), nn.BCEWithLogitsLoss(), 3e-2, fit=loop, error=wrong)


SET_ASIDE = threads(globals())
