"""Layers as their users call them are analysed, not refused: those of transformers, and recurrent
layers of torch.nn inside somebody's module.

The layers of transformers come from small configurations, without weights from anywhere. Through
their caches they are steps.
"""

import numpy as np
import pytest
import torch
from tables import for_each
from torch import nn
from torch.autograd.functional import jacobian
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers.models.mamba import MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer
from transformers.models.qwen3_next import Qwen3NextConfig
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextGatedDeltaNet
from transformers.models.xlstm import xLSTMConfig
from transformers.models.xlstm.modeling_xlstm import xLSTMBlock

import gersgorin
from examples import real_layers

T, M, N = 7, 8, 5


def mamba():
    return MambaMixer(MambaConfig(hidden_size=M, state_size=4), layer_idx=0)


def delta_net():
    heads = {"linear_num_value_heads": 2, "linear_num_key_heads": 1}
    sizes = {"linear_key_head_dim": 4, "linear_value_head_dim": 4}
    return Qwen3NextGatedDeltaNet(Qwen3NextConfig(hidden_size=M, **heads, **sizes), layer_idx=0)


def xlstm():
    return xLSTMBlock(xLSTMConfig(hidden_size=M, num_heads=2, num_hidden_layers=1))


class Words(nn.Module):
    """A GRU over the packed vectors of ids (B, T)."""

    def __init__(self):
        super().__init__()
        self.embedding, self.rnn = nn.Embedding(9, M), nn.GRU(M, N, batch_first=True)
        self.head = nn.Linear(N, 9)

    def forward(self, ids):
        return self.read(self.embedding(ids))

    def read(self, vectors):
        lengths = [vectors.shape[1]] * len(vectors)
        packed = pack_padded_sequence(vectors, lengths, batch_first=True)
        return self.head(pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0])


class Forecast(nn.Module):
    """An LSTM of (B, T, m) between two layers."""

    def __init__(self):
        super().__init__()
        self.first, self.rnn = nn.Linear(M, M), nn.LSTM(M, N, batch_first=True)
        self.head = nn.Linear(N, 2)

    def forward(self, x):
        states, _ = self.rnn(torch.relu(self.first(x)))
        return self.head(states)


def frames():
    return torch.randn(1, T, M, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def ids():
    return torch.tensor([[3, 1, 4, 1, 5, 8, 2]])


def seeded(build):
    torch.manual_seed(0)
    return build().double().eval()


LAYERS = {  # name: (layer, its x, its outputs (T, k) as a function of vectors (T, m))
    "Mamba": (mamba, frames, lambda layer, x: layer(x[None])[0]),
    "gated delta net": (delta_net, frames, lambda layer, x: layer(x[None])[0]),
    "xLSTM": (xlstm, frames, lambda layer, x: layer(x[None])[0][0]),
    "packed GRU": (Words, ids, lambda model, x: model.read(x[None])[0]),
    "LSTM in a module": (Forecast, frames, lambda model, x: model(x[None])[0]),
}


@for_each("name", LAYERS)
def test_the_influence_of_the_inputs_of_a_layer_is_that_of_its_jacobian(name):
    build, given, outputs = LAYERS[name]
    layer, x = seeded(build), given()
    found = gersgorin.influence(layer, x, batch_axis=0)
    vectors = (x if x.is_floating_point() else layer.embedding(x).detach())[0]
    J = jacobian(lambda x: outputs(layer, x), vectors)  # (T, k, T, m)
    wanted = torch.linalg.vector_norm(J, dim=(1, 3)).numpy()
    # parts of the layers of transformers compute in single precision
    np.testing.assert_allclose(found.influence, wanted, rtol=1e-3, atol=1e-5 * wanted.max())
    assert np.isfinite(found.half_life) and found.by_lag[1:].all()


def step_of(rnn, x):
    """The next state of torch.nn's GRU or LSTM, with h and c side by side, as a function of one
    vector.
    """

    def step(s):
        state = s.reshape(-1, 1, 1, N)
        _, after = rnn(x[None, None], tuple(state) if len(state) > 1 else state[0])
        return torch.cat([part.flatten() for part in after])

    return step


@for_each(("build", "given"), [(Words, ids), (Forecast, frames)])
def test_the_recurrent_layer_in_a_module_has_the_spectra_of_its_step(build, given):
    model, x = seeded(build), given()
    run = gersgorin.open_run(model, x)
    J = [
        jacobian(step_of(model.rnn, x_t), s)
        for x_t, s in zip(run.inputs, run.states[:-1], strict=True)
    ]
    np.testing.assert_allclose(
        gersgorin.spectra(model, x).norm, torch.linalg.matrix_norm(torch.stack(J), 2), rtol=1e-9
    )
    assert np.isfinite(gersgorin.lyapunov(model, x, count=2).exponents).all()


STEPS = [
    pytest.param(
        layer, marks=[] if layer in (real_layers.mamba, real_layers.xlstm) else pytest.mark.slow
    )
    for layer in real_layers.LAYERS
]


def differences(step, x, s0):
    """The Jacobian of a step at its first state by central differences, state by state in plain
    loops; the entries of a state are those of its tensors, one after the other.
    """
    columns = []
    for k, part in enumerate(s0):
        for place in range(part.numel()):
            ends = []
            for sign in (1, -1):
                state = [each.clone() for each in s0]
                state[k].view(-1)[place] += sign * 1e-2
                with torch.no_grad():
                    after = step(x, tuple(state))[1]
                ends.append(torch.cat([each.double().flatten() for each in after]))
            columns.append((ends[0] - ends[1]) / 2e-2)
    return torch.stack(columns, 1)


@pytest.mark.parametrize("layer", STEPS)
def test_a_layer_that_steps_through_its_cache_is_measured(layer):
    step, s0, x = real_layers.made(layer)
    x = x[:2]
    s1 = step(x[:1].to(s0[0]), tuple(part.clone() for part in s0))[1]
    s0 = tuple(part.detach() for part in s1)
    run = gersgorin.open_run(step, x, s0=s0)
    J = differences(step, x[:1].to(s0[0]), s0)
    # a layer of transformers computes parts of a step in single precision
    np.testing.assert_allclose(run.jacobians()[0], J, atol=1e-3 * float(J.abs().max()))
    found = gersgorin.spectra(run)
    np.testing.assert_allclose(
        found.spectral_radius[0], np.abs(np.linalg.eigvals(J)).max(), atol=1e-3
    )
    assert np.isfinite(gersgorin.products(run).log_norm_back).all()
    assert gersgorin.lyapunov(run, count=2).exponents.shape == (2,)
