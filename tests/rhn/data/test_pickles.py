"""A pickle is read as data: whatever would run is refused, and does not run."""

import copyreg
import io
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhn.data.pickles import _PlainUnpickler, loads

PLAIN = st.recursive(
    st.integers(-(2**40), 2**40) | st.text(max_size=5),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)


@given(content=PLAIN, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_content_comes_back_from_every_protocol(content, protocol):
    assert loads(pickle.dumps(content, protocol)) == content


def test_python_2_pickles_are_read():
    """As `cPickle.dumps({"train": [[(60, 64)]]})` of Python 2.7 wrote it."""
    assert loads(b"(dp1\nS'train'\np2\n(lp3\n(lp4\n(I60\nI64\ntp5\naas.") == {"train": [[(60, 64)]]}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_call_is_refused_and_not_made(tmp_path, protocol):
    class Hostile:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    hostile = pickle.dumps({"train": Hostile()}, protocol)
    with pytest.raises(ValueError, match=r"instruction (STACK_)?GLOBAL at byte \d+ is more than data"):
        loads(hostile)
    assert not (tmp_path / "executed").exists()
    pickle.loads(hostile)
    assert (tmp_path / "executed").exists(), "the proof that this test can fail"


@pytest.mark.parametrize(
    ("program", "instruction"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "GLOBAL"),
        (b"(S'true'\nios\nsystem\n.", "INST"),
        (b"(cos\nsystem\nS'true'\no.", "GLOBAL"),
        (b"(lS'true'\no.", "OBJ"),
        (b"}}b.", "BUILD"),
        (b"]](tR.", "REDUCE"),
        (b"])\x81.", "NEWOBJ"),
        (b"])}\x92.", "NEWOBJ_EX"),
        (b"Pname\n.", "PERSID"),
        (b"K\x01Q.", "BINPERSID"),
        (b"\x82\x01.", "EXT1"),
        (b"C\x01a.", "SHORT_BINBYTES"),
        (b"G?\xf0\x00\x00\x00\x00\x00\x00.", "BINFLOAT"),
        (b"N.", "NONE"),
        (b"\x88.", "NEWTRUE"),
        (b"\x8f.", "EMPTY_SET"),
    ],
)
def test_whatever_is_more_than_data_is_refused_unrun(program, instruction):
    with pytest.raises(ValueError, match=f"instruction {instruction} at byte"):
        loads(program)


@pytest.mark.parametrize("content", [np.int64(60), np.zeros(3), OrderedDict(), pickle.PickleBuffer])
def test_no_other_type_is_admitted(content):
    with pytest.raises(ValueError, match="is more than data"):
        loads(pickle.dumps(content))


def test_the_second_wall_refuses_imports_and_extension_codes_by_itself():
    with pytest.raises(ValueError, match=r"asks for (posix|nt|os)\.system"):
        _PlainUnpickler(io.BytesIO(b"cos\nsystem\n.")).load()
    copyreg.add_extension("os", "system", 240)
    try:
        with pytest.raises(ValueError, match=r"asks for os\.system"):
            _PlainUnpickler(io.BytesIO(b"\x82\xf0.")).load()
    finally:
        copyreg.remove_extension("os", "system", 240)


@pytest.mark.parametrize("put", [b"]r\xff\xff\xff\x7f.", b"]p2147483647\n."])
def test_a_memo_index_that_would_fill_the_memory_is_refused(put):
    with pytest.raises(ValueError, match="memo index 2147483647"):
        loads(put)


@given(st.binary(max_size=200))
def test_noise_is_refused_or_plain(noise):
    try:
        content = loads(noise)
    except ValueError:
        return
    assert isinstance(content, dict | list | tuple | int | str)


@given(content=PLAIN, protocol=st.integers(0, 4), data=st.data())
def test_a_truncated_pickle_is_refused(content, protocol, data):
    whole = pickle.dumps(content, protocol)
    with pytest.raises(ValueError):
        loads(whole[: data.draw(st.integers(0, len(whole) - 1))])


def test_a_key_of_a_dictionary_is_a_text_even_where_it_was_kept_for_later():
    shared = "train"
    content = [{shared: 1}, {shared: [shared, (shared,)]}]
    assert all(loads(pickle.dumps(content, protocol)) == content for protocol in range(pickle.HIGHEST_PROTOCOL + 1))
    colliding = {(2**61 - 1) * i: 0 for i in range(1, 9)}  # as many integers as one likes hash to 0
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for hostile in ({"train": colliding}, {("a",): 1}):
            with pytest.raises(ValueError, match=r"a dictionary's key, at byte \d+, is no text"):
                loads(pickle.dumps(hostile, protocol))


def test_a_tuple_that_holds_itself_twice_over_is_never_hashed():
    doubled = b"".join(b"h" + bytes([k]) + b"h" + bytes([k]) + b"\x86q" + bytes([k + 1]) + b"0" for k in range(60))
    with pytest.raises(ValueError, match="is no text"):  # its hash would take 2^60 steps
        loads(b"}K\x01\x85q\x000" + doubled + b"h\x3cK\x01s.")


def test_a_program_without_end_is_refused(monkeypatch):
    monkeypatch.setattr("rhn.data.pickles.MOST_INSTRUCTIONS", 100)
    assert loads(b"]0" * 49 + b"].") == []
    with pytest.raises(ValueError, match="more than 100 instructions"):
        loads(b"]0" * 50 + b"].")
