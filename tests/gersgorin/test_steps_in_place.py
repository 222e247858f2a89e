"""Steps that write in place, as layers do into their caches, complex states, and attention give the
numbers of the same step in plain operations.
"""

import numpy as np
import pytest
import torch
from tables import for_each
from torch.nn import functional as F

import gersgorin

T, M = 9, 3
d = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=d, generator=torch.Generator().manual_seed(seed))


def in_place(W):
    """Reverse mode refuses this step, since the sigmoid's output is overwritten."""

    def step(x, state):
        h, cache = state
        gate = torch.sigmoid(h)
        gate.mul_(h)
        cache.copy_(cache.roll(1, -1))
        cache[..., 0] = h.sum(-1)
        h.copy_(torch.tanh(gate @ W + cache.mean(-1, keepdim=True) + x.sum()))
        return h[..., :1], (h, cache)

    return step


def plain(W):
    def step(x, state):
        h, cache = state
        cache = torch.cat((h.sum(-1, keepdim=True), cache[..., :-1]), -1)
        new = torch.tanh(torch.sigmoid(h) * h @ W + cache.mean(-1, keepdim=True) + x.sum())
        return new[..., :1], (new, cache)

    return step


def both(units, cached=4):
    W = 2 * normal(units, units) / units**0.5
    return [step(W) for step in (in_place, plain)], (
        normal(1, units),
        torch.zeros(1, cached).double(),
    )


ANALYSES = {
    "spectra": lambda f, x, s0: gersgorin.spectra(f, x, s0=s0).eigenvalues,
    "products": lambda f, x, s0: gersgorin.products(f, x, s0=s0).log_norm,
    "all exponents": lambda f, x, s0: gersgorin.lyapunov(f, x, s0=s0).exponents,
    "some exponents": lambda f, x, s0: gersgorin.lyapunov(f, x, s0=s0, count=2).exponents,
    "pseudospectra": lambda f, x, s0: gersgorin.pseudospectra(f, x, s0=s0).eigenvalues,
    "fixed points": lambda f, x, s0: gersgorin.fixed_points(f, x[0], s0=s0, starts=5).states,
    "leading": lambda f, x, s0: gersgorin.spectra(f, x, s0=s0, leading=3).eigenvalues,
}


@for_each("name", ANALYSES)
def test_a_step_that_writes_in_place_is_measured_as_the_same_step_that_does_not(name):
    steps, s0 = both(units=5)
    x = normal(T, M, seed=1)
    ours, wanted = (ANALYSES[name](step, x, s0) for step in steps)
    np.testing.assert_allclose(ours, wanted, rtol=1e-7, atol=1e-9)


def test_products_of_large_states_need_no_reverse_mode():
    steps, s0 = both(units=110)
    x = normal(3, M, seed=1)
    ours, wanted = (gersgorin.lyapunov(step, x, s0=s0, count=2).exponents for step in steps)
    np.testing.assert_allclose(ours, wanted, rtol=1e-7)


def test_a_step_may_branch_on_numbers():
    x, s = torch.zeros(2, M).double(), torch.tensor([[1.0, 2.0], [-1.0, 2.0]]).double()
    found = gersgorin.temporal_jacobian(lambda x, s: 3 * s if s[0] > 0 else -s, x, s)
    assert found.tolist() == [[[3, 0], [0, 3]], [[-1, 0], [0, -1]]]


def test_the_state_that_was_given_is_left_alone():
    (step, _), s0 = both(units=5)
    before = [part.clone() for part in s0]
    gersgorin.spectra(step, normal(T, M), s0=s0)
    assert all(torch.equal(*pair) for pair in zip(s0, before, strict=True))


def test_a_complex_state_has_its_eigenvalues_and_their_conjugates():
    rates = torch.polar(torch.tensor([0.9, 0.5]).double(), torch.tensor([0.3, 2.0]).double())
    s0 = torch.zeros(1, 2, dtype=torch.complex128)
    found = gersgorin.spectra(lambda x, s: rates * s + x[..., :2], normal(T, M), s0=s0)
    wanted = np.concatenate((rates.numpy(), rates.numpy().conj()))
    for values in found.eigenvalues:
        np.testing.assert_allclose(np.sort_complex(values), np.sort_complex(wanted), atol=1e-12)


def test_fixed_points_of_complex_states_are_those_of_their_real_views():
    starts = torch.complex(normal(9, 2), normal(9, 2, seed=1))
    found = gersgorin.fixed_points(lambda x, s: 0.5j * s + (1 + 1j), starts=starts)
    point = (1 + 1j) / (1 - 0.5j)
    np.testing.assert_allclose(found.states, [[point.real, point.imag] * 2], atol=1e-12)


def attention(fused):
    W = [normal(4, 4, seed=k) / 2 for k in range(3)]

    def step(x, state):
        q, k, v = (state[0] @ w for w in W)
        if fused:
            return (F.scaled_dot_product_attention(q, k, v) + x.sum(),)
        return (torch.softmax(q @ k.mT / 2, -1) @ v + x.sum(),)

    return step


@pytest.mark.parametrize("rows", [6, 30])  # of more than 100 entries by products
def test_attention_is_measured_in_double_precision(rows):
    x, s0 = normal(T, M), (normal(1, 1, rows, 4),)
    ours, wanted = (
        gersgorin.lyapunov(attention(fused), x, s0=s0, count=3) for fused in (True, False)
    )
    np.testing.assert_allclose(ours.exponents, wanted.exponents, rtol=1e-9)


def test_the_jacobian_of_a_complex_state_is_that_of_its_real_view():
    z = np.array([0.5 + 0.4j, -0.3 + 0.7j])  # s' = z s + conj(s)^2 / 2 + x

    def step(x, s):
        return torch.tensor(z) * s + s.conj() ** 2 / 2 + x

    s = torch.complex(normal(4, 2, seed=1), normal(4, 2, seed=2))
    x = normal(4, 2, seed=3)
    found = gersgorin.temporal_jacobian(step, x, s).numpy()
    assert found.shape == (4, 4, 4)
    for k in range(4):
        wanted = np.zeros((4, 4))
        for j in range(2):  # dz s is (a, -b; b, a), w conj(ds) is (p, q; q, -p)
            a, b = z[j].real, z[j].imag
            w = np.conj(s[k, j].item())
            p, q = w.real, w.imag
            wanted[2 * j : 2 * j + 2, 2 * j : 2 * j + 2] = [[a + p, -b + q], [b + q, a - p]]
        np.testing.assert_allclose(found[k], wanted, atol=1e-12)
    one = gersgorin.temporal_jacobian(step, x[0], s[0]).numpy()
    np.testing.assert_allclose(one, found[0], atol=1e-12)
