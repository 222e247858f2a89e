"""`check` names the cause of a training that does not learn; the same training with the cause
mended does not have it.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from tables import for_each
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gersgorin
from gersgorin.checking.causes.case import Case
from gersgorin.checking.causes.data import in_front
from gersgorin.checking.causes.diagnosis import BEFORE, before
from gersgorin.checking.causes.pairing import frames_apart
from gersgorin.checking.causes.repairs import Trials
from gersgorin.checking.trials import Constant
from gersgorin.training.activation import last_activation, states_of
from gersgorin.training.training import Training
from rhn.errors import InvalidInputError

ENOUGH = 600.0  # seconds on any machine
N, T = 200, 10
X = torch.randn(N, T, 3, generator=torch.Generator().manual_seed(0))
SUM = X[:, -3:, 0].sum(1, keepdim=True)
SIGN = (SUM > 0).float()
CLASS = SIGN[:, 0].long()
WAVES = torch.sin(
    6 * torch.rand(N, 1, 1, generator=torch.Generator().manual_seed(1))
    + torch.arange(T + 1)[:, None]
)
TEXT = torch.randint(1, 40, (N, T), generator=torch.Generator().manual_seed(2))
LETTERS = (X[..., 0] > 0).long() + 2 * (X[..., 1] > 0)
BOTH = X, torch.zeros(N)
MISSING = torch.rand(N, T, 3, generator=torch.Generator().manual_seed(4)) < torch.tensor(
    [0.05, 0.05, 0.0]
)
LEAST = X.amin(1, keepdim=True)
KEYS = F.one_hot(torch.rand(N, T, generator=torch.Generator().manual_seed(6)).argsort(1), T)[
    ..., :3
].float()
PATHS = X.cumsum(1)
NOISE = torch.randn(N, 60, 3, generator=torch.Generator().manual_seed(4))
NEAR = X[:20].repeat(N // 20, 1, 1) + 1e-6 * X
ALL = slice(None)


class Net(nn.Module):
    """A recurrent layer, a linear layer of some of its states, and an activation."""

    def __init__(
        self,
        outputs=1,
        end=nn.Identity(),  # noqa: B008
        *,
        kind=nn.GRU,
        read=-1,
        inputs=3,
        units=8,
        **options,
    ):
        super().__init__()
        torch.manual_seed(0)
        self.rnn = kind(inputs, units, **{"batch_first": True} | options)
        self.out, self.end, self.read = (
            nn.Linear(units * (1 + self.rnn.bidirectional), outputs),
            end,
            read,
        )

    def forward(self, x):
        return self.end(self.out(self.rnn(x)[0][:, self.read]))


class Attention(Net):
    """The states are added with weights, a softmax along an axis."""

    def __init__(self, axis):
        super().__init__()
        self.score, self.axis = nn.Linear(8, 1), axis

    def forward(self, x):
        states = self.rnn(x)[0]
        return self.out((self.score(states).softmax(self.axis) * states).sum(1))


class States(nn.Module):
    """The states of an LSTM are the outputs."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(3, 1, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[0][:, -1]


class Steps(nn.Module):
    """A cell in a loop over time; what of its state is passed on is an option."""

    def __init__(self, passed=lambda h: h, cut=0, start=torch.zeros):
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.out = nn.GRUCell(3, 8), nn.Linear(8, 1)
        self.passed, self.cut, self.start = passed, cut, start

    def forward(self, x):
        h = self.start(len(x), 8, dtype=x.dtype)
        for t, frame in enumerate(x.unbind(1)):
            h = self.cell(frame, self.passed(h) if t != self.cut else h.detach())
        return self.out(h)


class Listed(Net):
    """A layer in a list."""

    def __init__(self, keep=list):
        super().__init__(8)
        self.layers = keep([nn.ReLU(), nn.Linear(8, 1)])

    def forward(self, x):
        for layer in (super().forward, *self.layers):
            x = layer(x)
        return x


class Scaled(nn.Module):
    """Outputs times a number."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return self.factor * x


class ReZero(Net):
    """At first its outputs depend on one number."""

    def __init__(self):
        super().__init__(4)
        self.skip, self.scale = nn.Linear(1, 4), nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.skip(x[:, -1, :1]) + self.scale * super().forward(x)


class Flat(Net):
    """Without an axis of units."""

    def forward(self, x):
        return super().forward(x)[..., 0]


class Turned(Net):
    """Outputs (T, N, K), as CTC takes them."""

    def __init__(self, turn, **options):
        super().__init__(read=ALL, **options)
        self.turn = turn

    def forward(self, x):
        return self.turn(super().forward(x))


class Noisy(Net):
    """Dropout that is no layer."""

    def forward(self, x):
        return super().forward(F.dropout(x, 0.98, self.training))


class Reshaped(Net):
    """Axes that reshape exchanges, before the layer."""

    def forward(self, x):
        return self.out(self.rnn(x.reshape(x.shape[1], x.shape[0], -1))[0][-1])


class Both(Flat):
    """With a second input."""

    def forward(self, x, more):
        return super().forward(x) + more


class Own(nn.Module):
    """A cell of its own, all of whose weights are positive."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.U, self.W = nn.Parameter(torch.rand(3, 40)), nn.Parameter(torch.rand(40, 40))
        self.out = nn.Linear(40, 1)

    def forward(self, x):
        h = torch.zeros(len(x), 40, dtype=x.dtype)
        for frame in x.unbind(1):
            h = torch.tanh(frame @ self.U + h @ self.W + 1)
        return self.out(h)


