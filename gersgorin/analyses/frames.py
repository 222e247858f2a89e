"""The growth of a frame of directions along a run, by a QR decomposition after each step, and what
rounding does to it.

A frame of k directions is multiplied at each step by the Jacobian A[t] = ds[t+1]/ds[t] (G. Benettin
et al., Meccanica 15, 1980). All directions turn to the direction that grows fastest. A QR
decomposition after each step, A[t] Q = Q' R, makes them orthogonal again, and log |R_ii| is the
growth of the i-th direction. The sum over i is exactly the growth of the volume of the frame; for a
full frame (k = N) it is the sum of log |det A[t]|.

If A[t] is the product of the Jacobians of several layers, its rounding moves log |R_ii| by about
eps |longest column of A[t] Q| / |R_ii|, as 60 digits confirm. A step at which this exceeds 1e-11 is
done again, with a QR decomposition after each layer.

Rounding is a change E of A[t] of about eps ||A[t]||_F. To first order it moves the sum of log
|R_ii| over the run by y' E w / R_ii[t]. Let U[t] be the unit upper triangular matrix R[T-1] ...
R[t+1] with each row divided by its diagonal entry. Then y = Q[t+1] u, where u is row i of U[t], and
w = Q[t] c, where c is column i of the inverse of U[t-1]. For k < N, y also has a part outside of
the frame. The bound of the error is ||A[t]||_F |y| |w| / |R_ii[t]|, in units of eps; rounding
errors of different steps do not cancel in its sum. Each block of steps counts as a run.

Legend: T time steps; N entries of a state; k directions; F decompositions of a block.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gersgorin.autodiff import BLOCK
from gersgorin.jacobians import LargeJacobian
from gersgorin.run import LARGE, Run
from gersgorin.smoothness import difference

Jacobian = Tensor | LargeJacobian

EXACT = 1e-11  # largest error of a log growth that a QR decomposition of a whole step may leave
AT_ONCE = 1 << 17  # entries of triangular matrices that are inverted at once


def random_frame(N: int, k: int, seed: int, like: Tensor) -> Tensor:
    """k random orthonormal directions (N, k); a larger k adds directions to the same first ones."""
    generator, d = torch.Generator("cpu").manual_seed(seed), torch.float64
    columns = [torch.randn(N, generator=generator, dtype=d, device="cpu") for _ in range(k)]
    return torch.linalg.qr(torch.stack(columns, 1).to(like))[0]


class Steps(NamedTuple):
    """The Jacobians of consecutive steps."""

    now: slice
    jacobians: list[Sequence[Jacobian]]
    """Of each step: those of its layers, if they are known, or that of the step."""
    push: Callable[[Tensor], Tensor]
    """v (steps, N) -> A v of each step."""


class Frame(NamedTuple):
    """What a decomposition leaves outside of a frame of k < N directions is computed from these
    matrices.
    """

    before: Tensor
    """Q (N, k)."""
    jacobians: Sequence[Tensor]
    """The factors of J; the first one is applied first."""


class Factor(NamedTuple):
    """A QR decomposition J Q = Q' R, where J is the product of some Jacobians."""

    after: Tensor
    """Q' (N, k)."""
    R: Tensor
    """(k, k)."""
    lengths: Tensor
    """Lengths of the columns of J Q, (k,)."""
    n_jacobians: int
    """The number of Jacobians in J."""
    frame: "Frame | None"
    """None if Q is a full frame, k = N, or J is known by its products only: then a block has one
    decomposition.
    """


def growth(run: Run, Q: Tensor) -> tuple[Tensor, np.ndarray]:
    """(1) log |R_ii|, its upper bound, and a bound of its error in units of eps, (3, T, k), from
    the QR decomposition after each step, or after each of its factors. The upper bound is larger if
    |R_ii| may be only rounding of the longest column. (2) The differences of the steps, (T,).
    """
    logs, gaps = list[Tensor](), list[np.ndarray]()
    for now, steps, push in jacobians_of(run):
        factors, counts = list[Factor](), list[int]()
        for jacobians in steps:
            parts = factors_of(jacobians, Q)
            Q = parts[-1].after
            factors += parts
            counts.append(len(parts))
            run.report(now.start + len(counts))
        gaps.append(difference(run.step.rows, *run.at(now), push))
        of_factors = torch.stack([*logs_of(factors), errors_of(factors)])
        steps_of = [number for number, count in enumerate(counts) for _ in range(count)]
        step_of = torch.tensor(steps_of, device=Q.device)
        of_steps = of_factors.new_zeros(3, len(counts), Q.shape[1])
        logs.append(of_steps.index_add_(1, step_of, of_factors))
    return torch.cat(logs, 1), np.concatenate(gaps)


def factors_of(jacobians: Sequence[Jacobian], Q: Tensor) -> list[Factor]:
    """The decomposition of a whole step, or those of its Jacobians if rounding is too large."""
    whole = factored(jacobians, Q)
    if len(jacobians) == 1:
        return [whole]
    rounding = torch.finfo(Q.dtype).eps * float(whole.lengths.max())
    if rounding <= EXACT * float(whole.R.diagonal().abs().min()):
        return [whole]
    parts = [factored(jacobians[:1], Q)]
    for J in jacobians[1:]:
        parts.append(factored([J], parts[-1].after))
    return parts


