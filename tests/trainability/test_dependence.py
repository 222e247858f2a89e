"""Which outputs depend on which inputs, for networks that a NaN or a gradient alone misreads.

Each network is healthy once, and broken once in a way that the facts have to state.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from trainability.facts import NOTES, facts
from trainability.facts.dependence import mixed_examples
from trainability.probe import Probe
from trainability.swaps import OTHER_AXIS, other_axis
from trainability.training import Training

N, T, M = 40, 8, 3
G = torch.Generator().manual_seed(0)
X = torch.randn(N, T, M, generator=G)
IDS = torch.randint(30, (N, T), generator=G)
Y = X.sum((1, 2)).unsqueeze(1) / 4
DEPENDENCE = {
    "mixed examples",
    "unread steps",
    "detached state",
    "wrong gradient",
    "constant output",
}


class Surrogate(torch.autograd.Function):
    """1 above 0, with the slope of a fast sigmoid."""

    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return (v > 0).float()

    @staticmethod
    def backward(ctx, grad):
        (v,) = ctx.saved_tensors
        return grad / (1 + 5 * v.abs()) ** 2


class Spiking(nn.Module):
    """Leaky neurons that fire above 1, and a leaky readout."""

    def __init__(self, fire=Surrogate.apply, drops=False):
        super().__init__()
        torch.manual_seed(0)
        self.read, self.out = nn.Linear(M, 32), nn.Linear(32, 1)
        self.fire, self.drops = fire, drops
        with torch.no_grad():
            self.read.weight.mul_(3)

    def forward(self, x):
        if self.drops:
            x = torch.cat((x[..., :2], torch.zeros_like(x[..., :1])), -1)
        v, total = x.new_zeros(len(x), 32), x.new_zeros(len(x), 1)
        for t in range(x.shape[1]):
            v = 0.9 * v + self.read(x[:, t])
            spikes = self.fire(v - 1)
            v = v * (1 - spikes)
            total = 0.9 * total + self.out(spikes)
        return total


def heaviside(v):
    return (v > 0).float()


class First(nn.Module):
    """A function of the inputs, or of part of them, before a GRU."""

    def __init__(self, function, drops=False, width=M):
        super().__init__()
        torch.manual_seed(0)
        self.function, self.drops = function, drops
        self.rnn, self.out = nn.GRU(width, 16, batch_first=True), nn.Linear(16, 1)

    def forward(self, x):
        if self.drops:
            x = torch.cat((x[..., :2], torch.zeros_like(x[..., :1])), -1)
        return self.out(self.rnn(self.function(x))[0][:, -1])


class Codes(First):
    """The nearest of 64 codes, with the gradient passed straight through."""

    def __init__(self, drops=False, through=True):
        super().__init__(self.nearest, drops)
        self.codes = nn.Parameter(torch.randn(64, M))
        self.through = through

    def nearest(self, x):
        flat = x.reshape(-1, M)
        codes = self.codes[torch.cdist(flat, self.codes).argmin(1)].reshape(x.shape)
        return x + (codes - x).detach() if self.through else codes


class Bins(First):
    """Bins of the values, embedded."""

    def __init__(self, drops=False):
        super().__init__(self.bins, drops, width=4 * M)
        self.embedding = nn.Embedding(12, 4)

    def bins(self, x):
        return self.embedding(torch.bucketize(x, torch.linspace(-2, 2, 11))).flatten(2)


class Straight(torch.autograd.Function):
    """The sign, with the gradient of the identity."""

    @staticmethod
    def forward(ctx, x):
        return x.sign()

    @staticmethod
    def backward(ctx, grad):
        return grad


FUNCTIONS = {
    "sign": torch.sign,
    "sign, straight through": Straight.apply,
    "heaviside": heaviside,
    "nan_to_num": torch.nan_to_num,
    "where(isnan)": lambda x: torch.where(x.isnan(), torch.zeros_like(x), x),
    "clamp": lambda x: x.clamp(-0.5, 0.5),
    "round": torch.round,
    "huge": lambda x: (1e4 * x).tanh(),
    "layer norm": nn.LayerNorm(M),
    "masked": lambda x: x * (x.abs() > 0.1),
}
MAKE = {name: lambda drops, f=f: First(f, drops) for name, f in FUNCTIONS.items()} | {
    "spiking": lambda drops: Spiking(drops=drops),
    "spiking without a surrogate": lambda drops: Spiking(heaviside, drops),
    "codes": lambda drops: Codes(drops),
    "codes without a gradient": lambda drops: Codes(drops, through=False),
    "bins": lambda drops: Bins(drops),
}


def found_in(model, x=X, y=Y, loss_fn="mse", **parts):
    training = Training(model, x, y, loss_fn, torch.optim.Adam(model.parameters(), 1e-3), **parts)
    found, missing = facts(Probe(training))
    assert not missing
    return {cause.name: cause for cause in found}


@pytest.mark.parametrize("name", MAKE)
def test_a_sound_network_is_told_nothing_about_dependence(name):
    assert not found_in(MAKE[name](False)).keys() & DEPENDENCE


@pytest.mark.parametrize("name", MAKE)
def test_a_feature_that_is_dropped_is_named(name):
    assert Probe(Training(MAKE[name](True), X, Y, "mse", "adam")).unread(0, axis=2) == [2]


class Columns(nn.Module):
    """Frames of two ids, which have embeddings of different sizes."""

    def __init__(self, read):
        super().__init__()
        torch.manual_seed(0)
        self.tables = nn.ModuleList([nn.Embedding(24, 4), nn.Embedding(5, 4)])
        self.gru, self.head, self.read = nn.GRU(4, 8, batch_first=True), nn.Linear(8, 3), read

    def forward(self, x):
        seen = sum(self.tables[k](x[..., k].long()) for k in self.read)
        return self.head(self.gru(seen)[0][:, -1])


@pytest.mark.parametrize("kind", [torch.int64, torch.float32])
def test_a_column_of_ids_that_is_dropped_is_named(kind):
    sizes = torch.tensor([24, 5])
    x = (torch.rand(60, 6, 2, generator=G) * sizes).long()
    y = x[:, -1, 1] % 3
    for read in ((0, 1), (0,), (1,)):
        training = Training(Columns(read), x.to(kind), y, nn.CrossEntropyLoss(), "adam")
        assert Probe(training).unread(0, axis=2) == sorted({0, 1} - {*read})


def last_frame(model):
    """The same network, reading the last frame only."""
    forward = model.forward
    model.forward = lambda x: forward(x[:, -1:])
    return model


class LastFrame(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x[:, -1:])


@pytest.mark.parametrize("name", MAKE)
def test_frames_that_are_dropped_are_named(name):
    found = found_in(LastFrame(MAKE[name](False)))
    assert "depends only on frame 8 of 8" in found["unread steps"].sentence


class BatchNorm(nn.Module):
    def __init__(self, axis=0, **options):
        super().__init__()
        torch.manual_seed(0)
        self.axis = axis
        self.norm = nn.BatchNorm1d(M, **options)
        self.rnn, self.out = nn.GRU(M, 16, batch_first=not axis), nn.Linear(16, 1)

    def forward(self, x):
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        return self.out(self.rnn(x)[0][:, -1])


def test_batch_norm_mixes_examples_by_design_and_batch_first_by_mistake():
    assert not found_in(BatchNorm()).keys() & DEPENDENCE
    assert not found_in(BatchNorm(track_running_stats=False)).keys() & DEPENDENCE
    for options in ({}, {"track_running_stats": False}):
        found = found_in(BatchNorm(1, **options))
        assert (
            "nn.GRU treats axis 0 of x, whose shape is (32, 8, 3), as time"
            in found["mixed examples"].sentence
        )


class Recall(nn.Module):
    """Reads ids with the examples first, through an LSTM; turned: or after a transpose."""

    def __init__(self, turned=True, batch_first=True):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.out = nn.Embedding(30, 8), nn.Linear(16, 30)
        self.rnn, self.turned = nn.LSTM(8, 16, batch_first=batch_first), turned

    def forward(self, ids):
        x = self.embedding(ids)
        if not self.turned:
            return self.out(self.rnn(x)[0])
        return self.out(self.rnn(x.transpose(0, 1))[0].transpose(0, 1))


def classes(output, y):
    return F.cross_entropy(output.transpose(1, 2), y)


@pytest.mark.parametrize(
    ("turned", "batch_first", "remedy"),
    [
        (True, True, "Write nn.LSTM(..., batch_first=False), or leave out the transposes"),
        (False, False, "Write nn.LSTM(..., batch_first=True)"),
        (True, False, ""),
        (False, True, ""),
    ],
)
def test_a_layer_that_treats_the_examples_as_time_is_named_whatever_the_cause(
    turned, batch_first, remedy
):
    model = Recall(turned, batch_first)
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    training = Training(model, IDS, IDS, classes, adam, batch_axis=0)
    cause = mixed_examples(Probe(training))
    assert (cause is None) is not bool(remedy)
    assert (other_axis(training) is None) is not bool(remedy)
    if cause is not None:
        assert "nn.LSTM treats axis 0 of x, whose shape is (32, 8), as time, but" in cause.sentence
        assert remedy in cause.remedy and cause.repair == OTHER_AXIS


def test_a_norm_over_the_examples_mixes_them():
    class Norm(First):
        def forward(self, x):
            return super().forward((x - x.mean(0)) / x.std(0))

    found = found_in(Norm(nn.Identity()))
    assert "the outputs of 31 of 31 others" in found["mixed examples"].sentence


def test_examples_that_small_weights_hardly_mix():
    """At weights times 0.001 a change of one example is below the rounding of the others."""
    model = BatchNorm(1)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1e-3)
    assert "mixed examples" in found_in(model)


class Keeps(First):
    """Begins with the state in which the last minibatch ended."""

    def __init__(self):
        super().__init__(nn.Identity())
        self.state = None

    def forward(self, x):
        same = self.state is not None and self.state.shape[1] == len(x)
        states, state = self.rnn(x, self.state if same else None)
        self.state = state.detach()
        return self.out(states[:, -1])


class Draws(First):
    """Drops units in evaluation mode too."""

    def forward(self, x):
        return self.out(F.dropout(self.rnn(x)[0][:, -1], 0.2))


@pytest.mark.parametrize("model", [Keeps(), Draws(nn.Identity())], ids=["keeps", "draws"])
def test_a_network_whose_outputs_do_not_repeat_is_told_nothing_about_dependence(model):
    assert not found_in(model).keys() & DEPENDENCE


def test_dropout_in_training_mode_is_sound():
    class Drops(First):
        def forward(self, x):
            return self.out(F.dropout(self.rnn(x)[0][:, -1], 0.2, self.training))

    assert not found_in(Drops(nn.Identity())).keys() & DEPENDENCE


def test_a_maximum_over_frames_is_not_called_detached():
    class Pooled(First):
        def forward(self, x):
            return self.out(self.rnn(x)[0].amax(1)[:, :16])

    x = torch.randn(N, 60, M, generator=G)
    assert not found_in(Pooled(nn.Identity()), x).keys() & DEPENDENCE


def test_a_long_sequence_whose_gradient_vanishes_is_read_all_the_same():
    x = torch.randn(N, 100, M, generator=G)
    model = First(nn.Identity())
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(0.1)
    assert not found_in(model, x).keys() & DEPENDENCE


def test_padding_that_no_output_reads_is_no_fault():
    x = X.clone()
    x[:, 5:] = 0

    class Short(First):
        def forward(self, x):
            return super().forward(x[:, :5])

    assert not found_in(Short(nn.Identity()), x).keys() & DEPENDENCE


def test_ids_of_a_one_hot_network_that_reads_all_or_half_of_them():
    class Hot(First):
        def __init__(self, frames):
            super().__init__(nn.Identity(), width=30)
            self.frames = frames

        def forward(self, ids):
            return super().forward(F.one_hot(ids[:, -self.frames :], 30).float())

    assert not found_in(Hot(T), IDS).keys() & DEPENDENCE
    found = found_in(Hot(4), IDS)
    assert "No output depends on 4 frames of 8" in found["unread steps"].sentence


def test_an_output_for_each_frame_of_that_frame_only():
    class Each(First):
        def __init__(self, mixes):
            super().__init__(nn.Identity())
            self.mixes, self.own = mixes, nn.Linear(M, 16)

        def forward(self, x):
            return self.out(self.rnn(x)[0] if self.mixes else self.own(x).tanh())

    y = X.cumsum(1)[..., :1]
    assert not found_in(Each(True), X, y).keys() & DEPENDENCE
    assert "only on its own frame" in found_in(Each(False), X, y)["unread steps"].sentence


def test_a_gate_that_begins_at_0_reads_its_input():
    class Gated(First):
        def __init__(self):
            super().__init__(nn.Identity())
            self.gate = nn.Parameter(torch.tensor([1.0, 1.0, 0.0]))

        def forward(self, x):
            return super().forward(self.gate * x)

    assert not found_in(Gated()).keys() & DEPENDENCE


class Binary(nn.Module):
    """Units of the sign of a linear layer, trained straight through; or a wrong gradient."""

    def __init__(self, unit):
        super().__init__()
        torch.manual_seed(0)
        self.read, self.out, self.unit = nn.Linear(M, 32), nn.Linear(32, 1), unit

    def forward(self, x):
        return self.out(self.unit(self.read(x)).mean(1))


class Square(torch.autograd.Function):
    """The square, with the gradient of the identity."""

    @staticmethod
    def forward(ctx, x):
        return x**2

    @staticmethod
    def backward(ctx, grad):
        return grad


def test_an_estimate_of_a_gradient_over_thresholds_is_not_called_wrong():
    units = {
        "sign": Straight.apply,
        "spike": lambda v: Surrogate.apply(v - 0.1).to(v.dtype),
        "round": lambda v: v + (v.round() - v).detach(),
    }
    for unit in units.values():
        assert "wrong gradient" not in found_in(Binary(unit))
    assert "wrong gradient" in found_in(Binary(Square.apply))


class Truncated(First):
    """Cuts the gradient between the halves of a sequence."""

    def forward(self, x):
        _, state = self.rnn(x[:, :4])
        return self.out(self.rnn(x[:, 4:], state.detach())[0][:, -1])


def test_a_path_that_is_cut_is_no_wrong_gradient():
    found = found_in(Truncated(nn.Identity()))
    assert "detached state" in found and "wrong gradient" not in found
    assert "leaves out a path" in found["partial gradient"].sentence
    assert "partial gradient" in NOTES


def test_the_change_of_the_loss_is_that_in_the_direction_of_the_gradient():
    sentence = found_in(Truncated(nn.Identity()))["partial gradient"].sentence
    assert "in the direction of this gradient the loss changes by" in sentence


def test_a_term_of_value_0_that_is_detached_is_seen():
    """The loss does not change in the direction of its gradient."""

    class Zero(First):
        def __init__(self):
            super().__init__(nn.Identity())
            self.gain = nn.Parameter(torch.ones(()))

        def forward(self, x):
            return super().forward(x) + self.gain - self.gain.detach()

    change = found_in(Zero())["partial gradient"].evidence
    assert change["name"] == "gain" and abs(change["change"]) < 1e-6 < change["gradient"]


def held_fixed(z, y):
    """A squared error with weights that are held fixed."""
    return ((z - y).square() * (1 + z.detach().abs())).mean()


def test_a_wrong_gradient_is_located_in_the_network_or_in_the_loss():
    """By central differences, the gradient is wrong in one of the two only."""
    for model, loss_fn, part in (
        (Truncated(nn.Identity()), nn.MSELoss(), "network"),
        (First(nn.Identity()), held_fixed, "loss"),
        (Binary(Square.apply), nn.MSELoss(), "network"),
        (First(nn.Identity()), lambda z, y: F.mse_loss(Square.apply(z), y), "loss"),
    ):
        z = model(X).detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss_fn(z, Y), z)
        with torch.no_grad():
            once, twice = (loss_fn((z + h * slope).double(), Y.double()) for h in (-1e-3, 1e-3))
        right = float(twice - once) / 2e-3 == pytest.approx(float(slope.square().sum()), rel=1e-2)
        assert right is (part == "network")
        cause = found_in(model, loss_fn=loss_fn)
        cause = cause.get("partial gradient") or cause["wrong gradient"]
        assert cause.part == part and not cause.sure
        assert cause.name == "wrong gradient" or cause.part in ("network", "loss")
        assert ("in the loss" in cause.remedy) is (loss_fn is held_fixed)


class Labels(nn.Module):
    """A GRU with shares, logits or log-probabilities of 5 labels for each frame."""

    def __init__(self, final):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.out, self.final = nn.GRU(M, 16, batch_first=True), nn.Linear(16, 5), final

    def forward(self, x):
        return self.final(self.out(self.rnn(x)[0]))


def ctc(z, y):
    sizes = torch.full((len(y),), z.shape[1]), torch.full((len(y),), y.shape[1])
    return F.ctc_loss(z.transpose(0, 1), y, *sizes)


FINAL = {
    "logits": lambda z: z,
    "shares": lambda z: z.softmax(-1),
    "logs": lambda z: z.log_softmax(-1),
}


@pytest.mark.parametrize("final", FINAL)
def test_the_gradient_of_ctc_is_its_slope_for_log_probabilities_only(final):
    """Torch documents so; here by central differences along a change of the logits."""
    y = torch.randint(1, 5, (N, 3), generator=G)
    logits = torch.randn(N, T, 5, generator=G).double().requires_grad_()
    (slope,) = torch.autograd.grad(ctc(FINAL[final](logits), y), logits)
    along = torch.randn(logits.shape, generator=G).double()
    with torch.no_grad():
        ends = [ctc(FINAL[final](logits + h * along), y) for h in (-1e-5, 1e-5)]
    difference = float(ends[1] - ends[0]) / 2e-5
    agree = difference == pytest.approx(float((slope * along).sum()), rel=1e-2)
    assert agree is (final == "logs")
    found = found_in(Labels(FINAL[final]), y=y, loss_fn=ctc)
    assert ("partial gradient" in found) is not agree
    assert "wrong gradient" not in found


class Forgetful(nn.Module):
    """A gated cell whose state is detached between steps: early frames count little."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.gate, self.new, self.out = nn.Linear(M, 16), nn.Linear(M + 16, 16), nn.Linear(16, 1)

    def forward(self, x):
        s = x.new_zeros(len(x), 16)
        for frame in x.unbind(1):
            f = torch.sigmoid(self.gate(frame))
            s = (1 - f) * s.detach() + f * torch.tanh(self.new(torch.cat((frame, s.detach()), 1)))
        return self.out(s)


