"""Thirty trainings of public threads (numbers from 61 on), set aside: unseen by those who wrote the causes, and run once.

tNN(repaired) is thread NN of threads.csv as its owner wrote it, scaled down, or with its one repair; SET_ASIDE seeds it.

Legend: N examples, T frames, K outputs or classes, V words.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.threads.development_parts import Cells
from benchmarks.threads.trainings import Net, Training, minibatches, threads

MSE, CE = nn.MSELoss(), nn.CrossEntropyLoss()


class Kept(nn.Module):
    """Parts as their owner keeps them, in a list for example, and the forward function of all."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.own = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.own(self, x)


def case(model, x, y, loss_fn, rate=3e-3, kind="Adam", *, fresh=300, error=None, how=None, **rest) -> Training:
    """The last `fresh` examples are the test, of which error(model, x, y) is what the owner complains about."""
    optimizer = getattr(torch.optim, kind)(model.parameters(), rate, **how or {})
    test = (x[-fresh:], y[-fresh:])
    own = error and (lambda model: torch.as_tensor(error(model, *test)).nan_to_num(math.inf).item())
    return Training(model, x[:-fresh], y[:-fresh], loss_fn, optimizer, test, error=own, **rest)


def reader(kind: str, V: int, units: int, K: int, **options) -> nn.Sequential:
    """A network that reads words."""
    return nn.Sequential(nn.Embedding(V, 16), Net(kind, 16, units, K, **options))


def cross(output: Tensor, y: Tensor, **options) -> Tensor:
    """Cross entropy of outputs (..., K)."""
    return F.cross_entropy(output.flatten(0, -2), y.flatten(), **options)


def surprise(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Cross entropy over that of the frequencies."""
    return cross(model(x), y) / torch.special.entr(torch.bincount(y.flatten()) / y.numel()).sum()


def balanced(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Sum of both classes' shares of wrong answers, 1 for a constant; one output means yes above 0."""
    output = model(x)
    guess = (output > 0).reshape(y.shape) if output.shape[-1] == 1 else output.argmax(-1)
    return sum((guess != y)[y == k].float().mean() for k in (0, 1))


def beside_copy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Squared error over that of the last frame as the forecast."""
    return F.mse_loss(model(x), y) / F.mse_loss(x[:, -1], y)


def windows(series: Tensor, T: int, ahead: int = 1) -> tuple[Tensor, Tensor]:
    """x (N, T, m) and the value y (N, m) that comes `ahead` frames after each, in random order."""
    cut = series.unfold(0, T + ahead, 1).transpose(1, 2)[torch.randperm(len(series) - T - ahead + 1)]
    return cut[:, :T].contiguous(), cut[:, -1].contiguous()


def walk(L: int, momentum: float = 0.0, pull: float = 0.0) -> Tensor:
    """A series (L, 1) whose moves follow from the moves before by `momentum`; it is pulled to 0."""
    moves, series = torch.randn(L, 1), torch.zeros(L, 1)
    for t in range(1, L):
        moves[t] += momentum * moves[t - 1]
        series[t] = (1 - pull) * series[t - 1] + moves[t]
    return series


def opinions(N: int, T: int, V: int = 40) -> tuple[Tensor, Tensor]:
    """Texts (N, T) and whether their words' weights sum up to more than the median (N,)."""
    x = torch.randint(1, V, (N, T))
    return x, ((total := torch.randn(V)[x].sum(1)) > total.median()).long()


def repeats(N: int, T: int, V: int, back: int) -> tuple[Tensor, Tensor]:
    """Texts (N, T) and their next words: nine of ten follow by a table from the word `back` places before."""
    text, table = torch.randint(V, (N, T + 1)), torch.randperm(V)
    for t in range(back, T + 1):
        text[:, t] = torch.where(torch.rand(N) < 0.9, table[text[:, t - back]], text[:, t])
    return text[:, :-1], text[:, 1:]


def t61(repaired: bool) -> Training:
    """The dense layers of a forecast stand in a plain list."""
    z = torch.sin((0.2 + 0.6 * torch.rand(1500, 1)) * torch.arange(64) + 6.3 * torch.rand(1500, 1))
    dense = [nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 40)]

    def forward(net, x):
        h = net.lstm(x)[0][:, -1]
        for layer in net.dense:
            h = layer(h)
        return h

    model = Kept(forward, lstm=nn.LSTM(1, 24, batch_first=True), dense=nn.ModuleList(dense) if repaired else dense)
    return case(model, z[:, :24, None], z[:, 24:], MSE, 3e-3, steps=800)


