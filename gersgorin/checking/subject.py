"""Build the network, data and training of `gersgorin check` from its options: a preset, a checkpoint, a module or a new cell.

Legend: T frames or tokens, B rows, m numbers of a frame.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gersgorin.checking.checking import ROWS, chorale_batches, chorale_probe
from gersgorin.data import read_numbers
from gersgorin.extract import part_of
from gersgorin.networks import build_module, load_weights, new_model
from rhn.checkpoints import load_model, read_metadata
from rhn.errors import DataError, InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.training.config import LanguageConfig

KEYS = 88
WINDOW, TEXT_ROWS = 35, 20  # training of a new language model
TOKENS = 20  # of a text in a row of the probe
PROBE_ROWS, FEW_ROWS, LARGE = 16, 4, 2_000_000  # rows of the probe, of a large model, parameters of a large model
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


def subject_of(asked: Any) -> Subject:
    """The network, its sequences and its training. Raises RhnError."""
    if asked.module:
        return _of_module(asked)
    if asked.checkpoint:
        return _stored(asked)
    return _preset(asked) if asked.preset else _new(asked)


def _new(asked: Any) -> Subject:
    if asked.input is not None:
        frames = read_frames(asked.input)
        title, build = new_model(asked, input_size=frames.shape[-1], output_size=frames.shape[-1])
        return Subject(title, build, frames, "squared", TRAINING | _batches(frames, asked))
    if asked.text is not None:
        corpus = _read_text(asked.text, "words", None)
        title, build = new_model(asked, LanguageModel, vocabulary_size=len(corpus.vocabulary))
        training = TRAINING | {"batches": _windows(corpus, asked.batch_size or TEXT_ROWS, WINDOW)}
        return Subject(title, build, _tokens(corpus, build(0)), None, training)
    title, build = new_model(asked)
    frames, training = _chorales(build(0), asked, ROWS)
    return Subject(title, build, frames, None, TRAINING | training)


def _of_module(asked: Any) -> Subject:
    """A user's module, or a part of it, that predicts the next frames (T, B, m) from frames (T, B, m)."""
    frames = None if asked.input is None else read_frames(asked.input)
    sizes = {"input_size": KEYS if frames is None else frames.shape[-1], "hidden_size": asked.hidden_size}

    def build(seed: int) -> nn.Module:
        module = build_module(asked.module, **sizes, seed=asked.seed + seed)
        if asked.checkpoint is not None:
            load_weights(module, asked.checkpoint)
        return part_of(module, asked.submodule)

    name = f"{asked.module}, {asked.submodule}" if asked.submodule else asked.module
    about = {"name": name, "build": build, "many": asked.checkpoint is None}
    if frames is not None:
        return Subject(**about, sequences=frames, loss="squared", training=TRAINING | _batches(frames, asked))
    frames, training = _chorales(build(0), asked, ROWS)
    return Subject(**about, sequences=frames, loss="bernoulli", training=TRAINING | training)


