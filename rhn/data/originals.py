"""Read published files of the chorales: Huang's .json, Boulanger-Lewandowski's .pickle.

    {"train": [piece, ...], "valid": ..., "test": ...}     a piece is a list of frames, a frame a list of MIDI pitches

Both give the same corpus for the same music. A pickle may hold only plain data: nothing in it is imported or called.
"""

import json
import pickle
from pathlib import Path

import numpy as np

from rhn.data.corpus import HIGHEST_PITCH, KEYS, LOWEST_PITCH, SPLITS, Corpus, Piece
from rhn.data.rebuild import rows
from rhn.errors import DataError, InvalidInputError


class PlainUnpickler(pickle.Unpickler):
    """Load lists, tuples, dictionaries, numbers and texts; raise ValueError for a pickle that imports anything."""

    def find_class(self, module, name):
        raise ValueError(f"it imports {module}.{name}, expected only plain data")


def read_original(path: Path) -> Corpus:
    """Read an original file by its suffix: .json, or .pickle (or .pkl).

    In a file with the full 229 / 76 / 77 chorales the pieces have their catalogue names; otherwise labels
    ("train-17").
    Raises InvalidInputError for another suffix, DataError for a file that is missing or holds anything but chorales.
    """
    suffix = path.suffix.lower()
    if suffix not in (".json", ".pickle", ".pkl"):
        raise InvalidInputError(
            f"{path}: chorales are read from a .json or .pickle file (`rhn data get jsb`), not from {suffix!r}"
        )
    try:
        with path.open("rb") as file:
            content = json.load(file) if suffix == ".json" else PlainUnpickler(file, encoding="latin-1").load()
        rolls = {(split, i): _roll(frames) for split in SPLITS for i, frames in enumerate(content[split])}
        if {split for split, _ in rolls} != {*SPLITS}:
            raise ValueError("a split is empty")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged pickle raises nearly any kind
        reason = f"{type(error).__name__}: {error}"
        raise DataError(
            f"{path} does not hold chorales, lists of pitches by train, valid and test ({reason:.200})"
        ) from error
    names = {(row.split, row.index): row.name for row in rows()}
    if names.keys() != rolls.keys():
        names = {(split, index): f"{split}-{index}" for split, index in rolls}
    pieces = [Piece(roll, name=names[place], split=place[0], index=place[1]) for place, roll in rolls.items()]
    return Corpus.of(pieces, f"original file {path.absolute()}")


def _roll(frames: list) -> np.ndarray:
    """The piano roll (T, 88) of lists of pitches."""
    roll = np.zeros((len(frames), KEYS), np.uint8)
    if not len(roll):
        raise ValueError("a piece has no frames")
    for time, frame in enumerate(frames):
        for pitch in frame:
            if not LOWEST_PITCH <= pitch <= HIGHEST_PITCH:
                raise ValueError(f"pitch {pitch!r}, expected {LOWEST_PITCH} to {HIGHEST_PITCH}")
            roll[time, pitch - LOWEST_PITCH] = 1
    return roll
