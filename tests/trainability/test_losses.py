"""One score for all losses: 0 for perfect outputs, 1 for the best constant answer."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from trainability.losses import free_loss, score_of, scored

G = torch.Generator().manual_seed(0)
N, T, K = 60, 5, 4
Y = torch.randn(N, 2, generator=G) * torch.tensor([1.0, 3.0]) + 7
CLASSES = torch.randint(K, (N,), generator=G)
TAGS = torch.randint(K, (N, T), generator=G)
SIGNS = (torch.rand(N, 1, generator=G) < 0.3).float()


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
    score = score_of(loss_fn, perfect, [(None, y)], axis=0)
    assert score.relative(score.errors(perfect, y)) == 0
    assert score.relative(score.errors(constant, y)) == pytest.approx(1)
    assert score.errors(perfect, y).shape == (N,)


def test_a_loss_of_its_own_scale_lies_between_the_least_free_one_and_the_constants():
    y = torch.randn(N, 1, generator=G)
    outputs = torch.cat([torch.zeros(N, 1), torch.zeros(N, 1)], 1)
    score = score_of(likelihood, outputs, [(None, y)], axis=0)
    mean = y.mean().expand(N, 1)
    best = torch.cat([mean, y.std(correction=0).log().expand(N, 1)], 1)
    assert score.kind == "loss"
    assert score.relative(score.errors(best, y)) == pytest.approx(1, abs=1e-3)


def test_the_error_does_not_depend_on_the_unit_of_the_targets():
    z = Y + 0.3
    errors = []
    for unit in (1.0, 1000.0):
        score = score_of(nn.MSELoss(), unit * z, [(None, unit * Y)], axis=0)
        errors.append(score.relative(score.errors(unit * z, unit * Y)))
    assert errors[0] == pytest.approx(errors[1])


def test_padding_behind_the_sequences_is_not_scored():
    def masked(z, y):
        return F.cross_entropy(z.transpose(1, 2), y, ignore_index=0)

    y = TAGS.clamp_min(1)
    y[:, 3:] = 0
    z = logits(TAGS)
    assert scored(masked, z, y).tolist() == [[True] * 3 + [False] * 2] * N
    y[:, 1] = 0  # a class that the loss leaves out, but no padding
    assert scored(masked, z, y).tolist() == [[True] * 3 + [False] * 2] * N


def test_outputs_that_are_not_finite_have_an_infinite_error():
    score = score_of(nn.MSELoss(), Y, [(None, Y)], axis=0)
    assert score.relative(score.errors(Y * math.nan, Y)) == math.inf


def test_a_rare_class_counts_as_much_as_the_common_one_in_a_balanced_score():
    y = torch.zeros(100, dtype=torch.int64)
    y[:10] = 1
    z = torch.zeros(100, 2)
    z[:, 0] = 1
    score = score_of(nn.CrossEntropyLoss(), z, [(None, y)], axis=0)
    balanced = score.balanced([y])
    z[:20] = torch.tensor([0.0, 1.0])  # all of the rare class, and ten of the other by mistake
    assert score.relative(score.errors(z, y)) == pytest.approx(1)
    assert balanced.relative(balanced.errors(z, y)) == pytest.approx(10 / 90)


def test_the_least_losses_of_a_squared_error_are_0_and_the_variance():
    loss = nn.MSELoss()
    assert free_loss(loss, torch.zeros(N, 2), Y) == pytest.approx(0, abs=1e-8)
    variance = Y.var(0, correction=0).mean()
    assert free_loss(loss, torch.zeros(N, 2), Y, constant=True) == pytest.approx(float(variance))


def test_several_bits_are_scored_by_their_probabilities():
    """Sparse outputs are on the wrong side of no threshold long before they are learned."""
    y = (torch.rand(200, 6, 20, generator=torch.Generator().manual_seed(0)) < 0.05).float()
    for loss_fn, output in (
        (nn.BCEWithLogitsLoss(), torch.logit(0.3 * y + 0.02)),
        (nn.BCELoss(), 0.3 * y + 0.02),
    ):
        score = score_of(loss_fn, output, [(output, y)], 0)
        assert score.kind == "bits"
        assert score.relative(score.errors(output, y)) == pytest.approx(0.49, abs=0.05)


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
    assert score_of(loss_fn, torch.zeros(60, 3), [(NUMBERS, y)], 0).kind == kind
