"""Each fact is stated of a training with the fault, and not of the same training without it."""

import functools
import itertools
import math
import re
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tables import for_each
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.data import DataLoader, TensorDataset

from rhn.errors import InvalidInputError, UsersCodeError
from trainability import check
from trainability.facts import NOTES, facts
from trainability.given_loss import reads
from trainability.probe import Probe
from trainability.training import Training

N, T = 40, 6
G = torch.Generator().manual_seed(0)
X = torch.randn(N, T, 3, generator=G)
SUM = X.sum((1, 2)).unsqueeze(1) / 4
CLASS = (SUM[:, 0] > 0).long()
IDS = torch.randint(30, (N, T), generator=G)


class Net(nn.Module):
    """A recurrent layer, and a linear layer of its last state or of each."""

    def __init__(self, outputs=1, *, kind=nn.GRU, end=None, every=False, inputs=3, **options):
        super().__init__()
        torch.manual_seed(0)
        self.rnn = kind(inputs, 8, **{"batch_first": True} | options)
        width = 16 if options.get("bidirectional") else 8
        self.out, self.end, self.every = nn.Linear(width, outputs), end, every

    def states(self, x):
        return self.rnn(x)[0]

    def forward(self, x):
        states = self.states(x)
        z = self.out(states if self.every else states[:, -1])
        return z if self.end is None else self.end(z)


class Detached(Net):
    """Cut the state after each frame."""

    def states(self, x):
        state, states = None, []
        for t in range(x.shape[1]):
            out, state = self.rnn(x[:, t : t + 1], state)
            state = state.detach()
            states.append(out)
        return torch.cat(states, 1)


class Forgetful(Net):
    """Start from a state of zeros at each frame."""

    def states(self, x):
        return torch.cat([self.rnn(x[:, t : t + 1])[0] for t in range(x.shape[1])], 1)


class Reset(Net):
    """Set the state to 0 in the middle of a sequence."""

    def states(self, x):
        states, state = [], x.new_zeros(1, len(x), 8)
        for t in range(x.shape[1]):
            out, state = self.rnn(x[:, t : t + 1], state * (t != 3))
            states.append(out)
        return torch.cat(states, 1)


