"""JSB Chorales: 382 four-part chorales of Bach, split 229 / 76 / 77 by Boulanger-Lewandowski et al.
(2012).

By default they are rebuilt once from the Bach scores of the installed music21 package (8 chorales
have no counterpart there) and kept in the user's cache folder. Editions differ: 95 % of the frames
equal those of the original file exactly. To get the original data exactly, read the original file.

The cache is one .npz file. The name of the file contains the version of music21 and the checksum of
the notes, which would change with the rule below. The file has two arrays: `packed` (N, 11) uint8,
the 88 keys of all frames of all pieces as bits, and `lengths`, the number of frames of each piece,
in the order of our table.

Original files (Huang's .json, Boulanger-Lewandowski's .pickle) hold {"train": [piece, ...],
"valid": ..., "test": ...}. A piece is a list of frames, and a frame is a list of MIDI pitches. Both
formats give the same corpus for the same music. A pickle may hold only plain data: nothing in it is
imported or called.

`jsb_split.csv` has a row for each of the 382 chorales of Boulanger-Lewandowski's split (see
`ChoraleRow`). The table contains no notes: a row names a score of music21's corpus, and states how
to cut and transpose the score. Rows with status "unmatched" have no counterpart in that corpus.

Rule that makes frames from a score:

1. a note of a part is held through the rest after this note, if the row has hold_through_rests;
2. frame i of the score has the pitches with onset <= i * step < end; the last frame may be repeated
   up to `LAST_HELD` times;
3. the frames are cut into the row's segments, which are joined (this is how repeats are played),
   and transposed.

A part of a score is a list of notes `(onset, end, pitch)` in order of time. Onset and end are in
ticks from the beginning (`TICKS` for each quarter note, so that triplets and sixty-fourths are
whole numbers); pitch is a MIDI number. Gaps between notes are rests. music21's code is never
imported: reading only pitches and times is ten times faster than its complete model of notation.
"""

import csv
import functools
import importlib.metadata
import importlib.util
import itertools
import json
import logging
import math
import os
import pickle
import re
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rhn.data.corpus import HIGHEST_PITCH, KEYS, LOWEST_PITCH, SPLITS, Corpus, Piece, lookup
from rhn.errors import DataError, InvalidInputError, OutputError
from rhn.utils.io import arrays_of, cache_folder, check_file, write_arrays

# a version of music21, and the checksum of the set rebuilt with it
EXPECTED_MUSIC21 = "10.5.1"
EXPECTED_CHECKSUM = "d387295bfe1434ed47e88f40f4542dc305883326d088418afaf46be059effedf"

logger = logging.getLogger(__name__)


def chorales(source: str | Path | None = None) -> Corpus:
    """Load the chorales as a corpus: lists `train`, `valid` and `test` of (T, 88) uint8 pieces,
    with one row for each quarter note.

    source: the path of an original file, .json (Huang) or .pickle (Boulanger-Lewandowski). None:
    the chorales rebuilt from music21's scores (223 / 74 / 77 pieces).

    Raises DataError if music21 has no scores or the file does not contain chorales,
    InvalidInputError for another suffix.
    """
    if source is not None:
        return read_original(Path(source))
    version = music21_version()
    name = f"chorales-music21-{version}-{EXPECTED_CHECKSUM[:12]}.npz"
    path = cache_folder() / name
    corpus = load_cached(path)
    if corpus is None:
        print("Rebuilding the chorales from music21's scores, once ...", file=sys.stderr)
        corpus = rebuild()
        save_cached(corpus, path)
    if corpus.checksum != EXPECTED_CHECKSUM:
        logger.warning(
            "The chorales rebuilt with this music21 (%s) have checksum %.12s..., expected "
            "%.12s... of music21 %s: they are used, but results may differ; for the expected notes "
            "reinstall music21==%s",
            *(version, corpus.checksum, EXPECTED_CHECKSUM, EXPECTED_MUSIC21, EXPECTED_MUSIC21),
        )
    return corpus


