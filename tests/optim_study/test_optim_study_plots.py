"""The swarm plot shows every trial at its loss, and nothing else; the map every trial at its
setting.
"""

import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from matplotlib.legend import Legend
from readable import WIDTHS, filled, readable
from tables import for_each, others_slow
from test_trial_results import PLATEAU, area, network, row  # noqa: F401 - a fixture

from optim_study.map_plot import plot_area, plot_map
from optim_study.protocol import SCHEMES
from optim_study.results import by_network, read_csv
from optim_study.shares import area_title, share_table, study_title, training_shares
from optim_study.swarm_plot import plot_swarm
from rhn.errors import InvalidInputError
from rhn.utils.figures import our_style

WITHOUT_LAYOUT = pytest.mark.usefixtures("unarranged")

ROOT = Path(__file__).resolve().parents[2]

NO_FIRST = "no architecture is shown to train more often"


@pytest.fixture(scope="module")
def rows():
    """12 columns of 60, most of them tied on the plateau, some far away, some diverged."""
    rng, rows = np.random.default_rng(0), []
    for arch, depth in product(("rhn", "dt-rnn", "dts-rnn"), (1, 2, 4, 6)):
        losses = np.where(rng.random(60) < 0.6, PLATEAU, rng.uniform(7, 13, 60))
        losses[rng.random(60) < 0.1] = 60.5
        rows += [
            row(arch, depth, n, float(loss), diverged=loss == 60.5) for n, loss in enumerate(losses)
        ]
    return rows


def legend_of(figure):
    """The only legend of a figure."""
    (legend,) = figure.findobj(Legend)
    return legend


def drawn(ax, columns) -> list[np.ndarray]:
    """The points of each column, in the order of the trials, in data coordinates."""
    ax.figure.draw_without_rendering()  # seaborn places the points
    collections = [c for c in ax.collections if len(c.get_offsets())]
    assert len(collections) == columns
    return [np.asarray(c.get_offsets()) for c in collections]


@WITHOUT_LAYOUT
@pytest.mark.parametrize("log", [False, True])
def test_every_trial_is_a_point_at_its_loss(rows, log):
    axes = plot_swarm(rows, log=log).axes
    groups = iter(by_network(rows).values())
    assert len(axes) == 3, "a row of columns for each architecture"
    for ax in axes:
        best = [t.get_text().split("best")[1].split()[0] for t in ax.get_xticklabels()]
        for k, (points, lowest) in enumerate(zip(drawn(ax, 4), best, strict=True)):
            losses = [r.best_train_nll for r in next(groups)]
            np.testing.assert_allclose(points[:, 1], losses, rtol=1e-9)
            assert (np.abs(points[:, 0] - k) <= 0.5).all(), "a column's points stay in it"
            assert lowest == f"{min(losses):.2f}"
        assert ax.get_yscale() == ("log" if log else "linear")
        assert not ax.texts, "no label stands between the points, where it would cross a line"


@pytest.mark.parametrize("trials", [12, 180])
def test_points_of_spread_losses_do_not_cover_each_other(trials):
    losses = np.random.default_rng(0).uniform(7, 13, trials)
    (ax,) = plot_swarm(network("rhn", 4, losses.tolist())).axes
    (points,) = drawn(ax, 1)
    pixels = ax.transData.transform(points)
    apart = np.linalg.norm(pixels[:, None] - pixels[None], axis=-1) + 1e9 * np.eye(trials)
    assert apart.min() > 0.9 * np.sqrt(ax.collections[0].get_sizes()[0]) * ax.figure.dpi / 72


@WITHOUT_LAYOUT
def test_columns_are_ordered_by_depth_or_by_architecture(rows):
    rows = [r for r in rows if r.trial < 3 and r.depth < 4]
    axes = {by: plot_swarm(rows, by=by).axes[0] for by in ("arch", "depth")}
    names = {
        by: [t.get_text().replace("\n", " ") for t in ax.get_xticklabels()]
        for by, ax in axes.items()
    }
    archs = ("rhn", "dt-rnn", "dts-rnn")
    trained = {
        (a, d): sum(r.best_train_nll < 9.5 for r in rows if (r.arch, r.depth) == (a, d))
        for a in archs
        for d in (1, 2)
    }
    names = {by: [re.sub(" best [0-9.]+", "", name) for name in each] for by, each in names.items()}
    assert names["arch"] == [
        f"{a}, depth {d} {trained[a, d]} of 3 trained" for a in archs for d in (1, 2)
    ]
    assert names["depth"] == [
        f"{a}, depth {d} {trained[a, d]} of 3 trained" for d in (1, 2) for a in archs
    ]


