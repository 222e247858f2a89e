"""Spectra, Geršgorin discs and norms of the Jacobian of every time step, and the norms of their
products.

A state of up to 4,096 entries is measured by whole Jacobians, block by block, a larger one by
products with vectors (`gersgorin.analyses.large_states`).

Legend: T time steps; N entries of a state; k eigenvalues; B matrices; A[t] = ds[t+1]/ds[t].
Jacobians have no unit, logarithms are natural.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Unpack

import numpy as np
import torch
from torch import Tensor

from gersgorin import checks
from gersgorin.growth import (
    DOUBLING,
    GROWTH_AFTER,
    HALF_LIFE,
    LOG_NORM,
    RATE,
    ROUNDING,
    growth_curve,
    growth_rows,
)
from gersgorin.linalg.disc_unions import overlap_ends
from gersgorin.linalg.discs import off_diagonal_sums
from gersgorin.linalg.jacobian_products import log_norms, running_products
from gersgorin.linalg.numerical_range import support_corners, support_function
from gersgorin.linalg.spectrum import (
    departure,
    eigenvalues_or_nan,
    known_or_nan,
    values_and_conditions,
)
from gersgorin.linalg.threads import by_chunks, one_thread, pieces
from gersgorin.results import DIFFERENCE, PRODUCT, StepResult
from gersgorin.run import LARGE, Run, RunOptions, names_options, open_run
from gersgorin.smoothness import difference
from rhn.utils.validation import whole_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

RADIUS, NORM = "spectral radius", "2-norm"
ROW_REACH = "largest modulus in the row discs"
COLUMN_REACH = "largest modulus in the column discs"
OVERLAP_REACH = "largest modulus in the overlap of both"
ROW_RIGHT = "rightmost point of the row discs"
COLUMN_RIGHT = "rightmost point of the column discs"
OVERLAP_RIGHT = "rightmost point of the overlap of both"
ROW_INSIDE = "row discs inside the unit circle (share)"
COLUMN_INSIDE = "column discs inside the unit circle (share)"
NUMERICAL_RADIUS = "numerical radius (upper bound)"
DEPARTURE = "departure from normality (0 to 1)"
CONDITION = "largest eigenvalue condition"
BOUND = "2-norm for any input (upper bound)"
ENTRIES = "entries of a state"
VALUES = "eigenvalues of a step"
ROWS = (
    RADIUS, ROW_REACH, COLUMN_REACH, OVERLAP_REACH, ROW_RIGHT, COLUMN_RIGHT, OVERLAP_RIGHT,
    ROW_INSIDE, COLUMN_INSIDE, NORM, NUMERICAL_RADIUS, DEPARTURE, CONDITION, DIFFERENCE, BOUND,
    LOG_NORM, RATE, HALF_LIFE, DOUBLING, ENTRIES, VALUES,
)  # fmt: skip
ROW_CURVE, COLUMN_CURVE = "row discs", "column discs"
NOT_CONVERGED = "steps whose eigenvalues did not converge"
NORM_NOT_CONVERGED = "steps whose 2-norm did not converge"
NO_NUMBER = "steps whose Jacobian over- or underflows"
COUNT = 32  # eigenvalues of a Jacobian that is not computed as a whole
ANGLES, SMALL = 32, 256  # support lines of a numerical range; half as many for more entries
SCALE_FREE = {"eigenvalue_condition", "departure_from_normality"}
"""The arrays of `Spectra` that are the same for A and A 2^e."""

PerStep = Annotated[np.ndarray, "step"]
PerEntry = Annotated[np.ndarray, "step", "entry"]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Spectra(StepResult):
    """Measures of the Jacobian A[t] of every step t = 0..T-1, and of A[t] ... A[0].

    >>> found = spectra(torch.nn.RNN(3, 4), torch.rand(8, 3))
    >>> found.eigenvalues.shape, found.spectral_radius.shape
    ((8, 4), (8,))
    """

    page: ClassVar[str] = "docs/guides/spectra.md"
    headline: ClassVar[tuple[str, ...]] = (RADIUS, HALF_LIFE)
    label: ClassVar[str] = PRODUCT
    printed: ClassVar[tuple[str, ...]] = (
        RADIUS, ROW_REACH, COLUMN_REACH, NORM, NUMERICAL_RADIUS, DEPARTURE, CONDITION, DIFFERENCE,
        LOG_NORM, HALF_LIFE,
    )  # fmt: skip
    texts: ClassVar[tuple[str, ...]] = (
        *StepResult.run_texts, *ROWS, ROW_CURVE, COLUMN_CURVE, NOT_CONVERGED, NORM_NOT_CONVERGED,
        NO_NUMBER, GROWTH_AFTER,
    )  # fmt: skip

    eigenvalues: Annotated[np.ndarray, "step", "eigenvalue"]
    """(T, k) complex, the largest modulus first; NaN at a step where they did not converge."""
    eigenvalue_condition: PerStep
    """The largest condition number of an eigenvalue, (T,), which is not defined for a multiple one;
    NaN with `leading`.
    """
    centers: PerEntry
    """Centres of the discs, (T, N), the same for rows and columns."""
    row_radii: PerEntry
    """Radii of the row discs, (T, N)."""
    column_radii: PerEntry
    """Radii of the column discs, (T, N)."""
    norm: PerStep
    """2-norm, (T,); NaN at a step of a large state where it did not converge."""
    support: Annotated[np.ndarray, "step", "angle"]
    """How far the numerical range extends at equal angles of a full turn, (T, angles); NaN with
    `leading`.
    """
    departure_from_normality: PerStep
    """Henrici's departure over the Frobenius norm, (T,), 0 to 1; NaN with `leading`."""
    difference: PerStep
    """How much the Jacobian differs from differences, (T,), see
    `gersgorin.smoothness.difference`.
    """
    log_norm_product: PerStep
    """log ||A[t] ... A[0]||_2 = log ||ds[t+1]/ds[0]||_2, (T,); -inf where the product is 0."""
    log_norm_bound: float
    """Logarithm of a bound on `norm` over all inputs, and all states with entries as large as those
    of the run; NaN without a bound.
    """

    @property
    def spectral_radius(self) -> np.ndarray:
        """Largest modulus of an eigenvalue, (T,)."""
        return np.abs(self.eigenvalues[:, 0])

    @property
    def row_reach(self) -> np.ndarray:
        """Largest modulus in the row discs, (T,), which is the row-sum norm."""
        return (np.abs(self.centers) + self.row_radii).max(1)

    @property
    def column_reach(self) -> np.ndarray:
        """Largest modulus in the column discs, (T,), which is the column-sum norm."""
        return (np.abs(self.centers) + self.column_radii).max(1)

    @cached_property
    def overlap(self) -> np.ndarray:
        """(Largest modulus, largest real part) in both unions of discs, (2, T)."""
        c, r, q = self.centers, self.row_radii, self.column_radii
        found = [overlap_ends(*step) for step in zip(c, r, q, strict=True)]
        return np.where(np.isnan(c[:, 0]), np.nan, np.array(found, dtype=float).T)

    @property
    def numerical_radius(self) -> np.ndarray:
        """Upper bound on the largest modulus in the numerical range, (T,), at most 0.5 % too large
        (2 % for N > 256).
        """
        return np.minimum(np.abs(support_corners(self.support)).max(1), self.norm)

    @property
    def norm_bound(self) -> float:
        """A bound on `norm`, see `log_norm_bound`; inf above the range of numbers."""
        with np.errstate(over="ignore"):
            return float(np.exp(self.log_norm_bound))

    @property
    def finite_time_exponent(self) -> np.ndarray:
        """log ||ds[t+1]/ds[0]||_2 / (t + 1), (T,)."""
        return self.log_norm_product / np.arange(1, len(self.norm) + 1)

    @property
    def typical_step(self) -> int:
        """The step with the median spectral radius, the lower of two; 0 if no radius is known."""
        known = np.flatnonzero(~np.isnan(self.spectral_radius))
        order = known[np.argsort(self.spectral_radius[known], kind="stable")]
        return int(order[(len(order) - 1) // 2]) if len(order) else 0

    def inside(self, radii: np.ndarray) -> np.ndarray:
        """The share of discs with these radii (T, N) inside the unit circle, (T,); a disc that
        touches the circle up to rounding is not inside.
        """
        ends = np.abs(self.centers) + radii
        return np.where(np.isnan(ends).any(1), np.nan, (ends < 1 - ROUNDING).mean(1))

    def table(self) -> Mapping[str, Any]:
        overlap_reach, overlap_right = self.overlap
        return {
            RADIUS: self.spectral_radius,
            ROW_REACH: self.row_reach,
            COLUMN_REACH: self.column_reach,
            OVERLAP_REACH: overlap_reach,
            ROW_RIGHT: (self.centers + self.row_radii).max(1),
            COLUMN_RIGHT: (self.centers + self.column_radii).max(1),
            OVERLAP_RIGHT: overlap_right,
            ROW_INSIDE: self.inside(self.row_radii),
            COLUMN_INSIDE: self.inside(self.column_radii),
            NORM: self.norm,
            NUMERICAL_RADIUS: self.numerical_radius,
            DEPARTURE: self.departure_from_normality,
            CONDITION: self.eigenvalue_condition,
            DIFFERENCE: self.difference,
            BOUND: self.norm_bound,
            **growth_rows(self.log_norm_product),
            ENTRIES: self.centers.shape[1],
            VALUES: self.eigenvalues.shape[1],
        }

    def curves(self) -> dict[str, np.ndarray]:
        return {
            RADIUS: self.spectral_radius,
            ROW_CURVE: self.row_reach,
            COLUMN_CURVE: self.column_reach,
            NORM: self.norm,
        }

    def by_step(self) -> Mapping[str, Sequence[Any]]:
        growth = self.log_norm_product / math.log(10)
        return {**super().by_step(), GROWTH_AFTER: growth.tolist()}

    def notes(self) -> Mapping[str, int]:
        lost = np.isnan(self.centers[:, 0])
        no_radius = np.isnan(self.spectral_radius) & ~lost
        no_norm = np.isnan(self.norm) & ~lost
        return {
            NOT_CONVERGED: int(no_radius.sum()),
            NORM_NOT_CONVERGED: int(no_norm.sum()),
            NO_NUMBER: int(lost.sum()),
        }

    def plot(
        self, ax: "Axes | None" = None, step: int | None = None, limit: float | None = None
    ) -> "Axes":
        """Draw the discs and eigenvalues of one step.

        step: None: the typical step. limit: half the width of the panel around 0; None: the panel
        holds all that is drawn.
        """
        from gersgorin.analyses import complex_plane, disc_panels  # loads matplotlib
        from rhn.utils.composer import new_axes
        from rhn.utils.named_curves import TIME

        step, limit = self._shown(step), checks.limit_of_panel(limit)
        discs = disc_panels.discs_of(self, step)
        whole = disc_panels.whole_square(discs)
        square = whole if limit is None else complex_plane.Square(0.0, limit)
        ax = disc_panels.draw_discs(new_axes() if ax is None else ax, discs, square)
        ax.set(xlabel=complex_plane.REAL, ylabel=complex_plane.IMAGINARY)
        ax.set_title(f"{TIME} {step}", loc="left")
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        return ax

    def draw(self, part: "SubFigure", step: int | None = None, limit: float | None = None) -> float:
        """Draw one step, all steps, and the growth of the product. Arguments as for `plot`. Returns
        the height that they need, in inches.
        """
        from gersgorin.analyses.spectra_figure import draw_spectra  # loads matplotlib

        growth, limit = growth_curve(self.log_norm_product), checks.limit_of_panel(limit)
        return draw_spectra(part, self, self._shown(step), growth, limit)

    def _shown(self, step: int | None) -> int:
        """A step of the run; None: the typical step."""
        return self.typical_step if step is None else checks.step_of_run(step, self.steps)


@names_options(RunOptions)
@torch.no_grad()
@one_thread()
def spectra(
    network: Any,
    x: Any = None,
    s0: Any = None,
    *,
    leading: int | None = None,
    **how: Unpack[RunOptions],
) -> Spectra:
    """Measure the Jacobian of every step of a run, and the norms of their products.

    Args:
        network, x, s0, state_size, ..., progress: as for `open_run`.
        leading: the number of eigenvalues of largest modulus that are computed, for large states;
            None: all, or 32 for a state of more than 4,096 entries.

    Raises InvalidInputError.

    >>> found = spectra(lambda x, s: s / 2, torch.zeros(10, 1), torch.zeros(2))
    >>> float(found.spectral_radius[0]), round(found.table()[HALF_LIFE])
    (0.5, 1)
    """
    run = open_run(network, x, s0, **how)
    run.check_memory()
    N = run.state_size
    is_large = N > LARGE
    most = N - 3 if is_large else N  # SciPy computes one more, of at most N - 2
    k = COUNT if leading is None else whole_number("leading", leading, 1, most)
    is_whole = leading is None and not is_large
    with run.reporting("spectra") as reporting:
        if is_large:
            from gersgorin.analyses.large_states import measured_by_products  # loads SciPy

            parts = measured_by_products(reporting, k)
        else:
            parts = measured(reporting, None if is_whole else k)
    found: Any = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    bound = run.log_norm_bound() if is_whole else math.nan
    return Spectra(**run.heading, **found, log_norm_bound=bound)


def measured(run: Run, leading: int | None) -> list[dict[str, np.ndarray]]:
    """The arrays of `Spectra` from whole Jacobians M 2^e, block by block; NaN where M alone has
    another number.
    """
    last, parts = None, []
    for now, M, e in run.blocks():
        gap = difference(run.step.rows, *run.at(now), partial(torch.einsum, "tij,tj->ti", M))
        M, e = M.cpu().double(), e.cpu()
        lapack = _in_pieces(run, now.start, M, leading)
        tensors = {
            **lapack._asdict(),
            "centers": M.diagonal(dim1=-2, dim2=-1).clone(),
            "row_radii": off_diagonal_sums(M, "row"),
            "column_radii": off_diagonal_sums(M, "column"),
        }
        found = {name: t.numpy() for name, t in tensors.items()} | {"difference": gap}
        is_scaled = e.numpy() != 0
        for name in found.keys() - SCALE_FREE:
            found[name][is_scaled] = np.nan
        P, exponent = running_products(M, e, last)
        last = P[-1], exponent[-1]
        parts.append(found | {"log_norm_product": log_norms(P, exponent).numpy()})
    return parts


class LapackMeasures(NamedTuple):
    """The arrays of `Spectra` that LAPACK computes from B matrices."""

    norm: Tensor
    """(B,)."""
    eigenvalues: Tensor
    """(B, k)."""
    eigenvalue_condition: Tensor
    """(B,)."""
    departure_from_normality: Tensor
    """(B,)."""
    support: Tensor
    """(B, angles)."""


def _in_pieces(run: Run, start: int, M: Tensor, leading: int | None) -> LapackMeasures:
    """The measures of Jacobians M from a step on, with a report after each piece."""
    parts, done = list[LapackMeasures](), start
    for piece in pieces(M):
        if done > start:  # the end of a block is reported by `Run.blocks`
            run.report(done)
        parts.append(LapackMeasures(*by_chunks(partial(_by_lapack, leading=leading), piece)))
        done += len(piece)
    return LapackMeasures(*map(torch.cat, zip(*parts, strict=True)))


def _by_lapack(A: Tensor, leading: int | None) -> LapackMeasures:
    """The measures of matrices (B, N, N), by one thread of LAPACK."""
    norm = torch.linalg.matrix_norm(A, 2)
    if leading is not None:
        unknown = A.new_full((len(A),), torch.nan)
        return LapackMeasures(
            norm=norm,
            eigenvalues=eigenvalues_or_nan(A)[:, :leading],
            eigenvalue_condition=unknown,
            departure_from_normality=unknown,
            support=unknown[:, None].expand(-1, 4),
        )
    values, conditions = known_or_nan(values_and_conditions, A)
    has_converged = ~values.isnan().any(1)
    gap = departure(A, values.nan_to_num(), relative=True)
    return LapackMeasures(
        norm=norm,
        eigenvalues=values,
        eigenvalue_condition=conditions.amax(-1),
        departure_from_normality=gap.where(has_converged, torch.nan),
        support=support_lines(A),
    )


def support_lines(A: Tensor) -> Tensor:
    """How far the numerical ranges of matrices (B, N, N) extend at equal angles, (B, angles)."""
    return support_function(A, ANGLES if A.shape[-1] <= SMALL else ANGLES // 2)
