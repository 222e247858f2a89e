"""Whole runs of real networks on a few bars: the commands answer as Python does, and whatever
is killed, stopped or shared, the results are the same bits.
"""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from small_studies import MELODIES, finished, wait_for

from optim_study import ray_engine, read_csv, run, smoke
from optim_study.config import RunConfig
from optim_study.engines import ThisProcess, engine_of
from optim_study.ray_engine import ray_devices, ray_tasks
from optim_study.results import csv_text, write_csv
from optim_study.runner import OUTPUTS
from optim_study.shares import REGIONS, share_block, short_table, training_shares
from rhn.errors import InvalidInputError
from rhn.training.state import LOCK

pytestmark = pytest.mark.usefixtures("own_folder")
SMOKE = "optim-study run --preset smoke --device cpu"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The results of a small run that is over."""
    out = str(tmp_path_factory.mktemp("study") / "out")
    return run(smoke(arch=("rhn", "dt-rnn"), data=MELODIES, out=out, device="cpu"), progress=False)


# commands


def test_the_papers_study_without_training(answer, own_folder):
    line, units = "optim-study run --device cpu --dry-run", {}
    for row in answer(line) + answer(f"{line} --arch dts-rnn lstm --cell-option skip=last"):
        units.setdefault(row["study"].rpartition("-depth")[0], []).append(row["hidden_size"])
        assert row["parameters"] <= 150_000 * row["depth"]
        assert (row["trials"], row["epochs"], row["patience"]) == (60, 1000, 100)
    assert units == {
        "rhn": [215, 242, 257, 262],
        "dt-rnn": [308, 345, 365, 372],
        "dts-rnn": [308, 287, 280, 277],
        "dts-rnn-skip-last": [308, 287, 328, 345],
        "lstm": [145],
    }
    assert list(own_folder.iterdir()) == []


def test_options_reach_the_plan_and_the_settings(study, answer, command, snapshot):
    line = (
        "--arch rhn --depth 2 --trials 9 --epochs 7 --patience 5 --set budget_scale=0.5 --seed 11"
        " --objective valid --optimizer adam --learning-rate 1e-3 0.5 --init-std 1e-6 1e-3"
        """ --set 'init_schemes=["scaled", "identity"]' --transform-bias -1 -4 --fuse 3 --jobs 2"""
        f" --cell-option gate-constant=0.5 --dry-run --data {MELODIES}"
    )
    (row,) = answer(f"{SMOKE} {line}")
    assert row.pop("memory") > 4e8 and re.fullmatch("[0-9a-f]{64}", row.pop("data"))
    assert row == snapshot
    line = f"--arch rhn --depth 2 4 --trials 9 --fuse 5 --dry-run --data {MELODIES} --out"
    printed = command(f"{SMOKE} {line}", study.csv.parent).out
    plan, estimates, _ = printed.partition("\npreset ")
    assert estimates and re.sub(r"data +\w+", "data", plan) == snapshot


def test_the_commands_give_what_python_gives(study, answer, command):
    out, shares = study.csv.parent, training_shares(study.trials)
    again = f"{SMOKE} --arch rhn dt-rnn --data {MELODIES} --out {out}"
    (out / LOCK).unlink()  # as of a copied folder
    assert answer(again) == [asdict(row) for row in study.rows]
    files = "\n".join(f"file: {out / name}" for name in OUTPUTS)
    table = short_table(share_block(shares, study.trials, "train", 9.5))
    assert command(again).out == f"{table}\n{files}\n" and study.shares == shares
    by_name = sorted(study.trials, key=lambda row: (row.arch, row.depth, row.trial))
    assert answer("optim-study export", out) == [asdict(row) for row in by_name]
    assert command("optim-study export", out).out == csv_text(by_name)
    assert read_csv(study.csv) == study.trials and len(study.rows) == 16
    assert all((row.transform_bias is None) == (row.arch == "dt-rnn") for row in study.rows)
    _, *lines = (out / "shares.csv").read_text().splitlines()
    expected = [["" if x is None else str(x) for x in vars(share).values()] for share in shares]
    assert [line.split(",")[-7:] for line in lines] == [values[-7:] for values in expected]
    assert len(command("optim-study status", out).out.splitlines()) == 5
    status = {row["study"]: row["complete"] for row in answer("optim-study status", out)}
    assert status == dict.fromkeys(study.best, 4) and len(status) == 4
    assert all(path.is_file() for path in (*study.best.values(), study.figure))


OF_FOLDERS = [
    pytest.param("status --json", id="status"),
    pytest.param("export", id="export"),
    pytest.param("plot --output a.csv", id="plot"),
]


@pytest.mark.parametrize("words", OF_FOLDERS)
def test_folders_of_runs_are_positions_and_by_default_the_only_one_in_runs(
    words, study, command, refused, own_folder
):
    name, *more = words.split()
    (own_folder / "runs" / "texts").mkdir(parents=True)
    refused(f"optim-study {words}", says="expected the folder of a run, runs/ has none")
    shutil.copytree(study.csv.parent, "runs/one")
    Path("runs/one", LOCK).unlink(missing_ok=True)
    named = command(f"optim-study {name} runs/one", *more)
    assert named.code == 0 and len(named.out.splitlines()) > 0
    assert command(f"optim-study {words}") == named
    shutil.copytree("runs/one", "runs/two")
    refused(f"optim-study {words}", says="expected some of runs/one, runs/two")


def test_status_and_export_of_several_folders_have_the_rows_of_each(study, answer, own_folder):
    for name in ("one", "two"):
        shutil.copytree(study.csv.parent, name)
        (own_folder / name / LOCK).unlink(missing_ok=True)
    for name in ("status", "export"):
        one, two = (answer(f"optim-study {name} {folder}") for folder in ("one", "two"))
        assert answer(f"optim-study {name} one two") == one + two
        assert answer(f"optim-study {name} --out one") == one  # as in 0.7.0
    folders = [row["folder"] for row in answer("optim-study status one two")]
    assert folders == ["one"] * 4 + ["two"] * 4


@pytest.mark.parametrize(("kind", "loss"), [("swarm", "valid"), ("map", "train")])
def test_plot_draws_folders_and_tables_and_counts_a_copy_once(kind, loss, study, answer, caplog):
    out, copy = study.csv.parent, shutil.copytree(study.csv.parent, "copy")
    regions = REGIONS if kind == "map" else REGIONS[:1]
    words = f"--kind {kind} --objective {loss} --below 9.9 --output trials.csv"
    for runs in ([out], [study.csv], [out, copy]):
        found = answer("optim-study plot", *runs, *words.split())
        rows = read_csv("trials.csv")
        shares = training_shares(rows, loss, 9.9, regions)
        assert found == [asdict(share) for share in shares]
        assert sorted(rows, key=str) == sorted(study.trials, key=str)
    assert caplog.messages == ["repeated trials left out: 16"]
    found = answer(f"optim-study plot {out} --depth 2 {words} a.png")
    assert Path("a.png").stat().st_size > 5000
    deep = sorted((row for row in study.trials if row.depth == 2), key=lambda row: row.arch)
    assert found == [asdict(share) for share in training_shares(deep, loss, 9.9, regions)]
    assert read_csv("trials.csv") == deep


def test_plot_writes_the_whole_table_one_network_and_region_a_line(study, answer):
    first, *others = study.trials
    write_csv([replace(first, init_std=0.1), *others], "trials.csv")
    found = answer("optim-study plot trials.csv --kind map --output a.csv --csv shares.csv")
    with Path("shares.csv").open(newline="") as file:
        lines = [*csv.DictReader(file)]
    texts = [{k: "" if v is None else str(v) for k, v in share.items()} for share in found]
    assert lines == texts and len(lines) == 4 + 2


def test_plot_prints_twenty_rows_or_the_whole_table(study, command):
    ones = [replace(row, fingerprint=None) for row in study.trials if row.depth == 1]
    write_csv([replace(row, depth=depth) for row in ones for depth in range(1, 12)], "many.csv")
    words = "optim-study plot many.csv --output a.csv"
    short, whole = (command(line).out.splitlines() for line in (words, f"{words} --whole"))
    assert short[:21] == whole[:21] and len(whole) == len(short) + 2
    assert short[-2] == "2 more rows: --whole, .csv; explained: docs/guides/study.md"
    assert [line.split()[:2] for line in (short[-3], whole[-3])] == [["constant", "predictor"]] * 2


@pytest.mark.slow
def test_plot_writes_a_figure_with_the_name_of_its_kind_by_default(study, answer, own_folder):
    for kind in ("swarm", "map"):
        answer(f"optim-study plot {study.csv} --kind {kind}")
    assert {path.name for path in own_folder.iterdir()} == {"swarm.png", "map.png"}


def test_tables_are_in_the_order_of_the_architectures_and_then_of_others_in_the_folder(study):
    assert [row.arch for row in study.trials] == ["rhn"] * 8 + ["dt-rnn"] * 8
    assert read_csv(study.csv) == study.trials
    named = ["rhn, depth 1", "rhn, depth 2", "dt-rnn, depth 1", "dt-rnn, depth 2"]
    assert [share.network for share in study.shares] == named


@pytest.mark.parametrize("storage", ["", " --storage sqlite:///trials.db"])
def test_finished_trials_of_another_protocol_are_refused_and_not_replaced(
    storage, study, tmp_path, refused, answer
):
    out = shutil.copytree(study.csv.parent, tmp_path / "out")
    if not storage:
        (out / "journal.log").unlink()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    line = f"{SMOKE} --arch rhn --data {MELODIES} --epochs 3 --out {out}{storage}"
    refused(line, says="holds another study: epochs is 3 here and 4 there; expected another --out")
    assert [row["complete"] for row in answer(f"{line} --dry-run")] == [0, 0]
    line = line.replace("--epochs 3", "--epochs 4")
    assert [row["complete"] for row in answer(f"{line} --dry-run")] == [4, 4]
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_folder_with_files_of_the_user_s_is_refused(refused):
    Path("swarm.png").write_text("mine")
    refused(f"{SMOKE} --arch rnn --out .", says="expected a folder without swarm.png")
    assert [path.name for path in Path().iterdir()] == ["swarm.png"]


def test_a_database_holds_the_studies_of_several_folders(server, answer):
    line = f"{SMOKE} --data {MELODIES} --storage {server.url} --depth 1"
    for arch in ("rnn", "gru"):
        assert len(answer(f"{line} --arch {arch} --out {arch}")) == 4
        assert not Path(arch, "journal.log").exists()
    status = answer(f"optim-study status rnn --storage {server.url}")
    assert {row["study"]: row["complete"] for row in status} == {"rnn-depth1": 4, "gru-depth1": 0}


@pytest.mark.slow
def test_workers_import_the_users_cell_but_nothing_else_of_the_current_folder(
    tmp_path_factory, monkeypatch
):
    # the first two are sought in vain by Python's own modules
    for name in ("msvcrt", "_winapi", "torch"):
        Path(f"{name}.py").write_text("open('ran', 'w')")
    modules = tmp_path_factory.mktemp("modules")
    (modules / "mine.py").write_text("from rhn.cells import GRU as Cell")
    monkeypatch.syspath_prepend(modules)
    config = smoke(arch=("mine:Cell",), depth=(1,), data=MELODIES, device="cpu", jobs=2)
    results = run(config, progress=False)
    assert [(row.arch, row.trial) for row in results.rows] == [("mine:Cell", n) for n in range(4)]
    assert results.best["mine:Cell-depth1"].is_file() and not Path("ran").exists()


# kills

LONG = "run --arch rhn --depth 2 --trials 3 --epochs 60 --patience 60 --device cpu"
LONG += f" --set budget_scale=0.003 --set save_seconds=0 --data {MELODIES}"


def records(out: str) -> dict[str, bytes]:
    """What every trial came to, its whole curve and the best network's file, to the bit."""
    names = ("*/trials/*.json", "*/best.safetensors", "trials.csv")
    paths = [path for name in names for path in Path(out).glob(name)]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def interrupt(process: subprocess.Popen) -> None:
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "harm", "code"),
    [
        ("", interrupt, 130),
        ("", subprocess.Popen.kill, -signal.SIGKILL),
        ("--jobs 2 --engine ray --set address=local", interrupt, 130),
    ],
)
def test_a_command_stopped_in_its_middle_goes_on_to_the_same_bits(options, harm, code, command):
    if "ray" in options:
        pytest.importorskip("ray", reason="ray is not installed")
    words = [sys.executable, "-m", "optim_study", *f"{LONG} {options} --out out".split()]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
    saved = Path("out/rhn-depth2/trials")
    wait_for(lambda: any(saved.glob("0*.safetensors")) or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    harm(process)
    errors = finished(process, code)
    assert code != 130 or "run the same command again" in errors.splitlines()[-1]
    assert command(f"optim-study {LONG} {options} --out out").code == 0
    assert command(f"optim-study {LONG} --out undisturbed").code == 0
    assert records("out") == records("undisturbed") and len(records("out")) == 5


@pytest.mark.parametrize(
    ("engine", "gpus", "asked", "expected"),
    [
        pytest.param("processes", 0, {}, ["cpu"], id="a CPU"),
        pytest.param("processes", 0, {"jobs": 2}, ["cpu"] * 2, id="2 jobs"),
        pytest.param("processes", 2, {}, ["cuda:0", "cuda:1"], id="2 GPUs"),
        pytest.param(
            "processes", 2, {"jobs": 3}, ["cuda:0", "cuda:1", "cuda:0"], id="3 jobs, 2 GPUs"
        ),
        pytest.param("ray", 0, {}, ["cpu"] * 8, id="Ray, 8 CPUs"),
        pytest.param("ray", 3, {}, ["cuda"] * 3, id="Ray, 3 GPUs"),
        pytest.param("ray", 3, {"jobs": 5}, ["cuda"] * 5, id="Ray, 5 jobs, 3 GPUs"),
        pytest.param("ray", 3, {"device": "cpu"}, ["cpu"] * 8, id="Ray, the CPUs beside 3 GPUs"),
    ],
)
def test_a_worker_each_on_a_gpu_or_a_cpu(engine, gpus, asked, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    kinds = [{"CPU": 2.0, "GPU": float(gpus)}, {"CPU": 6.0}]
    nodes = [{"Alive": alive, "Resources": kind} for alive in (True, False) for kind in kinds]
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(nodes=lambda: nodes))
    config = RunConfig(engine=engine, **asked)
    if engine == "ray":
        assert ray_devices(config) == expected
    else:
        with engine_of(config) as opened:
            assert opened.places == expected
            assert isinstance(opened, ThisProcess) == (len(expected) == 1)


@pytest.mark.parametrize(
    ("device", "gpus"), [pytest.param("cuda", 1, id="GPU"), pytest.param("cpu", 0, id="CPU")]
)
def test_a_task_of_ray_has_a_gpu_or_a_cpu_and_is_not_started_twice(device, gpus, monkeypatch):
    asked = {}
    lost = dict.fromkeys(("WorkerCrashedError", "NodeDiedError", "OutOfMemoryError"), OSError)
    remote = SimpleNamespace(options=lambda **how: asked.update(how))
    ray = SimpleNamespace(remote=lambda work: remote, exceptions=SimpleNamespace(**lost))
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert ray_engine.RayTasks([device]).places == [device]
    assert asked == {"max_retries": 0, "num_gpus": gpus}


def test_a_task_of_ray_computes_with_one_thread_and_stops_by_its_end_only(monkeypatch):
    found = lambda job, stopping: (job, torch.get_num_threads(), stopping())  # noqa: E731
    monkeypatch.setattr(ray_engine, "attempt", found)
    torch.set_num_threads(2)
    try:
        assert ray_engine._attempt("job") == ("job", 1, False)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("address", "variable", "named"),
    [
        pytest.param("127.0.0.1:1", None, "127.0.0.1:1", id="option"),
        pytest.param(None, "ray://127.0.0.1:1", "ray://127.0.0.1:1", id="variable"),
        pytest.param("127.0.0.1:1", "ray://127.0.0.1:2", "127.0.0.1:1", id="both"),
    ],
)
def test_a_cluster_that_cannot_be_reached_is_refused_by_its_address(
    address, variable, named, monkeypatch
):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    config = RunConfig(engine="ray", address=address)
    with pytest.raises(InvalidInputError, match=f"address is '{named}'"), ray_tasks(config):
        pass
