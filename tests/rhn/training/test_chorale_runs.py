"""What a training on chorales leaves in its folder. What all trainings have in common:
test_run_folder.py.
"""

import dataclasses
import json

import numpy as np
import pytest

import rhn
from rhn.checkpoints import load, read
from rhn.errors import DivergedError
from rhn.training.config import ChoraleConfig
from rhn.training.evaluation import evaluate_chorales
from rhn.training.run import train
from tests.rhn.pieces import shortest_chorales
from tests.rhn.texts import SMALL, small_corpus
from tests.rhn.texts import metrics as lines

CONFIG = ChoraleConfig(
    cell="rhn",
    depth=2,
    hidden_size=5,
    learning_rate=0.3,
    init_std=0.1,
    transform_bias=-1.0,
    epochs=6,
    patience=3,
)


@pytest.fixture(scope="module")
def corpus():
    return shortest_chorales(33)


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory):
    """A folder, and what was returned."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, train(CONFIG, corpus, out=folder)[0]


def test_it_leaves_its_configuration_losses_best_model_and_state(run, corpus):
    folder, result = run
    names = [".lock", "best.safetensors", "config.json", "metrics.jsonl", "state.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert json.loads((folder / "config.json").read_text()) == dataclasses.asdict(CONFIG) | {
        "data": corpus.checksum,
        "device": "cpu",
    }
    assert [line["epoch"] for line in lines(folder)] == list(range(result.epochs + 1))
    best = lines(folder)[result.best_epoch]
    assert (best["train_nll"], best["valid_nll"]) == (result.train_nll, result.valid_nll)
    assert result.valid_nll == min(line["valid_nll"] for line in lines(folder))


def test_the_first_weights_can_be_had_again_from_the_checkpoint(run, corpus):
    folder, _ = run
    model = rhn.load(folder / "best.safetensors", before_training=True)
    assert evaluate_chorales(model, corpus.train).nll == lines(folder)[0]["train_nll"]
    assert evaluate_chorales(model, corpus.valid).nll == lines(folder)[0]["valid_nll"]


def test_the_best_checkpoint_has_the_losses_that_the_run_reports(run, corpus):
    folder, result = run
    model, losses = load(folder / "best.safetensors"), {}
    for split in ("train", "valid", "test"):
        losses[f"{split}_nll"] = getattr(result, f"{split}_nll")
        assert evaluate_chorales(model, getattr(corpus, split)).nll == losses[f"{split}_nll"]
    about = read(folder / "best.safetensors").header["metadata"]
    assert about["metrics"] == {"epoch": result.best_epoch, **losses}
    assert about["train"] == dataclasses.asdict(CONFIG)


def test_a_training_that_patience_ended_ends_at_the_same_epoch_where_more_are_allowed(
    corpus, tmp_path
):
    config = dataclasses.replace(CONFIG, learning_rate=4.0, epochs=40, patience=2)
    (ended,) = train(config, corpus, out=tmp_path)
    assert ended.epochs == ended.best_epoch + 2 < 40
    assert train(dataclasses.replace(config, epochs=60), corpus, out=tmp_path) == [ended]


@pytest.mark.parametrize("text", [False, True])
def test_seeds_that_patience_ended_one_after_another_have_the_same_results_after_a_resume(
    text, corpus, tmp_path
):
    config, data = (
        (SMALL, small_corpus()) if text else (dataclasses.replace(CONFIG, init_std=1.0), corpus)
    )
    config, seeds = dataclasses.replace(config, learning_rate=2.0, patience=1, epochs=12), (0, 1, 2)
    results = train(config, data, out=tmp_path, seeds=seeds)
    assert len({result.epochs for result in results}) > 1
    assert train(config, data, out=tmp_path, seeds=seeds) == results


def test_a_diverged_run_and_its_resume_say_so_alike_and_keep_a_finite_model(corpus, tmp_path):
    config = dataclasses.replace(CONFIG, learning_rate=3e38)
    for _ in range(2):
        with pytest.raises(DivergedError, match=r"^the loss is not finite in epoch 1, at a "):
            train(config, corpus, out=tmp_path)
    metrics = read(tmp_path / "best.safetensors").metadata["metrics"]
    assert metrics.items() > lines(tmp_path)[0].items() and np.isfinite(metrics["test_nll"])
    assert lines(tmp_path)[-1]["train_nll"] is None
    assert load(tmp_path / "best.safetensors").hidden_size == 5
