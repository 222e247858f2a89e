"""`gersgorin.spectra` finds what the command and `analyze` find, whatever way the network and its input are given."""

import json

import numpy as np
import pytest
import torch
from tables import for_each
from torch import nn

import gersgorin
from gersgorin.cli.plot import main
from rhn.cells import RHN
from rhn.data import chorale
from rhn.errors import RhnError
from rhn.utils.io import finite_json


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def numbers(found) -> list:
    """Of every step, None for what is NaN."""
    return finite_json(found.table())


def command(capsys, *args: str) -> dict:
    assert main([*args, "--json", "--output", "drawn.png"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_cell_by_name_is_what_the_command_measures(capsys):
    found = gersgorin.spectra("rhn", "bwv66.6", depth=2, hidden_size=6, init="gaussian:0.3", seed=4, steps=5)
    told = ["--depth", "2", "--hidden-size", "6", "--init", "gaussian:0.3", "--seed", "4", "--steps", "5"]
    result = command(capsys, *told, "--chorale", "bwv66.6")
    assert numbers(found) == result["steps"] and found.title == "rhn, depth 2, 6 units"
    assert found.about.startswith("gaussian:0.3, transform bias -2, seed 4; first 5 of 37 frames of train-")


def test_a_module_reads_as_in_analyze_and_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(3, 4), nn.LSTM(4, 5, num_layers=2))
    x = torch.rand(7, 1, 3)
    found = gersgorin.spectra(model, x, discs="column")
    as_analyzed = numbers(gersgorin.analyze(model, x).spectra)
    assert numbers(found) != as_analyzed  # of other discs
    assert numbers(gersgorin.spectra(model, x)) == as_analyzed
    assert found.heading == "LSTM, 2 layers, 5 units on sequence of 7 x 1 x 3" and found.discs == "column"
    assert model[0].weight.dtype == torch.float32


def test_numbers_pieces_and_files_are_read_alike():
    piece = chorale("bwv269")[:6]
    np.save("x.npy", np.asarray(piece, dtype=float))
    ways = [gersgorin.spectra("gru", x, hidden_size=4) for x in (piece, torch.tensor(np.asarray(piece)), "x.npy")]
    assert numbers(ways[0]) == numbers(ways[1]) == numbers(ways[2])
    assert [way.along for way in ways] == ["chorale bwv269", "sequence of 6 x 88", "sequence x.npy"]
    assert [way.unit for way in ways] == ["quarter notes", "steps", "steps"]
    wave = gersgorin.spectra("gru", np.sin(np.arange(9.0)), hidden_size=4, unit="0.1 s")
    assert wave.eigenvalues.shape == (9, 4) and wave.unit == "0.1 s"


@for_each(
    ("given", "said"),
    [
        ({"network": 3}, "expected a torch module with a recurrent cell, got int"),
        ({"network": RHN(88, 4), "depth": 2}, "depth is for a new cell"),
        ({"x": [1.0]}, "x is a list"),
        ({"x": torch.ones(2, 3, 4)}, "shape (2, 3, 4)"),
        ({"discs": "rows"}, "expected one of row, column, both"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_measured_is_told_in_a_sentence(given, said):
    with pytest.raises(RhnError) as raised:
        gersgorin.spectra(**given)
    assert said in str(raised.value)
