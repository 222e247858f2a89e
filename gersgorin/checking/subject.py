"""Build the network, data and training of `gersgorin check` from its options: a preset, a checkpoint, a module or a new cell.

`subject_of` is for the check of SGD, `training_of` for one of any optimiser, of a module with targets or on the chorales.

Legend: T frames or tokens, B rows, m numbers of a frame.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gersgorin.checking.checking import ROWS, chorale_batches, chorale_probe, chorale_targets
from gersgorin.checking.loop import LOSSES, OPTIMIZERS
from gersgorin.data import read_array, read_numbers
from gersgorin.extract import part_of
from gersgorin.networks import KEYS, build_module, load_weights, new_model
from rhn.cells.registry import import_named
from rhn.checkpoints import load_model, read_metadata
from rhn.errors import DataError, InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.training.config import LanguageConfig
from rhn.utils.options import flag
from rhn.utils.wording import first_line

WINDOW, TEXT_ROWS = 35, 20  # training of a new language model
TOKENS = 20  # of a text in a row of the probe
PROBE_ROWS, FEW_ROWS, LARGE = 16, 4, 2_000_000  # rows of the probe, of a large model, parameters of a large model
WITH_MOMENTUM = ("sgd", "rmsprop")
TRAINING = {"learning_rate": 0.1, "momentum": 0.9, "epochs": 300}


@dataclass(frozen=True)
class Subject:
    """A network to check."""

    name: str
    build: Callable[[int], nn.Module]
    """build(seed) -> the network; the first has seed 0."""
    sequences: Any
    loss: str | None
    training: dict[str, float]
    """Defaults of learning_rate, momentum, epochs, batches."""
    many: bool = True
    """True if other seeds give other networks."""


def subject_of(options: Any) -> Subject:
    """The network, its sequences and its training. Raises RhnError."""
    if options.module:
        return _of_module(options)
    if options.checkpoint:
        return _stored(options)
    return _preset(options) if options.preset else _new(options)


def training_of(options: Any) -> dict[str, Any]:
    """The arguments of `gersgorin.check` for a training by any optimiser, with targets or on the chorales. Raises RhnError."""
    parts = _with_targets(options) if options.target or options.loss else _on_chorales(options)
    model, rate = parts["model"], options.learning_rate
    kind = next(model.parameters(), torch.zeros(0)).dtype
    parts |= {name: parts[name].to(kind) for name in ("x", "y") if parts[name].is_floating_point()}
    if rate is not None and rate <= 0:
        raise InvalidInputError(f"--learning-rate is {rate}, expected a number above 0")
    given = {"lr": rate, "momentum": options.momentum}
    if options.momentum is not None and options.optimizer not in WITH_MOMENTUM:
        raise InvalidInputError(f"--momentum is for {' and '.join(WITH_MOMENTUM)}, not for {options.optimizer}")
    try:
        own = {name: value for name, value in given.items() if value is not None}
        optimizer = OPTIMIZERS[options.optimizer](model.parameters(), **own)
    except ValueError as error:  # of torch, for a model without parameters and a momentum below 0
        raise InvalidInputError(f"cannot make {options.optimizer}: {first_line(error)}") from error
    return parts | {
        "optimizer": optimizer,
        "batch_size": ROWS if options.batch_size is None else options.batch_size,
        **{name: getattr(options, name) for name in ("seed", "steps", "seconds", "clip_norm")},
    }


def _with_targets(options: Any) -> dict[str, Any]:
    needed = ("module", "input", "target", "loss", "optimizer")
    if missing := [flag(name) for name in needed if getattr(options, name) is None]:
        raise InvalidInputError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: a training on your targets needs "
            "--module, --input, --target, --loss and --optimizer"
        )
    x, y = (torch.from_numpy(read_array(path)) for path in (options.input, options.target))
    model = _built(options, x.shape[-1] if x.is_floating_point() else None, options.seed)
    if options.loss not in LOSSES and ":" not in options.loss:
        raise InvalidInputError(
            f"--loss {options.loss}: {options.loss!r} names no loss, expected {', '.join(LOSSES)}, or your function of "
            "(output, target) as package.module:function"
        )
    loss_fn = options.loss if options.loss in LOSSES else import_named(options.loss, "loss")
    return {
        "model": model,
        "x": x,
        "y": y,
        "loss_fn": loss_fn,
        "name": options.module,
        "batch_axis": options.batch_axis,
    }


def _on_chorales(options: Any) -> dict[str, Any]:
    from rhn.data import chorales

    subject = subject_of(options)
    x, y, loss_fn = chorale_targets(chorales(options.data, progress=False))
    return {"model": subject.build(0), "x": x, "y": y, "loss_fn": loss_fn, "name": subject.name, "batch_axis": 1}


def _new(options: Any) -> Subject:
    if options.text is not None:
        corpus = _read_text(options.text, "words", None)
        title, build = new_model(options, LanguageModel, vocabulary_size=len(corpus.vocabulary))
        return _of_text(title, build, corpus, options, WINDOW, TEXT_ROWS, TRAINING)
    frames, width = _frames_of(options)
    title, build = new_model(options, input_size=width, output_size=width)
    return _of_frames(title, build, frames, options, loss="squared" if options.input else None)


def _of_module(options: Any) -> Subject:
    """A user's module, or a part of it, that predicts the next frames (T, B, m) from frames (T, B, m)."""
    frames, width = _frames_of(options)

    def build(seed: int) -> nn.Module:
        return _built(options, width, options.seed + seed)

    name = f"{options.module}, {options.submodule}" if options.submodule else options.module
    loss = "squared" if options.input else "bernoulli"
    return _of_frames(name, build, frames, options, loss=loss, many=options.checkpoint is None)


