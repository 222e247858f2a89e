"""The rules of a check: words and outcomes that follow from errors, by the table of the rules."""

import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from trainability.conclusion import (
    causes_shown,
    not_enough,
    note_on_steps,
    notes_on_fit,
    notes_on_parts,
    notes_on_time,
    parts_without_time,
)
from trainability.diagnosis import Diagnosis, TableRow
from trainability.race import Measure, Race, Row, Version
from trainability.scores import PairedErrors, once_below
from trainability.trial import Trial
from trainability.verdict import Evidence, rule_of

N = 400
NOISE = torch.rand(N, generator=torch.Generator().manual_seed(0)).double()


def row(part, error, noise=0.2, done=True, loss=None):
    """A row whose errors of N examples have a mean, and a spread; and its loss, if there is one."""
    errors = {"error": error} if loss is None else {"error": error, "loss": loss}
    pairs = {
        name: PairedErrors(value + noise * (NOISE - NOISE.mean()), torch.ones(N).double())
        for name, value in errors.items()
    }
    made = Row(Version(part, part), None, steps=100, done=done)
    made.measures.append(Measure(100, pairs, errors))
    return made


def score(void="", least=0.0):
    refused = void if least > -math.inf else ""
    words = {"void": void, "refused": refused, "meaning": "", "name": "error"}
    return SimpleNamespace(size=1.0, least=least, **words)


def evidence(base, good=0.1, kept=None, replaced=None, whole=True, few="", noise=0.2):
    race = Race({}, [])
    race.scores = {"error": score()}
    return Evidence(
        race,
        row("", base, noise),
        100,
        100 if whole else 200,
        few,
        good=row("everything", good),
        kept={part: row(part, error) for part, error in (kept or {}).items()},
        replaced=[row(part, error) for part, error in (replaced or {}).items()],
    )


KNOWN = SimpleNamespace(network=Version("network", "a GRU in place of the network"))


def faults(found):
    return [row.part for row in found.at_fault]


def test_a_part_is_at_fault_if_it_is_enough_and_needed():
    found = evidence(
        1.0,
        kept={"network": 0.9, "loss": 0.12, "inputs": 0.4},
        replaced={"network": 0.12, "loss": 0.95, "inputs": 0.15},
    )
    assert faults(found) == ["network"]
    assert [found.word_of_kept(part) for part in found.kept] == ["breaks", "cleared", ""]
    assert [found.word_of(row) for row in found.replaced] == ["at fault", "", "enough"]
    assert rule_of(found).outcome == "does not learn"


