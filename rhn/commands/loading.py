"""What the commands load: checkpoints with what they say of themselves, and the data that they are about."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rhn.errors import CheckpointError, DataError, InvalidInputError, RhnError
from rhn.files import atomic_path

if TYPE_CHECKING:
    from rhn.data.text import TextCorpus, Vocabulary
    from rhn.language.config import LanguageConfig
    from rhn.models import LanguageModel, PolyphonicModel

NOTE = "command.json"  # in a run's folder: where its data was


@dataclass(frozen=True)
class TrainedText:
    """A checkpoint of a language model: how it was trained, on which corpus, with which vocabulary."""

    model: "LanguageModel"
    config: "LanguageConfig"
    vocabulary: "Vocabulary"

    def corpus(self, data: Path | None) -> "TextCorpus":
        """The text that it was trained on, or one that makes the same vocabulary; raises DataError otherwise."""
        from rhn.data.text import read_text

        return read_text(self.config.corpus, data, vocabulary=self.vocabulary)


def model_class(checkpoint: Path) -> str:
    """The name of the class in a checkpoint; raises CheckpointError."""
    from rhn.checkpoints import read_metadata

    return read_metadata(checkpoint)["class"]


def chorale_model(checkpoint: Path, cell: str | None) -> "PolyphonicModel":
    """The polyphonic model in a checkpoint, with a cell of the user's own where one is named.

    Raises CheckpointError, or InvalidInputError for a checkpoint of something else.
    """
    from rhn.models import PolyphonicModel

    return _model(checkpoint, cell, PolyphonicModel)


def text_model(checkpoint: Path, cell: str | None) -> TrainedText:
    """The language model in a checkpoint; raises as `chorale_model`, also where it does not say how it was trained."""
    from rhn.checkpoints import read_metadata
    from rhn.data.text import Vocabulary
    from rhn.language.config import LanguageConfig
    from rhn.models import LanguageModel

    model = _model(checkpoint, cell, LanguageModel)
    about = read_metadata(checkpoint).get("metadata")
    try:
        config = LanguageConfig(**about["train"])
        vocabulary = Vocabulary.from_json(about["vocabulary"])
    except (KeyError, TypeError, ValueError, RhnError) as error:
        raise CheckpointError(
            f"{checkpoint} does not say how it was trained ({error}): expected one written by rhn train"
        ) from error
    if len(vocabulary) != model.vocabulary_size:
        raise CheckpointError(
            f"{checkpoint} holds a vocabulary of {len(vocabulary)} symbols, its model has {model.vocabulary_size}"
        )
    return TrainedText(model, config, vocabulary)


def chorale_corpus(data: Path | None):
    """The chorales of a file, or those rebuilt from music21's scores."""
    from rhn.data import chorales

    return chorales(data)


def text_corpus(config: "LanguageConfig", data: Path | None) -> "TextCorpus":
    """The text of a configuration; raises DataError."""
    from rhn.data.text import read_text

    unit = {"unit": config.unit} if config.corpus == "text" else {}  # the others have their own
    sizes = {"max_tokens": config.max_tokens, "vocabulary_size": config.vocabulary_size}
    return read_text(config.corpus, data, **unit, **sizes)


def keep_data_path(out: Path, data: Path | None) -> None:
    """Note in a run's folder where its data is, for `rhn resume`."""
    with atomic_path(out / NOTE) as temporary:
        temporary.write_text(json.dumps({"data": None if data is None else str(data.resolve())}) + "\n")


def kept_data_path(out: Path) -> Path | None:
    """Where a run's data was when it was trained; None where nothing is noted."""
    try:
        where = json.loads((out / NOTE).read_text())["data"]
        return None if where is None else Path(where)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{out / NOTE} cannot be read ({error}): delete it, and give --data") from error


def _model(checkpoint: Path, cell: str | None, kind: type):
    from rhn.checkpoints import load_checkpoint
    from rhn.models import with_cell

    name = model_class(checkpoint)
    if name != kind.__name__:
        hint = {"LanguageModel": "rhn generate", "PolyphonicModel": "rhn sample"}.get(name)
        do = f"use {hint}" if hint else "expected a model made by rhn train"
        raise InvalidInputError(f"{checkpoint} holds a {name}{'' if hint else ' alone'}: {do}")
    return load_checkpoint(checkpoint, factory=with_cell(cell, kind) if cell else None)
