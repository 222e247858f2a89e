"""All chorales, cached to the bit after the first time, and one chorale by its name."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import for_each

import rhn.data
from rhn.data import jsb
from rhn.errors import DataError, InvalidInputError


@pytest.fixture
def builds(monkeypatch, rebuilt, cache_home):
    """Counts the rebuildings, which return the session's corpus."""
    calls = []
    monkeypatch.setattr(jsb, "rebuild", lambda progress: calls.append(progress) or rebuilt)
    return calls


def test_the_chorales_are_rebuilt_once_and_then_read_until_the_file_is_damaged(builds, rebuilt, cache_home, caplog):
    first, second = rhn.data.chorales(progress=False), rhn.data.chorales()
    assert builds == [False] and caplog.messages == []
    (path,) = (cache_home / "rhn").iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    third, fourth = rhn.data.chorales(), rhn.data.chorales()
    assert builds == [False, True] and len(caplog.messages) == 1
    assert {corpus.checksum for corpus in (first, second, third, fourth)} == {rebuilt.checksum}


def test_a_cache_folder_that_cannot_be_written_does_no_harm(builds, rebuilt, cache_home, caplog):
    cache_home.write_text("a file where the folder would be")
    assert rhn.data.chorales().checksum == rebuilt.checksum
    (message,) = caplog.messages
    assert "cannot be kept" in message


def test_other_notes_of_another_music21_are_used_with_a_warning(builds, rebuilt, monkeypatch, caplog):
    monkeypatch.setattr(jsb, "EXPECTED_CHECKSUM", "f" * 64)
    monkeypatch.setattr(jsb, "music21_version", lambda: "99.0")
    assert rhn.data.chorales() is rebuilt
    (message,) = caplog.messages
    assert all(word in message for word in ("99.0", jsb.EXPECTED_MUSIC21, rebuilt.checksum[:12], "ffffffffffff"))


@pytest.mark.slow
def test_two_processes_at_once_leave_one_whole_cache(rebuilt, cache_home):
    """They really rebuild, without music21's own code, and write nothing else to stdout."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache_home)}
    racer = 'import sys, rhn.data; print(rhn.data.chorales().checksum, "music21" in sys.modules)'
    command = [sys.executable, "-c", racer]
    racers = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [racer.communicate(timeout=120)[0] for racer in racers] == [f"{rebuilt.checksum} False\n"] * 2
    (path,) = (cache_home / "rhn").iterdir()
    assert jsb.load_cached(path).checksum == rebuilt.checksum


@for_each("name", ["bwv269", "BWV 66.6", "train-14", "test-0", "bwv281", "bwv69.6", "bwv429", "bwv36.8-2"])
def test_one_chorale_is_the_one_of_the_set(rebuilt, builds, cache_home, name):
    piece = rhn.data.chorale(name)
    other = rebuilt.find(name)
    np.testing.assert_array_equal(piece, other)
    assert (piece.name, piece.label) == (other.name, other.label)
    assert builds == [] and not cache_home.exists(), "one chorale needs neither cache nor rebuilding"


def test_one_chorale_of_an_original_file(original_chorales):
    piece, original = rhn.data.chorale("bwv414", original_chorales), rhn.data.chorales(original_chorales)
    assert piece.label == "train-14"
    np.testing.assert_array_equal(piece, original.train[14])


def test_a_chorale_without_counterpart_is_not_mistaken_for_the_nearest_score():
    with pytest.raises(DataError, match=r"train-25 has no counterpart among music21's Bach scores.*--data FILE"):
        rhn.data.chorale("train-25")
    for score in ("bwv378", "bwv112.5-sc"):  # the nearest of valid-26; none of the split
        with pytest.raises(InvalidInputError, match=f"no chorale is called '{score}'"):
            rhn.data.chorale(score)


def test_without_scores_both_doors_say_how_to_get_them(fake_music21, cache_home):
    for door in (rhn.data.chorales, lambda: rhn.data.chorale("bwv269")):
        with pytest.raises(DataError, match=r"without its corpus.*pip install.*--data FILE"):
            door()


@pytest.fixture(scope="session")
def kept(rebuilt, tmp_path_factory):
    """The rebuilt chorales in a file."""
    path = tmp_path_factory.mktemp("kept") / "chorales.npz"
    jsb.save_cached(rebuilt, path)
    return path


def test_what_was_kept_comes_back_and_nothing_kept_is_no_accident(kept, rebuilt, tmp_path, caplog):
    assert jsb.load_cached(tmp_path / "absent.npz") is None
    again = jsb.load_cached(kept)
    assert again.checksum == rebuilt.checksum
    assert again.source == rebuilt.source
    assert [piece.label for piece in again.valid] == [piece.label for piece in rebuilt.valid]
    assert caplog.messages == []


@given(data=st.data())
def test_a_damaged_file_never_gives_other_notes(kept, rebuilt, data):
    content = bytearray(kept.read_bytes())
    place, flip = data.draw(st.integers(0, len(content) - 1)), data.draw(st.none() | st.integers(1, 255))
    content[place:] = b"" if flip is None else bytes([content[place] ^ flip]) + content[place + 1 :]
    damaged = kept.with_name("damaged.npz")
    damaged.write_bytes(content)
    again = jsb.load_cached(damaged)
    assert again is None or again.checksum == rebuilt.checksum


def test_damage_and_another_checksum_are_told_in_one_line(kept, small_corpus, tmp_path, caplog):
    path = tmp_path / "chorales.npz"
    path.write_bytes(kept.read_bytes()[:1000])
    assert jsb.load_cached(path) is None
    np.savez(path, **{**jsb._to_arrays(small_corpus), "checksum": np.array("0" * 64)})
    assert jsb.load_cached(path) is None
    assert len(caplog.messages) == 2
    assert all("damaged and will be rebuilt" in message and "\n" not in message for message in caplog.messages)


def test_pickled_objects_in_the_cache_are_not_loaded(small_corpus, tmp_path):
    marker = tmp_path / "executed"

    class Hostile:
        def __reduce__(self):
            return marker.touch, ()

    path = tmp_path / "chorales.npz"
    names = np.array([Hostile()] * 4, dtype=object)
    np.savez(path, **{**jsb._to_arrays(small_corpus), "names": names})
    assert jsb.load_cached(path) is None
    assert not marker.exists()


def test_the_name_changes_with_the_version_and_the_rule(cache_home):
    path = jsb.cache_path("10.5.1", "a")
    assert path.parent == cache_home / "rhn"
    assert len({path, jsb.cache_path("10.5.2", "a"), jsb.cache_path("10.5.1", "b")}) == 3
