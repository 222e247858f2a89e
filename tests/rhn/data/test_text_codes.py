"""Texts as codes: the same however a file is cut into blocks, without its byte-order mark, and never copied as a whole."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from splits import decoded
from tables import for_each

from rhn.data import encoding
from rhn.data.text import Vocabulary, read_text
from rhn.data.vocabulary import split_words
from rhn.errors import DataError


@given(text=st.text(st.sampled_from("ab \n\r\té\u2003x\ufeff"), min_size=1), block=st.integers(1, 9))
def test_words_are_the_same_however_a_file_is_cut_into_blocks(text, block, tmp_path_factory):
    path = tmp_path_factory.mktemp("blocks") / "text"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "BLOCK", block)
        found = encoding.read_codes([[path]], "words")
    expected = text.removeprefix("\ufeff").replace("\n", " <eos> ").split()
    assert [found.symbol(code) for code in found.texts[0]] == expected


@for_each("space", ["\t", "\r\n", "\v", "\x1c", "\x85", "\u2003"])
def test_a_text_is_read_block_by_block_whatever_space_parts_its_words(space, tmp_path, monkeypatch):
    lengths = []
    monkeypatch.setattr(encoding, "BLOCK", 100)
    monkeypatch.setattr(encoding, "split_words", lambda text: lengths.append(len(text)) or split_words(text))
    (tmp_path / "t.txt").write_bytes(f"word{space}".encode() * 500)
    corpus = read_text("text", tmp_path / "t.txt")
    assert sum(map(len, (corpus.train, corpus.valid, corpus.test))) == 500 * (1 + space.count("\n"))
    assert max(lengths) <= 100 + len("word")


@settings(max_examples=30)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=41), block=st.integers(1, 9))
def test_characters_are_code_points_however_a_file_is_cut_into_blocks(text, block, tmp_path_factory):
    path = tmp_path_factory.mktemp("characters") / "text"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "BLOCK", block)
        corpus = read_text("text", path, unit="characters")
    expected = text.removeprefix("\ufeff")
    assert corpus.vocabulary.symbols == tuple(sorted(set(expected)))
    assert "".join(decoded(corpus).values()) == expected


@for_each("unit", ["words", "characters"])
@for_each("letters", ["ab \n", "aé \n"])
@for_each("block", [1, 3, 2**20])
def test_a_byte_order_mark_is_no_part_of_a_text(unit, letters, block, tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "BLOCK", block)
    for name, mark in (("plain", ""), ("marked", "\ufeff")):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for part in "12":
            (folder / f"{part}.txt").write_text(mark + letters * 20, encoding="utf-8")
    plain, marked = (read_text("text", tmp_path / name, unit=unit) for name in ("plain", "marked"))
    assert marked.vocabulary == plain.vocabulary and decoded(marked) == decoded(plain)


def test_bytes_keep_a_byte_order_mark(tmp_path):
    (tmp_path / "text8").write_bytes(b"\xef\xbb\xbf" + b"a" * 57)
    assert read_text("text8", tmp_path).vocabulary.symbols == (0x61, 0xBB, 0xBF, 0xEF)


@given(texts=st.lists(st.lists(st.integers(0, 5)), min_size=1), wanted=st.sets(st.integers(0, 5), min_size=1))
def test_the_first_of_some_codes_is_found_where_the_joined_texts_have_it(texts, wanted):
    joined = [code for text in texts for code in text]
    read = encoding.Codes([np.array(text, np.uint8) for text in texts], 6, chr)
    expected = next(((place, code) for place, code in enumerate(joined) if code in wanted), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "BLOCK", 3)
        if expected is None:
            with pytest.raises(LookupError):
                read.first(np.array(list(wanted)))
        else:
            assert read.first(np.array(list(wanted))) == expected


def test_a_symbol_outside_the_vocabulary_is_looked_for_without_copying_the_text(tmp_path):
    length = 2**26
    with (tmp_path / "t.txt").open("wb") as file:
        file.write(b"?")
        file.truncate(length)  # zero bytes, none of them on disk
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"'[?]', number 0 of the text's characters"):
            read_text("text", tmp_path / "t.txt", vocabulary=Vocabulary("characters", ("\0",)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < length // 2
