"""The chorales: rebuilt from scores by a rule, kept in a cache, or read from an original file."""

import copy
import json
import pickle
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rhn.data import Piece, chorale, chorales, jsb
from rhn.data.corpus import SPLITS
from rhn.errors import DataError

SIZES = {"train": 229, "valid": 76, "test": 77}
MISSING = {"train": {25, 28, 47, 115, 143, 145}, "valid": {26, 52}, "test": set()}


@pytest.fixture(scope="module")
def rebuilt():
    """All chorales, rebuilt from the scores of the installed music21, now or by an earlier run."""
    return chorales()


def splits(corpus):
    return [getattr(corpus, split) for split in SPLITS]


def test_the_rebuilt_set_is_the_known_one_to_the_bit(rebuilt, caplog):
    assert [len(pieces) for pieces in splits(rebuilt)] == [223, 74, 77]
    assert [sum(map(len, pieces)) for pieces in splits(rebuilt)] == [13411, 4505, 4725]
    found = {split: {piece.index for piece in getattr(rebuilt, split)} for split in SPLITS}
    assert found == {split: {*range(n)} - MISSING[split] for split, n in SIZES.items()}
    for piece in rebuilt.pieces:
        assert (piece.dtype, piece.shape[1], piece.max()) == (np.uint8, 88, 1)
        assert piece.sum(axis=1).max() <= 4, "one note a voice"
    if version("music21") != "10.5.1":
        pytest.skip(f"the checksum is of music21 10.5.1, this is {version('music21')}")
    assert chorales().checksum == jsb.EXPECTED_CHECKSUM and not caplog.records


