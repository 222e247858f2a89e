"""`gersgorin compare`: the networks that its words name, and medians that are those of runs
measured one by one.
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from readable import readable
from tables import for_each, others_slow

import rhn
from gersgorin import compare, open_run
from gersgorin.analyses import ANALYSES
from gersgorin.analyses.bands import KEPT, TABULATED
from gersgorin.analyses.growth import Growth, compared_words
from gersgorin.analyses.spectra import spectra
from gersgorin.cli.analysis import main as plot
from gersgorin.cli.compare import main
from gersgorin.comparison import draw_results
from gersgorin.results import Comparison, load
from gersgorin.run.run import Label, Run
from rhn.cells import RHN, RNN
from rhn.checkpoints import save_checkpoint
from rhn.data import chorales
from rhn.data.jsb import music21_version
from rhn.data.text import Vocabulary
from rhn.errors import InvalidInputError
from rhn.plotting.figure import consistent, line_style
from tests.analysis.networks import language_checkpoint, language_network

SMALL = ["--hidden-size", "4", "--steps", "4"]
MANY = ["--hidden-size", "4", "--steps", "40"]


@pytest.fixture
def results(own_folder, unarranged, capsys):
    """A function that runs a command with --json in an empty folder: the networks in its answer.
    It writes numbers in place of a figure, unless `draws`, or --output is among its arguments.
    """

    def read(*args, small=SMALL, command=main, draws=False) -> list[dict]:
        files = [] if draws or "--output" in args else ["--output", "numbers.npz"]
        assert command([*map(str, args), *small, *files, "--json"]) == 0
        first = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
        return [first, *first.pop("compare", [])]

    return read


def exponents(result: dict) -> list[float]:
    return [step["finite_time_exponent"] for step in result["steps"]]


@for_each(
    ("words", "titles"),
    [
        ("rnn,irnn", ["rnn, 4 units", "irnn, 4 units"]),
        ("rnn,rnn,lstm", ["rnn, 4 units", "lstm, 4 units"]),
        ("rhn --set depth=1 --set depth=3", ["rhn, depth 1, 4 units", "rhn, depth 3, 4 units"]),
        ("rhn,lstm --set depth=3", ["rhn, depth 3, 4 units", "lstm, 4 units"]),
        ("rhn,dt-rnn --set rhn.depth=3", ["rhn, depth 3, 4 units", "dt-rnn, 4 units"]),
        (
            "gru --set update_bias=0.5 update_bias=0.3",
            [f"gru, 4 units, update bias {bias}" for bias in (0.5, 0.3)],
        ),
        (
            "rnn --set init=orthogonal --set init=uniform:0.1,bias:1",
            ["rnn, 4 units, orthogonal weights", "rnn, 4 units, uniform weights"],
        ),
    ],
)
def test_networks_are_named_and_an_option_with_two_values_makes_two(words, titles, results):
    assert [found["title"] for found in results(*words.split(), "--analysis", "products")] == titles


@pytest.mark.parametrize(
    ("cell", "values", "alone"),
    [
        pytest.param(
            "rhn",
            ["transform_bias=-2", "transform-bias=-4"],
            ["--transform-bias", "-4"],
            marks=pytest.mark.slow,
        ),
        ("rnn", ["init=uniform:0.04", "init=orthogonal"], ["--init", "orthogonal"]),
    ],
)
def test_each_network_has_the_numbers_of_a_run_by_itself(results, cell, values, alone):
    base, other = results(cell, "--set", *values)
    for found, words in ((base, ()), (other, alone)):
        named = {"figure": "", "title": found["title"], "about": found["about"]}
        assert found | named == results("--cell", cell, *words, command=plot)[0] | named
    assert exponents(base) != exponents(other)


def test_a_checkpoint_is_compared_with_its_network_before_training(results):
    cell = RHN(88, 4, generator=torch.Generator().manual_seed(5), init="gaussian:0.3")
    save_checkpoint("trained.safetensors", cell)
    small = ["--steps", "4"]
    files = "--output", "both.png", "both.npz"
    before, after = results(
        "trained.safetensors", "--before-training", "--seed", 7, *files, small=small
    )
    assert [*load("both.npz")] == [before["title"], after["title"]]
    (alone,) = results("--checkpoint", "trained.safetensors", small=small, command=plot)
    assert exponents(after) == exponents(alone) != exponents(before)
    (fresh,) = results("--init", "gaussian:0.3", "--seed", 7, command=plot)
    assert exponents(before) == pytest.approx(exponents(fresh), rel=1e-5)  # in float32


@for_each(
    ("words", "titles"),
    [
        (["a,b"], ["a, epoch 3: rhn, 4 units", "b, epoch 5: rnn, 4 units"]),
        (
            ["a", "--before-training"],
            ["before training: rhn, 4 units", "after epoch 3: rhn, 4 units"],
        ),
    ],
)
def test_labels_have_the_epoch_of_trained_weights(words, titles, own_folder):
    for name, cell, epoch in (("a", RHN, 3), ("b", RNN, 5)):
        Path(name).mkdir(exist_ok=True)
        about = {"metrics": {"epoch": epoch}, "train": {"seed": 0, "cell": "rhn", "depth": 1}}
        save_checkpoint(f"{name}/best.safetensors", cell(88, 4), **about)
    assert main([*words, "--steps", "4", "--output", "ab.npz"]) == 0
    assert [*load("ab.npz")] == titles


@pytest.mark.slow
def test_a_module_is_compared_with_other_weights_with_cells_and_with_its_start(results):
    Path("own_module_to_compare.py").write_text(
        "import torch\ndef make(input_size, hidden_size):\n    return torch.nn.GRU(input_size, "
        "hidden_size)\n"
    )
    weights = []
    for seed, name in enumerate(("one.pt", "two.pt")):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            weights.append(torch.nn.GRU(88, 4).state_dict())
        torch.save(weights[-1], name)
    module = ["--module", "own_module_to_compare:make"]
    one, two = results("one.pt,two.pt", *module)
    assert exponents(one) == exponents(results(*module, "--checkpoint", "one.pt", command=plot)[0])
    assert exponents(two) == exponents(results(*module, "--checkpoint", "two.pt", command=plot)[0])
    before, after = results("one.pt", *module, "--before-training", "--seed", 3)
    assert exponents(after) == exponents(one)
    assert exponents(before) == exponents(results(*module, "--seed", 3, command=plot)[0])
    named = results("own_module_to_compare:make,rnn")
    assert [found["title"] for found in named] == ["make: GRU, 4 units", "rnn, 4 units"]


@pytest.mark.parametrize("analysis", [pytest.param("gains", marks=pytest.mark.slow), "products"])
def test_any_analysis_of_a_run_is_compared(results, capsys, analysis):
    one, two = results(
        "rhn",
        "--set",
        "depth=1",
        "depth=2",
        "--analysis",
        analysis,
        "--output",
        "a.png",
        "a.json",
        "a.npz",
    )
    assert [found["title"] for found in (one, two)] == [
        "rhn, depth 1, 4 units",
        "rhn, depth 2, 4 units",
    ]
    saved = load("a.npz").results.values()
    assert [result.to_dict() for result in saved] == [one[analysis], two[analysis]]
    assert main(["rhn", "--set", "depth=1", "depth=2", "--analysis", analysis, *SMALL]) == 0
    printed = capsys.readouterr().out
    assert all(next(iter(result.sentences())) in printed for result in saved)
    name = f"gersgorin-rhn-hidden-size4-steps4-set-depth-1-depth-2-bwv269-{analysis}.png"
    assert f"figure: {name}" in printed


def test_files_beside_each_other(results):
    for seed, name in enumerate(("one", "two")):
        Path("runs", name).mkdir(parents=True)
        generator = torch.Generator().manual_seed(seed)
        save_checkpoint(f"runs/{name}/best.safetensors", RHN(88, 6, 2 + seed, generator=generator))
    options = {"small": ["--steps", "4"], "draws": True}
    one, two = results("runs/one,runs/two/best.safetensors", **options)
    assert [one["depth"], two["depth"]] == [2, 3]
    again = results("runs/two,runs/one,runs/one/best.safetensors", **options)
    assert [exponents(result) for result in again] == [exponents(two), exponents(one)]
    assert again[0]["figure"] != one["figure"]


def runs(count: int) -> list[Run]:
    x = torch.rand(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    title = "number {} with a name as long as those of folders become, rhn, 6 units"
    return [
        Run.of(
            (RHN, RNN)[k % 2](5, 6, init=f"gaussian:{0.05 * (k + 1)}", dtype=torch.float64),
            x,
            label=Label(name="cell", sequence="noise", title=title.format(k)),
        )
        for k in range(count)
    ]


@pytest.mark.usefixtures("unarranged")
def test_panels_of_any_result_share_their_limits():
    names = [f"n{k}" for k in range(5)]
    figure = draw_results([ANALYSES["gains"](run) for run in runs(5)], names, "sequence noise")
    panels = [ax for ax in figure.axes if ax.lines]
    assert len(panels) == 5 and len({ax.get_ylim() for ax in panels}) == 1


@pytest.mark.usefixtures("unarranged")
def test_the_title_says_what_each_gradient_does():
    x = torch.zeros(9, 1, dtype=torch.float64)
    start = torch.ones(2, dtype=torch.float64)
    found = compare({"half": (lambda x, s: s / 2, start), "tenth": (lambda x, s: s / 10, start)}, x)
    title = "The gradient halves every step in half and every 0.301 steps in tenth"
    assert found.figure().get_suptitle() == title
    found = compare({"half": (lambda x, s: s / 2, start), "twice": (lambda x, s: 2 * s, start)}, x)
    title = "The gradient halves every step in half and doubles every step in twice"
    assert found.figure().get_suptitle() == title


def panels_of(figure: Figure) -> list:
    return [ax for ax in figure.axes if ax.get_aspect() == 1]


@pytest.mark.parametrize("width", others_slow(["column", "page", 8.0], "column"))
def test_spectra_have_equal_limits_and_what_is_small_an_inset(width):
    inits = {"large": 0.5, "tiny": 1e-4, "small": 0.3}
    cells = {
        name: RNN(5, 6, init=f"gaussian:{std}", dtype=torch.float64) for name, std in inits.items()
    }
    panels = panels_of(compare(cells, *sequences(6)).plot(figure=width).figure)
    assert [ax.get_title("left") for ax in panels] == [*inits]
    assert np.ptp([(*ax.get_xlim(), *ax.get_ylim()) for ax in panels], axis=0).max() < 1e-9
    assert [len(ax.child_axes) for ax in panels] == [0, 1, 0]


def test_a_slide_of_16_to_9_has_spectra_and_time_course_in_large_letters():
    cells = {f"net {k}": RNN(5, 6, dtype=torch.float64) for k in range(3)}
    figure = compare(cells, *sequences(6)).plot(figure="slide").figure
    figure.canvas.draw()
    width, height = figure.get_size_inches()
    assert width / height == pytest.approx(16 / 9, rel=1e-9)
    panels = panels_of(figure)
    assert len(panels) == 3 and len({round(ax.get_position().y0, 9) for ax in panels}) == 1
    titles = [ax.get_title("left") for ax in figure.axes]
    assert "Gradient (log₁₀)" in titles
    assert {ax.title.get_fontsize() for ax in figure.axes} == {16.0}


def test_pairs_before_and_after_training_stand_side_by_side_with_their_labels():
    named = {
        f"{name}, {when} training": RNN(5, units, init=init, dtype=torch.float64)
        for name, units in (("a", 4), ("b", 5), ("c", 6))
        for when, init in (("before", "gaussian:1e-9"), ("after", "gaussian:0.5"))
    }
    found = compare(named, *sequences(6))
    for width in ("column", "slide"):
        figure = found.plot(figure=width).figure
        panels = panels_of(figure)
        titles = [" ".join(ax.get_title("left").split()) for ax in panels]
        assert titles == [*named]
        places = [round(ax.get_position().y0, 9) for ax in panels]
        assert places[::2] == places[1::2]
    figure = found.plot(figure="slide", limit=1.2).figure
    panels = panels_of(figure)
    assert [len(ax.child_axes) for ax in panels] == [1, 0, 1, 0, 1, 0]
    gradient = next(ax for ax in figure.axes if ax.get_title("left").startswith("Gradient"))
    low, high = sorted(gradient.get_ylim())
    assert sum(low <= tick <= high for tick in gradient.get_yticks()) >= 3
    # of the panels' limits, at most 30 % more than the limit along either axis
    ends = [(*ax.get_xlim(), *ax.get_ylim()) for ax in panels]
    assert np.abs(ends).max() < 2 * 1.2 and np.abs(ends).min() > 1.19


def test_a_comparison_draws_the_step_and_the_limit_that_are_asked():
    cells = {f"net {k}": RNN(5, 6, dtype=torch.float64) for k in range(2)}
    found = compare(cells, *sequences(6))
    figure = found.plot(step=3, limit=2.5, legend=False).figure
    panels = panels_of(figure)
    assert all(ax.get_ylim() == pytest.approx((-2.5, 2.5), rel=0.5) for ax in panels)
    assert not figure.findobj(Legend) and "step 3 of 0 to 5" in figure.get_supxlabel()
    with pytest.raises(InvalidInputError, match="step is 9: expected 0 to 5"):
        found.plot(step=9)


def test_lines_differ_in_colour_or_dashes():
    assert len({str(line_style(k)) for k in range(28)}) == 28


def language_models() -> None:
    """Two of one vocabulary and one of another, as `rhn train` writes them, and a text."""
    for seed, name in enumerate(("one", "two")):
        language_checkpoint(f"{name}.safetensors", language_network(seed=seed, dtype=torch.float32))
    few = Vocabulary("words", ("the", "<eos>", "cat", "<unk>"))
    language_checkpoint("other.safetensors", language_network(V=len(few), dtype=torch.float32), few)
    Path("novel.txt").write_text("the cat sees the dog\n" * 20)


def test_language_models_of_one_vocabulary_are_compared_along_a_text(results, capsys):
    language_models()
    text = ["--input", "novel.txt"]
    both = results("one.safetensors,two.safetensors", *text, small=["--steps", "7"])
    assert len(both) == 2 and both[1]["sequence"] == "novel.txt"
    (parts,) = results("one.safetensors", *text, "--sequences", 3, small=["--steps", "7"])
    assert [run["sequence"] for run in parts["runs"]] == [f"novel.txt, part {k}" for k in (1, 2, 3)]
    assert (
        parts["along"] == "3 parts of novel.txt"
        and parts["runs"][0]["exponent"] == exponents(both[0])[-1]
    )
    assert main(["one.safetensors,other.safetensors", *text]) == 2
    assert (
        "expected networks that read numbers, or language models of one vocabulary"
        in capsys.readouterr().err
    )


def test_one_network_by_two_paths_is_one_and_a_cell_s_name_stays_a_cell_s(results, capsys):
    Path("rnn").mkdir()
    save_checkpoint("rnn/best.safetensors", RHN(88, 6))
    assert main(["rnn/,rnn/best.safetensors", "--steps", "2"]) == 2
    assert "there is nothing to compare with rnn/" in capsys.readouterr().err
    results("rnn/,rnn", "--before-training", "--output", "d.npz", small=["--steps", "2"])
    folder, states = Path.cwd().name, ("fresh weights (seed 0)", "after training")
    titles = [f"{folder}/rnn, {state}: rhn, 6 units" for state in states]
    assert [*load("d.npz")] == [*titles, "new rnn: rnn, 64 units"]


def networks(count: int = 3) -> list:
    generator = torch.Generator().manual_seed(1)
    return [
        RHN(5, 6, 2, init="gaussian:0.6", dtype=torch.float64, generator=generator)
        for _ in range(count)
    ]


def sequences(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(T, 5, dtype=torch.float64, generator=generator) for T in lengths]


@pytest.mark.parametrize("discs", ["row", "column", "both"])
def test_one_sequence_and_one_network_are_the_plain_measurement_exactly(discs):
    (cell,), (x,) = networks(1), sequences(7)
    alone, found = (
        spectra(Run.of(cell, x), discs=discs),
        compare(cell, [x], over="sequences", discs=discs)[0],
    )
    assert found.runs_at.tolist() == [1] * 7
    for name in TABULATED:
        for share in (0, 0.1, 0.5, 0.9, 1):
            assert np.array_equal(found.quantile(name, share), getattr(alone, name))


def test_quantiles_are_numpy_s_over_the_runs_that_have_the_step():
    cells, pieces = networks(), sequences(4, 7, 5)
    found = compare(cells, pieces, over=("seeds", "sequences"))[0]
    alone = [spectra(Run.of(cell, x)) for cell in cells for x in pieces]
    assert found.runs_at.tolist() == [9] * 4 + [6] + [3] * 2
    assert found.last_exponent.tolist() == [record.finite_time_exponent[-1] for record in alone]
    for name in TABULATED:
        for t in range(7):
            values = [getattr(record, name)[t] for record in alone if len(record.norm) > t]
            row = found.table()[t]
            expected = np.quantile(values, [0.5, 0.1, 0.9, 0, 1])
            assert [
                row[f"{name}_{key}"] for key in ("median", "p10", "p90", "min", "max")
            ] == pytest.approx(expected, rel=1e-14)


def test_a_product_that_is_zero_has_a_median_and_ends_its_line():
    dead = RNN(5, 6, nonlinearity="relu", init="gaussian:0.5", dtype=torch.float64)
    torch.nn.init.constant_(dead.bias, -100.0)
    found = compare([*networks(2), dead, dead], *sequences(5), over="seeds")[0]
    low, median, high = (found.quantile("log_norm_product", share)[-1] for share in (0.1, 0.5, 0.9))
    assert low == median == -np.inf < high < np.inf
    ax = found.plot()
    assert [line.get_marker() for line in ax.lines].count("x") == 1
    assert "is zero up to rounding at the end of 2 of 4 runs." in found.summary()
    title = compared_words([found.growth, Growth(-0.5, median=True)], ["a", "b"], 1e-7)
    assert title.startswith("The gradient is zero up to rounding at the end of 2 of 4 runs in a")


def test_the_record_is_written_and_read(tmp_path):
    mine = {"mine": networks(2)}
    found = compare(mine, sequences(3, 5), over=("seeds", "sequences"), unit="days", discs="both")[
        "mine"
    ]
    again = Comparison.load(found.save(tmp_path / "many.npz"))
    assert (again.title, again.unit, again.along) == ("mine", "days", "2 sequences")
    assert all(
        np.array_equal(getattr(again, name), getattr(found, name), equal_nan=True) for name in KEPT
    )
    told = json.loads(found.save(tmp_path / "many.json").read_text(), parse_constant=pytest.fail)
    assert told["norm"][0][3] is None and told["steps"][4]["runs"] == 2


def test_the_command_takes_the_test_split_and_seeds(results):
    (result,) = results(
        "rhn", "--sequences", 2, "--seeds", 2, "--seed", 3, "--output", "many.npz", small=MANY
    )
    first, second = chorales().test[:2]
    assert [(run["sequence"], run["seed"]) for run in result["runs"]] == [
        (piece.name, seed) for seed in (3, 4) for piece in (first, second)
    ]
    (alone,) = results("--chorale", second.name, "--seed", 4, small=MANY, command=plot)
    found = Comparison.load("many.npz")
    origin = f"the chorales of music21 {music21_version()}"
    said = (
        "uniform:0.04, transform bias -2, seeds 3 to 4; at most 40 steps of each of the "
        "first 2 of the test split of"
    )
    assert found.about == f"{said} {origin}"
    assert found.reach[3].tolist() == [step["reach"] for step in alone["steps"]]
    assert result["figure"] is None  # only the file that was named


FACTORIES = """
import torch
def drawn():
    return torch.nn.RNN(3, 4, batch_first=True)
