"""The threads with odd numbers in threads.csv."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from evaluation.networks import Loop, Net, Own, cross, gru, lstm, reader
from evaluation.tasks import BITS, MSE
from evaluation.threads.trainings import (
    Training,
    case,
    minibatches,
    share,
    squared,
    threads,
    windows,
    wrong,
    wrong_half,
    zipf,
)


class Cells(nn.LSTMCell):
    """A loop over an LSTM cell with another activation, initialised as in Keras: states (N, T,
    units).
    """

    def __init__(self, inputs: int, units: int, activation: Callable[[Tensor], Tensor]):
        super().__init__(inputs, units)
        self.activation = activation
        for weight in self.weight_hh.data.chunk(4):
            nn.init.orthogonal_(weight)
        nn.init.zeros_(self.bias_hh)
        self.bias_ih.data = F.pad(torch.ones(units), (units, 2 * units))

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), self.hidden_size)
        states = []
        for frame in x.unbind(1):
            gates = F.linear(frame, self.weight_ih, self.bias_ih) + F.linear(
                h, self.weight_hh, self.bias_hh
            )
            i, f, g, o = gates.chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * self.activation(g)
            h = o.sigmoid() * self.activation(c)
            states.append(h)
        return torch.stack(states, 1)


def chain(N: int, T: int, V: int, back: int) -> Tensor:
    """Texts (N, T) whose words follow, nine in ten, from the word `back` places before."""
    text, table = zipf(V, N, T), torch.randperm(V)
    for t in range(back, T):
        text[:, t] = torch.where(torch.rand(N) < 0.9, table[text[:, t - back]], text[:, t])
    return text


def opinions(N: int, T: int, shortest: int | None = None) -> tuple[Tensor, Tensor]:
    """Texts (N, T), shorter ones after zeros, and whether their sum of weights is above the median
    (N,).
    """
    text, weights = torch.randint(1, 50, (N, T)), torch.randn(50)
    if shortest is not None:
        text[torch.arange(T) < torch.randint(T - shortest + 1, (N, 1))] = 0
    value = weights[text].where(text > 0, 0).sum(1)
    return text, (value > value.median()).long()


def t01(repaired: bool) -> Training:
    """The hidden state of an LSTM itself is the prediction: it stays in (-1, 1), the targets do
    not.
    """
    x = torch.randn(1400, 6, 10)
    model = Net("LSTM", 10, 32, 1)
    if not repaired:
        model.out = Own(lambda net, h: h[:, :1])
    return case(model, (x, 2 + 3 * x[:, -3:, 0].sum(1, True)), MSE, 0.02, "SGD", steps=800)


def t03(repaired: bool) -> Training:
    """A siamese score exp(-distance) lies in (0, 1), the labels run from 1 to 5."""

    def forward(net: Own, x: Tensor) -> Tensor:
        a, b = (net.lstm(net.embedding(x[:, i]))[1][0][-1] for i in (0, 1))
        return torch.exp(-(a - b).abs().sum(1, keepdim=True))

    (a, b), same = torch.randint(30, (2, 2400, 8)), torch.rand(2400, 8) < torch.rand(2400, 1)
    x, alike = torch.stack([a, torch.where(same, a, b)], 1), same.float().mean(1, True)
    model = Own(forward, embedding=nn.Embedding(30, 16), lstm=lstm(16, 32))
    return case(model, (x, alike if repaired else 1 + 4 * alike), MSE, 1.0, "Adadelta")


def t05(repaired: bool) -> Training:
    """Softmax, and that over time, stands before the cross entropy of a tagger; judged by this
    loss.
    """
    x, kind = zipf(40, 1400, 12), torch.randint(16, (40,))
    y = (kind[x] + (kind[x.roll(1, 1)] > 8)) % 16
    base = torch.distributions.Categorical(y.flatten().bincount().float()).entropy().item()
    model = reader("LSTM", 40, 32, 16, every=True, bidirectional=True)
    if not repaired:
        model.append(nn.Softmax(1))

    def relative(model: nn.Module, x: Tensor, y: Tensor) -> float:
        return cross(model(x), y).item() / base

    return case(model, (x, y), cross, 1e-3, "RMSprop", error=relative)


def t07(repaired: bool) -> Training:
    """A sigmoid ends the model and the loss takes logits: no probability falls below a half."""
    speaker = torch.randint(4, (1200, 15))
    voice = torch.randn(4, 8)[speaker] + 0.3 * torch.randn(1200, 15, 8)
    x, y = torch.cat([voice, voice[:, :1].expand(-1, 15, -1)], 2), speaker == speaker[:, :1]
    net = Net("LSTM", 16, 32, 32, every=True, num_layers=2, bidirectional=True)
    model = nn.Sequential(net, nn.ReLU(), nn.Linear(32, 1), *[nn.Sigmoid()] * (not repaired))
    return case(model, (x, y.unsqueeze(2).float()), BITS, error=wrong, steps=300)


def t09(repaired: bool) -> Training:
    """Softmax over a single unit is 1 whatever comes in."""
    bits, flips = torch.randint(2, (3000,)).float(), torch.rand(3000) < 0.05
    for t in range(2, 3000):
        bits[t] = bits[t - 2] if flips[t] else 1 - bits[t - 2]
    model = nn.Sequential(Net("LSTM", 1, 4, 1), nn.Sigmoid() if repaired else nn.Softmax(1))
    data, loss, how = windows(bits[:, None], 3), nn.BCELoss(), {"steps": 800, "batch_size": 256}
    return case(model, data, loss, 0.05, "Adagrad", error=wrong_half, **how)


def t11(repaired: bool) -> Training:
    """LSTM cells with ReLU and a ReLU at the end under SGD with momentum 0.99: the last unit
    dies.
    """
    torch.manual_seed(15)  # three of six starts die
    x = torch.randn(1000, 15, 8)
    y = F.relu(x[..., :1] + x.roll(1, 1)[..., 1:2] - 0.5)
    model = nn.Sequential(
        Cells(8, 32, F.relu), Cells(32, 16, F.relu), nn.Linear(16, 1), *[nn.ReLU()] * (not repaired)
    )
    how = {"momentum": 0.99, "nesterov": True}
    return case(model, (x, y), MSE, 0.01, "SGD", how=how, steps=400)


def t13(repaired: bool) -> Training:
    """Targets in the ten thousands are left unscaled."""
    x = torch.randn(1400, 20, 3)
    y = x[:, -3:].sum(1) @ torch.randn(3, 1)
    model = Net("LSTM", 3, 64, 1)
    model.out = nn.Sequential(nn.Dropout(0.3), model.out)
    y = y / y.std() if repaired else 20000 + 1500 * y
    return case(model, (x, y), nn.L1Loss(), 8e-4, "SGD", how={"momentum": 0.9}, steps=800)


def t15(repaired: bool) -> Training:
    """Latitude 42.7, longitude -73.7 and speed enter as they are, and thousandths of a degree
    matter.
    """
    path = (
        torch.randn(1400, 1, 2) * 0.01
        + (torch.randn(1400, 1, 2) + torch.randn(1400, 11, 2)).cumsum(1) * 1e-3
    )
    x = torch.cat([path[:, :-1] + torch.tensor([42.73, -73.68]), 40 * torch.rand(1400, 10, 1)], 2)
    x = (x - x.mean((0, 1))) / x.std((0, 1)) if repaired else x
    return case(Net("LSTM", 3, 64, 2), (x, path[:, -1] / path[:, -1].std(0)), MSE)


def t17(repaired: bool) -> Training:
    """The number of the next word is the target of a regression with one linear output."""
    text = chain(3400, 11, 300, back=1)
    model = reader("LSTM", 300, 64, 300 if repaired else 1, num_layers=2, dropout=0.2)
    y, loss_fn = (text[:, -1], cross) if repaired else (text[:, -1:].float(), MSE)
    return case(model, (text[:, :-1], y), loss_fn, 1e-3, "RMSprop", steps=800)


def t19(repaired: bool) -> Training:
    """Every example is a single number, the answer is the number two before it."""
    x = (torch.randint(101, (2000,)) / 100).unfold(0, 3, 1).unsqueeze(2)
    data = x if repaired else x[:, -1:], x[:, 0]
    return case(Net("RNN", 1, 16, 1), data, MSE, steps=800, batch_size=5)


def t21(repaired: bool) -> Training:
    """The series contains NaN."""
    series = torch.sin(torch.arange(1500) / 4) + 0.1 * torch.randn(1500)
    lost = torch.randperm(1000)[:15] + 1
    series[lost] = (series[lost - 1] + series[lost + 1]) / 2 if repaired else math.nan
    return case(Net("LSTM", 1, 25, 1), windows(series[:, None], 12), MSE)


def t23(repaired: bool) -> Training:
    """Nearly all words carry the outside tag, so a tagger never predicts another; judged by the
    mean recall.
    """
    x = torch.randint(100, (1400, 20))
    y = torch.where((x < 16) & (torch.rand(1400, 20) < 0.2), x // 4 + 1, 0)
    loss_fn = nn.CrossEntropyLoss(y.numel() / 5 / y.flatten().bincount() if repaired else None)

    def misses(model: nn.Module, x: Tensor, y: Tensor) -> float:
        right = (model(x).argmax(2) == y).float()
        return sum(1 - right[y == k].mean().item() for k in range(5)) / 4

    model = reader("LSTM", 100, 32, 5, every=True, bidirectional=True)
    return case(model, (x, y), lambda output, y: loss_fn(output.mT, y), error=misses)


def t25(repaired: bool) -> Training:
    """sin(t) goes in, sin(t/2) should come out: windows two pi apart are equal and have opposite
    targets.
    """
    t = (2 if repaired else 4) * math.pi * torch.rand(2000, 1, 1) + 0.4 * torch.arange(16).view(
        16, 1
    )
    model = Net("RNN", 1, 32, 1, every=True)
    return case(model, (torch.sin(t), torch.sin(t / 2)), MSE, 0.01, batch_size=16)


def t27(repaired: bool) -> Training:
    """Texts are padded behind with zeros to one length and the state after them is read; repaired:
    padded in front.
    """
    text, y = opinions(2400, 12, shortest=5)
    front = F.pad(text, (48, 0))
    x = front if repaired else front.gather(1, (torch.arange(60) + (front == 0).sum(1, True)) % 60)
    model = reader("LSTM", 50, 32, 1).append(nn.Sigmoid())
    return case(model, (x, y.float().unsqueeze(1)), nn.BCELoss(), error=wrong_half)


def t29(repaired: bool) -> Training:
    """All positive texts stand before all negative ones and the loader does not shuffle."""
    training = case(
        reader("LSTM", 50, 32, 2, num_layers=2), opinions(2000, 15), cross, 2e-3, steps=300
    )
    order = training.y.argsort(descending=True)
    loader = DataLoader(TensorDataset(training.x[order], training.y[order]), 32, shuffle=repaired)
    return replace(training, x=loader, y=None)


def t31(repaired: bool) -> Training:
    """The model is built again after the optimiser, which holds the parameters of the first one."""

    def forward(net: Own, x: Tensor) -> Tensor:
        h = torch.zeros(len(x), 32)
        for letter in F.one_hot(x, 26).float().unbind(1):
            both = torch.cat([letter, h], 1)
            h, out = net.hidden(both), net.out(both)
        return F.log_softmax(out, 1)

    y = torch.randint(4, (1400,))
    x = torch.multinomial((1.5 * torch.randn(4, 26)).exp()[y], 6, replacement=True)
    model, later = (Own(forward, hidden=nn.Linear(58, 32), out=nn.Linear(58, 4)) for _ in range(2))
    training = case(model, (x, y), nn.NLLLoss(), 0.05, "SGD", steps=800, batch_size=8)
    return training if repaired else replace(training, model=later)


def t33(repaired: bool) -> Training:
    """The state is detached at every step, so no gradient reaches the step that saw the number
    asked for.
    """
    x = torch.randn(1400, 13, 1)
    model = Loop("LSTMCell", 1, 10, 1, every=True, cut=0 if repaired else 1)
    return case(model, (x[:, 3:], x[:, :-3]), MSE, 1e-2)


def t35(repaired: bool) -> Training:
    """Every step of an RNN gets the start state instead of the state of the step before."""

    def forward(net: Own, x: Tensor) -> Tensor:
        h_prev, hiddens = torch.zeros(len(x), 64), []
        for letter in net.embedding(x).unbind(1):
            h = torch.tanh(net.cell(torch.cat([letter, h_prev], 1)))
            h_prev = h if repaired else h_prev
            hiddens.append(h)
        return net.out(torch.stack(hiddens, 1))

    text = chain(2800, 13, 12, back=2)
    model = Own(
        forward, embedding=nn.Embedding(12, 32), cell=nn.Linear(96, 64), out=nn.Linear(64, 12)
    )
    return case(model, (text[:, :-1], text[:, 1:]), cross, 5e-4, "AdamW", steps=800)


def t37(repaired: bool) -> Training:
    """The features are turned to (T, N, m), then an LSTM with batch_first=True runs along the
    batch.
    """

    def forward(net: Own, x: Tensor) -> Tensor:
        frames = F.relu(net.conv(x.mT)).permute(2, 0, 1)
        return net.out(net.lstm(frames)[0]).transpose(0, 1)

    x = torch.randn(1400, 16, 6)
    y = (x.roll(1, 1)[..., 0] > 0) + 2 * (x.roll(-1, 1)[..., 1] > 0)
    lstm = nn.LSTM(12, 32, 2, batch_first=not repaired, bidirectional=True)
    model = Own(forward, conv=nn.Conv1d(6, 12, 1), lstm=lstm, out=nn.Linear(64, 4))
    return case(model, (x, y), cross, 3e-3)


def t39(repaired: bool) -> Training:
    """Sequences laid end to end are cut with view(T, N, m), so that frames of several mix."""

    def forward(net: Own, x: Tensor) -> Tensor:
        N, T, m = x.shape
        flat = x.reshape(N * T, m)
        if repaired:
            return net.out(net.gru(flat.view(N, T, m).transpose(0, 1))[0]).transpose(0, 1)
        return net.out(net.gru(flat.view(T, N, m))[0]).reshape(N, T, 4)

    x, cue = 0.3 * torch.randn(1400, 12, 6), torch.randint(4, (1400,))
    x[:, 0, :4] += 2 * F.one_hot(cue, 4)
    model = Own(forward, gru=nn.GRU(6, 32), out=nn.Linear(32, 4))
    return case(model, (x, cue.unsqueeze(1).expand(-1, 12)), cross, 3e-3)


def t41(repaired: bool) -> Training:
    """A bidirectional model of the next letter has read it in training; judged by the text it
    writes itself.
    """
    text, table, slip = torch.randint(13, (700, 41)), torch.randperm(13), torch.rand(700, 41) < 0.05
    slip[300:] = False
    for t in range(2, 41):
        text[:, t] = torch.where(
            slip[:, t], text[:, t], table[(text[:, t - 2] + text[:, t - 1]) % 13]
        )

    def write(model: nn.Module, x: Tensor, y: Tensor) -> float:
        text = x[:, :2]
        for _ in range(15):
            text = torch.cat([text, model(text)[:, -1:].argmax(2)], 1)
        return share(text[:, 2:], x[:, 2:17])

    model = reader("LSTM", 13, 64, 13, every=True, bidirectional=not repaired)
    return case(model, (text[:, :-1], text[:, 1:]), cross, 2e-3, error=write, steps=400)


def t43(repaired: bool) -> Training:
    """Outputs (N, 1) meet targets (N,) in the squared error, which compares all pairs."""
    x, model = zipf(60, 1400, 12), reader("LSTM", 60, 32, 1)
    if repaired:
        model.append(nn.Flatten(0))
    return case(model, (x, 3 * torch.randn(60)[x].mean(1)), MSE, 3e-3)


def t45(repaired: bool) -> Training:
    """Adam with rate 0.1 where 0.001 works, on word vectors of 300 numbers."""
    x, kind = torch.randint(200, (2400, 12)), torch.arange(200) % 4
    title, name = torch.rand(200) < 0.3, torch.rand(200) < 0.5
    y = torch.where(title[x.roll(1, 1)] & name[x], 1 + kind[x], 0)
    y[:, 1:] = torch.where((y[:, :-1] > 0) & name[x[:, 1:]], y[:, :-1], y[:, 1:])
    model = Net("LSTM", 300, 64, 5, every=True, bidirectional=True)
    data, rate = (torch.randn(200, 300)[x], y), 1e-3 if repaired else 0.1
    return case(model, data, cross, rate, steps=300, batch_size=20)


def t47(repaired: bool) -> Training:
    """SGD with rate 1 and a loss summed over the words of a sentence, tuned for an LSTM, drives a
    GRU.
    """

    def forward(net: Own, x: Tensor) -> Tensor:
        source, target = net.embedding(x).chunk(2, 1)
        memory, state = net.encoder(source)
        h = net.decoder(target, state)[0]
        return net.out(torch.cat([h, (h @ memory.mT).softmax(2) @ memory], 2))

    encoder, decoder = (gru(32, 64) for _ in range(2))
    source, table = torch.randint(1, 11, (2400, 10)), F.pad(1 + torch.randperm(10), (1, 0))
    target = table[source.flip(1)]
    # what was translated so far stands behind the source
    x = torch.cat([source, F.pad(target[:, :-1], (1, 0))], 1)
    parts = {"embedding": nn.Embedding(11, 32), "encoder": encoder, "decoder": decoder}
    model = Own(forward, **parts, out=nn.Linear(128, 11))
    rate, optimizer = (1e-3, "Adam") if repaired else (1.0, "SGD")
    return case(model, (x, target), lambda output, y: 10 * cross(output, y), rate, optimizer)


def t49(repaired: bool) -> Training:
    """Ten sequences with an impulse at another place each are trained for a few epochs only."""
    x, y = torch.eye(10).repeat(2, 1).unsqueeze(2), torch.eye(10)[:, :1].repeat(2, 1)
    return case(Net("LSTM", 1, 16, 1), (x, y), MSE, 3e-3, fresh=10, steps=800 if repaired else 40)


def t51(repaired: bool) -> Training:
    """ReLU in place of tanh in LSTM cells: the state is unbounded and grows along the text."""
    x, activation = zipf(60, 1400, 60), torch.tanh if repaired else F.relu
    last = Own(lambda net, h: h[:, -1])
    cells = Cells(32, 64, activation), Cells(64, 10, activation)
    model = nn.Sequential(nn.Embedding(60, 32), *cells, last, nn.Linear(10, 1))
    y = torch.randn(60)[x[:, -5:]].mean(1, True)
    return case(model, (x, y), MSE, 1e-2, "RMSprop", steps=100)


def t53(repaired: bool) -> Training:
    """Inputs are noise and labels the two halves of it: nothing carries over to fresh examples."""
    y = (torch.arange(500) % 100 >= 50).float().view(-1, 1, 1).expand(-1, 6, 1)
    x = torch.randn(500, 6, 64) + (0.5 * y if repaired else 0)
    model = nn.Sequential(Net("LSTM", 64, 64, 1, every=True), nn.Sigmoid())
    return case(
        model, (x, y), nn.BCELoss(), 1e-3, "RMSprop", error=wrong_half, steps=300, batch_size=16
    )


def t55(repaired: bool) -> Training:
    """A slow random walk is forecast no better than by its last value, by which it is judged;
    repaired: two sines.
    """
    torch.manual_seed(57)  # some starts die at the last ReLU instead
    series, t = torch.randn(2000), torch.arange(2000)
    for i in range(1, 2000):
        series[i] += 0.98 * series[i - 1]
    series = torch.sin(t / 2) + torch.sin(t / 5) + 0.1 * torch.randn(2000) if repaired else series
    x, y = windows(((series - series.min()) / (series.max() - series.min()))[:, None], 8)
    model = nn.Sequential(nn.ReLU(), Net("LSTM", 8, 64, 1), nn.ReLU())

    def repeated(model: nn.Module, x: Tensor, y: Tensor) -> float:
        return squared(model(x), y, x[:, 0, -1:])

    return case(model, (x.mT, y), MSE, error=repeated, steps=800, batch_size=10)


def t57(repaired: bool) -> Training:
    """Three stacked LSTMs leave the plateau at the start too slowly for the rate; repaired: ten
    times the rate.
    """
    x = torch.randint(10, (600, 3, 1)).float()
    x[:, 0] %= 2
    model = Net("LSTM", 1, 15, 2, num_layers=3)
    return case(model, (x, x[:, 0, 0].long()), cross, 1e-2 if repaired else 1e-3, steps=84)


def t59(repaired: bool) -> Training:
    """The loop never sets the gradients to zero."""

    def accumulate(training: Training) -> list[float]:
        losses: list[float] = []
        while len(losses) < training.steps:
            for x, y in minibatches(training.x, training.y, training.batch_size):
                losses.append(training.loss_fn(training.model(x), y))
                losses[-1].backward()
                training.optimizer.step()
        return [loss.item() for loss in losses]

    y = torch.randint(4, (1400,))
    x = 0.5 * torch.randn(4, 30, 8)[y] + 1.3 * torch.randn(1400, 30, 8)
    return case(
        Net("GRU", 8, 32, 4), (x, y), cross, 1e-2, steps=300, fit=None if repaired else accumulate
    )


DEVELOPMENT = threads(globals())
