"""Analyse states too large for whole Jacobians: the Jacobian of a step as an operator, by its products with vectors.

    leading_eigenvalues    the k eigenvalues of largest modulus   Arnoldi's method with implicit restarts (ARPACK, through SciPy)
    largest_singular_value ||A||_2                                Lanczos' method for A^T A (ARPACK)
    streamed_log_norms     log ||A[t] ... A[0]||_2 along a run    the same, for the chain of all steps
    discs_by_blocks        Geršgorin's discs                      rows of A in blocks, summed and forgotten

A^T w is one reverse pass through the step, whose graph is kept. w -> A^T w is linear, so a reverse pass through that pass is A v: the
step needs no forward mode. The eigenvalues found are, to rounding, those of a matrix about eps ||A|| away, as LAPACK's are. Arnoldi's
method is fast if the leading eigenvalues stand apart; for a random matrix with many at the rim it may take as long as LAPACK.

Legend: T steps; m inputs; N entries of a state; k eigenvalues; b vectors of a Krylov basis.
"""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin._validate import check_gradients, real_tensor, with_gradients
from gersgorin.jacobian import Step, check_sizes, converted, name_of, step_of, trajectory, try_step
from gersgorin.linalg.discs import Discs
from gersgorin.linalg.spectrum import eigenvalues, largest_first
from rhn.errors import InvalidInputError, NotConvergedError
from rhn.utils.memory import in_words
from rhn.utils.validation import check_seed

Product = Callable[[Tensor], Tensor]

RESTARTS = 300  # of ARPACK, at most
LEAST_BASIS = 80  # vectors, for eigenvalues
NORM_BASIS = 16  # vectors, for a norm
BY_LAPACK = 2048  # entries of a state, up to which all eigenvalues of a matrix take less time than the leading ones
SMALL = 32  # entries of a state, up to which a norm is that of the matrix
TOLERANCE = 1e-10  # of a norm, relative
ROW_COPIES = 16  # vectors of N that a reverse pass and the sums hold for each row of a block, about
BLOCK_BYTES = 256 << 20  # larger blocks are no faster
LIMIT = 4 << 30  # bytes for Jacobians, unless another is given


