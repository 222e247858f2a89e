"""A training in a folder ends the same whatever happened on the way, and is never mixed with
another: of chorales and of texts. Its state file gives back what was written, or is refused.
"""

import contextlib
import json
import os
import resource
import shutil
import signal
import sys
from dataclasses import asdict, replace
from functools import partial
from itertools import chain, count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cases import others_slow

import rhn
from rhn.checkpoints import read
from rhn.errors import DamagedError, DataError, DivergedError, InvalidInputError, OutputError
from rhn.files import write_tensors
from rhn.training import run
from rhn.training.interrupts import Interrupted
from rhn.training.run import locked, train
from rhn.training.state import diverged, read_state, write_state
from tests.rhn.pieces import SMALL_CHORALES, shortest_chorales
from tests.rhn.texts import SMALL, metrics, small_corpus

MUSIC, TEXT = shortest_chorales(33), small_corpus(40)
OTHERS = {"chorales": shortest_chorales(33, skip=1), "text": replace(TEXT, checksum="1" * 64)}
HALF = ".state.rhn-partial-0123abcd.safetensors"  # what a killed writer leaves


@pytest.fixture(scope="module", params=[(SMALL_CHORALES, MUSIC), (SMALL, TEXT)], ids=OTHERS)
def task(request):
    """A small training of three epochs or more."""
    return partial(train, *request.param)


@pytest.fixture(scope="module")
def whole(task, tmp_path_factory):
    """The folder of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("whole")
    task(out=folder)
    return folder


@pytest.fixture
def begun(task, tmp_path):
    """A folder whose training was stopped after 3 steps, in the first or the second epoch."""

    def press_ctrl_c(trainer):
        if trainer.steps == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match=r"^stopped after epoch [01]; .* is saved$"):
        task(out=tmp_path, callbacks=[press_ctrl_c])
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def best(folder: Path) -> dict:
    """What the checkpoint has of its epoch."""
    return read(folder / "best.safetensors").metadata["metrics"]


def test_a_folder_has_the_configuration_the_losses_and_the_best_model(task, whole):
    before, steps, (config, corpus) = contents(whole), [], task.args
    threads = [1, min(2, os.cpu_count() or 1)]
    (result,) = task(
        out=whole, threads=threads[1], callbacks=[lambda _: steps.append(torch.get_num_threads())]
    )
    assert steps == [threads[config is SMALL]], "threads are those of texts"
    assert contents(whole) == before, "what is finished is not trained again"
    assert before["config.json"].startswith(b'{\n  "cell": "rhn",\n')
    names = [".lock", "best.safetensors", "config.json", "metrics.jsonl", "state.safetensors"]
    assert sorted(before) == names
    assert json.loads(before["config.json"]).items() >= asdict(config).items()
    assert read(whole / "best.safetensors").metadata["train"] == asdict(config)
    lines = {line["epoch"]: line for line in metrics(whole)}
    assert list(lines) == list(range(config is SMALL, result.epochs + 1))
    columns = [list(line.values())[2] for line in lines.values()]
    assert list(lines)[np.argmin(columns)] == result.best_epoch
    assert best(whole).items() >= lines[result.best_epoch].items()
    how = {"batch_size": config.batch_size} if config is SMALL else {}
    found = rhn.evaluate(rhn.load(whole), corpus, "valid", **how).nll
    assert found == pytest.approx(result.valid_nll, rel=1e-6)
    untrained = rhn.evaluate(rhn.load(whole, before_training=True), corpus, "valid", **how).nll
    assert untrained > found
    if corpus is MUSIC:
        assert untrained == lines[0]["valid_nll"]
        assert rhn.evaluate(rhn.load(whole), corpus).nll == result.test_nll
        assert best(whole)["test_nll"] == result.test_nll


def test_seeds_that_patience_ended_keep_their_results_though_more_epochs_are_allowed(
    task, tmp_path
):
    changes = {} if task.args[0] is SMALL else {"init_std": 1.0}
    ended = partial(task, out=tmp_path, seeds=(0, 1, 2), learning_rate=2.0, patience=1, **changes)
    results = ended(epochs=12)
    assert len({result.epochs for result in results}) > 1
    assert all(result.epochs == result.best_epoch + 1 < 12 for result in results)
    assert ended(epochs=20) == results


def test_a_diverged_run_and_its_resume_say_so_alike_and_keep_a_finite_model(tmp_path):
    for _ in range(2):
        with pytest.raises(DivergedError, match=r"^the loss is not finite in epoch 1, at a "):
            train(SMALL_CHORALES, MUSIC, out=tmp_path, learning_rate=3e38)
    first, last = metrics(tmp_path)
    assert best(tmp_path).items() > first.items() and np.isfinite(best(tmp_path)["test_nll"])
    assert last["train_nll"] is None


def test_a_run_in_which_one_of_two_seeds_diverges_has_the_results_of_both(tmp_path):
    def spoil(trainer):
        trainer._trials.ensemble.weights["output.bias"][1] = np.inf

    how = {"out": tmp_path, "seeds": (0, 1), "epochs": 1}
    good, bad = train(SMALL_CHORALES, MUSIC, callbacks=[spoil], **how)
    assert (good.diverged, good.best_epoch, good.epochs) == (None, 1, 1)
    assert bad.diverged and (bad.best_epoch, bad.epochs) == (0, 1)
    assert train(SMALL_CHORALES, MUSIC, **how) == [good, bad]


def test_a_text_that_is_stopped_before_its_first_epoch_has_no_losses(tmp_path):
    (found,) = train(SMALL, TEXT, out=tmp_path, max_minutes=0)
    assert (found.best_epoch, found.epochs, found.finished) == (0, 0, False)
    assert np.isnan([found.train_nll, found.valid_nll]).all()


class Buffered(rhn.cells.RNN):
    """A user's cell: a weight of two names, buffers of every type, one infinite, and dropout."""

    def __init__(self, *sizes, **keywords):
        super().__init__(*sizes, **keywords)
        first, self.tied = torch.arange(self.hidden_size), torch.nn.Linear(1, 1, bias=False)
        self.tied.weight = self.weight_hh
        self.drop = torch.nn.Dropout(0.0)
        for name, buffer in {
            "order": first.flip(0),
            "on": first >= 0,
            "mask": torch.where(first > 0, -torch.inf, 0.0),
            "scale": torch.full_like(first, 1 + 2**-40, dtype=torch.float64),
            "phase": torch.full_like(first, 1j, dtype=torch.complex64),
        }.items():
            self.register_buffer(name, buffer.to(self.bias.device))

    def step(self, x, s):
        turned = torch.where(self.on, s[..., self.order], 0.0) * (self.phase**4).real
        y = super().step(x, self.drop((turned * self.scale).to(s.dtype)))
        return y * self.mask.softmax(-1)