def t62(repaired: bool) -> Training:
    """The LSTM cells of a learned optimiser stand in a plain list."""
    g = torch.randn(1500, 20, 1) * 10 ** (2 * torch.rand(1500, 1, 1) - 1)
    mean = F.pad(g, (0, 0, 9, 0)).unfold(1, 4, 1)[:, :20].mean(3)
    size = torch.stack([g[:, : t + 1].square().mean(1).sqrt() for t in range(20)], 1)

    def forward(net, x):
        states, outputs = [None, None], []
        for frame in net.enter(x).unbind(1):
            for i, cell in enumerate(net.cells):
                states[i] = cell(frame, states[i])
                frame = states[i][0]
            outputs.append(net.leave(frame))
        return torch.stack(outputs, 1)

    cells = (nn.ModuleList if repaired else list)(nn.LSTMCell(10, 10) for _ in range(2))
    model = Kept(forward, enter=nn.Linear(1, 10), cells=cells, leave=nn.Linear(10, 1))
    return case(model, g, 2 * mean / size, MSE, 1e-2, steps=400)


def t64(repaired: bool) -> Training:
    """The state of a session is detached after each click."""
    x, y = repeats(1500, 15, 25, 4)

    def forward(net, x):
        h, states = None, []
        for item in net.items(x).unbind(1):
            h = net.cell(item, h if repaired or h is None else h.detach())
            states.append(h)
        return net.out(torch.stack(states, 1))

    model = Kept(forward, items=nn.Embedding(25, 16), cell=nn.GRUCell(16, 48), out=nn.Linear(48, 25))
    return case(model, x, y, cross, 5e-3, error=surprise, steps=700)


def t65(repaired: bool) -> Training:
    """The decoder reads its sentence in both directions; it begins with 1 and ends with zeros."""
    a, b = torch.randint(12, (2, 1500))
    first, second, third = torch.randint(12, (3, 12, 12))
    words = [a, first[0, a], second[0, a], b, first[a, b], second[a, b], third[a, b]]
    text = F.pad(F.pad(torch.stack(words, 1) + 2, (1, 0), value=1), (0, 3))
    model = reader("GRU", 14, 48, 14, every=True, bidirectional=not repaired)

    def written(model, x, y):
        begun = torch.stack([model(x[:, :t])[:, -1] for t in range(1, 8)], 1)
        return surprise(lambda _: begun, x, y[:, :7])

    return case(model, text[:, :-1], text[:, 1:], cross, 5e-3, error=written, steps=800)


def t66(repaired: bool) -> Training:
    """Outputs (N, 1) of a continued sequence of numbers are compared with targets (N,)."""
    z = torch.rand(1200, 1) + (0.2 * torch.rand(1200, 1) - 0.1) * torch.arange(11)

    def off(model, x, y):
        return (model(x)[:, 0] - y).square().mean() / y.var()

    loss_fn = (lambda output, y: F.mse_loss(output, y[:, None])) if repaired else F.mse_loss
    return case(Net("LSTM", 1, 20, 1), z[:, :10, None], z[:, 10], loss_fn, 1e-2, error=off, batch_size=10)


def t67(repaired: bool) -> Training:
    """Windows (N, T) are viewed as (T, N, 1), not transposed."""
    z = [torch.randn(1500), torch.randn(1500)]
    for _ in range(40):
        z.append(1.5 * z[-1] - 0.9 * z[-2] + 0.3 * torch.randn(1500))
    z = torch.stack(z[-21:], 1)

    def forward(net, x):
        frames = x.t()[..., None] if repaired else x.view(x.shape[1], -1, 1)
        return net.linear(net.lstm(frames)[0][-1])

    model = Kept(forward, lstm=nn.LSTM(1, 32), linear=nn.Linear(32, 1))
    return case(model, z[:, :-1].contiguous(), z[:, -1:], MSE, 1e-2)


def t68(repaired: bool) -> Training:
    """Images (N, rows, columns) go to an LSTM that takes time first; the lowest rows are blank."""
    y, digits = torch.randint(10, (2000,)), F.pad((torch.rand(10, 11, 14) < 0.3).float(), (0, 0, 0, 3))
    model = Net("LSTM", 14, 32, 10, num_layers=2)
    model.rnn.batch_first = repaired
    return case(model, digits[y] + 0.1 * torch.randn(2000, 14, 14), y, CE, 1e-2, batch_size=100, steps=300)


