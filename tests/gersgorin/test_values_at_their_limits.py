"""The checks of values and of runs at their limits."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from gersgorin import checks
from gersgorin.double_precision import copied
from gersgorin.growth import DOUBLING, HALF_LIFE, RATE, growth_rows
from gersgorin.results import largest_move
from gersgorin.run import Run, calls_are_equal, check_memory, open_run, rows_are_alone, run_states
from gersgorin.step import Step, as_step
from rhn.cells import RHN
from rhn.errors import InvalidInputError, NotFiniteError, UsersCodeError

d = torch.float64


@pytest.mark.parametrize(
    ("gates", "good"),
    [
        pytest.param([0.0, 1.0], True, id="ends"),
        pytest.param([-5e-7, 1 + 5e-7], True, id="rounding"),
        pytest.param([-1e-5, 0.5], False, id="below"),
        pytest.param([0.5, 1 + 1e-5], False, id="above"),
    ],
)
def test_gates_are_in_0_to_1_up_to_rounding(gates, good):
    made = {"gate": torch.tensor(gates, dtype=d)}
    if good:
        assert checks.gates_of_step(made) is made
    else:
        with pytest.raises(InvalidInputError, match=r"^gate is .*: expected 0 to 1$"):
            checks.gates_of_step(made)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param(np.zeros(2), r"float64 of shape \(2,\)", id="array"),
        pytest.param(torch.tensor(3.5), r"3\.5", id="number in a tensor"),
        pytest.param("a", "a", id="text"),
    ],
)
def test_a_refused_value_is_shown_or_the_shape_of_an_array(value, shown):
    with pytest.raises(InvalidInputError, match=rf"^size is {shown}: expected more$"):
        checks.require(False, "size", value, "more")


def test_the_first_step_that_is_not_finite_is_named_from_the_first_one_on():
    t = torch.zeros(5, 2, 3)
    checks.are_finite("a", t)
    t[2, 1, 0] = t[4, 0, 0] = math.nan
    for first, named in ((0, 2), (7, 9)):
        with pytest.raises(NotFiniteError, match=f"^a is NaN or infinite at step {named}: "):
            checks.are_finite("a", t, first)


def test_the_first_sentence_of_the_first_line_of_an_error_is_shown():
    with (
        pytest.raises(UsersCodeError, match=r"^it fails: ValueError: one$"),
        checks.users_code("it fails"),
    ):
        raise ValueError("\n one. two\nthree. four")


@pytest.mark.parametrize("value", [0, 4])
def test_a_step_of_a_run_and_the_limit_of_a_panel(value):
    assert checks.step_of_run(value, 5) == value
    assert checks.limit_of_panel(value + 0.5) == value + 0.5
    for call in (lambda: checks.step_of_run(5, 5), lambda: checks.limit_of_panel(0)):
        with pytest.raises(InvalidInputError, match="expected"):
            call()


def test_a_copy_of_weights_of_which_one_is_no_number_is_refused():
    layer = nn.Linear(2, 3)
    layer.weight.data[1, 1] = math.inf
    with pytest.raises(NotFiniteError, match="weights of Linear are NaN or infinite in weight: "):
        copied(layer)


@pytest.mark.parametrize(
    ("dtype", "close", "apart"),
    [
        pytest.param(torch.float64, 5e-6, 5e-5, id="float64"),
        pytest.param(torch.float32, 1e-4, 2e-3, id="float32"),
    ],
)
def test_rows_differ_beyond_single_precision(dtype, close, apart):
    t = torch.ones(3, 2, dtype=dtype)
    rows_are_alone("a", t, t + close)
    with pytest.raises(InvalidInputError, match="state of a from equal x and s"):
        rows_are_alone("a", t, t + apart)


@pytest.mark.parametrize(
    ("dtype", "close", "apart"),
    [
        pytest.param(torch.float64, 1e-9, 1e-7, id="float64"),
        pytest.param(torch.float32, 1e-4, 2e-3, id="float32"),
    ],
)
def test_calls_differ_beyond_the_root_of_their_precision(dtype, close, apart):
    t = torch.ones(3, 2, dtype=dtype)
    calls_are_equal("a", t, t + close)
    with pytest.raises(InvalidInputError, match="state of a from equal x and s"):
        calls_are_equal("a", t, t + apart)


def test_a_step_runs_again_at_states_moved_by_a_thousandth():
    seen = []

    def rows(x, s):
        seen.append(s)
        return s / 2 + x

    first = torch.tensor([-4.0, 0.0], dtype=d)
    step = Step(name="a", rows=rows, output=lambda x, s: (s, s), first=first)
    x = torch.ones(20, 1, dtype=d)
    states = run_states(step, x)
    moved = seen[-1].chunk(2)[0]
    before = states[:16]
    torch.testing.assert_close(moved, before + 1e-3 * (1 + before.abs()))
    assert torch.equal(seen[-1], seen[-2])


@pytest.mark.parametrize(
    ("N", "T", "weights", "block", "numbers"),
    [
        pytest.param(4, 6, 0, 1 << 19, 32 * 6 * 16 + 8 * 4 * 6, id="all Jacobians"),
        pytest.param(4, 6, 5, 32, 32 * 32 + 5 + 8 * 4 * 6, id="a block of them, and weights"),
        pytest.param(4, 6, 0, 1, 32 * 16 + 8 * 4 * 6, id="one Jacobian"),
        pytest.param(4096, 1, 0, 1, 32 * 4096**2 + 8 * 4096, id="the largest whole one"),
        pytest.param(4097, 2, 0, 1, 8 * 4097 * 2, id="a large state"),
    ],
)
def test_a_run_needs_8_bytes_for_each_number(N, T, weights, block, numbers, monkeypatch):
    rooms = []
    monkeypatch.setattr("gersgorin.run.BLOCK", block)
    monkeypatch.setattr("gersgorin.run.check_room", lambda need, *words: rooms.append(need))
    check_memory(N, T, weights)
    assert rooms == [8 * numbers]


def test_zeros_of_a_state_need_8_bytes_each(monkeypatch):
    rooms = []
    monkeypatch.setattr("gersgorin.checks.check_room", lambda need, *words: rooms.append(need))
    h, c = checks.first_state(None, (3, 2))
    assert (h.tolist(), c.tolist(), rooms) == ([0, 0, 0], [0, 0], [40])


@pytest.mark.parametrize(("block", "sizes"), [(1, [1] * 5), (8, [2, 2, 1]), (80, [5])])
def test_a_block_has_one_step_or_as_many_as_fit(block, sizes, monkeypatch):
    run = open_run(lambda x, s: s / 2 + x, torch.ones(5, 1), torch.zeros(2))
    monkeypatch.setattr("gersgorin.run.BLOCK", block)
    found = [now.stop - now.start for now in run.slices()]
    assert found == sizes and sum(found) == len(run)


def test_a_bound_is_that_of_the_largest_state_before_a_step():
    cell = RHN(1, 3, 2, dtype=d)
    with torch.no_grad():
        for weight in cell.parameters():
            weight.fill_(0.5)
    states = torch.tensor([[0.0, 0.0, 0.0], [0.5, -2.0, 0.5], [1.0, 9.0, 1.0]], dtype=d)
    step, x = as_step(cell, torch.zeros(2, 1, dtype=d))
    run = Run(step=step, inputs=x, states=states, title="", data="", unit="")
    assert run.log_norm_bound() == pytest.approx(math.log(cell.norm_bound(2.0).item()))


@pytest.mark.parametrize(
    ("rate", "rows"),
    [
        pytest.param(-1e-7, (0.0, math.inf, math.inf), id="at the limit of rounding"),
        pytest.param(-2e-7, (-2e-7, math.log(2) / 2e-7, math.inf), id="below it"),
        pytest.param(0.5, (0.5, math.inf, math.log(2) / 0.5), id="growth"),
    ],
)
def test_a_rate_of_rounding_is_none(rate, rows):
    found = growth_rows(rate * np.arange(1, 2))
    assert [found[name] for name in (RATE, HALF_LIFE, DOUBLING)] == pytest.approx(rows)


@pytest.mark.parametrize(
    ("states", "move"),
    [
        pytest.param([[0.0], [0.0]], 0.0, id="zero"),
        pytest.param([[2.0], [2.0]], 0.0, id="a state that stays"),
        pytest.param([[2.0], [-2.0]], 2.0, id="back and forth"),
        pytest.param([[0.0, 4.0], [0.5, 4.0], [0.5, 3.0]], 0.25, id="the larger of two moves"),
    ],
)
def test_the_largest_move_is_a_share_of_the_largest_entry(states, move):
    assert largest_move(np.array(states)) == move
