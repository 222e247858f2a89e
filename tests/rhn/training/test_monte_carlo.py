"""Monte-Carlo dropout equals a loop over single samples in plain Python numbers, and what follows
from averaging probabilities.
"""

import math
import statistics

import numpy as np
import pytest
import torch
from cases import randomize

from rhn.models import LanguageModel
from rhn.models.dropout import Dropout, Masks, draw_masks
from rhn.training.ensemble import seeded
from rhn.training.evaluation import score
from rhn.training.monte_carlo import monte_carlo_score

V, N = 5, 24
ALL = Dropout(embedding=0.3, input=0.4, hidden=0.3, output=0.4)
CASES = {
    "rhn": ({"depth": 2}, ALL),
    "rhn-masks-apart": ({"depth": 2}, Dropout(input=0.4, hidden=0.3, gate_masks="separate")),
    "rhn-candidate": ({"depth": 2}, Dropout(embedding=0.3, candidate=0.4)),
    "rhn-stacked-tied": ({"layers": 2, "tied": True}, ALL),
    "lstm": ({"cell": "lstm"}, ALL),
}


@pytest.mark.parametrize(("options", "dropout"), CASES.values(), ids=CASES)
def test_it_is_a_loop_over_single_samples(options, dropout):
    model, text = random_model(**options), random_text()
    got = monte_carlo_score(model, text, dropout, samples=4, window=7, rows=3, seed=3)
    wanted = naive_nll(naive_samples(model, text, dropout, 4, window=7, seed=3))
    assert got.nll == pytest.approx(wanted, rel=1e-12)
    assert got.nll != pytest.approx(score(model, text).nll, rel=1e-9)


def test_the_progress_counts_the_tokens_of_all_samples():
    calls, model = [], random_model()
    progress = {"progress": lambda *call: calls.append(call)}
    monte_carlo_score(model, random_text(20), ALL, samples=10, window=7, rows=4, **progress)
    assert calls == sorted(calls) and calls[-1] == (10 * 19, 10 * 19)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("options", "dropout"), [CASES[name] for name in ("rhn", "lstm")], ids=["rhn", "lstm"]
)
def test_a_gpu_scores_alike_with_its_graphs(options, dropout):
    model, text = random_model(**options), random_text(200)
    wanted, found = (
        monte_carlo_score(model, text, dropout, samples=5, rows=2, device=device).nll
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


def naive_samples(model, text, dropout, samples, *, window, seed):
    """P(token) of each sample, lists of numbers, read step by step."""
    probabilities = []
    for sample in range(samples):
        states, found = None, []
        for t in range(len(text) - 1):
            part = t // window
            words = torch.from_numpy(text[part * window : (part + 1) * window]).view(-1, 1)
            drawn = draw_masks(model, words, dropout, seeded(seed, sample, part))
            word = drawn.embedding
            if word is not None:
                word = word[t % window].view(1, 1)
            masks = Masks(word, drawn.cells, drawn.output)
            reading = model(torch.from_numpy(text[t : t + 1]).view(1, 1), states, masks)
            states = reading.states
            odds = [math.exp(z) for z in reading.logits.flatten().tolist()]
            found.append(odds[text[t + 1]] / sum(odds))
        probabilities.append(found)
    return probabilities


def naive_nll(samples):
    return statistics.mean(-math.log(statistics.mean(p)) for p in zip(*samples, strict=True))
