"""Leaky and orthogonal networks are the plain loops of their papers, with their spectra."""

import numpy as np
import pytest
import torch
from cases import assert_close, inputs, randomize
from scipy.linalg import expm
from tables import for_each
from torch import nn
from torch.nn.utils.parametrizations import orthogonal as parametrized

from rhn.cells import CELLS
from rhn.cells.rotation import entries, random_rotation, rotation, skew, stacked_rotation


def loop(cell, step, x, s):
    """All states (T, B, state_size) of a NumPy step(weights by name, x (m,), s (state_size,)), one
    sequence after another.
    """
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


# ---- the equations, once more, in NumPy ----------------------------------------------------------


def lower(w, n):
    """The antisymmetric matrix whose rows below the diagonal are w."""
    M = np.zeros((n, n))
    M[np.tril_indices(n, -1)] = w
    return M - M.T


def leaky(p, x, s):
    return 0.7 * s + 0.3 * np.tanh(p["weight_ih"] @ x + p["weight_hh"] @ s + p["bias"])


def orthogonal(f):
    def step(p, x, s):
        z = p["weight_ih"] @ x + expm(lower(p["weight_hh"], 4)) @ s
        return (
            np.tanh(z + p["bias"])
            if f == "tanh"
            else np.sign(z) * np.maximum(np.abs(z) + p["bias"], 0)
        )

    return step


EQUATIONS = [
    ("leaky", {"leak": 0.3}, leaky),
    ("orthogonal", {"nonlinearity": "modrelu"}, orthogonal("modrelu")),
    ("orthogonal", {"nonlinearity": "tanh"}, orthogonal("tanh")),
]


@for_each(("key", "options", "step"), EQUATIONS)
def test_a_cell_is_the_plain_loop_of_its_paper(key, options, step):
    assert_is_loop(built(key, **options), step)


# ---- leaky (Jaeger et al. 2007) ------------------------------------------------------------------


@pytest.mark.parametrize("init", ["uniform:0.04", "orthogonal", "gaussian:3"])
def test_an_echo_state_network_starts_at_its_spectral_radius(init):
    cell = CELLS["leaky"](3, 30, init=init, spectral_radius=0.95, dtype=torch.float64)
    assert np.abs(np.linalg.eigvals(cell.weight_hh.detach().numpy())).max() == pytest.approx(
        0.95, abs=1e-12
    )
    assert not CELLS["leaky"](3, 5, init="gaussian:0", spectral_radius=0.95).weight_hh.any(), (
        "zero stays zero"
    )


# ---- orthogonal (Helfrich et al. 2018, Lezcano-Casado and Martinez-Rubio 2019) -------------------


@pytest.mark.parametrize("n", [2, 7, 40])
def test_the_rotation_is_that_of_torchs_own_parametrization(n):
    cell, theirs = built("orthogonal", 3, n), nn.Linear(n, n, bias=False, dtype=torch.float64)
    parametrized(theirs, orthogonal_map="matrix_exp", use_trivialization=False)
    theirs.parametrizations.weight.original = nn.Parameter(skew(cell.weight_hh.detach(), n).tril())
    G = torch.randn(n, n, dtype=torch.float64)
    wanted = torch.autograd.grad(
        (theirs.weight * G).sum(), theirs.parametrizations.weight.original
    )[0]
    for rotate in (rotation, stacked_rotation):
        Q = rotate(cell.weight_hh, n)
        assert_close(Q, theirs.weight, 1e-12, "Q")
        gradient = torch.autograd.grad((Q * G).sum(), cell.weight_hh)[0]
        assert_close(gradient, entries(wanted), 1e-11, "gradient")


@pytest.mark.parametrize(("dtype", "angle"), [(torch.float32, 0.57), (torch.float64, 0.049)])
@pytest.mark.parametrize("rotate", [rotation, stacked_rotation])
def test_a_rotation_by_a_small_angle_is_as_exact_as_any(rotate, dtype, angle):
    a = torch.tensor([angle], dtype=dtype)
    cos, sin = a.double().cos(), a.double().sin()
    wanted = torch.stack((torch.cat((cos, -sin)), torch.cat((sin, cos))))
    assert_close(rotate(a, 2).double(), wanted, 16 * torch.finfo(dtype).eps, "Q")


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_the_logarithm_of_a_random_rotation_is_that_of_a_uniform_one(n):
    g = torch.Generator().manual_seed(n)
    Q = torch.stack([rotation(random_rotation(n, g), n) for _ in range(400 if n > 2 else 20)])
    assert_close(Q @ Q.mT, torch.eye(n, dtype=Q.dtype).expand_as(Q), 1e-12, "Q Q'")
    if n > 2:  # the trace of a uniform rotation has mean 0 and variance 1
        trace = Q.diagonal(dim1=-2, dim2=-1).sum(-1)
        assert abs(trace.mean()) < 0.2 and abs(trace.var() - 1) < 0.35
    assert torch.equal(
        CELLS["orthogonal"](3, n, init="identity:0").recurrent_matrix(), torch.eye(n)
    )


# ---- options -----------------------------------------------------------------------------------
