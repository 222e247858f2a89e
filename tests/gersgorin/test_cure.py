"""A cure trains what was stuck, leaves alone what learns, and prints the lines that give the same
network.
"""

import copy
import dataclasses
import math
import random
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from tables import for_each
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from gersgorin.checking import search as search_module
from gersgorin.checking.cure import code_of, cure
from gersgorin.checking.search import Attempt, Plan, Search
from gersgorin.checking.starts import MEANINGS, Start, starts
from gersgorin.checking.trials import Trial
from gersgorin.training.training import Training
from rhn.errors import InvalidInputError
from rhn.models import PolyphonicModel

NAMES = {"torch": torch, "nn": nn}  # at the head of a file into which code is pasted
UNITS = 12


class Reader(nn.Module):
    """A module of torch.nn, batch_first, with an output of the last frame."""

    def __init__(self, kind=nn.LSTM, inputs=3, outputs=2, **options):
        super().__init__()
        self.rnn = kind(inputs, UNITS, batch_first=True, **options)
        self.out = nn.Linear(UNITS * (1 + self.rnn.bidirectional), outputs)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


class OwnLoop(nn.Module):
    """A loop over an nn.GRUCell, with an encoder."""

    def __init__(self):
        super().__init__()
        self.encode, self.cell, self.out = (
            nn.Linear(3, 5),
            nn.GRUCell(5, UNITS),
            nn.Linear(UNITS, 2),
        )

    def forward(self, x):
        h = x.new_zeros(len(x), UNITS)
        for frame in x.unbind(1):
            h = self.cell(self.encode(frame), h)
        return self.out(h)


class OwnCell(nn.Module):
    """A recurrence written with parameters of its own."""

    def __init__(self):
        super().__init__()
        self.R, self.W, self.out = (
            nn.Parameter(torch.zeros(UNITS, UNITS)),
            nn.Parameter(torch.zeros(UNITS, 3)),
            nn.Linear(UNITS, 2),
        )

    def forward(self, x):
        h = x.new_zeros(len(x), UNITS)
        for frame in x.unbind(1):
            h = torch.tanh(frame @ self.W.T + h @ self.R.T)
        return self.out(h)


class Polyphonic(nn.Module):
    """A cell of ours, with an output of the last frame."""

    def __init__(self, cell="dt-rnn", depth=1, init="gaussian:1e-4"):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.model = PolyphonicModel(
            cell,
            hidden_size=UNITS,
            depth=depth,
            input_size=3,
            output_size=2,
            init=init,
            generator=generator,
        )

    def forward(self, x):
        return self.model(x.transpose(0, 1))[-1]


class Words(nn.Module):
    """An embedding of symbols, then an LSTM that reads it packed."""

    def __init__(self, std=1e-4, sparse=False):
        super().__init__()
        self.table = nn.Embedding(3, 5, padding_idx=2, sparse=sparse)
        self.rnn, self.out = nn.LSTM(5, UNITS, batch_first=True), nn.Linear(UNITS, 2)
        with torch.no_grad():
            self.table.weight.mul_(std)

    def forward(self, x):
        lengths = torch.full((len(x),), x.shape[1])
        packed = nn.utils.rnn.pack_padded_sequence(
            self.table(x.argmax(-1)), lengths, batch_first=True
        )
        return self.out(self.rnn(packed)[1][0][-1])


def recall(frames=6, examples=128, seed=0):
    """Remember which of two symbols was read first."""
    g = torch.Generator().manual_seed(seed)
    symbols = torch.randint(0, 2, (examples,), generator=g)
    x = torch.zeros(examples, frames, 3)
    x[range(examples), 0, symbols] = 1
    x[:, 1:, 2] = 1
    return x, symbols


def made(build, seed=0):
    torch.manual_seed(seed)
    return build()


def tiny(model, std=1e-4):
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, std)
    return model


def forgetful():
    model = Reader()
    with torch.no_grad():
        for bias in (model.rnn.bias_ih_l0, model.rnn.bias_hh_l0):
            bias[UNITS : 2 * UNITS] = -3 / 2
    return model


def trained(model, optimizer, x, y, steps, clip_norm=None, seed=5):
    """Mean loss of the last steps of a plain loop."""
    g, losses = torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        rows = torch.randperm(len(x), generator=g)[:32]
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        if clip_norm:
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        losses.append(loss.item())
    return float(np.mean(losses[-20:]))


