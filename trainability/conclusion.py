"""What the experiments of `check` show: outcome, causes, table rows, and sentences beside them."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rhn.utils.wording import counted, listed
from trainability.candidates import DEFAULT
from trainability.cause import Cause
from trainability.data import count_of
from trainability.diagnosis import IN_GOOD, YOURS, Diagnosis, TableRow
from trainability.race import CLEAR, GOOD, Row, Version
from trainability.scores import DEAD
from trainability.sentences import shown
from trainability.swaps import LONGER, are_drawn_as_by_default
from trainability.trial import Trial, place_of
from trainability.verdict import ENOUGH, Evidence, is_overfitting, rule_of

WHERE = {"own loop": " in a plain loop", "running averages": " in evaluation mode"}
"""Words added to the outcome if the user's losses or running averages show a cause, by its name."""
ANOTHER_DRAW = (
    "Your initial weights are drawn alike, so the result depends on the draw. Train with several "
    "seeds."
)
WEIGHTS = "initial weights"
ONE_ORDER = "Seen in one minibatch order."
LOOK = "Look for the error in the network: its layers, axes, states, dropout and outputs."


def conclusion(trial: Trial, told: Cause | None, given: dict[str, Any]) -> Diagnosis:
    """Return the result: outcome, part, causes and rows.

    told: the cause that the user's own losses, the running averages, single examples or the
    validation set reveal; None if they reveal none.
    """
    base, evidence = trial.base, trial.evidence
    rule = rule_of(evidence)
    where = WHERE.get(told.name, "") if told is not None else ""
    seen = [told] if told is not None else [*causes_shown(trial)]
    if told is not None:
        part: str | None = told.part
    else:
        part = next((row.part for row in evidence.at_fault), None)
    good, has_loss = evidence.good, "loss" in evidence.names
    is_cut = good is not None and good.steps == evidence.steps < evidence.of_steps
    return Diagnosis(
        **given,
        outcome=rule.outcome,
        words=rule.words + where,
        error=base.error,
        lowest=(base.lowest.steps, base.lowest.error) if evidence.overfits else None,
        loss=base.value("loss") if has_loss else math.nan,
        loss_name=trial.race.scores["loss"].name if has_loss else "loss",
        measure=measure_of(trial),
        few=trial.race.few,
        known_good=math.nan if good is None else good.error,
        known_good_loss=math.nan if good is None or not has_loss else good.value("loss"),
        known_good_stopped=evidence.steps if is_cut else None,
        learnable=evidence.learnable,
        by=evidence.by,
        steps=base.steps,
        of_steps=trial.training.steps,
        orders=tuple(row.error for row in trial.orders),
        part=part,
        causes=(*trial.found, *seen),
        facts=tuple(trial.found),
        remarks=() if told is not None else tuple(notes_of(trial)),
        rows=tuple(rows_of_table(trial)),
        left_out=tuple(trial.left_out),
    )


def measure_of(trial: Trial) -> str:
    """Return what the error of a check compares, see `Score.meaning`. If errors are not compared,
    the losses of the user's first and last minibatch are added.
    """
    score, losses = trial.race.scores["error"], trial.base.losses
    if score.kind != "loss" or not score.refused or not losses:
        return score.meaning
    ends = f"your loss went from {losses[0]:.3g} to {losses[-1]:.3g}"
    return f"{score.meaning}; {ends}, first and last minibatch"


def rows_of_table(trial: Trial) -> Iterator[TableRow]:
    """Yield all rows: the user's training run, known good runs, the user's parts in the known
    good run, and the replacements.
    """
    evidence = trial.evidence
    yield table_row(trial, trial.base, YOURS, "")
    for row in trial.goods:
        if evidence.kept.get("network") is not row:
            row = replace(row, version=replace(row.version, part="everything"))
            yield table_row(trial, row, IN_GOOD, "")
    for part in sorted(evidence.kept, key=lambda part: (part != "network", place_of(part))):
        row = evidence.kept[part]
        what = row.what if part == row.part else f"your {part}"
        row = replace(row, version=Version(part, what))
        yield table_row(trial, row, IN_GOOD, evidence.word_of_kept(part))
    for row in (*evidence.replaced, *trial.layers):
        yield table_row(trial, row, YOURS, evidence.word_of(row))
    if evidence.naive is not None:
        yield table_row(trial, evidence.naive, YOURS, "")


def table_row(trial: Trial, row: Row, training: str, word: str) -> TableRow:
    """Return a row of the table for a trained row."""
    by = trial.evidence.by if row.by == "error" else row.by
    other = trial.evidence.good if training == IN_GOOD else trial.evidence.beside(row, by)
    deviation = 0.0
    if other is not None and row.measures and row not in (trial.base, other):
        deviation = trial.race.difference(other, row, by)[1]
    return TableRow(
        row.part,
        row.what,
        row.value(by),
        row.steps,
        deviation,
        training,
        word,
        finished=row.done or row.training is None,
        curve=tuple((measure.steps, measure.relative[by]) for measure in row.measures),
        by=by,
    )


