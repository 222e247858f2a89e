"""`trainability check runs/NAME`: a stored training begins with its own first weights."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import optim_study
from optim_study.backend import models_of_trials
from rhn.checkpoints import save_checkpoint
from rhn.data import chorales
from rhn.errors import InvalidInputError
from rhn.models import PolyphonicModel
from rhn.presets import preset
from rhn.training.run import Callback, train_in_folder
from trainability.cli import CheckOptions, main, of_next_frames
from trainability.stored import stored_training


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A file of a few short chorales."""
    generator = np.random.default_rng(0)

    def piece():
        return [sorted(generator.integers(50, 70, 3).tolist()) for _ in range(12)]

    splits = {name: [piece() for _ in range(4)] for name in ("train", "valid", "test")}
    path = tmp_path_factory.mktemp("data") / "tiny.json"
    path.write_text(json.dumps(splits))
    return path


class First(Callback):
    """Keep the weights before the first step."""

    def __init__(self):
        self.weights: dict[int, dict] = {}

    def step(self, trainer):
        if not trainer.steps:
            self.weights = {n: trainer.model(n).state_dict() for n in trainer.numbers}


def equal(model: nn.Module, weights: dict) -> bool:
    """True if all weights are the same bit for bit."""
    own = model.state_dict()
    return own.keys() == weights.keys() and all(torch.equal(own[n], weights[n]) for n in own)


def trained(pieces, folder, seeds, **changes):
    """A short training; returns the weights before its first step, by seed."""
    config = preset("jsb-depth-1", hidden_size=5, epochs=2, **changes)
    first, corpus = First(), chorales(pieces)
    train_in_folder(
        config, corpus, folder, seeds=seeds, callbacks=[first], about={"path": str(pieces)}
    )
    return first.weights


def test_a_run_begins_with_its_first_weights(pieces, tmp_path):
    weights = trained(pieces, tmp_path / "mine", None, cell="gru", init_std=0.3, seed=7)
    stored = stored_training(tmp_path / "mine")
    assert equal(stored.model, weights[7]) and stored.data == pieces


def test_a_run_without_a_checkpoint_begins_again(pieces, tmp_path):
    """As one that has diverged before its first epoch."""
    weights = trained(pieces, tmp_path / "mine", None, seed=3)
    (tmp_path / "mine" / "best.safetensors").unlink()
    assert equal(stored_training(tmp_path / "mine").model, weights[3])


def test_one_of_several_seeds_is_a_run(pieces, tmp_path):
    weights = trained(pieces, tmp_path / "mine", [4, 9])
    assert equal(stored_training(tmp_path / "mine" / "seed-9").model, weights[9])
    with pytest.raises(InvalidInputError, match=r"holds 2 seeds: give one, such as .*seed-4"):
        stored_training(tmp_path / "mine")


def test_a_trial_of_a_study_begins_with_its_first_weights(pieces, tmp_path):
    """Also one that is not the best: each has a record."""
    schemes = ("gaussian", "orthogonal")
    given = {"arch": ("rhn",), "depth": (2,), "trials": 3, "epochs": 1, "init_schemes": schemes}
    config = optim_study.smoke(data=pieces, out=tmp_path / "study", **given)
    optim_study.run(config, quiet=True)
    (study,) = config.studies(chorales(pieces).checksum)
    settings = {number: study.settings(number) for number in range(3)}
    for number, model in models_of_trials(study, settings).items():
        path = tmp_path / "study" / study.name / "trials" / f"{number:04d}.json"
        stored = stored_training(path)
        assert equal(stored.model, model.state_dict())
        assert stored.settings["learning_rate"] == settings[number].learning_rate


def test_a_record_without_settings_and_a_cell_of_the_users_are_refused(tmp_path):
    path = tmp_path / "0007.json"
    path.write_text('{"curve": []}')
    with pytest.raises(InvalidInputError, match="is not the record of a trial"):
        stored_training(path)
    about = {"study": {"arch": "own_cells:Mine", "depth": 1}, "settings": {}, "trial": 0}
    path.write_text(json.dumps(about))
    with pytest.raises(InvalidInputError, match="add --cell own_cells:Mine"):
        stored_training(path)


def test_a_damaged_record_and_a_checkpoint_of_no_training_are_one_sentence(tmp_path, capsys):
    record, folder = tmp_path / "0007.json", tmp_path / "run"
    record.write_text('{"study": ')
    folder.mkdir()
    (folder / "config.json").write_text('{"preset": "jsb-depth-1"}')
    save_checkpoint(folder / "best.safetensors", PolyphonicModel("rhn", hidden_size=4))
    for path, words in (
        (record, "is not the record of a trial"),
        (folder, "does not say the seed"),
    ):
        assert main(["check", str(path)]) == 2
        shown = capsys.readouterr().err
        assert words in shown and "Traceback" not in shown


def test_the_command_takes_weights_data_and_optimiser_of_the_run(pieces, tmp_path):
    options = {"optimizer": "adam", "learning_rate": 3e-3, "beta2": 0.9, "batch_size": 2}
    weights = trained(pieces, tmp_path / "mine", None, seed=7, **options)
    parts = of_next_frames(CheckOptions(training=str(tmp_path / "mine")))
    (group,) = parts["optimizer"].param_groups
    assert equal(parts["model"], weights[7]) and parts["name"] == "mine"
    assert isinstance(parts["optimizer"], torch.optim.Adam)
    assert (group["lr"], group["betas"], parts["batch_size"]) == (3e-3, (0.9, 0.9), 2)
    assert parts["x"].shape[:2] == (11, 4) and parts["steps"] == 2 * 2  # epochs, minibatches
    other = of_next_frames(CheckOptions(training=str(tmp_path / "mine"), learning_rate=0.5))
    assert other["optimizer"].param_groups[0]["lr"] == 0.5


def test_a_run_is_checked_by_its_folder(pieces, tmp_path, capsys):
    trained(pieces, tmp_path / "mine", None)
    assert main(["check", str(tmp_path / "mine"), "--steps", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "mine"
    assert main(["check", str(tmp_path / "mine"), "--depth", "2"]) == 2
    assert "--depth cannot be given with a preset or a run" in capsys.readouterr().err
