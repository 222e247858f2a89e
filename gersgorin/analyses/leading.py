"""Leading eigenvalues of large states by products with vectors.

A run of a cell whose state is large: of each step the k leading eigenvalues, all discs and the norm, and the norms of the products.

Two ways, by what fits the bound on memory; neither keeps more than one Jacobian at a time:

    one matrix fits     each step's Jacobian is written by blocks of rows, measured, multiplied to the product and forgotten
    it does not         nothing but vectors: products with them for eigenvalues and norms, blocks of rows for discs

Legend: T steps; m inputs; N entries of a state; k eigenvalues.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin._validate import check_gradients, real_tensor, with_gradients
from gersgorin.analyses.spectra import Spectra, described
from gersgorin.jacobian import Step, converted, trajectory
from gersgorin.linalg.discs import Discs, gersgorin_discs
from gersgorin.linalg.eigenvalues import one_thread
from gersgorin.linalg.products import running_log_norms
from gersgorin.operators import (
    DIRECTIONS,
    TOLERANCE,
    Product,
    StepJacobian,
    arnoldi,
    basis_bytes,
    both_discs,
    by_arnoldi,
    check_count,
    check_room,
    largest_singular_value,
    leading_of,
    memory_bound,
    product_log_norms,
    write,
)
from gersgorin.own_loop import OwnLoop
from gersgorin.run import Run
from rhn.errors import InvalidInputError, NotConvergedError
from rhn.fields import check_seed

COUNT = 32  # eigenvalues if whole Jacobians do not fit
WRITTEN = 17  # matrices held at once where a step's is written: A, the product, what is made of them; as measured


class _Run(Sequence):
    """The products with A[t] of a run, made anew when they are asked for: (forward, backward) of step t."""

    def __init__(self, cell: nn.Module | Step, x: Tensor, states: Tensor) -> None:
        self.cell, self.x, self.states = cell, x, states

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return _Run(self.cell, self.x[index], self.states[index])
        A = StepJacobian(self.cell, self.x[index], self.states[index])
        return A.forward, A.backward


@with_gradients()
@torch.no_grad()
def streamed_log_norms(
    cell: nn.Module | Step, x: Tensor, s0: Tensor | None = None, *, seed: int = 0, tol: float = TOLERANCE
) -> Tensor:
    """log ||ds[t+1]/ds[0]||_2 for t = 0..T-1, (T,) float64: what `cumulative_log_norms` finds from Jacobians, without any.

    Args:
        cell: as for `temporal_jacobian`. x: inputs (T, m). s0: the state to begin with, (N,); zero where None.
        seed: of the directions that the search begins with. tol: see `gersgorin.operators.largest_singular_value`.

    Raises:
        InvalidInputError: what `temporal_jacobian` refuses. NotConvergedError: a norm that does not settle.

    Takes a few passes forward and back for every step: their number grows with the square of T.

    >>> streamed_log_norms(lambda x, s: x * s, torch.tensor([[2.0], [0.5], [4.0]]), torch.ones(3)).exp().round(decimals=4)
    tensor([2., 1., 4.], dtype=torch.float64)
    """
    check_seed(seed)
    check_gradients(cell)
    x = real_tensor("x", x)
    states = trajectory(cell, x, s0)
    if not torch.isfinite(states).all():
        raise InvalidInputError("a state of the run is NaN or infinite: use smaller weights or another s0")
    run = _Run(converted(cell), x, states[:-1])
    return torch.tensor([*product_log_norms(run, states[0], seed=seed, tol=tol)], dtype=torch.float64, device="cpu")


@with_gradients()
@torch.no_grad()
@one_thread()
def measure_leading(
    run: Run,
    k: int,
    *,
    discs: str = "row",
    memory_limit: float | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Spectra:
    """The k leading eigenvalues of every step, all discs, norms and products.

    NaN where all eigenvalues or whole matrices would be needed: the numerical range, conditions, the departure from normality, Kreiss'
    constant and the cell's norm bound. An eigenvalue that does not converge is NaN.

    Args:
        memory_limit: bytes, about, for Jacobians and work space; half of what is free if None.
        seed: of the vectors that searches begin with.

    Raises:
        InvalidInputError: as `of_run` of spectra; k out of range; beyond the memory limit; a run without a step.
        NotConvergedError: a norm did not converge.
    """
    if isinstance(run, OwnLoop):
        raise InvalidInputError(
            f"{run.label.name} is followed through its own loop, by whole Jacobians: leave --leading out, or give it more memory"
        )
    cell, x, s = run.cell, run.inputs, run.require_finite().states[:-1]
    (T, N), bound = s.shape, memory_bound(memory_limit, x.device.type)
    k = check_count(k, N)
    vectors = basis_bytes(s[0], k) + 2 * min(DIRECTIONS, N) * s[0].nbytes
    check_room(vectors, bound, f"the search for {k} eigenvalues of {N}", "raise --memory-limit, or ask for fewer")
    written = WRITTEN * N * s[0].nbytes <= bound
    measured, v = [], _start(s[0], seed)
    total = T if written else 2 * T

    def measure(t: int) -> Tensor | None:
        nonlocal v
        A = StepJacobian(cell, x[t], s[t])
        matrix = write(A, bound // 2) if written else None
        forward, backward = (A.forward, A.backward) if matrix is None else _products(matrix)
        circles = both_discs(A, bound) if matrix is None else _discs(matrix)
        norm, _, v = largest_singular_value(forward, backward, v + 0.1 * _start(v, seed))
        values = _leading(A, forward, k, bound, seed)
        measured.append(
            (
                values,
                torch.tensor(norm, dtype=torch.float64, device="cpu"),
                *(part for d in circles for part in (d.centers, d.radii)),
            )
        )
        progress(t + 1, total)
        return matrix

    if written:
        logs = [float(log) for log in running_log_norms((measure(t) for t in range(T)), lambda P: _norm(P, v))]
    else:
        for t in range(T):
            measure(t)
        logs = []
        for log in product_log_norms(_Run(cell, x, s), s[0], seed=seed):
            logs.append(log)
            progress(T + len(logs), total)
    values, norms, *circles = (torch.stack(parts).cpu().numpy() for parts in zip(*measured, strict=True))
    nothing = np.full(T, np.nan)
    return Spectra(
        **described(run, circles, discs),
        eigenvalues=values,
        eigenvalue_condition=nothing,
        norm=norms,
        support=np.full((T, 4), np.nan),
        departure_from_normality=nothing,
        kreiss_constant=nothing,
        norm_bound=np.array(np.nan),
        log_norm_product=np.array(logs),
    )


def _leading(A: StepJacobian, forward: Product, k: int, bound: int, seed: int) -> Tensor:
    """(k,) eigenvalues, those that were not found NaN."""
    try:
        return (arnoldi(forward, A.like, k, seed=seed) if by_arnoldi(k, A.size) else leading_of(A, k, bound)).cpu()
    except NotConvergedError as error:
        found = A.like.new_full((k,), np.nan).to(torch.promote_types(A.like.dtype, torch.complex32))
        found[: len(error.found)] = error.found[:k]
        return found.cpu()


def _products(M: Tensor) -> tuple[Product, Product]:
    return (lambda v: M @ v), (lambda u: u @ M)


def _norm(P: Tensor, start: Tensor) -> Tensor:
    return torch.tensor(largest_singular_value(*_products(P), start)[0], dtype=torch.float64, device=P.device)


def _discs(M: Tensor) -> Iterator[Discs]:
    return (gersgorin_discs(M, axis=axis) for axis in ("row", "column"))


def _start(like: Tensor, seed: int) -> Tensor:
    """A random unit vector."""
    v = torch.randn(len(like), generator=torch.Generator().manual_seed(seed), dtype=torch.float64, device="cpu").to(
        like
    )
    return v / v.norm()