def test_every_frame_that_changes_a_bit_of_the_output_is_counted_whatever_its_effect():
    model, x = Forgetful(), torch.randn(N, 16, M, generator=G)
    with torch.no_grad():
        for t in range(16):
            other = x.clone()
            other[:, t] = torch.randn(N, M, generator=G)
            assert (model(other) != model(x)).any()
    found = found_in(model, x)["detached state"]
    assert found.evidence == {"depends": 16, "reached": 1}
    assert "The last output changes with 16 of 16 frames" in found.sentence


# ---- losses that compare examples ---------------------------------------------------------------


def correlation(z, y):
    z, y = z.flatten() - z.mean(), y.flatten() - y.mean()
    return 1 - (z * y).sum() / (z.norm() * y.norm() + 1e-8)


def concordance(z, y):
    z, y = z.flatten(), y.flatten()
    both = ((z - z.mean()) * (y - y.mean())).mean()
    return 1 - 2 * both / (z.var() + y.var() + (z.mean() - y.mean()) ** 2)


def ranking(z, y):
    z, y = z.flatten(), y.flatten()
    return F.softplus(-(z[:, None] - z) * (y[:, None] - y).sign()).mean()


def hardest_triplets(z, y):
    """Of each example: the farthest of its class against the nearest of another class."""
    apart, same = torch.cdist(z, z), y[:, None] == y
    return F.relu((apart * same).amax(1) - (apart + 1e6 * same).amin(1) + 0.5).mean()


