"""Products with Jacobians by reverse passes: many at once, or one by one if an operation cannot be
batched.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from rhn.utils.threads import Shared

BLOCK = 1 << 22  # numbers of derivatives computed at once
# beginning of torch's warning for an operation that it repeats row by row
SLOW = "There is a performance drop"


def vjps(y: Tensor, inputs: Sequence[Tensor], w: Tensor) -> list[Tensor]:
    """Vector-Jacobian products w[j] dy/d(input) for each input and weights w (b, *y.shape): tensors
    (b, *input.shape), zero if y does not depend on the input.

    The graph is kept.

    >>> v = torch.ones(2, requires_grad=True)
    >>> vjps(3 * v, [v], torch.eye(2))[0].tolist()
    [[3.0, 0.0], [0.0, 3.0]]
    """
    how = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    pull = partial(torch.autograd.grad, y, inputs, **how)
    if not inputs or not y.requires_grad:
        return [torch.zeros_like(v).expand(len(w), *v.shape) for v in inputs]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", SLOW)
            return [*vmap(pull)(w)]
    except RuntimeError:  # an operation that cannot be batched
        return [*map(torch.stack, zip(*map(pull, w), strict=True))]


@contextmanager
def with_gradients() -> Iterator[None]:
    """Context manager and decorator that turns gradients on; the caller's mode is restored
    afterwards. Tensors created in inference mode cannot have gradients even here; their clones can.

    >>> with torch.no_grad(), with_gradients():
    ...     torch.is_grad_enabled()
    True
    """
    with torch.inference_mode(False), torch.enable_grad():
        yield


plain_attention = Shared(partial(sdpa_kernel, SDPBackend.MATH))
"""Context in which attention is plain operations: fused kernels have no second derivatives."""
