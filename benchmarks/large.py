"""Leading eigenvalues by products with vectors against all of them by LAPACK, above the size up to which LAPACK gives both."""

import numpy as np
import torch

from benchmarks.registry import benchmark
from gersgorin import temporal_jacobian
from gersgorin.cell import as_cell
from gersgorin.operators import StepOperator
from rhn.cells import LSTM


@benchmark(
    "32 leading eigenvalues of one step, LSTM n=1050",
    "NumPy: all of the closed-form Jacobian",
    pairs=3,
    full=True,
)
def _(device):
    cell = LSTM(8, 1050, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    x, s = (torch.randn(size, generator=generator, dtype=torch.float64) / 2 for size in (8, cell.state_size))
    return (
        lambda: StepOperator.of_step(as_cell(cell), x, s).eigenvalues(32),
        lambda: np.linalg.eigvals(temporal_jacobian(cell, x, s).numpy()),
    )
