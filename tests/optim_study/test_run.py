"""Whole runs of real networks on a few real bars: whatever is killed, stopped or shared, the
results are the same bits.
"""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_studies import finished, wait_for, workers_of

import optim_study
from optim_study import RunConfig, paper, run, smoke
from optim_study.cli import main
from optim_study.runner import dry_run
from rhn.errors import InvalidInputError
from rhn.training.state import locked

LONG = {
    "arch": ("rhn",),
    "depth": (2,),
    "trials": 3,
    "epochs": 60,
    "patience": 60,
    "budget_scale": 0.003,
}


@pytest.fixture
def tiny(tiny_data, tmp_path, monkeypatch):
    """Makes the configuration of a tiny run in a folder of its own, without the figure, which takes
    as long as the training.
    """
    monkeypatch.setattr("optim_study.runner.save_figure", lambda path, draw: None)
    usual = {"data": tiny_data, "out": tmp_path / "out", "device": "cpu"}
    return lambda preset=smoke, **changes: preset(**(usual | changes))


@pytest.fixture(scope="session")
def undisturbed(tiny_data, tmp_path_factory) -> dict[str, bytes]:
    """The records of the long run, when nothing happens to it."""
    out = tmp_path_factory.mktemp("undisturbed")
    run(RunConfig(**LONG, data=tiny_data, out=out, device="cpu"), quiet=True)
    return records(out)


def records(out: Path) -> dict[str, bytes]:
    """What every trial came to, its whole curve and the best network's file, to the bit."""
    paths = [*out.glob("*/trials/*.json"), *out.glob("*/best.safetensors"), *out.glob("trials.csv")]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(paths)}


def command(config: RunConfig, *more: str) -> subprocess.Popen:
    """The real command for this configuration."""
    words = [
        sys.executable,
        "-m",
        "optim_study",
        "run",
        "--arch",
        *config.arch,
        "--depth",
        *config.depth,
        *more,
    ]
    for name in (
        "out",
        "data",
        "trials",
        "epochs",
        "patience",
        "budget_scale",
        "jobs",
        "save_seconds",
        "device",
    ):
        words += [f"--{name.replace('_', '-')}", getattr(config, name)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*map(str, words)], **pipes, start_new_session=True)


def wait_until_saved(process: subprocess.Popen, out: Path) -> None:
    """Until a trial has been saved in the middle of its training."""
    wait_for(lambda: any(out.glob("*/trials/0*.safetensors")) or process.poll() is not None)
    assert process.poll() is None, process.communicate()


# configurations


def test_cells_have_only_the_depths_and_options_that_they_know():
    names = [study.name for study in paper(arch=("lstm", "rhn")).studies("x")]
    assert names == ["lstm-depth1", *(f"rhn-depth{d}" for d in (1, 2, 4, 6))]
    with pytest.raises(InvalidInputError, match="depth is 2: expected 1"):
        dry_run(paper(arch=("lstm",), depth=(2,), device="cpu"))
    _, *studies = paper(arch=("all",), depth=(4,), cell_options={"skip": "last"}).studies("x")
    assert {s.name: s.options for s in studies} == {
        "dt-rnn-depth4": {},
        "dts-rnn-skip-last-depth4": {"skip": "last"},
    }
    with pytest.raises(InvalidInputError, match="option of rhn is 'skip'"):
        paper(arch=("rhn", "gru"), cell_options={"skip": "last"}).studies("x")


