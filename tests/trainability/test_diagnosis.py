"""The figure and the words of a check: its parts, their names, its title, its table."""

import math
from dataclasses import replace

import pytest
from matplotlib.legend import Legend
from readable import WIDTHS, readable

from rhn.utils.figures import RED
from trainability.cause import Cause
from trainability.diagnosis import AT_FAULT, IN_GOOD, LEAST, Diagnosis, TableRow


def row(part, what, error, steps=400, **about):
    curve = tuple((steps * k // 8, 1.1 - (1.1 - error) * k / 8) for k in range(1, 9))
    return TableRow(part, what, error, steps, 0.01, curve=curve, **about)


GRU = "a GRU in place of the network"


def rows(word):
    return (
        row("", "your training run, unchanged", 1.02),
        row("network", "your network", 1.03, training=IN_GOOD, word="breaks"),
        row("inputs", "inputs standardised", 1.03),
        row("optimizer", "ten times the learning rate", 0.9, steps=120, finished=False),
        row("network", GRU, 0.03, steps=200, word=word),
        TableRow("data", "the last value repeated", 1.9, 0, 0.01, curve=((0, 1.9),)),
    )


def found(part, error=1.02):
    word = AT_FAULT if part == "network" else ""
    named = {"title": "Net", "outcome": "does not learn", "part": part, "rows": rows(word)}
    return Diagnosis(**named, known_good=0.02, error=error, steps=400, of_steps=400)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_figure_has_both_directions_of_every_part_and_marks_the_one_at_fault(width):
    ax = found("network").plot(figure=width)
    readable(ax.get_figure(root=True))
    names = {label.get_text().replace("\n", " "): label for label in ax.get_yticklabels()}
    assert list(names) == ["ten times the learning rate", "inputs standardised", GRU]
    assert [name for name, label in names.items() if label.get_color() == RED] == [GRU]
    yours, good = ax.lines[:2]
    assert yours.get_label() == "your training run, with this part replaced"
    assert good.get_label() == "known good training run, with your part"
    assert yours.get_xydata().tolist() == [[1.03, 1], [0.03, 2]], "the unfinished row shows nothing"
    assert good.get_xydata().tolist() == [[1.03, 2]]


@pytest.mark.parametrize(
    ("part", "error", "finding"),
    [
        (
            "network",
            1.02,
            f"The fault is in the network: with {GRU} the relative error is 0.03",
        ),
        ("inputs", 1.02, "Net does not learn"),
        (None, 1.02, "Net does not learn"),
    ],
    ids=["at fault", "a proof that no row shows", "no part"],
)
def test_the_title_states_what_brings_the_error_down(part, error, finding):
    diagnosis = found(part, error=error)
    assert diagnosis.finding == finding
    title = diagnosis.figure().get_suptitle()
    assert title.replace("\n", " ") == finding


def test_the_figure_of_a_check_without_rows_states_its_cause():
    cause = Cause("no gradient", "network", "The outputs have no gradient.", "Remove detach().")
    diagnosis = Diagnosis(title="Net", outcome="does not learn", part="network", causes=(cause,))
    ax = diagnosis.plot()
    assert "The outputs have no gradient." in ax.texts[0].get_text().replace("\n", " ")
    assert not ax.lines


def test_the_figure_of_a_check_without_rows_lists_its_sentences():
    causes = [Cause("detached", "network", f"Fact {k} is proven.", "Repair it.") for k in range(3)]
    named = {"title": "Net", "outcome": "learns", "steps": 40, "of_steps": 40, "error": 0.05}
    own = row("", "your training run, unchanged", 0.05)
    ax = Diagnosis(**named, rows=(own,), causes=(*causes,), facts=(*causes,)).plot()
    first, *proofs = ax.texts[0].get_text().split("\n\n")
    assert first.startswith("Net learns") and proofs == [
        f"Proven: Fact {k} is proven. Repair it." for k in range(3)
    ]


def test_a_table_without_a_sentence_below_it_is_the_end():
    assert str(found("inputs")).splitlines()[-1].strip()
    cause = Cause("better", "inputs", "Better: inputs standardised.", "")
    lines = str(replace(found("inputs"), causes=(cause,))).splitlines()
    assert lines[-2:] == ["", "Better: inputs standardised."]


def test_a_run_that_learns_then_overfits_is_said_to_with_both_errors():
    words = {"outcome": "learns", "words": "learns, then overfits", "lowest": (90, 0.71)}
    verdict = replace(found(None, error=1.12), **words).verdict
    assert verdict.startswith(
        "Net learns, then overfits: relative error 0.71 at step 90, 1.12 after 400 steps (1: no"
    )


def test_the_table_has_both_directions_and_marks_what_stopped():
    lines = str(found("network")).splitlines()
    (network,) = (line for line in lines if "GRU" in line)
    assert network.split("  ")[-1] == "<- at fault"
    assert "0.03 (step 200)" in network and "1.03" in network
    (unfinished,) = (line for line in lines if "ten times" in line)
    assert "no time (120 steps)" in unfinished and "0.90" not in unfinished
    assert "A known good training run on your data reaches 0.02." in lines


def test_a_known_good_run_that_the_time_ended_is_told_with_its_step():
    cut = replace(found("network"), known_good_stopped=220, of_steps=400)
    words = "reaches 0.02 after 220 of 400 steps, when the time was up."
    assert f"A known good training run on your data {words}" in str(cut)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": ()}, ": the best reaches 1.01."),
        ({"rows": (), "known_good": math.inf}, ": the best reaches no finite error."),
        ({"outcome": "learns"}, " (the best reaches 1.01), but your training run is."),
        ({}, f" (the best reaches 1.01), but your training run is with {GRU}."),
    ],
    ids=["nothing learns", "no error", "yours learns", "a change learns"],
)
def test_the_sentence_on_known_good_runs_agrees_with_the_rows(change, words):
    enough = {"rows": (rows("")[0], row("network", GRU, 0.06, word="enough"))}
    fields = {"known_good": 1.01, "learnable": False, "outcome": "does not learn"}
    lines = [*replace(found("network"), **enough | fields | change).sentences()]
    known = "No known good training run on your data is clearly better than the constant predictor"
    assert known + words in lines