@pytest.mark.slow
def test_a_rebuilding_gives_the_set_again_also_if_its_file_is_damaged(
    rebuilt, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for _ in range(2):
        assert chorales().checksum == rebuilt.checksum
        (path,) = (tmp_path / "rhn").iterdir()
        path.write_bytes(path.read_bytes()[:-100])


def test_scores_are_read_once(rebuilt, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    three = jsb.chorale_rows()[:3]
    monkeypatch.setattr(jsb, "chorale_rows", lambda: three)
    for _ in range(2):
        for piece, same in zip(chorales().train, rebuilt.train[:3], strict=True):
            np.testing.assert_array_equal(piece, same)
        monkeypatch.setattr(jsb, "corpus_folder", lambda: tmp_path / "no scores")
    assert caplog.text.count(f"expected {jsb.EXPECTED_CHECKSUM:.12}") == 2


ROW = {"transposition_semitones": "0", "segments": "0:3", "parts": "", "rest_hold": "none"}
# quarter notes: the first part C4 for 1, rest, E4 from 2 to 3; the second G3 from a half to 2.5
PARTS = [[(0, 1, 60), (2, 3, 64)], [(0.5, 2.5, 55)]]


@pytest.mark.parametrize(
    ("change", "frames"),
    [
        ({}, [[60], [55], [55, 64]]),  # what sounds on the beat
        ({"segments": "2:6"}, [[55, 64]] * 4),  # the last chord may be held for three frames
        ({"segments": "1:3 0:1"}, [[55], [55, 64], [60]]),
        ({"parts": "0"}, [[60], [], [64]]),
        ({"transposition_semitones": "-3"}, [[57], [52], [52, 61]]),
        ({"step": "0.5"}, [[60], [55, 60], [55]]),
        ({"rest_hold": "part"}, [[60], [55, 60], [55, 64]]),
    ],
    ids=str,
)
def test_a_row_cuts_chooses_transposes_divides_and_holds(change, frames):
    parts = [[(*(round(t * jsb.TICKS) for t in times), p) for *times, p in part] for part in PARTS]
    assert pitches(jsb.frames_of_score(parts, ROW | {"step": "1.0"} | change)) == frames


def pitches(roll) -> list[list[int]]:
    """The MIDI pitches of each frame."""
    return [(21 + np.flatnonzero(frame == 1)).tolist() for frame in roll]


SCORES = sorted({row["corpus_path"] for row in jsb.chorale_rows()})
# every 100th, and those that differ in kind: Humdrum, uncompressed MusicXML, bars that end in
# <forward>
OTHERS = [*(score for score in SCORES if not score.endswith(".mxl")), "bach/bwv171.6.mxl"]


@pytest.mark.parametrize("score", sorted({*SCORES[::100], *OTHERS}))
def test_every_note_of_a_score_is_that_of_music21(score):
    path, converter = jsb.corpus_folder() / score, pytest.importorskip("music21.converter")

    def ticks(note):
        return round(note.offset * jsb.TICKS), round((note.offset + note.quarterLength) * jsb.TICKS)

    parts = converter.parse(path, forceSource=True).parts
    notes = [[n for n in p.flatten().notes if not n.duration.isGrace] for p in parts]
    wanted = [[(*ticks(n), pitch.midi) for n in part for pitch in n.pitches] for part in notes]
    assert [sorted(part) for part in jsb.read_score(path)] == [sorted(part) for part in wanted]


def test_durations_of_a_score_are_in_parts_of_a_quarter_note_rounded_down(tmp_path):
    """Without <divisions> in whole ones."""

    def note(step, octave, duration, alter=""):
        pitch = f"<step>{step}</step>{alter}<octave>{octave}</octave>"
        return f"<note><pitch>{pitch}</pitch><duration>{duration}</duration></note>"

    grace = "<note><grace/><pitch><step>C</step><octave>1</octave></pitch></note>"
    rest = "<note><rest/><duration>1</duration></note>"
    eleventh = "<forward><duration>1</duration></forward>"
    elements = [
        note("C", 4, 1),
        "<divisions>2</divisions>",
        note("F", 3, 3, "<alter>1</alter>"),
        grace,
        rest,
        "<divisions>11</divisions>",
        eleventh,
        note("B", 5, 1, "<alter>-1</alter>"),
    ]
    (tmp_path / "a.xml").write_text(f"<score><part>{''.join(elements)}</part></score>")
    wanted = [(0, 10080, 60), (10080, 25200, 54), (30240 + 916, 30240 + 2 * 916, 82)]
    assert jsb.read_score(tmp_path / "a.xml") == [wanted]


@pytest.mark.parametrize(("name", "label"), [("BWV 414", "train-14"), ("Valid-33", "valid-33")])
def test_a_chorale_is_the_first_of_its_name_in_any_spelling(name, label, rebuilt):
    piece = chorale(name)
    assert (piece.label, piece.name) == (label, "bwv414")
    same = next(each for each in rebuilt.pieces if each.label == label)
    np.testing.assert_array_equal(piece, same)


def test_a_piece_is_an_array_of_bytes_whose_copies_keep_its_origin():
    piece = Piece(frames := np.eye(5, 88, dtype=np.uint8), name="bwv269", split="train", index=3)
    assert (piece.shape, piece.dtype, piece[2, 2]) == ((5, 88), np.uint8, 1)
    assert not np.shares_memory(piece, frames)
    assert type(piece == 1) is type(piece.sum(axis=1)) is np.ndarray
    for twin in (copy.copy(piece), copy.deepcopy(piece), piece[:]):
        np.testing.assert_array_equal(twin, piece)
        assert (twin.name, twin.split, twin.index) == ("bwv269", "train", 3)


def test_the_checksum_is_of_notes_order_and_names_and_not_of_the_source(rebuilt):
    corpus = replace(rebuilt, train=rebuilt.train[:2], valid=rebuilt.valid[:1], test=[])
    note, name = copy.deepcopy(corpus), copy.deepcopy(corpus)
    note.valid[0][0, 0] ^= 1
    name.valid[0].name = "bwv1"
    others = [note, name, replace(corpus, train=corpus.train[::-1])]
    assert replace(corpus, source="elsewhere").checksum == corpus.checksum
    assert len({corpus.checksum, *(other.checksum for other in others)}) == 4


def write(path, content):
    """Nested lists of pitches as a file of the format that the suffix says."""
    if path.suffix == ".json":
        path.write_text(json.dumps(content))
    else:
        tuples = {split: [[*map(tuple, piece)] for piece in content[split]] for split in content}
        path.write_bytes(pickle.dumps(tuples, protocol=0))
    return path


def test_the_original_has_its_published_sizes_and_the_names_of_the_table(
    original_chorales, tmp_path
):
    corpus = chorales(str(original_chorales))
    assert {split: len(getattr(corpus, split)) for split in SPLITS} == SIZES
    assert [sum(map(len, pieces)) for pieces in splits(corpus)] == [13807, 4602, 4725]
    heard = [pitch for piece in corpus.pieces for frame in pitches(piece) for pitch in frame]
    assert (min(heard), max(heard)) == (43, 96)
    assert [corpus.train[k].name for k in (14, 25)] == ["bwv414", "train-25"]
    pickled = write(tmp_path / "chorales.pickle", json.loads(original_chorales.read_bytes()))
    assert chorales(pickled).checksum == corpus.checksum


FRAMES = st.lists(st.sets(st.integers(21, 108), max_size=5).map(sorted), min_size=1, max_size=6)
PIECES = st.lists(FRAMES, min_size=1, max_size=3)


@given(content=st.fixed_dictionaries(dict.fromkeys(SPLITS, PIECES)))
@settings(max_examples=30)
def test_any_set_of_pitches_is_read_with_labels_for_names(tmp_path_factory, content):
    for suffix in (".json", ".pickle"):
        corpus = chorales(write(tmp_path_factory.getbasetemp() / f"any{suffix}", content))
        assert {s: [*map(pitches, getattr(corpus, s))] for s in SPLITS} == content
        assert all(piece.name == piece.label for piece in corpus.pieces)


SMALL = {"train": [[[60, 64], []], [[21, 108]]], "valid": [[[70]]], "test": [[[80], [81]]]}


CHANGES = [{"test": []}, {"test": [3]}, {"train": [[[20]]]}, {"train": [[[109]]]}]
DAMAGED = [b"[]", b"", b"[" * 100_000, pickle.dumps(SMALL)[:-5]]


@pytest.mark.parametrize(
    "content",
    [*(json.dumps(SMALL | change).encode() for change in CHANGES), *DAMAGED],
    ids=["no test", "a number", "too low", "too high", "a list", "empty", "brackets", "cut"],
)
def test_a_file_that_is_no_music_is_refused(content, tmp_path):
    for suffix in (".json", ".pickle"):
        (tmp_path / f"wrong{suffix}").write_bytes(content)
        with pytest.raises(DataError, match=f"wrong{suffix} cannot be read: "):
            chorales(tmp_path / f"wrong{suffix}")


@pytest.mark.parametrize(
    ("store", "message"),
    [
        pytest.param(b"Nr\xff\xff\x0f\0", "it stores object 1048575 in 9 bytes", id="a number"),
        pytest.param(b"Np1048575\n", "it stores object 1048575 in 13 bytes", id="digits"),
        pytest.param(b"Np8\n", "it stores object 8 in 7 bytes", id="more than bytes"),
        pytest.param(b"Np7\n", "'NoneType' object is not subscriptable", id="as many as bytes"),
    ],
)
def test_a_pickle_that_takes_memory_for_missing_objects_is_refused(store, message, tmp_path):
    (tmp_path / "large.pickle").write_bytes(b"\x80\x02" + store + b".")
    with pytest.raises(DataError, match=message):
        chorales(tmp_path / "large.pickle")


def test_a_pickle_of_python_2_is_read(tmp_path):
    """As `cPickle.dumps` of Python 2.7 wrote it."""
    one = b"sS'%s'\n(lp3\n(lp4\n(I60\nI64\ntp5\naa"
    (tmp_path / "old.pkl").write_bytes(
        b"(dp1\n" + b"".join(one % s.encode() for s in SPLITS)[1:] + b"s."
    )
    assert pitches(chorales(tmp_path / "old.pkl").test[0]) == [[60, 64]]
