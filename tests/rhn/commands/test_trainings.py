"""`rhn train` and `rhn resume`, of chorales and of texts alike: killed, stopped, prolonged."""

import json
import shutil
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file
from scipy.special import xlogy

from rhn.checkpoints import read
from rhn.data import chorales, read_text
from rhn.training.trained import stored_data
from tests.rhn.texts import metrics

PTB = Path(__file__).resolve().parents[4] / "shared" / "data" / "ptb"


def assert_same_run(one, other):
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    names = sorted(path.name for path in other.glob("*.safetensors"))
    assert sorted(path.name for path in one.glob("*.safetensors")) == names and len(names) > 1
    for name in names:
        ours, theirs = load_file(one / name), load_file(other / name)
        assert ours.keys() == theirs.keys()
        assert all(ours[key].equal(theirs[key]) for key in ours), name


one_task = pytest.mark.parametrize(
    "task", ["music", pytest.param("prose", marks=pytest.mark.slow)], indirect=True
)


@one_task
def test_a_killed_run_continues_to_the_same_bits(task, until, command, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    epochs, lines = (40, 3) if task.name == "chorales" else (12, 2)
    assert task.train(whole, f"--epochs {epochs}") == 0
    process = until(task.line(killed, f"--epochs {epochs}"), killed / "metrics.jsonl", lines)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert command("rhn resume", killed).code == 0
    assert_same_run(killed, whole)


@one_task
def test_a_run_killed_before_its_first_epoch_finds_its_data(task, until, command, tmp_path):
    line = task.line(tmp_path).replace(str(task.data), task.data.name)
    process = until(line, tmp_path / "config.json", 1, cwd=task.data.parent)
    process.kill()
    process.communicate()
    assert command("rhn resume", tmp_path).code == 0  # from another folder
    assert metrics(tmp_path)[-1]["epoch"] == 3


@one_task
def test_ctrl_c_saves_everything(task, until, tmp_path):
    process = until(task.line(tmp_path, "--epochs 100000"), tmp_path / "metrics.jsonl", 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and f"{tmp_path} is saved" in err and "Traceback" not in err


@one_task
def test_a_run_without_time_is_continued_by_either_command(task, trained, command, tmp_path):
    for more in ("--max-minutes 0", ""):
        assert task.train(tmp_path, f"--epochs 2 {more}") == 0
        assert command(f"rhn resume {tmp_path} {more}").code == 0
    assert metrics(tmp_path)[-1]["epoch"] == 2
    assert command(f"rhn resume {tmp_path} --epochs 3").code == 0
    assert_same_run(tmp_path, trained(task))


def test_a_run_stopped_in_its_first_epoch_has_no_checkpoint(prose, answer, refused, tmp_path):
    found = answer(prose.line(tmp_path, "--max-minutes 0"))
    assert (found["checkpoint"], found["epochs"], found["finished"]) == (None, 0, False)
    refused("rhn evaluate", tmp_path, says="best.safetensors does not exist")


def test_json_and_table_have_the_best_epoch_and_the_constant_predictor(
    task, trained, command, answer
):
    out, name = trained(task), {"chorales": "nll", "text": "perplexity"}[task.name]
    found = answer(task.line(out))  # again: nothing is left to do
    best = min(metrics(out), key=lambda line: line[f"valid_{name}"])
    assert (found["epochs"], found["finished"], found["diverged"]) == (3, True, None)
    assert found["best_epoch"] == best["epoch"]
    losses = [best[f"{split}_{name}"] for split in ("train", "valid")]
    assert [found[f"{split}_{name}"] for split in ("train", "valid")] == losses
    assert (found.get("test_nll") is None) == (task.name == "text")
    _, row, constant = (line.split() for line in command(task.line(out)).out.splitlines())
    assert row[2:4] == [f"{loss:.5g}" for loss in losses]
    assert constant[2:] == [f"{loss:.5g}" for loss in constant_losses(task)]


def constant_losses(task) -> list[float]:
    """The losses of the constant predictor with the lowest training loss, by counting."""
    if task.name == "chorales":
        corpus = chorales(task.data)
        splits = (corpus.train, corpus.valid, corpus.test)
        p, *_ = shares = [np.concatenate([x[1:] for x in each]).mean(0) for each in splits]
        return [-(xlogy(q, p) + xlogy(1 - q, 1 - p)).sum() for q in shares]
    text = read_text("text", task.data)
    train, *_ = words = [Counter(each[1:].tolist()) for each in (text.train, text.valid, text.test)]
    logs = {word: np.log(n / train.total()) for word, n in train.items()}
    return [np.exp(-sum(n * logs[w] for w, n in each.items()) / each.total()) for each in words]


@one_task
def test_a_cell_of_the_user_is_imported_only_if_a_command_names_it(
    task, own_folder, command, refused
):
    Path("mycells.py").write_text("from rhn.cells import DTRNN as Mine\n")
    assert task.train("run", "--cell mycells:Mine") == 0
    for again in ("evaluate", "resume"):
        refused(f"rhn {again} run", says="mycells:Mine")
        assert command(f"rhn {again} run --cell mycells:Mine").code == 0


def test_data_that_moved_are_named_once(prose, tmp_path, command, refused):
    moved, run = shutil.copytree(prose.data, tmp_path / "moved"), tmp_path / "run"
    assert prose.train(run, "--max-minutes 0") == 0
    config = run / "config.json"
    config.write_text(config.read_text().replace(str(prose.data), str(tmp_path / "gone")))
    refused("rhn resume", run, says=f"{tmp_path / 'gone'} cannot be read")
    assert command(f"rhn resume {run} --max-minutes 0 --data", moved).code == 0
    assert command("rhn resume", run).code == 0


def test_seeds_side_by_side_have_the_numbers_that_each_has_alone(prose, trained, answer, tmp_path):
    out, alone = tmp_path / "out", tmp_path / "alone"
    found = answer(prose.line(out, "--seeds 2"))["seeds"]
    assert prose.train(alone, "--seed 1") == 0
    for seed, single in enumerate((trained(prose), alone)):
        folder = out / f"seed-{seed}"
        assert (found[seed]["seed"], found[seed]["checkpoint"]) == (
            seed, str(folder / "best.safetensors"),
        )  # fmt: skip
        for ours, theirs in zip(metrics(folder), metrics(single), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4)
        assert answer("rhn evaluate", folder) == answer(f"rhn evaluate {folder} --data", prose.data)
    assert metrics(out / "seed-0") != metrics(out / "seed-1")


def test_penn_treebank_is_trained_and_evaluated(tmp_path, command, answer):
    if not PTB.exists():
        pytest.skip(f"Penn Treebank is not at {PTB}")
    line = f"rhn train ptb-depth-2 --data {PTB} --hidden-size 8 --epochs 1 --max-tokens 2000"
    assert command(f"{line} --out", tmp_path).code == 0
    with safe_open(tmp_path / "best.safetensors", "pt") as file:
        assert file.get_slice("embedding").get_shape() == [10_000, 8]
    found = answer(f"rhn evaluate {tmp_path} --max-tokens 500")
    assert found["tokens"] == 499 and found["perplexity"] < 10_000  # less than guessing


@pytest.fixture
def other_chorales(tmp_path):
    """A file of one made-up piece, three times."""
    path, piece = tmp_path / "other.json", [[60, 64, 67], [62, 65], [60]] * 4
    path.write_text(json.dumps({split: [piece] for split in ("train", "valid", "test")}))
    return path


def test_the_config_of_a_run_trains_again_on_its_data_or_on_others(
    task, trained, other_chorales, command, tmp_path
):
    line = f"rhn train --config {trained(task) / 'config.json'}"
    assert command(f"{line} --out", tmp_path / "again").code == 0
    assert_same_run(tmp_path / "again", trained(task))
    more, data = ("--max-tokens 100", task.data)
    if task.name == "chorales":
        more, data = f"--data {other_chorales}", other_chorales
    assert command(f"{line} {more} --epochs 1 --out", tmp_path / "other").code == 0
    for out, path in (("again", task.data), ("other", data)):
        assert stored_data(read(tmp_path / out)).path == path


def test_a_run_is_not_measured_on_data_that_changed(task, trained, command, refused, tmp_path):
    copy = shutil.copytree if task.data.is_dir() else shutil.copy
    run = shutil.copytree(trained(task), tmp_path / "run")
    data = Path(copy(task.data, tmp_path / task.data.name))
    config = run / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"path": str(data)}))
    assert command("rhn evaluate", run).code == 0
    changed = data / "test.txt" if data.is_dir() else data
    content = changed.read_text()
    changed.write_text(content * 2 if data.is_dir() else content.replace("]]]}", "], [60]]]}"))
    for subject in (run, run / "best.safetensors"):
        refused("rhn evaluate", subject, says=f"checksum of {data} is")
    changed.unlink()
    refused("rhn evaluate", run, says=f"{data}")


def test_other_data_are_measured_if_they_are_named(
    music, trained, other_chorales, command, refused, tmp_path
):
    alone = shutil.copy(trained(music) / "best.safetensors", tmp_path)
    assert command(f"rhn evaluate {trained(music)} --data", other_chorales).code == 0
    # its folder does not name the file
    refused("rhn evaluate", alone, says="checksum of 374 of 382 chorales")
    assert command(f"rhn evaluate {alone} --data", music.data).code == 0
