"""Pieces, corpora and minibatches: piano rolls with a name and a place in their split.

A piece is a (T, 88) array of 0 and 1, a row a quarter note, a column a key of the piano (column 0 is MIDI 21,
column 87 is MIDI 108). A corpus is the training, validation and test pieces of a data set, in the order of its split.
Minibatches are time-major, padded at the end, with a mask: T frames, B rows.
"""

import difflib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rhn.errors import InvalidInputError

if TYPE_CHECKING:
    import torch

SPLITS = ("train", "valid", "test")
KEYS = 88
LOWEST_PITCH = 21  # MIDI number of column 0
HIGHEST_PITCH = LOWEST_PITCH + KEYS - 1


class Piece(np.ndarray):
    """One chorale: a (T, 88) uint8 array with three more attributes.

    name: "bwv269", or its label if the catalogue number is unknown; split: "train", "valid" or "test"; index:
    its place in the *original* split, which differs from its place in a list with gaps.

    Slices, copies and pickles are pieces again; results of computations are plain arrays.

    >>> piece = Piece(np.zeros((2, 88)), name="bwv269", split="train", index=3)
    >>> piece.name, piece[:1].name, piece.label, piece.shape, int(piece.sum())
    ('bwv269', 'bwv269', 'train-3', (2, 88), 0)
    """

    def __new__(cls, frames, *, name: str, split: str, index: int):
        piece = np.array(frames, dtype=np.uint8).view(cls)
        piece.name, piece.split, piece.index = name, split, index
        return piece

    def __array_finalize__(self, source):
        for attribute in ("name", "split", "index"):
            setattr(self, attribute, getattr(source, attribute, None))

    def __array_wrap__(self, array, context=None, return_scalar=False):
        return array[()] if return_scalar else np.asarray(array)

    def __reduce__(self):
        return _restore, (np.asarray(self), vars(self))

    def __repr__(self):
        return f"Piece({self.name!r}, {self.label}, shape={self.shape})"

    @property
    def label(self) -> str:
        """Its address in the original split: "train-14"."""
        return f"{self.split}-{self.index}"


def _restore(frames: np.ndarray, attributes: dict) -> Piece:
    piece = frames.view(Piece)
    vars(piece).update(attributes)
    return piece


@dataclass(frozen=True, eq=False)
class Corpus:
    """The pieces of a data set: `train`, `valid` and `test` are lists of `Piece` in the order of the split.

    `source` is the origin of the notes in words.
    """

    train: list[Piece]
    valid: list[Piece]
    test: list[Piece]
    source: str

    @classmethod
    def of(cls, pieces: list[Piece], source: str) -> "Corpus":
        """The corpus of these pieces, each in its split."""
        return cls(*([piece for piece in pieces if piece.split == split] for split in SPLITS), source)

    @property
    def pieces(self) -> list[Piece]:
        """All pieces: train, then valid, then test."""
        return [*self.train, *self.valid, *self.test]

    @property
    def checksum(self) -> str:
        """SHA-256 (hex) of the content: every piece's label, name, length and frames, in order; not of the source."""
        digest = hashlib.sha256()
        for piece in self.pieces:
            digest.update(f"{piece.label} {piece.name} {len(piece)}\n".encode())
            digest.update(np.ascontiguousarray(piece).tobytes())
        return digest.hexdigest()

    def find(self, name: str) -> Piece:
        """The first piece called `name`, as `lookup`."""
        return lookup(self.pieces, name)


def lookup(entries, name: str):
    """The first of `entries` (anything with a `name` and a `label`) called `name`: "bwv414", "BWV 414", or its label, "train-14".

    Raises InvalidInputError, with the nearest names, for an unknown name.
    """
    wanted = "".join(name.lower().split())
    for entry in entries:
        if wanted in (entry.name, entry.label):
            return entry
    known = dict.fromkeys(key for entry in entries for key in (entry.name, entry.label))
    near = difflib.get_close_matches(wanted, known, n=3)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise InvalidInputError(f"no chorale is called {name!r:.60}; names are like 'bwv66.6' or 'train-14'{hint}")


@dataclass(frozen=True, eq=False)
class Batch:
    """One minibatch: frames (T, B, keys) float32, mask (T, B) bool, indices (B,) int64.

    The mask is True at real frames, which come first in each column; padding is 0. `indices` are places in the list
    of pieces, -1 for a row of padding.
    """

    frames: "torch.Tensor"
    mask: "torch.Tensor"
    indices: "torch.Tensor"


def batches(
    pieces: Sequence[np.ndarray],
    batch_size: int = 32,
    *,
    seed: int | np.random.Generator | None = None,
    pad_rows: bool = False,
) -> list[Batch]:
    """Put every piece once into ceil(len(pieces) / batch_size) batches, each padded to its longest piece.

    pieces: arrays (T_i, keys) with T_i >= 1.
    seed: shuffles the pieces; the same seed always gives the same batches. None keeps the order of the pieces.
    pad_rows: fills the last batch up to batch_size with rows of padding.

    Raises InvalidInputError for pieces or sizes that make no batch.

    >>> pieces = [np.ones((length, 88)) for length in (3, 9, 4, 8, 2)]
    >>> [tuple(batch.frames.shape) for batch in batches(pieces, 2, pad_rows=True)]
    [(9, 2, 88), (8, 2, 88), (2, 2, 88)]
    """
    _check(pieces, batch_size)
    order = np.arange(len(pieces)) if seed is None else np.random.default_rng(seed).permutation(len(pieces))
    groups = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [_batch(pieces, group, batch_size if pad_rows else len(group)) for group in groups]


def _batch(pieces: Sequence[np.ndarray], group: np.ndarray, rows: int) -> Batch:
    import torch

    length = max(len(pieces[i]) for i in group)
    frames = np.zeros((length, rows, np.shape(pieces[0])[1]), np.float32)
    mask = np.zeros((length, rows), bool)
    indices = np.full(rows, -1)
    for row, i in enumerate(group):
        frames[: len(pieces[i]), row] = pieces[i]
        mask[: len(pieces[i]), row] = True
        indices[row] = i
    return Batch(torch.from_numpy(frames), torch.from_numpy(mask), torch.from_numpy(indices))


def _check(pieces: Sequence[np.ndarray], batch_size: int) -> None:
    if batch_size < 1 or len(pieces) == 0:
        raise InvalidInputError(
            f"expected pieces and batch_size >= 1, got {len(pieces)} pieces and batch_size {batch_size}"
        )
    shapes = [np.shape(piece) for piece in pieces]
    for i, shape in enumerate(shapes):
        if len(shape) != 2 or shape[0] < 1 or shape[1] != shapes[0][1]:
            raise InvalidInputError(
                f"piece {i} has shape {shape}, expected (T, keys) with T >= 1 and the same keys in all"
            )
