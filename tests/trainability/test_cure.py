"""A cure trains what was stuck, leaves alone what learns, and gives lines that can be pasted."""

import copy
import dataclasses
import json
import statistics
from functools import partial
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from rhn.errors import InvalidInputError
from trainability.candidates import GIVEN, Change, Start, starts_of
from trainability.cure import CHANGED, IN_SOME, Search, code_of, cure
from trainability.cure_result import Attempt
from trainability.race import UNCHANGED, Measure, Race, Row
from trainability.scores import PairedErrors
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


def test_the_text_has_at_most_twelve_lines(slow_rate, tiny_weights):
    for _, found in (slow_rate, tiny_weights):
        assert len(str(found).splitlines()) <= 12
        assert found.code.rstrip() in found.summary() and found.changes in str(found)


def test_each_start_is_tried_once_at_each_rate(slow_rate):
    frame = slow_rate[1].to_frame()
    assert not frame.duplicated(["start", "optimizer", "learning_rate"]).any()
    assert frame.start[0] == GIVEN and frame.steps[0] == frame.steps.max() == STEPS


def test_a_cure_is_saved(slow_rate, tmp_path):
    found = slow_rate[1]
    saved = json.loads(found.save(tmp_path / "cure.json").read_text())
    assert (saved["outcome"], saved["code"]) == (CHANGED, found.code)
    assert found.save(tmp_path / "cure.csv").read_text().count("\n") == len(found.trials) + 1


def test_numbers_are_compared_after_the_same_steps_and_others_are_marked(tiny_weights):
    """A run that diverges after 9 steps made all other runs seem whole."""
    _, found = tiny_weights
    given, whole, early = (copy.copy(found.trials[0]) for _ in range(3))
    for trial, error, steps in ((given, 1.0, 128), (whole, 0.9, 128), (early, 0.8, 30)):
        trial.rows = [row_of([error] * 8, steps)]
    base = {"trials": (given, early, whole), "chosen": given, "outcome": "not confirmed"}
    sound = dataclasses.replace(found, error=1.0, **base)
    assert "None of 1 change does far better; 1 more stopped earlier." in sound.verdict
    undecided = dataclasses.replace(sound, outcome="undecided")
    assert undecided.verdict.endswith("None of 1 change helps; 1 more stopped earlier.")
    only_early = dataclasses.replace(undecided, trials=(given, early))
    assert only_early.verdict.endswith("(1: the constant predictor). 1 stopped earlier.")
    assert [sound._when(t.row) for t in sound.trials] == ["", "  (step 30)", ""]
    given.row.exploded = given.row.steps = 9
    diverged = dataclasses.replace(sound, error=np.inf, outcome="none helped")
    assert diverged.verdict == "None of 1 change helps Reader: the loss is not finite at step 9."
    marks = ["  (not finite at step 9)", "  (step 30)", "  (step 128)"]
    assert [diverged._when(trial.row) for trial in diverged.trials] == marks


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


def test_a_gradient_that_is_0_at_these_weights_only_is_searched():
    """A ReLU that is dead from the given weights lives from others, by a plain loop too."""
    x = torch.rand(200, 6, generator=torch.Generator().manual_seed(0))
    y, model = x.mean(1, keepdim=True), nn.Sequential(nn.Linear(6, 1), nn.ReLU())
    with torch.no_grad():
        model[0].weight.fill_(-0.3), model[0].bias.fill_(-0.1)
    found = cure(model, x, y, nn.MSELoss(), ADAM(model.parameters(), 1e-2), steps=STEPS)
    assert (found.outcome, found.causes[0].name) == (CHANGED, "no gradient")
    assert "torch's initial weights" in found.start and found.error < 0.3 < 1 < found.before
    learned = pasted(found.code, model, optimizer=ADAM(model.parameters(), 1e-2))["model"]
    assert bool(learned(x).any())


def test_initial_weights_that_have_no_gradient_are_drawn_again():
    """Of a ReLU of a number and one of its negative at least one is dead from the first draw."""
    x = 1 + torch.rand(200, 1, generator=torch.Generator().manual_seed(0))
    codes = []
    for sign in (1.0, -1.0):
        scaled = nn.Linear(1, 1, bias=False).requires_grad_(False)
        model = nn.Sequential(nn.Linear(1, 1, bias=False), scaled, nn.ReLU())
        with torch.no_grad():
            model[0].weight.fill_(-sign), scaled.weight.fill_(sign)
        training = Training(model, x, x, nn.MSELoss(), ADAM(model.parameters(), 1e-2))
        start = {start.words: start for start in starts_of(training)}["torch's initial weights"]
        assert bool((Change(start).applied(training).model(x) > 0).any())
        codes.append("seed=" in start.code)
    assert sorted(codes) == [False, True]


