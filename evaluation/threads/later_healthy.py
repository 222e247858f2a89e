"""Trainings without a fault after tutorials, papers and repositories, many of them unusual but
right. Some stop early, as their sources do, and some have much noise.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from evaluation.networks import Net, Own, cross, gru, lstm, reader
from evaluation.tasks import BITS, CE, MSE, digits, misread, of_last_frames
from evaluation.threads.fresh_healthy import chains, loaded
from evaluation.threads.trainings import (
    Training,
    case,
    mixed,
    share,
    sources,
    squared,
    windows,
    wrong,
)


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
    return case(model.double(), data, MSE, 2e-3, fresh=100, steps=250)


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
    data = letters(1900, 20, 16)
    return case(OwnRNN(16, 64, 16, 0.01), data, cross, 1.0, "SGD", clip=1.0, steps=500)


def airline() -> Training:
    """Machine Learning Mastery, "LSTM for time series prediction in PyTorch": 144 months."""
    months = torch.arange(144.0)
    season = 1 + 0.2 * torch.sin(months * math.pi / 6)
    passengers = (110 + 2.4 * months) * season * (1 + 0.03 * torch.randn(144))
    series = ((passengers - 110) / 400).unsqueeze(1)
    data = mixed(*windows(series, 12))
    return case(Net("LSTM", 1, 50, 1), data, MSE, fresh=40, batch_size=8, steps=500)


def rows_of_digits() -> Training:
    """Deep Learning Wizard, "RNN with PyTorch": images row by row, relu, plain SGD at 0.1."""
    data = digits()
    model = Net("RNN", 8, 100, 10, nonlinearity="relu")
    return case(model, data, CE, 0.1, "SGD", steps=600)


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
        rnn=lstm(32, 16, 2, bidirectional=True, dropout=0.5),
        drop=nn.Dropout(0.5),
        out=nn.Linear(32, 1),
    )
    goals = y.float()
    pairs = [((x[i], lengths[i]), goals[i]) for i in range(N - 400)]
    test = (x[-400:], lengths[-400:]), goals[-400:]

    def error(model: nn.Module) -> float:
        guesses = model(x[-400:], lengths[-400:]) > 0
        return 2 * (guesses != (y[-400:] == 1)).float().mean().item()

    return loaded(model, pairs, test, BITS, 2e-3, error=error, steps=250)


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
        encoder=lstm(32, 64, 2, dropout=0.2),
        decoder=lstm(32, 64, 2, dropout=0.2),
        out=nn.Linear(64, V),
    )
    for weight in model.parameters():
        nn.init.uniform_(weight, -0.08, 0.08)
    return case(model, (x, y), cross, 2e-3, clip=1.0, steps=500)


class Spike(torch.autograd.Function):
    """1 above 0, else 0; backwards the slope of a fast sigmoid."""

    @staticmethod
    def forward(context: Any, potential: Tensor) -> Tensor:
        context.save_for_backward(potential)
        return (potential > 0).float()

    @staticmethod
    def backward(context: Any, grad: Tensor) -> Tensor:
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
    return case(model, (x, y), CE, 5e-4, steps=300)


class Sign(torch.autograd.Function):
    """The sign; backwards the straight-through estimator, cut off where the input is large."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        context.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0)

    @staticmethod
    def backward(context: Any, grad: Tensor) -> Tensor:
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
        rnn=gru(m, 32),
        code=nn.Linear(32, 48),
        norm=nn.BatchNorm1d(48),
        out=nn.Linear(48, K),
    )
    return case(model, (x, y), CE, 2e-3, steps=400)


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
    loss = CE
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
    data, how = (ids[:, :-1], ids[:, 1:]), {"weight_decay": 1.2e-6}
    return case(model, data, cross, 10.0, "SGD", how=how, clip=0.25, steps=500)


