"""The cells that are other answers to vanishing gradients: each is the plain loop of its paper,
with its spectrum.
"""

import math

import numpy as np
import pytest
import torch
from cases import assert_close, inputs, randomize
from scipy.linalg import expm
from tables import for_each
from torch import nn
from torch.nn.utils.parametrizations import orthogonal as parametrized

from rhn.cells import CELLS
from rhn.cells.skew import entries, random_rotation, rotation, skew, stacked_rotation
from rhn.errors import InvalidInputError


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


def sigma(z):
    return 1 / (1 + np.exp(-z))


def lower(w, n):
    """The antisymmetric matrix whose rows below the diagonal are w."""
    M = np.zeros((n, n))
    M[np.tril_indices(n, -1)] = w
    return M - M.T


def indrnn(f):
    return lambda p, x, s: f(p["weight_ih"] @ x + p["weight_hh"] * s + p["bias"])


def leaky(p, x, s):
    return 0.7 * s + 0.3 * np.tanh(p["weight_ih"] @ x + p["weight_hh"] @ s + p["bias"])


def antisymmetric(gated):
    def step(p, x, s):
        v = (lower(p["weight_hh"], 4) - 0.05 * np.eye(4)) @ s
        u = p["weight_ih"] @ x + p["bias"]
        return s + 0.2 * (sigma(u[:4] + v) * np.tanh(u[4:] + v) if gated else np.tanh(u + v))

    return step


def orthogonal(f):
    def step(p, x, s):
        z = p["weight_ih"] @ x + expm(lower(p["weight_hh"], 4)) @ s
        return (
            np.tanh(z + p["bias"])
            if f == "tanh"
            else np.sign(z) * np.maximum(np.abs(z) + p["bias"], 0)
        )

    return step


def cornn(p, x, s):
    y, z = s[:4], s[4:]
    z = z + 0.1 * (
        np.tanh(p["weight_hh"] @ np.r_[y, z] + p["weight_ih"] @ x + p["bias"]) - 1.5 * y - 0.7 * z
    )
    return np.r_[y + 0.1 * z, z]


def mgu(p, x, s):
    (W_f, W_g), (R_f, R_g), (b_f, b_g) = (
        np.split(p[name], 2) for name in ("weight_ih", "weight_hh", "bias")
    )
    f = sigma(W_f @ x + R_f @ s + b_f)
    return (1 - f) * s + f * np.tanh(W_g @ x + R_g @ (f * s) + b_g)


def mingru(p, x, s):
    z, g = np.split(p["weight_ih"] @ x + p["bias"], 2)
    return s + sigma(z) * (g - s)


EQUATIONS = [
    ("indrnn", {"nonlinearity": "relu"}, indrnn(lambda z: np.maximum(z, 0))),
    ("indrnn", {"nonlinearity": "tanh"}, indrnn(np.tanh)),
    ("leaky", {"leak": 0.3}, leaky),
    *(
        ("antisymmetric", {"step_size": 0.2, "diffusion": 0.05, "gated": g}, antisymmetric(g))
        for g in (False, True)
    ),
    *(("orthogonal", {"nonlinearity": f}, orthogonal(f)) for f in ("modrelu", "tanh")),
    ("cornn", {"dt": 0.1, "gamma": 1.5, "epsilon": 0.7}, cornn),
    ("mgu", {}, mgu),
    ("mingru", {}, mingru),
]


@for_each(("key", "options", "step"), EQUATIONS)
def test_a_cell_is_the_plain_loop_of_its_paper(key, options, step):
    assert_is_loop(built(key, **options), step)


# ---- IndRNN (Li et al. 2018) ---------------------------------------------------------------------


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


@pytest.mark.parametrize("init", ["uniform:0.04", "orthogonal", "gaussian:3"])
def test_an_echo_state_network_starts_at_its_spectral_radius(init):
    cell = CELLS["leaky"](3, 30, init=init, spectral_radius=0.95, dtype=torch.float64)
    assert np.abs(np.linalg.eigvals(cell.weight_hh.detach().numpy())).max() == pytest.approx(
        0.95, abs=1e-12
    )
    assert not CELLS["leaky"](3, 5, init="gaussian:0", spectral_radius=0.95).weight_hh.any(), (
        "zero stays zero"
    )


# ---- antisymmetric (Chang et al. 2019) -----------------------------------------------------------


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
    cell = CELLS["antisymmetric"](
        3, 60, init="scaled:2", generator=torch.Generator().manual_seed(0)
    )
    assert abs(cell.weight_hh.std() * 60**0.5 - 2) < 0.1


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


# ---- coRNN (Rusch and Mishra 2021) ---------------------------------------------------------------


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
