"""The figure of a check: its curves, their names, and its title."""

import pytest
from readable import WIDTHS, readable

from trainability.diagnosis import Cause, Diagnosis, TableRow


def row(part, what, error, steps=400):
    curve = tuple((steps * k // 8, 1.1 - (1.1 - error) * k / 8) for k in range(1, 9))
    return TableRow(part, what, error, steps, 0.01, curve)


ROWS = (
    row("", "as given", 1.02),
    row("inputs", "inputs standardised", 1.03),
    row("network", "a GRU in place of the network", 0.03, steps=200),
    row("length", "4 times the steps", 1.01, steps=1600),
    TableRow("data", "the last value repeated", 1.9, 0, 0.01, ((0, 1.9),)),
)


def found(part, rows=ROWS, error=1.02):
    named = {"title": "Net", "outcome": "does not learn", "part": part, "rows": rows}
    swap = "a GRU in place of the network" if part == "network" and rows else ""
    return Diagnosis(**named, swap=swap, error=error, steps=400, of_steps=400)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_figure_names_the_training_as_given_and_the_part_at_fault(width):
    ax = found("network").plot(figure=width)
    readable(ax.figure)
    names = [text.get_text() for text in ax.texts]
    assert sorted(names) == ["a GRU in place of the network", "as given"]


@pytest.mark.parametrize(
    ("part", "error", "finding"),
    [
        ("network", 1.02, "With a GRU in place of the network the error falls from 1.02 to 0.03"),
        ("network", 1e9, "With a GRU in place of the network the error falls to 0.03"),
        ("inputs", 1.02, "Net does not learn"),
        (None, 1.02, "Net does not learn"),
    ],
    ids=["helps", "exploded", "a fact that no row shows", "no part"],
)
def test_the_title_says_what_brings_the_error_down(part, error, finding):
    diagnosis = found(part, error=error)
    assert diagnosis.finding == finding
    title = diagnosis.plot().figure.get_suptitle()
    assert title.replace("\n", " ") == finding


def test_the_figure_of_a_check_without_rows_states_its_cause():
    cause = Cause("no gradient", "network", "The outputs have no gradient.", "Remove detach().")
    diagnosis = Diagnosis(title="Net", outcome="does not learn", part="network", causes=(cause,))
    ax = diagnosis.plot()
    assert "The outputs have no gradient." in ax.texts[0].get_text().replace("\n", " ")
    assert not ax.lines


@pytest.mark.parametrize(("error", "marked"), [(0.88, True), (0.997, False), (1.02, False)])
def test_an_error_below_a_constant_that_may_be_chance_is_marked(error, marked):
    assert ("which may be chance" in found(None, error=error).verdict) == marked
