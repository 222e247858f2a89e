"""The rules of a check: what the rows of the table show, and in which words.

`Evidence` has the measurements. `RULES` is the table of outcomes; the first one that holds counts.

| share of the gap                                             | word     |
|--------------------------------------------------------------|----------|
| with a part replaced, the user's run closes at least 80 %    | enough   |
| with the user's part, the known good run loses at least half | breaks   |
| with the user's part, it loses less than a fifth             | cleared  |
| both enough and breaks                                       | at fault |

The gap is the error of the user's training run, counted as 1 if it is larger, minus that of the
best known good run. If no known good run learns, the gap is measured from the best change of the
user's run, and no part is at fault. Differences must be at least two standard errors.

A row that stops early is compared with the user's run at the same step or at its end, whichever
error is lower. If the user's run learns, and more steps alone halve its error, no part is at fault.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from rhn.errors import InvalidInputError
from rhn.utils.wording import counted
from trainability.cause import Cause
from trainability.data import (
    Batches,
    Examples,
    Inputs,
    Pair,
    count_of,
    in_minibatches,
    inputs_of,
    numbers_like,
    sequence_of,
    with_sequence,
)
from trainability.diagnosis import AT_FAULT
from trainability.race import CLEAR, GOOD, Race, Row, Version
from trainability.scores import DEAD, MINIBATCHES, score_for
from trainability.sentences import shown
from trainability.swaps import scale_of
from trainability.training import averaging_layers

ENOUGH, BREAKS, CLEARED = 0.8, 0.5, 0.2  # shares of the gap
NEAR = 0.05  # of the gap: a row that is so near to the known good error stops
BETTER, FAULT = 0.5, 0.1  # of the error of a training run that learns
LAST = 10  # the last tenth of the losses counts
FAR = 0.7  # of an error or a loss: at most this share of the other one is far below it
MEASURED = 16  # minibatches of a validation set, at most


@dataclass
class Evidence:
    """The rows of a check, and what they show.

    Args:
        race: the race that compares rows.
        base: the user's training run, unchanged.
        steps: number of steps of all other rows.
        of_steps: number of steps of the whole training run.
        few: why the held-out examples are too few; "" if they are not.
    """

    race: Race
    base: Row
    steps: int
    of_steps: int
    few: str = ""
    by: str = "error"
    """The score by which the gap is measured."""
    good: Row | None = None
    """The best known good training run."""
    replaced: list[Row] = field(default_factory=list)
    """Rows of the user's training run, each with one part replaced."""
    kept: dict[str, Row] = field(default_factory=dict)
    """Rows of the known good training run, each with one part of the user, by this part."""
    naive: Row | None = None
    """The row of a forecast without weights: the last value repeated."""
    refused: list[Row] = field(default_factory=list)
    """Changes that were not enough in another minibatch order."""
    longer: Row | None = None
    """The user's training run, trained for more steps."""
    fitted: float = math.nan
    """Error of the user's training run on training examples; NaN: not known."""

    @property
    def whole(self) -> bool:
        """True if all rows run for all steps of the training run."""
        return self.steps == self.of_steps

    @property
    def tried(self) -> list[Row]:
        """All rows with one part exchanged, in either training run."""
        return [*self.kept.values(), *self.replaced]

    # ---- the user's training run ---------------------------------------------------------------

    @property
    def before(self) -> Row:
        """The user's training run, after as many steps as all other rows have."""
        return self.base.at(self.steps)

    def beside(self, row: Row, by: str = "") -> Row:
        """Return the user's training run at the step at which a row is compared with it: after as
        many steps as the row has, or after the steps of all rows, whichever has the lower error. A
        run that learns, then overfits, is compared at its lowest error.

        by: the name of the score for this error; "": the score of the row.
        """
        own = [self.before, self.base.at(row.steps)]
        own += [self.base.lowest] if self.overfits else []
        return min(own, key=lambda base: base.value(by or row.by))

    @property
    def exploded(self) -> bool:
        """True if the loss of the user's training run became NaN or infinite."""
        return self.base.exploded is not None

    @property
    def learned(self) -> bool:
        """True if the user's training run learns: its error or loss is clearly below that of the
        constant predictor, or was so before it overfits.
        """
        return self._ends_below or self.overfits

    @property
    def _ends_below(self) -> bool:
        return any(self.race.beats_constant(self.base, name) for name in self.names)

    @property
    def overfits(self) -> bool:
        """True if the user's training run learns, then overfits: after some steps its error or loss
        was clearly below that of the constant predictor, and after all steps it is not.
        """
        if self.few or self.void or not is_overfitting(self.fitted, self.base.error):
            return False
        below = any(self.race.beat_constant(self.base, name) for name in self.names)
        return below and not self._ends_below

    @property
    def dead(self) -> bool:
        """True if error and loss of the user's run, after all steps, lie clearly above nine tenths
        of those of the constant predictor, or if all its outputs are equal.
        """
        ended = self.base.steps >= self.of_steps
        return ended and not (self.exploded or self.void) and all(map(self._is_dead, self.names))

    @property
    def shows_more(self) -> bool:
        """True if a run shows that there is something to learn, or if all outputs are equal.
        Otherwise the targets may be nearly all noise.
        """
        return bool(self.gap) or self.base.measures[-1].equal

    @property
    def barely(self) -> bool:
        """True if the user's training run learns, but ends above nine tenths of the error and loss
        of the constant predictor. False if errors are void.
        """
        high = all(self.base.value(name) > DEAD for name in self.names)
        return self.learned and high and not self.void

    def _is_dead(self, name: str) -> bool:
        last = self.base.measures[-1]
        return last.equal or last.pairs[name].above(DEAD)

    @property
    def names(self) -> list[str]:
        """The scores by which the user's training run is judged: "error", and "loss" unless it is
        void (see `Score.void`).
        """
        scores = self.race.scores
        return [
            name
            for name in ("error", "loss")
            if name in scores and (name == "error" or not scores[name].void)
        ]

    @property
    def void(self) -> str:
        """The reason why errors do not lie between 0 and 1: the loss falls below its supposed least
        value; "" if it does not.
        """
        return self.race.scores[self.by].refused

    def take(self, good: Row) -> None:
        """Keep the better of two known good training runs, and choose the score of the gap.

        The score of the gap is the first by which the user's run lags behind. If there is none, it
        is the first that shows a gap, or else the first by which the known good run learns.
        """
        if self.good is not None and self.good.error <= good.error:
            return
        self.good = good
        learns = [name for name in self.names if self.race.beats_constant(good, name)]
        shows = [name for name in learns if replace(self, by=name).gap]
        lags = [name for name in shows if replace(self, by=name).lags]
        self.by = next(iter((*lags, *shows, *learns)), "error")

    @property
    def lags(self) -> bool:
        """True if the user's run learns by one score, but by the score of the gap it lies above
        nine tenths of the constant predictor, and the known good run at half of that or below.
        """
        base = self.before
        others = [n for n in self.names if n != self.by and self.race.beats_constant(base, n)]
        learned = any(base.value(name) <= DEAD for name in others)
        return learned and base.value(self.by) > DEAD and self.good_comes_to(BETTER, self.by)

    @property
    def learnable(self) -> bool:
        """True if the best known good training run is clearly below the constant predictor."""
        return self.good is not None and self.race.beats_constant(self.good, self.by)

    def shown(self, row: Row) -> float:
        """Return the error of a row as in the table: by the score of the gap, or by the row's own
        score.
        """
        return row.value(self.by if row.by == "error" else row.by)

    @property
    def better(self) -> list[Row]:
        """The changes that halve the error of a training run that learns, the best first.

        If the run has learned well, only the forecast without weights (the repeated last frame) can
        be among these changes.
        """
        changes = [] if self.base.error <= GOOD else self.replaced
        rows = [row for row in (*changes, self.naive) if row is not None and row.by == "error"]
        found = [row for row in rows if self.comes_to(row, BETTER)]
        return sorted(found, key=lambda row: row.error)

    @property
    def by_other_scores(self) -> list[Row]:
        """The changes that halve the error in which all classes have equal weight."""
        rows = [row for row in self.replaced if row.by != "error"]
        return [r for r in rows if self.base.value(r.by) > GOOD and self.comes_to(r, BETTER)]

    def comes_to(self, row: Row, share: float, by: str = "") -> bool:
        """True if a row, after all steps, clearly reduces the error of the user's run to at most a
        share of it. by: the name of the score for this error; "": the score of the row.
        """
        if not (row.done or row.training is None) or self.void:
            return False
        base = self.beside(row, by)
        mean, deviation = self.race.difference(base, row, by)
        most = share * min(1.0, base.value(by or row.by))
        return row.value(by or row.by) <= most and mean > CLEAR * deviation

    def good_comes_to(self, share: float, by: str = "") -> bool:
        """True if the error of the best known good run is clearly at most `share` times that of the
        user's run, by a score as in `comes_to`.
        """
        return self.good is not None and self.comes_to(self.good, share, by)

    # ---- the gap, and its shares ---------------------------------------------------------------

    def error(self, row: Row) -> float:
        """Return the error of a row by the score of the gap, at most 1."""
        return min(1.0, row.value(self.by))

    @property
    def best(self) -> Row | None:
        """The run from which the gap is measured: the best known good run; if none learns, the best
        change of the user's run that learns.
        """
        if self.learnable:
            return self.good
        rows = [row for row in self.replaced if self._learns(row)]
        return min(rows, key=self.error, default=None)

    def _learns(self, row: Row) -> bool:
        """True if a change is clearly below the constant predictor, with a relative error of at
        most 0.9.
        """
        is_row = row.done and row.by == "error" and self.error(row) <= DEAD
        return is_row and self.race.beats_constant(row, self.by)

    @property
    def gap(self) -> float:
        """The error of the user's training run minus that of the best run; 0 if the best run is not
        clearly better.
        """
        best = self.best
        if best is None or self.void:
            return 0.0
        base = self.beside(best, self.by)
        mean, deviation = self.race.difference(base, best, self.by)
        if mean <= CLEAR * deviation:
            return 0.0
        return max(0.0, self.error(base) - self.error(best))

    @property
    def goal(self) -> float:
        """The error at which a row counts as good as the known good training run."""
        if self.good is None or not self.learnable or not self.gap:
            return -math.inf
        return self.error(self.good) + NEAR * self.gap

    @property
    def came_near(self) -> bool:
        """True if the user's training run was as good as the known good run after some steps."""
        return any(measure.relative[self.by] <= self.goal for measure in self.base.measures)

    def is_enough(self, row: Row) -> bool:
        """True if a change of the user's training run closes most of the gap.

        In two cases the change must also halve the error. The first is that the user's run learns
        by the score of the gap. The second is that the user's run may learn (an error of at most
        0.9) and no known good run learns; the gap is then that of this change.
        """
        if not row.done or row.by != "error" or row in self.refused:
            return False
        may_learn = not self.learnable and self.error(self.base) <= DEAD
        by = self.by if self.lags else ""
        if (self.learned or may_learn) and not self.comes_to(row, BETTER, by):
            return False
        mean, deviation = self.race.difference(self.beside(row, self.by), row, self.by)
        return self.closed(row) >= ENOUGH and mean > CLEAR * deviation

    def closed(self, row: Row) -> float:
        """Return the share of the gap that a change of the user's training run closes; NaN without
        a gap.

        The gap lies between the user's run that is compared with the change (see `beside`) and the
        best run. This gap counts as at least half of the whole gap.
        """
        best, base = self.best, self.error(self.beside(row, self.by))
        if best is None or not self.gap:
            return math.nan
        return (base - self.error(row)) / max(base - self.error(best), self.gap / 2)

    @property
    def nearest(self) -> Row | None:
        """The change that closes the largest share of the gap, at least half, without being enough;
        None if there is none.
        """
        rows = [row for row in self.replaced if row.done and row.by == "error"]
        near = [row for row in rows if self.closed(row) >= BREAKS and not self.is_enough(row)]
        return max(near, key=self.closed, default=None)

    def lost(self, row: Row | None) -> float:
        """Return the share of the gap that the known good run loses with a part of the user; NaN if
        this row was not run to its end.
        """
        if row is None or self.good is None or not (row.done and self.learnable and self.gap):
            return math.nan
        return (self.error(row) - self.error(self.good)) / self.gap

    def breaks(self, part: str) -> bool:
        """True if the known good run loses at least half of the gap with a part of the user."""
        row = self.kept.get(part)
        if row is None or self.good is None or not self.lost(row) >= BREAKS:
            return False
        if row.exploded is not None:
            return True
        mean, deviation = self.race.difference(row, self.good, self.by)
        return mean > CLEAR * deviation

    def cleared(self, part: str) -> bool:
        """True if the known good run loses less than a fifth of the gap with a part of the user."""
        return self.lost(self.kept.get(part)) < CLEARED

    @property
    def enough(self) -> list[Row]:
        """The changes that are enough, the smallest first."""
        return [row for row in self.replaced if self.is_enough(row)]

    @property
    def at_fault(self) -> list[Row]:
        """The parts at fault: for each, the smallest change that is enough.

        Empty for a training run that learns if more steps alone halve its error, or if no more
        steps were run.
        """
        return [] if self.learned and not self.is_stuck else self.breaking

    @property
    def is_stuck(self) -> bool:
        """True if the user's training run was continued for more steps, and they do not halve its
        error.
        """
        longer = self.longer
        return longer is not None and longer.done and not self.comes_to(longer, BETTER)

    @property
    def breaking(self) -> list[Row]:
        """For each part whose replacement is enough and which breaks the known good run, the
        smallest change that is enough.

        Empty if not all steps were run, or too few examples are held out. If the user's run learns,
        a change must also bring the error to a tenth.
        """
        if not self.whole or self.few:
            return []
        found: dict[str, Row] = {}
        for row in self.enough:
            if self.breaks(row.part) and (not self.learned or self.comes_to(row, FAULT)):
                found.setdefault(row.part, row)
        return [*found.values()]

    def word_of(self, row: Row) -> str:
        """Return the word in the table for a row in which a part was replaced."""
        if not self.is_enough(row):
            return ""
        return AT_FAULT if any(row.part == other.part for other in self.at_fault) else "enough"

    def word_of_kept(self, part: str) -> str:
        """Return the word in the table for a part of the user in the known good training run."""
        return "breaks" if self.breaks(part) else "cleared" if self.cleared(part) else ""


