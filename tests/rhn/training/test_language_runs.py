"""Language models' trainings in their folders: what diverges, and several seeds. What all trainings share: test_run_folder.py."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from rhn.errors import DataError, DivergedError
from rhn.training.run_folder import train
from rhn.training.state import read_state, write_state
from tests.rhn.texts import SMALL, small_corpus

CORPUS = small_corpus()


def test_a_loss_that_is_not_finite_stops_names_the_step_and_keeps_the_best_weights(tmp_path):
    train(replace(SMALL, epochs=1), CORPUS, tmp_path)
    path, best = tmp_path / "state.safetensors", (tmp_path / "best.safetensors").read_bytes()
    arrays, metadata = read_state(path)
    arrays["weights.output_bias"][:] = np.nan
    write_state(path, arrays, metadata)
    with pytest.raises(DivergedError, match=rf"not finite at step 1 of .* weights are in {tmp_path}/best\.safetensors"):
        train(SMALL, CORPUS, tmp_path)
    assert (tmp_path / "best.safetensors").read_bytes() == best


@pytest.mark.parametrize("rate", [1e12, 1e30])
def test_a_training_that_explodes_is_no_success(rate, tmp_path):
    with pytest.raises(DivergedError, match=r"(not finite|nats a token).* learning rate .* no epoch was finished"):
        train(replace(SMALL, learning_rate=rate), CORPUS, tmp_path)
    assert not (tmp_path / "best.safetensors").exists()


def test_a_state_of_the_right_names_that_does_not_fit_is_refused(tmp_path):
    train(replace(SMALL, epochs=1), CORPUS, tmp_path)
    path = tmp_path / "state.safetensors"
    good, metadata = read_state(path)
    for damage in (
        {"weights.embedding": np.zeros((1, 1), np.float32)},
        {"step": np.array(10**6)},
        {"step": np.array(-1)},
        {"curve": np.zeros((1, 5))},
        {"curve": np.zeros(4)},
        {"nll": np.zeros(3)},
    ):
        write_state(path, good | damage, metadata)
        with pytest.raises(DataError, match=r"state\.safetensors is of another training"):
            train(SMALL, CORPUS, tmp_path)


def test_going_on_elsewhere_is_said(tmp_path, caplog):
    train(replace(SMALL, epochs=1), CORPUS, tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"device": "cpu"', '"device": "cuda"'))
    train(SMALL, CORPUS, tmp_path)
    assert "begun on cuda" in caplog.text


def test_several_seeds_have_a_folder_each(tmp_path):
    for result in train(SMALL, CORPUS, tmp_path, seeds=(3, 4)):
        home = tmp_path / f"seed-{result.seed}"
        lines = [json.loads(line) for line in (home / "metrics.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in lines] == [1, 2, 3]
        assert lines[result.best_epoch - 1]["valid_perplexity"] == pytest.approx(math.exp(result.valid_nll))
        assert result.checkpoint == str(home / "best.safetensors")


def test_the_speed_of_every_epoch_is_written(tmp_path):
    (result,) = train(SMALL, CORPUS, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "speed.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, result.epochs + 1))
    assert all(line["tokens_per_second"] == pytest.approx(line["tokens"] / line["seconds"]) for line in lines)
