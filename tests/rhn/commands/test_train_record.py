"""`rhn train --record N`: the training does not notice, and the record goes on with it."""

import numpy as np
import pytest
import torch

from gersgorin.recording import Recording
from rhn.checkpoints import load
from rhn.cli import main as cli
from rhn.data import chorales
from tests.rhn.commands.test_trainings import assert_same_run

EVERY = {"chorales": 3, "text": 10}  # steps; an epoch of the short chorales has 2, of the text 29
STEPS = {"chorales": [0, 4, 6, 10, 12], "text": [0, 10, 20, 30, 40, 50, 60, 70, 80]}


def record(folder) -> Recording:
    return Recording.load(folder / "record.npz")


def assert_same_record(one: Recording, other: Recording):
    for name in ("step", "loss", "radius", "exponent", "gradient_norm", "eigenvalues"):
        assert np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True), name


def test_a_recorded_training_is_the_same_to_the_bit_and_measured_at_its_steps(task, tmp_path):
    epochs = {"chorales": 6, "text": 3}[task.name]
    plain, recorded = tmp_path / "plain", tmp_path / "recorded"
    assert task.train(plain, "--epochs", epochs) == 0
    assert task.train(recorded, "--epochs", epochs, "--record", EVERY[task.name]) == 0
    assert_same_run(recorded, plain)
    found = record(recorded)
    assert found.step.tolist() == STEPS[task.name] and found.every == EVERY[task.name]
    assert (
        np.isfinite(found.loss).all()
        and np.isfinite(found.radius).all()
        and len(set(found.loss)) == len(found)
    )


def test_loss_and_gradients_are_the_probe_s(music, tmp_path):
    assert music.train(tmp_path / "run", "--epochs", "1", "--record", "1") == 0
    model = load(tmp_path / "run" / "best.safetensors")  # of epoch 1
    probe = torch.as_tensor(np.asarray(chorales(music.data).valid[0])).float()
    loss = model.nll(probe).mean()
    loss.backward()
    found = record(tmp_path / "run")
    assert found.loss[-1] == pytest.approx(loss.item())
    p = np.concatenate([np.asarray(piece)[1:] for piece in chorales(music.data).train]).mean(0)
    y = probe.numpy()[1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        nll = np.where(y > 0, -np.log(p), -np.log(1 - p)).sum(1).mean()
    assert found.constant == pytest.approx(nll)
    place = found.parameters.index("cells.0.weight_hh[1]")
    assert found.gradient_norm[-1, place] == pytest.approx(
        model.cells[0].weight_hh.grad[1].norm().item()
    )


def test_a_training_that_was_stopped_goes_on_in_its_record_without_gaps_or_double_entries(
    task, tmp_path
):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    words = ("--epochs", 2, "--record", EVERY[task.name])
    assert task.train(whole, *words) == 0
    assert task.train(stopped, *words, "--max-minutes", 0) == 0
    for _ in range(2):
        assert cli.main(["resume", str(stopped), "--max-minutes", "0"]) == 0
    assert cli.main(["resume", str(stopped)]) == 0
    assert_same_run(stopped, whole)
    assert_same_record(record(stopped), record(whole))