def chorale(name: str, source: str | Path | None = None) -> Piece:
    """Load one chorale by its name ("bwv269", "BWV 66.6") or by its split and index in the original
    data ("train-14", "test-0").

    If `source` is given, this original file is read; otherwise only the score of this chorale. If
    several chorales have the same name, the first one in the order train, valid, test is loaded:
    "bwv414" is "train-14", and its other version is "valid-33". Raises InvalidInputError for an
    unknown name (the message has the nearest names); DataError for a chorale that cannot be
    rebuilt.
    """
    if source is not None:
        return read_original(Path(source)).find(name)
    row = lookup(chorale_rows(), name)
    if not row.matched:
        raise DataError(
            f"{name!r} cannot be rebuilt: chorale {row.label} has no counterpart among music21's "
            f"Bach scores ({Path(row.score).stem} is the nearest, with other notes); read it from "
            "an original file (--data FILE)"
        )
    return row.piece(frames_of_score(read_score(corpus_folder() / row.score), row))


def load_cached(path: Path) -> Corpus | None:
    """Read the corpus from a cache file. Returns None for a missing file and, with a warning, for a
    damaged file. Nothing is unpickled.
    """
    if not path.is_file():
        return None
    try:
        with arrays_of(path, "this toolkit") as arrays:
            frames = np.unpackbits(arrays["packed"], axis=1, count=KEYS)
            return corpus_of_rolls(np.split(frames, np.cumsum(arrays["lengths"])[:-1]))
    except DataError as error:
        logger.warning("The cached chorales are damaged and will be rebuilt: %s", error)
        return None


def save_cached(corpus: Corpus, path: Path) -> None:
    """Write a corpus to a cache file, atomically. A failure is only logged as a warning."""
    packed = np.packbits(np.concatenate(corpus.pieces), axis=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(path, {"packed": packed, "lengths": [len(piece) for piece in corpus.pieces]})
    except (OSError, OutputError) as error:
        logger.warning(
            "The rebuilt chorales cannot be cached (%s); they will be rebuilt each time", error
        )


class PlainUnpickler(pickle.Unpickler):
    """An unpickler of lists, tuples, dictionaries, numbers and texts. The unpickler raises
    ValueError for a pickle that imports anything.
    """

    def find_class(self, module, name):
        raise ValueError(f"it imports {module}.{name}, expected only plain data")


def _check_suffix(path: Path) -> None:
    """Raise InvalidInputError for an existing file of another kind than .json, .pickle or .pkl."""
    if path.suffix.lower() in (".json", ".pickle", ".pkl") or not os.path.lexists(path):
        return
    kind = "a folder" if path.is_dir() else repr(path.suffix.lower() or path.name)
    raise InvalidInputError(
        f"{path}: chorales are read from a .json or .pickle file (`rhn data get jsb`), not "
        f"from {kind}"
    )


def read_original(path: Path) -> Corpus:
    """Read the corpus from an original file: .json, .pickle or .pkl.

    If the file has all 229 / 76 / 77 chorales, the pieces get their catalogue names; otherwise they
    get labels ("train-17"). Raises InvalidInputError for another suffix, DataError for a file that
    is missing or contains anything but chorales.
    """
    _check_suffix(path)
    try:
        check_file(path)
        with path.open("rb") as file:
            if path.suffix.lower() == ".json":
                content = json.load(file)
            else:
                content = PlainUnpickler(file, encoding="latin-1").load()
        rolls = {
            (split, i): _roll(frames) for split in SPLITS for i, frames in enumerate(content[split])
        }
        if {split for split, _ in rolls} != {*SPLITS}:
            raise ValueError("a split is empty")
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged pickle raises nearly any kind
        reason = f"{type(error).__name__}: {error}"
        raise DataError(
            f"{path} does not hold chorales, lists of pitches by train, valid and test "
            f"({reason:.200})"
        ) from error
    names = {(row.split, row.index): row.name for row in chorale_rows()}
    if names.keys() != rolls.keys():
        names = {(split, index): f"{split}-{index}" for split, index in rolls}
    pieces = [
        Piece(roll, name=names[split, index], split=split, index=index)
        for (split, index), roll in rolls.items()
    ]
    return Corpus.of(pieces, f"original file {path.absolute()}")


def _roll(frames: list) -> np.ndarray:
    """Return the piano roll (T, 88) of a list of frames, each a list of pitches."""
    roll = np.zeros((len(frames), KEYS), np.uint8)
    if not len(roll):
        raise ValueError("a piece has no frames")
    for time, frame in enumerate(frames):
        for pitch in frame:
            if not LOWEST_PITCH <= pitch <= HIGHEST_PITCH:
                raise ValueError(f"pitch {pitch!r}, expected {LOWEST_PITCH} to {HIGHEST_PITCH}")
            roll[time, pitch - LOWEST_PITCH] = 1
    return roll


ScorePart = list[tuple[int, int, int]]
TICKS = 10080  # a quarter note: 2^5 * 3^2 * 5 * 7

_REMEDY = (
    "reinstall it from the package index (pip install --force-reinstall 'music21>=10'), "
    "or read an original file of the chorales instead (--data FILE: .json or .pickle)"
)
_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}  # above C; C4 is 60
_MOVING = {"*^", "*v", "*x", "*+"}  # spines of **kern that split, join, swap or begin
TABLE = Path(__file__).with_name("jsb_split.csv")
LAST_HELD = 3  # frames by which the last chord may outlast the score, to fill a bar


