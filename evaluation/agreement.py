"""Compare the rebuilt chorales with the original ones: `python -m evaluation.agreement --data
FILE`.

Pieces are paired by their place in the original split, frames by their position in the piece. A
frame agrees when all 88 keys do. The denominator is the frames of the longer piece of each pair
(the unpaired end of the longer one never agrees); chorales that cannot be rebuilt are in no pair,
and count only in the "of" columns.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rhn.data.corpus import SPLITS, Corpus, Piece
from rhn.data.jsb import chorales
from rhn.errors import InvalidInputError, RhnError


class Agreement(NamedTuple):
    """Counts for one split; counts `_original` are of the whole original, the others of pairs of
    pieces.
    """

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
    splits = [
        _compared(split, getattr(rebuilt, split), getattr(original, split)) for split in SPLITS
    ]
    return [*splits, _compared("all", rebuilt.pieces, original.pieces)]


def _compared(split: str, rebuilt: list[Piece], original: list[Piece]) -> Agreement:
    by_label = {piece.label: piece for piece in original}
    missing = [piece.label for piece in rebuilt if piece.label not in by_label]
    if missing:
        raise InvalidInputError(
            f"the original has no {missing[0]}: expected the full split of 229 / 76 / 77 chorales"
        )
    pairs = [(piece, by_label[piece.label]) for piece in rebuilt]
    equal = [int(sum((a == b).all() for a, b in zip(*pair, strict=False))) for pair in pairs]
    longer = [max(map(len, pair)) for pair in pairs]
    return Agreement(
        split=split,
        pieces_original=len(original),
        pieces=len(pairs),
        pieces_equal=sum(a == b for a, b in zip(equal, longer, strict=True)),
        frames_original=sum(map(len, original)),
        frames=sum(longer),
        frames_equal=sum(equal),
    )


def main(words: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m evaluation.agreement", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="an original file of JSB Chorales: .json or .pickle",
    )
    path = parser.parse_args(words).data
    try:
        original = chorales(path)  # first: a bad file is refused at once
        found = agreement(chorales(), original)
    except RhnError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    row = "{:<6} {:>13} {:>13} {:>17} {:>13} {:>6}"
    print(row.format("split", "pieces", "equal pieces", "frames", "equal frames", "%"))
    for one in found:
        pieces = f"{one.pieces} of {one.pieces_original}"
        frames = f"{one.frames} of {one.frames_original}"
        percent = f"{100 * one.frames_equal / one.frames:.2f}"
        print(row.format(one.split, pieces, one.pieces_equal, frames, one.frames_equal, percent))
    return 0


if __name__ == "__main__":
    sys.exit(main())
