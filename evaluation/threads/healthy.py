"""Trainings without a fault: the error of each on fresh examples is below 0.6.

Data makers seed torch's generator and come first, so that the start of the network is fixed too.
"""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, TensorDataset

from evaluation.networks import Loop, Net, Own, cross, gru, lstm, ours
from evaluation.tasks import BITS, CE, MSE
from evaluation.threads.drawn import DRAWN
from evaluation.threads.trainings import case, loaded, wrong

FRESH = 400


# Data: n examples to train with and FRESH others


def averages(
    n: int, K: int = 1, T: int = 20, m: int = 3, *, every=False, draw=torch.randn, noise=0.0
):
    """Standardised leaky averages of the inputs, of the last frame or of every frame."""
    torch.manual_seed(n + T)
    x, mix = draw((n + FRESH, T, m)).float(), F.normalize(torch.randn(m, K), dim=0)
    states = [torch.zeros(n + FRESH, K)]
    for frame in x.unbind(1):
        states.append(0.8 * states[-1] + frame @ mix)
    y = torch.stack(states[1:], 1) if every else states[-1]
    y = (y - y.flatten(0, -2).mean(0)) / y.flatten(0, -2).std(0)
    return x, (y + noise * torch.randn_like(y)) / math.sqrt(1 + noise**2)


def hums(n: int, shares=(1.0, 1.0, 1.0), T: int = 24, m: int = 2, noise: float = 0.5):
    """Sines of random phase with noise; the class is the frequency."""
    torch.manual_seed(n + T + 1)
    labels = torch.multinomial(torch.tensor(shares), n + FRESH, True)
    angles = (0.25 + 0.45 * labels)[:, None, None] * torch.arange(T)[:, None]
    angles = angles + 6.3 * torch.rand(n + FRESH, 1, m)
    return torch.sin(angles) + noise * torch.randn(n + FRESH, T, m), labels


def waves(n: int, T: int = 30, noise: float = 0.0):
    """A sine of random frequency and phase, and its next number at every frame."""
    torch.manual_seed(n + T + 2)
    rate, phase = 0.3 + 0.5 * torch.rand(n + FRESH, 1), 6.3 * torch.rand(n + FRESH, 1)
    z = torch.sin(rate * torch.arange(T + 1) + phase) + noise * torch.randn(n + FRESH, T + 1)
    return z[:, :-1, None], z[:, 1:, None]


def resonances(n: int, T: int = 40):
    """An autoregressive process of order 2, and its next number; the best error is 0.05, the last
    number's 0.3.
    """
    torch.manual_seed(n + T + 3)
    z = [torch.randn(n + FRESH, 1), torch.randn(n + FRESH, 1)]
    for _ in range(T + 40):
        z.append(1.6 * z[-1] - 0.9 * z[-2] + 0.235 * torch.randn(n + FRESH, 1))
    z = torch.stack(z[-T - 1 :], 1)
    return z[:, :-1], z[:, 1:]


def reviews(n: int, V: int = 50, T: int = 20):
    """Ids of words (N, T), and whether most of them are good words."""
    torch.manual_seed(n + T + 4)
    ids, worth = torch.randint(0, V, (n + FRESH, T)), torch.randn(V)
    return ids, (worth[ids].sum(1) > 0).long()


def sentences(n: int, T: int = 30):
    """Letters of random sentences of a small grammar, and the next letters (N, T); 0 is a space."""
    torch.manual_seed(n + T + 5)
    nouns, verbs = (
        ["cat", "bird", "teacher", "river", "moon"],
        ["sees", "follows", "likes", "hides"],
    )
    pieces = []
    for _ in range(n + FRESH):
        a, b, c, start = (int(torch.randint(k, ())) for k in (5, 4, 5, 12))
        text = 3 * f"the {nouns[a]} {verbs[b]} the {nouns[c]} and "
        pieces.append([max(ord(letter) - 96, 0) for letter in text[start : start + T + 1]])
    ids = torch.tensor(pieces)
    return ids[:, :-1], ids[:, 1:]