def contrastive(z, y):
    near = F.normalize(z, dim=1) @ F.normalize(z, dim=1).T / 0.5
    near = near.fill_diagonal_(-1e9).log_softmax(1)
    same = (y[:, None] == y).fill_diagonal_(False)
    return -(near * same).sum(1).div(same.sum(1).clamp_min(1)).mean()


def partial_likelihood(z, y):
    """Cox: y has the time, here also the event."""
    risk = z.flatten()
    later = (y >= y[:, None]).log()  # 0 for those still at risk
    return -(risk - (risk + later).logsumexp(1))[y < y.median()].mean()


CLASSES = (4 * torch.rand(N, generator=G)).long()
TIMES = torch.rand(N, generator=G)


@pytest.mark.parametrize(
    ("loss", "y"),
    [
        (correlation, Y),
        (concordance, Y),
        (ranking, Y),
        (hardest_triplets, CLASSES),
        (contrastive, CLASSES),
        (partial_likelihood, TIMES),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_loss_over_all_examples_pairs_outputs_with_their_targets(loss, y):
    model = First(nn.Identity())
    if y is CLASSES:
        model.out = nn.Linear(16, 4)
    training = Training(model, X, y, loss, torch.optim.Adam(model.parameters(), 1e-3))
    found, _ = facts(Probe(training))
    assert "unpaired loss" not in {cause.name for cause in found}


def test_log_probabilities_that_the_network_makes_itself_have_a_least_loss():
    class Own(First):
        def __init__(self, normal):
            super().__init__(nn.Identity())
            self.out, self.normal = nn.Linear(16, 3), normal

        def forward(self, x):
            z = super().forward(x)
            return z - z.logsumexp(1, keepdim=True) if self.normal else z

    y = (Y[:, 0] > 0).long()
    for normal in (True, False):
        model = Own(normal)
        training = Training(model, X, y, nn.NLLLoss(), torch.optim.Adam(model.parameters(), 1e-3))
        found, _ = facts(Probe(training))
        assert ("no least loss" in {cause.name for cause in found if cause.sure}) is not normal


# ---- padding -----------------------------------------------------------------------------------

LENGTHS = torch.randint(3, T, (N,), generator=G)
REAL = torch.arange(T) < LENGTHS[:, None]


class Masked(nn.Module):
    """Self-attention over ids or numbers, which leaves out the padding or all the rest."""

    def __init__(self, *, inverted, ids, every=False):
        super().__init__()
        torch.manual_seed(0)
        self.inverted, self.every = inverted, every
        self.read = nn.Embedding(30, 8) if ids else nn.Linear(M, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 1)

    def forward(self, x):
        real = x != 0 if x.dim() == 2 else (x != 0).any(2)
        h, keys = self.read(x), real if self.inverted else ~real
        h = h + self.attention(h, h, h, key_padding_mask=keys)[0]
        return self.out(h) if self.every else self.out(h[:, 0])


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("every", [True, False])
def test_outputs_that_depend_on_padding_alone_are_told(ids, every):
    """With an inverted mask, other values before the padding change no bit of an output but that
    of their own frame.
    """
    x = (IDS.clamp_min(1) if ids else X).masked_fill(~REAL if ids else ~REAL[..., None], 0)
    y = torch.randn(N, T, 1, generator=G) if every else Y
    for inverted in (True, False):
        model = Masked(inverted=inverted, ids=ids, every=every).eval()
        other = torch.where(x != 0, IDS.flip(0).clamp_min(1) if ids else -X, 0)
        other[:, 0] = x[:, 0]
        before, after = (model(v)[:, 0] for v in (x, other))
        assert torch.equal(before, after) is inverted
        found = found_in(model, x, y)
        assert ("unread steps" in found) is inverted
        if inverted:
            cause = found["unread steps"]
            assert cause.sentence.startswith("Apart from padding, ")
            assert "key_padding_mask" in cause.remedy


class WithLengths(nn.Module):
    """A GRU whose last output is read; it gets lengths, and may use them."""

    def __init__(self, *, reads):
        super().__init__()
        torch.manual_seed(0)
        self.gru, self.head, self.reads = nn.GRU(M, 8, batch_first=True), nn.Linear(8, 1), reads

    def forward(self, x, lengths):
        h = self.gru(x)[0]
        return self.head(h[torch.arange(len(x)), lengths - 1] if self.reads else h[:, -1])


def test_lengths_that_no_output_depends_on_are_unread():
    x = X * REAL[..., None]
    for reads in (False, True):
        model = WithLengths(reads=reads)
        other = model(x, LENGTHS.flip(0))
        assert torch.equal(model(x, LENGTHS), other) is not reads
        assert Probe(Training(model, (x, LENGTHS), Y, "mse", "adam")).is_unread(1) is not reads


def test_a_value_inside_of_sequences_is_no_padding():
    model = Masked(inverted=False, ids=True)
    adam = torch.optim.Adam(model.parameters())
    for x, padded in ((IDS, True), (IDS % 2, False)):
        x = torch.where(REAL, x.clamp_min(1), 0) if padded else x
        probe = Probe(Training(model, x, Y, "mse", adam))
        assert (probe.padding is not None) is padded
        if padded:
            assert torch.equal(probe.padding, probe.first == 0)


# ---- targets that are inputs --------------------------------------------------------------------


class Translator(nn.Module):
    """An encoder, and a decoder that begins with its state."""

    def __init__(self, *, shifts=False, both=False):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.shifts = nn.Embedding(8, 6), shifts
        self.encoder = nn.GRU(6, 12, batch_first=True)
        self.decoder = nn.GRU(6, 12, batch_first=True, bidirectional=both)
        self.out = nn.Linear(24 if both else 12, 7)

    def forward(self, source, target):
        if self.shifts:
            target = F.pad(target[:, :-1], (1, 0), value=7)
        _, state = self.encoder(self.embedding(source))
        state = state.expand(2 if self.decoder.bidirectional else 1, -1, -1).contiguous()
        return self.out(self.decoder(self.embedding(target), state)[0])


WORDS = torch.randint(7, (N, T), generator=G)


def shifted(ids):
    return F.pad(ids[:, :-1], (1, 0), value=7)


def ahead(model, x, y, loss=classes):
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    found, missing = facts(Probe(Training(model, x, y, loss, adam, batch_size=8, batch_axis=0)))
    assert not missing
    causes = {cause.name: cause for cause in found}
    return causes["looks ahead"].sentence if "looks ahead" in causes else ""


@pytest.mark.parametrize(
    "y", [WORDS, WORDS.flip(1), WORDS.cumsum(1) % 7], ids=["copy", "flip", "sum"]
)
def test_teacher_forcing_is_no_look_ahead_although_outputs_depend_on_the_whole_source(y):
    model, target = Translator(), shifted(y)
    made = model.embedding(target).detach().requires_grad_()
    output = model.out(model.decoder(made, model.encoder(model.embedding(WORDS))[1])[0])
    for t in range(T):
        (slope,) = torch.autograd.grad(output[:, t].sum(), made, retain_graph=True)
        assert not slope[:, t + 1 :].any()
    assert ahead(model, (WORDS, target), y) == ""


def test_a_source_that_holds_the_target_one_frame_later_may_be_read_as_a_whole():
    assert ahead(Translator(), (shifted(WORDS), shifted(WORDS)), WORDS) == ""


def test_a_decoder_that_reads_its_next_input_is_named():
    sentence = ahead(Translator(both=True), (WORDS, shifted(WORDS)), WORDS)
    assert sentence == (
        "The target of a frame is input 2, 1 frame later, and the output for the frame reads it."
    )


@pytest.mark.parametrize("length", [T, T - 3])
def test_a_decoder_input_that_is_not_shifted_holds_the_target(length):
    y = WORDS.flip(1)[:, :length]
    words = "The target of a frame is input 2 of this frame, and the output for the frame reads it."
    assert ahead(Translator(), (WORDS, y), y) == words
    assert ahead(Translator(), (WORDS, shifted(y)), y) == ""
    assert ahead(Translator(shifts=True), (WORDS, y), y) == ""


class Writer(nn.Module):
    """A network over ids, with the time first inside; divides outputs by the number of ids."""

    def __init__(self, *, both, divides=False):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.divides = nn.Embedding(8, 6), divides
        self.rnn, self.out = nn.GRU(6, 12, bidirectional=both), nn.Linear(24 if both else 12, 7)

    def forward(self, x):
        z = self.out(self.rnn(self.embedding(x.t()))[0]).transpose(0, 1)
        return z / (x > 0).sum(1).clamp_min(1)[:, None, None] if self.divides else z


def test_an_output_that_changes_with_a_later_id_without_a_gradient_does_not_read_it():
    x, y = WORDS[:, :-1], WORDS[:, 1:]
    model = Writer(both=False, divides=True)
    other = x.clone()
    other[:, -1] = (x[:, -1] == 0).long()
    assert (model(other)[:, 0] != model(x)[:, 0]).any()
    assert ahead(model, x, y) == ""
    assert "the input, 1 frame later" in ahead(Writer(both=True), x, y)


class Window(nn.Module):
    """Reads the frame some frames later, and earlier ones."""

    def __init__(self, later):
        super().__init__()
        torch.manual_seed(0)
        self.later, self.rnn, self.out = later, nn.GRU(M, 12, batch_first=True), nn.Linear(24, M)

    def forward(self, x):
        states = self.rnn(x)[0]
        after = F.pad(x[:, self.later :], (0, 12 - M, 0, self.later))
        return self.out(torch.cat((states, after), -1))


@pytest.mark.parametrize("later", [1, 2])
def test_a_target_is_read_only_at_its_own_place(later):
    sentence = ahead(Window(later), X[:, :-1], X[:, 1:], nn.MSELoss())
    assert bool(sentence) is (later == 1)
