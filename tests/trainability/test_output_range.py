"""Scores by the loss: the best constant and the least loss among outputs that a network can give.

The best constants of the tests are closed forms, or those of a plain loop of Adam.
"""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Normal
from torch.nn import functional as F

from gersgorin.data.layout import Layout
from trainability.axes import OutputAxes
from trainability.check import check
from trainability.facts.targets import output_range
from trainability.known_good import KnownGood
from trainability.minima import determines_outputs
from trainability.output_range import FREE, OutputRange, Shares
from trainability.probe import Probe
from trainability.race import race_of
from trainability.scores import AT_EDGE, score_of
from trainability.swaps import usual_loss
from trainability.training import Training

N, T, K = 320, 8, 4


class Ending(nn.Module):
    """A GRU with a given last operation, at its last frame or at all."""

    def __init__(self, final, k=K, every=False):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.out = nn.GRU(3, 12, batch_first=True), nn.Linear(12, k)
        self.final, self.every = final, every

    def forward(self, x):
        z = self.out(self.rnn(x)[0])
        return self.final(z if self.every else z[:, -1])


def training_of(final, y, loss_fn, every=False, k=K):
    x = torch.randn(len(y), T, 3, generator=torch.Generator().manual_seed(0))
    model = Ending(final, k, every)
    return Training(model, x, y, loss_fn, torch.optim.Adam(model.parameters(), 1e-2), steps=8)


def range_found(final, k=K, every=False):
    y = torch.randn(N, T, k) if every else torch.randn(N, k)
    return Probe(training_of(final, y, lambda z, y: z.square().mean(), every, k)).output_range


def of_sigma(z):
    return torch.cat((z[:, :1], F.softplus(z[:, 1:]) + 0.01), 1)


def of_mixture(z):
    return torch.cat((z[:, :2], F.softplus(z[:, 2:4]), z[:, 4:].log_softmax(1)), 1)


INF = math.inf
RANGES = {
    "a linear layer": (lambda z: z, [-INF] * K, [INF] * K, ()),
    "a hundredth": (lambda z: 0.01 * z, [-INF] * K, [INF] * K, ()),
    "sigmoid": (torch.sigmoid, [0] * K, [1] * K, ()),
    "tanh": (torch.tanh, [-1] * K, [1] * K, ()),
    "five times tanh": (lambda z: 5 * z.tanh(), [-5] * K, [5] * K, ()),
    "ReLU": (torch.relu, [0] * K, [INF] * K, ()),
    "exp": (lambda z: z.clamp_max(50).exp(), [0] * K, None, ()),
    "softmax": (lambda z: z.softmax(1), None, None, (Shares(0, K, False),)),
    "log_softmax": (lambda z: z.log_softmax(1), None, None, (Shares(0, K, True),)),
    "mean and deviation": (of_sigma, [-INF, 0.01, 0.01, 0.01], [INF] * 4, ()),
}


@pytest.mark.parametrize("name", RANGES)
def test_the_range_of_outputs_is_that_of_the_last_operation(name):
    final, low, high, shares = RANGES[name]
    found = range_found(final)
    assert found.shares == shares and found.wrong_axis is None
    assert found.is_free == name.startswith("a ")
    for bound, expected in ((found.low, low), (found.high, high)):
        if expected is not None and not found.is_free:
            assert bound.tolist() == pytest.approx(expected, abs=1e-3)


def test_a_part_of_the_units_may_be_probabilities():
    found = range_found(of_mixture, k=6)
    assert found.shares == (Shares(4, 6, True),)
    assert found.low[2:4].tolist() == pytest.approx([0, 0], abs=1e-3)
    assert found.low[:2].tolist() == [-INF] * 2 and found.high[:4].tolist() == [INF] * 4


@pytest.mark.parametrize("axis", [0, 1])
def test_probabilities_along_another_axis_than_the_units_are_found(axis):
    found = range_found(lambda z: z.log_softmax(axis), every=True)
    assert found.wrong_axis == axis and found.shares == (Shares(0, K, True),)


@pytest.mark.parametrize("name", RANGES)
def test_outputs_become_free_numbers_and_outputs_again(name):
    found = range_found(RANGES[name][0])
    z = torch.randn(50, K, generator=torch.Generator().manual_seed(1))
    output = found.outputs(z)
    assert torch.allclose(found.outputs(found.numbers(output)), output, rtol=1e-3, atol=1e-3)
    noisy = found.beside(output, torch.randn(50, K))
    assert found.holds(noisy)
    for group in found.shares:
        sums = (noisy.exp() if group.logs else noisy).sum(1)
        assert torch.allclose(sums, torch.ones(50), atol=1e-4)