def test_a_run_is_said_not_to_learn_only_if_a_run_shows_that_there_is_more_to_learn():
    """Of targets that are nearly all noise, a run may have learned what there is."""
    for good, words in (
        (0.1, "does not learn"),
        (1.0, "is not clearly better than the constant predictor"),
    ):
        rule = rule_of(evidence(1.0, good=good))
        assert (rule.outcome, rule.words) == ("does not learn", words)
    equal = evidence(1.0, good=1.0)
    equal.base.measures[-1] = replace(equal.base.measures[-1], equal=True)
    assert rule_of(equal).words == "does not learn"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"whole": False}, "not all steps"),
        ({"few": "12 examples are held out"}, "too few examples"),
        ({"kept": {"network": 0.3}}, "not needed"),
        ({"replaced": {"network": 0.5}}, "not enough"),
        ({"good": 1.02}, "no known good training learns"),
        ({"base": 0.6}, "learns, and does not come to a tenth"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_nothing_is_at_fault_without_evidence(change, why):
    given = {"base": 1.0, "kept": {"network": 0.9}, "replaced": {"network": 0.12}}
    assert faults(evidence(**given)) == ["network"]
    assert faults(evidence(**given | change)) == [], why


def test_a_row_that_is_not_finished_is_no_evidence():
    found = evidence(1.0, kept={"network": 0.9}, replaced={"network": 0.12})
    found.replaced[0].done = False
    assert not found.enough and not found.at_fault
    found = evidence(1.0, kept={"network": 0.9}, replaced={"network": 0.12})
    found.kept["network"].done = False
    assert not found.breaks("network") and not found.cleared("network")


def test_a_training_that_learns_is_at_fault_if_a_change_comes_to_a_tenth():
    found = evidence(0.6, good=0.02, kept={"network": 0.5}, replaced={"network": 0.03})
    assert [row.part for row in found.breaking] == ["network"] and not found.at_fault
    found.longer = row("length", 0.4)
    assert faults(found) == ["network"]


@pytest.mark.parametrize("done", [True, False])
def test_what_only_needs_more_steps_has_no_fault(done):
    found = evidence(0.6, good=0.02, kept={"optimizer": 0.5}, replaced={"optimizer": 0.03})
    found.longer = row("length", 0.2 if done else 0.5)
    found.longer.done, found.longer.steps = done, 400
    assert not found.at_fault and rule_of(found).outcome == "learns little"
    reached = ": your training run reaches 0.20 at step 400."
    unknown = " before your training run has run to step 400: give more seconds."
    assert note_on_steps(found) == f"No part is called at fault{reached if done else unknown}"


@pytest.mark.parametrize(
    ("base", "noise", "changes", "outcome"),
    [
        (0.9, 0.2, {}, "learns"),
        (0.9, 0.2, {"replaced": {"optimizer": 0.4}}, "learns little"),
        (0.9, 0.2, {"replaced": {"optimizer": 0.6}}, "learns"),
        (0.9, 0.2, {"replaced": {"optimizer": 0.4}, "whole": False}, "learns"),
        (1.02, 0.2, {}, "does not learn"),
        (0.99, 9.0, {}, "undecided"),
        (1.02, 0.2, {"whole": False}, "undecided"),
        (1.02, 0.2, {"few": "10 examples are held out"}, "undecided"),
    ],
)
def test_outcomes_need_evidence(base, noise, changes, outcome):
    assert rule_of(evidence(base, good=1.0, noise=noise, **changes)).outcome == outcome


def test_a_gain_of_less_than_a_tenth_is_called_hardly_any():
    words = [rule_of(evidence(base, good=1.0)).words for base in (0.94, 0.8)]
    assert words == ["is hardly better than the constant predictor", "learns"]


def test_the_best_change_measures_the_gap_if_no_known_good_training_learns():
    changes = {"optimizer": 0.3, "loss": 0.35, "inputs": 0.6, "order": 0.97}
    for good in (1.02, None):
        found = evidence(1.0, kept={"optimizer": 1.0}, replaced=changes)
        found.good = None if good is None else row("everything", good)
        assert [row.part for row in found.enough] == ["optimizer", "loss"]
        assert not found.at_fault and not found.breaks("optimizer")
    assert not evidence(1.0, good=1.02, replaced={"order": 0.97}).enough


def test_what_is_enough_halves_the_error_of_a_training_that_learns():
    changes = {"initial weights": 0.03, "network": 0.25, "optimizer": 0.06}
    found = evidence(0.37, good=0.02, replaced=changes)
    assert [row.part for row in found.enough] == ["initial weights", "optimizer"]
    found = evidence(0.37, good=0.3, replaced={"optimizer": 0.3})
    assert not found.enough


@pytest.mark.parametrize(("base", "enough"), [(0.74, []), (1.0, ["network"])])
def test_without_a_known_good_run_a_small_gain_of_a_run_that_may_learn_is_not_enough(base, enough):
    few = "112 held-out examples"
    found = evidence(base, good=1.02, few=few, noise=10.0)
    found.replaced = [row("network", 0.66, 10.0)]
    assert not found.learned and [row.part for row in found.enough] == enough


def test_all_changes_that_are_enough_are_named_beside_a_fault_and_the_last_value():
    changes = {"optimizer": 0.03, "loss": 0.5, "network": 0.02}
    found = evidence(0.4, good=0.02, kept={"network": 0.4}, replaced=changes)
    found.naive, found.longer = row("data", 0.01), row("length", 0.35)
    trial = SimpleNamespace(evidence=found, base=found.base, confirmed=[], good=KNOWN)
    named = [(cause.name, cause.part) for cause in causes_shown(trial)]
    assert named == [("network", "network"), ("enough", "optimizer"), ("better", "data")]


@pytest.mark.parametrize(("error", "tried"), [(0.12, False), (0.5, True)])
def test_outputs_see_later_frames_only_if_no_smaller_change_is_enough(error, tried):
    found, parts = evidence(1.0, good=0.1), []

    def run_enough(some):
        parts.extend(some)
        found.replaced = [row("network", error)]

    trial = SimpleNamespace(evidence=found, may_show_fault=False, run_enough=run_enough)
    for name in ("find_known_good", "go_on_searching", "run_layers", "run_longer"):
        setattr(trial, name, lambda: None)
    Trial.run_table(trial)
    assert ("network" in parts, "later frames" in parts) == (True, tried)


def test_rows_are_compared_with_the_users_training_after_as_many_steps():
    found = evidence(1.0, kept={"network": 0.9}, replaced={"network": 0.12}, whole=False)
    later = row("", 0.05).measures[0]
    found.base.steps, found.base.measures = 200, [*found.base.measures, replace(later, steps=200)]
    assert (found.base.error, found.before.error) == (0.05, 1.0)
    assert rule_of(found).outcome == "learns" and found.gap == pytest.approx(0.9)
    found.base.measures[1] = replace(row("", 1.02).measures[0], steps=200)
    assert rule_of(found).outcome == "does not learn" and not found.at_fault


def overfitting(base, replaced):
    """A training run that is at 0.75 at step 75 and gets worse, and changes that stop there."""
    found = evidence(base, good=0.75, replaced=replaced)
    early = replace(row("", 0.75).measures[0], steps=75)
    found.base.measures.insert(0, early)
    for change in found.replaced:
        change.steps = 75
        change.measures = [replace(change.measures[0], steps=75)]
    return found


def test_a_row_that_stops_early_is_compared_with_the_users_training_at_its_best_of_two_steps():
    found = overfitting(1.0, {"inputs": 0.75, "targets": 0.2})
    inputs = found.replaced[0]
    assert found.beside(inputs).error == 0.75 and found.beside(found.good).error == 1.0
    assert [row.part for row in found.enough] == ["targets"]
    found = overfitting(0.3, {"inputs": 0.29})
    assert found.beside(found.replaced[0]).error == 0.3 and not found.better


def test_the_share_that_a_change_closes_is_that_of_the_gap_beside_it():
    """From 0.75 at the same step, and not from 1 at the end: (0.75 - 0.2) / (0.75 - 0.1)."""
    found = overfitting(1.0, {"optimizer": 0.2, "inputs": 0.4})
    found.good = row("everything", 0.1)
    shares = [found.closed(change) for change in found.replaced]
    assert shares == pytest.approx([0.55 / 0.65, 0.35 / 0.65])
    assert [change.part for change in found.enough] == ["optimizer"]
    assert found.nearest is found.replaced[1]


def test_a_change_that_is_nearly_enough_is_told_with_its_share():
    found = evidence(1.0, kept={"optimizer": 0.9}, replaced={"optimizer": 0.37, "inputs": 0.9})
    trial = SimpleNamespace(evidence=found, training=SimpleNamespace(data=None))
    said = "Nearly enough: optimizer closes 70 % of the gap; 80 % is enough."
    assert not_enough(trial) == said
    found.refused.append(found.replaced[1])
    assert not not_enough(trial)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (0.284, "Nearly enough: optimizer closes 79 % of the gap; 80 % is enough."),  # 79.6 %
        (0.1, ""),  # 100 %, so another condition fails
    ],
)
def test_a_change_is_called_nearly_enough_only_below_80_percent(error, said, monkeypatch):
    found = evidence(1.0, kept={"optimizer": 0.9}, replaced={"optimizer": error})
    monkeypatch.setattr(type(found), "is_enough", lambda self, row: False)
    trial = SimpleNamespace(evidence=found, training=SimpleNamespace(data=None))
    assert not_enough(trial) == said


