"""Ctrl-C, memory and threads."""

import os
import signal
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rhn.errors import InvalidInputError
from rhn.training.build import TRAINED, build_model, build_models
from rhn.training.configure import preset
from rhn.training.interrupts import deferred_interrupt
from rhn.utils import resources
from rhn.utils.resources import free_memory, tune_malloc, weight_bytes
from rhn.utils.threads import deterministic


def test_the_first_ctrl_c_is_noted_and_says_so_and_the_second_ends(caplog):
    before = signal.getsignal(signal.SIGINT)
    with deferred_interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.pending and "as soon as everything is saved" in caplog.text
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


class OwnError(Exception):
    pass


def own_handler(signum, frame):
    raise OwnError


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        pytest.param(own_handler, OwnError, id="of the user"),
        pytest.param(signal.SIG_DFL, KeyboardInterrupt, id="that of the system, no function"),
    ],
)
def test_the_second_ctrl_c_calls_the_earlier_handler(handler, error):
    before = signal.signal(signal.SIGINT, handler)
    with deferred_interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(error):
            os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_interrupts_that_are_ignored_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    with deferred_interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)
    assert not interrupt.pending


def test_ctrl_c_is_left_alone_outside_the_main_thread():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with deferred_interrupt():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_container_s_limit_decides_how_many_models_fit_its_memory(tmp_path, monkeypatch):
    cgroups = {"/sys/fs/cgroup": tmp_path}
    monkeypatch.setattr(resources, "Path", lambda path: cgroups.get(path, Path(path)))
    build = partial(build_model, preset("jsb-depth-1", hidden_size=3))
    need = 2 * TRAINED * weight_bytes(build())
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 250\n")
    for limit, models in ((need + 450, 2), ("max", 3)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert len(build_models(lambda seed: build(seed=seed), range(models), "cpu")) == models
    (tmp_path / "memory.max").write_text(f"{need + 449}\n")
    with pytest.raises(InvalidInputError, match=r"^training needs about .* fewer or smaller"):
        build_models(lambda seed: build(seed=seed), range(2), "cpu")


@pytest.mark.parametrize(
    ("limit", "used", "free"),
    [
        pytest.param("max", 700, 3072, id="no limit"),
        pytest.param("9000", 700, 3072, id="a limit above the free memory"),
        pytest.param("2000", 700, 1550, id="a limit"),
        pytest.param("2000", 2900, 0, id="more used than the limit"),
    ],
)
def test_the_free_memory_is_that_of_the_machine_or_of_the_limit(
    limit, used, free, tmp_path, monkeypatch
):
    places = {"/sys/fs/cgroup": tmp_path, "/proc/meminfo": tmp_path / "meminfo"}
    monkeypatch.setattr(resources, "Path", lambda path: places[path])
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    3 kB\n")
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    (tmp_path / "memory.current").write_text(f"{used}\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 250\n")
    assert free_memory() == free


def test_without_a_count_all_memory_is_free(tmp_path, monkeypatch):
    (line,) = (row for row in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in row)
    monkeypatch.setattr(resources, "Path", lambda path: tmp_path / "missing")
    assert free_memory() == pytest.approx(1024 * int(line.split()[1]), rel=1e-3)


def test_the_free_memory_of_a_gpu_is_torch_s_first_number(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", {"cuda:1": (5, 9)}.get)
    assert free_memory("cuda:1") == 5
    with pytest.raises(InvalidInputError, match=r"^training needs about "):
        build_models(lambda seed: torch.nn.Linear(2, 2), [0], "cuda:1")


def test_freed_memory_is_kept_by_two_settings_of_glibc(monkeypatch):
    """-3 is M_MMAP_THRESHOLD, -1 M_TRIM_THRESHOLD."""
    settings = {}
    library = SimpleNamespace(mallopt=settings.__setitem__)
    monkeypatch.setattr(resources.ctypes, "CDLL", lambda _: library)
    tune_malloc()
    assert settings.keys() == {-3, -1} and min(settings.values()) >= 2**30


def test_threads_are_those_of_the_machine_and_settings_are_put_back():
    """torch ends the process with a segmentation fault for thousands of threads."""
    before = torch.get_num_threads()
    with deterministic(1):
        assert torch.get_num_threads() == 1
        assert torch.tensor([1e-40]).mul(1).item() == 0
        for threads in (0, (os.cpu_count() or 1) + 1, 100_000):
            with pytest.raises(InvalidInputError, match=f"threads is {threads}: expected a whole"):
                deterministic(threads).__enter__()
    assert torch.get_num_threads() == before
    assert torch.tensor([1e-40]).mul(1).item() > 0
