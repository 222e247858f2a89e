"""Results as datasets of xarray and tables of pandas: named axes and items, and the numbers of the
result.
"""

import json
import re
import sys

import numpy as np
import pytest
import torch
from readable import without_layout

from analysis import gate_activity, lesion, refinement
from gersgorin import (
    compare,
    fixed_points,
    gains,
    gates,
    influence,
    load,
    lyapunov,
    open_run,
    products,
    pseudospectra,
    spectra,
    truncation,
)
from gersgorin.analyses.influence import LABELS_OF_LOSS
from gersgorin.recorder import Recorder
from rhn import PolyphonicModel
from rhn.cells import RHN
from rhn.errors import RhnError

T, N = 30, 4
CELL = RHN(3, N, 2, generator=torch.Generator().manual_seed(0))
X = torch.rand(T, 3, generator=torch.Generator().manual_seed(1))
PIECES = [np.eye(88)[:6], np.eye(88)[:9]]


def recording():
    network = torch.nn.GRU(3, N)
    recorder = Recorder(network, X, every=5, positions=2)
    for _ in range(10):
        network(X)[0].sum().backward()
        recorder.step(1.0)
    return recorder.recording


def model():
    return PolyphonicModel("rhn", hidden_size=3, depth=2)


MAKE = {
    "spectra": lambda: spectra(CELL, X),
    "products": lambda: products(CELL, X),
    "gains": lambda: gains(CELL, X),
    "gates": lambda: gates(CELL, X),
    "pseudospectra": lambda: pseudospectra(CELL, X, side=5, steps=[2, 7]),
    "influence": lambda: influence(CELL, X),
    "lyapunov": lambda: lyapunov(CELL, X),
    "fixed points": lambda: fixed_points(CELL, X, starts=5),
    "compare": lambda: compare({("rhn", 2): [CELL, CELL], "f": CELL}, [X, X[:5]]),
    "recording": recording,
    "truncation": lambda: truncation(torch.nn.GRU(3, N), X[:6], torch.rand(6, N), "squared"),
    "lesions": lambda: lesion(model(), PIECES),
    "refinement": lambda: refinement(model(), PIECES),
    "gates of layers": lambda: gate_activity(model(), PIECES),
}
STEPS = [*range(T)]
INDEX = {
    "spectra": ("step", STEPS),
    "products": ("step", STEPS),
    "gains": ("step", STEPS),
    "gates": ("step", STEPS),
    "pseudospectra": ("time step (from 0)", [2, 7]),
    "influence": ("lag", STEPS),
    "lyapunov": ("number", [1, 2, 3, 4]),
    "fixed points": ("point", [1]),
    "compare": ("network", ["rhn, 2", "f"]),
    "recording": ("optimiser step", [0, 5, 10]),
    "truncation": ("window (time steps)", [1, 2, 3, 4, 6]),
    "lesions": ("lesioned", ["none", "1", "2"]),
    "refinement": ("readout after layer", ["before 1", "1", "2"]),
    "gates of layers": ("layer", ["1", "2"]),
}
COORDINATES = {
    "spectra": {"step": STEPS, "entry": [0, 1, 2, 3], "eigenvalue": [0, 1, 2, 3]},
    "products": {"step": STEPS},
    "gains": {"step": STEPS, "layer": [1, 2]},
    "gates": {"gate": ["transform gate, layer 1", "transform gate, layer 2"]},
    "pseudospectra": {"step": [2, 7]},
    "influence": {"output": STEPS, "input": STEPS},
    "lyapunov": {
        "exponent": [1, 2, 3, 4],
        "half": ["first half", "second half"],
        "estimate": [*range(1, T + 1)],
    },
    "fixed points": {"point": [1], "entry before": [0, 1, 2, 3]},
    "compare": {"network": ["rhn, 2", "f"], "run": [0, 1, 2, 3], "step": STEPS},
    "recording": {
        "step": [0, 5, 10],
        "weight": [*torch.nn.GRU(3, N).state_dict()],
        "layer": [1],
        "gate": [1],
    },
    "lesions": {
        "row_kind": ["layer", "layer", "blind", "beyond blind"],
        "label": ["1", "2", "1", "1"],
    },
    "truncation": {"window": [1, 2, 3, 4, 6], "lag": [*range(6)]},
    "refinement": {"row": ["before 1", "1", "2"], "sequence": [0, 1]},
    "gates of layers": {"layer": ["1", "2"], "sequence": ["sequence 1"] * 6 + ["sequence 2"] * 9},
}


@pytest.fixture(scope="module", params=MAKE)
def named(request):
    return request.param, MAKE[request.param]()