@dataclass(frozen=True)
class Rule:
    """A condition on the evidence, with its outcome and the words for it."""

    holds: Callable[[Evidence], bool]
    outcome: str
    words: str


RULES = (
    Rule(lambda e: e.exploded, "diverges", "diverges"),
    Rule(lambda e: not e.base.measures, "undecided", "is undecided: the time was up"),
    Rule(lambda e: bool(e.few), "undecided", "is undecided"),
    Rule(lambda e: e.overfits, "learns", "learns, then overfits"),
    Rule(
        lambda e: e.learned and e.whole and bool(e.better or (e.lags and e.enough)),
        "learns little",
        "learns little",
    ),
    Rule(lambda e: e.barely, "learns", "is hardly better than the constant predictor"),
    Rule(lambda e: e.learned, "learns", "learns"),
    Rule(lambda e: bool(e.at_fault), "does not learn", "does not learn"),
    Rule(lambda e: e.dead and e.shows_more, "does not learn", "does not learn"),
    Rule(lambda e: e.dead, "does not learn", "is not clearly better than the constant predictor"),
    Rule(lambda e: True, "undecided", "is undecided"),
)
"""The outcomes of a check: the first rule that holds counts."""


def is_overfitting(fitted: float, error: float) -> bool:
    """True if an error on held-out examples is not low, and that on training examples is at most
    half of it.
    """
    return fitted <= min(DEAD, BETTER * error) and error > GOOD


