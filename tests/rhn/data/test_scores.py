"""Our reader of scores hears what music21 hears, and refuses what it does not understand."""

import pytest
from tables import for_each

from rhn.data.jsb import TICKS, chorale_rows, corpus_folder, read_score
from rhn.errors import DataError

SCORES = sorted({row.score for row in chorale_rows()})
# every 100th, and those that differ in kind: Humdrum, uncompressed MusicXML, bars that end in
# <forward>
COMPARED = sorted(
    {*SCORES[::100], *(s for s in SCORES if not s.endswith(".mxl")), "bach/bwv171.6.mxl"}
)

XML = """<score-partwise><part id="P1"><measure><attributes><divisions>4</divisions></attributes>
{}</measure></part></score-partwise>"""
NOTE = "<note><pitch><step>{}</step><octave>{}</octave></pitch><duration>{}</duration></note>"


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


@for_each(
    ("name", "content", "words"),
    [
        (
            "chord.xml",
            XML.format("<note><chord/><duration>4</duration></note>"),
            "<chord> in part P1",
        ),
        (
            "voices.xml",
            XML.format("<backup><duration>4</duration></backup>"),
            "<backup> in part P1",
        ),
        ("cut.xml", XML[:60], "not a readable score"),
        ("grace.krn", "**kern\n8qc\n", "'8qc' is not a single note"),
        ("split.krn", "**kern\n*^\n4c\t4e\n", "spines that split"),
    ],
)
def test_a_score_that_we_do_not_understand_is_refused(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError, match=f"{name} is not a readable score") as caught:
        read_score(path)
    assert words in str(caught.value)
