"""One score for all losses: 0 for perfect outputs, 1 for the best constant answer."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gersgorin.data.layout import Layout
from trainability.axes import OutputAxes
from trainability.check import check
from trainability.given_loss import target_loss
from trainability.losses import canonical_loss, scored
from trainability.minima import free_loss, settled_loss
from trainability.output_range import FREE, OutputRange
from trainability.probe import Probe
from trainability.race import race_of
from trainability.reference import last_operation
from trainability.scores import AT_EDGE, NO_BEST, NO_LEAST, score_of, scores_of
from trainability.swaps import SWAPS
from trainability.training import Training, same

G = torch.Generator().manual_seed(0)
N, T, K = 60, 5, 4
Y = torch.randn(N, 2, generator=G) * torch.tensor([1.0, 3.0]) + 7
CLASSES = torch.randint(K, (N,), generator=G)
TAGS = torch.randint(K, (N, T), generator=G)
SIGNS = (torch.rand(N, 1, generator=G) < 0.3).float()


def axes_of(z, y, loss_fn, axis=0):
    return OutputAxes.of(z, y, loss_fn, y, Layout(axis))


def score_by(loss_fn, z, y, trained=None, *, axis=0, **about):
    return score_of(loss_fn, z, [(None, y)], axes_of(z, y, loss_fn, axis), trained, **about)


def scores_by(loss_fn, z, y):
    return scores_of(loss_fn, z, [(None, y)], axes_of(z, y, loss_fn))


def logits(y):
    return 20.0 * F.one_hot(y, K).float() - 10


def likelihood(output, y):
    """Of a Gaussian with its mean and its log standard deviation."""
    mean, log = output.chunk(2, -1)
    return (log + 0.5 * ((y - mean) / log.exp()) ** 2).mean()


CASES = {  # loss, targets, perfect outputs, those of the best constant
    "numbers": (nn.MSELoss(), Y, Y, Y.mean(0).expand(Y.shape)),
    "classes": (nn.CrossEntropyLoss(), CLASSES, logits(CLASSES), None),
    "frames": (
        lambda z, y: F.cross_entropy(z.flatten(0, 1), y.flatten()),
        TAGS,
        logits(TAGS),
        None,
    ),
    "signs": (nn.BCEWithLogitsLoss(), SIGNS, 20 * SIGNS - 10, torch.full((N, 1), -1.0)),
    "probabilities": (nn.BCELoss(), SIGNS, 0.98 * SIGNS + 0.01, torch.full((N, 1), 0.3)),
}


@pytest.mark.parametrize("name", CASES)
def test_perfect_outputs_score_0_and_the_best_constant_1(name):
    loss_fn, y, perfect, constant = CASES[name]
    if constant is None:
        constant = logits(y.flatten().mode().values.expand(y.shape))
    score = score_by(loss_fn, perfect, y)
    assert score.in_pairs([perfect], [y]).relative == 0
    assert score.in_pairs([constant], [y]).relative == pytest.approx(1)
    assert score.errors(perfect, y).shape == (N,)


def test_a_loss_of_its_own_scale_lies_between_the_least_free_one_and_the_constants():
    y = torch.randn(N, 1, generator=G)
    outputs = torch.cat([torch.zeros(N, 1), torch.zeros(N, 1)], 1)
    score = score_by(likelihood, outputs, y)
    mean = y.mean().expand(N, 1)
    best = torch.cat([mean, y.std(correction=0).log().expand(N, 1)], 1)
    assert score.kind == "loss"
    assert score.in_pairs([best], [y]).relative == pytest.approx(1, abs=1e-3)


def test_the_error_does_not_depend_on_the_unit_of_the_targets():
    z = Y + 0.3
    errors = []
    for unit in (1.0, 1000.0):
        score = score_by(nn.MSELoss(), unit * z, unit * Y)
        errors.append(score.in_pairs([unit * z], [unit * Y]).relative)
    assert errors[0] == pytest.approx(errors[1])


def test_padding_behind_the_sequences_is_not_scored():
    def masked(z, y):
        return F.cross_entropy(z.transpose(1, 2), y, ignore_index=0)

    y = TAGS.clamp_min(1)
    y[:, 3:] = 0
    z = logits(TAGS)
    assert scored(masked, z, y, axes_of(z, y, masked)).tolist() == [[True] * 3 + [False] * 2] * N
    y[:, 1] = 0  # a class that the loss leaves out, but no padding
    assert scored(masked, z, y, axes_of(z, y, masked)).tolist() == [[True] * 3 + [False] * 2] * N


def test_outputs_that_are_not_finite_have_an_infinite_error():
    score = score_by(nn.MSELoss(), Y, Y)
    assert score.in_pairs([Y * math.nan], [Y]).relative == math.inf


def test_a_rare_class_counts_as_much_as_the_common_one_in_a_balanced_score():
    y = torch.zeros(100, dtype=torch.int64)
    y[:10] = 1
    z = torch.zeros(100, 2)
    z[:, 0] = 1
    score = score_by(nn.CrossEntropyLoss(), z, y)
    balanced = score.balanced([y])
    z[:20] = torch.tensor([0.0, 1.0])  # all of the rare class, and ten of the other by mistake
    assert score.in_pairs([z], [y]).relative == pytest.approx(1)
    assert balanced.in_pairs([z], [y]).relative == pytest.approx(10 / 90)


def test_the_least_losses_of_a_squared_error_are_0_and_the_variance():
    loss, z = nn.MSELoss(), torch.zeros(N, 2)
    halves, z = [Y[: N // 2], Y[N // 2 :]], z[: N // 2]
    assert free_loss(loss, z, halves, same) == pytest.approx(0, abs=1e-8)
    variance, axes = Y.var(0, correction=0).mean(), axes_of(z, halves[0], loss)
    assert free_loss(loss, z, halves, same, constant=axes) == pytest.approx(float(variance))


@pytest.mark.parametrize("count", [32, 3000])
def test_the_least_loss_of_probabilities_taken_as_logits_is_that_of_sure_ones(count):
    """By arithmetic: a probability of 1 for the class, and of 0 for 49 others."""
    y = torch.randint(50, (count,), generator=G)
    found = free_loss(F.cross_entropy, torch.zeros(count, 50), [y], lambda z: z.softmax(1))
    assert found == pytest.approx(math.log(math.e + 49) - 1, rel=1e-4)


def pinball(*quantiles):
    """The quantile loss, with an output for each quantile."""
    q = torch.tensor(quantiles)
    return lambda z, y: torch.maximum(q * (y - z), (q - 1) * (y - z)).mean()


LEAST = {  # losses whose least value is 0 exactly: name, loss, outputs of a target
    "quantile 0.1": (pinball(0.1), 1),
    "quantile 0.5": (pinball(0.5), 1),
    "quantile 0.9": (pinball(0.9), 1),
    "three quantiles": (pinball(0.1, 0.5, 0.9), 3),
    "quantile of a rate": (lambda z, y: pinball(0.9)(z.exp(), y.abs()), 1),
    "log-cosh": (lambda z, y: (z - y).cosh().log().mean(), 1),
    "Huber": (nn.HuberLoss(), 1),
    "square root": (lambda z, y: F.mse_loss(z, y).sqrt(), 1),
}


@pytest.mark.parametrize("unit", [1.0, 100.0])
@pytest.mark.parametrize("name", LEAST)
def test_the_least_value_of_a_loss_that_is_0_at_its_targets_is_0(name, unit):
    """Of log-cosh in units of 100, no loss far from the targets is finite."""
    loss, outputs = LEAST[name]
    y = unit * torch.randn(100, 1, generator=G)
    start = y.quantile(0.9).log() if "rate" in name else y.quantile(0.9)
    found = settled_loss(loss, start.expand(100, outputs), y)
    assert found == pytest.approx(0, abs=1e-4 * unit)


def test_the_least_value_of_a_poisson_loss_is_at_the_logarithms_of_the_targets():
    y = 1 + torch.poisson(torch.full((100, 1), 30.0), generator=G)
    found = settled_loss(nn.PoissonNLLLoss(), torch.zeros(100, 1), y)
    assert found == pytest.approx(float((y - y * y.log()).mean()), rel=1e-5)


def test_errors_by_a_quantile_loss_are_those_of_the_quantiles():
    """By the constants of NumPy: outputs beside their targets have a fifth of the error."""
    y = torch.randn(400, 1, generator=G)
    z = 0.8 * y
    score, loss = score_by(pinball(0.9), z, y), pinball(0.9)
    best = torch.tensor(np.quantile(y.numpy(), 0.9)).float().expand(y.shape)
    expected = float(loss(z, y) / loss(best, y))
    assert score.kind == "loss" and not score.void
    assert score.in_pairs([z], [y]).relative == pytest.approx(expected, rel=0.02)
    assert score.in_pairs([y], [y]).relative == pytest.approx(0, abs=1e-6) and not score.void


def focal(z, y):
    logs = F.log_softmax(z, 1).gather(1, y[:, None])
    return -((1 - logs.exp()) ** 2 * logs).mean()


WEIGHTS = torch.linspace(1, 3, K)
SHARES = torch.randn(N, K, generator=G).softmax(1)


@pytest.mark.parametrize(
    ("loss_fn", "output", "name", "note"),
    [
        (nn.CrossEntropyLoss(), SHARES.log() + 1, "loss", ""),
        (nn.NLLLoss(), SHARES.log(), "loss", ""),
        (lambda p, y: F.nll_loss(p.log(), y), SHARES, "loss", ""),
        (nn.CrossEntropyLoss(label_smoothing=0.05), SHARES.log() + 1, "cross entropy", ""),
        (nn.CrossEntropyLoss(WEIGHTS), SHARES.log() + 1, "cross entropy", ""),
        (nn.NLLLoss(WEIGHTS), SHARES.log(), "cross entropy", ""),
        (lambda p, y: F.nll_loss(p.log(), y, WEIGHTS), SHARES, "cross entropy", ""),
        (nn.CrossEntropyLoss(), SHARES, "cross entropy", "applies a softmax"),
        (nn.CrossEntropyLoss(label_smoothing=0.05), SHARES, "cross entropy", "applies a softmax"),
        (focal, SHARES.log() + 1, "cross entropy", "your loss is another one"),
        (nn.MultiMarginLoss(), SHARES.log() + 1, "cross entropy", "your loss is another one"),
    ],
)
def test_the_note_on_the_cross_entropy_compares_it_with_the_loss(loss_fn, output, name, note):
    score = scores_by(loss_fn, output, CLASSES)["loss"]
    assert score.name == name
    assert note in score.note and bool(score.note) == bool(note)


def test_several_bits_are_scored_by_their_probabilities():
    """Sparse outputs are on the wrong side of no threshold long before they are learned."""
    y = (torch.rand(200, 6, 20, generator=torch.Generator().manual_seed(0)) < 0.05).float()
    for loss_fn, output in (
        (nn.BCEWithLogitsLoss(), torch.logit(0.3 * y + 0.02)),
        (nn.BCELoss(), 0.3 * y + 0.02),
    ):
        score = score_by(loss_fn, output, y)
        assert score.kind == "bits"
        assert score.in_pairs([output], [y]).relative == pytest.approx(0.49, abs=0.05)


NUMBERS = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("loss_fn", "y", "kind"),
    [
        (nn.MSELoss(), NUMBERS, "numbers"),
        (nn.L1Loss(), NUMBERS, "numbers"),
        (nn.SmoothL1Loss(), NUMBERS, "numbers"),
        (nn.CrossEntropyLoss(), NUMBERS.softmax(-1), "loss"),
        (nn.PoissonNLLLoss(), NUMBERS.exp().round(), "loss"),
        (lambda z, y: nn.functional.mse_loss(z[y > -2], y[y > -2]), NUMBERS - 1, "loss"),
    ],
    ids=["squared", "absolute", "smooth", "soft labels", "counts", "masked"],
)
def test_outputs_are_compared_with_numbers_only_if_the_loss_does_so(loss_fn, y, kind):
    assert score_by(loss_fn, torch.zeros(60, 3), y).kind == kind


# ---- evidence: pairs of held-out examples, and the best constant of the training part ----------


@pytest.mark.parametrize(
    ("loss_fn", "threshold"),
    [
        (nn.MSELoss(), 0.5),
        (nn.L1Loss(), 0.5),
        (nn.BCELoss(), 0.5),
        (nn.BCEWithLogitsLoss(), 0.0),
        (nn.BCEWithLogitsLoss(pos_weight=torch.tensor(10.0)), 0.0),
        (lambda z, y: F.softplus(-(2 * y - 1) * z).mean(), 0.0),
    ],
)
def test_the_threshold_of_two_classes_lies_between_their_targets(loss_fn, threshold):
    """Outputs of a squared error beyond 0 and 1 were compared with 0."""
    z = torch.linspace(0.02, 0.98, N).unsqueeze(1)
    if threshold == 0.5 and not isinstance(loss_fn, nn.BCELoss):
        z[0], z[-1] = -0.2, 1.2
    elif not threshold:
        z = 4 * z - 2
    score = score_by(loss_fn, z, SIGNS)
    errors = score.errors(z, SIGNS)
    assert torch.equal(errors, ((z > threshold) != (SIGNS > 0.5)).double()[:, 0])


def test_a_linear_output_that_is_right_for_most_examples_of_two_classes():
    """The commonest set-up of a beginner: linear output, squared error, targets 0 and 1."""
    g = torch.Generator().manual_seed(0)
    y = (torch.rand(400, 1, generator=g) < 0.5).float()
    z = y + 0.25 * torch.randn(400, 1, generator=g)
    right = float(((z > 0.5).float() == y).float().mean())
    score = score_by(nn.MSELoss(), z, y)
    rarer = float(min(y.mean(), 1 - y.mean()))
    assert score.in_pairs([z], [y]).relative == pytest.approx((1 - right) / rarer)


def test_the_constant_is_fitted_on_the_examples_that_are_trained_on():
    y, known = torch.randn(50, 1, generator=G) + 1, torch.randn(500, 1, generator=G)
    z = torch.zeros(50, 1)
    score = score_by(nn.MSELoss(), z, y, [known])
    found = score.in_pairs([z], [y])
    assert found.constant.numpy() == pytest.approx(
        (y - known.mean()).square()[:, 0].numpy(), rel=1e-5
    )
    assert found.relative == pytest.approx(
        float(y.square().mean() / (y - known.mean()).square().mean()), rel=1e-5
    )


def test_the_interval_is_that_of_paired_differences():
    y = torch.randn(64, 1, generator=G)
    z = 0.5 * y + 0.1 * torch.randn(64, 1, generator=G)
    found = score_by(nn.MSELoss(), z, y).in_pairs([z[:30], z[30:]], [y[:30], y[30:]])
    ours, theirs = ((z - y) ** 2).numpy()[:, 0], ((y - y.mean()) ** 2).numpy()[:, 0]
    d = (ours - 0.9 * theirs) / theirs.mean()
    mean, deviation = found.difference(0.9)
    assert mean == pytest.approx(d.mean(), rel=1e-4)
    assert deviation == pytest.approx(d.std(ddof=1) / 8, rel=1e-4)
    assert found.below() and not found.above(0.9)


def test_noise_is_neither_below_the_constant_nor_hidden():
    y = torch.randn(300, 1, generator=G)
    z = 0.6 * torch.randn(300, 1, generator=G)
    found = score_by(nn.MSELoss(), z, y).in_pairs([z], [y])
    assert not found.below() and found.above(0.9)


def test_rare_classes_are_learned_by_the_cross_entropy_though_not_by_the_error():
    """7 % positives: the best possible error rate is about that of the constant."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(3000, generator=g)
    p = torch.sigmoid(1.6 * x - 3.6)
    y = (torch.rand(3000, generator=g) < p).long()
    z = torch.stack(((1 - p).log(), p.log()), 1)
    scores = scores_by(nn.CrossEntropyLoss(), z, y)
    error, loss = (scores[name].in_pairs([z], [y]) for name in ("error", "loss"))
    share = float(y.float().mean())
    entropy = -(share * math.log(share) + (1 - share) * math.log(1 - share))
    assert loss.relative == pytest.approx(float(F.cross_entropy(z, y)) / entropy, rel=1e-3)
    assert error.relative == pytest.approx(
        float((z.argmax(1) != y).float().mean()) / share, rel=1e-3
    )
    assert loss.below() and loss.relative < error.relative