def test_no_cure_is_claimed_where_nothing_can_be_learned():
    found = cured(Reader(), 1e-3, y=Y[torch.randperm(len(Y))], steps=32)
    assert (found.outcome, found.changed, found.code) == ("none helped", False, "")
    assert max(row["steps"] for row in found.table()) == 32 and len(found.trials) > 10


def test_without_time_it_asks_for_more():
    found = cured(Reader(nn.RNN), x=recall(frames=40)[0], seconds=1e-6)
    assert found.outcome == "undecided" and "To decide, give at least seconds=" in str(found)
    assert str(found).startswith("Reader is undecided: ") and "None of" not in str(found)
    assert found.needed_seconds > 0


@pytest.mark.parametrize(
    ("outcome", "aim"),
    [
        ("undecided", "To decide"),
        ("not confirmed", "To confirm this"),
        ("trains in some orders", "To decide"),
        ("trains after the change", ""),
        ("without a fault", ""),
    ],
)
def test_more_seconds_than_were_given_are_asked_of_a_search_that_has_not_decided(
    monkeypatch, outcome, aim
):
    """By its rows a step takes 0.4 seconds, ten times as long as was foreseen: 32 steps 12.8."""

    def run(search):
        search.ran_out, search.step_seconds, search.needed_trainings = True, 0.04, 10
        search.given.row.seconds, search.given.row.steps = 40.0, 100
        return search.given, outcome

    monkeypatch.setattr(Search, "run", run)
    for seconds, expected in ((20.0, 10 * 12.8), (300.0, 300 + 3 * 12.8)):
        found = cured(Reader(), 1e-3, steps=32, seconds=seconds)
        assert (f"{aim}, give at least seconds=" in str(found)) == bool(aim)
        assert found.needed_seconds == (pytest.approx(expected) if aim else None)


@pytest.mark.parametrize(("rate", "changed"), [(1e-5, True), (1e-2, False)])
def test_a_loader_of_one_order_gives_no_cure_and_no_health(rate, changed):
    loader = DataLoader(TensorDataset(*recall(examples=800)), 32)
    found = cured(Reader(), rate, x=loader, y=None)
    assert (found.outcome, found.changed) == ("not confirmed", changed)
    assert "shuffle it" in str(found) and found.needed_seconds is None


@pytest.mark.slow
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


# A cure lasts


