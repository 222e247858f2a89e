"""Measures of the whole Jacobians of a run, block by block, by one thread of LAPACK for each core.

Legend: B matrices, N entries of a state.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from gersgorin.analyses.products import block_norms
from gersgorin.jacobians import central_differences, random_signs
from gersgorin.linalg import eigenvalue_conditions, eigenvalues, gersgorin_discs
from gersgorin.linalg.jacobian_products import RunningProduct
from gersgorin.linalg.ranges import support_function
from gersgorin.linalg.spectrum import by_chunks, departure_from_normality
from gersgorin.run import Run
from rhn.errors import InvalidInputError

ANGLES, SMALL = 32, 256  # support lines of a numerical range; half as many for more entries
BY_LAPACK = ("norm", "eigenvalues", "eigenvalue_condition", "departure_from_normality", "support")


def measured(run: Run, leading: int | None) -> dict[str, np.ndarray]:
    """The arrays of `Spectra` from whole Jacobians M 2^e; NaN where M alone has another number."""
    product, parts = RunningProduct(), []
    for now, M, e in run.blocks():
        gap = difference(run, now, partial(torch.einsum, "tij,tj->ti", M))
        M, e = M.cpu().double(), e.cpu()
        found = _of_matrices(M, leading) | {"difference": gap}
        for name in found.keys() - {"eigenvalue_condition", "departure_from_normality"}:
            found[name][e.numpy() != 0] = np.nan
        parts.append(found | {"log_norm_product": block_norms(product, M, e)})
    return join_steps(parts)


def join_steps(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Join the arrays of consecutive steps, by name."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _of_matrices(A: Tensor, leading: int | None) -> dict[str, np.ndarray]:
    """The measures of Jacobians (B, N, N), as NumPy arrays."""
    (centers, rows), (_, columns) = gersgorin_discs(A), gersgorin_discs(A, "column")
    found = {"centers": centers.clone(), "row_radii": rows, "column_radii": columns}
    found |= zip(BY_LAPACK, by_chunks(partial(_by_lapack, leading=leading), A), strict=True)
    return {name: t.numpy() for name, t in found.items()}


def _by_lapack(A: Tensor, leading: int | None) -> tuple[Tensor, ...]:
    """The measures `BY_LAPACK` of matrices (B, N, N)."""
    norm, unknown = torch.linalg.matrix_norm(A, 2), A.new_full((len(A),), torch.nan)
    if leading is not None:
        values = eigenvalues(A, workers=1)[:, :leading]
        return norm, values, unknown, unknown, unknown[:, None].expand(-1, 4)
    values, conditions = _eigenvalues(A)
    angles = ANGLES if A.shape[-1] <= SMALL else ANGLES // 2
    departure = departure_from_normality(A, values.nan_to_num(), relative=True)
    departure = departure.where(~values.isnan().any(1), torch.nan)
    return norm, values, conditions.amax(-1), departure, support_function(A, angles)


def _eigenvalues(A: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and condition numbers (B, N); NaN for matrices whose did not converge."""
    try:
        return eigenvalue_conditions(A, workers=1)
    except InvalidInputError:
        if len(A) > 1:
            each = [_eigenvalues(one) for one in A.split(1)]
            return torch.cat([v for v, _ in each]), torch.cat([c for _, c in each])
        lost = A.new_full(A.shape[:2], torch.nan)
        return torch.complex(lost, lost), lost


def difference(run: Run, now: slice, push: Callable[[Tensor], Tensor]) -> np.ndarray:
    """|A v - d| / |d| at some steps, (steps,): d is a central difference of the step, and v random
    signs of the size of the state. push: v (steps, N) -> A v. The rounding of d adds to |d|.
    """
    x, s = run.at(now)
    v = random_signs(s)
    d = central_differences(run.step, x, s, v)
    rounding = 1000 * torch.finfo(s.dtype).eps ** (2 / 3) * v.norm(dim=1)
    return ((push(v) - d).norm(dim=1) / (d.norm(dim=1) + rounding)).cpu().double().numpy()