@WITHOUT_LAYOUT
def test_several_optimizers_have_columns_of_their_own_and_are_named(rows):
    few = [r for r in rows if r.trial < 2 and r.depth < 4 and r.arch != "dts-rnn"]
    both = [replace(r, optimizer=optimizer) for optimizer in ("adam", "sgd") for r in few]
    figure = plot_swarm(both)
    names = [text.get_text().replace("\n", " ") for text in figure.axes[0].get_xticklabels()]
    assert [re.split(r" \d of", name)[0] for name in names[::2]] == [
        f"{a}, depth 1{o}" for o in (", adam", "") for a in ("rhn", "dt-rnn")
    ]
    trained = sum(r.best_train_nll < 9.5 for r in both)
    assert figure.get_suptitle().startswith(
        f"{trained} of 16 random settings train; no architecture"
    )
    assert figure.get_supxlabel().startswith("adam, sgd; 7 units")
    titles = [
        title
        for ax in plot_map(both).axes
        if "depth" in (title := " ".join(ax.get_title("left").split()))
    ]
    assert len(titles) == 8 and titles[0] == "rhn, depth 1, adam: 2 trials"


def study(counts: dict[tuple[str, int], tuple[int, int]]) -> list:
    """The trials of networks (architecture, depth) with (number that trained, number)."""
    return [
        row(arch, depth, trial, 9.0 if trial < count else 11.0)
        for (arch, depth), (count, n) in counts.items()
        for trial in range(n)
    ]


def clear_tests(counts) -> dict[tuple[str, int], bool]:
    """{(architecture, depth): it trains more often than the RHN of this depth} where Fisher's test
    is clear after Holm's correction; by SciPy and a loop.
    """
    p = {}
    for (arch, depth), (count, n) in counts.items():
        if arch != "rhn" and ("rhn", depth) in counts:
            own, m = counts["rhn", depth]
            p[arch, depth] = scipy.stats.fisher_exact([[count, n - count], [own, m - own]])[1]
    found = {}
    for rank, key in enumerate(sorted(p, key=p.get)):
        if (len(p) - rank) * p[key] >= 0.05:
            break
        found[key] = counts[key][0] / counts[key][1] > counts["rhn", key[1]][0] / 60
    return found


NONE = "no architecture is shown to train more often than the RHN, or less often"


@pytest.mark.parametrize(
    ("counts", "title"),
    [
        ({("rhn", 1): (9, 60), ("dt-rnn", 2): (1, 60)}, "10 of 120 random settings train"),
        ({("dts-rnn", 1): (9, 60), ("dt-rnn", 1): (1, 60)}, "10 of 120 random settings train"),
        ({("rhn", 1): (0, 60), ("dt-rnn", 1): (0, 60)}, "0 of 120 random settings train"),
        (
            {("dt-rnn", 1): (0, 6), ("dt-rnn", 2): (0, 6), ("rhn", 2): (2, 8)},
            f"2 of 20 random settings train; {NONE} (corrected p = 0.4725)",
        ),
        (
            {("rhn", 1): (1, 9), ("dt-rnn", 1): (1, 9), ("dts-rnn", 1): (1, 9)},
            f"3 of 27 random settings train; {NONE} (corrected p = 1)",
        ),
        ({("rhn", 2): (15, 60), ("dt-rnn", 2): (0, 60)}, "At depth 2 only the RHN trains"),
        (
            {("rhn", 2): (25, 60), ("dt-rnn", 2): (2, 60)},
            "At depth 2 the RHN trains more often than the DT-RNN",
        ),
        (
            {("rhn", 2): (25, 60), ("dt-rnn", 2): (2, 60), ("dts-rnn", 2): (1, 60)},
            "At depth 2 the RHN trains most often",
        ),
        (
            {("rhn", 2): (2, 60), ("dt-rnn", 2): (25, 60), ("dts-rnn", 2): (3, 60)},
            "At depth 2 the DT-RNN trains more often than the RHN",
        ),
        (
            {
                (a, d): ((a == "rhn") == (d > 1) and 25, 60)
                for a in ("rhn", "dt-rnn")
                for d in (1, 2, 4)
            },
            "At depth 1 the DT-RNN trains more often than the RHN; "
            "at depths 2 and 4 only the RHN trains",
        ),
    ],
)
def test_a_title_is_of_the_tests_of_the_same_depth(counts, title):
    trials = study(counts)
    assert study_title(trials, "train", 9.5) == title
    clear = clear_tests(counts)
    assert bool(clear) == ("At depth" in title)
    assert any(clear.values()) == ("more often than the RHN" in title and NONE not in title)
    for p in re.findall(r"p . ([\d.]+)", title):
        assert p in share_table(training_shares(trials))


