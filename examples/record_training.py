"""Record a training run in plain PyTorch: does an LSTM learn to repeat its input of ten steps ago?

Writes run.npz; `gersgorin recording run.npz` draws it.
"""

import torch
from torch import nn

from gersgorin import Recorder

LAG, STEPS, UNITS = 10, 40, 32
generator = torch.Generator().manual_seed(0)


class Repeater(nn.Module):
    """An LSTM trained to repeat its input of `LAG` steps ago."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(2, UNITS)
        self.head = nn.Linear(UNITS, 2)

    def forward(self, x):
        return self.head(self.rnn(x)[0])


def batch():
    """Draw one-hot inputs (STEPS, 32, 2) and targets (STEPS, 32): the symbols of `LAG` steps
    ago.
    """
    symbols = torch.randint(2, (STEPS, 32), generator=generator)
    return nn.functional.one_hot(symbols, 2).float(), symbols.roll(LAG, 0)


torch.manual_seed(0)
model = Repeater()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
probe = batch()[0][:, 0]  # one sequence
with Recorder(model, probe, every=100, path="run.npz") as recorder:
    for _ in range(400):
        x, y = batch()
        loss = nn.functional.cross_entropy(model(x)[LAG:].flatten(0, 1), y[LAG:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recorder.step(loss)

print(recorder.recording)
