"""The cells that are other answers to vanishing gradients: each is the plain loop of its paper, with its spectrum."""

import math

import numpy as np
import pytest
import torch
from cases import assert_close, inputs, randomize
from scipy.linalg import expm
from tables import for_each
from torch import nn
from torch.nn.utils.parametrizations import orthogonal

from rhn.cells import CELLS
from rhn.cells.skew import entries, random_rotation, rotation, skew, stacked_rotation
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


# ---- leaky (Jaeger et al. 2007) ------------------------------------------------------------------


def test_leaky_equals_a_loop():
    def step(p, x, s):
        return 0.7 * s + 0.3 * np.tanh(p["weight_ih"] @ x + p["weight_hh"] @ s + p["bias"])

    assert_is_loop(built("leaky", leak=0.3), step)


@pytest.mark.parametrize("init", ["uniform:0.04", "orthogonal", "gaussian:3"])
def test_an_echo_state_network_starts_at_its_spectral_radius(init):
    cell = CELLS["leaky"](3, 30, init=init, spectral_radius=0.95, dtype=torch.float64)
    assert np.abs(np.linalg.eigvals(cell.weight_hh.detach().numpy())).max() == pytest.approx(0.95, abs=1e-12)
    assert not CELLS["leaky"](3, 5, init="gaussian:0", spectral_radius=0.95).weight_hh.any(), "zero stays zero"


# ---- antisymmetric (Chang et al. 2019) -----------------------------------------------------------


def lower(w, n):
    """The antisymmetric matrix whose rows below the diagonal are w."""
    M = np.zeros((n, n))
    M[np.tril_indices(n, -1)] = w
    return M - M.T


@pytest.mark.parametrize("gated", [False, True])
def test_antisymmetric_equals_a_loop(gated):
    def step(p, x, s):
        v = (lower(p["weight_hh"], 4) - 0.05 * np.eye(4)) @ s
        u = p["weight_ih"] @ x + p["bias"]
        return s + 0.2 * (np.tanh(u[4:] + v) / (1 + np.exp(-u[:4] - v)) if gated else np.tanh(u + v))

    assert_is_loop(built("antisymmetric", step_size=0.2, diffusion=0.05, gated=gated), step)


@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_the_recurrent_eigenvalues_of_an_antisymmetric_network_lie_on_one_line(n):
    cell = built("antisymmetric", 3, n, diffusion=0.3)
    B = cell.recurrent_matrix().detach()
    values = np.linalg.eigvals(B.numpy())
    assert np.abs(values.real + 0.3).max() < 1e-13
    M = B + 0.3 * torch.eye(n, dtype=B.dtype)
    assert torch.equal(M, -M.T) and torch.equal(entries(M), cell.weight_hh)
    with torch.no_grad():
        cell.weight_ih.zero_()
        cell.bias.zero_()  # at the origin the slope of tanh is 1
    A = cell.jacobian(*(torch.zeros(k, dtype=B.dtype) for k in (3, n)))
    found = np.linalg.eigvals(A.detach().numpy())
    assert np.abs(found.real - (1 - cell.step_size * 0.3)).max() < 1e-12
    assert np.sort(found.imag) == pytest.approx(np.sort(cell.step_size * values.imag), abs=1e-12)
    assert_close(cell.norm_bound(), torch.tensor(1 + 0.1 * np.abs(values).max()), 1e-12, "bound")


def test_antisymmetric_weights_of_a_scheme_with_a_size_count_their_columns():
    cell = CELLS["antisymmetric"](3, 60, init="scaled:2", generator=torch.Generator().manual_seed(0))
    assert abs(cell.weight_hh.std() * 60**0.5 - 2) < 0.1


# ---- orthogonal (Helfrich et al. 2018, Lezcano-Casado and Martinez-Rubio 2019) -------------------


@pytest.mark.parametrize("f", ["modrelu", "tanh"])
def test_orthogonal_equals_a_loop(f):
    def step(p, x, s):
        z = p["weight_ih"] @ x + expm(lower(p["weight_hh"], 4)) @ s
        if f == "tanh":
            return np.tanh(z + p["bias"])
        return [(v > 0) * max(v + b, 0) - (v < 0) * max(b - v, 0) for v, b in zip(z, p["bias"], strict=True)]

    assert_is_loop(built("orthogonal", nonlinearity=f), step)


