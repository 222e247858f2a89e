"""A state file gives back what was written to the last bit, or refuses: one flipped bit would
change results without a word.
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tables import for_each

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
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("state") / "state.safetensors"
    write_state(path, ARRAYS, {"epoch": "3"})
    return path.read_bytes()


def test_arrays_and_texts_come_back_to_the_last_bit(tmp_path):
    write_state(tmp_path / "s", ARRAYS, {"epoch": "3"})
    arrays, metadata = read_state(tmp_path / "s")
    assert metadata == {"epoch": "3"} and arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], np.asarray(array), strict=True)
    assert read_state(tmp_path / "s", whole=False) == ({}, {"epoch": "3"})


def test_no_file_is_no_state(tmp_path):
    assert read_state(tmp_path / "s") is None


@given(data=st.data())
def test_any_flipped_bit_is_found(content, tmp_path_factory, data):
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    path = tmp_path_factory.mktemp("flipped") / "s"
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << bit % 8
    path.write_bytes(flipped)
    with pytest.raises(DamagedError):
        read_state(path)


@for_each(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: content.replace(b"checksum", b"checksun"),
    ],
)
def test_a_damaged_state_is_refused(tmp_path, content, damage):
    (tmp_path / "s").write_bytes(damage(content))
    with pytest.raises(DamagedError):
        read_state(tmp_path / "s")
