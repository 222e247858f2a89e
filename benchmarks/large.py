"""Leading eigenvalues by products with vectors against all of them by LAPACK."""

import numpy as np
import torch

from benchmarks.registry import benchmark
from gersgorin import temporal_jacobian
from gersgorin.operators import leading_eigenvalues
from rhn.cells import LSTM, RHN, RNN

for name, kind, n, depth, k, floor in (
    ("tanh RNN", RNN, 1000, 1, 1, 1.0),
    ("tanh RNN", RNN, 1000, 1, 32, 0.6),
    ("tanh RNN", RNN, 2000, 1, 32, 0.6),
    ("RHN depth=5", RHN, 830, 5, 32, 0.5),
    ("LSTM", LSTM, 500, 1, 32, 1.0),
):

    @benchmark(
        f"{k} leading eigenvalues of one step, {name} n={n}",
        "NumPy: all of the closed-form Jacobian",
        floor,
        pairs=3,
        full=n > 1000,
    )
    def _(device, kind=kind, n=n, depth=depth, k=k):
        cell = kind(8, n, depth, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_(False)
        generator = torch.Generator().manual_seed(1)
        x, s = (torch.randn(size, generator=generator, dtype=torch.float64) / 2 for size in (8, cell.state_size))
        return (
            lambda: leading_eigenvalues(cell, x, s, k),
            lambda: np.linalg.eigvals(temporal_jacobian(cell, x, s).numpy()),
        )
