"""A cell of a user, by whose name files of version 0.7.0 were written."""

import torch
from torch import nn


class Residual(nn.Module):
    """s' = s + tanh(W x + R s) / 4, along x (T, B, m)."""

    def __init__(self, input_size, hidden_size, depth=1, *, device=None, dtype=None):
        super().__init__()
        where = {"device": device, "dtype": dtype}
        self.input_size, self.hidden_size = input_size, hidden_size
        self.read = nn.Linear(input_size, hidden_size, **where)
        self.recur = nn.Linear(hidden_size, hidden_size, bias=False, **where)

    def forward(self, x, state=None):
        s = x.new_zeros(x.shape[1], self.hidden_size) if state is None else state
        outputs = []
        for x_t in x:
            s = s + torch.tanh(self.read(x_t) + self.recur(s)) / 4
            outputs.append(s)
        return torch.stack(outputs), s
