"""Measures of the whole Jacobians of a run, block by block, by one thread of LAPACK for each core.

Legend: B matrices, N entries of a state.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from torch import Tensor

from gersgorin.analyses.products import ProductNorms
from gersgorin.jacobians import central_differences
from gersgorin.linalg import eigenvalue_conditions, eigenvalues, gersgorin_discs
from gersgorin.linalg.ranges import support_function
from gersgorin.linalg.spectrum import departure_from_normality
from gersgorin.run import Run
from rhn.errors import InvalidInputError

ANGLES, SMALL = 32, 256  # support lines of a numerical range; half as many for more entries


def measured(run: Run, leading: int | None) -> dict[str, np.ndarray]:
    """The arrays of `Spectra` from whole Jacobians M 2^e; NaN where M alone has another number."""
    product, logs, parts = ProductNorms(), list[float](), []
    for now, M, e in run.blocks():
        gap = difference(run, now, partial(_pushed, M))
        M, lost = M.cpu().double(), (e != 0).cpu().numpy()
        found = _of_matrices(M, leading) | {"difference": gap}
        for name in found.keys() - {"eigenvalue_condition", "departure_from_normality"}:
            found[name][lost] = np.nan
        parts.append(found)
        logs += product.multiply(M, e)
    return join_steps(parts) | {"log_norm_product": np.array(logs)}


def _pushed(A: Tensor, v: Tensor) -> Tensor:
    """The products A v (B, N)."""
    return (A @ v[..., None])[..., 0]


def join_steps(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Join the arrays of consecutive steps, by name."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _of_matrices(A: Tensor, leading: int | None) -> dict[str, np.ndarray]:
    """The measures of Jacobians (B, N, N), as NumPy arrays."""
    found = {
        "centers": A.diagonal(dim1=-2, dim2=-1).clone(),
        "row_radii": gersgorin_discs(A).radii,
        "column_radii": gersgorin_discs(A, "column").radii,
        "norm": _by_threads(partial(torch.linalg.matrix_norm, ord=2), A),
    }
    if leading is not None:
        values, N = eigenvalues(A)[:, :leading], A.new_full((len(A),), torch.nan)
        unknown = {"eigenvalue_condition": N, "departure_from_normality": N.clone()}
        found |= {"eigenvalues": values, "support": N[:, None].expand(-1, 4).clone()} | unknown
    else:
        values, conditions = _eigenvalues(A)
        angles = ANGLES if A.shape[-1] <= SMALL else ANGLES // 2
        known = ~values.isnan().any(1)
        departure = departure_from_normality(A, values.nan_to_num(), relative=True)
        found |= {
            "eigenvalues": values,
            "eigenvalue_condition": conditions.amax(-1),
            "support": _by_threads(partial(support_function, angles=angles), A),
            "departure_from_normality": departure.where(known, torch.nan),
        }
    return {name: t.numpy() for name, t in found.items()}


def _eigenvalues(A: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and condition numbers (B, N); NaN for matrices whose did not converge."""
    try:
        return eigenvalue_conditions(A)
    except InvalidInputError:
        if len(A) > 1:
            each = [_eigenvalues(one) for one in A.split(1)]
            return torch.cat([v for v, _ in each]), torch.cat([c for _, c in each])
        lost = A.new_full(A.shape[:2], torch.nan)
        return torch.complex(lost, lost), lost


def _by_threads(measure: Callable[[Tensor], Tensor], A: Tensor) -> Tensor:
    """Measure matrices (B, N, N) by one thread of LAPACK for each core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return torch.cat([*pool.map(measure, A.tensor_split(min(cores, len(A))))])


def difference(run: Run, now: slice, push: Callable[[Tensor], Tensor]) -> np.ndarray:
    """|A v - d| / |d| at some steps, (steps,): d is a central difference of the step, and v random
    signs of the size of the state. push: v (steps, N) -> A v. The rounding of d adds to |d|.
    """
    x, s = run.at(now)
    generator = torch.Generator().manual_seed(0)
    signs = torch.randn(s.shape[1], generator=generator, device="cpu").sign().to(s)
    size = s.abs().amax(1, keepdim=True)
    v = signs * torch.where(size > 0, size, 1)
    d = central_differences(run.step, x, s, v)
    rounding = 1000 * torch.finfo(s.dtype).eps ** (2 / 3) * v.norm(dim=1)
    return ((push(v) - d).norm(dim=1) / (d.norm(dim=1) + rounding)).cpu().double().numpy()
