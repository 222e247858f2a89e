"""A layer with a decoding cache is a cell: its steps give the outputs of the whole sequence, its
Jacobians are those of differences.

The layers of transformers come from small configurations, without weights from anywhere.
"""

import importlib
import sys

import numpy as np
import pytest
import torch
from tables import for_each
from torch import nn

import gersgorin
from rhn.errors import InvalidInputError

T = 8
SMALL = {"vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2}
LAYERS = {  # name: (module, model, configuration, its sizes, the layer)
    "Mamba": ("mamba", "MambaModel", "MambaConfig", {"state_size": 4}, "layers.1.mixer"),
    "Mamba2": (
        "mamba2",
        "Mamba2Model",
        "Mamba2Config",
        {
            "state_size": 4,
            "num_heads": 4,
            "head_dim": 4,
            "expand": 2,
            "n_groups": 1,
            "chunk_size": 4,
        },
        "layers.1.mixer",
    ),
    "FalconMamba": (
        "falcon_mamba",
        "FalconMambaModel",
        "FalconMambaConfig",
        {"state_size": 4},
        "layers.1.mixer",
    ),
}


def model_of(name, **sizes):
    pytest.importorskip("transformers", reason="the extra `layers` is not installed")
    package, model, config, own, _ = LAYERS[name]
    home = f"transformers.models.{package}"
    try:
        models = importlib.import_module(f"{home}.modeling_{package}")
        configs = importlib.import_module(f"{home}.configuration_{package}")
        torch.manual_seed(0)
        return getattr(models, model)(getattr(configs, config)(**SMALL | own | sizes)).eval()
    except (ImportError, AttributeError, TypeError) as error:
        pytest.skip(f"this version of transformers builds no {name}: {error}")


def layer_of(name, **sizes):
    return model_of(name, **sizes).get_submodule(LAYERS[name][4])


def differences(function, v, h):
    """The Jacobian of a function (n,) -> (N,) by central differences."""
    columns = [
        (function(v + h * e) - function(v - h * e)) / (2 * h)
        for e in torch.eye(len(v), dtype=v.dtype)
    ]
    return torch.stack(columns, 1)


@for_each("name", LAYERS)
def test_steps_give_the_outputs_of_the_whole_sequence(name):
    cell = gersgorin.from_cache(layer_of(name))
    x, s, outputs = torch.randn(T, cell.input_size), cell.initial_state(), []
    with torch.no_grad():
        for x_t in x:
            output, s = cell.run_step(x_t, s)
            outputs.append(output)
        torch.testing.assert_close(torch.stack(outputs), cell(x[None])[0], rtol=1e-5, atol=1e-5)
    assert s.shape == (cell.state_size,)


@for_each("name", LAYERS)
def test_jacobians_are_those_of_differences(name):
    cell = gersgorin.from_cache(layer_of(name).double())
    x = torch.randn(3, cell.input_size, dtype=torch.float64)
    with torch.no_grad():
        s = gersgorin.trajectory(cell, x)[-1]
        scale = s.abs().max().clamp(min=1)
        by_s = differences(lambda s: cell.step(x[0], s), s, 1e-3)
        by_x = differences(lambda x: cell.step(x, s), x[0], 1e-3)
    # parts of the layers compute in single precision
    torch.testing.assert_close(cell.jacobian(x[0], s), by_s, rtol=2e-3, atol=2e-3 * float(scale))
    torch.testing.assert_close(
        cell.input_jacobian(x[0], s), by_x, rtol=2e-3, atol=2e-3 * float(scale)
    )
    Q = torch.randn(cell.state_size, 2, dtype=torch.float64)
    torch.testing.assert_close(
        cell.push(x[0], s, Q), cell.jacobian(x[0], s) @ Q, rtol=1e-4, atol=1e-6
    )


def test_analyses_take_the_cell_and_the_whole_model():
    model = model_of("Mamba")
    x = torch.randn(6, 8)
    found = gersgorin.spectra(gersgorin.from_cache(model.layers[1].mixer), x)
    assert found.spectral_radius.max() < 1.001 and found.title.startswith("MambaMixer")
    run = gersgorin.open_run(model, torch.arange(6)[None])
    assert run.state_size == 128 and len(run) == 6
    assert np.isfinite(gersgorin.lyapunov(run, count=2).exponents).all()


class Leaky(nn.Module):
    """A layer that is no one's but the user's."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 3)

    def forward(self, x):
        return self.inner(x)


def leaky(layer, x, cache):
    cache["h"][0].mul_(0.5).add_(torch.tanh(layer.inner(x[:, 0])))
    return cache["h"][0].clone()


def test_any_layer_is_described_by_its_cache_and_a_call():
    cell = gersgorin.from_cache(Leaky(), {"h": [torch.zeros(1, 3)], "length": 7}, leaky)
    A = gersgorin.temporal_jacobian(cell, torch.zeros(4, 2), torch.zeros(4, 3))
    torch.testing.assert_close(A, 0.5 * torch.eye(3).expand(4, 3, 3))


class Cyclic:
    def __init__(self, h):
        self.h, self.itself = h, self


def test_a_cache_of_any_kind_is_left_as_it_was():
    def call(layer, x, cache):
        return cache.itself.h.mul_(0.5).add_(layer.inner(x[:, 0]))

    h = torch.zeros(1, 3)
    cell = gersgorin.from_cache(Leaky(), Cyclic(h), call)
    torch.testing.assert_close(cell.jacobian(torch.ones(2), torch.ones(3)), 0.5 * torch.eye(3))
    assert cell.state_size == 3 and not h.any()


def growing(layer, x, cache):
    cache["h"] = torch.cat((cache["h"], x), 1)
    return x


WRONG = {
    "no change": (lambda: (Leaky(), [torch.zeros(1, 3)], lambda *_: None), "keeps no state"),
    "attention": (
        lambda: (Leaky(), {"h": torch.zeros(1, 0, 2)}, growing),
        "its cache grows with every token",
    ),
    "no state": (lambda: (nn.Linear(2, 2),), "has no decoding cache that is known"),
    "no call": (lambda: (Leaky(), [torch.zeros(1, 3)]), "cache and call or none"),
}


@for_each("name", WRONG)
def test_bad_input_is_refused_with_a_sentence(name):
    arguments, said = WRONG[name]
    with pytest.raises(InvalidInputError) as error:
        gersgorin.from_cache(*arguments())
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_layer_like_those_of_transformers_names_the_missing_package(monkeypatch):
    class Mixer(Leaky):
        layer_idx = 0

        def forward(self, x, cache_params=None):
            return x

    monkeypatch.setitem(sys.modules, "transformers.cache_utils", None)
    with pytest.raises(InvalidInputError, match="needs the package transformers"):
        gersgorin.from_cache(Mixer())
