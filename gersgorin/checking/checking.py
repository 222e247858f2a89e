"""Predict before the first step whether a network will train.

    check(model, x, y, loss_fn, optimizer, steps=3000)               a training as its loop has it: any model, loss and optimiser
    check(model, learning_rate=0.1, epochs=400)                      SGD on the chorales
    check(model, x, learning_rate=0.1, loss="squared", epochs=50)    SGD on the next frames of your own sequences

A check of a training takes real steps of its optimiser on its minibatches, at several learning rates (`forecast.py`). A check of SGD
combines the plateau and the simulated time to leave it (`gersgorin.plateau`), gains, exponents and saturation (`gains.py`), and the
share of similar networks of the small study that learned (`calibration.py`); every suggestion comes from the same measurement of the
changed network, never from a rule of thumb.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import nn

from gersgorin._validate import with_gradients
from gersgorin.analyses.plateau import Plateau, plateau
from gersgorin.checking.calibration import delay_of, load_calibration, unlike, weight_scale
from gersgorin.checking.explanation import explain, frames_of
from gersgorin.checking.forecast import forecast
from gersgorin.checking.gains import measure_gains
from gersgorin.checking.loop import BATCH_SIZE, TrainingLoop, check_limits, random_numbers_kept
from gersgorin.checking.prediction import TrainingCheck
from gersgorin.checking.verdict import Check, Outlook, Suggestion, Training, changes
from gersgorin.linalg.spectrum import one_thread
from gersgorin.objective import Loss, Objective
from rhn.errors import DataError, InvalidInputError
from rhn.training.state import LEFT
from rhn.utils.wording import counted

PIECES, FRAMES = 32, 13  # of the probe from the chorales
LARGE, FEW_PIECES, FEW_FRAMES = 20_000, 8, 9  # probe of a network with more parameters: a tenth of the work
TOO_LARGE = 2_000_000  # parameters; beyond, the escape is not simulated: a gradient takes a second
FEW_LOOKS = 150  # gradients for each suggestion of a large network
ROWS = 32  # sequences per batch by default
EXPLAINING = 0.2  # of the time of a check, at most, for the measures of the plateau
LIKELY = 0.8  # least probability at which no changes are suggested


def check(
    model: nn.Module | Callable[[int], nn.Module],
    x: Any = None,
    y: Any = None,
    loss_fn: Any = None,
    optimizer: Any = None,
    *,
    steps: int = 3000,
    seconds: float = 20.0,
    learning_rate: float | None = None,
    clip_norm: float | None = None,
    scheduler: Any = None,
    batch_size: int = BATCH_SIZE,
    batch_axis: int | None = None,
    name: str | None = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda doing: None,
    **of_sgd: Any,
) -> TrainingCheck | Check:
    """Predict whether a training leaves the loss of a constant output, when, and at which learning rates.

    It leaves when the mean loss of 32 steps is below 0.98 of the best constant output's on the same minibatches and stays there for 32
    more (at once if it is below 0.93). The interval of that step is from one or two orders of minibatches; others
    may differ more.

    With an optimiser, copies of the model take real steps of it; what was given stays as it was, random states too. Only losses of the
    training count, so examples that are learned by heart are learned.

    Args:
        model: any module, called as model(x); its output is a tensor, or a tuple that begins with one.
        x, y: inputs and targets, tensors of all examples; or as x a DataLoader of pairs, read in its own order, and no y. With an
            optimiser alone: frames of the chorales, and those that follow.
        loss_fn: loss_fn(output, y) -> a scalar; or "mse", "cross-entropy", "bernoulli", which read y (N,) as (N, 1) for outputs (N, 1)
            and say so.
        optimizer: of `torch.optim`, on parameters of the model; or "sgd", "adam", "adamw", "rmsprop" with a learning_rate.
        steps: length of the training.
        seconds: most time of the check.
        learning_rate: of an optimiser given by name.
        clip_norm: largest gradient norm, as in `torch.nn.utils.clip_grad_norm_`; None: no clipping.
        scheduler: a learning-rate scheduler of the optimiser that is stepped after each step; None: a constant learning rate.
        batch_size: of the minibatches drawn from tensors.
        batch_axis: axis of the examples in x and y, 0 with batch_first=True; None: found by changing one example.
        name: title of the network; None: derived from the model.
        seed: of the order of the minibatches.
        progress: called with a description of each part.
        of_sgd: without y, loss_fn and optimizer: the other arguments of `gersgorin.checking.checking.check_sgd`, which predicts a
            training on the next frames of sequences x, or of the chorales, from the plateau and from similar networks.

    Raises:
        InvalidInputError or DataError: these parts do not make a training; the message says which.
    """
    _check_names(of_sgd)
    real = {
        "steps": steps,
        "seconds": seconds,
        "clip_norm": clip_norm,
        "scheduler": scheduler,
        "batch_size": batch_size,
    }
    real |= {"batch_axis": batch_axis, "seed": seed}
    if y is None and loss_fn is None and optimizer is None:
        defaults = signature(check).parameters
        if given := [key for key, value in real.items() if value != defaults[key].default]:
            raise InvalidInputError(f"{given[0]} is for a training by real steps: give y, loss_fn and optimizer too")
        of_sgd = {"sequences": x} | of_sgd
        return check_sgd(model, learning_rate=learning_rate, name=name, progress=progress, **of_sgd)
    if of_sgd:
        raise InvalidInputError(
            f"{next(iter(of_sgd))} is for a check of SGD without y, loss_fn and optimizer: leave it out"
        )
    if x is None and y is None and loss_fn is None and isinstance(model, nn.Module):
        x, y, loss_fn = chorale_targets()
        real["batch_axis"] = 1
    needed = {"x": x, "loss_fn": loss_fn, "optimizer": optimizer}
    if missing := [key for key, value in needed.items() if value is None]:
        raise InvalidInputError(
            f"{missing[0]} is missing: expected check(model, x, y, loss_fn, optimizer), or without y, loss_fn and optimizer the "
            "learning_rate of SGD"
        )
    real |= {"learning_rate": learning_rate, "name": name, "progress": progress}
    return _check_training(model, x, y, loss_fn, optimizer, **real)


def _check_names(of_sgd: dict[str, Any]) -> None:
    """Raise InvalidInputError, with the nearest name, for keyword arguments that neither kind of check has."""
    known = [name for kind in (check, check_sgd) for name in signature(kind).parameters]
    for name in [name for name in of_sgd if name not in known]:
        near = get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]}?" if near else " (help(gersgorin.check) lists them)"
        raise InvalidInputError(f"check has no argument {name!r}{hint}")


@with_gradients()
def _check_training(
    model: nn.Module,
    *parts: Any,
    steps: int,
    seconds: float,
    name: str | None,
    seed: int,
    progress: Callable[[str], None],
    **training: Any,
) -> TrainingCheck:
    """Check a training by real steps; parts and training are the arguments of `TrainingLoop`."""
    check_limits(steps, seconds, seed)
    end = time.monotonic() + seconds
    progress("the training")
    loop = TrainingLoop(model, *parts, **training, loading_seconds=seconds / 4)
    with random_numbers_kept(loop.model):
        progress("the plateau")
        explanation = explain(loop, EXPLAINING * seconds)
        time_left = max(end - time.monotonic(), 0.0)
        begun = time.monotonic()
        found = forecast(loop, steps, time_left, progress=progress, seed=seed)
        taken = int(found.trials.steps.sum())
        step_seconds = (time.monotonic() - begun) / taken if taken else loop.step_seconds
    left_out = [*[found.cut] * bool(found.cut), *explanation.left_out]
    if loop.data.cut:
        left_out.append(f"batches of the DataLoader after the first {loop.data.cut:,}, for the best constant output")
    return TrainingCheck(
        name=name or name_of(loop.model),
        optimizer=loop.optimizer_name,
        learning_rate=loop.learning_rate,
        steps=steps,
        scheduler=None if loop.scheduler is None else type(loop.scheduler).__name__,
        steps_per_epoch=math.ceil(loop.data.epoch) if loop.data.epoch < math.inf else math.inf,
        constant_loss=found.trials.constant,
        first_loss=loop.first_loss,
        forecast=found,
        order=explanation.order,
        rates=explanation.rates,
        cells=explanation.cells,
        left_out=tuple(left_out),
        frames=frames_of(loop),
        reshaped=loop.reshaped,
        slowed=loop.slowed,
        step_seconds=step_seconds,
    )


@one_thread()  # two threads on small matrices gain little on an idle machine and lose much on a busy one
def check_sgd(
    model: nn.Module | Callable[[int], nn.Module],
    sequences: Any = None,
    *,
    learning_rate: float | None = None,
    momentum: float = 0.9,
    epochs: int = 300,
    batches: int | None = None,
    seeds: int = 1,
    loss: str | Loss | None = None,
    suggest: bool = True,
    name: str | None = None,
    progress: Callable[[str], None] = lambda doing: None,
) -> Check:
    """Measure a network before a training by SGD and predict whether it will learn.

    Args:
        model: a `PolyphonicModel`, a `LanguageModel` or your own module with an output, or build(seed) -> one of them.
        sequences: its data, as for `gersgorin.plateau`; None: some of the chorales.
        learning_rate, momentum: of SGD on the mean loss of a frame.
        epochs: length of the training.
        batches: steps of SGD per epoch; None: batches of 32 sequences, of all chorales if `sequences` is None.
        seeds: number of networks build(0), build(1), ... for gains and exponents; more than one requires such a function.
        loss: as in `gersgorin.plateau`; None for the model's own.
        suggest: if it may not learn, test changes.
        name: title of the network; None: derived from the model.
        progress: called with a description of each part.

    Raises:
        InvalidInputError: weights or sequences are not finite, empty or constant, their width does not fit, the model has no
            recurrent cell, its loss is not finite, or a number of the training is out of range.
    """
    model, build = _network_of(model, seeds)
    if learning_rate is None:
        raise InvalidInputError("learning_rate is missing: expected that of SGD")
    training = Training(learning_rate=learning_rate, momentum=momentum, epochs=epochs)
    chorales = sequences is None
    if chorales:
        sequences = chorale_probe(model)
    progress("the plateau")
    own = plateau(model, sequences, loss)
    if batches is None:
        batches = chorale_batches() if chorales else _batches(sequences)
    training = replace(training, batches=batches)
    progress("the way off the plateau")
    found = replace(measure(own, training), name=name or name_of(model))
    progress("gains and exponents")
    cells = measure_gains(own.objective)
    for seed in range(1, seeds):
        progress(f"gains of seed {seed}")
        cells += measure_gains(Objective(build(seed), sequences, loss))
    found = replace(found, cells=tuple(cells))
    if found.outlook.ended == "diverged" and build is not None:
        progress("another draw")
        found = replace(found, again=_again(build, own, sequences, loss, training))
    if suggest and _worrying(found):
        found = replace(found, suggestions=_suggestions(model, own, found, sequences, loss, progress))
    return found


def _network_of(model: Any, seeds: int) -> tuple[nn.Module, Callable[[int], nn.Module] | None]:
    """(The network, build(seed) if this was given). Raises InvalidInputError for several seeds of a single network."""
    build = model if callable(model) and not isinstance(model, nn.Module) else None
    if seeds != 1 and (build is None or seeds < 1):
        expected = "1: a single network was given, several need build(seed)" if build is None else "1 or more"
        raise InvalidInputError(f"seeds is {seeds}, expected {expected}")
    return (model, None) if build is None else (build(0), build)


def measure(found: Plateau, training: Training, looks: int | None = None) -> Check:
    """Predict from the plateau of one network; without gains, exponents and suggestions.

    looks: most gradients of the simulated escape; a network that has not left by then counts as one that stays.
    """
    objective = found.objective
    with torch.no_grad():
        first_loss = objective.mean_loss().item()
    reason, has_left = unlike(objective, training, first_loss, found.loss), first_loss < LEFT * found.loss
    if has_left:
        escape, ended = 0.0, "left"
    elif sum(p.numel() for p in objective.parameters.values()) > TOO_LARGE:
        escape, ended, reason = math.nan, "unfollowed", reason or "was not followed (too many parameters)"
    else:
        limits = {} if looks is None else {"until": training.epochs * training.batches, "most": looks}
        way = found.escape(training.learning_rate, training.momentum, **limits)
        escape, ended = way.leaves_after / training.batches, way.ended
    return Check(
        name=name_of(objective.model),
        training=training,
        outlook=outlook_of(escape, training.epochs, ended, known=reason is None),
        order=found.order,
        rates=dict(found.rates),
        constant_loss=found.loss,
        first_loss=first_loss,
        loss_unit=objective.loss.unit,
        weight_scale=weight_scale(objective.model),
        unlike=reason,
    )


def _suggestions(
    model: nn.Module, own: Plateau, found: Check, sequences, loss, progress: Callable[[str], None]
) -> tuple[Suggestion, ...]:
    """Changes, each measured like the network itself, the most promising first."""
    tried = []
    for change in changes(model, found.training, diverged=found.outlook.ended == "diverged"):
        progress(change.words)
        other = own if change.model is model else plateau(change.model, sequences, loss)
        outlook = measure(other, change.training, looks=FEW_LOOKS if _is_large(model) else None).outlook
        tried.append(Suggestion(change=change.words, option=change.option, outlook=outlook))
    return tuple(sorted(tried, key=_promise))


def _again(build: Callable[[int], nn.Module], own: Plateau, sequences, loss, training: Training) -> str | None:
    """Result of the simulated escape with other initial weights; None if every seed gives the same weights."""
    other = plateau(build(1), sequences, loss)
    weights = [list(each.objective.parameters.values()) for each in (own, other)]
    if all(torch.equal(p, q) for p, q in zip(*weights, strict=True)):
        return None
    return measure(other, training, looks=FEW_LOOKS if _is_large(other.objective.model) else None).outlook.ended


def outlook_of(escape_epochs: float, epochs: float, ended: str, *, known: bool) -> Outlook:
    """Prediction of the calibration for a time on the plateau and a length of training."""
    if not known:
        return Outlook(escape_epochs=escape_epochs, ended=ended, probability=None, interval=None)
    like = load_calibration().look_up(delay_of(escape_epochs, epochs))
    return Outlook(
        escape_epochs=escape_epochs,
        ended=ended,
        probability=like.probability,
        interval=like.interval,
        networks=like.networks,
        learned=like.learned,
    )


def chorale_probe(model: nn.Module, corpus=None) -> torch.Tensor:
    """Excerpts of the training chorales, (T, B, 88), from evenly spaced pieces and different frames; fewer for a large network.

    Raises DataError if no chorale is long enough.
    """
    from rhn.data import chorales

    T, B = (FEW_FRAMES, FEW_PIECES) if _is_large(model) else (FRAMES, PIECES)
    pieces = [piece for piece in (corpus or chorales(progress=False)).train if len(piece) >= T]
    if not pieces:
        raise DataError(f"no chorale to train on has {T} frames")
    chosen = [np.asarray(pieces[k]) for k in np.linspace(0, len(pieces) - 1, B).astype(int)]
    starts = [(5 * k) % (len(piece) - T + 1) for k, piece in enumerate(chosen)]
    cut = [piece[start : start + T] for start, piece in zip(starts, chosen, strict=True)]
    return torch.from_numpy(np.stack(cut, 1)).double()


def chorale_targets(
    corpus=None,
) -> tuple[torch.Tensor, torch.Tensor, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]:
    """(Frames (T, N, 88), next frames, mean loss of a frame) of all training chorales; next frames are -1 after the end of a piece."""
    from rhn.data import chorales

    pieces = [torch.from_numpy(np.asarray(piece, np.float32)) for piece in (corpus or chorales(progress=False)).train]
    frames = nn.utils.rnn.pad_sequence(pieces, padding_value=-1.0)
    return frames[:-1].clamp(min=0), frames[1:], _frame_loss


def _frame_loss(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean over the frames of -log P(y), in nats; frames of -1 are padding."""
    real = y >= 0
    costs = nn.functional.binary_cross_entropy_with_logits(output, y.clamp(min=0).to(output.dtype), reduction="none")
    return (costs * real).sum() / real[..., 0].sum()