class Listed(Net):
    """Keep a layer in a plain list."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(8, 8)]

    def states(self, x):
        return self.layers[0](super().states(x))


class Rounded(Net):
    """Round what comes from the recurrent layer."""

    def states(self, x):
        return super().states(x) + (10 * self.rnn(x)[0]).round() - super().states(x).detach()


class Straight(torch.autograd.Function):
    """The square, with the gradient of the identity."""

    @staticmethod
    def forward(ctx, x):
        return x**2

    @staticmethod
    def backward(ctx, grad):
        return grad


class Words(nn.Module):
    """An embedding of ids before a `Net`."""

    def __init__(self, **options):
        super().__init__()
        self.embedding, self.net = nn.Embedding(30, 3), Net(**options)

    def forward(self, x):
        return self.net(self.embedding(x))


def optimizer_of_part(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.out.parameters(), 1e-3)


def training_of(model, x, y, loss_fn, optimizer=None, **parts: Any) -> Training:
    optimizer = optimizer or torch.optim.Adam(model.parameters(), 1e-3)
    return Training(model, x, y, loss_fn, optimizer, batch_size=8, **parts)


def broadcast(output, y):
    return ((output - y) ** 2).mean()


MSE, CE, NLL = nn.MSELoss(), nn.CrossEntropyLoss(), nn.NLLLoss()
DEAD = Net()
with torch.no_grad():
    for parameter in DEAD.parameters():
        parameter.zero_()

# name, sure, the training with the fault, the same without it
CASES: list[tuple[str, bool, tuple, tuple]] = [
    ("not finite", True, (Net(end=torch.log), X, SUM, MSE), (Net(), X, SUM, MSE)),
    ("no gradient", True, (Net(end=torch.round), X, SUM, MSE), (Net(), X, SUM, MSE)),
    ("unpaired loss", True, (Net(), X, SUM[:, 0], broadcast), (Net(), X, SUM, broadcast)),
    ("no least loss", True, (Net(2), X, CLASS, NLL), (Net(2), X, CLASS, CE)),
    ("output range", True, (Net(end=torch.tanh), X, 50 + SUM, MSE), (Net(), X, 50 + SUM, MSE)),
    ("softmax twice", False, (Net(2, end=nn.Softmax(-1)), X, CLASS, CE), (Net(2), X, CLASS, CE)),
    ("mixed examples", False, (Net(batch_first=False), X, SUM, MSE), (Net(), X, SUM, MSE)),
    ("mixed examples", False, (Words(batch_first=False), IDS, SUM, MSE), (Words(), IDS, SUM, MSE)),
    ("untrained weights", False, (Listed(), X, SUM, MSE), (Net(), X, SUM, MSE)),
    ("unread steps", False, (Forgetful(), X, SUM, MSE), (Net(), X, SUM, MSE)),
    ("unread steps", False, (Reset(), X, SUM, MSE), (Net(), X, SUM, MSE)),
    ("detached state", False, (Detached(), X, SUM, MSE), (Net(), X, SUM, MSE)),
    ("wrong gradient", False, (Net(end=Straight.apply), X, SUM, MSE), (Net(), X, SUM, MSE)),
    ("constant output", False, (DEAD, X, SUM, MSE), (Net(), X, SUM, MSE)),
    ("equal targets", False, (Net(), X, 0 * SUM + 2, MSE), (Net(), X, SUM, MSE)),
    ("one step", False, (Net(), X[:, :1], SUM, MSE), (Net(), X, SUM, MSE)),
    (
        "looks ahead",
        False,
        (Net(3, every=True, bidirectional=True), X[:, :-1], X[:, 1:], MSE),
        (Net(3, every=True), X[:, :-1], X[:, 1:], MSE),
    ),
]
NAMES = [f"{name}-{k}" for k, (name, *_) in enumerate(CASES)]


@pytest.mark.parametrize(("name", "sure", "broken", "sound"), CASES, ids=NAMES)
def test_a_fact_is_stated_of_the_fault_and_not_without_it(name, sure, broken, sound):
    found, _ = facts(Probe(training_of(*broken)))
    assert {cause.name: cause.sure for cause in found}.get(name) is sure, found
    found, missing = facts(Probe(training_of(*sound)))
    assert name not in {cause.name for cause in found}
    assert not missing


class Filtered(Net):
    """Read x (examples, channels, time) by a convolution before the recurrent layer."""

    def __init__(self, **options):
        super().__init__(inputs=4, **options)
        self.filter, self.read = nn.Conv1d(1, 4, 3, padding=1), []

    def states(self, x):
        out = super().states(self.filter(x).transpose(1, 2))
        self.read.append(out.shape[1])
        return out


class Continued(Net):
    """Read one frame and return several states, each from the state before."""

    def states(self, x):
        states, state = [x], None
        for _ in range(4):
            out, state = self.rnn(states[-1][..., :3], state)
            states.append(out)
        return torch.cat(states[1:], 1)


class States(nn.GRU):
    """Returns its states only."""

    def forward(self, x):
        return super().forward(x)[0]


class Named(Net):
    """Reads its sequence by name, by a layer that returns its states only."""

    def __init__(self):
        super().__init__(kind=States)

    def states(self, x):
        return self.rnn(x=x)


class Packs(Net):
    """Packs its only frame."""

    def states(self, x):
        packed = pack_padded_sequence(x, [x.shape[1]] * len(x), batch_first=True)
        return pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]


@pytest.mark.parametrize(
    ("model", "x", "stated"),
    [
        (Filtered(), torch.randn(N, 1, 12, generator=G), False),
        (Continued(), X[:, :1], False),
        (Net(num_layers=2, bidirectional=True), X[:, :1], True),
        (Named(), X[:, :1], True),
        (Packs(), X[:, :1], True),
        (Packs(), X, False),
    ],
    ids=["convolution", "several steps", "layers", "states only", "packed", "packed frames"],
)
def test_a_sequence_of_one_step_is_one_of_which_the_recurrent_layer_reads_one(model, x, stated):
    found, missing = facts(Probe(training_of(model, x, SUM, MSE)))
    assert ("one step" in {cause.name for cause in found}) is stated
    assert not missing


def test_a_convolution_gives_a_recurrent_layer_all_steps():
    model = Filtered()
    model(torch.randn(2, 1, 12))
    assert model.read == [12]


@pytest.mark.parametrize(
    ("end", "said", "curable"),
    [
        (nn.ReLU(), "It ends at ReLU (self.end)", True),
        (lambda z: (z - 9).clamp(0, 1), "It ends at clamp,", True),
        (lambda z: (z + 1e3).sigmoid(), "It ends at a sigmoid,", True),
        (torch.round, "It ends at round,", False),
        (nn.Softmax(-1), "Remove the softmax", False),
        (lambda z: 0 * z, "factors of 0", True),
    ],
    ids=["relu", "clamp", "sigmoid", "round", "one unit", "factor"],
)
def test_the_operation_at_which_a_gradient_of_0_ends_is_named(end, said, curable):
    """The gradient has a path, and the numbers of these operations have no slope."""
    model = Net(end=end)
    with torch.no_grad():
        model.out.bias.fill_(-9)
    ((cause,), _) = facts(Probe(training_of(model, X, SUM, MSE)))
    assert cause.name == "no gradient" and said in f"{cause.sentence} {cause.remedy}"
    assert (cause.sure, cause.curable, cause.part) == (True, curable, "network")


@pytest.mark.parametrize(
    ("end", "y", "part"),
    [
        (torch.tanh, 50 + SUM, "targets"),
        (torch.relu, -50 - SUM.abs(), "network"),
    ],
    ids=["tanh", "relu"],
)
def test_targets_are_to_be_scaled_to_a_range_that_is_chosen(end, y, part):
    found, _ = facts(Probe(training_of(Net(end=end), X, y, MSE)))
    causes = [cause for cause in found if cause.name in ("output range", "constant output")]
    assert causes[0].part == part


def test_weights_that_the_optimiser_lacks_are_named():
    model = Net()
    found, _ = facts(Probe(training_of(model, X, SUM, MSE, optimizer_of_part(model))))
    (cause,) = found
    assert cause.part == "optimizer" and "rnn.weight_ih_l0" in cause.evidence["names"]


def test_weights_at_a_learning_rate_of_0_are_not_called_left_out():
    model = Net()
    groups = [{"params": model.rnn.parameters(), "lr": 0.0}, {"params": model.out.parameters()}]
    found, _ = facts(Probe(training_of(model, X, SUM, MSE, torch.optim.Adam(groups, 1e-3))))
    assert [cause.name for cause in found] == ["untrained weights"]
    assert found[0].sentence.startswith("The learning rate is 0 for rnn.weight_ih_l0")


def test_a_forward_that_changes_its_inputs_in_place_reads_a_copy():
    class InPlace(Net):
        def states(self, x):
            x -= 1
            return super().states(x)

    before = X.clone()
    found, missing = facts(Probe(training_of(InPlace(), X, SUM, MSE)))
    assert not found and not missing
    assert torch.equal(X, before)


def test_a_frozen_recurrent_layer_bounds_no_output():
    model = Net()
    model.rnn.requires_grad_(False)
    found, _ = facts(Probe(training_of(model, X, 50 + SUM, MSE)))
    assert [cause.name for cause in found] == ["untrained weights"]


def test_a_trained_gain_of_zero_is_no_fault():
    class Scaled(Net):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            return self.gain * super().forward(x)

    found, _ = facts(Probe(training_of(Scaled(), X, SUM, MSE)))
    assert "constant output" not in {cause.name for cause in found}


@for_each("trained", [True, False])
def test_a_head_of_zeros_is_a_fault_only_if_it_is_not_trained(trained):
    """Its gradient, the sum of the states times slopes, is not 0."""
    model = Net()
    nn.init.zeros_(model.out.weight).requires_grad_(trained)
    found, _ = facts(Probe(training_of(model, X, SUM, MSE)))
    assert ("constant output" in {cause.name for cause in found}) is not trained


def test_a_frozen_embedding_of_zeros_is_a_fault_below_a_head_of_zeros_too():
    model = Words()
    nn.init.zeros_(model.embedding.weight).requires_grad_(False)
    nn.init.zeros_(model.net.out.weight)
    found, _ = facts(Probe(training_of(model, IDS, SUM, MSE)))
    assert "constant output" in {cause.name for cause in found}


def test_frozen_weights_are_of_the_network_and_weights_left_out_of_the_optimiser():
    parts = {}
    for case in ("frozen", "left out"):
        model = Net()
        model.rnn.requires_grad_(case != "frozen")
        found, _ = facts(Probe(training_of(model, X, SUM, MSE, optimizer_of_part(model))))
        parts[case] = [(cause.part, cause.repair) for cause in found]
    assert parts["frozen"] == [("network", "no frozen weights")]
    assert parts["left out"] == [("optimizer", "all weights in the optimiser")]


def test_an_autoencoder_does_not_look_ahead():
    class Autoencoder(Net):
        def states(self, x):
            code = super().states(x)[:, -1:]
            return code.expand(-1, x.shape[1], -1)

    found, _ = facts(Probe(training_of(Autoencoder(3, every=True), X, X.clone(), MSE)))
    assert {cause.name for cause in found} <= {*NOTES}


def test_time_first_trainings_and_tuples_raise_no_alarm():
    class Pair(Net):
        def states(self, x):
            return self.rnn(x)[0].transpose(0, 1)

        def forward(self, x):
            return super().forward(x), None

    x = X.transpose(0, 1).contiguous()
    found, missing = facts(Probe(training_of(Pair(batch_first=False), x, SUM, MSE, batch_axis=1)))
    assert not found and not missing


def test_the_model_that_was_given_is_not_changed():
    model = Net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    facts(Probe(training_of(model, X, SUM, F.mse_loss)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_an_optimiser_of_another_network_is_a_fault_of_the_optimiser():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    other = torch.optim.Adam(nn.Linear(12, 1).parameters())
    found = check(model, torch.randn(60, 4, 3), torch.randn(60, 1), "mse", other, steps=20)
    assert found.part == "optimizer" and found.causes[0].sure
    assert "holds 2 tensors of another network" in str(found)


def test_a_loss_of_the_weights_that_were_given_is_refused_and_leaves_them_alone():
    model = Net()

    def penalised(output, y):
        return F.mse_loss(output, y) + sum(p.square().sum() for p in model.parameters())

    with pytest.raises(InvalidInputError, match="the loss reads weights that your optimiser has"):
        check(model, X, SUM, penalised, torch.optim.Adam(model.parameters(), 1e-3), steps=4)
    assert all(p.grad is None for p in model.parameters())


class Padded(Net):
    """Packs its inputs, so that outputs behind the end of a sequence are zeros."""

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        if self.every:
            return self.out(pad_packed_sequence(self.rnn(packed)[0], True, total_length=T)[0])
        return self.out(self.rnn(packed)[1][0])


@for_each("every", [True, False])
def test_padding_is_no_fault(every):
    lengths = torch.tensor([1, T, 2, 3] * (N // 4))
    mask = (torch.arange(T) < lengths[:, None]).float().unsqueeze(-1)
    y = X[..., :1].cumsum(1) if every else (X[..., :1] * mask).sum(1)

    def loss(output, y):
        return ((output - y[..., :1]).square() * y[..., 1:]).sum() / y[..., 1:].sum()

    model = Padded(every=every)
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    marked = torch.cat((y, mask), -1) if every else y
    training = Training(model, (X * mask, lengths), marked, loss if every else "mse", adam)
    found, _ = facts(Probe(training))
    assert not found


class Masked(nn.Module):
    """Stores a mask in forward, as do models whose loss is one of their methods."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(18, 1))

    def forward(self, x):
        self.mask = x[:, 0, :1] > 0
        return self.net(x)

    def masked(self, output, y):
        return (F.mse_loss(output, y, reduction="none") * self.mask).mean()

    def plain(self, output, y):
        return F.mse_loss(output, y)


