"""The rule that turns scores into frames, by hand and on all chorales."""

from dataclasses import replace

import numpy as np
import pytest

from rhn.data.jsb import (
    EXPECTED_CHECKSUM,
    EXPECTED_MUSIC21,
    TICKS,
    ChoraleRow,
    chorale_rows,
    frames_of_score,
    music21_version,
    rebuild,
)

ROW = ChoraleRow(
    split="train",
    index=0,
    score="bach/by-hand.xml",
    semitones=0,
    segments=((0, 3),),
    parts=(),
    hold_through_rests=False,
    step=1.0,
    matched=True,
)
# quarter notes: the first part C4 for 1, rest, E4 from 2 to 3; the second G3 from a half to 2.5
PARTS = [[(0, 1, 60), (2, 3, 64)], [(0.5, 2.5, 55)]]


def sounding(row, parts=PARTS):
    """The MIDI pitches of each frame."""
    ticks = [
        [(round(a * TICKS), round(b * TICKS), pitch) for a, b, pitch in part] for part in parts
    ]
    return [(21 + np.flatnonzero(frame)).tolist() for frame in frames_of_score(ticks, row)]


@pytest.mark.parametrize(
    ("change", "frames"),
    [
        ({}, [[60], [55], [55, 64]]),  # what sounds on the beat
        ({"segments": ((2, 6),)}, [[55, 64]] * 4),  # the last chord may be held for three frames
        ({"segments": ((1, 3), (0, 1))}, [[55], [55, 64], [60]]),
        ({"parts": (0,)}, [[60], [], [64]]),
        ({"semitones": -3}, [[57], [52], [52, 61]]),
        ({"step": 0.5, "segments": ((0, 3),)}, [[60], [55, 60], [55]]),
        ({"hold_through_rests": True}, [[60], [55, 60], [55, 64]]),
    ],
)
def test_a_row_cuts_chooses_transposes_divides_and_holds(change, frames):
    assert sounding(replace(ROW, **change)) == frames


@pytest.mark.slow
def test_a_rebuilding_gives_the_set_again(rebuilt):
    assert rebuild().checksum == rebuilt.checksum


def test_the_rebuilt_set_is_the_known_one_to_the_bit(rebuilt):
    assert [len(pieces) for pieces in (rebuilt.train, rebuilt.valid, rebuilt.test)] == [223, 74, 77]
    assert [sum(map(len, pieces)) for pieces in (rebuilt.train, rebuilt.valid, rebuilt.test)] == [
        13411,
        4505,
        4725,
    ]
    assert "374 of 382 chorales" in rebuilt.source
    for piece in rebuilt.pieces:
        assert (piece.dtype, piece.shape[1], piece.max()) == (np.uint8, 88, 1)
        assert piece.sum(axis=1).max() <= 4, "one note a voice"
    if music21_version() != EXPECTED_MUSIC21:
        pytest.skip(f"the checksum is of music21 {EXPECTED_MUSIC21}, this is {music21_version()}")
    assert rebuilt.checksum == EXPECTED_CHECKSUM


def test_eight_chorales_have_no_counterpart_and_take_no_catalogue_name():
    unmatched = [row for row in chorale_rows() if not row.matched]
    assert [row.label for row in unmatched] == [
        *(
            "train-25",
            "train-28",
            "train-47",
            "train-115",
            "train-143",
            "train-145",
            "valid-26",
            "valid-52",
        )
    ]
    assert all(row.name == row.label for row in unmatched)
