"""Ctrl-C, memory and threads."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rhn.cells import RHN
from rhn.errors import InvalidInputError
from rhn.training.ensemble import TRAINED, build_model, build_models, deterministic, weight_bytes
from rhn.training.interrupts import deferred_interrupt
from rhn.utils import validation
from tests.rhn.texts import SMALL


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_the_first_ctrl_c_is_noted_and_says_so_unless_interrupts_are_ignored(
    handler, caplog, monkeypatch
):
    before = signal.signal(signal.SIGINT, handler)
    try:
        with deferred_interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            assert interrupt.pending == (handler is not signal.SIG_IGN)
            if interrupt.pending:
                assert "as soon as everything is saved" in caplog.text
                with pytest.raises(KeyboardInterrupt):
                    os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(
        validation, "Path", lambda path: tmp_path if "cgroup" in path else Path(path)
    )
    machine = validation.free_memory()
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 250\n")
    assert validation.free_memory() == 550 < machine
    (tmp_path / "memory.max").write_text("max\n")
    assert validation.free_memory() > 550


class Own(RHN):
    """A user's cell, which cannot be built without memory."""

    def __init__(self, *args, device=None, **options):
        assert str(device) != "meta"
        super().__init__(*args, device=device, **options)


def test_a_training_of_a_user_s_cell_is_refused_if_it_is_beyond_memory(monkeypatch):
    config = replace(SMALL, cell=f"{__name__}:Own")
    need = TRAINED * weight_bytes(build_model(config, 10))
    monkeypatch.setattr(validation, "free_memory", lambda device: 2 * need)
    build = lambda seed: build_model(config, 10, seed=seed)  # noqa: E731
    assert len(build_models(build, [0, 1], "cpu")) == 2
    with pytest.raises(InvalidInputError, match=r"^training needs about .* fewer or smaller"):
        build_models(build, [0, 1, 2], "cpu")


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
