"""A state file gives back what was written to the last bit, or refuses: one flipped bit would
change results without a word.
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rhn.errors import DamagedError
from rhn.training.state import read_state, write_state

ARRAYS = {
    "weights": np.arange(12, dtype=np.float32).reshape(3, 4),
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "steps": np.array(7),
    "generator": np.array([2**63 + 1], np.uint64),
    "empty": np.zeros((0, 2), np.float16),
    "live": np.array([True, False]),
    "of torch": torch.arange(6.0).reshape(2, 3).t(),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("state") / "state.safetensors"
    assert read_state(path) is None
    write_state(path, ARRAYS, {"epoch": "3"})
    return path


def test_arrays_and_texts_come_back_to_the_last_bit(file):
    arrays, metadata = read_state(file)
    assert metadata == {"epoch": "3"} and arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], np.asarray(array), strict=True)
    assert read_state(file, whole=False) == ({}, {"epoch": "3"})


@given(data=st.data())
def test_any_flipped_bit_any_other_end_and_a_missing_checksum_are_found(file, data):
    content = file.read_bytes()
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << bit % 8
    cut, without = content[: bit // 8], content.replace(b"checksum", b"checksun")
    for damaged in (flipped, cut, content + b"x", without):
        path = file.with_name("damaged")
        path.write_bytes(damaged)
        with pytest.raises(DamagedError):
            read_state(path)
