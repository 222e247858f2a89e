"""The Jacobian of a step as a linear operator, for states too large for whole Jacobians.

    eigenvalues     the k of largest modulus   Arnoldi's method with implicit restarts (ARPACK,
                                               through SciPy)
    norm            ||A||_2                    Lanczos' method for A^T A (ARPACK)
    discs           Geršgorin's discs          rows of A in blocks, summed and forgotten

Like those of LAPACK, the computed eigenvalues are, up to rounding, the eigenvalues of a matrix that
differs from A by about eps ||A||. Arnoldi's method is fast if the leading eigenvalues are well
separated. For a random matrix, with many eigenvalues at the rim of its spectrum, it may take as
long as LAPACK.

Legend: m inputs; N entries of a state; k eigenvalues.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigs, svds
from torch import Tensor

from gersgorin.linalg.discs import Discs, gersgorin_discs
from gersgorin.linalg.spectrum import eigenvalues, largest_first
from gersgorin.run.autodiff import Linearized, dense_derivative
from gersgorin.run.cell import StepCell
from rhn.errors import InvalidInputError, NotConvergedError, UsersCodeError
from rhn.utils.validation import whole_number

Product = Callable[[Tensor], Tensor]

RESTARTS = 300  # of ARPACK, at most
LEAST_BASIS = 80  # vectors, for eigenvalues
NORM_BASIS = 16  # vectors, for a norm
# entries of a state, up to which all eigenvalues of a matrix take less time than the leading ones
BY_LAPACK = 2048
SMALL = 32  # entries of a state, up to which a norm is that of the matrix
TOLERANCE = 1e-10  # of a norm, relative
LIMIT = 4 << 30  # bytes of Jacobians and work space
WRITTEN = 17  # matrices held at once if Jacobians are written: A, the product, their decompositions
ROW_COPIES = 16  # vectors of N that a reverse pass and the sums hold for each row of a block, about
BLOCK_BYTES = 256 << 20  # of rows computed at once; larger blocks are no faster


class StepOperator(LinearOperator):
    """A matrix (N, N) that is represented by its products with vectors. `of_step` and `of_matrix`
    create such an operator.

    >>> A = StepOperator.of_matrix(torch.tensor([[3.0, 0.0], [4.0, 5.0]], dtype=torch.float64))
    >>> round(A.norm() ** 2, 9), A.eigenvalues(1).real.tolist()
    (45.0, [5.0])
    """

    def __init__(
        self,
        forward: Product,
        backward: Product,
        like: Tensor,
        *,
        matrix: Tensor | None = None,
        rows=None,
    ):
        self.forward, self.backward = forward, backward
        self.like, self.matrix, self._rows = like, matrix, rows
        super().__init__(np.dtype(str(like.dtype).removeprefix("torch.")), (len(like), len(like)))

    @classmethod
    def of_matrix(cls, A: Tensor) -> "StepOperator":
        """The operator of a matrix."""
        return cls(lambda v: A @ v, lambda u: u @ A, A[0], matrix=A)

    @classmethod
    def of_step(cls, cell: StepCell, x: Tensor, s: Tensor) -> "StepOperator":
        """The operator of the Jacobian of one step of a cell. The Jacobian is computed as a matrix
        if this fits the memory limit.

        Raises InvalidInputError for a step that gives no gradient to its state, or that has no
        second derivative.
        """
        A = Linearized(lambda s, x: cell.step(x, s), s, x)
        if not A.y.requires_grad:
            raise InvalidInputError(
                f"{cell.name} gives no gradient to its state: expected differentiable operations"
            )
        found = cls(
            lambda v: A.push(v[:, None])[:, 0], lambda u: A.pull(u[None])[0], s, rows=A.pull
        )
        if is_written(s):
            try:
                return cls.of_matrix(torch.cat([block for _, block in found.blocks()]))
            except RuntimeError:  # a step that writes in place
                return cls.of_matrix(dense_derivative(partial(cell.step, x), s))
        _check_adjoint(found, cell.name)
        return found

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield (a slice of row numbers, these rows (b, N) of A)."""
        N = len(self.like)
        size = max(1, min(LIMIT // 2, BLOCK_BYTES) // (ROW_COPIES * self.like.nbytes))
        for start in range(0, N, size):
            rows = slice(start, min(start + size, N))
            w = self.like.new_zeros(rows.stop - start, N)
            w.diagonal(start).fill_(1)
            yield rows, self._rows(w).contiguous()

    def eigenvalues(self, k: int, *, restarts: int = RESTARTS) -> Tensor:
        """The k eigenvalues of largest modulus, (k,) complex, in the order of
        `gersgorin.eigenvalues`.

        If only one of two conjugates is among the k, it is the one with the positive imaginary
        part. For up to 2,048 entries of a state, LAPACK is used, because it computes all
        eigenvalues in less time.

        Raises:
            InvalidInputError: k is not between 1 and N, or too large for Arnoldi's method.
            NotConvergedError: fewer than k converged, and the matrix is not known. Its `found`
                contains the converged ones, which need not be the leading ones.
        """
        N = len(self.like)
        # ARPACK finds N - 2, one of them for the order of conjugates
        most = N - 3 if self.matrix is None else N
        what = f"the number of leading eigenvalues of a state of {N}"
        k = whole_number(what, k, 1, most)
        if self.matrix is not None and (N <= BY_LAPACK or k > N - 3):
            return eigenvalues(self.matrix)[:k]
        start = np.random.default_rng(0).standard_normal(N).astype(self.dtype)
        if not self.matvec(start).any():  # only a zero matrix maps a random vector to zero
            return torch.zeros(
                k, dtype=torch.promote_types(self.like.dtype, torch.complex32), device="cpu"
            )
        # three times as many vectors take the fewest products if many eigenvalues have similar
        # moduli
        basis = min(N, max(3 * (k + 1), LEAST_BASIS))
        try:
            # one more than k, so that of two conjugates always the upper one comes first
            values = eigs(
                self, k + 1, v0=start, ncv=basis, maxiter=restarts, return_eigenvectors=False
            )
        # of no convergence with those that did converge, or another one
        except ArpackError as error:
            if self.matrix is not None:
                return eigenvalues(self.matrix)[:k]
            values = getattr(error, "eigenvalues", np.zeros(0, complex))
            found = largest_first(torch.from_numpy(values))[0]
            raise NotConvergedError(
                f"{len(found)} of the {k + 1} eigenvalues sought were found in {restarts} "
                "restarts: ask for fewer or more",
                found=found,
            ) from error
        return largest_first(torch.from_numpy(values))[0][:k]

    def norm(self, *, restarts: int = RESTARTS) -> float:
        """The norm ||A||_2. Raises NotConvergedError with a lower bound in `found`."""
        N, like = len(self.like), self.like
        if N <= SMALL:  # fewer products than ARPACK needs
            eye = torch.eye(N, dtype=like.dtype, device=like.device)
            A = torch.stack([self.forward(column).double() for column in eye], 1)
            return float(torch.linalg.svd(A)[1][0])
        v = torch.randn(
            N, generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu"
        )
        v = v / v.norm()
        size = float(self.forward(v.to(like)).double().norm())
        if not size:  # only a zero matrix maps a random vector to zero
            return 0.0
        # of A / size, whose squares neither overflow nor underflow
        forward, backward = (
            lambda v, f=f: self._array(f, v) / size for f in (self.forward, self.backward)
        )
        A = LinearOperator((N, N), matvec=forward, rmatvec=backward, dtype=np.float64)
        # ARPACK solves for A^T A, and SciPy squares its tolerance
        tol = math.sqrt(2 * max(TOLERANCE, 10 * torch.finfo(like.dtype).eps))
        try:
            sigma = svds(A, 1, v0=v.numpy(), tol=tol, ncv=min(N, NORM_BASIS), maxiter=restarts)[1]
        except ArpackNoConvergence as error:
            if self.matrix is not None:  # its singular values lie close together
                return float(torch.linalg.matrix_norm(self.matrix.double(), 2))
            raise NotConvergedError(
                f"the norm of {N} columns is at least {size:.6g} but did not converge in "
                f"{restarts} restarts",
                found=size,
            ) from error
        return size * float(sigma[0])

    def discs(self) -> tuple[Discs, Discs]:
        """(Row discs, column discs). Raises InvalidInputError if the Jacobian is not finite."""
        if self.matrix is not None:
            return gersgorin_discs(self.matrix), gersgorin_discs(self.matrix, axis="column")
        centers, by_row, by_column = (torch.zeros_like(self.like) for _ in range(3))
        for rows, block in self.blocks():
            diagonal = torch.arange(len(block), device=block.device)
            centers[rows] = block[diagonal, diagonal + rows.start]
            # not subtracted: see `gersgorin.linalg.discs.off_diagonal_sums`
            block[diagonal, diagonal + rows.start] = 0
            moduli = block.abs_()
            by_row[rows] = moduli.sum(1)
            by_column += moduli.sum(0)
        if not torch.isfinite(centers + by_row).all():
            raise InvalidInputError(
                "the Jacobian is NaN or infinite: use smaller weights or another state"
            )
        return Discs(centers, by_row), Discs(centers, by_column)

    def _matvec(self, v: np.ndarray) -> np.ndarray:
        return self._array(self.forward, v)

    def _rmatvec(self, v: np.ndarray) -> np.ndarray:
        return self._array(self.backward, v)

    def _array(self, product: Product, v: np.ndarray) -> np.ndarray:
        """A product with a NumPy vector. Raises InvalidInputError if it is not finite."""
        found = (
            product(torch.as_tensor(v.reshape(-1), device=self.like.device).to(self.like))
            .cpu()
            .numpy()
        )
        if not np.isfinite(found).all():
            raise InvalidInputError(
                "the Jacobian is NaN or infinite: use smaller weights or another state"
            )
        return found


def is_written(s: Tensor) -> bool:
    """True if the Jacobian at a state (N,) is computed as a matrix, because the memory limit allows
    it.
    """
    return WRITTEN * len(s) * s.nbytes <= LIMIT


def log_norms(steps: Sequence[StepOperator]) -> Iterator[float]:
    """Yield log ||A[t] ... A[0]||_2 for t = 0..T-1, without forming a matrix. From the step at
    which the product is zero, the values are -inf.

    The number of products with vectors grows with the square of T.
    """
    # powers of two that each factor is divided by, so that the norm of the product stays near 1
    scales: list[int] = []

    def forward(v: Tensor) -> Tensor:
        for A, scale in zip(steps, scales, strict=False):
            v = A.forward(v) * 2.0**-scale
        return v

    def backward(u: Tensor) -> Tensor:
        for A, scale in reversed([*zip(steps, scales, strict=False)]):
            u = A.backward(u) * 2.0**-scale
        return u

    sigma = 1.0
    for A in steps:
        scales.append(math.frexp(sigma * A.norm() or 1.0)[1])
        sigma = StepOperator(forward, backward, A.like).norm()
        if not sigma:
            yield from [-math.inf] * (len(steps) - len(scales) + 1)
            return
        yield math.log(sigma) + sum(scales) * math.log(2)


def _check_adjoint(A: StepOperator, name: str) -> None:
    """Raise UsersCodeError unless u^T (A v) = (A^T u)^T v for random u and v. The two differ if a
    step has wrong second derivatives.
    """
    generator = torch.Generator().manual_seed(0)
    u, v = torch.randn(2, len(A.like), generator=generator, dtype=torch.float64, device="cpu").to(
        A.like
    )
    try:
        Av, uA = A.forward(v), A.backward(u)
    except RuntimeError:
        Av, uA = torch.full_like(v, torch.inf), torch.zeros_like(v)
    close = torch.finfo(v.dtype).eps ** 0.5 * (u.norm() * Av.norm() + uA.norm() * v.norm())
    if not Av.isinf().any() and (u @ Av - uA @ v).abs() <= close:
        return
    raise UsersCodeError(
        f"{name} is not differentiable twice, as products with its Jacobian need: write its "
        "step in torch's own operations"
    )
