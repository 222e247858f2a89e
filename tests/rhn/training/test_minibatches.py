"""Minibatches hold every piece once, the longest first, padded at the end and to a multiple of 32
rows.
"""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from rhn.training.chorales import CHORALE_ROWS, evaluation_batches, training_batches

WHERE = {"device": "cpu", "dtype": torch.float64}


@given(st.lists(st.integers(2, 12), min_size=1, max_size=75), st.integers(1, 40), st.booleans())
def test_every_piece_is_there_once_and_whole(lengths, batch_size, training):
    rng = np.random.default_rng(0)
    pieces = [rng.integers(0, 2, (length, 5), dtype=np.uint8) for length in lengths]
    found = (
        training_batches(pieces, batch_size, **WHERE)
        if training
        else evaluation_batches(pieces, **WHERE)
    )
    seen = []
    for batch in found:
        assert (
            batch.frames.shape == (*batch.mask.shape, 5) and batch.mask.shape[1] % CHORALE_ROWS == 0
        )
        assert not batch.frames[batch.mask == 0].any()
        columns = [
            frames[mask == 1]
            for frames, mask in zip(batch.frames.unbind(1), batch.mask.unbind(1), strict=True)
        ]
        assert batch.size == sum(len(column) - 1 for column in columns if len(column))
        seen += [column.numpy() for column in columns if len(column)]
    for piece, wanted in zip(seen, sorted(pieces, key=len, reverse=True), strict=True):
        np.testing.assert_array_equal(piece, wanted)
