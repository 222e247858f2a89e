"""`optim-study` as its users meet it, on a few real bars."""

import csv
import io
import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

import optim_study
from optim_study.cli import COMMANDS, main
from optim_study.config import RunConfig, small
from optim_study.results import TRIAL_COLUMNS
from optim_study.runner import OUTPUTS
from optim_study.shares import SHARE_COLUMNS, share_table
from rhn.cells import make_cell
from rhn.cells.registry import CELLS
from rhn.utils.command_line import run_read

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture(scope="module")
def finished(tiny_data, tmp_path_factory):
    """The folder of a small run that is over."""
    out = tmp_path_factory.mktemp("finished") / "out"
    words = ["--arch", "rhn", "dt-rnn", "--depth", "1", "2", "--preset", "smoke", "--device", "cpu"]
    assert main(["run", *words, "--data", str(tiny_data), "--out", str(out)]) == 0
    return out


def run(*args) -> int:
    return main([str(a) for a in args])


def options(*args):
    found = []
    run_read(COMMANDS, [str(a) for a in args], found.append)
    return found[0]


# run


def test_a_run_without_options_is_the_papers_study_and_dry_run_makes_nothing(tmp_path, capsys):
    assert run("run", "--arch", "dt-rnn", "--dry-run") == 0
    networks, settings = capsys.readouterr().out.split("\n\n")
    lines = [line.split() for line in networks.splitlines()[1:]]
    assert [line[0] for line in lines] == [f"dt-rnn-depth{d}" for d in (1, 2, 4, 6)]
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    assert {(line[1], line[4]) for line in lines} == {(device, "60")}
    assert "fuse" in networks.splitlines()[0]
    assert [line.split() for line in settings.splitlines() if "data" not in line] == [
        ["trials", "60"],
        ["epochs", "1000"],
        ["patience", "100"],
        ["budget_scale", "1.0"],
        ["objective", "train"],
        ["optimizer", "sgd"],
        ["learning_rate", "0.0001", "1.0"],
        ["init_std", "1e-08", "0.01"],
        ["init_schemes", "gaussian"],
        ["transform_bias", "0.0", "-1.0", "-2.0", "-3.0"],
        ["seed", "0"],
        ["batch_size", "32"],
        ["momentum", "0.9"],
    ]
    assert list(tmp_path.iterdir()) == []


def gru_deep(*sizes, transform_bias: float = 0.0, **options):
    """A cell whose name begins as that of a cell without depth and biases."""
    return make_cell("rhn", *sizes, transform_bias=transform_bias, **options)


def test_depths_and_biases_are_those_that_the_cell_declares(monkeypatch):
    monkeypatch.setitem(CELLS.data, "gru-deep", gru_deep)
    for study in small(arch=("dt-rnn", "rhn", "gru-deep"), depth=(2,)).studies("data"):
        assert ("transform_bias" in study.trial(0)["settings"]) == (study.arch != "dt-rnn")
        assert study.depth == 2


def test_dry_run_as_json_contains_the_complete_trials(finished, tiny_data, capsys):
    words = [
        "--arch",
        "rhn",
        "--depth",
        2,
        4,
        "--preset",
        "smoke",
        "--trials",
        9,
        "--out",
        finished,
    ]
    assert run("run", *words, "--data", tiny_data, "--dry-run", "--json") == 0
    rows = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    found = [(row["study"], row["trials"], row["complete"]) for row in rows]
    assert found == [("rhn-depth2", 9, 4), ("rhn-depth4", 9, 0)] and rows[0]["fuse"] == 5


def test_every_option_reaches_the_configuration(tiny_data):
    words = (
        "--arch rhn gru --depth 1 --trials 7 --epochs 9 --patience 5 --set budget_scale=0.5 "
        "--objective valid --fuse 3"
    )
    words += (
        " --jobs 4 --seed 11 --set save_seconds=2 --storage postgresql+psycopg://x/y --out "
        "here --device cpu"
    )
    words += ' --set init_schemes=["scaled","identity"] --set wait_storage=7'
    words += " --engine ray --set address=host:6379"
    words += (
        f" --learning-rate 1e-3 0.5 --init-std 1e-6 1e-3 --transform-bias -1 -4 --data {tiny_data}"
    )
    words += " --cell-option gate_constant=0.5 --optimizer adam"
    names = [field.name for field in fields(RunConfig)]
    config, usual = options("run", "--preset", "small", *words.split()).config(), small()
    assert not [name for name in names if getattr(config, name) == getattr(usual, name)], (
        "every value is another one"
    )
    assert (config.arch, config.depth, config.learning_rate, config.fuse) == (
        ("rhn", "gru"),
        (1,),
        (1e-3, 0.5),
        3,
    )


