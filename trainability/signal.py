"""What the outputs of a training explain of the targets, and when they will explain half of it.

    share = explained(outputs, targets)          # of held-out examples, between 0 and 1
    forecast(points, noise)                      # the step of a half, by the growth of the share

On a plateau the error stands still while this share grows, by about the same factor in equal times.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from trainability.losses import class_axis

NOISE = 4.0  # times the share of random outputs: less is not told from none
HALF = 0.5  # share that counts as learned
POINTS = 3  # least number for a growth


def explained(outputs: list[Tensor], targets: list[Tensor]) -> tuple[float, int]:
    """(Share of the variance of targets that each output explains by itself, how many of each)."""
    columns = [columns_of(z.detach(), y) for z, y in zip(outputs, targets, strict=True)]
    if not columns or any(pair is None for pair in columns):
        return math.nan, 0
    z, y = (torch.cat(parts).double() for parts in zip(*filter(None, columns), strict=True))
    z, y = z - z.mean(0), y - y.mean(0)
    size = z.square().sum(0)
    by_unit = (z * y).sum(0).square() / torch.where(size > 0, size, 1.0)
    whole = y.square().sum()
    return float(by_unit.sum() / whole) if whole > 0 else math.nan, len(z)


def columns_of(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor] | None:
    """Outputs and targets (N, K), classes as indicators; None where the shapes do not fit."""
    axis = class_axis(z, y)
    if axis is not None and z.numel() > y.numel():
        z = z.movedim(axis, -1).flatten(0, -2)
        known = y.flatten() >= 0
        y = F.one_hot(y.flatten()[known].clamp_max(z.shape[1] - 1), z.shape[1])
        return z[known], y
    if z.numel() != y.numel():
        return None
    units = y.shape[-1] if y.dim() > 1 else 1
    return z.reshape(-1, units), y.reshape(-1, units)


def forecast(points: Sequence[tuple[int, float]], count: int) -> float | None:
    """The step at which the share is a half, by its growth; infinite if it does not grow.

    None: too few points lie above the noise of `count` examples, 1 / count.
    """
    clear = [(t, math.log(s)) for t, s in points if s > NOISE / max(count, 1)]
    clear = clear[-max(POINTS, len(clear) // 2 + 1) :]
    if len(clear) < POINTS:
        return None
    last, level = clear[-1]
    if level >= math.log(HALF):
        return float(last)
    mean_t = sum(t for t, _ in clear) / len(clear)
    mean_s = sum(s for _, s in clear) / len(clear)
    slope = sum((t - mean_t) * (s - mean_s) for t, s in clear)
    slope /= sum((t - mean_t) ** 2 for t, _ in clear)
    return last + (math.log(HALF) - level) / slope if slope > 0 else math.inf
