"""`Step.states`: the fused path of a cell gives the states of its equation, one step after the
other.
"""

import numpy as np
import pytest
import torch
from torch import nn

from gersgorin import lyapunov, open_run, trajectory
from gersgorin import step as home
from gersgorin.jacobians import jacobians
from gersgorin.run import Run
from gersgorin.step import as_step
from rhn.cells import CELLS, RHN, Cell, StackedCell, make_cell
from rhn.errors import InvalidInputError, NotFiniteError, UsersCodeError
from tests.numbers.record import filled

M, N, T, B = 3, 6, 40, 2
d = torch.float64


def drawn(*shape, seed=0):
    return torch.randn(*shape, dtype=d, generator=torch.Generator().manual_seed(seed))


def by_loop(cell, x, s):
    """The states (T + 1, ...) by the equation of a cell."""
    states = [s]
    for x_t in x:
        states.append(cell.step(x_t, states[-1]).detach())
    return torch.stack(states)


def cell_of(kind):
    if kind == "stack":
        return StackedCell([make_cell("gru", M, 4), make_cell("rhn", 4, N, 2)])
    return make_cell(kind, M, N, 3 if CELLS[kind].deep else 1)


@pytest.mark.parametrize("kind", [*CELLS, "stack"])
def test_the_fused_states_are_those_of_the_equation(kind, monkeypatch):
    monkeypatch.setattr(home, "AT_ONCE", 7 * B * N)  # some steps at once
    cell = filled(cell_of(kind)).to(d)
    step, _ = as_step(cell, drawn(T, M))
    x, s0 = drawn(T, B, M), 0.1 * drawn(B, cell.state_size, seed=1)
    assert torch.allclose(step.states(x, s0), by_loop(cell, x, s0), rtol=0, atol=1e-13)
    assert torch.allclose(open_run(cell, x[:, 0]).states, by_loop(cell, x[:, 0], step.first))


def test_one_step_is_the_equation_itself():
    cell = filled(make_cell("rhn", M, N, 2)).to(d)
    step, x = as_step(cell, drawn(1, M))
    assert torch.equal(step.states(x[:, None])[1], step.rows(x, step.first[None]))


def chaotic():
    """A DT-RNN of depth 2 with recurrent weights of the size 2 / sqrt(n)."""
    cell = make_cell("dt-rnn", M, 40, 2, dtype=d)
    cell.weight_hh.data = drawn(2, 40, 40, seed=3) * 2 / 40**0.5
    cell.weight_ih.data = 0.1 * drawn(*cell.weight_ih.shape, seed=4)
    return cell


def test_in_chaos_the_two_ways_part_and_have_the_same_jacobians_and_exponents():
    cell, x = chaotic(), drawn(400, M)
    run = open_run(cell, x)
    single = open_run(lambda x, s: cell.step(x, s), x, torch.zeros(40, dtype=d))
    assert (run.states - single.states).abs().max() > 0.1
    equal = x, single.states[:-1]
    assert torch.allclose(jacobians(run.step, *equal), jacobians(single.step, *equal), atol=1e-12)
    one, other = (lyapunov(each, count=3, warmup=50) for each in (run, single))
    assert one.exponents[0] > one.margins[0] > 0
    assert (np.abs(one.exponents - other.exponents) <= one.margins + other.margins).all()


class Own(Cell):
    """A user's cell with an equation only, which fails at inputs above 5."""

    def __init__(self):
        super().__init__(M, M)
        self.gain = nn.Parameter(torch.tensor(0.5))

    def step(self, x, s):
        if bool((x > 5).any()):
            raise ValueError("x is too large")
        return torch.tanh(self.gain * s + x)


class Wrong(Own):
    """Its states are not those of its equation."""

    def states(self, x, s0):
        return 1.001 * super().states(x, s0)


class Failing(Own):
    def states(self, x, s0):
        raise ValueError("no states today")


def test_a_cell_with_an_equation_only_runs_step_by_step():
    x, steps = drawn(T, M), []
    step, x = as_step(Own(), x)
    found = step.states(x[:, None], advance=lambda *done: steps.append(done))[:, 0]
    assert torch.equal(found, by_loop(Own(), x, step.first))
    assert steps == [(t, T) for t in range(1, T + 1)]
    with pytest.raises(UsersCodeError, match=r"^Own fails at step 3: ValueError: x is too large$"):
        open_run(Own(), x.index_fill(0, torch.tensor(3), 9.0))


def test_a_fused_path_reports_what_it_computes_at_once(monkeypatch):
    step, x = as_step(make_cell("gru", M, N), drawn(T, M))
    for size, reports in ((home.AT_ONCE, [T]), (25 * N, [25, T])):
        steps = []
        monkeypatch.setattr(home, "AT_ONCE", size)
        step.states(x[:, None], advance=lambda done, total, steps=steps: steps.append(done))
        assert steps == reports


