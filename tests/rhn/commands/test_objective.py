"""Reports name the epoch that the checkpoint is of, whichever loss has chosen it."""

import json

import numpy as np
import pytest

import rhn
from rhn.checkpoints import read
from rhn.cli import main as cli
from rhn.data import Corpus, Piece
from rhn.plotting.curves import read_curves

pd = pytest.importorskip("pandas", reason="pandas is in the extra frames")


@pytest.fixture(scope="module", params=["train", "valid"])
def run(request, tmp_path_factory):
    """A training whose best training loss is in a later epoch than its best validation loss."""
    random = np.random.default_rng(1)

    def pieces(split):
        return [
            Piece(random.integers(0, 2, (8, 88)), name=str(k), split=split, index=k)
            for k in range(3)
        ]

    data = Corpus(pieces("train"), pieces("valid"), pieces("test"), "noise")
    folder = tmp_path_factory.mktemp(request.param) / "run"
    changes = {"hidden_size": 8, "epochs": 12, "learning_rate": 0.5, "objective": request.param}
    (found,) = rhn.train("jsb-depth-1", data, out=folder, **changes)
    table = pd.DataFrame(map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()))
    assert table.train_nll.idxmin() > table.valid_nll.idxmin(), "the two choices differ"
    return folder, found, table, request.param


def test_the_epoch_of_the_curves_is_that_of_the_checkpoint(run):
    folder, found, table, objective = run
    (curves,) = read_curves(folder)
    epoch = read(folder / "best.safetensors").header["metadata"]["metrics"]["epoch"]
    lowest = table[f"{objective}_nll"].idxmin()
    assert curves.epochs[curves.place] == epoch == found.best_epoch == table.epoch[lowest]


def test_the_report_names_the_epoch_of_the_checkpoint(run, tmp_path, capsys):
    folder, found, _, _ = run
    assert cli.main(["report", str(folder), "--output", str(tmp_path / "a.csv")]) == 0
    header, row = capsys.readouterr().out.splitlines()[:2]
    assert dict(zip(header.split(), row.split(), strict=True))["epoch"] == str(found.best_epoch)
