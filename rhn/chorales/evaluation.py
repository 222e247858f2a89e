"""Losses in nats a frame: what a step of training descends, and what is measured, of a stack of models or of one.

Both are measured over the same batches: what a training reports, `rhn evaluate` repeats.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rhn.chorales.batches import Minibatch, evaluation_batches, predicted_frames
from rhn.data import Corpus, chorales
from rhn.engine.folder import data_path
from rhn.engine.numerics import exact
from rhn.engine.stack import Stack
from rhn.kernels.bernoulli import frame_nll


def mean_loss(model, frames: Tensor, mask: Tensor, count: int) -> Tensor:
    """What a step of training descends: nats a predicted frame of one batch (T, B, keys) with its mask (T, B)."""
    return frame_nll(model(frames[:-1]), frames[1:], mask[1:]).sum() / count


def mean_nll(stack: Stack, batches: Sequence[Minibatch]) -> Tensor:
    """Nats a predicted frame of each model, (K,) in float64."""
    return sum(stack.map(_total_nll, b.frames, b.mask) for b in batches) / predicted_frames(batches)


def _total_nll(model, frames: Tensor, mask: Tensor) -> Tensor:
    return frame_nll(model(frames[:-1]), frames[1:], mask[1:]).sum(dtype=torch.float64)


@dataclass(frozen=True)
class Evaluation:
    """A model on a split: mean negative log-likelihood of a predicted frame in nats, and how many frames were predicted."""

    nll: float
    frames: int


def evaluate(model: nn.Module, pieces: Sequence[np.ndarray], *, device: torch.device | str = "cpu") -> Evaluation:
    """The loss of one model on pieces (T_i, keys); each frame but a piece's first is predicted from those before it.

    Raises DataError where no piece has two frames.
    """
    stack = Stack.of([model], device)
    batches = evaluation_batches(pieces, device=device, dtype=stack.dtype)
    with exact():
        return Evaluation(mean_nll(stack, batches).item(), predicted_frames(batches))


def corpus_of(checkpoint: Path, data: Path | None) -> Corpus:
    """The chorales of a file; None: of the file that the run's folder names, else those rebuilt from music21's scores."""
    return chorales(data_path(checkpoint) if data is None else data)
