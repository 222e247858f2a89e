"""A step that is not there, and a file that cannot be written, are refused before the computation;
an option that a network lacks is refused by `plot` and `compare` alike.
"""

import json

import pytest
import torch
from tables import for_each

import gersgorin
from gersgorin.analyses import ANALYSES
from gersgorin.analyses.bands import Comparison
from gersgorin.cli.main import main
from rhn.cells import GRU, RHN
from rhn.checkpoints import save_checkpoint

pytestmark = pytest.mark.usefixtures("own_folder", "unarranged")
SMALL = ["--steps", "5", "--hidden-size", "4"]


@pytest.fixture
def no_work(monkeypatch):
    """Every analysis fails."""

    def fails(*_, **__):
        raise AssertionError("the analysis has begun")

    monkeypatch.setattr("gersgorin.analyses.Analysis.__call__", fails)
    monkeypatch.setattr("gersgorin.analyses.bands.measure_run", fails)


COMMANDS = [*([row.command, "--cell", "rnn"] for row in ANALYSES.values()), ["compare", "rnn,rhn"]]


@pytest.mark.usefixtures("no_work")
@for_each("command", [*COMMANDS, ["compare", "rnn,rhn", "--over", "sequences", "--sequences", "2"]])
def test_a_step_beyond_the_run_is_refused_first(command, capsys):
    assert main([*command, *SMALL, "--draw-step", "500"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --draw-step 500: ") and error.count("\n") == 1


@pytest.mark.usefixtures("no_work")
@for_each("command", [*COMMANDS, ["run", "--cell", "rnn"]])
@for_each("output", ("missing/a.npz", "a.mine", "/proc/a.npz", "/dev/full", f"{'a' * 300}.npz"))
def test_a_file_that_cannot_be_written_is_refused_first(command, output, capsys):
    assert main([*command, *SMALL, "--output", output]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "cannot write" in error and error.count("\n") == 1


@for_each(("cell", "option"), [("rnn", ["--depth", "5"]), ("lstm", ["--transform-bias", "-1"])])
def test_an_option_that_a_cell_lacks_is_refused_by_every_command(cell, option, capsys):
    words = ["--steps", "3", *option]
    assert main(["plot", "--cell", cell, *words]) == 2
    assert main(["compare", f"rhn,{cell}", *words]) == 2
    assert f"{cell} has no such option: give --set" in capsys.readouterr().err.splitlines()[-1]
    name = option[0][2:].replace("-", "_")
    set_ = ["--set", f"{name}={option[1]}", "--json"]
    assert main(["compare", f"rhn,{cell}", *SMALL, *set_]) == 0


def test_options_of_new_cells_are_refused_beside_trained_weights(capsys):
    save_checkpoint("a.safetensors", RHN(88, 4, 2))
    assert main(["compare", "rhn,a.safetensors", "--depth", "3", "--steps", "3"]) == 2
    assert "options of new cells are given, --depth: leave them out" in capsys.readouterr().err


def test_labels_tell_every_depth_if_cells_of_one_kind_differ_in_it(capsys):
    for depth in (1, 3):
        save_checkpoint(f"d{depth}.safetensors", RHN(88, 4, depth))
    assert main(["compare", "d1.safetensors,d3.safetensors", "--steps", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["title"] == "d1: rhn, depth 1, 4 units"
    assert found["compare"][0]["title"] == "d3: rhn, depth 3, 4 units"
    cells = [RHN(3, 4), RHN(3, 4, 3), GRU(3, 4)]
    for over in (None, "sequences"):
        x = torch.rand(5, 3)
        both = gersgorin.compare(cells, [x] if over else x, over=over)
        assert [*both] == ["rhn, depth 1, 4 units", "rhn, depth 3, 4 units", "gru, 4 units"]
        assert [result.title for result in both.results.values()] == [*both]
        assert isinstance(both[0], Comparison) == bool(over)
    same = gersgorin.compare([RHN(3, 4), GRU(3, 4)], torch.rand(5, 3))
    assert [*same] == ["rhn, 4 units", "gru, 4 units"]
    named = gersgorin.compare({"a": RHN(3, 4), "b": RHN(3, 4, 3)}, torch.rand(5, 3))
    assert [*named] == ["a", "b"]
