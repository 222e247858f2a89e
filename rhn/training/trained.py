"""Load what a training run used: a language model with its vocabulary and text, the chorales of a
checkpoint, or a network with its initial weights.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from rhn.checkpoints import load_model, read_metadata, weights_file
from rhn.data import Corpus, chorales
from rhn.data.text import TextCorpus, Vocabulary, belongs_to, read_text
from rhn.errors import CheckpointError, RhnError
from rhn.models import LanguageModel
from rhn.training.config import LanguageConfig, read_config
from rhn.training.ensemble import weights_generator


def data_path(path: Path) -> Path | None:
    """Return the path of the data of a training run, from the config.json of its folder; None if
    there is no such entry or file.

    path: the folder, a checkpoint in it, or a checkpoint in its folder seed-N/.

    Raises InvalidInputError for a damaged config.json.
    """
    folder = path if path.is_dir() else path.parent
    config = folder / "config.json"
    if not config.exists() and folder.name.startswith("seed-"):
        config = folder.parent / "config.json"
    found = read_config(config).get("path") if config.exists() else None
    return Path(found) if isinstance(found, str) else None


def corpus_of(checkpoint: Path, data: Path | None) -> Corpus:
    """Load the chorales from the file `data`. None: load the file that the config.json of the
    training run names. If it names no file, rebuild the chorales from music21's scores.
    """
    return chorales(data_path(checkpoint) if data is None else data)


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

    def corpus(self, data: Path | None) -> TextCorpus:
        """Load the complete corpus of the training run, or another text in the vocabulary of the
        model.

        data: folder or archive of that corpus, or file or folder of another text. None: the path in
        the training run's config.json, else the folder of `rhn data get`.

        Raises:
            InvalidInputError: `data` is missing, and the model was trained on the user's own text.
            DataError: files are missing or damaged, or do not fit the vocabulary.
        """
        name, data = self.config.corpus, data_path(self.checkpoint) if data is None else data
        if data is not None and not belongs_to(name, data):
            name = "text"
        return read_text(name, data, vocabulary=self.vocabulary)


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