def test_states_that_are_not_those_of_the_equation_are_refused():
    with pytest.raises(InvalidInputError, match=r"^state of Wrong from equal x and s is another"):
        open_run(Wrong(), drawn(T, M))
    with pytest.raises(UsersCodeError, match=rf"^Failing fails at {T} steps: ValueError: no"):
        open_run(Failing(), drawn(T, M))


@pytest.mark.parametrize("kind", ["rnn", "dt-rnn"])
def test_the_step_at_which_a_state_is_no_number_is_named(kind):
    cell = make_cell(kind, M, N, dtype=d)
    cell.nonlinearity = "relu"
    for p in cell.parameters():
        p.data.fill_(1e200)
    with pytest.raises(NotFiniteError, match=r"is NaN or infinite at step 2: expected numbers"):
        open_run(cell, torch.ones(9, M, dtype=d))


@pytest.mark.parametrize(
    ("step", "x", "derivatives"),
    [
        pytest.param(lambda x, s: s.sqrt() + x, [0, 0, -1, 0, 0], Run.jacobians, id="state"),
        pytest.param(lambda x, s: s + x.sqrt(), [1, 1, 1, 0, 1], Run.input_jacobians, id="input"),
    ],
)
@pytest.mark.parametrize("now", [slice(None), slice(2, 5)], ids=["all", "some"])
def test_the_step_at_which_a_derivative_is_no_number_is_named(step, x, derivatives, now):
    """The slope of a square root at 0."""
    run = open_run(step, torch.tensor(x, dtype=torch.float64)[:, None], torch.ones(1).double())
    with pytest.raises(NotFiniteError, match=r"^derivative of .* is NaN or infinite at step 3: "):
        derivatives(run, now)


def test_the_states_of_a_trajectory_have_gradients():
    cell, x = make_cell("rhn", M, N, 2, dtype=d), drawn(T, B, M)
    s0 = torch.zeros(B, N, dtype=d, requires_grad=True)
    trajectory(cell, x, s0)[-1].sum().backward()
    fused, s0.grad = s0.grad, None
    s = s0
    for x_t in x:
        s = cell.step(x_t, s)
    s.sum().backward()
    assert torch.allclose(fused, s0.grad, rtol=1e-9) and s0.grad.any()


class Longer(Own):
    """Its step adds an entry to the state."""

    def step(self, x, s):
        return torch.cat((s, s[..., :1]), -1)


class Narrower(Own):
    """Its step has another precision."""

    def step(self, x, s):
        return super().step(x, s).float()


@pytest.mark.parametrize(
    ("cell", "given"),
    [
        pytest.param(Longer(), rf"torch.float64 of shape \(1, {M + 1}\)", id="shape"),
        pytest.param(Narrower(), rf"torch.float32 of shape \(1, {M}\)", id="precision"),
    ],
)
def test_a_next_state_of_another_kind_is_refused(cell, given):
    with pytest.raises(InvalidInputError, match=f"next state of {type(cell).__name__} is {given}"):
        open_run(cell, drawn(T, M))


def test_a_trajectory_of_no_steps_is_refused():
    with pytest.raises(InvalidInputError, match=r"x is .* at least one step"):
        trajectory(lambda x, s: s + x, torch.zeros(0, 2), torch.zeros(2))


def test_an_error_without_words_is_named_by_its_class():
    def silent(x, s):
        raise ValueError

    with pytest.raises(UsersCodeError, match=r"ValueError: -$"):
        open_run(silent, drawn(T, M), torch.zeros(2, dtype=d))


@pytest.mark.parametrize("T", [1, 2])
def test_one_step_is_not_computed_by_the_path_of_many(T):
    calls = []

    class Counted(RHN):
        def states(self, x, s0):
            calls.append(len(x))
            return super().states(x, s0)

    step, x = as_step(Counted(2, 3, 2), torch.rand(T, 2))
    found = step.states(x[:, None])
    assert found.shape == (T + 1, 1, 3) and calls == ([] if T == 1 else [2])


def test_a_state_is_unpacked_layer_by_layer():
    step, _ = as_step(nn.LSTM(1, 2, 2), torch.zeros(3, 1))
    h, c = step.unpack(torch.arange(8.0))
    assert (h.tolist(), c.tolist()) == ([[0, 1], [4, 5]], [[2, 3], [6, 7]])
    h, c = as_step(nn.LSTM(1, 2), torch.zeros(3, 1))[0].unpack(torch.arange(4.0))
    assert (h.tolist(), c.tolist()) == ([0, 1], [2, 3])
    assert as_step(nn.GRU(1, 2), torch.zeros(3, 1))[0].unpack(torch.arange(2.0)).tolist() == [0, 1]
    with pytest.raises(InvalidInputError, match=r"^s0 is 8 numbers: expected 8 for LSTM"):
        as_step(nn.LSTM(1, 2, 2), torch.zeros(3, 1), tuple(map(torch.zeros, (3, 3, 2))))