def test_titles_of_the_committed_studies_are_true():
    """By a loop over the tables of the notes."""
    rows = pd.read_csv(ROOT / "docs/results/small-study.csv")
    trains = rows[rows.best_train_nll < 9.5].groupby("depth").arch.unique().map(list)
    only = [depth for depth, archs in trains.items() if archs == ["rhn"]]
    study = read_csv(ROOT / "docs/results/small-study.csv")
    assert only == [4, 6]
    assert study_title(study, "train", 9.5) == "At depths 4 and 6 only the RHN trains"

    rows = pd.read_csv(ROOT / "docs/results/fair-figure4.csv")
    inside = rows.init_std.between(1e-8, 1e-2) & rows.learning_rate.between(1e-4, 1)
    trained = rows.best_train_nll < 9.5
    counts = {
        a: (trained[mine].sum(), (trained & inside)[mine].sum())
        for a, mine in rows.groupby("arch").groups.items()
    }
    assert counts == {"rhn": (39, 10), "dt-rnn": (6, 0), "dts-rnn": (0, 0)}
    words = "The DT-RNN trains only outside the range searched in the paper (6 of 120 settings)"
    assert area_title(read_csv(ROOT / "docs/results/fair-figure4.csv"), "train", 9.5) == words


def test_an_area_names_the_range_of_the_paper_and_the_deviation_of_a_scheme():
    """The paper searched Gaussian weights only; near-identity ones lie in the box, too."""
    figure = plot_area(read_csv(ROOT / "docs/results/fair-figure4.csv"))
    legends = [legend for part in figure.subfigs for legend in part.legends]
    names = {text.get_text() for legend in legends for text in legend.get_texts()}
    assert {"range of Gaussian deviations in the paper", "scaled (1/sqrt(n))"} <= names


def test_a_threshold_above_the_constant_predictor_gets_a_word(rows):
    found = training_shares(rows, below=12)
    assert "has 11.16: it counts as trained too" in share_table(found, 12, constant=11.163)
    assert "constant" not in share_table(found, 11, constant=11.163)


@WITHOUT_LAYOUT
def test_diverged_trials_are_hollow_medians_are_lines_and_colours_are_the_architectures(rows):
    rows = [replace(r, best_train_nll=13.9) if r.diverged else r for r in rows if r.trial < 25]
    axes, groups = [ax for ax in plot_swarm(rows).axes if ax.lines], by_network(rows)
    lines = [line for ax in axes for line in ax.lines]
    swarms = [points for ax in axes for points in ax.collections]
    medians = [line.get_ydata()[0] for line in lines if line.get_gid() == "median"]
    for trials, points, median in zip(groups.values(), swarms, medians, strict=True):
        assert [(color == 1).all() for color in points.get_facecolor()] == [
            r.diverged for r in trials
        ]
        assert median == np.median([r.best_train_nll for r in trials])
    colors = [tuple(c.get_edgecolor()[0]) for c in swarms]
    assert len(set(colors[:4])) == 1 and len(set(colors)) == 3
    legend = {text.get_text() for text in legend_of(axes[0].figure).get_texts()}
    assert {
        "median",
        "diverged",
        "constant predictor (11.16)",
        "counts as trained (below 9.5)",
    } == legend


@WITHOUT_LAYOUT
@for_each(
    ("constants", "options", "there"),
    [
        ([None], {}, 0),
        ([11.16], {}, 1),
        ([11.16], {"loss": "valid"}, 0),
        ([None, 11.16], {}, 0),
    ],
)
def test_the_constant_output_is_drawn_where_it_is_known(constants, options, there):
    rows = [
        r for constant in constants for r in network("rhn", 1, [8.0, 9.0], constant_nll=constant)
    ]
    (ax,) = plot_swarm(rows, **options).axes
    assert sum(line.get_gid() == "constant" for line in ax.lines) == there


