"""Results and messages say how a module read the axes of its input."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from tables import for_each
from torch import nn

import gersgorin
from rhn.errors import InvalidInputError
from rhn.models import PolyphonicModel

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


FORMS = {
    "(T, m)": lambda x: x,
    "(T, 1, m)": lambda x: x[:, None],
    "(1, T, m)": lambda x: x[None],
    "NumPy": lambda x: x.numpy(),
    "frame": lambda x: pd.DataFrame(x.numpy(), columns=["a", "b", "c"]),
    "packed": lambda x: nn.utils.rnn.pack_padded_sequence(x[:, None], [T]),
}
NETWORKS = {
    "step": Minimal,
    "own loop": Loop,
    "torch.nn": lambda: nn.LSTM(M, N),
    "batch first": lambda: nn.LSTM(M, N, batch_first=True),
    "inside": lambda: nn.Sequential(nn.Linear(M, M), nn.GRU(M, N, batch_first=True)),
}
ANALYSES = {
    "spectra": lambda f, x: gersgorin.spectra(f, x).norm,
    "lyapunov": lambda f, x: gersgorin.lyapunov(f, x).exponents,
    "compare": lambda f, x: gersgorin.compare({"this": f}, x)["this"].norm,
    "bands": lambda f, x: gersgorin.compare(f, [x], over="sequences")[0].norm,
    "audit": lambda f, x: gersgorin.audit(f, x).growth,
    "memory": lambda f, x: gersgorin.memory(f, x).influence,
    "record": lambda f, x: gersgorin.Recorder(f, x).recording.radius,
}


@for_each(("network", "analysis"), itertools.product(NETWORKS, ANALYSES))
def test_every_form_of_one_sequence_has_one_answer(x, network, analysis):
    torch.manual_seed(0)
    module, measure = NETWORKS[network](), ANALYSES[analysis]
    if network == "step" and analysis in ("audit", "memory"):
        return  # a step reads no whole sequence
    answer = measure(module, x[0])
    for form in FORMS.values():
        np.testing.assert_allclose(measure(module, form(x[0])), answer, rtol=1e-9, atol=1e-12)


@for_each(("network", "analysis"), itertools.product(NETWORKS, ["spectra", "lyapunov", "compare", "audit", "memory"]))
def test_several_sequences_have_one_error(x, network, analysis):
    with pytest.raises(
        InvalidInputError, match=r"x of shape \(4, 7, 3\) holds several sequences: expected one, .*x\[:, :1\]"
    ):
        ANALYSES[analysis](NETWORKS[network](), x)


def test_the_run_of_several_sequences_is_no_run_of_one(x):
    loop, _ = gersgorin.extract_cell(Loop(), x)
    with pytest.raises(InvalidInputError, match="the run has 4 sequences: expected that of one"):
        gersgorin.lyapunov(loop)


def test_frames_of_one_sequence_have_one_answer(x):
    model, frames = PolyphonicModel("rnn", hidden_size=N, input_size=M, output_size=M), x[0].sigmoid().round()
    answer = gersgorin.plateau(model, frames).to_dict()
    for form in ("(T, 1, m)", "(1, T, m)", "NumPy", "frame"):
        assert gersgorin.plateau(model, FORMS[form](frames)).to_dict() == answer


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
