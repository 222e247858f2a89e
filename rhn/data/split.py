"""The table behind the rebuilt chorales: which score, bars and key each piece of the 229 / 76 / 77 split is.

`jsb_split.csv` has a row for each of the 382 chorales of Boulanger-Lewandowski's split. It holds no notes: a row
names a score of music21's corpus and says how to cut and transpose it. Rows with status "unmatched" have no
counterpart in that corpus.
"""

import csv
import functools
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("jsb_split.csv")


@dataclass(frozen=True, kw_only=True)
class Row:
    """How one chorale of the split is made from one score."""

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
        """The chorale's name: its score's ("bwv269"), or its label where the score is not the same music."""
        return Path(self.score).stem if self.matched else self.label


@functools.cache
def rows() -> tuple[Row, ...]:
    """All 382 rows: train, valid, test, each in the order of the split."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return tuple(map(_row, csv.DictReader(file)))


def _row(fields: dict[str, str]) -> Row:
    return Row(
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
