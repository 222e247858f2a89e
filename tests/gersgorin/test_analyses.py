"""Each row of the table of analyses has one result that prints, draws, saves and loads."""

import inspect
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import gersgorin
from gersgorin.analyses import ANALYSES
from gersgorin.network.sequence_map import ModelWithData
from gersgorin.results import load
from gersgorin.run.run import Label, Run
from rhn.cells import LSTM, RHN, from_torch
from rhn.errors import OutputError
from rhn.utils.old import COLUMNS, LINES

pytestmark = pytest.mark.usefixtures("unarranged")


@pytest.fixture(scope="module")
def subjects():
    generator = torch.Generator().manual_seed(0)
    cell = RHN(3, 5, 2, init="gaussian:0.4", dtype=torch.float64, generator=generator)
    x = torch.rand(12, 3, dtype=torch.float64, generator=generator)
    return {
        "run": Run.of(
            cell, x, label=Label(name="rhn", title="rhn, depth 2, 5 units", sequence="noise")
        ),
        "model": ModelWithData(model=cell, x=x, label=Label(title="rhn, depth 2, 5 units")),
    }


@pytest.fixture(scope="module", params=ANALYSES)
def result(request, subjects):
    row = ANALYSES[request.param]
    done = []
    found = row(subjects[row.needs], progress=lambda step, steps: done.append((step, steps)))
    assert done and done[-1][0] == done[-1][1]
    return found


def test_a_result_is_printed(result):
    assert result.title and isinstance(result.summary(), str) and result.summary()
    assert repr(result).count("\n") < 24 and max(map(len, repr(result).split("\n"))) <= 100


def test_a_result_of_several_runs_fits_a_screen():
    cell, x = RHN(3, 6, 10, dtype=torch.float64), torch.randn(30, 3, dtype=torch.float64)
    for found in (gersgorin.compare(cell, x), gersgorin.Recorder(cell, x).recording):
        lines = repr(found).split("\n")
        assert len(lines) <= LINES and max(map(len, lines)) <= COLUMNS, repr(found)[:3000]
        assert str(found).count("\n") < LINES


def test_a_result_is_a_table(result):
    rows = result.table()
    assert rows and all(row.keys() == rows[0].keys() for row in rows)
    json.dumps(rows)  # numbers, texts, lists and dictionaries of them


def test_a_result_is_drawn_into_given_axes_or_a_file(result, tmp_path):
    ax = plt.figure().subplots()
    assert result.plot(ax) is ax and (ax.lines or ax.images or ax.patches or ax.collections)
    plt.close("all")
    assert result.save(tmp_path / "result.png").read_bytes().startswith(b"\x89PNG")


def test_a_result_is_the_same_after_saving_and_loading(result, tmp_path):
    with pytest.raises(
        OutputError, match=r"result.xlsx: expected a name ending in .npz or .json or .csv or .png"
    ):
        result.save(tmp_path / "result.xlsx")
    again = type(result).load(result.save(tmp_path / "result.npz"))
    assert type(load(tmp_path / "result.npz")) is type(result)
    assert (
        again.title == result.title
        and again.about == result.about
        and again.summary() == result.summary()
    )
    for one, other in zip(again.table(), result.table(), strict=True):
        np.testing.assert_equal(one, other)
    json.dumps(result.to_dict(), allow_nan=False)
    assert again.to_dict().keys() == result.to_dict().keys()


@pytest.mark.parametrize("row", ANALYSES.values(), ids=ANALYSES)
def test_the_options_of_a_row_are_those_of_its_function(row):
    parameters = inspect.signature(row.load(), eval_str=True).parameters
    for name, option in row.options.items():
        given = parameters[name]
        assert (given.annotation, given.default) == (option.kind, option.default), name


@pytest.mark.parametrize("name", ["gates", "gains", "products"])
def test_analyses_of_steps_accept_a_module_and_its_input(name):
    compute, gru, x = getattr(gersgorin, name), torch.nn.GRU(3, 5), torch.rand(6, 3)
    assert compute(gru, x[:4]).table() == compute(gersgorin.open_run(gru, x[:4])).table()


@pytest.mark.parametrize(
    "cell", [LSTM(4, 5), RHN(4, 6, 3), torch.nn.GRU(4, 5)], ids=lambda cell: type(cell).__name__
)
def test_spectra_and_gains_of_a_module_are_those_of_its_cell_in_double_precision(cell):
    x = torch.rand(12, 1, 4, generator=torch.Generator().manual_seed(1))
    found, gains = gersgorin.spectra(cell, x), gersgorin.gains(cell, x)
    ours = (from_torch(cell) if isinstance(cell, torch.nn.GRU) else cell).double()
    x0 = x[:, 0].double()
    s = gersgorin.trajectory(ours, x0)[:-1].detach()
    spectrum = gersgorin.spectra(Run.of(ours, x0))
    # a small one has fewer digits
    assert found.eigenvalues == pytest.approx(spectrum.eigenvalues, abs=1e-7)
    assert found.half_life == pytest.approx(spectrum.half_life)
    input_jacobians = gersgorin.input_jacobian(ours, x0, s).detach()
    assert gains.input == pytest.approx(torch.linalg.matrix_norm(input_jacobians, 2).numpy())
    layers = [torch.linalg.matrix_norm(J, 2) for J in gersgorin.layer_jacobians(ours, x0, s)]
    assert gains.layers == pytest.approx(torch.stack(layers, -1).detach().numpy())


def test_a_result_in_a_notebook_needs_nothing_else():
    # a user's class may have any name
    cell = type("R<b>N", (RHN,), {})(4, 6, 3)
    page = gersgorin.spectra(cell, torch.rand(12, 4))._repr_html_()
    assert re.findall(r"<(\w+)", page) == ["pre", "img"]
    assert not re.search(r"""=["'](https?:)?//""", page)
    assert "data:image/webp;base64,UklGR" in page and "R&lt;b&gt;N" in page


def test_all_analyses_of_a_run_use_the_same_jacobians(monkeypatch):
    computed, jacobians = [], Run.jacobians
    monkeypatch.setattr(
        Run, "jacobians", lambda self, *at: computed.append(self) or jacobians(self, *at)
    )
    run = gersgorin.open_run(RHN(4, 6, 3), torch.rand(12, 4))
    for name in ("spectra", "products", "gains", "gates", "pseudospectra"):
        getattr(gersgorin, name)(run)
    assert len(computed) <= 2  # blocks are kept


def test_the_network_is_left_as_it_was():
    net, x = torch.nn.LSTM(4, 5).train(), torch.rand(12, 1, 4)
    before, state = {name: p.clone() for name, p in net.named_parameters()}, torch.get_rng_state()
    for name in ("spectra", "products", "gains", "gates", "influence"):
        getattr(gersgorin, name)(net, x)
    assert all(
        torch.equal(p, before[name]) and p.grad is None for name, p in net.named_parameters()
    )
    assert net.training and next(net.parameters()).dtype == torch.float32
    assert torch.equal(state, torch.get_rng_state())
