"""Eigenvalues of batches of matrices, their condition numbers and departure from normality, by one
single-threaded LAPACK call on each core; and the products of the Jacobians of many steps, their
norms and exponents, without over- or underflow. All functions of `gersgorin.linalg` check the
matrices that they are given by `check_square`.

Two LAPACK threads on one small matrix gain at most a tenth on an idle machine, and lose a factor of
ten to three hundred on a busy one (measured at n = 64 to 830). A batch is therefore cut into
chunks, each of which is one call in its own thread; torch releases Python's lock during the call.

Spectra of single steps do not compose. [[0, 2], [0, 0]] and its transpose both have the spectral
radius 0, but their product has the radius 4. diag(2, 0) and diag(0, 2) both have the radius 2, but
their product is 0.

Every factor and every partial product is scaled by a power of two, whose exponent is stored as an
integer. Nothing overflows, and scaling adds no rounding.

Shapes: A (..., n, n), eigenvalues (..., n). The unit is that of A. Of a product A (T, ..., n, n),
time first, with A[t] = ds[t+1]/ds[t] and s[t] the state before step t. Logarithms are natural,
exponents are per time step. No gradient flows through.
"""

import cmath
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rhn.errors import InvalidInputError, NotFiniteError
from rhn.utils.scale import Scaled, scaled
from rhn.utils.threads import in_threads, torch_threads
from rhn.utils.torch_private import tree_map
from rhn.utils.validation import in_short, whole_number

DTYPES = (torch.float32, torch.float64, torch.complex64, torch.complex128)
# a chunk delayed by a neighbour then costs a quarter of a core's share, not all of it
CHUNKS_PER_WORKER = 4
THREAD = 2**21  # multiplications, sum of n^3, that take about as long as the start of a thread
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
    unit = A.abs().amax((-2, -1))
    unit = torch.where(unit > 0, unit, 1)
    whole = torch.linalg.matrix_norm(A / unit[..., None, None])
    normal = torch.linalg.vector_norm(values / unit[..., None], dim=-1)
    squares = (whole - normal) * (whole + normal)
    rounding = (LEAST_SQUARES + A.shape[-1]) * torch.finfo(A.dtype).eps * whole**2
    found = torch.where(squares <= rounding, 0, squares).sqrt()  # NaN stays
    return found / torch.where(whole > 0, whole, 1) if relative else found * unit


@contextmanager
def one_thread() -> Iterator[None]:
    """Run the block, or the decorated function, with one intra-op thread of torch; other threads
    keep their number.
    """
    with torch_threads(1):
        yield


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


def by_chunks(
    solve: Callable[[Tensor], Tensor | tuple[Tensor, ...]], A: Tensor, workers: int | None = None
) -> list[Tensor]:
    """Apply `solve`, a function of matrices (batch, n, n), to all finite matrices of A on the CPU,
    in chunks. Returns its results (batch, ...) as (..., ...), with the leading dimensions of A.
    """
    if workers is not None:
        workers = whole_number("workers", workers, 1)
    stack = A.detach().cpu().reshape(A.shape[:-2].numel(), *A.shape[-2:])
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    enough = 1 + stack.numel() * stack.shape[-1] // THREAD
    n_workers = min(workers or cores, len(stack), enough)
    n_chunks = min(CHUNKS_PER_WORKER * n_workers, len(stack)) if n_workers > 1 else 1
    with one_thread():
        parts = in_threads(solve, stack.tensor_split(n_chunks), n_workers)
    rows = zip(*(part if isinstance(part, tuple) else (part,) for part in parts), strict=True)
    whole = (row[0] if len(row) == 1 else torch.cat(row) for row in rows)
    return [each.reshape(A.shape[:-2] + each.shape[1:]) for each in whole]


def largest_first(values: Tensor, *others: Tensor) -> list[Tensor]:
    """Sort complex values (..., n) by modulus, and put other tensors in the same order. NumPy's
    lexsort is used, because torch sorts by one key at a time.
    """
    v = values.numpy()
    order = torch.from_numpy(np.lexsort((-v.imag, -v.real, -np.abs(v))))
    return [t.gather(-1, order) for t in (values, *others)]


def jacobian_product(A: Tensor) -> tuple[Tensor, Tensor]:
    """Multiply the Jacobians of all steps: ds[T]/ds[0] = A[T-1]...A[0] = P exp(log_scale).

    Args:
        A: (T, ..., n, n). T = 0 gives the empty product, the identity.

    Returns:
        (P, log_scale). P (..., n, n) is 0, or its largest entry has a modulus in [1/2, 1).
        log_scale (...,) is real and finite, and 0 if P = 0. Entries that are smaller than the
        largest one by more than the range of the dtype are lost.

    Raises InvalidInputError.

    >>> P, log_scale = jacobian_product(torch.full((5000, 1, 1), 32.0))
    >>> float(P), round(float(log_scale / math.log(2)))  # 32^5000 = 2^25000
    (0.5, 25001)
    """
    check_square(A, steps=0)
    if not len(A):
        half = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device) / 2
        return half.expand(A.shape[1:]), A.real.new_full(A.shape[1:-2], math.log(2))
    P, exponent = running_products(A)
    return P[-1], exponent[-1].to(P.real.dtype) * math.log(2)


