"""Write a cell with a closed-form Jacobian, compare the Jacobian with autograd, and analyse the
cell, alone and in a network with an output.

The cell is a residual RNN, s' = s + tanh(W x + R s + b) / 4. Its Jacobian is I + diag(1 - tanh^2) R
/ 4.
"""

import torch
from torch import nn

from gersgorin import influence, spectra, temporal_jacobian, trajectory
from rhn.cells import Cell
from rhn.data import chorale
from rhn.models import PolyphonicModel


class ResidualRNN(Cell):
    """s' = s + tanh(W x + R s + b) / 4."""

    deep = False  # one layer a step

    def __init__(
        self, input_size, hidden_size, depth=1, *, generator=None, device=None, dtype=None, **common
    ):
        super().__init__(input_size, hidden_size, depth, **common)
        where = {"device": device, "dtype": dtype}
        self.weight_ih = nn.Parameter(torch.empty(hidden_size, input_size, **where))
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, hidden_size, **where))
        self.bias = nn.Parameter(torch.empty(hidden_size, **where))
        self.reset_parameters(generator)

    def candidate(self, x, s):
        return torch.tanh(x @ self.weight_ih.T + s @ self.weight_hh.T + self.bias)

    def step(self, x, s):
        return s + self.candidate(x, s) / 4

    def jacobian(self, x, s):
        slope = 1 - self.candidate(x, s) ** 2
        return torch.eye(self.hidden_size, dtype=s.dtype) + slope[..., None] * self.weight_hh / 4


generator = torch.Generator().manual_seed(0)
cell = ResidualRNN(88, 32, init="gaussian:0.05", generator=generator, dtype=torch.float64)
x = torch.as_tensor(chorale("bwv269")).double()
s = trajectory(cell, x)[:-1]

by_autograd = temporal_jacobian(cell.step, x, s)
by_formula = temporal_jacobian(cell, x, s)
print(f"closed form and autograd differ by {(by_formula - by_autograd).abs().max():.1e}")

print(spectra(cell, x), end="\n\n")

model = PolyphonicModel(
    "__main__:ResidualRNN", hidden_size=32, init="gaussian:0.05", generator=generator
)
frames = torch.as_tensor(chorale("bwv269")).float()
print(influence(model, frames[:-1], of="bernoulli", y=frames[1:]))
