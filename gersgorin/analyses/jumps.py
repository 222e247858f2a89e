"""Jumps of the derivative of a step, as that of a ReLU at 0, and jumps of the step itself.

Legend: B rows, m inputs, N entries of a state.
"""

import torch
from torch import Tensor

from gersgorin import door
from gersgorin.step import Rows


def jumps(rows: Rows, x: Tensor, s: Tensor, after: Tensor, size: Tensor | None = None) -> Tensor:
    """|d - e| / |v| at rows x (B, m) and s (B, N), (B,): the difference quotients d and e of a step
    on two sides of s, along random signs v. Near 0 for a smooth step; the difference of the slopes
    at a kink; far above 1 if the step itself jumps. The smaller number of two distances: the short
    one has the rounding of the step, the long one its curvature.

    after: the next states (B, N).
    size: the unit of a state, (B, 1) or 0-dim; None: the largest modulus of an entry, or 1 for 0.

    >>> s = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    >>> jumps(lambda x, s: torch.relu(s), s, s, s).round(decimals=6).tolist()
    [1.0, 0.0]
    """
    if size is None:
        size = s.abs().amax(1, keepdim=True)
        size = torch.where(size > 0, size, 1)
    generator = torch.Generator("cpu").manual_seed(0)
    signs = torch.randn(s.shape[1], generator=generator, device="cpu").sign()
    unit, eps = size * signs.to(s).expand_as(s), torch.finfo(s.dtype).eps
    with door.users_code("the step fails beside a state"):
        each = [(rows(x, s + v) + rows(x, s - v) - 2 * after).norm(dim=1) / v.norm(dim=1)
                for v in (eps**power * unit for power in (1 / 2, 1 / 3))]  # fmt: skip
    return torch.minimum(*each)
