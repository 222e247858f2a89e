"""Eigenvalues of batches of matrices, their condition numbers and departure from normality.

Shapes: A (..., n, n), eigenvalues (..., n). The unit is that of A. No gradient flows through.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

# the old paths of these two and of the product, until 1.1
from gersgorin.linalg.jacobian_products import doubling_time as doubling_time
from gersgorin.linalg.jacobian_products import half_life as half_life
from gersgorin.linalg.jacobian_products import jacobian_product as jacobian_product
from gersgorin.linalg.matrices import as_numbers, check_square
from gersgorin.linalg.threads import by_chunks
from rhn.errors import InvalidInputError
from rhn.utils.torch_private import tree_map

Solve = Callable[[Tensor], tuple[Tensor, ...]]
LEAST_SQUARES = 16  # in eps ||A||_F^2, of a difference of squares that is no rounding


def eigenvalues(A: Tensor, *, workers: int | None = None) -> Tensor:
    """Compute the eigenvalues, sorted by modulus, the largest first. Equal moduli are sorted by
    real part, then by imaginary part, both descending.

    Args:
        A: (..., n, n), real or complex, on any device; no gradient flows through.
        workers: number of threads; None: one for each core that the process may use.

    Returns:
        Eigenvalues (..., n), complex, in the precision and on the device of A; empty if A is empty.

    Raises InvalidInputError.

    >>> eigenvalues(torch.tensor([1.0, -3.0, 3.0]).diag())
    tensor([ 3.+0.j, -3.+0.j,  1.+0.j])
    """
    check_square(A, smallest=0)
    return largest_first(*by_chunks(partial(_converged, "eigvals"), A, workers))[0].to(A.device)


def eigenvalue_conditions(A: Tensor, *, workers: int | None = None) -> tuple[Tensor, Tensor]:
    """Compute the eigenvalues and their condition numbers, which are 1 or more, and 1 for normal
    matrices.

    A change of A by E moves an eigenvalue with the unit eigenvectors x (right) and y (left) by up
    to ||E||_2 / |y* x|, to first order (G. Golub, C. Van Loan, "Matrix Computations", section 7.2).
    The error of a computed eigenvalue is about eps ||A||_2 times its condition number.

    Arguments and errors as for `eigenvalues`. The time is two to three times that of `eigenvalues`.

    Returns:
        (The eigenvalues (..., n) as from `eigenvalues`, up to rounding; their condition numbers 1 /
        |y* x|, (..., n), real). A condition number is inf if it is above 1 / eps. If another
        eigenvalue is equal up to rounding, it is inf if it is above 1 / sqrt(eps): a change of A as
        small as rounding then gives a defective matrix (J. Wilkinson, 1972).

    >>> eigenvalue_conditions(torch.tensor([[1.0, 100.0], [0.0, 2.0]]))[1].round()
    tensor([100., 100.])
    """
    check_square(A, smallest=0)
    values, conditions = by_chunks(values_and_conditions, A, workers)
    return values.to(A.device), conditions.to(A.device)


def values_and_conditions(stack: Tensor) -> tuple[Tensor, ...]:
    """`eigenvalue_conditions` of finite matrices (batch, n, n) on the CPU, by one thread."""
    values, right = _converged("eig", stack)
    # its rows are y* / (y* x) where the columns are x
    left, singular = torch.linalg.inv_ex(right)
    lengths = torch.linalg.vector_norm(left, dim=-1), torch.linalg.vector_norm(right, dim=-2)
    conditions = lengths[0] * lengths[1]
    eps = torch.finfo(conditions.dtype).eps
    apart = (values.unsqueeze(-1) - values.unsqueeze(-2)).abs()
    apart.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
    occurs_again = (apart <= eps * values.abs().unsqueeze(-1)).any(-1)
    # equal eigenvalues with eigenvectors of their own have small conditions, whatever LAPACK's
    # rounding; those of a Jordan block have conditions of its entry / eps
    most = torch.where(occurs_again, eps**-0.5, 1 / eps)
    known = (conditions <= most) & (singular == 0)[:, None]
    return tuple(largest_first(values, conditions.clamp(min=1).where(known, torch.inf)))


def known_or_nan(solve: Solve, A: Tensor) -> tuple[Tensor, ...]:
    """The results of `solve`, the eigenvalues and one number for each of them, (batch, n), of
    matrices A (batch, n, n); NaN for the matrices whose eigenvalues do not converge.
    """
    try:
        return solve(A)
    except InvalidInputError:
        if len(A) > 1:
            each = [known_or_nan(solve, one) for one in A.split(1)]
            return tuple(map(torch.cat, zip(*each, strict=True)))
        unknown = torch.full(A.shape[:2], torch.nan, dtype=A.real.dtype, device="cpu")
        return torch.complex(unknown, unknown), unknown


def eigenvalues_or_nan(A: Tensor) -> Tensor:
    """`eigenvalues` of matrices (batch, n, n) by one thread; NaN for those that do not converge."""

    def with_moduli(some: Tensor) -> tuple[Tensor, ...]:
        values = eigenvalues(some, workers=1)
        return values, values.abs()

    return known_or_nan(with_moduli, A)[0].to(A.device)


def departure_from_normality(
    A: Tensor, values: Tensor | None = None, *, relative: bool = False
) -> Tensor:
    """Compute Henrici's departure from normality, sqrt(||A||_F^2 - sum |lambda_i|^2), (...,)
    (Henrici 1962).

    As a difference of squares it is accurate to about 1e-7 ||A||_F in float64 and 2e-3 ||A||_F in
    float32; a smaller difference may be rounding, and counts as 0. values: the eigenvalues (...,
    n), if they are known. relative: divide by ||A||_F; the result is between 0 (normal) and 1
    (nilpotent), and 0 for A = 0.

    Raises InvalidInputError.

    >>> departure_from_normality(torch.tensor([[1.0, 3.0], [0.0, 2.0]]))
    tensor(3.0000)
    """
    A = check_square(A).detach()
    values = eigenvalues(A) if values is None else as_numbers("values", values).to(A.device)
    if values.shape != A.shape[:-1]:
        shapes = tuple(values.shape), tuple(A.shape[:-1])
        raise InvalidInputError("values has shape {}: expected eigenvalues {}".format(*shapes))
    return departure(A, values, relative)


def departure(A: Tensor, values: Tensor, relative: bool) -> Tensor:
    """`departure_from_normality` of finite matrices A with these eigenvalues."""
    *_, n = A.shape
    unit = A.abs().amax((-2, -1)).clamp(min=torch.finfo(A.dtype).tiny)
    whole = torch.linalg.matrix_norm(A / unit[..., None, None])
    normal = torch.linalg.vector_norm(values / unit[..., None], dim=-1)
    squares = (whole - normal) * (whole + normal)
    rounding = (LEAST_SQUARES + n) * torch.finfo(A.dtype).eps * whole**2
    found = torch.where(squares <= rounding, 0, squares).sqrt()  # NaN stays
    return torch.where(whole > 0, found / whole, 0) if relative else found * unit


def _converged(name: str, stack: Tensor) -> Any:
    """The result of torch's function of this name, or of NumPy's if torch's does not converge."""
    try:
        return getattr(torch.linalg, name)(stack)
    except torch.linalg.LinAlgError:
        pass
    try:
        found = getattr(np.linalg, name)(stack.numpy(force=True))
    except np.linalg.LinAlgError:
        raise InvalidInputError("A: the eigenvalues did not converge") from None
    complex_type = torch.promote_types(stack.dtype, torch.complex64)
    return tree_map(lambda part: torch.from_numpy(part).to(complex_type), found)


def largest_first(values: Tensor, *others: Tensor) -> list[Tensor]:
    """Sort complex values (..., n) by modulus, and put other tensors in the same order. NumPy's
    lexsort is used, because torch sorts by one key at a time.
    """
    v = values.numpy()
    order = torch.from_numpy(np.lexsort((-v.imag, -v.real, -np.abs(v))))
    return [t.gather(-1, order) for t in (values, *others)]