MODELS = {
    "LSTM of two layers": lambda: Reader(num_layers=2),
    "bidirectional GRU": lambda: nn.Sequential(nn.Flatten(2), Reader(nn.GRU, bidirectional=True)),
    "own loop": OwnLoop,
    "own cell": OwnCell,
    "deep transition": lambda: Polyphonic(depth=3),
    "RHN": lambda: Polyphonic("rhn", depth=2),
    "orthogonal": lambda: Polyphonic("orthogonal"),
    "a normalisation": lambda: nn.Sequential(Reader(), nn.BatchNorm1d(2), nn.Linear(2, 2)),
    "a parametrisation": lambda: _parametrised(),
    "an embedding": Words,
    "no recurrence": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(18, 7), nn.Tanh(), nn.Linear(7, 2)
    ),
}


def _parametrised():
    model = Reader(nn.RNN)
    nn.utils.parametrizations.orthogonal(model.rnn, "weight_hh_l0")
    return model


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_the_lines_of_every_start_give_the_network_that_is_tried(build):
    model, (x, y) = made(build), recall()
    loop = Training(model, x, y, "cross-entropy", "adam", learning_rate=1e-3, batch_axis=0)
    every = list(starts(loop))
    assert len(every) >= 3
    for start in every[1:]:
        tried, fresh = start.applied(loop.model), copy.deepcopy(model)
        exec(start.code, {"model": fresh, "torch": torch, "nn": nn})
        torch.testing.assert_close(fresh.state_dict(), tried.state_dict(), rtol=0, atol=0)
        assert not all(
            torch.equal(p, q) for p, q in zip(fresh.parameters(), model.parameters(), strict=True)
        )
        constant = loop.constant_output(loop.goals(loop.data.minibatches(4)))[0].flatten()
        mean = fresh(x).mean(0)  # every start begins at the best constant output
        torch.testing.assert_close(mean, constant, rtol=0, atol=1e-3)


def test_gates_follow_the_layouts_of_torch():
    x, y = recall(frames=9)
    for kind, blocks, memory in ((nn.LSTM, 4, 1), (nn.GRU, 3, 1)):
        model = made(lambda kind=kind: Reader(kind))
        loop = Training(model, x, y, "cross-entropy", "adam", learning_rate=1e-3)
        by_words = {start.words: start for start in starts(loop)}
        plain = by_words["orthogonal matrices"].applied(model).rnn
        chrono = by_words["orthogonal matrices, chrono gates"].applied(model).rnn
        bias = plain.bias_ih_l0.view(blocks, UNITS)
        assert (bias[memory] == 1).all()
        assert not bias[[k for k in range(blocks) if k != memory]].any()
        assert not plain.bias_hh_l0.any()
        for block in plain.weight_hh_l0.split(UNITS):
            torch.testing.assert_close(block @ block.T, torch.eye(UNITS), rtol=0, atol=1e-5)
        long = chrono.bias_ih_l0.view(blocks, UNITS)[memory]
        assert (long >= 0).all()
        assert (long <= np.log(8) + 1e-6).all()
        if kind is nn.LSTM:
            assert torch.equal(chrono.bias_ih_l0[:UNITS], -long)


@pytest.mark.parametrize("shared", [False, True])
def test_embeddings_are_drawn_again_without_their_padding_and_a_matrix_behind_reads_no_data(shared):
    model, (x, y) = made(lambda: Words(sparse=not shared)), recall()
    if shared:
        model.out = nn.Linear(5, 3)
        model.out.weight, model.rnn = model.table.weight, nn.LSTM(5, 5, batch_first=True)
    loop = Training(model, x, y, "cross-entropy", "sgd", learning_rate=1e-3)
    drawn = {start.words: start for start in starts(loop)}["matrices of 1/sqrt(n)"].applied(model)
    table = drawn.table.weight
    assert 0.5 < table[:2].std() / (5**-0.5 if shared else 1) < 1.5 and not table[2].any()
    assert drawn.rnn.weight_ih_l0.std().item() == pytest.approx(5**-0.5, rel=0.1)


def test_closed_transform_gates_keep_memories():
    x, y = recall()
    loop = Training(
        Polyphonic("rhn"), x, y, "cross-entropy", "adam", learning_rate=1e-3, batch_axis=0
    )
    model = {start.words: start for start in starts(loop)}["orthogonal matrices"].applied(
        loop.model
    )
    assert (model.model.cells[0].bias[:, UNITS:] == -1).all()


