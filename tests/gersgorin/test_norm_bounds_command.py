"""`gersgorin bounds`: text, JSON, figures and saved numbers."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import gersgorin
from gersgorin.analyses.spectra import spectra
from gersgorin.cli.main import main
from rhn.cells import GRU, RHN

SMALL = ["--hidden-size", "6", "--steps", "9"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def bounds():
    torch.manual_seed(1)
    x = torch.rand(13, 4, dtype=torch.float64)
    return replace(gersgorin.bounds(RHN(4, 7, 3, init="uniform:0.4", dtype=torch.float64), x), title="rhn")


@pytest.mark.parametrize(("words", "first"), [(("rhn", "--depth", "3"), "1 layer"), (("gru",), "1 step")])
def test_the_command_bounds_the_measured_exponent(words, first, tmp_path, capsys):
    assert main(["bounds", "--cell", *words, "--json", *SMALL]) == 0
    result = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert [path.stat().st_size > 10_000 for path in tmp_path.glob("*bounds*.png")] == [True]
    measured = spectra(words[0], depth=3 if len(words) > 1 else None, hidden_size=6, steps=9)
    bounds = result["bounds"]
    assert bounds["measured_exponent"] == pytest.approx(float(measured.finite_time_exponent[-1]))
    assert bounds["about"].startswith(
        "Bounds of the products of the float64 Jacobians as computed; the rounding of the"
    )
    assert bounds["windows"][0]["window"] == first
    for row in bounds["windows"]:
        assert row["lower_exponent"] is None or row["lower_exponent"] <= bounds["measured_exponent"]
        assert row["exponent_bound"] >= bounds["measured_exponent"]


def test_the_figure_shows_the_numbers(bounds):
    ax, beside = replace(bounds, unit="0.1 s").plot().figure.axes
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(drawn["measured"][1:] * np.log(10), bounds.log_norm)
    np.testing.assert_allclose(drawn["at most: 1 layer"][1:] * np.log(10), bounds.best[0])
    assert ax.get_xlabel() == "time step (0.1 s)" and ax.get_ylim()[1] > bounds.best[0].max() / np.log(10)
    drawn = {line.get_label(): line.get_ydata() for line in beside.lines}
    np.testing.assert_allclose(drawn["norm"], bounds.upper[0, :, -1] / 13)
    assert [label.get_text() for label in beside.get_xticklabels()] == list(bounds.lengths)
    assert bounds.plot(ax) is ax


def test_the_sentence_says_what_holds(bounds):
    assert bounds.sufficient is not None and "halves, on average, at least every" in bounds.sentence()
    grown = replace(bounds, upper=bounds.upper + 999, lower=bounds.lower + 999, log_norm=bounds.log_norm + 999)
    assert "does not vanish" in grown.sentence() and np.isinf(grown.half_life).all()
    loose = replace(bounds, upper=bounds.upper + 999)
    assert "rounding leaves it open" in loose.sentence() and loose.sufficient is None


def test_long_windows_bound_what_no_single_step_does():
    cell = GRU(3, 24, init="uniform:0.6", generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = gersgorin.bounds(cell, torch.ones(60, 3, dtype=torch.float64))
    assert found.upper[0, 0, -1] > 0 > found.exponent[-1] and 0 < found.sufficient < len(found.lengths) - 1