def test_a_cell_of_the_user_s_own_is_loaded_with_its_buffers_to_the_same_loss(tmp_path):
    name = f"{__name__}:Buffered"
    (found,) = train("jsb-depth-1", MUSIC, out=tmp_path, cell=name, hidden_size=4, epochs=2)
    model = rhn.load(tmp_path, name)
    assert rhn.evaluate(model, MUSIC, "valid").nll == pytest.approx(found.valid_nll, rel=1e-6)
    for buffer in model.buffers():
        buffer.copy_(buffer.roll(1))
    again = rhn.load(rhn.save(tmp_path / "m.safetensors", model), name)
    assert again.cells[0].tied.weight is again.cells[0].weight_hh
    for key, buffer in model.named_buffers():
        torch.testing.assert_close(again.get_buffer(key), buffer, rtol=0, atol=0)
    model.cells[0].drop.p = 0.5
    assert len({rhn.evaluate(model, MUSIC).nll for _ in range(3)}) == 1, "without dropout"


# ---- it goes on ----------------------------------------------------------------------------------


@pytest.mark.parametrize("written", others_slow(range(1, 8), 3, 7))
def test_after_a_kill_between_two_files_the_best_weights_are_of_an_epoch_with_a_line(
    written, task, whole, tmp_path, monkeypatch
):
    """A resume that is killed at once leaves the lines of the state."""
    files = count(1)

    def until_killed(write):
        return lambda *a, **o: sys.exit() if next(files) > written else write(*a, **o)

    with monkeypatch.context() as patch, contextlib.suppress(SystemExit):
        for name in ("write_state", "save"):
            patch.setattr(run, name, until_killed(getattr(run, name)))
        task(out=tmp_path)
    with contextlib.suppress(SystemExit):
        task(out=tmp_path, callbacks=[sys.exit])
    if (tmp_path / "best.safetensors").exists():
        assert best(tmp_path)["epoch"] in [line["epoch"] for line in metrics(tmp_path)]
    task(out=tmp_path)
    assert contents(tmp_path) == contents(whole)


