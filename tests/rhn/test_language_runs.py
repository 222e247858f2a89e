"""Trainings of language models in their folders: stopped anywhere they go on, the files tell one story, bad ones are refused."""

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from rhn.checkpoints import read_metadata
from rhn.engine.folder import held
from rhn.errors import DataError, DivergedError, InvalidInputError, OutputError
from rhn.language.loop import LanguageTraining
from rhn.language.runs import train_language_model
from tests.rhn.texts import SMALL, small_corpus

CORPUS = small_corpus()


def test_a_loss_that_is_not_finite_stops_and_names_the_step(tmp_path):
    good = train_language_model(replace(SMALL, epochs=1), CORPUS, tmp_path)
    kept = (tmp_path / "best.safetensors").read_bytes()
    state = load_file(tmp_path / "state.safetensors")
    state["weights.output_bias"][:] = torch.nan
    training = LanguageTraining(SMALL, CORPUS, seeds=(0,))
    training.resume(state)
    training.run_window()
    with pytest.raises(DivergedError, match="not finite at step 1 of"):
        training.check()
    assert good[0].epochs == 1
    with pytest.raises(DivergedError, match=r"step \d+ of .* learning rate .* no epoch was finished"):
        train_language_model(replace(SMALL, learning_rate=1e30), CORPUS, tmp_path / "other")
    assert (tmp_path / "best.safetensors").read_bytes() == kept


def test_a_training_that_explodes_without_a_nan_is_no_success(tmp_path):
    with pytest.raises(DivergedError, match=r"not finite|nats a token"):
        train_language_model(replace(SMALL, learning_rate=1e12), CORPUS, tmp_path)
    assert not (tmp_path / "best.safetensors").exists()


def test_a_damaged_state_of_the_right_names_is_refused(tmp_path):
    train_language_model(replace(SMALL, epochs=1), CORPUS, tmp_path)
    path = tmp_path / "state.safetensors"
    good = load_file(path)
    for damage in (
        {"weights.embedding": torch.zeros(1, 1)},
        {"position": torch.tensor([1, 10**6])},
        {"position": torch.tensor([-5, 0])},
        {"curve.0": torch.zeros(1, 5, dtype=torch.float64)},
        {"live": torch.tensor([], dtype=torch.int64)},
        {"live": torch.tensor(0)},
        {"live": torch.tensor([7])},
        {"nll": torch.zeros(3, 1, dtype=torch.float64)},
    ):
        save_file(good | damage, path)
        with pytest.raises(DataError, match=r"state\.safetensors is damaged"):
            train_language_model(SMALL, CORPUS, tmp_path)


def test_at_every_stop_the_folder_tells_one_story(tmp_path):
    """What the files say of the epochs done and of the best agrees, wherever the training was stopped."""
    for _ in range(500):
        (part,) = train_language_model(SMALL, CORPUS, tmp_path, max_minutes=0)
        lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        assert len(lines) == part.epochs
        if part.epochs:
            kept = {name: read_metadata(tmp_path / f"{name}.safetensors")["metadata"] for name in ("best", "last")}
            assert kept["best"]["metrics"] == lines[part.best_epoch - 1]
            assert kept["last"]["metrics"] == lines[-1]
        if part.finished:
            break
    assert part.epochs == 3


def test_going_on_elsewhere_is_said(tmp_path, caplog):
    train_language_model(replace(SMALL, epochs=1), CORPUS, tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"device": "cpu"', '"device": "cuda"'))
    train_language_model(SMALL, CORPUS, tmp_path)
    assert "begun on cuda" in caplog.text


def test_a_folder_goes_on_where_time_ran_out(tmp_path):
    whole = train_language_model(SMALL, CORPUS, tmp_path / "whole")
    for _ in range(500):
        (part,) = train_language_model(SMALL, CORPUS, tmp_path / "parts", max_minutes=1e-6)
        if part.finished:
            break
    for name in ("best.safetensors", "last.safetensors", "state.safetensors"):
        a, b = load_file(tmp_path / "whole" / name), load_file(tmp_path / "parts" / name)
        assert all(torch.equal(a[key], b[key]) for key in a), name
    assert (tmp_path / "whole/metrics.jsonl").read_text() == (tmp_path / "parts/metrics.jsonl").read_text()
    assert part == replace(whole[0], checkpoint=part.checkpoint)


def test_a_finished_training_may_go_on_for_more_epochs(tmp_path):
    train_language_model(replace(SMALL, epochs=2), CORPUS, tmp_path / "grown")
    train_language_model(SMALL, CORPUS, tmp_path / "grown")
    train_language_model(SMALL, CORPUS, tmp_path / "whole")
    assert (tmp_path / "grown/metrics.jsonl").read_text() == (tmp_path / "whole/metrics.jsonl").read_text()


def test_several_seeds_have_a_folder_each(tmp_path):
    results = train_language_model(SMALL, CORPUS, tmp_path, seeds=(3, 4))
    for result in results:
        home = tmp_path / f"seed-{result.seed}"
        lines = [json.loads(line) for line in (home / "metrics.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in lines] == [1, 2, 3]
        assert lines[result.best_epoch - 1]["valid_perplexity"] == pytest.approx(math.exp(result.valid_nll))
        assert result.checkpoint == str(home / "best.safetensors")


def test_another_training_in_the_folder_is_refused(tmp_path):
    train_language_model(SMALL, CORPUS, tmp_path)
    for other, corpus in ((replace(SMALL, depth=3), CORPUS), (SMALL, small_corpus(train=90))):
        corpus = replace(corpus, checksum=str(len(corpus.train)))
        with pytest.raises(InvalidInputError, match="holds another training"):
            train_language_model(other, corpus, tmp_path)
    with held(tmp_path), pytest.raises(OutputError, match="another process"):
        train_language_model(SMALL, CORPUS, tmp_path)


def test_a_damaged_state_is_named(tmp_path):
    train_language_model(SMALL, CORPUS, tmp_path)
    path = tmp_path / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"state\.safetensors is damaged"):
        train_language_model(SMALL, CORPUS, tmp_path)


def test_a_text_shorter_than_a_window_is_refused(tmp_path):
    with pytest.raises(DataError, match="do not fill 4 rows"):
        train_language_model(replace(SMALL, window=1000), CORPUS, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_fewer_epochs_than_are_done_are_refused(tmp_path):
    train_language_model(SMALL, CORPUS, tmp_path)
    config = (tmp_path / "config.json").read_text()
    with pytest.raises(InvalidInputError, match="has done 3 epochs already"):
        train_language_model(replace(SMALL, epochs=2), CORPUS, tmp_path)
    assert (tmp_path / "config.json").read_text() == config


def test_a_state_that_is_gone_is_not_begun_anew_over_what_was_done(tmp_path):
    train_language_model(SMALL, CORPUS, tmp_path)
    (tmp_path / "state.safetensors").unlink()
    with pytest.raises(DataError, match=r"state\.safetensors is missing"):
        train_language_model(SMALL, CORPUS, tmp_path)


def test_config_json_keeps_what_it_is_told_beside_the_configuration(tmp_path):
    for path in ("/a", "/b"):
        train_language_model(SMALL, CORPUS, tmp_path, about={"path": path})
        assert json.loads((tmp_path / "config.json").read_text())["path"] == path


def test_a_network_beyond_any_memory_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="cannot be built"):
        train_language_model(replace(SMALL, hidden_size=10**9), CORPUS, tmp_path / "none")
    assert not (tmp_path / "none").exists()
