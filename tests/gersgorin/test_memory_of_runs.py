"""Analyses of whole Jacobians look at the free memory before they compute, in Python as in
commands; a recorder and the states of a run do not.
"""

import numpy as np
import pytest
import torch
from torch import nn

import gersgorin
from gersgorin.linalg import pseudospectrum, singular_values
from rhn.errors import InvalidInputError

NETWORK, X = nn.GRU(3, 4), torch.rand(6, 3)
ANALYSES = {
    "spectra": gersgorin.spectra,
    "products": gersgorin.products,
    "gains": gersgorin.gains,
    "lyapunov": gersgorin.lyapunov,
    "pseudospectra": gersgorin.pseudospectra,
    "fixed points": gersgorin.fixed_points,
    "compare": lambda network, x: gersgorin.compare({"a": network}, x),
}


@pytest.fixture
def little(monkeypatch):
    """As many free bytes as 32 copies of two of the six Jacobians need."""
    monkeypatch.setattr("rhn.utils.resources.free_memory", lambda _: 8 * 32 * 2 * 4**2)


@pytest.mark.parametrize("name", ANALYSES)
def test_an_analysis_whose_jacobians_do_not_fit_is_refused(name, little):
    with pytest.raises(InvalidInputError, match=r"^a state of 4 over 6 steps needs about 0\.0 GiB"):
        ANALYSES[name](NETWORK, X)


@pytest.mark.parametrize("entries", [2**22, 4])
def test_a_pseudospectrum_needs_two_blocks_of_matrices_and_four_numbers_a_point(
    entries, monkeypatch
):
    A, grid = torch.eye(3).expand(2, 3, 3), torch.zeros(5, 5)
    numbers = 2 * max(entries, 3 * 3) + 4 * 2 * 25
    needed = numbers * torch.complex128.itemsize
    monkeypatch.setattr(singular_values, "ENTRIES", entries)
    monkeypatch.setattr("rhn.utils.resources.free_memory", lambda _: needed)
    assert pseudospectrum(A, grid).shape == (2, 5, 5)
    monkeypatch.setattr("rhn.utils.resources.free_memory", lambda _: needed - 1)
    with pytest.raises(InvalidInputError, match=r"^a matrix of 3 and 50 points needs about"):
        pseudospectrum(A, grid)


def test_a_command_says_the_same(little, command):
    found = command("gersgorin gains --cell rnn --hidden-size 4 --steps 6")
    assert found.code == 2 and found.err.startswith("error: a state of 4 over 6 steps needs about")


def test_states_gates_and_a_recorder_are_not_refused(little):
    assert len(gersgorin.open_run(NETWORK, X)) == len(gersgorin.gates(NETWORK, X).mean)
    recorder = gersgorin.Recorder(NETWORK, X)
    recorder.measure(1)
    assert np.isfinite(recorder.recording.radius).all()