def speech() -> Training:
    """AssemblyAI, "Building an end-to-end speech recognition model": convolution, layer
    normalisation, GRU in both directions, CTC; AdamW with a one-cycle schedule.
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        frames = net.conv(x.transpose(1, 2)).transpose(1, 2)
        states = net.rnn(net.drop(F.gelu(net.norm(frames))))[0]
        return net.out(net.drop(states)).log_softmax(2)

    N, length, m, K = 1700, 4, 10, 6
    y = torch.randint(1, K, (N, length))
    sounds = torch.randn(K, 4, m)
    x = sounds[y].flatten(1, 2) + 0.4 * torch.randn(N, 4 * length, m)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        frames, labels = (torch.full((len(y),), size) for size in (output.shape[1], length))
        return F.ctc_loss(output.transpose(0, 1), y, frames, labels)

    model = Own(
        forward,
        conv=nn.Conv1d(m, 32, 3, padding=1),
        norm=nn.LayerNorm(32),
        drop=nn.Dropout(0.1),
        rnn=gru(32, 32, bidirectional=True),
        out=nn.Linear(64, K),
    )
    adamw = torch.optim.AdamW(model.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adamw, 5e-3, total_steps=401)
    options = {"scheduler": schedule}
    return case(model, (x, y), loss, kind=adamw, error=misread, options=options, steps=400)


def intents_and_slots() -> Training:
    """Liu and Lane (2016), "Joint intent detection and slot filling": two outputs, the sum of two
    losses.
    """
    N, T, V, K, S = 1900, 10, 50, 4, 5

    def forward(net: Any, x: Tensor) -> Tensor:
        states, last = net.rnn(net.drop(net.embed(x)))
        intents = net.intent(torch.cat([last[0], last[1]], 1))
        return torch.cat([intents, net.slot(states).flatten(1)], 1)

    def loss(output: Tensor, y: Tensor) -> Tensor:
        slots = output[:, K:].unflatten(1, (T, S))
        return F.cross_entropy(output[:, :K], y[:, 0]) + cross(slots, y[:, 1:])

    def error(model: nn.Module, x: Tensor, y: Tensor) -> float:
        intents, slots = model(x).split([K, T * S], 1)
        guesses = slots.unflatten(1, (T, S)).argmax(2)
        return (share(intents.argmax(1), y[:, 0]) + share(guesses, y[:, 1:])) / 2

    kind = torch.randint(S, (V,))
    x = torch.randint(K, V, (N, T))
    y = torch.randint(K, (N, 1))
    x[torch.arange(N), torch.randint(T, (N,))] = y[:, 0]
    slots = torch.where(F.pad(x[:, :-1], (1, 0)) < K, 0, kind[x])
    model = Own(
        forward,
        embed=nn.Embedding(V, 32),
        drop=nn.Dropout(0.2),
        rnn=gru(32, 32, bidirectional=True),
        intent=nn.Linear(64, K),
        slot=nn.Linear(64, S),
    )
    return case(model, (x, torch.cat([y, slots], 1)), loss, 2e-3, error=error, steps=500)


def returns() -> Training:
    """Gu, Kelly and Xiu (2020), "Empirical asset pricing": an eighth of the targets' variance can
    be foretold, so that the best error is 0.88.
    """
    N, T = 6000, 8
    x = torch.randn(N, T, 3)
    signal = (x[:, -3:, 0].sum(1) - x[:, -1, 1] * x[:, -2, 1]) / 2
    y = (signal + 7**0.5 * torch.randn(N)).unsqueeze(1)
    model = Net("LSTM", 3, 16, 1)
    how = {"weight_decay": 1e-3}
    return case(model, (x, y), MSE, fresh=2000, batch_size=128, how=how, steps=500)


def rare_faults() -> Training:
    """PyTorch documentation of BCEWithLogitsLoss: `pos_weight` for machines of which one in 14
    fails.
    """
    N, T = 2900, 20
    fails = (torch.rand(N, 1) < 0.07).float()
    drift = fails.unsqueeze(2) * (torch.arange(T) / T).view(1, T, 1) ** 2
    x = torch.randn(N, T, 3) + 1.2 * drift
    loss = nn.BCEWithLogitsLoss(pos_weight=torch.tensor([4.0]))
    model = Net("GRU", 3, 24, 1)
    return case(model, (x, fails), loss, 2e-3, error=wrong, fresh=1000, steps=500)


def elman_xor() -> Training:
    """Elman (1990), "Finding structure in time": bits of which every third is the exclusive or of
    the two before, the others are random: the best error is about two thirds.
    """
    N, T = 1900, 24
    bits = torch.randint(2, (N, T + 1))
    for t in range(2, T + 1, 3):
        bits[:, t] = bits[:, t - 1] ^ bits[:, t - 2]
    x, y = bits[:, :-1].unsqueeze(2).float(), bits[:, 1:]
    return case(Net("RNN", 1, 20, 2, every=True), (x, y), cross, 1e-2, steps=600)


def copying() -> Training:
    """Arjovsky et al. (2016), "Unitary evolution RNNs": letters to be copied after a short pause,
    RMSprop.
    """
    N, size, pause, V = 2400, 3, 4, 6
    y = torch.randint(1, V - 1, (N, size))
    x = torch.zeros(N, 2 * size + pause, dtype=torch.long)
    x[:, :size] = y
    x[:, -size] = V - 1
    model = reader("LSTM", V, 64, V, every=True)
    return case(model, (x, y), of_last_frames, 5e-3, "RMSprop", error=last_letters, steps=700)


def last_letters(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of wrong letters among the last ones, as many as y has."""
    return share(model(x)[:, -y.shape[1] :].argmax(2), y)


