"""Figures: their files, their texts and their letters."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from rhn.plotting.old_figures import LogLabels, LogTicks
from rhn.utils import figures, old


def simple() -> Figure:
    figure = Figure()
    old.titled(figure, "What is shown", "seed 0")
    figure.subplots().plot([1, 2], label="a line")
    return figure


def test_a_default_name_tells_folders_of_one_name_apart(tmp_path, own_folder):
    plain, *others = [
        ("dt", "runs/dt", "./dt", tmp_path / "runs" / "dt"),
        "o2/dt",
        "../dt",
        "runs/runs/dt",
    ]
    assert {old.place(Path(path)) for path in plain} == {None}
    assert len({old.place(Path(path)) for path in others} | {None}) == 4


@pytest.mark.parametrize("suffix", figures.FIGURE_SUFFIXES)
def test_a_figure_has_the_same_bytes_on_another_day(tmp_path, monkeypatch, suffix):
    one, other = tmp_path / f"one{suffix}", tmp_path / f"other{suffix}"
    for path, seconds in ((one, "0"), (other, "1000000")):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", seconds)
        figures.save_figure(path, simple)
    assert one.read_bytes() == other.read_bytes()


def test_dollars_of_a_user_are_no_mathematics(tmp_path):
    def draw():
        figure = simple()
        figure.axes[0].set(title=old.drawable("of $\\frac$"), xlabel=r"$\log_{10} x$")
        old.titled(figure, "a$b$ and $\\frac$, \udcff", "text a$b$.txt")
        return figure

    for suffix in figures.FIGURE_SUFFIXES:
        figures.save_figure(tmp_path / f"figure{suffix}", draw)


@pytest.mark.parametrize(("drawn_title", "kept"), [("ours", "ours"), ("", "theirs")])
def test_a_title_in_given_axes_is_where_their_style_has_it_and_none_is_erased(drawn_title, kept):
    ax = Figure().subplots()
    ax.set_title("theirs")
    ax.set_title(drawn_title, loc="left")
    old.fold_to_axes(ax)
    assert (ax.get_title(), ax.get_title("left")) == (kept, "")


def test_a_title_in_given_axes_is_folded_to_their_width():
    left, _ = Figure(figsize=(4, 2)).subfigures(1, 2)
    ax = left.subplots()
    ax.set_title("what the products of the steps do", loc="left")
    old.fold_to_axes(ax)
    assert "\n" in ax.get_title()


@pytest.mark.parametrize("most", [4, 9])
@pytest.mark.parametrize(
    "ends", [(8.3, 61.0), (8.4, 13.6), (0.97, 1.04), (0.004, 0.4), (0.02, 70.0), (1e-9, 1e3)]
)
def test_a_log_axis_has_several_round_numbers_also_where_its_scale_is_wide(ends, most):
    low, high = np.log10(ends)
    ticks = np.log10(LogTicks(numticks=most).tick_values(*ends))
    assert min(ticks) <= low and high <= max(ticks), "they bracket the data"
    assert sum((ticks >= low) & (ticks <= (low + high) / 2)) >= (2 if most > 4 else 1)
    inside = ticks[(ticks >= low) & (ticks <= high)]
    assert 2 <= len(inside) <= 2 * most
    assert all(float(f"{10**tick:.3g}") == pytest.approx(10**tick) for tick in inside), (
        "of at most three digits"
    )


@pytest.mark.parametrize("low", [1e-300, 1e-310, 5e-324])
def test_a_log_axis_down_to_the_smallest_numbers_has_labels(low):
    """A power of ten below the smallest number of float64 is rounded to 0, which has no label."""
    ax = Figure().subplots()
    plot_log(ax, low)
    assert any(label.get_text() for label in ax.get_yticklabels())


def plot_log(ax, low):
    ax.plot([1.0, low], [1.0, low])
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogTicks(numticks=7))
    ax.yaxis.set_major_formatter(LogLabels())
    ax.get_figure().canvas.draw()


@pytest.mark.parametrize("dots", [72, 100, 160, 300])
def test_folded_lines_fit_whatever_the_resolution_is(dots):
    text = (
        "uniform:0.04, transform bias -2, seed 0; chorale bwv269 of the chorales of music21 "
        "10.5.1; rhn-toolkit 0.6.0; " * 9
    )
    renderer, font = RendererAgg(9, 9, dots), FontProperties()
    for size in (6, 7, 8, 9, 12):
        font.set_size(size)
        lines = old.folded(text, 5.0, size).split("\n")
        widths = [
            renderer.get_text_width_height_descent(line, font, False)[0] / dots for line in lines
        ]
        assert (
            max(widths) <= 5 and np.median(widths) > 4 and "".join(lines).count("rhn-toolkit") == 9
        )


def test_a_word_is_broken_only_if_it_is_longer_than_a_line():
    words = "how far the rhn-toolkit reaches without time step (days) " + "x" * 300
    for inches in np.linspace(1.2, 3, 40):
        assert old.folded(words, inches, 9).split()[:8] == words.split()[:8]
