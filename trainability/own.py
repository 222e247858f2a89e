"""What a user has measured: the losses of an own loop, and a validation set.

    cause = of_losses(losses, base)              # the loop, if the same training learns without it
    cause = of_validation(validation, base, race, like)

The training as given has been run before: it is the plain loop, and the held-out examples.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rhn.errors import InvalidInputError
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
from trainability.race import Race, Row
from trainability.swaps import scale_of

PART = 10  # the last tenth of the losses counts
FAR = 0.7  # of an error or a loss: at most this share of the other one is far below it
PARTS = 16  # minibatches of a validation set that are measured


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
        parts = torch.arange(data.count).tensor_split(min(PARTS, data.count))
        return [data.take(rows) for rows in parts]
    if isinstance(validation, Tensor):
        raise InvalidInputError("validation is a tensor, expected (x, y) or a DataLoader")
    return Batches(validation, like, seconds=5.0).all()[:PARTS]


def of_validation(pairs: list[Pair], base: Row, race: Race) -> Cause | None:
    """What differs between a validation set and the examples of the training."""
    if base.training is None or not base.measures:
        return None
    training = base.training
    error = error_on(training, race, pairs)
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