def t69(repaired: bool) -> Training:
    """An hourly price walks at random, or swings by day besides; the forecast is of six hours later."""
    series = walk(2000) + (5 * torch.sin(torch.arange(2000.0) * math.pi / 12)[:, None] if repaired else 0)
    x, y = windows((series - series.mean()) / series.std(), 24, 6)
    return case(Net("LSTM", 1, 22, 1), x, y, nn.L1Loss(), 5e-3, error=beside_copy, steps=800)


def t70(repaired: bool) -> Training:
    """The next close of a stock whose moves are independent, or go on."""
    series = walk(1800, 0.9 if repaired else 0.0, 0.02)
    data = windows((series - series.mean()) / series.std(), 10)
    return case(Net("LSTM", 1, 32, 1, num_layers=2), *data, MSE, 5e-3, error=beside_copy, steps=1200)


def t71(repaired: bool) -> Training:
    """A softmax ends the model of a guitar's echo, whose two samples go from -27 to 27."""
    x = torch.randn(2000, 16, 2) * (0.3 + 4 * torch.rand(2000, 1, 1) ** 2)
    model = nn.Sequential(Net("LSTM", 2, 48, 2), nn.Identity() if repaired else nn.Softmax(-1))
    return case(model, x, x[:, -1] + 0.7 * x[:, -4], MSE, 1e-2, steps=800)


def t73(repaired: bool) -> Training:
    """ReLU is the activation of the LSTM in a classifier of long series."""
    y, phase = torch.randint(3, (900,)), 6.3 * torch.rand(900, 1, 3)
    x = 2 * ((0.2 + 0.2 * y)[:, None, None] * torch.arange(120)[:, None] + phase).sin() + torch.randn(900, 120, 3)
    cells = Cells(16, 32, torch.tanh if repaired else torch.relu)

    def forward(net, x):
        return net.out(net.cells(F.relu(net.conv(x.transpose(1, 2))).transpose(1, 2))[:, -1])

    model = Kept(forward, conv=nn.Conv1d(3, 16, 5, stride=2), cells=cells, out=nn.Linear(32, 3))
    return case(model, x, y, CE, 1e-2, steps=250)


def t74(repaired: bool) -> Training:
    """A softmax ends the network that calls bases from the reads above them."""
    y, level = torch.randint(5, (1500, 20)), 0.5 * torch.rand(1500, 20, 1)
    reads = F.one_hot(y, 5) * (1 - level) + level * torch.rand(1500, 20, 5)
    x = torch.cat([reads.roll(1, 1), torch.randn(1500, 20, 5)], 2)
    net = Net("GRU", 10, 32, 5, every=True, bidirectional=True)
    model = nn.Sequential(net, nn.Identity() if repaired else nn.Softmax(2))
    return case(model, x, y, cross, 1e-3, error=surprise, steps=250)


def t76(repaired: bool) -> Training:
    """A rare emotion is never predicted; weights of the classes help."""
    x = torch.randn(4000, 12, 6)
    y = (torch.rand(4000) < torch.where(x[:, 4:, 0].mean(1) > 0.5, 0.35, 0.004)).long()
    loss_fn = nn.CrossEntropyLoss(torch.tensor([0.05, 0.95]) if repaired else None)
    return case(Net("GRU", 6, 24, 2), x, y, loss_fn, 2e-3, error=balanced, fresh=2000, steps=500)


def t77(repaired: bool) -> Training:
    """Tags of the padding before a sentence count in the loss as a class of their own."""
    x = torch.randint(1, 80, (1500, 70)).where(torch.arange(70) > torch.randint(62, 67, (1500, 1)), 0)
    y = (1 + torch.randint(8, (80,)))[x].where(x > 0, 0)
    model = reader("LSTM", 80, 32, 9, every=True, bidirectional=True)

    def of_words(model, x, y):
        return (model(x).argmax(2) != y)[y > 0].float().mean() / (y[y > 0] != y[y > 0].mode()[0]).float().mean()

    return case(model, x, y, partial(cross, ignore_index=0) if repaired else cross, 2e-3, error=of_words, steps=90)


