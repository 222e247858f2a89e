"""Trainings without a fault after public tutorials, some of them unusual but right."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.data import TensorDataset

from evaluation.networks import Net, Own, coder, cross, gru, lstm, output_of, reader
from evaluation.tasks import CE, MSE, ctc, misread
from evaluation.threads.fresh import marked
from evaluation.threads.trainings import (
    Training,
    case,
    loaded,
    sources,
    squared,
    windows,
    wrong_half,
)

Pairs = TensorDataset | list[tuple[Any, Tensor]]


def chains(count: int, length: int, following: Tensor) -> Tensor:
    """Ids (N, T) of Markov chains with the probabilities (V, V) of the next id."""
    ids = torch.randint(len(following), (count, length))
    for t in range(1, length):
        ids[:, t] = torch.multinomial(following[ids[:, t - 1]], 1).squeeze(1)
    return ids


def seasons(length: int, noise: float) -> Tensor:
    """A series (L, 1) of two periods with noise."""
    time = torch.arange(float(length))
    wave = torch.sin(time * 0.26) + 0.5 * torch.sin(time * 0.09)
    return (wave + noise * torch.randn(length)).unsqueeze(1)


def names() -> Training:
    """PyTorch tutorial "Classifying names with a character-level RNN"."""
    V, K, N = 27, 6, 2400
    letters = torch.rand(K, V) ** 4
    y = torch.randint(K, (N,))
    x = torch.multinomial(letters[y], 8, True)
    model = nn.Sequential(Net("RNN", V, 64, K), nn.LogSoftmax(1))
    return case(model, (F.one_hot(x, V).float(), y), nn.NLLLoss(), 0.15, "SGD", steps=900)


def translation() -> Training:
    """PyTorch tutorial "Translation with a sequence to sequence network and attention"."""

    def forward(net: Any, x: Tensor) -> Tensor:
        source, words = net.embed(x).chunk(2, 1)
        keys, state = net.encoder(source)
        queries, _ = net.decoder(words, state)
        weights = F.softmax(queries @ keys.transpose(1, 2) / 48**0.5, 2)
        return net.out(torch.cat([queries, weights @ keys], 2))

    N, T, V = 3400, 6, 10
    source = torch.randint(1, V, (N, T))
    target = torch.randperm(V)[source.flip(1)]
    x = torch.cat([source, torch.zeros(N, 1, dtype=torch.long), target[:, :-1]], 1)
    model = coder(forward, gru, V, 32, 48, V, features=96)
    return case(model, (x, target), cross, 5e-3, steps=700)


def reviews() -> Training:
    """Keras example "Bidirectional LSTM on IMDB", with dropout."""
    V, N, T = 300, 2400, 30
    y = torch.randint(2, (N,))
    words = torch.randint(V, (N, T))
    opinions = torch.randint(15, (N, T)) + 15 * y.unsqueeze(1)
    x = torch.where(torch.rand(N, T) < 0.15, opinions, words)
    model = nn.Sequential(
        nn.Embedding(V, 32),
        nn.Dropout(0.2),
        Net("LSTM", 32, 24, 2, bidirectional=True, num_layers=2, dropout=0.2),
    )
    return case(model, (x, y), CE, 2e-3, steps=500)


def addition() -> Training:
    """Keras example "Sequence to sequence learning for performing number addition"."""

    def forward(net: Any, x: Tensor) -> Tensor:
        state = net.encoder(net.embed(x))[1][0]
        return net.out(net.decoder(state[0].unsqueeze(1).expand(-1, 2, -1))[0])

    a, b = torch.randint(10, (2, 3400))
    x = torch.stack([a, torch.full_like(a, 10), b], 1)
    y = torch.stack([(a + b) // 10, (a + b) % 10], 1)
    model = coder(forward, lstm, 11, 16, 64, 10, inputs=64)
    return case(model, (x, y), cross, 5e-3, steps=900)


def weather() -> Training:
    """Keras example "Timeseries forecasting for weather prediction": seven inputs, one output."""
    series = torch.cat([seasons(2424, 0.1) for _ in range(3)], 1) @ torch.randn(3, 7)
    series = (series - series.mean(0)) / series.std(0)
    x, y = windows(series, 24)
    adam_of = {"weight_decay": 1e-4}
    return case(Net("LSTM", 7, 32, 1), (x, y[:, :1]), MSE, how=adam_of, steps=500)


def identity_rnn() -> Training:
    """Keras example "mnist_irnn": relu units with the identity as recurrent weights."""
    K, T, m, N = 10, 12, 12, 2400
    digits = torch.rand(K, T, m).round()
    y = torch.randint(K, (N,))
    x = digits[y] + 0.5 * torch.randn(N, T, m)
    model = Net("RNN", m, 48, K, nonlinearity="relu")
    nn.init.eye_(model.rnn.weight_hh_l0)
    nn.init.normal_(model.rnn.weight_ih_l0, 0, 0.01)
    return case(model, (x, y), CE, 1e-3, "RMSprop", steps=400)


def tagger() -> Training:
    """PyTorch tutorial "Sequence models and LSTM networks": tags of words by plain SGD."""
    V, K, N, T = 60, 4, 2400, 10
    tag = torch.randint(K, (V,))
    x = torch.randint(V, (N, T))
    y = tag[x]
    y[:, 1:] = torch.where((y[:, :-1] == 0) & (y[:, 1:] == 1), 2, y[:, 1:])
    model = reader("LSTM", V, 32, K, every=True)
    return case(model, (x, y), cross, 1.0, "SGD", steps=900)


class Carried(nn.Module):
    """A language model that keeps its state, cut off from its past, for the next batch."""

    def __init__(self, V: int):
        super().__init__()
        self.embed, self.drop = nn.Embedding(V, 48), nn.Dropout(0.2)
        self.rnn, self.out = lstm(48, 48), nn.Linear(48, V)
        self.state: Any = None

    def forward(self, x: Tensor) -> Tensor:
        if self.state is not None and self.state[0].shape[1] != len(x):
            self.state = None
        states, last = self.rnn(self.drop(self.embed(x)), self.state)
        self.state = tuple(s.detach() for s in last)
        return self.out(self.drop(states))


def word_language_model() -> Training:
    """PyTorch example "word_language_model": carried states, SGD with a large rate, clipping."""
    V, streams, cut = 25, 20, 12
    text = chains(streams, 260 * cut + 1, torch.rand(V, V) ** 30)
    x, y = (
        part.unfold(1, cut, cut).transpose(0, 1).flatten(0, 1)
        for part in (text[:, :-1], text[:, 1:])
    )
    last, model, options = 20 * streams, Carried(V), {"clip_norm": 0.25}
    sgd = torch.optim.SGD(model.parameters(), 10.0)
    data, test = TensorDataset(x[:-last], y[:-last]), (x[-last:], y[-last:])
    how = {"batch_size": streams, "shuffle": False, "drop_last": False}
    return loaded(model, data, test, cross, sgd, how, options=options, steps=720)


def adding() -> Training:
    """The adding problem of Hochreiter and Schmidhuber (1997), with clipping."""
    data, model = marked(4400, 24), Net("GRU", 2, 32, 1)
    return case(model, data, MSE, 5e-3, clip=1.0, steps=900)


def noisy_forecast() -> Training:
    """An autoregressive series of which only half the variance can be predicted."""
    series = torch.zeros(6012, 1)
    for t in range(1, len(series)):
        series[t] = 0.72 * series[t - 1] + torch.randn(1)
    data = windows(series / series.std(), 12)
    return case(Net("GRU", 1, 16, 1), data, MSE, 2e-3, fresh=1500, steps=600)


def packed() -> Training:
    """PyTorch documentation of pack_padded_sequence: texts, and their lengths as a second input."""

    def forward(net: Any, x: Tensor, lengths: Tensor) -> Tensor:
        frames = pack_padded_sequence(net.embed(x), lengths, True, enforce_sorted=False)
        return net.out(net.rnn(frames)[1][-1])

    V, N, T, K = 50, 2400, 16, 5
    lengths = torch.randint(3, T + 1, (N,))
    y = torch.randint(K, (N,))
    x = torch.randint(K, V, (N, T))
    x[torch.arange(N), (torch.rand(N) * lengths).long()] = y
    x = x * (torch.arange(T) < lengths.unsqueeze(1)) + V * (torch.arange(T) >= lengths.unsqueeze(1))
    model = Own(
        forward, embed=nn.Embedding(V + 1, 24, padding_idx=V), rnn=gru(24, 32), out=nn.Linear(32, K)
    )
    pairs = [((x[i], lengths[i]), y[i]) for i in range(N - 400)]
    test = (x[-400:], lengths[-400:]), y[-400:]
    return loaded(model, pairs, test, CE, 5e-3, steps=600)


def tickets() -> Training:
    """Keras guide "The functional API": a title, a body and tags as inputs."""

    def forward(net: Any, title: Tensor, body: Tensor, tags: Tensor) -> Tensor:
        states = [net.title(net.words(title))[1][0][0], net.body(net.words(body))[1][0][0], tags]
        return net.out(torch.cat(states, 1))

    V, N = 80, 2400
    title, body = torch.randint(V, (N, 5)), torch.randint(V, (N, 15))
    tags = torch.randint(2, (N, 6)).float()
    score = (title < 20).sum(1) - (body < 20).sum(1) / 2 + 1.5 * tags[:, :3].sum(1)
    y = ((score - score.mean()) / score.std()).unsqueeze(1)
    model = Own(
        forward,
        words=nn.Embedding(V, 16),
        title=lstm(16, 16),
        body=lstm(16, 24),
        out=nn.Linear(46, 1),
    )
    pairs = [((title[i], body[i], tags[i]), y[i]) for i in range(N - 400)]
    test = tuple(part[-400:] for part in (title, body, tags)), y[-400:]
    return loaded(model, pairs, test, MSE, 5e-3, steps=600)


def heartbeats() -> Training:
    """Arrhythmia in electrocardiograms: one class three times as frequent as the other."""
    N, T = 2800, 30
    y = (torch.rand(N) < 0.25).long()
    time = torch.arange(T) - 12 - 3 * torch.rand(N, 1)
    beat = torch.exp(-(time**2) / 2) + 0.4 * torch.exp(-((time - 7) ** 2) / 8)
    late = torch.exp(-((time - 3) ** 2) / 3) - 0.3 * torch.exp(-((time - 7) ** 2) / 8)
    x = torch.where(y.unsqueeze(1) == 1, late, beat) + 0.25 * torch.randn(N, T)
    model = Net("LSTM", 1, 32, 2)
    return case(model, (x.unsqueeze(2), y), CE, 5e-3, steps=500)


def frozen_vectors() -> Training:
    """Keras example "Using pre-trained word embeddings": frozen vectors, both directions."""
    V, K, N, T = 200, 5, 2400, 12
    kind = torch.randint(K, (V,))
    vectors = torch.randn(K, 24)[kind] + 0.4 * torch.randn(V, 24)
    x = torch.randint(V, (N, T))
    y = (kind[x] + F.pad(kind[x], (0, 1))[:, 1:] % 2) % K
    model = nn.Sequential(
        nn.Embedding.from_pretrained(vectors),
        Net("LSTM", 24, 32, K, every=True, bidirectional=True),
    )
    return case(model, (x, y), cross, 5e-3, steps=500)


def commands() -> Training:
    """Speech commands: convolutions before a GRU, AdamW with a one-cycle schedule."""

    def forward(net: Any, x: Tensor) -> Tensor:
        frames = torch.relu(net.norm(net.conv(x.transpose(1, 2)))).transpose(1, 2)
        return net.out(net.rnn(frames)[0].mean(1))

    K, N, T, m = 8, 2400, 40, 10
    sounds = torch.randn(K, 10, m)
    y = torch.randint(K, (N,))
    x = torch.randn(N, T, m)
    start = torch.randint(T - 10, (N, 1)) + torch.arange(10)
    x[torch.arange(N).unsqueeze(1), start] += sounds[y]
    model = Own(
        forward,
        conv=nn.Conv1d(m, 24, 5, 2),
        norm=nn.BatchNorm1d(24),
        rnn=gru(24, 32),
        out=nn.Linear(32, K),
    )
    adamw = torch.optim.AdamW(model.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adamw, 1e-2, total_steps=501)
    options = {"scheduler": schedule, "clip_norm": 5.0}
    return case(model, (x, y), CE, kind=adamw, options=options, steps=500)


def captcha() -> Training:
    """Keras example "OCR model for reading captchas": labels without positions (CTC)."""
    N, T, m, K, length = 1400, 15, 8, 5, 3
    y = torch.randint(1, K, (N, length))
    y = torch.where(F.pad(y[:, :-1], (1, 0)) == y, y % (K - 1) + 1, y)
    x = torch.randn(K, m)[y].repeat_interleave(T // length, 1) + 0.3 * torch.randn(N, T, m)

    model = Net("LSTM", m, 32, K, every=True, bidirectional=True)
    return case(model, (x, y), ctc, 5e-3, error=misread, steps=500)


def autoencoder() -> Training:
    """Keras blog "Building autoencoders in Keras": a sequence from its code, in reverse order."""

    def forward(net: Any, x: Tensor) -> Tensor:
        code = net.encoder(x)[1]
        start = F.pad(x.flip(1)[:, :-1], (0, 0, 1, 0))
        return net.out(net.decoder(start, code)[0])

    time = torch.arange(12) * (0.3 + 0.5 * torch.rand(1800, 1)) + 6.3 * torch.rand(1800, 1)
    x = (torch.sin(time) + 0.1 * torch.randn(1800, 12)).unsqueeze(2)
    model = Own(forward, encoder=gru(1, 32), decoder=gru(1, 32), out=nn.Linear(32, 1))
    return case(model, (x, x.flip(1)), MSE, 3e-3, steps=500)


def deep_ar() -> Training:
    """DeepAR (Salinas et al., 2017): mean and variance of the next value, a Gaussian likelihood."""

    def loss(output: Tensor, y: Tensor) -> Tensor:
        mean, log = output.chunk(2, 1)
        return (0.5 * log + 0.5 * (y - mean) ** 2 * (-log).exp()).mean()

    def error(model: nn.Module, x: Tensor, y: Tensor) -> float:
        return squared(output_of(model, x)[:, :1], y, y.mean())

    data = windows(seasons(2420, 0.3), 16)
    return case(Net("LSTM", 1, 32, 2), data, loss, 3e-3, error=error, steps=600)


def piano_roll() -> Training:
    """Polyphonic music (Boulanger-Lewandowski et al., 2012): the next chord at every frame."""
    keys, V, N, T = 20, 12, 1400, 16
    chords = (torch.rand(V, keys) < 0.3).float()
    roll = chords[chains(N, T + 1, torch.rand(V, V) ** 20)]
    model = Net("GRU", keys, 48, keys, every=True)
    probable = nn.Sequential(model, nn.Sigmoid())
    data = roll[:, :-1], roll[:, 1:]
    return case(probable, data, nn.BCELoss(), 5e-3, error=wrong_half, steps=500)


def slow_adam() -> Training:
    """TensorFlow tutorial "Time series forecasting", with a small learning rate on purpose."""
    data = windows(seasons(2420, 0.1), 20)
    return case(Net("GRU", 1, 48, 1), data, MSE, 2e-4, steps=800)


FRESH_HEALTHY = sources(globals(), 0)
