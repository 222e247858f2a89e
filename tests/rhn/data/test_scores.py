"""Our reader of scores hears what music21 hears, and refuses what it does not understand."""

import pytest

from rhn.data.jsb import TICKS, chorale_rows, corpus_folder, read_score

SCORES = sorted({row["corpus_path"] for row in chorale_rows()})
# every 100th, and those that differ in kind: Humdrum, uncompressed MusicXML, bars that end in
# <forward>
COMPARED = sorted(
    {*SCORES[::100], *(s for s in SCORES if not s.endswith(".mxl")), "bach/bwv171.6.mxl"}
)


def heard_by_music21(path):
    """(onset, end, pitch) of every part in ticks, with music21's own parser; its fractions of a
    tick are rounded.
    """
    converter = pytest.importorskip("music21.converter")
    score = converter.parse(path, forceSource=True)
    return [
        [
            (
                round(note.offset * TICKS),
                round((note.offset + note.quarterLength) * TICKS),
                pitch.midi,
            )
            for note in part.flatten().notes
            if not note.duration.isGrace
            for pitch in note.pitches
        ]
        for part in score.parts
    ]


@pytest.mark.parametrize("score", COMPARED)
def test_every_note_is_the_one_that_music21_hears(score):
    path = corpus_folder() / score
    assert [sorted(part) for part in read_score(path)] == [
        sorted(part) for part in heard_by_music21(path)
    ]
