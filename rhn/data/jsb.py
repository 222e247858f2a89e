"""JSB Chorales: 382 four-part chorales of Bach, split 229 / 76 / 77 by Boulanger-Lewandowski et al.
(2012).

By default they are rebuilt once from the Bach scores of the installed music21 package, which lacks
8 of them, and kept in the user's cache folder. Editions differ: 95 % of the frames equal those of
the original file, which holds lists of pieces, a piece a list of frames, a frame a list of pitches.

`jsb_split.csv` has a row for each chorale: a score, and how to make frames from it:

1. choose the row's parts (all if empty); if rest_hold is "part", hold notes through rests;
2. frame i of the score has the pitches with onset <= i * step < end, where step is in quarter notes
   of the score; the last frame may be repeated up to `LAST_HELD` times;
3. cut the frames into the row's segments [start, end), join them (this is how repeats are played),
   and transpose them.

A part of a score is a list of notes `(onset, end, pitch)` in order of time, in ticks (`TICKS` for
each quarter note) and MIDI numbers. MusicXML is read here, ten times faster than by music21.
"""

import contextlib
import csv
import functools
import importlib.util
import io
import itertools
import json
import logging
import math
import pickle
import pickletools
import xml.etree.ElementTree as ElementTree
import zipfile
from collections import Counter
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from rhn.data.corpus import HIGHEST_PITCH, KEYS, LOWEST_PITCH, SPLITS, Corpus, Piece, find
from rhn.errors import DataError, InvalidInputError, OutputError, first_line, unreadable
from rhn.utils.io import cache_folder, check_file, write_arrays
from rhn.utils.progress import reported

EXPECTED_CHECKSUM = "d387295bfe1434ed47e88f40f4542dc305883326d088418afaf46be059effedf"  # 10.5.1
TABLE = Path(__file__).with_name("jsb_split.csv")
LAST_HELD = 3  # frames by which the last chord may outlast the score, to fill a bar
TICKS = 10080  # a quarter note: 2^5 * 3^2 * 5 * 7
SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}  # above C; C4 is 60

ScorePart = list[tuple[int, int, int]]

logger = logging.getLogger(__name__)


def chorales(source: str | Path | None = None) -> Corpus:
    """Load the chorales as a corpus.

    source: the path of an original file, .json (Huang) or .pickle (Boulanger-Lewandowski). None:
    the chorales rebuilt from music21's scores (223 / 74 / 77 pieces). Raises DataError or
    InvalidInputError.
    """
    if source is not None:
        return read_original(Path(source))
    rows, version = chorale_rows(), metadata.version("music21")
    path = cache_folder() / f"chorales-music21-{version}-{EXPECTED_CHECKSUM[:12]}.npz"
    rolls = load_cached(path)
    if rolls is None:
        folder = corpus_folder()
        rolls = list[np.ndarray]()
        with reported(None, "chorales", total=len(rows)) as advance:
            for row in rows:
                rolls.append(frames_of_score(read_score(folder / row["corpus_path"]), row))
                advance(len(rolls), len(rows))
        save_cached(rolls, path)
    origin = f"{len(rows)} of 382 chorales, rebuilt from the Bach scores of music21 {version}"
    keys = [(row["split"], int(row["index_in_split"])) for row in rows]
    corpus = _corpus(dict(zip(keys, rolls, strict=True)), origin, named=True)
    if corpus.checksum != EXPECTED_CHECKSUM:
        found = f"checksum of the chorales of music21 {version} is {corpus.checksum:.12}"
        logger.warning("%s: expected %.12s", found, EXPECTED_CHECKSUM)
    return corpus


def chorale(name: str, source: str | Path | None = None) -> Piece:
    """Load one chorale, the first with this name ("bwv269", "BWV 66.6"), or by its split and index
    in the original data ("train-14", "test-0"). `source` and errors as for `chorales`; raises
    InvalidInputError for an unknown name.
    """
    return find(chorales(source).pieces, name)