def test_overfitting_is_told_with_the_step_at_which_to_stop():
    found = overfitting(1.0, {})
    trial = SimpleNamespace(evidence=found, base=found.base, fitted=0.24, race=found.race)
    assert [*notes_on_fit(trial)] == [
        "Overfitting: relative error 0.24 on training examples; its lowest error was 0.75 at step "
        "75: stop there."
    ]
    trial.training = SimpleNamespace(data=None)
    assert not not_enough(trial)
    found.base.measures.pop(0)
    assert [*notes_on_fit(trial)] == ["Overfitting: relative error 0.24 on training examples."]


@pytest.mark.parametrize("fitted", [0.95, 1e6, math.inf, math.nan])
def test_a_training_that_does_not_fit_its_own_examples_is_not_called_overfitting(fitted):
    found = evidence(2e6)
    trial = SimpleNamespace(evidence=found, base=found.base, fitted=fitted, race=found.race)
    assert not [*notes_on_fit(trial)]
    found.few, trial.few, trial.validated = "4 examples are held out", "4 are", 3e6
    assert [*notes_on_fit(trial)] == ["These are errors on training examples: 4 are."]


ALL_TRIED = {"inputs": 0.9, "targets": 0.95, "optimizer": 0.8, "network": 1.0}


@pytest.mark.parametrize(
    ("good", "replaced", "kept", "words"),
    [
        (0.1, ALL_TRIED, {}, "No single part is enough: several act together."),
        (
            0.1,
            ALL_TRIED,
            {"inputs": 0.9, "network": 0.7, "optimizer": 0.2},
            "No single part is enough: your inputs, network together.",
        ),
        (
            0.1,
            {"inputs": 0.9, "network": 1.0},
            {"inputs": 0.9, "network": 0.7},
            "No single replacement is enough; not tried: targets, optimizer.",
        ),
        (0.3, ALL_TRIED, {"inputs": 0.9, "network": 0.9}, ""),  # it has not learned well itself
    ],
)
def test_parts_act_together_only_if_each_was_replaced(good, replaced, kept, words):
    found = evidence(1.0, good=good, kept=kept, replaced=replaced)
    known = SimpleNamespace(differing=["inputs", "optimizer"], without_replacement=["targets"])
    trial = SimpleNamespace(evidence=found, good=known, training=SimpleNamespace(data=None))
    trial.not_tried = Trial.not_tried.fget(trial)
    assert not_enough(trial) == words


