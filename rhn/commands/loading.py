"""What the commands load: checkpoints with what they say of themselves, and the data that they are about."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rhn.errors import CheckpointError, DataError, InvalidInputError, RhnError

if TYPE_CHECKING:
    from rhn.data.text import TextCorpus, Vocabulary
    from rhn.language.config import LanguageConfig
    from rhn.models import LanguageModel, PolyphonicModel

CHORALES = (".json", ".pickle", ".mat")


@dataclass(frozen=True)
class TrainedText:
    """A checkpoint of a language model: how it was trained, on which corpus, with which vocabulary."""

    checkpoint: Path
    model: "LanguageModel"
    config: "LanguageConfig"
    vocabulary: "Vocabulary"

    def corpus(self, data: Path | None) -> "TextCorpus":
        """The corpus that it was trained on, whole, or any other text in its vocabulary.

        data: None, that corpus where `rhn data get` puts it; its folder or archive; or a text, a file or folder.

        Raises:
            InvalidInputError: `data` is a file of chorales, or is needed: the corpus is a text of the user's own.
            DataError: files that are missing, damaged, or do not fit the vocabulary.
        """
        from rhn.data.text import read_text
        from rhn.data.text.files import belongs_to

        name = self.config.corpus
        if data is None:
            if name == "text":
                raise InvalidInputError(
                    f"{self.checkpoint} was trained on a text of your own: say where a text is, --data FILE or FOLDER"
                )
            return read_text(name, vocabulary=self.vocabulary)
        if data.suffix.lower() in CHORALES:
            raise InvalidInputError(
                f"{data} is for chorales, {self.checkpoint} holds a language model: expected a text, a file or folder"
            )
        try:
            own = belongs_to(name, data)
        except OSError as error:
            raise DataError(f"{data} cannot be read: {error.strerror or error}") from error
        return read_text(name if own else "text", data, vocabulary=self.vocabulary)


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
    return TrainedText(checkpoint, model, config, vocabulary)


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


def about_data(data: Path | None) -> dict[str, str | None]:
    """What a run's config.json says of where its data is, for `rhn resume`."""
    return {"path": None if data is None else str(data.absolute())}


def _model(checkpoint: Path, cell: str | None, kind: type):
    from rhn.checkpoints import load_checkpoint
    from rhn.models import with_cell

    name = model_class(checkpoint)
    if name != kind.__name__:
        hint = {"LanguageModel": "rhn generate", "PolyphonicModel": "rhn sample"}.get(name)
        do = f"use {hint}" if hint else "expected a model made by rhn train"
        raise InvalidInputError(f"{checkpoint} holds a {name}{'' if hint else ' alone'}: {do}")
    return load_checkpoint(checkpoint, factory=with_cell(cell, kind) if cell else None)
