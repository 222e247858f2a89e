"""Compare how fast products of Jacobians shrink in new cells with equal numbers of parameters, over
several seeds and chorales.
"""

import numpy as np
import torch

from gersgorin import products
from rhn.cells import CELLS, hidden_size_for_budget
from rhn.data import chorales

PARAMETERS, SEEDS, STEPS = 20_000, 3, 40
pieces = [piece[:STEPS] for piece in chorales().test[:3]]

print(f"{'cell':<10}{'units':>6}{'exponent':>10}{'10 %':>8}{'90 %':>8}")
for name in ("rnn", "irnn", "gru", "lstm", "rhn"):
    units = hidden_size_for_budget(name, PARAMETERS)
    cells = [
        CELLS[name](88, units, generator=torch.Generator().manual_seed(seed))
        for seed in range(SEEDS)
    ]
    exponents = [products(cell, piece).exponent[-1] for cell in cells for piece in pieces]
    low, middle, high = np.quantile(exponents, (0.1, 0.5, 0.9))
    print(f"{name:<10}{units:>6}{middle:>10.3f}{low:>8.3f}{high:>8.3f}")
