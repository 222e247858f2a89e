"""What was kept comes back to the bit, or not at all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhn.data import cache


@pytest.fixture(scope="session")
def kept(rebuilt, tmp_path_factory):
    """The rebuilt chorales in a file."""
    path = tmp_path_factory.mktemp("kept") / "chorales.npz"
    cache.save(rebuilt, path)
    return path


def test_what_was_kept_comes_back_and_nothing_kept_is_no_accident(kept, rebuilt, tmp_path, caplog):
    assert cache.load(tmp_path / "absent.npz") is None
    again = cache.load(kept)
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
    again = cache.load(damaged)
    assert again is None or again.checksum == rebuilt.checksum


def test_damage_and_another_checksum_are_told_in_one_line(kept, small_corpus, tmp_path, caplog):
    path = tmp_path / "chorales.npz"
    path.write_bytes(kept.read_bytes()[:1000])
    assert cache.load(path) is None
    np.savez(path, **{**cache._to_arrays(small_corpus), "checksum": np.array("0" * 64)})
    assert cache.load(path) is None
    assert len(caplog.messages) == 2
    assert all("damaged and will be rebuilt" in message and "\n" not in message for message in caplog.messages)


def test_pickled_objects_in_the_cache_are_not_loaded(small_corpus, tmp_path):
    marker = tmp_path / "executed"

    class Hostile:
        def __reduce__(self):
            return marker.touch, ()

    path = tmp_path / "chorales.npz"
    names = np.array([Hostile()] * 4, dtype=object)
    np.savez(path, **{**cache._to_arrays(small_corpus), "names": names})
    assert cache.load(path) is None
    assert not marker.exists()


def test_the_name_changes_with_the_version_and_the_rule(cache_home):
    path = cache.cache_path("10.5.1", "a")
    assert path.parent == cache_home / "rhn"
    assert len({path, cache.cache_path("10.5.2", "a"), cache.cache_path("10.5.1", "b")}) == 3
