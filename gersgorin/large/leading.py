"""The eigenvalues of largest modulus by Arnoldi's method with implicit restarts: ARPACK, through SciPy.

W. Arnoldi, 1951; D. Sorensen, "Implicit application of polynomial filters in a k-step Arnoldi method", 1992. What it finds are, to
rounding, eigenvalues of a matrix about eps ||A|| away, as LAPACK's are; it finds them by products with vectors alone. It is quick
where the leading ones stand apart; k ones of a crowd at the rim, as a random matrix has, may take as long as LAPACK takes for all.

Legend: N entries of a state; k eigenvalues; a basis of b vectors.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin.grad_mode import with_gradients
from gersgorin.large.discs import write
from gersgorin.large.limits import check_room, memory_bound
from gersgorin.large.products import StepJacobian
from gersgorin.spectrum import eigenvalues, largest_first
from gersgorin.stepping import Step
from rhn.errors import InvalidInputError, NotConvergedError
from rhn.fields import check_seed

RESTARTS = 300
LEAST_BASIS = 80
DENSE_COPIES = 4  # matrices that LAPACK works on at once
WRITTEN = 2  # matrices that must fit for one to be written: it and blocks of its rows

Product = Callable[[Tensor], Tensor]


@with_gradients()
def leading_eigenvalues(
    cell: nn.Module | Step,
    x: Tensor,
    s: Tensor,
    k: int = 32,
    *,
    tol: float = 0.0,
    seed: int = 0,
    restarts: int = RESTARTS,
    memory_limit: float | None = None,
) -> Tensor:
    """The k eigenvalues of ds'/ds of largest modulus, by some hundreds or thousands of products with vectors.

    Each is a pass through the step. The Jacobian of a dense step, of a cell with a closed form, is written once instead where it fits
    the memory limit, and so is any where k > N - 3, too many for Arnoldi's method.

    Args:
        cell: as for `temporal_jacobian`. x: an input (m,). s: a state (N,).
        k: how many, 1 to N.
        tol: of a residual, relative to the eigenvalue; 0: rounding.
        seed: of the vector that the search begins with. The same seed gives the same numbers.
        restarts: after how many the search is given up.
        memory_limit: bytes beside the weights; half of what is free where None.

    Returns:
        (k,) complex, in the order of `gersgorin.eigenvalues`; of two conjugates that k parts the upper one.

    Raises:
        InvalidInputError: k out of range, not finite, what `temporal_jacobian` refuses, or beyond the memory limit.
        NotConvergedError: fewer than k were found; those are its `found`.

    >>> A = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0, 0.5], dtype=torch.float64).diag()
    >>> leading_eigenvalues(lambda x, s: A @ s, torch.zeros(1), torch.zeros(6, dtype=torch.float64), 2).real.round(decimals=6)
    tensor([5., 4.], dtype=torch.float64)
    """
    check_seed(seed)
    A = StepJacobian(cell, x, s)
    bound = memory_bound(memory_limit, A.like.device.type)
    return leading_of(A, check_count(k, A.size), bound, tol=tol, seed=seed, restarts=restarts)


def leading_of(A: StepJacobian, k: int, bound: int, **how) -> Tensor:
    """As `leading_eigenvalues`, of a Jacobian that is there; how: see `arnoldi`."""
    check_room(basis_bytes(A.like, k), bound, f"Arnoldi's basis for {k} eigenvalues", "ask for fewer")
    if not by_arnoldi(k, A.size):
        need = (DENSE_COPIES + 1) * A.size * A.like.nbytes
        check_room(need, bound, f"LAPACK for {k} of {A.size} eigenvalues", f"ask for at most {A.size - 3}")
        return eigenvalues(write(A, bound // 2))[:k]
    product, matrix = A.forward, A.size * A.like.nbytes
    if A.dense and WRITTEN * matrix <= bound:
        M = write(A, bound - matrix)
        product = lambda v: M @ v  # noqa: E731
    return arnoldi(product, A.like, k, **how)


def arnoldi(
    product: Product, like: Tensor, k: int, *, tol: float = 0.0, seed: int = 0, restarts: int = RESTARTS
) -> Tensor:
    """As `leading_eigenvalues`, errors too, of any real A given as v -> A v for v like a vector (N,), k <= N - 3."""
    from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigs

    N, dtype = len(like), np.dtype(str(like.dtype).removeprefix("torch."))

    def matvec(v: np.ndarray) -> np.ndarray:
        found = product(torch.as_tensor(v.reshape(N), device=like.device)).cpu().numpy()
        if not np.isfinite(found).all():
            raise InvalidInputError("the Jacobian is NaN or infinite: use smaller weights or another state")
        return found

    start = np.random.default_rng(seed).standard_normal(N).astype(dtype)
    if not matvec(start).any():  # zero, but for matrices that a random vector misses with probability 0
        return torch.zeros(k, dtype=like.to(torch.complex64 if dtype == np.float32 else torch.complex128).dtype)
    options = {"v0": start, "tol": tol, "maxiter": restarts, "ncv": basis(k, N), "return_eigenvectors": False}
    try:
        # one more than asked for: of two conjugates that k parts, which one is left out is then ours to say
        values = eigs(LinearOperator((N, N), matvec=matvec, dtype=dtype), k + 1, which="LM", **options)
    except ArpackNoConvergence as error:
        found = _sorted(error.eigenvalues)
        raise NotConvergedError(
            f"{len(found)} of the {k + 1} eigenvalues sought were found in {restarts} restarts: ask for fewer or more of them, "
            "a larger tol, or more restarts",
            found=found,
        ) from error
    except ArpackError as error:
        raise NotConvergedError(f"ARPACK finds no eigenvalues here: {error}", found=torch.zeros(0)) from error
    return _sorted(values)[:k]


def by_arnoldi(k: int, N: int) -> bool:
    """Whether k are few enough of N: ARPACK finds at most N - 2, and is asked for one more."""
    return k + 1 <= N - 2


def check_count(k: int, N: int) -> int:
    """k, seen to be a number of eigenvalues that a matrix of N rows has; raises InvalidInputError where it is none."""
    if type(k) is not int or not 1 <= k <= N:
        raise InvalidInputError(f"k is {k!r}: expected how many of the {N} eigenvalues, a whole number from 1 to {N}")
    return k


def basis(k: int, N: int) -> int:
    """b: three times as many as are asked for, which takes the fewest products where the spectrum is a crowd."""
    return min(N, max(3 * (k + 1), LEAST_BASIS))


def basis_bytes(like: Tensor, k: int) -> int:
    """What the search keeps: its basis, SciPy's copy of it, and a few vectors."""
    b = basis(k, len(like))
    return like.element_size() * (len(like) * (2 * b + 8) + 4 * b * b)


def _sorted(values: np.ndarray) -> Tensor:
    return largest_first(torch.from_numpy(values))[0]
