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
    """Counts the rebuildings, which return the session's corpus."""
    calls = []
    monkeypatch.setattr(jsb, "rebuild", lambda: calls.append(1) or rebuilt)
    return calls


def test_the_chorales_are_rebuilt_once_and_then_read_until_the_file_is_damaged(
    builds, rebuilt, cache_home, caplog
):
    first, second = rhn.data.chorales(), rhn.data.chorales()
    assert len(builds) == 1 and caplog.messages == []
    (path,) = (cache_home / "rhn").iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    third, fourth = rhn.data.chorales(), rhn.data.chorales()
    assert len(builds) == 2 and len(caplog.messages) == 1
    assert {corpus.checksum for corpus in (first, second, third, fourth)} == {rebuilt.checksum}


def test_other_notes_of_another_music21_are_used_with_a_warning(
    builds, rebuilt, monkeypatch, caplog
):
    monkeypatch.setattr(jsb, "EXPECTED_CHECKSUM", "f" * 64)
    monkeypatch.setattr(jsb, "music21_version", lambda: "99.0")
    assert rhn.data.chorales() is rebuilt
    (message,) = caplog.messages
    assert all(
        word in message
        for word in ("99.0", jsb.EXPECTED_MUSIC21, rebuilt.checksum[:12], "ffffffffffff")
    )


def test_one_chorale_in_ten_is_read_from_its_score_as_the_set_has_it(rebuilt):
    for piece in rebuilt.pieces[::10]:
        np.testing.assert_array_equal(rhn.data.chorale(piece.label), piece, err_msg=piece.label)


@for_each("name", ["BWV 66.6", "train-14", "bwv281", "bwv69.6"])
def test_one_chorale_is_the_one_of_the_set(rebuilt, builds, cache_home, name):
    piece = rhn.data.chorale(name)
    other = rebuilt.find(name)
    np.testing.assert_array_equal(piece, other)
    assert (piece.name, piece.label) == (other.name, other.label)
    assert builds == [] and not cache_home.exists(), (
        "one chorale needs neither cache nor rebuilding"
    )


def test_without_scores_both_doors_say_how_to_get_them(fake_music21, cache_home):
    for door in (rhn.data.chorales, lambda: rhn.data.chorale("bwv269")):
        with pytest.raises(DataError, match=r"without its corpus.*pip install.*--data FILE"):
            door()


@given(data=st.data())
def test_kept_chorales_come_back_and_damaged_ones_never_with_other_notes(
    rebuilt, tmp_path_factory, data
):
    path = tmp_path_factory.getbasetemp() / "chorales.npz"
    jsb.save_cached(rebuilt, path)
    again = jsb.load_cached(path)
    assert (again.checksum, again.source) == (rebuilt.checksum, rebuilt.source)
    content = bytearray(path.read_bytes())
    place, flip = (
        data.draw(st.integers(0, len(content) - 1)),
        data.draw(st.none() | st.integers(1, 255)),
    )
    content[place:] = b"" if flip is None else bytes([content[place] ^ flip]) + content[place + 1 :]
    path.write_bytes(content)
    again = jsb.load_cached(path)
    assert again is None or again.checksum == rebuilt.checksum