def _is_large(model: nn.Module) -> bool:
    return sum(p.numel() for p in model.parameters()) > LARGE


def chorale_batches(corpus=None, batch_size: int = ROWS) -> int:
    """Steps of SGD per epoch of the chorales."""
    from rhn.data import chorales

    return -(-len((corpus or chorales(progress=False)).train) // batch_size)


def _batches(sequences: Any) -> int:
    """Batches of `ROWS` sequences in the user's data."""
    first = sequences[0] if isinstance(sequences, tuple) else sequences
    if isinstance(first, list):
        count = len(first)
    else:
        shape = np.shape(first)
        count = shape[1] if len(shape) == 3 or (len(shape) == 2 and "int" in str(getattr(first, "dtype", ""))) else 1
    return max(1, -(-count // ROWS))


def _worrying(found: Check) -> bool:
    if found.probability is None:
        return found.escape_epochs > found.training.epochs
    return found.probability < LIKELY


def _promise(suggestion: Suggestion) -> tuple[float, float]:
    """Sort key: the best first, those without a simulated escape last."""
    outlook = suggestion.outlook
    return -(outlook.probability or 0.0), math.inf if math.isnan(outlook.escape_epochs) else outlook.escape_epochs


def name_of(model: nn.Module) -> str:
    """ "dt-rnn, depth 6, 64 units"."""
    cell, depth, units = (getattr(model, name, None) for name in ("cell", "depth", "hidden_size"))
    words = [cell if isinstance(cell, str) else type(model).__name__]
    words += [f"depth {depth}"] * ((depth or 1) > 1) + [counted(units, "unit")] * (units is not None)
    return ", ".join(words)
