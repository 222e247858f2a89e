"""What a report's network reads: a chorale, a text, or the numbers of a file; and why not, where there is nothing for it to read."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from analysis.texts import Excerpt
from gersgorin.modules import build_module, load_weights
from gersgorin.sources import TEXT_STEPS, Source, first_tokens, read_source
from gersgorin.subject import laid_out
from gersgorin.watch import Watched
from rhn.checkpoints import load_model
from rhn.data.corpus import KEYS
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options of `gersgorin.sources`, for one checkpoint."""

    checkpoint: Path
    cell: str | None = None
    chorale: str = "bwv269"
    data: Path | None = None
    text: Path | None = None
    input: Path | None = None
    unit: str | None = None
    module: str | None = None
    submodule: str | None = None
    steps: int | None = None


@dataclass(frozen=True, kw_only=True)
class Read:
    """A network and what it reads."""

    model: nn.Module
    source: Source
    sequence: np.ndarray
    """As both packages take it: numbers (T, m), or an `Excerpt` of ids (T,); for a user's module, laid out as that takes it."""
    submodule: str | None = None
    """The part of the module in which to look; None for all of it."""


def read_network(asked: Asked) -> Read:
    """The network of a checkpoint with a sequence; raises CheckpointError, DataError or InvalidInputError."""
    if asked.module is not None:
        return _module(asked)
    model = load_model(asked.checkpoint, asked.cell)
    if isinstance(model, LanguageModel):
        return _text(asked, model)
    if asked.text is not None:
        raise InvalidInputError(f"--text is for a language model, and {asked.checkpoint} holds none: leave it out")
    size = getattr(model, "input_size", KEYS)
    if asked.input is None and size != KEYS:
        raise InvalidInputError(
            f"{asked.checkpoint} reads {size} inputs a step, not a chorale's {KEYS} keys: say what, with --input FILE"
        )
    source = read_source(asked)
    return Read(model=model, source=source, sequence=np.asarray(source.sequence()))


def _module(asked: Asked) -> Read:
    """A module of the user's with the weights of the file."""
    source = read_source(asked)
    module = build_module(asked.module, input_size=source.input_size, weights=asked.checkpoint)
    load_weights(module, asked.checkpoint)
    sequence = laid_out(Watched(module, submodule=asked.submodule), torch.as_tensor(source.sequence()))
    return Read(model=module, source=source, sequence=sequence.numpy(), submodule=asked.submodule)


def _text(asked: Asked, model: LanguageModel) -> Read:
    """From the beginning of --text, or of the validation part of what the network was trained on."""
    from rhn.language.trained import load_text_model

    if asked.input is not None:
        raise InvalidInputError(f"--input is for numbers, and {asked.checkpoint} holds a language model: give --text")
    trained = load_text_model(asked.checkpoint, asked.cell)
    steps = asked.steps or TEXT_STEPS
    if asked.text is not None:
        name, ids = asked.text.name, first_tokens(asked.text, trained.vocabulary, steps)
    else:
        corpus = trained.corpus(asked.data)
        known = "of its training" if trained.config.corpus == "text" else trained.config.corpus
        name, ids = f"{known} (validation)", np.asarray(corpus.valid[:steps])
    source = Source(name=name, kind="text", values=ids, unit="tokens").cut(asked.steps)
    excerpt = Excerpt(source.values, name=name, vocabulary=trained.vocabulary)
    return Read(model=model, source=source, sequence=excerpt)