def test_files_of_something_else_are_left_as_they_are(tmp_path):
    (tmp_path / "trials.csv").write_text("mine")
    with pytest.raises(InvalidInputError, match="expected a folder without trials"):
        run(smoke(arch=("dt-rnn",), out=tmp_path), quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["trials.csv"]


# running


def test_a_run_leaves_a_table_a_figure_and_the_best_models(tiny_data, tmp_path, capsys):
    results = run(smoke(arch=("dt-rnn", "gru"), data=tiny_data, out=tmp_path, device="cpu"))
    networks = [("dt-rnn", 1), ("dt-rnn", 2), ("gru", 1)]
    assert [(r.arch, r.depth, r.trial) for r in results.rows] == [
        (*each, n) for each in networks for n in range(4)
    ]
    assert optim_study.read_csv(results.csv) == results.rows == results.trials
    shares = optim_study.training_shares(results.rows)
    assert [row["network"] for row in csv.DictReader((tmp_path / "shares.csv").open())] == [
        share.network for share in shares
    ]
    assert results.figure.stat().st_size > 5000
    assert list(results.best) == ["dt-rnn-depth1", "dt-rnn-depth2", "gru-depth1"]
    assert all(path.is_file() for path in results.best.values())
    captured = capsys.readouterr()
    assert captured.out == "" and "dt-rnn-depth2" in captured.err


def test_a_database_holds_the_studies_of_several_folders(tiny, postgres, tmp_path):
    one = run(tiny(arch=("rnn",), storage=postgres), quiet=True)
    two = run(tiny(arch=("gru",), storage=postgres, out=tmp_path / "other"), quiet=True)
    assert {row.arch for row in one.rows} == {"rnn"} and optim_study.read_csv(two.csv) == two.rows
    assert not (two.csv.parent / "journal.log").exists()


OWN_CELL = """
import torch

class Cell(torch.nn.Linear):
    deep = False

    def __init__(self, input_size, hidden_size, depth=1, *, device=None, dtype=None):
        super().__init__(input_size, hidden_size, device=device, dtype=dtype)

    def forward(self, x):
        states = torch.tanh(super().forward(x)).cumsum(0)
        return states, states[-1]
"""


@pytest.mark.parametrize("jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_cell_of_the_users_own_is_studied_like_ours(jobs, tiny, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(OWN_CELL)
    monkeypatch.syspath_prepend(tmp_path)
    results = run(tiny(arch=("mine:Cell",), depth=(1,), jobs=jobs), quiet=True)
    assert [(row.arch, row.depth, row.trial) for row in results.rows] == [
        ("mine:Cell", 1, n) for n in range(4)
    ]
    assert results.best["mine:Cell-depth1"].is_file()


# kills


def test_a_second_command_in_a_folder_is_refused(tiny, capsys):
    config = tiny(arch=("rnn",))
    with locked(config.folder):
        assert main(["run", "--arch", "rnn", "--preset", "smoke", "--out", str(config.folder)]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (config.folder / "journal.log").exists()


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (signal.SIGINT, 130),
        *(pytest.param(s, -s, marks=pytest.mark.slow) for s in (signal.SIGTERM, signal.SIGKILL)),
    ],
)
def test_the_real_command_stopped_in_its_middle_goes_on_to_the_same_bits(
    sent, code, tiny, undisturbed
):
    configuration = tiny(RunConfig, **LONG, save_seconds=0.0)
    stopped = command(configuration)
    wait_until_saved(stopped, configuration.out)
    stopped.send_signal(sent)
    errors = finished(stopped, code)
    assert code != 130 or "run the same command again" in errors.splitlines()[-1]
    results = run(configuration, quiet=True)
    assert [row.trial for row in results.rows] == [0, 1, 2]
    assert records(configuration.out) == undisturbed


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_ctrl_c_stops_all(tiny, undisturbed):
    configuration = tiny(RunConfig, **LONG, jobs=2, save_seconds=0.0)
    process = command(configuration)
    wait_until_saved(process, configuration.out)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    wait_for(lambda: "its trials continue" in process.stderr.readline())
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert "run the same command again" in finished(process, 130).splitlines()[-1]
    run(configuration, quiet=True)
    assert records(configuration.out) == undisturbed


@pytest.mark.slow
def test_workers_import_nothing_of_the_current_folder(tiny, tmp_path, own_folder):
    # the first two are sought in vain by Python's own modules
    for name in ("msvcrt", "_winapi", "torch"):
        Path(f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    run(tiny(arch=("dt-rnn",), jobs=2), quiet=True)
    assert not Path("ran").exists()
