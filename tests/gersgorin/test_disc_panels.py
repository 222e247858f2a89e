"""Panels of discs: what they hold, when one is added, and what their legends name."""

from dataclasses import replace
from functools import cache
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.path import Path
from matplotlib.transforms import Bbox
from readable import readable, without_layout

from gersgorin.analyses.compare import compare
from gersgorin.analyses.complex_plane import (
    CIRCLE,
    EIGENVALUES,
    SEEN,
    FewTicks,
    Square,
    _extend,
    circle_points,
)
from gersgorin.analyses.disc_panels import (
    CENTRES,
    CLOSER_DISCS,
    CLOSER_EIGENVALUES,
    COLUMN_UNION,
    FACTOR,
    LARGEST,
    OVERLAP,
    ROW_DISCS,
    ROW_UNION,
    JacobianDiscs,
    closer_squares,
    disc_squares,
)
from gersgorin.analyses.spectra import spectra
from gersgorin.recorder import Recorder
from gersgorin.run import open_run
from rhn.cells import make_cell
from rhn.cells.stack import StackedCell
from rhn.utils.figures import SKY

KEYS, UNITS = 5, 40
CELLS = "rnn", "irnn", "dt-rnn", "dts-rnn", "rhn", "lstm", "gru"
DEEP = "dt-rnn", "dts-rnn", "rhn"
EVERYWHERE = {LARGEST, ROW_UNION, COLUMN_UNION, OVERLAP, CENTRES, EIGENVALUES, CIRCLE}


def run_of(matrix):
    """A run of one step whose Jacobian is this matrix."""
    A, n = torch.tensor(matrix, dtype=torch.float64), len(matrix)
    return open_run(lambda x, s: x.reshape(n, n) @ s, A.flatten()[None], A.new_zeros(n))


def spectra_of(matrix):
    return spectra(run_of(matrix))


def network(name, depth):
    """A cell with this recurrence depth, or a stack of so many cells without one."""
    how = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(depth)}
    if name in DEEP:
        return make_cell(name, KEYS, UNITS, depth, **how)
    layers = [make_cell(name, KEYS if k == 0 else UNITS, UNITS, **how) for k in range(depth)]
    return StackedCell(layers) if depth > 1 else layers[0]


