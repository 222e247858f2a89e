"""The front door: all chorales, kept after the first time, and one chorale by its name."""

import os
import subprocess
import sys

import numpy as np
import pytest

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


def test_two_processes_at_once_leave_one_whole_cache(rebuilt, cache_home):
    """They really rebuild, without music21's own code, and write nothing else to stdout."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache_home)}
    racer = 'import sys, rhn.data; print(rhn.data.chorales().checksum, "music21" in sys.modules)'
    command = [sys.executable, "-c", racer]
    racers = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [racer.communicate(timeout=120)[0] for racer in racers] == [f"{rebuilt.checksum} False\n"] * 2
    (path,) = (cache_home / "rhn").iterdir()
    assert rhn.data.cache.load(path).checksum == rebuilt.checksum


@pytest.mark.parametrize(
    "name", ["bwv269", "BWV 66.6", "train-14", "test-0", "bwv281", "bwv69.6", "bwv429", "bwv36.8-2"]
)
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
