"""`optim-study` as its users meet it, on a few real bars."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from small_studies import config

from optim_study import cli_results
from optim_study.cli import COMMANDS, main
from optim_study.cli_results import Plot
from optim_study.presets import RunConfig, small
from optim_study.results import TRIAL_COLUMNS
from rhn.utils.old import read

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
    return read(COMMANDS, [str(a) for a in args])


def test_a_figure_of_an_unfinished_study_counts_its_trials(finished, monkeypatch, capsys):
    rows = Plot.studies
    monkeypatch.setattr(
        Plot, "studies", lambda self: [(config, trials[1:]) for config, trials in rows(self)]
    )
    assert run("plot", "--out", finished, "--output", "a.svg") == 0
    words = re.search(r"\d+ of \d+ trials so far", capsys.readouterr().err)[0]
    assert words in Path("a.svg").read_text()
    monkeypatch.undo()


# run


def test_dry_run_prints_the_papers_networks_and_how_it_is_read_and_makes_nothing(tmp_path, capsys):
    assert run("run", "--arch", "all", "--dry-run", "--device", "cpu") == 0
    networks, protocol, readings = capsys.readouterr().out.split("\n\n")
    lines = [line.split() for line in networks.splitlines()[1:]]
    assert len(lines) == 12 and ["rhn-depth6", "sgd", "262"] in [line[:3] for line in lines]
    assert protocol.splitlines() == [
        "learning rate range: 0.0001 1",
        "init std range: 1e-08 0.01",
        "transform biases: 0 -1 -2 -3",
        "batch size: 32",
        "momentum: 0.9",
        "max epochs: 1000",
        "patience: 100",
        "seed: 0",
    ]
    assert "budget of 150,000 parameters per layer counts all" in readings
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arch", "gated"), [("dt-rnn", False), ("rhn", True), ("dt-rnn,rhn", True)]
)
def test_only_cells_with_gates_have_transform_biases(arch, gated, capsys):
    archs = arch.split(",")
    assert run("run", "--arch", *archs, "--depth", 2, "--dry-run", "--device", "cpu") == 0
    assert ("transform biases: 0 -1 -2 -3" in capsys.readouterr().out) == gated
    for study in small(arch=tuple(archs), depth=(2,)).studies("data"):
        assert ("transform_bias" in study.trial(0)["settings"]) == (study.arch == "rhn")


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
    assert found == [("rhn-depth2", 9, 4), ("rhn-depth4", 9, 0)] and "memory_bytes" in rows[0]


def test_every_option_reaches_the_configuration(tiny_data):
    words = (
        "--arch rhn gru --depth 1 --trials 7 --epochs 9 --patience 5 --budget-scale 0.5 "
        "--objective valid --fuse 3"
    )
    words += (
        " --jobs 4 --seed 11 --save-seconds 2 --storage postgresql+psycopg://x/y --out "
        "here --device cpu"
    )
    words += " --init-schemes scaled identity --wait-storage 7 --engine ray --address host:6379"
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
    assert all(tuple(row) == TRIAL_COLUMNS for row in rows) and "nothing to do" in printed.err
    assert run("run", "--arch", "rhn", "dt-rnn", *words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "lowest training loss is below 9.5 nats per frame" in lines[0]
    assert lines[2].split()[:3] == ["study", "optimizer", "hidden"]
    rows = [line for line in lines[3:] if "depth" in line.split(" ")[0]]
    assert len(rows) == 4 and all(re.search(r"\d+ to \d+ %", row) for row in rows)
    assert not any("16" in line for line in lines[:2]), "no sum over networks"
    assert f"best model: {finished}/dt-rnn-depth2/best.safetensors" in lines
    assert lines[-2:] == [f"trials: {finished}/trials.csv", f"figure: {finished}/swarm.png"]


def test_a_best_model_that_is_damaged_is_said_so(finished, tiny_data, capsys):
    shutil.copytree(finished, "copy")
    best = Path("copy/rhn-depth1/best.safetensors")
    best.write_bytes(best.read_bytes()[:-1])
    words = ["--arch", "rhn", "--depth", "1", "--preset", "smoke", "--device", "cpu"]
    assert run("run", *words, "--data", tiny_data, "--out", "copy") == 0
    out = capsys.readouterr().out
    assert f"no best model: {best}" in out and "Finished trials do not run again" in out


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
    assert run("export", "--out", finished, "--format", "json") == 0
    rows = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert all(tuple(row) == TRIAL_COLUMNS for row in rows) and len(rows) == 16
    assert run("export", "--out", finished) == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows] == table
    for study in status:
        trials = [
            row for row in rows if (row["arch"], row["depth"]) == (study["arch"], study["depth"])
        ]
        assert study["best"] == min(row["best_train_nll"] for row in trials)


def test_default_names_hold_folders_and_numbers():
    words = [
        "--csv small.csv",
        "--csv a/small.csv",
        "--out a/small",
        "--csv a/small/trials.csv",
        "--below 9",
    ]
    names = [str(options("plot", *each.split())._name()) for each in words]
    assert names == ["swarm-small.png", *["swarm-small-a.png"] * 3, "swarm-all-below-9.0.png"]


@pytest.mark.parametrize(
    "words", [["--kind", "map"], ["--kind", "area"], ["--loss", "valid", "--log", "--by", "depth"]]
)
def test_plot_draws_from_the_run_and_from_its_csv(finished, words, tmp_path, capsys):
    printed = []
    for source in (["--out", finished], ["--csv", finished / "trials.csv"]):
        assert run("plot", *source, *words, "--output", "figure.png", "trials.csv") == 0
        assert (tmp_path / "figure.png").stat().st_size > 5000
        assert (tmp_path / "trials.csv").read_text() == (finished / "trials.csv").read_text()
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] and "interval" in printed[0]


def test_several_folders_are_plotted_as_one(finished, tiny_data, tmp_path, capsys):
    words = ["--arch", "gru", "--preset", "smoke", "--device", "cpu", "--data", tiny_data]
    assert run("run", *words, "--out", "other") == 0
    capsys.readouterr()
    assert run("plot", finished, "other", "--json") == 0
    assert [row["arch"] for row in json.loads(capsys.readouterr().out)] == [
        "rhn",
        "rhn",
        "dt-rnn",
        "dt-rnn",
        "gru",
    ]
    assert [path.name for path in tmp_path.glob("swarm-*.png")] != []


def test_two_protocols_of_one_network_are_refused_before_anything_is_written(
    finished, tiny_data, tmp_path, capsys
):
    words = ["--arch", "rhn", "--depth", "1", "--preset", "smoke", "--data", tiny_data]
    assert run("run", *words, "--out", "other", "--epochs", 3, "--device", "cpu") == 0
    before = sorted(tmp_path.iterdir())
    assert run("plot", finished, "other", "--output", "a.png", "a.csv") == 2
    assert "rhn, depth 1 differ in max epochs (4 and 3): draw" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
    assert run("plot", "--out", finished, "--depth", "2", "9", "--output", "a.png") == 0
    assert run("plot", "--out", finished, "--depth", "9", "--output", "b.png") == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: no complete trial has --depth 9: give one or more of 1, 2"
    )


def test_a_copy_of_a_study_adds_no_trials(finished, caplog, capsys):
    counted = []
    shutil.copytree(finished, "copy")
    for folders in ([finished], [finished, "copy"], ["copy", "./copy"]):
        assert run("plot", *folders, "--json", "--output", "a.svg") == 0
        printed = capsys.readouterr()
        counted.append(printed.out)
        assert "trials so far" not in printed.err
    assert counted[0] == counted[1] == counted[2] and len(caplog.messages) == 2
    assert caplog.messages[0].startswith("16 repeated trials left out")


def test_help_lists_the_commands_and_imports_nothing_heavy():
    script = (
        "import sys\nfrom optim_study.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit as end: assert not end.code\n"
        "print('heavy:', {'torch', 'optuna', 'matplotlib', 'seaborn', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "heavy: set()" in done.stdout
    for name in ("run", "status", "plot", "export"):
        assert name in done.stdout


def test_settings_in_which_the_studies_of_a_figure_differ_are_named():
    one, longer, other = (
        config(),
        config(arch="gru", epochs=999),
        config(optimizer="adam", learning_rate=(1e-5, 0.1)),
    )
    assert cli_results._different([one, other]) == [] and cli_results._different(
        [one, longer, other]
    ) == ["--epochs"]