def test_a_loss_of_what_forward_stores_on_the_model_is_refused():
    model = Masked()
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    with pytest.raises(UsersCodeError, match="it is never run itself: return what the loss needs"):
        check(model, X, SUM, model.masked, adam, steps=4)
    model(X[:32])

    class Loss(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, output, y):
            return (F.mse_loss(output, y, reduction="none") * self.model.mask).mean()

    class Method:
        def __init__(self, model):
            self.model = model

        def loss(self, output, y):
            return (F.mse_loss(output, y, reduction="none") * self.model.mask).mean()

    losses = [
        model.masked,
        Loss(model),
        Method(model).loss,
        lambda output, y: (F.mse_loss(output, y, reduction="none") * model.mask).mean(),
        functools.partial(Masked.masked, model),
    ]
    for loss in losses:
        with pytest.raises(InvalidInputError, match="the loss reads mask of your model"):
            check(model, X, SUM, loss, adam, steps=4)
    assert check(model, X, SUM, model.plain, adam, steps=4).steps == 4
    assert reads(max)[1] == set() and "mse_loss" in reads(nn.MSELoss())[1]


def test_a_loss_that_is_a_part_of_the_model_is_taken():
    class Own(Net):
        def __init__(self):
            super().__init__(outputs=2)
            self.criterion = nn.CrossEntropyLoss(weight=torch.ones(2))  # reads its own weight

    model = Own()
    assert check(model, X, CLASS, model.criterion, "adam", learning_rate=1e-3, steps=4).steps == 4


