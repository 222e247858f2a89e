"""Run folders that version 0.3 began go on to the same numbers."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rhn.checkpoints import load_checkpoint, read_metadata, save_checkpoint
from rhn.cli.main import main
from rhn.errors import InvalidInputError
from rhn.training.config import OF_0_3
from rhn.training.run import Callback, train
from rhn.training.state import Interrupted, read_state, write_state
from rhn.training.trained import load_text_model
from tests.rhn.texts import SMALL, small_corpus


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


SHUT = replace(SMALL, cell_options={"gate_constant": -1.0})


def begun_by_version_0_3(folder: Path, precision: str, stop: int = 12) -> Path:
    """A folder of some steps, whose configurations have a precision and options of the cell, whose
    state lacks the best weights.
    """
    older = {"precision": precision, "cell_options": {}} | OF_0_3 | SHUT.cell_options
    interrupt = Callback()
    interrupt.step = lambda trainer: trainer.steps == stop and os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Interrupted):
        train(SHUT, small_corpus(40), folder, callbacks=[interrupt])
    about = read_metadata(folder / "best.safetensors")["metadata"]
    about["train"] |= older
    save_checkpoint(
        folder / "best.safetensors", load_checkpoint(folder / "best.safetensors"), **about
    )
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | older))
    arrays, about = read_state(folder / "state.safetensors")
    about["training"] = json.dumps(json.loads(about["training"]) | older)
    arrays = {"step": np.array(0)} | {
        name: array for name, array in arrays.items() if not name.startswith("best.")
    }
    write_state(folder / "state.safetensors", arrays, about)
    return folder


@pytest.mark.parametrize("stop", [16, 20], ids=["at the end of an epoch", "within an epoch"])
def test_a_folder_of_version_0_3_in_float32_goes_on_and_its_checkpoint_loads(stop, tmp_path):
    folder, whole = begun_by_version_0_3(tmp_path / "begun", "float32", stop), tmp_path / "whole"
    assert load_text_model(folder).config == SHUT
    for each in (folder, whole):
        train(SHUT, small_corpus(40), each)
    for name in ("metrics.jsonl", "best.safetensors", "state.safetensors"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_a_training_of_version_0_3_in_mixed_precision_is_refused(tmp_path, capsys):
    folder = begun_by_version_0_3(tmp_path, "mixed")
    for call in (lambda: train(SHUT, small_corpus(40), folder), lambda: load_text_model(folder)):
        with pytest.raises(InvalidInputError, match=r"precision 'mixed'.* version 0\.3"):
            call()
    assert main(["resume", str(folder)]) == 2
    assert "version 0.3" in capsys.readouterr().err
