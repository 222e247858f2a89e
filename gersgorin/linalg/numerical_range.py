"""The numerical range {x* A x : |x| = 1} of a matrix by its support lines: a region of the complex
plane that contains the eigenvalues.

For each angle t the range lies in the half-plane Re(e^-it z) <= h(t), where h(t) is the largest
eigenvalue of the Hermitian part of e^-it A (R. Horn, C. Johnson, "Topics in Matrix Analysis", 1991,
chapter 1). The range is convex; for a normal matrix it is the convex hull of the spectrum.

Shapes: A (..., n, n). Points have the unit of the matrix.
"""

import cmath

import numpy as np
import torch
from torch import Tensor

from gersgorin.linalg.matrices import check_square
from gersgorin.linalg.threads import one_thread
from rhn.errors import InvalidInputError
from rhn.utils.scale import scaled, unscaled
from rhn.utils.validation import whole_number

MOST_ANGLES = 2**20  # the polygon then exceeds a disc by less than the rounding of its support


@one_thread()
def numerical_radius(A: Tensor, angles: int = 128) -> Tensor:
    """Compute an upper bound on the largest modulus in the numerical range of real matrices A (...,
    n, n), (...,): the modulus of the farthest corner of the polygon of support lines.

    The numerical radius r(A) satisfies rho(A) <= r(A) <= ||A||_2 <= 2 r(A), and r(A^k) <= r(A)^k.
    The norm of A^k is therefore at most 2 r(A)^k, whatever the eigenvectors are. The bound is at
    most r(A) / cos(pi / angles), which is 3e-4 too large by default, and never above ||A||_2.

    Raises InvalidInputError.

    >>> numerical_radius(torch.tensor([[0.0, 2.0], [0.0, 0.0]]))  # its range is the unit disc
    tensor(1.0003)
    """
    if check_square(A).is_complex():
        raise InvalidInputError(f"A is {A.dtype}: expected real matrices")
    if whole_number("angles", angles, 4, MOST_ANGLES) % 2:
        raise InvalidInputError(f"angles is {angles}: expected an even number")
    M, exponent = scaled(A.detach())  # else the square of a norm overflows
    norm = torch.linalg.matrix_norm(M, 2)
    corners = support_corners(support_function(M, angles).cpu().double().numpy())
    farthest = torch.as_tensor(np.abs(corners).max(-1), device=norm.device)
    found = torch.minimum(farthest.to(norm), norm)
    return unscaled(found[..., None, None], exponent)[..., 0, 0]


def support_function(A: Tensor, angles: int) -> Tensor:
    """The support function h at `angles` equally spaced angles t of a full turn, from 0 on, (...,
    angles), for real matrices A (..., n, n) that have been checked.

    h(t + pi) is minus the least eigenvalue at t, and the range is symmetric about the real axis.
    Eigenvalues at a quarter of the angles are therefore enough.

    >>> support_function(torch.tensor([[0.0, 2.0], [0.0, 0.0]]), 4)  # its range is the unit disc
    tensor([1., 1., 1., 1.])
    """
    half, solved, parts = angles // 2, angles // 4 + 1, []
    for k in range(solved):
        B = A * cmath.exp(-2j * cmath.pi * k / angles) if k else A
        parts.append(torch.linalg.eigvalsh((B + B.mH) / 2)[..., [-1, 0]])
    largest, least = torch.stack(parts, -1).unbind(-2)
    below = -least[..., : half + 1 - solved].flip(-1)  # h(pi - t) = h(pi + t)
    upper = torch.cat([largest, below], -1)  # t = 0 ... pi
    return torch.cat([upper, upper[..., 1:-1].flip(-1)], -1)


def support_corners(support: np.ndarray) -> np.ndarray:
    """The intersections of neighbouring lines Re(e^-it z) = h(t), for angles t in equal steps of a
    full turn. The argument h and the result are (..., angles).

    >>> support_corners(np.ones(4)).round(6).tolist()
    [(1+1j), (-1+1j), (-1-1j), (1-1j)]
    """
    angles = support.shape[-1]
    step = 2 * np.pi / angles
    sideways = (np.roll(support, -1, -1) - support * np.cos(step)) / np.sin(step)
    return (support + 1j * sideways) * np.exp(1j * step * np.arange(angles))