class Storing(nn.Module):
    """Stores the same number in five places, and counts its calls."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(18, 1)
        self.register_buffer("calls", torch.zeros(()))
        self.by_name, self.items, self.space = {}, [], SimpleNamespace(size=None)

    def forward(self, x):
        output = self.out(x.flatten(1))
        self.calls += 1
        self.by_name["size"] = self.space.size = output.square().mean()
        self.items.append(len(self.items))
        return output


def test_a_loss_of_what_training_changes_on_the_model_is_refused():
    model = Storing()
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    parts, calls = [model], model.calls
    losses = {
        "calls": lambda output, y: F.mse_loss(output, y) * (model.calls + 1),
        "by_name": lambda output, y: F.mse_loss(output, y) + model.by_name.get("size", 0),
        "items": lambda output, y: F.mse_loss(output, y) * (1 + len(parts[0].items)),
        "space": lambda output, y: F.mse_loss(output, y) + (model.space.size or 0),
        "out.weight": lambda output, y: F.mse_loss(output, y) * model.out.weight.norm().item(),
    }
    for name, loss in losses.items():
        with pytest.raises(InvalidInputError, match=f"the loss reads {re.escape(name)} of your"):
            check(model, X, SUM, loss, adam, steps=4)
    with pytest.raises(InvalidInputError, match="the loss reads calls of your"):
        check(model, X, SUM, lambda output, y: F.mse_loss(output, y) * calls, adam, steps=4)


def test_a_loss_that_does_not_repeat_is_not_called_unpaired():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("scale", torch.ones(()))

        def forward(self, output, y):
            loss = F.mse_loss(output, y)
            self.scale.mul_(0.9).add_(0.1 * loss.detach())
            return loss / self.scale

    def noisy(output, y):
        return F.mse_loss(output + 0.05 * torch.randn_like(output), y)

    for loss in (Scaled(), noisy):
        found, _ = facts(Probe(training_of(Net(), X, SUM, loss)))
        assert not found


def test_targets_of_nan_that_a_loss_may_leave_out_are_refused():
    def masked(output, y):
        return torch.where(y.isnan(), 0 * output, output - y.nan_to_num()).square().mean()

    y = SUM.clone()
    y[:3] = math.nan
    adam = {"optimizer": "adam", "learning_rate": 1e-3, "steps": 4}
    with pytest.raises(InvalidInputError, match="give the mask as a further number of y"):
        check(Net(), X, y, masked, **adam)
    assert "y holds 3 NaN" in str(check(Net(), X, y, MSE, **adam))


def test_inputs_of_nan_are_a_fault_only_if_the_outputs_are_not_finite():
    class Cleaning(Net):
        def forward(self, x):
            return super().forward(x.nan_to_num())

    x = X.clone()
    x[3, 2, 0] = math.nan
    adam = {"optimizer": "adam", "learning_rate": 1e-3, "steps": 4}
    assert "Proven: x holds 1 NaN" in str(check(Net(), x, SUM, MSE, **adam))
    for model, inputs in ((Cleaning(), x), (Cleaning(), DataLoader(TensorDataset(x, SUM)))):
        with pytest.raises(InvalidInputError, match="if your model fills them in itself"):
            check(model, inputs, None if inputs is not x else SUM, loss_fn=MSE, **adam)


def test_a_loss_with_weights_of_its_own_is_refused():
    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.log_scale = nn.Parameter(torch.zeros(()))

        def forward(self, output, y):
            return F.mse_loss(output, y) * torch.exp(-self.log_scale) + self.log_scale

    model, loss = Net(), Weighted()
    adam = torch.optim.Adam([*model.parameters(), *loss.parameters()], 1e-3)
    with pytest.raises(InvalidInputError, match="weights of the loss as part of the model"):
        check(model, X, SUM, loss, adam, steps=4)


def test_facts_stop_at_their_time():
    found, missing = facts(Probe(training_of(Net(), X, SUM, MSE)), -math.inf)
    assert not found and missing[0] == "not finite: no time was left"


def test_the_attribute_that_cannot_be_copied_is_named():
    model = nn.Sequential(nn.Flatten(), nn.Linear(18, 1))
    model[1].guard = threading.Lock()
    with pytest.raises(UsersCodeError, match=r"its attribute 1\.guard is the reason: set it"):
        check(model, X, SUM, "mse", "adam", learning_rate=1e-3, steps=4)
    model[1].guard = model(X[:2])
    with pytest.raises(UsersCodeError, match=r"1\.guard is the reason: store it with \.detach"):
        check(model, X, SUM, "mse", "adam", learning_rate=1e-3, steps=4)


@pytest.mark.parametrize("size", [3.0, 6.0])
def test_the_least_loss_in_a_range_is_that_of_many_examples(size):
    """By NumPy, over the 63 of 84 examples that are trained on."""
    x, y = torch.randn(84, T, 3, generator=G), size * torch.randn(84, 1, generator=G)
    model = Net(end=torch.tanh)
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    training = Training(model, x, y, MSE, adam, batch_size=7)
    seen = training.data.trained[0][1].numpy()
    (cause,) = (c for c in facts(Probe(training))[0] if c.name == "output range")
    least = np.square(seen - seen.clip(-1, 1)).mean()
    constant = np.square(seen - seen.mean().clip(-1, 1)).mean()
    assert "over 63 examples the least loss" in cause.sentence
    assert cause.evidence["least"] == pytest.approx(least, rel=1e-3)
    assert cause.evidence["constant"] == pytest.approx(constant, rel=1e-3)


@pytest.mark.parametrize("alike", [True, False])
def test_a_minibatch_with_all_targets_on_one_side_of_a_range_is_no_proof(alike):
    y = 5 + 0.1 * SUM if alike else 5 * (2 * CLASS[:, None] - 1.0) + 0.1 * SUM
    model = Net(end=torch.tanh)
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    found, _ = facts(Probe(Training(model, X, y, MSE, adam, batch_size=1)))
    (cause,) = (cause for cause in found if cause.name == "output range")
    assert cause.sure == alike


class Logs(Net):
    """Logarithms of a softmax over some axis, made by hand."""

    def __init__(self, axis, small=0.0):
        super().__init__(2)
        self.axis, self.small = axis, small

    def forward(self, x):
        z = super().forward(x)
        if self.axis is None:
            return z
        return (
            z.log_softmax(self.axis)
            if not self.small
            else (z.softmax(self.axis) + self.small).log()
        )


@pytest.mark.parametrize(
    ("model", "words", "sure"),
    [
        (Logs(None), "The loss has no least value: outputs of size 100 take it to -100,", True),
        (Logs(0, 1e-9), "The loss alone has no least value: any outputs of size 100", False),
        (Logs(0), "", False),
    ],
    ids=["no softmax", "a softmax over examples", "a log_softmax over examples"],
)
def test_a_loss_without_a_least_value_speaks_of_outputs_that_the_network_can_give(
    model, words, sure
):
    """The outputs of both kinds of a softmax lie below 0, at any weights; those of none do not."""
    with torch.no_grad():
        model.out.bias[0] += 1e3
        assert (model(X).max() > 100) == sure
    found, _ = facts(Probe(training_of(model, X, CLASS, NLL)))
    causes = [cause for cause in found if cause.name == "no least loss"]
    assert [cause.sure for cause in causes] == ([sure] if words else [])
    assert all(cause.sentence.startswith(words) for cause in causes)


class Reversed(torch.autograd.Function):
    """The identity, with the gradient reversed."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -grad


