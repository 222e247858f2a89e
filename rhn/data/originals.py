"""Read published files of the chorales: Huang's .json, Boulanger-Lewandowski's .pickle.

    {"train": [piece, ...], "valid": ..., "test": ...}     a piece is a list of frames, a frame a list of MIDI pitches

Both give the same corpus for the same music. The content of a file is checked, and a pickle may hold only lists, tuples,
dictionaries, numbers and texts: nothing in it is imported or called. Boulanger-Lewandowski's .mat is not read, because a crafted
file can crash SciPy's reader or fill the memory.
"""

import io
import json
import pickle
import pickletools
from pathlib import Path

import numpy as np

from rhn.data.corpus import HIGHEST_PITCH, KEYS, LOWEST_PITCH, SPLITS, Corpus, Piece
from rhn.data.rebuild import rows
from rhn.errors import DataError, InvalidInputError
from rhn.utils.io import require_file

MAX_BYTES = 64 * 2**20  # of a file; the original pickle has 2 MB
MAX_FRAMES = 2**20  # of a file; the original has 23,134. With shared references a small pickle can hold a huge corpus
FROM_MAT = (
    "take the .pickle that is published beside it (`rhn data get jsb`), or write its matrices as lists of pitches into a .json, "
    '{"train": [[[60, 64], [62]], ...], "valid": ..., "test": ...}'
)


def read_original(path: Path) -> Corpus:
    """Read an original file by its suffix: .json, or .pickle (or .pkl).

    In a file with the full 229 / 76 / 77 chorales the pieces have their catalogue names; otherwise labels
    ("train-17").
    Raises InvalidInputError for another suffix, DataError for a file that is missing or holds anything but chorales.
    """
    readers = {".json": json.loads, ".pickle": load_plain, ".pkl": load_plain}
    suffix = path.suffix.lower()
    if path.is_dir():
        raise DataError(f"{path} is a folder, expected a file of chorales: .json or .pickle")
    if suffix not in readers:
        hint = f": {FROM_MAT}" if suffix == ".mat" else ""
        raise InvalidInputError(
            f"{path}: chorales are read from a .json or .pickle file, not from {path.suffix!r}{hint}"
        )
    try:
        rolls = _rolls(readers[suffix](require_file(path, MAX_BYTES).read_bytes()))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except RecursionError:
        raise DataError(f"{path} does not hold chorales: its lists are nested too deeply") from None
    except ValueError as error:
        raise DataError(f"{path} does not hold chorales: {error}") from error
    names = {(row.split, row.index): row.name for row in rows()}
    if names.keys() != rolls.keys():
        names = {(split, index): f"{split}-{index}" for split, index in rolls}
    pieces = [Piece(roll, name=names[place], split=place[0], index=place[1]) for place, roll in rolls.items()]
    return Corpus.of(pieces, f"original file {path.absolute()}")


def load_plain(data: bytes):
    """Load a pickle of lists, tuples, dictionaries, numbers and texts, of any protocol, Python 2's included.

    Raises ValueError for a pickle that imports anything or is damaged.
    """
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if "PUT" in opcode.name and argument > len(data):  # the unpickler's table would grow to this index
                raise ValueError(f"memo index {argument} is larger than the file")
        return _PlainUnpickler(io.BytesIO(data), encoding="latin-1").load()
    except ValueError:
        raise
    except Exception as error:  # a damaged pickle raises nearly any kind
        raise ValueError(f"not a readable pickle ({type(error).__name__}: {error})") from error


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        raise ValueError(f"it imports {module}.{name}, expected only plain data")


def _rolls(content) -> dict[tuple[str, int], np.ndarray]:
    """Piano rolls (T, 88) by split and index from nested lists of pitches; raises ValueError with the place of a mistake."""
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