class StepJacobian:
    """A = ds'/ds of one step at an input x (m,) and a state s (N,).

    Raises:
        InvalidInputError: x or s is no finite vector, or the step does not fit them, or gives no gradient.

    >>> A = StepJacobian(lambda x, s: 2 * s.flip(-1) * s[0], torch.zeros(1), torch.tensor([1.0, 3.0]))
    >>> A.forward(torch.tensor([1.0, 0.0])), A.backward(torch.tensor([1.0, 0.0]))
    (tensor([6., 4.]), tensor([6., 2.]))
    """

    def __init__(self, cell: nn.Module | Step, x: Tensor, s: Tensor) -> None:
        cell = converted(cell)
        step = step_of(cell)
        check_gradients(cell)
        x, s = (_vector(name, v) for name, v in (("x", x), ("s", s)))
        if len(s) == 0:
            raise InvalidInputError("s is empty: expected a state of at least one entry")
        check_sizes(cell, step, x, s)
        try_step(cell, step, x, s)
        self.name, self.size, self.like = name_of(cell), len(s), s.detach()
        self.dense = getattr(cell, "jacobian", None) is not None  # a step without a closed form may be sparse
        with torch.enable_grad():
            self._s = s.detach().clone().requires_grad_()  # clones, because tensors of inference mode have no gradient
            self._after = step(x.detach().clone(), self._s)
        if not self._after.requires_grad:
            raise InvalidInputError(f"{self.name} gives no gradient to its state: expected differentiable operations")
        self._weights = self._pulled = None

    def backward(self, w: Tensor, **how) -> Tensor:
        """A^T w, (N,) -> (N,); how: options of `torch.autograd.grad`."""
        return _gradient(self._after, self._s, w, **how)

    def forward(self, v: Tensor) -> Tensor:
        """A v, (N,) -> (N,). Raises InvalidInputError for a step without a second derivative."""
        if self._pulled is None:
            self._pull_twice()
        if not self._pulled.requires_grad:  # a Jacobian of zeros
            return torch.zeros_like(v)
        return _gradient(self._pulled, self._weights, v)

    def rows(self, w: Tensor) -> Tensor:
        """w A for w (b, N), (b, N): in one pass, or one by one if an operation of the step cannot be batched."""
        try:
            return self.backward(w, is_grads_batched=True)
        except RuntimeError:
            return torch.stack([self.backward(row) for row in w])

    def blocks(self, bound: int) -> Iterator[tuple[slice, Tensor]]:
        """(positions, those rows (b, N)) of A, within a bound of bytes; a block may be written over.

        Raises InvalidInputError if not even one row is within the bound.
        """
        N, row = self.size, ROW_COPIES * self.like.nbytes
        check_room(row, bound, f"one row of a Jacobian of {N} entries", "raise the memory limit")
        size = min(N, max(1, min(bound, BLOCK_BYTES) // row))
        for start in range(0, N, size):
            rows = slice(start, min(start + size, N))
            w = self.like.new_zeros(rows.stop - start, N)
            w.diagonal(start).fill_(1)
            yield rows, self.rows(w).contiguous()

    def matrix(self, bound: int) -> Tensor:
        """A (N, N), row by row within a bound of bytes beside the matrix."""
        M = self.like.new_empty(self.size, self.size)
        for rows, block in self.blocks(bound):
            M[rows] = block
        return M

    def _pull_twice(self) -> None:
        """Keep the graph of w -> A^T w, and check it: u^T (A v) = (A^T u)^T v for random u and v."""
        with torch.enable_grad():
            self._weights = torch.zeros_like(self._after, requires_grad=True)
            self._pulled = self.backward(self._weights, create_graph=True)
        generator = torch.Generator().manual_seed(0)
        u, v = torch.randn(2, self.size, generator=generator, dtype=torch.float64, device="cpu").to(self.like)
        Av, uA = self.forward(v), self.backward(u)
        close = torch.finfo(v.dtype).eps ** 0.5 * (u.norm() * Av.norm() + uA.norm() * v.norm())
        if (u @ Av - uA @ v).abs() > close:
            raise InvalidInputError(
                f"{self.name} is not differentiable twice, as products with its Jacobian need: write its step in torch's own operations"
            )


def _vector(name: str, v) -> Tensor:
    v = real_tensor(name, v)
    if v.dim() != 1 or not v.is_floating_point() or not torch.isfinite(v).all():
        got = f"{v.dtype} of shape {tuple(v.shape)}"
        raise InvalidInputError(f"{name} is {got}: expected a finite floating-point vector, one input, one state")
    return v


def _gradient(of: Tensor, to: Tensor, w: Tensor, **how) -> Tensor:
    (found,) = torch.autograd.grad(of, to, w, retain_graph=True, allow_unused=True, materialize_grads=True, **how)
    return found


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

    Each product is a pass through the step. If k > N - 3, too many for Arnoldi's method, or if the cell has a closed form and its
    Jacobian fits the memory limit, the Jacobian is computed once as a matrix instead; of up to 2,048 state entries LAPACK gives all
    eigenvalues of a matrix in less time.

    Args:
        cell: as for `temporal_jacobian`. x: an input (m,). s: a state (N,).
        k: how many, 1 to N.
        tol: of a residual, relative to the eigenvalue; 0: rounding.
        seed: of the first vector. The same seed gives the same numbers.
        restarts: of the method, at most.
        memory_limit: bytes beside the weights; 4 GiB if None.

    Returns:
        (k,) complex, in the order of `gersgorin.eigenvalues`; if k separates two conjugates, the upper one.

    Raises:
        InvalidInputError: k out of range, numbers not finite, `temporal_jacobian` raises it, or the memory limit is too low.
        NotConvergedError: fewer than k converged; its `found` holds those.

    >>> A = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0, 0.5], dtype=torch.float64).diag()
    >>> leading_eigenvalues(lambda x, s: A @ s, torch.zeros(1), torch.zeros(6, dtype=torch.float64), 2).real.round(decimals=6)
    tensor([5., 4.], dtype=torch.float64)
    """
    check_seed(seed)
    A = StepJacobian(cell, x, s)
    bound = memory_bound(memory_limit)
    return leading_of(A, k, bound, tol=tol, seed=seed, restarts=restarts)


def leading_of(A: StepJacobian, k: int, bound: int, M: Tensor | None = None, **how) -> Tensor:
    """As `leading_eigenvalues`, of an operator within a bound of bytes; M: its matrix, if known; how: see `arnoldi`."""
    N, row = A.size, A.like.nbytes
    if type(k) is not int or not 1 <= k <= N:
        raise InvalidInputError(f"k is {k!r}: expected how many of the {N} eigenvalues, a whole number from 1 to {N}")
    check_room(2 * basis(k, N) * row, bound, f"Arnoldi's basis for {k} eigenvalues", "ask for fewer")
    dense = k > N - 3  # ARPACK finds at most N - 2, one of them for the order of conjugates
    if dense and M is None:
        check_room(5 * N * row, bound, f"LAPACK for {k} of {N} eigenvalues", f"ask for at most {N - 3}")
    if M is None and (dense or (A.dense and 2 * N * row <= bound)):
        M = A.matrix(bound // 2)
    if dense or (M is not None and N <= BY_LAPACK):
        return eigenvalues(M)[:k]
    return arnoldi(A.forward if M is None else lambda v: M @ v, A.like, k, **how)


def arnoldi(
    product: Product, like: Tensor, k: int, *, tol: float = 0.0, seed: int = 0, restarts: int = RESTARTS
) -> Tensor:
    """As `leading_eigenvalues`, errors too, of any real A given as v -> A v for v like a vector (N,), k <= N - 3."""
    from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigs

    N, dtype = len(like), np.dtype(str(like.dtype).removeprefix("torch."))
    matvec = _of_arrays(product, like)
    start = np.random.default_rng(seed).standard_normal(N).astype(dtype)
    if not matvec(start).any():  # only a zero matrix maps a random vector to zero
        return torch.zeros(k, dtype=torch.promote_types(like.dtype, torch.complex32), device="cpu")
    options = {"v0": start, "tol": tol, "maxiter": restarts, "ncv": basis(k, N), "return_eigenvectors": False}
    try:
        # one more than k, so that of two conjugates always the upper one comes first
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


def largest_singular_value(
    forward: Product,
    backward: Product,
    like: Tensor,
    *,
    seed: int = 0,
    tol: float = TOLERANCE,
    restarts: int = RESTARTS,
) -> tuple[float, Tensor]:
    """(||A||_2, u) with u the left singular vector, of any real square A; u is zero if A is.

    Args:
        forward, backward: v -> A v and u -> A^T u, for vectors like `like` (N,).
        seed: of the first vector. tol: of the norm, relative. restarts: of the method, at most.

    Raises:
        NotConvergedError: the norm did not converge; its `found` is a lower bound.

    >>> A = torch.tensor([[3.0, 0.0], [4.0, 5.0]], dtype=torch.float64)
    >>> round(largest_singular_value(lambda v: A @ v, lambda u: A.T @ u, A[0])[0] ** 2, 9)
    45.0
    """
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, svds

    N = len(like)
    if N <= SMALL:  # fewer products than ARPACK needs
        A = torch.stack([forward(column).double() for column in torch.eye(N, dtype=like.dtype, device=like.device)], 1)
        u, sigma, _ = torch.linalg.svd(A)
        return float(sigma[0]), u[:, 0].to(like) * bool(sigma[0])
    v = torch.randn(N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, device="cpu")
    v = v / v.norm()
    size = float(forward(v.to(like)).double().norm())
    if not size:  # only a zero matrix maps a random vector to zero
        return 0.0, torch.zeros_like(like)
    # of A / size, whose squares neither overflow nor underflow
    matvec, rmatvec = (_of_arrays(product, like, size) for product in (forward, backward))
    A = LinearOperator((N, N), matvec=matvec, rmatvec=rmatvec, dtype=np.float64)
    # ARPACK solves for A^T A, and SciPy squares its tolerance
    tol = math.sqrt(2 * max(tol, 10 * torch.finfo(like.dtype).eps))
    try:
        u, sigma, _ = svds(A, 1, v0=v.numpy(), tol=tol, ncv=min(N, NORM_BASIS), maxiter=restarts)
    except ArpackNoConvergence as error:
        raise NotConvergedError(
            f"the norm of {N} columns is at least {size:.6g} but did not converge in {restarts} restarts: use a larger tol",
            found=size,
        ) from error
    return size * float(sigma[0]), torch.as_tensor(u[:, 0].copy(), device=like.device).to(like)


def product_log_norms(
    step: Callable[[int], tuple[Product, Product]], T: int, like: Tensor, *, seed: int = 0, tol: float = TOLERANCE
) -> Iterator[float]:
    """log ||A[t] ... A[0]||_2 for t = 0..T-1; -inf from the step on at which the product is zero.

    Args:
        step: t -> (forward, backward) of A[t].
        like: a vector of the state's type, on its device. seed, tol: see `largest_singular_value`.
    """
    scales: list[int] = []  # powers of two that each factor is divided by, so that the chain's norm stays near 1

    def forward(v: Tensor) -> Tensor:
        for t, scale in enumerate(scales):
            v = step(t)[0](v) * 2.0**-scale
        return v

    def backward(u: Tensor) -> Tensor:
        for t, scale in reversed([*enumerate(scales)]):
            u = step(t)[1](u) * 2.0**-scale
        return u

    sigma, u = 1.0, torch.ones_like(like) / math.sqrt(len(like))
    for t in range(T):
        scales.append(math.frexp(sigma * float(step(t)[0](u).norm()) or 1.0)[1])
        sigma, u = largest_singular_value(forward, backward, like, seed=seed, tol=tol)
        if not sigma:
            yield from [-math.inf] * (T - t)
            return
        yield math.log(sigma) + sum(scales) * math.log(2)


def products_along(cell: nn.Module | Step, x: Tensor, states: Tensor) -> Callable[[int], tuple[Product, Product]]:
    """t -> (forward, backward) of step t of a run of a cell over x (T, m); as many steps are kept as fit into a block."""
    size = ROW_COPIES * max(1, getattr(cell, "depth", 1)) * states[0].nbytes

    @lru_cache(maxsize=max(1, BLOCK_BYTES // size))
    def of_step(t: int) -> tuple[Product, Product]:
        A = StepJacobian(cell, x[t], states[t])
        return A.forward, A.backward

    return of_step


@with_gradients()
@torch.no_grad()
def streamed_log_norms(
    cell: nn.Module | Step, x: Tensor, s0: Tensor | None = None, *, seed: int = 0, tol: float = TOLERANCE
) -> Tensor:
    """log ||ds[t+1]/ds[0]||_2 for t = 0..T-1, (T,) float64, as `cumulative_log_norms`, but without Jacobians.

    Takes a few passes forward and back for every step: their number grows with the square of T.

    Args:
        cell: as for `temporal_jacobian`. x: inputs (T, m). s0: the first state (N,); zero if None.
        seed: of the first vector. tol: of each norm, relative.

    Raises:
        InvalidInputError: as for `temporal_jacobian`; or a state is not finite. NotConvergedError: a norm did not converge.

    >>> streamed_log_norms(lambda x, s: x * s, torch.tensor([[2.0], [0.5], [4.0]]), torch.ones(3)).exp().round(decimals=4)
    tensor([2., 1., 4.], dtype=torch.float64)
    """
    check_seed(seed)
    check_gradients(cell)
    x = real_tensor("x", x)
    states = trajectory(cell, x, s0)
    if not torch.isfinite(states).all():
        raise InvalidInputError("a state of the run is NaN or infinite: use smaller weights or another s0")
    steps = products_along(converted(cell), x, states[:-1])
    logs = product_log_norms(steps, len(x), states[0], seed=seed, tol=tol)
    return torch.tensor([*logs], dtype=torch.float64, device="cpu")


@with_gradients()
def discs_by_blocks(
    cell: nn.Module | Step, x: Tensor, s: Tensor, axis: str = "row", *, memory_limit: float | None = None
) -> Discs:
    """The discs of `gersgorin_discs(temporal_jacobian(cell, x, s), axis)`, without that matrix.

    Args:
        cell, x, s: as for `leading_eigenvalues`, one input (m,) and one state (N,).
        axis: "row" or "column".
        memory_limit: bytes, about, beside the weights and the step itself; 4 GiB if None.

    Raises:
        InvalidInputError: as `leading_eigenvalues`; axis is neither word; not even one row is within the limit.

    >>> A = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    >>> discs_by_blocks(lambda x, s: A @ s, torch.zeros(1), torch.zeros(2)).radii
    tensor([2.0000, 0.5000])
    """
    if axis not in ("row", "column"):
        raise InvalidInputError(f"axis: expected 'row' or 'column', got {axis!r}")
    A = StepJacobian(cell, x, s)
    return both_discs(A, memory_bound(memory_limit))[axis == "column"]


def both_discs(A: StepJacobian, bound: int) -> tuple[Discs, Discs]:
    """Row discs and column discs, in one pass over the rows, within a bound of bytes.

    Raises InvalidInputError for a Jacobian that is not finite, or if not even one row is within the bound.
    """
    centers, by_row, by_column = torch.empty_like(A.like), torch.empty_like(A.like), torch.zeros_like(A.like)
    for rows, block in A.blocks(bound):
        diagonal = torch.arange(len(block), device=block.device)
        centers[rows] = block[diagonal, diagonal + rows.start]
        block[diagonal, diagonal + rows.start] = 0  # not subtracted: see `gersgorin.linalg.discs.off_diagonal_sums`
        moduli = block.abs_()
        by_row[rows] = moduli.sum(1)
        by_column += moduli.sum(0)
    if not torch.isfinite(centers + by_row).all():
        raise InvalidInputError("the Jacobian is NaN or infinite: use smaller weights or another state")
    return Discs(centers, by_row), Discs(centers, by_column)


def memory_bound(limit: float | None) -> int:
    """Bytes: the limit, or 4 GiB, the same on every machine; raises InvalidInputError for a limit that is no number above 0."""
    if limit is None:
        return LIMIT
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < math.inf:
        raise InvalidInputError(f"memory_limit is {limit!r}: expected a number of bytes above 0")
    return int(limit)


def check_room(need: float, bound: int, what: str, advice: str) -> None:
    """Raise InvalidInputError if something needs more bytes than the bound."""
    if need > bound:
        raise InvalidInputError(
            f"{what} needs about {in_words(need)} of memory, the bound is {in_words(bound)}: {advice}"
        )


def basis(k: int, N: int) -> int:
    """b: three times k + 1, which takes the fewest products if many eigenvalues have similar moduli."""
    return min(N, max(3 * (k + 1), LEAST_BASIS))


def _of_arrays(product: Product, like: Tensor, scale: float = 1.0) -> Callable[[np.ndarray], np.ndarray]:
    """v -> A v / scale for NumPy vectors. Raises InvalidInputError if the result is not finite."""

    def matvec(v: np.ndarray) -> np.ndarray:
        found = product(torch.as_tensor(v.reshape(-1), device=like.device).to(like)).cpu().numpy()
        if not np.isfinite(found).all():
            raise InvalidInputError("the Jacobian is NaN or infinite: use smaller weights or another state")
        return found / scale if scale != 1 else found

    return matvec


def _sorted(values: np.ndarray) -> Tensor:
    return largest_first(torch.from_numpy(values))[0]
