"""JSB Chorales: the 382 four-part chorales of Bach, split 229 / 76 / 77 by Boulanger-Lewandowski et al. (2012).

By default they are rebuilt once from the Bach scores of the installed music21 package (8 have no counterpart there) and kept in the
user's cache folder. Editions differ: 95 % of the frames equal the original's exactly (measured by `benchmarks.agreement`). For the
exact split give the original file.

The cache is one .npz file. Its name holds the music21 version and a hash of the rule, so that a stale file is never read. Its arrays:
`packed` (N, 11) uint8, the 88 keys of all frames of all pieces as bits, and `lengths`, one a piece, in the order of our table.

Original files (Huang's .json, Boulanger-Lewandowski's .pickle) hold {"train": [piece, ...], "valid": ..., "test": ...}; a piece is a
list of frames, a frame a list of MIDI pitches. Both give the same corpus for the same music. A pickle may hold only plain data: nothing
in it is imported or called.
"""

import hashlib
import json
import logging
import pickle
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from rhn.data.corpus import HIGHEST_PITCH, KEYS, LOWEST_PITCH, SPLITS, Corpus, Piece, lookup
from rhn.data.rebuild import TABLE, corpus_of, music21_version, rebuild, rebuild_piece, rows
from rhn.errors import DataError, InvalidInputError, OutputError
from rhn.utils.io import arrays_of, write_arrays

EXPECTED_MUSIC21 = "10.5.1"
EXPECTED_CHECKSUM = "d387295bfe1434ed47e88f40f4542dc305883326d088418afaf46be059effedf"  # of the set rebuilt with it

logger = logging.getLogger(__name__)


def chorales(source: str | Path | None = None, *, progress: bool = True) -> Corpus:
    """The chorales: `train`, `valid` and `test`, lists of (T, 88) uint8 pieces, a row a quarter note.

    source: None, the set rebuilt from music21's scores (223 / 74 / 77 pieces); or the path of an original file, by
    its suffix .json (Huang) or .pickle (Boulanger-Lewandowski).
    progress: print a line on stderr when they are rebuilt.
    Raises DataError if music21 has no scores or the file is not a set of chorales, InvalidInputError for another
    suffix.
    """
    if source is not None:
        return read_original(Path(source))
    version = music21_version()
    path = cache_path(version, EXPECTED_CHECKSUM)
    corpus = load_cached(path)
    if corpus is None:
        corpus = rebuild(progress=progress)
        save_cached(corpus, path)
    if corpus.checksum != EXPECTED_CHECKSUM:
        logger.warning(
            "The chorales rebuilt with this music21 (%s) have checksum %.12s..., expected %.12s... of music21 %s: "
            "they are used, but results may differ; for the expected notes reinstall music21==%s",
            *(version, corpus.checksum, EXPECTED_CHECKSUM, EXPECTED_MUSIC21, EXPECTED_MUSIC21),
        )
    return corpus


def chorale(name: str, source: str | Path | None = None) -> Piece:
    """One chorale by its name ("bwv269", "BWV 66.6") or its address in the original split ("train-14", "test-0").

    Reads only that score (milliseconds), or, with a `source`, the original file. A name that occurs more than once
    means the first of train, valid, test: "bwv414" is "train-14", and its other version is "valid-33".
    Raises InvalidInputError for an unknown name, with the nearest ones; DataError for a chorale that cannot be
    rebuilt.
    """
    if source is not None:
        return read_original(Path(source)).find(name)
    row = lookup(rows(), name)
    if not row.matched:
        raise DataError(
            f"{name!r} cannot be rebuilt: chorale {row.label} has no counterpart among music21's Bach scores "
            f"({Path(row.score).stem} is the nearest, with other notes); read it from an original file (--data FILE)"
        )
    return rebuild_piece(row)


def cache_path(music21_version: str, expected_checksum: str) -> Path:
    """The cache file of the chorales rebuilt with this version of music21; honours XDG_CACHE_HOME.

    `expected_checksum` stands for the rule of rebuilding: it changes whenever the rule does.
    """
    table = hashlib.sha256(TABLE.read_bytes()).hexdigest()
    key = hashlib.sha256(f"{table} {expected_checksum}".encode()).hexdigest()[:12]
    return user_cache_path("rhn", appauthor=False) / f"chorales-music21-{music21_version}-{key}.npz"


def load_cached(path: Path) -> Corpus | None:
    """Read the corpus in a cache file; None for a missing file and, with a warning, for a damaged one. Nothing is unpickled."""
    if not path.is_file():
        return None
    try:
        with arrays_of(path, "this toolkit") as arrays:
            frames = np.unpackbits(arrays["packed"], axis=1, count=KEYS)
            return corpus_of(np.split(frames, np.cumsum(arrays["lengths"])[:-1]))
    except DataError as error:
        logger.warning("The kept chorales are damaged and will be rebuilt: %s", error)
        return None


def save_cached(corpus: Corpus, path: Path) -> None:
    """Write a corpus to a cache file, atomically; a failure is only a warning."""
    packed = np.packbits(np.concatenate(corpus.pieces), axis=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(path, {"packed": packed, "lengths": [len(piece) for piece in corpus.pieces]})
    except (OSError, OutputError) as error:
        logger.warning("The rebuilt chorales cannot be kept (%s); they will be rebuilt each time", error)


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
