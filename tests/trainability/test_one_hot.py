"""One-hot targets of a loss that takes a softmax are classes."""

import pytest
import torch
from tables import others_slow
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from trainability.check import check
from trainability.probe import Probe
from trainability.race import race_of
from trainability.training import Training

B, T, K = 240, 6, 3
X = torch.randn(B, T, 4, generator=torch.Generator().manual_seed(0))
CLASSES = X[:, :, :K].cumsum(1).argmax(-1)  # (B, T)
ONE_HOT = F.one_hot(CLASSES, K).float()  # (B, T, K)


class Net(nn.Module):
    """An LSTM whose outputs have some order of axes."""

    def __init__(self, order, last=lambda z: z):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.out = nn.LSTM(4, 16, batch_first=True), nn.Linear(16, K)
        self.order, self.last = order, last

    def forward(self, x):
        z = self.last(self.out(self.rnn(x)[0]))
        return {"BK": z[:, -1], "BTK": z, "BKT": z.transpose(1, 2)}[self.order]


def of_frames(z, y):
    return F.cross_entropy(z.flatten(0, 1), y.flatten(0, 1))


def of_probabilities(z, y):
    """A cross entropy of probabilities, for targets of both forms."""
    y = y if y.is_floating_point() else F.one_hot(y, K).float()
    return F.binary_cross_entropy(z.clamp(1e-7, 1 - 1e-7), y)


def softmax(z):
    return z.softmax(-1)


FORMS = {  # order of axes, last operation, loss, classes, the same one-hot
    "BK": ("BK", nn.Identity(), F.cross_entropy, CLASSES[:, -1], ONE_HOT[:, -1]),
    "BTK": ("BTK", nn.Identity(), of_frames, CLASSES, ONE_HOT),
    "BKT": ("BKT", nn.Identity(), F.cross_entropy, CLASSES, ONE_HOT.transpose(1, 2)),
    "softmax": ("BK", softmax, of_probabilities, CLASSES[:, -1], ONE_HOT[:, -1]),
}


@pytest.mark.parametrize("form", others_slow(FORMS, "BK", "softmax"))
def test_a_check_of_one_hot_targets_is_that_of_their_classes(form):
    order, last, loss, *targets = FORMS[form]
    every = []
    for y in targets:
        model = Net(order, last)
        sgd = torch.optim.SGD(model.parameters(), 0.01)
        limits = {"steps": 8, "seconds": 600, "progress": lambda doing: None}
        every.append(check(model, X, y, loss, sgd, validation=(X[:60], y[:60]), **limits))
    assert every[0].outcome == every[1].outcome
    assert every[0].table() == every[1].table()
    assert str(every[0]) == str(every[1])


@pytest.mark.parametrize("loaded", [False, True])
def test_the_error_of_one_hot_targets_is_the_share_of_wrong_classes(loaded):
    model, y = Net("BTK"), ONE_HOT
    adam = torch.optim.Adam(model.parameters())
    data = (DataLoader(TensorDataset(X, y), 40), None) if loaded else (X, y)
    training = Training(model, *data, of_frames, adam)
    score = race_of(training, Probe(training)).scores["error"]
    pairs = training.data.held_out
    with torch.no_grad():
        outputs = [model(x) for x, _ in pairs]
    rows = [int((row == X).all((1, 2)).nonzero()) for x, _ in pairs for row in x]
    wrong = (torch.cat(outputs).argmax(-1) != CLASSES[rows]).double().mean()
    constant = min(float((CLASSES[rows] != k).double().mean()) for k in range(K))
    found = score.in_pairs(outputs, [y for _, y in pairs])
    assert found.relative == pytest.approx(float(wrong) / constant)


def likelihood(z, y):
    return -(y * (z - z.logsumexp(-1, keepdim=True))).sum(-1).mean()


def of_logarithms(z, y):
    return -(y * z).sum(-1).mean()


SOFT = 0.9 * ONE_HOT[:, -1] + 0.1 / K
SEVERAL = (X[:, -1, :K] > 0).float()
CASES = {  # loss, last operation, targets, the axis of their classes
    "own softmax": (likelihood, nn.Identity(), ONE_HOT[:, -1], 1),
    "logarithms": (of_logarithms, lambda z: z.log_softmax(-1), ONE_HOT[:, -1], 1),
    "soft labels": (F.cross_entropy, nn.Identity(), SOFT, None),
    "several bits": (nn.BCEWithLogitsLoss(), nn.Identity(), SEVERAL, None),
    "sigmoids": (nn.BCEWithLogitsLoss(), nn.Identity(), ONE_HOT[:, -1], None),
    "probabilities": (nn.BCELoss(), torch.sigmoid, ONE_HOT[:, -1], None),
    "numbers": (nn.MSELoss(), nn.Identity(), ONE_HOT[:, -1], None),
}


@pytest.mark.parametrize("name", CASES)
def test_targets_are_classes_if_outputs_are_a_distribution_over_them(name):
    loss, last, y, axis = CASES[name]
    model = Net("BK", last)
    training = Training(model, X, y, loss, torch.optim.Adam(model.parameters()))
    assert training.one_hot == axis
    assert training.data.y.shape == (y.shape if axis is None else (B,))
    x, y = X[:10], y[:10]
    output = model(x)
    kept = training.data.y[:10]
    assert torch.equal(training.loss(output, kept), loss(output, y))
