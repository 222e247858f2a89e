"""All chorales, cached to the bit after the first time, and one chorale by its name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import for_each

import rhn.data
from rhn.data import jsb
from rhn.errors import DataError


@pytest.fixture
def builds(monkeypatch, rebuilt, cache_home):
    """The scores that are read; their frames are those of the session's corpus."""
    calls = []
    frames = {piece.label: np.asarray(piece) for piece in rebuilt.pieces}
    monkeypatch.setattr(jsb, "read_score", lambda path: calls.append(path) or [])
    monkeypatch.setattr(
        jsb, "frames_of_score", lambda parts, row: frames["{split}-{index_in_split}".format(**row)]
    )
    return calls


def test_the_chorales_are_rebuilt_once_and_then_read_until_the_file_is_damaged(
    builds, rebuilt, cache_home
):
    first, second = rhn.data.chorales(), rhn.data.chorales()
    assert len(builds) == 374
    (path,) = (cache_home / "rhn").iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    third, fourth = rhn.data.chorales(), rhn.data.chorales()
    assert len(builds) == 2 * 374
    assert {corpus.checksum for corpus in (first, second, third, fourth)} == {rebuilt.checksum}


def test_other_notes_of_another_music21_are_used_with_a_warning(rebuilt, monkeypatch, caplog):
    monkeypatch.setattr(jsb, "EXPECTED_CHECKSUM", "d387295bfe14" + "f" * 52)
    assert rhn.data.chorales().checksum == rebuilt.checksum
    (message,) = caplog.messages
    assert rebuilt.checksum[:12] in message


@for_each("name", ["BWV 66.6", "train-14", "bwv281", "bwv69.6"])
def test_one_chorale_is_the_first_of_that_name_in_any_spelling(rebuilt, name):
    piece = rhn.data.chorale(name)
    wanted = name.lower().replace(" ", "")
    other = next(piece for piece in rebuilt.pieces if wanted in (piece.name, piece.label))
    np.testing.assert_array_equal(piece, other)
    assert (piece.name, piece.label) == (other.name, other.label)


def test_without_scores_the_folder_is_named(fake_music21, cache_home):
    with pytest.raises(DataError, match=f"{fake_music21}/bach/.* is not a readable score: No such"):
        rhn.data.chorales()


@given(data=st.data())
def test_kept_chorales_come_back_and_damaged_ones_never_with_other_notes(
    rebuilt, tmp_path_factory, data
):
    path = tmp_path_factory.getbasetemp() / "chorales.npz"
    jsb.save_cached(rebuilt.pieces, path)
    assert same(jsb.load_cached(path), rebuilt)
    content = bytearray(path.read_bytes())
    place, flip = (
        data.draw(st.integers(0, len(content) - 1)),
        data.draw(st.none() | st.integers(1, 255)),
    )
    content[place:] = b"" if flip is None else bytes([content[place] ^ flip]) + content[place + 1 :]
    path.write_bytes(content)
    again = jsb.load_cached(path)
    assert again is None or same(again, rebuilt)


def same(rolls, corpus):
    pairs = zip(rolls, corpus.pieces, strict=True)
    return all((roll == np.asarray(piece)).all() for roll, piece in pairs)
