"""N steps of SGD with momentum as one, for a gradient that is known in advance.

    v[j+1] = mu v[j] + g[j]        theta[j+1] = theta[j] - eta v[j+1]

Everything here is exact for its g: constant, growing linearly (g[j] = j / N), or the error of an output bias, which its own steps bring
to zero. So N may be 1 or 10^40. For each, how far theta has gone (the sum of v, to be multiplied by -eta) and v after the N steps.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Response(NamedTuple):
    """What N steps make of a part of the gradient: the sum of v[1..N], and v[N]."""

    sum: float | Tensor
    last: float | Tensor


class Block(NamedTuple):
    """The responses of N steps to a velocity before them, to a constant gradient of 1, and to one that grows from 0 towards 1."""

    velocity: Response
    constant: Response
    ramp: Response


def block(N: int, mu: float) -> Block:
    """The three responses, by summing geometric series.

    >>> block(2, 0.5).constant        # v[1] = 1, v[2] = 1.5
    Response(sum=2.5, last=1.5)
    """
    power, rest = mu**N, 1 - mu
    S0 = mu * (1 - power) / rest  # sum of mu^m, m = 1..N
    late = (N - 1 - S0 + power) / rest  # sum of (N - m) mu^(m-1), m = 1..N
    return Block(
        Response(S0, power),
        Response((N - S0) / rest, (1 - power) / rest),
        Response(((N - 1) / 2 - mu * late / N) / rest, late / N),
    )


def relax(error: Tensor, velocity: Tensor, rate: Tensor, N: int, mu: float) -> tuple[Response, Tensor, Tensor]:
    """N steps of a bias b whose gradient is `error` and falls by `rate` (eta times a second derivative) times each step's v.

    Returns:
        The response, from a velocity of zero, to the errors of these steps; the error and the bias's velocity after them.
    """
    row = torch.stack(
        (torch.stack((1 - rate, -rate * mu), -1), torch.stack((torch.ones_like(rate), mu + 0 * rate), -1)), -2
    )
    after = _power(row, N) @ torch.stack((error, velocity), -1).unsqueeze(-1)
    error_after, velocity_after = after[..., 0, 0], after[..., 1, 0]
    steps = block(N, mu)
    slow = (
        rate * float(N) < 1e-7
    )  # the error hardly falls: it is a constant gradient, and the quotient below would be rounding
    total = (error - error_after) / rate.clamp_min(1e-300) - steps.velocity.sum * velocity
    last = velocity_after - steps.velocity.last * velocity
    response = Response(
        torch.where(slow, steps.constant.sum * error, total), torch.where(slow, steps.constant.last * error, last)
    )
    return response, error_after, velocity_after


def _power(A: Tensor, N: int) -> Tensor:
    """A^N of square matrices, N of any size, by squaring."""
    result = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device).expand_as(A)
    while N:
        if N % 2:
            result = result @ A
        A, N = A @ A, N // 2
    return result
