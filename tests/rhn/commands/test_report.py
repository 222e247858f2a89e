"""Reports say what is in the runs' folders, beside the paper's numbers, and draw it."""

import csv
import json
from dataclasses import replace

import pytest
from readable import WIDTHS, alone, readable
from tables import for_each, others_slow

from rhn.cells import CELLS
from rhn.cli import main as cli
from rhn.errors import DataError, InvalidInputError, RhnError
from rhn.plotting import curves as plots
from rhn.plotting.curves import read_curves, read_depth, sizes
from rhn.utils.figures import our_style

WITHOUT_LAYOUT = pytest.mark.usefixtures("unarranged")


@pytest.fixture
def run(tmp_path):
    """run(name, losses by seed, **config) -> a run's folder."""

    def write(name, *seeds, measure="perplexity", rate=0.2, **config):
        folder = tmp_path / name
        for seed, losses in enumerate(seeds):
            home = folder if len(seeds) == 1 else folder / f"seed-{seed}"
            home.mkdir(parents=True)
            rates = {"learning_rate": rate} if rate else {}
            lines = [
                {
                    "epoch": k,
                    f"train_{measure}": loss and loss + 1,
                    f"valid_{measure}": loss,
                    **rates,
                }
                for k, loss in enumerate(losses, 1)
            ]
            (home / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        shape = {"cell": "rhn", "tied": False, "depth": 1, "layers": 1, "hidden_size": 20} | config
        text = {"corpus": "ptb", "vocabulary_size": None, "max_tokens": None} | config
        checksum = f"{text['corpus']}, {text['vocabulary_size']} words, {text['max_tokens']} tokens"
        (folder / "config.json").write_text(json.dumps(shape | {"text": checksum} | text))
        return folder

    return write


def test_curves_are_read_for_every_seed_with_their_best_epoch(run):
    # the last epoch diverged
    one, two = read_curves(run("twins", [9.0, 7.0, 8.0], [9.0, 8.0, 7.5, None]))
    assert (one.name, one.best, two.name, two.best) == (
        "twins, seed-0",
        (2, 7.0),
        "twins, seed-1",
        (3, 7.5),
    )
    assert one.train.tolist() == [10.0, 8.0, 9.0]
    assert one.learning_rate.tolist() == [0.2] * 3


def test_a_folder_with_a_configuration_alone_has_no_state_to_continue_from(run):
    folder = run("broken", [9.0])
    (folder / "metrics.jsonl").unlink()
    with pytest.raises(RhnError, match=r"no state to continue from.*train again") as said:
        read_curves(folder)
    assert "resume" not in str(said.value)
    (folder / "state.safetensors").touch()
    with pytest.raises(DataError, match="`rhn resume` continues it"):
        read_curves(folder)


@WITHOUT_LAYOUT
def test_chorales_have_no_dropout_and_a_constant_rate_no_column(run, tmp_path, capsys):
    folder = run("music", [9.0, 8.0], measure="nll", rate=None)
    assert cli.main(["report", str(folder), "--output", str(tmp_path / "a.png")]) == 0
    assert "learning_rate" not in capsys.readouterr().out
    legend = alone(plots.plot_curves, read_curves(folder)).get_legend()
    assert "training" in [text.get_text() for text in legend.get_texts()]


LINE = '{"epoch": 1, "train_nll": 1, "valid_nll": 1}\n'


@for_each(
    "content",
    [
        "",
        "nonsense\n",
        '{"epoch": 1}\n',
        LINE + LINE.replace("1}", "[7]}"),
    ],
)
def test_a_file_that_is_no_training_s_is_refused(content, tmp_path):
    (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"metrics\.jsonl"):
        read_curves(tmp_path)


@WITHOUT_LAYOUT
def test_a_depth_figure_is_drawn_again_from_its_table(run, tmp_path):
    cut = {"vocabulary_size": 2000}
    runs = [run("deep", [80.0], [82.0], depth=5, **cut), run("l", [90.0], cell="lstm", **cut)]
    table, again = tmp_path / "depth.csv", tmp_path / "again.csv"
    figure = str(tmp_path / "depth.png")
    assert cli.main(["report", "--depth", *map(str, runs), "--output", figure, str(table)]) == 0
    assert cli.main(["report", "--depth", str(table), "--output", figure, str(again)]) == 0
    assert again.read_text() == table.read_text()


@for_each(
    ("runs", "reason"),
    [
        (
            [("novel", {"corpus": "text"})],
            "novel was trained on 'text', expected training runs on 'ptb'",
        ),
        (
            [("letters", {"measure": "bits_per_character", "corpus": "enwik8"})],
            "was trained on 'enwik8'",
        ),
        ([("odd", {"depth": "three"})], "does not describe a training"),
        (
            [("whole", {}), ("cut", {"max_tokens": 9000})],
            "whole and cut were trained on different texts",
        ),
    ],
)
def test_only_trainings_on_the_same_words_stand_beside_the_paper_s_numbers(runs, reason, run):
    folders = [run(name, [9.0], **config) for name, config in runs]
    with pytest.raises((DataError, InvalidInputError), match=reason):
        read_depth(folders)


def test_the_sizes_of_networks_and_text_are_named(run):
    def title(*runs):
        return sizes(read_depth(runs))

    small, cut = {"depth": 10, "hidden_size": 830}, {"vocabulary_size": 2000, "max_tokens": 9000}
    assert (
        title(run("a", [70.0], **small), run("b", [70.0], hidden_size=1275))
        == "830 to 1,275 units, the whole vocabulary"
    )
    assert (
        title(run("c", [70.0], **small, **cut)) == "830 units, 2,000 words, the first 9,000 tokens"
    )


@WITHOUT_LAYOUT
def test_the_loss_before_training_is_drawn_only_if_there_is_no_other(run):
    def drawn(*losses):
        (found,) = read_curves(run(f"run-{len(losses)}", list(losses)))
        found = replace(found, epochs=found.epochs - 1)  # as trainings on the chorales count
        ax = alone(plots.plot_curves, [found])
        return ax.lines[1].get_ydata().tolist(), ax.get_xlabel()

    assert drawn(60.0, 12.0, 8.0) == ([12.0, 8.0], "epoch (0, before the training, is not drawn)")
    assert drawn(61.0) == ([61.0], "epoch")


@WITHOUT_LAYOUT
def test_the_title_says_what_trainings_share(run):
    shape = {"depth": 5, "hidden_size": 200, "init": "uniform:0.04", "transform_bias": -2.0}
    one, two = run("one", [9.0, 7.0], **shape), run("two", [9.0], seed=1, **shape)

    def drawn(*runs):
        figure = plots.draw_curves([c for folder in runs for c in read_curves(folder)])
        return f"{figure.get_suptitle()} {figure.get_supxlabel()}", [
            text.get_text() for text in figure.axes[0].get_legend().get_texts()
        ]

    title, legend = drawn(one, two)
    assert "rhn; depth 5; layers 1; hidden size 200" in title and "seed" not in title
    assert "seed 1" in drawn(two)[0] and legend[0] == "one: 7 at epoch 2"


LONG = "a-run-of-sixty-characters-and-more-whose-name-goes-on-and-on-$x$"
TRAININGS = {
    "one epoch": ("short", [9.0]),
    "many seeds": (LONG, *[[1e3, 90 + k, 50.0 + k] for k in range(12)]),
    "tiny and huge": ("wild", [1e30, None, 1e-9]),
    "half a point apart": ("near", [8.0 + 0.001 * k for k in range(9)]),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("name", "rate"),
    others_slow(
        [*((name, 0.2) for name in TRAININGS), ("one epoch", None), ("many seeds", None)],
        ("many seeds", 0.2),
    ),
)
def test_curves_can_be_read(name, rate, run, width):
    curves = read_curves(
        run(
            *TRAININGS[name],
            rate=rate,
            measure="nll",
            data="d387295bfe1434ed47e88f4",
            init_std=0.05,
        )
    )
    with our_style(width):
        readable(plots.draw_curves(curves))
        readable(alone(plots.plot_curves, curves).figure)


MANY = ["rhn", "lstm", "dt-rnn", "my_cells.of_a_very_long_name:TheCellOfMine", "gru", "rnn"]


@pytest.mark.parametrize(
    ("cells", "depths"),
    others_slow(
        [(cells, depths) for cells in (["rhn"], MANY) for depths in ([1], range(1, 11))],
        (MANY, range(1, 11)),
    ),
)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_depth_figure_can_be_read(cells, depths, run, width):
    runs = [
        run(f"{cell}-{d}-{t}", [90.0 - d], [95.0 - 2 * d], cell=cell, depth=d, tied=t)
        for cell in cells
        for d in ([1] if cell in CELLS and not CELLS[cell].deep else depths)
        for t in (False, True)
    ]
    with our_style(width):
        readable(plots.draw_depth(read_depth(runs)))


@WITHOUT_LAYOUT
def test_every_seed_has_its_point_and_a_cell_without_depth_a_line_across(run):
    runs = [run("a", [80.0], [82.0]), run("b", [70.0], depth=3), run("c", [75.0], tied=True)]
    ax = alone(plots.plot_depth, read_depth([*runs, run("l", [75.0], cell="lstm")]))
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines] == [
        ([1, 3], [81.0, 70.0]),  # the means of the untied
        ([1, 1, 3], [80.0, 82.0, 70.0]),
        ([1], [75.0]),  # the mean of the tied, drawn without a line
        ([1], [75.0]),
        ([0, 1], [75.0, 75.0]),
    ]
    texts, lines = ax.get_legend().get_texts(), ax.get_legend().get_lines()
    drawn = {
        t.get_text(): (line.get_marker(), line.get_linestyle())
        for t, line in zip(texts, lines, strict=True)
    }
    assert drawn == {"rhn": ("o", "-"), "rhn, tied": ("s", "None"), "lstm (75.0)": ("None", ":")}


