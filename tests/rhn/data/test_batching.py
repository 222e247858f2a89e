"""Batches hold every piece once, padded at the end, in few shapes."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rhn.data import batches, length_buckets
from rhn.errors import InvalidInputError


def pieces_of(lengths):
    rng = np.random.default_rng(len(lengths))
    return [rng.integers(0, 2, (length, 5), dtype=np.uint8) for length in lengths]


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=25),
    batch_size=st.integers(1, 8),
    seed=st.none() | st.integers(0, 3),
    buckets=st.none() | st.integers(1, 4),
    pad_rows=st.booleans(),
)
def test_every_piece_is_there_once_and_whole_in_no_more_batches_and_shapes_than_needed(lengths, **options):
    pieces = pieces_of(lengths)
    seen, found = [], batches(pieces, **options)
    assert [a.indices.tolist() for a in found] == [b.indices.tolist() for b in batches(pieces, **options)]
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
    assert len(found) == math.ceil(len(lengths) / options["batch_size"])
    rows = sorted(batch.mask.shape[1] for batch in found)
    assert rows[1:] == [options["batch_size"]] * (len(found) - 1)
    if options["pad_rows"]:
        assert rows[0] == options["batch_size"]
    if options["buckets"]:
        assert len({batch.mask.shape[0] for batch in found}) <= options["buckets"]


def test_seeds_differ_none_keeps_the_order_and_a_generator_goes_on_from_epoch_to_epoch():
    pieces, rng = pieces_of(range(1, 41)), np.random.default_rng(0)
    seeds = (None, 0, 1, rng, rng)
    orders = [tuple(i for b in batches(pieces, 8, seed=seed) for i in b.indices.tolist()) for seed in seeds]
    assert orders[0] == tuple(range(40)) and orders[3] == orders[1]
    assert len(set(orders)) == 4


def test_a_batch_takes_the_smallest_bucket_that_fits():
    found = batches(pieces_of([3, 9, 4, 8, 2, 5]), 2, buckets=3)
    assert [(len(batch.mask), batch.indices.tolist()) for batch in found] == [(3, [0, 4]), (5, [2, 5]), (9, [1, 3])]


def test_the_training_set_fits_few_shapes_with_little_padding(rebuilt):
    """At most four; padding costs a quarter, against twice as much unsorted."""
    found = batches(rebuilt.train, 32, seed=0, buckets=4, pad_rows=True)
    assert len({batch.frames.shape for batch in found}) <= 4
    padded, real = sum(batch.mask.numel() for batch in found), sum(int(batch.mask.sum()) for batch in found)
    assert real == 13411 and padded / real < 1.3


@given(lengths=st.lists(st.integers(1, 15), min_size=1, max_size=12), count=st.integers(1, 5))
def test_no_other_choice_of_buckets_pads_less(lengths, count):
    def padding(buckets):
        return sum(min(bucket for bucket in buckets if bucket >= length) - length for length in lengths)

    chosen = length_buckets(lengths, count)
    assert chosen == sorted(set(chosen))
    assert len(chosen) <= count
    others = itertools.combinations(sorted(set(lengths)), min(count, len(set(lengths))))
    assert padding(chosen) == min(padding(other) for other in others if other[-1] == max(lengths))


@pytest.mark.parametrize(
    ("pieces", "options", "words"),
    [
        ([], {}, "got 0 pieces"),
        ([np.ones((2, 5))], {"batch_size": 0}, "batch_size 0"),
        ([np.ones((2, 5)), np.ones((0, 5))], {}, r"piece 1 has shape \(0, 5\)"),
        ([np.ones((2, 5)), np.ones((2, 4))], {}, r"piece 1 has shape \(2, 4\)"),
        ([np.ones(5)], {}, r"piece 0 has shape \(5,\)"),
        ([np.ones((2, 5))], {"buckets": 0}, "count 0"),
    ],
)
def test_what_makes_no_batch_is_refused(pieces, options, words):
    with pytest.raises(InvalidInputError, match=words):
        batches(pieces, **options)
