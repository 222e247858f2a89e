"""The original files: two formats, one corpus; and whatever else is in a file is told in one sentence."""

import copyreg
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import for_each

import rhn.data
from rhn.data import originals
from rhn.data.corpus import SPLITS
from rhn.data.originals import load_plain
from rhn.errors import DataError, InvalidInputError

every_format = pytest.mark.parametrize("suffix", [".json", ".pickle"])
SMALL = {"train": [[[60, 64], []], [[21, 108]]], "valid": [[[70]]], "test": [[[80], [81]]]}


def write(path, content):
    """Nested lists of pitches as a file of the format that the suffix says."""
    if path.suffix == ".json":
        path.write_text(json.dumps(content))
    else:
        tuples = {split: [[tuple(frame) for frame in piece] for piece in content[split]] for split in content}
        path.write_bytes(pickle.dumps(tuples, protocol=0))
    return path


def test_the_original_has_its_published_sizes_and_the_names_of_the_table(original_chorales):
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


def test_both_formats_give_the_same_original(original_chorales, tmp_path):
    content = json.loads(original_chorales.read_bytes())
    pickled = rhn.data.chorales(write(tmp_path / "chorales.pickle", content))
    assert pickled.checksum == rhn.data.chorales(original_chorales).checksum


FRAMES = st.lists(st.sets(st.integers(21, 108), max_size=5).map(sorted), min_size=1, max_size=6)


@every_format
@given(content=st.fixed_dictionaries(dict.fromkeys(SPLITS, st.lists(FRAMES, min_size=1, max_size=3))))
@settings(max_examples=30)
def test_any_set_of_pitches_is_read_with_labels_for_names(tmp_path_factory, suffix, content):
    corpus = rhn.data.chorales(write(tmp_path_factory.getbasetemp() / f"any{suffix}", content))
    for split in SPLITS:
        pieces = getattr(corpus, split)
        assert [piece.name for piece in pieces] == [f"{split}-{i}" for i in range(len(content[split]))]
        assert [[(21 + np.flatnonzero(frame)).tolist() for frame in piece] for piece in pieces] == content[split]


@for_each(
    ("content", "words"),
    [
        ([], "no 'train'"),
        ({"train": [[[60]]]}, "no 'valid'"),
        (dict(SMALL, test=[]), "test has 0 entries, expected 1"),
        (dict(SMALL, test=[[]]), r"test\[0\] has 0 entries"),
        (dict(SMALL, valid=3), "valid is of type int, expected a list"),
        (dict(SMALL, valid=[[60]]), r"valid\[0\]\[0\] is of type int, expected a list"),
        (dict(SMALL, train=[[[60], [20]]]), r"train\[0\]\[1\] holds 20, expected pitches 21 to 108"),
        (dict(SMALL, train=[[[109]]]), "holds 109"),
        (dict(SMALL, train=[[[60.0]]]), "holds a float"),
        (dict(SMALL, train=[[["60"]]]), "holds a str"),
        (dict(SMALL, train=[[[True]]]), "holds a bool"),
        (dict(SMALL, train=[[[None]]]), "holds a NoneType"),
        (dict(SMALL, train=[[[[60]]]]), "holds a list"),
        (dict(SMALL, train=[[[60] * 89]]), "has 89 entries, expected 0 to 88"),
    ],
)
def test_content_that_is_no_music_is_told_with_its_place(tmp_path, content, words):
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"wrong.json does not hold chorales: .*{words}"):
        rhn.data.chorales(path)


@for_each("text", ["", "{", '{"train": [[[60', "[" * 100_000, "9" * 5000, "\xff\xfe"])
def test_damaged_json_is_refused(tmp_path, text):
    path = tmp_path / "damaged.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"damaged\.json does not hold chorales"):
        rhn.data.chorales(path)


def test_a_hostile_pickle_is_an_error_and_nothing_more(tmp_path):
    path = tmp_path / "hostile.pickle"
    path.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "executed").encode() + b"'\ntR.")
    with pytest.raises(
        DataError, match=r"hostile.pickle does not hold chorales: .*imports os.system, expected only plain data"
    ):
        rhn.data.chorales(path)
    assert not (tmp_path / "executed").exists()


