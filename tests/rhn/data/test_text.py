"""Texts as tokens: splits, vocabularies, archives, and the refusal of what is no text."""

import contextlib
import hashlib
import zipfile
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import for_each

from rhn.data.corpus import SPLITS
from rhn.data.datasets import TEXT_SETS
from rhn.data.text import Vocabulary, in_rows, published_files, read_text
from rhn.errors import DataError, InvalidInputError


def write(folder, name="my", **splits):
    """The files my.train.txt, my.valid.txt and my.test.txt in a new folder."""
    folder.mkdir()
    for split, text in splits.items():
        (folder / f"{name}.{split}.txt").write_bytes(text.encode())
    return folder


def decoded(corpus):
    """The text of each split."""
    return {split: corpus.vocabulary.decode(getattr(corpus, split)[:]) for split in SPLITS}


@pytest.fixture
def folder(tmp_path):
    """A text in three splits: b thrice, a and c twice, in train; d only in valid."""
    return write(tmp_path / "three", train="b a c\nb c a b\n", valid="a d\n", test="c b\n")


@pytest.fixture
def enwik(tmp_path):
    """A file called enwik8, of 400 bytes."""
    path = tmp_path / "wiki" / "enwik8"
    path.parent.mkdir()
    path.write_bytes(bytes(range(60, 80)) * 20)
    return path


@given(st.integers(2, 60), st.integers(1, 9))
def test_rows_read_one_after_the_other_are_the_text_without_its_remainder(length, batch_size):
    tokens = np.asarray(np.arange(length, dtype=np.uint8))
    if length // batch_size < 2:
        with pytest.raises(DataError, match=f"expected at most {length // 2}"):
            in_rows(tokens, batch_size)
        return
    rows = in_rows(tokens, batch_size)
    kept = length - length % batch_size
    assert rows.shape == (batch_size, length // batch_size)
    np.testing.assert_array_equal(rows[:].ravel(), np.arange(kept))
    assert np.shares_memory(rows, tokens)


def test_words_are_numbered_by_frequency_then_alphabet_and_newlines_are_words(folder):
    corpus = read_text("text", folder)
    assert corpus.vocabulary.symbols == ("b", "<eos>", "a", "c", "<unk>")
    assert decoded(corpus) == {"train": "b a c\nb c a b\n", "valid": "a <unk>\n", "test": "c b\n"}


def test_a_smaller_vocabulary_keeps_the_most_frequent_words_and_always_unk_and_eos(
    tmp_path, folder
):
    small = write(tmp_path / "t", train="a a a b b b c c <unk>\n", valid="c b\n", test="a d\n")
    corpus = read_text("text", small, vocabulary_size=4)
    assert corpus.vocabulary.symbols == ("a", "b", "<eos>", "<unk>")
    assert decoded(corpus)["train"] == "a a a b b b <unk> <unk> <unk>\n"
    for size in (2, 3, 5, 100):
        built = read_text("text", folder, vocabulary_size=size)
        given = read_text("text", folder, vocabulary=built.vocabulary)
        assert len(built.vocabulary) == min(size, 5) and given.checksum == built.checksum


def test_a_maximum_shortens_each_split_and_leaves_the_vocabulary(folder):
    whole, short = read_text("text", folder), read_text("text", folder, max_tokens=2)
    assert [len(getattr(short, split)) for split in SPLITS] == [2, 2, 2]
    assert short.vocabulary == whole.vocabulary and short.checksum != whole.checksum
    np.testing.assert_array_equal(short.train[:], whole.train[:2])


@given(
    text=st.text(
        st.characters(exclude_categories=["Cs"], max_codepoint=0x1F6FF)
        | st.sampled_from("ab \n\r\t\x1c\x85é\u2003\ufeff"),
        min_size=41,
    )
)
def test_one_file_is_cut_90_5_5_into_its_words_or_characters(text, tmp_path_factory):
    path = tmp_path_factory.mktemp("one") / "novel.txt"
    path.write_bytes(text.encode())
    wanted = text.removeprefix("\ufeff")
    characters = read_text("text", path, unit="characters")
    N = len(wanted)
    assert "".join(decoded(characters).values()) == wanted
    assert [len(getattr(characters, s)) for s in SPLITS] == [
        N * 90 // 100,
        N * 5 // 100,
        N - N * 90 // 100 - N * 5 // 100,
    ]
    assert characters.vocabulary.symbols == tuple(sorted(set(wanted)))
    path.write_bytes(("\ufeff" + "a b\n" * 20 + wanted).encode())
    words = Vocabulary("words", tuple(dict.fromkeys([*wanted.split(), "a", "b", "<eos>"])))
    read = read_text("text", path, vocabulary=words)
    ids = np.concatenate([getattr(read, split)[:] for split in SPLITS])
    np.testing.assert_array_equal(ids, words.encode("a b\n" * 20 + wanted))


def test_bytes_take_one_byte_each_and_are_numbered_in_order_over_all_splits(tmp_path):
    (tmp_path / "text8").write_bytes(b"\xff\xbb\xbf" + b"ba" * 45 + b"ccccc" + b"ddddd")
    corpus = read_text("text8", tmp_path)
    assert corpus.vocabulary == Vocabulary("bytes", tuple(b"abcd\xbb\xbf\xff"))
    assert corpus.train[3:7].tolist() == [1, 0, 1, 0] and corpus.test[-5:].tolist() == [3] * 5
    assert corpus.train.dtype == np.uint8


def test_a_published_set_with_another_vocabulary_than_the_checkpoints_is_refused(tmp_path, enwik):
    folder = write(tmp_path / "t", "ptb", train="b a c\nb c a b\n", valid="a d\n", test="c b\n")
    for symbols in (("b", "<eos>", "a", "x", "<unk>"), tuple("abcdef")):
        with pytest.raises(DataError, match="other words: expected the same"):
            read_text("ptb", folder, vocabulary=Vocabulary("words", symbols))
    with pytest.raises(DataError, match="20 other bytes"):
        read_text("enwik8", enwik, vocabulary=Vocabulary("words", ("a", "b")))


def test_another_text_is_read_with_the_vocabulary_given(tmp_path):
    (tmp_path / "t.txt").write_text("cat <unk> " * 40 + "qwerty " * 40)
    corpus = read_text("text", tmp_path / "t.txt", vocabulary=Vocabulary("words", ("<unk>", "cat")))
    assert corpus.train[:4].tolist() == [1, 0, 1, 0] and corpus.test.tolist() == [0] * 6
    with pytest.raises(DataError, match="symbol is ' ': expected 6 known characters"):
        read_text(
            "text", tmp_path / "t.txt", vocabulary=Vocabulary("characters", tuple("cat<unk>")[:6])
        )


def test_the_checksum_is_of_the_content_wherever_it_lies(folder, tmp_path):
    moved = tmp_path / "moved"
    first = read_text("text", folder).checksum
    folder.rename(moved)
    assert read_text("text", moved).checksum == first
    (moved / "my.test.txt").write_text("b c\n")
    assert read_text("text", moved).checksum != first


def test_penn_treebank_has_its_published_counts_and_is_numbered_as_the_official_code_numbers_it(
    treebank,
):
    for name, (sha256, *_) in TEXT_SETS["ptb"].files.items():
        assert hashlib.sha256((treebank / name).read_bytes()).hexdigest() == sha256
    ptb = read_text("ptb", treebank)
    assert [len(getattr(ptb, split)) for split in SPLITS] == [929_589, 73_760, 82_430]
    assert (
        len(ptb.vocabulary) == 10_000
        and ptb.vocabulary.unknown == 1
        and ptb.vocabulary.index["<eos>"] == 2
    )
    read = {
        split: (treebank / f"ptb.{split}.txt").read_text().replace("\n", "<eos>").split()
        for split in SPLITS
    }
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
        ("enwik8", "enwik8", True),
        ("enwik8", "enwik8.zip", True),
        ("text", "novel.txt", False),
    ],
)
def test_a_file_belongs_to_a_set_by_its_name_and_a_folder_by_its_files(
    name, file, belongs, tmp_path
):
    assert not published_files(name, tmp_path)
    for part in ("train", "valid", "test") if file.startswith("ptb") else ():
        (tmp_path / f"ptb.{part}.txt").touch()
    (tmp_path / file).touch()
    assert bool(published_files(name, tmp_path / file)) == belongs
    assert bool(published_files(name, tmp_path)) == belongs


