"""`check` of networks whose outputs have any shape ends in an answer, or in one sentence."""

import contextlib
import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from rhn.errors import RhnError
from trainability.check import check
from trainability.facts import facts
from trainability.losses import scored
from trainability.probe import Probe
from trainability.training import Training

N, T, M = 120, 4, 3
G = torch.Generator().manual_seed(0)
X = torch.randn(N, T, M, generator=G)
LONG = 1e4  # seconds: a busy machine changes nothing


@dataclass
class Answer:
    """What some libraries return."""

    logits: Tensor
    hidden: Tensor


class Net(nn.Module):
    """A GRU, and a linear layer whose states or last state are given in some form."""

    def __init__(self, form, units=1):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.out, self.form = nn.GRU(M, 8, batch_first=True), nn.Linear(8, units), form

    def forward(self, x):
        states = self.rnn(x)[0]
        return self.form(self.out(states), states)


MEAN = X.mean((1, 2))
EACH = X.cumsum(1).mean(2)
FORMS = {
    "(B,)": (lambda z, h: z[:, -1, 0], MEAN, 1),
    "(B, 1)": (lambda z, h: z[:, -1], MEAN[:, None], 1),
    "(B, T)": (lambda z, h: z[..., 0], EACH, 1),
    "(B, T, K)": (lambda z, h: z, X.roll(1, 1), M),
    "classes of frames": (lambda z, h: z.transpose(1, 2), (EACH > 0).long(), 2),
    "classes": (lambda z, h: z[:, -1], (MEAN > 0).long(), 2),
    "one logit": (lambda z, h: z[:, -1, 0], (MEAN > 0).float(), 1),
    "a tuple": (lambda z, h: (z[:, -1], h), MEAN[:, None], 1),
    "()": (lambda z, h: z.mean(), MEAN, 1),
    "outputs (B, 1), targets (B,)": (lambda z, h: z[:, -1], MEAN, 1),
    "a dataclass": (lambda z, h: Answer(z[:, -1], h), MEAN[:, None], 1),
    "states first": (lambda z, h: (h, z[:, -1]), MEAN[:, None], 1),
    "no numbers": (lambda z, h: z[:, -1, :0], MEAN[:, None], 1),
    "(1,)": (lambda z, h: z.mean().reshape(1), MEAN, 1),
    "(T, B)": (lambda z, h: z[..., 0].T, EACH, 1),
    "a dictionary": (lambda z, h: {"logits": z[:, -1]}, MEAN[:, None], 1),
}
REFUSED = "no numbers", "a dictionary", "(T, B)"
OPTIONS = {
    "a dataclass": {"predict": lambda answer: answer.logits},
    "states first": {"predict": lambda pair: pair[1]},
}


def loss_for(y):
    return nn.CrossEntropyLoss() if not y.is_floating_point() else nn.MSELoss()


OF_EACH_KIND = "(B,)", "(B, T, K)", "classes of frames", "a tuple", "()"
CHECKED = [
    pytest.param(form, marks=[] if form in OF_EACH_KIND else pytest.mark.slow)
    for form in FORMS
    if form not in REFUSED
]


@pytest.mark.parametrize("form", CHECKED)
def test_a_check_ends_in_an_answer(form):
    make, y, units = FORMS[form]
    model = Net(make, units)
    optimizer = torch.optim.SGD(model.parameters(), 30.0)
    options = OPTIONS.get(form, {}) | {"steps": 6, "seconds": LONG}
    found = check(model, X, y, loss_for(y), optimizer, **options)
    assert str(found) and found.to_dict() and found.rows
    assert not [words for words in found.left_out if "Error" in words], found.left_out


LOSSES = {
    **{name: name for name in ("mse", "cross-entropy", "bernoulli")},
    "CrossEntropyLoss": nn.CrossEntropyLoss(),
    "NLLLoss": nn.NLLLoss(),
    "BCELoss": nn.BCELoss(),
    "BCEWithLogitsLoss": nn.BCEWithLogitsLoss(),
    "GaussianNLLLoss": nn.GaussianNLLLoss(),
    "a function": lambda output, y: (output - y).abs().mean(),
    "no gradient": lambda output, y: output.detach().mean(),
}
TARGETS = {
    "as they are": lambda y: y,
    "whole": lambda y: y.long(),
    "int32": lambda y: (y > 0).int(),
    "true or false": lambda y: y > 0,
    "0 or 1": lambda y: (y > 0).float(),
    "an axis more": lambda y: y[..., None],
    "flat": lambda y: y.reshape(N, -1)[:, 0],
}


def training_of(form, loss, targets):
    """A training of these parts."""
    make, y, units = FORMS[form]
    model = Net(make, units)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    options = OPTIONS.get(form, {})
    return Training(model, X, TARGETS[targets](y), LOSSES[loss], optimizer, **options)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_a_loss_takes_the_outputs_or_is_refused_in_a_sentence(form, loss):
    for targets in TARGETS:
        training = training_of(form, loss, targets)
        x, y = training.data.sample(32)
        with contextlib.suppress(RhnError):
            output = training.output(x)
            assert training.loss(output, y).dim() == 0
            axes = training.output_axes(output, x, y)
            assert scored(training.loss, output, y, axes).shape == y.shape


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_facts_about_any_outputs_are_facts(form):
    for loss in LOSSES:
        probe = Probe(training_of(form, loss, "as they are"))
        with contextlib.suppress(RhnError):
            _ = probe.loss
            found, missing = facts(probe, math.inf)
            assert all(cause.sentence.endswith(".") for cause in found)
            assert not [words for words in missing if "Error" in words], missing