def test_after_a_full_disk_or_a_lost_folder_the_same_call_goes_on(task, whole, begun):
    """A limit on the file's size stands for the full disk. What the folder has beyond its last save
    is written again.
    """
    with (begun / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 9, "train_nll": 1.0, "valid_nll": 1.0}\n{"epo')
    (begun / HALF).write_bytes(b"half")
    saved, limits = contents(begun)["state.safetensors"], resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*: File too large$"):
            task(out=begun)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(begun)["state.safetensors"] == saved
    task(out=begun)
    assert contents(begun) == contents(whole)
    shutil.rmtree(begun)
    with pytest.raises(OutputError, match="No such file"):
        task(out=begun, callbacks=[lambda _: shutil.rmtree(begun, ignore_errors=True)])
    task(out=begun)
    assert contents(begun) == contents(whole)


def test_a_finished_training_may_go_on_for_more_epochs_but_not_for_fewer(task, whole, tmp_path):
    steps = []
    for epochs in (2, task.args[0].epochs):
        task(out=tmp_path, epochs=epochs, callbacks=[lambda trainer: steps.append(trainer.steps)])
    assert sorted({*steps}) == list(range(steps[-1] + 1)) and len(steps) == steps[-1] + 2
    with pytest.raises(InvalidInputError, match=r"^epochs is 1: expected \d or more$"):
        task(out=tmp_path, epochs=1)
    assert contents(tmp_path) == contents(whole)


def test_a_state_without_seeds_as_0_6_0_wrote_it_goes_on(tmp_path):
    once = partial(train, SMALL_CHORALES, MUSIC, out=tmp_path, epochs=1)
    (found,) = once()
    path = tmp_path / "state.safetensors"
    arrays, texts = read_state(path)
    training = json.loads(texts["training"])
    assert training.pop("seeds") == [0] and "curve" in arrays
    write_state(path, arrays, {**texts, "training": json.dumps(training)})
    assert once() == [found]


def test_a_run_is_saved_at_its_start_and_end_and_between_by_a_share_of_the_time(
    tmp_path, monkeypatch
):
    """A clock that goes on by one at each look: a save takes two, and then as much is trained."""
    saved, usual, steps = [], run.write_state, []

    def written(*given):
        saved.append(len(steps))
        usual(*given)

    monkeypatch.setattr(run, "write_state", written)
    monkeypatch.setattr(run, "SAVE_SHARE", 1.0)
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=count().__next__))
    how = {"epochs": 3, "callbacks": [lambda trainer: steps.append(trainer.steps)]}
    train(SMALL_CHORALES, MUSIC, out=tmp_path, **how)
    assert steps == [0, 1, 2, 3, 4, 5, 6]
    assert saved == [0, 2, 4, 6, 7]


def test_a_run_stops_at_the_first_step_after_its_minutes(tmp_path, monkeypatch):
    """The clock is read at the start, at the end of each step, and twice more by the first save."""
    clock = chain([0, 1, 2, 3, 60, 60.5], count(61))
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=clock.__next__))
    steps, how = [], {"out": tmp_path, "epochs": 9, "max_minutes": 1}
    train(SMALL_CHORALES, MUSIC, callbacks=[lambda trainer: steps.append(trainer.steps)], **how)
    assert steps == [0, 1, 2, 3]


# ---- the folder is its own -----------------------------------------------------------------------


def test_a_state_that_is_damaged_or_of_another_training_is_refused_and_nothing_is_written(
    task, begun, request, tmp_path_factory
):
    path, other = begun / "state.safetensors", tmp_path_factory.mktemp("other")
    task(out=other, epochs=1, learning_rate=0.01)
    write_state(other / "unknown", {"unknown": np.zeros(3)}, {})
    good, theirs, unknown = map(Path.read_bytes, (path, other / path.name, other / "unknown"))
    another, data = "holds another training run: ", OTHERS[request.node.callspec.id]
    for state, changes, message in (
        (
            good,
            {"hidden_size": 7},
            another + r"hidden_size is 7 here and \d+ there; expec",
        ),
        (good, {"data": data}, another + r"(data|text) is .* here and .* there; expec"),
        (good, {"seeds": [0, 1]}, another + r"seeds is \[0, 1\] here and \[0\] there; expec"),
        (theirs, {}, another + r"learning_rate is .* here and 0\.01 there; expec"),
        (unknown, {}, another + r".* and null there; expected another folder$"),
        (good[:-1] + bytes([good[-1] ^ 1]), {}, r"state\.safetensors is damaged"),
        (good[:-1], {}, r"state\.safetensors is damaged"),
        (b"a user's", {}, r"state\.safetensors is of another format: expected \.safetensors"),
    ):
        path.write_bytes(state)
        before, how = contents(begun), {"data": task.args[1], "out": begun} | changes
        with pytest.raises((DataError, InvalidInputError), match=message):
            train(task.args[0], **how)
        assert contents(begun) == before