def test_an_archive_holds_the_same_text_and_a_damaged_one_is_refused(enwik):
    plain, archive = read_text("enwik8", enwik), enwik.with_name("enwik8.zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(enwik, "enwik8")
    enwik.unlink()
    corpus = read_text("enwik8", archive.parent)
    assert corpus.checksum == plain.checksum and (corpus.test[:] == plain.test[:]).all()
    content = archive.read_bytes()
    for place in range(0, len(content), 7):
        archive.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        with contextlib.suppress(DataError):
            assert read_text("enwik8", archive).checksum == plain.checksum
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        read_text("enwik8", archive)


def refused(match, *arguments, error=DataError, **options):
    with pytest.raises(error, match=match):
        read_text(*arguments, **options)


@for_each("name", ["ptb", "enwik8"])
def test_a_missing_data_set_is_named_with_its_place_and_how_to_get_it(name, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    said = f"holds no {name}: expected the files of `rhn data get {name}`"
    refused(f"{tmp_path}/share/rhn/{name} {said}", name)
    (tmp_path / "novel.txt").write_text("it was a dark and stormy night")
    refused(rf"novel\.txt {said}", name, tmp_path / "novel.txt")


@for_each(
    ("content", "words"), [(b"", "0 tokens"), (b"a", "1 tokens"), (b"\xef\xbb\xbf", "0 tokens")]
)
def test_a_split_of_fewer_than_two_tokens_is_refused(folder, content, words):
    (folder / "my.valid.txt").write_bytes(content)
    refused(f"shortest split of .* has {words}", "text", folder)


@for_each("unit", ["words", "characters"])
def test_a_byte_that_is_not_utf8_is_named_with_its_place(tmp_path, unit):
    (tmp_path / "latin.txt").write_bytes(
        ("\ufeff" + "né " * 20).encode() + "é".encode("latin-1") + b" n" * 9
    )
    said = r"latin\.txt cannot be read: 'utf-8' codec can't decode byte 0xe9 in position 80"
    refused(said, "text", tmp_path / "latin.txt", unit=unit)


def test_splits_that_are_missing_or_ambiguous_are_named(folder, tmp_path):
    (folder / "other.test.txt").write_text("a b")
    three = "expected train, valid and test"
    refused(rf"are my\.train\.txt, .*my\.test\.txt, other\.test\.txt: {three}", "text", folder)
    (tmp_path / "novel.txt").write_text("a folder of one text")
    refused(f"are none: {three}", "text", tmp_path)
    refused("No such file or directory", "text", tmp_path / "nothing")


@for_each(
    ("name", "options", "sentence"),
    [
        ("wiki", {}, "text is 'wiki': expected ptb"),
        ("enwik8", {"vocabulary_size": 9}, "unit is bytes: expected words"),
        ("text", {"path": None}, "data is missing: expected a file or folder"),
    ],
)
def test_options_that_do_not_go_together_are_refused(name, options, sentence, tmp_path):
    refused(sentence, name, error=InvalidInputError, **{"path": tmp_path} | options)
