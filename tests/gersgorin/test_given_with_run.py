"""A run has read its sequence: what it cannot take is refused."""

import pytest
import torch
from torch import nn

import gersgorin
from rhn.errors import InvalidInputError

X = torch.randn(9, 3, generator=torch.Generator().manual_seed(0)).double()
OTHER = torch.ones(5, 3).double()
ANALYSES = ("spectra", "products", "gains", "gates", "lyapunov", "pseudospectra", "fixed_points")
GIVEN = {
    "x": OTHER,
    "device": "nonsense",
    "unit": "seconds",
    "layer": 1,
    "submodule": "rnn",
    "batch_axis": 0,
    "state_size": 4,
}


@pytest.fixture(scope="module")
def run():
    torch.manual_seed(0)
    return gersgorin.open_run(nn.GRU(3, 4), X)


@pytest.mark.parametrize("name", GIVEN)
def test_what_a_run_cannot_take_is_refused(run, name):
    for analysis in ANALYSES:
        with pytest.raises(InvalidInputError, match=rf"{name} is given with a Run"):
            getattr(gersgorin, analysis)(run, **{name: GIVEN[name]})


def test_a_run_takes_a_first_state_and_gates(run):
    s0 = torch.full((4,), 0.5).double()
    found = gersgorin.spectra(run, s0=s0)
    assert torch.equal(torch.as_tensor(found.run.states[0]), s0)
    gates = gersgorin.gates(run, gates=lambda x, s: torch.sigmoid(s))
    assert gates.mean.shape == (9, 1)


@pytest.mark.parametrize(
    ("analysis", "third"),
    [(name, torch.zeros(4)) for name in ANALYSES] + [("influence", "squared"), ("open_run", None)],
)
def test_further_arguments_have_names(analysis, third):
    with pytest.raises(TypeError, match="positional arguments"):
        getattr(gersgorin, analysis)(nn.GRU(3, 4), X, third)
