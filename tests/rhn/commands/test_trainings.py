"""`rhn train` and `rhn resume`, of chorales and of texts alike: killed, stopped, prolonged, and
what they print.
"""

import json
import re
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file
from scipy.special import xlogy

from rhn.cli import main as cli
from rhn.cli import train
from rhn.data import chorales
from rhn.training.run import TrainingResult
from rhn.utils import progress
from tests.rhn.pieces import shortest_chorales
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
def test_a_killed_training_goes_on_to_the_same_bits(task, until, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    epochs, lines = (40, 3) if task.name == "chorales" else (12, 2)
    assert task.train(whole, "--epochs", epochs) == 0
    process = until(task.command(killed, "--epochs", epochs), killed / "metrics.jsonl", lines)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert cli.main(["resume", str(killed)]) == 0
    assert_same_run(killed, whole)


@one_task
def test_a_training_killed_before_its_first_epoch_knows_where_its_data_is(task, until, tmp_path):
    config = tmp_path / "run" / "config.json"
    words = [
        word if word != str(task.data) else task.data.name
        for word in task.command(tmp_path / "run")
    ]
    process = until(words, config, 1, cwd=task.data.parent)
    process.kill()
    process.communicate()
    assert cli.main(["resume", str(tmp_path / "run")]) == 0  # from another folder
    assert metrics(tmp_path / "run")[-1]["epoch"] == 3


@one_task
def test_ctrl_c_saves_and_says_how_to_go_on(task, until, tmp_path):
    process = until(task.command(tmp_path, "--epochs", 100_000), tmp_path / "metrics.jsonl", 3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"{tmp_path} is saved" in said and "Traceback" not in said


@one_task
def test_time_that_runs_out_is_no_failure_and_more_epochs_can_be_asked_for(
    task, trained, tmp_path, capsys
):
    assert task.train(tmp_path, "--epochs", 2, "--max-minutes", 0) == 0
    assert f"continue with: rhn resume {tmp_path}" in capsys.readouterr().out
    assert len(metrics(tmp_path)) < 3
    assert cli.main(["resume", str(tmp_path), "--max-minutes", "0"]) == 0
    assert cli.main(["resume", str(tmp_path)]) == 0
    assert cli.main(["resume", str(tmp_path), "--epochs", "3"]) == 0
    assert_same_run(tmp_path, trained(task))


def test_what_is_stopped_in_its_first_epoch_has_no_checkpoint_and_says_so(
    prose, trained, refused, tmp_path, capsys
):
    assert prose.train(tmp_path, "--max-minutes", 0) == 0
    said = capsys.readouterr().out
    assert "seed 0: no epoch has ended, 1 of " in said and "nan" not in said and " - " not in said
    refused(["evaluate", tmp_path], "best.safetensors does not exist")
    assert prose.train(tmp_path) == 0
    assert_same_run(tmp_path, trained(prose))


def test_results_go_to_stdout(task, trained, capsys):
    out = trained(task)
    capsys.readouterr()
    assert task.train(out) == 0  # again: nothing is left to do
    said = capsys.readouterr()
    assert str(trained(task)) in said.out
    # three epochs are too few for the chorales
    assert "train longer" in said.err if task.name == "chorales" else said.err == ""
    assert task.train(trained(task), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["epochs"], found["finished"], bool(found["diverged"])) == (3, True, False)


def test_a_text_s_training_says_what_it_came_to_and_what_to_do_next(
    prose, tmp_path, answer, capsys
):
    assert prose.train(tmp_path) == 0
    said = capsys.readouterr()
    assert f"next: rhn evaluate {tmp_path} --split test\n" in said.out
    found = answer(*prose.command(tmp_path, "--json"))
    best = min(metrics(tmp_path), key=lambda line: line["valid_perplexity"])
    names = ("valid_perplexity", "train_perplexity")
    assert [found["best_epoch"], *(found[name] for name in names)] == [
        best["epoch"],
        *(best[name] for name in names),
    ]


@one_task
def test_a_cell_of_the_user_s_own_is_imported_only_where_it_is_named(
    task, tmp_path, own_folder, refused
):
    (tmp_path / "mycells.py").write_text(
        "from rhn.cells import DTRNN\n\n\nclass Mine(DTRNN):\n    pass\n"
    )
    assert task.train("run", "--cell", "mycells:Mine") == 0
    for again in ("evaluate", "resume"):
        refused([again, "run"], "mycells:Mine")
        assert cli.main([again, "run", "--cell", "mycells:Mine"]) == 0


def test_data_that_was_moved_is_said_once(prose, tmp_path, refused):
    moved, run = shutil.copytree(prose.data, tmp_path / "moved"), tmp_path / "run"
    assert prose.train(run, "--max-minutes", 0) == 0
    config = run / "config.json"
    config.write_text(config.read_text().replace(str(prose.data), str(tmp_path / "gone")))
    refused(["resume", run], f"{tmp_path / 'gone'} cannot be read: No such file or directory")
    assert cli.main(["resume", str(run), "--data", str(moved), "--max-minutes", "0"]) == 0
    assert cli.main(["resume", str(run)]) == 0


def test_a_resume_with_an_edited_configuration_is_another_training_run(music, tmp_path, refused):
    run = tmp_path / "run"
    assert music.train(run, "--max-minutes", 0) == 0
    config = run / "config.json"
    config.write_text(config.read_text().replace('"hidden_size": 4', '"hidden_size": 5'))
    refused(["resume", run], f"{run} holds another training run: hidden_size is 5 here and 4 there")
    refused(music.command(run, "--hidden-size", 6), "hidden_size is 6 here and 4 there")


def test_seeds_side_by_side_have_the_numbers_that_each_has_alone(prose, trained, answer, tmp_path):
    found = answer(*prose.command(tmp_path / "out", "--seeds", 2, "--json"))["seeds"]
    assert [row["seed"] for row in found] == [0, 1]
    assert prose.train(tmp_path / "alone", "--seed", 1) == 0
    for place, alone in ((0, trained(prose)), (1, tmp_path / "alone")):
        folder = tmp_path / "out" / f"seed-{place}"
        assert found[place]["checkpoint"] == str(folder / "best.safetensors")
        for ours, theirs in zip(metrics(folder), metrics(alone), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4)
        assert answer("evaluate", folder, "--json") == answer(
            "evaluate", folder, "--data", prose.data, "--json"
        )
    assert metrics(tmp_path / "out" / "seed-0") != metrics(tmp_path / "out" / "seed-1")


def test_a_training_that_diverges_in_its_first_epoch_says_so(prose, tmp_path, refused):
    refused(prose.command(tmp_path / "out", "--learning-rate", 1e30), "not finite")


def test_a_text_no_better_than_equal_chances_is_one_sentence(prose, tmp_path, capsys):
    assert prose.train(tmp_path, "--learning-rate", 50) == 0
    said = capsys.readouterr()
    found = re.escape("at a learning rate of 50 the training run found nothing better than equal ")
    assert re.match(f"{found}chances for all [0-9]+ symbols", said.err.splitlines()[-1])
    assert max(len(word) for word in said.out.split() if word[0].isdigit()) <= 10


def constant_losses(corpus) -> tuple[float, float]:
    """Training and validation loss of the constant predictor, in NumPy."""
    p, q = (np.concatenate([x[1:] for x in each]).mean(0) for each in (corpus.train, corpus.valid))
    return tuple(float(-(xlogy(s, p) + xlogy(1 - s, 1 - p)).sum()) for s in (p, q))


def test_chorales_no_better_than_the_constant_predictor_are_compared_with_it(
    music, tmp_path, capsys
):
    assert music.train(tmp_path, "--learning-rate", 50) == 0
    said, epochs = capsys.readouterr(), metrics(tmp_path)
    constant, valid = constant_losses(chorales(music.data))
    best = min(epochs, key=lambda line: line["valid_nll"])
    split, name, baseline = ("train", "training", constant)
    if np.isfinite(valid):
        split, name, baseline = ("valid", "validation", valid)
    found, train_nll = best[f"{split}_nll"], best["train_nll"]
    assert said.err.splitlines()[-1] == (
        f"The {name} loss of the best weights, {found:.4f}, is not below that of the constant "
        f"predictor, {baseline:.4f}. The training loss rose from {train_nll:.4f} at epoch "
        f"{best['epoch']} to {epochs[-1]['train_nll']:.4f} at the end (constant predictor: "
        f"{constant:.4f}): try a lower --learning-rate, in another --out"
    )


@pytest.mark.parametrize(
    ("train_nll", "valid_nll", "last", "remedy"),
    [
        (0.9, 0.9, 0.8, None),
        (1.0, 1.1, 1.01, "train longer (rhn resume --epochs), or try another --learning-rate"),
        (0.5, 1.1, 0.4, "the network has learned only the training data"),
        (0.9, 0.9, 8.0, "try a lower --learning-rate"),
        (3.0, 3.0, 8.0, "try a lower --learning-rate"),
        (3.0, 3.0, 2.0, "train longer (rhn resume --epochs), or try another --learning-rate"),
    ],
    ids=["trained", "plateau", "overfit", "rose", "diverged", "short"],
)
def test_the_remedy_follows_from_the_losses(train_nll, valid_nll, last, remedy):
    corpus = shortest_chorales(8)
    corpus = replace(corpus, valid=corpus.train[:3])
    constant, valid = constant_losses(corpus)
    losses = {"train_nll": train_nll * constant, "valid_nll": valid_nll * valid, "test_nll": 9.0}
    result = TrainingResult(
        seed=0,
        checkpoint="best",
        best_epoch=1,
        epochs=9,
        last_train_nll=last * constant,
        steps=(0, 1),
        finished=True,
        diverged=None,
        **losses,
    )
    advice = train._advice_on_chorales(result, corpus)
    assert (advice is None) if remedy is None else (remedy in advice)


def test_losses_and_steps_are_shown(prose, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "PAUSE", 0)
    monkeypatch.setattr(progress, "FIRST_LINE", 0.01)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    assert prose.train(tmp_path) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(r"epoch [23]/3, valid perplexity [\d.]+: \d+/\d+", said)
    assert "nan" not in said


def test_penn_treebank_is_trained_and_evaluated(tmp_path, answer):
    if not PTB.exists():
        pytest.skip(f"Penn Treebank is not at {PTB}")
    command = [
        "train",
        "ptb-depth-2",
        "--data",
        str(PTB),
        "--out",
        str(tmp_path),
        "--max-tokens",
        "2000",
    ]
    assert cli.main([*command, "--hidden-size", "8", "--epochs", "1"]) == 0
    with safe_open(tmp_path / "best.safetensors", "pt") as file:
        assert file.get_slice("embedding").get_shape() == [10_000, 8]
    found = answer("evaluate", tmp_path, "--max-tokens", 500, "--json")
    assert found["tokens"] == 499 and found["perplexity"] < 10_000  # less than guessing
