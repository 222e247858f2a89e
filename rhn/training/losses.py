"""Losses in nats a frame of chorales and a token of texts. Perplexity is exp(nats), bits are nats / log 2."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.data.text import Vocabulary
from rhn.models.dropout import Masks
from rhn.models.language import States
from rhn.training.batches import Minibatch, predicted_frames
from rhn.training.config import LanguageConfig
from rhn.training.ensemble import Ensemble


def mean_loss(model, frames: Tensor, mask: Tensor, count: int) -> Tensor:
    """Loss of a training step on chorales: nats a predicted frame of one batch (T, B, keys) with its mask (T, B)."""
    return model(frames[:-1], frames[1:], mask[1:]) / count


def mean_nll(ensemble: Ensemble, batches: Sequence[Minibatch]) -> Tensor:
    """Nats a predicted frame of each model, (K,) in float64."""
    return sum(ensemble.map(_total_nll, b.frames, b.mask) for b in batches) / predicted_frames(batches)


def _total_nll(model, frames: Tensor, mask: Tensor) -> Tensor:
    return model(frames[:-1], frames[1:], mask[1:])


def token_nll(logits: Tensor, targets: Tensor) -> Tensor:
    """-log P(target) in nats: (..., V), (...) -> (...)."""
    flat = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none")
    return flat.view(targets.shape)


def window_loss(
    model, own: tuple[States, Masks], tokens: Tensor, config: LanguageConfig
) -> tuple[Tensor, tuple[Tensor, States]]:
    """Loss of a training step on a window of tokens (T + 1, B), and (nll (T, B), states after the window).

    own: (states, masks) of the model.
    """
    states, masks = own
    reading = model(tokens[:-1], states, masks, tokens[1:])
    loss = reading.nll.sum() / tokens.shape[1]
    if config.activation_regularization:
        y = reading.outputs if masks.output is None else reading.outputs * masks.output
        loss = loss + config.activation_regularization * y.square().mean() * len(y)
    if config.temporal_activation_regularization and len(tokens) > 2:
        change = reading.outputs.diff(dim=0).square().mean()
        loss = loss + config.temporal_activation_regularization * change * len(reading.outputs)
    return loss, (reading.nll, reading.states)


def sums(stacked: Tensor) -> Tensor:
    """The sum of each model's numbers, (K, ...) -> (K,) in float64; one after another, so that no bit depends on the others."""
    return torch.stack([t.sum(dtype=torch.float64) for t in stacked])


def perplexity(nll: float) -> float:
    """exp(nll), infinity if that overflows."""
    return math.exp(nll) if nll < 700 else math.inf if nll == nll else math.nan


def measure_name(vocabulary: Vocabulary) -> str:
    """Name of the usual measure: "perplexity" for words, "bits_per_character" for characters and bytes."""
    return "perplexity" if vocabulary.unit == "words" else "bits_per_character"


def measure(nll: float, name: str) -> float:
    """Convert nats a token to perplexity or bits."""
    return perplexity(nll) if name == "perplexity" else nll / math.log(2)
