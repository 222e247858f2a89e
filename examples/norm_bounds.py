"""Bound a gradient along a run by windows of steps, for the Jacobians as computed."""

import torch

import gersgorin
from rhn.cells import GRU
from rhn.data import chorale

x = torch.as_tensor(chorale("bwv269")).double()[:40]
cell = GRU(88, 24, init="uniform:0.3", generator=torch.Generator().manual_seed(0), dtype=torch.float64)

bounds = gersgorin.bounds(cell, x, unit="quarter notes")
print(bounds)
