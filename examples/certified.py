"""What is certain of a gradient: bounds along a run from windows of steps, and eigenvalues in discs that hold whatever rounding did."""

import torch

import gersgorin
from rhn.cells import GRU
from rhn.data import chorale

x = torch.as_tensor(chorale("bwv269")).double()[:40]
cell = GRU(88, 24, init="uniform:0.3", generator=torch.Generator().manual_seed(0), dtype=torch.float64)

bounds = gersgorin.certified_bounds(cell, x, title="GRU, 24 units", unit="quarter notes")
print(bounds)

A = gersgorin.temporal_jacobian(cell, x, gersgorin.trajectory(cell, x)[:-1])
inside = sum(gersgorin.verified_eigenvalues(step).none_outside for step in A)
print(f"certainly no eigenvalue outside the unit circle: {inside} of {len(A)} steps")
