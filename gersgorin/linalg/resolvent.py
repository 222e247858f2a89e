"""Pseudospectra: the smallest singular value of z - A at many points z, by one Schur form and
triangular solves.

The eps-pseudospectrum of A is the set of z with sigma_min(z - A) <= eps: the eigenvalues of all A +
E with ||E||_2 <= eps (L. Trefethen, M. Embree, "Spectra and Pseudospectra", 2005). With A = Q T Q*,
T triangular, sigma_min(z - A) = sigma_min(z - T), and 1 / sigma_min^2 is the largest eigenvalue of
(z - T)^-1 (z - T)^-*. Lanczos' method finds it in some 4 to 20 steps of two triangular solves each
(S. Lui, "Computation of pseudospectra by continuation", 1997). Here thousands of points take their
steps side by side: a row of the solve is one product of matrices over all of them.

A value so found is that of a vector, so never below the true one but for rounding. If Lanczos'
method does not converge, or overflows, a singular value decomposition gives the value.

Shapes: T (n, n) complex upper triangular, z (p,) complex, vectors of all points (n, p), side by
side.
"""

import math

import numpy as np
import torch
from torch import Tensor

from gersgorin._validate import check_square
from gersgorin.linalg.outlines import binary_scale
from gersgorin.linalg.spectrum import one_thread
from rhn.errors import InvalidInputError
from rhn.utils.validation import check_room

LOOKS = 3  # steps of Lanczos' method between two looks at the residual
FAR = 2.0**60  # in norms of A; there |z| is sigma_min(z - A) to rounding
TOLERANCE = 1e-6  # of 1 / sigma^2, by the residual; of sigma half of it
STEPS = 64  # of Lanczos' method at the most; then a decomposition takes over
ENTRIES = 2**20  # of all points' vectors at once: 16 MiB
ANGLES = 360  # of the first grid on the unit circle
WITHIN = 9  # angles in a bracket, with its ends
# of the angle at a minimum, relative to its height, which is then known to 1e-7
PRECISION = 2.0**-11
SMALLEST = 2.0**-50  # difference of angles, by rounding
ROWS = 8  # of the triangle solved one by one; what is above them follows by a product of matrices


def pseudospectrum(A: Tensor, grid: Tensor | np.ndarray) -> Tensor:
    """sigma_min(z - A) at every point z of a grid: how small a change of A makes z an eigenvalue.

    Relative error below 1e-6, but for rounding of about n eps ||A||, as in any method. Of a real
    matrix, only one of two points that mirror each other is computed.

    Args:
        A: (..., n, n), real or complex, on any device; no gradient flows through.
        grid: points of the complex plane, of any shape, the same for every matrix.

    Returns:
        float64 on the CPU, of the shape of A's batch followed by the grid's.

    Raises:
        InvalidInputError: A is not square, not floating point, or holds NaN or infinity; a point of
            the grid is not finite; too large for the memory.

    >>> pseudospectrum(torch.diag(torch.tensor([1.0, 3.0])), torch.tensor([0.0, 1j, 2.5]))  # normal: the distance to the spectrum
    tensor([1.0000, 1.4142, 0.5000], dtype=torch.float64)
    """
    check_square(A)
    z = torch.as_tensor(grid, device="cpu").detach().to(torch.complex128).resolve_conj()
    if not torch.isfinite(torch.view_as_real(z)).all():
        raise InvalidInputError(
            "grid: expected finite points, got NaN or infinite ones; leave them out"
        )
    n, points = A.shape[-1], A.shape[:-2].numel() * z.numel()
    need = 16 * (4 * n * n + 4 * points + 8 * max(ENTRIES, 16 * n))
    check_room(
        need, f"a matrix of {n} and {points:,} points", "use fewer points or a smaller matrix"
    )
    with one_thread():
        values = [
            Resolvent(one).smallest_singular_values(z) for one in A.reshape(-1, *A.shape[-2:])
        ]
    shape = (*A.shape[:-2], *z.shape)
    return torch.stack(values).reshape(shape) if values else z.real.new_empty(shape)