def t78(repaired: bool) -> Training:
    """The class of a question is read after a long run of zeros."""
    x = torch.randint(1, 60, (1500, 60)).where(torch.arange(60) < torch.randint(4, 10, (1500, 1)), 0)
    y = torch.randint(6, (60,))[x[:, 1]]

    def forward(net, x):
        states = net.lstm(net.words(x))[0]
        return net.out(states[torch.arange(len(x)), (x > 0).sum(1) - 1] if repaired else states[:, -1])

    model = Kept(forward, words=nn.Embedding(60, 16), lstm=nn.LSTM(16, 32, batch_first=True), out=nn.Linear(32, 6))
    return case(model, x, y, CE, 5e-3, steps=600)


def t79(repaired: bool) -> Training:
    """Prices in hundreds and volumes in millions enter raw, and the next price leaves."""
    close = 800 + 12 * walk(1200, pull=0.03)
    series = torch.cat([close + 4 * torch.randn(1200, 3), 1e6 * (1 + torch.rand(1200, 1)), close], 1)
    low, high = series.min(0)[0], series.max(0)[0]
    x, y = windows((series - low) / (high - low) if repaired else series, 7)
    return case(Net("LSTM", 5, 10, 1), x, y[:, -1:], MSE, 1e-2, steps=500)


def t80(repaired: bool) -> Training:
    """A series and its next value in the hundreds are fed unscaled."""
    t = torch.arange(1500.0)
    series = 400 + 130 * torch.sin(t / 5) + 60 * torch.sin(t / 3.1) + 5 * torch.randn(1500)
    series = (series - series.mean()) / series.std() if repaired else series
    return case(Net("LSTM", 1, 64, 1), *windows(series[:, None], 30), MSE, 1e-3, batch_size=64, steps=500)


def t81(repaired: bool) -> Training:
    """A moving average of three numbers is to be learned from one number."""
    z = torch.randint(10, (1300, 3, 1)).float()
    return case(Net("LSTM", 1, 8, 1), z if repaired else z[:, -1:], z.mean(1), MSE, 1e-2, steps=1000)


def t82(repaired: bool) -> Training:
    """All positive reviews stand before the negative ones, and the pool of shuffling is too small."""
    training = case(reader("LSTM", 40, 32, 2), *opinions(1900, 20), CE, 1e-2)
    rows = training.y.argsort(descending=True, stable=True)
    training.x = DataLoader(TensorDataset(training.x[rows], training.y[rows]), 32, repaired, drop_last=True)
    training.y, training.steps = None, 300
    return training


def t83(repaired: bool) -> Training:
    """The rate is too large for a deep classifier of reviews."""
    model = reader("LSTM", 40, 48, 2, num_layers=3)
    return case(model, *opinions(1800, 25), CE, 3e-3 if repaired else 6e-2, how={"betas": (0.7, 0.99)}, steps=400)


def t84(repaired: bool) -> Training:
    """SGD steps with rate 20 on the gradient of a plain RNN, clipped at 0.25."""
    data, rate, options = repeats(1500, 30, 30, 2), 2.0 if repaired else 20.0, {"clip_norm": 0.25}
    model = reader("RNN", 30, 64, 30, every=True, num_layers=2, nonlinearity="relu")
    return case(model, *data, cross, rate, "SGD", error=surprise, options=options, batch_size=20, steps=600)


def t85(repaired: bool) -> Training:
    """.item() takes the log-probability of each next letter off the graph."""
    x, y = repeats(1200, 20, 20, 1)

    def loss_fn(output, y):
        loss, gain = torch.zeros((), requires_grad=True), output.log_softmax(2).gather(2, y[..., None]).mean()
        return loss - (gain if repaired else gain.item())

    return case(reader("GRU", 20, 32, 20, every=True), x, y, loss_fn, 5e-3, error=surprise, steps=400)


def t86(repaired: bool) -> Training:
    """Nine of ten outputs of the LSTM are dropped, instead of one."""
    x = torch.randn(1500, 15, 4)
    y = x[:, :, :3].cumsum(1).abs().amax(1).argmax(1)
    drop = nn.Dropout(0.1 if repaired else 0.9)
    model = nn.Sequential(nn.Linear(4, 24), drop, Net("LSTM", 24, 24, 24), drop, nn.Linear(24, 3))
    return case(model, x, y, CE, 5e-3, steps=700)


