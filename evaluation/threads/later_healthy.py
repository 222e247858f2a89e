"""Trainings without a fault after public tutorials, papers and repositories, many of them unusual
but right, written after `fresh_healthy` and without knowledge of the package that is tested on
them.

    training = LATER_HEALTHY["airline"]()

Every docstring names its source; sizes and data are small stand-ins. Some stop early, as their
sources do, and some have much noise.

Legend: N examples, T frames, m inputs, K classes, V words, H units.
"""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from evaluation.networks import Net, Own, cross
from evaluation.tasks import digits
from evaluation.threads.fresh_healthy import chains, loaded
from evaluation.threads.trainings import Training, case, share, windows, wrong


def sine_waves() -> Training:
    """PyTorch example "time_sequence_prediction": two LSTM cells in double precision, the next
    value at every frame.
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        first: Any = None
        second: Any = None
        outputs = []
        for frame in x.unbind(1):
            first = net.first(frame, first)
            second = net.second(first[0], second)
            outputs.append(net.out(second[0]))
        return torch.stack(outputs, 1)

    N, T = 500, 20
    time = 0.3 * torch.arange(T + 1) + 6.3 * torch.rand(N, 1)
    wave = torch.sin(time).unsqueeze(2).double()
    model = Own(forward, first=nn.LSTMCell(1, 24), second=nn.LSTMCell(24, 24), out=nn.Linear(24, 1))
    data = wave[:, :-1], wave[:, 1:]
    return case(model.double(), data, nn.MSELoss(), 2e-3, fresh=100, steps=250)


class OwnRNN(nn.Module):
    """A plain RNN of its formula, examples first, an output at every frame."""

    def __init__(self, inputs: int, units: int, outputs: int, scale: float):
        super().__init__()
        self.x, self.h, self.y = (
            nn.Parameter(scale * torch.randn(*shape))
            for shape in ((inputs, units), (units, units), (units, outputs))
        )
        self.bias, self.shift = (nn.Parameter(torch.zeros(n)) for n in (units, outputs))

    def forward(self, x: Tensor) -> Tensor:
        h, states = x.new_zeros(len(x), len(self.h)), []
        for frame in (x @ self.x + self.bias).unbind(1):
            h = torch.tanh(frame + h @ self.h)
            states.append(h)
        return torch.stack(states, 1) @ self.y + self.shift


def letters(count: int, length: int, V: int) -> tuple[Tensor, Tensor]:
    """One-hot letters of a text of which about half can be foretold, and the next letters."""
    ids = chains(count, length + 1, torch.rand(V, V) ** 16)
    return F.one_hot(ids[:, :-1], V).float(), ids[:, 1:]


def min_char_rnn() -> Training:
    """Karpathy's min-char-rnn: initial weights of deviation 0.01, Adagrad at 0.1."""
    data = letters(1900, 16, 20)
    return case(OwnRNN(20, 48, 20, 0.01), data, cross, 0.1, "Adagrad", steps=400)


def rnn_from_scratch() -> Training:
    """Dive into Deep Learning, "RNN from scratch": SGD at 1, gradients clipped at norm 1."""
    data, options = letters(1900, 20, 16), {"clip_norm": 1.0}
    return case(OwnRNN(16, 64, 16, 0.01), data, cross, 1.0, "SGD", options=options, steps=500)


def airline() -> Training:
    """Machine Learning Mastery, "LSTM for time series prediction in PyTorch": 144 months."""
    months = torch.arange(144.0)
    season = 1 + 0.2 * torch.sin(months * math.pi / 6)
    passengers = (110 + 2.4 * months) * season * (1 + 0.03 * torch.randn(144))
    series = ((passengers - 110) / 400).unsqueeze(1)
    x, y = windows(series, 12)
    order = torch.randperm(len(x))
    data = x[order], y[order]
    return case(Net("LSTM", 1, 50, 1), data, nn.MSELoss(), fresh=40, batch_size=8, steps=500)


def rows_of_digits() -> Training:
    """Deep Learning Wizard, "RNN with PyTorch": images row by row, relu, plain SGD at 0.1."""
    x, y = digits()
    order = torch.randperm(len(x))
    x, y = x[order].unflatten(1, (8, 8)), y[order]
    model = Net("RNN", 8, 100, 10, nonlinearity="relu")
    return case(model, (x, y), nn.CrossEntropyLoss(), 0.1, "SGD", steps=600)


