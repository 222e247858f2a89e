"""Every comparison gets its share of the time of a check, by a clock that counts steps."""

import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from trainability.cause import Cause
from trainability.check import check
from trainability.diagnosis import Diagnosis
from trainability.facts import facts
from trainability.probe import Probe
from trainability.race import POINTS, race_of
from trainability.reference import Reference
from trainability.training import Training

N, T, STEPS = 120, 5, 40
G = torch.Generator().manual_seed(0)
X = torch.randn(N, T, 2, generator=G)
NOISE = torch.randn(N, 1, generator=G)


class Net(nn.Module):
    """A small GRU."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.out = nn.GRU(2, 4, batch_first=True), nn.Linear(4, 1)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


@pytest.fixture
def costs(monkeypatch):
    """Seconds of a step of the user's network and of a known good one, and of the search for the
    score, by a clock that counts.
    """
    seconds = {"yours": 1.0, "known good": 1.0, "search": 0.0}
    now, step = [0.0], Training.step

    def searched(*given):
        now[0] += seconds["search"]
        return race_of(*given)

    def counted(training, x, y):
        known_good = isinstance(training.model, Reference)
        now[0] += seconds["known good" if known_good else "yours"]
        return step(training, x, y)

    clock = SimpleNamespace(**vars(time) | {"monotonic": lambda: now[0]})
    for name, module in [*sys.modules.items()]:
        if name.startswith("trainability.") and getattr(module, "time", None) is time:
            monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(Training, "step", counted)
    monkeypatch.setattr(sys.modules["trainability.trial"], "race_of", searched)
    return seconds


def checked(trainings):
    """A check that may take as long as some trainings of the user's."""
    model = Net()
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    return check(model, X, NOISE, nn.MSELoss(), adam, steps=STEPS, seconds=trainings * STEPS)


def steps_of_changes(found):
    """Of the changes of one part of the user's training."""
    other = "", "data", "length"  # unchanged, without weights, longer
    return [r.steps for r in found.rows if r.training == "yours" and r.part not in other]


@pytest.mark.parametrize(("slow", "trainings"), [(1.0, 8.0), (4.0, 25.0), (20.0, 10.0)])
def test_all_changes_run_to_the_same_step_if_no_known_good_training_learns(costs, slow, trainings):
    costs["known good"] = slow
    found = checked(trainings=trainings)
    steps = steps_of_changes(found)
    assert len(steps) > 5
    assert min(steps) > 0 and max(steps) - min(steps) <= STEPS / POINTS + 1


def test_the_users_training_runs_to_its_end_though_the_changes_have_no_time_for_it(costs):
    costs["known good"] = 20.0
    found = checked(trainings=10.0)
    assert found.steps == STEPS
    assert max(steps_of_changes(found), default=0) < STEPS
    assert found.part is None and "run to step" in str(found)


def test_a_long_training_that_has_no_time_stops_with_its_changes(costs):
    found = checked(trainings=1.5)
    assert 0 < found.steps < STEPS and found.outcome == "undecided"


def test_the_users_training_runs_to_its_end_after_a_search_that_took_all_time(costs):
    costs["search"] = 10.0 * STEPS
    found = checked(trainings=10.0)
    assert found.steps == STEPS
    assert max(steps_of_changes(found), default=0) < STEPS and found.part is None


def test_facts_end_with_their_time_and_what_was_not_looked_at_is_said():
    """No output is computed after the limit, and the last sentence names the facts."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 1))
    sgd = torch.optim.SGD(model.parameters(), 0.1)
    probe = Probe(Training(model, torch.randn(80, 8, 3), torch.randn(80, 1), "mse", sgd))
    _ = probe.loss
    calls = []
    probe.training.model.register_forward_hook(lambda *_: calls.append(1))
    found, missing = facts(probe, time.monotonic() - 1)
    assert not calls and not found and "mixed examples: no time was left" in missing
    diagnosis = Diagnosis(title="Net", outcome="undecided", not_measured=tuple(missing))
    shown = " ".join(str(diagnosis).split())
    assert "More seconds could prove a cause: no time was left for" in shown
    proof = Cause("no gradient", "network", "No weight moves.", "Remove detach().", sure=True)
    assert "More seconds" not in str(replace(diagnosis, causes=(proof,)))
    assert facts(probe)[1] == []


def test_a_long_search_ends_with_the_time_of_the_facts_and_leaves_time_for_all_others(monkeypatch):
    """On a clock of loss calls: the search for the least loss in a range takes thousands."""
    calls, limit = [], 500
    module = sys.modules["trainability.training"]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: float(len(calls))))

    def loss(output, y):
        calls.append(1)
        return F.mse_loss(output, y)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 1), nn.Tanh())
    adam = torch.optim.Adam(model.parameters(), 1e-3)
    probe = Probe(Training(model, torch.randn(800, 8, 3), 9 * torch.randn(800, 1), loss, adam))
    _, missing = facts(probe, limit)
    assert missing == ["output range: no time was left"] and len(calls) <= limit + 1
    calls.clear()
    found, missing = facts(probe)
    assert not missing and len(calls) > limit and "output range" in {c.name for c in found}