def test_frozen_and_unused_parameters_stay_and_shared_ones_stay_shared():
    model, (x, y) = made(lambda: Reader(nn.RNN, num_layers=2)), recall()
    model.rnn.weight_hh_l1 = model.rnn.weight_hh_l0
    model.rnn.weight_ih_l0.requires_grad_(False)
    optimizer = torch.optim.Adam(
        [p for name, p in model.named_parameters() if name != "out.weight"], lr=1e-3
    )
    loop = Training(model, x, y, "cross-entropy", optimizer)
    for start in list(starts(loop))[2:]:
        changed = start.applied(loop.model)
        assert torch.equal(changed.rnn.weight_ih_l0, model.rnn.weight_ih_l0)
        assert torch.equal(changed.out.weight, model.out.weight)
        assert changed.rnn.weight_hh_l1 is changed.rnn.weight_hh_l0
        assert not torch.equal(changed.rnn.weight_hh_l0, model.rnn.weight_hh_l0)


STUCK = {
    "DT-RNN": (lambda: Polyphonic(depth=4), lambda p: torch.optim.Adam(p, lr=1e-3)),
    "RNN of tiny weights": (
        lambda: tiny(Reader(nn.RNN)),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    ),
    "LSTM that forgets": (forgetful, lambda p: torch.optim.RMSprop(p, lr=1e-5)),
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[pytest.mark.slow] if k else [])
        for k, case in enumerate(STUCK.values())
    ],
    ids=STUCK,
)
def test_a_stuck_network_trains_after_the_cure(case):
    (build, optimizer_of), (x, y), steps = case, recall(), 300
    model = made(build)
    before = copy.deepcopy(model)
    found = cure(
        model,
        x,
        y,
        "cross-entropy",
        optimizer_of(model.parameters()),
        steps=steps,
        seconds=300,
        batch_axis=0,
    )
    assert found.outcome == "cured"
    assert found.given.steps == steps  # not overwritten by a shorter trial
    pasted = copy.deepcopy(before)
    exec(found.code, NAMES | {"model": pasted})
    torch.testing.assert_close(pasted.state_dict(), found.model.state_dict(), rtol=0, atol=0)
    constant = float(np.log(2))
    assert trained(before, optimizer_of(before.parameters()), x, y, steps) > 0.9 * constant
    optimizer = found.optimizer(pasted.parameters())
    assert optimizer.param_groups[0]["lr"] == pytest.approx(found.learning_rate)
    assert trained(pasted, optimizer, x, y, steps, found.clip_norm) < 0.5 * constant
    rows = found.table()
    assert rows[0]["start"] == found.chosen.plan.start.words
    plans = {(row["start"], round(2 * np.log10(row["learning_rate"]))) for row in rows}
    assert len(plans) == len(rows)  # each start at each learning rate once


def test_a_healthy_network_and_its_training_stay_as_they_are():
    model, (x, y) = made(lambda: Reader(nn.GRU)), recall()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-4)
    found = cure(model, x, y, "cross-entropy", optimizer, steps=300, seconds=300)
    assert (found.outcome, found.changed, found.code, found.learning_rate) == (
        "healthy",
        False,
        "",
        1e-2,
    )
    torch.testing.assert_close(found.model.state_dict(), model.state_dict(), rtol=0, atol=0)
    (group,) = found.optimizer(found.model.parameters()).param_groups
    assert group["weight_decay"] == 1e-4


def test_model_optimizer_and_random_numbers_stay_as_they_were():
    model, (x, y) = made(lambda: Reader(num_layers=2, dropout=0.5)), recall()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    trained(model, optimizer, x, y, 2)
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    gradients, random = [p.grad.clone() for p in model.parameters()], torch.random.get_rng_state()
    cure(
        model,
        DataLoader(TensorDataset(x, y), 32),
        None,
        "cross-entropy",
        optimizer,
        steps=30,
        seconds=300,
    )
    torch.testing.assert_close((model.state_dict(), optimizer.state_dict()), before, rtol=0, atol=0)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert torch.equal(random, torch.random.get_rng_state())


