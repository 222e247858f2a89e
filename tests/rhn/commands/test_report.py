"""`rhn report`: the losses in the folders of training runs, and the epoch of the checkpoint."""

import csv
import json

import numpy as np
import pytest

import rhn
from rhn.checkpoints import read
from rhn.data import Corpus, Piece
from rhn.errors import DataError
from rhn.training.curves import draw_curves, read_curves


def test_the_epoch_of_the_curves_is_that_of_the_checkpoint(tmp_path):
    """Here the lowest training loss is of a later epoch than the lowest validation loss."""
    random = np.random.default_rng(1)
    splits = [
        [Piece(random.integers(0, 2, (8, 88)), name=str(k), split=s, index=k) for k in range(3)]
        for s in ("train", "valid", "test")
    ]
    changes = {"hidden_size": 8, "epochs": 12, "learning_rate": 0.5, "objective": "train"}
    (found,) = rhn.train("jsb-depth-1", Corpus(*splits, "noise"), out=tmp_path, **changes)
    (curves,) = read_curves(tmp_path)
    assert curves.valid.argmin() < curves.train.argmin() == curves.place
    assert curves.epochs[curves.place] == found.best_epoch
    assert read(tmp_path).metadata["metrics"]["epoch"] == found.best_epoch


def test_a_run_of_one_epoch_has_curves(tmp_path):
    line = {"epoch": 1, "train_perplexity": 9.0, "valid_perplexity": 8.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "config.json").write_text("{}")
    (curves,) = read_curves(tmp_path)
    assert [row[1:] for row in curves.rows()] == [("perplexity", 1, 9.0, 8.0)]


def test_curves_of_every_seed_are_drawn_with_a_dot_and_written(tmp_path, command):
    folder = tmp_path / "$twins$"
    # the last epoch of the second diverged
    for seed, losses in enumerate(([9.0, 7.0, 8.0], [9.0, 8.0, 7.5, None])):
        (folder / f"seed-{seed}").mkdir(parents=True)
        lines = [
            {"epoch": k, "train_perplexity": loss and loss + 1, "valid_perplexity": loss}
            for k, loss in enumerate(losses, 1)
        ]
        text = "\n".join(map(json.dumps, lines)) + '\n{"epoch": 5, "tr'  # a line that was cut
        (folder / f"seed-{seed}" / "metrics.jsonl").write_text(text)
    (folder / "config.json").write_text("{}")
    curves = read_curves(folder)
    best = [curve.rows()[curve.place] for curve in curves]
    assert [row[1:] for row in best] == [("perplexity", 2, 8.0, 7.0), ("perplexity", 3, 8.5, 7.5)]
    (ax,) = draw_curves(curves).axes
    drawn = [line.get_ydata().tolist() for line in ax.lines]
    assert drawn[:3] == [[10, 8, 9], [9, 7, 8], [7]] and drawn[4][:3] == [9, 8, 7.5]
    assert [line.get_xdata().tolist() for line in ax.lines[2::3]] == [[2], [3]]
    figure, table = tmp_path / "curves.svg", tmp_path / "curves.csv"
    printed = command(f"rhn report '{folder}' --output {figure} {table}")
    assert printed.code == 0 and figure.read_bytes().startswith(b"<?xml")
    with table.open() as file:
        rows = [[float(x) for x in row[-3:]] for row in [*csv.reader(file)][1:]]
    np.testing.assert_array_equal(rows, [row[2:] for curve in curves for row in curve.rows()])
    (folder / "seed-0" / "metrics.jsonl").write_text(text.replace("9.0", "9" * 400))
    with pytest.raises(DataError, match="has no epoch with finite losses"):
        read_curves(folder)
