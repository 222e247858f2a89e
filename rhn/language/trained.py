"""A trained language model as its checkpoint describes it: weights, configuration, vocabulary, and where its text is."""

from dataclasses import dataclass
from pathlib import Path

from rhn.checkpoints import load_model, read_metadata, weights_file
from rhn.data.text import TextCorpus, Vocabulary, belongs_to, read_text
from rhn.engine.folder import data_path
from rhn.errors import CheckpointError, DataError, InvalidInputError, RhnError
from rhn.language.config import LanguageConfig
from rhn.models import LanguageModel

CHORALES = (".json", ".pickle", ".mat")  # files of chorales


@dataclass(frozen=True)
class TrainedText:
    """A checkpoint of a language model: how it was trained, on which corpus, with which vocabulary."""

    checkpoint: Path
    model: LanguageModel
    config: LanguageConfig
    vocabulary: Vocabulary

    def corpus(self, data: Path | None) -> TextCorpus:
        """The corpus that it was trained on, whole, or any other text in its vocabulary.

        data: that corpus, a folder or archive; or a text, a file or folder. None: where the run's folder says that it was, else
            where `rhn data get` puts it.

        Raises:
            InvalidInputError: `data` is a file of chorales, or is needed: nothing says where the user's own text is.
            DataError: files that are missing, damaged, or do not fit the vocabulary.
        """
        name, data = self.config.corpus, data_path(self.checkpoint) if data is None else data
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


def load_text_model(path: Path, cell: str | None = None) -> TrainedText:
    """The language model in a checkpoint, or the best one of a training's folder.

    cell: its cell, where that is one of the user's own; it is imported.

    Raises CheckpointError, also where the file does not say how it was trained, or InvalidInputError for a model of something else.
    """
    path = weights_file(path)
    model, about = load_model(path, cell, LanguageModel), read_metadata(path).get("metadata")
    try:
        config = LanguageConfig(**about["train"])
        vocabulary = Vocabulary.from_json(about["vocabulary"])
    except (KeyError, TypeError, ValueError, RhnError) as error:
        raise CheckpointError(
            f"{path} does not say how it was trained ({error}): expected one written by rhn train"
        ) from error
    if len(vocabulary) != model.vocabulary_size:
        raise CheckpointError(
            f"{path} holds a vocabulary of {len(vocabulary)} symbols, its model has {model.vocabulary_size}"
        )
    return TrainedText(path, model, config, vocabulary)
