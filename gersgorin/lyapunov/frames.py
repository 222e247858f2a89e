"""Growth rates of a frame of directions that is carried along by linear maps (G. Benettin et al., Meccanica 15, 1980).

A frame of k directions flattens: all of them turn to the one that grows fastest. A QR decomposition every few steps sets them
upright again, A[t] ... A[t'] Q = Q' R, and log |R_ii| is what the i-th one grew by. The sum over i is the growth of the frame's
volume, exactly: for a full frame the sum of log |det A|, whatever the frame.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from gersgorin.lyapunov.tangents import Tangent


def random_frame(N: int, k: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """k random orthonormal directions (N, k); the first of them do not depend on k."""
    columns = [torch.randn(N, generator=generator, dtype=torch.float64, device="cpu") for _ in range(k)]
    return torch.linalg.qr(torch.stack(columns, 1).to(like))[0]


def growth(maps: Iterable[Tangent], Q: Tensor, every: int = 1) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(steps since the last one, log |R_ii| (k,), the new Q) after every so many maps, and after the last."""
    steps = 0
    for step in maps:
        Q = step(Q)
        steps += 1
        if steps == every:
            Q, R = torch.linalg.qr(Q)
            yield steps, R.diagonal().abs().log(), Q
            steps = 0
    if steps:
        Q, R = torch.linalg.qr(Q)
        yield steps, R.diagonal().abs().log(), Q
