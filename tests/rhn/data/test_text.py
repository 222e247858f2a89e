"""Texts as tokens: splits, vocabularies, archives, and the refusal of what is no text."""

import hashlib
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rhn.data.corpus import SPLITS
from rhn.data.datasets import TEXT_SETS
from rhn.data.text import Vocabulary, in_rows, read_text
from rhn.errors import DataError, InvalidInputError

PTB = Path(__file__).resolve().parents[4] / "shared" / "data" / "ptb"


def write(folder, name="my", **splits):
    """The files my.train.txt, my.valid.txt and my.test.txt in a new folder, and one of no split."""
    folder.mkdir()
    (folder / "constraints.txt").touch()
    for split, text in splits.items():
        (folder / f"{name}.{split}.txt").write_bytes(text.encode())
    return folder


def splits(corpus):
    return [getattr(corpus, split) for split in SPLITS]


def decoded(corpus):
    return [corpus.vocabulary.decode(ids) for ids in splits(corpus)]


@pytest.fixture
def folder(tmp_path):
    """A text in three splits: b thrice, a and c twice, in train; d only in valid."""
    return write(tmp_path / "three", train="b a c\nb c a b\n", valid="a d\n", test="c b\n")


@pytest.fixture
def enwik(tmp_path):
    """A file called enwik8, of 400 bytes."""
    (tmp_path / "wiki").mkdir()
    (tmp_path / "wiki" / "enwik8").write_bytes(bytes(range(60, 80)) * 20)
    return tmp_path / "wiki" / "enwik8"


