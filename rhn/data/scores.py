"""Read the scores inside the installed music21 package as lists of notes.

music21's code is never imported: it turns a score into a complete model of notation. Reading only pitches and times is ten times
faster (all 374 scores in about a second).

A part is a list of notes `(onset, end, pitch)` in order of time: onset and end in ticks (`TICKS` a quarter note, so that triplets and
sixty-fourths are whole numbers) from the beginning of the score, pitch as a MIDI number. Rests are the gaps.
"""

import importlib.metadata
import importlib.util
import re
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

from rhn.errors import DataError

Part = list[tuple[int, int, int]]
TICKS = 10080  # a quarter note: 2^5 * 3^2 * 5 * 7

_REMEDY = (
    "reinstall it from the package index (pip install --force-reinstall 'music21>=10'), "
    "or read an original file of the chorales instead (--data FILE: .json or .pickle)"
)
_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}  # above the C of an octave; C4 is 60


def music21_version() -> str:
    """The version of the installed music21; raises DataError if it is not installed."""
    try:
        return importlib.metadata.version("music21")
    except importlib.metadata.PackageNotFoundError:
        raise DataError(f"the chorales come from the music21 package, which is not installed: {_REMEDY}") from None


def corpus_folder() -> Path:
    """The folder of music21's corpus; raises DataError if music21 or its scores are not installed."""
    version = music21_version()
    spec = importlib.util.find_spec("music21")
    folder = Path(spec.submodule_search_locations[0]) / "corpus"
    if not (folder / "bach").is_dir():
        raise DataError(f"music21 {version} was installed without its corpus (no {folder / 'bach'}): {_REMEDY}")
    return folder


def read_score(path: Path) -> list[Part]:
    """The parts of a score (.mxl, .xml or .krn), the highest first.

    Raises DataError for a file that is missing, damaged, or has an element that no chorale of our table has (chords,
    several voices in a part, spines that split).
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
    """The root of a MusicXML score; inside a compressed file (.mxl) a container names it."""
    if path.suffix != ".mxl":
        return ElementTree.parse(path).getroot()
    with zipfile.ZipFile(path) as archive:
        container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
        return ElementTree.fromstring(archive.read(container.find(".//{*}rootfile").get("full-path")))


def _musicxml_part(part: ElementTree.Element) -> Part:
    """Notes, rests and skips follow one another, so the time is the running sum of their durations."""
    notes, now, divisions = [], 0, 1  # divisions: units of <duration> in a quarter note
    for element in part.iter():
        if element.tag == "divisions":
            divisions = int(element.text)
        elif element.tag == "forward":
            now += _ticks(int(element.findtext("duration")), divisions)
        elif element.tag in ("backup", "chord"):
            raise ValueError(f"<{element.tag}> in part {part.get('id')}: chords and several voices are not supported")
        elif element.tag == "note" and element.find("grace") is None:
            start, now = now, now + _ticks(int(element.findtext("duration")), divisions)
            if (pitch := element.find("pitch")) is not None:
                octave, alter = int(pitch.findtext("octave")), int(pitch.findtext("alter") or 0)
                notes.append((start, now, 12 * (octave + 1) + _SEMITONES[pitch.findtext("step")] + alter))
    return notes


def _ticks(units: int, divisions: int) -> int:
    """Ticks in `units` of a quarter note's `divisions`-th part."""
    ticks, rest = divmod(units * TICKS, divisions)
    if rest:
        raise ValueError(f"a duration of {units}/{divisions} quarter notes is not a whole number of ticks")
    return ticks


def _kern(text: str) -> list[Part]:
    """Humdrum **kern: a column (spine) a part, the lowest first; a line whatever begins at one moment."""
    lines = [line.split("\t") for line in text.splitlines() if line and not line.startswith("!")]
    parts = []
    for column in (i for i, kind in enumerate(lines[0]) if kind == "**kern"):
        notes, now = [], 0
        for line in lines[1:]:
            if line[0].startswith("*") and {"*^", "*v", "*x", "*+"} & set(line):
                raise ValueError("spines that split or move are not supported")
            token = line[column]
            if token == "." or token[0] in "*=":
                continue
            duration, pitch = _kern_token(token)
            start, now = now, now + duration
            if pitch is not None:
                notes.append((start, now, pitch))
        parts.append(notes)
    return parts[::-1]


def _kern_token(token: str) -> tuple[int, int | None]:
    """Duration in ticks and MIDI number (None: a rest) of one note.

    >>> _kern_token("[4.cc#/L"), _kern_token("8BB-")[1], _kern_token("2r")[1]
    ((15120, 73), 46, None)
    """
    value = re.search(r"([1-9]\d*)(\.*)", token)
    letters = re.search(r"(([A-Ga-g])\2*)([#-]*)", token)
    if not value or " " in token or "q" in token or ("r" in token) == bool(letters):
        raise ValueError(f"{token!r} is not a single note or rest")
    dots = len(value[2])
    duration = _ticks(4 * (2 ** (dots + 1) - 1), int(value[1]) * 2**dots)
    if not letters:
        return duration, None
    name, accidentals = letters[1], letters[3]
    octave = 3 + len(name) if name.islower() else 4 - len(name)
    alter = accidentals.count("#") - accidentals.count("-")
    return duration, 12 * (octave + 1) + _SEMITONES[name[0].upper()] + alter