def test_parts_without_time_are_counted_once():
    found = evidence(1.0, kept={"inputs": 0.9, "loss": 0.9}, replaced={"inputs": 0.9, "order": 1})
    found.replaced += [row("optimizer", 0.9), row("optimizer", 0.8, done=False)]
    found.longer = row("length", 0.9, done=False)
    found.replaced.append(found.longer)
    found.kept["inputs"].done = found.replaced[0].done = False
    assert parts_without_time(found) == ["inputs", "optimizer"]


def test_a_part_that_is_enough_is_not_listed_as_cleared():
    found = evidence(1.0, kept={"optimizer": 0.1, "network": 0.1}, replaced={"optimizer": 0.1})
    trial = SimpleNamespace(evidence=found)
    assert [*notes_on_parts(trial, all_done=True)] == ["Cleared: your network."]


@pytest.mark.parametrize(
    ("kept", "replaced", "told"), [(0.9, 0.9, True), (0.9, 0.1, False), (0.1, 0.9, False)]
)
def test_initial_weights_that_break_and_have_no_repair_are_given_to_cure(kept, replaced, told):
    found = evidence(
        1.0,
        kept={"initial weights": kept},
        replaced={"initial weights": replaced, "network": 0.1},
    )
    sentences = [*notes_on_parts(SimpleNamespace(evidence=found), all_done=True)]
    assert any("`cure` tries others" in words for words in sentences) is told


FAULT = {"kept": {"network": 0.9}, "replaced": {"network": 0.12}}
TRIED = {"kept": {"network": 0.9}, "replaced": {"network": 0.9}}


