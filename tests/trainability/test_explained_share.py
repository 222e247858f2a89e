"""`trainability.Recorder` measures what share of the loss the outputs explain, and all else as
`gersgorin.Recorder` does.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn

import gersgorin
from gersgorin.recording import MOMENTS, Recording
from rhn.errors import InvalidInputError
from trainability import Recorder

PROBE = torch.rand(9, 1, 2, generator=torch.Generator().manual_seed(0))


def softmax_losses(z, y):
    """Cross entropies (N,) of logits (N, K) in NumPy."""
    logs = z - z.max(1, keepdims=True)
    logs = logs - np.log(np.exp(logs).sum(1, keepdims=True))
    return -logs[np.arange(len(y)), y]


def squares(z, y):
    """Squared errors (N,) in NumPy."""
    return ((z - y) ** 2).mean(1)


@pytest.mark.parametrize("kind", ["classes", "classes first", "masked numbers"])
def test_the_share_is_that_of_the_targets_that_the_loss_counts(kind, tmp_path):
    """1 - loss / loss of the mean output, of the targets that are no padding, in NumPy."""
    g = torch.Generator().manual_seed(0)
    B, T, K, steps, every = 6, 8, 4, 6, 3
    lengths = torch.randint(2, T + 1, (steps, B), generator=g)
    real = torch.arange(T) < lengths[..., None]  # (steps, B, T)
    z = 0.3 * torch.randn(steps, B, T, K, generator=g)
    if kind == "masked numbers":
        y = torch.randn(steps, B, T, K, generator=g)
        z, losses = z + 0.2 * y, squares
        given = torch.where(real[..., None], y, math.nan)

        def loss_fn(z, y):
            return (z - y.nan_to_num()).square()[~y.isnan()].mean()
    else:
        y = torch.randint(K, (steps, B, T), generator=g)
        z, losses = z + 0.2 * nn.functional.one_hot(y, K), softmax_losses
        given = torch.where(real, y, -100)

        def loss_fn(z, y):
            last = z if kind == "classes" else z.movedim(1, -1)
            return nn.functional.cross_entropy(last.flatten(0, 1), y.flatten())

    z = torch.where(real[..., None], z, 5.0)  # outputs at padding are far from the others
    with Recorder(nn.GRU(2, 3), PROBE, every=every, loss_fn=loss_fn) as recorder:
        for k in range(steps):
            output = z[k].movedim(-1, 1) if kind == "classes first" else z[k]
            recorder.step(1.0, output, given[k])
    expected = []
    for first in range(0, steps, every):
        own = of_mean = 0.0
        for k in range(first, first + every):
            kept, targets = z[k][real[k]].double().numpy(), y[k][real[k]].numpy()
            mean = np.broadcast_to(kept.mean(0), kept.shape)
            own += losses(kept, targets).mean()
            of_mean += losses(mean, targets).mean()
        expected.append(1 - own / of_mean)
    assert np.isnan(recorder.recording.explained[0])
    assert recorder.recording.explained[1:] == pytest.approx(expected, rel=1e-4)
    recorder.recording.save(tmp_path / "run.npz")
    assert Recording.load(tmp_path / "run.npz").explained[1:] == pytest.approx(expected, rel=1e-4)


def test_a_target_whose_output_is_perfect_counts():
    """The slope of a logit of 40 is 0 in single precision, as that at padding is."""
    y = torch.tensor([[0, 1, 2, -100]])
    z = 40 * nn.functional.one_hot(y.clamp_min(0), 3).float()
    loss_fn = lambda z, y: nn.functional.cross_entropy(z.flatten(0, 1), y.flatten())  # noqa: E731
    recorder = Recorder(nn.GRU(2, 3), PROBE, every=1, loss_fn=loss_fn)
    recorder.step(1.0, z, y)
    assert recorder.recording.explained[1] == pytest.approx(1)


def test_padding_that_is_told_from_the_rest_explains_nothing():
    """0.13 with outputs that are alike for all words, but not at padding."""
    y = torch.randint(5, (8, 9), generator=torch.Generator().manual_seed(0))
    y[:, 5:] = -100
    z = torch.zeros(8, 9, 5)
    z[:, 5:, 2] = 3.0
    loss_fn = lambda z, y: nn.functional.cross_entropy(z.flatten(0, 1), y.flatten())  # noqa: E731
    recorder = Recorder(nn.GRU(2, 3), PROBE, every=1, loss_fn=loss_fn)
    recorder.step(1.0, z, y)
    assert recorder.recording.explained[1] == pytest.approx(0, abs=1e-7)


def test_outputs_of_any_shape_are_read_or_refused_in_a_sentence():
    y = torch.randn(50, generator=torch.Generator().manual_seed(0))
    # the second one in place
    losses = (nn.functional.mse_loss, lambda output, y: output.sub_(y).square().mean())
    for loss_fn in losses:
        recorder = Recorder(nn.GRU(2, 3), PROBE, every=2, loss_fn=loss_fn)
        for targets in (y, y * math.nan, y, y):
            recorder.step(1.0, 0.1 * y, targets)
        # of one minibatch, and of two
        assert recorder.recording.explained[1:] == pytest.approx(explained_of(0.1 * y, y))
    for given in (((y, None), y), (y,)):
        with pytest.raises(InvalidInputError, match="expected"):
            recorder.step(1.0, *given)


def explained_of(z, y):
    """1 - loss / loss of the mean output, of squared errors."""
    z, y = z.double().numpy(), y.double().numpy()
    return 1 - ((z - y) ** 2).mean() / ((z.mean() - y) ** 2).mean()


def test_all_else_is_recorded_as_by_gersgorin():
    model = nn.GRU(2, 3)
    options = {"every": 1, "start": 3, "positions": 2, "about": "a GRU"}
    ours = Recorder(model, PROBE, loss_fn=nn.functional.mse_loss, **options)
    theirs = gersgorin.Recorder(model, PROBE, **options)
    for recorder in (ours, theirs):
        recorder.measure(4, 0.5)
    for name in set(MOMENTS):
        one, other = (vars(recorder.recording)[name] for recorder in (ours, theirs))
        assert np.array_equal(one, other, equal_nan=True), name
