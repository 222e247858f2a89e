"""Losses in nats a token, what a step of training descends, and what they are told in: perplexity = exp of it, bits = it / log 2."""

import math

import torch.nn.functional as F
from torch import Tensor

from rhn.data.text import Vocabulary
from rhn.language.config import LanguageConfig
from rhn.models.dropout import Masks
from rhn.models.language import States


def token_nll(logits: Tensor, targets: Tensor) -> Tensor:
    """-log P(target) in nats: (..., V), (...) -> (...)."""
    flat = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none")
    return flat.view(targets.shape)


def window_loss(
    model, own: tuple[States, Masks], tokens: Tensor, config: LanguageConfig
) -> tuple[Tensor, tuple[Tensor, States]]:
    """What a step descends on a window of tokens (T + 1, B), and (nll (T, B), states after it); `own` is (states, masks)."""
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


def perplexity(nll: float) -> float:
    """exp(nll), infinity where that is beyond any number."""
    return math.exp(nll) if nll < 700 else math.inf if nll == nll else math.nan


def measure_name(vocabulary: Vocabulary) -> str:
    """What a text of this vocabulary is measured in: "perplexity" for words, "bits_per_character" for the others."""
    return "perplexity" if vocabulary.unit == "words" else "bits_per_character"


def measure(nll: float, name: str) -> float:
    """A loss in nats a token as perplexity or bits."""
    return perplexity(nll) if name == "perplexity" else nll / math.log(2)
