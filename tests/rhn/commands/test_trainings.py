"""`rhn train` and `rhn resume`, killed, stopped and prolonged; `rhn evaluate`, `sample` and
`generate`, with the numbers of the Python calls. Of chorales and of texts alike.
"""

import json
import math
import shutil
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.special import xlogy

import rhn
from gersgorin.recording import Recording
from rhn.checkpoints import read
from rhn.data import chorales, read_text
from rhn.training.batches import constant_output_nll
from rhn.training.evaluation import score
from rhn.training.monte_carlo import monte_carlo_score
from rhn.training.sampling import write_chorale
from rhn.training.stored import stored_data, text_of
from tests.rhn.texts import metrics


def assert_same_run(one, other):
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    names = sorted(path.name for path in other.glob("*.safetensors"))
    assert sorted(path.name for path in one.glob("*.safetensors")) == names and len(names) > 1
    for name in names:
        ours, theirs = load_file(one / name), load_file(other / name)
        assert ours.keys() == theirs.keys()
        assert all(ours[key].equal(theirs[key]) for key in ours), name


@pytest.fixture
def copied(task, tmp_path) -> Path:
    """A copy of the data."""
    copy = shutil.copytree if task.data.is_dir() else shutil.copy
    return Path(copy(task.data, tmp_path / task.data.name))


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


@pytest.mark.slow
@one_task
def test_a_run_killed_before_its_first_epoch_finds_its_data_or_those_that_are_named(
    task, copied, until, command, answer, refused, tmp_path
):
    run = tmp_path / "run"
    line = task.line(run).replace(str(task.data), copied.name)
    process = until(line, run / "config.json", 1, cwd=tmp_path)
    process.kill()
    process.communicate()
    found = answer(f"rhn resume {run} --max-minutes 0")  # from another folder
    if task.name == "text":  # stopped in its first epoch
        assert (found["checkpoint"], found["epochs"], found["finished"]) == (None, 0, False)
        refused("rhn evaluate", run, says="best.safetensors cannot be read: No such file")
    copied.rename(tmp_path / "moved")
    refused("rhn resume", run, says=f"{copied} cannot be read")
    assert command(f"rhn resume {run} --data", task.data).code == 0
    assert metrics(run)[-1]["epoch"] == 3


