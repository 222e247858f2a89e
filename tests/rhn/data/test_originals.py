"""Two formats of the original files give one corpus; what is no music is refused in one sentence,
and no code in a file runs.
"""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import for_each

import rhn.data
from rhn.data.corpus import SPLITS
from rhn.errors import DataError

every_format = pytest.mark.parametrize("suffix", [".json", ".pickle"])
SMALL = {"train": [[[60, 64], []], [[21, 108]]], "valid": [[[70]]], "test": [[[80], [81]]]}


def write(path, content):
    """Nested lists of pitches as a file of the format that the suffix says."""
    if path.suffix == ".json":
        path.write_text(json.dumps(content))
    else:
        tuples = {
            split: [[tuple(frame) for frame in piece] for piece in content[split]]
            for split in content
        }
        path.write_bytes(pickle.dumps(tuples, protocol=0))
    return path


def test_the_original_has_its_published_sizes_and_the_names_of_the_table(
    original_chorales, tmp_path
):
    corpus = rhn.data.chorales(str(original_chorales))
    splits = (corpus.train, corpus.valid, corpus.test)
    assert [len(pieces) for pieces in splits] == [229, 76, 77]
    assert [sum(map(len, pieces)) for pieces in splits] == [13807, 4602, 4725]
    lowest = min(np.flatnonzero(piece.any(axis=0))[0] for piece in corpus.pieces)
    highest = max(np.flatnonzero(piece.any(axis=0))[-1] for piece in corpus.pieces)
    assert (21 + lowest, 21 + highest) == (43, 96)
    assert (corpus.train[14].name, corpus.train[14].index) == ("bwv414", 14)
    assert corpus.train[25].name == "train-25"  # nobody knows which chorale it is
    assert str(original_chorales) in corpus.source
    pickled = write(tmp_path / "chorales.pickle", json.loads(original_chorales.read_bytes()))
    assert rhn.data.chorales(pickled).checksum == corpus.checksum


FRAMES = st.lists(st.sets(st.integers(21, 108), max_size=5).map(sorted), min_size=1, max_size=6)


@every_format
@given(
    content=st.fixed_dictionaries(dict.fromkeys(SPLITS, st.lists(FRAMES, min_size=1, max_size=3)))
)
@settings(max_examples=30)
def test_any_set_of_pitches_is_read_with_labels_for_names(tmp_path_factory, suffix, content):
    corpus = rhn.data.chorales(write(tmp_path_factory.getbasetemp() / f"any{suffix}", content))
    for split in SPLITS:
        pieces = getattr(corpus, split)
        assert [piece.name for piece in pieces] == [
            f"{split}-{i}" for i in range(len(content[split]))
        ]
        assert [
            [(21 + np.flatnonzero(frame)).tolist() for frame in piece] for piece in pieces
        ] == content[split]


def refused(path, match=""):
    with pytest.raises(DataError, match=f"{path.name} cannot be read: .*{match}"):
        rhn.data.chorales(path)


@for_each(
    "content",
    [
        [],
        {"train": [[[60]]]},
        SMALL | {"test": []},
        SMALL | {"test": [3]},
        SMALL | {"train": [[[20]]]},
        SMALL | {"train": [[["60"]]]},
    ],
)
def test_content_that_is_no_music_is_refused(tmp_path, content):
    (tmp_path / "wrong.json").write_text(json.dumps(content))
    refused(tmp_path / "wrong.json")


@for_each("content", [b"", b"[" * 100_000, pickle.dumps(SMALL)[:-5]])
@every_format
def test_a_damaged_file_is_refused(tmp_path, content, suffix):
    (tmp_path / f"damaged{suffix}").write_bytes(content)
    refused(tmp_path / f"damaged{suffix}")


def test_a_pickle_of_python_2_is_read(tmp_path):
    """As `cPickle.dumps` of Python 2.7 wrote it."""
    splits = b"".join(
        b"sS'%s'\n(lp3\n(lp4\n(I60\nI64\ntp5\naa" % split.encode() for split in SPLITS
    )
    (tmp_path / "old.pkl").write_bytes(b"(dp1\n" + splits[1:] + b"s.")
    assert rhn.data.chorales(tmp_path / "old.pkl").test[0].sum() == 2


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_call_in_a_pickle_is_refused_and_not_made(tmp_path, protocol):
    class Hostile:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    hostile = pickle.dumps(SMALL | {"train": Hostile()}, protocol)
    (tmp_path / "hostile.pickle").write_bytes(hostile)
    refused(tmp_path / "hostile.pickle", "it imports ")
    assert not (tmp_path / "executed").exists()
    pickle.loads(hostile)
    assert (tmp_path / "executed").exists(), "the proof that this test can fail"