def rule_of(evidence: Evidence) -> Rule:
    """Return the first rule that holds."""
    return next(rule for rule in RULES if rule.holds(evidence))


def of_losses(losses: Sequence[float], base: Row, constant: float) -> Cause | None:
    """Return the cause "own loop" if the losses of the user's loop are far above those of a plain
    loop.

    The losses are compared at the last step that both have run; None if they are not far above.

    constant: the loss of the best constant output, from which gains are measured. If the plain loop
    is not clearly below it, gains are measured from the first loss.
    """
    count = min(len(losses), len(base.losses))
    if not count or base.exploded is not None:
        return None
    (theirs, spread), (ours, own) = end_of(losses[:count]), end_of(base.losses[:count])
    level = constant if constant - ours > CLEAR * own else base.losses[0]
    is_near = level - theirs >= FAR * (level - ours)
    if math.isfinite(theirs) and (is_near or theirs - ours <= CLEAR * math.hypot(spread, own)):
        return None
    last = lasting(count)
    of_steps = f"mean loss of the last {last:,} of {counted(count, 'step')}"
    return Cause(
        "own loop",
        "loop",
        f"The {of_steps if last > 1 else 'last loss'} is {theirs:.3g} in your loop, and {ours:.3g} "
        "in this plain loop.",
        "Look in the loop for a zero_grad() that is missing, that stands between backward() and "
        "step(), or that belongs to another model; for a step() that is missing; for an optimiser "
        "made anew at each step; for model.eval(); and for targets of another minibatch.",
        evidence={"yours": theirs, "plain": ours, "steps": count},
    )


