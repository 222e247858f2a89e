"""`check` if fewer than 20 examples can be held out: errors are on the training examples."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from training_runs import prepared
from user_modules import EachState, LastState

from rhn.errors import InvalidInputError
from trainability import assert_learns, check, checks, cure
from trainability.changes import ADAM, NONE, SINGLE
from trainability.check_table import ERROR_ON_TRAINING, FAILED
from trainability.facts import FACTS, PROPORTIONAL, READ, SPREAD

STEPS = 2
RELATIVE = {SINGLE, "the usual loss", "targets standardised"}
"""Rows of all targets but raw ones."""


def given(count, targets="classes", end=None, loss_fn=None):
    """The arguments of a check of so many examples."""
    g = torch.Generator().manual_seed(count)
    x = torch.randn(count, 6, 2, generator=g)
    model, y, usual = {
        "classes": (LastState(3), torch.arange(count) % 3, nn.CrossEntropyLoss()),
        "numbers": (LastState(3), torch.randn(count, 3, generator=g), nn.MSELoss()),
        "numbers of steps": (EachState(), torch.randn(count, 6, 1, generator=g), nn.MSELoss()),
    }[targets]
    model = nn.Sequential(model, end or nn.Identity())
    return model, x, y, loss_fn or usual, torch.optim.Adam(model.parameters(), 0.01)


@cache
def check_of_many(targets):
    """The check of 40 examples, of which 20 are held out."""
    return check(*given(40, targets), steps=STEPS)


@pytest.mark.parametrize("targets", ["classes", "numbers", "numbers of steps"])
@pytest.mark.parametrize("count", [1, 5, 10])
def test_few_examples_have_all_facts_and_rows(count, targets):
    found = check(*given(count, targets), steps=STEPS)
    many = check_of_many(targets)
    absent = {row.label for row in many.rows} - {row.label for row in found.rows}
    assert tuple(fact.name for fact in found.facts) == FACTS
    assert absent <= RELATIVE if found.kind == "raw" else not absent
    assert (found.examples, found.held_out, found.notes()[FAILED]) == (count, 0, 0)
    assert found.starred_rows == () and not any(row.seeds for row in found.rows)
    assert ERROR_ON_TRAINING in str(found) and ERROR_ON_TRAINING not in str(many)


@pytest.mark.parametrize("count", [5, 10])
def test_the_error_of_few_examples_is_that_of_all_of_them(count):
    """Of a rate of 0: the share of wrong classes of the untrained network, by NumPy."""
    model, x, y, loss_fn, _ = given(count)
    still = torch.optim.SGD(model.parameters(), 0.0)
    found = check(model, x, y, loss_fn, still, steps=1)
    with torch.no_grad():
        guess = model(x).numpy().argmax(1)
    most = np.bincount(y).max()
    errors = {row.label: row.error for row in found.rows}
    assert errors[NONE] == pytest.approx((guess != y.numpy()).sum() / (count - most))


def test_one_example_of_one_target_has_its_loss_as_the_error():
    """The constant predictor makes no error, so that none is relative to it."""
    model, x, y, loss_fn, _ = given(1)
    still = torch.optim.SGD(model.parameters(), 0.0)
    found = check(model, x, y, loss_fn, still, steps=1)
    assert found.kind == "raw"
    assert found.rows[0].error == pytest.approx(loss_fn(model(x), y).item())


def test_facts_of_one_example_that_need_another_one_are_not_measured():
    found = {fact.name: fact.numbers for fact in check(*given(1), steps=1).facts}
    assert found[READ] is None and found[SPREAD] is None
    found = {fact.name: fact.numbers for fact in check(*given(5), steps=1).facts}
    assert found[READ] == (6,) and len(found[SPREAD]) == 2


@pytest.mark.parametrize("count", [1, 10])
def test_few_examples_have_starred_facts(count):
    found = check(*given(count, end=nn.Softmax(-1), loss_fn=nn.NLLLoss()), steps=1)
    assert [fact.name for fact in found.facts if fact.starred] == [PROPORTIONAL]


@pytest.mark.parametrize("has_held_out", [True, False])
def test_a_row_that_closes_the_gap_has_a_star_only_with_held_out_examples(has_held_out):
    race = prepared({NONE: 0.95, ADAM: 0.05}, has_held_out=has_held_out)
    race.errors(NONE, 0)
    starred = [row.label for row in checks.rows_of(race) if row.starred]
    assert starred == ([ADAM] if has_held_out else [])


@pytest.mark.parametrize("function", [cure, assert_learns])
def test_cure_and_assert_learns_refuse_few_examples(function):
    with pytest.raises(
        InvalidInputError, match=r"x has 10 examples.* at least 20 that can be held"
    ):
        function(*given(10), steps=8)


def test_several_examples_of_one_target_are_refused():
    model, x, y, *rest = given(5)
    with pytest.raises(InvalidInputError, match="y is 0 in all 5 examples"):
        check(model, x, 0 * y, *rest)
