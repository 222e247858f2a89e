"""Find outputs that are not learned although the error of all outputs together is low.

    words = note_on_outputs(training, race)    # sentences; "" if there is nothing to report

The squared errors of several numbers are added up, so the outputs of the largest scale determine
the error. Here each output has its own relative error, on the same held-out examples: 1 is the mean
of its training targets.

Legend: B examples, T frames, K outputs.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from rhn.errors import USERS_FAULT
from rhn.utils.wording import listed
from trainability.not_finite import SCALED_TARGETS
from trainability.race import GOOD, Race
from trainability.scores import DEAD, TINY, PairedErrors, Score
from trainability.sentences import shown
from trainability.training import Training

MOST = 16  # outputs that are measured one by one
WEIGHTED = "Give these targets a larger weight in the loss."
FAINT = GOOD  # share of the largest output: an error that counts as learned well may hide the rest


def note_on_outputs(training: Training, race: Race) -> str:
    """Return sentences if some outputs are learned and others are not clearly better than their
    means; else "".

    As for a whole training run, an output is learned if its error is clearly below that of the
    constant predictor. Outputs in between, with at most nine tenths of that error, are not named.
    """
    score, targets = race.scores["error"], [y for _, y in race.pairs]
    constant, count = score.constant, number_of_outputs(score, targets[0])
    if constant is None or count < 2:
        return ""
    outputs = training.answers([x for x, _ in race.pairs])
    varying = [k for k in range(count) if varies(targets, k)]
    errors = {k: errors_of(score, k, outputs, targets) for k in varying}
    high = [k for k in varying if DEAD < errors[k].relative < math.inf]
    dull = [k for k in high if not errors[k].below()]
    if not dull or not any(each.below() for each in errors.values()):
        return ""
    relative = listed([shown(errors[k].relative) for k in dull], MOST)
    said = f"{words_on_means(dull, count)} {relative}."
    try:
        costs = costs_of_means(score, constant, varying, outputs, targets)
    except USERS_FAULT:  # of a loss that does not take the targets as outputs
        return said
    return f"{said} {words_on_scales(dull, costs, errors)}".rstrip()


def words_on_means(dull: list[int], count: int) -> str:
    """Return the first sentence, before its numbers. count: number of all outputs."""
    names = f"{output_names(dull)} of {count}".capitalize()
    if len(dull) == 1:
        return f"{names} is not clearly better than its mean: relative error"
    return f"{names} are not clearly better than their means: relative errors"


def output_names(places: list[int]) -> str:
    """Return the names of some outputs, counted from 1.

    >>> output_names([0, 2])
    'outputs 1, 3'
    """
    names = listed([str(k + 1) for k in places], MOST)
    return f"output {names}" if len(places) == 1 else f"outputs {names}"


def number_of_outputs(score: Score, y: Tensor) -> int:
    """Return K for targets (B, K) or (B, T, K) that are numbers; 0 if there are no such outputs, or
    too many.
    """
    dims = y.dim()
    if score.kind != "numbers" or dims > 3 or dims < 2 + score.axes.for_each_frame:
        return 0
    return y.shape[-1] if score.axes.targets < dims - 1 and y.shape[-1] <= MOST else 0


def varies(targets: list[Tensor], k: int) -> bool:
    """True if the targets of an output are not all equal."""
    own = torch.cat([y[..., k].flatten() for y in targets]).double()
    return bool(own.std() > TINY * own.abs().max())


def errors_of(score: Score, k: int, outputs: list[Tensor], targets: list[Tensor]) -> PairedErrors:
    """Return the squared errors of one output, beside those of the mean of its targets."""
    constants = [None if known is None else known[k] for known in (score.constant, score.closest)]
    own = replace(score, constant=constants[0], closest=constants[1])
    answers = [score.answers(z, y)[..., k] for z, y in zip(outputs, targets, strict=True)]
    return own.in_pairs(answers, [y[..., k] for y in targets])


@torch.no_grad()
def costs_of_means(
    score: Score, means: Tensor, places: list[int], outputs: list[Tensor], targets: list[Tensor]
) -> dict[int, float]:
    """Return how far the loss rises if only one output has the mean of its targets and all others
    equal their targets, for the outputs at some places.
    """
    costs = dict.fromkeys(places, 0.0)
    for z, y in zip(outputs, targets, strict=True):
        right = float(score.loss_fn(y.reshape(z.shape).to(z), y))
        for k in places:
            at_mean = y.clone()
            at_mean[..., k] = means[k].to(y)
            costs[k] += float(score.loss_fn(at_mean.reshape(z.shape).to(z), y)) - right
    return costs


def words_on_scales(
    dull: list[int], costs: dict[int, float], errors: dict[int, PairedErrors]
) -> str:
    """Return a sentence and a remedy if some outputs that are not learned hardly change the loss;
    else "".

    costs: the result of `costs_of_means`.
    """
    largest = max(costs, key=lambda k: costs[k])
    faint = [k for k in dull if costs[k] <= FAINT * costs[largest]]
    if not faint or not 0 < costs[largest] < math.inf:
        return ""
    share = f"{100 * max(costs[k] for k in faint) / costs[largest]:.2g} %"
    beside = f"as much as output {largest + 1} at its mean"
    said = f"At its mean, {output_names(faint)} raises the loss only {share} {beside}."
    if len(faint) > 1:
        said = (
            f"At their means, {output_names(faint)} each raise the loss at most {share} {beside}."
        )
    is_small = max(errors[k].size for k in faint) <= FAINT * errors[largest].size
    return f"{said} {SCALED_TARGETS if is_small else WEIGHTED}"
