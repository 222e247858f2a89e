"""The largest singular value of an operator, and norms of products of Jacobians, by products with vectors alone.

Golub and Kahan's bidiagonalization (1965) of A from a vector v: A V = U B with B upper bidiagonal, every new direction made
orthogonal to all before it. Its largest singular value sigma grows from step to step towards ||A||; the residual, the norm that the
last direction leaves over, is a bound on how far sigma is from a singular value of A.

Of products A[t] ... A[0] each is sought from the direction that the one before it grew most, disturbed a little by random numbers
so that no direction is missed for good: a few passes forward and back through the run are enough.

Legend: T steps; N entries of a state; b directions.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from rhn.errors import NotConvergedError

# of the residual, relative to sigma; sigma itself is then off by about its square where it stands apart
TOLERANCE = 1e-8
DIRECTIONS = 300  # at most
DISTURBANCE = 0.03

Product = Callable[[Tensor], Tensor]


def largest_singular_value(
    forward: Product, backward: Product, start: Tensor, *, tol: float = TOLERANCE, most: int = DIRECTIONS
) -> tuple[float, Tensor, Tensor]:
    """(||A||_2, u, v) with A v = ||A||_2 u, of any real A; u is zero where A is.

    Args:
        forward, backward: v -> A v and u -> A^T u.
        start: where to search from, (columns,), not zero.
        tol: of the residual, relative to sigma.
        most: directions after which the search is given up.

    Raises:
        NotConvergedError: the residual is still larger; its `found` is sigma, a bound from below.

    >>> A = torch.tensor([[3.0, 0.0], [4.0, 5.0]], dtype=torch.float64)
    >>> round(largest_singular_value(lambda v: A @ v, lambda u: A.T @ u, torch.tensor([1.0, 0.0], dtype=A.dtype))[0] ** 2, 9)
    45.0
    """
    tol = max(tol, 10 * torch.finfo(start.dtype).eps)
    most = min(most, len(start))
    V, U, B = [start / start.norm()], [], np.zeros((most, most))
    for j in range(most):
        u = forward(V[j])
        if j:
            u = u - B[j - 1, j] * U[-1]
        u, B[j, j] = _new_direction(u, U)
        U.append(u)
        v, beta = _new_direction(backward(u) - B[j, j] * V[j], V)
        if beta and j + 1 < most and j % (j // 10 + 1):  # later on not every direction is worth a look
            V.append(v)
            B[j, j + 1] = beta
            continue
        left, sigmas, right = np.linalg.svd(B[: j + 1, : j + 1])
        sigma, residual = float(sigmas[0]), beta * abs(float(left[j, 0]))
        if residual <= tol * sigma or beta == 0 or j + 1 == len(start):
            return sigma, _combined(U, left[:, 0]), _combined(V, right[0])
        V.append(v)
        if j + 1 < most:
            B[j, j + 1] = beta
    raise NotConvergedError(
        f"the norm of {len(start)} columns is at least {sigma:.6g} but did not settle in {most} directions: use a larger tol",
        found=sigma,
    )


def product_log_norms(
    steps: Sequence[tuple[Product, Product]], like: Tensor, *, seed: int = 0, tol: float = TOLERANCE
) -> Iterator[float]:
    """log ||A[t] ... A[0]||_2 for t = 0, 1, ...; -inf from where the product is zero. Nothing but vectors is kept.

    Args:
        steps: (forward, backward) of each A[t], asked for t + 1 times and more: they may be made when they are asked for.
        like: a vector of the state's type, on its device. seed: of the random numbers. tol: see `largest_singular_value`.
    """
    generator = torch.Generator().manual_seed(seed)

    def disturbed(v: Tensor | float, scale: float) -> Tensor:
        noise = torch.randn(len(like), generator=generator, dtype=torch.float64, device="cpu").to(like)
        return v + noise * (scale / noise.norm())

    u = v = disturbed(0.0, 1.0)
    sigma, scales = 1.0, []
    for t in range(len(steps)):
        multiply, _ = steps[t]
        scales.append(math.frexp(sigma * float(multiply(u).norm()) or 1.0)[1])
        sigma, u, v = _of_chain(steps[: t + 1], scales, disturbed(v, DISTURBANCE), tol)
        if not sigma:
            yield from [-math.inf] * (len(steps) - t)
            return
        yield math.log(sigma) + sum(scales) * math.log(2)


def _of_chain(
    steps: Sequence[tuple[Product, Product]], scales: list[int], v: Tensor, tol: float
) -> tuple[float, Tensor, Tensor]:
    """The triplet of A[t] ... A[0] with every factor divided by two to its scale."""

    def forward(v: Tensor) -> Tensor:
        for (multiply, _), scale in zip(steps, scales, strict=True):
            v = multiply(v) * 2.0**-scale
        return v

    def backward(u: Tensor) -> Tensor:
        for (_, multiply), scale in zip(reversed(steps), reversed(scales), strict=True):
            u = multiply(u) * 2.0**-scale
        return u

    return largest_singular_value(forward, backward, v, tol=tol)


def _combined(directions: list[Tensor], weights: np.ndarray) -> Tensor:
    return torch.stack(directions, 1) @ torch.as_tensor(weights, device=directions[0].device).to(directions[0])


def _new_direction(v: Tensor, others: list[Tensor]) -> tuple[Tensor, float]:
    """(the unit vector of what of v is orthogonal to the others, its length); zero and 0.0 where that is rounding."""
    before = float(v.norm())
    for _ in range(2):  # twice is enough (Kahan, in Parlett 1980)
        for other in others:
            v = v - (other @ v) * other
    length = float(v.norm())
    if length <= 10 * torch.finfo(v.dtype).eps * before:
        return torch.zeros_like(v), 0.0
    return v / length, length
