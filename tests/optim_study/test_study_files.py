"""Files of a study: a folder of another study, program or version is refused, and nothing in it
changes. Damaged files: test_study_runs.py.
"""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from numpy_backend import NumpyTrials
from small_studies import NUMPY, assert_exact, config, drive, reference, save_at

from optim_study.config import StudyConfig
from optim_study.folder import StudyFolder, the_only_run
from rhn.cells import RHN
from rhn.checkpoints import save
from rhn.errors import DataError, InvalidInputError
from rhn.training.state import read_state, write_state
from rhn.version import __version__


def contents(out: Path) -> dict[Path, bytes]:
    """All files of a folder except its lock."""
    return {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.suffix}


def record_of(study: StudyConfig, out: Path) -> None:
    save_at(8, 1, out).save_record(reference(study, 1))


def model_of(name: str, study: StudyConfig, out: Path) -> None:
    folder = save_at(8, 1, out)
    folder.file(1, ".safetensors").unlink()
    fused = NumpyTrials(study, {1: study.settings(1)}, {})
    NUMPY.write_best(folder.trials / name, fused, 1, **study.trial(1))


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(record_of, id="record"),
        pytest.param(lambda study, out: save_at(8, 1, out), id="state"),
        pytest.param(partial(model_of, "../best.safetensors"), id="best model"),
        pytest.param(partial(model_of, "0001-best.safetensors"), id="best weights of a trial"),
    ],
)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"epochs": 25}, "epochs is 25 here and 24 there", id="protocol"),
        pytest.param({"data": "other"}, "data is other here and toy there", id="data"),
    ],
)
def test_a_folder_of_another_study_is_refused_by_the_field_and_nothing_changes(
    write, changes, message, tmp_path
):
    """Also without the journal, which names the protocol too."""
    write(config(), tmp_path)
    before = contents(tmp_path)
    with pytest.raises(InvalidInputError, match=f"holds another study: {message}; expected.*--out"):
        drive(config(**changes), tmp_path)
    assert contents(tmp_path) == before


def test_a_state_of_0_7_0_which_has_no_protocol_is_told_apart_by_its_fingerprint(tmp_path):
    folder = save_at(8, 1, tmp_path)
    path = folder.file(1, ".safetensors")
    arrays, about = read_state(path)
    del about["study"]
    write_state(path, arrays, about)
    before, fingerprint = contents(tmp_path), config(epochs=25).fingerprint
    with pytest.raises(InvalidInputError, match=f"fingerprint is {fingerprint} here and"):
        drive(config(epochs=25), tmp_path)
    assert contents(tmp_path) == before
    drive(config(), tmp_path)
    assert_exact(config(), tmp_path)


NOT_OURS = "is of another format: expected"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("trials/0001.json", b"{}", NOT_OURS, id="JSON"),
        pytest.param("trials/0001.json", b"[1]", NOT_OURS, id="list"),
        pytest.param("trials/0001.json", b"my notes", NOT_OURS, id="text as a record"),
        pytest.param("trials/0001.safetensors", b"my notes", NOT_OURS, id="text as a state"),
        pytest.param("best.safetensors", b"my notes", NOT_OURS, id="text as a model"),
        pytest.param("../journal.log", b"line 1\nline 2", NOT_OURS, id="log of a user"),
    ],
)
def test_a_file_of_another_format_is_refused_and_not_changed(name, content, message, tmp_path):
    folder = StudyFolder(tmp_path, config())
    folder.trials.mkdir(parents=True)
    (folder.path / name).write_bytes(content)
    before = contents(tmp_path)
    with pytest.raises(DataError, match=message):
        drive(config(), tmp_path)
    assert contents(tmp_path) == before


def test_a_checkpoint_of_a_training_run_is_refused_and_not_changed(tmp_path):
    folder = StudyFolder(tmp_path, config())
    folder.trials.mkdir(parents=True)
    save(folder.best, RHN(3, 4, 2), train={"seed": 0})
    before = contents(tmp_path)
    with pytest.raises(DataError, match=r"best\.safetensors .* expected a checkpoint of a study"):
        drive(config(), tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("file", ["journal.log", "rnn-depth1/trials/0000.json"])
def test_the_folder_of_a_run_has_a_journal_or_trials(file, tmp_path):
    for path in (tmp_path / "texts/notes.txt", tmp_path / "one" / file):
        path.parent.mkdir(parents=True)
        path.touch()
    assert the_only_run(tmp_path) == tmp_path / "one"


@pytest.mark.parametrize(
    ("written", "change", "message"),
    [
        pytest.param('"test_nll"', '"loss"', "by another version: it has loss", id="columns"),
        pytest.param('"study":', '"protocol":', r"by version 0\.5\.0 or before", id="0.5.0"),
    ],
)
def test_a_record_of_another_version_is_refused_and_not_changed(written, change, message, tmp_path):
    record_of(study := config(), tmp_path)
    path = StudyFolder(tmp_path, study).file(1, ".json")
    path.write_text(path.read_text().replace(written, change))
    before = contents(tmp_path)
    with pytest.raises(DataError, match=f"was written {message}"):
        drive(study, tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "left",
    [
        pytest.param((), id="fingerprint only"),
        pytest.param(("study", "trial", "settings"), id="no outcome"),
        pytest.param(("study", "outcome", "curve"), id="no settings"),
        pytest.param(("study", "trial", "settings", "outcome"), id="no curve"),
    ],
)
def test_a_record_of_which_a_part_is_missing_is_damaged(left, tmp_path, caplog):
    record_of(study := config(), tmp_path)
    path = (folder := StudyFolder(tmp_path, study)).file(1, ".json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({name: content[name] for name in ("study_fingerprint", *left)}))
    assert folder.load_record(1) is None and not path.exists()
    (message,) = caplog.messages
    expected = "expected study, settings, outcome and curve"
    assert f"0001.json is damaged: {expected}; renamed to" in message


def test_a_record_whose_curve_has_other_than_numbers_is_damaged(tmp_path, caplog):
    record_of(study := config(), tmp_path)
    path = (folder := StudyFolder(tmp_path, study)).file(1, ".json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"curve": [[9.0, "low"]]}))
    assert folder.load_record(1) is None and not path.exists()
    assert "0001.json is damaged: could not convert" in caplog.text


def test_a_study_of_0_7_0_continues_and_its_trials_have_no_versions(tmp_path):
    """0.7.0 wrote no versions, and the largest float for a test loss that is not finite."""
    study, record = config(), reference(config(), 1)
    folder = save_at(8, 1, tmp_path)
    folder.save_record(record)
    path = folder.file(1, ".json")
    content = json.loads(path.read_text())
    assert content.pop("versions") == {
        "toolkit_version": __version__,
        "torch_version": torch.__version__,
    }
    content["outcome"]["test_nll"] = sys.float_info.max
    path.write_text(json.dumps(content))
    rows = drive(study, tmp_path).rows
    old = {"toolkit_version": None, "torch_version": None, "test_nll": None}
    assert rows[1] == replace(record.row, **old) and rows[2] == reference(study, 2).row
