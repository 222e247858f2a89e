"""Small networks with random weights, and random pieces, that the tests of `analysis` share."""

import math

import numpy as np
import torch

from rhn.models import PolyphonicModel

GATED = [("rhn", 3, {}), ("rhn", 2, {"coupled": False}), ("lstm", 1, {}), ("gru", 1, {})]
UNGATED = [
    ("dt-rnn", 3, {}),
    ("dts-rnn", 3, {}),
    ("dts-rnn", 3, {"skip": "last"}),
    ("rnn", 1, {"nonlinearity": "relu"}),
]


def network(
    cell="rhn", depth=3, options=None, *, hidden_size=7, layers=1, seed=0, dtype=torch.float64
) -> PolyphonicModel:
    """Weights of standard deviation 0.9 / sqrt(inputs), biases of 0.3."""
    model = PolyphonicModel(cell, hidden_size=hidden_size, depth=depth, layers=layers, dtype=dtype, **(options or {}))
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            scale = 0.3 if "bias" in name else 0.9 / math.sqrt(p.shape[-1])
            p.copy_(scale * torch.randn(p.shape, generator=g, dtype=torch.float64))
    return model


def rolls(*lengths: int, seed=0) -> list[np.ndarray]:
    """Random piano rolls of about four keys a frame."""
    rng = np.random.default_rng(seed)
    return [(rng.random((length, 88)) < 0.05).astype(np.uint8) for length in lengths]
