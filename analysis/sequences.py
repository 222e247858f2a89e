"""The sequences that a network is looked at on: piano rolls with a name, the bar lines of their scores beside them.

Legend: T frames of a sequence (quarter notes), B sequences of a batch.
"""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from rhn.data import Batch
from rhn.data.corpus import Corpus, Piece, lookup
from rhn.data.rebuild import Row, rows
from rhn.data.scores import corpus_folder, musicxml
from rhn.errors import InvalidInputError

QUARTERS = 4  # in a bar, where no score says otherwise


def sequences_of(data: Batch | Sequence[np.ndarray] | np.ndarray, keys: int) -> list[np.ndarray]:
    """A batch, a list of arrays (T, keys) or one such array, as a list of arrays; pieces keep their names.

    Raises InvalidInputError for other shapes, no sequences, or numbers that are not finite.
    """
    if isinstance(data, Batch):
        columns = zip(data.frames.cpu().unbind(1), data.mask.cpu().unbind(1), strict=True)
        data = [frames[mask] for frames, mask in columns if mask.any()]
    arrays = listed(data, 2)
    for i, array in enumerate(arrays):
        if array.ndim != 2 or array.shape[1] != keys or len(array) == 0:
            raise InvalidInputError(f"sequence {i} has shape {array.shape}, expected (T, {keys}) with T >= 1")
        if array.dtype.kind not in "buif" or not np.isfinite(array).all():
            raise InvalidInputError(f"sequence {i} holds NaN, infinite values or no numbers ({array.dtype})")
    return arrays


def listed(data: Sequence[np.ndarray] | np.ndarray, ndim: int) -> list[np.ndarray]:
    """A list of arrays or tensors, or a single one of so many dimensions, as a list of arrays; refuses an empty one."""
    single = isinstance(data, np.ndarray | torch.Tensor) and data.ndim == ndim
    every = [data] if single else list(data)
    if not every:
        raise InvalidInputError("there are no sequences to look at")
    return [a.numpy(force=True) if isinstance(a, torch.Tensor) else np.asanyarray(a) for a in every]


def name_of(sequence: np.ndarray, i: int) -> str:
    """The name of a piece, else "sequence 1", ..."""
    return getattr(sequence, "name", None) or f"sequence {i + 1}"


def chosen(corpus: Corpus, split: str, names: Sequence[str]) -> list[Piece]:
    """Pieces by name ("bwv269", "valid-3"), or by their place in the original split ("5").

    A name is looked for in the split first. Raises InvalidInputError, with the nearest names, where there is none.
    """
    pieces = getattr(corpus, split)
    return [
        _numbered(pieces, split, int(name))
        if re.fullmatch("[0-9]{1,9}", name)
        else lookup([*pieces, *corpus.pieces], name)
        for name in names
    ]


def _numbered(pieces: Sequence[Piece], split: str, number: int) -> Piece:
    for piece in pieces:
        if piece.index == number:
            return piece
    last = max(piece.index for piece in pieces) if pieces else -1
    if number <= last:
        raise InvalidInputError(
            f"chorale {split}-{number} is missing: it has no counterpart among music21's Bach scores"
        )
    raise InvalidInputError(f"there is no chorale {number} in the split {split!r}: expected 0 to {last}")


def bars_of(sequence: np.ndarray) -> tuple[np.ndarray, bool]:
    """Where bars begin, in frames (a frame begins at its number), and whether the score says so.

    By a chorale's score in music21's corpus; for anything else every 4 quarter notes.
    """
    row = next((r for r in rows() if isinstance(sequence, Piece) and r.matched and r.label == sequence.label), None)
    if row and row.name == sequence.name and sum(end - start for start, end in row.segments) == len(sequence):
        with contextlib.suppress(Exception):  # from a damaged score; a picture without the score's bars is still right
            return _through_segments(_measures(corpus_folder() / row.score), row), True
    return np.arange(0.0, len(sequence), QUARTERS), False


def _through_segments(measures: np.ndarray, row: Row) -> np.ndarray:
    """Starts in quarter notes of the score -> starts in frames of the piece, which joins some of the score's frames."""
    starts, begin = [], 0
    for first, last in row.segments:
        frames = measures / row.step
        starts.append(frames[(frames >= first) & (frames < last)] - first + begin)
        begin += last - first
    return np.concatenate(starts)


def _measures(path: Path) -> np.ndarray:
    """Where the measures of a MusicXML score's first part begin, in quarter notes."""
    starts, now, divisions = [], 0.0, 1
    for measure in musicxml(path).find("part").iter("measure"):
        starts.append(now)
        for element in measure.iter():
            if element.tag == "divisions":
                divisions = int(element.text)
            elif element.tag == "forward" or (element.tag == "note" and element.find("grace") is None):
                now += int(element.findtext("duration")) / divisions
    return np.array(starts)
