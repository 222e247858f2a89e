"""`rhn train` and `rhn resume`, of chorales and of texts alike: killed, stopped, prolonged, and
what they print.
"""

import json
import re
import shutil
import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file
from scipy.special import xlogy

from rhn.cli import main as cli
from rhn.data import chorales, read_text
from rhn.utils import progress
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
    assert capsys.readouterr().out.splitlines()[1].split()[-2:] == ["no", "-"]
    assert len(metrics(tmp_path)) < 3
    assert cli.main(["resume", str(tmp_path), "--max-minutes", "0"]) == 0
    assert cli.main(["resume", str(tmp_path)]) == 0
    assert cli.main(["resume", str(tmp_path), "--epochs", "3"]) == 0
    assert_same_run(tmp_path, trained(task))


def test_what_is_stopped_in_its_first_epoch_has_no_checkpoint_and_no_losses(
    prose, trained, refused, tmp_path, capsys
):
    assert prose.train(tmp_path, "--max-minutes", 0) == 0
    row = capsys.readouterr().out.splitlines()[1]
    assert row.split() == ["seed", "0", "-", "-", "-", "0", "0", "no", "-"]
    refused(["evaluate", tmp_path], "best.safetensors does not exist")
    assert prose.train(tmp_path) == 0
    assert_same_run(tmp_path, trained(prose))


def test_the_table_and_the_json_have_the_losses_of_the_best_epoch(task, trained, capsys):
    out = trained(task)
    capsys.readouterr()
    assert task.train(out) == 0  # again: nothing is left to do
    said = capsys.readouterr()
    name = {"chorales": "nll", "text": "perplexity"}[task.name]
    best = min(metrics(out), key=lambda line: line[f"valid_{name}"])
    header, row, constant = said.out.splitlines()
    assert said.err == "" and constant.startswith("constant predictor")
    assert header.startswith({"nll": "nats per frame ", "perplexity": "perplexity "}[name])
    losses = [f"{best[f'{split}_{name}']:.5g}" for split in ("train", "valid")]
    assert row.split()[:4] == ["seed", "0", *losses]
    assert task.train(out, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["epochs"], found["finished"], bool(found["diverged"])) == (3, True, False)
    assert found["best_epoch"] == best["epoch"]
    assert found[f"train_{name}"] == best[f"train_{name}"]
    assert (found.get("test_nll") is None) == (task.name == "text")


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


def test_the_last_row_is_the_constant_predictor(music, prose, trained, capsys):
    corpus = chorales(music.data)
    splits = (corpus.train, corpus.valid, corpus.test)
    shares = [np.concatenate([x[1:] for x in each]).mean(0) for each in splits]
    expected = [-(xlogy(q, shares[0]) + xlogy(1 - q, 1 - shares[0])).sum() for q in shares]
    assert _printed(music, trained, capsys) == [f"{loss:.5g}" for loss in expected]
    text = read_text("text", prose.data)
    words = [Counter(each[1:].tolist()) for each in (text.train, text.valid, text.test)]
    total = words[0].total()
    expected = [
        np.exp(-sum(n * np.log(words[0][word] / total) for word, n in each.items()) / each.total())
        for each in words
    ]
    assert _printed(prose, trained, capsys) == [f"{loss:.5g}" for loss in expected]


def _printed(task, trained, capsys) -> list[str]:
    capsys.readouterr()
    assert task.train(trained(task)) == 0
    return capsys.readouterr().out.splitlines()[-1].split()[2:]


def test_steps_are_shown(prose, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    assert prose.train(tmp_path) == 0
    assert re.search(r"training: \d+/87\n", capsys.readouterr().err)


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
