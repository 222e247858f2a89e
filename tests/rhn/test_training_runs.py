"""A run in a folder ends the same whatever happened to it on the way, and is never mixed with another."""

import dataclasses
import json
import os
import signal

import numpy as np
import pytest

from rhn.checkpoints import load_checkpoint, read_metadata
from rhn.chorales.evaluation import evaluate
from rhn.chorales.runs import SAVE_SHARE, train
from rhn.data import Corpus, chorales
from rhn.engine.initial import initial_model
from rhn.errors import DataError, InvalidInputError, OutputError
from rhn.interrupts import Interrupted
from rhn.presets import ChoraleConfig, preset

CONFIG = ChoraleConfig(
    cell="rhn", depth=2, hidden_size=5, learning_rate=0.3, init_std=0.1, transform_bias=-1.0, epochs=6, patience=3
)


@pytest.fixture(scope="module")
def corpus():
    whole = chorales(progress=False)
    train, valid, test = (sorted(pieces, key=len) for pieces in (whole.train, whole.valid, whole.test))
    return Corpus(train=train[:33], valid=valid[:4], test=test[:3], source="the shortest chorales")


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """An uninterrupted run: its folder and result."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, train(CONFIG, corpus, folder)


def interrupt_after(epoch):
    def on_epoch(curve):
        if len(curve) - 1 == epoch:
            os.kill(os.getpid(), signal.SIGINT)

    return on_epoch


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_leaves_its_configuration_losses_best_model_and_state(whole, corpus):
    folder, result = whole
    assert sorted(contents(folder)) == [
        ".lock",
        "best.safetensors",
        "config.json",
        "metrics.jsonl",
        "state.safetensors",
    ]
    assert json.loads((folder / "config.json").read_text()) == dataclasses.asdict(CONFIG) | {"data": corpus.checksum}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(result.epochs + 1))
    best = lines[result.best_epoch]
    assert (best["train_nll"], best["valid_nll"]) == (result.train_nll, result.valid_nll)
    assert result.valid_nll == min(line["valid_nll"] for line in lines)


def test_the_first_weights_can_be_had_again_from_the_checkpoint(whole, corpus):
    folder, _ = whole
    first = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    model, own = initial_model(folder / "best.safetensors")
    assert own and evaluate(model, corpus.train).nll == first["train_nll"]
    assert evaluate(model, corpus.valid).nll == first["valid_nll"]


def test_the_best_checkpoint_has_the_losses_that_the_run_reports(whole, corpus):
    folder, result = whole
    model = load_checkpoint(folder / "best.safetensors")
    assert evaluate(model, corpus.train).nll == result.train_nll
    assert evaluate(model, corpus.valid).nll == result.valid_nll
    assert evaluate(model, corpus.test).nll == result.test_nll
    kept = read_metadata(folder / "best.safetensors")["metadata"]
    assert kept["metrics"] == {
        "epoch": result.best_epoch,
        "train_nll": result.train_nll,
        "valid_nll": result.valid_nll,
        "test_nll": result.test_nll,
    }
    assert kept["train"] == dataclasses.asdict(CONFIG)


@pytest.mark.parametrize("epoch", [0, 1, 4])
def test_an_interrupted_run_goes_on_to_the_same_bits(epoch, whole, corpus, tmp_path):
    with pytest.raises(Interrupted, match="the same command goes on"):
        train(CONFIG, corpus, tmp_path, on_epoch=interrupt_after(epoch))
    seen = []
    train(CONFIG, corpus, tmp_path, on_epoch=lambda curve: seen.append(len(curve) - 1))
    assert seen[0] == max(epoch, 1)  # an interrupt waits for the end of an epoch
    assert contents(tmp_path) == contents(whole[0])


def test_lines_and_halves_of_files_after_the_last_save_are_written_again(whole, corpus, tmp_path):
    with pytest.raises(Interrupted):
        train(CONFIG, corpus, tmp_path, on_epoch=interrupt_after(2))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "train_nll": 1.0, "valid_nll": 1.0}\n{"epo')
    (tmp_path / ".state.rhn-partial-0123abcd.safetensors").write_bytes(b"half")
    train(CONFIG, corpus, tmp_path)
    assert contents(tmp_path) == contents(whole[0])


def test_a_finished_run_is_not_trained_again(whole, corpus):
    folder, result = whole
    before, seen = contents(folder), []
    assert train(CONFIG, corpus, folder, on_epoch=lambda curve: seen.append(len(curve))) == result
    assert seen == [result.epochs + 1]
    assert contents(folder) == before


def test_saving_takes_a_small_share_of_the_time(corpus, tmp_path, monkeypatch):
    clock, saves = [0.0], []
    monkeypatch.setattr("rhn.chorales.runs.time.monotonic", lambda: clock[0])

    def save(*args, **metrics):
        saves.append(clock[0])
        clock[0] += 1.0

    monkeypatch.setattr("rhn.chorales.runs._save", save)

    def on_epoch(curve):
        clock[0] += 20.0

    train(dataclasses.replace(CONFIG, epochs=9, patience=9), corpus, tmp_path, on_epoch=on_epoch)
    assert np.diff(saves[:-1]).tolist() == [20 * -(-1 / SAVE_SHARE // 20) + 1] * (len(saves) - 2)
    assert len(saves) > 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.5}, "learning_rate is 0.5 here and 0.3 there"),
        ({"hidden_size": 6, "seed": 1}, "hidden_size is 6 here and 5 there, seed is 1 here and 0 there"),
    ],
)
def test_another_training_is_refused_in_the_same_folder(change, message, whole, corpus):
    before = contents(whole[0])
    with pytest.raises(InvalidInputError, match=message):
        train(dataclasses.replace(CONFIG, **change), corpus, whole[0])
    assert contents(whole[0]) == before


def test_another_data_set_is_refused_in_the_same_folder(whole, corpus):
    other = Corpus(train=corpus.train[1:], valid=corpus.valid, test=corpus.test, source="one fewer")
    with pytest.raises(InvalidInputError, match=r"data is .* here and .* there"):
        train(CONFIG, other, whole[0])


def test_what_cannot_be_built_leaves_no_folder(corpus, tmp_path):
    with pytest.raises(InvalidInputError, match="transform_bias"):
        train(dataclasses.replace(CONFIG, cell="gru", depth=1), corpus, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_processes_do_not_train_in_one_folder(corpus, tmp_path):
    def another(curve):
        with pytest.raises(OutputError, match="another process is training"):
            train(CONFIG, corpus, tmp_path)

    train(dataclasses.replace(CONFIG, epochs=1), corpus, tmp_path, on_epoch=another)


def test_a_damaged_state_is_told_and_not_overwritten(corpus, tmp_path):
    with pytest.raises(Interrupted):
        train(CONFIG, corpus, tmp_path, on_epoch=interrupt_after(1))
    state = tmp_path / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    before = contents(tmp_path)
    with pytest.raises(DataError, match="begin again without it"):
        train(CONFIG, corpus, tmp_path)
    assert contents(tmp_path) == before


def test_a_diverged_run_says_so_and_keeps_a_finite_model(corpus, tmp_path):
    result = train(dataclasses.replace(CONFIG, learning_rate=3e38), corpus, tmp_path)
    assert result.diverged
    assert np.isfinite([result.train_nll, result.valid_nll, result.test_nll]).all()
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["train_nll"] is None
    assert load_checkpoint(tmp_path / "best.safetensors").hidden_size == 5


@pytest.mark.parametrize(("depth", "hidden_size"), [(1, 215), (2, 242), (4, 257), (6, 262)])
def test_the_presets_have_the_paper_s_networks(depth, hidden_size):
    config = preset(f"jsb-depth-{depth}")
    assert (config.depth, config.hidden_size, config.cell, config.momentum) == (depth, hidden_size, "rhn", 0.9)


def test_a_cell_without_gates_has_no_transform_bias_and_a_mistyped_preset_is_helped():
    assert preset("jsb-depth-4", "dt-rnn").transform_bias is None
    with pytest.raises(InvalidInputError, match="did you mean 'jsb-depth-6'"):
        preset("jsb_dept_6")


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"patience": 0},
        {"depth": 0},
        {"hidden_size": 0},
        {"batch_size": 0},
        {"seed": -1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"init_std": float("inf")},
        {"momentum": 1.0},
        {"transform_bias": float("nan")},
    ],
)
def test_values_out_of_range_are_refused_by_name(change):
    with pytest.raises(InvalidInputError, match=f"{next(iter(change))} is "):
        dataclasses.replace(CONFIG, **change)
