"""A trained network is measured on the data of its training run, wherever it is measured, or a
sentence says that it is not.
"""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from analysis.cli import main as analyze
from gersgorin.cli.commands import main as gersgorin
from optim_study.cli import main as optim_study
from rhn.checkpoints import read, save
from rhn.cli.main import main as rhn
from rhn.data import chorales
from rhn.models import PolyphonicModel

SIZES = ["--hidden-size", "6", "--epochs", "2", "--device", "cpu"]


def pieces(seed: int, most: int) -> dict:
    """Splits of four random pieces, with pitches below `most`."""
    rng = np.random.default_rng(seed)
    lengths = (12, 15, 13, 14)
    return {
        split: [[sorted(rng.integers(50, most, 3).tolist()) for _ in range(n)] for n in lengths]
        for split in ("train", "valid", "test")
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two files of pieces, and a run and a study on the first."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, seed, most in (("mine.json", 0, 60), ("other.json", 1, 90)):
            (folder / name).write_text(json.dumps(pieces(seed, most)))
        words = ["--data", "mine.json", "--out"]
        assert rhn(["train", "jsb-depth-2", *SIZES, *words, "runs/one"]) == 0
        study = ["--preset", "smoke", "--arch", "rhn", "--depth", "2", "--device", "cpu"]
        assert optim_study(["run", *study, *words, "runs/all"]) == 0
    return folder


@pytest.fixture(autouse=True)
def _inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


def best() -> str:
    return "runs/all/rhn-depth2/best.safetensors"


def trial() -> dict:
    """The row of the best trial."""
    with Path("runs/all/trials.csv").open(newline="") as file:
        return min(csv.DictReader(file), key=lambda row: float(row["best_train_nll"]))


def test_the_best_checkpoint_of_a_study_names_its_data(folder):
    assert read(best()).header["metadata"]["data"] == {
        "source": f"original file {folder / 'mine.json'}",
        "checksum": chorales("mine.json").checksum,
        "path": str(folder / "mine.json"),
    }


def test_the_best_network_of_a_study_is_measured_on_the_data_of_the_study(capsys, caplog):
    test_nll = float(trial()["test_nll"])
    for command in (rhn, ["evaluate"]), (analyze, ["lesion"]):
        run, words = command
        capsys.readouterr()
        assert run([*words, best(), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found.get("nll", found.get("baseline")) == pytest.approx(test_nll, rel=1e-6)
    assert caplog.messages == []


def test_gains_read_the_data_of_the_network(capsys, caplog):
    for subject in ("runs/one", best()):
        words = ["--checkpoint", subject, "--json"]
        found = []
        for more in ([], ["--data", "mine.json", "--chorale", "test-0"]):
            capsys.readouterr()
            assert gersgorin(["gains", *words, *more, "--output", "gains.png"]) == 0
            found.append(json.loads(capsys.readouterr().out))
        assert found[0] == found[1]
    assert caplog.messages == []


@pytest.mark.parametrize("change", ["other", "gone"])
def test_a_stored_file_that_is_gone_or_has_changed_is_one_sentence(change, tmp_path, capsys):
    moved = tmp_path / "moved.json"
    about = read(best()).header["metadata"]
    about["data"] |= {"path": str(moved)}
    if change == "other":
        shutil.copy("other.json", moved)
    file = save(tmp_path / "a.safetensors", PolyphonicModel("rhn", hidden_size=4), **about)
    said = f"checksum of {moved} is" if change == "other" else "cannot be read"
    for run, words in (
        (rhn, ["evaluate", str(file)]),
        (analyze, ["lesion", str(file)]),
        (gersgorin, ["gains", "--checkpoint", str(file)]),
    ):
        capsys.readouterr()
        assert run(words) == 2
        error = capsys.readouterr().err
        assert said in error and len(error.strip().splitlines()) == 1
