"""Load what a training run used: a language model with its vocabulary and text, the chorales of a
checkpoint, or a network with its initial weights.

A model that was trained on a data file is measured on this file again. If the model is measured on
other data, a sentence is logged.
"""

import contextlib
import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rhn.checkpoints import entry_of, load_model, read_metadata, weights_file
from rhn.data import Corpus, chorales
from rhn.data.text import TextCorpus, Vocabulary, belongs_to, read_text
from rhn.errors import CheckpointError, InvalidInputError, RhnError
from rhn.models import LanguageModel
from rhn.training.config import LanguageConfig, read_config
from rhn.training.ensemble import weights_generator

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredData:
    """The data of a training run or study, as its files name it."""

    name: str
    """Name in messages: a folder, a checkpoint, or a trial."""
    path: Path | None = None
    """Path of the data; None: not stored, or the data that is read if no path is given."""
    checksum: str | None = None
    """Checksum of the data; None: not stored."""

    def difference(self, path: Path | None, corpus: Corpus | TextCorpus) -> str:
        """Describe the difference between the data of the training run and a corpus read from
        `path`; "" if they are the same, or if no checksum is stored.
        """
        if self.checksum in (None, corpus.checksum):
            return ""
        usual = "the rebuilt chorales have" if isinstance(corpus, Corpus) else f"{corpus.name} has"
        return (
            f"{self.name} was trained on data with checksum {self.checksum:.12}, but "
            f"{usual if path is None else f'{path} has'} {corpus.checksum:.12}"
        )

    def require(self, path: Path | None, corpus: Corpus | TextCorpus) -> None:
        """Raise InvalidInputError if a corpus read from `path` is not that of the training run."""
        if other := self.difference(path, corpus):
            raise InvalidInputError(f"{other}: give its own, --data PATH")

    def check(self, given: Path | None, corpus: Corpus | TextCorpus) -> None:
        """Compare the corpus to measure on with that of the training run. Another corpus in the
        stored file raises InvalidInputError. Any other difference is logged.

        given: the user's choice of a path, from which the corpus was read; None: it was read from
        the stored path.
        """
        if given is None and self.path is not None:
            self.require(self.path, corpus)
        else:
            self.warn(given, corpus)

    def warn(self, path: Path | None, corpus: Corpus | TextCorpus) -> None:
        """Log a sentence, once, if a corpus read from `path` is not that of the training run."""
        if other := self.difference(path, corpus):
            _warn(f"measured on other data: {other}")

    def chorales(self, given: Path | None) -> Path | None:
        """Return the file of chorales to measure on: the given or else the stored one; None: the
        chorales rebuilt from music21's scores. Errors and warnings are those of `check`.
        """
        path = self.path if given is None else given
        if self.checksum is not None:
            self.check(given, chorales(path))
        return path


@functools.cache  # a command may read the data of one network several times
def _warn(sentence: str) -> None:
    logger.warning(sentence)


def stored_data(path: Path) -> StoredData:
    """Return the data of a training run, from the config.json of its folder, or else from the
    metadata of its checkpoint.

    path: the folder, a checkpoint in it, a checkpoint in its folder seed-N/, or any checkpoint.

    Raises InvalidInputError for a damaged config.json, CheckpointError for a damaged checkpoint.
    """
    file = config_file(path if path.is_dir() else path.parent)
    config = read_config(file) if file.exists() else {}
    if config and path.is_dir():
        return _stored(path, config, config)
    data = entry_of(read_metadata(path)["metadata"], "data")
    return _stored(path, data | config, {"data": data.get("checksum")})


def config_file(folder: Path) -> Path:
    """Return the path of the config.json of a training run. For the folder seed-N/ of one of its
    seeds, the file is in the folder above.
    """
    file = folder / "config.json"
    if not file.exists() and folder.name.startswith("seed-"):
        return folder.parent / "config.json"
    return file


def data_of_config(file: Path) -> StoredData:
    """Return the data of the training run that a config.json describes. Raises
    InvalidInputError.
    """
    config = read_config(file)
    return _stored(file, config, config)


