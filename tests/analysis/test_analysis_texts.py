"""The stretches and excerpts of a text that are measured."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import WORDS, language_network

from analysis import Excerpt, excerpts, gate_activity, stretches
from rhn.data.text import Vocabulary


@given(N=st.integers(2, 60), length=st.integers(1, 20), max_tokens=st.integers(1, 70))
def test_stretches_predict_each_token_once_and_in_order(N, length, max_tokens):
    parts = stretches(np.asarray(np.arange(N)), length=length, max_tokens=max_tokens)
    predicted = np.concatenate([part[1:] for part in parts])
    assert predicted.tolist() == list(range(1, min(N, max_tokens + 1)))
    assert all(len(part) == length + 1 for part in parts[:-1])
    assert all((np.diff(part) == 1).all() for part in parts)


def test_excerpts_are_spread_over_the_text():
    text = np.asarray(np.arange(100) % len(WORDS))
    spread = excerpts(text, WORDS, length=6, split="valid")
    for part, start in zip(spread, (0, 25, 50, 75), strict=True):
        assert part.name == f"valid-{start}" and part.tolist() == text[start : start + 6].tolist()
    assert [len(part) for part in excerpts(text, WORDS, length=70)] == [70], "only one fits"


@pytest.mark.parametrize(("ids", "shown"), [([0, 1, 2], True), ([0, 1, 2] * 100, False)])
def test_words_that_do_not_fit_are_left_out_and_long_ones_cut(ids, shown):
    vocabulary = Vocabulary("words", ("internationalization", "$x$", "\n"))
    found = gate_activity(language_network(V=3), Excerpt(ids, name="a", vocabulary=vocabulary))
    labels = [label.get_text() for label in found.plot().get_xticklabels()]
    assert (labels == ["internationa", "$x$", "↵"]) == shown


def test_bytes_are_shown_as_characters_or_numbers():
    excerpt = Excerpt([10, 31, 32, 126, 127], name="a", vocabulary=Vocabulary("bytes", range(256)))
    assert excerpt.symbols == ["\n", "1f", " ", "~", "7f"]
