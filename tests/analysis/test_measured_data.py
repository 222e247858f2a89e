"""A trained network is measured on the data of its training run, or refused."""

import json
from pathlib import Path

import pytest

from optim_study import read_csv
from rhn.checkpoints import read
from rhn.data import chorales

BEST = "runs/all/rhn-depth2/best.safetensors"


def write_pieces(path: str, lowest: int) -> None:
    """Splits of three pieces."""
    piece = [[lowest, lowest + 4], [lowest + 2], [lowest + 7, lowest + 12]]
    splits = ("train", "valid", "test")
    Path(path).write_text(json.dumps({split: [piece * n for n in (4, 5, 3)] for split in splits}))


def test_a_network_is_measured_on_the_data_of_its_run_or_study(
    own_folder, command, answer, refused, caplog
):
    write_pieces("mine.json", 50)
    train = "rhn train jsb-depth-2 --hidden-size 6 --epochs 2 --data mine.json --out runs/one"
    study = "optim-study run --preset smoke --arch rhn --depth 2 --data mine.json --out runs/all"
    assert command(train).code == command(study).code == 0
    assert read(BEST).header["metadata"]["data"] == {
        "source": f"original file {own_folder / 'mine.json'}",
        "checksum": chorales("mine.json").checksum,
        "path": str(own_folder / "mine.json"),
    }
    best = min(read_csv("runs/all/trials.csv"), key=lambda row: row.best_train_nll)
    test_nll = pytest.approx(best.test_nll, rel=1e-6)
    assert answer("rhn evaluate", BEST)["nll"] == test_nll
    assert answer(f"rhn-analyze lesion {BEST} --output a.npz")["baseline"] == test_nll
    for subject in ("runs/one", BEST):
        line = f"gersgorin gains --checkpoint {subject} --output a.npz"
        assert answer(line) == answer(f"{line} --data mine.json --chorale test-0")
    assert caplog.messages == []

    def refused_everywhere(says):
        for line in ("rhn evaluate", "rhn-analyze lesion", "gersgorin gains --checkpoint"):
            refused(line, BEST, says=says)

    write_pieces("mine.json", 60)
    refused_everywhere(f"checksum of {own_folder / 'mine.json'} is")
    Path("mine.json").unlink()
    refused_everywhere("cannot be read")
