"""`check` of networks whose outputs have any shape ends in an answer."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from trainability.check import check

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
}
OPTIONS = {
    "a dataclass": {"predict": lambda answer: answer.logits},
    "states first": {"predict": lambda pair: pair[1]},
}


def loss_for(y):
    return nn.CrossEntropyLoss() if not y.is_floating_point() else nn.MSELoss()


@pytest.mark.parametrize("form", FORMS)
def test_a_check_ends_in_an_answer(form):
    make, y, units = FORMS[form]
    model = Net(make, units)
    optimizer = torch.optim.SGD(model.parameters(), 30.0)
    options = OPTIONS.get(form, {}) | {"steps": 6, "seconds": LONG}
    found = check(model, X, y, loss_for(y), optimizer, **options)
    assert str(found) and found.to_dict() and found.rows
    assert not [words for words in found.left_out if "Error" in words], found.left_out
