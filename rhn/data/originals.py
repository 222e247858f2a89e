"""The chorales as others publish them: Huang's .json, Boulanger-Lewandowski's .pickle.

    {"train": [piece, ...], "valid": ..., "test": ...}     a piece is a list of frames, a frame a list of MIDI pitches

Both give the same corpus for the same music. A file comes from anywhere, so everything in it is checked, and nothing in
it is executed (see `pickles`). Boulanger-Lewandowski's .mat is not read: SciPy's reader, the only one at hand, can be made
to crash or to fill the memory by a crafted file.
"""

import json
from pathlib import Path

import numpy as np

from rhn.data import pickles
from rhn.data.corpus import HIGHEST_PITCH, KEYS, LOWEST_PITCH, SPLITS, Corpus, Piece
from rhn.data.split import rows
from rhn.errors import DataError, InvalidInputError

MAX_BYTES = 64 * 2**20  # of a file; the original pickle has 2 MB
MAX_FRAMES = 2**20  # of a file; the original has 23,134. Shared references make a small pickle mean a huge corpus
READERS = {".json": json.loads, ".pickle": pickles.loads, ".pkl": pickles.loads}
FROM_MAT = (
    "take the .pickle that is published beside it (`rhn data get jsb`), or write its matrices as lists of pitches into a .json, "
    '{"train": [[[60, 64], [62]], ...], "valid": ..., "test": ...}'
)


def read_original(path: Path) -> Corpus:
    """The corpus in an original file, read by its suffix: .json, or .pickle (or .pkl).

    Where the file holds the full 229 / 76 / 77 chorales, pieces carry their catalogue names; otherwise labels
    ("train-17").
    Raises InvalidInputError for another suffix, DataError for a file that is missing or holds anything but chorales.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        raise DataError(f"{path} is a folder, expected a file of chorales: .json or .pickle")
    if suffix not in READERS:
        hint = f": {FROM_MAT}" if suffix == ".mat" else ""
        raise InvalidInputError(
            f"{path}: chorales are read from a .json or .pickle file, not from {path.suffix!r}{hint}"
        )
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        if not 0 < path.stat().st_size <= MAX_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes, expected 1 to {MAX_BYTES}")
        rolls = _rolls(READERS[suffix](path.read_bytes()))
    except RecursionError:
        raise DataError(f"{path} does not hold chorales: its lists are nested too deeply") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path} does not hold chorales: {error}") from error
    names = {(row.split, row.index): row.name for row in rows()}
    if names.keys() != rolls.keys():
        names = {(split, index): f"{split}-{index}" for split, index in rolls}
    pieces = [Piece(roll, name=names[place], split=place[0], index=place[1]) for place, roll in rolls.items()]
    return Corpus.of(pieces, f"original file {path.absolute()}")


def _rolls(content) -> dict[tuple[str, int], np.ndarray]:
    """Piano rolls (T, 88) by split and index from nested lists of pitches; raises ValueError with the place of what is wrong."""
    missing = [split for split in SPLITS if not isinstance(content, dict) or split not in content]
    if missing:
        raise ValueError(f"expected the keys train, valid and test, found no {missing[0]!r}")
    frames_left, rolls = MAX_FRAMES, {}
    for split in SPLITS:
        for index, sequence in enumerate(_list(content[split], split)):
            place = f"{split}[{index}]"
            frames_left -= len(_list(sequence, place))
            if frames_left < 0:
                raise ValueError(f"more than {MAX_FRAMES} frames")
            rolls[split, index] = _roll(sequence, place)
    return rolls


def _roll(sequence: list, place: str) -> np.ndarray:
    roll = np.zeros((len(sequence), KEYS), np.uint8)
    for time, frame in enumerate(sequence):
        for pitch in _list(frame, f"{place}[{time}]", least=0, most=KEYS):
            if type(pitch) is not int or not LOWEST_PITCH <= pitch <= HIGHEST_PITCH:
                found = str(pitch)[:12] if type(pitch) is int else f"a {type(pitch).__name__}"
                raise ValueError(f"{place}[{time}] holds {found}, expected pitches {LOWEST_PITCH} to {HIGHEST_PITCH}")
            roll[time, pitch - LOWEST_PITCH] = 1
    return roll


def _list(value, place: str, *, least: int = 1, most: float = float("inf")) -> list | tuple:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{place} is of type {type(value).__name__}, expected a list")
    if not least <= len(value) <= most:
        raise ValueError(f"{place} has {len(value)} entries, expected {least} to {most}")
    return value