def test_a_network_without_weights_has_the_range_of_its_outputs():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1), requires_grad=True)

        def forward(self, x):
            return (x[:, -1] + 0 * self.weight).sigmoid()

    x, y = torch.randn(100, T, 2), torch.rand(100, 2)
    assert Probe(Training(Fixed(), x, y, nn.MSELoss(), steps=1)).output_range.is_share


# ---- the score by the loss, relative to closed forms ------------------------------------------


def outputs_of(race, training):
    with torch.no_grad():
        outputs = [training.model(x) for x, _ in race.pairs]
    return torch.cat(outputs), torch.cat([y for _, y in race.pairs])


def relative(training):
    race = race_of(training, Probe(training))
    score = race.scores["error"]
    with torch.no_grad():
        outputs = [training.model(x) for x, _ in race.pairs]
    return race, score, score.in_pairs(outputs, [y for _, y in race.pairs]).relative


@pytest.mark.parametrize("reads", ["logs", "shares"])
def test_of_soft_targets_0_is_the_entropy_and_1_that_of_the_mean(reads):
    y = (2 * torch.randn(N, K, generator=torch.Generator().manual_seed(2))).softmax(1)
    if reads == "logs":
        training = training_of(lambda z: z.log_softmax(1), y, nn.KLDivLoss(reduction="batchmean"))
    else:
        entropy = lambda p, y: -(y * p.clamp_min(1e-9).log()).sum(1).mean()  # noqa: E731
        training = training_of(lambda z: z.softmax(1), y, entropy)
    race, score, found = relative(training)
    z, held = outputs_of(race, training)
    logs = z if reads == "logs" else z.log()
    known = torch.cat([y for _, y in training.data.trained]).mean(0)
    least = -(held * held.log()).sum(1).mean()
    ours, constant = (-(held * v).sum(1).mean() - least for v in (logs, known.log()))
    assert score.kind == "loss" and not score.void
    assert found == pytest.approx(float(ours / constant), rel=0.02)


def hazards(h, y):
    """Of a discrete survival time: targets are (last interval, 1 if it ended there)."""
    t, event = y[:, 0].long(), y[:, 1]
    before = (torch.log1p(-h) * (torch.arange(h.shape[1]) < t[:, None])).sum(1)
    last = h.gather(1, t[:, None])[:, 0]
    return -(before + event * last.log() + (1 - event) * torch.log1p(-last)).mean()


def test_the_best_constant_hazard_is_the_share_of_events_among_those_at_risk():
    g = torch.Generator().manual_seed(3)
    ends = torch.rand(N, K, generator=g) < torch.tensor([0.2, 0.4, 0.3, 0.5])
    t = torch.where(ends.any(1), ends.float().argmax(1), K - 1)
    y = torch.stack([t.float(), ends.any(1).float()], 1)
    training = training_of(torch.sigmoid, y, hazards)
    race, score, found = relative(training)
    z, held = outputs_of(race, training)
    known = torch.cat([y for _, y in training.data.trained])
    last = torch.arange(K) == known[:, :1]
    at_risk = torch.arange(K) <= known[:, :1]
    best = (last * known[:, 1:]).sum(0) / at_risk.sum(0)
    expected = hazards(z, held) / hazards(best.expand(z.shape), held)  # the least loss is 0
    assert score.kind == "loss" and not score.void
    assert found == pytest.approx(float(expected), rel=0.01)


def gaussian(z, y):
    return -Normal(z[:, :1], z[:, 1:]).log_prob(y).mean()


def test_a_deviation_that_a_loss_refuses_below_0_is_positive_in_all_searches():
    """A density with a deviation for each target has no least loss, whatever its floor."""
    y = 2 + 3 * torch.randn(N, 1, generator=torch.Generator().manual_seed(4))
    training = training_of(of_sigma, y, gaussian, k=2)
    race, score, found = relative(training)
    z, held = outputs_of(race, training)
    known = torch.cat([y for _, y in training.data.trained])
    best = -Normal(known.mean(), known.std(correction=0)).log_prob(held).mean()
    assert score.void == AT_EDGE and AT_EDGE in score.meaning
    assert found == pytest.approx(math.exp(float(gaussian(z, held) - best)), rel=0.02)
    final = KnownGood(training, Probe(training)).final(torch.randn(50, 2))
    assert (final[:, 1] > 0).all() and (final[:, 0] < 0).any()


@pytest.mark.parametrize("loss_fn", [nn.MSELoss(), nn.L1Loss(), nn.SmoothL1Loss()])
def test_positive_outputs_for_positive_targets_stay_positive(loss_fn):
    y = torch.rand(N, 1, generator=torch.Generator().manual_seed(5))
    training = training_of(F.softplus, y, loss_fn, k=1)
    assert not Probe(training).searched_range.is_free


