"""One training step of K stacked language models, as the official code takes it.

Legend: T steps of a window, B rows, K models, n units; everything of a model has a leading axis K.

    loss   = sum over steps and rows of -log P(token) / B  [+ activation terms (Merity et al. 2017), in nats a token times T]
             [+ weight_decay sum(p^2) / 2  with weight_decay_form="loss"]
    g      = d loss / d p,  scaled down to norm `gradient_norm` over all parameters of a model where it is larger
    p     <- p - lr g                [p <- (1 - weight_decay) p  with weight_decay_form="shrink", the Torch7 code]

The nll is summed over steps, so a learning rate of 0.2 is one of 0.2 T for a loss in nats a token.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from rhn.kernels.fused_sgd import gradient_norm, sgd_step, sums
from rhn.models.dropout import Masks
from rhn.models.language import States
from rhn.training.config import LanguageConfig
from rhn.training.ensemble import Ensemble
from rhn.training.losses import window_loss


class Taken(NamedTuple):
    """What a step found, before the weights changed: (K,) float64 tensors, and the states that the next window starts from."""

    nll: Tensor
    """Nats, summed over steps and averaged over rows."""
    norm: Tensor
    """The gradient's, before it was scaled down."""
    states: States


def training_step(
    stack: Ensemble, tokens: Tensor, states: States, masks: Masks, learning_rate: Tensor, config: LanguageConfig
) -> Taken:
    """Change the weights of a stack in place; returns what was found.

    Args:
        tokens: (T + 1, B) int64, shared by all models; the last T are predicted.
        states: one (K, B, state_size) for each cell.
        masks: those of K models stacked, or of none.
        learning_rate: (K,).
    """
    gradients, (nll, states) = stack.gradients(window_loss, tokens, config, own=(states, masks), has_aux=True)
    forms = {"loss": 0.0, "shrink": 0.0} | {config.weight_decay_form: config.weight_decay}
    norm = gradient_norm(stack.weights, gradients, forms["loss"])
    scale = (config.gradient_norm / norm.clamp(min=config.gradient_norm)).to(learning_rate.dtype)
    finite = norm.isfinite()
    scale = torch.where(finite, scale, torch.nan)  # an overflow is not to be taken for a step of length 0
    taken = finite if config.skips_overflow else torch.ones_like(finite)
    sgd_step(stack.weights, gradients, learning_rate, scale, taken, decay=forms["loss"], shrink=forms["shrink"])
    return Taken(sums(nll) / tokens.shape[1], norm, states)
