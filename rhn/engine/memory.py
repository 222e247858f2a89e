"""How much memory training takes, estimated from shapes: a stack is cut into parts that a CPU handles well.

For every frame of a batch a model keeps what its matrices give, one number for each of their rows, several times over: in the forward
pass, in the backward pass and between.
"""

from collections.abc import Sequence

import torch
from torch import nn

from rhn.chorales.batches import Minibatch

COPIES = 5  # measured on our cells: 2.4 to 5.6
CACHE_BYTES = 8 << 20  # weights of the models that go through a step together: beyond the cache it would be slower
PART_BYTES = 512 << 20  # what such a step may take: larger parts gain nothing


def weight_bytes(model: nn.Module) -> int:
    """One set of a model's parameters."""
    return sum(p.numel() * p.element_size() for p in model.parameters())


def step_bytes(model: nn.Module, batches: Sequence[Minibatch]) -> int:
    """What one model needs for a step on the largest of these batches, beside its weights; an estimate.

    Evaluation fits into it: twice the rows, and no backward pass.
    """
    outputs = sum(p.numel() // p.shape[-1] for p in model.parameters() if p.dim() > 1)
    return COPIES * 4 * outputs * max(batch.mask.numel() for batch in batches)


def part_size(model: nn.Module, batches: Sequence[Minibatch], device: torch.device) -> int | None:
    """How many models go through a step together; None for all of them (on a GPU)."""
    if device.type != "cpu":
        return None
    return max(1, min(CACHE_BYTES // weight_bytes(model), PART_BYTES // step_bytes(model, batches)))
