"""Sequences of music or text: read them with the network that a user gives, cut excerpts, make
batches, and compute the loss of each sequence.

A network starts each sequence from a state of zeros, and predicts each step from the steps before
it. The first step is not predicted.

Legend: T steps of a sequence (quarter notes or tokens), B sequences of a batch, N tokens of a text,
V symbols of a vocabulary.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from gersgorin import checks
from gersgorin.linalg.matrices import not_dense_real
from rhn.cells import Cell, name_of_cell
from rhn.checkpoints import read
from rhn.data.corpus import SPLITS, Corpus, find
from rhn.data.jsb import chorales as read_chorales
from rhn.kernels.losses import frame_nll
from rhn.models.networks import RecurrentModel
from rhn.training.batches import ChoraleBatch, constant_output_nll, evaluation_batches
from rhn.training.stored import corpus_of, stored_data
from rhn.utils.io import as_path
from rhn.utils.old_names import moved

if TYPE_CHECKING:  # chorales need no code of texts
    from rhn.data import TextCorpus

# of the probabilities of a batch, most of the memory with a large vocabulary
TEXT_BATCH_BYTES = 256 << 20
TEXT_ROWS = 64


Cut = Callable[..., Sequence[np.ndarray]]
"""A function (corpus of a text, split, **lengths) that returns sequences."""


@dataclass(frozen=True, eq=False)
class NetworkAndData:
    """A network and the sequences that it reads."""

    model: Any
    sequences: Any
    data: str = "x"
    """Name of the data."""
    split: str = ""
    """Split of the data; "" for sequences of no split."""
    corpus: "Corpus | TextCorpus | None" = None
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
    checks.require(is_path or cell is None, "cell", cell, "none, beside a network")
    checks.require(is_path or batch is not None, "data", None, "sequences, for a network")
    checkpoint = read(model) if is_path else None
    network = checkpoint.model(cell) if checkpoint else model
    if batch is not None and not named:
        checks.require(not chorales, "chorales", chorales, "none, beside sequences")
        _refuse_lengths(_known(lengths), "none, beside sequences")
        return NetworkAndData(network, batch, split=split)
    if checkpoint:
        path = as_path(batch) if named else stored_data(checkpoint).path
        corpus = corpus_of(checkpoint, path if named else None)
    else:
        path, corpus = as_path(batch), read_chorales(batch)
    return in_corpus(network, corpus, path, cut, split, chorales, **lengths)


def in_corpus(
    model: Any,
    corpus: "Corpus | TextCorpus",
    path: Path | None,
    cut: Cut,
    split: str = "",
    names: Sequence[str] = (),
    **lengths: int | None,
) -> NetworkAndData:
    """Return a network with sequences of a corpus; names: those of chorales."""
    checks.require(split in ("", *SPLITS), "split", split, ", ".join(SPLITS))
    given = _known(lengths)
    if not isinstance(corpus, Corpus):
        checks.require(not names, "chorales", " ".join(names), "none, for a text")
        split, data = split or "valid", path.name if path else corpus.name
        return NetworkAndData(model, cut(corpus, split, **given), data, split, corpus)
    _refuse_lengths(given, "none, for chorales")
    split, data = split or "test", path.name if path else "chorales"
    pieces = [*getattr(corpus, split)]
    if not names:
        return NetworkAndData(model, pieces, data, split, corpus)
    every = pieces + corpus.pieces
    chosen = [find(every, f"{split}-{name}" if name.isdecimal() else name) for name in names]
    data = ", ".join(piece.name for piece in chosen)
    return NetworkAndData(model, chosen, data, "", corpus, len(chosen))


def _known(lengths: Mapping[str, int | None]) -> dict[str, int]:
    """Return the lengths that are given."""
    return {name: length for name, length in lengths.items() if length is not None}


def _refuse_lengths(given: Mapping[str, int], expected: str) -> None:
    values = " and ".join(map(str, given.values()))
    checks.require(not given, " and ".join(given), values, expected)


def network_title(network: nn.Module) -> str:
    """Return the cells of a network, such as "2 x lstm, 8 units"; of another module its class."""
    if not isinstance(network, RecurrentModel | Cell):
        return type(network).__name__
    cells: Any = [network] if isinstance(network, Cell) else network.cells
    titles = Counter[str]()
    for cell in cells:
        depth = f", depth {cell.depth}" if cell.depth > 1 else ""
        titles[f"{name_of_cell(cell)}{depth}, {cell.hidden_size} units"] += 1
    return " + ".join(f"{n} x {title}" if n > 1 else title for title, n in titles.items())


@dataclass(frozen=True)
class SequenceKind:
    """The sequences for networks of one kind, their batches and losses."""

    width: int
    """Number of keys in a frame, or of symbols in the vocabulary (V)."""

    def sequences(self: Any, data: Any) -> list[np.ndarray]:
        """Return a list of arrays from a list of arrays or tensors, or a single one; pieces and
        excerpts keep their names. Raises InvalidInputError.
        """
        checks.require(isinstance(data, Iterable), "data", type(data).__name__, "sequences")
        every = [data] if getattr(data, "ndim", None) == self.ndim else list(data)
        checks.require(bool(every), "number of sequences", 0, "at least 1")
        wanted = self.expected.format(self.width)
        for i, t in enumerate(every):
            if isinstance(t, Tensor):
                form = not_dense_real(t)
                checks.require(form is None, f"sequence {i}", form, wanted)
        arrays = [a.numpy(force=True) if isinstance(a, Tensor) else np.asanyarray(a) for a in every]
        for i, array in enumerate(arrays):
            good = array.ndim == self.ndim and len(array) > 0 and self.fits(array)
            checks.require(good, f"sequence {i}", f"{array.dtype} of shape {array.shape}", wanted)
        return arrays

    def inputs(self: Any, sequences: Sequence[np.ndarray], like: Tensor) -> Tensor:
        """Return the inputs of a network, (T, B, ...), on the device of the tensor `like`, with
        zeros after the end of a sequence.
        """
        dtype = self.dtype or like.dtype
        return pad_sequence(
            [torch.tensor(np.asarray(s), dtype=dtype, device="cpu") for s in sequences]
        ).to(like.device)


class Music(SequenceKind):
    """Piano rolls (T, keys). Every key of frame t + 1 is an independent Bernoulli variable."""

    step, ndim, dtype, expected = "frame", 2, None, "finite numbers (T, {}), T >= 1"

    def fits(self, array: np.ndarray) -> bool:
        """Return True if every frame has `width` keys that are finite numbers."""
        numbers = array.shape[1] == self.width and array.dtype.kind in "buif"
        return numbers and bool(np.isfinite(array).all())

    def batches(self, sequences: Sequence[np.ndarray], like: Tensor) -> list[ChoraleBatch]:
        """Return the batches of `rhn.training.evaluation`."""
        return evaluation_batches(sequences, device=like.device, dtype=like.dtype)

    def nll(self, model: Callable, frames: Tensor, mask: Tensor) -> Tensor:
        """Return the loss in nats of each sequence, (B,) float64, summed over its frames."""
        return frame_nll(model(frames[:-1]), frames[1:], mask[1:]).sum(0, dtype=torch.float64)

    def constant_loss(self, sequences: Sequence[Any]) -> float:
        """Return the loss per frame of the constant predictor with the lowest loss on these
        sequences.
        """
        return constant_output_nll(sequences)


class Text(SequenceKind):
    """Ids of tokens (T,) for a `LanguageModel`. Token t + 1 is one of V symbols."""

    step, ndim, dtype = "token", 1, torch.int64
    expected = "ids of tokens (T,), whole numbers >= 0 and < {}, T >= 1"

    def fits(self, array: np.ndarray) -> bool:
        """Return True if all numbers are ids of the vocabulary."""
        return array.dtype.kind in "ui" and 0 <= array.min() <= array.max() < self.width

    def batches(self, sequences: Sequence[np.ndarray], like: Tensor) -> list[ChoraleBatch]:
        """Return batches of sequences of two tokens or more, longest first, with as many each as
        memory allows.
        """
        usable = sorted(sequences, key=len, reverse=True)
        bytes_of_row = len(usable[0]) * self.width * like.element_size()
        rows = max(1, min(TEXT_ROWS, TEXT_BATCH_BYTES // bytes_of_row))
        some = [usable[start : start + rows] for start in range(0, len(usable), rows)]
        masks = (pad_sequence([like.new_ones(len(s)) for s in batch]) for batch in some)
        counts = (sum(len(s) - 1 for s in batch) for batch in some)
        parts = zip(some, masks, counts, strict=True)
        return [ChoraleBatch(self.inputs(batch, like), mask, count) for batch, mask, count in parts]

    def nll(self, model: Callable, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return the loss in nats of each sequence, (B,) float64, summed over its tokens."""
        return (model(tokens[:-1], None, None, tokens[1:]).nll * mask[1:]).sum(
            0, dtype=torch.float64
        )

    def constant_loss(self, sequences: Sequence[np.ndarray]) -> float:
        """Return the loss per token of the constant predictor, as for `Music`."""
        predicted = np.concatenate([sequence[1:] for sequence in sequences])
        p = torch.from_numpy(np.bincount(predicted) / len(predicted))
        return -float(torch.xlogy(p, p).sum())


def task_of(model: Any, data: Any = None) -> Music | Text:
    """Return the kind of sequences that a network reads: `Text` for a `LanguageModel`, else
    `Music` of its `input_size`, or of the width of the first sequence. Raises InvalidInputError.
    """
    if isinstance(model, RecurrentModel) and model.takes_ids:
        return Text(model.config()["vocabulary_size"])
    known = getattr(model, "input_size", None)
    if isinstance(known, int):
        return Music(known)
    several = data if isinstance(data, Iterable) else ()
    first = data if hasattr(data, "shape") else next(iter(several), None)
    shape: tuple[int, ...] = getattr(first, "shape", ())
    checks.require(len(shape) == 2, "data", type(data).__name__, "sequences (T, m)")
    return Music(shape[1])


if not TYPE_CHECKING:
    __getattr__ = moved(__name__)
