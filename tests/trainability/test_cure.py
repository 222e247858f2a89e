"""A cure trains what was stuck, leaves alone what learns, and gives lines that can be pasted."""

import copy
import json
from importlib import import_module

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from rhn.errors import InvalidInputError
from trainability.candidates import GIVEN, Change, Start, starts_of
from trainability.cure import CHANGED, code_of, cure, rungs
from trainability.race import Race
from trainability.training import Training

UNITS, STEPS, LONG = 12, 128, 1e4  # LONG seconds: a busy machine changes nothing
SCHEDULERS = {
    "step": lambda o: torch.optim.lr_scheduler.StepLR(o, 2, 0.5),
    "one cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, 10),
    "two after another": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o,
        [
            torch.optim.lr_scheduler.LinearLR(o, 0.1, total_iters=3),
            torch.optim.lr_scheduler.CosineAnnealingLR(o, 7),
        ],
        [3],
    ),
}


class Reader(nn.Module):
    """A recurrent layer, examples first, with an output of the last frame."""

    def __init__(self, kind=nn.GRU, outputs=2, std=None, **options):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.out = kind(3, UNITS, batch_first=True, **options), nn.Linear(UNITS, outputs)
        for p in self.parameters() if std else ():
            nn.init.normal_(p, 0, std)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


def recall(frames=6, examples=160):
    """Remember which of two symbols was read first."""
    generator = torch.Generator().manual_seed(0)
    symbols = torch.randint(0, 2, (examples,), generator=generator)
    x = torch.zeros(examples, frames, 3)
    x[range(examples), 0, symbols] = 1
    x[:, 1:, 2] = 1
    return x, symbols


X, Y = recall()
ADAM = torch.optim.Adam


def cured(model, rate=1e-5, kind=ADAM, x=X, y=Y, options=None, **parts):
    optimizer = kind(model.parameters(), lr=rate, **options or {})
    given = {"steps": STEPS, "seconds": LONG} | parts
    return cure(model, x, y, nn.CrossEntropyLoss(), optimizer, **given)


