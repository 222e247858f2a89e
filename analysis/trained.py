"""Read the network and the data that a user gives: a module with sequences, or a checkpoint or a
run folder with the data of its training run.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from rhn.checkpoints import load_model, read_metadata
from rhn.data import Corpus, chorales
from rhn.data.text import TextCorpus
from rhn.errors import InvalidInputError
from rhn.training.trained import corpus_of, load_text_model
from rhn.utils.wording import kind_of


def trained_with_data(
    path: str | Path, data: str | Path | None = None, cell: str | None = None
) -> tuple[Any, Corpus | TextCorpus]:
    """The network in a checkpoint, or the best one of a run folder, and its corpus or another one.

    data: a file of chorales, or a text as a file or a folder; None: that of the training run. cell:
    a cell of the user's own, package.module:factory. Raises CheckpointError, DataError,
    InvalidInputError.
    """
    path, data = Path(path), None if data is None else Path(data)
    if read_metadata(path)["class"] == "LanguageModel":
        trained = load_text_model(path, cell)
        return trained.model, trained.corpus(data)
    return load_model(path, cell), corpus_of(path, data)


def opened(
    model: Any,
    data: Any,
    split: str,
    cut: Callable[[TextCorpus, str], list],
    cell: str | None = None,
) -> tuple[nn.Module, Any, str]:
    """Return (the network, its sequences, the name of their split).

    Args:
        model: a network, or the path of a checkpoint or run folder.
        data: sequences, or the path of a file of chorales or a text; None: that of the training
        run.
        split: of the corpus; "": test for chorales, valid for a text. The name of given sequences.
        cut: cuts the sequences out of a split of a text.
        cell: as for `trained_with_data`.

    Raises InvalidInputError for a network without data, and the errors of `trained_with_data`.
    """
    named = isinstance(data, str | Path)
    if isinstance(model, str | Path):
        if data is not None and not named:
            return load_model(model, cell), data, split
        model, corpus = trained_with_data(model, data, cell)
    elif data is None:
        raise InvalidInputError(
            f"there are no data for {kind_of(model)}: expected sequences (T, m), or the file or "
            "folder of a trained network, which names its own"
        )
    elif named:
        corpus = chorales(data)
    else:
        return model, data, split
    text = isinstance(corpus, TextCorpus)
    split = split or ("valid" if text else "test")
    if split not in ("train", "valid", "test"):
        raise InvalidInputError(f"split is {split!r}: expected train, valid or test")
    return model, cut(corpus, split) if text else [*getattr(corpus, split)], split
