"""Compare how fast gradients vanish in new cells with equal numbers of parameters, over several
seeds and chorales.
"""

import numpy as np
import torch

import gersgorin
from rhn.cells import CELLS, hidden_size_for_budget
from rhn.data import chorales

PARAMETERS, SEEDS, STEPS = 20_000, 3, 40
pieces = [piece[:STEPS] for piece in chorales().test[:3]]

print(f"{'cell':<10}{'units':>6}{'exponent':>10}{'10 %':>8}{'90 %':>8}   gradient's half-life")
for name in ("rnn", "irnn", "gru", "lstm", "rhn"):
    units = hidden_size_for_budget(name, PARAMETERS)
    cells = [
        CELLS[name](88, units, generator=torch.Generator().manual_seed(seed))
        for seed in range(SEEDS)
    ]
    runs = gersgorin.compare(cells, pieces, over=("seeds", "sequences"))[0]
    low, middle, high = np.quantile(runs.log_norm_product[:, STEPS - 1] / STEPS, (0.1, 0.5, 0.9))
    life = f"{-np.log(2) / middle:.3g} steps" if middle < 0 else "does not shrink"
    print(f"{name:<10}{units:>6}{middle:>10.3f}{low:>8.3f}{high:>8.3f}   {life}")
