"""Losses in nats a frame: what a step of training descends, and what is measured, of one model or of a stack."""

from collections.abc import Sequence

from torch import Tensor

from rhn.chorales.batches import Minibatch, predicted_frames
from rhn.engine.stack import Stack


def mean_loss(model, frames: Tensor, mask: Tensor, count: int) -> Tensor:
    """What a step of training descends: nats a predicted frame of one batch (T, B, keys) with its mask (T, B)."""
    return model(frames[:-1], frames[1:], mask[1:]) / count


def mean_nll(stack: Stack, batches: Sequence[Minibatch]) -> Tensor:
    """Nats a predicted frame of each model, (K,) in float64."""
    return sum(stack.map(_total_nll, b.frames, b.mask) for b in batches) / predicted_frames(batches)


def _total_nll(model, frames: Tensor, mask: Tensor) -> Tensor:
    return model(frames[:-1], frames[1:], mask[1:])