def causes_shown(trial: Trial) -> Iterator[Cause]:
    """Yield what the rows show: the parts at fault, other changes that are enough, and changes
    that are better.
    """
    evidence = trial.evidence
    enough = evidence.enough
    at_fault = {row.part: cause_of_fault(trial, row) for row in evidence.at_fault}
    yield from at_fault.values()
    for row in enough:
        if row.part not in at_fault:
            by = evidence.race.scores[evidence.by].name
            reached = f"relative {by} {shown(evidence.shown(row))}"
            # a known good network standardises its inputs
            alone = "" if row.version == trial.good.network else " by itself"
            said = f"Enough{alone}: {row.what}, {reached}."
            if is_another_draw(trial, row):
                said = f"Another draw of your initial weights reaches {reached}."
            yield Cause("enough", row.part, said, remedy_of(trial, row))
    better = [row for row in evidence.better if not enough or row is evidence.naive]
    for row in better[:1]:
        said = f"Better: {row.what}, {shown(trial.base.error)} to {row.error:.2f}."
        yield Cause("better", row.part, said, remedy_of(trial, row))
    for row in evidence.by_other_scores:
        before, after = shown(trial.base.value(row.by)), shown(row.error)
        own = f"{shown(trial.base.error)} to {shown(row.value('error'))}"
        said = (
            f"In one run with {row.what}, the relative error with all classes weighted equally "
            f"goes from {before} to {after}, and the relative error of all examples from {own}."
        )
        yield Cause("all classes alike", row.part, said, row.version.remedy)


def remedy_of(trial: Trial, row: Row) -> str:
    """Return what to do about a row that helps. Another draw of the user's own weights is no
    repair.
    """
    return ANOTHER_DRAW if is_another_draw(trial, row) else row.version.remedy


def is_another_draw(trial: Trial, row: Row) -> bool:
    """True if a row has torch's initial weights, and the user's are drawn like them."""
    return row.what == DEFAULT and are_drawn_as_by_default(trial.training)


def cause_of_fault(trial: Trial, row: Row) -> Cause:
    """Return the cause for a part at fault: its replacement is enough, and the user's part
    breaks the known good run.
    """
    evidence, part = trial.evidence, row.part
    kept = evidence.kept[part]
    good = "" if evidence.good is None else f"from {shown(evidence.shown(evidence.good))} "
    reached, broken = evidence.shown(row), evidence.shown(kept)
    ends = f"goes {good}to {shown(broken)}" if math.isfinite(broken) else "diverges"
    seen = "Confirmed in three minibatch orders." if row in trial.confirmed else ONE_ORDER
    said = (
        f"The fault is in the {part}: with {row.what} your training run reaches "
        f"{shown(reached)}, and with your {part} the known good run {ends}. {seen}"
    )
    remedy = remedy_of(trial, row)
    if row.version == trial.good.network:
        remedy = f"{LOOK} {remedy}"
    numbers = {"enough": reached, "needed": broken}
    return Cause(part, part, said, remedy, sure=row in trial.confirmed, evidence=numbers)


def notes_of(trial: Trial) -> Iterator[str]:
    """Yield sentences about the table that are no causes."""
    evidence = trial.evidence
    if evidence.learned:
        yield from filter(None, (trial.padding, trial.outputs))
    if trial.one_by_one is not None and trial.one_by_one.sentence:
        yield trial.one_by_one.sentence
    for row in filter(evidence.is_enough, trial.layers):
        yield f"With only {row.what}: {evidence.shown(row):.2f}."
    yield from notes_on_fit(trial)
    if evidence.breaking and not evidence.at_fault:
        yield note_on_steps(evidence)
    unfinished = parts_without_time(evidence)
    if evidence.tried and not evidence.learned:
        yield from notes_on_parts(trial, all_done=not unfinished)
    yield from notes_on_time(trial, unfinished)


def parts_without_time(evidence: Evidence) -> list[str]:
    """Return the parts of the table for which the time was too short to end all rows."""
    rows = (row for row in evidence.tried if not row.done and row is not evidence.longer)
    return sorted({row.part for row in rows}, key=place_of)


def note_on_steps(evidence: Evidence) -> str:
    """Return the sentence for a training run that learns, and may only need more steps."""
    longer, no_part = evidence.longer, "No part is called at fault"
    if longer is None or not longer.done:
        steps = LONGER * evidence.steps
        return f"{no_part} before your training run has run to step {steps:,}: give more seconds."
    reached = f"reaches {shown(evidence.shown(longer))} at step {longer.steps:,}"
    return f"{no_part}: your training run {reached}."


def notes_on_time(trial: Trial, unfinished: list[str]) -> Iterator[str]:
    """Yield how the verdict could change with more time; nothing if it could not.

    unfinished: the parts for which the time was too short.
    """
    evidence = trial.evidence
    if trial.next_fault() is not None:
        if not trial.confirmed:
            yield "More seconds could confirm this in two further minibatch orders."
        return
    gain = gain_of_time(trial)
    if gain and unfinished:
        parts = f"{counted(len(unfinished), 'part')} ({listed(unfinished)})"
        yield f"More seconds could {gain}: no time was left to end the runs of {parts}."
    elif gain and not evidence.whole:
        yield f"More seconds could {gain}: the changes ran to step {evidence.steps:,}."


