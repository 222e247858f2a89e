"""The rule that turns scores into frames, by hand and on all chorales."""

from importlib.metadata import version

import numpy as np
import pytest

from rhn.data.jsb import (
    EXPECTED_CHECKSUM,
    TICKS,
    chorale_rows,
    chorales,
    frames_of_score,
)

ROW = {
    "transposition_semitones": "0",
    "segments": "0:3",
    "parts": "",
    "rest_hold": "none",
    "step": "1.0",
}
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
        ({"segments": "2:6"}, [[55, 64]] * 4),  # the last chord may be held for three frames
        ({"segments": "1:3 0:1"}, [[55], [55, 64], [60]]),
        ({"parts": "0"}, [[60], [], [64]]),
        ({"transposition_semitones": "-3"}, [[57], [52], [52, 61]]),
        ({"step": "0.5", "segments": "0:3"}, [[60], [55, 60], [55]]),
        ({"rest_hold": "part"}, [[60], [55, 60], [55, 64]]),
    ],
)
def test_a_row_cuts_chooses_transposes_divides_and_holds(change, frames):
    assert sounding(ROW | change) == frames


@pytest.mark.slow
def test_a_rebuilding_gives_the_set_again(rebuilt, cache_home):
    assert chorales().checksum == rebuilt.checksum


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
    if version("music21") != "10.5.1":
        pytest.skip(f"the checksum is of music21 10.5.1, this is {version('music21')}")
    assert rebuilt.checksum == EXPECTED_CHECKSUM


def test_eight_chorales_have_no_counterpart():
    known = {f"{row['split']}-{row['index_in_split']}" for row in chorale_rows()}
    all_labels = {
        f"{split}-{index}"
        for split, n in (("train", 229), ("valid", 76), ("test", 77))
        for index in range(n)
    }
    numbers = {"train": (25, 28, 47, 115, 143, 145), "valid": (26, 52)}
    expected = {f"{split}-{index}" for split in numbers for index in numbers[split]}
    assert all_labels - known == expected and len(known) == 374
