"""`cure`, `assert_learns` and the commands."""

import csv
import inspect
import json
from typing import Unpack, get_type_hints

import pytest
import torch
from test_snapshot import flat
from torch import nn
from training_runs import other_words, parts, prepared, sums
from user_modules import LastState

from rhn.errors import InvalidInputError
from trainability.changes import NONE
from trainability.checks import check
from trainability.cli import main
from trainability.cures import (
    BOTH,
    LABELS,
    RATES,
    Candidate,
    Cure,
    cure,
    draw_weights,
    halved,
    orthogonal_,
    pairs_of,
    steps_of_rounds,
)
from trainability.door import TrainingOptions, opened_run
from trainability.facts import FACTS
from trainability.testing import assert_learns


class Deep(nn.Module):
    """A deep network of small weights, whose gradient vanishes."""

    def __init__(self, scale=1e-2):
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.ModuleList(nn.Linear(12, 12) for _ in range(6))
        self.out = nn.Linear(12, 1)
        with torch.no_grad():
            for layer in self.layers:
                layer.weight.mul_(scale)

    def forward(self, x):
        x = x.flatten(1)
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.out(x)


def cured(model, rate=1e-2, steps=80, kind="Adam", **how):
    torch.manual_seed(2)
    optimizer = getattr(torch.optim, kind)(model.parameters(), rate)
    return cure(model, *sums(), nn.MSELoss(), optimizer, steps=steps, **how), optimizer


@pytest.mark.slow
def test_small_weights_are_cured_by_rotations():
    model = Deep(1e-4)
    before = flat(model)
    found, _ = cured(model, rate=0.1, steps=160, kind="SGD")
    assert flat(model) == before
    assert found.best.weights != "yours" and found.best.error < 0.5 and found.best.starred
    yours = next(row for row in found.rows if (row.weights, row.rate) == ("yours", 1.0))
    assert yours.error > 2 * found.best.error and len(yours.seeds) == len(found.best.seeds) == 3


@pytest.fixture(scope="module")
def simple():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    return cured(model, rate=2e-3, kind="SGD")


def test_a_rate_that_is_too_low_is_cured_by_ten_times_the_rate(simple):
    found, optimizer = simple
    assert found.best.rate == 10.0 and optimizer.param_groups[0]["lr"] == 2e-3


def test_half_of_the_pairs_go_on_after_each_round(simple):
    """10 pairs for an eighth of the steps, 5 for a quarter, 3 for a half, 2 for all; and yours."""
    found, _ = simple
    pairs = [(row.weights, row.rate) for row in found.rows]
    assert sorted(pairs) == sorted((w, r) for w in ("yours", "torch's") for r in RATES)
    steps = [row.steps for row in found.rows if (row.weights, row.rate) != ("yours", 1.0)]
    assert steps == sorted(steps, reverse=True) and steps.count(80) == 2
    assert found.rows[2].weights == "yours" and found.rows[2].steps == 80
    full = [row.error for row in found.rows[:2]]
    assert full == sorted(full)


PAIRS = [f"{weights}, rate x {rate:g}" for weights in LABELS for rate in RATES]


@pytest.mark.parametrize(
    ("pair", "has_star"),
    [
        pytest.param((0.0, (0.0, 0.0, 0.0)), True, id="both halves"),
        pytest.param((0.0, (0.9, 0.9, 0.9)), False, id="first half only"),
        pytest.param((0.9, (0.0, 0.0, 0.0)), False, id="other half only"),
        pytest.param((0.0, (0.0, 0.9, 0.9)), False, id="first seed only"),
        pytest.param((0.0, (0.0, 0.0, None)), False, id="a seed that raises"),
        pytest.param(((0.0, 0.9, 0.9), (0.0,) * 3), True, id="first half with the first seed"),
    ],
)
def test_a_star_of_a_pair_holds_on_the_first_half_and_with_three_seeds_on_the_other(pair, has_star):
    errors = dict.fromkeys(PAIRS, 0.95) | {"orthogonal, rate x 3": pair}
    best, *others = halved(pairs_of(prepared(errors, steps=8), 6))
    assert (best.weights, best.rate, best.starred) == ("orthogonal", 3.0, has_star)
    assert not any(row.starred for row in others)


def test_only_the_best_pair_can_have_a_star():
    """The second one closes the gap, too."""
    errors = dict.fromkeys(PAIRS, 0.95) | {"orthogonal, rate x 3": 0.0, "torch's, rate x 1": 0.01}
    rows = halved(pairs_of(prepared(errors, steps=8), 6))
    assert [(row.weights, row.starred) for row in rows[:2]] == [
        ("orthogonal", True),
        ("torch's", False),
    ]


def test_yours_has_no_star_if_it_is_the_best():
    errors = dict.fromkeys(PAIRS, 0.95) | {"yours, rate x 1": 0.0}
    best, *others = halved(pairs_of(prepared(errors, steps=8), 6))
    assert (best.weights, best.rate, best.starred) == ("yours", 1.0, False)
    assert len(best.seeds) == 3 and not any(row.starred or row.seeds for row in others)