def _batches(frames: torch.Tensor, asked: Any) -> dict[str, int]:
    rows = frames.shape[1] if frames.dim() == 3 else 1
    return {"batches": -(-rows // (asked.batch_size or ROWS))}


def _preset(asked: Any) -> Subject:
    from rhn.presets import preset
    from rhn.training.build import build_model as chorale_model
    from rhn.training.build import build_model as language_model

    config = preset(asked.preset, asked.cell, asked.cell_options)
    if not isinstance(config, LanguageConfig):
        if asked.text:
            raise InvalidInputError(f"--text is for language models, and {asked.preset} reads chorales")

        def build_chorale_model(seed: int) -> PolyphonicModel:
            return chorale_model(replace(config, seed=asked.seed + seed))

        frames, training = _chorales(build_chorale_model(0), asked, config.batch_size)
        training |= {name: getattr(config, name) for name in ("learning_rate", "momentum", "epochs")}
        return Subject(asked.preset, build_chorale_model, frames, None, training)
    if asked.cell or asked.cell_options:
        given = "--cell" if asked.cell else "--cell-option"
        raise InvalidInputError(f"{given} is for the chorales' presets, {asked.preset} has its own")
    if asked.text is None:
        raise InvalidInputError(f"{asked.preset} is a language model, which reads a text: add --text FILE")
    corpus = _read_text(asked.text, config.unit, config.vocabulary_size)
    size = len(corpus.vocabulary)

    def build(seed: int) -> LanguageModel:
        return language_model(config, size, seed=asked.seed + seed)

    # its loss is a sum over the window, without momentum: `rhn.training.language_step`
    training = {"learning_rate": config.learning_rate * config.window, "momentum": 0.0, "epochs": config.epochs}
    training["batches"] = _windows(corpus, asked.batch_size or config.batch_size, config.window)
    return Subject(asked.preset, build, _tokens(corpus, build(0)), None, training)


def _stored(asked: Any) -> Subject:
    model = load_model(asked.checkpoint, asked.cell)
    stored_training = (read_metadata(asked.checkpoint).get("metadata") or {}).get("train") or {}
    name = asked.checkpoint.name
    if isinstance(model, LanguageModel):
        from rhn.training.trained import load_text_model

        if asked.text is None:
            raise InvalidInputError(f"{asked.checkpoint} holds a language model, which reads a text: add --text FILE")
        stored = load_text_model(asked.checkpoint, asked.cell)
        corpus, config = stored.corpus(asked.text), stored.config
        training = {"learning_rate": config.learning_rate * config.window, "momentum": 0.0, "epochs": config.epochs}
        training["batches"] = _windows(corpus, asked.batch_size or config.batch_size, config.window)
        return Subject(name, lambda seed: model, _tokens(corpus, model), None, training, many=False)
    if asked.text is not None:
        raise InvalidInputError(f"--text is for language models, and {asked.checkpoint} holds none")
    if not isinstance(model, PolyphonicModel):
        kind = type(model).__name__
        raise InvalidInputError(f"{asked.checkpoint} holds only a {kind}: expected a network with an output")
    frames, batches = (read_frames(asked.input), {}) if asked.input else _chorales(model, asked, ROWS)
    known = {key: value for key in TRAINING if isinstance(value := stored_training.get(key), int | float)}
    return Subject(name, lambda seed: model, frames, None, TRAINING | {"batches": 1} | batches | known, many=False)


def read_frames(path: Path) -> torch.Tensor:
    """Read frames (T, m), or several sequences (T, S, m), from a file of numbers. Raises DataError or InvalidInputError."""
    frames = torch.from_numpy(read_numbers(path).values)
    return frames.transpose(0, 1) if frames.dim() == 3 else frames


def _chorales(model: nn.Module, asked: Any, batch_size: int) -> tuple[torch.Tensor, dict[str, int]]:
    from rhn.data import chorales

    corpus = chorales(asked.data, progress=False)
    return chorale_probe(model, corpus), {"batches": chorale_batches(corpus, asked.batch_size or batch_size)}


def _read_text(path: Path, unit: str, vocabulary_size: int | None):
    from rhn.data.text import read_text

    return read_text("text", path, unit=unit, vocabulary_size=vocabulary_size)


def _tokens(corpus, model: nn.Module) -> torch.Tensor:
    """Ids (T + 1, B), rows from evenly spaced places of the training text."""
    rows = PROBE_ROWS if sum(p.numel() for p in model.parameters()) <= LARGE else FEW_ROWS
    length = TOKENS + 1
    last = len(corpus.train) - length
    if last < 0:
        raise DataError(f"the text has {len(corpus.train)} tokens to train on, expected at least {length}")
    starts = np.unique(np.linspace(0, last, rows).astype(int))
    return torch.from_numpy(np.stack([np.asarray(corpus.train[s : s + length]) for s in starts], 1).astype(np.int64))


def _windows(corpus, rows: int, window: int) -> int:
    return max(1, (len(corpus.train) // rows - 1) // window)
