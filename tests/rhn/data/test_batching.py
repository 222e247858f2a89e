"""Batches hold every piece once, padded at the end."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rhn.data import batches
from rhn.errors import InvalidInputError


def pieces_of(lengths):
    rng = np.random.default_rng(len(lengths))
    return [rng.integers(0, 2, (length, 5), dtype=np.uint8) for length in lengths]


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=25),
    batch_size=st.integers(1, 8),
    seed=st.none() | st.integers(0, 3),
    pad_rows=st.booleans(),
)
def test_every_piece_is_there_once_and_whole_in_no_more_batches_than_needed(lengths, batch_size, seed, pad_rows):
    pieces = pieces_of(lengths)
    seen, found = [], batches(pieces, batch_size, seed=seed, pad_rows=pad_rows)
    for batch in found:
        assert (batch.frames.dtype, batch.mask.dtype) == (torch.float32, torch.bool)
        assert batch.frames.shape == (*batch.mask.shape, 5)
        for row, index in enumerate(batch.indices.tolist()):
            length = len(pieces[index]) if index >= 0 else 0
            assert batch.mask[:, row].tolist() == [True] * length + [False] * (len(batch.mask) - length)
            assert not batch.frames[length:, row].any()
            if index >= 0:
                np.testing.assert_array_equal(batch.frames[:length, row], pieces[index])
                seen.append(index)
    assert sorted(seen) == list(range(len(pieces)))
    assert len(found) == math.ceil(len(lengths) / batch_size)
    rows = [batch.mask.shape[1] for batch in found]
    assert rows[:-1] == [batch_size] * (len(found) - 1)
    assert rows[-1] == (batch_size if pad_rows else len(lengths) - batch_size * (len(found) - 1))


def test_seeds_differ_none_keeps_the_order_and_a_generator_continues_from_epoch_to_epoch():
    pieces, rng = pieces_of(range(1, 41)), np.random.default_rng(0)
    seeds = (None, 0, 1, rng, rng)
    orders = [tuple(i for b in batches(pieces, 8, seed=seed) for i in b.indices.tolist()) for seed in seeds]
    assert orders[0] == tuple(range(40)) and orders[3] == orders[1]
    assert len(set(orders)) == 4


@pytest.mark.parametrize(
    ("pieces", "options", "words"),
    [
        ([], {}, "got 0 pieces"),
        ([np.ones((2, 5))], {"batch_size": 0}, "batch_size 0"),
        ([np.ones((2, 5)), np.ones((0, 5))], {}, r"piece 1 has shape \(0, 5\)"),
        ([np.ones((2, 5)), np.ones((2, 4))], {}, r"piece 1 has shape \(2, 4\)"),
        ([np.ones(5)], {}, r"piece 0 has shape \(5,\)"),
    ],
)
def test_pieces_and_sizes_without_a_batch_are_refused(pieces, options, words):
    with pytest.raises(InvalidInputError, match=words):
        batches(pieces, **options)
