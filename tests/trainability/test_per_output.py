"""Outputs that are not learned beside others that are, computed again in NumPy."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import trainability
from trainability.per_output import note_on_outputs
from trainability.probe import Probe
from trainability.race import race_of
from trainability.training import Training

N, T = 400, 6
G = torch.Generator().manual_seed(0)
SCALES = torch.tensor([0.01, 1.0, 10.0])
SIGNAL, NOISE = torch.randn(2, N, T, 3, generator=G)


class Echo(nn.Module):
    """Outputs that are numbers of the input, times a weight."""

    def __init__(self, last):
        super().__init__()
        self.scale, self.last = nn.Parameter(torch.ones(())), last

    def forward(self, x):
        return self.scale * (x[:, -1] if self.last else x)


def note(x, y, loss_fn="mse"):
    training = Training(Echo(y.dim() == 2), x, y, loss_fn, "sgd", batch_axis=0)
    return note_on_outputs(training, race := race_of(training, Probe(training))), race


def relative_errors(x, y, race):
    """Squared error of each output over that of its mean over the training examples."""
    held = [np.concatenate([v.numpy() for v in part]) for part in zip(*race.pairs, strict=True)]
    outputs, targets = held[0] if y.dim() == 3 else held[0][:, -1], held[1]
    rows = {row.tobytes() for row in held[0]}
    pairs = zip(x.numpy(), y.numpy(), strict=True)
    known = np.stack([target for row, target in pairs if row.tobytes() not in rows])
    K = y.shape[-1]
    outputs, targets = (v.reshape(-1, K).astype(float) for v in (outputs, targets))
    mean = known.reshape(-1, K).astype(float).mean(0)
    return ((outputs - targets) ** 2).mean(0) / ((targets - mean) ** 2).mean(0)


@pytest.mark.parametrize("frames", [False, True])
def test_an_output_of_small_scale_that_is_not_learned_is_named_with_its_own_error(frames):
    y = SCALES * (SIGNAL + 0.1 * NOISE)
    x = y + SCALES * torch.tensor([1.2, 0.0, 0.3]) * NOISE
    y = y if frames else y[:, -1]
    words, race = note(x, y)
    own = relative_errors(x, y, race)
    assert own[0] > 1 > 0.2 > max(own[1:])
    assert words.startswith(
        f"Output 1 of 3 is not clearly better than its mean: relative error {own[0]:.2f}. "
        "At its mean, output 1 raises the loss only "
    )
    variance = y.double().flatten(0, -2).numpy().var(0)
    share = float(words.split("only ")[1].split(" %")[0])
    assert share == pytest.approx(100 * variance[0] / variance[2], rel=0.2)
    assert "as much as output 3 at its mean. Standardise each output in y" in words


def test_several_outputs_are_named_together():
    y = (SCALES * SIGNAL)[:, -1]
    x = SCALES * torch.cat((NOISE[..., :2], SIGNAL[..., 2:]), 2)
    words, race = note(x, y)
    one, two, _ = relative_errors(x, y, race)
    assert words.startswith(
        "Outputs 1, 2 of 3 are not clearly better than their means: relative errors "
        f"{one:.2f}, {two:.2f}. "
    )
    assert "outputs 1, 2 each raise the loss at most 1" in words


def test_noise_of_the_same_scale_has_no_remedy():
    y = SIGNAL[:, -1]
    words, _ = note(torch.cat((NOISE[..., :1], SIGNAL[..., 1:]), 2), y)
    assert words.startswith("Output 1 of 3 is not clearly better than its mean: relative error ")
    assert words.endswith(".") and words.count(". ") == 0, words


def test_an_output_of_small_weight_gets_another_remedy():
    weights = torch.tensor([1e-4, 1.0, 1.0])

    def loss_fn(z, y):
        return (weights * (z - y) ** 2).mean()

    words, _ = note(torch.cat((NOISE[..., :1], SIGNAL[..., 1:]), 2), SIGNAL[:, -1], loss_fn)
    assert "raises the loss only 0.01" in words
    assert words.endswith("Give these targets a larger weight in the loss.")


def still(y):
    return torch.cat((y[..., :2], torch.full_like(y[..., :1], 5.0)), -1)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (SIGNAL, SIGNAL[:, -1] + 0.3 * NOISE[:, -1]),
        (0.2 * SIGNAL, SIGNAL[:, -1]),
        (NOISE, SIGNAL[:, -1]),
        (still(SIGNAL) + 0.01 * NOISE, still(SIGNAL)[:, -1]),
        (NOISE[..., :1], SIGNAL[:, -1, :1]),
        (SIGNAL.repeat(1, 1, 6), torch.cat((NOISE[:, -1], *[SIGNAL[:, -1]] * 5), 1)),
    ],
    ids=["learned", "a little", "nothing", "a constant", "one", "many"],
)
def test_nothing_is_said_of_outputs_that_are_learned_alike(x, y):
    assert note(x, y)[0] == ""


def likelihood(z, y):
    mean, deviation = z.unbind(-1)
    return F.gaussian_nll_loss(mean, y, 0.1 + deviation.square())


@pytest.mark.parametrize(
    ("model", "y", "loss_fn"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * T, 3)), torch.arange(N) % 3, F.cross_entropy),
        (nn.Linear(3, 2), NOISE[..., 0], likelihood),
        (nn.Sequential(nn.Linear(3, 1), nn.Flatten()), SIGNAL[..., 0], F.mse_loss),
    ],
    ids=["classes", "a likelihood", "a number for each frame"],
)
def test_targets_without_several_numbers_have_no_outputs_of_their_own(model, y, loss_fn):
    given = Training(model, SIGNAL, y, loss_fn, "sgd", batch_axis=0)
    assert note_on_outputs(given, race_of(given, Probe(given))) == ""


def of_scales():
    """A network that is trained with squared errors of two outputs of unequal scale."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * T, 2))
    y = SIGNAL[:, -1, :2] * torch.tensor([0.01, 10.0])
    return model, SIGNAL, y, nn.MSELoss(), torch.optim.Adam(model.parameters(), 0.1)


def test_a_check_says_that_only_the_output_of_large_scale_is_learned():
    found = trainability.check(*of_scales(), steps=200, seconds=60)
    assert found.outcome == "learns" and found.error < 0.01
    (words,) = found.remarks
    assert words.startswith("Output 1 of 2 is not clearly better than its mean: relative error ")
    assert words in found.sentences()
    model, x, y, loss, adam = of_scales()
    found = trainability.check(model, x, y / y.std(0), loss, adam, steps=200, seconds=60)
    assert found.outcome == "learns" and not found.remarks


def test_a_test_that_passes_warns_and_one_that_fails_has_the_sentence():
    with pytest.warns(UserWarning, match=r"learns\. Output 1 of 2 is not"):
        trainability.assert_learns(*of_scales(), steps=200)
    with pytest.raises(AssertionError, match="\nOutput 1 of 2 is not clearly better than its mean"):
        trainability.assert_learns(*of_scales(), steps=200, below=1e-9)
    model, x, y, loss, adam = of_scales()
    with warnings.catch_warnings(action="error"):
        trainability.assert_learns(model, x, y / y.std(0), loss, adam, steps=200)
