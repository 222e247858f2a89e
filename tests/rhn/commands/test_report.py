"""Reports are the losses in the folders of training runs, and their curves."""

import csv
import json

import pytest
from tables import for_each

from rhn.cli import main as cli
from rhn.errors import DataError, InvalidInputError
from rhn.plotting.curves import draw_curves, read_curves


@pytest.fixture
def run(tmp_path):
    """run(name, losses by seed, **config) -> a run's folder."""

    def write(name, *seeds, measure="perplexity", **config):
        folder = tmp_path / name
        for seed, losses in enumerate(seeds):
            home = folder if len(seeds) == 1 else folder / f"seed-{seed}"
            home.mkdir(parents=True)
            lines = [
                {"epoch": k, f"train_{measure}": loss and loss + 1, f"valid_{measure}": loss}
                for k, loss in enumerate(losses, 1)
            ]
            (home / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return write


def test_curves_are_read_for_every_seed_with_their_best_epoch(run):
    # the last epoch diverged
    one, two = read_curves(run("twins", [9.0, 7.0, 8.0], [9.0, 8.0, 7.5, None]))
    assert (one.name, one.rows()[one.place]) == (
        "twins, seed-0",
        ("twins, seed-0", "perplexity", 2, 8.0, 7.0),
    )
    assert two.rows()[two.place][2:] == (3, 8.5, 7.5)
    assert one.train.tolist() == [10.0, 8.0, 9.0]


def test_the_last_line_may_be_cut(run):
    folder = run("killed", [9.0, 8.0])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "tr')
    assert read_curves(folder)[0].epochs.tolist() == [1, 2]


LINE = '{"epoch": 1, "train_nll": 1, "valid_nll": 1}\n'


@for_each(
    "content",
    [
        "",
        "nonsense\n",
        '{"epoch": 1}\n',
        LINE + LINE.replace("1}", "[7]}"),
        LINE.replace("1}", "null}"),
    ],
)
def test_a_file_that_is_no_training_s_is_refused(content, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"metrics\.jsonl"):
        read_curves(tmp_path)


def test_a_folder_without_an_epoch_is_refused(run):
    folder = run("broken", [9.0])
    (folder / "metrics.jsonl").unlink()
    with pytest.raises(DataError, match=r"no metrics\.jsonl"):
        read_curves(folder)


def test_losses_in_several_measures_are_not_drawn_on_one_axis(run):
    curves = [*read_curves(run("a", [9.0])), *read_curves(run("b", [9.0], measure="nll"))]
    with pytest.raises(InvalidInputError, match="nats per frame, perplexity: expected one measure"):
        draw_curves(curves)


def test_all_losses_are_drawn_and_the_checkpoint_is_a_dot(run):
    (ax,) = draw_curves(read_curves(run("twins", [9.0, 7.0, 8.0], [9.0, 8.0, 7.5]))).axes
    assert [line.get_ydata().tolist() for line in ax.lines[::3]] == [[10, 8, 9], [10, 9, 8.5]]
    assert [line.get_ydata().tolist() for line in ax.lines[1::3]] == [[9, 7, 8], [9, 8, 7.5]]
    dots = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in ax.lines[2::3]]
    assert dots == [([2], [7.0]), ([3], [7.5])]


def test_the_curves_of_a_run_are_drawn_and_written(run, tmp_path, capsys):
    figure, table = tmp_path / "curves.svg", tmp_path / "curves.csv"
    folder = run("$one$", [9.0, 7.0, 8.0])
    assert cli.main(["report", str(folder), "--output", str(figure), str(table)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["$one$", "perplexity", "2", "8", "7"]
    assert figure.read_bytes().startswith(b"<?xml")
    with table.open() as file:
        assert [float(row["valid"]) for row in csv.DictReader(file)] == [9.0, 7.0, 8.0]