def t87(repaired: bool) -> Training:
    """A penalty on the weights is so strong that rare events are not learned any more."""
    x = torch.randn(1200, 30, 3)
    y = (F.pad(x[..., :1], (0, 0, 3, 0)).unfold(1, 4, 1).mean(3) > 0.75).float()
    model, loss_fn = Net("GRU", 3, 32, 1, every=True), nn.BCEWithLogitsLoss(pos_weight=torch.tensor(5.0))
    return case(model, x, y, loss_fn, 5e-3, error=balanced, how={"weight_decay": 0.3 * (not repaired)}, steps=300)


def t88(repaired: bool) -> Training:
    """The likelihood of a time to an event takes the logarithm of 0."""
    x = torch.randn(1500, 15, 3)
    time_left = ((7 + 3 * x[:, :, 0].mean(1, True)).exp() * (-torch.rand(1500, 1).log()) ** 0.2).floor()

    def loss_fn(output, y):
        a, b = (output[:, :1] + 7).exp(), F.softplus(output[:, 1:] - 9)
        early, late = ((y + 1e-9) / a) ** b, ((y + 1) / a) ** b
        return (late - torch.log((late - early).exp() - 1 + (1e-6 if repaired else 0.0))).mean()

    def off(model, x, y):
        return (model(x)[:, :1] + 7 - (y + 1).log()).square().mean() / (y + 1).log().var()

    return case(Net("GRU", 3, 24, 2), x, time_left, loss_fn, 5e-3, error=off, steps=500)


def t89(repaired: bool) -> Training:
    """A model of a thrown object is trained for a few epochs only."""
    t, speed, start = torch.arange(21) * 0.1, 5 + 5 * torch.rand(1000, 1), 2 * torch.rand(1000, 1)
    z = torch.stack([start + speed * t - 4.9 * t**2, speed - 9.8 * t], 2)
    z = (z - z.mean((0, 1))) / z.std((0, 1))
    return case(Net("LSTM", 2, 16, 2), z[:, :-1], z[:, -1], MSE, 1e-3, steps=1000 if repaired else 44)


def t90(repaired: bool) -> Training:
    """A window shorter than the time between two jumps; the forecast follows each jump."""
    level = (torch.arange(1500) // 20 % 2).float()[:, None]
    x, y = windows(level + 0.02 * torch.randn(1500, 1), 24 if repaired else 10)
    return case(Net("LSTM", 1, 32, 1), x, y, MSE, 5e-3, error=beside_copy, batch_size=64, steps=1200)


def t91(repaired: bool) -> Training:
    """The gradients are set to zero between backward and step."""
    y = torch.randint(7, (1200, 6)).repeat_interleave(4, 1)
    x = torch.randn(7, 12)[y] + torch.randn(1200, 24, 12)

    def loop(training):
        torch.manual_seed(0)
        losses, optimizer = [], training.optimizer
        for x, y in (batch for _ in range(12) for batch in minibatches(training.x, training.y, 32)):
            optimizer.zero_grad() if repaired else None
            loss = training.loss_fn(training.model(x), y)
            loss.backward()
            optimizer.zero_grad() if not repaired else None
            optimizer.step()
            losses.append(loss.item())
        return losses

    return case(Net("GRU", 12, 32, 7, every=True), x, y, cross, 3e-3, fit=loop)


def t92(repaired: bool) -> Training:
    """Numbers 0, 1, 2 of three labels are the targets of one sigmoid unit."""
    words, worth = torch.randint(50, (1800, 15)), torch.randn(50, 3)
    x, y = torch.randn(50, 20)[words], worth[words].sum(1).argmax(1, keepdim=True).float()

    def mistaken(model, x, y):
        guess, y = model(x).argmax(1) if repaired else model(x)[:, 0].sigmoid().round(), y[:, 0]
        return (guess != y).float().mean() / (y != y.mode()[0]).float().mean()

    loss_fn = (lambda output, y: CE(output, y[:, 0].long())) if repaired else nn.BCEWithLogitsLoss()
    return case(Net("LSTM", 20, 32, 3 if repaired else 1), x, y, loss_fn, 3e-3, error=mistaken)


def t93(repaired: bool) -> Training:
    """A large LSTM learns a few windows by heart, or as many as it needs."""
    x = torch.randn(3000 if repaired else 420, 20, 10)
    y = ((x[..., 0] * x[..., 1]).mean(1) > 0).long()
    return case(Net("LSTM", 10, 64, 2, bidirectional=True), x, y, CE, 3e-3, steps=600)


SET_ASIDE = threads(globals())
