"""What surrounds a CUDA graph, shown on a CPU: a graph reads its inputs where they first were, and writes its results there again."""

import numpy as np
import pytest
import torch
from cases import randomize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from rhn.data.text import Tokens
from rhn.engine import graphs
from rhn.engine.graphs import captured
from rhn.engine.stack import Stack
from rhn.language import evaluation
from rhn.language.evaluation import stack_nll
from rhn.models.language import LanguageModel

CUDA = torch.device("cuda")


class FakeGraphs:
    """Calls the function that it got first for a key, and puts what that returns where its first results are."""

    def __init__(self, changes):
        self.recorded = {}

    def replay(self, key, function):
        if key not in self.recorded:
            self.recorded[key] = function, function()
        function, results = self.recorded[key]
        for place, new in zip(tree_flatten(results)[0], tree_flatten(function())[0], strict=True):
            if place is not None:
                place.copy_(new)
        return results


class Operations(TorchDispatchMode):
    """The operations called meanwhile."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def fake_graphs(monkeypatch):
    monkeypatch.setattr(graphs, "_Graphs", FakeGraphs)


def test_elsewhere_than_on_a_gpu_a_captured_function_is_the_function():
    assert captured(negated, torch.device("cpu")) is negated
    assert captured(negated, CUDA) is not negated


def test_every_call_is_of_what_it_was_given():
    call = captured(negated, CUDA)
    for scale, length in [(1, 3), (2, 3), (3, 5), (4, 3), (5, 5)]:
        x = scale * torch.arange(1.0, length + 1)
        y, (z, nothing) = call(x, (x + 1, None))
        assert y.tolist() == (-x).tolist()
        assert z.tolist() == (-x - 1).tolist()
        assert nothing is None


def test_a_tree_without_one_of_its_tensors_is_captured_apart():
    call = captured(lambda x, mask: -x if mask is None else -x * mask, CUDA)
    x, mask = torch.ones(3), torch.tensor([0.0, 1.0, 2.0])
    assert call(x, None).tolist() == [-1, -1, -1]
    assert call(x, mask).tolist() == [0, -1, -2]
    assert call(x, None).tolist() == [-1, -1, -1]


def test_what_is_given_stays_as_it_was():
    x = torch.ones(3)
    captured(lambda x: x.mul_(2), CUDA)(x)
    assert x.tolist() == [1, 1, 1]


def test_places_for_the_inputs_are_made_once_a_shape():
    call = captured(lambda x: torch.neg(x), CUDA)
    names = []
    for length in (3, 3, 5, 3, 5):
        x = torch.ones(length)
        with Operations() as called:
            call(x)
        names.append([name for name in called.names if name not in ("neg", "copy_")])
    assert names[0] == names[2] != []
    assert names[1] == names[3] == names[4] == []


def test_a_result_may_be_what_the_next_call_is_given():
    call, x = captured(lambda x: x + 1, CUDA), torch.zeros(2)
    for _ in range(5):
        x = call(x)
    assert x.tolist() == [5, 5]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_a_text_is_scored_alike_where_each_window_overwrites_the_one_before(monkeypatch, temperature):
    models = [LanguageModel(vocabulary_size=5, hidden_size=6, layers=2, dtype=torch.float64) for _ in range(2)]
    for seed, model in enumerate(models):
        randomize(model, seed)
    rows = Tokens(np.random.default_rng(1).integers(5, size=100)).rows(2)
    wanted = stack_nll(Stack.of(models), rows, window=9, temperature=temperature)
    devices = []

    def as_on_a_gpu(function, device):
        devices.append(device.type)
        return captured(function, CUDA)

    monkeypatch.setattr(evaluation, "captured", as_on_a_gpu)
    assert torch.equal(stack_nll(Stack.of(models), rows, window=9, temperature=temperature), wanted)
    assert devices == ["cpu"]


def negated(x, more):
    return -x, tuple(None if t is None else -t for t in more)