def _built(options: Any, width: int | None, seed: int) -> nn.Module:
    """The module of the options with weights from a seed, or from a checkpoint."""
    module = build_module(options.module, input_size=width, hidden_size=options.hidden_size, seed=seed)
    if options.checkpoint is not None:
        load_weights(module, options.checkpoint)
    return part_of(module, options.submodule)


def _preset(options: Any) -> Subject:
    from rhn.presets import preset
    from rhn.training.build import build_model

    config, corpus = preset(options.preset, options.cell, options.cell_options), None
    if isinstance(config, LanguageConfig):
        if options.cell or options.cell_options:
            given = "--cell" if options.cell else "--cell-option"
            raise InvalidInputError(f"{given} is for the chorales' presets, {options.preset} has its own")
        if options.text is None:
            raise InvalidInputError(f"{options.preset} is a language model, which reads a text: add --text FILE")
        corpus = _read_text(options.text, config.unit, config.vocabulary_size)
    elif options.text:
        raise InvalidInputError(f"--text is for language models, and {options.preset} reads chorales")

    def build(seed: int) -> nn.Module:
        return build_model(config, corpus and len(corpus.vocabulary), seed=options.seed + seed)

    if corpus:
        return _of_language_model(options.preset, build, corpus, options, config)
    training = {name: getattr(config, name) for name in TRAINING}
    return _of_frames(options.preset, build, None, options, training=training, rows=config.batch_size)


def _stored(options: Any) -> Subject:
    model, name = load_model(options.checkpoint, options.cell), options.checkpoint.name
    if isinstance(model, LanguageModel):
        from rhn.training.trained import load_text_model

        if options.text is None:
            raise InvalidInputError(f"{options.checkpoint} holds a language model, which reads a text: add --text FILE")
        stored = load_text_model(options.checkpoint, options.cell)
        corpus = stored.corpus(options.text)
        return _of_language_model(name, lambda seed: model, corpus, options, stored.config, many=False)
    if options.text is not None:
        raise InvalidInputError(f"--text is for language models, and {options.checkpoint} holds none")
    if not isinstance(model, PolyphonicModel):
        kind = type(model).__name__
        raise InvalidInputError(f"{options.checkpoint} holds only a {kind}: expected a network with an output")
    stored = (read_metadata(options.checkpoint).get("metadata") or {}).get("train") or {}
    known = {key: value for key in TRAINING if isinstance(value := stored.get(key), int | float)}
    frames, _ = _frames_of(options)
    return _of_frames(name, lambda seed: model, frames, options, training=TRAINING | known, many=False)


def _frames_of(options: Any) -> tuple[torch.Tensor | None, int]:
    """(Frames of --input, m); (None, m) for the chorales."""
    if options.input is None:
        return None, KEYS
    frames = read_frames(options.input)
    return frames, frames.shape[-1]


def read_frames(path: Path) -> torch.Tensor:
    """Read frames (T, m), or several sequences (T, S, m), from a file of numbers. Raises DataError or InvalidInputError."""
    frames = torch.from_numpy(read_numbers(path).values)
    return frames.transpose(0, 1) if frames.dim() == 3 else frames


def _of_frames(
    name: str,
    build: Callable[[int], nn.Module],
    frames: torch.Tensor | None,
    options: Any,
    *,
    training: dict[str, float] = TRAINING,
    rows: int = ROWS,
    **more,
) -> Subject:
    """A network on frames, or if there are none on the chorales; rows: sequences in a batch."""
    rows = options.batch_size or rows
    if frames is None:
        from rhn.data import chorales

        corpus = chorales(options.data, progress=False)
        frames, batches = chorale_probe(build(0), corpus), chorale_batches(corpus, rows)
    else:
        batches = -(-(frames.shape[1] if frames.dim() == 3 else 1) // rows)
    return Subject(name, build, frames, training=training | {"batches": batches}, **{"loss": None} | more)


def _of_language_model(name: str, build, corpus, options: Any, config: LanguageConfig, **more) -> Subject:
    """A language model with the training of its configuration: a loss summed over the window, without momentum."""
    training = {"learning_rate": config.learning_rate * config.window, "momentum": 0.0, "epochs": config.epochs}
    return _of_text(name, build, corpus, options, config.window, config.batch_size, training, **more)


def _of_text(name: str, build, corpus, options: Any, window: int, rows: int, training: dict, **more) -> Subject:
    """A network on rows of tokens from evenly spaced places of the training text, ids (T + 1, B)."""
    probe_rows = PROBE_ROWS if sum(p.numel() for p in build(0).parameters()) <= LARGE else FEW_ROWS
    last = len(corpus.train) - TOKENS - 1
    if last < 0:
        raise DataError(f"the text has {len(corpus.train)} tokens to train on, expected at least {TOKENS + 1}")
    starts = np.unique(np.linspace(0, last, probe_rows).astype(int))
    ids = np.stack([np.asarray(corpus.train[s : s + TOKENS + 1]) for s in starts], 1).astype(np.int64)
    windows = max(1, (len(corpus.train) // (options.batch_size or rows) - 1) // window)
    return Subject(name, build, torch.from_numpy(ids), None, training | {"batches": windows}, **more)


def _read_text(path: Path, unit: str, vocabulary_size: int | None):
    from rhn.data.text import read_text

    return read_text("text", path, unit=unit, vocabulary_size=vocabulary_size)