REBER = {  # state: (letter, next state) twice
    0: ((1, 1), (2, 2)),
    1: ((3, 1), (4, 3)),
    2: ((1, 2), (5, 4)),
    3: ((4, 5), (6, 2)),
    4: ((2, 3), (5, 5)),
    5: ((6, 0), (3, 0)),
}


def reber() -> Training:
    """Cleeremans et al. (1989): the two letters that may follow in a grammar of Reber's kind."""
    N, T, V = 1700, 14, 7
    letters, states = torch.zeros(2, N, T, dtype=torch.long)
    for i, choices in enumerate(torch.randint(2, (N, T)).tolist()):
        path = [REBER[0][choices[0]]]
        for choice in choices[1:]:
            path.append(REBER[path[-1][1]][choice])
        letters[i], states[i] = torch.tensor(path).T
    following = torch.tensor([[letter for letter, _ in REBER[state]] for state in REBER])
    x = F.one_hot(letters, V).float()
    y = F.one_hot(following[states], V).sum(2).float()
    model = Net("GRU", V, 24, V, every=True)
    return case(model, (x, y), BITS, 5e-3, error=wrong, steps=500)


def quantiles() -> Training:
    """Wen et al. (2017), "A multi-horizon quantile forecaster": three quantiles by the pinball
    loss, a step schedule; judged by the median.
    """
    levels = torch.tensor([0.1, 0.5, 0.9])

    def loss(output: Tensor, y: Tensor) -> Tensor:
        above = y - output
        return torch.maximum(levels * above, (levels - 1) * above).mean()

    def error(model: nn.Module, x: Tensor, y: Tensor) -> float:
        return squared(model(x)[:, 1:2], y, y.mean())

    hours = torch.arange(2620.0)
    load = torch.sin(hours * 0.26) * (1 + 0.3 * torch.sin(hours * 0.0374))
    noise = 0.15 * (1 + torch.sin(hours * 0.26).clamp_min(0)) * torch.randn(2620)
    x, y = windows((load + noise).unsqueeze(1), 20)
    model = Net("LSTM", 1, 32, 3)
    adam = torch.optim.Adam(model.parameters(), 5e-3)
    options = {"scheduler": torch.optim.lr_scheduler.StepLR(adam, 200, 0.5)}
    return case(model, (x, y), loss, kind=adam, error=error, options=options, steps=500)