def test_positive_outputs_stay_positive_if_a_loss_is_finite_for_others():
    """A Dirichlet density by lgamma takes concentrations below 0, which are none."""

    def dirichlet(z, y):
        return -torch.distributions.Dirichlet(z, validate_args=False).log_prob(y).mean()

    y = torch.distributions.Dirichlet(torch.full((K,), 5.0)).sample((N,))
    training = training_of(lambda z: F.softplus(z) + 0.01, y, dirichlet)
    final = KnownGood(training, Probe(training)).final(torch.randn(50, K))
    assert not Probe(training).searched_range.is_free and (final > 0).all()


def ctc(z, y):
    sizes = torch.full((len(y),), z.shape[1]), torch.full((len(y),), y.shape[1])
    return F.ctc_loss(z.transpose(0, 1), y, *sizes)


@pytest.mark.parametrize("axis", [1, 2])
def test_the_best_constant_of_ctc_is_a_distribution_over_classes(axis):
    y = torch.randint(1, K, (N, 3), generator=torch.Generator().manual_seed(5))
    training = training_of(lambda z: z.log_softmax(axis), y, ctc, every=True)
    race, score, _ = relative(training)
    held = torch.cat([y for _, y in race.pairs])
    known = torch.cat([y for _, y in training.data.trained])
    logits = torch.zeros(K, requires_grad=True)
    adam = torch.optim.Adam([logits], 0.1)
    for _ in range(150):
        adam.zero_grad()
        ctc(logits.log_softmax(0).expand(len(known), T, K), known).backward()
        adam.step()
    with torch.no_grad():
        expected = float(ctc(logits.log_softmax(0).expand(len(held), T, K), held))
    assert score.of_best_constant == pytest.approx(expected, rel=1e-2)
    assert score.least == pytest.approx(0, abs=1e-3)
    final = KnownGood(training, Probe(training)).final(torch.randn(2, T, K))
    assert torch.allclose(final.exp().sum(2), torch.ones(2, T), atol=1e-4)
    cause = output_range(Probe(training))
    assert (cause is None) == (axis == 2)
    if cause is not None:
        assert "dim=2" in cause.remedy and "frames" in cause.remedy


# ---- losses that do not determine outputs -----------------------------------------------------


def cosine(z, y):
    return 1 - F.cosine_similarity(z, y, dim=-1).mean()


def correlation(z, y):
    z, y = z - z.mean(0), y - y.mean(0)
    return -(z * y).sum() / (z.square().sum() * y.square().sum() + 1e-9).sqrt()


def si_sdr(z, y):
    scale = (z * y).sum(1, keepdim=True) / y.square().sum(1, keepdim=True)
    noise = (scale * y - z).square().sum(1) + 1e-6
    return -(10 * ((scale * y).square().sum(1) / noise).log10()).clamp_max(30).mean()


def permuted(z, y):
    return torch.minimum((z - y).square().mean(1), (z.flip(1) - y).square().mean(1)).mean()


def weighted(z, y):
    return (torch.logspace(-3, 0, K) * (z - y).square()).mean()


OTHERS_TOO = {"cosine": cosine, "correlation": correlation, "SI-SDR": si_sdr, "any order": permuted}
TARGETS_ALONE = {
    "squared": nn.MSELoss(),
    "absolute": nn.L1Loss(),
    "Huber": nn.HuberLoss(),
    "smooth": nn.SmoothL1Loss(beta=0.1),
    "log-cosh": lambda z, y: (z - y).cosh().log().mean(),
    "weighted": weighted,
    "fourth power": lambda z, y: (z - y).pow(4).mean(),
    "relative": lambda z, y: ((z - y).abs() / (y.abs() + 0.1)).mean(),
    "sum": nn.MSELoss(reduction="sum"),
}


@pytest.mark.parametrize("name", [*OTHERS_TOO, *TARGETS_ALONE])
def test_a_squared_error_is_the_score_only_if_no_other_outputs_are_as_good(name):
    g = torch.Generator().manual_seed(6)
    y, z = 1 + torch.randn(60, K, generator=g), torch.randn(60, K, generator=g)
    loss_fn = (OTHERS_TOO | TARGETS_ALONE)[name]
    assert determines_outputs(loss_fn, z, y) == (name in TARGETS_ALONE)
    axes = OutputAxes.of(z, y, loss_fn, y, Layout(0))
    score = score_of(loss_fn, z, [(None, y)], axes)
    assert score.kind == ("numbers" if name in TARGETS_ALONE else "loss")


def test_the_relative_error_of_a_cosine_is_that_of_the_best_constant_direction():
    y = 0.5 + torch.randn(N, K, generator=torch.Generator().manual_seed(7))
    training = training_of(lambda z: z, y, cosine)
    race, score, found = relative(training)
    z, held = outputs_of(race, training)
    known = torch.cat([y for _, y in training.data.trained])
    best = F.normalize(known, dim=1).mean(0)
    expected = cosine(z, held) / cosine(best.expand(z.shape), held)
    assert found == pytest.approx(float(expected), rel=0.01)
    assert score.meaning.startswith(
        "your loss, from its least value 0 to that of the best constant"
    )