def packed_reviews() -> Training:
    """Ben Trevett, "Updated sentiment analysis": packed texts, two layers, dropout of 0.5."""

    def forward(net: Any, text: Tensor, lengths: Tensor) -> Tensor:
        words = net.drop(net.embed(text))
        frames = pack_padded_sequence(words, lengths, True, enforce_sorted=False)
        last = net.rnn(frames)[1][0]
        return net.out(net.drop(torch.cat([last[-2], last[-1]], 1)))

    N, T, V, pad = 2000, 12, 200, 200
    lengths = torch.randint(4, T + 1, (N,))
    y = torch.randint(2, (N, 1))
    opinions = torch.randint(12, (N, T)) + 12 * y
    x = torch.where(torch.rand(N, T) < 0.3, opinions, torch.randint(24, V, (N, T)))
    x = torch.where(torch.arange(T) < lengths.unsqueeze(1), x, pad)
    model = Own(
        forward,
        embed=nn.Embedding(V + 1, 32, padding_idx=pad),
        rnn=nn.LSTM(32, 16, 2, batch_first=True, bidirectional=True, dropout=0.5),
        drop=nn.Dropout(0.5),
        out=nn.Linear(32, 1),
    )
    goals = y.float()
    pairs = [((x[i], lengths[i]), goals[i]) for i in range(N - 400)]
    test = (x[-400:], lengths[-400:]), goals[-400:]

    def error(model: nn.Module) -> float:
        return wrong(lambda inputs: model(*inputs), *test).item()

    return loaded(model, pairs, test, nn.BCEWithLogitsLoss(), 2e-3, error=error, steps=250)