@dataclass(frozen=True, kw_only=True)
class ChoraleRow:
    """A row of the table: one chorale of the split, and how its frames are made from a score."""

    split: str
    index: int  # in the original split
    score: str  # path inside music21's corpus, with its extension: "bach/bwv269.mxl"
    semitones: int  # transposition from the score to the split
    # frames of the score, [start, end), joined in this order: the repeats
    segments: tuple[tuple[int, ...], ...]
    parts: tuple[int, ...]  # which parts of the score sound; empty: all
    # a part's note sounds on through the rest that follows it (breathing at a fermata)
    hold_through_rests: bool
    step: float  # length of a frame in quarter notes of the score
    # False: the score is only the nearest one found, and its notes are not those of the chorale
    matched: bool

    @property
    def label(self) -> str:
        """The split and the index of the chorale in this split: "train-14"."""
        return f"{self.split}-{self.index}"

    @property
    def name(self) -> str:
        """The chorale's name: the name of its score ("bwv269"), or its label if the score is other
        music.
        """
        return Path(self.score).stem if self.matched else self.label

    def piece(self, frames: np.ndarray) -> Piece:
        """Return the frames as a piece, with its name, split and index."""
        return Piece(frames, name=self.name, split=self.split, index=self.index)


@functools.cache
def chorale_rows() -> tuple[ChoraleRow, ...]:
    """Return all 382 rows of the table: train, valid, test, each in the order of the split."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return tuple(map(_row, csv.DictReader(file)))


def _row(fields: dict[str, str]) -> ChoraleRow:
    return ChoraleRow(
        split=fields["split"],
        index=int(fields["index_in_split"]),
        score=fields["corpus_path"],
        semitones=int(fields["transposition_semitones"]),
        segments=tuple(
            tuple(map(int, segment.split(":"))) for segment in fields["segments"].split()
        ),
        parts=tuple(map(int, fields["parts"].split())),
        hold_through_rests=fields["rest_hold"] == "part",
        step=float(fields["step"]),
        matched=fields["status"] != "unmatched",
    )


def rebuild() -> Corpus:
    """Rebuild all matched chorales of the split from music21's scores: 223 / 74 / 77 pieces, 13,411
    / 4,505 / 4,725 frames. This takes a few seconds.

    Raises DataError if music21's scores are missing or damaged.
    """
    folder = corpus_folder()
    matched = [row for row in chorale_rows() if row.matched]
    return corpus_of_rolls(
        [frames_of_score(read_score(folder / row.score), row) for row in matched]
    )


def corpus_of_rolls(rolls: Sequence[np.ndarray]) -> Corpus:
    """Make the corpus from the piano rolls of all matched rows, in the order of the rows."""
    matched = [row for row in chorale_rows() if row.matched]
    pieces = [row.piece(roll) for row, roll in zip(matched, rolls, strict=True)]
    source = (
        f"{len(pieces)} of {len(chorale_rows())} chorales, rebuilt from the Bach scores of "
        f"music21 {music21_version()}"
    )
    return Corpus.of(pieces, source)


def frames_of_score(parts: list[ScorePart], row: ChoraleRow) -> np.ndarray:
    """Compute the (T, 88) uint8 frames of a score's parts, by the rule of this module."""
    chosen = [parts[i] for i in row.parts] if row.parts else parts
    if row.hold_through_rests:
        chosen = [hold_through_rests(part) for part in chosen]
    notes = [note for part in chosen for note in part]
    step = int(row.step * TICKS)
    length = max((math.ceil(end / step) for _, end, _ in notes), default=0)
    roll = np.zeros((length + LAST_HELD, KEYS), np.uint8)
    for onset, end, pitch in notes:
        sounding = slice(math.ceil(onset / step), math.ceil(end / step))
        roll[sounding, pitch + row.semitones - LOWEST_PITCH] = 1
    roll[length:] = roll[length - 1]
    return np.concatenate([roll[start:end] for start, end in row.segments])


