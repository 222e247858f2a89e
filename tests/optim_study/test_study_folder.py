"""The files of a study: to the bit, whole or absent, and never those of another study."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save
from small_studies import config, reference
from tables import for_each

from optim_study.folder import StudyFolder
from rhn.errors import DataError
from rhn.training.state import TrialState
from rhn.utils.io import remove_leftovers

RECORD = reference(config(), 0)


@pytest.fixture
def folder(tmp_path):
    return made(tmp_path)


def made(out, **changes):
    folder = StudyFolder(out, config(**changes))
    folder.make()
    return folder


def state(epoch=3, seed=0):
    rng = np.random.default_rng(seed)
    return TrialState(
        rng.normal(size=(epoch + 1, 2)), {"weights": rng.normal(size=(3, 4)).astype(np.float32)}
    )


def saved(folder, number, record=RECORD):
    """As a worker leaves a trial that has ended."""
    best = save({"weights": np.full(99, float(number))})
    folder.file(number, "-best.safetensors").write_bytes(best)
    folder.save_record(replace(record.row, trial=number), record.curve)


def test_a_damaged_state_counts_as_absent_and_is_replaced(folder, caplog):
    folder.save_state(7, state())
    (path,) = (folder.path / "trials").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert folder.load_state(7) is None and "trial 7 starts again from epoch 0" in caplog.text
    folder.save_state(7, state(epoch=1))
    assert folder.load_state(7).epoch == 1


def test_files_of_another_study_count_as_absent(folder, tmp_path):
    other = made(tmp_path, data="other")
    other.save_state(7, state())
    saved(other, 7)
    assert folder.load_state(7) is folder.load_record(7) is None and folder.epochs([7]) == {}


@for_each(
    "content",
    [
        "",
        "[]",
        '{"study_fingerprint": "fingerprint"}',
        {"settings": {}},
        {"outcome": {"test_nll": "low"}},
    ],
)
def test_a_damaged_record_is_removed(tmp_path, content):
    folder = made(tmp_path)
    saved(folder, 7)
    path = folder.path / "trials" / "0007.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | content) if isinstance(content, dict) else content
    )
    assert folder.load_record(7) is None and folder.recorded() == set()


def test_a_settled_trial_leaves_only_its_record(folder):
    folder.save_state(70, state())
    folder.save_state(7, state())
    saved(folder, 7)
    (folder.path / "trials" / ".0007.rhn-partial-1a2b3c4d.safetensors").write_text(
        "left by a killed worker"
    )
    (folder.path / "trials" / ".0007.20251120.safetensors").write_text("the user's own")
    for _ in range(2):
        folder.settle(7, best=True)
    remove_leftovers(folder.trials)
    kept = {
        "trials/.0007.20251120.safetensors",
        "trials/0007.json",
        "trials/0070.safetensors",
        "best.safetensors",
    }
    assert {path.relative_to(folder.path).as_posix() for path in folder.path.rglob("*.*")} == kept
    saved(folder, 8)
    folder.settle(8, best=False)
    assert load_file(folder.path / "best.safetensors")["weights"][0] == 7


def test_what_cannot_be_read_is_an_error_and_not_taken_for_damaged(folder):
    for name in ("trials/0007.safetensors", "trials/0007.json"):
        (folder.path / name).mkdir()  # which root cannot read either
    for read in (lambda: folder.load_state(7), lambda: folder.load_record(7)):
        with pytest.raises(DataError, match=r"is a folder|cannot be read"):
            read()
