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
from tests.rhn.texts import EVERYTHING, SMALL, finish, small_corpus, text_trainer

MUSIC = shortest_chorales(37)
# the draws of dropout are the device's own
DRAWS = ("drop_embedding", "drop_input", "drop_hidden", "drop_output", "drop_candidate")
STILL = dict.fromkeys(DRAWS, 0.0)
begin_chorales = partial(chorale_trainer, corpus=MUSIC)
begin_text = partial(text_trainer, replace(EVERYTHING, epochs=2), small_corpus(20))


class FakeGraphs:
    """Calls the first function of a key, and puts its results where its first results are."""

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


each_training = pytest.mark.parametrize(
    "begin", [begin_chorales, begin_text], ids=["chorales", "text"]
)


@each_training
def test_a_training_is_the_same_if_each_step_overwrites_the_results_of_the_one_before(
    begin, monkeypatch
):
    monkeypatch.setattr("rhn.training.evaluation.WINDOW", 9)
    plain = finish(begin(range(2)))
    monkeypatch.setattr(graphs, "_Graphs", FakeGraphs)
    for module in ("trainer", "chorales", "evaluation"):
        monkeypatch.setattr(
            f"rhn.training.{module}.captured",
            lambda function, _, changes=(): captured(function, torch.device("cuda"), changes),
        )
    graphed = finish(begin(range(2)))
    for n in plain.numbers:
        np.testing.assert_array_equal(graphed.curve(n), plain.curve(n))
        pairs = zip(plain.model(n).parameters(), graphed.model(n).parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


def test_on_a_gpu_ended_trials_are_removed_when_they_are_half_of_all(monkeypatch):
    monkeypatch.setattr(graphs, "_Graphs", FakeGraphs)
    trainer = begin_chorales(range(4))
    trainer.task.device = torch.device("cuda")
    for place, numbers in ((1, [0, 1, 2, 3]), (2, [0, 3])):
        trainer._extend({place: [np.nan, np.nan]})
        trainer._drop_ended()
        assert trainer.numbers == numbers


@each_training
def test_a_training_that_is_dropped_is_gone_at_once(begin, no_garbage_collector):
    """A study's next swarm needs its memory before the garbage collector comes by."""
    trainer = finish(begin(range(2)))
    kept = [weakref.ref(trainer), weakref.ref(next(iter(trainer._trials.tensors.values())))]
    del trainer
    assert [ref() for ref in kept] == [None, None]


@pytest.fixture
def no_garbage_collector():
    # the first gradient loads parts of torch, and the frames of its callers stay
    torch.func.grad(torch.sin)(torch.zeros(()))
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.gpu
@pytest.mark.parametrize(
    "begin",
    [
        *(partial(begin_chorales, cell=cell) for cell in ("rhn", "dts-rnn")),
        *(partial(text_trainer, replace(c, **STILL), small_corpus()) for c in (SMALL, EVERYTHING)),
    ],
    ids=["rhn", "dts-rnn", "text", "text with everything"],
)
def test_a_gpu_trains_and_resumes_as_the_cpu_does(begin):
    on_gpu = partial(begin, (0, 1), device="cuda")
    cpu, gpu, broken = finish(begin((0, 1))), finish(on_gpu()), on_gpu()
    for _ in range(7):
        broken.run_step()
    resumed = finish(on_gpu(saved={n: broken.state(n) for n in (0, 1)}))
    for n in (0, 1):
        np.testing.assert_allclose(gpu.curve(n)[:, :2], cpu.curve(n)[:, :2], rtol=1e-3)
        np.testing.assert_allclose(resumed.curve(n), gpu.curve(n), rtol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize(
    "options", [{"depth": 2, "tied": True}, {"layers": 2}, {"cell": "lstm"}], ids=str
)
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
    for begin in (partial(begin_chorales, hidden_size=400), begin_text):
        left = []
        for _ in range(4):
            begin(range(8), device="cuda").run_epoch()
            torch.cuda.empty_cache()
            left.append(torch.cuda.mem_get_info()[0])
        assert min(left[1:]) >= left[0] - (16 << 20)
