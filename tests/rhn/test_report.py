"""Reports say what is in the runs' folders, beside the paper's numbers, and draw it."""

import csv
import json

import pytest

from rhn import cli, plots
from rhn.errors import DataError, InvalidInputError
from rhn.published import PTB_BY_DEPTH
from rhn.report import depth_rows, read_curves, read_depth, require_one_measure


@pytest.fixture
def run(tmp_path):
    """run(name, losses by seed, **config) -> a run's folder."""

    def write(name, *seeds, measure="perplexity", rate=0.2, **config):
        folder = tmp_path / name
        for seed, losses in enumerate(seeds):
            home = folder if len(seeds) == 1 else folder / f"seed-{seed}"
            home.mkdir(parents=True)
            lines = [
                {"epoch": k, f"train_{measure}": loss and loss + 1, f"valid_{measure}": loss}
                for k, loss in enumerate(losses, 1)
            ]
            lines = [line | ({"learning_rate": rate} if rate else {}) for line in lines]
            (home / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        shape = {"cell": "rhn", "tied": False, "depth": 1, "layers": 1} | config
        (folder / "config.json").write_text(json.dumps(shape))
        return folder

    return write


def test_curves_are_read_for_every_seed_with_their_best_epoch(run):
    one, two = read_curves(run("twins", [9.0, 7.0, 8.0], [9.0, 8.0, 7.5]))
    assert (one.name, one.best, two.name, two.best) == ("twins, seed-0", (2, 7.0), "twins, seed-1", (3, 7.5))
    assert one.train.tolist() == [10.0, 8.0, 9.0]
    assert one.learning_rate.tolist() == [0.2] * 3


def test_a_diverged_epoch_is_never_the_best(run):
    (curves,) = read_curves(run("wild", [9.0, 7.0, None]))
    assert curves.best == (2, 7.0)


def test_a_line_that_is_being_written_is_left_out(run):
    folder = run("running", [9.0, 7.0])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "train_per')
    assert read_curves(folder)[0].epochs.tolist() == [1, 2]


@pytest.mark.parametrize("content", ["", "nonsense\n", "3\n", '{"epoch": 1}\n', '{"epoch": 1, "train_nll": 1}\n'])
def test_a_file_that_is_no_training_s_is_refused(content, tmp_path):
    (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"metrics\.jsonl"):
        read_curves(tmp_path)


def test_trainings_of_different_measures_are_not_drawn_together(run):
    curves = [*read_curves(run("words", [9.0])), *read_curves(run("notes", [9.0], measure="nll", rate=None))]
    with pytest.raises(InvalidInputError, match="nll and perplexity"):
        require_one_measure(curves)


def test_depths_come_in_order_beside_the_paper_s(run):
    runs = [run("l", [90.0], cell="lstm"), run("deep", [80.0, 75.5], depth=5, tied=True), run("flat", [95.0])]
    rows = depth_rows(read_depth(runs))
    assert [(r["run"], r["valid_perplexity"], r["published_valid_perplexity"]) for r in rows] == [
        ("flat", 95.0, 92.4),
        ("deep", 75.5, 69.7),
        ("l", 90.0, None),
    ]


def test_only_words_have_a_place_in_the_depth_figure(run):
    with pytest.raises(DataError, match="measured in bits_per_character"):
        read_depth([run("letters", [2.0], measure="bits_per_character")])


def test_the_published_curve_falls_with_depth_until_it_levels_off():
    for column in ("valid", "test", "valid_tied", "test_tied"):
        values = [getattr(row, column) for row in PTB_BY_DEPTH]
        assert values[:7] == sorted(values[:7], reverse=True)
        assert max(values[6:]) - min(values[6:]) < 1
    assert [row.depth for row in PTB_BY_DEPTH] == list(range(1, 11))


def test_the_curves_drawn_are_the_curves_read(run):
    curves = read_curves(run("twins", [9.0, 7.0, 8.0], [9.0, 8.0, 7.5]))
    drawn = [line.get_ydata().tolist() for line in plots.plot_curves(curves).lines]
    assert drawn == [[10.0, 8.0, 9.0], [9.0, 7.0, 8.0], [7.0], [10.0, 9.0, 8.5], [9.0, 8.0, 7.5], [7.5]]


def test_every_seed_has_its_point_and_a_cell_without_depth_a_line_across(run):
    points = read_depth([run("a", [80.0], [82.0], depth=1), run("b", [70.0], depth=3), run("l", [75.0], cell="lstm")])
    means, *seeds, across = [
        (list(line.get_xdata()), list(line.get_ydata())) for line in plots.plot_depth(points).lines
    ]
    assert means == ([1, 3], [81.0, 70.0])
    assert seeds == [([1, 1], [80.0, 82.0]), ([3], [70.0])]
    assert across == ([0, 1], [75.0, 75.0])


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_curves_of_a_run_are_drawn_and_written(suffix, run, tmp_path, capsys):
    figure, table = tmp_path / f"curves.{suffix}", tmp_path / "curves.csv"
    folder = run("one", [9.0, 7.0, 8.0])
    assert cli.main(["report", str(folder), "--output", str(figure), "--csv", str(table)]) == 0
    assert "7.0000" in capsys.readouterr().out
    assert figure.read_bytes()[:5].strip(b"\x89")[:3] in (b"PNG", b"<?x", b"%PD")
    with table.open() as file:
        assert [float(row["valid_perplexity"]) for row in csv.DictReader(file)] == [9.0, 7.0, 8.0]


def test_a_run_on_chorales_has_curves_too(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", str(run("notes", [9.0, 8.5], measure="nll", rate=None))]) == 0
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_the_depth_figure_and_its_table_are_written(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folders = [run("a", [80.0], depth=1), run("b", [70.0], depth=3), run("l", [75.0], cell="lstm", layers=2)]
    assert cli.main(["report", "--depth", *map(str, folders), "--csv", "depth.csv"]) == 0
    rows = capsys.readouterr().out.splitlines()[1:-1]
    assert [row.split()[-3:] for row in rows] == [
        ["80.00", "92.4", "a"],
        ["70.00", "75.0", "b"],
        ["2", "1", "75.00", "l"][-3:],
    ]
    assert (tmp_path / "depth.png").stat().st_size > 5000
    assert len((tmp_path / "depth.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("report", "needs the folder of a training"),
        ("report missing", "missing holds no training"),
        ("report RUN --output figure.txt", ".png, .svg, .pdf"),
        ("report RUN --output nowhere/figure.png", "does not exist"),
    ],
)
def test_a_report_that_cannot_be_made_gets_one_sentence(command, message, run, capsys):
    folder = run("one", [9.0])
    assert cli.main([word.replace("RUN", str(folder)) for word in command.split()]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert message in said