@pytest.mark.parametrize(
    ("name", "seeds"),
    [
        ("best.safetensors", [0]),
        ("config.json", [0]),
        ("metrics.jsonl", [0]),
        ("record.npz", [0]),
        ("seed-1/best.safetensors", [0, 1]),
        ("seed-1/metrics.jsonl", [0, 1]),
        ("seed-1/record.npz", [0, 1]),
    ],
    ids=str,
)
def test_what_is_no_trainings_is_not_overwritten(name, seeds, task, tmp_path):
    """A study keeps its best network under the name that a training gives it."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("a study's")
    (tmp_path / ".lock").write_text("its lock")
    message = rf"holds {name} and no state.safetensors; expected another folder$"
    with pytest.raises(InvalidInputError, match=message):
        task(out=tmp_path, seeds=seeds)
    found = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {Path(name).name: b"a study's", ".lock": b"its lock"}


def test_two_processes_do_not_train_in_one_folder_nor_clean_it_under_its_writer(task, tmp_path):
    left = [tmp_path / HALF, tmp_path / "seed-12" / HALF]  # in this folder and in its seeds'
    others = tmp_path / "other" / HALF  # another training may be writing there
    for path in (*left, others):
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    with locked(tmp_path), pytest.raises(OutputError, match="another process works"):
        task(out=tmp_path)
    assert left[0].exists()
    task(out=tmp_path, max_minutes=0)
    assert [path.exists() for path in (*left, others)] == [False, False, True]


ARRAYS = {
    "weights": np.arange(12, dtype=np.float32).reshape(3, 4),
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "steps": np.array(7),
    "generator": np.array([2**63 + 1], np.uint64),
    "empty": np.zeros((0, 2), np.float16),
    "live": np.array([True, False]),
    "of torch": torch.arange(6.0).reshape(2, 3).t(),
}


def content_of_0_5_0(path: Path) -> Path:
    """A state with the checksum of 0.5.0, a CRC-32."""
    header = {"checksum": "0123abcd", "metadata": {"epochs": "1"}}
    write_tensors(path, {"a": torch.zeros(2)}, "rhn_state", header)
    return path


def test_arrays_and_texts_come_back_to_the_last_bit(tmp_path):
    state = tmp_path / "state.safetensors"
    assert read_state(state) is None
    write_state(state, ARRAYS, {"epoch": "3"})
    arrays, metadata = read_state(state)
    assert metadata == {"epoch": "3"} and arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], np.asarray(array), strict=True)
    assert read_state(state, whole=False) == ({}, {"epoch": "3"})
    old = content_of_0_5_0(tmp_path / "old.safetensors")
    with pytest.raises(DataError, match=r"was written by version 0\.5\.0 or before"):
        read_state(old)
    for wrong in (content := state.read_bytes()) + b"x", content.replace(b"checksum", b"checksun"):
        state.write_bytes(wrong)
        with pytest.raises(DamagedError):
            read_state(state)


@pytest.mark.parametrize(
    ("config", "data", "used"),
    [
        pytest.param(SMALL_CHORALES, MUSIC, 1, id="chorales"),
        pytest.param(SMALL, TEXT, min(2, os.cpu_count() or 1), id="text"),
    ],
)
def test_only_a_text_is_trained_on_several_threads(config, data, used, tmp_path):
    def look(trainer):
        assert torch.get_num_threads() == used
        if trainer.steps == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(config, data, out=tmp_path, threads=min(2, os.cpu_count() or 1), callbacks=[look])


@pytest.mark.slow
def test_a_text_on_two_threads_has_the_losses_of_one(tmp_path):
    two, before = min(2, os.cpu_count() or 1), torch.get_num_threads()
    train(SMALL, TEXT, out=tmp_path / "two", threads=two)
    train(SMALL, TEXT, out=tmp_path / "one")
    lines = [[*line.values()] for line in metrics(tmp_path / "two")]
    np.testing.assert_allclose(
        lines, [[*line.values()] for line in metrics(tmp_path / "one")], 1e-4
    )
    assert torch.get_num_threads() == before


def test_the_test_split_of_a_finished_run_is_measured_once_for_each_seed(tmp_path, monkeypatch):
    measured, usual = [], run.evaluate_chorales

    def counted(model, pieces, **how):
        measured.append(pieces is MUSIC.test)
        return usual(model, pieces, **how)

    monkeypatch.setattr(run, "evaluate_chorales", counted)
    how = {"out": tmp_path, "epochs": 1, "seeds": (0, 1)}
    found = train(SMALL_CHORALES, MUSIC, **how)
    assert measured == [True, True]
    assert train(SMALL_CHORALES, MUSIC, **how) == found, "a run that has ended"
    assert measured == [True] * 4


def test_a_run_has_diverged_if_a_loss_is_not_finite():
    """The other columns, such as the norm of the gradient, do not count."""
    assert not diverged(np.array([[1.0, 2.0, np.nan]]))
    assert not diverged(np.array([[np.nan, np.nan], [1.0, 2.0]])), "only the last row counts"
    assert diverged(np.array([[1.0, np.inf, 0.5]])) and diverged(np.array([[np.nan, 2.0, 0.5]]))
