"""The table of the guide to language models: words are counted as a training reads them."""

import itertools
from dataclasses import replace

import pytest

from benchmarks import words_a_second
from rhn.models import LanguageModel
from rhn.presets import preset


def test_words_are_counted_over_the_seconds_they_took(monkeypatch):
    config = replace(preset("ptb-depth-5"), hidden_size=4, depth=2, batch_size=3, window=5)
    monkeypatch.setattr(words_a_second, "WORDS", 20)
    monkeypatch.setattr(
        words_a_second.time, "perf_counter", itertools.count().__next__
    )  # a second passes between two looks
    parameters, rate = words_a_second.measure(config, 4)
    assert rate == pytest.approx(3 * 3 * 5 / 4)  # three windows, the fourth look ends it
    model = LanguageModel("rhn", vocabulary_size=20, hidden_size=4, depth=2, tied=config.tied)
    assert parameters == sum(p.numel() for p in model.parameters())


def test_a_row_tells_two_digits_and_the_minutes_of_an_epoch():
    assert words_a_second.row("a", 23_500_000, 929_589 / 600) == "| `a` | 23.5 million | 1,500 | 10 minutes |"
