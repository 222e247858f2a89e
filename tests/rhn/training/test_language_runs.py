"""Language models' trainings in their folders: what diverges, and several seeds. What all trainings share: test_run_folder.py."""

import json
import math
from dataclasses import replace

import pytest

from rhn.training.run import train
from tests.rhn.texts import SMALL, small_corpus, text_trainer

CORPUS = small_corpus()
PATIENT = replace(SMALL, patience=1, epochs=12, learning_rate=2.0)


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    """(Folder, results) of a training in which patience does not end all seeds after the same epoch."""
    folder = tmp_path_factory.mktemp("patient")
    results = train(PATIENT, CORPUS, folder, seeds=(0, 1, 2))
    assert len({result.epochs for result in results}) > 1
    return folder, results


def test_seeds_that_patience_ended_have_not_diverged_after_a_resume(patient):
    folder, results = patient
    assert train(PATIENT, CORPUS, folder, seeds=(0, 1, 2)) == results


def test_ended_seeds_that_keep_their_places_keep_their_last_weights(patient, tmp_path, monkeypatch):
    """On a GPU ended trials stay in the ensemble for a while."""
    monkeypatch.setattr("rhn.training.trainer.places_to_keep", lambda live, device: list(range(len(live))))
    train(PATIENT, CORPUS, tmp_path, seeds=(0, 1, 2))
    for seed in (0, 1, 2):
        name = f"seed-{seed}/last.safetensors"
        assert (tmp_path / name).read_bytes() == (patient[0] / name).read_bytes()


def test_an_ended_seed_that_keeps_its_place_cannot_diverge(monkeypatch):
    monkeypatch.setattr("rhn.training.trainer.places_to_keep", lambda live, device: list(range(len(live))))
    trainer = text_trainer(PATIENT, CORPUS, seeds=(0, 1, 2))
    while trainer.live() == [0, 1, 2]:
        trainer.run_step()
    ended = min({0, 1, 2} - set(trainer.live()))
    curve = trainer.curve(ended)
    trainer._trials.ensemble.weights["output_bias"][ended] = math.nan
    trainer.run_epoch()
    assert trainer.curve(ended) is curve and not trainer.diverged(ended)


def test_the_speed_of_every_epoch_is_written(tmp_path):
    (result,) = train(SMALL, CORPUS, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "speed.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, result.epochs + 1))
    assert all(line["tokens_per_second"] == pytest.approx(line["tokens"] / line["seconds"]) for line in lines)
