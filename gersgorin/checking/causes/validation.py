"""Causes that only a user's validation set shows: a scale that is not that of the training, layers
that differ in evaluation mode.

Legend: m numbers of a frame.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from gersgorin._validate import random_numbers_kept
from gersgorin.checking.causes.case import Case
from gersgorin.checking.causes.cause import Cause, digits, listed
from gersgorin.checking.causes.data import onto, scale_of
from gersgorin.checking.causes.kept_out import ENOUGH, PARTS, Watch
from gersgorin.training.minibatches import (
    BATCH_SIZE,
    Batches,
    Examples,
    Pair,
    inputs_of,
    numbers_like,
    sequence_of,
    with_sequence,
)
from rhn.errors import InvalidInputError

MOST = 256  # examples, or 16 minibatches
# of the constant's loss in the training: a smaller one, as of a single class, is no measure
LEAST = 0.1
LOST = 0.5  # share of the gain on held-out examples: a validation set with less differs from them


def validation_pairs(case: Case, given: Any, seconds: float) -> list[Pair]:
    """Minibatches of a validation set: (x, y), a DataLoader or a list of batches. Raises
    InvalidInputError.
    """
    like = next(case.model.parameters())
    try:
        if isinstance(given, tuple) and len(given) == 2:
            x, y = inputs_of(given[0], like), numbers_like("y", given[1], like)
            data: Examples | Batches = Examples(x, y, BATCH_SIZE, case.axis)
        else:
            data = Batches(given, like, seconds)
        size = data.probe()[1].shape[case.target_axis]
        pairs = data.minibatches(max(PARTS, -(-MOST // size)))
        shapes, axis = [tuple(y.shape) for y in (pairs[0][1], case.y)], case.target_axis
        if len(shapes[0]) != len(shapes[1]):
            raise InvalidInputError(
                f"y has shape {shapes[0]}, expected one as in the training, {shapes[1]}"
            )
        if (number := sum(y.shape[axis] for _, y in pairs)) < ENOUGH:
            raise InvalidInputError(
                f"the number of its examples is {number}, expected {ENOUGH} or more"
            )
        case.loop.loss(copy.deepcopy(case.model).eval(), *pairs[0])
    except InvalidInputError as error:
        raise InvalidInputError(f"validation: {error}") from error
    return pairs


class Validation:
    """Losses of the network that a trial has trained, in evaluation mode, relative to that of a
    constant output.

    For classes that is the best one of the training, else the best one of the same examples.

    watch: with a reading, of held-out examples in training mode. pairs: of the validation set.
    """

    def __init__(self, case: Case, watch: Watch, pairs: list[Pair]):
        self.case, self.watch, self.pairs = case, watch, pairs
        self.loss, self.held_out = self._loss(pairs), self._loss(watch.kept)
        self.in_training = self._loss(watch.kept, training=True)
        """Of held-out examples in training mode."""

    def _loss(self, pairs: list[Pair], *, training: bool = False) -> float:
        loop, model = self.case.loop, copy.deepcopy(self.watch.model or nn.Module()).train(training)
        with torch.no_grad(), random_numbers_kept(model):
            outputs = [loop.output(model, x) for x, _ in pairs]
            losses = [loop.loss_fn(z, y).item() for z, (_, y) in zip(outputs, pairs, strict=True)]
        goals = [(z.shape, y) for z, (_, y) in zip(outputs, pairs, strict=True)]
        if self.case.regression:  # also of targets in another scale
            return (
                sum(losses)
                / len(losses)
                / max(loop.least_constant(goals)[2], LEAST * self.watch.constant.loss)
            )
        return sum(losses) / sum(self.watch.constant.loss_of(*goal) for goal in goals)

    def causes(self) -> Iterator[Cause]:
        """The cause of a gain on validation examples that is much less than that on held-out
        examples in training mode.
        """
        reading, gain = self.watch.readings[-1], 1 - self.in_training
        shifted = self.case.loop.shift > 0  # by as much for minibatches of any size
        if shifted or reading.by_heart is not False or 1 - self.loss > LOST * gain:
            return
        numbers = {
            "validation": self.loss,
            "held_out": self.held_out,
            "in_training": self.in_training,
            "step": reading.step,
        }
        after = (
            f"After {reading.step:,} steps the loss, relative to that of the best constant "
            "output, is"
        )
        held = f"{after} {digits(self.held_out, 2)} on held-out examples"
        if 1 - self.held_out < LOST * gain:
            layers = [
                name
                for name, part in (self.watch.model or nn.Module()).named_modules()
                if isinstance(part, _BatchNorm)
            ]
            running = (
                f": the running statistics of {listed(layers)} are not those of a minibatch"
                * bool(layers)
            )
            yield Cause(
                "evaluation mode",
                f"{held} in evaluation mode, {digits(self.in_training, 2)} in training "
                f"mode{running}.",
                "Use nn.LayerNorm in place of batch normalisation, or larger minibatches and a "
                "momentum of 0.1.",
                numbers,
            )
            return
        both = f"{held} and {digits(self.loss, 2)} on validation examples"
        words, loss = min(
            self._rescaled().items(), key=lambda item: item[1], default=("", self.loss)
        )
        if 1 - loss > LOST * (1 - self.held_out):
            yield Cause(
                "validation scale",
                f"{both}; with {words} it is {digits(loss, 2)} there.",
                "Scale both sets with the mean and deviation of the training set: "
                "scaler.transform(x_val), not fit_transform. If a "
                "series drifts, predict its changes.",
                numbers | {"rescaled": loss},
                sure=True,
            )
        else:
            yield Cause(
                "validation data",
                f"{both}{', in the scale of the training too' * bool(words)}.",
                "Make both sets with one vocabulary, one order of features and classes, and "
                "one pairing of inputs and targets. "
                "Held-out windows that overlap with windows of the training are no new examples.",
                numbers | {"rescaled": loss},
            )

    def _rescaled(self) -> dict[str, float]:
        """Losses on validation examples with mean and deviation of each feature, and also of the
        targets, as in the training.
        """
        if not self.case.first.is_floating_point():
            return {}
        sets = self.pairs, self.case.loop.data.minibatches(len(self.pairs))
        features = lambda each: (
            sequence_of(each) if sequence_of(each).dim() > 2 else sequence_of(each)[..., None]
        )  # noqa: E731
        x, x_to = (scale_of([features(each) for each, _ in some]) for some in sets)
        y, y_to = (scale_of([each[..., None] for _, each in some]) for some in sets)

        def loss(*, targets: bool) -> float:
            moved = [
                (
                    with_sequence(
                        each, onto(features(each), x, x_to).reshape(sequence_of(each).shape)
                    ),
                    onto(target[..., None], y, y_to)[..., 0] if targets else target,
                )
                for each, target in self.pairs
            ]
            return self._loss(moved)

        found = {"the mean and deviation of each feature as in the training": loss(targets=False)}
        if self.case.regression:
            found["inputs and targets in the scale of the training"] = loss(targets=True)
        return found
