"""Losses of texts are plain sums over tokens and samples; batches and windows hold all data."""

import itertools
import math
from functools import partial
from itertools import repeat

import numpy as np
import pytest
import torch
from cases import randomize
from hypothesis import given
from hypothesis import strategies as st

from rhn.errors import DataError
from rhn.models import LanguageModel
from rhn.models.dropout import Dropout, Masks, draw_masks
from rhn.training import evaluation, monte_carlo
from rhn.training.batches import (
    CHORALE_ROWS,
    batches_of,
    constant_output_nll,
    evaluation_batches,
)
from rhn.training.evaluation import measure, score
from rhn.training.language import window_starts
from rhn.training.monte_carlo import monte_carlo_score
from rhn.utils.seeds import seeded

V = 6
MODELS = {
    "rhn": {"depth": 3},
    "rhn-stacked-tied": {"layers": 2, "tied": True},
    "lstm": {"cell": "lstm"},
    "lstm-stacked": {"cell": "lstm", "layers": 3},
}
ALL = Dropout(embedding=0.3, input=0.4, hidden=0.3, output=0.4)
WHERE = {"device": "cpu", "dtype": torch.float64}


def random_model(**options):
    model = LanguageModel(vocabulary_size=V, hidden_size=7, dtype=torch.float64, **options)
    randomize(model, gain=2)
    return model


def random_text(length):
    """All symbols occur, unequally often."""
    return (V * np.random.default_rng(3).random(length) ** 1.5).astype(np.int64)


@pytest.mark.parametrize(
    ("name", "window", "temperature"),
    [*itertools.product(MODELS, (1, 7, 64), [1.0]), *(("rhn", 64, t) for t in (1e-3, 2.0, 1e3))],
)
def test_windows_of_rows_score_what_one_unbroken_pass_over_each_row_scores(
    name, window, temperature, monkeypatch
):
    monkeypatch.setattr(evaluation, "WINDOW", window)
    model, text, done = random_model(**MODELS[name]), random_text(151), []
    rows = torch.from_numpy(text[:150]).view(2, 75).T
    log_p = (model(rows[:-1]).logits / temperature).log_softmax(-1)
    wanted = -log_p.gather(2, rows[1:].unsqueeze(2)).mean().item()
    how = {"batch_size": 2, "temperature": temperature}
    found = score(model, text, progress=lambda *counts: done.append(counts), **how)
    assert found.nll == pytest.approx(wanted, rel=1e-12)
    assert done[-1] == (148, 148) == (found.predicted, 148) and done == sorted(done)


@pytest.mark.parametrize(
    ("options", "dropout"),
    [
        *((options, ALL) for options in MODELS.values()),
        ({"depth": 2}, Dropout(input=0.4, hidden=0.3, gate_masks="separate")),
        ({"depth": 2}, Dropout(embedding=0.3, candidate=0.4)),
    ],
    ids=[*MODELS, "masks apart", "of candidates"],
)
def test_monte_carlo_dropout_is_a_loop_over_single_samples_and_steps(options, dropout):
    model, text, samples, done = random_model(**options), random_text(24), [], []
    how = {"samples": 4, "window": 7, "rows": 3, "seed": 3}
    got = monte_carlo_score(model, text, dropout, progress=lambda *n: done.append(n), **how)
    for sample in range(4):
        states, found = None, []
        for t in range(23):
            part, within = divmod(t, 7)
            words = torch.from_numpy(text[7 * part : 7 * part + 7]).view(-1, 1)
            drawn = draw_masks(model, words, dropout, seeded(3, sample, part))
            word = None if drawn.embedding is None else drawn.embedding[within].view(1, 1)
            token, masks = words[within].view(1, 1), Masks(word, drawn.cells, drawn.output)
            logits, states, *_ = model(token, states, masks)
            odds = [math.exp(z) for z in logits.flatten().tolist()]
            found.append(odds[text[t + 1]] / sum(odds))
        samples.append(found)
    wanted = -np.mean([math.log(np.mean(p)) for p in zip(*samples, strict=True)])
    assert got.nll == pytest.approx(wanted, rel=1e-12)
    assert got.nll != pytest.approx(score(model, text).nll, rel=1e-9)
    assert done[-1] == (4 * 23, 4 * 23) and done == sorted(done)


