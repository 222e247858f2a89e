"""LRU and sLSTM are the plain loops of their papers, with what these say of their spectra and
starts.
"""

import math

import numpy as np
import pytest
import torch
from cases import assert_close, inputs
from tables import for_each
from test_answers import assert_is_loop, built, sigma

from rhn.cells import LRU, SLSTM

T, B, m = 6, 2, 3


@for_each("n", [1, 2, 5, 8])
def test_lru_equals_complex_arithmetic(n):
    """With odd n the last number, its eigenvalue and its input weights are real."""
    cell, q = built("lru", n=n), n // 2
    p = {name: w.detach().numpy() for name, w in cell.named_parameters()}
    modulus, phase = np.exp(-np.exp(p["nu"])), np.append(np.exp(p["theta"]), [0.0] * (n % 2))
    eigenvalues, B_real = modulus * np.exp(1j * phase), p["weight_ih"][: n - q]
    B_complex = B_real + 1j * np.vstack((p["weight_ih"][n - q :], np.zeros((n % 2, m))))

    def step(p, x, s):
        z = eigenvalues * (s[: n - q] + 1j * np.append(s[n - q :], [0.0] * (n % 2)))
        z = z + np.exp(p["gamma_log"]) * (B_complex @ x)
        return np.append(z.real, z.imag[:q])

    assert_is_loop(cell, step)
    A = cell.jacobian(*inputs(cell)).detach()
    found, pairs = torch.linalg.eigvals(A).numpy(), np.append(eigenvalues, eigenvalues[:q].conj())
    assert (
        np.abs(found[:, None] - pairs).min(0).max() < 1e-12
        and np.abs(found[:, None] - pairs).min(1).max() < 1e-12
    )
    assert_close(
        torch.linalg.matrix_norm(A, 2), cell.norm_bound().detach(), 1e-12, "the bound is met"
    )


def plain_slstm(p, x, h, c, n):
    """Equations 8 to 14 of the paper without the stabiliser: all h (T, B, n)."""
    hs = []
    for x_t in x:
        i, f, z, o = np.split(x_t @ p["weight_ih"].T + h @ p["weight_hh"].T + p["bias"], 4, -1)
        c, n = sigma(f) * c + np.exp(i) * np.tanh(z), sigma(f) * n + np.exp(i)
        h = sigma(o) * c / n
        hs.append(h)
    return np.stack(hs)


@for_each("start", ["zero", "any"])
def test_slstm_equals_the_formula_without_stabiliser(start):
    cell = built("slstm")
    p = {name: w.detach().numpy() for name, w in cell.named_parameters()}
    x, s0 = inputs(cell, T, B)[0], inputs(cell, B, seed=2)[1] * (start == "any")
    h, c, n, stabiliser = s0.numpy().reshape(B, 4, 4).swapaxes(0, 1)
    wanted = plain_slstm(p, x.numpy(), h, c * np.exp(stabiliser), n * np.exp(stabiliser))
    for kernel in ("manual", "reference"):
        cell.kernel = kernel
        assert_close(cell.states(x, s0)[..., :4], torch.from_numpy(wanted), 1e-12, kernel)
    if start == "zero":
        gates = cell.gates(x[0], s0)
        assert (gates.t[0] == 1).all() and not gates.c[0].any(), "nothing but the newest input"


# ---- sLSTM: what the stabiliser is for -----------------------------------------------------------


@pytest.mark.parametrize("level", [300.0, -300.0, 1e30, -1e30])
def test_slstm_in_float32_bears_exponents_that_overflow(level):
    """Only differences between input gates count: all of them e^level times as large change nothing
    but their rounding.
    """
    cell = SLSTM(m, 4)
    x = torch.randn(T, B, m, generator=torch.Generator().manual_seed(1))
    plain = cell(x)[0]
    with torch.no_grad():
        cell.bias[:4] = level
    outputs, last = cell(x)
    gradients = torch.autograd.grad(outputs.sum(), [*cell.parameters()])
    assert all(torch.isfinite(t).all() for t in (outputs, last, *gradients))
    if abs(level) == 300:
        assert_close(outputs, plain, 1e-2, "outputs")


def test_the_jacobians_of_an_slstm_without_a_past_are_autograds():
    cell = built("slstm")
    x, s = inputs(cell, B)[0], torch.zeros(B, 16, dtype=torch.float64)
    s[:, 4:8], s[:, 12:] = 2.0, 30.0  # c and m of no past
    for ours, argument in ((cell.jacobian, 1), (cell.input_jacobian, 0)):
        wanted = torch.func.vmap(torch.func.jacrev(cell.step, argument))(x, s)
        assert_close(ours(x, s), wanted, 1e-12, str(argument))
    assert not cell.jacobian(x, s)[..., 4:].any(), "nothing of it is left"


# ---- how they start ------------------------------------------------------------------------------


@for_each("init", ["gaussian:1e-8", "scaled", "orthogonal", "identity"])
@for_each(("r_min", "r_max", "max_phase"), [(0.0, 0.99, 2 * math.pi), (0.9, 0.999, 0.1)])
def test_an_lru_starts_on_its_ring_whatever_draws_its_input_weights(init, r_min, r_max, max_phase):
    options = {
        "r_min": r_min,
        "r_max": r_max,
        "max_phase": max_phase,
        "init": init,
        "dtype": torch.float64,
    }
    cell = LRU(m, 4001, generator=torch.Generator().manual_seed(1), **options)
    a, b = (part.detach() for part in cell.eigenvalues())
    squared = a[:-1] ** 2 + b**2
    assert (squared.sqrt() >= r_min - 1e-12).all() and (squared.sqrt() <= r_max + 1e-12).all()
    share = (squared - r_min**2) / (r_max**2 - r_min**2)
    error = len(share) ** -0.5  # of a mean, in standard deviations of one
    assert abs(share.mean() - 0.5) < 6 * 0.289 * error, "uniform on the ring's area"
    assert abs(share.var() - 1 / 12) < 6 * 0.0745 * error, "uniform on the ring's area"
    phase = torch.atan2(b, a[:-1]) % (2 * math.pi)
    assert (
        phase.max() <= max_phase + 1e-12 and abs(phase.mean() / max_phase - 0.5) < 6 * 0.289 * error
    )
    # of white noise: gamma^2 sum |lambda|^2k
    gain = torch.exp(2 * cell.gamma_log[:-1].detach()) / (1 - squared)
    assert_close(gain, torch.ones_like(gain), 1e-9, "variance of the state over that of B x")


@pytest.mark.parametrize(("nu", "theta"), [(95.0, 0.0), (0.0, 95.0), (95.0, 95.0)])
def test_an_lru_far_outside_its_ring_is_finite_and_so_is_its_gradient(nu, theta):
    cell = LRU(2, 5, 1)
    with torch.no_grad():
        cell.nu.fill_(nu)
        cell.theta.fill_(theta)
    states, _ = cell(torch.ones(5, 1, 2))
    states.sum().backward()
    assert torch.isfinite(states).all() and all(
        torch.isfinite(p.grad).all() for p in cell.parameters()
    )
