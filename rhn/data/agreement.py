"""How far the rebuilt chorales are the original ones: `python -m rhn.data.agreement --data FILE`.

Pieces are paired by their place in the original split, frames by their position in the piece. A frame agrees when
all 88 keys do. The denominator is the frames of the longer piece of each pair (the unpaired end of the longer one
never agrees); chorales that cannot be rebuilt are in no pair, and count in the "of" columns alone.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rhn.data.corpus import SPLITS, Corpus
from rhn.data.jsb import chorales
from rhn.errors import InvalidInputError, RhnError


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Counts for one split; `_original` counts everything in the original, the others pairs of pieces alone."""

    split: str
    pieces_original: int
    pieces: int
    pieces_equal: int  # to the last note
    frames_original: int
    frames: int  # of the longer piece of each pair
    frames_equal: int


def agreement(rebuilt: Corpus, original: Corpus) -> list[Agreement]:
    """The counts of the three splits and, last, of all together ("all").

    Raises InvalidInputError where `rebuilt` has a piece whose place the original does not have.
    """
    found = [_of_split(split, getattr(rebuilt, split), getattr(original, split)) for split in SPLITS]
    counts = [name for name in Agreement.__dataclass_fields__ if name != "split"]
    return [*found, Agreement(split="all", **{name: sum(getattr(one, name) for one in found) for name in counts})]


def _of_split(split: str, rebuilt: list, original: list) -> Agreement:
    by_index = {piece.index: piece for piece in original}
    missing = [piece.label for piece in rebuilt if piece.index not in by_index]
    if missing:
        raise InvalidInputError(f"the original has no {missing[0]}: expected the full split of 229 / 76 / 77 chorales")
    pairs = [(np.asarray(piece), np.asarray(by_index[piece.index])) for piece in rebuilt]
    equal = [sum((a == b).all() for a, b in zip(ours, theirs, strict=False)) for ours, theirs in pairs]
    longer = [max(len(ours), len(theirs)) for ours, theirs in pairs]
    return Agreement(
        split=split,
        pieces_original=len(original),
        pieces=len(pairs),
        pieces_equal=sum(a == b for a, b in zip(equal, longer, strict=True)),
        frames_original=sum(map(len, original)),
        frames=sum(longer),
        frames_equal=int(sum(equal)),
    )


def report(found: list[Agreement]) -> str:
    """The counts as a table for people."""
    lines = [f"{'split':<6} {'pieces':>13} {'equal pieces':>13} {'frames':>17} {'equal frames':>13} {'%':>6}"]
    for one in found:
        pieces, frames = f"{one.pieces} of {one.pieces_original}", f"{one.frames} of {one.frames_original}"
        percent = 100 * one.frames_equal / one.frames
        lines.append(
            f"{one.split:<6} {pieces:>13} {one.pieces_equal:>13} {frames:>17} {one.frames_equal:>13} {percent:>6.2f}"
        )
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m rhn.data.agreement", description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="an original file of JSB Chorales: .json or .pickle")
    path = parser.parse_args(words).data
    try:
        original = chorales(path)  # first: a bad file is told at once
        print(report(agreement(chorales(), original)))
    except RhnError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
