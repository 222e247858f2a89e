"""Wrong keywords and swapped arguments are refused in terms of the function that was called."""

import inspect
import itertools

import numpy as np
import pytest
import torch
from tables import for_each
from torch import nn

import gersgorin
from gersgorin.analyses import ANALYSES
from rhn.cells import GRU, RHN
from rhn.errors import InvalidInputError

X = torch.randn(8, 2, 3)
MODEL = nn.LSTM(3, 4)
CELL = RHN(3, 4)

NUMBERS = torch.randn(8, 3)
CELL_OF_3 = GRU(3, 6)


@pytest.mark.parametrize("over", [None, "seeds"])
def test_a_figure_takes_what_its_plot_takes_and_refuses_the_rest(over):
    found = gersgorin.compare([RHN(3, 4), RHN(3, 4)], NUMBERS, over=over)
    found = found if over is None else found[0]
    assert found.figure(step=2, limit=0.5, legend=False).axes
    with pytest.raises(TypeError, match=r"\.(plot|figure)\(\) got an unexpected .* 'colour'"):
        found.figure(colour="red")
    with pytest.raises(InvalidInputError, match="limit is -1: expected a number from 1e-30"):
        found.figure(limit=-1)
    with pytest.raises(InvalidInputError, match="ax is 'x': expected axes of matplotlib"):
        found.plot("x")


@for_each("name", ["spectra", "lyapunov"])
def test_the_signature_of_a_function_lists_the_keywords_that_it_passes_on(name):
    known = inspect.signature(getattr(gersgorin, name)).parameters
    assert {"state_size", "submodule"} <= {*known}
    assert not [p for p in known.values() if p.kind is p.VAR_KEYWORD]


NUMPY = {
    "leading": lambda n: gersgorin.spectra(CELL_OF_3, NUMBERS, leading=n).eigenvalues,
    "count": lambda n: gersgorin.lyapunov(CELL_OF_3, NUMBERS, count=n).exponents,
    "state_size": lambda n: gersgorin.spectra(lambda x, s: s / 2, NUMBERS, state_size=n).norm,
    "side": lambda n: gersgorin.pseudospectra(CELL_OF_3, NUMBERS, side=n).sigma,
    "starts": lambda n: gersgorin.fixed_points(CELL_OF_3, NUMBERS, starts=n).states,
    "layer": lambda n: gersgorin.spectra(nn.GRU(3, 4, 3), NUMBERS, layer=n).eigenvalues.shape,
    "feature": lambda n: gersgorin.influence(nn.LSTM(4, 4), torch.rand(5, 4), feature=n).feature,
    "probes": lambda n: gersgorin.influence(MODEL, X[:, 0], probes=n).influence,
    "workers": lambda n: gersgorin.linalg.eigenvalues(torch.eye(3), workers=n),
    "state_bound": lambda n: gersgorin.norm_bound(CELL, n).item(),
    "step": lambda n: gersgorin.spectra(CELL_OF_3, NUMBERS).drawn_step(n),
    "every": lambda n: gersgorin.Recorder(nn.GRU(3, 4), NUMBERS, every=n).recording.radius.shape,
}


@for_each("name", NUMPY)
def test_numbers_of_numpy_are_numbers(name):
    np.testing.assert_array_equal(NUMPY[name](np.int64(3)), NUMPY[name](3))


def test_a_device_of_torch_is_a_device():
    found = gersgorin.spectra(CELL_OF_3, NUMBERS, device=torch.device("cpu"))
    assert np.array_equal(found.norm, gersgorin.spectra(CELL_OF_3, NUMBERS).norm)


META = (
    nn.LSTM(3, 4, device="meta"),
    nn.Sequential(nn.GRU(3, 4, device="meta")),
    RHN(3, 4, device="meta"),
)
ALL = "Recorder", "compare", *ANALYSES


@for_each(("module", "name"), itertools.product(META, ALL))
def test_a_module_on_the_meta_device_is_refused_as_that(module, name):
    with pytest.raises(InvalidInputError, match="is on the meta device"):
        getattr(gersgorin, name)(module, NUMBERS)