def test_what_a_run_prints(finished, tiny_data, capsys):
    words = [
        "--preset",
        "smoke",
        "--depth",
        1,
        2,
        "--data",
        tiny_data,
        "--out",
        finished,
        "--device",
        "cpu",
    ]
    assert run("run", "--arch", "dt-rnn", *words, "--json") == 0
    printed = capsys.readouterr()
    rows = json.loads(printed.out, parse_constant=pytest.fail)
    assert [(r["arch"], r["depth"], r["trial"]) for r in rows] == [
        ("dt-rnn", d, n) for d in (1, 2) for n in range(4)
    ]
    assert all(tuple(row) == TRIAL_COLUMNS for row in rows) and "complete" in printed.err
    assert run("run", "--arch", "rhn", "dt-rnn", *words) == 0
    *lines, trials, shares, figure = capsys.readouterr().out.splitlines()
    rows = optim_study.read_csv(finished / "trials.csv")
    found = optim_study.training_shares(rows)
    assert lines == share_table(found, rows, "train", 9.5).splitlines()
    assert [f"file: {finished / name}" for name in OUTPUTS] == [trials, shares, figure]
    table = list(csv.DictReader((finished / "shares.csv").open()))
    assert [row["network"] for row in table] == [share.network for share in found]
    assert [int(row["below"]) for row in table] == [share.below for share in found]
    assert [float(row["high"]) for row in table] == [share.high for share in found]


# looking


def test_status_and_export_agree(finished, capsys):
    assert run("status", "--out", finished, "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert [row["study"] for row in status] == [
        "rhn-depth1",
        "rhn-depth2",
        "dt-rnn-depth1",
        "dt-rnn-depth2",
    ]
    assert all((row["complete"], row["trials"], row["running"]) == (4, 4, 0) for row in status)
    assert run("export", "--out", finished, "--json") == 0
    rows = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert all(tuple(row) == TRIAL_COLUMNS for row in rows) and len(rows) == 16
    assert run("export", "--out", finished) == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows] == table
    for study in status:
        trials = [row for row in rows if f"{row['arch']}-depth{row['depth']}" == study["study"]]
        assert study["best"] == min(row["best_train_nll"] for row in trials)


@pytest.mark.parametrize("words", [["--kind", "map"], ["--objective", "valid"]])
def test_plot_draws_from_the_run_and_from_its_table(finished, words, tmp_path, capsys):
    printed = []
    for source in (finished, finished / "trials.csv"):
        assert run("plot", source, *words, "--output", "figure.png", "trials.csv") == 0
        assert (tmp_path / "figure.png").stat().st_size > 5000
        assert (tmp_path / "trials.csv").read_text() == (finished / "trials.csv").read_text()
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] and "p holm" in printed[0]
    assert run("plot", finished, *words) == 0
    assert (tmp_path / ("map.png" if "map" in words else "swarm.png")).exists()


def test_several_folders_are_plotted_as_one(finished, tiny_data, tmp_path, capsys):
    words = ["--arch", "gru", "--preset", "smoke", "--device", "cpu", "--data", tiny_data]
    assert run("run", *words, "--out", "other") == 0
    capsys.readouterr()
    assert run("plot", finished, "other", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    names = [row["network"].split(",")[0] for row in rows]
    assert names == ["dt-rnn", "dt-rnn", "rhn", "rhn", "gru"]
    assert all(tuple(row) == SHARE_COLUMNS for row in rows)


def test_two_protocols_of_one_network_are_two_columns(finished, tiny_data, capsys):
    words = ["--arch", "rhn", "--depth", "1", "--preset", "smoke", "--data", tiny_data]
    assert run("run", *words, "--out", "other", "--epochs", 3, "--device", "cpu") == 0
    capsys.readouterr()
    assert run("plot", finished, "other", "--depth", "1", "--json", "--output", "a.png") == 0
    names = [row["network"] for row in json.loads(capsys.readouterr().out)]
    more = "rhn, depth 1, max epochs "
    assert names == ["dt-rnn, depth 1", f"{more}4", f"{more}3"]
    assert run("plot", finished, "--depth", "9", "--output", "b.png") == 2
    assert "0 complete trials: expected one or more" in capsys.readouterr().err
    assert not Path("b.png").exists()


def test_a_copy_of_a_study_adds_no_trials(finished, caplog, capsys):
    counted = []
    shutil.copytree(finished, "copy")
    for folders in ([finished], [finished, "copy"], ["copy", "./copy"]):
        assert run("plot", *folders, "--json", "--output", "a.svg") == 0
        printed = capsys.readouterr()
        counted.append(printed.out)
    assert counted[0] == counted[1] == counted[2] and len(caplog.messages) == 2
    assert caplog.messages[0] == "repeated trials left out: 16"


def test_every_command_runs_without_pandas(finished, tiny_data, monkeypatch):
    for name in ("pandas", "xarray", "seaborn"):
        monkeypatch.setitem(sys.modules, name, None)
    words = ["--arch", "rhn", "--preset", "smoke", "--device", "cpu", "--data", tiny_data]
    assert run("run", *words, "--depth", 1, "--trials", 1, "--out", "new") == 0
    for command in ("status", "export", "plot"):
        assert run(command, *(["new"] if command == "plot" else ["--out", "new"])) == 0


def test_help_lists_the_commands_and_imports_nothing_heavy():
    script = (
        "import sys\nfrom optim_study.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit as end: assert not end.code\n"
        "print('heavy:', {'torch', 'optuna', 'matplotlib', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "heavy: set()" in done.stdout
    for name in ("run", "status", "plot", "export"):
        assert name in done.stdout
