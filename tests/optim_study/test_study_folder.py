import itertools
import json
import logging

import numpy as np
import pytest
from helpers import config, file_size_limit, reference
from safetensors.numpy import save

from optim_study.study import StudyFolder, TrialRecord
from rhn.errors import DataError, OutputError
from rhn.training.state import TrialState
from rhn.utils.io import atomic_path


@pytest.fixture
def folder(tmp_path):
    return StudyFolder(tmp_path / "rhn-depth2", "fingerprint")


def state(epoch=3, seed=0):
    rng = np.random.default_rng(seed)
    return TrialState(rng.normal(size=(epoch + 1, 2)), {"weights": rng.normal(size=(3, 4)).astype(np.float32)})


def assert_same(loaded, expected):
    np.testing.assert_array_equal(loaded.curve, expected.curve)
    assert loaded.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        np.testing.assert_array_equal(loaded.arrays[name], array, strict=True)


OUTCOME = reference(config(), 0).outcome


def write_model(path, mark):
    with atomic_path(path) as temporary:
        temporary.write_bytes(save({"weights": np.zeros(99)}, {"rhn": json.dumps({"metadata": {"kept": mark}})}))


def test_a_state_comes_back_to_the_last_bit(folder):
    assert folder.load_state(7) is None
    folder.save_state(7, state())
    assert_same(folder.load_state(7), state())
    assert folder.load_state(8) is None


def test_an_older_state_never_replaces_a_newer(folder):
    folder.save_state(7, state(epoch=5))
    folder.save_state(7, state(epoch=4, seed=1))
    assert_same(folder.load_state(7), state(epoch=5))
    folder.save_state(7, state(epoch=6, seed=1))
    assert_same(folder.load_state(7), state(epoch=6, seed=1))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
        lambda content: content.replace(b'"study_curve"', b'"study_curse"'),
        lambda content: content.replace(b'epoch\\": \\"3', b'epoch\\": \\"9'),
    ],
)
def test_a_damaged_state_is_said_and_counts_as_absent(folder, damage, caplog):
    folder.save_state(7, state())
    (path,) = (folder.folder / "trials").iterdir()
    damaged = damage(path.read_bytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        assert folder.load_state(7) is None
    assert "0007.safetensors is damaged" in caplog.text
    assert "trial 7 starts again from epoch 0" in caplog.text


def test_a_damaged_state_is_replaced_by_the_next(folder):
    folder.save_state(7, state(epoch=9))
    path = folder.folder / "trials" / "0007.safetensors"
    path.write_bytes(path.read_bytes()[:20])
    folder.save_state(7, state(epoch=4))
    assert_same(folder.load_state(7), state(epoch=4))


def test_leftovers_of_another_study_count_as_absent(folder):
    other = StudyFolder(folder.folder, "other fingerprint")
    other.save_state(7, state(epoch=9))
    other.save_record(7, TrialRecord(OUTCOME, state().curve))
    other.offer_best(1, 0.5, write_model)
    assert folder.load_state(7) is None
    assert folder.load_record(7) is None
    assert folder.best() is None
    folder.save_state(7, state(epoch=2))
    assert_same(folder.load_state(7), state(epoch=2))
    folder.offer_best(2, 9.0, write_model)
    assert folder.best() == (9.0, 2)


def test_a_record_comes_back_to_the_last_bit_and_is_strict_json(folder):
    assert folder.load_record(7) is None
    curve = np.vstack([state().curve, [[np.inf, np.nan]]])
    folder.save_record(7, TrialRecord(OUTCOME, curve))
    loaded = folder.load_record(7)
    assert loaded.outcome == OUTCOME
    np.testing.assert_array_equal(loaded.curve[:-1], curve[:-1])
    assert np.isnan(loaded.curve[-1]).all()
    text = (folder.folder / "trials" / "0007.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"study_fingerprint": "fingerprint"}'])
def test_a_damaged_record_counts_as_absent(folder, content, caplog):
    (folder.folder / "trials" / "0007.json").write_text(content)
    assert folder.load_record(7) is None
    assert "0007.json is damaged" in caplog.text


@pytest.mark.parametrize(
    "changes",
    [{"curve": {}}, {"curve": []}, {"curve": [1.0, 2.0]}, {"curve": [["a", "b"]]}, {"outcome": {"test_nll": "low"}}],
    ids=str,
)
def test_a_record_of_other_types_counts_as_absent(folder, changes, caplog):
    folder.save_record(7, TrialRecord(OUTCOME, state().curve))
    path = folder.folder / "trials" / "0007.json"
    content = json.loads(path.read_text())
    outcome = content["outcome"] | changes.get("outcome", {})
    path.write_text(json.dumps(content | changes | {"outcome": outcome}))
    assert folder.load_record(7) is None
    assert "0007.json is damaged" in caplog.text


def test_a_finished_trial_leaves_its_record_alone(folder):
    folder.save_state(7, state())
    folder.save_state(70, state())
    folder.save_record(7, TrialRecord(OUTCOME, state().curve))
    (folder.folder / "trials" / ".0007.rhn-partial-1a2b3c4d.safetensors").write_text("left by a killed worker")
    (folder.folder / "trials" / ".0007.20251120.safetensors").write_text("the user's own")
    folder.delete_state(7)
    folder.delete_state(7)
    assert sorted(path.name for path in (folder.folder / "trials").iterdir()) == [
        ".0007.20251120.safetensors",
        "0007.json",
        "0070.safetensors",
    ]


def test_the_best_model_does_not_depend_on_the_order_of_finishing(tmp_path):
    values = {0: 3.0, 1: 1.5, 2: 1.5, 3: 7.0}
    for order in itertools.permutations(values):
        folder = StudyFolder(tmp_path / "".join(map(str, order)), "fingerprint")
        for number in order:
            folder.offer_best(number, values[number], write_model)
        assert folder.best() == (1.5, 1)


def test_a_damaged_best_model_is_replaced(folder, caplog):
    folder.offer_best(0, 1.0, write_model)
    (folder.folder / "best.safetensors").write_bytes(b"damaged")
    folder.offer_best(1, 2.0, write_model)
    assert folder.best() == (2.0, 1)
    assert "is damaged" in caplog.text


def test_what_cannot_be_read_is_an_error_and_not_taken_for_damaged(folder):
    for name in ("trials/0007.safetensors", "trials/0007.json", "best.safetensors"):
        (folder.folder / name).mkdir()  # which root cannot read either
    for read in (lambda: folder.load_state(7), lambda: folder.load_record(7), folder.best):
        with pytest.raises(DataError, match="cannot be read"):
            read()


@pytest.mark.parametrize("size", [0, 100, 300])
def test_a_full_disk_keeps_the_old_files_and_leaves_nothing_half_written(folder, size):
    folder.save_state(7, state(epoch=3))
    folder.save_record(7, TrialRecord(OUTCOME, state().curve))
    folder.offer_best(7, 2.0, write_model)
    before = {path: path.read_bytes() for path in folder.folder.rglob("*") if path.is_file()}
    with file_size_limit(size):
        with pytest.raises(OutputError, match=r"cannot write .*0007\.safetensors: File too large"):
            folder.save_state(7, state(epoch=4))
        with pytest.raises(OutputError, match=r"cannot write .*0007\.json: File too large"):
            folder.save_record(7, TrialRecord(OUTCOME, state(epoch=9).curve))
        with pytest.raises(OutputError, match=r"cannot write .*best\.safetensors: .*File too large"):
            folder.offer_best(7, 1.0, write_model)
    assert {path: path.read_bytes() for path in folder.folder.rglob("*") if path.is_file()} == before
