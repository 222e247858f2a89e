"""Files that version 0.2.0 wrote are still read, with the numbers that were measured."""

import json
from pathlib import Path

import numpy as np
import pytest
from tables import for_each

from analysis.activity import GateActivity
from analysis.damage import LesionTable
from gersgorin.results import Comparison, Credit, Recording, Spectra, load

FOLDER = Path(__file__).parents[1] / "fixtures" / "results-0.2"
FILES = {
    "spectra.npz": (
        Spectra,
        lambda found: {
            "title": (found.title, "rhn, depth 2, 4 units"),
            "about": (found.about, "gaussian:0.4, transform bias -2, seed 0"),
            "shape": (found.eigenvalues.shape, (6, 4)),
            "radius": (found.spectral_radius[[0, -1]], [0.8799042303204162, 0.8045861143979512]),
            "norm": (found.norm[[0, -1]], [0.8981581242891453, 0.8517611211769383]),
            "reach": (found.reach[-1], 0.9798673156869097),
            "half-life": (found.half_life, 3.682868347050043),
            "leading": (found.leading, None),
        },
    ),
    "spectra-leading.npz": (
        Spectra,
        lambda found: {
            "leading": (found.leading, 2),
            "radius": (found.spectral_radius[[0, -1]], [0.5137358018240911, 0.5016519586991673]),
            "half-life": (found.half_life, 1.024574839381422),
        },
    ),
    "spectra.json": (
        Spectra,
        lambda found: {
            "title": (found.title, "rhn, depth 2, 4 units"),
            "kind": (found.eigenvalues.dtype.kind, "c"),
            "radius": (found.spectral_radius[[0, -1]], [0.8799042303204162, 0.8045861143979512]),
            "half-life": (found.half_life, 3.682868347050043),
        },
    ),
    "ensemble.npz": (
        Comparison,
        lambda found: {
            "along": (found.along, "2 sequences"),
            "steps": (found.steps, [6, 4, 6, 4]),
            "radius": (found.spectral_radius[1:3, 0], [0.3923559195962898, 0.8509579217532527]),
            "exponent": (found.last_exponent[[0, -1]], [-0.7397921894010652, -0.033400454875889996]),
        },
    ),
    "credit.npz": (
        Credit,
        lambda found: {
            "loss": (found.loss, 2.0761645202187777),
            "unit": (found.loss_unit, "nats a frame"),
            "norm": (found.gradient_norm, 0.02214240296494808),
            "share": (found.lag_share[[0, -1]], [0.5347025044757769, 0.01895512315214465]),
            "paths": (found.path_lengths[-1], [0, 10]),
        },
    ),
    "credit.json": (
        Credit,
        lambda found: {
            "loss": (found.loss, 2.0761645202187777),
            "share": (found.lag_share[[0, -1]], [0.5347025044757769, 0.01895512315214465]),
            "paths": (found.path_lengths[-1], [0, 10]),
        },
    ),
    "recording.npz": (
        Recording,
        lambda found: {
            "about": (found.about, "a short training"),
            "steps": (found.step, [0, 2, 4, 6]),
            "loss": (found.loss, [np.nan, 2.0701632499694824, 2.0578529834747314, 2.0508413314819336]),
            "radius": (found.radius[[0, -1], 0], [0.8946509477029958, 0.8942784912358309]),
            "weight": (found.parameters[1], "cells.0.weight_hh[0]"),
        },
    ),
    "gates.npz": (
        GateActivity,
        lambda found: {
            "labels": (found.labels, ("1", "2")),
            "gates": (found.mean_by_layer, [0.12006517778716835, 0.1197845535097169]),
            "steps": (found.sequences[0].steps, 85),
        },
    ),
    "lesion.npz": (
        LesionTable,
        lambda found: {
            "mode": (found.mode, "bias"),
            "baseline": (found.baseline, 60.997340032442914),
            "delta": ([row.delta for row in found.layers], [-0.00038797555814795714, 9.406495217945121e-05]),
        },
    ),
}


@for_each("name", FILES)
def test_a_file_is_loaded_with_its_numbers(name):
    kind, numbers = FILES[name]
    for what, (found, expected) in numbers(kind.load(FOLDER / name)).items():
        if isinstance(expected, list | float):
            np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=what)
        else:
            assert found == expected, what


@for_each("name", [name for name, (kind, _) in FILES.items() if kind in (Spectra, Comparison, Credit, Recording)])
def test_a_file_of_unknown_kind_is_recognised(name):
    assert type(load(FOLDER / name)) is FILES[name][0]


@pytest.mark.parametrize("name", ["spectra", "ensemble", "credit"])
def test_the_json_of_an_old_result_holds_all_that_it_held(name, tmp_path):
    result = FILES[f"{name}.npz"][0].load(FOLDER / f"{name}.npz")
    result.save(tmp_path / "again.json")
    before, now = (
        json.loads(path.read_text(), parse_float=lambda digits: f"{float(digits):.10g}")
        for path in (FOLDER / f"{name}.json", tmp_path / "again.json")
    )
    assert {key: now.get(key) for key in before} == before
