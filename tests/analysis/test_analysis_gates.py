"""Gate activity against a plain loop, and the stretches and excerpts of a text."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import GATED, SUBJECTS, WORDS, gates_by_loop, network, rolls
from readable import without_layout

from analysis import Excerpt, excerpts, gate_activity, stretches
from analysis.gates import ROWS
from rhn.data.text import Vocabulary
from rhn.errors import InvalidInputError


@pytest.mark.parametrize(
    ("kind", "case", "options"),
    [
        pytest.param("chorales", GATED[0], {"layers": 2}, id="rhn"),
        pytest.param("chorales", GATED[1], {"layers": 2}, id="rhn with carry gates"),
        pytest.param("chorales", GATED[2], {"layers": 2}, id="lstm"),
        pytest.param("chorales", GATED[3], {"layers": 2}, id="gru"),
        pytest.param("texts", GATED[0], {"layers": 2}, id="rhn of texts"),
        pytest.param("texts", GATED[2], {"layers": 2, "tied": True}, id="tied lstm of texts"),
    ],
)
@torch.no_grad()
def test_gates_are_those_of_a_plain_loop_over_the_equation(kind, case, options):
    build, data, _ = SUBJECTS[kind]
    model = build(*case, **options)
    for weight in model.parameters():
        weight *= 4  # so that some gates are open and some closed
    record = gate_activity(model, data)
    assert record.open.any() and record.closed.any()
    for part, sequence in zip(data, record.sequences, strict=True):
        steps = torch.from_numpy(part)
        inputs = steps.double() if kind == "chorales" else model.embedding[steps]
        gates = gates_by_loop(model.cells, inputs)
        assert sequence.lengths.tolist() == [len(part)]
        assert np.allclose(sequence.activity, gates.mean(2), atol=1e-13)
        assert np.allclose(sequence.open, (gates > 0.9).mean(2))
        assert np.allclose(sequence.closed, (gates < 0.1).mean(2))


def test_gates_of_more_sequences_than_run_together_are_those_of_each_alone():
    model, pieces = network(depth=2), rolls(*range(1, 19))
    assert len(pieces) % ROWS == 2
    shown = []
    found = gate_activity(model, pieces, progress=lambda *counts: shown.append(counts))
    assert shown == [(done, 18) for done in range(1, 19)]
    assert found.names == tuple(f"sequence {k}" for k in range(1, 19)) and found.step == "frame"
    for piece, own in zip(pieces, found.sequences, strict=True):
        assert np.allclose(own.activity, gate_activity(model, [piece]).activity, atol=1e-13)


@torch.no_grad()
def test_a_gate_at_a_limit_is_neither_open_nor_closed(monkeypatch):
    """Without weights and biases each transform gate is 0.5."""
    for name in ("OPEN", "CLOSED"):
        monkeypatch.setattr(f"analysis.gates.{name}", 0.5)
    model = network(depth=2)
    for weight in model.parameters():
        weight.zero_()
    found = gate_activity(model, rolls(3))
    assert (found.activity == 0.5).all() and not found.open.any() and not found.closed.any()


@torch.no_grad()
def test_one_gate_that_is_not_finite_is_refused():
    """In the first step all others are finite."""
    model = network(depth=2)
    model.cells[0].bias[1, 9] = torch.nan
    with pytest.raises(InvalidInputError, match="gate along sequence 1 is not finite"):
        gate_activity(model, rolls(1))


@given(N=st.integers(2, 60), length=st.integers(1, 20), max_tokens=st.integers(1, 70))
def test_stretches_predict_each_token_once_and_in_order(N, length, max_tokens):
    parts = stretches(np.asarray(np.arange(N)), length=length, max_tokens=max_tokens)
    predicted = np.concatenate([part[1:] for part in parts])
    assert predicted.tolist() == list(range(1, min(N, max_tokens + 1)))
    assert all(len(part) == length + 1 for part in parts[:-1])
    assert all(len(part) > 1 and (np.diff(part) == 1).all() for part in parts)


@pytest.mark.parametrize(
    "tokens",
    [
        pytest.param(np.zeros((2, 2), int), id="two axes"),
        pytest.param(np.zeros(3), id="floats"),
        pytest.param(np.array(["a", "b"]), id="words"),
    ],
)
def test_a_text_is_an_array_of_whole_numbers(tokens):
    for cut in (stretches, lambda tokens: excerpts(tokens, WORDS, length=2)):
        with pytest.raises(InvalidInputError, match=r"^tokens is .*ids of tokens"):
            cut(tokens)


def test_the_figure_of_gates_shows_two_sequences_unless_pieces_are_chosen():
    assert gate_activity(network(depth=2), rolls(3, 4, 5)).shown == 2


@pytest.mark.parametrize(
    ("lengths", "panels"),
    [
        pytest.param((3, 9, 4, 6, 5), 4, id="five sequences"),
        pytest.param((3, 9), 2, id="two sequences"),
    ],
)
def test_a_map_has_the_gates_by_the_equation_of_the_first_four_sequences(lengths, panels):
    """Layers are rows, from below, and colours go from 0 to 1."""
    model, pieces = network(depth=2, layers=2), rolls(*lengths)
    figure = gate_activity(model, pieces).figure(kind="map")
    figure.draw_without_rendering()
    axes = [ax for ax in figure.axes if ax.images]
    assert len(axes) == panels
    for letter, number, piece, ax in zip("ABCD", range(1, 5), pieces, axes, strict=False):
        (image,) = ax.images
        gates = gates_by_loop(model.cells, torch.from_numpy(piece).double())
        assert np.allclose(image.get_array(), gates.mean(2), atol=1e-13)
        assert (image.get_clim(), image.origin) == ((0, 1), "lower")
        assert ax.get_title("left") == f"{letter}: sequence {number}"
        assert [tick.get_text() for tick in ax.get_yticklabels() if tick.get_text()] == [
            "1.1", "1.2", "2.1", "2.2",
        ]  # fmt: skip


def test_a_map_shows_every_chosen_sequence():
    found = replace(gate_activity(network(depth=2), rolls(*[3] * 7)), shown=6)
    assert sum(bool(ax.images) for ax in without_layout(found, kind="map").axes) == 6


def test_an_unknown_kind_of_figure_is_refused():
    with pytest.raises(InvalidInputError, match="kind is 'maps': expected curves or map"):
        gate_activity(network(), rolls(3)).figure(kind="maps")


def test_excerpts_are_spread_over_the_text():
    text = np.asarray(np.arange(100) % len(WORDS))
    spread = excerpts(text, WORDS, length=6, split="valid")
    for part, start in zip(spread, (0, 25, 50, 75), strict=True):
        assert part.name == f"valid-{start}" and part.tolist() == text[start : start + 6].tolist()
    assert [len(part) for part in excerpts(text, WORDS, length=70)] == [70], "only one fits"


def test_bytes_are_shown_as_characters_or_numbers():
    excerpt = Excerpt([10, 31, 32, 126, 127], name="a", vocabulary=Vocabulary("bytes", range(256)))
    assert excerpt.symbols == ["\n", "1f", " ", "~", "7f"]