def test_pairs_that_do_not_apply_are_left_out():
    errors = {label: k / 100 for k, label in enumerate(PAIRS[:11])}
    rows = halved(pairs_of(prepared(errors, steps=80), 6))
    found = [(f"{row.weights}, rate x {row.rate:g}", row.steps) for row in rows]
    assert sorted(label for label, _ in found) == sorted(PAIRS[:11])
    # 11 pairs for 10 steps, 6 for 20, 3 for 40, 2 for 80; and yours
    steps = dict(found)
    assert [steps[label] for label in PAIRS[:11]] == [80, 80, 80, 20, 20, 20, *[10] * 5]
    assert [row.error for row in rows] == pytest.approx([k / 100 for k in range(11)])


class Refusing(LastState):
    """Raises an error with orthogonal recurrent weights."""

    def __init__(self):
        super().__init__(kind="RNN")

    def forward(self, x):
        weights = self.rnn.weight_hh_l0
        if (weights @ weights.T - torch.eye(8)).abs().max() < 1e-4:
            raise ValueError("orthogonal")
        return super().forward(x)


def test_pairs_that_raise_are_counted(tmp_path):
    """And shown with the first lines of their errors."""
    found, _ = cured(Refusing(), steps=16)
    assert {row.weights for row in found.rows} == {"yours", "torch's", "remembering"}
    assert found.failed == len(RATES) == 5
    labels = [f"orthogonal, rate x {rate:g}" for rate in RATES]
    assert [(each.label, each.error) for each in found.failures] == [
        (label, "ValueError: orthogonal") for label in labels
    ]
    lines = [line.split() for line in found.whole().splitlines()]
    for label in labels:
        assert [*label.split(), "ValueError:", "orthogonal"] in lines
    assert "note: pairs that raised an error: 5" in str(found)
    assert other_words(found) == {"ValueError:"}
    assert str(Cure.load(found.save(tmp_path / "cure.npz"))) == str(found)


@pytest.mark.parametrize("function", [cure, assert_learns])
def test_arguments_of_check_that_are_none_of_these_functions_are_refused(function):
    model, x, y, loss_fn, adam = parts(LastState())
    name = function.__name__
    with pytest.raises(InvalidInputError, match=f"^{name} has no argument losses: expected batch_"):
        function(model, x, y, loss_fn, adam, losses=[1.0])


@pytest.mark.parametrize("function", [check, cure, assert_learns, opened_run])
def test_arguments_of_a_training_run_have_the_same_names_everywhere(function):
    """Those beside the arguments of one function, by name in `check`, together elsewhere."""
    own = {"steps", "losses", "seconds", "progress", "below"}
    given = inspect.signature(function).parameters.values()
    named = {p.name for p in given if p.kind is p.KEYWORD_ONLY} - own
    together = [p.annotation for p in given if p.kind is p.VAR_KEYWORD]
    if together:
        assert not named and together == [Unpack[TrainingOptions]]
    else:
        assert named == {*get_type_hints(TrainingOptions)}


def test_weights_apply_to_networks_that_have_them():
    applied = {
        name: [label for label in LABELS if draw_weights(model, label, 50)]
        for name, model in (
            ("GRU", LastState()),
            ("RNN", LastState(kind="RNN")),
            ("linear", nn.Linear(3, 1)),
        )
    }
    assert applied["GRU"] == ["yours", "torch's", "orthogonal", "chrono gates", BOTH]
    assert applied["RNN"] == ["yours", "torch's", "orthogonal", "remembering"]
    assert applied["linear"] == ["yours", "torch's"]


def test_new_weights_are_drawn_but_for_yours():
    """Whether the weights of the recurrent layer change."""
    found = {}
    for label in LABELS:
        model = LastState(kind="RNN")
        old = model.rnn.weight_hh_l0.clone()
        draw_weights(model, label, 50)
        found[label] = not torch.equal(model.rnn.weight_hh_l0, old)
    changing = ["torch's", "orthogonal", BOTH, "remembering"]
    assert [label for label in LABELS if found[label]] == changing


def test_a_cure_prints_a_line_for_each_pair(snapshot, tmp_path):
    rows = (
        Candidate(BOTH, 3.0, 80, 0.021, (0.02, 0.03, 0.02), True),
        Candidate("yours", 1.0, 80, 0.98, (1.0, 0.97, 1.02), False),
        Candidate("torch's", 0.3, 10, float("inf"), None, False),
    )
    found = Cure(kind="numbers", time_steps=6, rows=rows)
    assert str(found) == snapshot and other_words(found) == set()
    assert str(Cure.load(found.save(tmp_path / "cure.npz"))) == str(found)


def test_the_best_weights_are_drawn_by_apply():
    row = Candidate("orthogonal", 1.0, 80, 0.1, None, False)
    model, other = LastState(), LastState()
    torch.manual_seed(5)
    Cure(kind="numbers", time_steps=6, rows=(row,)).apply(model)
    torch.manual_seed(5)
    orthogonal_(other)
    assert all(map(torch.equal, model.parameters(), other.parameters()))