@for_each(
    ("name", "change"),
    [
        ("ambiguous inputs", lambda x, y: (0 * x, y)),
        ("shifted targets", lambda x, y: (x, y.roll(1, 0))),
    ],
)
def test_no_cure_is_claimed_where_nothing_can_be_learned(name, change):
    model, data = made(lambda: Reader(nn.GRU)), change(*recall())
    found = cure(model, *data, "cross-entropy", "adam", learning_rate=1e-3, steps=60, batch_axis=0)
    assert found.outcome == "not searched" and not found.changed
    assert (
        found.causes[0].name == name
        and found.causes[0].sure
        and "there was no search" in found.verdict
    )
    torch.testing.assert_close(found.model.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_no_trial_is_longer_than_the_training():
    x, y = recall()
    model = made(Reader)
    found = cure(
        model, x, y, "cross-entropy", torch.optim.Adam(model.parameters(), lr=1e-5), steps=3
    )
    assert (
        found.given.steps == max(row["steps"] for row in found.table()) == 3
        and len(found.attempts) > 10
    )


def test_without_time_it_gives_an_untested_start_and_asks_for_more():
    model, (x, y) = made(lambda: Reader(nn.RNN)), recall(frames=40)
    found = cure(model, x, y, "cross-entropy", "adam", learning_rate=1e-3, seconds=1e-6)
    assert found.outcome == "untested"
    assert found.reach.blind and "comes only from the last" in found.verdict
    assert re.search(r"Untested: .*; to decide, give seconds=\d+\.$", found.verdict)
    assert "not tested" in found.code.splitlines()[0]
    pasted = copy.deepcopy(model)
    exec(found.code, NAMES | {"model": pasted})
    torch.testing.assert_close(pasted.state_dict(), found.model.state_dict(), rtol=0, atol=0)


def test_a_start_whose_own_trial_is_worse_than_a_constant_is_not_recommended(monkeypatch):
    def worse(factor):
        return Trial(factor, [2.0] * 8, [1.0] * 8, cut=True)

    monkeypatch.setattr(
        search_module, "run_trials", lambda loop, factors, **options: [*map(worse, factors)]
    )
    model, (x, y) = made(lambda: Reader(nn.RNN)), recall()
    found = cure(model, x, y, "cross-entropy", "adam", learning_rate=1e-3, steps=200)
    assert found.outcome == "none helped" and not found.changed and found.code == ""
    assert re.search(
        r"helped, in the steps that there was time for \(up to 8 steps\).* give seconds=\d+\.$",
        found.verdict,
    )


def test_a_training_that_falls_slightly_gets_no_reason_for_a_failure(monkeypatch):
    def slightly(factor):
        return Trial(factor, [0.92] * 300, [1.0] * 300, left=32)

    monkeypatch.setattr(
        search_module, "run_trials", lambda loop, factors, **options: [*map(slightly, factors)]
    )
    model, (x, y) = made(lambda: Reader(nn.RNN)), recall(frames=40)
    found = cure(model, x, y, "cross-entropy", "adam", learning_rate=1e-3, steps=300)
    assert (
        found.reach.blind
        and found.reach.warning not in found.verdict
        and found.given.outcome == "falls slightly"
    )
    assert "The loss falls slightly as it is: there may be no more to learn." in found.verdict


def another_order(monkeypatch, change):
    """Change the trials in another order of minibatches."""

    def run_trials(loop, factors, *, seed, **options):
        trials = real(loop, factors, seed=seed, **options)
        return trials if seed == 0 else change(trials)

    real = search_module.run_trials
    monkeypatch.setattr(search_module, "run_trials", run_trials)


def staying(trials):
    return [replace(trial, losses=trial.constants) for trial in trials]


def test_one_order_of_minibatches_is_no_cure(monkeypatch):
    another_order(
        monkeypatch, lambda trials: [Trial(1.0, trials[0].losses[:2], trials[0].constants[:2])]
    )
    model, (x, y) = made(lambda: Reader(nn.GRU)), recall()
    found = cure(model, x, y, "cross-entropy", "adam", learning_rate=1e-5, steps=200, seconds=300)
    assert found.outcome == "seen once" and "Seen once" in found.verdict and found.changed


def test_a_change_that_does_not_leave_again_is_refused_and_the_search_goes_on(monkeypatch):
    changes = iter([staying])
    another_order(monkeypatch, lambda trials: next(changes, list)(trials))
    model, (x, y) = made(lambda: Reader(nn.GRU)), recall()
    found = cure(model, x, y, "cross-entropy", "adam", learning_rate=1e-5, steps=200, seconds=300)
    (again,) = [a for a in found.attempts if a.steps == 200 and a.loss == 1.0]
    assert found.outcome == "cured" and again.outcome == "stays"
    assert again.plan not in (found.chosen.plan, found.given.plan)


def test_a_training_that_learns_in_one_order_only_is_not_healthy(monkeypatch):
    another_order(monkeypatch, staying)
    model, (x, y) = made(lambda: Reader(nn.GRU)), recall()
    found = cure(model, x, y, "cross-entropy", "adam", learning_rate=1e-2, steps=100, seconds=300)
    assert (
        found.outcome == "none helped"
        and found.given.loss == 1.0
        and "as it is: 1 times" in found.verdict
    )


@pytest.mark.parametrize(("rate", "seconds"), [(1e-5, 300), (1e-2, 300), (1e-5, 1e-6)])
def test_a_loader_of_one_order_gives_no_cure_and_no_health(rate, seconds):
    model, (x, y) = made(lambda: Reader(nn.GRU, num_layers=2, dropout=0.1)), recall()
    loader = DataLoader(TensorDataset(x, y), 32)
    found = cure(
        model, loader, None, "cross-entropy", "adam", learning_rate=rate, steps=200, seconds=seconds
    )
    assert found.outcome == ("seen once" if seconds > 1 else "untested") and found.changed == (
        rate < 1e-2
    )
    asked = r"shuffle: .* one order of minibatches\.$" if seconds > 1 else r"give seconds=\d+\.$"
    assert re.search(asked, found.verdict) and (found.needed_seconds is None) == (seconds > 1)


@pytest.mark.parametrize(
    "permutation", [np.random.permutation, lambda n: random.sample(range(n), n)]
)
def test_an_order_that_the_loader_draws_from_numpy_or_python_is_another_one(permutation):
    class Shuffled(IterableDataset):
        def __iter__(self):
            return iter([(x[k], y[k]) for k in permutation(len(x))])

    model, (x, y) = made(lambda: Reader(nn.GRU)), recall()
    loader = DataLoader(Shuffled(), 32)
    with torch.inference_mode():
        found = cure(
            model, loader, None, "cross-entropy", "adam", learning_rate=1e-2, steps=200, seconds=300
        )
    assert found.outcome == "healthy"


@pytest.mark.parametrize(("end", "tried"), [(0.0, []), (math.inf, [10.0, 1.0, 100.0])])
def test_of_a_change_that_leaves_each_part_is_tried_and_a_tenth_of_its_rate(end, tried):
    model, (x, y) = made(lambda: Reader(nn.RNN)), recall()
    loop = Training(model, x, y, "cross-entropy", "adam", learning_rate=1e-3)
    search = Search(loop, 50, end=end, seed=0, progress=str)
    both = Plan(next(start for start in starts(loop) if start.code), 100.0)
    leaving = Attempt(both, Trial(100.0, [0.1] * 50, [1.0] * 50))
    search._try_parts(leaving)
    assert {a.plan.factor for a in search.attempts.values() if a.steps} == set(tried)


@pytest.fixture(scope="module")
def slow_rate():
    """The cure of a network whose learning rate alone is too low."""
    model, (x, y) = made(lambda: Reader(nn.GRU)), recall()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.02)
    return model, cure(
        model, x, y, "cross-entropy", optimizer, steps=200, seconds=300, clip_norm=1.5
    )


