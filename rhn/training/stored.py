"""The data, the configuration and the vocabulary with which a checkpoint was trained.

Data are those in the stored path, if they have the stored checksum, or those that the user names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rhn.checkpoints import Checkpoint
from rhn.data.jsb import chorales
from rhn.errors import CheckpointError, InvalidInputError, RhnError
from rhn.utils.io import read_config
from rhn.utils.seed_folders import home_of

if TYPE_CHECKING:
    from rhn.data import Corpus, TextCorpus, Vocabulary
    from rhn.training.config import LanguageConfig


@dataclass(frozen=True)
class StoredData:
    """The path and the checksum of the data of a training run, None if not stored. Without a path
    they are the published data.
    """

    path: Path | None
    checksum: str | None


def stored_data(checkpoint: Checkpoint) -> StoredData:
    """Return the data of a training run, from the checkpoint and the config.json of its folder (for
    the folder seed-N/ of one seed, of the folder above). Raises InvalidInputError for a damaged
    config.json.
    """
    data, config = checkpoint.metadata.get("data"), home_of(checkpoint.path.parent) / "config.json"
    stored = dict(data) if isinstance(data, Mapping) else {}
    if config.exists():
        stored |= {"path": read_config(config).get("path")}
    path = stored.get("path")
    return StoredData(None if path is None else Path(str(path)), stored.get("checksum"))


def corpus_of(checkpoint: Checkpoint, data: Path | None = None) -> "Corpus | TextCorpus":
    """Load the chorales or the complete text of a training run, or other `data`: a text is then
    read in the vocabulary of the model.

    Raises InvalidInputError if the data of the training run have changed, and DataError.
    """
    stored = stored_data(checkpoint)
    path = stored.path if data is None else data
    corpus: Corpus | TextCorpus
    if checkpoint.header["class"] == "LanguageModel":
        from rhn.data.text import published_files, read_text  # chorales need no code of texts

        config, vocabulary = text_of(checkpoint)
        own = path is not None and not published_files(config.corpus, path)
        corpus = read_text("text" if own else config.corpus, path, vocabulary=vocabulary)
        if config.max_tokens is not None:  # the checksum is that of a part
            return corpus
    else:
        corpus = chorales(path)
    if data is None and stored.checksum not in (None, corpus.checksum):
        raise InvalidInputError(
            f"checksum of {path or corpus.source} is {corpus.checksum:.12}: expected "
            f"{stored.checksum!s:.12}, or other data by --data"
        )
    return corpus


def text_of(checkpoint: Checkpoint) -> "tuple[LanguageConfig, Vocabulary]":
    """Return the configuration and the vocabulary of a language model. Raises CheckpointError."""
    from rhn.data.vocabulary import Vocabulary
    from rhn.training.config import LanguageConfig, without_removed

    about, config = checkpoint.metadata, checkpoint.header["config"]
    try:
        found = LanguageConfig(**without_removed(about["train"])), Vocabulary(**about["vocabulary"])
    except (KeyError, TypeError, AttributeError, RhnError) as error:
        raise CheckpointError(
            f"{checkpoint.path} is {checkpoint.header['class']} without a text: expected a "
            "language model of rhn train"
        ) from error
    if len(found[1]) != (size := config.get("vocabulary_size")):
        raise CheckpointError(
            f"number of symbols in {checkpoint.path} is {len(found[1])}: expected {size}"
        )
    return found
