"""A check without targets trains on the next frames by SGD."""

import numpy as np
import pytest
import torch
from torch import nn

from gersgorin import check
from gersgorin.training.frames import next_frames
from rhn.models import LanguageModel, PolyphonicModel


def model(**options) -> PolyphonicModel:
    return PolyphonicModel(**options, generator=torch.Generator().manual_seed(1))


def waves(T: int = 20, B: int = 2) -> torch.Tensor:
    return torch.sin(torch.arange(T * B * 3).reshape(T, B, 3) / 5.0)


def own(cell: str, **options) -> PolyphonicModel:
    return model(cell=cell, hidden_size=8, input_size=5, output_size=5, **options)


def rolls() -> torch.Tensor:
    return (
        (torch.rand(12, 64, 5, generator=torch.Generator().manual_seed(0)) < 0.3)
        .float()
        .repeat_interleave(2, 0)
    )


def test_a_deep_transition_with_tiny_weights_stays_and_a_highway_network_leaves():
    stuck = check(
        own("dt-rnn", depth=6, init="gaussian:1e-4"),
        rolls(),
        learning_rate=0.1,
        steps=300,
        seconds=600,
    )
    assert stuck.outcome == "stays"
    quick = check(
        own("rhn", depth=2, init="gaussian:1e-4"),
        rolls(),
        learning_rate=1.0,
        steps=300,
        seconds=600,
    )
    assert quick.outcome == "leaves"
    assert (quick.optimizer, quick.steps_per_epoch) == ("SGD", 2)


def test_the_loss_of_next_frames_is_the_mean_over_real_ones():
    pieces = [np.eye(5)[[0, 1, 2]], np.eye(5)[[0, 1, 2, 3, 4]]]
    network = own("rnn")
    x, y, loss = next_frames(network, pieces)
    assert x.shape == (4, 2, 5) and x.dtype == torch.float32
    costs = [network.nll(torch.from_numpy(p).float().unsqueeze(1)).flatten() for p in pieces]
    torch.testing.assert_close(loss(network(x), y), torch.cat(costs).mean())
    words = LanguageModel("rnn", vocabulary_size=7, hidden_size=4)
    # at padding, too
    assert x.min() == next_frames(words, [[1, 2, 3], [3, 4, 5, 6, 0]])[0].min() == 0


def test_words_and_modules_are_checked_on_what_follows():
    words = LanguageModel("rnn", vocabulary_size=7, hidden_size=4)
    found = check(words, torch.arange(60).remainder(7).view(20, 3), learning_rate=1.0, steps=40)
    assert found.name == "rnn, 4 units" and found.constant_loss == pytest.approx(
        np.log(7), rel=0.05
    )
    module = nn.Sequential(nn.GRU(3, 3))
    assert (
        check(module, waves(), learning_rate=0.1, loss_fn="squared", steps=40).steps_per_epoch == 1
    )