def test_the_learning_rate_alone_is_the_cure_where_it_is_enough(slow_rate):
    model, found = slow_rate
    assert (found.outcome, found.chosen.plan.start.words, found.clip_norm) == (
        "cured",
        "given weights",
        1.5,
    )
    assert "In another order of minibatches: " in found.verdict and found.chosen.before.leaves
    assert (
        f"A learning rate of {found.learning_rate:.3g} alone: " in found.verdict
        and found.plot().lines
    )
    torch.testing.assert_close(found.model.state_dict(), model.state_dict(), rtol=0, atol=0)
    row = found.table()[0]
    assert (row["steps"], row["loss"]) == (found.chosen.steps, found.chosen.loss)


def test_the_code_makes_the_optimizer_and_gives_the_norm_of_clipping(slow_rate):
    model, found = slow_rate
    names = NAMES | {"model": copy.deepcopy(model)}
    exec(found.code, names)
    (group,) = names["optimizer"].param_groups
    assert type(names["optimizer"]) is torch.optim.AdamW and group["weight_decay"] == 0.02
    (own,) = found.optimizer(found.model.parameters()).param_groups
    assert group["lr"] == found.learning_rate == own["lr"] and names["clip_norm"] == 1.5
    assert "clip_grad_norm_(model.parameters(), clip_norm)" in found.code
    with pytest.raises(InvalidInputError, match="expected found"):  # copies of the model only
        found.optimizer(nn.Linear(1, 1).parameters())


