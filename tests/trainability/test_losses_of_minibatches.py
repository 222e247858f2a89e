"""A loss that compares the examples of a minibatch is scored in minibatches of the user's size."""

import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from trainability.check import check
from trainability.data import count_of
from trainability.probe import Probe
from trainability.race import UNCHANGED, Row, race_of
from trainability.training import Training
from trainability.verdict import error_on

G = torch.Generator().manual_seed(0)
N, T = 600, 5
X = torch.randn(N, T, 3, generator=G)
TIMES = (X.mean((1, 2)) + 0.1 * torch.randn(N, generator=G)).exp().unsqueeze(1)
HELD_OUT = 100


def cox(z, y):
    """The negative log partial likelihood (Cox, 1972), without censoring."""
    order = y.squeeze(1).argsort(descending=True)
    z = z.squeeze(1)[order]
    return (z.logcumsumexp(0) - z).mean()


def of_constant(size):
    """The loss of equal outputs, by arithmetic: the mean logarithm of 1, 2, ..., size."""
    return math.lgamma(size + 1) / size


def training_of(loss_fn, batch_size, y=TIMES, **parts):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * T, 1))
    return Training(model, X, y, loss_fn, "adam", batch_size=batch_size, **parts)


def race_by(training):
    return race_of(training, Probe(training))


def sizes(race):
    return [count_of(pair, 0) for pair in race.pairs]


@pytest.mark.parametrize("size", [8, 32])
def test_a_loss_that_compares_examples_is_scored_in_minibatches_of_the_users_size(size):
    race = race_by(training_of(cox, size))
    assert sizes(race) == [size] * (HELD_OUT // size)
    score = race.scores["error"]
    assert score.of_best_constant == pytest.approx(of_constant(size), rel=1e-3)
    assert "minibatches" not in score.meaning


def test_the_size_is_stated_if_too_few_examples_are_held_out_for_that_of_the_user():
    race = race_by(training_of(cox, 64))
    assert sizes(race) == [33, 33, 33]
    score = race.scores["error"]
    assert score.of_best_constant == pytest.approx(of_constant(33), rel=1e-3)
    assert score.meaning.startswith("your loss in minibatches of 33 examples, from its least value")


def test_examples_of_a_loader_are_scored_in_minibatches_of_its_size():
    loader = DataLoader(TensorDataset(X[:400], TIMES[:400]), batch_size=25)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * T, 1))
    race = race_by(Training(model, loader, None, cox, "adam"))
    assert set(sizes(race)) == {25}


@pytest.mark.parametrize(
    "loss_fn", [nn.MSELoss(), nn.PoissonNLLLoss(), nn.MSELoss(reduction="sum")]
)
def test_other_errors_are_measured_on_all_held_out_examples(loss_fn):
    race = race_by(training_of(loss_fn, 32))
    assert sum(sizes(race)) == HELD_OUT and max(sizes(race)) == 7


def test_a_loss_that_adds_up_examples_is_scored_in_minibatches_of_the_users_size():
    race = race_by(training_of(nn.PoissonNLLLoss(reduction="sum"), 32))
    y = torch.cat([y for _, y in race.pairs])
    mean = float(TIMES.mean())
    assert sizes(race) == [32, 32, 32]
    found = 32 * float(y.mean() * -math.log(mean) + mean)
    assert race.scores["error"].of_best_constant == pytest.approx(found, rel=0.02)


def test_errors_on_other_examples_are_measured_in_the_same_size():
    """Of one trained network, on examples of one distribution."""
    training = training_of(cox, 32)
    race, row = race_by(training), Row(UNCHANGED, training)
    race.train(row, 200, math.inf)
    whole, alone = ([(X[k : k + n], TIMES[k : k + n]) for k in range(0, N, n)] for n in (32, 2))
    again = error_on(training, race, alone)
    assert again == error_on(training, race, whole[:-1])
    assert again == pytest.approx(row.error, abs=0.1)


def test_a_check_states_the_size_of_its_minibatches():
    found = check(training_of(cox, 64, steps=50), seconds=100)
    assert "in minibatches of 33 examples" in str(found)


@pytest.mark.parametrize("y", [TIMES, (TIMES > 1).long().squeeze(1)], ids=["numbers", "classes"])
def test_a_loss_that_compares_examples_is_never_evaluated_on_more_of_them(y):
    """As a loss over all triplets of a minibatch, whose time grows with the cube of its size."""
    most = []

    def contrastive(z, y):
        most.append(len(z))
        apart, alike = (z[:, None] - z).square().sum(-1), y.reshape(-1, 1) == y.reshape(-1)
        return torch.where(alike, apart, (1 - apart).relu()).mean()

    check(training_of(contrastive, 16, y, steps=40), seconds=8)
    assert max(most) == 16


def test_errors_are_not_compared_if_the_search_for_the_least_loss_runs_out_of_time():
    training = training_of(cox, 32)
    probe = Probe(training)
    race = race_of(training, probe, until=-math.inf)
    score = race.scores["error"]
    assert score.refused.startswith("no time was left to search") and score.constant is None
    row = Row(UNCHANGED, training)
    race.train(row, 5, math.inf)
    assert row.error == math.inf and not race.beats_constant(row)


def test_an_error_on_other_examples_is_not_known_if_its_search_runs_out_of_time():
    training = training_of(cox, 32)
    race = race_by(training)
    assert math.isnan(error_on(training, race, [(X, TIMES)], until=-math.inf))