# ---- the kind of the targets is decided from all of them --------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_whole_numbers_are_no_signs_though_a_minibatch_holds_only_0_and_1(dtype):
    g = torch.Generator().manual_seed(8)
    y = torch.randint(0, 2, (N, 1), generator=g)
    y[::2] = torch.randint(-8, 6, (N // 2, 1), generator=g)
    z = torch.randn(7, 1, generator=g)
    pairs = [(None, part.to(dtype)) for part in (y[1:15:2], y[:14:2])]

    def loss_fn(z, y):
        return F.mse_loss(z, y.to(z.dtype))

    axes = OutputAxes.of(z, pairs[0][1], loss_fn, z, Layout(0))
    score = score_of(loss_fn, z, pairs, axes, [y.to(dtype)])
    found = score.in_pairs([z, z], [y for _, y in pairs]).relative
    held = torch.cat([y for _, y in pairs]).float()
    both = torch.cat([z, z])
    expected = (both - held).square().mean() / (y.float().mean() - held).square().mean()
    assert score.kind != "signs" and found == pytest.approx(float(expected), rel=1e-3)


def test_targets_beyond_the_outputs_are_no_classes_of_a_softmax():
    """Of ordinal regression with cumulative logits: K outputs for K + 1 classes."""
    y = torch.randint(0, K + 1, (N,), generator=torch.Generator().manual_seed(9))

    def ordinal(z, y):
        return F.binary_cross_entropy_with_logits(z, (y[:, None] > torch.arange(K)).float())

    training = training_of(lambda z: z, y, ordinal)
    race, score, found = relative(training)
    z, held = outputs_of(race, training)
    known = torch.cat([y for _, y in training.data.trained])
    shares = (known[:, None] > torch.arange(K)).float().mean(0)
    expected = ordinal(z, held) / ordinal(shares.logit().expand(z.shape), held)
    assert score.kind == "loss" and found == pytest.approx(float(expected), rel=0.01)
    assert usual_loss(training) is None


# ---- what cannot be scored, and what is said --------------------------------------------------


def test_a_loss_that_fails_for_constants_is_undecided_with_its_loss():
    def refuses(z, y):
        if len(z) > 1 and float(z.detach().std(0).min()) == 0:
            raise ValueError("constant outputs")
        return (z - y).pow(2).mean() + (z - y.flip(1)).abs().mean()

    y = torch.randn(N, K, generator=torch.Generator().manual_seed(10))
    training = training_of(lambda z: z, y, refuses)
    _, score, found = relative(training)
    assert score.kind == "loss" and score.void and found == INF
    result = check(training, seconds=60.0, progress=lambda doing: None)
    assert result.outcome == "undecided" and "your loss went from" in result.verdict
    assert "end the network at a sigmoid" not in str(result)


def test_the_first_line_says_what_the_number_is_if_it_is_that_of_the_own_loss():
    y = torch.randn(N, K, generator=torch.Generator().manual_seed(11))
    result = check(training_of(lambda z: z, y, cosine), seconds=60.0, progress=lambda doing: None)
    assert "your loss, from its least value 0" in result.verdict
    plain = check(
        training_of(lambda z: z, y, nn.MSELoss()), seconds=60.0, progress=lambda doing: None
    )
    assert "your loss" not in plain.verdict and plain.measure == ""


def test_the_range_without_bounds_changes_nothing():
    z = torch.randn(5, 3)
    assert torch.equal(FREE.outputs(z), z) and torch.equal(FREE.numbers(z), z)
    assert not FREE.is_share and not FREE.has_floor and FREE.holds(z)
    assert OutputRange(torch.zeros(3), torch.ones(3), units=1).is_share


@pytest.mark.parametrize("name", ["rates", "concentrations"])
def test_losses_that_check_their_arguments_are_never_given_others(name):
    """A Poisson rate must be positive, and a target of a Dirichlet density sums to 1."""
    g = torch.Generator().manual_seed(5)
    k = 1 if name == "rates" else K
    made = {
        "rates": (lambda z: torch.distributions.Poisson(z), torch.poisson(torch.ones(N, 1), g)),
        "concentrations": (
            lambda z: torch.distributions.Dirichlet(z),
            torch.rand(N, K, generator=g).softmax(1),
        ),
    }
    of, y = made[name]
    training = training_of(
        lambda z: F.softplus(z) + 0.01, y, lambda z, y: -of(z).log_prob(y).mean(), k=k
    )
    found = check(training.model, training.data.x, y, training.loss, "adam", steps=20, seconds=100)
    assert found.outcome