def running_products(A: Tensor, exponent: Tensor | int = 0, before: Scaled | None = None) -> Scaled:
    """Multiply by the Jacobians A 2^exponent (steps, ..., n, n) of the next steps, from the left.
    Returns the product after each step, scaled: P (steps, ..., n, n), and integers e (steps, ...),
    0 if P = 0.

    before: the last of the products of the steps before; None: there are none.

    >>> P, e = running_products(torch.tensor([2.0, 0.5, 4.0]).reshape(3, 1, 1))
    >>> (P[:, 0, 0] * 2.0**e).tolist()
    [2.0, 1.0, 4.0]
    """
    found = list[Scaled]()
    for M, e in zip(*scaled(A.detach(), exponent), strict=True):
        if before is not None:
            M, e = scaled(M @ before[0], before[1] + e)
        before = M, e
        found.append(before)
    P, exponents = map(torch.stack, zip(*found, strict=True))
    return P, exponents


def log_norms(P: Tensor, exponent: Tensor) -> Tensor:
    """log ||P 2^exponent||_2 of matrices P (..., n, n), (...,)."""
    return torch.linalg.matrix_norm(P, 2).log() + exponent.to(P.dtype) * math.log(2)


def half_life(exponent: Tensor | float) -> Tensor:
    """Number of steps in which a norm halves that changes by the factor exp(exponent) per step:
    -log 2 / exponent, with the shape of exponent; inf if it does not shrink, 0 for the exponent
    -inf of a zero product. Raises InvalidInputError for complex numbers.

    >>> half_life(torch.tensor([-math.log(2) / 10, 0.0, math.log(2)]))
    tensor([10., inf, inf])
    """
    exponent = as_numbers("exponent", exponent)
    if exponent.is_complex():
        raise InvalidInputError("exponent is complex: expected real numbers")
    return torch.where(exponent >= 0, torch.inf, -math.log(2) / exponent)


def doubling_time(exponent: Tensor | float) -> Tensor:
    """Number of steps in which a norm doubles that changes by the factor exp(exponent) per step:
    log 2 / exponent, with the shape of exponent; inf if it does not grow.

    >>> doubling_time(torch.tensor([-1.0, 0.0, math.log(2)]))
    tensor([inf, inf, 1.])
    """
    return half_life(-as_numbers("exponent", exponent))


def not_dense_real(t: Any) -> str | None:
    """Return the kind of a tensor in words ("complex", "sparse", ...) if its numbers are not dense,
    real and in memory; otherwise None.

    >>> not_dense_real(torch.ones(2) * 1j), not_dense_real(torch.ones(2))
    ('complex', None)
    """
    kinds = {
        "nested": t.is_nested,
        "on the meta device": t.is_meta,
        "quantised": t.is_quantized,
        "complex": t.is_complex(),
        "sparse": str(t.layout) != "torch.strided",
    }
    return next((kind for kind, is_so in kinds.items() if is_so), None)


def check_square(
    A: Any, *, smallest: int = 1, steps: int | None = None, entries: bool = True
) -> Tensor:
    """Return A, a stack of finite square matrices (..., n, n), or (T, ..., n, n) of `steps` or more
    steps, with n at least `smallest`; entries=False looks at its form only. Raises
    InvalidInputError, NotFiniteError.

    >>> check_square(torch.eye(2)).shape
    torch.Size([2, 2])
    """
    dense = isinstance(A, Tensor) and A.layout is torch.strided and not A.is_meta
    if not dense or A.dtype not in DTYPES or A.is_nested:
        got = f"{A.dtype}, {A.layout}" if isinstance(A, Tensor) else type(A).__name__
        raise InvalidInputError(f"A is {got}: expected a dense tensor, float32, float64 or complex")
    shape, time = tuple(A.shape), steps is not None
    good = len(shape) >= 2 + time and shape[-1] == shape[-2] >= smallest
    if not good or shape[0] < (steps or 0):
        layout = f"(T >= {steps}, ..., n, n)" if time else "(..., n, n)"
        raise InvalidInputError(
            f"A has shape {shape}: expected square matrices {layout} with n >= {smallest}"
        )
    # the sum is fast, but may overflow
    if entries and not cmath.isfinite(A.sum().item()) and (bad := int((~torch.isfinite(A)).sum())):
        said = f"A is NaN or infinite at {bad} of {A.numel()} places: expected finite entries"
        raise NotFiniteError(said, of="A")
    return A


def as_numbers(name: str, value: Any) -> Tensor:
    """Convert a number, a list or an array of real or complex numbers to a tensor. Raises
    InvalidInputError.

    >>> as_numbers("z", [1, 2j])
    tensor([1.+0.j, 0.+2.j])
    """
    if isinstance(value, Tensor):
        if (kind := not_dense_real(value)) not in (None, "complex"):
            raise InvalidInputError(f"{name} is {kind}: expected a dense tensor of numbers")
        return value
    try:
        return torch.as_tensor(value, device="cpu")
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InvalidInputError(f"{name} is {in_short(value)}: expected numbers") from error
