"""Run folders that older versions began go on to the numbers that these would have come to."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from rhn.checkpoints import load_checkpoint, read_metadata, save_checkpoint
from rhn.cli.main import main
from rhn.errors import InvalidInputError
from rhn.training.config import ChoraleConfig, LanguageConfig
from rhn.training.run_folder import read_run_config, train
from rhn.training.state import read_state, write_state
from rhn.training.trained import load_text_model
from tests.rhn.pieces import shortest_chorales
from tests.rhn.texts import SMALL, small_corpus

FOLDERS = Path(__file__).with_name("version_0_2")
ENTRIES = ("data", "text", "seeds", "device", "path")


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", ["chorales", "text"])
def test_a_folder_of_version_0_2_goes_on(name, tmp_path):
    folder = Path(shutil.copytree(FOLDERS / name, tmp_path / "run"))
    entries = read_run_config(folder / "config.json")
    fields = {key: value for key, value in entries.items() if key not in ENTRIES}
    if name == "text":
        results = train(LanguageConfig(**fields), small_corpus(40), folder, seeds=entries["seeds"])
    else:
        results = train(ChoraleConfig(**fields | {"epochs": 5}), shortest_chorales(3), folder)
    assert all(result.finished for result in results)
    for expected in folder.rglob("expected.jsonl"):
        found, wanted = lines(expected.with_name("metrics.jsonl")), lines(expected)
        assert (
            len(found)
            == len(wanted)
            > len(lines(FOLDERS / name / expected.relative_to(folder).with_name("metrics.jsonl")))
        )
        for ours, theirs in zip(found, wanted, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-6)  # the fixtures come from another processor


def begun_by_version_0_3(folder: Path, precision: str) -> Path:
    """A folder of one epoch, whose configurations name a precision."""
    train(replace(SMALL, epochs=1), small_corpus(40), folder)
    for name in ("best.safetensors", "last.safetensors"):
        about = read_metadata(folder / name)["metadata"]
        about["train"]["precision"] = precision
        save_checkpoint(folder / name, load_checkpoint(folder / name), **about)
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"precision": precision}))
    arrays, about = read_state(folder / "state.safetensors")
    about["training"] = json.dumps(json.loads(about["training"]) | {"precision": precision})
    write_state(folder / "state.safetensors", arrays, about)
    return folder


def test_a_folder_of_version_0_3_in_float32_goes_on_and_its_checkpoint_loads(tmp_path):
    folder, whole = begun_by_version_0_3(tmp_path / "begun", "float32"), tmp_path / "whole"
    assert load_text_model(folder).config == replace(SMALL, epochs=1)
    for each in (folder, whole):
        train(SMALL, small_corpus(40), each)
    assert lines(folder / "metrics.jsonl") == lines(whole / "metrics.jsonl")


def test_a_training_of_version_0_3_in_mixed_precision_is_refused(tmp_path, capsys):
    folder = begun_by_version_0_3(tmp_path, "mixed")
    for call in (lambda: train(SMALL, small_corpus(40), folder), lambda: load_text_model(folder)):
        with pytest.raises(InvalidInputError, match=r"precision 'mixed'.* version 0\.3"):
            call()
    assert main(["resume", str(folder)]) == 2
    assert "version 0.3" in capsys.readouterr().err
