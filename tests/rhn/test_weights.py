"""A state_dict of torch, which does not describe its network."""

import pytest
import torch
from torch import nn

import rhn
from rhn.errors import CheckpointError


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_of_torch_is_loaded_by_its_name(kind, bias, tmp_path):
    more = {} if kind.endswith("Cell") else {"num_layers": 2}
    layer = getattr(nn, kind)(3, 5, bias=bias, **more)
    torch.save(layer.state_dict(), tmp_path / "layer.pt")
    cell, x = rhn.load(tmp_path / "layer.pt", f"torch.nn:{kind}"), torch.rand(1, 2, 3)
    found = cell(x)[0][-1]
    given = layer(x)[0][-1] if more else layer(x[0])
    wanted = given[0] if kind == "LSTMCell" else given
    assert torch.allclose(found, wanted, atol=1e-6)


def test_weights_of_another_layer_are_refused(tmp_path):
    torch.save(nn.Linear(3, 4).state_dict(), tmp_path / "layer.pt")
    with pytest.raises(CheckpointError, match="has no matrix weight_ih_l0"):
        rhn.load(tmp_path / "layer.pt", "torch.nn:LSTM")