def test_a_frame_has_the_items_as_index_and_a_column_for_each_array_of_the_table(named):
    pytest.importorskip("pandas", reason="pandas is optional")
    name, found = named
    frame, (label, items) = found.to_frame(), INDEX[name]
    assert frame.index.name == label and frame.index.tolist() == items
    table = found.table()
    columns = {row: value for row, value in table.items() if np.ndim(value) and row != label}
    arrays = {row: value for row, value in columns.items() if len(value) == len(items)}
    assert [*frame.columns] == [*arrays]
    for row, value in arrays.items():
        np.testing.assert_array_equal(frame[row], np.asarray(value, float))
    singles = {row: value for row, value in table.items() if not np.ndim(value)}
    assert frame.attrs.keys() == singles.keys()


def test_a_dataset_has_the_names_along_its_axes(named):
    pytest.importorskip("xarray", reason="xarray is optional")
    name, found = named
    data = found.to_xarray()
    assert len(data.data_vars) > 0 and {*data.dims} <= {*data.coords}
    for axis, names in COORDINATES[name].items():
        assert data.coords[axis].values.tolist() == names


def test_coordinates_are_the_names_along_the_axes(named):
    """Without xarray, and without the grid of pseudospectra. Numbers from 0 need no names."""
    name, found = named
    given = found.coordinates()
    for axis in given.keys() - {"real", "imaginary"}:
        names = given[axis][1] if isinstance(given[axis], tuple) else given[axis]
        assert np.array_equal(names, COORDINATES[name][axis]), axis


def test_a_dataset_warns_of_nothing(named, recwarn):
    pytest.importorskip("xarray", reason="xarray is optional")
    named[1].to_xarray()
    assert not [each for each in recwarn if "xarray" in each.filename]


def test_a_result_is_printed_drawn_and_written(named, tmp_path):
    _, found = named
    assert repr(found) == str(found)
    assert found.plot().has_data() and len(without_layout(found).axes) > 0
    for name in ("a.npz", "a.json"):
        assert str(load(found.save(tmp_path / name))) == str(found)
    text = found.csv(tmp_path / "a.csv").read_text()
    written = json.loads((tmp_path / "a.json").read_text())
    assert len(text.splitlines()) == 1 + len(written["table"])


def test_a_result_prints_ten_rows_and_twenty_items_at_most_and_names_rows_that_exist(named):
    _, found = named
    whole = {str(row[0]) for block in found.blocks() for row in block.rows}
    of_loss = {*LABELS_OF_LOSS.values()}  # rows of the influence on a loss
    assert {*found.printed} - of_loss <= whole and len({*found.printed} - of_loss) <= 10
    assert all(len(block.rows) <= (20 if block.is_list else 10) for block in found.short())
    assert all(row in found.whole() for row in whole)


def test_a_run_prints_its_network_its_data_and_its_length():
    run = open_run(lambda x, s: s / 2, torch.zeros(9, 1), torch.zeros(1), data="mine", unit="days")
    assert repr(run) == "f(x, s); mine, 9 days"


@pytest.mark.parametrize("name", ["spectra", "products", "gains", "gates"])
def test_every_array_of_a_result_is_a_variable(name):
    pytest.importorskip("xarray", reason="xarray is optional")
    found = MAKE[name]()
    data = found.to_xarray()
    arrays = {k: v for k, v in vars(found).items() if isinstance(v, np.ndarray) and k[0] != "_"}
    assert {*data.data_vars} == arrays.keys() - {"overlap"}
    for key, array in data.data_vars.items():
        np.testing.assert_array_equal(array.values, arrays[key])
        assert dict(zip(array.dims, array.shape, strict=True))["step"] == T
    assert data.attrs["network"] == "rhn, depth 2, 4 units" and data.attrs["steps"] == T


def test_numbers_are_chosen_by_their_names():
    pytest.importorskip("xarray", reason="xarray is optional")
    found = MAKE["spectra"]()
    chosen = found.to_xarray().eigenvalues.sel(step=7, eigenvalue=0)
    assert complex(chosen) == found.eigenvalues[7, 0]
    found = MAKE["pseudospectra"]()
    assert float(found.to_xarray().to_circle.sel(step=7)) == found.to_circle[1]
    found = MAKE["lesions"]()
    damage = found.to_xarray().delta
    of_layers = damage[damage.row_kind == "layer"]
    assert of_layers[of_layers.label == "2"].item() == found.of_kind()["2"][1]
    found = MAKE["compare"]()
    norms = found.to_xarray().norm.sel(network="f", run=1)
    np.testing.assert_array_equal(norms[:5], found.network("f").norm[1, :5])
    assert (
        norms[5:].isnull().all() and found.to_xarray().norm.sel(network="f", run=2).isnull().all()
    )


@pytest.mark.parametrize(("module", "method"), [("pandas", "to_frame"), ("xarray", "to_xarray")])
def test_a_missing_library_is_named_with_the_extra_that_has_it(module, method, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    says = f"{module} is not installed: expected pip install '.[frames]'"
    with pytest.raises(RhnError, match=f"^{re.escape(says)}$"):
        getattr(gains(CELL, X), method)()