class Truncated(Net):
    """Cut the state in the middle of a sequence."""

    def states(self, x):
        first, state = self.rnn(x[:, :3])
        return torch.cat([first, self.rnn(x[:, 3:], state.detach())[0]], 1)


class Centred(Net):
    """Subtract the mean of the minibatch from the states."""

    def states(self, x):
        out = super().states(x)
        return out - out.mean(0)


def with_frozen(model):
    model.rnn.requires_grad_(False)
    return model


@pytest.mark.parametrize(
    ("model", "name", "example"),
    [
        (Net(end=Reversed.apply), "wrong gradient", "such as gradient reversal"),
        (Truncated(), "detached state", "truncate backpropagation on purpose"),
        (with_frozen(Net()), "untrained weights", "such as pretrained weights"),
        (Centred(), "mixed examples", "such as by its mean"),
    ],
    ids=["reversal", "truncated", "frozen", "mean"],
)
def test_advice_leaves_open_what_may_be_intended(model, name, example):
    """Each of these networks is sound if its author means it."""
    found, _ = facts(Probe(training_of(model, X, SUM, MSE)))
    (cause,) = (cause for cause in found if cause.name == name)
    assert example in cause.remedy and "on purpose" in cause.remedy
    assert not cause.sure and "wrong" not in cause.sentence