def trained(cell):
    """The cell after a few steps of Adam that predict the next input."""
    x = torch.rand(8, 4, KEYS, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    adam = torch.optim.Adam(cell.parameters(), 0.02)
    for _ in range(15):
        adam.zero_grad()
        (cell(x[:-1])[0][..., :KEYS] - x[1:]).square().mean().backward()
        adam.step()
    return cell


CASES = [*product(("new", "trained"), CELLS, (1, 2))]


@cache
def measured(age, name, depth):
    """Spectra of a new or trained cell."""
    x = torch.rand(3, KEYS, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    cell = network(name, depth)
    return spectra(cell if age == "new" else trained(cell), x)


def planes_of(figure):
    return [ax for ax in figure.axes if ax.axison and ax.get_aspect() == 1]


def names_in_legends(figure):
    texts = [text for legend in figure.findobj(Legend) for text in legend.texts]
    return [text.get_text().replace("\n", " ") for text in texts]


def seen_in(figure):
    """The share of the width and of the height of its panel over which each name in the legend is
    drawn, by pixels, the larger one of all panels; infinite for points.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    found = dict.fromkeys(names_in_legends(figure), 0.0)
    for ax in planes_of(figure):
        left, low, right, top = ax.bbox.extents.round().astype(int)
        for artist in (*ax.lines, *ax.collections):
            if artist.get_label() not in found:
                continue
            renderer.clear()
            artist.draw(renderer)
            pixels = np.asarray(renderer.buffer_rgba())[::-1, :, 3] > 0
            inside = pixels[low:top, left:right]
            shares = [np.ptp(np.flatnonzero(inside.any(k))) / inside.shape[1 - k]
                      for k in (0, 1) if inside.any()]  # fmt: skip
            is_point = artist in ax.lines and artist.get_linestyle() == "None"
            share = np.inf if is_point and inside.any() else min(shares, default=0.0)
            found[artist.get_label()] = max(found[artist.get_label()], share)
    return found


def whole(found, size):
    """The whole figure, whose texts do not overlap."""
    figure = found.figure(size=size)
    readable(figure, least=7)
    return figure


@pytest.mark.parametrize(
    ("figure_of", "size", "cases"),
    [
        pytest.param(without_layout, "column", CASES[::5], id="column, without layout"),
        pytest.param(whole, "column", CASES, marks=pytest.mark.slow, id="column"),
        pytest.param(whole, "page", CASES, marks=pytest.mark.slow, id="page"),
        pytest.param(whole, "slide", CASES, marks=pytest.mark.slow, id="slide"),
    ],
)
def test_a_legend_names_what_can_be_seen(figure_of, size, cases, subtests):
    for case in cases:
        with subtests.test(case):
            figure = figure_of(measured(*case), size)
            seen = seen_in(figure)
            assert {name: share for name, share in seen.items() if share < 0.05} == {}
            assert seen.keys() >= EVERYWHERE - ({CIRCLE} if size == "column" else set())
            assert 1 <= len(planes_of(figure)) <= 3


def signs(center, radius, n=64):
    """A matrix (n, n) whose row discs have this centre and radius, with eigenvalues within half the
    radius of the centre.
    """
    S = np.sign(np.random.default_rng(0).standard_normal((n, n)))
    np.fill_diagonal(S, 0)
    assert np.abs(np.linalg.eigvals(S)).max() < (n - 1) / 2
    return center * np.eye(n) + radius / (n - 1) * S


def shift(center, radius, n=8):
    """A matrix (n, n) whose eigenvalues lie on the circles of its discs, which are all equal."""
    return center * np.eye(n) + radius * np.roll(np.eye(n), 1, axis=1)


def blocks(*parts):
    ends = np.cumsum([0, *map(len, parts)])
    A = np.zeros((ends[-1], ends[-1]))
    for part, low, high in zip(parts, ends[:-1], ends[1:], strict=True):
        A[low:high, low:high] = part
    return A


PANELS = {
    "discs as large as the circle": (shift(0, 1), []),
    "discs of half the circle": (shift(0.4, 0.56), []),
    "discs of less than half": (shift(0.4, 0.54), [CLOSER_DISCS]),
    "discs far from 0": (shift(40, 0.5), [CLOSER_DISCS]),
    "large discs, small eigenvalues": (signs(0, 1.5), [CLOSER_EIGENVALUES]),
    "all different": (signs(0.5, 0.01), [CLOSER_DISCS, CLOSER_EIGENVALUES]),
    "tiny": (signs(0, 1e-60), [CLOSER_DISCS, CLOSER_EIGENVALUES]),
    "radii of 0": (0.5 * np.eye(4), []),
    "one entry": (np.array([[0.5]]), []),
    "two separate groups": (blocks(shift(0, 0.1), shift(0.9, 0.2)), [CLOSER_DISCS]),
}


@pytest.mark.parametrize("case", PANELS)
def test_a_panel_is_added_for_what_covers_less_than_half_and_holds_its_discs_whole(case):
    A, titles = PANELS[case]
    planes = planes_of(without_layout(spectra_of(A)))
    assert [ax.get_title("left") for ax in planes] == ["time step 0", *titles]
    c, r = A.diagonal(), np.abs(A).sum(1) - np.abs(A.diagonal())
    k = r.argmax()
    if CLOSER_DISCS in titles:  # the groups are apart, and all discs of one are equal
        low, high = planes[1].get_xlim()
        assert (low, high) == pytest.approx((c[k] - 1.1 * r[k], c[k] + 1.1 * r[k]))
    if CLOSER_EIGENVALUES in titles:
        values = np.linalg.eigvals(A)
        (low, high), (_, top) = planes[-1].get_xlim(), planes[-1].get_ylim()
        assert low < values.real.min() and values.real.max() < high
        assert np.abs(values.imag).max() < top
        assert top < 1.2 * np.abs(values - c[k]).max()
    widths = [np.ptp(ax.get_xlim()) for ax in planes]
    assert all(one >= FACTOR * two for one, two in pairwise(widths))


@pytest.mark.parametrize(("N", "label"), [(64, ROW_DISCS), (65, "row discs (32 largest of 65)")])
def test_single_row_discs_are_circles_of_which_the_largest_is_marked(N, label):
    A = np.random.default_rng(N).standard_normal((N, N)) / N
    discs = sorted(((sum(abs(A[i, j]) for j in range(N) if j != i), A[i, i]) for i in range(N)),
                   reverse=True)  # fmt: skip
    ax = spectra_of(A).plot()
    (circles,) = [each for each in ax.collections if each.get_label() == label]
    lines = [path.vertices for path in circles.get_paths()]
    assert len(lines) == (64 if N == 64 else 32)
    for line, (radius, center) in zip(lines, discs, strict=False):
        distances = np.hypot(line[:, 0] - center, line[:, 1])
        np.testing.assert_allclose(distances, radius)
    radius, center = discs[0]
    (thick,) = [line for line in ax.lines if line.get_label() == LARGEST]
    x, y = thick.get_data()
    np.testing.assert_allclose(np.hypot(x - center, y), radius)
    assert thick.get_linewidth() > 2 * circles.get_linewidths()[0]
    (spoke,) = [line for line in ax.lines if line.get_markevery() == [0]]
    np.testing.assert_allclose(spoke.get_xydata(), [(center, 0), (center, radius)])


def test_a_ruler_finds_centre_and_radius_of_the_largest_disc():
    A = np.random.default_rng(3).standard_normal((16, 16)) / 64 + 0.6 * np.eye(16)
    figure = spectra_of(A).figure()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[::-1, :, :3].astype(int)
    ax = planes_of(figure)[1]
    assert ax.get_title("left") == CLOSER_DISCS
    box = ax.get_window_extent()
    left, low, right, top = (round(end) for end in box.extents)
    near = np.abs(pixels - 255 * np.array(to_rgb(SKY))).max(2) < 20
    rows, columns = np.nonzero(near[low:top, left:right])
    (x_0, x_1), (y_0, y_1) = ax.get_xlim(), ax.get_ylim()
    x = x_0 + (columns + left + 0.5 - box.x0) * (x_1 - x_0) / box.width
    y = y_0 + (rows + low + 0.5 - box.y0) * (y_1 - y_0) / box.height
    radii = np.abs(A).sum(1) - np.abs(A.diagonal())
    pixel = (x_1 - x_0) / box.width
    assert (x.min() + x.max()) / 2 == pytest.approx(A[radii.argmax(), radii.argmax()], abs=pixel)
    assert (x.max() - x.min()) / 2 == pytest.approx(radii.max(), abs=2 * pixel)
    assert (y.max() - y.min()) / 2 == pytest.approx(radii.max(), abs=2 * pixel)


def test_what_cannot_be_seen_has_no_name():
    def names(A, **how):
        return {*names_in_legends(spectra_of(A).plot(**how).figure)}

    points = {CENTRES, EIGENVALUES}
    assert names(signs(0.5, 0.01)) == points | {CIRCLE}
    inside = names(signs(0, 1.5), limit=0.1)
    assert inside == points | {OVERLAP}  # grey up to its edges, all outlines are outside
    outside = names(signs(3, 0.5), limit=1.2)
    assert outside == {CIRCLE}


@pytest.mark.parametrize("half", [10.0**-k for k in range(9)])
def test_the_unit_circle_is_round_in_an_enlarged_panel_around_1(half):
    ax = spectra_of(np.eye(2)).plot()
    (circle,) = [line for line in ax.lines if line.get_label() == CIRCLE]
    x, y = circle.get_data()
    right = x > 0
    order = np.argsort(y[right])
    heights = np.linspace(-half, half, 21) * 0.99
    drawn = np.interp(heights, y[right][order], x[right][order])
    assert np.abs(drawn - np.sqrt(1 - heights**2)).max() < 0.01 * half


def test_each_network_of_a_comparison_has_a_panel_that_shows_its_discs():
    A, B, C = signs(0, 1.5, 32), signs(0.5, 0.01, 32), signs(0.2, 1.0, 32)
    runs = {name: run_of(each) for name, each in {"A": A, "B": B, "C": C}.items()}
    one, two, three = planes_of(without_layout(compare(runs)))
    assert one.get_xlim() == three.get_xlim() == pytest.approx((-1.65, 1.65))
    assert two.get_xlim() == pytest.approx((0.489, 0.511))
    assert two.get_ylim() == pytest.approx((-0.011, 0.011))
    assert two.spines["top"].get_visible() and not one.spines["top"].get_visible()
    labels = [ax.xaxis.get_tick_params()["labelbottom"] for ax in (one, two, three)]
    assert labels == [True] * 3
    small = planes_of(without_layout(compare({"B": runs["B"], "b": run_of(signs(0, 0.02, 32))})))
    assert [ax.spines["top"].get_visible() for ax in small] == [True, True]
    points = {"0.5": run_of(0.5 * np.eye(32)), "I": run_of(signs(1, 3, 32))}
    large = planes_of(without_layout(compare(points)))
    assert [ax.get_xlim()[1] for ax in large] == pytest.approx((1.1, 1.1 * 4))
    same = planes_of(without_layout(compare({"A": runs["A"], "C": runs["C"]})))
    assert same[0].get_xlim() == same[1].get_xlim()
    fixed = planes_of(without_layout(compare(runs), limit=2.0))
    assert [ax.get_xlim() for ax in fixed] == [(-2.0, 2.0)] * 3


def test_the_frames_of_a_recording_show_their_discs():
    model = torch.nn.RNN(2, 6)
    with torch.no_grad():
        model.weight_hh_l0.copy_(0.001 * torch.ones(6, 6))
    recorder = Recorder(model, torch.zeros(9, 2))
    with torch.no_grad():
        model.weight_hh_l0.mul_(250)
    recorder.measure(1)
    found = recorder.recording
    figure = without_layout(found)
    first, last = planes_of(figure)
    reach = (np.abs(found.centers) + found.radii).max(1)
    assert last.get_xlim()[1] == pytest.approx(1.1 * max(1, reach[1]))
    assert first.get_xlim()[1] == pytest.approx(1.1 * reach[0], rel=0.5)
    assert {ROW_DISCS, LARGEST, ROW_UNION} <= {*names_in_legends(figure)}
    assert COLUMN_UNION not in names_in_legends(figure)
    frames = [found.plot_moment(moment=k).get_xlim() for k in (0, 1)]  # of a film
    assert frames[0] == frames[1] == last.get_xlim()


def test_points_of_a_circle_are_close_together_beside_both_ends_on_the_real_axis():
    points = circle_points(1.0, 2.0)
    np.testing.assert_allclose(np.abs(points - 1), 2, rtol=1e-12)
    assert points[0] == points[-1] == 3
    turns = np.angle((points[1:] - 1) / (points[:-1] - 1), deg=True)
    assert turns.min() > -1e-6 and turns.max() < 2.01 and turns.sum() == pytest.approx(360)
    for end in (3, -1):
        for side in (1, -1):
            for height in (1e-7, 1e-4, 1e-2):
                heights = side * points.imag[np.abs(points - end) < 0.3]
                assert ((heights > height) & (heights < 2 * height)).any(), (end, side, height)


@pytest.mark.parametrize(("share", "seen"), [(SEEN, True), (0.999 * SEEN, False)])
def test_a_path_is_seen_from_a_share_of_the_width_and_the_height_on(share, seen):
    box = Bbox([[0, 0], [2, 4]])
    for path in (Path([[0, 0], [2, 4 * share]]), Path([[0, 0], [2 * share, 4]])):
        assert _extend([path], box) == seen


def test_an_axis_has_as_many_numbers_as_its_longest_one_leaves_room_for():
    """Four letters and a space: two of three ticks are two thirds of the width apart."""
    letter = 0.65 * 10 / 72  # inches, of 10 points
    two, three, five = [-100, 100], [-100, 0, 100], [-100, -50, 0, 50, 100]
    for letters, end, wanted in (
        (7.45, 150, [-100]), (7.55, 150, two), (14.9, 150, two), (15.1, 150, three),
        (60, 100, five),
    ):  # fmt: skip
        ax = Figure((letters * letter, 1)).add_axes((0, 0, 1, 1), xlim=(-end, end))
        ax.xaxis.set_major_locator(FewTicks())
        assert ax.xaxis.get_majorticklocs().tolist() == wanted


@pytest.mark.parametrize("side", [pytest.param(1, id="right"), pytest.param(-1, id="left")])
def test_eigenvalues_at_the_ends_of_the_discs_are_in_their_square(side):
    """All discs end at -2 and 2."""
    ends = side * np.array([1.9, 2.0 + 0j])
    discs = JacobianDiscs(centers=np.zeros(3), row_radii=np.full(3, 2.0), eigenvalues=ends)
    found = closer_squares(Square(0.0, 100.0), discs)
    assert found[CLOSER_DISCS] == (0, pytest.approx(2.2), True)
    assert found[CLOSER_EIGENVALUES] == pytest.approx((1.95 * side, 0.055, True))
    half = FACTOR * found[CLOSER_DISCS].half
    assert CLOSER_DISCS in closer_squares(Square(0.0, half), discs)
    assert CLOSER_DISCS not in closer_squares(Square(0.0, 0.999 * half), discs)


def test_a_network_has_its_own_square_if_it_covers_half_of_the_common_one_or_less():
    circle, large = (
        JacobianDiscs(centers=np.zeros(1), row_radii=np.zeros(1), eigenvalues=np.array([value]))
        for value in (0j, FACTOR + 0j)
    )
    halves = [square.half for square in disc_squares([circle, large])]
    assert halves == [pytest.approx(1.1), pytest.approx(1.1 * FACTOR)]
    smaller = replace(large, eigenvalues=0.999 * large.eigenvalues)
    assert len({*disc_squares([circle, smaller])}) == 1


@pytest.mark.parametrize(
    ("radii", "heights", "half"),
    [
        pytest.param([0.0, 0.0], [0, 0], 0.75, id="no discs"),
        pytest.param([1.0, np.nan], [2j, 0], 2.0, id="an unknown disc"),
    ],
)
def test_eigenvalues_without_discs_have_a_closer_square(radii, heights, half):
    centers = np.array([-1.0, 0.5])
    discs = JacobianDiscs(centers=centers, row_radii=np.array(radii), eigenvalues=centers + heights)
    found = closer_squares(Square(0.0, 100.0), discs)
    assert found == {CLOSER_EIGENVALUES: (-0.25, pytest.approx(1.1 * half), True)}


@pytest.mark.parametrize(
    ("centers", "ends"),
    [
        pytest.param([0.0, 2.0, 9.0, 20.0], (-1.25, 2.75), id="on its right"),
        pytest.param([0.0, -2.0, 9.0, 20.0], (-2.75, 1.25), id="on its left"),
    ],
)
def test_a_disc_that_touches_the_largest_one_in_a_point_is_connected_with_it(centers, ends):
    discs = JacobianDiscs(centers=np.array(centers), row_radii=np.array([1.25, 0.75, 1, 0]),
                          column_radii=np.array([0.5, 0.75, 2, 0]),
                          eigenvalues=np.zeros(1, complex))  # fmt: skip
    middle, half, _ = closer_squares(Square(0.0, 100.0), discs)[CLOSER_DISCS]
    assert (middle - half / 1.1, middle + half / 1.1) == pytest.approx(ends)
