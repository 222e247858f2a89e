"""A vocabulary decodes what it encodes, and refuses what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import for_each

from rhn.data.text import Vocabulary
from rhn.errors import InvalidInputError

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda word: word.split() == [word]
)
lines = st.lists(
    st.lists(words.filter(lambda word: word != "<eos>"), min_size=1).map(" ".join), min_size=1
)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(lines)
def test_a_text_of_words_survives_encoding_and_decoding(lines):
    text = "\n".join(lines)
    vocabulary = Vocabulary("words", tuple(dict.fromkeys([*text.split(), "<eos>"])))
    assert vocabulary.decode(vocabulary.encode(text)) == text


@given(texts)
def test_a_text_of_characters_or_bytes_survives_encoding_and_decoding(text):
    vocabulary = Vocabulary("characters", tuple(sorted(set(text))))
    assert vocabulary.decode(vocabulary.encode(text)) == text
    vocabulary = Vocabulary("bytes", tuple(range(255, -1, -1)))
    ids = vocabulary.encode(text)
    assert bytes((255 - ids).tolist()) == text.encode() and vocabulary.decode(ids) == text


@for_each(
    ("unit", "symbols"),
    [
        ("pixels", ["a"]),
        ("words", []),
        ("words", ["a", "b", "a"]),
        ("words", ["a b"]),
        ("characters", ["ab"]),
        ("bytes", [256]),
    ],
)
def test_json_that_is_no_vocabulary_is_refused(unit, symbols):
    with pytest.raises(InvalidInputError, match="a vocabulary"):
        Vocabulary.from_json({"unit": unit, "symbols": symbols})
    with pytest.raises(InvalidInputError, match="an object with the keys unit and symbols"):
        Vocabulary.from_json([])


def test_symbols_and_ids_outside_a_vocabulary_without_unk_are_named():
    vocabulary = Vocabulary("characters", ("x", "z"))
    with pytest.raises(InvalidInputError, match=r"'y' .number 1 of the text's characters"):
        vocabulary.encode("xy")
    for ids in ([0, 2], [-1]):
        with pytest.raises(InvalidInputError, match="expected 0 to 1"):
            vocabulary.decode(ids)