WEIGHTED = nn.CrossEntropyLoss(torch.arange(1.0, K + 1))
LOGITS = torch.randn(N, K, generator=G)
PADDED = torch.where(torch.arange(T) < 3, TAGS, -100)


@pytest.mark.parametrize(
    ("loss_fn", "z", "y", "name"),
    [
        (nn.CrossEntropyLoss(), LOGITS, CLASSES, "loss"),
        (nn.CrossEntropyLoss(reduction="sum"), LOGITS, CLASSES, "loss"),
        (CASES["frames"][0], torch.randn(N, T, K, generator=G), PADDED, "loss"),
        (nn.NLLLoss(), LOGITS.log_softmax(1), CLASSES, "loss"),
        (lambda z, y: F.nll_loss(z.log(), y), LOGITS.softmax(1), CLASSES, "loss"),
        (nn.NLLLoss(), LOGITS.log_softmax(0), CLASSES, "cross entropy"),  # along the examples
        (nn.NLLLoss(), LOGITS.softmax(1), CLASSES, "cross entropy"),
        (nn.CrossEntropyLoss(), LOGITS.softmax(1), CLASSES, "cross entropy"),
        (WEIGHTED, LOGITS, CLASSES, "cross entropy"),
        (nn.CrossEntropyLoss(label_smoothing=0.1), LOGITS, CLASSES, "cross entropy"),
    ],
)
def test_the_loss_of_classes_is_named_cross_entropy_unless_it_is_the_own_one(loss_fn, z, y, name):
    """The number is that of torch's cross entropy, relative to the shares of the classes."""
    score = scores_by(loss_fn, z, y)["loss"]
    known = y[y >= 0]
    shares = torch.bincount(known, minlength=K) / len(known)
    logs = z.log() if (z > 0).all() else z.log_softmax(-1)
    expected = F.nll_loss(logs.flatten(0, -2), y.flatten()) / -(shares * shares.log()).sum()
    assert score.name == name
    assert score.in_pairs([z], [y]).relative == pytest.approx(float(expected), rel=1e-2)


