"""The best constant output and the least loss of losses without a formula for either."""

import math

import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from trainability import Training, assert_learns, check, cure
from trainability.probe import Probe
from trainability.race import UNCHANGED, Row, race_of
from trainability.scores import PairedErrors

G = torch.Generator().manual_seed(0)
N = 240
X = torch.randn(N, 6, 1, generator=G)


class Last(nn.Module):
    """A GRU whose last state is read, or each of its states."""

    each = False

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.gru, self.head = nn.GRU(inputs, 16, batch_first=True), nn.Linear(16, outputs)

    def forward(self, x):
        states = self.gru(x)[0]
        return self.head(states if self.each else states[:, -1])


def mixture(z, y):
    """Negative log-likelihood of a mixture of normal distributions, with K weights, means and
    logarithms of deviations.
    """
    weights, means, logs = z.chunk(3, 1)
    logs = logs.clamp(-4, 4)
    each = weights.log_softmax(1) - logs - 0.5 * ((y - means) * torch.exp(-logs)).square()
    return 0.5 * math.log(2 * math.pi) - each.logsumexp(1).mean()


def training_of(x, y, loss_fn, outputs, steps=40, rate=0.01, each=False):
    torch.manual_seed(0)
    model = Last(x.shape[2], outputs)
    model.each = each
    return Training(model, x, y, loss_fn, torch.optim.Adam(model.parameters(), rate), steps=steps)


@pytest.mark.parametrize("centres", [(-2.0, 2.0), (-3.0, 1.0)])
def test_the_best_constant_of_a_mixture_is_no_saddle_of_equal_components(centres):
    """SciPy finds the best constant from the centres."""
    K = len(centres)
    places = torch.randint(0, K, (N,), generator=G)
    y = (torch.tensor(centres)[places] + 0.15 * torch.randn(N, generator=G))[:, None]
    training = training_of(X, y, mixture, 3 * K)
    score = race_of(training, Probe(training)).scores["error"]
    known = torch.cat([y for _, y in training.data.trained]).double()
    start = torch.tensor([*[0.0] * K, *centres, *[-2.0] * K]).double()
    best = minimize(lambda z: float(mixture(torch.tensor(z)[None], known)), start.numpy())
    ours = float(mixture(score.constant.double(), known))
    assert ours == pytest.approx(best.fun, abs=1e-3)


def three(seed):
    """Targets at one of three places, whatever the inputs are."""
    g = torch.Generator().manual_seed(seed)
    return 5.0 * (torch.randint(0, 3, (N, 1), generator=g) - 1) + 0.15 * torch.randn(
        N, 1, generator=g
    )


def test_outputs_of_a_run_give_the_constant_if_no_search_finds_one_as_low():
    """No run is better than the constant that its own mean output is, in any measurement."""
    training = training_of(X, three(0), mixture, 9, 1)
    race = race_of(training, Probe(training))
    score, row = race.scores["error"], Row(UNCHANGED, training.copy())
    score.constant = torch.zeros(1, 9)  # where a search may end: all components are equal
    race.measure(row, row.training)
    before = float(score.in_pairs(*held_outputs(race, training)).constant.mean())
    best = torch.tensor([[0.0, 0, 0, -5, 0, 5, -2, -2, -2]])
    outputs = [best.expand(len(y), 9) + 1e-3 * torch.randn(len(y), 9) for _, y in race.pairs]
    race.lower_constants(outputs)
    race.add(row, outputs)
    held = torch.cat([y for _, y in race.pairs])
    assert float(mixture(score.constant, held)) <= float(mixture(best, held)) + 0.02
    first, last = (measure.pairs["error"] for measure in row.measures)
    assert torch.equal(first.constant, last.constant) and float(last.constant.mean()) < before
    assert first.relative > 2 and row.measures[0].relative["error"] == first.relative
    assert not race.beats_constant(row)


def held_outputs(race, training):
    return training.answers([x for x, _ in race.pairs]), [y for _, y in race.pairs]


@pytest.mark.parametrize("power", [1, 2])
def test_counted_targets_that_are_all_equal_leave_nothing_to_learn(power):
    """The mask is inverted: the loss counts only values that are missing, which are all 0."""
    g = torch.Generator().manual_seed(0)
    seen = (torch.rand(N, 6, 1, generator=g) < 0.75).float()
    x = torch.randn(N, 6, 1, generator=g).cumsum(1)
    y = torch.cat([x * seen, 1 - seen], 2)

    def loss_fn(z, y):
        mask = y[..., 1:]
        return ((z - y[..., :1]).abs() ** power * mask).sum() / mask.sum().clamp_min(1)

    training = training_of(torch.randn(N, 6, 1, generator=g), y, loss_fn, 1, 30, each=True)
    found = check(training, seconds=20.0, progress=lambda doing: None)
    words = "one constant output already has the least loss"
    assert found.outcome == "undecided" and words in found.verdict
    with pytest.raises(AssertionError):
        assert_learns(training, below=5.0)
    cured = cure(training, seconds=2.0)
    assert cured.outcome == "undecided" and words in cured.verdict


def test_a_network_whose_outputs_are_all_equal_does_not_learn():
    """Its constant may be better on held-out examples than the one fitted to training examples."""
    y = torch.randn(N, 1, generator=G).exp()
    training = training_of(X, y, lambda z, y: (z.exp() - y * z).mean(), 1, 20, 0.1)
    training.model.head.weight.data.zero_()
    training.model.head.weight.requires_grad_(False)
    found = check(training, seconds=40.0, progress=lambda doing: None)
    assert found.outcome == "does not learn" and found.steps == 20


def test_a_gain_that_another_constant_has_too_is_no_learning():
    """The best constant of the held-out examples is not that of the training examples."""
    y = torch.randn(40, generator=G).double()
    of_held = (y - y.mean()).square()
    errors = of_held + 0.01
    assert PairedErrors(errors, of_held + 0.05).below()
    assert not PairedErrors(errors, of_held + 0.05, closest=of_held).below()
    assert PairedErrors(of_held - 0.01, of_held + 0.05, closest=of_held).below()
    # in a series that drifts, the mean of the last frames is no fair comparison
    assert PairedErrors(errors, of_held + 9, closest=of_held).below()