def load_cached(path: Path) -> list[np.ndarray] | None:
    """Read piano rolls (T, 88) from a cache file; None if it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            frames = np.unpackbits(arrays["packed"], axis=1, count=KEYS)
            return np.split(frames, np.cumsum(arrays["lengths"])[:-1])
    except Exception:  # zipfile, zlib and NumPy raise many kinds for a damaged file
        return None


def save_cached(rolls: list[np.ndarray], path: Path) -> None:
    """Write piano rolls to a cache file, atomically, if its folder can be written."""
    packed = np.packbits(np.concatenate(rolls), axis=1)
    with contextlib.suppress(OSError, OutputError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(path, {"packed": packed, "lengths": [len(roll) for roll in rolls]})


def read_original(path: Path) -> Corpus:
    """Read the corpus from an original file. If it has all 229 / 76 / 77 chorales, the pieces get
    their catalogue names; otherwise they get labels ("train-17").
    """
    from rhn.data.datasets import CHORALES  # the default needs no record of files

    if path.suffix.lower() not in (".json", ".pickle", ".pkl"):
        raise InvalidInputError(f"file of chorales is {path}: expected .json or .pickle")

    class PlainUnpickler(pickle.Unpickler):
        def find_class(self, module, name):
            raise ValueError(f"it imports {module}.{name}")

    try:
        check_file(path)
        written = path.read_bytes()
        if path.suffix.lower() == ".json":
            content = json.loads(written)
        else:
            _require_small_memo(written)
            content = PlainUnpickler(io.BytesIO(written), encoding="latin-1").load()
        rolls = {
            (split, i): _roll(piece) for split in SPLITS for i, piece in enumerate(content[split])
        }
        if {split for split, _ in rolls} != {*SPLITS}:
            raise ValueError("a split is empty")
    except Exception as error:  # a damaged pickle raises nearly any kind
        said = f"{path} cannot be read: {first_line(error):.200}"
        raise DataError(unreadable(path, error, said)) from error
    whole = Counter(split for split, _ in rolls) == CHORALES.counts
    return _corpus(rolls, f"original file {path.absolute()}", named=whole)


def _require_small_memo(written: bytes) -> None:
    """Raise ValueError if a pickle stores an object under a number above its number of bytes: the
    unpickler takes memory for all numbers below, 16 GiB for nine bytes.
    """
    opcodes: Any = pickletools.genops(written)
    for opcode, argument, _ in opcodes:
        is_stored = opcode.name in ("PUT", "BINPUT", "LONG_BINPUT")
        if is_stored and argument > len(written):
            raise ValueError(f"it stores object {argument} in {len(written)} bytes")


def _corpus(rolls: Mapping[tuple[str, int], np.ndarray], source: str, *, named: bool) -> Corpus:
    """Make a corpus from piano rolls by split and index. The pieces have their catalogue names if
    they are `named`, those without one their label.
    """
    names = {f"{r['split']}-{r['index_in_split']}": r for r in chorale_rows() if named}
    pieces: dict[str, list[Piece]] = {split: [] for split in SPLITS}
    for (split, i), roll in rolls.items():
        label = f"{split}-{i}"
        name = Path(names[label]["corpus_path"]).stem if label in names else label
        pieces[split].append(Piece(roll, name=name, split=split, index=i))
    return Corpus(**pieces, source=source)


def _roll(frames: list) -> np.ndarray:
    """Return the piano roll (T, 88) of a list of frames, each a list of pitches."""
    roll = np.zeros((len(frames), KEYS), np.uint8)
    if not len(roll):
        raise ValueError("a piece has no frames")
    for time, frame in enumerate(frames):
        for pitch in frame:
            if not LOWEST_PITCH <= pitch <= HIGHEST_PITCH:
                raise ValueError(f"pitch is {pitch!r}: expected {LOWEST_PITCH} to {HIGHEST_PITCH}")
            roll[time, pitch - LOWEST_PITCH] = 1
    return roll


@functools.cache
def chorale_rows() -> tuple[dict[str, str], ...]:
    """Return the rows of the table: train, valid, test, each in the order of the split."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return tuple(row for row in csv.DictReader(file) if row["status"] != "unmatched")


