"""Language models are looked at as chorales are: the same gates, the same lesions, on stretches of
a text.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import SUBJECTS, WORDS, language_network, tokens

from analysis import Excerpt, GateActivity, excerpts, gate_activity, lesion, stretches
from rhn.data.text import Vocabulary

PARTS = SUBJECTS["texts"][1]


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
    assert [part.name for part in spread] == ["valid-0", "valid-25", "valid-50", "valid-75"]
    assert all(
        np.array_equal(part, text[s : s + 6])
        for part, s in zip(spread, (0, 25, 50, 75), strict=True)
    )
    assert [len(part) for part in excerpts(text, WORDS, length=70)] == [70], "only one fits"


def test_lines_are_marked_where_they_end():
    model = language_network()
    (told,) = gate_activity(
        model, Excerpt([0, 2, 1, 3, 4, 1], name="a", vocabulary=WORDS)
    ).sequences
    assert told.bars.tolist() == [3, 6] and told.symbols.tolist() == [
        "the",
        "cat",
        "<eos>",
        "dog",
        "sees",
        "<eos>",
    ]
    (plain,) = gate_activity(model, np.array([0, 2, 1])).sequences
    assert plain.bars.tolist() == [] and plain.symbols.tolist() == ["0", "2", "1"]


@pytest.fixture(scope="module")
def gates() -> GateActivity:
    return gate_activity(
        language_network(),
        excerpts(np.asarray(tokens(90)[0]), WORDS, length=20, split="valid", count=2),
    )


def test_a_record_of_a_text_is_drawn_again_without_the_network(gates, tmp_path):
    again = GateActivity.load(gates.save(tmp_path / "gates.npz"))
    assert [s.symbols.tolist() for s in again.sequences] == [
        s.symbols.tolist() for s in gates.sequences
    ]
    assert again.step == "token"


def test_damage_is_in_nats_per_token():
    table = lesion(language_network(), PARTS, split="valid")
    assert "27 predicted tokens." in table.summary().replace("\n", " ")
    assert table.plot().get_ylabel().startswith("damage on valid (nats per token)\n")


def test_words_stand_below_their_gates(gates):
    panels = [ax for ax in gates.figure().axes if ax.get_title(loc="left")]
    for ax, sequence in zip(panels, gates.sequences, strict=True):
        assert [label.get_text() for label in ax.get_xticklabels()] == sequence.symbols.tolist()
        assert ax.get_xticks().tolist() == [t + 0.5 for t in range(20)]
    assert panels[-1].get_xlabel().startswith("time (tokens")


@pytest.mark.filterwarnings("error")
def test_tokens_that_the_font_lacks_are_drawn_as_python_writes_them(tmp_path):
    vocabulary = Vocabulary("characters", ("字", "\t", "é", " "))
    record = gate_activity(
        language_network(V=4), Excerpt([0, 1, 2, 3], name="模", vocabulary=vocabulary)
    )
    figure = replace(record, title="型").figure()
    figure.savefig(tmp_path / "gates.png")
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == [r"\u5b57", r"\t", "é", "␣"]
    assert ax.get_title(loc="left") == r"\u6a21"


def test_words_that_do_not_fit_are_left_out_and_long_ones_cut():
    vocabulary = Vocabulary("words", ("internationalization", "$x$"))
    for ids, shown in (([0, 1], True), ([0, 1] * 200, False)):
        ax = gate_activity(
            language_network(V=2), Excerpt(ids, name="a", vocabulary=vocabulary)
        ).plot()
        assert (
            [label.get_text() for label in ax.get_xticklabels()] == ["internation…", r"\$x\$"]
        ) == shown