class Resolvent:
    """The smallest singular values of z - A at points z, for one finite matrix A (n, n), real or
    complex, by its Schur form.
    """

    def __init__(self, A: Tensor):
        from scipy.linalg import schur  # loads in a fifth of a second, and few need it

        self.real = not A.is_complex()
        A = A.detach().cpu().to(torch.float64 if self.real else torch.complex128)
        self.size = float(A.abs().sum(-1).max())
        self.scale = binary_scale(self.size) if self.size > 0 else 1.0
        self.triangle = torch.from_numpy(
            np.ascontiguousarray(schur((A / self.scale).numpy(), output="complex")[0])
        )

    def smallest_singular_values(self, z: Tensor) -> Tensor:
        """sigma_min(z - A), float64, at points z of any shape, complex128."""
        found = z.abs()
        near = found <= FAR * self.size  # for farther points A is zero to rounding
        if not (self.size > 0 and near.any()):
            return found
        points, where = z[near], slice(None)
        if self.real:  # mirrored points have one value
            folded = torch.view_as_real(torch.complex(points.real, points.imag.abs()))
            folded, where = torch.unique(folded, dim=0, return_inverse=True)
            points = torch.view_as_complex(folded)
        parts = (points / self.scale).split(max(16, ENTRIES // len(self.triangle)))
        found[near] = (
            self.scale * torch.cat([_by_lanczos(self.triangle, part) for part in parts])[where]
        )
        return found


@one_thread()
def distance_to_circle(A: Tensor) -> float:
    """The least norm of a change of a finite matrix A that puts an eigenvalue on the unit circle:
    the least sigma_min(z - A) there.

    Local minima of a grid of angles are refined. So are the angles of eigenvalues nearer to the
    circle than the spacing of the grid, which may miss them. sigma_min changes by no more than z
    does, so that most brackets cannot hold the least value and are left out.

    >>> round(distance_to_circle(torch.diag(torch.tensor([0.5, -0.875]))), 9)
    0.125
    """
    resolvent, spacing = Resolvent(A), 2 * math.pi / ANGLES
    angles = spacing * torch.arange(-ANGLES // 2, ANGLES // 2, dtype=torch.float64, device="cpu")
    heights = resolvent.smallest_singular_values(torch.exp(1j * angles))
    found, low = float(heights.min()), (heights <= heights.roll(1)) & (heights <= heights.roll(-1))
    eigenvalues = resolvent.scale * resolvent.triangle.diagonal()
    near = (1 - eigenvalues.abs()).abs() < spacing
    middles = torch.cat([angles[low], eigenvalues[near].angle()])
    middles = (middles.abs() if resolvent.real else middles).round(decimals=12).unique()
    while len(middles) and spacing > SMALLEST:
        angles = middles[:, None] + spacing * torch.linspace(
            -1, 1, WITHIN, dtype=torch.float64, device="cpu"
        )
        spacing *= 2 / (WITHIN - 1)
        least, place = resolvent.smallest_singular_values(torch.exp(1j * angles)).min(1)
        found = min(found, float(least.min()))
        unsettled = (least - spacing < found) & (spacing > PRECISION * least)
        middles = angles.gather(1, place[:, None])[unsettled, 0]
    return found


def _by_lanczos(T: Tensor, z: Tensor) -> Tensor:
    """sigma_min(z_k - T), (p,), of a triangle whose norm is about 1."""
    n, values, waiting = (
        len(T),
        z.real.new_full(z.shape, torch.nan),
        torch.arange(len(z), device="cpu"),
    )
    T, adjoint = T.contiguous(), T.mH.contiguous()
    pivots = z - T.diagonal()[:, None]
    inverse = 1 / torch.where(
        pivots.abs() < torch.finfo(torch.float64).eps, torch.finfo(torch.float64).eps, pivots
    )
    generator = torch.Generator().manual_seed(n)
    start = torch.randn(n, 1, dtype=torch.complex128, generator=generator, device="cpu")
    q = (start / torch.linalg.vector_norm(start)).repeat(1, len(z))
    before, beta, alphas, betas = (
        torch.zeros_like(q),
        z.real.new_zeros(len(z)),
        list[Tensor](),
        list[Tensor](),
    )
    for k in range(STEPS):
        v = q.clone()
        _solve(adjoint, inverse.conj().resolve_conj(), v, upper=False)
        _solve(T, inverse, v, upper=True)
        _subtract(v, beta, before)
        alphas.append(_inner_products(q, v))
        _subtract(v, alphas[-1], q)
        beta = _inner_products(v, v).sqrt()
        before, q = q, v
        torch.view_as_real(q).div_(torch.where(beta > 0, beta, 1)[:, None])
        if k % LOOKS == 0:
            tridiagonal = torch.stack(alphas, -1).diag_embed()
            tridiagonal.diagonal(-1, -2, -1).copy_(torch.stack([*betas, beta], -1)[:, :-1])
            # what overflowed is left to the decomposition
            finite = tridiagonal.isfinite().all(-1).all(-1)
            largest, vectors = torch.linalg.eigh(tridiagonal.nan_to_num(0, 0, 0))
            done = finite & (beta * vectors[:, -1, -1].abs() <= TOLERANCE * largest[:, -1])
            values[waiting[done]] = largest[done, -1].rsqrt()
            left = finite & ~done
            if not left.any():
                break
            waiting, beta = waiting[left], beta[left]
            alphas, betas = ([each[left] for each in several] for several in (alphas, betas))
            before, q, inverse = before[:, left], q[:, left], inverse[:, left]
        betas.append(beta)
    missing = torch.isnan(values)
    if missing.any():
        values[missing] = _by_decomposition(T, z[missing])
    return values


def _solve(T: Tensor, inverse: Tensor, x: Tensor, *, upper: bool) -> None:
    """Solve (z_k - T) x_k = b_k in place for all points k, T an upper or lower triangle: x is b,
    inverse 1 / (z_k - T_ii), (n, p).
    """
    n, starts = len(T), range(0, len(T), ROWS)
    for low in reversed(starts) if upper else starts:
        high = min(n, low + ROWS)
        solved = slice(high, n) if upper else slice(low)
        x[low:high].addmm_(T[low:high, solved], x[solved])
        for i in reversed(range(low, high)) if upper else range(low, high):
            near = slice(i + 1, high) if upper else slice(low, i)
            x[i].addmv_(x[near].T, T[i, near])
            x[i] *= inverse[i]


def _subtract(v: Tensor, factors: Tensor, q: Tensor) -> None:
    """v -= factors q, point by point, in place; the factors (p,) are real."""
    torch.view_as_real(v).addcmul_(torch.view_as_real(q), factors[:, None], value=-1)


def _inner_products(u: Tensor, v: Tensor) -> Tensor:
    """Re u* v, point by point, (p,)."""
    # in this order: three times as fast as sum((0, 2))
    return (torch.view_as_real(u) * torch.view_as_real(v)).sum(0).sum(-1)


def _by_decomposition(T: Tensor, z: Tensor) -> Tensor:
    """The same by a singular value decomposition a point: the obvious way."""
    shifted = [
        torch.diag_embed(part[:, None].expand(-1, len(T))) - T
        for part in z.split(max(1, ENTRIES // T.numel()))
    ]
    return torch.cat([torch.linalg.svdvals(M)[:, -1] for M in shifted])
