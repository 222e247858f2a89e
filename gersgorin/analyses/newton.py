"""Parallel computation of a run: all states at once by Newton's method.

A loop computes one state after the other. Newton's method corrects all states at once, each iteration by a scan of log T levels
(`gersgorin.parallel` has the equations and the methods). It pays where a few iterations are enough: where the network forgets. Near
chaos the iterations grow with T, and every run that amplifies rounding belongs to the loop.

Legend: T steps, B sequences, N entries of a state, K iterations.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from torch import Tensor, nn

from gersgorin._validate import real_tensor
from gersgorin.cell import Step, trajectory
from gersgorin.loading.find import is_step
from gersgorin.parallel import MAX_ITERATIONS, METHODS, TOLERANCES, Recurrence, solve
from gersgorin.plotting.figure import DASHED, panel
from gersgorin.resolve import label_of_cell, run_of_network
from gersgorin.run import Progress, Run, silent
from rhn.errors import InvalidInputError
from rhn.utils.figures import time_label
from rhn.utils.result import Result, rows_of
from rhn.utils.validation import check_room
from rhn.utils.wording import counted

WHOLE = 64  # entries of a state up to which the whole Jacobian is the default
SHOWN = -16.0, 2.0  # powers of ten in the figure
COPIES = 12  # of all Jacobians at once, with "trust"


@dataclass(frozen=True, kw_only=True, repr=False)
class Newton(Result, kind="newton"):
    """The states of a run by Newton's method, and the errors on the way. Errors and residuals are relative to max(1, |s|)."""

    states: np.ndarray
    """(T, N), or (T, B, N) of several sequences."""
    iterations: int
    """K, corrections of all states."""
    residuals: np.ndarray
    """max |f(x[t], s[t-1]) - s[t]| of each iterate, the first guess included, (K + 1,)."""
    errors: np.ndarray
    """The largest difference to the states of the loop at each step, (K + 1, T)."""
    converged: np.ndarray
    """True at steps whose state is that of the loop to the tolerance, (T,) or (T, B)."""
    method: str
    """"full", "diagonal" or "trust"."""
    tolerance: float
    """Of residuals and errors."""
    fallback_from: int | None = None
    """The first step that was computed in a loop; None: all converged, or there was no guard."""
    unit: str = "steps"
    """Of one step."""

    @property
    def steps(self) -> int:
        """T."""
        return len(self.states)

    @property
    def parallel(self) -> bool:
        """True if all steps converged."""
        return bool(self.converged.all())

    def sentences(self) -> Iterator[str]:
        """The number of iterations, the residual, and how many steps a loop computed."""
        steps, iterations = counted(self.steps, "step"), counted(self.iterations, "iteration")
        reached = int(self.converged.reshape(self.steps, -1).all(1).sum())
        found = f"{steps} at once in {iterations}" if self.parallel else f"{reached:,} of {steps} in {iterations}"
        yield f"Newton's method with {self.method} Jacobians computes {found}, to a tolerance of {self.tolerance:.2g}."
        yield f"The residual is {self.residuals[-1]:.2g}, the largest error {np.max(self.errors[-1]):.2g} of the last iterate."
        if self.fallback_from is not None:
            yield f"A loop computed {self.steps - self.fallback_from:,} steps, from step {self.fallback_from:,} on."

    def table(self) -> list[dict]:
        """One row an iterate: iteration, residual, error (the largest), steps_within (the tolerance, before the first that is not)."""
        within = np.logical_and.accumulate(self.errors <= self.tolerance, axis=1).sum(1)
        errors = self.errors.max(1)
        return rows_of(iteration=range(len(errors)), residual=self.residuals, error=errors, steps_within=within)

    def to_dict(self) -> dict:
        """JSON-ready, without states and the errors of each step."""
        numbers = {"steps": self.steps, "parallel": self.parallel, "errors": self.errors.max(1).tolist()}
        return {name: value for name, value in super().to_dict().items() if name not in ("states", "errors")} | numbers

    @panel(7, 4.2, "Newton's method")
    def plot(self, ax=None) -> Axes:
        """The error over time and iterations; a dashed line is the first step beyond the tolerance."""
        with np.errstate(divide="ignore"):
            heights = np.clip(np.log10(self.errors), *SHOWN)
        K, T = heights.shape
        t, k = np.arange(T + 1), np.arange(K + 1) - 0.5
        mesh = ax.pcolormesh(t, k, heights, norm=Normalize(*SHOWN), cmap="viridis", rasterized=True)
        within = np.array([row["steps_within"] for row in self.table()])
        ax.step(np.append(within, within[-1]), k, where="pre", **DASHED, label="within the tolerance to its left")
        ax.set(xlabel=time_label(self.unit), ylabel="iteration", xlim=(0, T), ylim=(K - 0.5, -0.5))
        ax.yaxis.get_major_locator().set_params(integer=True)
        ax.figure.colorbar(mesh, ax=ax, label="log$_{10}$ of the error")
        return ax


