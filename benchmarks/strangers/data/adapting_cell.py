"""A rate network whose units tire: its state is the rates v and the tiredness a (10 units each)."""
import torch
from torch import nn


class AdaptingCell(nn.Module):
    def __init__(self, n_in=3, n_units=10, leak=0.2, memory=0.9, strength=0.8):
        super().__init__()
        generator = torch.Generator().manual_seed(18)
        self.W = nn.Parameter(torch.randn(n_units, n_in, generator=generator) * 0.5)
        self.R = nn.Parameter(torch.randn(n_units, n_units, generator=generator) * 1.1 / n_units**0.5)
        self.b = nn.Parameter(torch.zeros(n_units))
        self.leak, self.memory, self.strength = leak, memory, strength

    def start(self):
        return torch.zeros(len(self.b)), torch.zeros(len(self.b))

    def forward(self, x, state):
        v, a = state
        drive = x @ self.W.T + v @ self.R.T + self.b - self.strength * a
        return (1 - self.leak) * v + self.leak * torch.tanh(drive), self.memory * a + (1 - self.memory) * v
