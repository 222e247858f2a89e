"""Results and messages say how a module read the axes of its input."""

import pytest
import torch
from torch import nn

import gersgorin
from rhn.errors import InvalidInputError

B, T, M, N = 4, 7, 3, 5


class Minimal(nn.Module):
    """A cell with a step, whose own forward reads (B, T, m)."""

    state_size = N

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(M + N, N)

    def step(self, x, s):
        return torch.tanh(self.gate(torch.cat([x, s], -1)))


class Loop(nn.Module):
    """A loop over the frames of (B, T, m)."""

    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(M, N)

    def forward(self, x):
        h, c = x.new_ones(2, len(x), N)
        for t in range(x.shape[1]):
            h, c = self.cell(x[:, t], (h, c))
        return h


@pytest.fixture
def x():
    return torch.randn(B, T, M, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("module", "layout", "instead"),
    [
        (Minimal(), lambda x: x[:1], r"x\[0\] of shape \(T, m\), or x.transpose"),
        (Loop(), lambda x: x[:1].transpose(0, 1), "give x.transpose"),
        (nn.LSTM(M, N, batch_first=True), lambda x: x[:1].transpose(0, 1), "give x.transpose"),
    ],
    ids=["step", "own loop", "torch.nn"],
)
def test_one_step_of_several_sequences_is_refused(x, module, layout, instead):
    with pytest.raises(
        InvalidInputError, match=rf"x is read as \(T=1, B=7, m=3\), one step of 7 sequences: .*{instead}"
    ):
        gersgorin.analyze(module, layout(x))


def test_several_sequences_are_refused_as_they_are_read(x):
    loop, _ = gersgorin.extract_cell(Loop(), x)
    for measure, words in {
        lambda: gersgorin.spectra(Loop(), x): r"x is read as 4 sequences of 7 steps: expected one, x\[:1\]",
        lambda: gersgorin.memory(Loop(), x): r"expected one sequence.*x\[:, :1\]",
        lambda: gersgorin.lyapunov(loop): "the run has 4 sequences: expected that of one",
    }.items():
        with pytest.raises(InvalidInputError, match=words):
            measure()


def test_packed_sequences_are_read_without_their_padding():
    class Packs(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.GRU(3, 4)

        def forward(self, x):
            packed = nn.utils.rnn.pack_padded_sequence(x, [3, 6], enforce_sorted=False)
            return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0])[0]

    cell, inputs = gersgorin.extract_cell(Packs(), torch.randn(6, 2, 3))
    assert len(gersgorin.spectra(cell, inputs[:, 0]).spectral_radius) == 3
