"""Rebuild the chorales from music21's scores by a table: for every quarter note, the pitches that sound then.

`jsb_split.csv` has a row for each of the 382 chorales of Boulanger-Lewandowski's split (see `ChoraleRow`). It holds no notes: a row
names a score of music21's corpus, and how to cut and transpose it. Rows with status "unmatched" have no counterpart in that corpus.

The rule:

1. a part's note is held through the rest that follows it, if the row has hold_through_rests;
2. frame i of the score holds the pitches with onset <= i * step < end; the last frame may be held `LAST_HELD` more;
3. the frames are cut into the row's segments, which are joined (this is how repeats are played), and transposed.
"""

import csv
import functools
import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rhn.data.corpus import HIGHEST_PITCH, KEYS, LOWEST_PITCH, Corpus, Piece
from rhn.data.scores import TICKS, Part, corpus_folder, music21_version, read_score
from rhn.errors import DataError

TABLE = Path(__file__).with_name("jsb_split.csv")
LAST_HELD = 3  # frames by which the last chord may outlast the score, to fill a bar


@dataclass(frozen=True, kw_only=True)
class ChoraleRow:
    """A row of the table: one chorale of the split, and its rule from one score."""

    split: str
    index: int  # in the original split
    score: str  # path inside music21's corpus, with its extension: "bach/bwv269.mxl"
    semitones: int  # transposition from the score to the split
    segments: tuple[tuple[int, int], ...]  # frames of the score, [start, end), joined in this order: the repeats
    parts: tuple[int, ...]  # which parts of the score sound; empty: all
    hold_through_rests: bool  # a part's note sounds on through the rest that follows it (breathing at a fermata)
    step: float  # length of a frame in quarter notes of the score
    matched: bool  # False: the score is only the nearest one found, and its notes are not those of the chorale

    @property
    def label(self) -> str:
        """Its address in the split: "train-14"."""
        return f"{self.split}-{self.index}"

    @property
    def name(self) -> str:
        """The chorale's name: its score's ("bwv269"), or its label if the score is other music."""
        return Path(self.score).stem if self.matched else self.label


@functools.cache
def rows() -> tuple[ChoraleRow, ...]:
    """All 382 rows: train, valid, test, each in the order of the split."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return tuple(map(_row, csv.DictReader(file)))


def _row(fields: dict[str, str]) -> ChoraleRow:
    return ChoraleRow(
        split=fields["split"],
        index=int(fields["index_in_split"]),
        score=fields["corpus_path"],
        semitones=int(fields["transposition_semitones"]),
        segments=tuple(tuple(map(int, segment.split(":"))) for segment in fields["segments"].split()),
        parts=tuple(map(int, fields["parts"].split())),
        hold_through_rests=fields["rest_hold"] == "part",
        step=float(fields["step"]),
        matched=fields["status"] != "unmatched",
    )


def rebuild(*, progress: bool = True) -> Corpus:
    """All matched chorales of the split: 223 / 74 / 77 pieces, 13,411 / 4,505 / 4,725 frames. Takes about a second.

    progress: print a line on stderr. Raises DataError if music21's scores are missing or damaged.
    """
    folder, matched = corpus_folder(), [row for row in rows() if row.matched]
    if progress:
        print(f"Rebuilding {len(matched)} chorales from music21's scores, once ...", file=sys.stderr)
    return corpus_of([rebuild_piece(row, folder) for row in matched])


def corpus_of(rolls: Sequence[np.ndarray]) -> Corpus:
    """The corpus of the piano rolls of all matched rows, in their order."""
    matched = [row for row in rows() if row.matched]
    pieces = [_piece(row, roll) for row, roll in zip(matched, rolls, strict=True)]
    source = f"{len(pieces)} of {len(rows())} chorales, rebuilt from the Bach scores of music21 {music21_version()}"
    return Corpus.of(pieces, source)


def rebuild_piece(row: ChoraleRow, folder: Path | None = None) -> Piece:
    """Rebuild the chorale of one row of the table. folder: music21's corpus; None: find it."""
    path = (folder or corpus_folder()) / row.score
    try:
        frames = frames_of(read_score(path), row)
    except IndexError as error:
        raise DataError(
            f"{path} of music21 {music21_version()} does not fit row {row.label} of our table: {error}"
        ) from error
    return _piece(row, frames)


def _piece(row: ChoraleRow, frames: np.ndarray) -> Piece:
    return Piece(frames, name=row.name, split=row.split, index=row.index)


def frames_of(parts: list[Part], row: ChoraleRow) -> np.ndarray:
    """The (T, 88) uint8 frames of a score's parts, by the rule above.

    Raises IndexError if the parts, the segments or the pitches of the row lie outside the score or the keyboard.
    """
    if max(row.parts, default=0) >= len(parts):
        raise IndexError(f"it has {len(parts)} parts, the row needs part {max(row.parts, default=0)}")
    chosen = [parts[i] for i in row.parts] if row.parts else parts
    if row.hold_through_rests:
        chosen = [hold_through_rests(part) for part in chosen]
    notes = [note for part in chosen for note in part]
    step = int(row.step * TICKS)
    length = max((math.ceil(end / step) for _, end, _ in notes), default=0)
    roll = np.zeros((length + LAST_HELD, KEYS), np.uint8)
    for onset, end, pitch in notes:
        if not LOWEST_PITCH <= pitch + row.semitones <= HIGHEST_PITCH:
            raise IndexError(f"pitch {pitch} {row.semitones:+d} semitones is not one of the {KEYS} keys")
        roll[math.ceil(onset / step) : math.ceil(end / step), pitch + row.semitones - LOWEST_PITCH] = 1
    roll[length:] = roll[length - 1]
    last = max(end for _, end in row.segments)
    if last > len(roll):
        raise IndexError(f"it has {length} frames, the row needs {last}")
    return np.concatenate([roll[start:end] for start, end in row.segments])


def hold_through_rests(part: Part) -> Part:
    """The same notes, each lasting until the next one of its part begins.

    >>> hold_through_rests([(0, 1, 60), (2, 3, 62)])
    [(0, 2, 60), (2, 3, 62)]
    """
    held = [(onset, following, pitch) for (onset, _, pitch), (following, _, _) in itertools.pairwise(part)]
    return held + part[-1:]