def test_the_rate_of_a_scheduler_is_called_its_initial_lr(slow_rate):
    model, (x, y) = made(Reader), recall()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, 300)
    found = replace(
        slow_rate[1], loop=Training(model, x, y, "cross-entropy", optimizer, scheduler=scheduler)
    )
    assert (
        "initial_lr (of OneCycleLR)" in found.verdict
        and "initial_lr (of OneCycleLR)" in found.changes[0]
    )


def printed(found, code):
    """The lines of code in what `print` shows of a result."""
    lines = str(replace(found, code=code)).splitlines()
    return lines[
        next(k for k, line in enumerate(lines) if line.startswith("# at the head of your file")) :
    ]


@pytest.mark.parametrize("outputs", [2, 88])
def test_the_printed_code_of_every_start_can_be_pasted(slow_rate, outputs):
    model, (x, y) = made(lambda: Reader(num_layers=2, outputs=outputs)), recall()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.8, 0.9), eps=1e-7, weight_decay=0.02
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, 300)
    loop = Training(model, x, y, "cross-entropy", optimizer, scheduler=scheduler)
    for start in starts(loop):
        code = code_of(loop, Plan(start, 0.1**0.5))
        lines = printed(slow_rate[1], code)
        assert compile("\n".join(lines), "", "exec") == compile(code, "", "exec")
        assert max(map(len, lines)) < 80


def test_the_code_for_a_compiled_model_can_be_pasted():
    model, (x, y) = made(Reader), recall()
    names = NAMES | {"model": torch.compile(copy.deepcopy(model))}
    loop = Training(names["model"], x, y, "cross-entropy", "adam", learning_rate=1e-3)
    start = list(starts(loop))[-1]
    exec(code_of(loop, Plan(start)), names)
    torch.testing.assert_close(
        names["model"].state_dict(), start.applied(model).state_dict(), rtol=0, atol=0
    )


def test_the_printed_code_for_an_optimizer_of_many_groups_can_be_pasted(slow_rate):
    model, (x, y) = made(lambda: Reader(num_layers=2)), recall()
    optimizer = torch.optim.Adam([{"params": [p], "lr": 1.1e-5} for p in model.parameters()])
    loop = Training(model, x, y, "cross-entropy", optimizer)
    lines = printed(slow_rate[1], code_of(loop, Plan(Start("given weights"), 10.0)))
    exec("\n".join(lines), {"optimizer": optimizer})
    assert {group["lr"] for group in optimizer.param_groups} == {1.1e-4}
    assert max(map(len, lines)) < 80


def test_the_names_of_starts_are_explained(slow_rate):
    x, y = recall()
    loops = [
        Training(m, x, y, "cross-entropy", "adam", learning_rate=1e-3)
        for m in (made(Reader), made(lambda: Reader(nn.RNN)))
    ]
    words = {start.words for loop in loops for start in starts(loop)} - {"given weights"}
    assert all(any(name in word for name in MEANINGS) for word in words), words
    plans = [Plan(start) for start in starts(loops[0])]
    shown = dataclasses.replace(slow_rate[1], attempts=tuple(map(Attempt, plans))).summary()
    lines = [line.split(": ")[0] for line in shown.splitlines() if line.split(": ")[0] in MEANINGS]
    assert lines and all(shown.count(name) > 1 for name in lines)


def test_a_new_scheduler_starts_at_the_rate_of_the_cure():
    model, (x, y) = made(lambda: Reader(nn.GRU)), recall()
    groups = [{"params": model.rnn.parameters()}, {"params": model.out.parameters()}]
    for parameters in (model.parameters(), groups):
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
        loop = Training(model, x, y, "cross-entropy", optimizer, scheduler=scheduler)
        names = NAMES | {"model": model, "optimizer": optimizer}
        code = code_of(loop, Plan(Start("given weights"), 10.0))
        exec(code, names)
        assert "make the scheduler again" in code
        torch.optim.lr_scheduler.StepLR(names["optimizer"], 10)
        assert [group["lr"] for group in names["optimizer"].param_groups] == [1.0] * len(
            optimizer.param_groups
        )
