"""Workers on a Ray cluster: the results are those of one process alone, whatever becomes of a
node.
"""

import signal
import sys
from types import SimpleNamespace

import pytest
from small_studies import finished
from test_run import LONG, command, records, tiny, undisturbed, wait_until_saved  # noqa: F401 - two are fixtures

from optim_study import RunConfig, run, smoke
from optim_study.cli import main
from optim_study.ray_engine import ray_devices
from rhn.errors import InvalidInputError


@pytest.mark.slow
def test_tasks_of_ray_stopped_by_ctrl_c_give_the_results_of_one_process(
    tiny,  # noqa: F811
    undisturbed,  # noqa: F811
    monkeypatch,
):
    pytest.importorskip("ray", reason="ray is not installed")
    config = tiny(RunConfig, **LONG, jobs=2, save_seconds=0.0, engine="ray", address="local")
    stopped = command(config, "--engine", "ray", "--set", "address=local")
    wait_until_saved(stopped, config.out)
    stopped.send_signal(signal.SIGINT)
    assert "run the same command again" in finished(stopped, 130).splitlines()[-1]
    monkeypatch.setattr("optim_study.runner.ThisProcess", None)
    run(config, quiet=True)
    assert records(config.out) == undisturbed


CPUS, GPUS = {"CPU": 4.0}, {"CPU": 2.0, "GPU": 3.0}


@pytest.mark.parametrize(
    ("nodes", "asked", "expected"),
    [
        ([CPUS, CPUS], {}, ["cpu"] * 8),
        ([GPUS, CPUS], {}, ["cuda"] * 3),
        ([GPUS, GPUS], {"jobs": 5}, ["cuda"] * 5),
        ([GPUS], {"device": "cpu"}, ["cpu"] * 2),
        ([CPUS], {"device": "cuda"}, "device is 'cuda': expected 0 GPUs, 4 CPUs"),
        ([{"memory": 1e9}], {}, "device is 'auto': expected 0 GPUs, 0 CPUs"),
    ],
)
def test_a_worker_each_on_a_gpu_or_a_cpu_of_the_cluster(nodes, asked, expected, monkeypatch):
    alive = [{"Alive": True, "Resources": resources} for resources in nodes]
    dead = {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(nodes=lambda: [*alive, dead]))
    config = RunConfig(engine="ray", **asked)
    if isinstance(expected, list):
        assert ray_devices(config) == expected
    else:
        with pytest.raises(InvalidInputError, match=expected):
            ray_devices(config)


def test_without_ray_the_engine_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InvalidInputError, match="address is '': import of ray halted"):
        run(smoke(out=tmp_path / "out", engine="ray"), quiet=True)
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_is_not_there_is_one_sentence(tmp_path, capsys):
    pytest.importorskip("ray", reason="ray is not installed")
    words = [
        "--preset",
        "smoke",
        "--engine",
        "ray",
        "--set",
        "address=127.0.0.1:1",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(["run", *words]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and "address is '127.0.0.1:1': " in said[0]
