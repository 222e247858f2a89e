"""Verified eigenvalues: for each a disc that holds it whatever rounding did, of the matrix as given, and along a run.

>>> found = verified_eigenvalues([[2.0, 1.0], [0.0, 3.0]])
>>> sorted(found.centers.real.round(12).tolist()), bool(found.radii.max() < 1e-13), found.clusters.tolist()
([2.0, 3.0], True, [1, 1])

The discs are theorems about the float64 matrix A, its entries read as exact. What rounding did to these entries is not covered.

Eigenvectors. Let A X be nearly X D, R nearly X^-1, W = A X - X D and E = I - R X. Then X^-1 A X = D + (I - E)^-1 R W,
entry by entry within |R W| + |E (I - E)^-1| |R W| of D. Gersgorin's theorem on its rows gives a disc about each d_i, and
in each connected set of discs as many eigenvalues as discs (S. Miyajima, "Fast enclosure for all eigenvalues in
generalized eigenvalue problems", J. Comput. Appl. Math. 233, 2010). Row i of R is a left eigenvector: the radius grows
with that eigenvalue's own condition.

Schur. Where eigenvectors are nearly dependent (Jordan blocks, Grcar's matrix), A Q = Q T + W with Q nearly unitary gives
Q^-1 A Q = T + F, |F_ij| <= ||W|| / sqrt(1 - ||Q* Q - I||); a diagonal similarity diag(1, d, d^2, ...) shrinks what stands above the
diagonal and blows up F below it. The best d leaves radii near ||W||^(1/k) for a Jordan block of size k, which is how far rounding can
move such eigenvalues.

Discs. Else the row or column discs of A itself. Of what holds, the discs are taken whose largest radius is least.

python-flint (optional: `pip install rhn-toolkit[verified]`). Ball arithmetic of any precision (Arb, F. Johansson) gives the same discs
where float64 leaves clusters.
"""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import scipy.linalg
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from gersgorin._validate import check_square
from gersgorin.analyses.spectra import Spectra
from gersgorin.cell_run import run_of
from gersgorin.linalg.balls import (
    UNIT,
    above,
    frobenius_above,
    gamma,
    modulus_above,
    product_above,
    product_error,
    row_sum_norm_above,
    scaled,
    sum_above,
)
from gersgorin.linalg.discs import Discs, gersgorin_discs
from gersgorin.linalg.eigenvalues import one_thread
from gersgorin.own_loop import OwnLoop
from rhn.errors import InvalidInputError
from rhn.result import Result

Circles = tuple[np.ndarray, np.ndarray]
RATIOS = np.geomspace(1e-6, 1, 49)  # of the diagonal similarity


def float64_discs(A: np.ndarray) -> Circles:
    """Centres (n,) complex and radii (n,) of discs whose connected sets hold as many eigenvalues of A (n, n) as discs."""
    found = _by_eigenvectors(A)
    if found is not None and is_isolated(*found).all():
        return found
    others = [*_by_schur(A), *_own_discs(A)]
    return min([found, *others] if found else others, key=lambda circles: circles[1].max())


