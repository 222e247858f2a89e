"""Measures of non-normality: how far norm, numerical range and powers of a matrix differ from what its spectrum suggests.

    departure from normality (P. Henrici, 1962)   sqrt(||A||_F^2 - sum |lambda_i|^2): Frobenius norm of T - diag(T), A = Q T Q*
    numerical radius                              max |z|, z in the numerical range {x* A x : |x| = 1}
    Kreiss' constant                              K(A) = sup over |z| > 1 of (|z| - 1) ||(z - A)^-1||

rho(A) <= r(A) <= ||A||_2 <= 2 r(A), and r(A^k) <= r(A)^k (R. Horn, C. Johnson, "Topics in Matrix Analysis", 1991, chapter 1): powers
of A are at most 2 r(A)^k, whatever its eigenvectors. For a normal matrix, rho, r and ||A||_2 agree.

K <= sup_k ||A^k|| <= e n K (H.-O. Kreiss, 1962; M. Spijker, 1991; L. Trefethen, M. Embree, "Spectra and Pseudospectra", 2005, chapter
18). The value at any point z is a lower bound of K, and so of the largest power, up to rounding. The search evaluates a grid of
distances from the unit circle (logarithmic) and angles, then finer grids around the best points.

Shapes: A (..., n, n), real for the numerical radius and Kreiss' constant, results (...,) real. Unit: the matrix's. No gradient flows
through.
"""

import math

import numpy as np
import torch
from torch import Tensor

from gersgorin._validate import check_square
from gersgorin.linalg.inclusion import NumericalRange
from gersgorin.linalg.outlines import support_corners
from gersgorin.linalg.resolvent import smallest_singular_values
from gersgorin.linalg.spectrum import eigenvalues, one_thread


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
    with one_thread():
        norm = torch.linalg.matrix_norm(region.A, 2)
    farthest = np.abs(support_corners(region.support.cpu().double().numpy())).max(-1)
    return torch.minimum(torch.as_tensor(farthest, device=norm.device).to(norm), norm)


DISTANCES, ANGLES = 12, 16  # of the first grid
OUTERMOST = 12  # eigenvalues of largest modulus, whose angles are in the grid
NEAREST = 1e-6  # distance from the unit circle, of the matrix's norm
AROUND_ALL = 65  # points along a circle, besides those at the eigenvalues' angles
CIRCLES = (0.5, 0.9, 0.1, 0.0)  # places between the unit circle and the outermost eigenvalue
BEST, AROUND, ROUNDS = 2, 7, 3  # best points, side of the grid around each, rounds; each round is a third as wide


def kreiss_constant(A: Tensor) -> Tensor:
    """A lower bound on Kreiss' constant, (...,) float64 on the CPU, at least 1, usually exact to three digits.

    inf where an eigenvalue lies outside the unit circle whatever rounding does: beyond a wider circle through no eigenvalue of any
    matrix within n eps ||A||, as sigma_min(z - A) along it shows. Then powers grow without end. Takes some hundred points of a
    pseudospectrum a matrix.

    Raises:
        InvalidInputError: A is not square, not floating point, or holds NaN or infinity.

    >>> kreiss_constant(torch.tensor([[0.5, 0.0], [0.0, -0.9]]))  # normal
    tensor(1., dtype=torch.float64)
    """
    stack = check_square(A).detach().cpu().to(torch.promote_types(A.dtype, torch.float64))
    values = eigenvalues(stack)
    edge, reach = values.abs().amax(-1) - 1, numerical_radius(stack, 32) - 1
    found = torch.ones_like(edge)  # of a numerical range in the unit disc: nothing grows
    with one_thread():
        for index in map(tuple, (reach > 0).nonzero()):
            out = float(edge[index])
            grows = out > 0 and _stays_outside(stack[index], values[index], out)
            found[index] = torch.inf if grows else _search(stack[index], values[index])
    return found


def _rounding(A: Tensor) -> float:
    """By how much, in norm, computed numbers are those of another matrix."""
    return len(A) * torch.finfo(torch.float64).eps * float(torch.linalg.matrix_norm(A))


def _stays_outside(A: Tensor, spectrum: Tensor, edge: float) -> bool:
    """True if every matrix within rounding of A has an eigenvalue outside: none has one on a circle before the outermost of A."""
    whole = torch.linspace(-1, 1, AROUND_ALL, dtype=torch.float64, device="cpu") * math.pi
    angles = torch.cat([whole, spectrum.angle()])
    circles = (torch.polar(torch.full_like(angles, 1 + share * edge), angles) for share in CIRCLES)
    return any(float(smallest_singular_values(A, z).min()) > _rounding(A) for z in circles)


def _search(A: Tensor, spectrum: Tensor) -> float:
    """The largest value found; log distances u from the unit circle and angles p are searched, z = (1 + e^u) e^ip."""
    norm, rounding = float(torch.linalg.matrix_norm(A)), _rounding(A)

    def value(u: Tensor, p: Tensor) -> Tensor:
        distance = u.exp()
        sigma = smallest_singular_values(A, torch.polar(1 + distance, p))
        return distance / (sigma + rounding)  # a lower bound in spite of rounding

    u = torch.linspace(math.log(NEAREST * norm), math.log(4 * norm), DISTANCES, dtype=torch.float64, device="cpu")
    p = torch.linspace(0, math.pi, ANGLES, dtype=torch.float64, device="cpu")  # the values mirror at the real axis
    peaks = spectrum[spectrum.abs().argsort(descending=True)[:OUTERMOST]].angle()  # there the resolvent is large
    p = torch.cat([p, peaks.abs()]).unique()
    u_width, p_width = float(u[1] - u[0]), math.pi / (ANGLES - 1)
    u, p = (t.flatten() for t in torch.meshgrid(u, p, indexing="ij"))
    values = value(u, p)
    offsets = torch.linspace(-1, 1, AROUND, dtype=torch.float64, device="cpu")
    du, dp = (t.flatten() for t in torch.meshgrid(offsets, offsets, indexing="ij"))
    for _ in range(ROUNDS):
        best = values.topk(min(BEST, len(values))).indices
        u, p = (u[best, None] + u_width * du).flatten(), (p[best, None] + p_width * dp).flatten()
        values = value(u, p)  # the centre of each small grid is one of the best points
        u_width, p_width = u_width / 3, p_width / 3
    return max(1.0, float(values.max()))
