"""Measures of Jacobians that are too large to be held for all steps at once: products with vectors
for eigenvalues and norms (ARPACK), blocks of rows for discs and for the running product.

Legend: N entries of a state; k eigenvalues.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, LinearOperator, eigs, svds
from torch import Tensor

from gersgorin.autodiff import BLOCK
from gersgorin.jacobians import LargeJacobian
from gersgorin.linalg.spectrum import largest_first
from gersgorin.run import Run
from gersgorin.smoothness import difference
from rhn.utils.scale import scaled

BASIS, NORM_BASIS = 80, 64  # least number of Arnoldi vectors; Lanczos vectors of a norm
ITERATIONS, ACCURACY = 300, 1e-5  # SciPy squares the accuracy of a singular value
SEED = 0  # of the vector from which the products start
Map = Callable[[np.ndarray], np.ndarray]


def measured_by_products(run: Run, k: int) -> list[dict[str, np.ndarray]]:
    """The arrays of `Spectra` with k eigenvalues, step by step; NaN for measures of whole
    matrices.
    """
    parts, P, exponent = list[dict[str, np.ndarray]](), None, 0
    for t in range(len(run)):
        now, A = slice(t, t + 1), LargeJacobian(run.step, run.inputs[t], run.states[t])
        discs, P = _by_rows(A, run.states[t], P)
        P, more = scaled(P)
        exponent += int(more)
        N = len(P)
        push, pull = partial(_of_numpy, A.push_row, P), partial(_of_numpy, A.pull, P)
        product_norm = leading_norm(_multiplied(P.mT), _multiplied(P), N)
        with np.errstate(divide="ignore"):
            log_norm = np.log(product_norm) + exponent * math.log(2)
        part = {
            **discs,
            "norm": np.array([leading_norm(push, pull, N)]),
            "log_norm_product": np.array([log_norm]),
            "eigenvalue_condition": np.array([np.nan]),
            "departure_from_normality": np.array([np.nan]),
            "eigenvalues": leading_eigenvalues(push, N, k)[None],
            "support": np.full((1, 4), np.nan),
            "difference": difference(run.step.rows, *run.at(now), A.push_row),
        }
        parts.append(part)
        run.report(t + 1)
    return parts


def _multiplied(M: Tensor) -> Map:
    """The map v -> M^T v of NumPy's vectors."""
    return partial(_of_numpy, partial(torch.matmul, other=M), M)


def _by_rows(A: LargeJacobian, s: Tensor, P: Tensor | None) -> tuple[dict[str, np.ndarray], Tensor]:
    """The discs (1, N) of A, and A P (N, N), by blocks of rows."""
    N, after = len(s), []
    centers, rows, columns = (s.new_zeros(N) for _ in range(3))
    size = max(1, BLOCK // N)
    for start in range(0, N, size):
        now = slice(start, min(start + size, N))
        block = A.rows(now).detach()
        after.append(block if P is None else block @ P)
        centers[now] = block.diagonal(start)
        moduli = block.abs()
        moduli.diagonal(start).zero_()
        rows[now] = moduli.sum(1)
        columns += moduli.sum(0)
    found = {"centers": centers, "row_radii": rows, "column_radii": columns}
    return {name: t.cpu().double().numpy()[None] for name, t in found.items()}, torch.cat(after)


def _of_numpy(product: Callable[[Tensor], Tensor], like: Tensor, v: np.ndarray) -> np.ndarray:
    """A product with a vector of NumPy, which it gets as a row (1, N)."""
    row = torch.from_numpy(v.reshape(1, -1)).to(like)
    return product(row).detach().flatten().cpu().double().numpy()


def _start(A: Map, N: int) -> tuple[np.ndarray, float]:
    """A vector v of N normal random numbers, and |A v|, about the Frobenius norm of A."""
    v = np.random.default_rng(SEED).standard_normal(N)
    return v, float(np.linalg.norm(A(v)))


def leading_eigenvalues(A: Map, N: int, k: int) -> np.ndarray:
    """Return the k eigenvalues of largest modulus of a map v -> A v of N numbers, (k,) complex, by
    Arnoldi's method; NaN if they do not converge. Of two conjugates the upper one is first.
    """
    start, size = _start(A, N)
    if not size:  # only A = 0 maps a random vector to 0
        return np.zeros(k, complex)
    # ARPACK's accuracy is absolute for small eigenvalues
    operator = LinearOperator((N, N), matvec=lambda v: A(v) / size, dtype=float)
    wanted = k + 1  # the last may be half of a pair
    basis = min(N, max(3 * wanted, BASIS))
    how = {"v0": start, "ncv": basis, "maxiter": ITERATIONS, "return_eigenvectors": False}
    try:
        values = eigs(operator, wanted, **how)
    except ArpackError:
        return np.full(k, np.nan, complex)
    return largest_first(torch.from_numpy(size * values))[0].numpy()[:k]


def leading_norm(A: Map, AT: Map, N: int) -> float:
    """Return ||A||_2 of maps v -> A v and u -> A^T u, by Lanczos' method; NaN if it does not
    converge.
    """
    start, size = _start(A, N)
    if not size:
        return 0.0
    unit = LinearOperator((N, N), lambda v: A(v) / size, lambda u: AT(u) / size, dtype=float)
    how = {"ncv": NORM_BASIS, "maxiter": ITERATIONS, "tol": ACCURACY}
    try:
        return size * float(svds(unit, 1, v0=start, return_singular_vectors=False, **how)[0])
    except ArpackError:
        return math.nan