@torch.no_grad()
def newton(
    network: "str | Path | nn.Module | Step | Run" = "rhn",
    x: "str | Path | Tensor | np.ndarray | None" = None,
    s0: Tensor | None = None,
    *,
    method: str | None = None,
    tolerance: float | None = None,
    max_iterations: int = MAX_ITERATIONS,
    guard: bool = True,
    progress: Progress = silent,
    **options,
) -> Newton:
    """All states of a run at once by Newton's method, compared with the loop.

    Args:
        network: a cell or step f(x, s) in its own dtype, or any network of `gersgorin.open_run`.
        x: inputs (T, m) or (T, B, m), or data as for `open_run`.
        s0: the first state, (N,) or (B, N); None: zero, for a cell that has a state_size.
        method: "full", "diagonal" (of the Jacobians) or "trust" (damped) (default: full up to 64 entries of a state, else diagonal).
        tolerance: of each step, relative to max(1, |s|) (default: 1e-10, in float32 1e-4).
        max_iterations: corrections at most.
        guard: compute the steps that have not converged in a loop.
        progress: called with (iterations done, max_iterations).
        options: further ones of `open_run`.

    Raises:
        InvalidInputError: an argument out of range, shapes that do not fit, states that are NaN or infinite, a module's own loop.

    >>> x, s0 = torch.ones(50, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    >>> found = newton(lambda x, s: torch.tanh(0.5 * s + x), x, s0)
    >>> found.parallel, found.iterations, found.fallback_from
    (True, 3, None)
    """
    if isinstance(x, Tensor | np.ndarray) and x.ndim == 3 and is_step(network) and not options:
        run = Run.of(network, real_tensor("x", x), s0, label_of_cell(network))
    else:
        run = run_of_network(network, x, s0, **options)
    cell, states = run.any_step(), run.require_finite().states[1:]
    method = method or ("full" if run.state_size <= WHOLE else "diagonal")
    tolerance = TOLERANCES[states.dtype] if tolerance is None else tolerance
    _check(method, tolerance, max_iterations, states)
    loop = lambda x, s: trajectory(cell, x, s)[1:]  # noqa: E731
    recurrence, residuals, errors = Recurrence(cell.next, cell.jacobian, run.inputs, run.states[0], loop), [], []

    def watch(iterate: Tensor, residual: Tensor) -> None:
        error = ((iterate - states).abs() / states.abs().clamp(min=1)).amax(-1).nan_to_num(torch.inf)
        residuals.append(float(residual.max()))
        errors.append(error.reshape(len(states), -1).amax(1).cpu().numpy())
        progress(len(errors) - 1, max_iterations)

    found = solve(
        recurrence, method=method, tolerance=tolerance, max_iterations=max_iterations, guard=guard, watch=watch
    )
    progress(max_iterations, max_iterations)
    return Newton(
        states=found.states.cpu().numpy(),
        iterations=found.iterations,
        residuals=np.array(residuals),
        errors=np.array(errors),
        converged=found.converged.cpu().numpy(),
        fallback_from=found.fallback_from,
        method=method,
        tolerance=tolerance,
        **run.labels,
    )


def _check(method: str, tolerance: float, max_iterations: int, states: Tensor) -> None:
    """Raise InvalidInputError for options out of range, and if the Jacobians at the states do not fit into memory."""
    if method not in METHODS or not 0 < tolerance < 1 or max_iterations < 0:
        raise InvalidInputError(
            f"method {method!r:.40}, tolerance {tolerance!r:.40}, max_iterations {max_iterations!r:.40}: expected one of "
            f"{', '.join(METHODS)}; a number between 0 and 1; 0 or more"
        )
    if method == "trust":
        need = COPIES * states.nbytes * states.shape[-1]
        advice = "use method full, fewer sequences or a smaller state"
        check_room(need, f"Jacobians of {tuple(states.shape)} states", advice, str(states.device))
