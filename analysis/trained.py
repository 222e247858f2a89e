"""Read the network and the data that a user gives: a module with sequences, or a checkpoint or run
folder with the data of its training run.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from analysis.network import cells_of
from rhn.cells import Cell, name_of_cell
from rhn.checkpoints import load, read
from rhn.data import Corpus, chorales
from rhn.data.text import TextCorpus
from rhn.errors import InvalidInputError
from rhn.training.trained import corpus_of
from rhn.utils.old import counted
from rhn.utils.validation import kind_of


def trained_with_data(
    path: str | Path, data: str | Path | None = None, cell: str | None = None
) -> tuple[Any, Corpus | TextCorpus]:
    """Return the network in a checkpoint, or the best network of a run folder, and a corpus for it.

    data: a file of chorales, or a text as a file or a folder; None: the data of the training run.
    cell: the cell of the checkpoint if it is the user's own, as package.module:factory.

    Raises CheckpointError, DataError or InvalidInputError.
    """
    checkpoint = read(path)
    return checkpoint.model(cell), corpus_of(checkpoint, None if data is None else Path(data))


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
        data: sequences, or the path of a file of chorales or a text; None: the data of the training
        run.
        split: split of the corpus to read; "": test for chorales, valid for a text. If `data` is
        sequences, their name.
        cut: function that cuts the sequences out of a split of a text.
        cell: as for `trained_with_data`.

    Raises InvalidInputError if a network has no data, and the errors of `trained_with_data`.
    """
    named = isinstance(data, str | Path)
    if cell is not None and not isinstance(model, str | Path):
        raise InvalidInputError("cell is given with a network, which has its cell: leave it out")
    if isinstance(model, str | Path):
        if data is not None and not named:
            return load(model, cell), data, split
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


def network_title(network: nn.Module) -> str:
    """Return the cells of a network in words: "2 x lstm, 8 units"."""
    titles = Counter(map(_title, cells_of(network).values()))
    return " + ".join(f"{n} x {title}" if n > 1 else title for title, n in titles.items())


def _title(cell: Cell) -> str:
    depth = f", depth {cell.depth}" if cell.depth > 1 else ""
    return f"{name_of_cell(cell)}{depth}, {counted(cell.hidden_size, 'unit')}"
