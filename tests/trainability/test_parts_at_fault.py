"""`check` names the part at fault, by facts and by swaps; a sound training learns."""

import importlib

import pytest
import torch
from torch import nn

from trainability.check import check
from trainability.probe import Probe
from trainability.race import UNCHANGED, Row, race_of
from trainability.swaps import SWAPS, register_swap
from trainability.training import Training

N, T = 300, 6
G = torch.Generator().manual_seed(0)
X = torch.randn(N, T, 2, generator=G)
Y = X[..., 0].sum(1, keepdim=True) / 2
LONG = 1e4  # seconds: a busy machine changes nothing


class Net(nn.Module):
    """A GRU and a linear layer of its last state."""

    def __init__(self, dropout=0.0, batch_first=True):
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.GRU(2, 16, batch_first=batch_first)
        self.out, self.drop = nn.Linear(16, 1), nn.Dropout(dropout)

    def forward(self, x):
        return self.out(self.drop(self.rnn(x)[0][:, -1]))


def checked(model, x, y, rate=1e-2, kind=torch.optim.Adam, steps=240, **parts):
    options = parts.pop("options", {})
    optimizer = kind(model.parameters(), rate, **options)
    return check(model, x, y, nn.MSELoss(), optimizer, steps=steps, seconds=LONG, **parts)


def test_a_sound_training_learns_and_nothing_is_swapped():
    found = checked(Net(), X, Y)
    assert (found.outcome, found.part, found.causes) == ("learns", None, ())
    assert {row.what for row in found.rows} == {
        "your training run, unchanged",
        "the last value repeated",
    }


FAULTS = {
    "target scale": ("targets", {"y": 500 + 100 * Y}),
    "input scale": ("inputs", {"x": X * torch.tensor([1e-3, 1.0])}),
    "learning rate": ("optimizer", {"rate": 1e-6}),
    "weight decay": ("optimizer", {"options": {"weight_decay": 1.0}}),
    "batch for time": ("network", {"model": Net(batch_first=False)}),
}


@pytest.mark.parametrize(
    ("part", "parts"),
    [
        pytest.param(*case, id=name, marks=pytest.mark.slow if name != "target scale" else [])
        for name, case in FAULTS.items()
    ],
)
def test_the_part_at_fault_is_named(part, parts):
    found = checked(**({"model": Net(), "x": X, "y": Y, "steps": 120} | parts))
    assert found.part == part, found
    assert found.at_fault.word == "at fault" and f"The fault is in the {part}" in str(found)
    put = [row for row in found.rows if (row.training, row.part) == ("known good", part)]
    assert [row.word for row in put if row.word] == ["breaks"]


@pytest.mark.slow
def test_initial_weights_of_zero_are_found():
    model = Net()
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    found = checked(model, X, Y)
    assert found.part == "initial weights", found


def test_a_swap_of_ones_own_is_part_of_the_table(monkeypatch):
    swaps = [*SWAPS]
    for name in ("trainability.swaps", "trainability.trial"):
        monkeypatch.setattr(importlib.import_module(name), "SWAPS", swaps)

    @register_swap("targets", "targets of the first column")
    def first_column(training: Training):
        return training.copy()

    found = checked(Net(), X, torch.randn(N, 1, generator=G), steps=16)
    assert "targets of the first column" in [row.what for row in found.rows]


def test_rows_of_a_race_see_the_same_minibatches():
    training = Training(Net(), X, Y, "mse", "sgd", learning_rate=0.1)
    race = race_of(training, Probe(training))
    rows = [Row(UNCHANGED, training.copy()), Row(UNCHANGED, training.copy())]
    for row in rows:
        race.train(row, 5, float("inf"))
    assert rows[0].losses == rows[1].losses


def test_the_model_and_the_optimiser_that_were_given_are_not_changed():
    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    before = [p.detach().clone() for p in model.parameters()]
    check(model, X, Y, nn.MSELoss(), optimizer, steps=16, seconds=LONG)
    assert all(map(torch.equal, before, model.parameters()))
    assert not optimizer.state and all(p.grad is None for p in model.parameters())


def test_an_optimiser_that_needs_a_closure_is_taken():
    model = Net()
    found = check(
        model, X, Y, nn.MSELoss(), torch.optim.LBFGS(model.parameters()), steps=3, seconds=LONG
    )
    assert found.rows[0].error < 1
