"""A cell starts alike in every command: as it does by itself, torch.nn's as torch does, unless
--init says otherwise.
"""

import json

import numpy as np
import pytest
import torch
from torch import nn

from gersgorin import spectra
from gersgorin.cli.load import load_network
from gersgorin.cli.options import NewOrTrained
from rhn.cli.main import main as rhn
from rhn.models import LanguageModel, PolyphonicModel
from rhn.presets import preset
from rhn.training.ensemble import build_model

UNITS = 16
LIMIT = UNITS**-0.5  # within which torch draws


class OwnCell(nn.GRU):
    """A cell of a user's that takes no scheme, with weights that it draws as constants."""

    def __init__(self, input_size, hidden_size, depth=1, device=None, dtype=None):
        super().__init__(input_size, hidden_size, device=device, dtype=dtype)
        for p in self.parameters():
            nn.init.constant_(p, 0.125)


def largest(module: nn.Module) -> float:
    return max(p.abs().max().item() for p in module.parameters())


@pytest.fixture
def x(own_folder):
    np.save("x.npy", np.random.default_rng(0).random((6, 3)))


def test_torch_s_cells_start_as_torch_does_in_plot_and_train(x):
    radii = [
        spectra(
            load_network(NewOrTrained(cell=cell, hidden_size=UNITS, init=init), 3)[0], "x.npy"
        ).spectral_radius
        for cell, init in (("torch.nn:LSTM", None), ("lstm", f"uniform:{LIMIT}"))
    ]
    assert np.array_equal(*radii)
    trained = build_model(preset("jsb-depth-1", cell="torch.nn:GRU"))
    assert 0.9 * trained.hidden_size**-0.5 < largest(trained.cells) <= trained.hidden_size**-0.5


def test_a_language_model_of_torch_s_cell_starts_so_too_unless_told(capsys):
    for words, init in (([], None), (["--init", "gaussian:0.1"], "gaussian:0.1")):
        assert (
            rhn(
                [
                    "train",
                    "ptb-sota",
                    "--cell",
                    "torch.nn:LSTM",
                    "--depth",
                    "1",
                    *words,
                    "--print-config",
                ]
            )
            == 0
        )
        assert json.loads(capsys.readouterr().out)["init"] == init
    model = LanguageModel("torch.nn:LSTM", vocabulary_size=50, hidden_size=UNITS, init=None)
    assert 0.9 * LIMIT < largest(model) <= LIMIT


def test_a_cell_of_a_user_s_own_keeps_its_start():
    model = PolyphonicModel(
        OwnCell, hidden_size=4, init=None, generator=torch.Generator().manual_seed(0)
    )
    assert (model.cells[0].weight_hh == 0.125).all() and model.config()["init"] is None


def test_presets_keep_the_start_that_they_name():
    assert preset("jsb-depth-2").init_std == preset("jsb-depth-2", cell="lstm").init_std == 0.05
    assert preset("ptb-sota").init == "uniform:0.04"
