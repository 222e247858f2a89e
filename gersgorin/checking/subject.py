"""Build the training of `gersgorin check` from its options: a network, and its targets or next frames."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gersgorin.checking.checking import MOMENTUM, chorale_targets, frame_targets
from gersgorin.checking.loop import LOSSES, OPTIMIZERS
from gersgorin.checking.minibatches import BATCH_SIZE
from gersgorin.loading.data import read_array, read_numbers
from gersgorin.loading.network import KEYS, new_model
from gersgorin.objective import frame_loss, resolve_loss
from gersgorin.resolve import module_of_options
from rhn.cells.registry import import_named
from rhn.checkpoints import load_model, read_metadata
from rhn.errors import DataError, InvalidInputError
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
    window: int = 35
    """Tokens of a text that are read at once."""
    clip_norm: float | None = None
    corpus: Any = None
    """Of a language model."""


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
        "clip_norm": subject.clip_norm if options.clip_norm is None else options.clip_norm,
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
    if subject.corpus is not None:
        targets = _windows(subject)
    elif frames is not None:
        targets = frame_targets(subject.model, frames, subject.loss)
    else:
        from rhn.data import chorales

        targets = chorale_targets(subject.model, chorales(options.data))
    x, y, loss_fn = targets
    parts = {"model": subject.model, "x": x, "y": y, "loss_fn": loss_fn, "name": subject.name, "batch_axis": 1}
    return parts, subject


def _windows(subject: Subject) -> tuple[torch.Tensor, torch.Tensor, Callable]:
    """Windows (T, N) of the training text, the tokens that follow, and the mean loss of a token."""
    ids, T = torch.from_numpy(np.asarray(subject.corpus.train).astype(np.int64)), subject.window
    if len(ids) <= T:
        raise DataError(f"the text has {len(ids)} tokens to train on, expected at least {T + 1}")
    x, y = (part.unfold(0, T, T).T for part in (ids[:-1], ids[1:]))
    return x, y, frame_loss(resolve_loss("categorical"))


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
    if options.text is None:
        return Subject(*new_model(options, input_size=width, output_size=width), own)
    corpus = _read_text(options.text, "words", None)
    named = new_model(options, LanguageModel, vocabulary_size=len(corpus.vocabulary))
    return Subject(*named, batch_size=20, corpus=corpus)


def _preset(options: Any) -> Subject:
    from rhn.presets import preset
    from rhn.training.ensemble import build_model

    config = preset(options.preset, options.cell, options.cell_options)
    if not isinstance(config, LanguageConfig):
        if options.text:
            raise InvalidInputError(f"--text is for language models, and {options.preset} reads chorales")
        settings = {name: getattr(config, name) for name in ("learning_rate", "momentum", "epochs", "batch_size")}
        return Subject(options.preset, build_model(config, None, seed=options.seed), "bernoulli", **settings)
    if options.cell or options.cell_options:
        given = "--cell" if options.cell else "--cell-option"
        raise InvalidInputError(f"{given} is for the chorales' presets, {options.preset} has its own")
    if options.text is None:
        raise InvalidInputError(f"{options.preset} is a language model, which reads a text: add --text FILE")
    corpus = _read_text(options.text, config.unit, config.vocabulary_size)
    model = build_model(config, len(corpus.vocabulary), seed=options.seed)
    return _language_model(options.preset, model, corpus, config)


def _stored(options: Any) -> Subject:
    model, name = load_model(options.checkpoint, options.cell), options.checkpoint.name
    if isinstance(model, LanguageModel):
        from rhn.training.trained import load_text_model

        if options.text is None:
            raise InvalidInputError(f"{options.checkpoint} holds a language model, which reads a text: add --text FILE")
        trained = load_text_model(options.checkpoint, options.cell)
        return _language_model(name, model, trained.corpus(options.text), trained.config)
    if options.text is not None:
        raise InvalidInputError(f"--text is for language models, and {options.checkpoint} holds none")
    if not isinstance(model, PolyphonicModel):
        kind = type(model).__name__
        raise InvalidInputError(f"{options.checkpoint} holds only a {kind}: expected a network with an output")
    stored = (read_metadata(options.checkpoint).get("metadata") or {}).get("train") or {}
    names = ("learning_rate", "momentum", "epochs")
    known: dict[str, Any] = {key: value for key in names if isinstance(value := stored.get(key), int | float)}
    return replace(Subject(name, model), **known)


def _language_model(name: str, model: nn.Module, corpus: Any, config: LanguageConfig) -> Subject:
    """A language model with the training of its configuration: a loss summed over the window, without momentum."""
    return Subject(
        name,
        model,
        learning_rate=config.learning_rate * config.window,
        momentum=0.0,
        epochs=config.epochs,
        batch_size=config.batch_size,
        window=config.window,
        clip_norm=config.gradient_norm / config.window,
        corpus=corpus,
    )


def _read_text(path: Path, unit: Any, vocabulary_size: int | None):
    from rhn.data.text import read_text

    return read_text("text", path, unit=unit, vocabulary_size=vocabulary_size)
