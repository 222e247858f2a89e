"""Read the network and the data that a user gives: a module with sequences, or a checkpoint or run
folder with the data of its training run.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from analysis.network import OURS
from gersgorin import door
from rhn.cells import Cell, name_of_cell
from rhn.checkpoints import read
from rhn.data import Corpus
from rhn.data import chorales as read_chorales
from rhn.data.corpus import SPLITS, find
from rhn.data.text import TextCorpus
from rhn.training.trained import corpus_of, stored_data
from rhn.utils.io import as_path

Cut = Callable[..., Sequence[np.ndarray]]
"""A function (corpus of a text, split, **lengths) that returns sequences."""


def no_report(done: int, total: int) -> None:
    """Report no progress."""


@dataclass(frozen=True, eq=False)
class NetworkAndData:
    """A network and the sequences that it reads."""

    model: Any
    sequences: Any
    data: str = "x"
    """Name of the data."""
    split: str = ""
    """Split of the data; "" for sequences of no split."""
    corpus: Corpus | TextCorpus | None = None
    """The corpus of the sequences, if it is known."""
    chosen: int = 0
    """Number of pieces that the user chose by name."""


def opened(
    model: Any,
    batch: Any,
    cut: Cut,
    *,
    split: str,
    chorales: Sequence[str],
    cell: str | None,
    **lengths: int | None,
) -> NetworkAndData:
    """Read a network and its sequences; the arguments are those of `analysis.lesion`.

    cut: function that cuts the sequences out of a split of a text, with `lengths`.

    Raises CheckpointError, DataError or InvalidInputError.
    """
    if isinstance(model, NetworkAndData):
        return model
    is_path, named = isinstance(model, str | Path), isinstance(batch, str | Path)
    door.require(is_path or cell is None, "cell", cell, "none, beside a network")
    door.require(is_path or batch is not None, "data", None, "sequences, for a network")
    checkpoint = read(model) if is_path else None
    network = checkpoint.model(cell) if checkpoint else model
    if batch is not None and not named:
        return NetworkAndData(network, batch, split=split)
    if checkpoint:
        path = as_path(batch) if named else stored_data(checkpoint).path
        corpus = corpus_of(checkpoint, path if named else None)
    else:
        path, corpus = as_path(batch), read_chorales(batch)
    return in_corpus(network, corpus, path, cut, split, chorales, **lengths)


def in_corpus(
    model: Any,
    corpus: Corpus | TextCorpus,
    path: Path | None,
    cut: Cut,
    split: str = "",
    names: Sequence[str] = (),
    **lengths: int | None,
) -> NetworkAndData:
    """Return a network with sequences of a corpus; names: those of chorales."""
    door.require(split in ("", *SPLITS), "split", split, ", ".join(SPLITS))
    given = {key: length for key, length in lengths.items() if length is not None}
    if isinstance(corpus, TextCorpus):
        door.require(not names, "chorales", " ".join(names), "none, for a text")
        split, data = split or "valid", path.name if path else corpus.name
        return NetworkAndData(model, cut(corpus, split, **given), data, split, corpus)
    door.require(not given, " and ".join(given), [*given.values()], "none, for chorales")
    split, data = split or "test", path.name if path else "chorales"
    pieces = [*getattr(corpus, split)]
    if not names:
        return NetworkAndData(model, pieces, data, split, corpus)
    every = pieces + corpus.pieces
    chosen = [find(every, f"{split}-{name}" if name.isdecimal() else name) for name in names]
    data = ", ".join(piece.name for piece in chosen)
    return NetworkAndData(model, chosen, data, "", corpus, len(chosen))


def network_title(network: nn.Module) -> str:
    """Return the cells of a network, such as "2 x lstm, 8 units"; of another module its class."""
    if not isinstance(network, (*OURS, Cell)):
        return type(network).__name__
    cells: Any = [network] if isinstance(network, Cell) else network.cells
    titles = Counter(map(_title, cells))
    return " + ".join(f"{n} x {title}" if n > 1 else title for title, n in titles.items())


def _title(cell: Any) -> str:
    depth = f", depth {cell.depth}" if cell.depth > 1 else ""
    return f"{name_of_cell(cell)}{depth}, {cell.hidden_size} units"
