"""Losses in nats a frame of chorales and a token of texts. Perplexity is exp(nats), bits are nats / log 2."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from rhn.data.text import Vocabulary


@dataclass(frozen=True)
class Score:
    """Mean negative log-likelihood in nats a predicted frame of chorales or token of a text, and the number of these."""

    nll: float
    predicted: int


def token_nll(logits: Tensor, targets: Tensor) -> Tensor:
    """-log P(target) in nats: (..., V), (...) -> (...)."""
    flat = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none")
    return flat.view(targets.shape)


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
    """Convert nats to perplexity or bits; name "nll": leave them."""
    if name == "nll":
        return nll
    return perplexity(nll) if name == "perplexity" else nll / math.log(2)