def test_a_pickle_that_means_more_than_it_weighs_is_refused(tmp_path):
    """One piece of 2^12 frames, referred to 2^12 times: 16 million frames in a few kilobytes."""
    path = tmp_path / "bomb.pickle"
    piece = [[60]] * 2**12
    path.write_bytes(pickle.dumps({**SMALL, "train": [piece] * 2**12}))
    assert path.stat().st_size < 50_000
    with pytest.raises(DataError, match="more than 1048576 frames"):
        rhn.data.chorales(path)


@pytest.mark.parametrize("protocol", [0, 2])
def test_a_pickle_of_lists_within_lists_is_refused(tmp_path, protocol):
    nested = []
    nested.append(nested)
    path = tmp_path / "loop.pickle"
    path.write_bytes(pickle.dumps({**SMALL, "train": nested}, protocol))
    with pytest.raises(DataError, match=r"train\[0\]\[0\] holds a list"):
        rhn.data.chorales(path)


@every_format
@given(noise=st.binary(max_size=300))
def test_noise_of_any_suffix_is_a_data_error(tmp_path_factory, noise, suffix):
    path = tmp_path_factory.getbasetemp() / f"noise{suffix}"
    path.write_bytes(noise)
    with pytest.raises(DataError, match=f"noise{suffix} does not hold chorales"):
        rhn.data.chorales(path)


def test_a_file_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(originals, "MAX_BYTES", 10)
    with pytest.raises(DataError, match="expected at most 10"):
        rhn.data.chorales(write(tmp_path / "large.json", SMALL))


@for_each(("name", "remedy"), [("x.txt", ""), ("x", ""), ("x.npz", ""), ("x.mat", "rhn data get jsb")])
def test_another_suffix_is_refused(tmp_path, name, remedy):
    with pytest.raises(InvalidInputError, match=f"{name}: chorales are read from a .json or .pickle file.*{remedy}"):
        rhn.data.chorales(tmp_path / name)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(DataError, match=r"absent.json: no such file"):
        rhn.data.chorales(tmp_path / "absent.json")
    with pytest.raises(DataError, match="is a folder"):
        rhn.data.chorales(tmp_path)


PLAIN = st.recursive(
    st.integers(-(2**40), 2**40) | st.text(max_size=5),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)


@given(content=PLAIN, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL), data=st.data())
def test_plain_content_comes_back_from_every_protocol_and_not_from_a_truncated_pickle(content, protocol, data):
    whole = pickle.dumps(content, protocol)
    assert load_plain(whole) == content
    with pytest.raises(ValueError):
        load_plain(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_python_2_pickles_are_read():
    """As `cPickle.dumps({"train": [[(60, 64)]]})` of Python 2.7 wrote it."""
    assert load_plain(b"(dp1\nS'train'\np2\n(lp3\n(lp4\n(I60\nI64\ntp5\naas.") == {"train": [[(60, 64)]]}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_call_in_a_pickle_is_refused_and_not_made(tmp_path, protocol):
    class Hostile:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    hostile = pickle.dumps({"train": Hostile()}, protocol)
    with pytest.raises(ValueError, match=r"it imports .*, expected only plain data"):
        load_plain(hostile)
    assert not (tmp_path / "executed").exists()
    pickle.loads(hostile)
    assert (tmp_path / "executed").exists(), "the proof that this test can fail"


@for_each(
    "program",
    {
        "global": b"cos\nsystem\n(S'true'\ntR.",
        "stack_global": b"\x8c\x02os\x8c\x06system\x93(S'true'\ntR.",
        "inst": b"(S'true'\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nS'true'\no.",
        "obj of plain data": b"(lS'true'\no.",
        "build": b"}}b.",
        "reduce": b"]](tR.",
        "newobj": b"])\x81.",
        "newobj_ex": b"])}\x92.",
        "persid": b"Pname\n.",
        "binpersid": b"K\x01Q.",
        "extension": b"\x82\xf0.",
    }.values(),
)
def test_every_instruction_that_could_run_code_is_refused(program):
    copyreg.add_extension("os", "system", 240)
    try:
        with pytest.raises(ValueError, match=r"imports os\.system|not a readable pickle"):
            load_plain(program)
    finally:
        copyreg.remove_extension("os", "system", 240)


@pytest.mark.parametrize("put", [b"]r\xff\xff\xff\x7f.", b"]p2147483647\n."])
def test_a_memo_index_that_would_fill_the_memory_is_refused(put):
    with pytest.raises(ValueError, match="memo index 2147483647"):
        load_plain(put)
