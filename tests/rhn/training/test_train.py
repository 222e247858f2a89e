"""A training in a folder ends the same whatever happened on the way, and is never mixed with
another: of chorales and of texts.
"""

import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tables import others_slow

from rhn.checkpoints import read
from rhn.errors import DataError, InvalidInputError, OutputError
from rhn.training import run as run_folder
from rhn.training.config import ChoraleConfig
from rhn.training.interrupts import Interrupted
from rhn.training.run import SAVE_SHARE, locked, train
from rhn.training.state import write_state
from tests.rhn.pieces import shortest_chorales
from tests.rhn.texts import SMALL, small_corpus
from tests.rhn.texts import metrics as lines


@dataclass(frozen=True)
class Task:
    """A small training of three epochs or more."""

    name: str
    config: Any
    corpus: Any
    others: tuple
    """Another corpus, and a configuration that cannot be built."""

    def train(self, folder: Path, corpus=None, step=lambda _: None, **more):
        names = {name: more.pop(name) for name in list(more) if hasattr(self.config, name)}
        config, how = replace(self.config, **names), {"out": folder, "callbacks": [step], **more}
        return train(config, corpus or self.corpus, **how)[0]


@pytest.fixture(scope="module", params=["chorales", "text"])
def task(request):
    if request.param == "text":
        corpus = small_corpus(40)
        other = replace(corpus, checksum="1" * 64)
        return Task("text", SMALL, corpus, (other, {"hidden_size": 10**9}))
    config = ChoraleConfig(
        cell="rhn",
        depth=2,
        hidden_size=5,
        learning_rate=0.3,
        init_std=0.1,
        transform_bias=-1.0,
        epochs=5,
        patience=3,
    )
    other = shortest_chorales(33, skip=1)
    return Task("chorales", config, shortest_chorales(33), (other, {"cell": "gru", "depth": 1}))


@pytest.fixture(scope="module")
def whole(task, tmp_path_factory):
    """The folder of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("whole")
    task.train(folder)
    return folder


@pytest.fixture
def begun(task, tmp_path):
    """A folder whose training was stopped after 3 steps, in the first or the second epoch."""
    with pytest.raises(Interrupted, match=r"^stopped after epoch [01]; .* is saved$"):
        task.train(tmp_path, step=interrupt_after(3))
    return tmp_path


def interrupt_after(steps: int) -> Callable:
    """Ctrl-C before the first step (0) or after some."""
    calls = []

    def step(trainer):
        calls.append(trainer)
        if len(calls) == steps + 1:
            os.kill(os.getpid(), signal.SIGINT)

    return step


def contents(folder: Path) -> dict[str, bytes]:
    """Every file."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- it goes on ----------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", others_slow([0, 1, 4], 4))
def test_an_interrupted_training_goes_on_to_the_same_bits(steps, task, whole, tmp_path):
    with pytest.raises(Interrupted):
        task.train(tmp_path, step=interrupt_after(steps))
    task.train(tmp_path)
    assert contents(tmp_path) == contents(whole)


def test_a_lost_folder_ends_a_training_and_the_same_call_goes_on(task, whole, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(OutputError, match="No such file"):
        task.train(folder, step=lambda _: shutil.rmtree(folder, ignore_errors=True))
    task.train(folder)
    assert contents(folder) == contents(whole)


def test_out_of_time_again_and_again_it_ends_alike_and_at_every_stop_the_files_tell_one_story(
    task, whole, tmp_path
):
    for _ in range(500):
        result = task.train(tmp_path, max_minutes=0)
        done = [line for line in lines(tmp_path) if line["epoch"] > 0]
        assert len(done) == result.epochs
        if done:
            kept = read(tmp_path / "best.safetensors").header["metadata"]["metrics"]
            line = next(line for line in lines(tmp_path) if line["epoch"] == result.best_epoch)
            assert kept.items() >= line.items()
        if result.finished:
            break
    assert result.finished and contents(tmp_path) == contents(whole)


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    "written",
    others_slow(range(1, 8), 3, 7),
)
def test_after_a_kill_between_two_files_the_best_weights_are_of_an_epoch_with_a_line(
    written, task, whole, tmp_path, monkeypatch
):
    """A resume that is killed at once leaves the lines of the state."""

    def killed(*args, **options):
        raise Killed

    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        files = count(1)
        for name in ("write_state", "save"):
            write = getattr(run_folder, name)
            patch.setattr(
                run_folder,
                name,
                lambda *a, w=write, **o: killed() if next(files) > written else w(*a, **o),
            )
        task.train(tmp_path)
    with contextlib.suppress(Killed):
        task.train(tmp_path, step=killed)
    if (tmp_path / "best.safetensors").exists():
        kept = read(tmp_path / "best.safetensors").header["metadata"]["metrics"]
        assert kept["epoch"] in [line["epoch"] for line in lines(tmp_path)]
    task.train(tmp_path)
    assert contents(tmp_path) == contents(whole)


