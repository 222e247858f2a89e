"""The function `assert_learns`, for tests with pytest: a test fails if a training run does not
learn.
"""

import math
import warnings
from typing import Any

from torch import nn

from gersgorin.linalg.spectrum import one_thread
from gersgorin.validate import random_numbers_kept, with_gradients
from rhn.utils.keywords import keywords_of
from rhn.utils.validation import check_seed, number
from rhn.utils.wording import counted
from trainability.facts import facts
from trainability.probe import Probe
from trainability.race import UNCHANGED, Row, race_of
from trainability.training import Training, as_training, name_of


@keywords_of(Training, without=("loading_seconds",))
def assert_learns(
    model: nn.Module | Training,
    x: Any = None,
    y: Any = None,
    loss_fn: Any = "mse",
    optimizer: Any = "adam",
    *,
    steps: int | None = None,
    below: float = 0.5,
    seed: int = 0,
    **parts: Any,
) -> None:
    """Train a copy of the model; raise AssertionError unless its relative error ends low enough.

    The relative error is that of `check`, on held-out examples: 0 is perfect, 1 is the constant
    predictor. If fewer than 20 examples are held out, the error is measured on training examples.
    If the network learns, facts about the first minibatch are warnings, such as an output that
    reads its target in the input.

    Args:
        model, x, y, loss_fn, optimizer, parts: the arguments of `Training`. Or pass a `Training` in
            place of the model, and leave the others out.
        steps: number of optimiser steps; None: 3000, or that of a `Training`.
        below: the relative error after the last step must be less than this number.
        seed: shuffle seed of the minibatches.

    Raises:
        AssertionError: the error is too large. The message states the error, `below`, and facts
            about the first minibatch that may explain it.
        InvalidInputError or DataError: a part is invalid or does not fit the others; the message
        says which.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> model, x = nn.Linear(3, 1), torch.randn(200, 3)
    >>> adam = torch.optim.Adam(model.parameters(), 0.1)
    >>> assert_learns(model, x, x.sum(1, keepdim=True), nn.MSELoss(), adam, steps=50)
    """
    __tracebackhide__ = True  # pytest shows the lines of the caller only
    number("below", below, above=0)
    seed, title = check_seed(seed), name_of(model)
    with one_thread(), with_gradients():
        training = as_training(
            model, x, y, loss_fn, optimizer, steps=steps, loading_seconds=math.inf, **parts
        )
        with random_numbers_kept(training.model):
            probe = Probe(training)
            _ = (
                probe.loss
            )  # whatever a model or a loss raises at once is a sentence about that call
            race, row = race_of(training, probe, seed=seed), Row(UNCHANGED, training.copy())
            race.train(row, training.steps, math.inf)
            found, _ = facts(probe)
            if row.error < below:
                for fact in found:
                    proven = f"{title} learns. Proven: {fact.sentence} {fact.remedy}"
                    warnings.warn(proven, stacklevel=3)
                return
    few = f" on training examples ({training.data.too_few})" if training.data.too_few else ""
    words = (
        f"the relative error of {title} is {row.error:.3g} after {counted(row.steps, 'step')}"
        f"{few}, expected less than {below:g} (1: no better than the constant predictor)."
    )
    raise AssertionError("\n".join([words, *(f"{fact.sentence} {fact.remedy}" for fact in found)]))
