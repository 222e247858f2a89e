"""Texts that cannot be used: every refusal says what was wrong, where, and what to do."""

import os

import pytest
from splits import write

from rhn.data import encoding
from rhn.data.text import read_text
from rhn.errors import DataError, InvalidInputError


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))


@pytest.mark.parametrize("name", ["ptb", "enwik8", "text8"])
def test_a_missing_data_set_is_named_with_where_it_was_looked_for_and_how_to_get_it(name, tmp_path):
    with pytest.raises(DataError, match=rf"{tmp_path}/share/rhn/{name}: no such file or folder.*`rhn data get {name}`"):
        read_text(name)
    with pytest.raises(DataError, match=f"{tmp_path} holds no file {name}.*`rhn data get {name}`"):
        read_text(name, tmp_path)


def test_a_file_of_another_text_is_never_taken_for_its_folder(tmp_path):
    folder = write(tmp_path / "t", "ptb", train="b a c\n", valid="a c\n", test="c b\n")
    (folder / "novel.txt").write_text("it was a dark and stormy night")
    with pytest.raises(DataError, match=r"novel\.txt is none of ptb\.train\.txt, .*add --words or --characters"):
        read_text("ptb", folder / "novel.txt")
    with pytest.raises(DataError, match=r"novel\.txt is none of enwik8, enwik8\.zip"):
        read_text("enwik8", folder / "novel.txt")


@pytest.mark.parametrize(("content", "words"), [(b"", r"my\.valid\.txt is empty"), (b"a", "valid split has 1 token")])
def test_a_split_of_fewer_than_two_tokens_is_refused(folder, content, words):
    (folder / "my.valid.txt").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_text("text", folder)


@pytest.mark.parametrize("unit", ["words", "characters"])
@pytest.mark.parametrize("block", [1, 7, 2**20])
def test_a_byte_that_is_not_utf8_is_named_with_its_place(tmp_path, monkeypatch, unit, block):
    monkeypatch.setattr(encoding, "BLOCK", block)
    (tmp_path / "latin.txt").write_bytes(("né " * 20).encode() + "é".encode("latin-1") + b" n" * 9)
    with pytest.raises(DataError, match=r"latin\.txt is not UTF-8 text: .* at byte 80;"):
        read_text("text", tmp_path / "latin.txt", unit=unit)


@pytest.mark.parametrize("unit", ["words", "characters"])
def test_after_a_byte_order_mark_bytes_are_counted_from_the_files_start_and_nothing_is_no_text(tmp_path, unit):
    (tmp_path / "latin.txt").write_bytes(b"\xef\xbb\xbfabc \xe9 def")
    with pytest.raises(DataError, match="at byte 7;"):
        read_text("text", tmp_path / "latin.txt", unit=unit)
    (tmp_path / "mark.txt").write_bytes(b"\xef\xbb\xbf")
    with pytest.raises(DataError, match=r"mark\.txt: its train split has 0 token"):
        read_text("text", tmp_path / "mark.txt", unit=unit)


def test_splits_that_are_missing_or_ambiguous_are_named(folder):
    (folder / "other.test.txt").write_text("a b")
    with pytest.raises(DataError, match=r"test in its name: found my\.test\.txt and other\.test\.txt"):
        read_text("text", folder)
    (folder / "my.valid.txt").unlink()
    with pytest.raises(DataError, match="valid in its name: found none"):
        read_text("text", folder)


def test_a_place_without_any_text_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no text"):
        read_text("text", tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        read_text("text", tmp_path / "nothing")
    with pytest.raises(InvalidInputError, match="needs its path"):
        read_text("text")


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("wiki", {}, "expected one of ptb, enwik8, text8, text"),
        ("text", {"unit": "letters"}, "not as 'letters'"),
        ("ptb", {"unit": "characters"}, "ptb is read as words"),
        ("enwik8", {"unit": "characters"}, "enwik8 is read as bytes"),
        ("text", {"max_tokens": 1}, "expected at least 2"),
        ("text", {"vocabulary_size": 1}, "expected at least 2"),
        ("enwik8", {"vocabulary_size": 9}, "is for words"),
    ],
)
def test_options_that_do_not_go_together_are_refused(name, options, sentence, tmp_path):
    with pytest.raises(InvalidInputError, match=sentence):
        read_text(name, tmp_path, **options)


def test_a_word_without_end_is_no_text_of_words(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "BLOCK", 10)
    monkeypatch.setattr(encoding, "MOST_WORD", 30)
    (tmp_path / "t.txt").write_text("a b " * 9 + "x" * 45)
    with pytest.raises(DataError, match=r"t\.txt has a word of more than 30 characters.*read it as characters"):
        read_text("text", tmp_path / "t.txt")
    assert len(read_text("text", tmp_path / "t.txt", unit="characters").train) == 72


@pytest.mark.parametrize("name", ["text", "ptb"])
def test_a_pipe_is_not_waited_on(name, tmp_path):
    os.mkfifo(tmp_path / "ptb.train.txt")
    with pytest.raises(DataError, match="it is a pipe, a socket or a device, expected a file"):
        read_text(name, tmp_path / "ptb.train.txt")
