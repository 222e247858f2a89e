"""The rules of a check: which version helps, the outcome, the part at fault, and its causes."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rhn.errors import InvalidInputError, RhnError
from trainability.data import (
    Batches,
    Examples,
    Inputs,
    Pair,
    inputs_of,
    numbers_like,
    sequence_of,
    with_sequence,
)
from trainability.diagnosis import Cause
from trainability.race import GOOD, Race, Row
from trainability.swaps import PARTS, scale_of

HELPS = 0.7  # of the error as given: a swap that comes to it, or below, helps
MOST_OF_IT = 0.75  # of the largest gain: the smallest change that brings it is named
MOST_ERROR = 10.0  # error that is as good as any larger one
CLEAR = 2.0  # times the steps: a forecast that is as far off decides
NEVER_MEANT = "mixed examples", "wrong gradient", "softmax twice"
# another network has other weights, its own optimiser and no dropout
REPLACED = {"network": ("network", "initial weights", "optimizer", "regularization")}
PART = 10  # the last tenth of the losses counts
FAR = 0.7  # of an error or a loss: at most this share of the other one is far below it
MEASURED = 16  # minibatches of a validation set, at most


def helps(race: Race, base: Row, row: Row) -> float:
    """The amount by which a row brings the error down; 0 unless by two standard errors, by 30 %,
    and below a constant answer's.
    """
    before = base.beside(row)
    if before is None or not race.beats_constant(row):
        return 0.0
    given = before.relative[row.by]
    mean, deviation = race.gain(base, row)
    if not row.error <= HELPS * given or mean < 2 * deviation:
        return 0.0
    return min(given, MOST_ERROR) - row.error


def verdict(race: Race, base: Row, rows: list[Row], found: Sequence[Cause] = ()) -> Row | None:
    """The smallest change that brings most of what the best one does, one that a fact explains
    first; None: no single one helps.
    """
    gains = [(helps(race, base, row), row) for row in rows if row.part != "everything"]
    gains = [(value, row) for value, row in gains if value > 0]
    if not gains:
        return None
    most = max(value for value, _ in gains)
    enough = [row for value, row in gains if value >= MOST_OF_IT * most]
    known = {fact.part for fact in found}
    explained = [row for row in enough if known & {*REPLACED.get(row.part, (row.part,))}]
    return min(explained or enough, key=lambda row: PARTS.index(row.part))


def never_meant(found: list[Cause]) -> Cause | None:
    """The first fact that is a fault in any network: nobody means it, as one may freeze weights."""
    return next((cause for cause in found if cause.name in NEVER_MEANT), None)


def outcome_of(
    base: Row, *, learned: bool, better: bool, steps: int, foreseen: float | None
) -> str:
    """The outcome of the training as given.

    Args:
        learned: whether its error is below that of a constant answer.
        better: whether some version does far better.
        steps: of the whole training. foreseen: the step at which half is explained, where not all
            steps were run; None: not known.
    """
    if base.exploded is not None:
        return "diverges"
    if base.steps < steps and not learned:
        if foreseen is None or steps / CLEAR < foreseen < steps * CLEAR:
            return "undecided"
        return "learns" if foreseen < steps else "does not learn"
    if not learned:
        return "does not learn"
    return "learns little" if better and base.error > GOOD else "learns"


def is_better(race: Race, base: Row, naive: Row) -> bool:
    """True if a training is below a forecast without weights by two standard errors."""
    mean, deviation = race.gain(naive, base)
    return mean > 2 * deviation


def of_losses(losses: Sequence[float], base: Row) -> Cause | None:
    """The loop, if the losses of the user's run end far above those of the plain loop."""
    if not losses or not base.losses or base.exploded is not None:
        return None
    count = len(losses)
    theirs, ours = end_of(losses), end_of(base.losses[:count])
    begin = base.losses[0]
    if math.isfinite(theirs) and begin - theirs >= FAR * (begin - ours):
        return None
    return Cause(
        "own loop",
        "loop",
        f"After {count:,} steps your loss is {theirs:.3g}, in a plain loop it comes to {ours:.3g}.",
        "Look in the loop for a missing optimizer.zero_grad() or step(), an optimiser or loss that "
        "is made in the loop, model.eval(), and another model than the one that is trained.",
        evidence={"yours": theirs, "plain": ours, "steps": count},
    )