def frames_of_score(parts: list[ScorePart], row: Mapping[str, str]) -> np.ndarray:
    """Compute the (T, 88) uint8 frames of a score's parts, by the rule of this module."""
    chosen = [parts[int(i)] for i in row["parts"].split()] or parts
    if row["rest_hold"] == "part":
        chosen = [_held(part) for part in chosen]
    notes = [note for part in chosen for note in part]
    step = int(float(row["step"]) * TICKS)
    length = max(math.ceil(end / step) for _, end, _ in notes)
    roll = np.zeros((length + LAST_HELD, KEYS), np.uint8)
    for onset, end, pitch in notes:
        sounding = slice(math.ceil(onset / step), math.ceil(end / step))
        roll[sounding, pitch + int(row["transposition_semitones"]) - LOWEST_PITCH] = 1
    roll[length:] = roll[length - 1]
    segments = [map(int, segment.split(":")) for segment in row["segments"].split()]
    return np.concatenate([roll[start:end] for start, end in segments])


def _held(part: ScorePart) -> ScorePart:
    """Return the notes of a part, each held until the next note begins."""
    pairs = itertools.pairwise(part)
    return [(onset, following[0], pitch) for (onset, _, pitch), following in pairs] + part[-1:]


def corpus_folder() -> Path:
    """Return the folder of music21's corpus."""
    spec: Any = importlib.util.find_spec("music21")
    return Path(spec.submodule_search_locations[0]) / "corpus"


def read_score(path: Path) -> list[ScorePart]:
    """Read the parts of a score (.mxl, .xml or .krn), the highest part first. Raises DataError, for
    chords and several voices in a part too, which no chorale of our table has.
    """
    try:
        if path.suffix == ".krn":
            return _parsed_by_music21(path)
        return [_musicxml_part(part) for part in _musicxml(path).iter("part")]
    except Exception as error:  # a damaged archive or score makes the parsers raise nearly anything
        said = f"{path} is not a readable score: {first_line(error)}"
        raise DataError(unreadable(path, error, said)) from error


def _parsed_by_music21(path: Path) -> list[ScorePart]:
    """Read a Humdrum **kern score, of which the table has two."""
    from music21 import converter  # here, because it takes seconds to import

    score: Any = converter.parse(path, forceSource=True, storePickle=False)

    def ticks(note) -> tuple[int, int]:
        return round(note.offset * TICKS), round((note.offset + note.quarterLength) * TICKS)

    parts = [part.flatten().notes for part in score.parts]
    return [[(*ticks(note), note.pitch.midi) for note in part] for part in parts]


def _musicxml(path: Path) -> ElementTree.Element:
    """Read the root element of a MusicXML score; in a .mxl file a container names the score."""
    if path.suffix != ".mxl":
        return ElementTree.parse(path).getroot()
    with zipfile.ZipFile(path) as archive:
        container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
        name = container.findall(".//{*}rootfile")[0].attrib["full-path"]
        return ElementTree.fromstring(archive.read(name))


def _musicxml_part(part: ElementTree.Element) -> ScorePart:
    """Read the notes of a part, which follow one another: the time is the sum of durations."""
    notes, now, divisions = [], 0, 1  # divisions: units of <duration> in a quarter note
    for element in part.iter():
        if element.tag == "divisions":
            divisions = int(element.text or "")
        elif element.tag == "forward":
            now += int(element.findtext("duration", "")) * TICKS // divisions
        elif element.tag in ("backup", "chord"):
            raise ValueError(f"<{element.tag}> in part {part.get('id')}")
        elif element.tag == "note" and element.find("grace") is None:
            start, now = now, now + int(element.findtext("duration", "")) * TICKS // divisions
            if (pitch := element.find("pitch")) is not None:
                notes.append((start, now, _midi_number(pitch)))
    return notes


def _midi_number(pitch: ElementTree.Element) -> int:
    octave, alter = int(pitch.findtext("octave", "")), int(pitch.findtext("alter", "0"))
    return 12 * (octave + 1) + SEMITONES[pitch.findtext("step", "")] + alter