@pytest.mark.parametrize(
    ("loss_fn", "z", "y", "words"),
    [
        (
            nn.BCEWithLogitsLoss(),
            torch.zeros(60, 1),
            torch.arange(60.0)[:, None] < 5,
            "5 positives",
        ),
        (nn.BCEWithLogitsLoss(), torch.zeros(60, 1), torch.arange(60.0)[:, None] > 0, "1 negative"),
        (nn.BCEWithLogitsLoss(), torch.zeros(60, 1), torch.arange(60.0)[:, None] < 20, ""),
        (nn.CrossEntropyLoss(), torch.zeros(60, 3), torch.arange(60) // 55, "5 targets of rarer"),
        (nn.MSELoss(), torch.zeros(60, 2), Y, ""),
    ],
)
def test_an_error_is_measured_by_the_targets_that_the_constant_gets_wrong(loss_fn, z, y, words):
    y = y.float() if z.shape[1] == 1 else y
    score = scores_by(loss_fn, z, y)["error"]
    few = score.few([z[:30], z[30:]], [y[:30], y[30:]])
    assert few.startswith(words) and bool(few) == bool(words)


def test_the_own_loss_stands_beside_the_error_unless_it_is_the_error():
    y, z = NUMBERS[:, :1], 0.5 * NUMBERS[:, :1]
    assert list(scores_by(nn.MSELoss(), z, y)) == ["error"]
    score = scores_by(nn.L1Loss(), z, y)["loss"]
    median = y.median()
    assert score.in_pairs([z], [y]).relative == pytest.approx(
        float((z - y).abs().mean() / (y - median).abs().mean()), rel=1e-2
    )
    assert score.errors(z, y).shape == (60,)


def test_a_loss_without_a_least_value_has_no_relative_error_but_pairs():
    y = 2 + 3 * torch.randn(200, 1, generator=G)
    z = torch.cat([y, torch.full((200, 1), -1.0)], 1)
    score = score_by(likelihood, z, y)
    assert score.void == NO_LEAST
    found = score.in_pairs([z], [y])
    assert found.below()
    worse = torch.cat([torch.zeros(200, 1), torch.zeros(200, 1)], 1)
    assert not score.in_pairs([worse], [y]).below()
    assert 0 < score.in_pairs([z], [y]).relative < 1 < score.in_pairs([worse], [y]).relative


@pytest.mark.parametrize("size", [1.0, 1e6, 1e13])
def test_a_squared_error_is_no_loss_of_your_own_if_outputs_have_exploded(size):
    y = torch.randn(N, 1, generator=G)
    z = size * torch.randn(N, 1, generator=G)
    assert score_by(nn.MSELoss(), z, y).kind == "numbers"
    assert score_by(lambda z, y: -F.cosine_similarity(z, y, 0).mean(), z, y).kind == "loss"


def missing_as_minus_one(z, y):
    return F.binary_cross_entropy_with_logits(z, y)


def policy_gradient(z, y):
    chosen = z.log_softmax(1).gather(1, y[:, :1].long())[:, 0]
    return -(y[:, 1] * chosen).mean()


def density(z, y):
    return -torch.distributions.Normal(z[:, :1], z[:, 1:].exp()).log_prob(y).mean()


ADVANTAGES = torch.stack([CLASSES.float(), torch.randn(N, generator=G)], 1)


@pytest.mark.parametrize(
    ("loss_fn", "width", "y", "falls"),
    [
        (
            missing_as_minus_one,
            1,
            torch.where(torch.rand(N, 1, generator=G) < 0.6, -1.0, 1.0),
            True,
        ),
        (missing_as_minus_one, 1, SIGNS, False),
        (policy_gradient, K, ADVANTAGES, True),
        (density, 2, Y[:, :1], False),
        (density, 2, 1e-4 * Y[:, :1], False),
        (density, 2, 1e5 * Y[:, :1], False),
    ],
)
def test_errors_are_not_compared_if_a_constant_output_takes_the_loss_below_any_number(
    loss_fn, width, y, falls
):
    z = torch.randn(N, width, generator=G)
    score = score_by(loss_fn, z, y)
    assert score.kind == "signs" or score.kind == "loss"
    assert (score.refused == NO_BEST) is falls
    assert (NO_BEST in score.meaning) is falls


@pytest.mark.parametrize("size", [1e-6, 1e-4, 0.01, 1.0, 1e3, 1e5])
def test_the_constant_predictor_of_a_density_is_found_whatever_the_unit_of_the_targets(size):
    """A mean and the logarithm of a deviation, whose best values NumPy has in closed form."""
    y = size * Y[:, :1].double()
    score = score_by(density, torch.randn(N, 2, generator=G).double(), y)
    best = math.log(np.std(y.numpy())) + 0.5 * math.log(2 * math.pi) + 0.5
    assert score.of_best_constant == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize("floor", [1e-3, 0.1])
def test_the_least_loss_of_a_density_with_a_floor_of_its_variance_is_found(floor):
    """It is reached at the floor, beside a kink: log(floor) / 2 if the mean is right."""

    def loss(z, y):
        return F.gaussian_nll_loss(z[:, 1:], y, z[:, :1].abs() + floor)

    y = 3 * torch.randn(N, 1, generator=G)
    found = settled_loss(loss, torch.randn(N, 2, generator=G), y)
    assert found == pytest.approx(0.5 * math.log(floor), abs=0.01)


@pytest.mark.parametrize("floor", [1e-9, 1e-6])
def test_a_density_whose_spread_has_a_floor_in_the_loss_has_no_useful_least_value(floor):
    """Its least loss, log(floor) at outputs of -14, would make all errors look alike."""

    def loss(z, y):
        scale = F.softplus(z[:, 1:]) + floor
        return -torch.distributions.Normal(z[:, :1], scale).log_prob(y).mean()

    y = torch.randn(N, 1, generator=G)
    score = score_by(loss, torch.randn(N, 2, generator=G), y)
    assert score.least == -math.inf and score.void == AT_EDGE


@pytest.mark.parametrize("size", [1.0, 20.0])
def test_losses_below_0_at_usual_outputs_keep_their_least_value(size):
    y = size * torch.randn(N, 2, generator=G)
    z = 0.3 * torch.randn(N, 2, generator=G)
    cosine = score_by(lambda z, y: -F.cosine_similarity(z, y).mean(), z, y)
    assert cosine.least == pytest.approx(-1, abs=1e-3)
    shifted = score_by(lambda z, y: F.huber_loss(z, y.abs().sqrt()) - 5, z, y)
    assert shifted.least == pytest.approx(-5, abs=1e-3)


def test_the_constant_0_is_tried_for_outputs_that_the_loss_normalises():
    """Contrastive loss (InfoNCE): at 0 all similarities are 0, and the loss is log N."""

    def contrastive(z, y):
        alike = F.normalize(z, dim=1) @ F.normalize(y, dim=1).T / 0.05
        return F.cross_entropy(alike, torch.arange(len(z)))

    y = torch.randn(N, 3, generator=G)
    score = score_by(contrastive, torch.randn(N, 3, generator=G), y)
    assert score.of_best_constant == pytest.approx(math.log(N), rel=1e-3)


def test_a_loss_below_its_supposed_least_value_voids_the_score():
    y = torch.rand(40, 1, generator=G)

    def trap(z, y):  # a valley at 0 that a search finds, and a deeper one far from it
        return ((z - 0.1 * y).square() - 5000 * torch.exp(-(z - 30).square())).mean()

    z = torch.zeros(40, 1)
    score = score_by(trap, z, y)
    assert score.kind == "loss" and not score.void
    assert score.in_pairs([torch.full((40, 1), 30.0)], [y]).relative == math.inf
    assert score.void == "the loss falls below what was found as its least value"


def test_the_least_value_is_no_larger_than_any_value_that_was_seen():
    """Minibatches of unequal sizes count by their examples, and a constant output of pairs is a
    saddle: at a cosine of 1 no output has a gradient.
    """

    def pairs(z, y):
        return F.cosine_embedding_loss(z[:, 0], z[:, 1], y)

    y = torch.where(torch.rand(40, generator=G) < 0.7, 1.0, -1.0)
    z, targets = torch.randn(7, 2, 4, generator=G), [*y.split(7)]
    score = score_of(pairs, z, [(None, y) for y in targets], axes_of(z, targets[0], pairs))
    constant = float(pairs(score.constant.expand(40, 2, 4), y))
    assert score.of_best_constant == pytest.approx(constant)
    perfect = torch.tensor([1.0, 0, 0, 0]).repeat(40, 2, 1)
    perfect[:, 1] *= y[:, None]
    assert score.least == pytest.approx(float(pairs(perfect, y)), abs=1e-5)
    assert score.least <= score.of_best_constant


def test_a_loss_with_no_lower_value_than_that_of_a_constant_has_no_relative_error():
    score = score_by(lambda z, y: 5 + 0 * (z.mean() + y.mean()), torch.randn(40, 3), Y[:40])
    assert score.kind == "loss" and score.refused == score.meaning
    assert "one constant output already has the least loss" in score.refused
    assert score.in_pairs([torch.randn(40, 3)], [Y[:40]]).relative == math.inf


def test_a_least_value_that_is_none_is_not_told():
    y = torch.rand(40, 1, generator=G)

    def trap(z, y):
        return ((z - 0.1 * y).square() - 5000 * torch.exp(-(z - 30).square())).mean()

    score = score_by(trap, torch.zeros(40, 1), y)
    assert "from its least value" in score.meaning
    score.in_pairs([torch.full((40, 1), 30.0)], [y])
    assert score.meaning == "the loss falls below what was found as its least value"


def test_a_few_long_sequences_count_by_parts_of_their_frames():
    y = torch.randn(1, 400, 1, generator=G)
    score = score_by(nn.MSELoss(), 0 * y, y, in_time=True)
    errors = score.errors(0 * y, y)
    blocks = y[0, :, 0].square().reshape(40, 10).mean(1)
    assert errors.numpy() == pytest.approx(blocks.numpy(), rel=1e-5)


SHAPES = [(8,), (), (8, 1), (8, 6), (8, 6, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("target", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["numbers", "classes", "bits"])
def test_outputs_of_any_shape_have_a_score_or_a_sentence(shape, target, kind):
    """Whatever a loss takes, a score measures; what it refuses ends in the loss's own error."""
    z = torch.randn(shape, generator=G)
    y = torch.randn(target, generator=G)
    y = {"numbers": y, "classes": (y > 0).long() + (y > 1).long(), "bits": (y > 0).float()}[kind]

    def loss(z, y):
        return (z.mean() - y.double().mean()).square() + z.square().mean()

    losses = [loss]
    if shape == target:
        losses += [nn.MSELoss(), nn.BCEWithLogitsLoss()] if kind == "bits" else [nn.L1Loss()]
    if kind == "classes" and target == shape[:-1] and shape and shape[-1] > 2:
        losses.append(lambda z, y: F.cross_entropy(z.flatten(0, -2), y.flatten()))
    for loss_fn in losses:
        if not y.dim():
            continue
        for score in scores_by(loss_fn, z, y).values():
            found = score.in_pairs([z], [y])
            assert found.count >= 1 and found.relative >= 0


ORDERS = {  # of the axes of outputs for targets (B, T): the loss reads them as (B, K, T)
    "(B, T, K)": lambda z: z.transpose(1, 2),
    "(B, K, T)": lambda z: z,
}
CLASS_LOSSES = {
    "cross entropy": F.cross_entropy,
    "log likelihood": lambda z, y: F.nll_loss(z.log_softmax(1), y),
    "raw log likelihood": F.nll_loss,
    "smoothed": partial(F.cross_entropy, label_smoothing=0.1),
    "weighted": partial(F.cross_entropy, weight=torch.linspace(1, 3, K), ignore_index=0),
    "last frame": lambda z, y: F.cross_entropy(z[..., -1], y[:, -1]),
}


def supervised_contrastive(z, y):
    """Khosla et al. (2020), equation 2, over the examples of a minibatch."""
    similar = F.normalize(z, dim=1) @ F.normalize(z, dim=1).T / 0.1
    own = torch.eye(len(z), dtype=torch.bool)
    logs = similar - similar.masked_fill(own, -1e9).logsumexp(1, keepdim=True)
    alike = (y[:, None] == y) & ~own
    return -((logs * alike).sum(1) / alike.sum(1).clamp(min=1)).mean()


def triplets(z, y):
    """The mean margin loss of all triplets (anchor, same class, other class)."""
    apart, alike = (z[:, None] - z).square().sum(-1), y[:, None] == y
    pairs = (alike & ~torch.eye(len(z), dtype=torch.bool))[:, :, None] & ~alike[:, None, :]
    return (F.relu(apart[:, :, None] - apart[:, None, :] + 1) * pairs).sum() / pairs.sum()


def of_prototypes(z, y):
    """Distances from the mean of the outputs of each class, as of prototypical networks."""
    means = torch.stack([z[y == k].mean(0) for k in range(K)])
    return F.cross_entropy(-torch.cdist(z, means), y)


COMPARES_EXAMPLES = {
    "contrastive": supervised_contrastive,
    "triplets": triplets,
    "prototypes": of_prototypes,
}


@pytest.mark.parametrize("name", COMPARES_EXAMPLES)
@pytest.mark.parametrize("units", [K, 16])
def test_outputs_are_no_classes_for_a_loss_that_reads_only_which_targets_are_equal(name, units):
    """Such a loss is the same, whichever outputs the classes have."""
    loss_fn, z = COMPARES_EXAMPLES[name], torch.randn(N, units, generator=G)
    order = torch.randperm(units, generator=G)
    assert float(loss_fn(z[:, order], CLASSES)) == pytest.approx(float(loss_fn(z, CLASSES)))
    axes = axes_of(z, CLASSES, loss_fn)
    assert axes.classes is None and axes.units == 1
    assert canonical_loss(z, CLASSES, axes) is None
    score = score_by(loss_fn, z, CLASSES)
    assert score.kind == "loss"
    perfect = F.pad(100 * F.one_hot(CLASSES, K).float(), (0, units - K))
    assert score.in_pairs([perfect], [CLASSES]).relative == pytest.approx(0, abs=0.05)
    assert score.in_pairs([torch.zeros(N, units)], [CLASSES]).relative == pytest.approx(1, abs=0.1)


def emd(z, y):
    """The squared distance of the cumulative probabilities, for ordered classes."""
    return (z.softmax(-1).cumsum(-1) - F.one_hot(y, K).cumsum(-1)).square().mean()


FINAL = {
    "logits": lambda z: z,
    "shares": lambda z: z.softmax(-1),
    "logs": lambda z: z.log_softmax(-1),
}
OF_CLASSES = {
    "smoothed": ("logits", nn.CrossEntropyLoss(label_smoothing=0.1)),
    "smoothed shares": (
        "shares",
        lambda z, y: nn.CrossEntropyLoss(label_smoothing=0.3)(z.log(), y),
    ),
    "focal": ("logits", lambda z, y: focal(z, y)),
    "hinge": ("logits", nn.MultiMarginLoss()),
    "wide hinge": ("logits", nn.MultiMarginLoss(margin=5.0)),
    "likelihood": ("logs", nn.NLLLoss()),
    "of shares": ("shares", lambda z, y: -z.gather(1, y[:, None]).log().mean()),
    "ordered": ("logits", emd),
    "weights": ("logits", nn.CrossEntropyLoss(torch.tensor([1e-3, 1.0, 0.0, 5.0]))),
    "sum": ("logits", nn.CrossEntropyLoss(reduction="sum")),
    "cosines": ("logits", lambda z, y: F.cross_entropy(20 * F.normalize(z), y)),
    "one each": (
        "logits",
        lambda z, y: F.binary_cross_entropy_with_logits(z, F.one_hot(y, K).float()),
    ),
    "squares": ("logits", lambda z, y: (z - F.one_hot(y, K)).square().mean()),
    "penalty": ("logits", lambda z, y: F.cross_entropy(z, y) + 0.01 * z.square().mean()),
    "random": ("logits", lambda z, y: F.cross_entropy(z + 0.1 * torch.randn_like(z), y)),
}


@pytest.mark.parametrize("name", OF_CLASSES)
def test_a_loss_that_is_least_at_the_right_classes_is_scored_by_them(name):
    final, loss_fn = OF_CLASSES[name]
    z = FINAL[final](torch.randn(N, K, generator=G))
    assert axes_of(z, CLASSES, loss_fn).classes == 1


def test_of_classes_for_each_frame_those_that_a_loss_ignores_do_not_count():
    y = TAGS.masked_fill(torch.rand(TAGS.shape, generator=G) < 0.9, -100)
    z = torch.randn(N, T, K, generator=G)
    assert axes_of(z, y, lambda z, y: F.cross_entropy(z.flatten(0, 1), y.flatten())).classes == 2


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", CLASS_LOSSES)
def test_of_as_many_classes_as_frames_the_loss_says_which_axis_is_which(order, name):
    y = torch.randint(K, (N, K), generator=G)
    perfect = ORDERS[order](logits(y).transpose(1, 2)).contiguous()

    def loss(z, y):
        return CLASS_LOSSES[name](ORDERS[order](z), y)

    scores = scores_by(loss, perfect, y)
    assert scores["error"].in_pairs([perfect], [y]).relative == 0
    assert scores["loss"].in_pairs([perfect], [y]).relative < 1e-3
    usual = canonical_loss(torch.zeros_like(perfect), y, axes_of(perfect, y, loss))
    assert usual(perfect, y) == pytest.approx(F.cross_entropy(logits(y).transpose(1, 2), y))


def test_of_as_many_classes_as_examples_the_last_axis_is_that_of_the_named_loss():
    y = torch.randint(K, (T, K), generator=G)
    score = score_by(target_loss("cross-entropy"), logits(y), y, axis=1)
    assert score.in_pairs([logits(y)], [y]).relative == 0


@pytest.mark.parametrize("outputs", [3, 1], ids=["bits", "signs"])
def test_outputs_of_a_sigmoid_are_probabilities_also_for_a_loss_of_logits(outputs):
    """Perfect ones scored 3.63: a second sigmoid leaves them 0.5 to 0.73."""
    y = (torch.rand(N, outputs, generator=G) < 0.2).float()
    shares, z = 0.98 * y + 0.01, 20 * y - 10
    for at_end in (True, False):
        within = OutputRange(torch.zeros(1), torch.ones(1), units=1) if at_end else FREE
        score = score_by(nn.BCEWithLogitsLoss(), y, y, within=within)
        parts = [part.split(30) for part in (shares, z, y)]
        of_shares, of_logits = (score.in_pairs(part, parts[2]).relative for part in parts[:2])
        assert of_logits < 1e-6 and (of_shares < 1e-2 if at_end else of_shares > 1)


def test_a_known_good_network_gets_no_sigmoid_for_a_loss_of_logits():
    y, z = Y.sigmoid(), Y - 7
    axes = axes_of(y, y, nn.MSELoss())
    assert torch.equal(last_operation(nn.BCEWithLogitsLoss(), y, y, axes)(z), z)
    assert torch.equal(last_operation(nn.MSELoss(), y, y, axes)(z), z.sigmoid())


SUMMED = {
    "a sum over everything": (nn.MSELoss(reduction="sum"), "a mean in place of the sum"),
    "a sum over frames": (
        lambda z, y: (z - y).square().mean(2).sum(1).mean(),
        "a mean in place of the sum",
    ),
    "a hundred times": (lambda z, y: 100 * F.mse_loss(z, y), "the usual loss"),
    "the mean": (nn.MSELoss(), None),
}


@pytest.mark.parametrize("name", SUMMED)
def test_a_sum_is_told_apart_from_another_loss(name):
    """B, T and K are 7, 6 and 5: no product of them is 100."""
    loss_fn, expected = SUMMED[name]
    model = nn.GRU(3, 5, batch_first=True)
    training = Training(
        model, torch.randn(7, 6, 3), torch.randn(7, 6, 5), loss_fn, batch_size=7, steps=1
    )
    changed = {swap.what: swap(training) for swap in SWAPS if swap.part == "loss"}
    found = [what for what, other in changed.items() if other is not None]
    assert found == ([] if expected is None else [expected])
    for other in filter(None, changed.values()):
        z, y = torch.randn(4, 6, 5), torch.randn(4, 6, 5)
        assert torch.isclose(other.loss(z, y), F.mse_loss(z, y))


def over_pairs(z, y, reduce):
    """A loss of the order of each pair of examples, as for ranking."""
    later = y > y.T
    return reduce(F.softplus(z.T - z)[later])


OTHER_SUMS = {
    "absolute errors": (lambda z, y: (z - y).abs().sum(), 1),
    "a negative loss": (lambda z, y: (z - y).cos().sum() - 1e3, 1),
    "pairs": (lambda z, y: over_pairs(z, y, torch.sum), 2),
    "a mean over pairs": (lambda z, y: over_pairs(z, y, torch.mean), 0),
    "a mean of the example's place among others": (
        lambda z, y: F.cross_entropy(z @ y.T, torch.arange(len(z))),
        0,
    ),
    "a mean": (lambda z, y: (z - y).abs().mean(), 0),
}


@pytest.mark.parametrize("name", OTHER_SUMS)
def test_a_loss_that_grows_with_the_minibatch_is_divided_by_its_growth(name):
    """Judged by its value for 64 and for 128 examples, once divided."""
    loss_fn, power = OTHER_SUMS[name]
    y = torch.randn(256, 1, generator=G)
    training = Training(nn.Linear(3, 1), torch.randn(256, 3), y, loss_fn, batch_size=32, steps=1)
    (swap,) = (s for s in SWAPS if s.what == "a mean in place of the sum")
    other = swap(training)
    assert (other is not None) == (power > 0)
    if other is not None:
        z = torch.randn(256, 1, generator=G)
        assert torch.isclose(other.loss(z[:32], y[:32]), loss_fn(z[:32], y[:32]) / 32**power)


def test_no_pairing_is_offered_for_targets_in_the_shape_of_the_outputs():
    """It would give targets that no output has: (32, 1) for outputs (32,)."""

    def ranked(z, y):
        first = (y[:, None] > y[None]).float()
        return (F.softplus(z[None] - z[:, None]) * first).sum()

    model = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
    training = Training(model, torch.randn(200, 3), torch.randn(200), ranked, steps=1)
    assert not Probe(training).pairing


@pytest.mark.parametrize("T", [1, 4])
def test_summed_cross_entropies_are_sums(T):
    """Of one class for each sequence, and of one for each frame, as torch adds them up."""
    x, y = torch.randn(8, T, 3), torch.randint(5, (8, T))
    model = nn.Sequential(nn.Linear(3, 5))

    def loss_fn(z, y):
        return F.cross_entropy(z.flatten(0, 1), y.flatten(), reduction="sum")

    training = Training(model, x, y, loss_fn, batch_size=8, steps=1)
    found = [s.what for s in SWAPS if s.part == "loss" and s(training) is not None]
    assert found[:1] == ["a mean in place of the sum"]


@pytest.mark.parametrize("classes", [2, 4])
def test_no_answer_that_ignores_its_input_has_a_lower_share_of_wrong_classes(classes):
    """Of coin flips: the class that is rarer in training may be the commoner one of those held
    out."""
    for seed in range(40):
        G = torch.Generator().manual_seed(seed)
        y = torch.randint(classes, (80,), generator=G)
        trained, held_out = y[:60], y[60:]
        z = torch.zeros(20, classes)
        score = score_by(F.cross_entropy, z, held_out, [trained])
        for answer in range(classes):
            z = F.one_hot(torch.full((20,), answer), classes).double()
            assert score.in_pairs([z], [held_out]).relative >= 1


# ---- losses that take only outputs between 0 and 1 -------------------------------------------


def own_entropy(z, y):
    return -(y * z.log() + (1 - y) * (1 - z).log()).mean()


class Shares(nn.Module):
    """A GRU whose outputs end at a sigmoid, at the last frame or at all."""

    def __init__(self, k, every):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.out, self.every = nn.GRU(4, 8, batch_first=True), nn.Linear(8, k), every

    def forward(self, x):
        z = self.out(self.rnn(x)[0]).sigmoid()
        return z if self.every else z[:, -1]


@pytest.mark.parametrize("loss_fn", [nn.BCELoss(), own_entropy], ids=["BCELoss", "own"])
@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_losses_of_shares_are_relative_to_that_of_the_best_share(k, every, loss_fn):
    x = torch.randn(300, 8, 4, generator=torch.Generator().manual_seed(0))
    y = (x[..., :k].cumsum(1) > 1).float()
    y = y if every else y[:, -1]
    model = Shares(k, every)
    training = Training(model, x, y, loss_fn, torch.optim.Adam(model.parameters(), 1e-2))
    scores = race_of(training, Probe(training)).scores
    pairs, targets = training.data.held_out, [y for _, y in training.data.held_out]
    with torch.no_grad():
        outputs = [model(x) for x, _ in pairs]
    z, held = torch.cat(outputs), torch.cat(targets)
    mean = torch.cat([y for _, y in training.data.trained]).flatten(0, -2).mean(0)
    entropy = F.binary_cross_entropy(z, held) / F.binary_cross_entropy(mean.expand(z.shape), held)
    squares = (z - held).square().mean() / (mean - held).square().mean()
    wrong = ((z > 0.5) != (held > 0.5)).double().mean() / min(held.mean(), 1 - held.mean())
    found = {name: score.in_pairs(outputs, targets) for name, score in scores.items()}
    assert found["error"].relative == pytest.approx(float(wrong if k == 1 else squares), rel=1e-4)
    assert found["loss"].relative == pytest.approx(float(entropy), rel=1e-2)
    assert found["loss"].count == len(held), "a loss for each example"


@pytest.mark.parametrize(
    ("k", "every"), [(3, False), pytest.param(2, True, marks=pytest.mark.slow)]
)
def test_a_check_takes_several_sigmoid_outputs(k, every):
    x = torch.randn(120, 5, 4, generator=torch.Generator().manual_seed(0))
    y = (x[..., :k].cumsum(1) > 1).float()
    model = Shares(k, every)
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    limits = {"steps": 8, "seconds": 600, "progress": lambda doing: None}
    found = check(model, x, y if every else y[:, -1], nn.BCELoss(), adam, **limits)
    assert found.steps == 8 and 0 < found.loss < 2
    assert not found.left_out
