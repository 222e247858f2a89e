"""How much memory work on large states may take: a bound that is stated, or a share of what is free.

The Jacobian A = ds'/ds of one step by its products with vectors: A itself is never written down.

    backward(w)   A^T w, one reverse pass through the step, whose graph is kept
    forward(v)    A v. w -> A^T w is linear, so a reverse pass through that pass is its transpose: no forward mode is asked of the step
    rows(w)       w A for several w at once: rows of A where w are rows of the identity

Legend: m inputs; N entries of a state.

The largest singular value of an operator, and norms of products of Jacobians, by products with vectors alone.

Golub and Kahan's bidiagonalization (1965) of A from a vector v: A V = U B with B upper bidiagonal, every new direction made
orthogonal to all before it. Its largest singular value sigma grows from step to step towards ||A||; the residual, the norm that the
last direction leaves over, is a bound on how far sigma is from a singular value of A.

Of products A[t] ... A[0] each is sought from the direction that the one before it grew most, disturbed a little by random numbers
so that no direction is missed for good: a few passes forward and back through the run are enough.

Legend: T steps; N entries of a state; b directions.

Geršgorin's discs from rows of the Jacobian in blocks: each block is summed up and forgotten.

The eigenvalues of largest modulus by Arnoldi's method with implicit restarts: ARPACK, through SciPy.

W. Arnoldi, 1951; D. Sorensen, "Implicit application of polynomial filters in a k-step Arnoldi method", 1992. What it finds are, to
rounding, eigenvalues of a matrix about eps ||A|| away, as LAPACK's are; it finds them by products with vectors alone. It is quick
where the leading ones stand apart; k ones of a crowd at the rim, as a random matrix has, may take as long as LAPACK takes for all.

Legend: N entries of a state; k eigenvalues; a basis of b vectors.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gersgorin._validate import check_gradients, real_tensor, with_gradients
from gersgorin.jacobian import Step, check_sizes, converted, name_of, step_of, try_step
from gersgorin.linalg.discs import Discs
from gersgorin.linalg.spectrum import eigenvalues, largest_first
from rhn.engine.memory import free_memory, in_words
from rhn.errors import InvalidInputError, NotConvergedError
from rhn.fields import check_seed

SHARE = 0.5  # of the free memory, where nothing is said


def memory_bound(limit: float | None, device: str = "cpu") -> int:
    """Bytes: the limit, or half of what is free; raises InvalidInputError for a limit that is no number above 0."""
    if limit is None:
        return int(SHARE * free_memory(device))
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < math.inf:
        raise InvalidInputError(f"memory_limit is {limit!r}: expected a number of bytes above 0")
    return int(limit)


def check_room(need: float, bound: int, what: str, advice: str) -> None:
    """Raise InvalidInputError where something needs more bytes than the bound."""
    if need > bound:
        raise InvalidInputError(
            f"{what} needs about {in_words(need)} of memory, the bound is {in_words(bound)}: {advice}"
        )


class StepJacobian:
    """A of one step from an input x (m,) and a state s (N,), as an operator; what it keeps is a few vectors for each layer.

    Raises:
        InvalidInputError: x or s is no finite vector, or the step takes no step from them, or gives no gradient.

    >>> A = StepJacobian(lambda x, s: 2 * s.flip(-1) * s[0], torch.zeros(1), torch.tensor([1.0, 3.0]))
    >>> A.forward(torch.tensor([1.0, 0.0])), A.backward(torch.tensor([1.0, 0.0]))
    (tensor([6., 4.]), tensor([6., 2.]))
    """

    def __init__(self, cell: nn.Module | Step, x: Tensor, s: Tensor) -> None:
        cell = converted(cell)
        step = step_of(cell)
        x, s = real_tensor("x", x), real_tensor("s", s)
        check_gradients(cell)
        for name, v in (("x", x), ("s", s)):
            if v.dim() != 1 or not v.is_floating_point() or not torch.isfinite(v).all():
                got = f"{v.dtype} of shape {tuple(v.shape)}"
                raise InvalidInputError(
                    f"{name} is {got}: expected a finite floating-point vector, one input, one state"
                )
        if len(s) == 0:
            raise InvalidInputError("s is empty: expected a state of at least one entry")
        check_sizes(cell, step, x, s)
        try_step(cell, step, x, s)
        self.name = name_of(cell)
        self.dense = hasattr(cell, "jacobian")  # what has a closed form is no sparse step of a user's own
        with torch.enable_grad():
            self._s = s.detach().clone().requires_grad_()  # clones: what was made in inference mode has no gradient
            self._after = step(x.detach().clone(), self._s)
        if not self._after.requires_grad:
            raise InvalidInputError(f"{self.name} gives no gradient to its state: expected differentiable operations")
        self._weights = self._pulled = None

    @property
    def size(self) -> int:
        """N."""
        return len(self._s)

    @property
    def like(self) -> Tensor:
        """A vector of the state's type, on its device."""
        return self._after.detach()

    def backward(self, w: Tensor) -> Tensor:
        """A^T w, (N,) -> (N,)."""
        return self._pull(w)

    def forward(self, v: Tensor) -> Tensor:
        """A v, (N,) -> (N,). Raises InvalidInputError for a step that gives no second derivative."""
        if self._pulled is None:
            self._pull_twice()
        if not self._pulled.requires_grad:  # a Jacobian of zeros
            return torch.zeros_like(v)
        (product,) = torch.autograd.grad(
            self._pulled, self._weights, v, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return product

    def _pull_twice(self) -> None:
        """The graph of w -> A^T w; seen to be right: u^T (A v) = (A^T u)^T v for some u and v."""
        with torch.enable_grad():
            self._weights = torch.zeros_like(self._after, requires_grad=True)
            self._pulled = self._pull(self._weights, create_graph=True)
        generator = torch.Generator().manual_seed(0)
        u, v = torch.randn(2, self.size, generator=generator, dtype=torch.float64, device="cpu").to(self.like)
        Av, uA = self.forward(v), self.backward(u)
        close = torch.finfo(v.dtype).eps ** 0.5 * (u.norm() * Av.norm() + uA.norm() * v.norm())
        if (u @ Av - uA @ v).abs() > close:
            raise InvalidInputError(
                f"{self.name} is not differentiable twice, as products with its Jacobian need: write its step in torch's own operations"
            )

    def rows(self, w: Tensor) -> Tensor:
        """w A for w (b, N), (b, N): in one pass, or one by one where some operation of the step cannot be batched."""
        try:
            return self._pull(w, is_grads_batched=True)
        except RuntimeError:
            return torch.stack([self._pull(row) for row in w])

    def row_bytes(self) -> int:
        """What `rows` needs for one row: all that one reverse pass brings about."""
        with Produced() as produced:
            self._pull(torch.ones_like(self._after))
        return max(produced.total, self.like.nbytes)

    def _pull(self, w: Tensor, **how) -> Tensor:
        (product,) = torch.autograd.grad(
            self._after, self._s, w, retain_graph=True, allow_unused=True, materialize_grads=True, **how
        )
        return product


class Produced(TorchDispatchMode):
    """How many bytes of tensors torch brings about inside a `with`, the largest and in all; views of what is there are not counted."""

    def __init__(self) -> None:
        super().__init__()
        self.total = self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        known = {_place(part) for part in tree_leaves((args, kwargs)) if isinstance(part, Tensor)} - {None}
        for part in tree_leaves(found):
            if isinstance(part, Tensor) and (place := _place(part)) is not None and place not in known:
                size = part.untyped_storage().nbytes()
                self.total, self.largest = self.total + size, max(self.largest, size)
        return found


def _place(part: Tensor) -> int | None:
    """Where a tensor's numbers are; None for a sparse one."""
    return part.untyped_storage().data_ptr() if part.layout == torch.strided else None


# of the residual, relative to sigma; sigma itself is then off by about its square where it stands apart
TOLERANCE = 1e-8
DIRECTIONS = 300  # at most
DISTURBANCE = 0.03

Product = Callable[[Tensor], Tensor]


def largest_singular_value(
    forward: Product, backward: Product, start: Tensor, *, tol: float = TOLERANCE, most: int = DIRECTIONS
) -> tuple[float, Tensor, Tensor]:
    """(||A||_2, u, v) with A v = ||A||_2 u, of any real A; u is zero where A is.

    Args:
        forward, backward: v -> A v and u -> A^T u.
        start: where to search from, (columns,), not zero.
        tol: of the residual, relative to sigma.
        most: directions after which the search is given up.

    Raises:
        NotConvergedError: the residual is still larger; its `found` is sigma, a bound from below.

    >>> A = torch.tensor([[3.0, 0.0], [4.0, 5.0]], dtype=torch.float64)
    >>> round(largest_singular_value(lambda v: A @ v, lambda u: A.T @ u, torch.tensor([1.0, 0.0], dtype=A.dtype))[0] ** 2, 9)
    45.0
    """
    tol = max(tol, 10 * torch.finfo(start.dtype).eps)
    most = min(most, len(start))
    V, U, B = [start / start.norm()], [], np.zeros((most, most))
    for j in range(most):
        u = forward(V[j])
        if j:
            u = u - B[j - 1, j] * U[-1]
        u, B[j, j] = _new_direction(u, U)
        U.append(u)
        v, beta = _new_direction(backward(u) - B[j, j] * V[j], V)
        if beta and j + 1 < most and j % (j // 10 + 1):  # later on not every direction is worth a look
            V.append(v)
            B[j, j + 1] = beta
            continue
        left, sigmas, right = np.linalg.svd(B[: j + 1, : j + 1])
        sigma, residual = float(sigmas[0]), beta * abs(float(left[j, 0]))
        if residual <= tol * sigma or beta == 0 or j + 1 == len(start):
            return sigma, _combined(U, left[:, 0]), _combined(V, right[0])
        V.append(v)
        if j + 1 < most:
            B[j, j + 1] = beta
    raise NotConvergedError(
        f"the norm of {len(start)} columns is at least {sigma:.6g} but did not settle in {most} directions: use a larger tol",
        found=sigma,
    )


def product_log_norms(
    steps: Sequence[tuple[Product, Product]], like: Tensor, *, seed: int = 0, tol: float = TOLERANCE
) -> Iterator[float]:
    """log ||A[t] ... A[0]||_2 for t = 0, 1, ...; -inf from where the product is zero. Nothing but vectors is kept.

    Args:
        steps: (forward, backward) of each A[t], asked for t + 1 times and more: they may be made when they are asked for.
        like: a vector of the state's type, on its device. seed: of the random numbers. tol: see `largest_singular_value`.
    """
    generator = torch.Generator().manual_seed(seed)

    def disturbed(v: Tensor | float, scale: float) -> Tensor:
        noise = torch.randn(len(like), generator=generator, dtype=torch.float64, device="cpu").to(like)
        return v + noise * (scale / noise.norm())

    u = v = disturbed(0.0, 1.0)
    sigma, scales = 1.0, []
    for t in range(len(steps)):
        multiply, _ = steps[t]
        scales.append(math.frexp(sigma * float(multiply(u).norm()) or 1.0)[1])
        sigma, u, v = _of_chain(steps[: t + 1], scales, disturbed(v, DISTURBANCE), tol)
        if not sigma:
            yield from [-math.inf] * (len(steps) - t)
            return
        yield math.log(sigma) + sum(scales) * math.log(2)


def _of_chain(
    steps: Sequence[tuple[Product, Product]], scales: list[int], v: Tensor, tol: float
) -> tuple[float, Tensor, Tensor]:
    """The triplet of A[t] ... A[0] with every factor divided by two to its scale."""

    def forward(v: Tensor) -> Tensor:
        for (multiply, _), scale in zip(steps, scales, strict=True):
            v = multiply(v) * 2.0**-scale
        return v

    def backward(u: Tensor) -> Tensor:
        for (_, multiply), scale in zip(reversed(steps), reversed(scales), strict=True):
            u = multiply(u) * 2.0**-scale
        return u

    return largest_singular_value(forward, backward, v, tol=tol)


def _combined(directions: list[Tensor], weights: np.ndarray) -> Tensor:
    return torch.stack(directions, 1) @ torch.as_tensor(weights, device=directions[0].device).to(directions[0])


def _new_direction(v: Tensor, others: list[Tensor]) -> tuple[Tensor, float]:
    """(the unit vector of what of v is orthogonal to the others, its length); zero and 0.0 where that is rounding."""
    before = float(v.norm())
    for _ in range(2):  # twice is enough (Kahan, in Parlett 1980)
        for other in others:
            v = v - (other @ v) * other
    length = float(v.norm())
    if length <= 10 * torch.finfo(v.dtype).eps * before:
        return torch.zeros_like(v), 0.0
    return v / length, length


BLOCK_BYTES = 256 << 20  # larger blocks gain nothing
KEPT = 4  # copies of a block: the rows, their moduli, what is left of the reverse pass


@with_gradients()
def discs_by_blocks(
    cell: nn.Module | Step, x: Tensor, s: Tensor, axis: str = "row", *, memory_limit: float | None = None
) -> Discs:
    """The discs of `gersgorin_discs(temporal_jacobian(cell, x, s), axis)`, without that matrix.

    Args:
        cell, x, s: as for `leading_eigenvalues`, one input (m,) and one state (N,).
        axis: "row" or "column".
        memory_limit: bytes, about, beside the weights, the step itself and some ten vectors of N; half of what is free where None.

    Raises:
        InvalidInputError: as `leading_eigenvalues`; axis is neither word; not even one row is within the limit.

    >>> A = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    >>> discs_by_blocks(lambda x, s: A @ s, torch.zeros(1), torch.zeros(2)).radii
    tensor([2.0000, 0.5000])
    """
    if axis not in ("row", "column"):
        raise InvalidInputError(f"axis: expected 'row' or 'column', got {axis!r}")
    A = StepJacobian(cell, x, s)
    return both_discs(A, memory_bound(memory_limit, A.like.device.type))[axis == "column"]


def both_discs(A: StepJacobian, bound: int) -> tuple[Discs, Discs]:
    """Row discs and column discs, in one pass over the rows, within a bound of bytes.

    Raises InvalidInputError for a Jacobian that is not finite, or where not even a row is within the bound.
    """
    centers, by_row, by_column = torch.empty_like(A.like), torch.empty_like(A.like), torch.zeros_like(A.like)
    for rows, block in row_blocks(A, bound):
        here = torch.arange(len(block), device=block.device)
        centers[rows] = block[here, here + rows.start]
        block[here, here + rows.start] = 0  # left out, not subtracted: see `gersgorin.linalg.discs.off_diagonal_sums`
        moduli = block.abs_()
        by_row[rows] = moduli.sum(1)
        by_column += moduli.sum(0)
    if not torch.isfinite(centers + by_row).all():
        raise InvalidInputError("the Jacobian is NaN or infinite: use smaller weights or another state")
    return Discs(centers, by_row), Discs(centers, by_column)


def row_blocks(A: StepJacobian, bound: int) -> Iterator[tuple[slice, Tensor]]:
    """(which rows, those rows (b, N)) of A, as many at once as fit a bound of bytes; each block may be written over."""
    N, like = A.size, A.like
    row_bytes = A.row_bytes() + KEPT * like.nbytes
    check_room(row_bytes, bound, f"one row of a Jacobian of {N} entries", "raise the memory limit")
    size = max(1, min(N, BLOCK_BYTES // row_bytes, bound // row_bytes))
    for start in range(0, N, size):
        rows = slice(start, min(start + size, N))
        w = like.new_zeros(rows.stop - start, N)
        w.diagonal(start).fill_(1)
        yield rows, A.rows(w).contiguous()


def write(A: StepJacobian, bound: int) -> Tensor:
    """A (N, N), written block by block within a bound of bytes beside the matrix."""
    M = A.like.new_empty(A.size, A.size)
    for rows, block in row_blocks(A, bound):
        M[rows] = block
    return M


RESTARTS = 300
LEAST_BASIS = 80
DENSE_COPIES = 4  # matrices that LAPACK works on at once
WRITTEN = 2  # matrices that must fit for one to be written: it and blocks of its rows


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