@pytest.mark.parametrize(
    ("given", "confirmed", "words"),
    [
        ({"base": 1.0, **FAULT}, True, ""),
        ({"base": 1.0, **FAULT}, False, "confirm this in two further minibatch orders."),
        (
            {"base": 1.0, **TRIED},
            False,
            "show a part at fault: no time was left to end the runs of 1 part (loss).",
        ),
        ({"base": 1.0, **TRIED, "good": 1.0}, False, "show a change that is enough: no time"),
        ({"base": 1.0, **TRIED, "few": "4 examples are held out"}, False, ""),
        ({"base": 1.0, **TRIED, "whole": False}, False, ""),  # said by another sentence
        ({"base": 0.7, **TRIED}, False, "show a change that halves the error: no time"),
        ({"base": 0.7, **TRIED, "whole": False}, False, "show a change that halves the error"),
        ({"base": 0.7, "good": 0.5, **FAULT}, False, ""),  # it learns little, and no part could be
        ({"base": 0.05, **TRIED, "good": 0.04}, False, ""),
    ],
)
def test_more_seconds_are_asked_only_if_they_could_change_the_verdict(given, confirmed, words):
    """Each case by the table of rules: what a row that is not finished could show."""
    found = evidence(**given)
    trial = SimpleNamespace(evidence=found, confirmed=found.at_fault if confirmed else [])
    trial.next_fault = partial(Trial.next_fault, trial)
    trial.may_show_fault = Trial.may_show_fault.fget(trial)
    said = [*notes_on_time(trial, ["loss"])]
    assert len(said) == bool(words) and all(f"More seconds could {words}" in s for s in said)


def test_a_training_that_learns_is_no_better_known_at_fewer_steps():
    found = evidence(0.7, **TRIED, whole=False)
    trial = SimpleNamespace(evidence=found, confirmed=[], next_fault=lambda: None)
    said = "More seconds could show a change that halves the error: the changes ran to step 100."
    assert [*notes_on_time(trial, [])] == [said]


def test_an_explosion_diverges_and_counts_as_a_constant():
    found = evidence(1.0, kept={"optimizer": 0.9}, replaced={"optimizer": 0.12})
    found.base.exploded = 7
    assert rule_of(found).outcome == "diverges"
    assert found.gap == pytest.approx(0.9) and faults(found) == ["optimizer"]


def of_two_scores(base, good, **loss):
    """Evidence of a training with an error and a loss, (error, loss) each."""
    found = evidence(1.0)
    found.race.scores = {"error": score(), "loss": score(**loss)}
    found.base, found.good = row("", base[0], loss=base[1]), None
    found.take(row("everything", good[0], loss=good[1]))
    return found


@pytest.mark.parametrize(
    ("base", "good", "by"),
    [
        ((1.0, 1.0), (0.1, 0.1), "error"),
        ((1.0, 1.0), (1.0, 0.4), "loss"),
        ((1.0, 0.4), (1.0, 0.4), "loss"),  # no gap, and it learns
        ((1.0, 1.0), (1.0, 1.0), "error"),
    ],
)
def test_rows_are_compared_by_the_score_that_shows_something(base, good, by):
    found = of_two_scores(base, good)
    assert found.by == by
    assert found.shown(found.good) == good[by == "loss"]


@pytest.mark.parametrize(
    ("base", "change", "by", "outcome"),
    [
        ((0.54, 0.96), (0.45, 0.47), "loss", "learns little"),
        ((0.54, 0.96), (0.45, 0.5), "loss", "learns"),
        ((0.54, 0.96), (0.45, 0.8), "loss", "learns"),
        ((0.54, 0.6), (0.45, 0.5), "error", "learns"),
        ((0.96, 0.6), (0.45, 0.5), "error", "learns little"),
    ],
)
def test_a_change_that_halves_the_score_by_which_a_training_lags_is_enough(
    base, change, by, outcome
):
    found = of_two_scores(base, (0.43, 0.4))
    found.replaced = [row("optimizer", change[0], loss=change[1])]
    assert (found.by, rule_of(found).outcome) == (by, outcome)
    assert bool(found.enough) == (outcome == "learns little") and not found.at_fault


