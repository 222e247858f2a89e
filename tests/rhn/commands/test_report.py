"""`rhn report`: the losses in the folders of training runs, and the epoch of the checkpoint."""

import csv
import json

import numpy as np
import pytest
from tables import for_each

import rhn
from rhn.checkpoints import read
from rhn.data import Corpus, Piece
from rhn.errors import DataError, InvalidInputError
from rhn.plotting.curves import draw_curves, read_curves
from tests.rhn.texts import metrics


@pytest.fixture
def run(tmp_path):
    """run(name, losses by seed, measure) -> the folder of a training run."""

    def write(name, *seeds, measure="perplexity"):
        folder = tmp_path / name
        for seed, losses in enumerate(seeds):
            home = folder if len(seeds) == 1 else folder / f"seed-{seed}"
            home.mkdir(parents=True)
            lines = [
                {"epoch": k, f"train_{measure}": loss and loss + 1, f"valid_{measure}": loss}
                for k, loss in enumerate(losses, 1)
            ]
            (home / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "config.json").write_text("{}")
        return folder

    return write


@pytest.mark.parametrize("objective", ["train", "valid"])
def test_the_epoch_of_the_curves_is_that_of_the_checkpoint(objective, tmp_path):
    """Here the lowest training loss is of a later epoch than the lowest validation loss."""
    random = np.random.default_rng(1)
    splits = [
        [Piece(random.integers(0, 2, (8, 88)), name=str(k), split=s, index=k) for k in range(3)]
        for s in ("train", "valid", "test")
    ]
    changes = {"hidden_size": 8, "epochs": 12, "learning_rate": 0.5, "objective": objective}
    (found,) = rhn.train("jsb-depth-1", Corpus(*splits, "noise"), out=tmp_path, **changes)
    lines = metrics(tmp_path)
    best = {
        split: min(lines, key=lambda line: line[f"{split}_nll"])["epoch"]
        for split in ("train", "valid")
    }
    (curves,) = read_curves(tmp_path)
    epoch = read(tmp_path).header["metadata"]["metrics"]["epoch"]
    assert curves.epochs[curves.place] == epoch == found.best_epoch == best[objective]
    assert best["train"] > best["valid"]


def test_curves_of_every_seed_are_drawn_with_a_dot_and_written(run, tmp_path, command):
    folder = run("$twins$", [9.0, 7.0, 8.0], [9.0, 8.0, 7.5, None])  # the last epoch diverged
    with (folder / "seed-0" / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "tr')  # a line that was cut
    curves = read_curves(folder)
    best = [curve.rows()[curve.place] for curve in curves]
    assert [row[1:] for row in best] == [("perplexity", 2, 8.0, 7.0), ("perplexity", 3, 8.5, 7.5)]
    (ax,) = draw_curves(curves).axes
    drawn = [line.get_ydata().tolist() for line in ax.lines[:4]]
    assert drawn[:3] == [[10, 8, 9], [9, 7, 8], [7]] and drawn[3][:3] == [10, 9, 8.5]
    dots = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in ax.lines[2::3]]
    assert dots == [([2], [7.0]), ([3], [7.5])]
    figure, table = tmp_path / "curves.svg", tmp_path / "curves.csv"
    printed = command(f"rhn report '{folder}' --output {figure} {table}")
    assert printed.code == 0 and figure.read_bytes().startswith(b"<?xml")
    assert [line.split()[-3:] for line in printed.out.splitlines()[1:3]] == [
        ["2", "8", "7"], ["3", "8.5", "7.5"],
    ]  # fmt: skip
    with table.open() as file:
        rows = [
            [float(row[name]) for name in ("epoch", "train", "valid")]
            for row in csv.DictReader(file)
        ]
    wanted = [row[2:] for curve in curves for row in curve.rows()]
    np.testing.assert_array_equal(rows, wanted)


LINE = '{"epoch": 1, "train_nll": 1, "valid_nll": 1}\n'


@for_each("content", ["", "nonsense\n", '{"epoch": 1}\n', LINE + LINE.replace("1}", "[7]}"), None])
def test_a_file_that_is_of_no_training_run_is_refused(content, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "metrics.jsonl").unlink(missing_ok=True)
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"metrics\.jsonl"):
        read_curves(tmp_path)


def test_losses_in_several_measures_are_not_drawn_on_one_axis(run):
    curves = [*read_curves(run("a", [9.0])), *read_curves(run("b", [9.0], measure="nll"))]
    with pytest.raises(InvalidInputError, match="expected one measure"):
        draw_curves(curves)
