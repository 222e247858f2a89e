"""`trainability check runs/NAME`: a stored training begins with its own first weights."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

import optim_study
from optim_study.backend import models_of_trials
from rhn.cells import CELLS
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
    assert equal(stored.model, weights[7]) and stored.data.path == pieces


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


@pytest.fixture(scope="module")
def study(pieces, tmp_path_factory):
    """A study of three trials, and its folder."""
    schemes = ("gaussian", "orthogonal")
    given = {"arch": ("rhn",), "depth": (2,), "trials": 3, "epochs": 1, "init_schemes": schemes}
    out = tmp_path_factory.mktemp("study")
    config = optim_study.smoke(data=pieces, out=out, **given)
    optim_study.run(config, quiet=True)
    (study,) = config.studies(chorales(pieces).checksum)
    return study, out


@pytest.fixture(scope="module")
def run_of_5(pieces, tmp_path_factory):
    """The folder of a training run of 5 units."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    trained(pieces, folder, None, cell="gru")
    return folder


def refused(capsys, *words) -> str:
    """The sentence with which `check` refuses these arguments."""
    assert main(["check", *map(str, words)]) == 2
    shown = capsys.readouterr().err
    assert "Traceback" not in shown and "/site-packages/" not in shown
    return " ".join(shown.split())


def test_a_trial_of_a_study_begins_with_its_first_weights(study):
    """Also one that is not the best: each has a record."""
    config, out = study
    settings = {number: config.settings(number) for number in range(3)}
    for number, model in models_of_trials(config, settings).items():
        path = out / config.name / "trials" / f"{number:04d}.json"
        stored = stored_training(path)
        assert equal(stored.model, model.state_dict())
        assert stored.settings["learning_rate"] == settings[number].learning_rate


def test_the_trials_of_every_cell_are_read(pieces, tmp_path):
    """Records of cells without transform gates have no transform bias."""
    given = {"arch": tuple(CELLS), "depth": (1,), "trials": 1, "epochs": 1}
    config = optim_study.smoke(data=pieces, out=tmp_path, **given)
    optim_study.run(config, quiet=True)
    for study in config.studies(chorales(pieces).checksum):
        (model,) = models_of_trials(study, {0: study.settings(0)}).values()
        stored = stored_training(tmp_path / study.name / "trials" / "0000.json")
        assert equal(stored.model, model.state_dict()), study.name


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("settings.transform_bias", "a", "transform_bias is 'a', expected a number"),
        ("settings.transform_bias", None, "it lacks transform_bias"),
        ("settings.learning_rate", "0.1", "learning_rate is '0.1', expected a number"),
        ("settings.learning_rate", None, "learning_rate is None"),
        ("study.arch", None, "arch is None"),
        ("study.batch_size", 0, "batch_size is 0, expected 1 or more"),
        ("study.batch_size", "a", "batch_size is 'a'"),
        ("study.optimizer", "evil", "optimizer is 'evil'"),
        ("study.optimizer", ["adam"], "optimizer is ['adam']"),
        ("study.seed", "x", "seed is 'x'"),
        ("study.seed", -5, "seed is -5, expected 0 or more"),
        ("trial", -1, "trial is -1, expected 0 or more"),
        ("study.depth", -1, "depth is -1, expected 1 or more"),
        ("study.momentum", float("nan"), "momentum is nan"),
        ("study.momentum", 2, "momentum is 2"),
        ("study.epochs", 0, "epochs is 0, expected 1 or more"),
        ("study.epochs", "a", "epochs is 'a'"),
        ("study.options", {"coupled": {"a": 1}}, "an entry was changed"),
        ("study.data", "0" * 64, "an entry was changed"),
        ("outcome.hidden_size", 0, "hidden_size is 0, expected 1 or more"),
        ("init", "gaussian:x", "gaussian:x"),
        ("study", None, "is not the record of a trial"),
    ],
)
def test_a_record_with_another_value_is_one_sentence(study, tmp_path, capsys, place, value, words):
    config, out = study
    record = json.loads((out / config.name / "trials" / "0001.json").read_text())
    *parts, last = place.split(".")
    entry = record
    for part in parts:
        entry = entry[part]
    entry[last] = value
    path = tmp_path / "0001.json"
    path.write_text(json.dumps(record))
    shown = refused(capsys, path)
    assert words in shown and "0001.json is not the record of a trial" in shown


def test_a_record_without_settings_and_a_cell_of_the_users_are_refused(study, tmp_path):
    path = tmp_path / "0007.json"
    path.write_text('{"curve": []}')
    with pytest.raises(InvalidInputError, match="is not the record of a trial"):
        stored_training(path)
    config, out = study
    record = json.loads((out / config.name / "trials" / "0001.json").read_text())
    record["study"]["arch"] = "own_cells:Mine"
    protocol = json.dumps(record["study"], sort_keys=True).encode()
    record["study_fingerprint"] = hashlib.sha256(protocol).hexdigest()[:16]
    path.write_text(json.dumps(record))
    with pytest.raises(InvalidInputError, match="add --cell own_cells:Mine"):
        stored_training(path)


def test_another_cell_than_the_stored_one_is_refused(study, run_of_5, capsys):
    config, out = study
    record = out / config.name / "trials" / "0001.json"
    assert "of a network of rhn, not of gru: leave out --cell" in refused(
        capsys, record, "--cell", "gru"
    )
    assert "of a network of gru, not of rhn" in refused(capsys, run_of_5, "--cell", "rhn")
    options = ("--cell", "gru", "--cell-option", "a=1")
    assert "--cell-option cannot be given with a run" in refused(capsys, run_of_5, *options)


def test_a_path_that_is_no_training_says_what_to_give(study, run_of_5, tmp_path, capsys):
    config, out = study
    assert "is a study: give the record of one of its trials" in refused(capsys, out)
    assert "is a study: give the record" in refused(capsys, out / config.name)
    for missing in (
        out / config.name / "trials" / "0099.json",
        run_of_5 / "seed-7",
        run_of_5 / "seed-x",
        "runs/none",
    ):
        assert f"{missing} is not there" in refused(capsys, missing)
    assert "--checkpoint" in refused(capsys, run_of_5 / "best.safetensors")
    assert "holds no config.json" in refused(capsys, tmp_path)
    assert "there is no preset 'jsb-depth-11'" in refused(capsys, "jsb-depth-11")


def test_a_configuration_of_another_run_than_the_weights_is_refused(run_of_5, tmp_path, capsys):
    folder = shutil.copytree(run_of_5, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    for name, value in (("hidden_size", 7), ("data", "0" * 64), ("learning_rate", 0.3)):
        (folder / "config.json").write_text(json.dumps(config | {name: value}))
        shown = refused(capsys, folder)
        assert "are of different training runs" in shown and f"{name} is" in shown


def test_other_chorales_than_those_of_the_run_are_refused(
    pieces, study, run_of_5, tmp_path, capsys
):
    config, out = study
    other = tmp_path / "other.json"
    piece = [[60, 64, 67]] * 12
    other.write_text(json.dumps({name: [piece] * 4 for name in ("train", "valid", "test")}))
    record = out / config.name / "trials" / "0001.json"
    for path in (record, run_of_5):
        assert "was trained on data with checksum" in refused(capsys, path, "--data", other)
    shutil.copytree(out, copy := tmp_path / "copy")
    (copy / config.name / "best.safetensors").unlink()  # it names the file of the study
    copied = copy / config.name / "trials" / "0001.json"
    assert "give its own, --data PATH" in refused(capsys, copied)
    assert stored_training(record).chorales(None) == pieces


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
