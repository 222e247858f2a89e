"""A check of trainings on next frames: targets `x[1:]` for the inputs `x[:-1]`."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from gersgorin import check
from gersgorin.checking.prediction import TrainingCheck
from gersgorin.loading.sources import chorale_excerpts
from rhn.data import chorales
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel


def model(**options) -> PolyphonicModel:
    return PolyphonicModel(**options, generator=torch.Generator().manual_seed(1))


def own(cell: str, **options) -> PolyphonicModel:
    return model(cell=cell, hidden_size=8, input_size=5, output_size=5, **options)


def rolls() -> torch.Tensor:
    return (
        (torch.rand(12, 64, 5, generator=torch.Generator().manual_seed(0)) < 0.3)
        .float()
        .repeat_interleave(2, 0)
    )


def nats(output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The mean over frames of the Bernoulli loss of all keys."""
    costs = nn.functional.binary_cross_entropy_with_logits(output, y, reduction="none")
    return costs.sum(-1).mean()


def check_frames(model: PolyphonicModel, rate: float) -> TrainingCheck:
    x, optimizer = rolls(), torch.optim.SGD(model.parameters(), rate, momentum=0.9)
    options = {"batch_axis": 1, "steps": 300, "seconds": 600}
    return check(model, x[:-1], x[1:], nats, optimizer, **options)


def test_a_deep_transition_with_tiny_weights_stays_and_a_highway_network_leaves():
    assert check_frames(own("dt-rnn", depth=6, init="gaussian:1e-4"), 0.1).outcome == "stays"
    quick = check_frames(own("rhn", depth=2, init="gaussian:1e-4"), 1.0)
    assert quick.outcome == "leaves"
    assert (quick.optimizer, quick.steps_per_epoch) == ("SGD", 2)


def test_excerpts_of_the_chorales_are_as_long_as_each_other_and_begin_at_different_frames():
    x, pieces = chorale_excerpts(), chorales().train
    assert x.shape == (25, len(pieces), 88)
    for k in (0, 1, 7):
        start = 5 * k % (len(pieces[k]) - 24)
        assert np.array_equal(x[:, k], pieces[k][start : start + 25])


def test_pieces_shorter_than_the_excerpts_are_left_out(tmp_path):
    notes = [[60 + k % 5, 70] for k in range(30)]
    path = tmp_path / "chorales.json"
    for lengths, shape in {(30, 6, 26): (25, 2, 88), (4, 6): (6, 1, 88)}.items():
        pieces = [notes[:n] for n in lengths]
        path.write_text(json.dumps({"train": pieces, "valid": pieces, "test": pieces}))
        assert chorale_excerpts(path).shape == shape


def test_words_are_checked_on_what_follows():
    words, ids = LanguageModel("rnn", vocabulary_size=7, hidden_size=4), torch.arange(60) % 7
    ids, optimizer = ids.view(20, 3), torch.optim.SGD(words.parameters(), 1.0)
    found = check(words, ids[:-1], ids[1:], "cross-entropy", optimizer, batch_axis=1, steps=40)
    assert found.name == "rnn, 4 units" and found.constant_loss == pytest.approx(
        np.log(7), rel=0.05
    )


def test_targets_are_never_guessed():
    model = own("rnn")
    with pytest.raises(InvalidInputError, match="loss_fn is missing"):
        check(model, rolls(), learning_rate=0.1)
    with pytest.raises(InvalidInputError, match="y is missing"):
        check(model, rolls(), None, nats, torch.optim.SGD(model.parameters(), 0.1))