def of_averages(base: Row, race: Race) -> Cause | None:
    """Return the cause "running averages" if the network is far better with the statistics of each
    minibatch; else None.
    """
    if base.training is None or base.exploded is not None or not base.measures:
        return None
    other = base.training.copy()
    if not averaging_layers(other.model):
        return None
    by_minibatch = Row(Version("network", "statistics of each minibatch"), None, steps=base.steps)
    race.add(by_minibatch, other.answers([x for x, _ in race.pairs], by_minibatch=True))
    mean, deviation = race.difference(base, by_minibatch)
    if by_minibatch.error > BETTER * min(1.0, base.error) or mean <= CLEAR * deviation:
        return None
    size = max(count_of(pair, base.training.axis) for pair in race.pairs)
    return Cause(
        "running averages",
        "network",
        f"In evaluation mode, with running averages, the relative error is {shown(base.error)}; "
        f"with the statistics of each minibatch, here of up to {size} examples, it is "
        f"{shown(by_minibatch.error)}.",
        "Look at the layers that keep averages, such as nn.BatchNorm1d: the averages must reach "
        "the statistics of your data within these steps. momentum=None takes the mean of all "
        "steps.",
        evidence={"evaluation": base.error, "minibatch": by_minibatch.error},
    )


def end_of(losses: Sequence[float]) -> tuple[float, float]:
    """Return (mean of the last tenth of some losses, its standard error; 0 for a single loss)."""
    last = torch.tensor(losses[-lasting(len(losses)) :], dtype=torch.double)
    spread = float(last.std()) if len(last) > 1 else 0.0
    return float(last.mean()), spread / math.sqrt(len(last))


