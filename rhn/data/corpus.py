"""Pieces and corpora: piano rolls with a name and an index in their split."""

import hashlib
from dataclasses import dataclass

import numpy as np

from rhn.errors import InvalidInputError

SPLITS = ("train", "valid", "test")
KEYS = 88
LOWEST_PITCH = 21  # MIDI number of column 0
HIGHEST_PITCH = LOWEST_PITCH + KEYS - 1


class Piece(np.ndarray):
    """One chorale: a (T, 88) uint8 array with its name ("bwv269", or the label if the catalogue
    number is unknown), its split and its index in the *original* split. Slices and copies are
    pieces too; results of computations are plain arrays.

    >>> piece = Piece(np.zeros((2, 88)), name="bwv269", split="train", index=3)
    >>> piece.name, piece[:1].name, piece.label, piece.shape, int(piece.sum())
    ('bwv269', 'bwv269', 'train-3', (2, 88), 0)
    """

    name: str
    split: str
    index: int

    def __new__(cls, frames, *, name: str, split: str, index: int):
        piece = np.array(frames, dtype=np.uint8).view(cls)
        piece.name, piece.split, piece.index = name, split, index
        return piece

    def __array_finalize__(self, source):
        for attribute in ("name", "split", "index"):
            setattr(self, attribute, getattr(source, attribute, None))

    def __array_wrap__(self, array, context=None, return_scalar=False):
        return array[()] if return_scalar else np.asarray(array)

    @property
    def label(self) -> str:
        """The split and the index of the piece in this split: "train-14"."""
        return f"{self.split}-{self.index}"


@dataclass(frozen=True, eq=False)
class Corpus:
    """The pieces of a data set: `train`, `valid` and `test` are lists of `Piece`, each in the order
    of its split. `source` describes the origin of the notes.
    """

    train: list[Piece]
    valid: list[Piece]
    test: list[Piece]
    source: str

    @property
    def pieces(self) -> list[Piece]:
        """All pieces: train, then valid, then test."""
        return [*self.train, *self.valid, *self.test]

    @property
    def checksum(self) -> str:
        """SHA-256 (hex) of every piece's label, name, length and frames, in order."""
        digest = hashlib.sha256()
        for piece in (*self.train, *self.valid, *self.test):
            digest.update(f"{piece.split}-{piece.index} {piece.name} {len(piece)}\n".encode())
            digest.update(np.ascontiguousarray(piece).tobytes())
        return digest.hexdigest()


def find(pieces: list[Piece], name: str) -> Piece:
    """Return the first piece with this name or label, written as "bwv414", "BWV 414" or "train-14".
    Raises InvalidInputError.
    """
    wanted = "".join(name.lower().split())
    for piece in pieces:
        if wanted in (piece.name, piece.label):
            return piece
    raise InvalidInputError(
        f"chorale is {name!r:.60}: expected a name such as 'bwv66.6' or 'train-14'"
    )
