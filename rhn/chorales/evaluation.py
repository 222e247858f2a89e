"""How well a model predicts chorales, over the batches that a training measures its losses over: `rhn evaluate` repeats them.

It computes in float32 whatever the training's precision was: what a training in "mixed" or "tf32" measured comes out the same to
about 1e-6.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rhn.chorales.batches import evaluation_batches, predicted_frames
from rhn.chorales.losses import mean_nll
from rhn.data import Corpus, chorales
from rhn.engine.folder import data_path
from rhn.engine.numerics import exact
from rhn.engine.stack import Stack


@dataclass(frozen=True)
class Evaluation:
    """A model on a split: mean negative log-likelihood of a predicted frame in nats, and how many frames were predicted."""

    nll: float
    frames: int


def evaluate(model: nn.Module, pieces: Sequence[np.ndarray], *, device: torch.device | str = "cpu") -> Evaluation:
    """The loss of one model on pieces (T_i, keys); each frame but a piece's first is predicted from those before it.

    Raises DataError where no piece has two frames.
    """
    stack = Stack.measured(model, device)
    batches = evaluation_batches(pieces, device=device, dtype=stack.dtype)
    with exact():
        return Evaluation(mean_nll(stack, batches).item(), predicted_frames(batches))


def corpus_of(checkpoint: Path, data: Path | None) -> Corpus:
    """The chorales of a file; None: of the file that the run's folder names, else those rebuilt from music21's scores."""
    return chorales(data_path(checkpoint) if data is None else data)