def fixed():
    torch.manual_seed(1)
    return drawn()
"""


@for_each(("factory", "equal"), [("drawn", False), ("fixed", True)])
def test_a_factory_that_sets_the_seed_itself_gives_equal_runs(factory, equal, results, monkeypatch):
    Path("factories_of_seeds.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(Path.cwd())
    np.save("x.npy", torch.stack(sequences(6, 6))[:, :, :3].numpy())
    words = [f"factories_of_seeds:{factory}", "--input", "x.npy", "--seeds", 3, "--sequences", 2]
    results(*words, "--output", "found.npz", small=[])
    found = Comparison.load("found.npz")
    assert found.about.startswith(f"factories_of_seeds:{factory}, seeds 0 to 2; ")
    assert (np.ptp(found.reach.reshape(3, 2, 6), axis=0) == 0).all() == equal
    assert ("The runs of all 3 seeds are equal: " in found.summary()) == equal


def test_the_seeds_of_bands_are_those_that_are_set(results):
    found = results("rnn", "--set", "seed=3", "seed=7", "--seeds", 2)
    assert [[run["seed"] for run in each["runs"]] for each in found] == [[3, 4], [7, 8]]


@pytest.mark.slow
def test_bands_of_each_if_networks_are_compared(results):
    for depth, found in zip(
        (1, 2), results("rhn", "--set", "depth=1", "depth=2", "--seeds", 3), strict=True
    ):
        alone = [
            results("--depth", depth, "--seed", seed, command=plot)[0]["steps"][-1]["norm"]
            for seed in range(3)
        ]
        assert found["steps"][-1]["norm_median"] == pytest.approx(np.median(alone), rel=1e-14)


def test_sequences_of_a_file_and_a_checkpoint(results, capsys):
    save_checkpoint("trained.safetensors", networks(1)[0])
    np.save("mine.npy", torch.stack(sequences(6, 6, 6)).numpy())
    assert (
        main(
            [
                "trained.safetensors",
                "--input",
                "mine.npy",
                "--over",
                "sequences",
                "--sequences",
                "2",
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert "2 sequences of mine.npy, 1 seed, 2 runs of 6 steps" in out
    assert "gersgorin-trained-over-sequences-sequences2-mine.png" in out


@for_each("analysis", ["spectra", "lyapunov"])
def test_networks_are_shown_side_by_side(analysis, tmp_path):
    cells, (x,) = networks(2), sequences(6)
    found = compare({"a.b": cells[0], "c": cells[1]}, x, analysis=analysis)
    alone = ANALYSES[analysis](open_run(cells[1], x)).to_dict()
    assert [*found] == ["a.b", "c"]
    # NaN are equal
    assert repr(found["c"].to_dict() | {"title": ""}) == repr(alone | {"title": ""})
    assert found[1] is found["c"] and {row["network"] for row in found.table()} == {"a.b", "c"}
    again = load(found.save(tmp_path / "both.npz"))
    assert (
        repr(again.to_dict()) == repr(found.to_dict())
        and again.along == found.along == "sequence of 6 x 5"
    )
    readable(found.figure())
    assert found.plot(figure="column").figure.get_figwidth() == 3.25


def test_networks_without_gates_are_left_out_of_the_figure_and_named(tmp_path):
    x = torch.rand(6, 3)
    gated, other = {"lstm": torch.nn.LSTM(3, 4), "gru": torch.nn.GRU(3, 4)}, torch.nn.RNN(3, 4)
    found = compare(gated | {"rnn": other}, x, analysis="gates")
    found.save(tmp_path / "gates.png")
    figure = found.figure()
    titles = [ax.get_title("left").split("\n")[0] for ax in figure.axes]
    assert titles == ["lstm", "gru"] and figure.get_suptitle() == "Gates of 2 networks"
    assert "without gates, not drawn: rnn" in figure.get_supxlabel().replace("\n", " ")
    assert "rnn: There are no gates in rnn." in repr(found)
    none = compare({"a": other, "b": other}, x, analysis="gates")
    with pytest.raises(InvalidInputError, match="There are no gates in a"):
        none.save(tmp_path / "none.png")


def test_an_error_names_its_network():
    x = torch.rand(6, 3)
    fits, misfit = torch.nn.GRU(3, 4), torch.nn.GRU(5, 4)
    for networks, words in (
        ({"large": fits, "small": misfit}, "^small: GRU, 4 units reads"),
        ([fits, misfit], r"^networks\[1\]: GRU, 4 units reads"),
        ([misfit], "^GRU, 4 units reads"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            compare(networks, x)


def test_networks_of_one_name_are_numbered_and_any_network_is_taken(tmp_path):
    cells, (x,) = networks(2), sequences(6)
    stepped = (lambda x, s: torch.tanh(x.sum() + s), torch.zeros(3, dtype=torch.float64))
    save_checkpoint(tmp_path / "trained.safetensors", cells[0])
    found = compare([*cells, RNN(5, 64), rhn.load(tmp_path / "trained.safetensors"), stepped], x)
    title = "rhn, depth 2, 6 units"
    again = [f"rhn ({k}): {title}" for k in (2, 3)]
    assert [*found] == [title, again[0], "rnn, 64 units", again[1], "f(x, s)"]
    assert np.array_equal(found[3].norm, found[0].norm)


def test_an_option_by_name_is_only_for_that_network():
    def mine(x, s):
        return torch.tanh(s + x.sum())

    networks, x = {"mine": mine, "lstm": torch.nn.LSTM(3, 4)}, torch.rand(6, 3)
    found = compare(networks, x, state_size={"mine": 5})
    assert found["mine"].eigenvalues.shape == (6, 5)
    assert found["lstm"].eigenvalues.shape == (6, 8)
    with pytest.raises(InvalidInputError, match="state_size names 'theirs': expected mine, lstm"):
        compare(networks, x, state_size={"theirs": 5})
    with pytest.raises(InvalidInputError, match="expected networks with names"):
        compare([mine], x, state_size={"mine": 5})


def test_bands_are_over_what_is_named():
    cells, pieces = networks(3), sequences(4, 6)
    over_seeds = compare({"a": cells[:2], "b": cells[2:]}, pieces[0], over="seeds")
    over_both = compare({"a": cells[:2], "b": cells[2:]}, pieces, over=("seeds", "sequences"))
    assert [len(found.seed) for found in over_seeds.results.values()] == [2, 1]
    assert [len(found.seed) for found in over_both.results.values()] == [4, 2]
    assert compare(iter(cells), pieces[0], over="seeds")[0].seed.tolist() == [0, 1, 2]


def test_many_networks_print_as_one_table_that_fits_a_screen():
    cell, x = RNN(3, 4, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    for analysis, heading in (("spectra", "mean of steps"), ("lyapunov", "network")):
        found = compare({f"net {k}": cell for k in range(9)}, x, analysis=analysis)
        lines = repr(found).split("\n")
        assert len(lines) <= 24 and max(map(len, lines)) <= 100 and lines[0].startswith("net 0")
        assert lines[-10].startswith(heading) and [line[:5] for line in lines[-9:]] == [
            f"net {k}" for k in range(9)
        ]


def test_a_table_of_networks_keeps_kinds_of_points_together():
    names = ["a.pt", "b.pt"]
    cells = [lambda x, s: s / 2, lambda x, s: torch.tanh(2 * s)]
    starts = torch.tensor([0.5], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    given = dict(zip(names, zip(cells, starts, strict=True), strict=True))
    found = compare(given, torch.zeros(9, 1), analysis="fixed_points")
    heading, first, second = found.numbers().split("\n")
    assert re.split("  +", heading) == ["network", "largest spectral radius", "stable", "unstable"]
    assert [row.split("  ")[0] for row in (first, second)] == names


def test_bands_end_where_less_than_half_of_the_runs_go_on():
    x = torch.rand(30, 3, dtype=torch.float64)
    found = compare(
        [RNN(3, 4, dtype=torch.float64)] * 3, [x, x[:10], x[:12]], over=("seeds", "sequences")
    )[0]
    ax = found.plot()
    assert max(line.get_xdata()[-1] for line in ax.lines if len(line.get_xdata()) > 2) == 12


def test_a_legend_is_shared_only_if_a_label_has_one_style():
    axes = Figure().subplots(1, 2)
    axes[0].plot([1], color="C0", label="layer 1")
    assert consistent(axes)
    axes[1].plot([1], color="C0", linestyle="--", label="layer 1")
    assert not consistent(axes)
    axes[1].lines[0].set(linestyle="-", label="layer 2")
    assert not consistent(axes)
    axes[0].lines[0].set_linestyle((0, (5, 2)))
    axes[1].lines[0].set_linestyle((0, (1, 1)))
    assert consistent(axes), "their dashes differ"
