"""The function `assert_learns`, for tests with pytest: a test fails if a training run does not
learn.
"""

import math
import warnings
from collections.abc import Iterator
from typing import Any

from torch import nn

from gersgorin.linalg.spectrum import one_thread
from gersgorin.validate import random_numbers_kept, with_gradients
from rhn.errors import InvalidInputError
from rhn.utils.keywords import keywords_of
from rhn.utils.validation import check_seed, number
from rhn.utils.wording import counted
from trainability.facts import facts
from trainability.per_output import note_on_outputs
from trainability.probe import Probe
from trainability.training import Training, as_training, name_of
from trainability.trial import Trial


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
    If the network learns, facts about the first minibatch are only warnings. An example is an
    output that reads its target in the input. Outputs that are not learned beside others that are
    are warnings too.

    Args:
        model, x, y, loss_fn, optimizer, parts: the arguments of `Training`. Or pass a `Training` in
            place of the model, and leave the others out.
        steps: number of optimiser steps; None: 3000, or that of a `Training`.
        below: the relative error after the last step must be less than this number.
        seed: shuffle seed of the minibatches.

    Raises:
        AssertionError: the error is too large. The message states the error, `below`, and facts
            about the first minibatch and the training run that may explain it.
        InvalidInputError or DataError: a part is invalid or does not fit the others.

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
            # whatever a model or a loss raises at once is a sentence about that call
            _ = probe.loss
            trial = Trial(training, probe, [], seed, lambda doing: None)
            trial.race.train(trial.base, training.steps, math.inf)
            if trial.base.problem:
                raise InvalidInputError(trial.base.problem)
            trained = trial.base.training
            if trial.base.error < below:
                for fact in facts(probe)[0]:
                    proven = f"{title} learns. Proven: {fact.sentence} {fact.remedy}"
                    warnings.warn(proven, stacklevel=3)
                if trained is not None and (note := note_on_outputs(trained, trial.race)):
                    warnings.warn(f"{title} learns. {note}", stacklevel=3)
                return
            words = [_verdict(trial, title, below), *_hints(trial)]
    raise AssertionError("\n".join(words))


def _verdict(trial: Trial, title: str, below: float) -> str:
    """A sentence with the error and the required error, and what the error compares."""
    few = f" on training examples ({trial.few})" if trial.few else ""
    base, score = trial.base, trial.race.scores["error"]
    after = f"after {counted(base.steps, 'step')}{few}"
    if score.refused:
        return f"{title} has no relative error {after}: {score.refused}."
    scale = "; ".join(filter(None, [score.meaning, "1: no better than the constant predictor"]))
    error = f"the relative error of {title} is {base.error:.3g} {after}"
    return f"{error}, expected less than {below:g} ({scale})."


def _hints(trial: Trial) -> Iterator[str]:
    """Yield what the minibatch and the training run show, as the first sentences of `check`."""
    trial.found, _ = facts(trial.probe)
    seen = trial.observe()
    for cause in (*trial.found, *([] if seen is None else [seen])):
        yield f"{cause.sentence} {cause.remedy}"
    yield from filter(None, (trial.padding, trial.outputs))
    yield (
        "trainability.check tests each part by an experiment, such as learning rate, clipping, "
        "initial weights and network."
    )