def large(model):
    """Ten times its initial weights, and more."""
    for p in model.parameters():
        nn.init.normal_(p, std=5.0)
    return model


def shut(model):
    """An update gate that lets nothing pass."""
    nn.init.constant_(model.rnn.bias_hh_l0[8:16].detach(), 12.0)
    return model


def closed(model):
    """An input gate that lets nothing in."""
    nn.init.constant_(model.rnn.bias_hh_l0[:8].detach(), -14.0)
    return model


def low(model):
    """Outputs below 0."""
    nn.init.constant_(model.out.bias.detach(), -2.0)
    return model


def cut(z, y):
    return F.binary_cross_entropy(z.clamp(1e-7, 1 - 1e-7), y)


def readout(units):
    """Only its last layer is trained."""
    model = Net(kind=nn.RNN, units=units)
    model.rnn.requires_grad_(False)
    return model


class Root(Net):
    """A root, whose slope is no number for an example of zeros."""

    def forward(self, x):
        return (super().forward(x).square() * x.any(-1)[:, :1]).sqrt()


class Zero(Net):
    """A head that starts at zero beside a shortcut from the last frame."""

    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.out.weight)

    def forward(self, x):
        return super().forward(x) + x[:, -1, :1]


class Frozen(Net):
    """Without a gradient in its recurrent layer."""

    def forward(self, x):
        with torch.no_grad():
            states = self.rnn(x)[0][:, -1]
        return self.out(states)


class Packed(nn.Module):
    """A packed layer, whose last state or last padded output is read."""

    def __init__(self, last):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.rnn, self.out, self.last = (
            nn.Embedding(60, 8),
            nn.GRU(8, 8, batch_first=True),
            nn.Linear(8, 1),
            last,
        )

    def forward(self, x):
        lengths = (x > 0).sum(1).cpu()
        states, h = self.rnn(
            nn.utils.rnn.pack_padded_sequence(self.embed(x), lengths, True, enforce_sorted=False)
        )
        return self.out(
            h[-1] if self.last else nn.utils.rnn.pad_packed_sequence(states, True)[0][:, -1]
        )


class Triple(torch.autograd.Function):
    """Three times a number, with a gradient of its own."""

    @staticmethod
    def forward(ctx, x, slope):
        ctx.slope = slope
        return 3 * x

    @staticmethod
    def backward(ctx, grad):
        return ctx.slope * grad, None


class Tripled(Net):
    """Its states are tripled, with this gradient."""

    slope = 3.0

    def forward(self, x):
        return self.out(Triple.apply(self.rnn(x)[0][:, -1], self.slope))


def with_slope(slope):
    model = Tripled()
    model.slope = slope
    return model


def words(outputs=1):
    return nn.Sequential(nn.Embedding(60, 8), Net(outputs, inputs=8))


def nll_of_log(shares, y):
    return F.nll_loss(shares.log(), y)


def own_mse(output, y):
    return (output - y).square().mean()


def tagger():
    return nn.Sequential(nn.Embedding(60, 8), Net(3, inputs=8, read=ALL))


def ctc(output, y):
    lengths = torch.full((2, len(y)), T)
    return F.ctc_loss(output.transpose(0, 1).log_softmax(2), y, *lengths)


def tagging(left_out=-100):
    return lambda z, y: F.cross_entropy(z.flatten(0, 1), y.flatten(), ignore_index=left_out)


def padded(T):
    """Texts of 3 to 8 words among zeros behind."""
    lengths = torch.randint(3, 9, (N, 1), generator=torch.Generator().manual_seed(3))
    return F.pad(TEXT, (0, T - TEXT.shape[1])) * (torch.arange(T) < lengths)


