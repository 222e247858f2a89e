"""A block that is looped in depth is a recurrent network: its spectra, exponents and cycles against
NumPy's.
"""

import math

import numpy as np
import pytest
import torch
from scipy.special import erf

import gersgorin
from examples.looped import Block, inputs, places, stable_cycles, task

d = torch.float64


def in_numpy(block):
    """The block as a function of NumPy's arrays x and s, which may be complex."""
    w = {name: p.detach().double().numpy() for name, p in block.named_parameters()}

    def step(x, s):
        z = w["mix.weight"] @ np.concatenate((x, s)) + w["mix.bias"]
        s = s + w["out.weight"] @ (z * (1 + erf(z / math.sqrt(2))) / 2) + w["out.bias"]
        return s / np.sqrt((s * s).mean() + np.finfo(float).eps)

    return step


def jacobian(step, x, s):
    """By complex steps, exact up to rounding."""
    h = 1e-30
    columns = [step(x, s + 1j * h * e).imag / h for e in np.eye(len(s))]
    return np.stack(columns, 1)


@pytest.fixture(scope="module")
def block():
    torch.manual_seed(0)
    return Block().double().requires_grad_(False)


def test_the_places_are_powers_of_the_permutation():
    order, first = task(50, torch.Generator().manual_seed(0))
    found = places(order, first, 7).numpy()
    for k in range(50):
        P = np.eye(5)[order[k].numpy()]
        for loop in range(7):
            row = np.eye(5)[first[k]] @ np.linalg.matrix_power(P, loop + 1)
            assert row.argmax() == found[loop, k]


def test_spectra_and_exponents_of_the_loops_are_numpys(block):
    order, first = task(1, torch.Generator().manual_seed(1))
    x, s0 = (t[0] for t in inputs(block, order, first))
    found = gersgorin.spectra(block, x.expand(6, -1), s0=s0)
    step, s = in_numpy(block), s0.numpy()
    for loop in range(6):
        J = jacobian(step, x.numpy(), s)
        s = step(x.numpy(), s)
        radius = np.abs(np.linalg.eigvals(J)).max()
        assert found.spectral_radius[loop] == pytest.approx(radius, rel=1e-9)
        assert found.norm[loop] == pytest.approx(np.linalg.norm(J, 2), rel=1e-9)
    np.testing.assert_allclose(found.run.states[-1], s, rtol=1e-9)


def test_a_step_closes_over_its_tokens_and_has_a_state_of_tokens():
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    layer, tokens = layer.double().eval(), torch.randn(3, 4, dtype=torch.float64)

    def loop(_, s):
        return layer((s + tokens)[None])[0]

    found = gersgorin.spectra(loop, torch.zeros(4, 1), s0=torch.zeros_like(tokens))
    s = torch.zeros(12, dtype=torch.float64)
    for norm in found.norm:
        A = torch.autograd.functional.jacobian(lambda s: loop(None, s.view(3, 4)).flatten(), s)
        assert norm == pytest.approx(np.linalg.norm(A.numpy(), 2))
        s = loop(None, s.view(3, 4)).detach().flatten()
    starts = torch.randn(5, 3, 4, dtype=torch.float64)
    points = gersgorin.fixed_points(loop, starts=starts)
    for state in torch.from_numpy(points.states[~points.is_slow]).view(-1, 3, 4):
        torch.testing.assert_close(loop(None, state), state)


class Follower(torch.nn.Module):
    """s' = softmax(9 s X): from near a corner of the simplex to that where X points."""

    state_size = 5

    def __init__(self):
        super().__init__()
        self.out = torch.nn.Linear(5, 5, dtype=d)  # of which the type is read
        self.first = self.head = torch.nn.Identity()

    def forward(self, x, s):
        X = x.unflatten(-1, (5, 5)).expand(*s.shape[:-1], 5, 5)
        return torch.softmax(9 * (s.unsqueeze(-2) @ X).squeeze(-2), -1)


def test_the_stable_cycles_of_a_block_that_follows_pointers_are_those_of_the_permutation():
    order = torch.tensor([1, 0, 2, 4, 3])
    found = [stable_cycles(Follower(), order, period) for period in (1, 2, 3)]
    assert found == [[[2]], [[0, 1], [3, 4]], []]
