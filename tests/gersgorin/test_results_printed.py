"""Every result, printed, fits a screen and says what it holds."""

import pytest
import torch
from tables import for_each

import gersgorin
from rhn.cells import RHN, RNN
from rhn.models import PolyphonicModel
from rhn.utils.result import COLUMNS, LINES

g = torch.Generator().manual_seed(0)
x = torch.randn(30, 3, dtype=torch.float64, generator=g)


def recorded():
    with gersgorin.Recorder(RNN(3, 5, generator=g), x.float()) as recorder:
        return recorder.recording


@pytest.fixture(scope="module")
def found() -> dict:
    cell, deep = RNN(3, 5, dtype=torch.float64, generator=g), RHN(3, 6, 10, dtype=torch.float64, generator=g)
    model = PolyphonicModel("rnn", hidden_size=5, input_size=3, output_size=3, generator=g)
    frames = (torch.rand(9, 1, 3, generator=g) > 0.5).float()
    return {
        "analyze": gersgorin.analyze(deep, x),
        "analyze a model": gersgorin.analyze(model, frames),
        "ensemble": gersgorin.compare(cell, x),
        "recording": recorded(),
        "check": gersgorin.check(model, frames, learning_rate=0.1, steps=3),
    }


@for_each("name", ["analyze", "analyze a model", "ensemble", "recording", "check"])
def test_a_result_fits_a_screen(found, name):
    lines = repr(found[name]).split("\n")
    assert len(lines) <= LINES and max(map(len, lines)) <= COLUMNS, repr(found[name])[:3000]
    assert str(found[name]).count("\n") < LINES
