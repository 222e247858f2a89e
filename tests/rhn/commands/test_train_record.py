"""`rhn train --record N`: training does not change, and the record continues with it."""

import numpy as np
import pytest
import torch

from gersgorin.recording import Recording
from rhn.checkpoints import load
from rhn.data import chorales
from rhn.training.chorales import constant_output_nll
from tests.rhn.commands.test_trainings import assert_same_run

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
    model, found = load(tmp_path / "best.safetensors"), record(tmp_path)  # of epoch 1
    probe = torch.as_tensor(np.asarray(chorales(music.data).valid[0])).float()
    loss = model.nll(probe).mean()
    loss.backward()
    assert found.loss[-1] == pytest.approx(loss.item())
    corpus = chorales(music.data)
    assert found.constant == constant_output_nll(corpus, corpus.valid[:1])
    place = found.parameters.index("cells.0.weight_hh[1]")
    gradient = model.cells[0].weight_hh.grad[1].norm().item()
    assert found.gradient_norm[-1, place] == pytest.approx(gradient)
