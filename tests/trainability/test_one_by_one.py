"""Outputs of an example that depend on the other examples of its minibatch."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from trainability import check
from trainability.one_by_one import one_by_one
from trainability.probe import Probe
from trainability.race import UNCHANGED, Row, race_of
from trainability.training import Training
from trainability.trial import Trial
from trainability.verdict import error_on

T = 12


class Packed(nn.Module):
    """A packed GRU; it reads the last frame of the padded outputs, or the last state of each."""

    def __init__(self, reads):
        super().__init__()
        torch.manual_seed(1)
        self.reads = reads
        self.gru, self.out = nn.GRU(2, 12, batch_first=True), nn.Linear(12, 1)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        outputs, h = self.gru(packed)
        padded, _ = pad_packed_sequence(outputs, batch_first=True)
        return self.out(padded[:, -1] if self.reads == "padding" else h[-1])


def task():
    torch.manual_seed(0)
    lengths = torch.randint(3, T + 1, (1200,))  # of which 150 are held out
    x = torch.randn(1200, T, 2) * (torch.arange(T) < lengths[:, None])[..., None]
    return x, lengths, x[..., 0].sum(1, keepdim=True) / 3


@pytest.mark.parametrize("reads", ["padding", "states"])
def test_an_error_that_depends_on_the_minibatch_is_told_with_both_numbers(reads):
    x, lengths, y = task()
    model = Packed(reads)
    adam = torch.optim.Adam(model.parameters(), 0.01)
    found = check(
        *(model, (x, lengths), y, nn.MSELoss(), adam),
        steps=200,
        seconds=30,
        progress=lambda _: None,
    )
    told = [cause for cause in found.causes if cause.name == "minibatch"]
    if reads == "states":
        assert found.outcome == "learns" and not told
        return
    assert found.part == "network" and "depend on its minibatch" in told[0].sentence
    trained, batch = Packed(reads), torch.Generator().manual_seed(5)  # the same by a plain loop
    adam = torch.optim.Adam(trained.parameters(), 0.01)
    for _ in range(200):
        rows = torch.randint(300, (32,), generator=batch)
        adam.zero_grad()
        nn.functional.mse_loss(trained(x[rows], lengths[rows]), y[rows]).backward()
        adam.step()

    @torch.no_grad()
    def error(size):
        parts = torch.arange(300, 400).split(size)
        outputs = torch.cat([trained(x[rows], lengths[rows]) for rows in parts])
        return float((outputs - y[300:400]).square().mean() / y[300:400].var(correction=0))

    evidence = told[0].evidence
    assert error(1) < 0.3 < 0.6 < error(7)
    assert evidence["alone"] < 0.3 < 0.6 < evidence["minibatch"]


def test_an_error_that_is_larger_one_at_a_time_is_marked():
    """Statistics of the minibatch in evaluation mode: no fault, but another error at each size."""

    class OwnStatistics(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(1)
            self.gru, self.out = nn.GRU(2, 12, batch_first=True), nn.Linear(12, 1)
            self.norm = nn.BatchNorm1d(12, track_running_stats=False)

        def forward(self, x):
            last = self.gru(x)[0][:, -1:].transpose(1, 2).expand(-1, -1, 2)
            return self.out(self.norm(last)[..., 0])

    torch.manual_seed(0)
    x = torch.randn(400, 5, 2)
    model = OwnStatistics()
    adam = torch.optim.Adam(model.parameters(), 0.01)
    found = check(
        *(model, x, x[:, -1, :1].clone(), nn.MSELoss(), adam),
        steps=100,
        seconds=20,
        progress=lambda _: None,
    )
    assert not [cause for cause in found.causes if cause.name == "minibatch"]
    words = " ".join(str(found).split())
    assert "depend on its minibatch" in words and "one at a time" in words


class Drawing(nn.Module):
    """Adds random numbers in evaluation mode too; it may subtract the mean of the minibatch, or
    keep the last minibatch.
    """

    def __init__(self, noise=0.0, *, mean=False, keeps=False):
        super().__init__()
        torch.manual_seed(1)
        self.noise, self.mean, self.keeps = noise, mean, keeps
        self.gru, self.out = nn.GRU(2, 12, batch_first=True), nn.Linear(12, 1)
        self.last = torch.zeros(1, 12)

    def forward(self, x):
        h = self.gru(x)[0][:, -1]
        if self.mean:
            h = h - h.mean(0)
        if self.keeps:
            h, self.last = h + self.last, h.detach().mean(0, keepdim=True)
        return self.out(h + self.noise * torch.randn_like(h))


def untrained(model):
    """A training run that has taken no step, and its race."""
    torch.manual_seed(0)
    x = torch.randn(400, 5, 2)
    adam = torch.optim.Adam(model.parameters(), 0.01)
    training = Training(model, x, x[:, -1, :1].clone(), nn.MSELoss(), adam)
    race = race_of(training, Probe(training))
    base = Row(UNCHANGED, training)
    race.measure(base, training)
    return base, race


@pytest.mark.parametrize(
    ("options", "depends"),
    [
        ({"noise": 1.0}, False),
        ({"noise": 1.0, "mean": True}, True),
        ({"mean": True}, True),
        ({"keeps": True}, False),
        ({}, False),
    ],
    ids=["noise", "noise and mean", "mean", "keeps the last minibatch", "sound"],
)
def test_outputs_depend_on_the_minibatch_if_other_examples_change_them(options, depends):
    """The same by a plain call with the same random numbers and other examples."""
    model = Drawing(**options).eval()
    x, outputs = torch.randn(7, 5, 2), []
    other = torch.cat((x[:1], x[1:] + 1))
    for batch in (x, other):
        torch.manual_seed(3)
        model.last = torch.zeros(1, 12)
        outputs.append(model(batch)[0])
    assert torch.allclose(*outputs, atol=1e-6) is not depends
    assert (one_by_one(*untrained(Drawing(**options))) is not None) is depends


def test_training_and_held_out_errors_are_those_of_minibatches_of_one_size():
    """By a plain loop over minibatches of the size of the held-out ones."""
    base, race = untrained(Drawing(mean=True))
    trial = SimpleNamespace(training=base.training, race=race)
    sizes = {len(y) for _, y in race.pairs}
    pairs = Trial.training_pairs(trial)
    assert {len(y) for _, y in pairs} <= sizes and sum(len(y) for _, y in pairs) == 300
    model, score = base.training.model.eval(), race.scores["error"]
    with torch.no_grad():
        wrong = sum(float((model(x) - y).square().sum()) for x, y in pairs)
    y = torch.cat([y for _, y in pairs])
    expected = wrong / float((y - score.constant).square().sum())
    assert error_on(base.training, race, pairs) == pytest.approx(expected, rel=1e-4)