def is_isolated(centers: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Whether each disc surely touches no other, (n,) bool."""
    return (touching(centers, radii).sum(1) == 1) & np.isfinite(radii)


def touching(centers: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Whether two discs may touch, (n, n) bool, true on the diagonal."""
    distance = np.abs(centers[:, None] - centers) * (1 - 16 * UNIT)  # at most the exact one
    return ~(distance > above(radii[:, None] + radii)) | np.eye(len(centers), dtype=bool)


def _by_eigenvectors(A: np.ndarray) -> Circles | None:
    try:
        values, X = np.linalg.eig(A)
        R = np.linalg.inv(X)
    except np.linalg.LinAlgError:
        return None
    if not np.isfinite(R).all():
        return None
    defect = row_sum_norm_above(above(modulus_above(R @ X - np.eye(len(A))) + product_error(R, X), 4))
    if not defect < 0.5:
        return None
    of_columns = above(2 * gamma(4) * modulus_above(X) * modulus_above(values), 3)
    W = above(modulus_above(A @ X - X * values) + product_error(A, X) + of_columns, 6)
    C = product_above(modulus_above(R), W)
    bound = above(C + above(defect / (1 - defect), 2) * C.max(0), 2)
    radii = sum_above(bound, 1)
    return (values.astype(complex), radii) if np.isfinite(radii).all() else None


def _by_schur(A: np.ndarray) -> Iterator[Circles]:
    try:
        T, Q = scipy.linalg.schur(A, output="complex")
    except np.linalg.LinAlgError:
        return
    conjugate, n = Q.conj().T, len(A)
    defect = frobenius_above(above(modulus_above(conjugate @ Q - np.eye(n)) + product_error(conjugate, Q), 4))
    if not defect < 0.5:
        return
    T = np.triu(T)
    rounded = above(product_error(A, Q) + product_error(Q, T), 1)
    F = above(frobenius_above(above(modulus_above(A @ Q - Q @ T) + rounded, 6)) / np.sqrt(1 - defect), 4)
    moduli = modulus_above(np.triu(T, 1)) + F
    for ratio in RATIOS:
        scale = ratio ** np.arange(n)
        if scale[-1] > 1e-290:
            with np.errstate(over="ignore"):
                radii = sum_above(above(above(moduli, 1) * above(scale / scale[:, None]), 1), 1)
            if np.isfinite(radii).all():
                yield np.diag(T), radii


def _own_discs(A: np.ndarray) -> Iterator[Circles]:
    off_diagonal = modulus_above(A) * ~np.eye(len(A), dtype=bool)
    for axis in (1, 0):
        yield np.diag(A).astype(complex), sum_above(off_diagonal, axis)


PRECISIONS = (64, 128, 256, 512)  # bits
LARGEST = 128  # rows: beyond, minutes a matrix


def has_flint() -> bool:
    """Whether python-flint is installed."""
    return importlib.util.find_spec("flint") is not None


def flint_discs(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres (n,) complex and radii (n,) as `float64_discs` gives them, each disc isolated where the eigenvalues are simple.

    Multiple eigenvalues, which no precision parts, come as equal discs; radii are inf where even these are not found.

    Raises:
        InvalidInputError: python-flint is not installed.
    """
    if not has_flint():
        raise InvalidInputError("python-flint is not installed: pip install python-flint, or use method='float64'")
    import flint

    exact = flint.acb_mat([[complex(value) for value in row] for row in A])
    before = flint.ctx.prec
    try:
        for flint.ctx.prec in PRECISIONS:
            try:
                return _discs(exact.eig())
            except ValueError:  # not isolated at this precision
                continue
        try:
            return _discs(exact.eig(multiple=True))
        except ValueError:
            return np.diag(A).astype(complex), np.full(len(A), np.inf)
    finally:
        flint.ctx.prec = before


def _discs(balls) -> tuple[np.ndarray, np.ndarray]:
    """Arb's boxes as discs about float64 centres, rounded outwards."""
    import flint

    centers = [complex(float(z.real.mid()), float(z.imag.mid())) for z in balls]
    far = [float((z - flint.acb(c)).abs_upper()) for z, c in zip(balls, centers, strict=True)]
    return np.array(centers), np.nan_to_num(above(np.array(far), 4), nan=np.inf)


METHODS = ("float64", "flint")


@dataclass(frozen=True, kw_only=True, repr=False)
class VerifiedEigenvalues(Result):
    """n discs; each connected set of k discs holds exactly k eigenvalues, counted with their multiplicity."""

    centers: np.ndarray
    """(n,) complex."""
    radii: np.ndarray
    """(n,), rounded up; inf where no disc was found."""
    component: np.ndarray
    """(n,) the number of the connected set that each disc is in, 0, 1, ..."""
    method: str
    """What found them: "float64" or "flint"."""

    @property
    def clusters(self) -> np.ndarray:
        """How many eigenvalues the set of each disc holds, (n,): 1 for an isolated disc."""
        return np.bincount(self.component)[self.component]

    @property
    def none_outside(self) -> bool:
        """Whether for certain no eigenvalue lies outside the unit circle."""
        return bool((above(modulus_above(self.centers) + self.radii) <= 1).all())

    @property
    def outside(self) -> int:
        """How many eigenvalues lie outside the unit circle for certain."""
        nearest = np.abs(self.centers) * (1 - 16 * UNIT) - above(self.radii, 2)
        beyond = np.array([(nearest[self.component == k] > 1).all() for k in range(self.component.max() + 1)])
        return int(beyond[self.component].sum())


def verified_eigenvalues(
    A: Tensor | np.ndarray, *, method: Literal["float64", "flint"] | None = None
) -> VerifiedEigenvalues:
    """Discs that hold the eigenvalues of the matrix as given for certain: its entries are read as exact.

    Args:
        A: (n, n) real or complex, a tensor, an array or rows of numbers.
        method: "float64" (`float64_discs`), "flint" (python-flint, at the precision it takes), or None: float64, and flint where that
            leaves clusters, python-flint is installed and n is at most 128.

    Raises:
        InvalidInputError: A is no square matrix of finite numbers, method is another word, python-flint is asked for and not installed.
    """
    if method not in (None, *METHODS):
        raise InvalidInputError(f"unknown method {method!r}: expected one of {', '.join(METHODS)}")
    matrix = _exact(A)
    small, exponent = scaled(matrix)
    if not np.array_equal(np.ldexp(small.real, exponent) + 1j * np.ldexp(small.imag, exponent), matrix):
        small, exponent = matrix, 0  # entries that differ by more than float64's range: as they are
    circles = flint_discs(small) if method == "flint" else float64_discs(small)
    if method is None and has_flint() and len(small) <= LARGEST and not is_isolated(*circles).all():
        by_flint = flint_discs(small)
        if by_flint[1].max() < circles[1].max():
            circles, method = by_flint, "flint"
    centers, radii = circles
    centers = np.ldexp(centers.real, exponent) + 1j * np.ldexp(centers.imag, exponent)
    radii = above(np.ldexp(radii, exponent), 4)
    _, component = connected_components(touching(centers, radii), directed=False)
    return VerifiedEigenvalues(centers=centers, radii=radii, component=component, method=method or "float64")


def verified_discs(A: Tensor, axis: str = "row") -> Discs:
    """Gersgorin's discs of the matrices A (..., n, n) as given, in float64 with radii rounded up: at least the exact sums.

    The radii are at most a few roundings larger, the centres exact. Arguments and errors as for `gersgorin.gersgorin_discs`.

    >>> discs = verified_discs(torch.tensor([[1.0, 0.1, 0.2], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]], dtype=torch.float64))
    >>> 0 <= discs.radii[0] - (0.1 + 0.2) < 1e-14
    tensor(True)
    """
    check_square(A)
    discs = gersgorin_discs(A.detach().to(torch.complex128 if A.is_complex() else torch.float64), axis)
    return Discs(discs.centers, above(discs.radii, A.shape[-1] + 4))


def _exact(A) -> np.ndarray:
    """A as a float64 or complex128 matrix of equal values."""
    if not isinstance(A, Tensor):
        try:
            A = torch.as_tensor(np.asarray(A))
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"A: expected a matrix of numbers: {error}") from error
        A = A if A.is_floating_point() or A.is_complex() else A.double()
    check_square(A)
    if A.dim() != 2:
        raise InvalidInputError(f"A: expected one matrix (n, n), got shape {tuple(A.shape)}: take one of them")
    return A.detach().cpu().to(torch.complex128 if A.is_complex() else torch.float64).numpy(force=True)


BLOCK = 1 << 22  # numbers of Jacobians computed at once


@dataclass(frozen=True, kw_only=True, repr=False)
class VerifiedRun(Result):
    """What is certain of the eigenvalues of a run's Jacobians, read as exact float64 matrices; (T,) each."""

    outside: np.ndarray
    """How many eigenvalues lie outside the unit circle for certain."""
    none_outside: np.ndarray
    """Whether for certain none does."""
    radius: np.ndarray
    """The largest radius of a disc that holds an eigenvalue."""
    cluster: np.ndarray
    """How many eigenvalues the largest connected set of discs holds: 1 where all are told apart."""

    def summary(self) -> dict:
        """JSON-ready."""
        return {
            "steps": len(self.outside),
            "none_outside": int(self.none_outside.sum()),
            "some_outside": int((self.outside > 0).sum()),
            "largest_radius": float(self.radius.max()),
            "largest_cluster": int(self.cluster.max()),
        }

    def __str__(self) -> str:
        T, none, some = len(self.outside), int(self.none_outside.sum()), int((self.outside > 0).sum())
        steps = f"all {T} steps" if T > 1 else "the only step"
        told = "each in a disc of its own" if self.cluster.max() == 1 else f"in clusters of up to {self.cluster.max()}"
        how = f"({told}, radii up to {self.radius.max():.2g})"
        if none == T:
            return f"Verified: no eigenvalue outside the unit circle at {steps} {how}."
        if some == T:
            return f"Verified: an eigenvalue outside the unit circle at {steps} {how}."
        rest = f", and {T - none - some} are left open by rounding" if none + some < T else ""
        return f"Verified: of {T} steps {some} have an eigenvalue outside the unit circle and {none} have none{rest} {how}."


@torch.no_grad()
@one_thread()
def verify_run(
    cell: nn.Module | OwnLoop, x: Tensor, progress: Callable[[int, int], None] = lambda done, total: None
) -> VerifiedRun:
    """Verified eigenvalues of each step of a run over x (T, m) from the zero state; by python-flint where float64 leaves it open."""
    run, rows = run_of(cell, x), []
    block = max(1, BLOCK // run.state_size**2)
    for start in range(0, len(run), block):
        for A in run.jacobians(slice(start, start + block)):
            found = verified_eigenvalues(A, method="float64")
            if not found.none_outside and not found.outside:
                found = verified_eigenvalues(A)
            rows.append((found.outside, found.none_outside, found.radii.max(), found.clusters.max()))
            progress(len(rows), len(x))
    outside, none_outside, radius, cluster = map(np.array, zip(*rows, strict=True))
    return VerifiedRun(outside=outside, none_outside=none_outside, radius=radius, cluster=cluster)


def rounded_outwards(record: Spectra) -> Spectra:
    """The same record with the discs' radii rounded up: at least the exact sums of the matrices that were measured."""
    factor = 1 + (record.row_radii.shape[1] + 4) * 2 * float(np.finfo(record.row_radii.dtype).eps)
    grown = {
        f"{axis}_radii": getattr(record, f"{axis}_radii").astype(float) * factor * (1 + 4 * UNIT)
        for axis in ("row", "column")
    }
    return replace(record, **grown)