def hold_through_rests(part: ScorePart) -> ScorePart:
    """Return the notes of a part, each held until the next note begins.

    >>> hold_through_rests([(0, 1, 60), (2, 3, 62)])
    [(0, 2, 60), (2, 3, 62)]
    """
    held = [
        (onset, following, pitch)
        for (onset, _, pitch), (following, _, _) in itertools.pairwise(part)
    ]
    return held + part[-1:]


def music21_version() -> str:
    """Return the version of the installed music21. Raises DataError if it is not installed."""
    try:
        return importlib.metadata.version("music21")
    except importlib.metadata.PackageNotFoundError:
        raise DataError(
            f"the chorales come from the music21 package, which is not installed: {_REMEDY}"
        ) from None


def corpus_folder() -> Path:
    """Return the folder of music21's corpus. Raises DataError if music21 or its scores are not
    installed.
    """
    version = music21_version()
    spec: Any = importlib.util.find_spec("music21")
    folder = Path(spec.submodule_search_locations[0]) / "corpus"
    if not (folder / "bach").is_dir():
        raise DataError(
            f"music21 {version} was installed without its corpus (no {folder / 'bach'}): {_REMEDY}"
        )
    return folder


def read_score(path: Path) -> list[ScorePart]:
    """Read the parts of a score (.mxl, .xml or .krn), the highest part first.

    Raises DataError for a file that is missing or damaged, or has an element that is not supported
    (chords, several voices in a part, spines that split). No chorale of our table has such an
    element.
    """
    try:
        if path.suffix == ".krn":
            return _kern(path.read_text(encoding="latin-1"))
        return [_musicxml_part(part) for part in musicxml(path).iter("part")]
    except FileNotFoundError:
        raise DataError(f"music21 {music21_version()} has no score {path}: {_REMEDY}") from None
    except Exception as error:  # a damaged archive or score makes the parsers raise nearly anything
        raise DataError(f"{path} is not a readable score ({error}): {_REMEDY}") from error