def test_lines_and_halves_of_files_after_the_last_save_are_written_again(task, whole, begun):
    with (begun / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 9, "train_nll": 1.0, "valid_nll": 1.0}\n{"epo')
    (begun / ".state.rhn-partial-0123abcd.safetensors").write_bytes(b"half")
    task.train(begun)
    assert contents(begun) == contents(whole)


def test_a_finished_training_is_not_trained_again(task, whole):
    before, seen = contents(whole), []
    task.train(whole, step=seen.append)
    assert len(seen) == 1 and contents(whole) == before


def test_a_finished_training_may_go_on_for_more_epochs(task, whole, tmp_path):
    task.train(tmp_path, epochs=2)
    task.train(tmp_path)
    assert contents(tmp_path) == contents(whole)
    with pytest.raises(InvalidInputError, match=r"^epochs is 1: expected \d or more$"):
        task.train(tmp_path, epochs=1)
    assert contents(tmp_path) == contents(whole)


def test_callbacks_see_every_step(task, tmp_path):
    steps = []
    task.train(tmp_path, step=lambda trainer: steps.append(trainer.steps))
    assert steps == list(range(len(steps))) and len(steps) > len(lines(tmp_path))


# ---- the folder is its own -----------------------------------------------------------------------


def test_another_training_is_refused(task, whole):
    before = contents(whole)
    with pytest.raises(
        InvalidInputError, match=r"holds another training run: hidden_size is 6 here and \d+ there"
    ):
        task.train(whole, hidden_size=6)
    with pytest.raises(InvalidInputError, match=r"(data|text) is .* here and .* there"):
        task.train(whole, corpus=task.others[0])
    assert contents(whole) == before


@pytest.mark.parametrize("name", ["best.safetensors", "config.json", "metrics.jsonl"])
def test_what_is_no_trainings_is_not_overwritten(name, task, tmp_path):
    """A study keeps its best network under the name that a training gives it."""
    (tmp_path / name).write_text("a study's")
    (tmp_path / ".lock").write_text("its lock")
    with pytest.raises(InvalidInputError, match=rf"holds {name} and no state.safetensors$"):
        task.train(tmp_path)
    assert contents(tmp_path) == {name: b"a study's", ".lock": b"its lock"}
    (tmp_path / name).unlink()
    task.train(tmp_path, max_minutes=0)
    assert (tmp_path / ".lock").read_text() == "its lock"


def test_what_cannot_be_built_leaves_no_folder(task, tmp_path):
    with pytest.raises(InvalidInputError, match=r"memory|hidden_size|transform_bias"):
        task.train(tmp_path / "run", **task.others[1])
    if task.name == "text":
        with pytest.raises(InvalidInputError, match="threads is 100000"):
            task.train(tmp_path / "run", threads=100_000)
    assert not (tmp_path / "run").exists()


def test_two_processes_do_not_train_in_one_folder_nor_clean_it_under_its_writer(task, tmp_path):
    half = tmp_path / ".state.rhn-partial-0123abcd.safetensors"
    with locked(tmp_path):
        half.write_text("half")
        with pytest.raises(OutputError, match="another process works"):
            task.train(tmp_path)
        assert half.exists()
    left = [half, tmp_path / "seed-12" / half.name]  # in this folder and in those of its seeds
    others = tmp_path / "other" / half.name  # another training may be writing there
    for path in (*left, others):
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    task.train(tmp_path, max_minutes=0)
    assert [path.exists() for path in (*left, others)] == [False, False, True]


# ---- a state that is not what was written --------------------------------------------------------


def refused(task, folder, message):
    before = contents(folder)
    with pytest.raises((DataError, InvalidInputError), match=message):
        task.train(folder)
    assert contents(folder) == before


def test_a_state_with_a_flipped_bit_or_half_of_one_is_refused(task, begun):
    path = begun / "state.safetensors"
    good = path.read_bytes()
    for damaged in (good[:-1] + bytes([good[-1] ^ 1]), good[:-1]):
        path.write_bytes(damaged)
        refused(task, begun, r"state\.safetensors is (damaged|no complete)")


def test_a_state_that_is_gone_is_not_begun_anew_over_what_was_done(task, tmp_path):
    task.train(tmp_path, epochs=1)
    (tmp_path / "state.safetensors").unlink()
    refused(task, tmp_path, r"holds config\.json and no state\.safetensors$")


@pytest.mark.parametrize(
    "change", [{"hidden_size": 7}, {"learning_rate": 0.01}], ids=["shapes", "equal shapes"]
)
def test_the_state_of_another_training_is_refused(change, task, begun, tmp_path_factory):
    other, (name, value) = tmp_path_factory.mktemp("other"), *change.items()
    task.train(other, epochs=1, **change)
    shutil.copy(other / "state.safetensors", begun / "state.safetensors")
    refused(task, begun, rf"holds another training run: {name} is .* here and {value} there$")
    write_state(begun / "state.safetensors", {"unknown": np.zeros(3)}, {})
    refused(task, begun, r"holds another training run: .* and null there$")


# ---- how often it is saved -----------------------------------------------------------------------


def test_saving_takes_a_small_share_of_the_time(task, tmp_path, monkeypatch):
    """By a clock on which a step takes 20 seconds and a save one."""
    clock, saves = [0.0], []
    monkeypatch.setattr("rhn.training.run.time.monotonic", lambda: clock[0])

    def step(trainer):
        clock[0] += 20.0

    def write(*state):
        saves.append(clock[0])
        clock[0] += 1.0
        write_state(*state)

    monkeypatch.setattr("rhn.training.run.write_state", write)
    task.train(tmp_path, epochs=12, patience=None, step=step)
    apart = 20 * -(-1 / SAVE_SHARE // 20) + 1
    assert np.diff(saves[1:-1]).tolist() == [apart] * (len(saves) - 3)
