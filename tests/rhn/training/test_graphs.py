"""CUDA graphs: what surrounds one, shown on a CPU (a graph reads its inputs where they first were,
and writes its results there again), and trainings and scores on a GPU.
"""

import gc
import weakref
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from cases import randomize
from tables import for_each
from torch.utils._pytree import tree_flatten

from rhn.data.text import in_rows
from rhn.models import LanguageModel
from rhn.models.dropout import Dropout
from rhn.training import graphs
from rhn.training.ensemble import Ensemble
from rhn.training.evaluation import ensemble_nll
from rhn.training.graphs import captured
from rhn.training.monte_carlo import monte_carlo_score
from tests.rhn.pieces import chorale_trainer, shortest_chorales
from tests.rhn.texts import SMALL, finish, small_corpus, text_trainer

MUSIC = shortest_chorales(37)
# without dropout, whose draws are the device's own; windows of many lengths
STILL = {f"drop_{place}": 0.0 for place in ("embedding", "input", "hidden", "output")}
VARYING = replace(SMALL, vary_window=True, averaging=1, activation_regularization=0.1, layers=2)
begin_chorales = partial(chorale_trainer, range(2), MUSIC, epochs=3)
begin_text = partial(text_trainer, replace(VARYING, epochs=2), small_corpus(20), (0, 1))


class FakeGraphs:
    """Calls the function that it got first for a key, and puts what that returns where its first
    results are.
    """

    def __init__(self, changes, device):
        self.recorded, self.changes = {}, changes

    def replay(self, key, function):
        if key not in self.recorded:
            before = [t.clone() for t in self.changes]
            self.recorded[key] = function, function()
            for t, value in zip(self.changes, before, strict=True):
                t.copy_(value)
        function, results = self.recorded[key]
        for place, new in zip(tree_flatten(results)[0], tree_flatten(function())[0], strict=True):
            if place is not None:
                place.copy_(new)
        return results


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Functions are captured as on a GPU, by graphs that are not."""
    monkeypatch.setattr(graphs, "_Graphs", FakeGraphs)
    for module in ("trainer", "chorales", "evaluation"):
        monkeypatch.setattr(
            f"rhn.training.{module}.captured",
            lambda function, _, changes=(): captured(function, torch.device("cuda"), changes),
        )


@pytest.fixture(params=[begin_chorales, begin_text])
def begin(request):
    return request.param


def test_a_training_is_the_same_if_each_step_overwrites_the_results_of_the_one_before(
    begin, request, monkeypatch
):
    monkeypatch.setattr("rhn.training.evaluation.WINDOW", 9)
    plain = finish(begin())
    request.getfixturevalue("as_on_a_gpu")
    graphed = finish(begin())
    for n in plain.numbers:
        np.testing.assert_array_equal(graphed.curve(n), plain.curve(n))
        pairs = zip(plain.model(n).parameters(), graphed.model(n).parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


def test_a_training_that_is_dropped_is_gone_at_once(begin, no_garbage_collector):
    """A study's next swarm needs its memory before the garbage collector comes by."""
    trainer = finish(begin())
    kept = [weakref.ref(trainer), weakref.ref(next(iter(trainer._trials.tensors.values())))]
    del trainer
    assert [ref() for ref in kept] == [None, None]


@pytest.fixture
def no_garbage_collector():
    torch.func.grad(torch.sin)(
        torch.zeros(())
    )  # the first gradient loads parts of torch, and the frames of its callers stay
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# ---- on a GPU ------------------------------------------------------------------------------------


@pytest.mark.gpu
@for_each("cell", ["rhn", "dts-rnn"])
def test_a_gpu_trains_and_resumes_chorales_as_the_cpu_does(cell):
    rates, how = dict.fromkeys(range(5), 0.1), {"cell": cell, "epochs": 8, "patience": 2}
    cpu = finish(chorale_trainer(rates, MUSIC, rates=rates, **how))
    begin = partial(chorale_trainer, rates, MUSIC, rates=rates, device="cuda", **how)
    gpu, broken = finish(begin()), begin()
    for _ in range(7):
        broken.run_step()
    resumed = finish(begin(saved={n: broken.state(n) for n in rates}))
    for n in rates:
        np.testing.assert_allclose(gpu.curve(n), cpu.curve(n), rtol=1e-4)
        np.testing.assert_allclose(resumed.curve(n), gpu.curve(n), rtol=1e-4)


@pytest.mark.gpu
@for_each("config", [SMALL, VARYING])
def test_a_gpu_trains_a_text_as_the_cpu_does(config):
    begin = partial(text_trainer, replace(config, **STILL), small_corpus())
    cpu, gpu = finish(begin()), finish(begin((0, 1), device="cuda"))
    np.testing.assert_allclose(gpu.curve(0)[:, :2], cpu.curve(0)[:, :2], rtol=1e-3)


@pytest.mark.gpu
@for_each("options", [{"depth": 2, "tied": True}, {"layers": 2}, {"cell": "lstm"}])
def test_a_gpu_scores_texts_as_the_cpu_does(options):
    models = [LanguageModel(vocabulary_size=6, hidden_size=7, **options).double() for _ in "abc"]
    for seed, model in enumerate(models):
        randomize(model, seed, gain=2)
    text = np.random.default_rng(4).integers(6, size=400)
    dropout = Dropout(embedding=0.3, input=0.4, hidden=0.3, output=0.4)
    cpu, gpu = (
        [
            *ensemble_nll(Ensemble.of(models, device), in_rows(text, 2)).tolist(),
            monte_carlo_score(models[0], text, dropout, samples=5, rows=2, device=device).nll,
        ]
        for device in ("cpu", "cuda")
    )
    assert gpu == pytest.approx(cpu, rel=1e-9)


@pytest.mark.gpu
def test_four_trainings_one_after_another_take_no_more_memory_than_one(no_garbage_collector):
    """Measured on the whole card, graphs included: it needs the card to itself."""
    for begin in (partial(chorale_trainer, range(8), MUSIC, hidden_size=400), begin_text):
        left = []
        for _ in range(4):
            begin(device="cuda").run_epoch()
            torch.cuda.empty_cache()
            left.append(torch.cuda.mem_get_info()[0])
        assert min(left[1:]) >= left[0] - (16 << 20)
