"""How far the rebuilt chorales are the original ones, with the denominators stated."""

import copy

import pytest

import rhn.data
from benchmarks.agreement import agreement, main
from rhn.errors import InvalidInputError


def test_one_note_is_one_frame_and_a_longer_piece_counts_in_full(small_corpus):
    other = copy.deepcopy(small_corpus)
    other.train[0][1, 40] ^= 1
    other.valid[0] = other.valid[0][:3]
    train, valid, _, everything = agreement(small_corpus, other)
    assert (train.pieces_equal, train.frames_equal, train.frames) == (1, 7, 8)
    assert (valid.pieces_equal, valid.frames_equal, valid.frames, valid.frames_original) == (0, 3, 4, 3)
    assert (everything.pieces_equal, everything.frames_equal, everything.frames) == (2, 11, 13)


def test_pieces_are_paired_by_their_place_in_the_split(small_corpus):
    fewer = copy.deepcopy(small_corpus)
    del fewer.train[0]
    train = agreement(fewer, small_corpus)[0]
    assert (train.pieces, train.pieces_original, train.frames_equal, train.frames) == (1, 2, 3, 3)
    with pytest.raises(InvalidInputError, match="the original has no train-0"):
        agreement(small_corpus, fewer)


def test_the_rebuilt_chorales_agree_as_measured(original_chorales, rebuilt, monkeypatch, capsys):
    """94 pieces to the last note, 95 % of the frames; a change of a reader or of the rule would show here."""
    monkeypatch.setattr("benchmarks.agreement.chorales", lambda data=None: rhn.data.chorales(data) if data else rebuilt)
    assert main(["--data", str(original_chorales)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["split", "train", "valid", "test", "all"]
    assert lines[-1].split() == ["all", "374", "of", "382", "94", "22641", "of", "23134", "21500", "94.96"]
    assert len(set(map(len, lines))) == 1, "they are aligned"