def test_a_loss_just_above_nine_tenths_is_no_lag_if_no_run_halves_it():
    """Of several labels for each example: "learns little" of a run that nothing improves much."""
    found = of_two_scores((0.84, 0.91), (0.81, 0.87))
    found.replaced = [row("network", 0.81, loss=0.85)]
    assert rule_of(found).outcome == "learns" and not found.enough


def test_a_loss_without_a_least_value_shows_nothing_beside_an_error():
    lower = (1.02, 0.4), (1.0, 0.1)
    assert rule_of(of_two_scores(*lower)).outcome == "learns"
    found = of_two_scores(*lower, void="the loss has no least value", least=-math.inf)
    assert found.names == ["error"] and not found.gap
    assert rule_of(found).outcome == "does not learn"


def test_errors_below_their_supposed_least_value_are_not_compared():
    found = evidence(1.0, kept={"network": 0.9}, replaced={"network": 0.12})
    found.race.scores["error"] = score("the loss falls below what was found as its least value")
    assert not found.gap and not found.at_fault and not found.better
    assert rule_of(found).outcome == "undecided"
    found.base.measures[0].pairs["error"] = row("", 0.5).measures[0].pairs["error"]
    found.base.measures[0].relative["error"] = math.inf
    assert rule_of(found).words == "learns"
    trial = SimpleNamespace(evidence=found, base=found.base, fitted=math.inf, race=found.race)
    assert [*notes_on_fit(trial)] == [
        "Errors are not compared: the loss falls below what was found as its least value."
    ]


def test_another_score_changes_no_outcome_and_is_told_with_both_errors():
    """Of classes weighted: all classes alike from 0.75 to 0.19, all examples from 0.81 to 0.88."""
    found = evidence(0.81, good=0.7)
    for change, error, alike in ((found.base, 0.81, 0.75), (None, 0.88, 0.19)):
        made = change or row("loss", error)
        made.measures[0].relative["balanced"] = alike
        made.measures[0].pairs["balanced"] = row("", alike).measures[0].pairs["error"]
        if change is None:
            made.version = Version("loss", "classes weighted", by="balanced")
            found.replaced.append(made)
    assert rule_of(found).outcome == "learns" and not found.better and not found.enough
    trial = SimpleNamespace(evidence=found, base=found.base, confirmed=[], good=KNOWN)
    assert [cause.sentence for cause in causes_shown(trial)] == [
        "In one run with classes weighted, the relative error with all classes weighted equally "
        "goes from 0.75 to 0.19, and the relative error of all examples from 0.81 to 0.88."
    ]
    own = TableRow("loss", "classes weighted", 0.19, 100, 0.0, by="balanced")
    assert not Diagnosis(outcome="learns", rows=(own,)).by_part


def test_a_run_that_learns_then_overfits_is_compared_at_its_lowest_error():
    """Stopping at that step repairs as much as the change does."""
    found = overfitting(1.2, {})
    found.replaced, found.good = [row("optimizer", 0.6)], row("everything", 0.55)
    found.kept["optimizer"], found.fitted = row("optimizer", 1.2), 0.8
    assert rule_of(found).outcome == "does not learn" and found.at_fault
    found.fitted = 0.3
    assert rule_of(found).words == "learns, then overfits"
    assert rule_of(found).outcome == "learns" and not found.at_fault
    assert found.beside(found.good).error == 0.75 and not found.enough
    never = evidence(1.2)
    never.fitted = 0.3
    assert rule_of(never).outcome == "does not learn"


def test_the_step_of_the_lowest_error_is_judged_on_other_examples_than_it_is_chosen_on():
    """Of many steps without any gain, one has a low error by chance."""
    g = torch.Generator().manual_seed(0)
    ones = torch.ones(60).double()
    alike = [PairedErrors(1 + torch.randn(60, generator=g).double(), ones) for _ in range(100)]
    assert any(paired.below() for paired in alike) and not once_below(alike)
    assert once_below([*alike, PairedErrors(0.1 * NOISE[:60], ones)])
