"""Each row of the table of analyses has one result that prints, tabulates, draws, saves and loads;
a new row is found everywhere.
"""

import inspect
import json
import runpy
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import gersgorin
from gersgorin import analyze
from gersgorin.analyses import ANALYSES, Analysis, Option, register_analysis
from gersgorin.analyses.overview import Overview
from gersgorin.cli.main import main
from gersgorin.network.sequence_map import ModelWithData
from gersgorin.results import load
from gersgorin.run.run import Label, Run
from rhn.cells import RHN
from rhn.errors import OutputError
from rhn.models import PolyphonicModel
from rhn.utils.result import COLUMNS, LINES

pytestmark = pytest.mark.usefixtures("unarranged")

ROOT = Path(__file__).parents[2]
OWN = '''
"""Count the steps of a run."""

from dataclasses import dataclass

from rhn.utils.result import Result


@dataclass(frozen=True, kw_only=True, repr=False)
class Steps(Result, kind="steps"):
    """The number of steps, so many times."""

    count: int

    @property
    def finding(self):
        return f"{self.count} steps"

    def table(self):
        return [{"count": self.count}]

    def _draw(self, ax, **_):
        ax.bar(["steps"], [self.count])


def of_run(run, *, times: int = 1, progress=lambda done, total: None):
    """Count the steps of a run, so many times."""
    return Steps(count=times * len(run), title=run.label.title)
'''


@pytest.fixture
def a_new_analysis(tmp_path, monkeypatch):
    (tmp_path / "counting.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    options = {"times": Option("Factor of the number.", int, 1)}
    yield register_analysis(
        Analysis(
            "steps_taken", "counting:of_run", "Number of the steps", options=options, default=True
        )
    )
    del ANALYSES["steps_taken"]
    sys.modules.pop("counting", None)


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


def test_a_result_of_several_runs_or_analyses_fits_a_screen():
    cell, x = RHN(3, 6, 10, dtype=torch.float64), torch.randn(30, 3, dtype=torch.float64)
    model, frames = (
        PolyphonicModel("rnn", hidden_size=5, input_size=3, output_size=3),
        (x[:9, None] > 0).float(),
    )
    measured = (
        gersgorin.analyze(cell, x),
        gersgorin.analyze(model, frames),
        gersgorin.compare(cell, x),
    )
    for found in (*measured, gersgorin.Recorder(cell, x).recording):
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


def test_a_new_analysis_is_a_subcommand_with_its_options(a_new_analysis, capsys):
    assert "analyses" in dir(gersgorin) and gersgorin.analyses.ANALYSES is ANALYSES
    command = ["steps-taken", "--cell", "rnn", "--hidden-size", "4", "--steps", "7"]
    assert main([*command, "--times", "2"]) == 0
    assert "14 steps" in capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps_taken"] == {
        "title": "rnn, 4 units",
        "about": "",
        "doubt": "",
        "count": 7,
    }
    assert main(["--help"]) == 0
    assert "Number of the steps" in capsys.readouterr().out
    assert main(["steps-taken", "--help"]) == 0
    assert "Factor of the number" in capsys.readouterr().out


def test_a_new_analysis_is_part_of_analyze_and_of_its_files(a_new_analysis, tmp_path):
    found = analyze(RHN(3, 5, 2), torch.rand(9, 3))
    assert found.steps_taken.count == 9 and "9 steps." in found.summary().split("\n")
    assert found.to_dict()["steps_taken"]["count"] == 9
    assert "Number of the steps" in {
        ax.get_title(loc="left") for ax in found.plot().get_figure(root=True).get_axes()
    }
    assert Overview.load(found.save(tmp_path / "found.npz")).steps_taken.count == 9


def test_a_new_analysis_is_listed_in_the_documentation(a_new_analysis):
    page = (ROOT / "docs/api/gersgorin.md").read_text()
    filled = runpy.run_path(str(ROOT / "docs/reference.py"))["filled"](page)
    assert "| `gersgorin steps-taken` | Number of the steps | yes |" in filled.split("\n")


def test_a_name_is_given_once(a_new_analysis):
    with pytest.raises(ValueError, match="there is an analysis 'steps_taken' already"):
        register_analysis(a_new_analysis)


@pytest.mark.parametrize("name", ["gates", "gains", "products"])
def test_analyses_of_steps_accept_a_module_and_its_input(name):
    compute, gru, x = getattr(gersgorin, name), torch.nn.GRU(3, 5), torch.rand(6, 3)
    assert compute(gru, x[:4]).table() == compute(gersgorin.open_run(gru, x[:4])).table()
