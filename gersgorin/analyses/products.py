"""Norms of the products A[t] ... A[0] of a run's Jacobians, and the mean growth rate that they imply.

One-step spectra do not compose: the norm of a product is what a gradient over many steps is multiplied by.

Legend: T steps.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes

from gersgorin.linalg.products import half_life, running_log_norms
from gersgorin.plotting.figure import panel
from gersgorin.plotting.spectra import draw_growth
from gersgorin.run import Progress, Run, silent
from rhn.utils.result import Result, rows_of
from rhn.utils.wording import counted


@dataclass(frozen=True, kw_only=True, repr=False)
class Products(Result, kind="products"):
    """log ||ds[t+1]/ds[0]||_2 of one run, and its rate."""

    log_norm: np.ndarray
    """log ||A[t] ... A[0]||_2, natural logarithm, (T,); -inf from where the product is zero."""
    unit: str = "steps"
    """Of one step."""

    @property
    def exponent(self) -> np.ndarray:
        """Mean growth rate of the worst perturbation a step, log_norm[t] / (t + 1), (T,)."""
        return self.log_norm / np.arange(1, len(self.log_norm) + 1)

    @property
    def half_life(self) -> float:
        """Steps in which the gradient over the whole run halves; negative if it doubles in that many."""
        return float(half_life(self.exponent[-1]))

    def summary(self) -> str:
        """Two lines: the norm of the whole product, and the half-life."""
        T, norm = len(self.log_norm), float(self.log_norm[-1]) / math.log(10)
        what = "half-life" if self.half_life >= 0 else "doubling time"
        return f"log10 ||ds[{T}]/ds[0]|| {norm:.4g} over {counted(T, 'step')}\ngradient's {what} {abs(self.half_life):.4g} steps"

    def table(self) -> list[dict]:
        """One row a step: step, log_norm, exponent."""
        return rows_of(step=range(len(self.log_norm)), log_norm=self.log_norm, exponent=self.exponent)

    @panel(6, 4)
    def plot(self, ax: Axes | None = None) -> Axes:
        """The norm over time on a log scale."""
        return draw_growth(self.log_norm, "s", self.unit, ax)


@torch.no_grad()
def of_run(run: Run, *, progress: Progress = silent) -> Products:
    """The norms of the Jacobian products along a run."""

    def steps():
        for now, A in run.blocks():
            yield from A
            progress(now.stop, len(run))

    logs = torch.stack(list(running_log_norms(steps())))
    return Products(log_norm=logs.cpu().numpy(), **run.labels)
