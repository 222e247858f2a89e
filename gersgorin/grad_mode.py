"""Measures that differentiate, for callers that have turned gradients off: evaluations run under `no_grad` or `inference_mode`."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def with_gradients() -> Iterator[None]:
    """Within the block, or a function that this decorates, torch computes gradients; afterwards all is as the caller had it.

    Tensors made in inference mode have none even here: a clone has.
    """
    with torch.inference_mode(False), torch.enable_grad():
        yield
