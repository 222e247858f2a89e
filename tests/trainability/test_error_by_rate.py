"""The figure of `cure` joins only errors that can be compared, and marks the others."""

import math
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.figure import Figure

from trainability.error_by_rate import ErrorByRate


def row(start, optimizer, rate, error, steps=300):
    return {
        "start": start,
        "optimizer": optimizer,
        "learning_rate": rate,
        "error": error,
        "steps": steps,
    }


OWN, DRAWN = "your weights", "orthogonal matrices"
ROWS = [
    row(OWN, "SGD", 1e-3, 0.99),
    row(OWN, "Adam", 1e-2, 0.06),
    row(OWN, "Adam", 3e-3, 0.05),
    row(OWN, "Adam", 1e-3, 0.3, steps=75),
    row(OWN, "SGD", 1e-4, 1.01),
    row(OWN, "SGD", 1e-2, math.inf, steps=9),
    row(OWN, "SGD", 0.1, 0.7),
    row(DRAWN, "SGD", 1e-3, 38.4, steps=30),
    row(DRAWN, "Adam", 1e-3, 1.2),
    row(DRAWN, "Adam", 1e-2, 0.4),
]


def drawn(rows, **parts):
    ax = Figure().subplots()
    ErrorByRate(rows, **{"whole": 300, "changed": True} | parts).draw(ax)
    return ax


@pytest.fixture
def ax():
    return drawn(ROWS)


def columns(ax):
    """The optimiser and the learning rate, by place on the axis."""
    (gap,) = (line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":")
    names = zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)
    return {x: ("SGD" if x < gap else "Adam", float(name.get_text())) for x, name in names}


def found(ax, points):
    """Rows (optimiser, learning rate, error) of drawn points."""
    places = columns(ax)
    return {(*places[round(x)], y) for x, y in points if np.isfinite(y)}


def line_of(ax, label):
    (line,) = (line for line in ax.lines if line.get_label() == label)
    return line


def expected(rows):
    return {(row["optimizer"], row["learning_rate"], row["error"]) for row in rows}


@pytest.mark.parametrize("start", [OWN, DRAWN])
def test_a_line_joins_errors_after_all_steps_with_one_optimiser(ax, start):
    points = line_of(ax, start).get_xydata()
    whole = [r for r in ROWS if r["start"] == start and r["steps"] == 300]
    assert found(ax, points) == expected(whole)
    order, places = [*columns(ax)], columns(ax)
    joined = [pair for pair in pairwise(points) if np.isfinite(pair).all()]
    for (x, _), (other, _) in joined:
        assert order.index(round(other)) == order.index(round(x)) + 1
        assert places[round(x)][0] == places[round(other)][0]
    # SGD 1e-4 to 1e-3, and Adam 3e-3 to 1e-2; nothing over the rate that diverged
    assert len(joined) == (2 if start == OWN else 0)


def test_a_row_that_was_stopped_is_a_small_open_mark(ax):
    own = line_of(ax, OWN)
    (early,) = (
        line
        for line in ax.lines
        if line.get_markerfacecolor() == "none"
        and line.get_color() == own.get_color()
        and len(line.get_xdata())
        and line.get_markersize() < own.get_markersize()
    )
    assert found(ax, early.get_xydata()) == {("Adam", 1e-3, 0.3)}
    assert early.get_linestyle() == "None" and early.get_marker() == own.get_marker()
    assert line_of(ax, "open: stopped early, at step 75")


def test_a_row_that_diverged_is_marked_above_all_errors_and_named(ax):
    crosses = [line for line in ax.lines if line.get_marker() == "x" and len(line.get_xdata())]
    places, top = columns(ax), {y for line in crosses for y in line.get_ydata()}
    at = {(line.get_color(), places[round(x)]) for line in crosses for x in line.get_xdata()}
    colors = {start: line_of(ax, start).get_color() for start in (OWN, DRAWN)}
    assert at == {(colors[OWN], ("SGD", 1e-2)), (colors[DRAWN], ("SGD", 1e-3))}
    assert len(top) == 1 and 1.2 < top.pop() < ax.get_ylim()[1]
    assert line_of(ax, "off the scale: above 2 or diverged")


def test_the_unchanged_run_and_the_chosen_one_are_ringed(ax):
    own, chosen = line_of(ax, "your training run, unchanged"), line_of(ax, "chosen")
    assert found(ax, own.get_xydata()) == expected(ROWS[:1])
    assert found(ax, chosen.get_xydata()) == expected(ROWS[1:2])
    unchanged = drawn(ROWS, changed=False)
    assert "chosen" not in [line.get_label() for line in unchanged.lines]


def test_the_axes_state_the_steps_and_the_optimisers(ax):
    assert ax.get_ylabel() == "relative error after 300 optimiser steps"
    assert ax.get_xlabel() == "learning rate of SGD (left) and Adam (right)"
    single = drawn(ROWS[:1], changed=False)
    assert single.get_xlabel() == "learning rate of SGD"
    labels = {line.get_label() for line in single.lines if not line.get_label().startswith("_")}
    assert labels == {OWN, "the constant predictor", "your training run, unchanged"}


def test_errors_above_a_given_limit_are_off_the_scale():
    ax = drawn(ROWS, limit=0.5)
    assert found(ax, line_of(ax, DRAWN).get_xydata()) == {("Adam", 1e-2, 0.4)}
    assert line_of(ax, "off the scale: above 0.5 or diverged")
    (own,) = line_of(ax, "your training run, unchanged").get_ydata()
    assert 0.4 < own < 0.5
