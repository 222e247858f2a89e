"""The swarm plot shows every trial at its loss, and nothing else; the map every trial at its
setting.
"""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from matplotlib.legend import Legend
from readable import WIDTHS, filled, readable
from tables import for_each, others_slow
from test_trial_results import PLATEAU, area, network, row  # noqa: F401 - a fixture

from optim_study.config import SCHEMES
from optim_study.figures import plot_map, plot_swarm, swarm
from optim_study.results import by_network, read_csv
from rhn.errors import InvalidInputError

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


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


def legend_of(figure) -> set[str]:
    """The names in the only legend of a figure."""
    (legend,) = figure.findobj(Legend)
    return {text.get_text() for text in legend.get_texts()}


def names_of(ax) -> list[str]:
    """What stands below the columns, in one line each."""
    return [label.get_text().replace("\n", " ") for label in ax.get_xticklabels()]


@for_each("title", [None, "Mine $1"])
def test_the_title_is_fixed_or_the_users(rows, title):
    for draw, loss in product((plot_swarm, plot_map), ("train", "valid")):
        kind = {"train": "training", "valid": "validation"}[loss]
        figure = draw(rows[:9], loss=loss, title=title, source="here")
        assert figure.get_suptitle() == (title or f"Best {kind} loss of 9 trials")
        assert figure.get_supxlabel() == "here"


def test_every_trial_is_a_point_at_its_loss_with_its_median_and_counts(rows):
    axes, groups = plot_swarm(rows).axes, by_network(rows)
    assert len(axes) == 3, "a row of columns for each architecture"
    columns = [points for ax in axes for points in ax.collections]
    lines = [line for ax in axes for line in ax.lines if line.get_gid() == "median"]
    names = [name for ax in axes for name in names_of(ax)]
    for points, line, name, (title, trials) in zip(
        columns, lines, names, groups.items(), strict=True
    ):
        losses, k = [r.best_train_nll for r in trials], line.get_xdata().mean()
        offsets = np.asarray(points.get_offsets())
        np.testing.assert_allclose(offsets[:, 1], losses, rtol=1e-9)
        assert (np.abs(offsets[:, 0] - k) <= 0.5).all(), "a column's points stay in it"
        assert line.get_ydata()[0] == np.median(losses)
        trained = sum(loss < 9.5 for loss in losses)
        assert name == f"{title} {trained} of 60 best {min(losses):.4g}"
        assert [(color == 1).all() for color in points.get_facecolor()] == [
            r.diverged for r in trials
        ]
    colors = [tuple(points.get_edgecolor()[0]) for points in columns]
    assert len(set(colors[:4])) == 1 and len(set(colors)) == 3


@pytest.mark.parametrize("trials", [12, 180])
def test_points_of_spread_losses_do_not_cover_each_other(trials):
    losses = np.random.default_rng(0).uniform(7, 13, trials)
    (ax,) = plot_swarm(network("rhn", 4, losses.tolist())).axes
    (points,) = ax.collections
    pixels = ax.transData.transform(np.asarray(points.get_offsets()))
    apart = np.linalg.norm(pixels[:, None] - pixels[None], axis=-1) + 1e9 * np.eye(trials)
    assert apart.min() > 0.99 * np.sqrt(points.get_sizes()[0]) * ax.figure.figure.dpi / 72


def test_a_swarm_stays_near_the_middle_and_within_its_room():
    rng = np.random.default_rng(1)
    for heights, room in ((rng.uniform(0, 9, 40), 50.0), (np.zeros(40), 7.0)):
        places = swarm(heights, 1.0, room)
        assert np.abs(places).max() <= room
        # a point is in the middle, or as far from it as another point pushes it
        gaps = np.hypot(places[:, None] - places, heights[:, None] - heights) + np.diag(
            np.full(40, 9.0)
        )
        pushed = (np.abs(places) < 1e-12) | (gaps.min(1) < 1.0 + 1e-6)
        assert pushed.all() and (room < 50 or gaps.min() > 1 - 1e-6)