def end_of(losses: Sequence[float]) -> float:
    """The mean of the last tenth."""
    last = max(1, len(losses) // PART)
    return sum(losses[-last:]) / last


def validation_pairs(validation: Any, like: Tensor, axis: int) -> list[Pair]:
    """Minibatches of a validation set: (x, y) of tensors, or a DataLoader."""
    if isinstance(validation, tuple | list) and len(validation) == 2:
        x, y = inputs_of(validation[0], like), numbers_like("y", validation[1], like)
        data = Examples(x, y, batch_size=1, axis=axis)
        parts = torch.arange(data.count).tensor_split(min(MEASURED, data.count))
        return [data.take(rows) for rows in parts]
    if isinstance(validation, Tensor):
        raise InvalidInputError("validation is a tensor, expected (x, y) or a DataLoader")
    return Batches(validation, like, seconds=5.0).all()[:MEASURED]


def of_validation(pairs: list[Pair], base: Row, race: Race) -> Cause | None:
    """The difference between a validation set and the examples of the training."""
    if base.training is None or not base.measures:
        return None
    training = base.training
    try:
        error = error_on(training, race, pairs)
    except RhnError as problem:
        raise InvalidInputError(f"validation: {problem}") from problem
    if not base.error <= FAR * error:
        return None
    x = sequence_of(race.pairs[0][0])
    words = (
        f"The error on your validation set is {error:.2g} of a constant answer's, on held-out "
        f"examples of the training {base.error:.2g}"
    )
    if x.is_floating_point() and x.dim() >= 2:
        moved = [(like_training(inputs, race.pairs[0][0], pairs), y) for inputs, y in pairs]
        other = error_on(training, race, moved)
        if other <= FAR * error:
            return Cause(
                "validation on another scale",
                "inputs",
                f"{words}; with its inputs on the scale of the training's, {other:.2g}.",
                "Scale the validation set by the mean and deviation of the training set.",
                evidence={"validation": error, "held_out": base.error, "rescaled": other},
            )
    return Cause(
        "other validation set",
        "data",
        f"{words}.",
        "Make both sets by the same code: the same ids, order of frames, scale and targets, and "
        "examples drawn at random from the same data.",
        evidence={"validation": error, "held_out": base.error},
    )


def error_on(training: Any, race: Race, pairs: list[Pair]) -> float:
    """Relative error of a trained network on minibatches."""
    score = race.scores["error"]
    outputs = training.answers([x for x, _ in pairs])
    errors = [score.errors(z, y) for z, (_, y) in zip(outputs, pairs, strict=True)]
    return score.relative(torch.cat(errors))


def like_training(inputs: Inputs, like: Inputs, pairs: list[Pair]) -> Inputs:
    """Inputs of a validation set with the mean and deviation of the training's."""
    every = torch.cat([sequence_of(x).flatten(0, -2) for x, _ in pairs])
    mean, spread = scale_of(every)
    target_mean, target_spread = scale_of(sequence_of(like))
    x = (sequence_of(inputs) - mean) / spread * target_spread + target_mean
    return with_sequence(inputs, x)


def cause_of_row(base: Row, row: Row, layer: Row | None = None) -> Cause:
    """The cause that a swap has shown; layer: the stand-in for one layer that does as well."""
    remedy = row.version.remedy
    before = base.beside(row)
    given = before.relative[row.by] if before else base.error
    sentence = (
        f"With {row.what} the error on held-out examples is {row.error:.2g} of a constant "
        f"answer's, without {given:.2g}."
    )
    if layer is not None:
        sentence += f" With {layer.what} alone it is {layer.error:.2g}."
        remedy = "Look for the error in that layer: what it reads, its axes, states and outputs."
    return Cause(
        row.version.cause or row.part, row.part, sentence, remedy, evidence={"error": row.error}
    )


def learned_by_heart(base: Row, known: float) -> Cause | None:
    """The cause of a training whose own examples have a far lower error (known) than held-out
    ones.
    """
    if known > FAR * base.error:
        return None
    return Cause(
        "learned by heart",
        "data",
        f"On examples of the training the error is {known:.2g} of a constant answer's, on held-out "
        f"ones {base.error:.2g}.",
        "Give it more examples, or fewer weights; see that targets belong to their inputs.",
        evidence={"error": base.error, "on the training's examples": known},
    )


def cause_of_data(base: Row, known: float) -> Cause:
    """The cause of a training that no swap helps: learned by heart, or nothing to be learned."""
    return learned_by_heart(base, known) or Cause(
        "data",
        "data",
        "No part that was exchanged helps, nor all at once: these targets do not follow from these "
        "inputs, as far as a GRU can tell.",
        "See that each target belongs to its input, and that the inputs hold what decides it.",
        evidence={"error": base.error},
    )


def cause_of_naive(base: Row, naive: Row) -> Cause:
    """The cause of a training that is no better than the last value repeated."""
    return Cause(
        naive.version.cause,
        naive.part,
        f"The last value of the inputs has an error of {naive.error:.2g} of a constant answer's on "
        f"held-out examples, the network {base.error:.2g}.",
        "Predict the change from the last value, y - x[:, -1], and compare with its error.",
        evidence={"naive": naive.error, "error": base.error},
    )
