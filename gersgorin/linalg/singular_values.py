"""The smallest singular value of z - A at points z of a grid, by one decomposition for each point.

The eps-pseudospectrum of A is the set of z with sigma_min(z - A) <= eps: the eigenvalues of all A +
E with ||E||_2 <= eps (L. Trefethen, M. Embree, "Spectra and Pseudospectra", 2005).

Shapes: A (n, n) real or complex, z of any shape, complex128.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gersgorin.linalg.matrices import as_numbers, check_square
from gersgorin.linalg.spectrum import eigenvalues
from gersgorin.linalg.threads import by_chunks, one_thread
from rhn.errors import InvalidInputError
from rhn.utils.resources import check_room

ENTRIES = 2**22  # of the matrices z - A at once: 64 MiB
ANGLES = 360  # of the first grid on the unit circle
WITHIN = 9  # angles in a bracket, with its ends
# of the angle at a minimum, relative to its height, which is then known to 1e-7
PRECISION = 2.0**-11
SMALLEST = 2.0**-50  # difference of angles, by rounding


def pseudospectrum(A: Tensor, grid: Tensor | np.ndarray) -> Tensor:
    """Compute sigma_min(z - A) at every point z of a grid: the least norm of a change of A that
    makes z an eigenvalue.

    The values are exact up to rounding of about n eps ||z - A||. Each point costs a singular value
    decomposition: on one core about 1 ms for n = 64 and 20 ms for n = 256. For a real matrix, only
    one of two complex conjugate points is computed.

    Args:
        A: (..., n, n), real or complex, on any device; no gradient flows through.
        grid: points of the complex plane, of any shape, the same for every matrix.

    Returns:
        A float64 tensor on the CPU. Its shape is that of the batch of A followed by that of the
        grid.

    Raises InvalidInputError.

    >>> A = torch.diag(torch.tensor([1.0, 3.0]))  # normal: the distance to the spectrum
    >>> pseudospectrum(A, torch.tensor([0.0, 1j, 2.5]))
    tensor([1.0000, 1.4142, 0.5000], dtype=torch.float64)
    """
    check_square(A)
    z = as_numbers("grid", grid).detach().cpu().to(torch.complex128).resolve_conj()
    if not torch.isfinite(torch.view_as_real(z)).all():
        raise InvalidInputError("grid is NaN or infinite at some points: expected finite points")
    *batch, n, _ = A.shape
    points = math.prod(batch) * z.numel()
    need = 16 * (2 * max(ENTRIES, n * n) + 4 * points)
    check_room(
        need, f"a matrix of {n} and {points:,} points", "use fewer points or a smaller matrix"
    )
    values = [_smallest_singular_values(one, z) for one in A.reshape(-1, n, n)]
    shape = (*batch, *z.shape)
    return torch.stack(values).reshape(shape) if values else z.real.new_empty(shape)


def _smallest_singular_values(A: Tensor, z: Tensor) -> Tensor:
    """sigma_min(z - A), float64, at points z, for one finite matrix A."""
    A = A.detach().cpu().to(torch.complex128 if A.is_complex() else torch.float64)
    points = z.flatten()
    where: Any = slice(None)
    if not A.is_complex():  # mirrored points have one value
        folded = torch.view_as_real(torch.complex(points.real, points.imag.abs()))
        folded, where = torch.unique(folded, dim=0, return_inverse=True)
        points = torch.view_as_complex(folded)
    identity = torch.eye(len(A), dtype=z.dtype, device=z.device)
    found = []
    for part in points.split(max(1, ENTRIES // A.numel())):
        shifted = check_square(part[:, None, None] * identity - A)  # it may overflow
        (values,) = by_chunks(torch.linalg.svdvals, shifted)
        found.append(values.amin(-1))
    return torch.cat(found)[where].reshape(z.shape)


@one_thread()
def distance_to_circle(A: Tensor) -> float:
    """The least norm of a change of a finite matrix A that moves an eigenvalue onto the unit
    circle: the least sigma_min(z - A) on the circle.

    Local minima on a grid of angles are refined. The grid may miss eigenvalues whose distance from
    the circle is smaller than the spacing of the grid; their angles are refined too. sigma_min
    changes by no more than z does, so most brackets cannot contain the least value and are left
    out.

    >>> round(distance_to_circle(torch.diag(torch.tensor([0.5, -0.875]))), 9)
    0.125
    """
    spacing = 2 * math.pi / ANGLES
    angles = spacing * torch.arange(-ANGLES // 2, ANGLES // 2, dtype=torch.float64, device="cpu")
    offsets = torch.linspace(-1, 1, WITHIN, dtype=torch.float64, device="cpu")
    heights = _smallest_singular_values(A, torch.exp(1j * angles))
    found = float(heights.min())
    low = heights <= torch.minimum(heights.roll(1), heights.roll(-1))
    values = eigenvalues(A.detach().cpu()).to(torch.complex128)
    near = (1 - values.abs()).abs() < spacing
    middles = torch.cat([angles[low], values[near].angle()])
    middles = (middles if A.is_complex() else middles.abs()).unique()
    while len(middles) and spacing > SMALLEST:
        angles = middles[:, None] + spacing * offsets
        spacing *= 2 / (WITHIN - 1)
        least, place = _smallest_singular_values(A, torch.exp(1j * angles)).min(1)
        found = min(found, float(least.min()))
        unsettled = (least - spacing < found) & (spacing > PRECISION * least)
        middles = angles.gather(1, place[:, None])[unsettled, 0]
    return found
