"""Workers on a Ray cluster: the results are those of one process alone, whatever becomes of a node."""

import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import wait_for
from test_run import command, tiny  # noqa: F401 - a fixture

from optim_study import RunConfig, run, smoke
from optim_study.cli import main
from optim_study.ray_engine import places
from rhn.errors import InvalidInputError
from rhn.training.state import read_state

MANY = {"arch": ("rhn",), "depth": (2,), "trials": 6, "epochs": 600, "patience": 600, "budget_scale": 0.003}


@pytest.mark.slow
def test_tasks_of_ray_give_the_results_of_one_process(tiny, tmp_path, monkeypatch):  # noqa: F811
    pytest.importorskip("ray", reason="ray is not installed")
    alone = run(tiny(arch=("rhn",), depth=(1,)), quiet=True)
    monkeypatch.setattr("optim_study.runner.ThisProcess", None)
    config = tiny(arch=("rhn",), depth=(1,), out=tmp_path / "ray", engine="ray", address="local", jobs=2)
    assert run(config, quiet=True).csv.read_bytes() == alone.csv.read_bytes()


def epochs_saved(out: Path) -> dict[str, int]:
    """How far the trials are on disk that are being trained."""
    found = {path.name: read_state(path, whole=False) for path in out.glob("*/trials/0*.safetensors")}
    return {name: int(state[1]["epoch"]) for name, state in found.items() if state}


def both_go_on(before: dict[str, int], now: dict[str, int]) -> bool:
    """Whether two workers have saved a trial each since then."""
    return sum(epoch > before.get(name, -1) for name, epoch in now.items()) == 2


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_an_interrupt_and_a_dead_node_change_nothing(tiny, tmp_path):  # noqa: F811
    cluster_utils = pytest.importorskip("ray.cluster_utils", reason="ray is not installed")
    alone = run(tiny(RunConfig, **MANY, out=tmp_path / "alone"), quiet=True)
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        other = cluster.add_node(num_cpus=1)
        config = tiny(RunConfig, **MANY, jobs=2, save_seconds=0.1)
        words = ["--engine", "ray", "--address", cluster.address, "--fuse", "1"]

        def started():
            process, before = command(config, *words), epochs_saved(config.folder)
            wait_for(lambda: both_go_on(before, epochs_saved(config.folder)) or process.poll() is not None)
            assert process.poll() is None, process.communicate()
            return process

        process = started()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 130 and "run the same command again" in errors.splitlines()[-1]
        process = started()
        cluster.remove_node(other, allow_graceful=False)
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
        assert "go on from their last save" in errors and "Traceback" not in errors
        assert (config.folder / "trials.csv").read_bytes() == alone.csv.read_bytes()
    finally:
        cluster.shutdown()


CPUS, GPUS = {"CPU": 4.0, "memory": 8e9}, {"CPU": 2.0, "GPU": 3.0}


@pytest.mark.parametrize(
    ("nodes", "asked", "expected"),
    [
        ([CPUS, CPUS], {}, ["cpu"] * 8),
        ([CPUS, CPUS], {"jobs": 2}, ["cpu"] * 2),
        ([GPUS, CPUS], {}, ["cuda"] * 3),
        ([GPUS, GPUS], {"jobs": 5}, ["cuda"] * 5),
        ([GPUS], {"device": "cpu"}, ["cpu"] * 2),
        ([CPUS], {"device": "cuda"}, "no node of the Ray cluster has a GPU"),
        ([{"memory": 1e9}], {}, "no node of the Ray cluster has a CPU"),
    ],
)
def test_a_worker_each_on_a_gpu_or_a_cpu_of_the_cluster(nodes, asked, expected, monkeypatch):
    alive = [{"Alive": True, "Resources": resources} for resources in nodes]
    dead = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0, "memory": 1.0}}
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(nodes=lambda: [*alive, dead]))
    config = RunConfig(engine="ray", **asked)
    if isinstance(expected, list):
        assert places(config) == expected
    else:
        with pytest.raises(InvalidInputError, match=expected):
            places(config)


def test_what_ray_cannot_do_is_one_sentence(tmp_path, monkeypatch, capsys):
    with pytest.raises(InvalidInputError, match="--address is for --engine ray"):
        RunConfig(address="host:6379")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InvalidInputError, match=r"needs Ray: install it with `pip install 'rhn-toolkit\[ray\]'`"):
        run(smoke(out=tmp_path / "out", engine="ray"), quiet=True)
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_is_not_there_is_one_sentence(tmp_path, capsys):
    pytest.importorskip("ray", reason="ray is not installed")
    words = ["--preset", "smoke", "--engine", "ray", "--address", "127.0.0.1:1", "--out", str(tmp_path / "out")]
    assert main(["run", *words]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "no Ray cluster answers at 127.0.0.1:1: " in said[0]
    assert not (tmp_path / "out").exists()
