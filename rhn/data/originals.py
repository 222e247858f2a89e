"""The chorales as others publish them: Huang's .json, Boulanger-Lewandowski's .pickle.

    {"train": [piece, ...], "valid": ..., "test": ...}     a piece is a list of frames, a frame a list of MIDI pitches

Both give the same corpus for the same music. A file comes from anywhere, so everything in it is checked, and nothing in
it is executed (see `pickles`). Boulanger-Lewandowski's .mat is not read: SciPy's reader, the only one at hand, can be made
to crash or to fill the memory by a crafted file.
"""

import json
from pathlib import Path

import numpy as np

from rhn.data.corpus import HIGHEST_PITCH, KEYS, LOWEST_PITCH, SPLITS, Corpus, Piece
from rhn.data.pickles import loads
from rhn.data.split import rows
from rhn.errors import DataError, InvalidInputError

MAX_BYTES = 64 * 2**20  # of a file; the original pickle has 2 MB
FROM_MAT = (
    "take the .pickle that is published beside it (`rhn data get jsb`), or write its matrices as lists of pitches into a .json, "
    '{"train": [[[60, 64], [62]], ...], "valid": ..., "test": ...}'
)
MAX_FRAMES = 2**20  # of a file; the original has 23,134. Shared references make a small pickle mean a huge corpus


def read_original(path: Path) -> Corpus:
    """The corpus in an original file, read by its suffix: .json, or .pickle (or .pkl).

    Where the file holds the full 229 / 76 / 77 chorales, pieces carry their catalogue names; otherwise labels
    ("train-17").
    Raises InvalidInputError for another suffix, DataError for a file that is missing or holds anything but chorales.
    """
    readers = {".json": _read_json, ".pickle": _read_pickle, ".pkl": _read_pickle}
    if path.is_dir():
        raise DataError(f"{path} is a folder, expected a file of chorales: .json or .pickle")
    if path.suffix.lower() not in readers:
        hint = f": {FROM_MAT}" if path.suffix.lower() == ".mat" else ""
        raise InvalidInputError(
            f"{path}: chorales are read from a .json or .pickle file, not from {path.suffix!r}{hint}"
        )
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        if not 0 < path.stat().st_size <= MAX_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes, expected 1 to {MAX_BYTES}")
        rolls = readers[path.suffix.lower()](path)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} does not hold chorales: {error}") from error
    return _corpus(rolls, f"original file {path}")


def _corpus(rolls: dict[str, list[np.ndarray]], source: str) -> Corpus:
    names = {row.label: row.name for row in rows()}
    full = len(names) == sum(map(len, rolls.values())) and all(
        f"{split}-{i}" in names for split in SPLITS for i in range(len(rolls[split]))
    )

    def piece(roll, split, index):
        label = f"{split}-{index}"
        return Piece(roll, name=names[label] if full else label, split=split, index=index)

    return Corpus(**{s: [piece(roll, s, i) for i, roll in enumerate(rolls[s])] for s in SPLITS}, source=source)


def _read_json(path: Path) -> dict[str, list[np.ndarray]]:
    try:
        content = json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError("its lists are nested too deeply") from None
    return _rolls(content)


def _read_pickle(path: Path) -> dict[str, list[np.ndarray]]:
    return _rolls(loads(path.read_bytes()))


def _rolls(content) -> dict[str, list[np.ndarray]]:
    """Piano rolls (T, 88) from nested lists of pitches; raises ValueError with the place of what is wrong."""
    missing = [split for split in SPLITS if not isinstance(content, dict) or split not in content]
    if missing:
        raise ValueError(f"expected the keys train, valid and test, found no {missing[0]!r}")
    frames_left, rolls = MAX_FRAMES, {}
    for split in SPLITS:
        rolls[split] = []
        for index, sequence in enumerate(_list(content[split], split)):
            place = f"{split}[{index}]"
            frames_left -= len(_list(sequence, place))
            if frames_left < 0:
                raise ValueError(f"more than {MAX_FRAMES} frames")
            rolls[split].append(_roll(sequence, place))
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
