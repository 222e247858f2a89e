"""Monte-Carlo dropout equals a loop over single samples in plain Python numbers, and what follows
from averaging probabilities.
"""

import functools
import math
import statistics

import numpy as np
import pytest
import torch
from cases import randomize

from rhn.errors import InvalidInputError
from rhn.models.dropout import Dropout, Masks, draw_masks
from rhn.models.networks import LanguageModel
from rhn.training.ensemble import seeded
from rhn.training.evaluation import score
from rhn.training.monte_carlo import ACCEPTED, monte_carlo_score

V, N = 5, 24
ALL = Dropout(embedding=0.3, input=0.4, hidden=0.3, output=0.4)
CASES = {
    "rhn": ({"depth": 2}, ALL),
    "rhn-masks-apart": ({"depth": 2}, Dropout(input=0.4, hidden=0.3, gate_masks="separate")),
    "rhn-candidate": ({"depth": 2}, Dropout(embedding=0.3, candidate=0.4)),
    "rhn-stacked-tied": ({"layers": 2, "tied": True}, ALL),
    "lstm": ({"cell": "lstm"}, ALL),
}


per_window = functools.partial(monte_carlo_score, window=7)
official = functools.partial(monte_carlo_score, window=None)
both_ways = pytest.mark.parametrize(
    "evaluate", [per_window, official], ids=["per-window", "official"]
)


@both_ways
@pytest.mark.parametrize(("options", "dropout"), CASES.values(), ids=CASES)
def test_it_is_a_loop_over_single_samples(options, dropout, evaluate):
    model, text = random_model(**options), random_text()
    how = {"seed": 3, "temperature": 0.8}
    got = evaluate(model, text, dropout, samples=4, rows=3, **how)
    wanted = naive_nll(
        naive_samples(model, text, dropout, 4, window=7 if evaluate is per_window else None, **how)
    )
    assert got.nll == pytest.approx(wanted, rel=1e-12)
    assert got.nll != pytest.approx(score(model, text, temperature=0.8).nll, rel=1e-9)


def test_the_official_way_draws_again_what_sees_no_word():
    """Half of the samples have no embedding, and then are sure of the wrong symbol; the others are
    sure of the right one.
    """
    model, text = model_that_needs_its_embedding(), np.asarray(np.arange(20) % 2)
    calls, dropout = [], Dropout(embedding=0.5)
    told = {"progress": lambda *call: calls.append(call)}
    result = official(model, text, dropout, samples=10, rows=4, **told)
    assert result.nll < 1e-6
    assert monte_carlo_score(model, text, dropout, samples=10).nll > 0.1
    done, total = calls[-1]
    assert done == total > 10 * 19
    assert result.redrawn == total // 19 - 10 > 0
    assert calls == sorted(calls)


def test_samples_that_are_all_rejected_are_an_error():
    model, text = model_that_needs_its_embedding(), np.asarray(np.arange(20) % 2)
    with pytest.raises(
        InvalidInputError, match=r"\d+ samples in a row have a perplexity of 500 or more"
    ):
        official(model, text, Dropout(embedding=0.9999), samples=2)


@pytest.mark.gpu
@both_ways
@pytest.mark.parametrize(
    ("options", "dropout"), [CASES[name] for name in ("rhn", "lstm")], ids=["rhn", "lstm"]
)
def test_a_gpu_scores_alike_with_its_graphs(options, dropout, evaluate):
    model, text = random_model(**options), random_text(200)
    wanted, found = (
        evaluate(model, text, dropout, samples=5, rows=2, device=device).nll
        for device in ("cpu", "cuda")
    )
    assert found == pytest.approx(wanted, rel=1e-9)


def random_text(length=N):
    return np.asarray(np.random.default_rng(4).integers(V, size=length))


def random_model(hidden_size=6, **options):
    model = LanguageModel(
        vocabulary_size=V, hidden_size=hidden_size, dtype=torch.float64, **options
    )
    randomize(model, gain=2)
    return model


def model_that_needs_its_embedding():
    """Symbols 0 and 1 predict each other with 40 nats to spare; without an embedding, symbol 2 has
    20 to spare.
    """
    model = LanguageModel(
        "rnn", vocabulary_size=3, hidden_size=1, embedding_size=1, dtype=torch.float64
    )
    values = {
        "weight_ih": [[20.0]],
        "embedding": [[1.0], [-1.0], [0.0]],
        "output_weight": [[-60.0], [60.0], [0.0]],
    }
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(
                torch.tensor(values.get(name.removeprefix("cells.0."), 0.0), dtype=p.dtype).expand(
                    p.shape
                )
            )
        model.output_bias[2] = 20
    return model


def naive_samples(model, text, dropout, samples, *, window=None, seed=0, temperature=1.0):
    """P(token) of each sample, lists of numbers, read step by step; masks of one step for all of
    them where there is no window.
    """
    probabilities, sample = [], -1
    while len(probabilities) < samples:
        sample, states, found = sample + 1, None, []
        for t in range(len(text) - 1):
            part = t // window if window else 0
            words = text[part * window : (part + 1) * window] if window else text[:1]
            drawn = draw_masks(
                model, torch.from_numpy(words).view(-1, 1), dropout, seeded(seed, sample, part)
            )
            word = drawn.embedding
            if word is not None:
                word = word[t % window if window else 0].view(1, 1)
            masks = Masks(word, drawn.cells, drawn.output)
            reading = model(torch.from_numpy(text[t : t + 1]).view(1, 1), states, masks)
            states = reading.states
            odds = [math.exp(z / temperature) for z in reading.logits.flatten().tolist()]
            found.append(odds[text[t + 1]] / sum(odds))
        if window or math.exp(-statistics.mean(map(math.log, found))) < ACCEPTED:
            probabilities.append(found)
    return probabilities


def naive_nll(samples):
    return statistics.mean(-math.log(statistics.mean(p)) for p in zip(*samples, strict=True))
