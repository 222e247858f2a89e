"""A vocabulary decodes what it encodes, and refuses what is none."""

from hypothesis import given
from hypothesis import strategies as st

from rhn.data.text import Vocabulary

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