def padded_tagger() -> Training:
    """Ben Trevett, "BiLSTM for part-of-speech tagging": padding, which the loss leaves out."""
    N, T, V, K = 1900, 14, 60, 5
    kind = torch.randint(1, K, (V,))
    x = torch.randint(1, V, (N, T))
    y = torch.where((F.pad(x, (0, 1))[:, 1:] % 7 == 0) & (kind[x] == 1), 2, kind[x])
    inside = torch.arange(T) < torch.randint(4, T + 1, (N, 1))
    x, y = x * inside, y * inside

    def loss(output: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(output.flatten(0, 1), y.flatten(), ignore_index=0)

    def error(model: nn.Module, x: Tensor, y: Tensor) -> float:
        return share(model(x).argmax(2)[y > 0], y[y > 0])

    model = nn.Sequential(
        nn.Embedding(V, 32, padding_idx=0),
        nn.Dropout(0.25),
        Net("LSTM", 32, 32, K, every=True, bidirectional=True, num_layers=2, dropout=0.25),
    )
    return case(model, (x, y), loss, 1e-3, error=error, steps=400)


def early_translation() -> Training:
    """Ben Trevett, "Sequence to sequence learning": uniform initial weights, stopped after a few
    hundred steps, long before its end.
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        source, words = net.drop(net.embed(x)).chunk(2, 1)
        return net.out(net.decoder(words, net.encoder(source.flip(1))[1])[0])

    N, T, V = 2900, 5, 10
    source = torch.randint(1, V, (N, T))
    y = torch.randperm(V)[source]
    x = torch.cat([source, torch.zeros(N, 1, dtype=torch.long), y[:, :-1]], 1)
    model = Own(
        forward,
        embed=nn.Embedding(V, 32),
        drop=nn.Dropout(0.2),
        encoder=nn.LSTM(32, 64, 2, batch_first=True, dropout=0.2),
        decoder=nn.LSTM(32, 64, 2, batch_first=True, dropout=0.2),
        out=nn.Linear(64, V),
    )
    for weight in model.parameters():
        nn.init.uniform_(weight, -0.08, 0.08)
    return case(model, (x, y), cross, 2e-3, options={"clip_norm": 1.0}, steps=500)


class Spike(torch.autograd.Function):
    """1 above 0, else 0; backwards the slope of a fast sigmoid."""

    @staticmethod
    def forward(context: Any, potential: Tensor) -> Tensor:  # type: ignore[override]
        context.save_for_backward(potential)
        return (potential > 0).float()

    @staticmethod
    def backward(context: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (potential,) = context.saved_tensors
        return grad / (1 + 25 * potential.abs()) ** 2


def spiking() -> Training:
    """snnTorch, tutorial 5: leaky neurons that fire, with surrogate gradients; classes by counts of
    spikes.
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        hidden = last = torch.zeros(())
        counts = []
        for frame in x.unbind(1):
            hidden = 0.9 * hidden + net.first(frame)
            spikes = Spike.apply(hidden - 1)
            hidden = hidden - spikes.detach()
            last = 0.9 * last + net.second(spikes)
            fired = Spike.apply(last - 1)
            last = last - fired.detach()
            counts.append(fired)
        return torch.stack(counts).sum(0)

    K, N, T, m = 4, 1900, 20, 20
    rates = torch.rand(K, m) * 0.8
    y = torch.randint(K, (N,))
    x = (torch.rand(N, T, m) < rates[y].unsqueeze(1)).float()
    model = Own(forward, first=nn.Linear(m, 64), second=nn.Linear(64, K))
    return case(model, (x, y), nn.CrossEntropyLoss(), 5e-4, steps=300)


class Sign(torch.autograd.Function):
    """The sign; backwards the straight-through estimator, cut off where the input is large."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        context.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(context: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = context.saved_tensors
        return grad * (x.abs() <= 1)


def binary_states() -> Training:
    """Hubara et al. (2016), "Binarized neural networks": a GRU whose output units are signs."""

    def forward(net: Any, x: Tensor) -> Tensor:
        return net.out(Sign.apply(net.norm(net.code(net.rnn(x)[0][:, -1]))))

    K, N, T, m = 6, 1900, 12, 6
    kinds = torch.randn(K, T, m)
    y = torch.randint(K, (N,))
    x = kinds[y] + 1.2 * torch.randn(N, T, m)
    model = Own(
        forward,
        rnn=nn.GRU(m, 32, batch_first=True),
        code=nn.Linear(32, 48),
        norm=nn.BatchNorm1d(48),
        out=nn.Linear(48, K),
    )
    return case(model, (x, y), nn.CrossEntropyLoss(), 2e-3, steps=400)


def memory_transformer() -> Training:
    """Bulatov et al. (2022), "Recurrent memory transformer": segments that pass memory tokens on;
    AdamW with a cosine schedule.
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        memory = net.memory.expand(len(x), -1, -1)
        for segment in (net.embed(x) + net.place).chunk(3, 1):
            states = net.layers(torch.cat([memory, segment], 1))
            memory = states[:, : memory.shape[1]]
        return net.out(memory.flatten(1))

    N, T, V, K, H = 1900, 9, 16, 4, 32
    x = torch.randint(K, V, (N, T))
    y = torch.randint(K, (N,))
    x[torch.arange(N), torch.randint(T, (N,))] = y
    layer = nn.TransformerEncoderLayer(H, 4, 64, 0.1, batch_first=True)
    model = Own(
        forward,
        embed=nn.Embedding(V, H),
        place=nn.Parameter(0.02 * torch.randn(T, H)),
        memory=nn.Parameter(0.02 * torch.randn(1, 2, H)),
        layers=nn.TransformerEncoder(layer, 1),
        out=nn.Linear(2 * H, K),
    )
    adamw = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.01)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adamw, 350)
    options = {"scheduler": cosine, "clip_norm": 1.0}
    loss = nn.CrossEntropyLoss()
    return case(model, (x, y), loss, kind=adamw, options=options, steps=350)


def awd_lstm() -> Training:
    """Merity et al. (2017), "Regularizing LSTM language models": much dropout, weight decay, SGD
    with a large rate.
    """
    V, T = 20, 16
    ids = chains(1900, T + 1, torch.rand(V, V) ** 16)
    model = nn.Sequential(
        nn.Embedding(V, 48),
        nn.Dropout(0.4),
        Net("LSTM", 48, 64, V, every=True, num_layers=2, dropout=0.3),
    )
    how = {"weight_decay": 1.2e-6}
    options = {"clip_norm": 0.25}
    data = ids[:, :-1], ids[:, 1:]
    return case(model, data, cross, 10.0, "SGD", how=how, options=options, steps=500)


SOURCES = (
    *(sine_waves, min_char_rnn, rnn_from_scratch, airline, rows_of_digits, packed_reviews),
    *(padded_tagger, early_translation, spiking, binary_states, memory_transformer, awd_lstm),
)


def seeded(number: int) -> Training:
    """A training whose data and weights are drawn from its number as a seed."""
    torch.manual_seed(800 + number)
    return SOURCES[number]()


LATER_HEALTHY = {source.__name__: partial(seeded, n) for n, source in enumerate(SOURCES)}