class Gain(Net):
    """Multiplies its output by a tensor that is no parameter."""

    def __init__(self, size=1):
        super().__init__()
        self.__dict__["gain"] = torch.ones(size, requires_grad=True)

    def forward(self, x):
        return super().forward(x) * self.gain.mean()


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (1, "Outputs or loss depend on 1 trainable number that is not a parameter of the model"),
        (2, "Outputs or loss depend on 2 trainable numbers that are not parameters of the model"),
    ],
)
def test_a_tensor_that_the_optimiser_has_is_not_called_untrained(size, words):
    """By a plain loop: the optimiser changes the tensor that it has, and no other."""
    for given in (True, False):
        model = Gain(size)
        tensors = [*model.parameters(), model.gain] if given else model.parameters()
        adam = torch.optim.Adam(tensors, 1e-2)
        found, _ = facts(Probe(training_of(model, X, SUM, MSE, adam)))
        assert [cause.sentence.startswith(words) for cause in found] == [True] * (not given)
        MSE(model(X), SUM).backward()
        adam.step()
        assert torch.equal(model.gain, torch.ones(size)) is not given


class Sparse(nn.Module):
    """The mean of embedded ids, with sparse gradients."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.out = nn.Embedding(30, 8, sparse=True), nn.Linear(8, 1)

    def forward(self, x):
        return self.out(self.embedding(x).mean(1))


@pytest.mark.parametrize(
    "kind", [torch.optim.SGD, torch.optim.Adagrad, torch.optim.SparseAdam], ids=str
)
def test_sparse_gradients_are_those_of_a_plain_loop(kind):
    """Losses of ten steps; SparseAdam takes only the embedding, so the rest is left out."""
    y = torch.randn(30, generator=G)[IDS].mean(1, keepdim=True)

    def optimizer(model):
        weights = model.embedding if kind is torch.optim.SparseAdam else model
        return kind(weights.parameters(), 0.1)

    model = Sparse()
    training = training_of(model, IDS, y, MSE, optimizer(model))
    pairs = [*itertools.islice(training.data.stream(0), 10)]
    losses = [training.step(*pair) for pair in pairs]
    own = optimizer(model)
    for loss, (x, target) in zip(losses, pairs, strict=True):
        own.zero_grad()
        mine = MSE(model(x), target)
        mine.backward()
        own.step()
        assert loss == pytest.approx(mine.item(), rel=1e-5)
    found, missing = facts(Probe(training_of(Sparse(), IDS, y, MSE, optimizer(Sparse()))))
    assert not missing
    assert "no gradient" not in {cause.name for cause in found}


class Positive(nn.Module):
    """A ReLU after a linear map, whose outputs are positive for `alive` of the examples."""

    def __init__(self, x, alive):
        super().__init__()
        self.out = nn.Linear(x.shape[1] * x.shape[2], 1)
        with torch.no_grad():
            self.out.bias -= self.out(x.flatten(1)).sort(0).values[-alive - 1]

    def forward(self, x):
        return self.out(x.flatten(1)).relu()


@pytest.mark.parametrize("alive", [0, 3])
def test_a_gradient_is_0_only_if_it_is_in_every_minibatch(alive):
    """With 3 of 400 outputs above 0, most minibatches have no gradient, and the network trains."""
    x = torch.randn(400, 4, 3, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    model = Positive(x, max(alive, 1))
    if not alive:
        model.out.bias.data -= 100.0
    probe = Probe(Training(model, x, x.mean((1, 2))[:, None].relu(), nn.MSELoss(), "adam"))
    found = {cause.name for cause in facts(probe, math.inf)[0]}
    assert ("no gradient" in found) is (alive == 0)