@pytest.mark.parametrize(
    ("held", "passes"),
    [
        pytest.param(2**26, 2, id="three rows"),
        pytest.param(2 * 23 + 22, 3, id="memory for nearly three rows"),
        pytest.param(1, 5, id="memory for less than one row"),
    ],
)
def test_as_many_samples_are_read_side_by_side_as_rows_and_memory_allow(held, passes, monkeypatch):
    model, text, done = random_model(), random_text(24), []
    how = {"samples": 5, "window": 23}
    wanted = monte_carlo_score(model, text, ALL, **how).nll
    monkeypatch.setattr(monte_carlo, "HELD", held)
    report = lambda *counts: done.append(counts)  # noqa: E731
    found = monte_carlo_score(model, text, ALL, rows=3, progress=report, **how)
    assert len(done) == passes and found.nll == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(
    ("nll", "name", "value"),
    [
        pytest.param(math.log(90), "perplexity", 90, id="perplexity"),
        pytest.param(699.0, "perplexity", math.exp(699), id="a large perplexity"),
        pytest.param(700.0, "perplexity", math.inf, id="an infinite perplexity"),
        pytest.param(math.nan, "perplexity", math.nan, id="no perplexity"),
        pytest.param(math.log(8), "bits_per_character", 3, id="bits"),
        pytest.param(1.5, "nll", 1.5, id="nats"),
    ],
)
def test_a_loss_in_nats_is_converted_to_the_usual_measure(nll, name, value):
    assert measure(nll, name) == pytest.approx(value, rel=1e-12, nan_ok=True)


def test_the_loss_of_the_constant_predictor_is_the_cross_entropy_of_shares():
    """The first frame is not predicted. Shares of the keys: 1/2 and 0; in `train` 1/4 and 1/2."""
    pieces = [np.array([[1, 1], [1, 0], [0, 0]])]
    train = [np.array([[1, 1], [1, 0], [0, 1]]), np.array([[1, 1], [0, 0], [0, 1]])]
    assert constant_output_nll(pieces) == pytest.approx(math.log(2))
    wanted = (math.log(4) + math.log(4 / 3)) / 2 + math.log(2)
    assert constant_output_nll(pieces, train) == pytest.approx(wanted)


@given(st.integers(2, 2000), st.integers(1, 50))
def test_windows_cover_the_text_without_gaps(columns, window):
    steps, starts = columns - 1, [*window_starts(columns, window)]
    assert starts == [k * window for k in range(steps // window)]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=75), st.integers(1, 40), st.booleans())
def test_every_piece_of_two_frames_is_in_a_batch_once_and_whole(lengths, batch_size, training):
    rng = np.random.default_rng(0)
    pieces = [rng.integers(0, 2, (length, 5), dtype=np.uint8) for length in [2, *lengths]]
    cut = partial(batches_of, sizes=repeat(batch_size)) if training else evaluation_batches
    seen = []
    for batch in cut(pieces, **WHERE):
        assert batch.frames.shape == (*batch.mask.shape, 5)
        assert batch.mask.shape[1] % CHORALE_ROWS == 0
        assert not batch.frames[batch.mask == 0].any()
        rows = zip(batch.frames.unbind(1), batch.mask.unbind(1), strict=True)
        columns = [frames[mask == 1].numpy() for frames, mask in rows if mask.any()]
        assert batch.size == sum(len(column) - 1 for column in columns)
        seen += columns
    wanted = sorted((piece for piece in pieces if len(piece) > 1), key=len, reverse=True)
    for piece, other in zip(seen, wanted, strict=True):
        np.testing.assert_array_equal(piece, other)
    with pytest.raises(DataError, match="nothing to predict"):
        cut([piece[:1] for piece in pieces], **WHERE)
