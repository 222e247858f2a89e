"""Ask `trainability.check` before training whether three networks will learn the adding problem
with Adam, and compare the answers with what happened.
"""

import torch
from torch import nn

import trainability

STEPS = 3000
SECONDS, T = 30, 50
HAPPENED = {"RNN": None, "LSTM": 2337, "GRU": 850}
"""Optimiser steps until 50 losses in a row were below 0.9 of the constant predictor's; None: not in
3,000 steps.
"""


class Adder(nn.Module):
    """A network that reads (B, T, 2) and returns one number for each sequence."""

    def __init__(self, cell: str):
        super().__init__()
        self.rnn, self.out = getattr(nn, cell)(2, 64, batch_first=True), nn.Linear(64, 1)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


def adding(count: int = 2000) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sequences of random numbers of which two are marked; the target is the sum of these
    two.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(count, T, 2, generator=generator)
    x[:, :, 1] = 0
    for half in (range(T // 2), range(T // 2, T)):
        marked = torch.randint(half.start, half.stop, (count,), generator=generator)
        x[torch.arange(count), marked, 1] = 1
    return x, x.prod(-1).sum(1, keepdim=True)


for cell, happened in HAPPENED.items():
    torch.manual_seed(0)
    model, (x, y) = Adder(cell), adding()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    found = trainability.check(model, x, y, nn.MSELoss(), optimizer, steps=STEPS, seconds=SECONDS)
    print(f"{cell}: {found.verdict} {found.foreseen}".rstrip())
    print(f"    in a training run: {happened or 'not'} in {STEPS} steps")