@given(st.integers(2, 60), st.integers(1, 9))
def test_rows_one_after_the_other_are_the_text_without_its_remainder(length, batch_size):
    tokens = np.arange(length, dtype=np.uint8)
    if length // batch_size < 2:
        with pytest.raises(DataError, match=f"expected at most {length // 2}"):
            in_rows(tokens, batch_size)
        return
    rows = in_rows(tokens, batch_size)
    assert rows.shape == (batch_size, length // batch_size) and np.shares_memory(rows, tokens)
    np.testing.assert_array_equal(rows.ravel(), np.arange(length - length % batch_size))


def test_words_are_numbered_by_frequency_then_alphabet_and_newlines_are_words(folder, tmp_path):
    corpus = read_text("text", folder)
    assert corpus.vocabulary.symbols == ("b", "<eos>", "a", "c", "<unk>")
    assert decoded(corpus) == ["b a c\nb c a b\n", "a <unk>\n", "c b\n"]
    assert corpus.source == f"text, words, from {folder}"
    small = write(tmp_path / "t", train="a a a b b b c c <unk>\n", valid="c b\n", test="a d\n")
    corpus = read_text("text", small, vocabulary_size=4)
    assert corpus.vocabulary.symbols == ("a", "b", "<eos>", "<unk>")
    assert decoded(corpus)[0] == "a a a b b b <unk> <unk> <unk>\n"


@pytest.mark.parametrize(
    ("size", "symbols"),
    [
        pytest.param(None, ("a", "b", "<eos>", "c"), id="all words"),
        pytest.param(4, ("a", "b", "<eos>", "c"), id="as many as there are"),
        pytest.param(3, ("a", "<eos>", "<unk>"), id="one less"),
    ],
)
def test_a_word_is_unknown_only_if_there_are_more_words(size, symbols, tmp_path):
    folder = write(tmp_path / "ptb", "ptb", train="a a a b b c\n", valid="a b\n", test="c a\n")
    corpus = read_text("ptb", folder, vocabulary_size=size)
    assert corpus.vocabulary.symbols == symbols
    again = read_text("ptb", folder, vocabulary=corpus.vocabulary)
    assert again.checksum == corpus.checksum


def test_characters_of_all_splits_are_numbered_by_their_codes(folder):
    corpus = read_text("text", folder, unit="characters")
    assert corpus.vocabulary.symbols == ("\n", " ", "a", "b", "c", "d")


def test_the_checksum_is_of_the_content_and_the_length_wherever_it_is(folder, tmp_path, enwik):
    whole, short = read_text("text", folder), read_text("text", folder, max_tokens=2)
    assert short.vocabulary == whole.vocabulary
    for one, other in zip(splits(short), splits(whole), strict=True):
        np.testing.assert_array_equal(one, other[:2])
    moved = folder.rename(tmp_path / "moved")
    assert read_text("text", moved).checksum == whole.checksum
    (moved / "my.test.txt").write_text("b c\n")
    assert len({read_text("text", moved).checksum, whole.checksum, short.checksum}) == 3
    plain, archive = read_text("enwik8", enwik), enwik.with_name("enwik8.zip")
    assert plain.source == f"enwik8, bytes, from {enwik}"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(enwik, "enwik8")
    assert read_text("enwik8", enwik.parent).checksum == plain.checksum, "one of both"
    enwik.unlink()
    assert read_text("enwik8", archive.parent).checksum == plain.checksum
    assert plain.vocabulary == Vocabulary("bytes", range(60, 80))
    assert [ids.dtype for ids in splits(plain)] == [np.uint8] * 3
    assert plain.train.tolist() == [*range(20)] * 18


SPACES = st.sampled_from("ab \n\r\t\x1c\x85é\u2003\ufeff")


@given(
    st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0x1F6FF) | SPACES, min_size=41)
)
@example("a b\n" * 25)  # 100 characters
def test_one_file_is_cut_90_5_5_into_its_words_or_characters(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("one") / "novel.txt"
    path.write_bytes(text.encode())
    wanted = text.removeprefix("\ufeff")
    characters, N = read_text("text", path, unit="characters"), len(wanted)
    assert "".join(decoded(characters)) == wanted
    assert [len(ids) for ids in splits(characters)][:2] == [N * 90 // 100, N * 5 // 100]
    assert characters.vocabulary.symbols == tuple(sorted(set(wanted)))
    path.write_bytes(("\ufeff" + "a b\n" * 20 + wanted).encode())
    words = Vocabulary("words", tuple(dict.fromkeys([*wanted.split(), "a", "b", "<eos>"])))
    ids = np.concatenate(splits(read_text("text", path, vocabulary=words)))
    np.testing.assert_array_equal(ids, words.encode("a b\n" * 20 + wanted))


def test_a_vocabulary_that_is_given_is_used_or_refused(tmp_path):
    folder = write(tmp_path / "t", "ptb", train="b a c\nb c a b\n", valid="a d\n", test="c b\n")
    for symbols in (("b", "<eos>", "a", "x", "<unk>"), tuple("abcdef")):
        refused("expected the same", "ptb", folder, vocabulary=Vocabulary("words", symbols))
    path = tmp_path / "t.zip"  # plain, in spite of its name
    path.write_text("cat <unk> " * 40 + "qwerty " * 40)
    corpus = read_text("text", path, vocabulary=Vocabulary("words", ("<unk>", "cat")))
    assert corpus.train[:4].tolist() == [1, 0, 1, 0] and corpus.test.tolist() == [0] * 6


def test_penn_treebank_has_its_published_counts_and_the_ids_of_the_official_code():
    if not PTB.is_dir():
        pytest.skip(f"Penn Treebank is not at {PTB}")
    for name, (sha256, *_) in TEXT_SETS["ptb"].files.items():
        assert hashlib.sha256((PTB / name).read_bytes()).hexdigest() == sha256
    ptb = read_text("ptb", PTB)
    assert [len(ids) for ids in splits(ptb)] == [929_589, 73_760, 82_430]
    index = ptb.vocabulary.index
    assert (len(index), index["<unk>"], index["<eos>"]) == (10_000, 1, 2)
    texts = [(PTB / f"ptb.{split}.txt").read_text() for split in SPLITS]
    words = [text.replace("\n", "<eos>").split() for text in texts]
    order = sorted(Counter(words[0]).items(), key=lambda item: (-item[1], item[0]))
    ids = {word: id_ for id_, (word, _) in enumerate(order)}
    for found, wanted in zip(splits(ptb), words, strict=True):
        np.testing.assert_array_equal(found, [ids[word] for word in wanted])
    one_file = read_text("ptb", PTB / "ptb.valid.txt", vocabulary=ptb.vocabulary)
    assert one_file.checksum == ptb.checksum, "one file stands for its folder"


def refused(match, *arguments, **options):
    with pytest.raises((DataError, InvalidInputError), match=match):
        read_text(*arguments, **options)


def test_a_text_that_is_short_ambiguous_or_in_another_code_is_refused(folder):
    (folder / "my.valid.txt").write_bytes(b"\xef\xbb\xbfa")
    refused("shortest split of .* has 1 tokens", "text", folder)
    (folder / "my.valid.txt").write_bytes("é".encode("latin-1"))
    refused(r"my\.valid\.txt cannot be read: 'utf-8' codec", "text", folder)
    (folder / "other.test.txt").write_text("a b")
    refused("expected train, valid and test", "text", folder)


def test_a_symbol_outside_a_vocabulary_is_named_wherever_it_is(folder):
    words = Vocabulary("words", ("a", "b", "c", "<eos>"))
    refused("symbol is 'd': expected one of 4 known words", "text", folder, vocabulary=words)
    with pytest.raises(InvalidInputError, match="symbol is 'd': expected one of 3 known char"):
        Vocabulary("characters", "abc").encode("abcadb")
    with pytest.raises(InvalidInputError, match=r"^symbols are .*: expected different bytes$"):
        Vocabulary("bytes", range(257))


def test_a_file_of_another_name_is_no_published_text(enwik, tmp_path):
    other = enwik.rename(enwik.with_name("wiki8"))
    refused(r"wiki8 holds no enwik8: expected the files of `rhn data get", "enwik8", other)
    refused("holds no ptb", "ptb", other)
    refused("holds no ptb", "ptb", write(tmp_path / "one", "ptb", train="a b"))


CHARACTERS = st.characters(exclude_categories=["Cs"])
WORDS = st.text(CHARACTERS, min_size=1).filter(lambda w: w.split() == [w] and w != "<eos>")


@given(
    st.lists(st.lists(WORDS, min_size=1).map(" ".join), min_size=1), st.text(CHARACTERS, min_size=1)
)
def test_a_vocabulary_decodes_what_it_encodes(lines, text):
    words = "\n".join(lines)
    vocabulary = Vocabulary("words", tuple(dict.fromkeys([*words.split(), "<eos>"])))
    assert vocabulary.decode(vocabulary.encode(words)) == words
    assert Vocabulary("words", ("a", "<unk>")).encode("b a c").tolist() == [1, 0, 1]
    vocabulary = Vocabulary("bytes", tuple(range(255, -1, -1)))
    ids = vocabulary.encode(text)
    assert bytes((255 - ids).tolist()) == text.encode() and vocabulary.decode(ids) == text
