"""Networks that tests share: ways in which users put a recurrence into a module.

Sequences are (B, T, m), unless the layer or an argument says otherwise.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rhn.cells import Cell


class LastState(nn.Module):
    """The last output of a recurrent layer, through a linear layer."""

    def __init__(self, outputs=1, kind="GRU", units=8, inputs=2, **how):
        super().__init__()
        self.rnn = getattr(nn, kind)(inputs, units, batch_first=True, **how)
        self.out = nn.Linear(units * (1 + self.rnn.bidirectional), outputs)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


class EachState(LastState):
    """An output of every time step."""

    def forward(self, x):
        return self.out(self.rnn(x)[0])


class Packed(EachState):
    """Packs padded sequences; returns all outputs, or with `last` the last one of each."""

    def __init__(self, *sizes, last=False, **how):
        super().__init__(*sizes, **how)
        self.last = last

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        outputs, state = self.rnn(packed)
        steps = {"batch_first": True, "total_length": x.shape[1]}
        return self.out(state[0] if self.last else pad_packed_sequence(outputs, **steps)[0])


class Kept(LastState):
    """Begins each call from the state of the last call, zeros at first."""

    def __init__(self, *sizes, most=32, **how):
        super().__init__(*sizes, **how)
        self.state = torch.zeros(1, most, self.rnn.hidden_size)

    def forward(self, x):
        outputs, self.state = self.rnn(x, self.state[:, : len(x)].to(x).detach())
        return self.out(outputs[:, -1])


class Masked(nn.Module):
    """Attention whose mask is minus infinity for later steps; the last output."""

    def __init__(self, inputs=2):
        super().__init__()
        self.attend = nn.MultiheadAttention(inputs, 1, batch_first=True)
        self.out = nn.Linear(inputs, 1)

    def forward(self, x):
        mask = torch.full((x.shape[1],) * 2, -torch.inf).triu(1)
        return self.out(self.attend(x, x, x, attn_mask=mask)[0][:, -1])


class Embedded(nn.Module):
    """A network of numbers that reads ids through an embedding."""

    def __init__(self, inner: nn.Module, words: int, size: int):
        super().__init__()
        self.embed, self.inner = nn.Embedding(words, size), inner

    def forward(self, ids):
        return self.inner(self.embed(ids))


class Projected(nn.Module):
    """A projection or an embedding, a recurrent layer, and outputs."""

    def __init__(self, layer: nn.Module, inputs: int, units: int, ids: bool = False):
        super().__init__()
        self.read = nn.Embedding(9, inputs) if ids else nn.Linear(inputs, inputs)
        self.rnn, self.out = layer, nn.Linear(units, 2)

    def forward(self, x, mask=None):
        return self.out(self.rnn(self.read(x).relu())[0])


class Stacked(nn.Module):
    """Two layers of which one reads the other, and an output, of (T, B, m)."""

    def __init__(self, inputs=5, units=(4, 3)):
        super().__init__()
        self.a, self.b = nn.GRU(inputs, units[0]), nn.GRU(*units)
        self.out = nn.Linear(units[1], inputs)

    def forward(self, x):
        return self.out(self.b(self.a(x)[0])[0])


class OwnLoop(nn.Module):
    """A loop over a cell of torch.nn, which hands the state on by a function."""

    def __init__(self, cell: nn.Module, hand_on: Callable = lambda state: state, batch_first=True):
        super().__init__()
        self.cell, self.hand_on, self.batch_first = cell, hand_on, batch_first

    def forward(self, x: Tensor) -> Tensor:
        zeros: Any = x.new_zeros(x.shape[not self.batch_first], self.cell.hidden_size)
        state = (zeros, zeros) if isinstance(self.cell, nn.LSTMCell) else zeros
        outputs = []
        for x_t in x.unbind(int(self.batch_first)):
            state = self.cell(x_t, self.hand_on(state))
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs, int(self.batch_first))


class WithState(nn.Module):
    """(x, (h, c)) -> (output, (h, c)) of a batch, around a cell of torch.nn."""

    def __init__(self, inputs: int, units: int):
        super().__init__()
        self.cell = nn.LSTMCell(inputs, units)

    def forward(self, x, state=None):
        h, c = self.cell(x, state)
        return 2 * h, (h, c)


class Layered(nn.Module):
    """(x, state) -> (output, state) of sequences, through an embedding or as numbers."""

    def __init__(self, inputs: int, units: int, batch_first=False, ids=False):
        super().__init__()
        self.embed = nn.Embedding(7, inputs) if ids else nn.Identity()
        self.rnn = nn.GRU(inputs, units, 2, batch_first=batch_first)

    def forward(self, x, state=None):
        return self.rnn(self.embed(x), state)


class Vectors(nn.Module):
    """step(x, s) of one row, or of rows."""

    def __init__(self, inputs: int, units: int):
        super().__init__()
        self.state_size = units
        self.W, self.B = nn.Linear(units, units), nn.Linear(inputs, units)

    def step(self, x, s):
        return torch.tanh(self.W(s) + self.B(x))


class OnlyStep(Cell):
    """A cell with only a step."""

    def __init__(self, inputs: int, units: int):
        super().__init__(inputs, units)
        self.W = nn.Linear(inputs + units, units)

    def step(self, x, s):
        return torch.tanh(self.W(torch.cat((x, s), -1)))


class Diagonal(nn.Module):
    """A diagonal linear recurrence with complex weights, one of them a buffer."""

    def __init__(self, inputs: int, state_size: int | None = 2):
        super().__init__()
        if state_size:
            self.state_size = state_size
        self.B = nn.Parameter(torch.rand(2, inputs, dtype=torch.cfloat))
        rates = torch.polar(torch.tensor([0.99, 0.8]), torch.tensor([1.2, 2]))
        self.register_buffer("rates", rates)

    def forward(self, x, s):
        return self.rates * s + x.to(self.B.dtype) @ self.B.T
