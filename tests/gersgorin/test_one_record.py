"""Each figure takes what the function of its name measured: one record as well as a list of them."""

from importlib import import_module

import pytest
import torch

import gersgorin
from rhn.cells import RNN
from rhn.errors import InvalidInputError
from rhn.models import PolyphonicModel

g = torch.Generator().manual_seed(0)
cell, x = RNN(3, 5, dtype=torch.float64, generator=g), torch.randn(30, 3, dtype=torch.float64, generator=g)


@pytest.fixture(scope="module")
def records() -> dict:
    model = PolyphonicModel("rnn", hidden_size=5, input_size=3, output_size=3, generator=g)
    frames = (torch.rand(9, 1, 3, generator=g) > 0.5).float()
    return {
        "lyapunov": gersgorin.lyapunov(cell, x, 2),
        "fixed_points": gersgorin.fixed_points(cell, x[0], torch.zeros(4, 5, dtype=torch.float64)),
        "bounds": gersgorin.bounds(cell, x),
        "ensembles": gersgorin.compare(cell, x),
        "comparison": gersgorin.spectra(cell, x),
        "credit": gersgorin.credit(model, frames[:-1], frames[1:]),
    }


DRAW = {
    "lyapunov": "analyses.lyapunov.draw_lyapunov",
    "fixed_points": "analyses.fixed_points.draw_fixed_points",
    "bounds": "analyses.bounds.draw_bounds",
    "ensembles": "comparison.plots.draw_bands",
    "comparison": "comparison.plots.draw_comparison",
    "credit": "analyses.credit.draw_credit",
}


@pytest.mark.parametrize("name", DRAW)
def test_one_record_is_drawn_as_a_list_of_it(name, records):
    module, _, function = DRAW[name].rpartition(".")
    draw, record = getattr(import_module(f"gersgorin.{module}"), function), records[name]
    alone, listed = draw(record), draw([record])
    assert alone.get_suptitle() == listed.get_suptitle() and "on ," not in alone.get_suptitle()
    assert [ax.get_title() for ax in alone.axes] == [ax.get_title() for ax in listed.axes]
    assert not any(ax.get_title().startswith("\n") for ax in alone.axes)
    with pytest.raises(InvalidInputError, match="nothing to draw"):
        draw([])
