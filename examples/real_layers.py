"""Layers of the library transformers, run step by step through their caches, one function for each,
and the measurements of gersgorin on a step.

Each function returns (step, first state) for inputs (1, 8). A step f(x, state) puts the state into
a cache, calls the layer on one token, and returns (output, next state). The layers write into their
caches in place, and compute parts of a step in single precision.
"""

import copy
import time
from importlib.metadata import version

import torch
from transformers import DynamicCache
from transformers.models.kimi_linear.modeling_kimi_linear import (
    KimiLinearConfig,
    KimiLinearDeltaAttention,
)
from transformers.models.mamba.modeling_mamba import MambaConfig, MambaMixer
from transformers.models.mamba2.modeling_mamba2 import Mamba2Config, Mamba2Mixer
from transformers.models.qwen3_next.modeling_qwen3_next import (
    Qwen3NextConfig,
    Qwen3NextGatedDeltaNet,
)
from transformers.models.recurrent_gemma.modeling_recurrent_gemma import (
    RecurrentGemmaConfig,
    RecurrentGemmaRecurrentBlock,
)
from transformers.models.rwkv.modeling_rwkv import RwkvConfig, RwkvSelfAttention
from transformers.models.xlstm.modeling_xlstm import xLSTMBlock, xLSTMConfig

from gersgorin import lyapunov, open_run, products, spectra

M = 8  # numbers of an input


def through_cache(layer, config):
    """Return (step, first state) of a layer that takes a DynamicCache with the states of a
    convolution and of a recurrence.
    """
    layer.double().eval()
    full = DynamicCache(config=config)
    with torch.no_grad():
        layer(torch.zeros(1, 1, M, dtype=torch.float64), cache=full)

    def step(x, state):
        cache = copy.deepcopy(full)
        kept = cache.layers[0]
        kept.conv_states[0], kept.recurrent_states[0] = state
        y = layer(x[None], cache=cache)
        return y[0], (kept.conv_states[0], kept.recurrent_states[0])

    return step, (full.layers[0].conv_states[0], full.layers[0].recurrent_states[0])


def drawn(layer):
    """Draw normal weights for a layer whose weights are otherwise drawn by its model."""
    for weight in layer.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return layer


def mamba():
    """The selective state space layer of Mamba."""
    config = MambaConfig(hidden_size=M, state_size=4, num_hidden_layers=1)
    return through_cache(MambaMixer(config, layer_idx=0), config)


def mamba2():
    """Mamba-2: one decay for each head."""
    heads = {"num_heads": 2, "head_dim": 8, "n_groups": 1}
    config = Mamba2Config(hidden_size=M, state_size=4, num_hidden_layers=1, **heads)
    return through_cache(Mamba2Mixer(config, layer_idx=0), config)


def gated_delta_net():
    """The linear attention of Qwen3-Next."""
    heads = {"linear_num_value_heads": 2, "linear_num_key_heads": 1}
    sizes = {"linear_key_head_dim": 4, "linear_value_head_dim": 4}
    config = Qwen3NextConfig(hidden_size=M, num_hidden_layers=1, **heads, **sizes)
    return through_cache(Qwen3NextGatedDeltaNet(config, layer_idx=0), config)


def kimi_delta():
    """The linear attention of Kimi Linear: one decay for each channel."""
    config = KimiLinearConfig(
        hidden_size=M, num_hidden_layers=1, linear_num_heads=2, linear_head_dim=4
    )
    return through_cache(drawn(KimiLinearDeltaAttention(config, layer_idx=0)), config)


def rwkv():
    """The time mixing of RWKV-4. Its state is a list that the layer overwrites."""
    layer = RwkvSelfAttention(RwkvConfig(hidden_size=M, context_length=16)).double().eval()
    drawn(layer)

    def step(x, state):
        columns = [part.unsqueeze(-1) for part in state]
        y, columns = layer(x[None], state=[None, *columns], use_cache=True)
        return y[0], tuple(part.squeeze(-1) for part in columns[1:])

    return step, tuple(torch.zeros(1, M, dtype=torch.float64) for _ in range(4))


def xlstm():
    """A block of xLSTM with its matrix memory."""
    config = xLSTMConfig(hidden_size=M, num_heads=2, num_hidden_layers=1)
    layer = xLSTMBlock(config).double().eval()

    def step(x, state):
        y, after = layer(x[None], tuple(state))
        return y[0], tuple(after)

    with torch.no_grad():
        first = layer(torch.zeros(1, 1, M, dtype=torch.float64))[1]
    return step, first


def griffin():
    """The recurrent block of RecurrentGemma. Its state is in two attributes of the block."""
    config = RecurrentGemmaConfig(hidden_size=M, lru_width=M, num_attention_heads=2)
    layer = RecurrentGemmaRecurrentBlock(config, layer_idx=0).double().eval()
    drawn(layer)

    def step(x, state):
        layer.conv1d_state, layer.rg_lru.recurrent_states = state
        y, _ = layer(x[None], position_ids=torch.ones(1, 1), attention_mask=None)
        return y[0], (layer.conv1d_state, layer.rg_lru.recurrent_states)

    d = torch.float64
    return step, (torch.zeros(1, M, config.conv1d_width - 1, dtype=d), torch.zeros(1, M, dtype=d))


LAYERS = (mamba, mamba2, gated_delta_net, kimi_delta, rwkv, xlstm, griffin)


def made(layer):
    """Return (a step with seeded weights, its first state, inputs (5, 8))."""
    torch.manual_seed(0)
    step, s0 = layer()
    return step, tuple(part.double() for part in s0), torch.randn(5, M, dtype=torch.float64)


def by_differences(run, t, distance=1e-2):
    """Compute the Jacobian (N, N) of step t of a run by central differences."""
    s, e = run.states[t], distance * torch.eye(run.state_size, dtype=torch.float64)
    x = run.inputs[t].expand(len(s), -1)
    with torch.no_grad():
        return (run.step.rows(x, s + e) - run.step.rows(x, s - e)).T / (2 * distance)


if __name__ == "__main__":
    print(f"transformers {version('transformers')}")
    print("layer             state  radius  exponent  half-life       error  seconds")
    for layer in LAYERS:
        step, s0, x = made(layer)
        start = time.perf_counter()
        run = open_run(step, x, s0)
        radius = spectra(run).spectral_radius[-1]
        exponent = lyapunov(step, x, s0=s0, count=2).exponents[0]
        half_life = products(run).table()["half-life of ||ds[t]/ds[0]|| (steps)"]
        seconds = time.perf_counter() - start
        error = (run.jacobians()[-1] - by_differences(run, len(run) - 1)).abs().max()
        print(
            f"{layer.__name__:16s} {run.state_size:6d} {radius:7.4f} {exponent:9.4f} "
            f"{half_life:10.2f}  {error:10.1e} {seconds:8.1f}"
        )
