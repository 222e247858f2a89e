"""Losses in nats: of a token, and what a step of training descends.

loss = sum over steps and rows of -log P(token) / B  [+ activation terms (Merity et al. 2017), in nats a token times T]
"""

import torch.nn.functional as F
from torch import Tensor

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