def test_a_part_that_is_only_put_in_has_the_name_of_its_row():
    put = row("network", "your network, Adam 0.003", 0.4, training="known good")
    long = replace(put, what="your network with torch's weights, Adam 0.003")
    for given, name in ((put, put.what), (long, "your network")):
        printed = str(replace(found("network"), rows=(rows("")[0], given)))
        assert any(line.startswith(f"  {name}  ") for line in printed.splitlines())


def test_the_table_states_that_its_numbers_are_losses():
    of_loss = replace(found("network"), by="loss", known_good_loss=0.3, loss=0.9)
    lines = str(of_loss).splitlines()
    assert "A known good training run on your data reaches 0.02, loss 0.30." in lines
    assert of_loss.levels == (0.9, 0.3)
    assert any(line.startswith("  relative loss  ") for line in lines)
    assert of_loss.plot().get_xlabel() == "relative loss"
    assert of_loss.finding.endswith(f"with {GRU} the relative loss is 0.03")


def test_a_row_of_the_table_states_its_score():
    own = replace(found("network").rows[0], by="loss")
    assert replace(found("network"), rows=(own,)).table()[0]["by"] == "loss"
    assert found("network").table()[0]["by"] == "error"


def test_the_figure_has_the_lines_of_the_table_and_names_only_what_it_draws():
    """A repair that had finished was missing, and a kind of row without a point was named."""
    repair = row("network", "examples along the other axis", 0.55)
    enough = row("network", GRU, 0.06, word="enough")
    late = row("regularization", "no dropout", 0.9, steps=120, finished=False)
    proven = Cause("wrong axis", "network", "It mixes examples.", "", repair=repair.what)
    fields = {"rows": (rows("")[0], repair, enough, late), "facts": (proven,)}
    diagnosis = replace(found("network"), **fields)
    ax = diagnosis.plot()
    names = [label.get_text().replace("\n", " ") for label in ax.get_yticklabels()][::-1]
    assert names == [GRU, repair.what, late.what]
    lines = [line for line in str(diagnosis).splitlines() if line.startswith("  ")][1:]
    assert [line.split("  ")[1] for line in lines] == names
    assert ax.lines[0].get_xydata().tolist() == [[0.55, 1], [0.06, 2]]
    drawn = {line.get_label() for line in ax.lines if len(line.get_xdata())}
    legend = {text.get_text() for text in ax.get_figure(root=True).findobj(Legend)[0].texts}
    assert legend == drawn and "in the known good run" not in legend


def test_the_figure_states_which_parts_had_no_time():
    ax = found("network").plot()
    words = {round(text.get_position()[1]): text.get_text() for text in ax.texts}
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert words[names.index("ten times the learning rate")] == "no time"
    assert len(words) == 1


def test_sentences_and_title_have_the_few_targets_that_the_error_is_measured_by():
    few = replace(found("network"), few="5 positives", loss=0.27, known_good_loss=0.23)
    lines = str(few).splitlines()
    assert (
        "A known good training run on your data reaches 0.02 (5 positives held out), loss 0.23."
        in lines
    )
    assert lines[0].startswith(
        "Net does not learn: relative error 1.02 (5 positives held out), loss"
    )
    assert few.finding.endswith("is 0.03 (5 positives held out)")
    named = replace(few, loss_name="cross entropy", by="loss")
    assert "cross entropy 0.27 after" in str(named) and "relative cross entropy  " in str(named)


def test_an_error_of_0_is_a_line_at_the_edge_of_the_figure():
    ax = replace(found("network"), known_good=0.0).plot()
    lines = {line.get_label(): line.get_xdata()[0] for line in ax.lines}
    assert lines["known good training run, below 0.0001"] == LEAST
    assert lines["your training run, unchanged"] == 1.02


def test_points_beyond_the_figure_are_empty_and_named():
    """Errors of runs that diverge were drawn at 100, like errors of 100."""
    beyond = (
        row("network", GRU, math.inf),
        row("inputs", "inputs standardised", 100.0),
        row("optimizer", "ten times the learning rate", 3e7),
        row("loss", "the usual loss", 1e-6),
        row("loss", "your loss", math.inf, training=IN_GOOD),
    )
    ax = replace(found("network"), rows=(rows("")[0], *beyond)).plot()
    empty = [line for line in ax.lines if line.get_markerfacecolor() == ax.get_facecolor()]
    places = {
        label.get_text().replace("\n", " "): k for k, label in enumerate(ax.get_yticklabels())
    }
    drawn = sorted((line.get_ydata()[0], line.get_xdata()[0]) for line in empty)
    assert drawn == sorted(
        [
            (places[GRU], 100),
            (places["ten times the learning rate"], 100),
            (places["the usual loss"], LEAST),
            (places["the usual loss"], 100),
        ]
    )
    (legend,) = ax.get_figure(root=True).findobj(Legend)
    texts = [text.get_text() for text in legend.texts]
    assert texts.count("above 100") == texts.count("below 0.0001") == 1


def test_a_loss_that_is_not_finite_is_said_to_be_so_in_its_own_step():
    """The first 8 of 9 losses are finite."""
    diverged = replace(found(None, error=math.inf), outcome="diverges", steps=9)
    assert diverged.verdict == "Net diverges: its loss is not finite in step 9 of 400."
