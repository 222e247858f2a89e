"""What surrounds a CUDA graph, shown on a CPU: a graph reads its inputs where they first were, and
writes its results there again.
"""

import functools
import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import randomize
from torch.utils._pytree import tree_flatten

from rhn.data.corpus import Corpus, Piece
from rhn.data.text import in_rows
from rhn.models import LanguageModel, PolyphonicModel
from rhn.presets import preset
from rhn.training import evaluation, graphs
from rhn.training.chorales import ChoraleTask
from rhn.training.ensemble import Ensemble, captured
from rhn.training.evaluation import ensemble_nll
from rhn.training.trainer import Trainer
from tests.rhn.texts import SMALL, finish, small_corpus, text_trainer

CUDA = torch.device("cuda")


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


@pytest.fixture(autouse=True)
def fake_graphs(request, monkeypatch):
    if "gpu" not in request.keywords:
        monkeypatch.setattr(graphs, "_Graphs", FakeGraphs)


def test_every_call_is_of_what_it_was_given():
    call = captured(negated, CUDA)
    for scale, length in [(1, 3), (2, 3), (3, 5), (4, 3), (5, 5)]:
        x = scale * torch.arange(1.0, length + 1)
        y, (z, nothing) = call(x, (x + 1, None))
        assert y.tolist() == (-x).tolist()
        assert z.tolist() == (-x - 1).tolist()
        assert nothing is None


def test_numbers_are_part_of_the_key():
    x = torch.zeros(2)
    call = captured(lambda i: x + i, CUDA)
    first = [call(0).clone(), call(1).clone()]
    x += 10
    assert [call(0).tolist(), call(1).tolist()] == [[10, 10], [11, 11]]
    assert [t.tolist() for t in first] == [[0, 0], [1, 1]]


def test_a_text_is_scored_alike_where_each_window_overwrites_the_one_before(monkeypatch):
    models = [
        LanguageModel(vocabulary_size=5, hidden_size=6, layers=2, dtype=torch.float64)
        for _ in range(2)
    ]
    for seed, model in enumerate(models):
        randomize(model, seed)
    rows = in_rows(np.random.default_rng(1).integers(5, size=100), 2)
    monkeypatch.setattr(evaluation, "WINDOW", 9)
    wanted = ensemble_nll(Ensemble.of(models), rows)
    devices = []

    def as_on_a_gpu(function, device):
        devices.append(device.type)
        return captured(function, CUDA)

    monkeypatch.setattr(evaluation, "captured", as_on_a_gpu)
    assert torch.equal(ensemble_nll(Ensemble.of(models), rows), wanted)
    assert devices == ["cpu"]


@pytest.mark.parametrize("begin", ["chorale_training", "text_training"])
def test_a_training_is_the_same_if_each_step_overwrites_the_results_of_the_one_before(
    begin, monkeypatch
):
    found = []
    for device in ("cpu", "cuda"):
        monkeypatch.setattr(
            "rhn.training.trainer.captured",
            lambda f, _, changes, to=device: captured(f, torch.device(to), changes),
        )
        torch.manual_seed(0)
        found.append(globals()[begin]()[0])
    for number in found[0].numbers:
        assert (found[0].curve(number) == found[1].curve(number)).all() and np.isfinite(
            found[0].curve(number)
        ).all()
        pairs = zip(*(trainer.model(number).parameters() for trainer in found), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


def negated(x, more):
    return -x, tuple(None if t is None else -t for t in more)


# ---- what keeps memory ---------------------------------------------------------------------------


@pytest.fixture
def no_garbage_collector():
    torch.func.grad(torch.sin)(
        torch.zeros(())
    )  # the first gradient loads parts of torch, and the frames of its callers stay
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def chorale_training(device="cpu", hidden_size=4, trials=2):
    rng = np.random.default_rng(0)
    pieces = [
        Piece(rng.random((20, 88)) < 0.05, name=f"p{i}", split="train", index=i) for i in range(8)
    ]
    models = {n: PolyphonicModel("rhn", hidden_size=hidden_size, depth=2) for n in range(trials)}
    corpus, config = Corpus(pieces, pieces[:2], pieces[:2], "noise"), preset("jsb-depth-2")
    trainer = Trainer(ChoraleTask(config, corpus, device), models, dict.fromkeys(models, 0.1))
    trainer.run_epoch()
    return trainer, trainer._trials.ensemble.weights["output.weight"]


def text_training(device="cpu"):
    trainer = finish(
        text_trainer(replace(SMALL, epochs=1), small_corpus(20), seeds=(0, 1), device=device)
    )
    return trainer, trainer._trials.ensemble.weights["output_bias"]


@pytest.mark.parametrize("begin", [chorale_training, text_training])
def test_a_training_that_is_dropped_is_gone_at_once(begin, no_garbage_collector):
    """A study's next swarm needs its memory before the garbage collector comes by."""
    assert [ref() for ref in [weakref.ref(thing) for thing in begin()]] == [None, None]


@pytest.mark.gpu
@pytest.mark.parametrize(
    "begin", [functools.partial(chorale_training, hidden_size=400, trials=8), text_training]
)
def test_four_trainings_one_after_another_take_no_more_memory_than_one(begin, no_garbage_collector):
    """Measured on the whole card, graphs included: it needs the card to itself."""
    left = []
    for _ in range(4):
        begin("cuda")
        torch.cuda.empty_cache()
        left.append(torch.cuda.mem_get_info()[0])
    assert min(left[1:]) >= left[0] - (16 << 20)
