"""Texts as tokens: splits, vocabularies, memory maps, and what a checkpoint's vocabulary demands."""

import logging
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from splits import decoded, write
from tables import for_each

from rhn.data.corpus import SPLITS
from rhn.data.text import Tokens, Vocabulary, belongs_to, read_text
from rhn.errors import DataError, InvalidInputError


@given(st.integers(2, 60), st.integers(1, 9))
def test_rows_read_one_after_the_other_are_the_text_without_its_remainder(length, batch_size):
    tokens = Tokens(np.arange(length, dtype=np.uint8), table=np.arange(256)[::-1].copy())
    if length // batch_size < 2:
        with pytest.raises(DataError, match=f"batch size of at most {length // 2}"):
            tokens.rows(batch_size)
        return
    rows = tokens.rows(batch_size)
    kept = length - length % batch_size
    assert rows.shape == (batch_size, length // batch_size)
    np.testing.assert_array_equal(rows[:].ravel(), 255 - np.arange(kept))
    assert np.shares_memory(rows.raw, tokens.raw)


@for_each("table", [None, np.arange(256)[::-1].copy()])
@for_each("count", [0, 2, 9, None])
def test_tokens_are_64_bit_ids_and_their_head_is_a_view(table, count):
    tokens = Tokens(np.arange(5, dtype=np.uint8), table)
    wanted = list(range(5)) if table is None else list(range(255, 250, -1))
    assert tokens[:].dtype == np.int64 and tokens[:].tolist() == wanted
    assert tokens.head(count)[:].tolist() == wanted[:count]
    assert np.shares_memory(tokens.head(3).raw, tokens.raw)
    with pytest.raises(InvalidInputError, match="expected at least 1"):
        tokens.rows(0)


def test_words_are_numbered_by_frequency_then_alphabet_and_newlines_are_words(folder):
    corpus = read_text("text", folder)
    assert corpus.vocabulary.symbols == ("b", "<eos>", "a", "c", "<unk>")
    assert decoded(corpus) == {"train": "b a c\nb c a b\n", "valid": "a <unk>\n", "test": "c b\n"}


def test_unk_is_added_only_where_a_word_needs_it(tmp_path):
    corpus = read_text("text", write(tmp_path / "t", train="a b\n", valid="b a", test="a a"))
    assert corpus.vocabulary.symbols == ("<eos>", "a", "b") and corpus.vocabulary.unknown is None


def test_a_smaller_vocabulary_keeps_the_most_frequent_words_and_always_unk_and_eos(tmp_path):
    folder = write(tmp_path / "t", train="a a a b b b c c <unk>\n", valid="c b\n", test="a d\n")
    corpus = read_text("text", folder, vocabulary_size=4)
    assert corpus.vocabulary.symbols == ("a", "b", "<eos>", "<unk>")
    assert decoded(corpus)["train"] == "a a a b b b <unk> <unk> <unk>\n"


@for_each("size", [2, 3, 5, 6, 100])
def test_a_vocabulary_is_never_larger_than_asked_and_is_recognised(folder, size):
    built = read_text("text", folder, vocabulary_size=size)
    assert len(built.vocabulary) == min(size, 5)
    given = read_text("text", folder, vocabulary=built.vocabulary)
    assert given.checksum == built.checksum and decoded(given) == decoded(built)


def test_a_maximum_shortens_each_split_and_leaves_the_vocabulary(folder):
    whole, short = read_text("text", folder), read_text("text", folder, max_tokens=2)
    assert [len(getattr(short, split)) for split in SPLITS] == [2, 2, 2]
    assert short.vocabulary == whole.vocabulary and short.checksum != whole.checksum
    np.testing.assert_array_equal(short.train[:], whole.train[:2])


def test_one_file_is_cut_90_5_5(tmp_path):
    path = tmp_path / "novel.txt"
    path.write_text("".join(map(str, range(10))) * 10)
    corpus = read_text("text", path, unit="characters")
    assert [len(getattr(corpus, split)) for split in SPLITS] == [90, 5, 5]
    assert "".join(decoded(corpus).values()) == path.read_text()
    assert all(isinstance(getattr(corpus, split).raw, np.memmap) for split in SPLITS), "ASCII stays on disk"


def test_a_folder_of_texts_is_joined_in_the_order_of_names(tmp_path):
    for name, text in {"b.txt": "B" * 30, "a.txt": "A" * 30, "latest.txt": "Z" * 30, "notes.md": "-"}.items():
        (tmp_path / name).write_text(text)
    corpus = read_text("text", tmp_path, unit="characters")
    assert "".join(decoded(corpus).values()) == "A" * 30 + "B" * 30 + "Z" * 30


def test_bytes_are_read_from_the_file_when_they_are_asked_for(enwik):
    corpus = read_text("enwik8", enwik)
    rows = corpus.train.rows(4)
    assert isinstance(rows.raw, np.memmap) and np.shares_memory(rows.raw, corpus.train.raw)
    before = rows[0, :2].tolist()
    with enwik.open("r+b") as file:
        file.write(bytes([79]))
    assert (before, rows[0, :2].tolist()) == ([0, 1], [19, 1])


def test_bytes_are_numbered_in_order_over_all_splits(tmp_path):
    (tmp_path / "text8").write_bytes(b"ba" * 45 + b"ccccc" + b"ddddd")
    corpus = read_text("text8", tmp_path)
    assert corpus.vocabulary == Vocabulary("bytes", tuple(b"abcd"))
    assert corpus.train[:4].tolist() == [1, 0, 1, 0] and set(corpus.test[:]) == {3}


def test_an_enwik8_of_another_length_is_named_in_a_warning(enwik, caplog):
    with caplog.at_level(logging.WARNING):
        read_text("enwik8", enwik)
    assert "has 400 bytes, enwik8 as published has 100000000" in caplog.text


def test_a_published_set_with_other_words_than_the_checkpoints_is_refused(tmp_path, enwik):
    folder = write(tmp_path / "t", "ptb", train="b a c\nb c a b\n", valid="a d\n", test="c b\n")
    with pytest.raises(DataError, match="checkpoint's training: it has 'c' as symbol 3 of its words, expected 'x'"):
        read_text("ptb", folder, vocabulary=Vocabulary("words", ("b", "<eos>", "a", "x", "<unk>")))
    with pytest.raises(DataError, match="it makes a vocabulary of 5 words, expected 6 words"):
        read_text("ptb", folder, vocabulary=Vocabulary("words", tuple("abcdef")))
    with pytest.raises(DataError, match="a vocabulary of 20 bytes, expected 2 words"):
        read_text("enwik8", enwik, vocabulary=Vocabulary("words", ("a", "b")))


def test_another_text_is_encoded_with_the_vocabulary_given(folder, tmp_path):
    other = write(tmp_path / "other", train="b a x\nb x a b\n", valid="a d\n", test="x b\n")
    corpus = read_text("text", other, vocabulary=read_text("text", folder).vocabulary)
    assert decoded(corpus) == {"train": "b a <unk>\nb <unk> a b\n", "valid": "a <unk>\n", "test": "<unk> b\n"}


@pytest.mark.parametrize(("strange", "warned"), [(0, ""), (20, ""), (40, "33 % of the words")])
def test_a_text_of_mostly_unknown_words_gets_a_warning(strange, warned, tmp_path, caplog):
    (tmp_path / "t.txt").write_text("cat <unk> " * 40 + "qwerty " * strange)
    corpus = read_text("text", tmp_path / "t.txt", vocabulary=Vocabulary("words", ("<unk>", "cat")))
    assert corpus.train[:4].tolist() == [1, 0, 1, 0]
    assert warned in caplog.text and bool(warned) == bool(caplog.text)


def test_the_checksum_is_of_the_content_wherever_it_lies(folder, tmp_path):
    moved = tmp_path / "moved"
    first = read_text("text", folder).checksum
    folder.rename(moved)
    assert read_text("text", moved).checksum == first
    (moved / "my.test.txt").write_text("b c\n")
    assert read_text("text", moved).checksum != first


def test_penn_treebank_has_its_published_counts_and_is_numbered_as_the_official_code_numbers_it(treebank):
    ptb = read_text("ptb", treebank)
    assert [len(getattr(ptb, split)) for split in SPLITS] == [929_589, 73_760, 82_430]
    assert len(ptb.vocabulary) == 10_000 and ptb.vocabulary.unknown == 1 and ptb.vocabulary.index["<eos>"] == 2
    read = {split: (treebank / f"ptb.{split}.txt").read_text().replace("\n", "<eos>").split() for split in SPLITS}
    order = sorted(Counter(read["train"]).items(), key=lambda item: (-item[1], item[0]))
    ids = {word: id_ for id_, (word, _) in enumerate(order)}
    for split in SPLITS:
        np.testing.assert_array_equal(getattr(ptb, split)[:], [ids[word] for word in read[split]])
    one_file = read_text("ptb", treebank / "ptb.valid.txt", vocabulary=ptb.vocabulary)
    assert one_file.checksum == ptb.checksum, "one file stands for its folder"


@pytest.mark.parametrize(
    ("name", "file", "belongs"),
    [
        ("ptb", "ptb.test.txt", True),
        ("ptb", "novel.txt", False),
        ("ptb", "ptb.zip", False),
        ("enwik8", "enwik8", True),
        ("enwik8", "enwik8.txt", True),
        ("enwik8", "mine.zip", True),
        ("enwik8", "text8", False),
        ("text", "novel.txt", False),
    ],
)
def test_a_file_belongs_to_a_set_by_its_name_and_a_folder_by_its_files(name, file, belongs, tmp_path):
    assert not belongs_to(name, tmp_path)
    (tmp_path / file).touch()
    assert belongs_to(name, tmp_path / file) == belongs
    assert belongs_to(name, tmp_path) == (belongs and file in ("ptb.test.txt", "enwik8"))
