"""Analyse your own module on your own data: extract its recurrent cell and measure it."""

import torch
from torch import nn

import gersgorin


class Forecaster(nn.Module):
    """Predict two numbers per step by an encoder and two layers of GRU."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, 8), nn.Tanh())
        self.rnn = nn.GRU(8, 16, num_layers=2)
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        return self.head(self.rnn(self.encoder(x))[0])


torch.manual_seed(0)
model = Forecaster()
t = torch.arange(60) / 5
x = torch.stack((t.sin(), t.cos()), -1)  # (T, m)

found = gersgorin.analyze(model, x)
print(found.title)
print(found.summary())

for layer in (1, 2):
    cell, read = gersgorin.extract_cell(model, x, layer=layer)
    A = gersgorin.temporal_jacobian(cell, read, gersgorin.trajectory(cell, read)[:-1])
    print(f"layer {layer}: mean spectral radius {gersgorin.linalg.spectral_radius(A).mean():.3f}")
