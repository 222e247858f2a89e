"""Kreiss' constant: by how much the powers of a matrix grow before they decay, from its resolvent.

    discrete     K(A) = sup over |z| > 1 of (|z| - 1) ||(z - A)^-1||        K <= sup_k ||A^k|| <= e n K
    continuous   K(A) = sup over Re z > 0 of Re z ||(z - A)^-1||            K <= sup_t ||exp(tA)|| <= e n K

(H.-O. Kreiss, 1962; M. Spijker, 1991; L. Trefethen, M. Embree, "Spectra and Pseudospectra", 2005, chapters 14 and 18.) Any point z
gives a value that K is not below. So what a search finds is a lower bound, of K and of what the powers reach: certain, but for
rounding. The search looks at a grid of distances from the boundary (logarithmic) and places along it, then nearer and nearer
around the best points.
"""

import math

import torch
from torch import Tensor

from gersgorin._validate import binary_units, check_square, divided
from gersgorin.normality.measures import numerical_abscissa, numerical_radius
from gersgorin.normality.resolvent import smallest_singular_values
from gersgorin.spectrum import eigenvalues, one_thread

DISTANCES, PLACES = 12, 16  # of the first grid
OUTERMOST = 12  # eigenvalues, those nearest the boundary or beyond, at whose places too the grid looks
NEAREST = 1e-6  # distance from the boundary, of the matrix's norm
AROUND_ALL = 65  # points along the whole of a curve, beside those at the eigenvalues' places
CURVES = (0.5, 0.9, 0.1, 0.0)  # where they are looked for, between the boundary and the outermost eigenvalue
LARGEST = 1e300  # numbers beyond are taken for it
BEST, AROUND, ROUNDS = 2, 7, 3  # points gone on from, side of the grid around each, how often; each a third as wide


def kreiss_constant(A: Tensor, *, continuous: bool = False) -> Tensor:
    """A lower bound on Kreiss' constant, (...,) float64 on the CPU, at least 1, usually exact to three digits.

    inf where an eigenvalue lies outside the unit circle (continuous: right of the imaginary axis) whatever rounding does: beyond a
    wider circle (line) through no eigenvalue of any matrix within n eps ||A||, as sigma_min(z - A) along it shows. Then powers grow
    without end. Takes some hundred points of a pseudospectrum a matrix.

    Args:
        A: (..., n, n), real or complex; no gradient flows through.
        continuous: of exp(tA) instead of powers.

    Raises:
        InvalidInputError: A is not square, not floating point, or holds NaN or infinity.

    >>> kreiss_constant(torch.tensor([[0.5, 0.0], [0.0, -0.9]]))  # normal
    tensor(1., dtype=torch.float64)
    """
    check_square(A)
    stack = A.detach().cpu().to(torch.complex128 if A.is_complex() else torch.float64)
    unit = binary_units(stack)
    values = eigenvalues(divided(stack, unit)) * unit[..., 0]
    edge = values.real.amax(-1) if continuous else values.abs().amax(-1) - 1
    reach = numerical_abscissa(stack) if continuous else numerical_radius(stack, 32) - 1
    found = torch.ones(
        A.shape[:-2], dtype=torch.float64, device="cpu"
    )  # where the numerical range does not reach out, nothing grows
    with one_thread():
        for index in map(tuple, (reach > 0).nonzero()):
            out = min(float(edge[index]), LARGEST)
            grows = out > 0 and _stays_outside(stack[index], values[index], out, continuous)
            found[index] = torch.inf if grows else _search(stack[index], values[index], continuous)
    return found


def _norm(A: Tensor) -> float:
    """Frobenius', within what logarithms and products below can take."""
    unit = binary_units(A)
    return min(float(torch.linalg.matrix_norm(divided(A, unit)) * unit), LARGEST)


def _rounding(A: Tensor) -> float:
    """By how much, in norm, computed numbers are those of another matrix."""
    return len(A) * torch.finfo(torch.float64).eps * _norm(A)


def _stays_outside(A: Tensor, spectrum: Tensor, edge: float, continuous: bool) -> bool:
    """Whether all matrices that differ by rounding have an eigenvalue outside: none has one on a curve before the outermost of A."""
    whole = torch.linspace(-1, 1, AROUND_ALL, dtype=torch.float64, device="cpu")
    for share in CURVES:
        if continuous:
            places = torch.cat([whole * min(2 * _norm(A), LARGEST), spectrum.imag.clamp(-LARGEST, LARGEST)])
            z = torch.complex(torch.full_like(places, share * edge), places)
        else:
            places = torch.cat([whole * math.pi, spectrum.angle()])
            z = torch.polar(torch.full_like(places, 1 + share * edge), places)
        if float(smallest_singular_values(A, z).min()) > _rounding(A):
            return True
    return False


def _search(A: Tensor, spectrum: Tensor, continuous: bool) -> float:
    """The largest value found; log distances u and places p are searched, z = (1 + e^u) e^ip or e^u + ip."""
    norm, rounding = _norm(A), _rounding(A)

    def value(u: Tensor, p: Tensor) -> Tensor:
        distance = u.exp()
        z = torch.complex(distance, p) if continuous else torch.polar(1 + distance, p)
        return distance / (smallest_singular_values(A, z) + rounding)  # what is found holds whatever rounding did

    u = torch.linspace(math.log(NEAREST * norm), math.log(4 * norm), DISTANCES, dtype=torch.float64, device="cpu")
    below = 1 if A.is_complex() else 0  # whether it looks there too: a real matrix's values mirror at the real axis
    reach = norm if continuous else math.pi
    p = torch.linspace(-below * reach, reach, PLACES, dtype=torch.float64, device="cpu")
    outermost = spectrum[(spectrum.real if continuous else spectrum.abs()).argsort(descending=True)[:OUTERMOST]]
    peaks = outermost.imag if continuous else outermost.angle()  # the resolvent is large near the eigenvalues
    p = torch.cat([p, peaks if below else peaks.abs()]).double().unique()
    u_width, p_width = float(u[1] - u[0]), reach * (1 + below) / (PLACES - 1)
    u, p = (t.flatten() for t in torch.meshgrid(u, p, indexing="ij"))
    values = value(u, p)
    offsets = torch.linspace(-1, 1, AROUND, dtype=torch.float64, device="cpu")
    du, dp = (t.flatten() for t in torch.meshgrid(offsets, offsets, indexing="ij"))
    for _ in range(ROUNDS):
        best = values.topk(min(BEST, len(values))).indices
        u, p = (u[best, None] + u_width * du).flatten(), (p[best, None] + p_width * dp).flatten()
        values = value(u, p)  # the centre of each small grid is the point it goes on from
        u_width, p_width = u_width / 3, p_width / 3
    return max(1.0, float(values.max()))