def factored(jacobians: Sequence[Jacobian], Q: Tensor) -> Factor:
    """The decomposition of J Q for the product J of some Jacobians."""
    after, R = torch.linalg.qr(pushed(jacobians, Q))
    is_full = Q.shape[0] == Q.shape[1]
    matrices = [J for J in jacobians if isinstance(J, Tensor)]
    frame = None if is_full or not matrices else Frame(before=Q, jacobians=matrices)
    lengths = R.norm(dim=0)
    return Factor(after=after, R=R, lengths=lengths, n_jacobians=len(jacobians), frame=frame)


def pushed(jacobians: Sequence[Jacobian], columns: Tensor) -> Tensor:
    """The columns (N, k) after some Jacobians, the first of which is applied first."""
    for J in jacobians:
        columns = J @ columns if isinstance(J, Tensor) else J.push(columns)
    return columns


def pushed_rows(layers: Sequence[Tensor], v: Tensor) -> Tensor:
    """A[t] v[t] of each step, (steps, N), for the Jacobians (steps, ., .) of each layer."""
    columns = v[:, :, None]
    for J in layers:
        columns = J @ columns
    return columns[:, :, 0]


def logs_of(factors: Sequence[Factor]) -> tuple[Tensor, Tensor]:
    """log |R_ii| and its upper bound, (F, k) each."""
    eps, N = torch.finfo(factors[0].R.dtype).eps, len(factors[-1].after)
    size = torch.stack([factor.R.diagonal() for factor in factors]).abs().double()
    longest = torch.stack([factor.lengths for factor in factors]).amax(1, keepdim=True)
    return size.log(), size.maximum(N * eps * longest).log()


def errors_of(factors: Sequence[Factor]) -> Tensor:
    """||J||_F |y| |w| / |R_ii| of each decomposition of a block, (F, k), see above; inf if it is
    too large for a number.
    """
    diagonals = torch.stack([factor.R.diagonal() for factor in factors])
    by_row = torch.where(diagonals == 0, 1, diagonals)[:, :, None]
    U = unit_triangles(factors, by_row)
    outside = lengths_outside(factors, U, by_row)
    y = torch.hypot(U[1:].norm(dim=2), outside)
    identity = U[-1]
    parts = U[:-1].split(max(1, AT_ONCE // identity.numel()))
    solve = partial(torch.linalg.solve_triangular, B=identity, upper=True, unitriangular=True)
    w = torch.cat([solve(part).norm(dim=1) for part in parts])
    sizes = sizes_of(factors)[:, None] / diagonals.abs()
    return (y.double() * w.double() * sizes.double()).nan_to_num(nan=math.inf)


def unit_triangles(factors: Sequence[Factor], by_row: Tensor) -> Tensor:
    """U before each decomposition, and the identity at the end, (F + 1, k, k)."""
    F, k, _ = by_row.shape
    U = by_row.new_empty(F + 1, k, k)
    U[F].zero_().fill_diagonal_(1)
    for number in reversed(range(F)):
        torch.matmul(U[number + 1], factors[number].R, out=U[number]).div_(by_row[number])
    return U


def lengths_outside(factors: Sequence[Factor], U: Tensor, by_row: Tensor) -> Tensor:
    """Length of the part of y after each decomposition that lies outside of its frame, (F, k)."""
    F, k, _ = by_row.shape
    found = by_row.new_zeros(F, k)
    outside: Tensor | float = 0.0
    for number in reversed(range(1, F)):
        factor = factors[number]
        if factor.frame is None:
            outside = 0.0
            continue
        y = U[number + 1] @ factor.after.mT + outside
        outside = dual_outside(factor.frame, y) / by_row[number]
        found[number - 1] = outside.norm(dim=1)
    return found


def dual_outside(frame: Frame, y: Tensor) -> Tensor:
    """The part of the dual directions (k, N) before a decomposition that lies outside of its frame,
    from those y after it, times |R_ii|.
    """
    for J in reversed(frame.jacobians):
        y = y @ J
    return y - y @ frame.before @ frame.before.mT


def sizes_of(factors: Sequence[Factor]) -> Tensor:
    """||J||_F of each decomposition, (F,); if it is not known, ||J Q||_F times the number of
    Jacobians.
    """
    lengths = torch.stack([factor.lengths for factor in factors])
    found = lengths.norm(dim=1) * lengths.new_tensor([factor.n_jacobians for factor in factors])
    for number, factor in enumerate(factors):
        if factor.n_jacobians == 1 and factor.frame is not None:
            found[number] = factor.frame.jacobians[0].norm()
    return found


def layers_of(run: Run) -> int:
    """The number of layers of a step with known Jacobians; 1 for the Jacobian of the step."""
    return run.step.depth if run.step.own("layer_jacobians") else 1


def jacobians_of(run: Run) -> Iterator[Steps]:
    """Yield the Jacobians of blocks of steps, or of one step at a time for a large state."""
    step, N = run.step, run.state_size
    if N > LARGE:
        for t, (x, s) in enumerate(zip(*run.at(), strict=True)):
            A = LargeJacobian(step, x, s)
            yield Steps(now=slice(t, t + 1), jacobians=[[A]], push=A.push_row)
        return
    layers = step.own("layer_jacobians") if step.depth > 1 else None
    size = max(1, BLOCK // (N * N * layers_of(run)))
    for start in range(0, len(run), size):
        now = slice(start, min(start + size, len(run)))
        J = layers(*run.at(now)) if layers else [run.jacobians(now)]
        yield Steps(now=now, jacobians=[*zip(*J, strict=True)], push=partial(pushed_rows, J))
