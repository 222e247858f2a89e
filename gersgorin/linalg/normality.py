"""Measures of non-normality: how far norm, numerical range and powers of a matrix differ from what its spectrum suggests.

    departure from normality (P. Henrici, 1962)   sqrt(||A||_F^2 - sum |lambda_i|^2): Frobenius norm of T - diag(T), A = Q T Q*
    numerical radius                              max |z|, z in the numerical range {x* A x : |x| = 1}

rho(A) <= r(A) <= ||A||_2 <= 2 r(A), and r(A^k) <= r(A)^k (R. Horn, C. Johnson, "Topics in Matrix Analysis", 1991, chapter 1): powers
of A are at most 2 r(A)^k, whatever its eigenvectors. For a normal matrix, rho, r and ||A||_2 agree.
"""

import numpy as np
import torch
from torch import Tensor

from gersgorin._validate import check_square
from gersgorin.linalg.inclusion import NumericalRange
from gersgorin.linalg.outlines import support_corners
from gersgorin.linalg.products import spectral_norm
from gersgorin.linalg.spectrum import eigenvalues


def departure_from_normality(A: Tensor, values: Tensor | None = None, *, relative: bool = False) -> Tensor:
    """Henrici's departure, (...,); relative: divided by ||A||_F, between 0 (normal) and 1 (nilpotent), 0 for A = 0.

    A difference of squares: known to about sqrt(n eps) ||A||_F, 1e-7 in float64. values: the eigenvalues (..., n) if they are known.

    Raises:
        InvalidInputError: A is not square, not floating point, or holds NaN or infinity.

    >>> departure_from_normality(torch.tensor([[1.0, 3.0], [0.0, 2.0]]))
    tensor(3.0000)
    """
    A = check_square(A).detach()
    values = eigenvalues(A) if values is None else values
    unit = A.abs().amax((-2, -1))
    unit = torch.where(unit > 0, unit, 1)
    whole = torch.linalg.matrix_norm(A / unit[..., None, None])
    normal = torch.linalg.vector_norm(values / unit[..., None], dim=-1)
    found = ((whole - normal) * (whole + normal)).clamp(min=0).sqrt()
    return found / torch.where(whole > 0, whole, 1) if relative else found * unit


def numerical_radius(A: Tensor, angles: int = 128) -> Tensor:
    """A bound from above on the largest modulus in the numerical range, (...,): the farthest corner of its support lines.

    Above the radius by at most a factor 1 / cos(pi / angles), 3e-4 by default, and never above ||A||_2.

    Raises:
        InvalidInputError: as for `departure_from_normality`; or an odd number of angles, or fewer than 4.

    >>> numerical_radius(torch.tensor([[0.0, 2.0], [0.0, 0.0]]))  # its range is the unit disc
    tensor(1.0003)
    """
    region = NumericalRange(A, angles)
    norm = spectral_norm(region.A)
    farthest = np.abs(support_corners(region.support.cpu().double().numpy())).max(-1)
    return torch.minimum(torch.as_tensor(farthest, device=norm.device).to(norm), norm)