def row_of(errors, steps=160):
    """A row with these errors at equal distances of steps."""
    row = Row(UNCHANGED, None, steps=steps)
    points = enumerate(errors, start=1)
    row.measures += [Measure(steps * k // len(errors), {}, {"error": e}) for k, e in points]
    return row


RISES = [1.0, 0.6, 0.4, 0.1, *[0.0] * 8, 0.9, 0.95, 0.97, 0.98]
FALLS = [1.0, 0.9, 0.6, 0.4, *[0.1] * 12]
SPIKE = [*[0.0] * 14, 0.9, 0.0]


@pytest.mark.parametrize("errors", [RISES, FALLS, SPIKE])
def test_the_lasting_error_is_the_median_of_the_last_quarter(errors):
    row = row_of(errors)
    assert row.lasting.error == statistics.median(errors[11:]) and row.error == errors[-1]


def test_what_is_reached_is_half_of_the_lasting_gain_and_it_stays_or_not():
    assert row_of(FALLS).reached == (40, True)
    assert row_of(SPIKE).reached == (10, False)
    assert row_of([1.0, 0.2, 0.9, 0.2, 0.2, 0.2, 0.2, 0.2]).reached == (40, False)
    assert row_of([1.2] * 8).reached == (160, False)


def attempt_of(error, shift):
    """An attempt in three orders, with this error of 200 examples."""
    noise = torch.rand(200, generator=torch.Generator().manual_seed(0)).double() - 0.5
    rows = [row_of([error] * 8) for _ in range(3)]
    for order, row in enumerate(rows):
        pairs = PairedErrors(error + 0.04 * noise.roll(shift + order), torch.ones(200).double())
        row.order = order
        row.measures[:] = [dataclasses.replace(m, pairs={"error": pairs}) for m in row.measures]
    return Attempt(None, rows)


@pytest.mark.parametrize(
    ("lower", "higher", "is_above"),
    [(0.10, 0.02, True), (0.021, 0.02, False), (0.02, 0.02, False), (0.01, 0.02, False)],
)
def test_the_lower_rate_is_chosen_unless_its_error_is_clearly_higher(lower, higher, is_above):
    both = attempt_of(higher, 0), attempt_of(lower, 1)
    search = SimpleNamespace(race=Race({}, []), _confirm=lambda _: True, _share=lambda _: (3, 3))
    search._is_above = partial(Search._is_above, search)
    search._attempt = lambda change: both[1]
    both[0].change = SimpleNamespace(slower=lambda factor: None)
    assert Search._better_rate(search, both[0]) is both[not is_above]


def sums(**parts):
    """The cure of a linear model under SGD whose rate is too low."""
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(6, 1)), torch.randn(200, 2, 3)
    y, sgd = x.sum((1, 2))[:, None], torch.optim.SGD(model.parameters(), 1e-3)
    return cure(model, x, y, nn.MSELoss(), sgd, steps=60, seconds=LONG, **parts)


@pytest.fixture(scope="module")
def low_rate():
    return sums()


@pytest.fixture
def collapsing(monkeypatch):
    """A function that makes a cure in which the errors of some rows are 1 from step 45 on."""

    def made(fails):
        class Collapsing(Race):
            def add(self, row, outputs, **given):
                super().add(row, outputs, **given)
                if row.steps >= 45 and fails(row):
                    relative = {"error": 1.0}
                    row.measures[-1] = dataclasses.replace(row.measures[-1], relative=relative)

        monkeypatch.setattr(import_module("trainability.race"), "Race", Collapsing)
        return sums()

    return made


def rate_of(row):
    return row.training.optimizer.param_groups[0]["lr"]


@pytest.mark.slow
def test_the_rate_that_lasts_in_more_minibatch_orders_is_chosen(low_rate, collapsing):
    low, high = sorted({rate_of(t.row) for t in low_rate.trials if len(t.rows) == 3})
    assert high == pytest.approx(3 * low, 1e-4)
    below = collapsing(lambda row: row.order == 2 and rate_of(row) < 2 * low)
    above = collapsing(lambda row: row.order == 2 and rate_of(row) > 2 * low)
    assert (below.learning_rate, above.learning_rate) == (high, low)
    assert below.outcome == above.outcome == CHANGED
    assert "stays in 3 of 3 minibatch orders" in above.verdict


@pytest.mark.slow
def test_a_cure_of_two_of_three_minibatch_orders_says_so(collapsing):
    found = collapsing(lambda row: row.order == 2)
    assert found.outcome == IN_SOME and found.changed
    assert sorted(found.chosen.errors)[1] < 0.5 < 1 == max(found.chosen.errors)
    assert "stays in 2 of 3 minibatch orders" in found.verdict


def test_what_lasts_in_one_minibatch_order_is_no_cure(collapsing):
    found = collapsing(lambda row: row.order > 0)
    assert (found.outcome, found.changed) == ("none helped", False)


@pytest.mark.slow
def test_changes_that_stopped_because_they_were_good_run_to_the_end_before_none_helps(monkeypatch):
    """An error of 0.09 at an early step was compared with 0.11 after all steps."""
    monkeypatch.setattr(Search, "_helping", lambda search: [])
    frame = sums().to_frame()
    assert (frame.error < 0.1).any() and set(frame.steps[frame.error < np.inf]) == {60}


def test_every_choice_and_a_third_of_its_rate_run_to_the_end_in_each_order(low_rate):
    whole = [trial for trial in low_rate.trials[1:] if len(trial.rows) > 1]
    assert [len(trial.rows) for trial in whole] == [3, 3]
    assert {row.steps for trial in whole for row in trial.rows} == {60}
    assert all(len(row.measures) >= 16 for trial in whole for row in trial.rows)


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


def test_few_steps_are_enough_to_tell_which_change_helps():
    """One step, 1/32 of 40, tells nothing."""
    torch.manual_seed(0)
    x = torch.randn(200, 8, 3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 8), nn.Tanh(), nn.Linear(8, 1))
    found = cure(
        model,
        x,
        x[:, :, :1].sum(1),
        nn.MSELoss(),
        torch.optim.SGD(model.parameters(), 1e-6),
        steps=40,
        seconds=LONG,
    )
    assert found.outcome == CHANGED and found.error < 0.5


def test_weights_that_do_not_move_do_not_train_whatever_their_error():
    """The untrained network is below the constant predictor by chance, and stays there."""
    torch.manual_seed(0)
    x, model = torch.randn(4000, 6), nn.Linear(6, 1)
    y = x.sum(1, keepdim=True) + 7.5 * torch.randn(4000, 1)
    with torch.no_grad():
        model.weight.fill_(0.5)
    sgd = torch.optim.SGD(model.parameters(), 1e-9)
    found = cure(model, x, y, nn.MSELoss(), sgd, steps=8, seconds=LONG)
    assert found.before < 0.96 and (found.outcome, found.changed) == ("none helped", False)


def test_a_network_that_has_learned_before_is_without_a_fault():
    """Fine-tuned at a rate at which its error, already low, stays as it is."""
    torch.manual_seed(0)
    x, model = torch.randn(200, 6), nn.Linear(6, 1)
    y = x.sum(1, keepdim=True)
    with torch.no_grad():
        model.weight.fill_(0.99)
        model.bias.zero_()
    adam = torch.optim.Adam(model.parameters(), 1e-7)
    found = cure(model, x, y, nn.MSELoss(), adam, steps=30, seconds=LONG)
    assert found.before < 0.01 and (found.outcome, found.changed) == ("without a fault", False)