@WITHOUT_LAYOUT
def test_the_depths_are_printed_in_order_beside_the_paper_s_and_drawn(
    run, tmp_path, own_folder, capsys
):
    folders = [
        run("l", [75.0], cell="lstm", layers=2),
        run("deep", [80.0, 75.5], depth=5, tied=True),
        run("a", [95.0]),
    ]
    assert cli.main(["report", "--depth", *map(str, folders)]) == 0
    rows = capsys.readouterr().out.splitlines()[1:-1]
    assert [row.split() for row in rows] == [
        ["a", "rhn", "False", "1", "1", "20", "1", "95.00", "92.40"],
        ["deep", "rhn", "True", "5", "1", "20", "2", "75.50", "69.70"],
        ["l", "lstm", "False", "1", "2", "20", "1", "75.00"],
    ]
    assert (tmp_path / "depth-l-deep-a.png").stat().st_size > 5000


@WITHOUT_LAYOUT
def test_the_curves_of_a_run_are_drawn_and_written(run, tmp_path, capsys):
    figure, table = tmp_path / "curves.svg", tmp_path / "curves.csv"
    assert (
        cli.main(["report", str(run("one", [9.0, 7.0, 8.0])), "--output", str(figure), str(table)])
        == 0
    )
    assert "7.0000" in capsys.readouterr().out and figure.read_bytes().startswith(b"<?xml")
    with table.open() as file:
        assert [float(row["valid_perplexity"]) for row in csv.DictReader(file)] == [9.0, 7.0, 8.0]