def chords(n: int, T: int = 24):
    """A cycle of six chords of three of twelve keys, each held for two to four frames (a piece's
    tempo), and the next frame.
    """
    torch.manual_seed(n + T + 6)
    keys = torch.stack([torch.zeros(12).scatter_(0, torch.randperm(12)[:3], 1.0) for _ in range(6)])
    tempo, start = torch.randint(2, 5, (n + FRESH, 1)), torch.randint(0, 24, (n + FRESH, 1))
    frames = keys[(start + torch.arange(T + 1)) // tempo % 6]
    return frames[:, :-1], frames[:, 1:]


def swapped(data):
    """Time first."""
    return tuple(v.transpose(0, 1).contiguous() if v.dim() == 3 else v for v in data)


# Networks, and trainings with them


class Pooled(Net):
    """Output of the mean of all states, or of their mean by learned attention."""

    def __init__(self, *sizes: Any, attention: bool = False, **options: Any):
        super().__init__(*sizes, **options)
        self.score = nn.Linear(self.out.in_features, 1) if attention else None

    def forward(self, x):
        states = self.rnn(x)[0]
        if self.score is None:
            return self.out(states.mean(1))
        return self.out((self.score(states).softmax(1) * states).sum(1))


def coder(frames: int) -> Own:
    """An encoder, and a decoder that unrolls its last state over some frames."""

    def run(net, x):
        h = net.encoder(x)[1]
        return net.out(net.decoder(h[-1][:, None].expand(-1, frames, -1), h)[0])

    encoder, decoder = gru(1, 32), gru(32, 32)
    return Own(run, encoder=encoder, decoder=decoder, out=nn.Linear(32, 1))


def made(data, model: nn.Module, loss, kind: Any = "Adam", rate: float = 1e-3, **more: Any):
    """The training of a network on data; the last FRESH examples are fresh."""
    error = wrong if isinstance(loss, nn.BCEWithLogitsLoss) else None
    return case(model, data, loss, rate, kind, fresh=FRESH, error=error, **more)


# The trainings without a fault


def h_relu_output():
    """Rain: most targets are 0, the others positive, and so is the output."""
    x, y = averages(1500)
    model = nn.Sequential(Net("GRU", 3, 32, 16), nn.ReLU(), nn.Linear(16, 1), nn.ReLU())
    return made((x, y.relu()), model, MSE)


def h_sigmoid_bce():
    """Probabilities from a sigmoid, with BCELoss."""
    x, y = averages(1000)
    model = nn.Sequential(Net("LSTM", 3, 32, 1), nn.Sigmoid())
    return made((x, (y > 0).float()), model, nn.BCELoss(), rate=3e-3)


def h_sigmoid_mse():
    """Shares between 0 and 1 from a sigmoid."""
    x, y = averages(1000, K=2, every=True)
    model = nn.Sequential(Net("GRU", 3, 24, 2, every=True), nn.Sigmoid())
    return made((x, y.sigmoid()), model, MSE, rate=2e-3)


def h_tanh_output():
    """Targets between -1 and 1 from a tanh, by Huber's loss."""
    x, y = averages(1000, K=2)
    model = nn.Sequential(Net("GRU", 3, 32, 2), nn.Tanh())
    return made((x, y.tanh()), model, nn.HuberLoss(), rate=2e-3)


def h_lstm_states():
    """The states of an nn.LSTM are the outputs, between -1 and 1; Adam at 3e-2."""
    x, y = averages(1000, K=4, every=True)
    return made((x, 0.5 * y.tanh()), lstm(3, 4), MSE, rate=3e-2)


def h_log_softmax():
    """LogSoftmax with NLLLoss, both directions."""
    data, model = hums(800), Pooled("LSTM", 2, 24, 3, bidirectional=True)
    return made(data, nn.Sequential(model, nn.LogSoftmax(-1)), nn.NLLLoss(), rate=3e-3)


def h_classes_in_the_middle():
    """Outputs (N, K, T) of a class at every frame."""
    x, y = averages(800, every=True)
    model = Own(lambda own, x: own.net(x).mT, net=Net("GRU", 3, 32, 2, every=True))
    return made((x, (y[..., 0] > 0).long()), model, CE, rate=2e-3)


def h_many_labels():
    """Five yes-or-no labels at once."""
    x, y = averages(1500, K=5)
    return made((x, (y > 0).float()), Net("GRU", 3, 48, 5), BITS, rate=3e-3)


def h_smoothed_weighted():
    """Smoothed labels and weights of classes of 8 : 1 : 1."""
    loss = nn.CrossEntropyLoss(weight=torch.tensor([0.5, 2.0, 2.0]), label_smoothing=0.1)
    return made(hums(1500, (8.0, 1.0, 1.0)), Net("GRU", 2, 32, 3), loss, rate=3e-3, steps=800)


def h_nine_to_one():
    """Classes of 9 : 1, with no weights; the initial state is a parameter."""

    def run(own, x):
        return own.net.out(own.net.rnn(x, own.h0.expand(-1, len(x), -1).contiguous())[0][:, -1])

    data = hums(1500, (9.0, 1.0))
    model = Own(run, net=Net("GRU", 2, 32, 2), h0=nn.Parameter(torch.zeros(1, 1, 32)))
    return made(data, model, CE, rate=3e-3)


def h_rare_events():
    """Classes of 95 : 5, after attention over all states."""
    data, model = hums(2500, (95.0, 5.0)), Pooled("GRU", 2, 32, 2, attention=True)
    return made(data, model, CE, rate=3e-3, steps=800)


def h_rate_1e_4():
    """Adam at 1e-4, small but enough, with AMSGrad."""
    data, model = averages(2000, every=True), Net("GRU", 3, 64, 1, every=True)
    return made(data, model, MSE, rate=1e-4, steps=1000, how={"amsgrad": True})


def h_rate_3e_5():
    """AdamW at 3e-5, on a wide frozen embedding as a pretrained network gives it."""
    data, table = reviews(2000, V=20), nn.Embedding(20, 64)
    model = nn.Sequential(
        table.requires_grad_(False), Pooled("LSTM", 64, 64, 2, bidirectional=True)
    )
    return made(data, model, CE, "AdamW", 3e-5, steps=1000)


def h_sgd_rate_1():
    """SGD at 1.0, gradients clipped at 1."""
    return made(hums(1000), Net("GRU", 2, 32, 3), CE, "SGD", 1.0, clip=1.0)


def h_rmsprop():
    """RMSprop at its usual 1e-3, minibatches of 4, targets of size 0.1."""
    x, y = averages(1000)
    model, loss = Net("LSTM", 3, 32, 1), nn.SmoothL1Loss()
    return made((x, 0.1 * y), model, loss, "RMSprop", 1e-3, batch_size=4, steps=1000)


def h_weight_decay():
    """AdamW with a weight decay of 0.1, and dropout of 0.5 before the output."""
    data, rnn = hums(1000), Net("LSTM", 2, 48, 48, num_layers=2, dropout=0.3)
    model = nn.Sequential(rnn, nn.ReLU(), nn.Dropout(0.5), nn.Linear(48, 3))
    return made(data, model, CE, "AdamW", 2e-3, how={"weight_decay": 0.1})


def h_adagrad():
    """Adagrad at 0.03, sums of the squared errors instead of means."""
    return made(averages(1000), Net("GRU", 3, 32, 1), nn.MSELoss(reduction="sum"), "Adagrad", 0.03)


def h_one_cycle():
    """A warm-up from a very small rate to 1e-2 and down again."""
    data, model = averages(1000), Net("LSTM", 3, 32, 1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    options = {"scheduler": torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=600)}
    return made(data, model, MSE, optimizer, options=options)


def h_cosine():
    """A cosine down to 0."""
    data, model = hums(800, noise=0.8), Net("GRU", 2, 32, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    options = {"scheduler": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 500)}
    return made(data, model, CE, optimizer, steps=500, options=options, clip=1.0)


def h_small_data():
    """80 examples that are enough, full batch."""
    return made(hums(80, noise=0.2), Net("GRU", 2, 16, 3), CE, rate=5e-3, batch_size=80, steps=300)


def h_200_examples():
    """200 examples, minibatches of 16, gradients clipped at 1."""
    data, model = waves(200), Net("LSTM", 1, 24, 1, every=True)
    return made(data, model, MSE, rate=5e-3, batch_size=16, clip=1.0)


def h_four_lstms():
    """Four stacked LSTM."""
    return made(hums(800), Net("LSTM", 2, 32, 3, num_layers=4), CE, rate=3e-3, steps=500)


def h_packed():
    """Sequences of 12 to 24 frames, padded with zeros and packed."""
    x, y = hums(800)
    pieces = [(v[: int(torch.randint(12, 25, ()))], label) for v, label in zip(x, y, strict=True)]

    def collate(some):
        x, y = zip(*some, strict=True)
        lengths = torch.tensor([len(v) for v in x])
        return (pad_sequence(x, batch_first=True), lengths), torch.stack(y)

    def run(own, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return own.net.out(own.net.rnn(packed)[1][-1])

    model = Own(run, net=Net("GRU", 2, 32, 3))
    how = {"collate_fn": collate}
    return loaded(model, pieces[:-FRESH], collate(pieces[-FRESH:]), CE, 3e-3, how)


def h_embedded():
    """Ids, embedded; mean of all states."""
    data = reviews(2000)
    return made(data, nn.Sequential(nn.Embedding(50, 16), Pooled("LSTM", 16, 32, 2)), CE, rate=3e-3)


def h_frozen_embedding():
    """An embedding as it came, which the optimiser does not have."""
    data, table = reviews(2000), nn.Embedding(50, 24)
    model = nn.Sequential(table.requires_grad_(False), Net("GRU", 24, 32, 2))
    return made(data, model, CE, rate=3e-3, steps=800)


def h_one_hot():
    """Ids, one-hot; a fifth of the ids never occurs."""
    x, y = reviews(1500, V=20)
    return made((F.one_hot(x, 25).float(), y), Net("GRU", 25, 32, 2), CE, "NAdam", 3e-3)


def h_counts():
    """Counts 0 to 9 as they are."""
    data = averages(1000, m=2, draw=partial(torch.randint, 0, 10))
    return made(data, Net("GRU", 2, 32, 1), MSE, rate=3e-3, steps=800)


def h_unscaled():
    """Features from 0 to 20 as they are, of which little harm comes."""
    data = averages(1000, every=True, draw=lambda shape: 20 * torch.rand(shape))
    return made(data, Net("LSTM", 3, 48, 1, every=True), MSE, rate=3e-3, steps=800)


def h_large_targets():
    """Targets from -14 to 40."""
    x, y = averages(1000)
    return made((x, 12 + 8 * y), Net("GRU", 3, 32, 1), MSE, rate=1e-2, steps=1000)


def h_next_of_resonance():
    """The next number of an autoregressive process, time first."""
    data = swapped(resonances(600))
    model = Net("LSTM", 1, 32, 1, every=True, batch_first=False)
    return made(data, model, MSE, rate=5e-3, axis=1, steps=500)


def h_next_letter():
    """The next letter of sentences, from a DataLoader; one matrix is both the embedding and the
    output.
    """
    data, parts = sentences(1000), {"ids": nn.Embedding(27, 48), "out": nn.Linear(48, 27)}
    model = Own(lambda net, x: net.out(net.rnn(net.ids(x))[0]), **parts, rnn=lstm(48, 48))
    nn.init.normal_(model.ids.weight, std=0.1)
    model.out.weight = model.ids.weight
    training = made(data, model, cross, rate=5e-3, clip=1.0)
    loader = DataLoader(TensorDataset(training.x, training.y), 32, shuffle=True, drop_last=True)
    return replace(training, x=loader, y=None)


def h_next_chord():
    """The next chord, of keys of which most are silent."""
    return made(chords(800), Net("GRU", 12, 48, 12, every=True), BITS, rate=5e-3)


def h_forecast():
    """The next number from a window of 24, (N, 1)."""
    x, y = waves(1500, T=24, noise=0.05)
    return made((x, y[:, -1]), Net("LSTM", 1, 32, 1), MSE, rate=3e-3, batch_size=256, steps=400)


def h_noisy_forecast():
    """Half of the target is noise: the best error is 0.5."""
    return made(averages(4000, noise=1.0), Net("GRU", 3, 24, 1), MSE, "Adam", 2e-3, batch_size=64)


def h_residual():
    """GRU layers with a LayerNorm and the input around each, in double precision."""
    x, y = averages(1000)

    def run(net, x):
        x = net.enter(x)
        for layer, norm in zip(net.layers, net.norms, strict=True):
            x = x + layer(norm(x))[0]
        return net.out(x[:, -1])

    ends = {"enter": nn.Linear(3, 32), "out": nn.Linear(32, 1)}
    layers = nn.ModuleList(gru(32, 32) for _ in range(3))
    model = Own(run, **ends, layers=layers, norms=nn.ModuleList(nn.LayerNorm(32) for _ in range(3)))
    return made((x.double(), y.double()), model.double(), MSE, rate=2e-3, steps=300)


def h_batch_norm():
    """BatchNorm of the last state."""
    data, rnn = hums(1000), Net("GRU", 2, 32, 32)
    model = nn.Sequential(rnn, nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 3))
    return made(data, model, CE, rate=3e-3)


def h_relu_rnn():
    """A plain RNN with ReLU, minibatches of one example."""
    data = averages(1000, every=True)
    model = Net("RNN", 3, 32, 1, every=True, nonlinearity="relu")
    return made(data, model, MSE, batch_size=1, steps=1000)


def h_rnn_cell():
    """An RNNCell in a loop; momentum of Nesterov."""
    how = {"momentum": 0.9, "nesterov": True}
    return made(averages(1000), Loop("RNNCell", 3, 32, 1), MSE, "SGD", 0.02, how=how)


def h_lstm_cell():
    """An LSTMCell in a loop, two groups of parameters."""
    data, model = averages(1000), Loop("LSTMCell", 3, 24, 1)
    groups = [{"params": model.cell.parameters()}, {"params": model.out.parameters(), "lr": 1e-2}]
    return made(data, model, MSE, torch.optim.Adam(groups, 3e-3))


def h_truncated():
    """A GRUCell in a loop over 60 frames that is cut every 20."""
    data = averages(500, T=60, every=True)
    return made(data, Loop("GRUCell", 3, 24, 1, cut=20, every=True), MSE, rate=5e-3, steps=200)


def h_reservoir():
    """A random recurrent layer that stays as it is, and a readout that learns."""
    data, model = averages(1000, every=True), Net("RNN", 3, 64, 1, every=True)
    for p in model.rnn.requires_grad_(False).parameters():
        nn.init.normal_(p, std=0.11)
    return made(data, model, MSE, rate=1e-2)


def h_time_first():
    """(T, N, m), of which the last frame has an output; four stacked GRU."""
    data, model = swapped(hums(800)), Net("GRU", 2, 32, 3, num_layers=4, batch_first=False)
    return made(data, model, CE, rate=3e-3, axis=1, steps=400)


def h_encoder_decoder():
    """The last 8 of 28 frames from the first 20."""
    z = waves(1000, T=28)[0]
    return made((z[:, :20], z[:, 20:]), coder(8), MSE, rate=5e-3, steps=500)


def h_auto_encoder():
    """A sequence again, from one state."""
    z = waves(1000, T=16)[0]
    return made((z, z), coder(16), MSE, rate=5e-3, steps=500)


def h_two_outputs():
    """A tuple of two outputs, the second of which the loss does not use."""
    data, net = averages(1000), Net("GRU", 3, 32, 2)
    return made(data, Own(lambda own, x: own.net(x).chunk(2, -1), net=net), MSE, rate=2e-3)


def h_our_rhn():
    """A recurrent highway network of depth 4."""
    start = {"init": "orthogonal", "generator": torch.Generator().manual_seed(5)}
    data, model = swapped(averages(800)), ours("rhn", 3, 32, 1, depth=4, **start)
    return made(data, model, MSE, rate=3e-3, axis=1)


def h_our_dt_rnn():
    """A deep transition RNN of depth 3, a target at every frame."""
    start = {"init": "orthogonal", "generator": torch.Generator().manual_seed(5)}
    data, model = swapped(waves(500)), ours("dt-rnn", 1, 32, 1, every=True, depth=3, **start)
    return made(data, model, MSE, rate=2e-3, axis=1)


HEALTHY = {name[2:]: make for name, make in globals().items() if name.startswith("h_")}
HEALTHY |= DRAWN