@one_task
def test_ctrl_c_saves_everything(task, until, tmp_path):
    process = until(task.line(tmp_path, "--epochs 100000"), tmp_path / "metrics.jsonl", 3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and f"{tmp_path} is saved" in err and "Traceback" not in err


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
    """The lowest losses of a constant predictor on each split, by counting."""
    if task.name == "chorales":
        corpus = chorales(task.data)
        splits = (corpus.train, corpus.valid, corpus.test)
        shares = [np.concatenate([x[1:] for x in each]).mean(0) for each in splits]
        return [-(xlogy(p, p) + xlogy(1 - p, 1 - p)).sum() for p in shares]
    text = read_text("text", task.data)
    words = [Counter(each[1:].tolist()) for each in (text.train, text.valid, text.test)]
    shares = [np.array([*each.values()]) / each.total() for each in words]
    return [np.exp(-(p * np.log(p)).sum()) for p in shares]


def test_seeds_side_by_side_are_continued_together(task, command, tmp_path):
    whole, short = tmp_path / "whole", tmp_path / "short"
    assert task.train(whole, "--seeds 2") == task.train(short, "--seeds 2 --epochs 1") == 0
    (short / "seed-1-copy").mkdir()  # which the user made
    assert command(f"rhn resume {short} --epochs 3").code == 0
    names = [path.relative_to(whole) for path in whole.rglob("seed-*/*.*")]
    assert len(names) == 4
    assert all((short / name).read_bytes() == (whole / name).read_bytes() for name in names)


def test_seeds_side_by_side_have_the_numbers_that_each_has_alone(prose, trained, answer, tmp_path):
    found = answer(prose.line(tmp_path, "--seeds 2"))["seeds"]
    alone = answer(prose.line(trained(prose)))
    assert found[0]["valid_perplexity"] == pytest.approx(alone["valid_perplexity"], rel=1e-4)
    assert found[0]["valid_perplexity"] != found[1]["valid_perplexity"]
    for seed, row in enumerate(found):
        valid = answer(f"rhn evaluate {tmp_path}/seed-{seed} --split valid --batch-size 4")
        assert valid["perplexity"] == pytest.approx(row["valid_perplexity"], rel=1e-6)
        assert row["checkpoint"] == f"{tmp_path}/seed-{seed}/best.safetensors"


@one_task
def test_a_cell_of_the_user_is_imported_only_if_a_command_names_it(
    task, own_folder, command, refused
):
    Path("mycells.py").write_text("from rhn.cells import DTRNN as Mine\n")
    assert task.train("run", "--cell mycells:Mine") == 0
    for again in ("evaluate", "resume"):
        refused(f"rhn {again} run", says="mycells:Mine")
        assert command(f"rhn {again} run --cell mycells:Mine").code == 0


def test_the_config_of_a_run_trains_again_on_its_data_or_on_others(
    task, trained, copied, command, tmp_path
):
    line = f"rhn train --config {trained(task) / 'config.json'} --out {tmp_path}"
    for out, data, more in (("again", task.data, ""), ("other", copied, f"--data {copied}")):
        assert command(f"{line}/{out} {more}").code == 0
        assert_same_run(tmp_path / out, trained(task))
        assert stored_data(read(tmp_path / out)).path == data


def test_a_run_is_not_measured_on_data_that_changed(
    task, trained, copied, command, refused, tmp_path
):
    run = shutil.copytree(trained(task), tmp_path / "run")
    config = run / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"path": str(copied)}))
    assert command("rhn evaluate", run).code == 0
    changed = copied / "test.txt" if copied.is_dir() else copied
    changed.write_text(changed.read_text().replace("]]]}", "], [60]]]}").replace("cat", "dog"))
    for subject in (run, run / "best.safetensors"):
        refused("rhn evaluate", subject, says=f"checksum of {copied} is")
    assert command(f"rhn evaluate {run} --data", copied).code == 0


def test_a_folder_stands_for_its_best_weights_and_its_data(task, trained, answer):
    folder = trained(task)
    found = answer("rhn evaluate", folder)
    assert answer("rhn evaluate", folder / "best.safetensors") == found
    assert answer(f"rhn evaluate {folder} --data {task.data}") == found


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_chorales_are_evaluated_as_in_python(split, music, trained, answer):
    found, data = answer(f"rhn evaluate {trained(music)} --split {split}"), chorales(music.data)
    wanted = rhn.evaluate(rhn.load(trained(music)), data, split)
    assert found == {"nll": wanted.nll, "split": split, "frames": wanted.predicted}
    assert wanted.predicted == sum(len(piece) - 1 for piece in getattr(data, split))


@pytest.mark.parametrize(
    "options",
    [{}, {"batch_size": 4}, {"temperature": 0.5}, {"mc": 3, "seed": 2}, {"max_tokens": 60}],
    ids=str,
)
def test_a_text_is_evaluated_as_in_python(options, prose, trained, answer):
    run, data = trained(prose), read_text("text", prose.data).valid[: options.get("max_tokens")]
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    found = answer(f"rhn evaluate {run} --split valid", *words)
    config, model = text_of(read(run))[0], rhn.load(run)
    if "mc" in options:
        more = {"dropout": config.dropout, "window": config.window}
        wanted = monte_carlo_score(model, data, samples=3, seed=2, **more)
    else:
        how = {name: options[name] for name in ("batch_size", "temperature") if name in options}
        wanted = score(model, data, **how)
    assert (found["nll"], found["tokens"]) == (wanted.nll, wanted.predicted)
    assert found["perplexity"] == pytest.approx(math.exp(wanted.nll))