PADDED = padded(80).flip(1)
TAGS = (PADDED % 2 + 1) * (PADDED > 0)
SOFTMAX, LOG = nn.Softmax(-1), nn.LogSoftmax(-1)
CE, MSE, BCE, LOGITS = nn.CrossEntropyLoss(), nn.MSELoss(), nn.BCELoss(), nn.BCEWithLogitsLoss()
RELU, POISSON = nn.ReLU(), nn.PoissonNLLLoss(full=True)
# name, whether it is sure before the first step; model, x, y, loss that have it; the same without
# it
CASES = [
    (
        "output range",
        True,
        (Net(1, nn.Tanh()), X, 50 + SUM, MSE),
        (Net(1, nn.Tanh()), X, SUM.tanh(), MSE),
    ),
    (
        "output range",
        True,
        (Net(1, RELU), X, -1 - SUM.abs(), MSE),
        (Net(1, RELU), X, SUM.abs(), MSE),
    ),
    ("output range", False, (States(), X, SUM, MSE), (States(), X, 0.3 * SUM.tanh(), MSE)),
    ("softmax twice", False, (Net(2, SOFTMAX), X, CLASS, CE), (Net(2, LOG), X, CLASS, CE)),
    (
        "softmax twice",
        False,
        (Net(1, nn.Sigmoid()), X, SIGN, LOGITS),
        (Net(1, nn.Sigmoid()), X, SIGN, BCE),
    ),
    (
        "no log_softmax",
        False,
        (Net(2, SOFTMAX), X, CLASS, nn.NLLLoss()),
        (Net(2, LOG), X, CLASS, nn.NLLLoss()),
    ),
    (
        "constant output",
        True,
        (Net(1, SOFTMAX), X, SIGN, BCE),
        (Net(1, nn.Sigmoid()), X, SIGN, BCE),
    ),
    (
        "constant output",
        False,
        (Net(num_layers=9, units=2), X, SUM, MSE),
        (Net(num_layers=2), X, SUM, MSE),
    ),
    (
        "initial weights",
        False,
        (closed(Net(kind=nn.LSTM)), X, SUM, MSE),
        (Net(kind=nn.LSTM), X, SUM, MSE),
    ),
    ("unpaired loss", True, (Net(), X, SUM[:, 0], own_mse), (Net(), X, SUM, own_mse)),
    (
        "unpaired loss",
        True,
        (Net(), X, SUM[:, 0], own_mse),
        (Net(), X, (14 + 5 * SUM.tanh()).round(), POISSON),
    ),
    ("mixed examples", False, (Net(batch_first=False), X, SUM, MSE), (Net(), X, SUM, MSE)),
    ("mixed examples", False, (Reshaped(batch_first=False), X, SUM, MSE), (Net(), X, SUM, MSE)),
    # all outputs are of the last examples
    ("mixed examples", False, (Reshaped(), X, SUM, MSE), (Net(), X, SUM, MSE)),
    (
        "mixed examples",
        False,
        (Net(2, nn.Softmax(0)), X, SIGN.expand(N, 2), MSE),
        (Net(2, SOFTMAX), X, SIGN.expand(N, 2), MSE),
    ),
    (
        "mixed examples",
        False,
        (Turned(lambda z: z.reshape(T, -1, 1)), X, SUM, lambda z, y: own_mse(z.mean(0), y)),
        (Turned(lambda z: z.transpose(0, 1)), X, SUM, lambda z, y: own_mse(z.mean(0), y)),
    ),
    ("unread steps", False, (Net(read=0), X, SUM, MSE), (Net(), X, SUM, MSE)),
    (
        "unread steps",
        False,
        (Net(bidirectional=True), X, SUM, MSE),
        (Net(bidirectional=True, read=4), X, SUM, MSE),
    ),
    ("softmax over one number", False, (Attention(-1), X, SUM, MSE), (Attention(1), X, SUM, MSE)),
    ("unread steps", False, (Steps(torch.zeros_like), X, SUM, MSE), (Steps(), X, SUM, MSE)),
    ("detached state", False, (Steps(cut=5), X, SUM, MSE), (Steps(), X, SUM, MSE)),
    ("unrepeatable output", False, (Steps(start=torch.randn), X, SUM, MSE), (Steps(), X, SUM, MSE)),
    (
        "looks ahead",
        False,
        (Net(inputs=1, read=ALL, bidirectional=True), WAVES[:, :-1], WAVES[:, 1:], MSE),
        (Net(inputs=1, read=ALL), WAVES[:, :-1], WAVES[:, 1:], MSE),
    ),
    (
        "looks ahead",
        False,
        (Flat(inputs=1, read=ALL, bidirectional=True), WAVES[:, :-1], WAVES[:, 1:, 0], MSE),
        (Flat(inputs=1, read=ALL), WAVES[:, :-1], WAVES[:, 1:, 0], MSE),
    ),
    ("untrained weights", False, (Listed(), X, SUM, MSE), (Listed(nn.ModuleList), X, SUM, MSE)),
    ("untrained weights", False, (Frozen(), X, SUM, MSE), (Net(), X, SUM, MSE)),
    ("one step", False, (Net(), X[:, :1], SUM, MSE), (Net(), X[:, :3], SUM, MSE)),
    ("ambiguous inputs", True, (Net(), X[:2].repeat(N // 2, 1, 1), SUM, MSE), (Net(), X, SUM, MSE)),
    (
        "ids as numbers",
        False,
        (Net(inputs=1), TEXT[..., None].float(), SUM, MSE),
        (words(), TEXT, SUM, MSE),
    ),
    (
        "ids as numbers",
        False,
        (words(), TEXT, TEXT[:, -1:].float(), MSE),
        (words(40), TEXT, TEXT[:, -1], CE),
    ),
    ("target scale", True, (Net(), X, 4000 + 9 * SUM, MSE), (Net(), X, 1 + SUM, MSE)),
    ("target scale", True, (Net(), X, 20_000 * SUM, MSE), (shut(Net()), X, SUM, MSE)),
    (
        "mixed examples",
        False,
        (Both(batch_first=False), BOTH, SUM[:, 0], MSE),
        (Both(), BOTH, SUM[:, 0], MSE),
    ),
    ("input scale", False, (Net(), 4000 + 300 * X, SUM, MSE), (Net(), 1 + X, SUM, MSE)),
    ("padding", False, (words(), padded(40), SUM, MSE), (words(), TEXT, SUM, MSE)),
    (
        "ambiguous inputs",
        False,
        (Net(), NEAR, SUM, MSE),
        (Net(), X * torch.tensor([1, 1, 1e4]), SUM, MSE),
    ),
    ("detached state", False, (Steps(torch.detach), X, SUM, MSE), (Zero(), X, SUM, MSE)),
    (
        "no log_softmax",
        False,
        (Net(2, SOFTMAX), X, CLASS, nn.NLLLoss()),
        (Net(2, SOFTMAX), X, CLASS, nll_of_log),
    ),
    ("padding", True, (words(), padded(150), SUM, MSE), (words(), TEXT, SUM, MSE)),
    ("equal targets", True, (Net(), X, 0 * SUM + 3, MSE), (Net(), X, SUM, MSE)),
    ("label range", False, (Net(), X, 2 * SIGN - 1, LOGITS), (Net(), X, SIGN, LOGITS)),
    ("input scale", True, (Net(), 1.6e9 + 1e4 * X, SUM, MSE), (Net(), X, SUM, MSE)),
    (
        "output range",
        True,
        (Net(2, SOFTMAX), X, 5 + X[:, -1, :2], MSE),
        (Net(2, SOFTMAX), X, SIGN.expand(N, 2), MSE),
    ),
    (
        "unpaired loss",
        False,
        (
            Net(4, read=ALL),
            X,
            LETTERS,
            lambda z, y: F.cross_entropy(z.transpose(0, 1).flatten(0, 1), y.flatten()),
        ),
        (Net(4, read=ALL), X, LETTERS, lambda z, y: F.cross_entropy(z.flatten(0, 1), y.flatten())),
    ),
    (
        "looks ahead",
        False,
        (Net(1, inputs=1, read=ALL), WAVES[:, :-1], WAVES[:, :-1], MSE),
        (Net(1, inputs=1, read=ALL), WAVES[:, :-1], WAVES[:, 1:], MSE),
    ),
    ("padding", False, (tagger(), PADDED, TAGS, tagging()), (tagger(), PADDED, TAGS, tagging(0))),
    ("output range", True, (low(Net()), X, SIGN, cut), (Net(1, nn.Sigmoid()), X, SIGN, cut)),
    (
        "missing values",
        False,
        (Net(), X.masked_fill(MISSING, -999), SUM, MSE),
        (Net(), X.masked_fill(MISSING, 0), SUM, MSE),
    ),
    (
        "scaled one by one",
        False,
        (Net(), (X - X.mean(1, True)) / X.std(1, keepdim=True), SUM, MSE),
        (Net(), X, SUM, MSE),
    ),
    (
        "scaled one by one",
        False,
        (Net(), (X - LEAST) / (X.amax(1, True) - LEAST), SUM, MSE),
        (Net(), KEYS, SUM, MSE),
    ),
    (
        "reshaped inputs",
        False,
        (Net(), PATHS.mT.reshape(N, T, 3), SUM, MSE),
        (Net(), PATHS, SUM, MSE),
    ),
    (
        "bottleneck",
        False,
        (Net(1, nn.Linear(1, 4)), X, CLASS, CE),
        (Net(2, nn.Linear(2, 4)), X, CLASS, CE),
    ),
    (
        "bottleneck",
        False,
        (Net(1, nn.Sequential(nn.Linear(1, 4), SOFTMAX)), X, F.one_hot(CLASS, 4).float(), BCE),
        (Net(4), X[:2].repeat(N // 2, 1, 1), CLASS, CE),  # two points lie on a line
    ),
    ("bottleneck", False, (Net(4, units=1), X, CLASS, CE), (ReZero(), X, CLASS, CE)),
    ("padding", False, (Packed(False), padded(12), SUM, MSE), (Packed(True), padded(12), SUM, MSE)),
    ("wrong gradient", False, (with_slope(1.0), X, SUM, MSE), (with_slope(3.0), X, SUM, MSE)),
    ("class imbalance", False, (Net(2), X, (SUM[:, 0] > 4).long(), CE), (Net(2), X, CLASS, CE)),
]


def found_in(model, x, y, loss):
    """The causes before the first step, and what could not be measured."""
    loop = Training(model, x, y, loss, torch.optim.Adam(model.parameters(), 1e-3))
    causes, lacking = before(Case(loop, 1000))
    return [cause for _, cause in causes], lacking


def test_no_measure_begins_after_the_time():
    loop = Training(model := Net(2), X, CLASS, CE, torch.optim.Adam(model.parameters(), 1e-3))
    causes, lacking = before(Case(loop, 9), end=-math.inf)
    assert (
        causes == []
        and len(lacking) == len(BEFORE)
        and lacking[0] == "equal targets: the time ran out"
    )


def test_repairs_without_time_are_left_out_once():
    loop = Training(model := Net(2), X, CLASS, CE, torch.optim.Adam(model.parameters(), 1e-3))
    trials = Trials(Case(loop, 9), Constant(loop), lambda: 0.0, 0, print)
    assert trials.run(loop, [1.0], 9) == trials.run(loop, [2.0], 9) == []
    assert trials.lacking == [
        "some repairs of the training, which may show its cause: the time ran out"
    ]


@for_each(("name", "sure", "broken", "mended"), CASES)
def test_a_cause_is_named_where_it_is_and_nowhere_else(name, sure, broken, mended):
    causes, lacking = found_in(*broken)
    assert (name, sure) in [(cause.name, cause.sure) for cause in causes] and lacking == []
    assert all(cause.sentence and cause.remedy and cause.evidence for cause in causes)
    causes, lacking = found_in(*mended)
    assert name not in [cause.name for cause in causes] and lacking == []


@for_each(
    ("model", "remedy"),
    [
        (Net(batch_first=False), "Write nn.GRU(..., batch_first=True)."),
        (
            Reshaped(batch_first=False),
            "Swap the axes by transpose or permute before nn.GRU, in place of view or reshape.",
        ),
    ],
)
def test_the_line_that_unmixes_examples_depends_on_what_the_layer_reads(model, remedy):
    assert found_in(model, X, SUM, MSE)[0][0].remedy == remedy


def test_a_packed_network_reads_no_padding():
    x = padded(40)
    x[0, :] = 1  # of the greatest length

    class Packed(Net):
        def forward(self, x):
            z = nn.utils.rnn.pack_padded_sequence(
                F.one_hot(x, 40).float(), (x > 0).sum(1), True, False
            )
            return self.out(self.rnn(z)[1][-1])

    read, packed = found_in(words(), x, SUM, MSE)[0], found_in(Packed(inputs=40), x, SUM, MSE)[0]
    assert "padding" in [cause.name for cause in read] and "padding" not in [
        cause.name for cause in packed
    ]


def test_zeros_of_truncated_numbers_are_no_padding():
    x = (X[..., :1] > 1.8).float() * (
        torch.rand(N, 1, 1, generator=torch.Generator().manual_seed(1)) < 0.3
    )
    found = [cause.name for cause in found_in(Net(inputs=1), x, SIGN, LOGITS)[0]]
    assert (
        (x == 0).flatten(1).all(1).float().mean() > 0.5
        and "ambiguous inputs" in found
        and "padding" not in found
    )


def test_a_chaotic_network_has_no_wrong_gradient():
    class Chaotic(Net):
        def __init__(self):
            super().__init__(kind=nn.RNN, units=64)
            nn.init.normal_(self.rnn.weight_hh_l0)

    causes, lacking = found_in(Chaotic(), X.repeat(1, 4, 1), SUM, MSE)
    assert "wrong gradient" not in [cause.name for cause in causes] and lacking == []


def test_weights_of_zeros_are_named():
    model = Net()
    for p in model.parameters():
        nn.init.zeros_(p)
    (cause,) = found_in(model, X, SUM, MSE)[0]
    assert cause.name == "constant output" and cause.evidence["zeros"] == [
        "rnn.weight_ih_l0",
        "rnn.weight_hh_l0",
        "out.weight",
    ]
    assert "all zero: rnn.weight_ih_l0" in cause.remedy and cause.sure


def test_the_case_of_each_measure_is_among_these():
    # two measures for one name, and loaders
    assert len({name for name, *_ in CASES}) >= len(BEFORE) - 6


def test_minibatches_in_one_order_of_one_class_each_are_named():
    order = CLASS.argsort()
    for shuffle, names in ((False, ["sorted data"]), (True, [])):
        loader = DataLoader(TensorDataset(X[order], CLASS[order]), 20, shuffle=shuffle)
        assert [cause.name for cause in found_in(Net(2), loader, None, CE)[0]] == names


@for_each(
    ("change", "name"),
    [
        ({"x": torch.where(X > 2, math.nan, X)}, "not finite"),
        ({"y": SUM / 0}, "not finite"),
        (
            {
                "model": nn.Sequential(Net(), nn.Linear(1, 1).requires_grad_(False)).requires_grad_(
                    False
                )
            },
            "no gradient",
        ),
        ({"loss_fn": lambda output, y: F.mse_loss(output.round().detach(), y)}, "no gradient"),
        (
            {
                "loss_fn": lambda output, y: (
                    torch.ones((), requires_grad=True) + output.mean().item()
                )
            },
            "no gradient",
        ),
        ({"loss_fn": lambda output, y: (output - output).sum() / 0}, "not finite"),
        ({"y": SUM[:, 0]}, "unpaired loss"),
        ({"model": tagger(), "x": TEXT, "y": TEXT % 2 + 1, "loss_fn": ctc}, "too few frames"),
        ({"optimizer": torch.optim.Adam(Net().parameters())}, "untrained weights"),
    ],
)
def test_a_training_that_cannot_begin_has_a_sure_cause(change, name):
    model = change.get("model") or Net()
    parts = {
        "model": model,
        "x": X,
        "y": SUM,
        "loss_fn": MSE,
        "optimizer": torch.optim.Adam(model.parameters()),
    }
    found = gersgorin.check(**parts | change, steps=100)
    # a model or a loss may mask what is not finite in the data
    sure = "loss_fn" in change or name != "not finite"
    assert [(cause.name, cause.sure) for cause in found.causes] == [(name, sure)]
    assert found.outcome == ("stays" if sure else "may leave") and not found.tried
    assert found.causes[0].sentence in found.summary()
    assert found.to_json()["causes"][0]["remedy"] == found.causes[0].remedy


def checked(model=None, x=X, y=SUM, loss=MSE, *, optimizer=torch.optim.Adam, steps=200, **options):
    model, rates = (
        model or Net(),
        {name: options.pop(name) for name in ("lr", "weight_decay") if name in options},
    )
    made = optimizer(model.parameters(), **{"lr": 1e-2} | rates)
    if gamma := options.pop("gamma", None):
        options["scheduler"] = torch.optim.lr_scheduler.ExponentialLR(made, gamma)
    return gersgorin.check(model, x, y, loss, made, steps=steps, seconds=ENOUGH, **options)


@for_each(
    ("name", "change"),
    [
        ("input scale", {"x": 4000 + 300 * X}),
        ("target scale", {"y": 1e-5 * SUM, "lr": 3e-3}),
        ("output scale", {"model": Net(1, Scaled(1e-6)), "y": SIGN, "loss": LOGITS, "lr": 1e-3}),
        (
            "weight decay",
            {"weight_decay": 3.0, "optimizer": torch.optim.SGD, "lr": 0.1, "steps": 400},
        ),
        ("dropout", {"model": nn.Sequential(nn.Dropout(0.98), Net())}),
        ("dropout", {"model": Noisy()}),
        ("schedule", {"gamma": 0.5}),
        (
            "clip_norm too small",
            {"clip_norm": 1e-6, "optimizer": torch.optim.SGD, "lr": 0.1, "steps": 300},
        ),
        ("learning rate too low", {"lr": 1e-6}),
        ("learning rate too high", {"lr": 30.0}),
        ("too few steps", {"lr": 1e-3, "steps": 30}),
        ("initial weights", {"model": large(Net(kind=nn.RNN)), "lr": 1e-3}),
        ("initial weights", {"model": shut(Net()), "y": SIGN, "loss": LOGITS, "lr": 3e-3}),
        ("initial weights", {"model": Own(), "lr": 1e-3, "steps": 1000}),
    ],
)
def test_what_makes_a_stuck_training_leave_is_its_cause(name, change):
    found = checked(**change)
    assert found.causes[0].name == name and found.why == found.causes[0].sentence
    assert found.causes[0].sure == (name != "too few steps")  # which more steps nearly always mend
    assert "falls below" in found.why


@for_each(
    ("name", "change"),
    [
        ("schedule", {"gamma": 0.8}),
        (
            "clip_norm too small",
            {"clip_norm": 0.02, "optimizer": torch.optim.SGD, "lr": 0.1, "steps": 600},
        ),
        ("weight decay", {"weight_decay": 1.0}),
        ("target scale", {"y": 20 + 8 * SUM, "steps": 400}),
        ("dropout", {"model": nn.Sequential(nn.Dropout(0.5), Net()), "steps": 400}),
        ("unread steps", {"model": Net(bidirectional=True), "x": NOISE, "y": NOISE[:, 0, :1]}),
        (
            "missing values",
            {
                "x": torch.cat([X[..., :2], X[..., 2:].sign()], -1).masked_fill(MISSING, -9999)
                / 9999
            },
        ),
        ("untrained weights", {"model": readout(2), "steps": 300}),
        (None, {"model": readout(32), "steps": 300}),
        (None, {}),
        (
            "padding",
            {
                "model": tagger(),
                "x": PADDED,
                "y": TAGS,
                "loss": tagging(),
                "lr": 0.5,
                "optimizer": torch.optim.SGD,
            },
        ),
        ("learning rate too low", {"model": Net(units=32), "lr": 9e-5, "steps": 600}),
        ("initial weights", {"model": shut(Net()), "lr": 3e-3, "steps": 600}),
    ],
)
def test_what_makes_a_training_that_leaves_much_better_is_its_cause(name, change):
    found = checked(**change)
    assert found.outcome == "leaves" and [(cause.name, cause.sure) for cause in found.causes] == [
        (name, False)
    ] * bool(name)
    assert not name or ("held-out" in found.why and found.causes[0].evidence["better"] < 0.7)


def test_a_trained_network_is_below_from_the_first_step():
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        MSE(model(X), SUM).backward()
        optimizer.step()
    found = checked(model)
    assert found.outcome == "leaves" and found.escape_steps == 0 and found.table()[0]["left"] == 0
    assert (
        "is below that of the best constant output from the first step on" in found.verdict
        and "does so" not in found.verdict
    )


@for_each(("rows", "loaded"), [(1, False), (-2, True)])
def test_targets_of_other_rows_are_told_with_their_shift(rows, loaded):
    y = SUM.roll(rows, 0)
    data = (
        {"x": DataLoader(TensorDataset(X, y), 20, shuffle=True), "y": None} if loaded else {"y": y}
    )
    found = checked(**data, steps=400).causes[0]
    assert (found.name, found.sure, found.evidence["shift"]) == ("shifted targets", True, rows)
    assert found.evidence["explained"] > 0.9 and found.evidence["own"] == 0


@for_each(
    ("model", "x", "right", "loaded"),
    [
        (Net(), X.transpose(0, 1).reshape(N, T, 3), X, False),
        (Net(), X.transpose(0, 1).reshape(N, T, 3), X, True),
        (Turned(lambda z: z[-1], batch_first=False), X.reshape(T, N, 3), X.transpose(0, 1), False),
    ],
)
def test_a_reshape_in_place_of_a_transpose_is_named_with_the_line_that_mends_it(
    model, x, right, loaded
):
    loader = DataLoader(TensorDataset(x, SUM), 20, shuffle=True) if loaded else None
    data = {"x": loader, "y": None} if loaded else {"x": x, "batch_axis": int(len(x) == T)}
    found = checked(model, **data).causes[0]
    assert (found.name, found.sure) == ("reshaped inputs", True)
    assert torch.equal(x.reshape(found.evidence["shape"]).permute(found.evidence["permute"]), right)


def test_frames_of_reshaped_series_are_named_and_mended():
    found = checked(x=PATHS.mT.reshape(N, T, 3)).causes[0]
    assert (
        found.name == "reshaped inputs" and "x.reshape(-1, 3, 10).transpose(1, 2)" in found.remedy
    )
    assert torch.equal(frames_apart(PATHS.mT.reshape(N, T, 3)), PATHS)


def test_targets_that_follow_the_order_of_rows_show_no_reshape():
    x = (
        torch.randn(1000, generator=torch.Generator().manual_seed(7)).cumsum(0).reshape(100, 10, 1)
    )  # of one series, in order
    found = checked(
        Net(inputs=1), x - x[:, :1], (torch.arange(100) >= 50).float()[:, None], LOGITS, lr=3e-3
    )
    assert "reshaped inputs" not in [cause.name for cause in found.causes]


def test_windows_that_hold_the_targets_of_earlier_rows_are_not_shifted():
    noise = torch.randn(300, 1, generator=torch.Generator().manual_seed(5))
    found = checked(Net(inputs=1), noise[:-1].unfold(0, 9, 1).mT, noise[9:], steps=300)
    assert found.explained == 0 and "shifted targets" not in [cause.name for cause in found.causes]


def test_what_a_network_does_not_see_comes_before_what_it_learns_by_heart_if_the_targets_match():
    found = checked(Net(units=32), NOISE, NOISE[:, 0, :1], steps=600)
    assert [cause.name for cause in found.causes] == [
        "short reach",
        "learned by heart",
    ] and found.explained > 0.8
    assert (
        "still match" not in found.causes[1].remedy
        and "the data can be learned from" in found.verdict
    )


def test_a_loss_that_needs_a_variance_is_refused_with_the_line_to_write():
    with pytest.raises(InvalidInputError, match=r"also needs a variance: .* y, output\[..., 1:\]"):
        checked(Net(2), loss=nn.GaussianNLLLoss())
    assert checked(
        Net(2), loss=lambda z, y: nn.GaussianNLLLoss()(z[..., :1], y, z[..., 1:].exp()), steps=2
    )


def test_an_explosion_names_the_step_and_the_norm_for_clipping():
    model = nn.Sequential(nn.Flatten(), nn.Linear(30, 1))
    found = checked(model, 3 * X, optimizer=torch.optim.SGD, lr=0.2)
    explosion = next(cause for cause in found.causes if cause.name == "explosion")
    assert found.outcome == "explodes" and f"at step {found.diverges_at:.0f}" in explosion.sentence
    assert "clip_grad_norm_" in explosion.remedy and "1.weight" in explosion.evidence["growth"]


def test_nan_without_growth_is_no_explosion():
    found = checked(Root(), X.index_fill(0, torch.tensor(7), 0.0), SUM.abs())
    assert (
        found.outcome == "explodes"
        and found.causes[0].name == "not finite"
        and "nothing had grown" in found.why
    )


def test_padding_goes_in_front():
    x = torch.tensor([[1, 2, 0, 0], [3, 0, 4, 0]])
    assert in_front(x, 0).tolist() == [[0, 0, 1, 2], [0, 3, 0, 4]]
    assert torch.equal(in_front(x.mT[..., None], 1), in_front(x, 0).mT[..., None])


def test_targets_apart_from_their_inputs_are_learned_by_heart():
    torch.manual_seed(0)
    mixed = SUM[torch.randperm(N)]
    loader = DataLoader(TensorDataset(X, mixed), 32, shuffle=True)
    for x, y in ((X, mixed), (loader, None)):
        found = checked(Net(units=48), x, y, steps=1500)
        assert found.outcome == "leaves" and [cause.name for cause in found.causes] == [
            "learned by heart"
        ]
        assert found.causes[0].evidence["kept_out"] > 0.9 > found.causes[0].evidence["trained"]
        assert found.explained == 0 and "explains nothing of the targets" in found.verdict
    assert len(loader.dataset) == N


@for_each(
    ("change", "norm", "names"),
    [
        (lambda x, y: (x, y), None, []),
        (lambda x, y: (5 * x + 20, y), None, ["validation scale"]),
        (lambda x, y: (x, 5 * y + 20), None, ["validation scale"]),
        (lambda x, y: (x, y.roll(1, 0)), None, ["validation data"]),
        (lambda x, y: (x, y), 1e-5, ["evaluation mode"]),
    ],
)
def test_a_validation_set_is_compared_with_held_out_examples(change, norm, names):
    class Normed(Net):
        def forward(self, x):
            return super().forward(x if norm is None else self.norm(x.mT).mT)

    model = Normed()
    model.norm = nn.BatchNorm1d(3, momentum=norm or 0.1)
    x = 2 + torch.randn(N, T, 3, generator=torch.Generator().manual_seed(8))
    validation = change(x, x[:, -3:, 0].sum(1, keepdim=True) - 6)
    for given in (validation, [validation], DataLoader(TensorDataset(*validation), 50)):
        found = checked(model, X + 2, SUM, steps=200, validation=given)
        assert [cause.name for cause in found.causes] == names and (found.validation < 0.2) == (
            not names
        )
        assert all(cause.sure == (cause.name == "validation scale") for cause in found.causes)
    with pytest.raises(InvalidInputError, match="validation: the model does not run on x of shape"):
        checked(model, X + 2, SUM, validation=(x[..., :2], validation[1]))


@for_each(
    ("given", "message"),
    [
        ((X[..., :2], SUM), "the model does not run on x of shape"),
        ((X[:9], SUM[:9]), "the number of its examples is 9, expected 30 or more"),
        ((X, SUM[:, 0]), r"y has shape .*, expected one as in the training"),
    ],
)
def test_a_validation_set_that_does_not_fit_is_refused(given, message):
    with pytest.raises(InvalidInputError, match=f"validation: {message}"):
        checked(validation=given)


def test_a_validation_set_of_many_classes_has_the_constant_of_the_training():
    ids, others = (
        torch.randint(0, 100, (n, 5), generator=torch.Generator().manual_seed(n))
        for n in (1000, 60)
    )
    model = nn.Sequential(nn.Embedding(100, 16), Net(100, inputs=16, units=32))
    found = checked(
        model, ids, ids[:, -1], CE, lr=1e-2, steps=600, validation=(others, others[:, -1])
    )
    assert found.causes == () and found.validation < 0.95


class Own(nn.LSTM):
    """With arguments of its own."""

    def __init__(self, config):
        super().__init__(3, 8, config, batch_first=True)


def test_a_stack_with_arguments_of_its_own_is_no_exception():
    model = Net()
    model.rnn = Own(4)
    assert checked(model, optimizer=torch.optim.SGD, lr=1e-4, steps=100).outcome == "stays"


def test_a_repair_whose_loss_falls_below_zero_is_compared():
    found = checked(loss=lambda z, y: F.mse_loss(z, y) - 2, lr=1e-6, steps=300)
    assert (
        found.causes[0].name == "learning rate too low" and found.causes[0].sure and found.shift > 1
    )


def test_batches_that_are_ready_are_held_out_too():
    other = SUM.roll(1, 0)
    for y, name in ((SUM, None), (other, "shifted targets")):
        batches = [(X[k : k + 8], y[k : k + 8]) for k in range(0, N, 8)]
        for loader in (batches, DataLoader(batches, batch_size=None, shuffle=True)):
            found = checked(Net(), loader, None, steps=150)
            assert found.why is None if name is None else found.causes[0].name == name
            assert name or found.held_out[-1].kept > 0.5
    below = checked(Net(), batches, None, loss=lambda z, y: F.mse_loss(z, y) - 2, steps=150)
    assert below.shift > 0 and below.held_out


def test_a_run_that_ends_before_the_same_training_leaves_has_too_few_steps():
    found = checked(lr=1e-3, losses=[SUM.square().mean().item()] * 20)
    assert found.causes[0].name == "too few steps" and "has 20 steps" in found.why


def test_a_forecast_no_better_than_the_last_value_says_so():
    walk = torch.randn(N, T + 1, 1, generator=torch.Generator().manual_seed(3)).cumsum(1)
    found = checked(Net(inputs=1), walk[:, :-1], walk[:, -1], steps=150)
    (cause,) = [cause for cause in found.causes if cause.name == "repeats the last value"]
    assert (
        cause.evidence["repeated"] < 0.2
        and cause.evidence["kept_out"] > 0.9 * cause.evidence["repeated"]
    )


@for_each(
    ("clears", "moves", "says"),
    [(False, True, "zero_grad"), (True, False, "optimizer.step()"), (True, True, None)],
)
def test_a_mistake_in_a_loop_is_told_by_its_losses(clears, moves, says):
    model = Net()
    loop = Training(model, X, SUM, MSE, torch.optim.Adam(model.parameters(), 1e-2))
    case, losses = Case(loop, 200), []
    for _, (_, _, loss) in zip(range(150), case.training(clears=clears, moves=moves), strict=False):
        losses.append(loss.item())
    causes = checked(losses=losses).causes
    assert [cause.name for cause in causes] == ["own loop"] * bool(says)
    assert not says or (says in causes[0].remedy and causes[0].sure)


def test_the_last_activation_is_read_from_the_graph():
    for layer in (nn.RNN(3, 4), nn.LSTM(3, 4, batch_first=True), nn.GRU(3, 4, num_layers=2)):
        with states_of(layer) as states:
            found = last_activation(layer(X)[0].select(1, -1).squeeze(), states)
        assert (
            found is not None
            and (found.low, found.high) == (-1, 1)
            and type(layer).__name__ in found.words
        )
    linear = nn.Linear(3, 4)
    for act, low, high in (
        (torch.sigmoid, 0, 1),
        (F.relu, 0, math.inf),
        (lambda z: torch.exp(-z.abs().sum(-1)), 0, 1),
    ):
        found = last_activation(act(linear(X)).transpose(0, 1).mean(0), [])
        assert found is not None and (found.low, found.high) == (low, high)
        inside = found.of(torch.linspace(-50, 50, 100))
        assert inside.min() >= low and inside.max() <= high
    assert (
        last_activation(linear(X), []) is None
        and last_activation(F.leaky_relu(linear(X)), []) is None
    )


def test_cure_searches_nothing_for_what_only_the_user_can_mend():
    reshaped = X.transpose(0, 1).reshape(N, T, 3)
    for model, x, y in (
        (Net(1, nn.Tanh()), X, 50 + SUM),
        (Net(batch_first=False), X, SUM),
        (Net(), reshaped, SUM),
    ):
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        found = gersgorin.cure(model, x, y, MSE, optimizer, steps=100, seconds=ENOUGH)
        assert (
            found.outcome == "not searched"
            and not found.changed
            and str(found.causes[0]) in found.verdict
        )


def test_losses_of_what_the_last_activation_gives_have_a_best_constant():
    share = SIGN.mean().item()
    entropy = -share * math.log(share) - (1 - share) * math.log(1 - share)
    for model, y, loss in ((Net(2, LOG), CLASS, nn.NLLLoss()), (Net(1, nn.Sigmoid()), SIGN, BCE)):
        found = checked(model, y=y, loss=loss)
        assert found.outcome == "leaves" and found.constant_loss == pytest.approx(entropy, abs=0.02)
