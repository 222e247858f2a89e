"""The chorales, as every test has them; caches live in temporary folders."""

from pathlib import Path

import numpy as np
import pytest

from rhn.data import chorales
from rhn.data.corpus import Corpus, Piece


@pytest.fixture(scope="session")
def rebuilt() -> Corpus:
    """All chorales, rebuilt from the scores of the installed music21, now or by an earlier run."""
    return chorales()


@pytest.fixture
def cache_home(tmp_path, monkeypatch):
    """An empty cache folder for this test alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def treebank() -> Path:
    """The folder of Penn Treebank: a development copy beside the checkout, never committed."""
    folder = Path(__file__).resolve().parents[4] / "shared" / "data" / "ptb"
    if not folder.is_dir():
        pytest.skip(f"Penn Treebank is not at {folder}")
    return folder


@pytest.fixture
def small_corpus() -> Corpus:
    """Two, one and one pieces of random frames, with a gap in the indices."""
    rng = np.random.default_rng(0)

    def piece(split, index, length):
        return Piece(rng.integers(0, 2, (length, 88)), name=f"bwv{index}", split=split, index=index)

    return Corpus(
        [piece("train", 0, 5), piece("train", 2, 3)],
        [piece("valid", 0, 4)],
        [piece("test", 0, 1)],
        "dice",
    )


@pytest.fixture
def fake_music21(tmp_path, monkeypatch):
    """A music21 installed without its corpus; the fixture is its empty `corpus` folder."""
    folder = tmp_path / "music21" / "corpus"
    folder.mkdir(parents=True)

    class Spec:
        submodule_search_locations = (str(folder.parent),)

    monkeypatch.setattr("importlib.util.find_spec", lambda name: Spec)
    return folder