def heartbeat_autoencoder() -> Training:
    """Curiousily, "Time series anomaly detection using LSTM autoencoder": sums of absolute errors,
    two layers on each side.
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        code = net.narrow(net.wide(x)[0])[1][0]
        states = net.back(code.transpose(0, 1).expand(-1, x.shape[1], -1))[0]
        return net.out(net.last(states)[0])

    N, T = 1200, 20
    time = torch.arange(T) - 8 - 3 * torch.rand(N, 1)
    height = 0.7 + 0.6 * torch.rand(N, 1)
    beat = height * torch.exp(-(time**2) / 3) - 0.4 * torch.exp(-((time - 5) ** 2) / 6)
    x = (beat + 0.03 * torch.randn(N, T)).unsqueeze(2)
    model = Own(
        forward,
        wide=lstm(1, 32),
        narrow=lstm(32, 16),
        back=lstm(16, 16),
        last=lstm(16, 32),
        out=nn.Linear(32, 1),
    )
    return case(model, (x, x), nn.L1Loss(reduction="sum"), 2e-3, steps=500, batch_size=16)


class LiquidCell(nn.Module):
    """Units whose time constants depend on input and state, by the fused solver, examples first; an
    output at every frame.
    """

    def __init__(self, inputs: int, units: int, outputs: int):
        super().__init__()
        self.gate, self.out = nn.Linear(inputs + units, units), nn.Linear(units, outputs)
        self.rate, self.target = nn.Parameter(torch.ones(units)), nn.Parameter(torch.randn(units))

    def forward(self, x: Tensor) -> Tensor:
        h, states = x.new_zeros(len(x), len(self.rate)), []
        for frame in x.unbind(1):
            for _ in range(2):
                f = torch.sigmoid(self.gate(torch.cat([frame, h], 1)))
                h = (h + 0.5 * f * self.target) / (1 + 0.5 * (F.softplus(self.rate) + f))
            states.append(h)
        return self.out(torch.stack(states, 1))


def liquid() -> Training:
    """Hasani et al. (2021), "Liquid time-constant networks": a sine and a cosine in, a sine of
    twice the frequency out; the state starts from zero at every call.
    """
    N, T = 700, 20
    time = 0.2 * torch.arange(T) + 6.3 * torch.rand(N, 1)
    x = torch.stack([torch.sin(time), torch.cos(time)], 2)
    y = torch.sin(2 * time).unsqueeze(2)
    return case(LiquidCell(2, 24, 1), (x, y), MSE, 1e-2, fresh=200, steps=300)


def missing_values() -> Training:
    """Che et al. (2018), "Recurrent networks for multivariate time series with missing values":
    zeros where nothing was measured, with masks and gaps, in a dictionary.
    """

    def forward(net: Any, inputs: dict[str, Tensor]) -> Tensor:
        decay = torch.exp(-F.relu(net.decay(inputs["gaps"])))
        h = decay.new_zeros(len(decay), 32)
        for t in range(decay.shape[1]):
            frame = torch.cat([inputs["values"][:, t], inputs["mask"][:, t]], 1)
            h = net.cell(frame, decay[:, t] * h)
        return net.out(h)

    N, T, m = 1800, 12, 4
    y = torch.randint(2, (N,))
    trend = torch.randn(2, T, m).cumsum(1) / 4
    values = trend[y] + torch.randn(N, T, m)
    mask = (torch.rand(N, T, m) < 0.5).float()
    gaps = torch.zeros(N, T, m)
    for t in range(1, T):
        gaps[:, t] = 1 + (1 - mask[:, t - 1]) * gaps[:, t - 1]
    inputs = {"values": values * mask, "mask": mask, "gaps": gaps / T}
    model = Own(forward, decay=nn.Linear(m, 32), cell=nn.GRUCell(2 * m, 32), out=nn.Linear(32, 2))
    pairs: Any = [({k: v[i] for k, v in inputs.items()}, y[i]) for i in range(N - 400)]
    test: Any = {k: v[-400:] for k, v in inputs.items()}, y[-400:]
    return loaded(model, pairs, test, CE, 1e-3, steps=300)


def trajectories() -> Training:
    """Alahi et al. (2016), "Social LSTM": eight positions of a walk, the next four displacements in
    metres; Adam at 3e-4, few steps.
    """

    def forward(net: Any, x: Tensor) -> Tensor:
        return net.out(net.rnn(torch.relu(net.embed(x)))[0][:, -1])

    N, T = 2400, 12
    turn = 0.15 * torch.randn(N, 1)
    angle = 6.3 * torch.rand(N, 1) + turn * torch.arange(T)
    speed = 0.3 + 0.3 * torch.rand(N, 1)
    steps = torch.stack([speed * torch.cos(angle), speed * torch.sin(angle)], 2)
    steps = steps + 0.03 * torch.randn(N, T, 2)
    model = Own(forward, embed=nn.Linear(2, 32), rnn=lstm(32, 64), out=nn.Linear(64, 8))
    return case(model, (steps[:, :8], steps[:, 8:].flatten(1)), MSE, 3e-4, steps=500)


LATER_HEALTHY = sources(globals(), 800)