@for_each(
    ("constants", "options", "there"),
    [
        ([None], {}, False),
        ([11.16], {}, True),
        ([11.16], {"loss": "valid"}, False),
        ([None, 11.16], {}, False),
    ],
)
def test_the_constant_predictor_is_drawn_where_it_is_known(constants, options, there):
    rows = [
        r
        for n, constant in enumerate(constants)
        for r in network("rhn", n + 1, [8.0, 9.0], constant_nll=constant)
    ]
    figure = plot_swarm(rows, **options)
    assert ("constant predictor (11.16)" in legend_of(figure)) == there
    assert {"median", "threshold (9.5)"} <= legend_of(figure)


def test_far_losses_have_a_log_axis():
    for losses, scale in (([8.0, 9.0], "linear"), ([8.0, 34.0], "log"), ([0.0, 99.0], "linear")):
        (ax,) = plot_swarm(network("rhn", 1, losses)).axes
        assert ax.get_yscale() == scale


def test_the_map_shows_every_setting_its_scheme_and_whether_it_trained(area):  # noqa: F811
    figure = plot_map(area)
    panels = {ax.get_title("left"): ax for ax in figure.axes}
    assert list(panels) == ["rhn, depth 4", "dt-rnn, depth 4"]
    for (title, ax), trials in zip(panels.items(), by_network(area).values(), strict=True):
        assert ax.get_xscale() == ax.get_yscale() == "log", title
        found = [
            (points.get_gid(), len(points.get_facecolors()) > 0, *place)
            for points in ax.collections
            for place in np.asarray(points.get_offsets()).tolist()
        ]
        wanted = [
            (r.init_scheme, r.best_train_nll < 9.5, r.learning_rate, r.init_std) for r in trials
        ]
        assert sorted(found) == sorted(wanted)
        (box,) = ax.patches
        assert box.get_bbox().extents.tolist() == pytest.approx([1e-4, 1e-8, 1, 1e-2])
        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
        assert all(left < r.learning_rate < right and bottom < r.init_std < top for r in area)
    assert legend_of(figure) == {"gaussian", "orthogonal", "paper's range", "filled: below 9.5"}


def test_what_cannot_be_drawn_is_refused():
    for draw in (plot_swarm, plot_map):
        with pytest.raises(InvalidInputError, match="0 complete trials: expected one or more"):
            draw([])


# figures that can be read

LONG = "my_cells.of_a_very_long_name:TheCellOfMine"  # 42 characters


def trials(arch, depth, count, **changes):
    rng = np.random.default_rng(depth)
    losses = np.where(rng.random(count) < 0.5, PLATEAU, rng.uniform(0.2, 40, count))
    rates, deviations = 10 ** rng.uniform(-4, 0, count), 10 ** rng.uniform(-8, 0, count)
    return [
        replace(r, learning_rate=rate, init_std=std, diverged=r.best_train_nll > 30)
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
    "a long name": trials(LONG, 10, 60) + trials("model-$x$", 2, 9),
    "tiny and huge losses": network("rhn", 1, [1e-9, 1e-3, 5.0])
    + network("rnn", 1, [1e9, 1e12], diverged=True),
    "four schemes": [
        replace(r, init_scheme=scheme) for scheme in SCHEMES for r in trials("rhn", 4, 9)
    ],
    "two protocols": trials("rhn", 4, 9, max_epochs=9) + trials("rhn", 4, 9, max_epochs=4),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("study", others_slow(STUDIES, "a long name", "tiny and huge losses"))
@pytest.mark.parametrize("plot", [plot_swarm, plot_map])
def test_every_figure_can_be_read(plot, study, width):
    figure = plot(STUDIES[study], size=width, source="small-study.csv, full-size.csv")
    readable(figure)
    if study == "four schemes":
        filled(figure)


def test_the_committed_studies_are_drawn_whole():
    for name, columns in (("small-study", 12), ("full-size", 5), ("fair-figure4", 6)):
        rows = read_csv(RESULTS / f"{name}.csv")
        points = [c for ax in plot_swarm(rows).axes for c in ax.collections]
        assert len(points) == columns
        assert sum(len(c.get_offsets()) for c in points) == len(rows)
