"""Results as datasets of xarray: named axes, and the numbers of the result."""

import sys

import numpy as np
import pytest
import torch

import gersgorin
from rhn.cells import RHN, RNN
from rhn.errors import InvalidInputError

d = torch.float64


def network(seed=0):
    return RNN(3, 4, dtype=d, generator=torch.Generator().manual_seed(seed))


def sequence():
    return torch.rand(30, 3, dtype=d, generator=torch.Generator().manual_seed(1))


def test_without_xarray_a_sentence_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(InvalidInputError, match="pip install xarray"):
        gersgorin.products(network(), sequence()).to_xarray()


@pytest.fixture(scope="module")
def xarray():
    return pytest.importorskip("xarray", reason="xarray is optional")


@pytest.mark.parametrize(
    "analysis",
    [
        gersgorin.spectra,
        gersgorin.products,
        gersgorin.gains,
        gersgorin.lyapunov,
        gersgorin.fixed_points,
        gersgorin.influence,
        gersgorin.pseudospectra,
    ],
)
def test_every_array_of_a_result_is_a_variable(analysis, xarray):
    found = analysis(network(), sequence())
    data = found.to_xarray()
    arrays = {k: v for k, v in vars(found).items() if isinstance(v, np.ndarray)}
    assert {*data.variables} == {*arrays}
    for name, array in arrays.items():
        np.testing.assert_array_equal(data[name].values, array)
    assert data.attrs["kind"] == found.kind and data.attrs["title"] == found.title


def test_a_step_and_an_eigenvalue_are_chosen_by_their_names(xarray):
    found = gersgorin.spectra(network(), sequence())
    chosen = found.to_xarray().eigenvalues.isel(step=7, eigenvalue=0)
    assert complex(chosen) == found.eigenvalues[7, 0]
    leading = gersgorin.spectra(network(), sequence(), leading=2).to_xarray()
    assert leading.sizes["eigenvalue"] == 2 and leading.sizes["step"] == 30


def test_gates_are_by_step_and_layer(xarray):
    cell = RHN(3, 4, 2, dtype=d, generator=torch.Generator().manual_seed(0))
    assert dict(gersgorin.gates(cell, sequence()).to_xarray().sizes) == {"step": 30, "layer": 2}


def test_runs_of_several_seeds_have_the_seed_as_coordinate(xarray):
    cells = [network(seed) for seed in range(3)]
    (bands,) = gersgorin.compare({"rnn": cells}, sequence(), over="seeds").results.values()
    data = bands.to_xarray()
    assert data.spectral_radius.dims == ("seed", "step")
    chosen = data.spectral_radius.sel(seed=bands.seed[2]).values
    np.testing.assert_array_equal(chosen, bands.spectral_radius[2])


def test_several_results_are_a_tree(xarray):
    found = gersgorin.compare({"a": network(), "b": network(1)}, sequence(), analysis="products")
    tree = found.to_xarray()
    assert {*tree.children} == {*found}
    np.testing.assert_array_equal(tree["b"]["log_norm"].values, found["b"].log_norm)


def test_a_recording_is_by_steps_of_training(xarray):
    recorder = gersgorin.Recorder(network(), sequence(), every=2)
    for step in (2, 4):
        recorder.measure(step)
    data = recorder.recording.to_xarray()
    assert data.step.values.tolist() == [0, 2, 4]
    assert data.radius.sel(step=4).dims == ("position",)