def _stored(name: Path, places: Mapping[str, Any], checksums: Mapping[str, Any]) -> StoredData:
    path = places.get("path")
    checksum = checksums.get("data") or checksums.get("text")
    return StoredData(
        str(name),
        Path(path) if isinstance(path, str) else None,
        checksum if isinstance(checksum, str) else None,
    )


def corpus_of(checkpoint: Path, data: Path | None) -> Corpus:
    """Load the chorales from the file `data`. None: load the file of the training run, or, if none
    is stored, rebuild the chorales from music21's scores. A sentence is logged if they are not the
    chorales of the training run.

    Raises InvalidInputError if the file of the training run has changed.
    """
    return chorales(stored_data(checkpoint).chorales(data))


def initial_model(
    path: str | Path, seed: int = 0, cell: str | None = None
) -> tuple[nn.Module, bool]:
    """Return the network of a checkpoint before training, and True if the weights are the initial
    weights of this checkpoint.

    Checkpoints of training runs and studies name the seed of their initial weights. For other files
    new weights are drawn with `seed`, and the second value is False. `cell` and errors as for
    `load_model`.
    """
    model, header = load_model(path, cell), read_metadata(path)
    about, own = header["metadata"], None
    # the errors are those of metadata of something else
    with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
        if "train" in about:
            run, name, trial = about["train"], "cell", 0
        else:
            run, name, trial = about["study"], "arch", about["trial"]
        own = weights_generator(run["seed"], run[name], run["depth"], trial)
    generator = own or torch.Generator().manual_seed(seed)
    if hasattr(model, "reset_parameters"):
        model.reset_parameters(generator)
        return model, own is not None
    dtype = next(model.parameters()).dtype
    return type(model)(**header["config"], generator=generator, dtype=dtype), own is not None


@dataclass(frozen=True)
class TrainedText:
    """A trained language model, its configuration and its vocabulary."""

    checkpoint: Path
    model: LanguageModel
    config: LanguageConfig
    vocabulary: Vocabulary

    @property
    def data(self) -> StoredData:
        """The data of the training run. The checksum is left out if the training run read only the
        first `max_tokens` of each split.
        """
        found = stored_data(self.checkpoint)
        return found if self.config.max_tokens is None else replace(found, checksum=None)

    def corpus(self, data: Path | None) -> TextCorpus:
        """Load the complete corpus of the training run, or another text in the vocabulary of the
        model.

        data: folder or archive of that corpus, or file or folder of another text. None: the path in
        the training run's config.json, else the folder of `rhn data get`.

        Another text than that of the training run is logged.

        Raises:
            InvalidInputError: `data` is missing, and the model was trained on the user's own text;
                or the text in the path of the training run has changed.
            DataError: files are missing or damaged, or do not fit the vocabulary.
        """
        name, stored = self.config.corpus, self.data
        path = stored.path if data is None else data
        if path is not None and not belongs_to(name, path):
            name = "text"
        corpus = read_text(name, path, vocabulary=self.vocabulary)
        stored.check(data, corpus)
        return corpus


def load_text_model(path: Path, cell: str | None = None) -> TrainedText:
    """Load the language model of a checkpoint, or the best model in the folder of a training run.

    cell: the user's own cell, as package.module:factory. This module is imported.

    Raises CheckpointError for a file without a configuration of its training run, or
    InvalidInputError for another kind of model.
    """
    path = weights_file(path)
    model, about = load_model(path, cell, LanguageModel), read_metadata(path)["metadata"]
    try:
        config = LanguageConfig(**about["train"])
        vocabulary = Vocabulary.from_json(about["vocabulary"])
    except (KeyError, TypeError, ValueError, RhnError) as error:
        raise CheckpointError(
            f"{path} has no record of its training ({error}): expected one written by rhn train"
        ) from error
    if len(vocabulary) != model.vocabulary_size:
        raise CheckpointError(
            f"{path} holds a vocabulary of {len(vocabulary)} symbols and a model of "
            f"{model.vocabulary_size}: expected as many; save the model with its own vocabulary"
        )
    return TrainedText(path, model, config, vocabulary)