def musicxml(path: Path) -> ElementTree.Element:
    """Read the root element of a MusicXML score. In a compressed file (.mxl) a container names the
    score.
    """
    if path.suffix != ".mxl":
        return ElementTree.parse(path).getroot()
    with zipfile.ZipFile(path) as archive:
        container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
        name = container.findall(".//{*}rootfile")[0].attrib["full-path"]
        return ElementTree.fromstring(archive.read(name))


def _musicxml_part(part: ElementTree.Element) -> ScorePart:
    """Read the notes of a part. Notes, rests and skips follow one another, so the time is the
    running sum of their durations.
    """
    notes, now, divisions = [], 0, 1  # divisions: units of <duration> in a quarter note
    for element in part.iter():
        if element.tag == "divisions":
            divisions = int(element.text or "")
        elif element.tag == "forward":
            now += int(element.findtext("duration", "")) * TICKS // divisions
        elif element.tag in ("backup", "chord"):
            raise ValueError(
                f"<{element.tag}> in part {part.get('id')}: chords and several voices are not "
                "supported"
            )
        elif element.tag == "note" and element.find("grace") is None:
            start, now = now, now + int(element.findtext("duration", "")) * TICKS // divisions
            if (pitch := element.find("pitch")) is not None:
                notes.append((start, now, _midi_number(pitch)))
    return notes


def _midi_number(pitch: ElementTree.Element) -> int:
    """Return the MIDI number of a <pitch>, from its step, octave and accidental."""
    octave, alter = int(pitch.findtext("octave", "")), int(pitch.findtext("alter") or 0)
    return 12 * (octave + 1) + _SEMITONES[pitch.findtext("step", "")] + alter


def _kern(text: str) -> list[ScorePart]:
    """Read the parts of a Humdrum **kern score. It has one column (spine) for each part, the lowest
    first, and one line for each moment at which notes begin.
    """
    lines = [line.split("\t") for line in text.splitlines() if line and not line.startswith("!")]
    columns = [column for column, kind in enumerate(lines[0]) if kind == "**kern"]
    return [_kern_part(lines[1:], column) for column in columns][::-1]


def _kern_part(lines: Sequence[Sequence[str]], column: int) -> ScorePart:
    """Read the notes of a spine, which follow one another.

    >>> _kern_part([["4c"], ["."], ["=1"], ["4r"], ["4d"]], 0)
    [(0, 10080, 60), (20160, 30240, 62)]
    """
    notes, now = [], 0
    for line in lines:
        if line[0].startswith("*") and _MOVING & {*line}:
            raise ValueError("spines that split or move are not supported")
        token = line[column]
        if token == "." or token[0] in "*=":
            continue
        duration, pitch = _kern_token(token)
        start, now = now, now + duration
        if pitch is not None:
            notes.append((start, now, pitch))
    return notes


def _kern_token(token: str) -> tuple[int, int | None]:
    """Return the duration in ticks and the MIDI number (None: a rest) of one note.

    >>> _kern_token("[4.cc#/L"), _kern_token("8BB-")[1], _kern_token("2r")[1]
    ((15120, 73), 46, None)
    """
    value = re.search(r"([1-9]\d*)(\.*)", token)
    letters = re.search(r"(([A-Ga-g])\2*)([#-]*)", token)
    is_rest, is_grace_or_chord = "r" in token, "q" in token or " " in token
    if not value or is_grace_or_chord or is_rest == bool(letters):
        raise ValueError(f"{token!r} is not a single note or rest")
    dots = len(value[2])
    duration = 4 * (2 ** (dots + 1) - 1) * TICKS // (int(value[1]) * 2**dots)
    if not letters:
        return duration, None
    name, accidentals = letters[1], letters[3]
    octave = 3 + len(name) if name.islower() else 4 - len(name)
    alter = accidentals.count("#") - accidentals.count("-")
    return duration, 12 * (octave + 1) + _SEMITONES[name[0].upper()] + alter
