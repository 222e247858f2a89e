"""Say why a network will not train (`causes`), or when it will (`forecast.py`): copies take real
steps of its optimiser.

check(model, x, y, loss_fn, optimizer, steps=3000)               a training as its loop has it: any model, loss and optimiser
check(model, learning_rate=0.1)                                  SGD on the next frames of the chorales
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Unpack

import torch
from torch import nn

from gersgorin._validate import (
    check_order,
    random_numbers_kept,
    uncompiled,
    users_code,
    users_errors,
    with_gradients,
)
from gersgorin.checking.causes.case import Case, noted
from gersgorin.checking.causes.cause import CUT, Cause, PreventedError
from gersgorin.checking.causes.diagnosis import after, before
from gersgorin.checking.causes.kept_out import PARTS, Watch
from gersgorin.checking.causes.repairs import Trials
from gersgorin.checking.causes.validation import Validation, validation_pairs
from gersgorin.checking.forecast import forecast
from gersgorin.checking.prediction import TrainingCheck
from gersgorin.checking.trials import Constant
from gersgorin.linalg.spectrum import one_thread
from gersgorin.loading.find_cell import cell_title
from gersgorin.loading.sources import chorale_excerpts
from gersgorin.training.losses import NegativeLossError, mean_of_frames
from gersgorin.training.minibatches import Examples, Pair
from gersgorin.training.optimizer import above_zero
from gersgorin.training.training import Training, TrainingOptions, check_limits
from rhn.errors import InvalidInputError, NotFiniteError
from rhn.utils.keywords import keywords_of
from rhn.utils.wording import counted, in_short, rounded_up

MOMENTUM = 0.9  # of SGD, if no optimiser is given


@keywords_of(Training, without=("loading_seconds",))
@users_errors()
@one_thread()
def check(
    model: nn.Module,
    x: Any = None,
    y: Any = None,
    loss_fn: Any = None,
    optimizer: Any = None,
    *,
    steps: int = 3000,
    seconds: float = 20.0,
    losses: Sequence[float] = (),
    validation: Any = None,
    name: str | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda doing: None,
    **parts: Unpack[TrainingOptions],
) -> TrainingCheck:
    """Name the causes why a training does not learn; predict if its loss falls below that of the
    best constant output, and when.

    It "leaves" that loss when the mean of 32 steps is below 0.98 of the constant's on the same
    minibatches and stays there for 32 more (at once below 0.93). The training itself is run until
    its outcome is clear or the time is out; the rest is forecast from what moves in it. A training
    that leaves need not end well: the verdict also gives the last loss that was measured.

    Causes (`gersgorin.checking.causes`) are measured on a minibatch, and by trials of the training
    with one thing changed if it stays. A cause that by itself prevents learning and needs no trial
    ends the check at once.

    Copies of the model take real steps of the optimiser, on one thread of a CPU; what was given
    stays as it was, random states too. Of 50 or more examples in tensors a tenth, at most 128, is
    held out of the trials, of overlapping windows the last ones: a network that memorises its
    examples leaves, but does not generalise to them.

    Args:
        model, x, y, loss_fn, optimizer: of the training; see `gersgorin.Training`. Without x, y and
            loss_fn the model predicts the next frames of excerpts of the chorales, without an
            optimizer by SGD with `learning_rate` and momentum 0.9. To predict the next frames of
            sequences (T, B, m) of yours give `x[:-1]`, `x[1:]` and batch_axis=1.
        parts: `batch_size=32` of minibatches of tensors; `clip_norm=1.0`, the largest gradient
            norm; `scheduler`, stepped after each step; `batch_axis=0` or 1, that of the examples in
            x; `learning_rate` of an optimiser given by name; `predict`, which takes the prediction
            from what the model returns.
        steps: length of the training.
        seconds: most time of the check; somewhat more for a loss that falls below 0.
        losses: of your own run, one a step: if they differ from those of the trials, the cause is
            in your loop.
        validation: (x, y) or a DataLoader of your validation set, if its loss is what does not
            fall: it is compared, in evaluation mode, with that of held-out examples of the
            training.
        name: title of the network; None: derived from the model.
        seed: of the order of the minibatches.
        progress: called with a description of each part.

    Returns:
        A `gersgorin.results.TrainingCheck`.

    Raises:
        InvalidInputError or DataError: these parts do not make a training; the message says which.
    """
    check_order(
        "check(model, x, y, loss_fn, optimizer)",
        model=model,
        x=x,
        y=y,
        loss_fn=loss_fn,
        optimizer=optimizer,
    )
    if not isinstance(model, nn.Module):
        raise InvalidInputError(f"the model is {in_short(model)}, expected a torch.nn.Module")
    x, y, loss_fn, optimizer = _training_parts(model, x, y, loss_fn, optimizer, parts)
    check_limits(steps, seconds, seed)
    with users_code("losses: expected a number for each step"):
        own = [float(loss) for loss in losses]
    begun = time.monotonic()
    progress("the training")
    cell = getattr(uncompiled(model), "cell", None)
    # "dt-rnn, depth 6, 64 units"
    title = cell_title(uncompiled(model), name=cell if isinstance(cell, str) else None)
    about: dict[str, Any] = {"name": name or title, "steps": steps, "seconds": seconds}
    try:
        loop = Training(model, x, y, loss_fn, optimizer, loading_seconds=seconds / 4, **parts)
    except PreventedError as error:
        return TrainingCheck(**about, causes=(error.cause,))
    except NotFiniteError as error:
        weights = any(not p.isfinite().all() for p in uncompiled(model).parameters())
        remedy = (
            "Look for the operation that makes them, drop them, or fill them in, even "
            "those that the loss or the model masks."
        )
        return TrainingCheck(
            **about, causes=(Cause("not finite", f"{error}.", remedy, sure=weights),)
        )
    if isinstance(loop.data, Examples):
        loop.data.keep_out()
    about |= _described(loop, steps) | {"losses": tuple(own)}
    if isinstance(validation, Iterator):
        validation = [*islice(validation, PARTS)]

    # again, for a loss that falls below 0, with some more time
    def checked(loop: Training) -> TrainingCheck:
        since = max(begun, time.monotonic() - seconds / 4)
        return _check_training(loop, validation, since, seconds, about, seed, progress)

    try:
        return loop.with_positive_loss(checked)
    except PreventedError as error:  # by some outputs
        return TrainingCheck(**about, causes=(*getattr(error.__cause__, "causes", ()), error.cause))


def _training_parts(
    model: nn.Module, x: Any, y: Any, loss_fn: Any, optimizer: Any, parts: TrainingOptions
) -> tuple[Any, Any, Any, Any]:
    """(x, y, loss_fn, optimizer), those of the chorales if they are left out; then `parts` changes,
    too.
    """
    if x is None and y is None and loss_fn is None:
        if optimizer is None:
            optimizer = _sgd(model, parts.pop("learning_rate", None))
        frames = chorale_excerpts()
        x, y, loss_fn = frames[:-1], frames[1:], mean_of_frames("bernoulli")
        parts["batch_axis"] = 1
    needed = {"x": x, "loss_fn": loss_fn, "optimizer": optimizer}
    if missing := [key for key, value in needed.items() if value is None]:
        raise InvalidInputError(
            f"{missing[0]} is missing: expected check(model, x, y, loss_fn, optimizer), or of "
            "a DataLoader check(model, loader, "
            "loss_fn=loss_fn, optimizer=optimizer)"
        )
    return x, y, loss_fn, optimizer


def _sgd(model: nn.Module, rate: Any) -> torch.optim.SGD:
    """SGD with momentum. Raises InvalidInputError without a learning rate."""
    if rate is None:
        raise InvalidInputError(
            "learning_rate is missing: expected that of SGD on the chorales, or an optimizer"
        )
    return torch.optim.SGD(
        model.parameters(), lr=above_zero("learning_rate", rate), momentum=MOMENTUM
    )


def _described(loop: Training, steps: int) -> dict[str, Any]:
    """The fields of the result about the training itself."""
    epoch = math.ceil(loop.data.epoch) if loop.data.epoch < math.inf else math.inf
    return {
        "about": f"{type(loop.optimizer).__name__}, learning rate {loop.learning_rate:.4g}, "
        f"{counted(steps, 'step')} of minibatches"
        + f", {steps / epoch:.3g} epochs"
        * (epoch < math.inf),
        "optimizer": type(loop.optimizer).__name__,
        "learning_rate": loop.learning_rate,
        "scheduler": None if loop.scheduler is None else type(loop.scheduler).__name__,
        "steps_per_epoch": epoch,
        "slowed": loop.slowed,
    }


@with_gradients()
def _check_training(
    loop: Training,
    validation: Any,
    begun: float,
    seconds: float,
    about: dict[str, Any],
    seed: int,
    progress: Callable[[str], None],
) -> TrainingCheck:
    """Find the causes in a training and forecast it until some seconds after a moment of time."""
    end, steps = begun + seconds, about["steps"]
    shifted = tuple(loss + loop.shift for loss in about["losses"])
    about = about | {"first_loss": loop.first_loss, "shift": loop.shift, "losses": shifted}
    with random_numbers_kept(loop.model):
        progress("causes")
        case = Case(loop, steps)
        others = [] if validation is None else validation_pairs(case, validation, seconds / 4)
        found, left_out = before(case, begun + seconds / 2)
        causes = tuple(sorted((cause for _, cause in found), key=lambda cause: not cause.sure))
        if causes and causes[0].sure:
            return TrainingCheck(**about, causes=causes, saved_seconds=steps * loop.step_seconds)
        ready = time.monotonic()
        progress("the best constant output")
        try:
            constant = Constant(loop)
            watch = Watch(case, constant, others)
            forecasted = forecast(
                loop,
                steps,
                max(end - time.monotonic(), 0.0),
                constant=constant,
                wants_more=watch.wants_more if watch.kept else None,
                progress=progress,
                seed=seed,
            )
        except PreventedError as error:  # by some examples, or some outputs
            return TrainingCheck(**about, causes=(error.cause, *causes), left_out=tuple(left_out))
        except NegativeLossError as error:
            error.causes = causes
            raise
        except InvalidInputError as error:
            if all(row.risk for row, _ in found):
                raise
            return TrainingCheck(**about, causes=causes, left_out=(*left_out, str(error)))
        taken = forecasted.trials[0].steps
        check = TrainingCheck(
            **vars(forecasted),
            **about,
            step_seconds=(time.monotonic() - ready) / taken if taken else loop.step_seconds,
            setup_seconds=ready - begun,
        )
        trials = Trials(case, constant, lambda: end - time.monotonic(), seed, progress)
        every, tried, explained = after(case, found, check, watch, trials)
        if others and watch.readings and others is not watch.kept:
            with noted(trials.lacking, "validation"):
                validated = Validation(case, watch, others)
                every = sorted([*validated.causes(), *every], key=lambda cause: not cause.sure)
                check = replace(check, validation=validated.loss)
    left_out += _not_measured(check, watch, trials, others)
    own, *further = *check.trials, *tried
    longest = {trial.factor: trial for trial in sorted(further, key=lambda trial: trial.steps)}
    return replace(
        check,
        causes=tuple(every),
        trials=(own, *longest.values()),
        held_out=tuple(watch.readings),
        explained=explained,
        left_out=tuple(left_out),
    )


def _not_measured(
    check: TrainingCheck, watch: Watch, trials: Trials, others: list[Pair]
) -> list[str]:
    """Sentences about parts that failed or had no time. others: of the validation set."""
    enough = f", give seconds={rounded_up(2 * check.seconds)}"
    lacking = [line + enough * (line == CUT) for line in trials.lacking]
    left_out = [*["the time ran out before the trials ended"] * check.cut, *lacking]
    if others and not watch.readings:
        left_out.append("the validation set: the loss does not fall on the training examples yet")
    if not watch.kept:
        left_out.append(
            "the loss on held-out examples: expected tensors, or a DataLoader over a dataset, "
            "of 50 or more examples, or 20 or more "
            "batches"
        )
    if watch.loop.data.cut:
        left_out.append(
            f"batches of the DataLoader after the first {watch.loop.data.cut:,}, for the best "
            "constant output"
        )
    return left_out
