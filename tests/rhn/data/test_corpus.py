"""Pieces are arrays that know their origin; a corpus knows its content."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from rhn.data.corpus import Piece, find


@pytest.fixture
def piece():
    return Piece(np.eye(5, 88), name="bwv269", split="train", index=3)


def origin(piece):
    return piece.name, piece.split, piece.index, piece.label


def test_a_piece_is_an_ordinary_array_of_bytes(piece):
    assert isinstance(piece, np.ndarray)
    assert (piece.shape, piece.dtype, piece[2, 2], len(piece)) == ((5, 88), np.uint8, 1, 5)
    for plain in (np.asarray(piece), piece == 1, piece.sum(axis=1)):
        assert type(plain) is np.ndarray, "what is computed from a piece is no piece"
    assert isinstance(piece.sum(), np.integer)
    assert not np.shares_memory(piece, Piece(piece, name="x", split="test", index=0)), (
        "the frames given are copied"
    )


@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, np.copy, lambda piece: piece[:]],
    ids=["copy", "deepcopy", "np.copy", "slice"],
)
def test_copies_keep_frames_and_origin(piece, again):
    twin = again(piece)
    np.testing.assert_array_equal(twin, piece)
    assert again is np.copy or origin(twin) == origin(piece) == ("bwv269", "train", 3, "train-3")


def test_the_checksum_is_of_notes_order_and_names_and_not_of_the_source(small_corpus):
    checksum = small_corpus.checksum
    assert replace(small_corpus, source="elsewhere").checksum == checksum
    assert replace(small_corpus, train=small_corpus.train[::-1]).checksum != checksum
    other_name = copy.deepcopy(small_corpus)
    other_name.train[0].name = "bwv1"
    assert other_name.checksum != checksum
    other_note = copy.deepcopy(small_corpus)
    other_note.test[0][0, 0] ^= 1
    assert other_note.checksum != checksum


def test_find_takes_names_and_addresses_in_any_spelling_and_returns_the_first_of_that_name(rebuilt):
    pieces = rebuilt.pieces
    assert find(pieces, "BWV 269") is find(pieces, "bwv269")
    assert find(pieces, "Valid-33").name == "bwv414"
    assert find(pieces, "bwv414").label == "train-14"
