"""Each figure takes what the function of its name measured: one record as well as a list of them."""

import pytest
import torch

import gersgorin
from gersgorin.comparison.runs import PANELS
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
        "comparison": gersgorin.measure(cell, x),
        "credit": gersgorin.credit(model, frames[:-1], frames[1:]),
    }


@pytest.mark.parametrize("name", ["lyapunov", "fixed_points", "bounds", "ensembles", "comparison", "credit"])
def test_one_record_is_drawn_as_a_list_of_it(name, records):
    draw, record = getattr(gersgorin, f"draw_{name}"), records[name]
    alone, listed = draw(record), draw([record])
    assert alone.get_suptitle() == listed.get_suptitle() and "on ," not in alone.get_suptitle()
    assert [ax.get_title() for ax in alone.axes] == [ax.get_title() for ax in listed.axes]
    assert not any(ax.get_title().startswith("\n") for ax in alone.axes)
    with pytest.raises(InvalidInputError, match="nothing to draw"):
        draw([])


def test_axes_take_one_record_too(records):
    assert len(gersgorin.plot_lyapunov(records["lyapunov"]).containers) == 1
    ax = gersgorin.plot_bands(records["ensembles"])
    assert ax.get_ylabel() == PANELS["log_norm_product"]
    other = gersgorin.compare(RNN(3, 6, dtype=torch.float64, generator=g), x)
    (legend,) = gersgorin.plot_bands([records["ensembles"], other]).figure.legends
    assert len(legend.get_texts()) == 2
    with pytest.raises(InvalidInputError, match="expected one of spectral_radius"):
        gersgorin.plot_bands(records["ensembles"], "radius")