def trained(model, optimizer, steps=STEPS):
    """Mean loss of the last steps of a plain loop."""
    generator, losses = torch.Generator().manual_seed(5), []
    for _ in range(steps):
        rows = torch.randperm(len(X), generator=generator)[:32]
        loss = nn.functional.cross_entropy(model(X[rows]), Y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return float(np.mean(losses[-20:]))


def training_of(model, optimizer, **parts):
    return Training(model, X, Y, nn.CrossEntropyLoss(), optimizer, **parts)


def pasted(code, model, **names):
    names |= {"model": copy.deepcopy(model)}
    exec(code, names)
    return names


@pytest.fixture(scope="module")
def slow_rate():
    """The model, and the cure of a training of which only the learning rate is too low."""
    model = Reader()
    options = {"weight_decay": 0.02}
    return model, cured(model, kind=torch.optim.AdamW, options=options, clip_norm=1.5)


@pytest.fixture(scope="module")
def tiny_weights():
    """The model, and the cure of a training that does not move from its weights."""
    model = Reader(nn.RNN, std=1e-4)
    return model, cured(model, 0.1, torch.optim.SGD, options={"momentum": 0.9})


def test_where_the_learning_rate_is_enough_only_it_is_changed(slow_rate):
    model, found = slow_rate
    assert (found.outcome, found.start, found.clip_norm) == (CHANGED, GIVEN, 1.5)
    assert found.learning_rate > 1e-4 and len(found.chosen.rows) == 3
    assert found.changes == f"learning rate {found.learning_rate:.3g}"
    torch.testing.assert_close(found.model.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_the_code_sets_the_rate_and_gives_the_norm_of_clipping(slow_rate):
    model, found = slow_rate
    given = torch.optim.AdamW(model.parameters(), 1e-5, weight_decay=0.02)
    optimizer = pasted(found.code, model, optimizer=given)["optimizer"]
    (group,), (own,) = (o.param_groups for o in (optimizer, found.optimizer(model.parameters())))
    assert group["lr"] == found.learning_rate == own["lr"] and own["weight_decay"] == 0.02
    assert "clip_grad_norm_(model.parameters(), 1.5)" in found.code


def test_an_optimiser_is_made_for_copies_of_the_model_only(slow_rate):
    with pytest.raises(InvalidInputError, match="expected found"):
        slow_rate[1].optimizer(nn.Linear(1, 1).parameters())


def test_the_text_has_at_most_fourteen_lines(slow_rate, tiny_weights):
    for _, found in (slow_rate, tiny_weights):
        assert len(str(found).splitlines()) <= 14
        assert found.code.rstrip() in found.summary() and found.changes in str(found)


def test_each_start_is_tried_once_at_each_rate(slow_rate):
    frame = slow_rate[1].to_frame()
    assert not frame.duplicated(["start", "optimizer", "learning_rate"]).any()
    assert frame.start[0] == GIVEN and frame.steps[0] == frame.steps.max() == STEPS


def test_a_cure_is_drawn_and_saved(slow_rate, tmp_path):
    found = slow_rate[1]
    saved = json.loads(found.save(tmp_path / "cure.json").read_text())
    assert (saved["outcome"], saved["code"]) == (CHANGED, found.code)
    assert found.save(tmp_path / "cure.csv").read_text().count("\n") == len(found.trials) + 1
    assert found.plot().lines


def test_a_stuck_network_trains_after_the_cure(tiny_weights):
    model, found = tiny_weights
    assert found.outcome == CHANGED and found.before > 0.9 > found.error
    given = torch.optim.SGD(model.parameters(), 0.1)
    other = pasted(found.code, model, optimizer=given)["model"]
    torch.testing.assert_close(other.state_dict(), found.model.state_dict(), rtol=0, atol=0)
    assert trained(other, found.optimizer(other.parameters())) < 0.5 * np.log(2)


def test_a_training_without_a_fault_is_not_changed():
    model = Reader()
    found = cured(model, 1e-2, options={"weight_decay": 1e-4})
    assert (found.outcome, found.changed, found.code) == ("without a fault", False, "")
    assert found.learning_rate == 1e-2
    torch.testing.assert_close(found.model.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert found.optimizer(model.parameters()).param_groups[0]["weight_decay"] == 1e-4


def test_model_optimiser_and_random_numbers_stay_as_they_were():
    model = Reader(num_layers=2, dropout=0.5)
    optimizer = ADAM(model.parameters(), lr=1e-5)
    trained(model, optimizer, 2)
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    gradients, random = [p.grad.clone() for p in model.parameters()], torch.random.get_rng_state()
    cure(model, X, Y, nn.CrossEntropyLoss(), optimizer, steps=8, seconds=LONG)
    torch.testing.assert_close((model.state_dict(), optimizer.state_dict()), before, rtol=0, atol=0)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert torch.equal(random, torch.random.get_rng_state())


def test_a_cause_that_only_the_user_can_mend_ends_the_search():
    model = Reader()
    model.requires_grad_(False)
    optimizer = ADAM(model.parameters(), lr=1e-2)
    found = cure(model, X, Y, lambda z, y: (z.sum() * 0 + 1).requires_grad_(), optimizer)
    assert found.outcome == "not searched" and not found.changed and len(found.trials) == 1
    assert found.causes[0].name == "no gradient" and found.causes[0].sentence in str(found)


def test_no_cure_is_claimed_where_nothing_can_be_learned():
    found = cured(Reader(), 1e-3, y=Y[torch.randperm(len(Y))], steps=32)
    assert (found.outcome, found.changed, found.code) == ("none helped", False, "")
    assert max(row["steps"] for row in found.table()) == 32 and len(found.trials) > 10


def test_without_time_it_asks_for_more():
    found = cured(Reader(nn.RNN), x=recall(frames=40)[0], seconds=1e-6)
    assert found.outcome == "none helped" and "To decide, give seconds=" in str(found)
    assert found.needed_seconds > 0


@pytest.mark.parametrize(("rate", "changed"), [(1e-5, True), (1e-2, False)])
def test_a_loader_of_one_order_gives_no_cure_and_no_health(rate, changed):
    loader = DataLoader(TensorDataset(*recall(examples=800)), 32)
    found = cured(Reader(), rate, x=loader, y=None)
    assert (found.outcome, found.changed) == ("not confirmed", changed)
    assert "shuffle it" in str(found) and found.needed_seconds is None


def test_a_change_that_fails_in_another_order_is_refused_and_the_next_one_tried(monkeypatch):
    failed = []

    class Failing(Race):
        def train(self, row, steps, end):
            super().train(row, steps, end)
            if row.order == 1 and (not failed or row is failed[0]):
                failed[:] = [row]
                row.exploded = row.steps

    monkeypatch.setattr(import_module("trainability.race"), "Race", Failing)
    found = cured(Reader())
    assert found.outcome == CHANGED and found.chosen.row.what != failed[0].what


def test_the_rungs_end_at_the_length_of_the_training():
    assert rungs(3) == [1, 3] and rungs(3000)[-1] == 3000


# Lines to paste


@pytest.mark.parametrize("outputs", [2, 88])
def test_the_lines_of_every_start_run_as_they_are(outputs):
    model = Reader(nn.LSTM, outputs, num_layers=2)
    given = torch.optim.AdamW(model.parameters(), 1e-3)
    training = training_of(model, given)
    for start in starts_of(training):
        change = Change(start, 0.1)
        code = code_of(training, change, model)
        names = pasted(code, model, optimizer=given)
        assert names["optimizer"].param_groups[0]["lr"] == 1e-4
        changed = change.applied(training).model.state_dict()
        torch.testing.assert_close(names["model"].state_dict(), changed, rtol=0, atol=0)
        assert max(map(len, code.splitlines())) < 120


def test_the_lines_for_a_compiled_model():
    model = Reader()
    compiled = torch.compile(copy.deepcopy(model))
    training = training_of(compiled, ADAM(compiled.parameters(), lr=1e-3))
    change = Change(list(starts_of(training))[-1])
    names = {"model": compiled, "optimizer": ADAM(compiled.parameters(), lr=1e-3)}
    exec(code_of(training, change, compiled), names)
    expected = change.applied(training).model.state_dict()
    torch.testing.assert_close(names["model"].state_dict(), expected, rtol=0, atol=0)


def test_the_lines_for_an_optimiser_of_many_groups():
    model = Reader()
    optimizer = ADAM([{"params": [p], "lr": 1.1e-5} for p in model.parameters()])
    code = code_of(training_of(model, optimizer), Change(Start(GIVEN), 10.0), model)
    exec(code, {"optimizer": optimizer})
    assert {group["lr"] for group in optimizer.param_groups} == {1.1e-4}


def test_a_new_scheduler_starts_at_the_rate_of_the_cure():
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    training = training_of(model, optimizer, scheduler=SCHEDULERS["step"](optimizer))
    code = code_of(training, Change(Start(GIVEN), 10.0), model)
    assert "make the scheduler again" in code
    made = pasted(code, model, optimizer=optimizer)["optimizer"]
    SCHEDULERS["step"](made)
    assert made.param_groups[0]["lr"] == 1.0


@pytest.mark.parametrize("make", SCHEDULERS.values(), ids=SCHEDULERS)
def test_a_factor_multiplies_the_rates_of_every_kind_of_scheduler(make):
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    training = training_of(model, optimizer, scheduler=make(optimizer))
    rates = []
    for changed in (training.copy(), Change(Start(GIVEN), 10.0).applied(training).copy()):
        rates.append([])
        for _ in range(8):
            rates[-1].append(changed.optimizer.param_groups[0]["lr"])
            changed.step(X[:32], Y[:32])
    assert rates[1] == pytest.approx([10 * rate for rate in rates[0]])
