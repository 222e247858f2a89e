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


@pytest.mark.parametrize("size", [1e-6, 2.0])
def test_the_share_that_outputs_explain_is_measured_between_measurements(tmp_path, size):
    g = torch.Generator().manual_seed(0)
    y = torch.randn(40, 100, 1, generator=g)
    output = size * (0.4 * y + torch.randn(40, 100, 1, generator=g))
    model, path = nn.GRU(2, 3), tmp_path / "run.npz"
    with Recorder(model, PROBE, every=20, path=path, loss_fn=nn.functional.mse_loss) as recorder:
        for step in range(40):
            recorder.step(1.0, output[step], y[step])
    known = []
    for z, t in zip(output[..., 0].split(20), y[..., 0].split(20), strict=True):
        d = z - z.mean(1, keepdim=True)
        G, H, L = (
            2 * (d * t).mean().item(),
            2 * d.square().mean().item(),
            t.var(1, correction=0).mean().item(),
        )
        a = min(1.0, G / H)
        known.append((a * G - a * a * H / 2) / L)
    assert recorder.recording.explained[1:] == pytest.approx(known, rel=0.05)
    assert np.isnan(recorder.recording.explained[0])
    assert Recording.load(path).explained == pytest.approx(
        recorder.recording.explained, nan_ok=True
    )


def test_outputs_of_any_shape_are_read_or_refused_in_a_sentence():
    y = torch.randn(50, generator=torch.Generator().manual_seed(0))
    y -= y.mean()
    # the second one in place
    losses = (nn.functional.mse_loss, lambda output, y: output.sub_(y).square().mean())
    for loss_fn in losses:
        recorder = Recorder(nn.GRU(2, 3), PROBE, every=2, loss_fn=loss_fn)
        for targets in (y, y * math.nan, y, y):
            recorder.step(1.0, 0.1 * y, targets)
        assert recorder.recording.explained[2] > 0.1  # the first two steps have one loss
    for given in ((y, None), y), (y.reshape(10, 5), y), (y,):
        with pytest.raises(InvalidInputError, match="expected"):
            recorder.step(1.0, *given)


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