@pytest.mark.parametrize("n", [2, 7, 40])
def test_the_rotation_is_that_of_torchs_own_parametrization(n):
    cell, theirs = built("orthogonal", 3, n), nn.Linear(n, n, bias=False, dtype=torch.float64)
    orthogonal(theirs, orthogonal_map="matrix_exp", use_trivialization=False)
    theirs.parametrizations.weight.original = nn.Parameter(skew(cell.weight_hh.detach(), n).tril())
    G = torch.randn(n, n, dtype=torch.float64)
    wanted = torch.autograd.grad((theirs.weight * G).sum(), theirs.parametrizations.weight.original)[0]
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


def test_one_rotation_has_several_gradients_at_once():
    w, G = built("orthogonal", 3, 5).weight_hh.detach(), torch.randn(4, 5, 5, dtype=torch.float64)
    pulled = [torch.func.vmap(torch.func.vjp(lambda w, f=f: f(w, 5), w)[1])(G)[0] for f in (stacked_rotation, rotation)]
    assert_close(*pulled, 1e-12, "gradient")


@pytest.mark.parametrize("n", [1, 2, 3, 8, 61])
def test_the_logarithm_of_a_random_rotation_is_that_of_a_uniform_one(n):
    g = torch.Generator().manual_seed(n)
    Q = torch.stack([rotation(random_rotation(n, g), n) for _ in range(400 if n > 2 else 20)])
    assert_close(Q @ Q.mT, torch.eye(n, dtype=Q.dtype).expand_as(Q), 1e-12, "Q Q'")
    if n > 2:  # the trace of a uniform rotation has mean 0 and variance 1
        trace = Q.diagonal(dim1=-2, dim2=-1).sum(-1)
        assert abs(trace.mean()) < 0.2 and abs(trace.var() - 1) < 0.35
    assert torch.equal(CELLS["orthogonal"](3, n, init="identity:0").recurrent_matrix(), torch.eye(n))


# ---- coRNN (Rusch and Mishra 2021) ---------------------------------------------------------------


def test_cornn_equals_a_loop():
    def step(p, x, s):
        y, z = s[:4], s[4:]
        z = z + 0.1 * (np.tanh(p["weight_hh"] @ np.r_[y, z] + p["weight_ih"] @ x + p["bias"]) - 1.5 * y - 0.7 * z)
        return np.r_[y + 0.1 * z, z]

    assert_is_loop(built("cornn", dt=0.1, gamma=1.5, epsilon=0.7), step)


def test_an_undriven_oscillator_is_the_linear_one_of_its_bound():
    cell = built("cornn", 2, 3)
    with torch.no_grad():
        cell.weight_hh.zero_()
    A = cell.jacobian(*inputs(cell)).detach()
    assert_close(torch.linalg.matrix_norm(A, 2), cell.norm_bound(), 1e-12, "the bound is met")
    square = np.linalg.det(A.numpy()[::3, ::3])  # a single oscillator's determinant
    assert square == pytest.approx(1 - cell.dt * cell.epsilon, abs=1e-12)


@for_each(
    ("key", "options", "message"),
    [
        ("indrnn", {"nonlinearity": "gelu"}, "nonlinearity is gelu, expected 'relu' or 'tanh'"),
        ("orthogonal", {"nonlinearity": "relu"}, "nonlinearity is relu"),
        ("leaky", {"leak": 0}, "leak"),
        ("leaky", {"leak": math.nan}, "leak"),
        ("leaky", {"spectral_radius": -1}, "spectral_radius"),
        ("antisymmetric", {"step_size": 0}, "step_size"),
        ("antisymmetric", {"diffusion": math.inf}, "diffusion"),
        ("cornn", {"dt": -0.1}, "dt"),
        ("cornn", {"epsilon": math.nan}, "epsilon"),
        ("lru", {"r_min": 0.5, "r_max": 0.5}, "r_min is 0.5"),
        ("lru", {"r_max": 1.0}, "r_max, 1.0"),
        ("lru", {"max_phase": 7}, "max_phase is 7"),
    ],
)
def test_options_out_of_range_are_refused(key, options, message):
    with pytest.raises(InvalidInputError, match=message):
        CELLS[key](3, 4, **options)