def gain_of_time(trial: Trial) -> str:
    """Return what more time could show beyond the verdict; "" if nothing, or if other sentences
    state it.
    """
    evidence = trial.evidence
    if evidence.breaking or evidence.few or not evidence.tried:
        return ""
    if not evidence.learned:
        named = "a part at fault" if trial.may_show_fault else "a change that is enough"
        return f"show {named}" if evidence.whole else ""
    if rule_of(evidence).outcome == "learns little":
        return "show a part at fault" if trial.may_show_fault else ""
    may_halve = evidence.base.error > GOOD or evidence.lags
    return "show a change that halves the error" if may_halve else ""


def notes_on_parts(trial: Trial, *, all_done: bool) -> Iterator[str]:
    """Yield which parts are cleared, and why no part is shown to be at fault."""
    evidence = trial.evidence
    enough = {row.part for row in evidence.enough}
    if cleared := [part for part in evidence.kept if evidence.cleared(part) and part not in enough]:
        yield f"Cleared: your {listed(cleared)}."
    if evidence.breaks(WEIGHTS) and WEIGHTS not in enough:
        yield "Your initial weights break the known good run: `cure` tries others."
    if not evidence.enough and all_done and (words := not_enough(trial)):
        yield words
    for row in evidence.refused:
        yield f"Not enough in another minibatch order: {row.what}."
    if not (evidence.whole or evidence.few):
        before = shown(evidence.shown(evidence.before))
        yield (
            f"The changes run to step {evidence.steps:,} at most, where the error of your training "
            f"run is {before}. No part is called at fault before they run to the end: give more "
            "seconds."
        )


def not_enough(trial: Trial) -> str:
    """Return the sentence for a table in which no row is enough; "" if nothing follows from it."""
    evidence, data = trial.evidence, trial.training.data
    if evidence.came_near:
        return ""
    if evidence.gap:
        if evidence.refused:
            return ""
        if nearest := evidence.nearest:
            share = evidence.closed(nearest)
            if share >= ENOUGH:  # it fails another condition, such as two standard errors
                return ""
            percent = min(79, round(100 * share))
            return f"Nearly enough: {nearest.what} closes {percent} % of the gap; 80 % is enough."
        return no_single_part(trial)
    tried = (*trial.goods, *evidence.replaced)
    if evidence.few or any(row.error < DEAD for row in tried):
        return ""
    count = counted(sum(count_of(pair, data.axis) for pair in data.trained), "example")
    steps = counted(trial.steps, "step")
    words = f"No replacement brings the error below {DEAD:g} ({count}, {steps})."
    noise = " If the targets are mostly noise, no network can."
    return words if trial.found else words + noise  # a proven fact may be the reason


def no_single_part(trial: Trial) -> str:
    """Return the sentence for a gap that no replacement closes by half; "" if the known good run
    has not learned well, since its parts may then be at fault too.

    Parts act together only if each of them was replaced.
    """
    evidence = trial.evidence
    if not evidence.learnable or evidence.good is None or evidence.error(evidence.good) > GOOD:
        return ""
    if not_tried := trial.not_tried:
        return f"No single replacement is enough; not tried: {listed(not_tried)}."
    broken = [part for part in evidence.kept if evidence.breaks(part)]
    which = f"your {listed(broken)}" if len(broken) > 1 else "several act"
    return f"No single part is enough: {which} together."


def notes_on_fit(trial: Trial) -> Iterator[str]:
    """Yield sentences on the error on training examples, such as overfitting."""
    base, fitted = trial.base, trial.fitted
    words = trial.evidence.void
    if words and words not in trial.race.scores["error"].meaning:  # else the first line says so
        yield f"Errors are not compared: {words}."
    if "loss" in trial.evidence.names and (words := trial.race.scores["loss"].note):
        yield words
    if trial.evidence.few:
        yield f"These are errors on training examples: {trial.few}."
        if is_overfitting(fitted, trial.validated):
            yield f"Overfitting: relative error {shown(trial.validated)} on your validation set."
        return
    if trial.evidence.void:
        return
    if is_overfitting(fitted, base.error):
        lowest = base.lowest
        mean, deviation = trial.race.difference(base, lowest)
        said = f"Overfitting: relative error {shown(fitted)} on training examples"
        if mean > CLEAR * deviation:
            reached = f"{shown(lowest.error)} at step {lowest.steps:,}"
            said += f"; its lowest error was {reached}: stop there"
        yield f"{said}."
    elif base.measures and rule_of(trial.evidence).outcome == "undecided":
        held = counted(trial.held_out, "held-out example")
        known = f"; on training examples the error is {shown(fitted)}"
        yield f"Undecided by {held}{'' if math.isnan(fitted) else known}."