def test_characters_are_measured_in_bits(prose, tmp_path, command, answer):
    line = f"rhn train ptb-depth-1 --corpus text --unit characters --data {prose.data} --epochs 1"
    line += f" --hidden-size 6 --set window=8 --batch-size 4 --out {tmp_path}"
    assert command(line).code == 0
    found = answer("rhn evaluate", tmp_path)
    assert found["bits_per_character"] == pytest.approx(found["nll"] / math.log(2))
    assert "valid_bits_per_character" in metrics(tmp_path)[0]


def test_a_sampled_chorale_is_that_of_python(music, trained, tmp_path, command):
    line = f"rhn sample {trained(music)} --length 2 --temperature 9 --seed 3 --output"
    assert command(line, tmp_path / "ours.mid").code == 0
    frames = rhn.sample(rhn.load(trained(music)), bars=2, temperature=9.0, seed=3)
    wanted = write_chorale(frames, tmp_path / "theirs.mid").read_bytes()
    assert (tmp_path / "ours.mid").read_bytes() == wanted


def test_a_generated_text_is_that_of_python(prose, trained, command):
    how = {"prompt": "the cat", "length": 12, "temperature": 2.0, "top_k": 4}
    line = f"rhn generate {trained(prose)} --prompt 'the cat' --length 12 --temperature 2 --top-k 4"
    model, vocabulary = rhn.load(trained(prose)), text_of(read(trained(prose)))[1]
    texts = [command(f"{line} --seed {seed}").out for seed in (3, 4)]
    assert texts == [rhn.sample(model, vocabulary, seed=s, **how) + "\n" for s in (3, 4)]
    assert texts[0] != texts[1]


# ---- rhn train --record N: the training does not change ------------------------------------------

EVERY = {"chorales": 3, "text": 10}  # steps; an epoch of the short chorales has 2, of the text 29
STEPS = {"chorales": [0, 4, 6], "text": [0, 10, 20, 30, 40, 50]}
EPOCHS = {"chorales": 4, "text": 2}


def record(folder) -> Recording:
    return Recording.load(folder / "record.npz")


def test_a_recorded_run_is_the_same_to_the_bit_and_continues_its_record(task, tmp_path, command):
    plain, whole, stopped = (tmp_path / name for name in ("plain", "whole", "stopped"))
    words = f"--epochs {EPOCHS[task.name]}"
    assert task.train(plain, words) == 0
    words += f" --record {EVERY[task.name]}"
    assert task.train(whole, words) == 0
    assert task.train(stopped, f"{words} --max-minutes 0") == 0
    for more in ("--max-minutes 0", "--max-minutes 0", ""):
        assert command(f"rhn resume {stopped} {more}").code == 0
    assert_same_run(whole, plain)
    assert_same_run(stopped, whole)
    found, other = record(whole), record(stopped)
    assert found.step.tolist() == STEPS[task.name] and found.every == EVERY[task.name]
    assert np.isfinite(found.radius).all() and len({*found.loss}) == len(found)
    for name in ("step", "loss", "radius", "exponent", "gradient_norm", "eigenvalues"):
        np.testing.assert_array_equal(getattr(found, name), getattr(other, name), name)


def test_loss_and_gradients_are_those_of_the_probe(music, tmp_path):
    assert music.train(tmp_path, "--epochs 1 --record 1") == 0
    model, found = rhn.load(tmp_path / "best.safetensors"), record(tmp_path)  # of epoch 1
    probe = torch.as_tensor(np.asarray(chorales(music.data).valid[0])).float()
    loss = model.nll(probe).mean()
    loss.backward()
    assert found.loss[-1] == pytest.approx(loss.item())
    corpus = chorales(music.data)
    assert found.constant == constant_output_nll(corpus.valid[:1], corpus.train)
    place = found.parameters.index("cells.0.weight_hh[1]")
    gradient = model.cells[0].weight_hh.grad[1].norm().item()
    assert found.gradient_norm[-1, place] == pytest.approx(gradient)
