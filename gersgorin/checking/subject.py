"""Build the training of `gersgorin check` from its options: a network, and its targets or next frames."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from gersgorin.checking.checking import MOMENTUM, chorale_targets, frame_targets
from gersgorin.checking.loop import LOSSES, OPTIMIZERS
from gersgorin.checking.minibatches import BATCH_SIZE
from gersgorin.loading.data import read_array, read_numbers
from gersgorin.loading.network import KEYS, new_model
from gersgorin.resolve import module_of_options
from rhn.cells.registry import import_named
from rhn.checkpoints import load_model, read_metadata
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.training.config import LanguageConfig
from rhn.utils.options import flag
from rhn.utils.wording import first_line

WITH_MOMENTUM = ("sgd", "rmsprop")
STEPS = 3000  # with --optimizer


@dataclass(frozen=True)
class Subject:
    """A network with the settings of its training by SGD."""

    name: str
    model: nn.Module
    loss: str | None = None
    learning_rate: float = 0.1
    momentum: float = MOMENTUM
    epochs: int = 300
    batch_size: int = BATCH_SIZE


def training_of(options: Any) -> dict[str, Any]:
    """The arguments of `gersgorin.check`. Raises RhnError."""
    parts, subject = _with_targets(options) if options.target or options.loss else _of_next_frames(options)
    model, x, y = parts["model"], parts["x"], parts["y"]
    kind = next(model.parameters(), torch.zeros(0)).dtype
    x, y = (t.to(kind) if t.is_floating_point() else t for t in (x, y))
    rate, momentum = options.learning_rate, options.momentum
    if options.optimizer is None:
        rate = subject.learning_rate if rate is None else rate
        momentum = subject.momentum if momentum is None else momentum
    elif momentum is not None and options.optimizer not in WITH_MOMENTUM:
        raise InvalidInputError(f"--momentum is for {' and '.join(WITH_MOMENTUM)}, not for {options.optimizer}")
    given = {name: value for name, value in {"lr": rate, "momentum": momentum}.items() if value is not None}
    try:
        optimizer = OPTIMIZERS[options.optimizer or "sgd"](model.parameters(), **given)
    except ValueError as error:  # of torch, for a model without parameters
        raise InvalidInputError(f"cannot make {options.optimizer or 'sgd'}: {first_line(error)}") from error
    batch_size = subject.batch_size if options.batch_size is None else options.batch_size
    return parts | {
        "x": x,
        "y": y,
        "optimizer": optimizer,
        "batch_size": batch_size,
        "steps": _steps(options, subject, math.ceil(x.shape[1] / max(1, batch_size))),
        "clip_norm": options.clip_norm,
        "seed": options.seed,
        "seconds": options.seconds,
    }


def _steps(options: Any, subject: Subject, batches: int) -> int:
    """Length of the training: --steps, or epochs of minibatches, or with --optimizer 3,000."""
    if options.steps is not None:
        return options.steps
    if options.optimizer and options.epochs is None:
        return STEPS
    return (options.epochs or subject.epochs) * (options.batches or batches)


def _with_targets(options: Any) -> tuple[dict[str, Any], Subject]:
    needed = ("module", "input", "target", "loss", "optimizer")
    if missing := [flag(name) for name in needed if getattr(options, name) is None]:
        raise InvalidInputError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: a training on your targets needs "
            "--module, --input, --target, --loss and --optimizer"
        )
    x, y = (torch.from_numpy(read_array(path)) for path in (options.input, options.target))
    if options.loss not in LOSSES and ":" not in options.loss:
        raise InvalidInputError(
            f"--loss {options.loss}: {options.loss!r} names no loss, expected {', '.join(LOSSES)}, or your function of "
            "(output, target) as package.module:function"
        )
    loss_fn = options.loss if options.loss in LOSSES else import_named(options.loss, "loss")
    subject = Subject(options.module, module_of_options(options, x.shape[-1] if x.is_floating_point() else None))
    parts = {"model": subject.model, "x": x, "y": y, "loss_fn": loss_fn, "name": subject.name}
    return parts | {"batch_axis": options.batch_axis}, subject


def _of_next_frames(options: Any) -> tuple[dict[str, Any], Subject]:
    frames = None if options.input is None else read_numbers(options.input).frames()
    subject = _subject(options, KEYS if frames is None else frames.shape[-1])
    if frames is None:
        from rhn.data import chorales

        x, y, loss_fn = chorale_targets(subject.model, chorales(options.data))
    else:
        x, y, loss_fn = frame_targets(subject.model, frames, subject.loss)
    parts = {"model": subject.model, "x": x, "y": y, "loss_fn": loss_fn, "name": subject.name, "batch_axis": 1}
    return parts, subject


def _subject(options: Any, width: int) -> Subject:
    """The network of the options, for frames of some width."""
    own = "squared" if options.input else "bernoulli"
    if options.module:
        name = f"{options.module}, {options.submodule}" if options.submodule else options.module
        return Subject(name, module_of_options(options, width), own)
    if options.checkpoint:
        return _stored(options)
    if options.preset:
        return _preset(options)
    return Subject(*new_model(options, width), own)


def _preset(options: Any) -> Subject:
    from rhn.presets import preset
    from rhn.training.ensemble import build_model

    config = preset(options.preset, options.cell, options.cell_options)
    if isinstance(config, LanguageConfig):
        raise _no_frames(options.preset)
    settings = {name: getattr(config, name) for name in ("learning_rate", "momentum", "epochs", "batch_size")}
    return Subject(options.preset, build_model(config, None, seed=options.seed), "bernoulli", **settings)


def _stored(options: Any) -> Subject:
    model, name = load_model(options.checkpoint, options.cell), options.checkpoint.name
    if isinstance(model, LanguageModel):
        raise _no_frames(options.checkpoint)
    if not isinstance(model, PolyphonicModel):
        kind = type(model).__name__
        raise InvalidInputError(f"{options.checkpoint} holds only a {kind}: expected a network with an output")
    stored = (read_metadata(options.checkpoint).get("metadata") or {}).get("train") or {}
    names = ("learning_rate", "momentum", "epochs")
    known: dict[str, Any] = {key: value for key in names if isinstance(value := stored.get(key), int | float)}
    return replace(Subject(name, model), **known)


def _no_frames(given: Any) -> InvalidInputError:
    """The error for a language model, a preset or a file."""
    return InvalidInputError(
        f"{given} is a language model: expected a network that predicts frames; for a text call in Python "
        "gersgorin.check(model, x, y, loss_fn, optimizer) with windows of its tokens"
    )
