"""The data, the configuration and the vocabulary with which a checkpoint was trained.

Data are those in the stored path, if they have the stored checksum, or those that the user names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rhn.checkpoints import Checkpoint
from rhn.data import Corpus, TextCorpus, Vocabulary, chorales, read_text
from rhn.data.text import published_files
from rhn.errors import CheckpointError, InvalidInputError, RhnError
from rhn.training.config import LanguageConfig, read_config


@dataclass(frozen=True)
class StoredData:
    """The data of a training run, as its files name it."""

    path: Path | None = None
    """Path of the data; None: not stored, or the data that is read if no path is given."""
    checksum: str | None = None
    """Checksum of the data; None: not stored."""

    def require(self, corpus: Corpus | TextCorpus) -> None:
        """Raise InvalidInputError if a corpus is not that of the training run."""
        if self.checksum not in (None, corpus.checksum):
            raise InvalidInputError(
                f"checksum of {self.path or corpus.source} is {corpus.checksum:.12}: expected "
                f"{self.checksum:.12}, or other data by --data"
            )


def stored_data(checkpoint: Checkpoint) -> StoredData:
    """Return the data of a training run, from the checkpoint and the config.json of its folder (for
    the folder seed-N/ of one seed, of the folder above). Raises InvalidInputError for a damaged
    config.json.
    """
    data = checkpoint.metadata.get("data")
    stored = dict(data) if isinstance(data, Mapping) else {}
    folder = checkpoint.path.parent
    for home in (folder, folder.parent) if folder.name.startswith("seed-") else (folder,):
        if (home / "config.json").exists():
            stored |= {"path": read_config(home / "config.json").get("path")}
    return _stored(stored.get("path"), stored.get("checksum"))


def data_of_config(file: Path) -> StoredData:
    """Return the data of the training run that a config.json describes."""
    config = read_config(file)
    return _stored(config.get("path"), config.get("data") or config.get("text"))


def _stored(path: Any, checksum: Any) -> StoredData:
    return StoredData(
        Path(path) if isinstance(path, str) else None,
        checksum if isinstance(checksum, str) else None,
    )


def corpus_of(checkpoint: Checkpoint, data: Path | None = None) -> Corpus | TextCorpus:
    """Load the chorales or the complete text of a training run, or other `data`: a text is then
    read in the vocabulary of the model.

    Raises InvalidInputError if the data of the training run have changed, and DataError.
    """
    stored = stored_data(checkpoint)
    path = stored.path if data is None else data
    corpus: Corpus | TextCorpus
    if checkpoint.header["class"] == "LanguageModel":
        config, vocabulary = text_of(checkpoint)
        own = path is not None and not published_files(config.corpus, path)
        corpus = read_text("text" if own else config.corpus, path, vocabulary=vocabulary)
        if config.max_tokens is not None:  # the checksum is that of a part
            return corpus
    else:
        corpus = chorales(path)
    if data is None:
        stored.require(corpus)
    return corpus


def text_of(checkpoint: Checkpoint) -> tuple[LanguageConfig, Vocabulary]:
    """Return the configuration and the vocabulary of a language model. Raises CheckpointError."""
    about, config = checkpoint.metadata, checkpoint.header["config"]
    try:
        found = LanguageConfig(**about["train"]), Vocabulary(**about["vocabulary"])
    except (KeyError, TypeError, RhnError) as error:
        raise CheckpointError(
            f"{checkpoint.path} is {checkpoint.header['class']} without a text: expected a "
            "language model of rhn train"
        ) from error
    if len(found[1]) != (size := config.get("vocabulary_size")):
        raise CheckpointError(
            f"number of symbols in {checkpoint.path} is {len(found[1])}: expected {size}"
        )
    return found
