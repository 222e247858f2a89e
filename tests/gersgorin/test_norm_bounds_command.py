"""`gersgorin-plot --norm-bounds`: bounds beside the spectra, in the table, the JSON and a figure of their own."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import gersgorin
from gersgorin.analyses.bounds import (
    bounds_sentence,
    bounds_table,
    plot_bounds_by_window,
    plot_bounds_over_time,
)
from gersgorin.cli.plot import main
from rhn.cells import GRU, RHN

SMALL = ["--hidden-size", "6", "--steps", "9"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def bounds():
    torch.manual_seed(1)
    x = torch.rand(13, 4, dtype=torch.float64)
    return gersgorin.bounds(RHN(4, 7, 3, init="uniform:0.4", dtype=torch.float64), x, title="rhn")


def test_every_network_gets_bounds(tmp_path, capsys):
    assert main(["--cell", "rhn", "--depth", "3", "--compare", "gru", "--norm-bounds", "--json", *SMALL]) == 0
    assert len([path for path in tmp_path.glob("*-bounds.png") if path.stat().st_size > 10_000]) == 1
    result = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    for found in (result, *result["compare"]):
        bounds, measured = found["norm_bounds"], found["steps"][-1]["finite_time_exponent"]
        assert bounds["measured_exponent"] == pytest.approx(measured)
        assert bounds["about"].startswith(
            "Bounds of the products of the float64 Jacobians as computed; the rounding of the"
        )
        for row in bounds["windows"]:
            assert row["exponent_bound"] >= measured >= row["lower_exponent"] or row["lower_exponent"] is None
    assert [row["window"] for row in result["norm_bounds"]["windows"]][:3] == ["1 layer", "2 layers", "1 step"]


def test_without_the_option_there_is_no_figure_and_no_word_of_it(tmp_path, capsys):
    assert main(SMALL) == 0
    assert "bounds of" not in capsys.readouterr().out.lower() and not list(tmp_path.glob("*bounds*"))
    assert main([*SMALL, "--norm-bounds", "--output", "f.svg"]) == 0
    out = capsys.readouterr().out
    assert "windows of" in out and out.rstrip().endswith("figure: f-bounds.svg")


def test_verified_says_what_is_certain_and_rounds_the_discs_outwards(capsys):
    plain, verified = [], []
    for words, found in (([], plain), (["--verified"], verified)):
        assert main(["--cell", "rnn", "--compare", "irnn", *SMALL, *words, "--json", "--force"]) == 0
        result = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
        found += [result, *result["compare"]]
    assert (
        plain[0]["steps"][0]["reach"] < verified[0]["steps"][0]["reach"] < plain[0]["steps"][0]["reach"] * (1 + 1e-13)
    )
    assert "verified" not in plain[0] and verified[0]["verified"]["none_outside"] == 9
    assert verified[1]["verified"]["some_outside"] + verified[1]["verified"]["none_outside"] <= 9
    assert main(["--cell", "rnn", *SMALL, "--verified"]) == 0
    assert "Verified: no eigenvalue outside the unit circle at all 9 steps" in capsys.readouterr().out


def test_a_figure_that_cannot_be_written_is_refused_before_the_work(tmp_path, capsys):
    (tmp_path / "f-bounds.png").mkdir()
    assert main([*SMALL, "--norm-bounds", "--output", "f.png"]) == 2
    assert "f-bounds.png" in capsys.readouterr().err and not (tmp_path / "f.png").exists()


def test_the_figure_shows_the_numbers(bounds):
    ax = plot_bounds_over_time(replace(bounds, unit="0.1 s"))
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(drawn["measured"][1:] * np.log(10), bounds.log_norm)
    np.testing.assert_allclose(drawn["at most: 1 layer"][1:] * np.log(10), bounds.best[0])
    assert ax.get_xlabel() == "time step (0.1 s)" and ax.get_ylim()[1] > bounds.best[0].max() / np.log(10)
    ax = plot_bounds_by_window(bounds)
    drawn = {line.get_label(): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(drawn["norm"], bounds.upper[0, :, -1] / 13)
    assert [label.get_text() for label in ax.get_xticklabels()] == list(bounds.lengths)


def test_the_sentence_says_what_holds(bounds):
    assert bounds.sufficient is not None and "halves, on average, at least every" in bounds_sentence(bounds)
    grown = replace(bounds, upper=bounds.upper + 999, lower=bounds.lower + 999, log_norm=bounds.log_norm + 999)
    assert "does not vanish" in bounds_sentence(grown) and np.isinf(grown.half_life).all()
    loose = replace(bounds, upper=bounds.upper + 999)
    assert "rounding leaves it open" in bounds_sentence(loose) and loose.sufficient is None
    lines = bounds_table(bounds).splitlines()
    assert (
        len(lines) == len(bounds.lengths) + 4 and lines[1].startswith("1 layer ") and lines[-3].startswith("measured")
    )
    assert lines[-1] == bounds_sentence(bounds) and lines[-1] in " ".join(repr(bounds).split())


def test_long_windows_bound_what_no_single_step_does():
    cell = GRU(3, 24, init="uniform:0.6", generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = gersgorin.bounds(cell, torch.ones(60, 3, dtype=torch.float64))
    assert found.upper[0, 0, -1] > 0 > found.exponent[-1] and 0 < found.sufficient < len(found.lengths) - 1