def test_too_few_steps_are_refused():
    with pytest.raises(InvalidInputError, match="steps is 7: expected at least 8"):
        cured(LastState(), steps=7)
    done = []
    found, _ = cured(LastState(), steps=8, progress=lambda *steps: done.append(steps))
    assert found.best.steps == 8
    assert done[0] == (1, 30 * 1 + 15 * 2 + 8 * 4 + 4 * 8)  # pairs x steps of each round
    counts = [count for count, _ in done]
    assert counts == sorted(counts) and done[-1][0] == done[-1][1]


def learn(rate, **how):
    torch.manual_seed(0)
    model = LastState()
    adam = torch.optim.Adam(model.parameters(), rate)
    before = flat((model, adam))
    try:
        assert_learns(model, *sums(), nn.MSELoss(), adam, steps=120, **how)
    finally:
        assert flat((model, adam)) == before


def test_a_run_that_learns_passes_and_another_fails_with_its_error():
    learn(1e-2)
    with pytest.raises(AssertionError, match=r"the error is [\d.]+: expected less than 0.5"):
        learn(1e-6)
    learn(1e-6, below=100)
    with pytest.raises(InvalidInputError, match="below is 'low'"):
        learn(1e-2, below="low")


def test_an_error_that_is_the_limit_is_not_below_it():
    """A loss of the user's own, which is 0.5 whatever the outputs are."""
    model, x, y, _, adam = parts(LastState())
    own = (model, x, y, lambda z, y: 0 * z.sum() + 0.5, adam)
    with pytest.raises(AssertionError, match=r"the error is 0.5: expected less than 0.5"):
        assert_learns(*own, steps=1, below=0.5)
    assert_learns(*own, steps=1, below=0.51)


FILE = """
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(100, 3)
model = nn.Linear(3, 1)
parts = dict(model=model, x=x, y=x.sum(1, keepdim=True), loss_fn=nn.MSELoss(),
             optimizer=torch.optim.SGD(model.parameters(), 1e-2), steps=60)


def make():
    return parts


number = 3
other, wrong = parts | {"losses": [1.0], "seconds": 99}, parts | {"rate": 3}
"""


@pytest.fixture
def file(own_folder):
    (own_folder / "train.py").write_text(FILE)
    return own_folder


def test_the_commands_print_and_write_what_the_functions_return(file, capsys):
    assert main(["check", "train.py:parts", "--output", "a.json"]) == 0
    printed = capsys.readouterr().out
    assert (
        "ten times the rate" in printed and json.loads((file / "a.json").read_text())["steps"] == 60
    )
    assert main(["check", "train.py:make", "--steps", "50"]) == 0
    assert ", 50 optimiser steps" in capsys.readouterr().out
    assert main(["check", "train.py:parts", "--steps", "50", "--whole", "--csv", "a.csv"]) == 0
    with (file / "a.csv").open(newline="") as table:
        names, printed = {line["row"] for line in csv.DictReader(table)}, capsys.readouterr().out
    assert {*FACTS, NONE} <= names and all(name in printed for name in names)
    assert main(["cure", "train.py:parts", "--steps", "16"]) == 0
    assert "initial weights" in capsys.readouterr().out


def test_wrong_arguments_in_a_file_and_names_of_outputs_are_refused_before_the_training(
    file, capsys
):
    assert main(["cure", "train.py:other", "--steps", "16"]) == 0
    for words, said in (
        (["check", "train.py:wrong"], "argument in train.py:wrong is rate: expected "),
        (["cure", "train.py:parts", "--output", "a.png"], "a.png"),
        (["check", "train.py:parts", "--csv", "a.txt"], "a.txt"),
    ):
        capsys.readouterr()
        assert main(words) == 2
        printed = capsys.readouterr()
        assert said in printed.err and printed.out == ""


def test_the_best_pair_has_the_lowest_error_of_all_that_trained_to_the_end(simple):
    rows, _ = simple
    last = [row.error for row in rows.rows if row.steps == 80]
    assert last == sorted(last) and rows.best.error == last[0]


@pytest.mark.parametrize("word", ["train.py", "other.py:parts", "train.py:number", "train.py:none"])
def test_other_words_are_refused(word, file, capsys):
    assert main(["check", word]) == 2
    assert "expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("count", "steps", "expected"),
    [
        pytest.param(5, [10, 20, 40], 5 * 10 + 3 * 20 + 2 * 40, id="5, 3, 2 pairs"),
        pytest.param(7, [1, 1, 1, 1], 7 + 4 + 2 + 1, id="7, 4, 2, 1 pairs"),
        pytest.param(1, [3, 7], 3 + 7, id="one pair"),
        pytest.param(0, [3, 7], 0, id="none"),
    ],
)
def test_each_round_has_half_of_the_pairs_rounded_up(count, steps, expected):
    assert steps_of_rounds(count, steps) == expected
