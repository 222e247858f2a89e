"""The step beside a state: central differences to compare with its Jacobian, and jumps of its
slope.

Legend: B rows, m inputs, N entries of a state.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gersgorin import checks
from gersgorin.step import Rows


@torch.no_grad()
def difference(rows: Rows, x: Tensor, s: Tensor, push: Callable[[Tensor], Tensor]) -> np.ndarray:
    """|A v - d| / (|d| + rounding) at rows x (B, m) and s (B, N), (B,): d is the central difference
    of a step along v, from s - h v to s + h v with h = eps^(1/3), and v are random signs times the
    largest modulus in s. The rounding of d is 1000 eps^(2/3) |v|. push: v (B, N) -> A v.
    """
    v, eps = random_signs(s), torch.finfo(s.dtype).eps
    h = eps ** (1 / 3)
    above, below = rows(torch.cat((x, x)), torch.cat((s + h * v, s - h * v))).chunk(2)
    d = (above - below) / (2 * h)
    rounding = 1000 * eps ** (2 / 3) * v.norm(dim=1)
    return ((push(v) - d).norm(dim=1) / (d.norm(dim=1) + rounding)).cpu().double().numpy()


def jumps(rows: Rows, x: Tensor, s: Tensor, after: Tensor, size: Tensor | None = None) -> Tensor:
    """|d - e| / |v| at rows x (B, m) and s (B, N), (B,): the difference quotients d and e of a step
    on two sides of s, along random signs v. Near 0 for a smooth step; the difference of the slopes
    at a kink; far above 1 if the step itself jumps. The smaller number of two distances: the short
    one has the rounding of the step, the long one its curvature.

    after: the next states (B, N).
    size: as for `random_signs`.

    >>> s = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    >>> jumps(lambda x, s: torch.relu(s), s, s, s).round(decimals=6).tolist()
    [1.0, 0.0]
    """
    unit, eps = random_signs(s, size), torch.finfo(s.dtype).eps
    with checks.users_code("the step fails beside a state"):
        each = [(rows(x, s + v) + rows(x, s - v) - 2 * after).norm(dim=1) / v.norm(dim=1)
                for v in (eps**power * unit for power in (1 / 2, 1 / 3))]  # fmt: skip
    return torch.minimum(*each)


def random_signs(s: Tensor, size: Tensor | None = None) -> Tensor:
    """Random signs for states s (B, N), times their size, (B, N). size: (B, 1) or 0-dim; None: the
    largest modulus of an entry, or 1 for 0.
    """
    if size is None:
        size = s.abs().amax(1, keepdim=True)
        size = torch.where(size > 0, size, 1)
    generator = torch.Generator("cpu").manual_seed(0)
    noise = torch.randn(s.shape[1], generator=generator, device="cpu")
    return torch.copysign(size, noise.to(s).expand_as(s))
