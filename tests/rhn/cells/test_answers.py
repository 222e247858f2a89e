"""The cells that are other answers to vanishing gradients: each is the plain loop of its paper, with its spectrum."""

import numpy as np
import pytest
import torch
from cases import assert_close, inputs, randomize

from rhn.cells import CELLS
from rhn.errors import InvalidInputError


def loop(cell, step, x, s):
    """All states (T, B, state_size) of a NumPy step(weights by name, x (m,), s (state_size,)), one sequence after another."""
    p = {name: w.detach().numpy() for name, w in cell.named_parameters()}
    states = np.empty((len(x), *s.shape))
    for b in range(len(s)):
        now = s[b].numpy()
        for t in range(len(x)):
            now = states[t, b] = step(p, x[t, b].numpy(), now)
    return torch.from_numpy(states)


def built(key, m=3, n=4, seed=0, **options):
    cell = CELLS[key](m, n, dtype=torch.float64, **options)
    randomize(cell, seed)
    return cell


def assert_is_loop(cell, step):
    x, s = inputs(cell, 6, 2)[0], inputs(cell, 2, seed=2)[1]
    for kernel in ("manual", "reference"):
        cell.kernel = kernel
        assert_close(cell.states(x, s), loop(cell, step, x, s), 1e-12, kernel)


# ---- IndRNN (Li et al. 2018) ---------------------------------------------------------------------


@pytest.mark.parametrize("f", ["relu", "tanh"])
def test_indrnn_equals_a_loop_over_its_units(f):
    apply = {"relu": lambda z: max(z, 0.0), "tanh": np.tanh}[f]

    def step(p, x, s):
        return [apply(p["weight_ih"][i] @ x + p["weight_hh"][i] * s[i] + p["bias"][i]) for i in range(len(s))]

    assert_is_loop(built("indrnn", nonlinearity=f), step)


def test_the_eigenvalues_of_an_open_indrnn_are_its_recurrent_weights():
    cell = built("indrnn", 3, 6)
    with torch.no_grad():
        cell.bias.fill_(100.0)  # every unit is open
    A = cell.jacobian(*inputs(cell))
    assert torch.equal(A, cell.weight_hh.diag())
    assert cell.norm_bound() == torch.linalg.matrix_norm(A, 2), "the bound is met"


def test_an_indrnn_remembers_at_the_start_whatever_draws_its_other_weights():
    for init in ("gaussian:1e-8", "scaled", "orthogonal"):
        u = CELLS["indrnn"](3, 500, init=init, generator=torch.Generator().manual_seed(1)).weight_hh
        assert 0 <= u.min() < 0.02 and 0.98 < u.max() <= 1 and abs(u.mean() - 0.5) < 0.05


@pytest.mark.parametrize(
    ("key", "options", "message"),
    [("indrnn", {"nonlinearity": "gelu"}, "unknown nonlinearity 'gelu': expected 'relu'")],
)
def test_options_out_of_range_are_refused(key, options, message):
    with pytest.raises(InvalidInputError, match=message):
        CELLS[key](3, 4, **options)
