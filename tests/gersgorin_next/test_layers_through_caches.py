"""Steps that write in place: layers of transformers, which write into their caches, against central
differences in plain loops, and a small step against the same one in plain operations.
"""

import numpy as np
import pytest
import torch

from examples import real_layers
from gersgorin.next import open_run, products, spectra

FAST = (real_layers.mamba, real_layers.mamba2, real_layers.griffin)
STEPS = [
    pytest.param(layer, marks=[] if layer in FAST else pytest.mark.slow)
    for layer in real_layers.LAYERS
]


@torch.no_grad()
def differences(step, x, s0):
    """The Jacobian of a step at its first state, state by state."""
    columns = []
    for k, part in enumerate(s0):
        for place in range(part.numel()):
            ends = []
            for sign in (1, -1):
                state = [each.clone() for each in s0]
                state[k].view(-1)[place] += sign * 1e-2
                after = step(x, tuple(state))[1]
                ends.append(torch.cat([each.double().flatten() for each in after]))
            columns.append((ends[0] - ends[1]) / 2e-2)
    return torch.stack(columns, 1)


@pytest.mark.parametrize("layer", STEPS)
def test_a_layer_that_steps_through_its_cache_is_measured(layer):
    step, s0, x = real_layers.made(layer)
    s1 = step(x[:1], tuple(part.clone() for part in s0))[1]
    s0 = tuple(part.detach().double() for part in s1)
    run = open_run(step, x[:2], s0)
    J = differences(step, x[:1], s0)
    # a layer of transformers computes parts of a step in single precision
    np.testing.assert_allclose(run.jacobians()[0], J, atol=1e-3 * float(J.abs().max()))
    radius = np.abs(np.linalg.eigvals(J)).max()
    np.testing.assert_allclose(spectra(run).spectral_radius[0], radius, atol=1e-3)
    assert np.isfinite(products(run).log_norm_back).all()


def in_place(x, state):
    """Reverse mode refuses this step, since the output of the sigmoid is overwritten."""
    h, cache = state
    gate = torch.sigmoid(h)
    gate.mul_(h)
    cache.copy_(cache.roll(1, -1))
    cache[..., 0] = h.sum(-1)
    h.copy_(torch.tanh(2 * gate.flip(-1) + cache.mean(-1, keepdim=True) + x.sum()))
    return h[..., :1], (h, cache)


def plain(x, state):
    h, cache = state
    cache = torch.cat((h.sum(-1, keepdim=True), cache[..., :-1]), -1)
    gate = torch.sigmoid(h) * h
    return h, (torch.tanh(2 * gate.flip(-1) + cache.mean(-1, keepdim=True) + x.sum()), cache)


def test_a_step_that_writes_in_place_has_the_jacobians_of_the_same_step_that_does_not():
    torch.manual_seed(0)
    x, s0 = torch.randn(6, 2), (torch.randn(5).double(), torch.zeros(4).double())
    ours, wanted = (open_run(step, x, s0) for step in (in_place, plain))
    torch.testing.assert_close(ours.jacobians(), wanted.jacobians(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(
        ours.input_jacobians(), wanted.input_jacobians(), rtol=1e-12, atol=1e-14
    )