def lasting(count: int) -> int:
    """Return the number of losses in the last tenth of `count` losses."""
    return max(1, count // LAST)


def validation_pairs(validation: Any, like: Tensor, axis: int) -> list[Pair]:
    """Return the minibatches of a validation set, which is (x, y) or a DataLoader."""
    if isinstance(validation, tuple | list) and len(validation) == 2:
        x, y = inputs_of(validation[0], like), numbers_like("y", validation[1], like)
        data = Examples(x, y, batch_size=1, axis=axis)
        parts = torch.arange(data.count).tensor_split(min(MEASURED, data.count))
        return [data.take(rows) for rows in parts]
    if isinstance(validation, Tensor):
        raise InvalidInputError("validation is a tensor, expected (x, y) or a DataLoader")
    return Batches(validation, like, seconds=5.0).all()[:MEASURED]


def of_validation(
    pairs: list[Pair],
    error: float,
    base: Row,
    race: Race,
    few: str,
    until: float = math.inf,
) -> Cause | None:
    """Return the cause for an error on the validation set that is far above that on the race's
    examples.

    None if the error is not far above, or not known. until: see `error_on`.

    few: why the race measures on training examples; "" if it measures on held-out examples. On
    training examples a higher error is overfitting, so only another scale of the validation inputs
    is reported.
    """
    if base.training is None or not base.error <= FAR * error:
        return None
    x = sequence_of(race.pairs[0][0])
    place = "training examples" if few else "held-out examples of your training data"
    words = f"The relative error is {error:.2g} on your validation set"
    words += f", and {base.error:.2g} on {place}"
    numbers = {"validation": error, "training" if few else "held_out": base.error}
    if x.is_floating_point() and x.dim() >= 2:
        moved = [(like_training(inputs, race.pairs[0][0], pairs), y) for inputs, y in pairs]
        other = error_on(base.training, race, moved, until)
        if other <= FAR * error:
            return Cause(
                "validation on another scale",
                "inputs",
                f"{words}. On the validation set it is {other:.2g} if the inputs are put on the "
                "scale of the training inputs.",
                "Prepare both sets alike: with the mean and deviation of the raw training set.",
                evidence=numbers | {"rescaled": other},
            )
    if few:
        return None
    return Cause(
        "other validation set",
        "data",
        f"{words}.",
        "Make both sets by the same code: the same ids, order of frames, scale and targets, and "
        "examples drawn at random from the same data.",
        evidence=numbers,
    )


def error_on(training: Any, race: Race, pairs: list[Pair], until: float = math.inf) -> float:
    """Return the relative error of a trained network on minibatches; NaN if it is not known, such
    as after the deadline `until`.

    The errors of whole minibatches are measured in the size of the race's minibatches.
    """
    if not race.scores["error"].by_example:
        axis = training.axis
        pairs = in_minibatches(pairs, count_of(race.pairs[0], axis), axis)
    outputs, targets = training.answers([x for x, _ in pairs]), [y for _, y in pairs]
    score = score_for(race.scores["error"], outputs[0], targets[:MINIBATCHES], until)
    if score.kind == "loss" and score.constant is None:
        return math.nan
    return score.in_pairs(outputs, targets).relative


def like_training(inputs: Inputs, like: Inputs, pairs: list[Pair]) -> Inputs:
    """Return inputs of a validation set, scaled to the mean and deviation of the training
    inputs.
    """
    every = torch.cat([sequence_of(x).flatten(0, -2) for x, _ in pairs])
    mean, spread = scale_of(every)
    target_mean, target_spread = scale_of(sequence_of(like))
    x = (sequence_of(inputs) - mean) / spread * target_spread + target_mean
    return with_sequence(inputs, x)
