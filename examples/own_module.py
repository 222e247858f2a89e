"""A whole network that is not ours: its recurrent part is found, and everything measured of it on data of one's own."""

import torch
from torch import nn

import gersgorin


class Forecaster(nn.Module):
    """Two numbers a step are predicted from those before, by two layers of GRU behind an encoder."""

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

whole, what_it_reads = gersgorin.extract_cell(model, x)
for layer in (1, 2):
    cell, read = gersgorin.extract_cell(model, x, layer=layer)
    A = gersgorin.temporal_jacobian(cell, read, gersgorin.trajectory(cell, read)[:-1])
    print(f"layer {layer}: mean spectral radius {gersgorin.spectral_radius(A).mean():.3f}")