@WITHOUT_LAYOUT
def test_the_map_shows_every_setting_in_its_panel(rows):
    rows = [replace(r, transform_bias=-(r.trial % 4)) for r in rows]
    figure = plot_map(rows)
    panels = [ax for ax in figure.axes if " trials" in ax.get_title("left").replace("\n", " ")]
    assert len(panels) == 12
    for ax, ((arch, depth, _), trials) in zip(panels, by_network(rows).items(), strict=True):
        assert (
            ax.get_title("left").replace("\n", " ") == f"{arch}, depth {depth}: 60 trials"
            and ax.get_xscale() == ax.get_yscale() == "log"
        )
        biases = (-3, -2, -1, 0) if arch == "rhn" else (None,)
        for points, bias in zip(ax.collections, biases, strict=True):
            own = [r for r in trials if r.transform_bias == bias]
            np.testing.assert_array_equal(
                points.get_offsets(), [(r.learning_rate, r.init_std) for r in own]
            )
            np.testing.assert_array_equal(points.get_array(), [r.best_train_nll for r in own])
        assert len({points.get_paths()[0].vertices.tobytes() for points in ax.collections}) == len(
            biases
        )
        assert sum(len(line.get_xdata()) for line in ax.lines) == sum(r.diverged for r in trials)
    assert len({(ax.collections[0].norm.vmin, ax.collections[0].norm.vmax) for ax in panels}) == 1
    biases = [f"transform bias {bias}" for bias in (-3, -2, -1, 0)]
    assert [t.get_text() for t in legend_of(figure).get_texts()] == [
        *biases,
        "diverged",
        "no gates",
    ]


@WITHOUT_LAYOUT
def test_the_area_shows_every_setting_its_scheme_and_whether_it_learned(area):  # noqa: F811
    figure = plot_area(area)
    panels = {ax.get_title("left"): ax for ax in figure.axes if ax.get_title("left")}
    assert list(panels) == ["rhn, depth 4: 3 of 5", "dt-rnn, depth 4: 3 of 6"]
    ax = panels["dt-rnn, depth 4: 3 of 6"]
    marks = {c.get_gid(): c for c in ax.collections}
    assert marks["gaussian"].get_offsets().tolist() == [
        [0.1, 1e-8],
        [0.1, 1e-2],
        [0.1, 1.0],
        [0.1, 0.011],
    ]
    assert marks["orthogonal"].get_offsets().tolist() == [[0.1, 0.2]] * 2
    assert [color[3] for color in marks["gaussian"].get_facecolors()] == [0, 0, 0, 1], (
        "full where it learned"
    )
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert all(left < r.learning_rate < right and bottom < r.init_std < top for r in area)
    (box,) = ax.patches
    assert box.get_bbox().extents.tolist() == pytest.approx([1e-4, 1e-8, 1, 1e-2])


def test_what_cannot_be_drawn_is_refused(rows):
    for draw in (plot_swarm, plot_map, plot_area):
        with pytest.raises(InvalidInputError, match="no complete trial"):
            draw([])


# figures that can be read

LONG = "my_cells.of_a_very_long_name:TheCellOfMine"  # 42 characters


def trials(arch, depth, count, **changes):
    rng = np.random.default_rng(depth)
    losses = np.where(rng.random(count) < 0.5, PLATEAU, rng.uniform(0.2, 40, count))
    rates, deviations = 10 ** rng.uniform(-4, 0, count), 10 ** rng.uniform(-8, 0, count)
    return [
        replace(
            r,
            learning_rate=rate,
            init_std=std,
            transform_bias=-float(r.trial % 4),
            diverged=r.best_train_nll > 30,
        )
        for r, rate, std in zip(
            network(arch, depth, losses.tolist(), **changes), rates, deviations, strict=True
        )
    ]


STUDIES = {
    "all diverged": network("rhn", 6, [60.5] * 9, diverged=True),
    "30 columns": [
        r
        for arch in ("rhn", "dt-rnn", "dts-rnn", "lstm", LONG)
        for d in range(1, 7)
        for r in trials(arch, d, 3)
    ],
    "a long name": trials(LONG, 10, 60) + trials("模型-$x$", 2, 9),
    "tiny and huge losses": network("rhn", 1, [1e-9, 1e-3, 5.0])
    + network("rnn", 1, [1e9, 1e12], diverged=True),
    "nine biases": [replace(r, transform_bias=r.trial / 7) for r in trials("rhn", 4, 60)],
    "four schemes": [
        replace(r, init_scheme=scheme) for scheme in SCHEMES for r in trials("rhn", 4, 9)
    ],
}
ABOUT = (
    "learning rate 0.0001 to 1; standard deviation 1e-08 to 0.01; 0.05 times the paper's "
    "parameters; seed 0; chorales 0123456789ab"
)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("study", others_slow(STUDIES, "a long name", "tiny and huge losses"))
@pytest.mark.parametrize("plot", [plot_swarm, plot_map, plot_area])
def test_every_figure_can_be_read(plot, study, width):
    with our_style(width):
        figure = plot(STUDIES[study], about=ABOUT)
        readable(figure)
        if study == "four schemes":
            filled(figure)
