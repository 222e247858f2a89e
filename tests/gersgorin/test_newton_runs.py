"""`gersgorin.newton`: any network and layout, the errors by iteration, and the command."""

import json

import numpy as np
import pytest
import torch
from tables import for_each

import gersgorin
from gersgorin.cli.main import main
from rhn.cells import GRU, make_cell
from rhn.errors import InvalidInputError

DOUBLE = torch.float64


def inputs(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)


def step(x, s):
    return torch.tanh(0.8 * s.flip(-1) + x)


NETWORKS = {
    "cell": lambda: make_cell("gru", 3, 5, dtype=DOUBLE),
    "torch.nn": lambda: torch.nn.LSTM(3, 5, 2, dtype=DOUBLE),
    "torch.nn cell": lambda: torch.nn.GRUCell(3, 5, dtype=DOUBLE),
    "function": lambda: step,
}


@for_each("name", NETWORKS)
@for_each("shape", [(20, 3), (20, 2, 3)])
def test_states_are_those_of_the_loop_in_the_layout_of_the_input(name, shape):
    network, x = NETWORKS[name](), inputs(*shape)
    s0 = None if name != "function" else x.new_zeros(*shape[1:])
    found = gersgorin.newton(network, x, s0)
    wanted = gersgorin.trajectory(network, x, s0)[1:].detach().numpy()
    assert found.states.shape == wanted.shape and found.converged.shape == wanted.shape[:-1]
    np.testing.assert_allclose(found.states, wanted, atol=1e-10)


def test_a_chaotic_run_is_that_of_the_loop():
    generator = torch.Generator().manual_seed(0)
    cell, x = GRU(3, 16, init="gaussian:1.5", generator=generator, dtype=DOUBLE), inputs(400, 3)
    found = gersgorin.newton(cell, x, max_iterations=15)
    assert found.fallback_from == 0 and not found.parallel
    np.testing.assert_array_equal(found.states, gersgorin.trajectory(cell, x)[1:].detach().numpy())
    assert "A loop computed 400 steps, from step 0 on" in found.summary()


def test_the_default_for_large_states_is_the_diagonal():
    cell, x = make_cell("rnn", 3, 65), torch.rand(4, 3)
    assert gersgorin.newton(cell, x).method == "diagonal"


def test_the_command_repeats_a_short_sequence(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["newton", "--cell", "gru", "--hidden-size", "4", "--steps", "200", "--output", "a.png", "a.npz"]
    assert main([*words, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["newton"]["steps"] == 200 and "read 3 times" in printed["about"]
    found = gersgorin.load("a.npz")
    assert found.states.shape == (200, 4) and (tmp_path / "a.png").stat().st_size > 0


def branching(x, s):
    return torch.tanh(s + x) if s.sum() > 0 else torch.tanh(x - s)


def overwriting(x, s):
    return torch.tanh(x.mul_(2) + s)


@for_each(
    ("network", "x", "options", "said"),
    [
        (branching, inputs(20, 3), {}, "branching cannot be differentiated, or run on several sequences at once"),
        (overwriting, inputs(20, 3), {}, r"overwriting: step\(x, s\) changes an argument in place"),
        (step, inputs(20, 3) * torch.nan, {}, "NaN or infinite"),
        (step, inputs(20, 3), {"method": "fast"}, "method 'fast'.*: expected one of full, diagonal, trust"),
        (step, inputs(20, 3), {"tolerance": 0.0}, "a number between 0 and 1"),
        (step, inputs(20, 3), {"max_iterations": -1}, "max_iterations -1: .* 0 or more"),
    ],
)
def test_steps_and_inputs_that_it_cannot_use_are_refused_in_one_sentence(network, x, options, said):
    with pytest.raises(InvalidInputError, match=said):
        gersgorin.newton(network, x, **({"s0": torch.zeros(3, dtype=DOUBLE)} | options))


def test_jacobians_beyond_the_memory_are_refused(monkeypatch):
    monkeypatch.setattr("rhn.utils.validation.free_memory", lambda device: 100_000)
    cell, x = NETWORKS["cell"](), inputs(200, 3)
    with pytest.raises(InvalidInputError, match=r"Jacobians of \(200, 5\) states needs? about .*: use method full"):
        gersgorin.newton(cell, x, method="trust")
    assert gersgorin.newton(cell, x).parallel
