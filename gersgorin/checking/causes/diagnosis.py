"""All causes of a training: those of the network and its data before the first step, and those that
trials show.

`before` takes some passes over a minibatch. `after` reads the trials, and makes some of a repaired
training.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gersgorin.checking.causes import data, output, pairing, wiring
from gersgorin.checking.causes.case import Case, noted
from gersgorin.checking.causes.cause import Cause
from gersgorin.checking.causes.kept_out import Watch
from gersgorin.checking.causes.own_loop import own_losses
from gersgorin.checking.causes.pairing import CLEAR, explained, mispaired
from gersgorin.checking.causes.rates import LATE, exploding_start, explosion, still_falling, too_few
from gersgorin.checking.causes.repairs import Trials, improved, repaired
from gersgorin.checking.trials import Trial

if TYPE_CHECKING:
    from gersgorin.checking.prediction import TrainingCheck

CURE = "gersgorin.cure searches for initial weights from which it learns."
POOR = 0.5  # of the constant's loss on held-out examples: a training that learns little
Rows = Callable[[Case], Iterable[Cause]]


@dataclass(frozen=True)
class Row:
    """A measure of a cause."""

    measure: Rows
    risk: bool = False
    """True if healthy trainings may have it: then it is named only of a training that does not do
    well.
    """
    exact: bool = False
    """True if nothing but a mistake gives it: then it is sure if the training stays."""
    last: bool = False
    """True if another cause may have it as its consequence: then it is named only if no other is
    found.
    """
    slows: bool = False
    """True if a training with it may leave and learn little: then it is also named of one with
    `POOR` of the constant's loss or more on held-out examples.
    """
    refuted: bool = False
    """True if inputs that tell their targets as they are refute it: then it is named only if its
    repair helps.
    """


BEFORE = (  # the most harmful first
    Row(data.equal_targets),
    Row(output.constant_output),
    Row(wiring.unpaired_loss, exact=True),
    Row(output.no_gradient),
    Row(output.output_range),
    Row(output.labels_beyond),
    Row(output.negative_loss),
    Row(wiring.unrepeatable_output),
    Row(wiring.mixed_examples, exact=True),
    Row(wiring.cut_in_time, exact=True),
    Row(wiring.cut_partly, risk=True),
    Row(wiring.half_read, risk=True),
    Row(wiring.looks_ahead),
    Row(wiring.hidden_weights, exact=True),
    Row(wiring.softmax_of_one),
    Row(data.one_step),
    Row(data.equal_inputs),
    Row(output.softmax_twice),
    Row(output.bottleneck),
    Row(data.sorted_minibatches),
    Row(data.numbered_targets),
    Row(pairing.mixed_frames),
    Row(data.far_targets, risk=True),
    Row(data.raw_inputs),
    Row(data.missing_values, risk=True, refuted=True),
    Row(data.scaled_alone, risk=True, refuted=True),
    Row(data.padding, risk=True),
    Row(data.padded_outputs, exact=True),
    Row(data.padded_loss, risk=True),
    Row(data.imbalance, risk=True),
    Row(wiring.still_weights, risk=True, last=True),
    Row(wiring.wrong_gradient, risk=True, last=True, slows=True),
    Row(output.faint_output, risk=True, last=True),
)


def before(case: Case, end: float = math.inf) -> tuple[list[tuple[Row, Cause]], list[str]]:
    """(Causes with their rows, the most harmful first, to the first one that is sure; what could
    not be measured in words).

    end: moment of time after which no measure begins.
    """
    found: list[tuple[Row, Cause]] = []
    lacking = list[str]()
    for row in BEFORE:
        if any(cause.sure for _, cause in found):
            break
        name = row.measure.__name__.replace("_", " ")
        if time.monotonic() > end:
            lacking.append(f"{name}: the time ran out")
            continue
        with noted(lacking, name):
            found += [(row, cause) for cause in row.measure(case)]
    return found, lacking


def after(
    case: Case, found: list[tuple[Row, Cause]], check: "TrainingCheck", watch: Watch, trials: Trials
) -> tuple[list[Cause], list[Trial], float | None]:
    """(All causes, the surest first, further trials of the training at other learning rates, what a
    kernel regression explains).

    found: by `before`. check: what the trials showed.
    """
    well = check.outcome == "leaves" and check.escape_steps <= LATE * check.steps
    shifted, kept, share = _of_other_examples(case, check, watch, trials.lacking, well=well)
    by_heart = any(cause.name == "learned by heart" for cause in kept)
    own = [*own_losses(case, check.losses, check.trials[0])] if check.losses else []
    poor = bool(watch.readings) and 1 - watch.readings[-1].kept > POOR
    stays = check.outcome in ("stays", "explodes", "may leave") and not check.trials[0].cut
    causes = [
        replace(cause, sure=cause.sure or (row.exact and stays))
        for row, cause in found
        if not (row.risk and well and (row.last or not by_heart) and not (row.slows and poor))
        and not (row.last and len(found) > 1)
    ]
    # a mistake explains what was seen
    mistaken, tried = any(not row.risk for row, _ in found), list[Trial]()
    kept = [] if mistaken and by_heart else kept  # which is a consequence
    refuted = {cause.name for row, cause in found if row.refuted and (share or 0.0) > CLEAR}
    better = list[Cause]()
    explosions = [explosion(case, check.diverges_at)] if check.diverges_at < math.inf else []
    if not explosions and not well and (at := check.trials[0].jump) < math.inf:
        explosions = [replace(explosion(case, at), sure=False)]
    if not explosions and not well and check.reach is not None and check.reach.explodes:
        explosions = [exploding_start(check.reach)]
    if stays or check.outcome == "leaves, then explodes":
        likely, rates = causes + explosions, stays and not mistaken
        if not any(cause.sure for cause in causes + shifted):
            shown, tried = repaired(case, likely, trials, check.trials[0], rates=rates)
            names = {cause.name for cause in shown}
            # which has another cause
            explosions = [] if any(cause.sure for cause in shown) else explosions
            others = [cause for cause in causes + explosions if cause.name not in names]
            causes = shown + others if any(cause.sure for cause in shown) else others + shown
        else:
            causes += [replace(cause, sure=False) for cause in explosions]
    else:
        causes += explosions
        risks = [cause for row, cause in found if row.risk]
        repairable = watch.model is not None and not shifted
        better = [*improved(case, risks, trials, check.trials[0], watch)] if repairable else []
        better.sort(key=lambda cause: cause.evidence["better"])
        again = {cause.name for cause in better}
        causes = [cause for cause in causes if cause.name not in again] + better
        kept = [] if better else kept  # likewise
    causes = [
        cause for cause in causes if cause.sure or cause in better or cause.name not in refuted
    ]
    causes = [*own, *shifted, *causes, *kept]
    if not well and not causes:
        late = [too_few(check.steps, check.escape_steps)] if check.outcome == "leaves" else []
        causes += late or [*still_falling(check.trials[0])] or start(check)
    return sorted(causes, key=lambda cause: not cause.sure), tried, share


def _of_other_examples(
    case: Case, check: "TrainingCheck", watch: Watch, lacking: list[str], *, well: bool
) -> tuple[list[Cause], list[Cause], float | None]:
    """(Targets in other rows, what held-out examples show, what a kernel regression explains; None:
    not measured).
    """
    shares = explained(case, lacking) if watch.kept and not watch.generalises else {}
    shifted, matched = mispaired(case, shares, lacking), shares.get(0, 0.0) > CLEAR
    kept = [*watch.causes(well=well, matched=matched)]
    if any(cause.name == "learned by heart" for cause in kept):
        kept = [] if shifted else [*(start(check) if matched else ()), *kept]
    return shifted, kept, shares.get(0)


def start(check: "TrainingCheck") -> Iterator[Cause]:
    """A start whose gradient does not see a sequence."""
    if check.reach is not None and check.reach.blind and check.reach.warning:
        yield Cause(
            "short reach",
            check.reach.warning,
            CURE,
            {"seen": check.reach.seen, "frames": check.reach.frames},
        )
