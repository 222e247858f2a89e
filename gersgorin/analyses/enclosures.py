"""Count the eigenvalues outside the unit circle at every step of a run, for certain in spite of rounding.

The discs of each step are theorems about its Jacobian as computed (see `gersgorin.linalg.enclosures`).

Legend: T steps.
"""

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from gersgorin.linalg.enclosures import verified_eigenvalues
from gersgorin.linalg.spectrum import one_thread
from gersgorin.plotting.figure import panel
from gersgorin.run import Progress, Run, silent
from rhn.plotting.figures import BLUE, ORANGE, time_label
from rhn.utils.result import Result, rows_of


@dataclass(frozen=True, kw_only=True, repr=False)
class Enclosures(Result, kind="enclosures"):
    """Verified eigenvalues of a run's Jacobians, read as exact float64 matrices."""

    outside: np.ndarray
    """Number of eigenvalues that lie outside the unit circle for certain, (T,)."""
    none_outside: np.ndarray
    """True if for certain no eigenvalue does, (T,)."""
    radius: np.ndarray
    """The largest radius of a disc that holds an eigenvalue, (T,)."""
    cluster: np.ndarray
    """Number of eigenvalues in the largest connected set of discs, (T,): 1 if all discs are separate."""
    unit: str = "steps"
    """Of one step."""

    def summary(self) -> str:
        """One sentence: at how many steps an eigenvalue lies outside the unit circle."""
        T, none, some = len(self.outside), int(self.none_outside.sum()), int((self.outside > 0).sum())
        steps = f"all {T} steps" if T > 1 else "the only step"
        discs = "each in a disc of its own" if self.cluster.max() == 1 else f"in clusters of up to {self.cluster.max()}"
        how = f"({discs}, radii up to {self.radius.max():.2g})"
        if none == T:
            return f"Verified: no eigenvalue outside the unit circle at {steps} {how}."
        if some == T:
            return f"Verified: an eigenvalue outside the unit circle at {steps} {how}."
        rest = f", and {T - none - some} are left open by rounding" if none + some < T else ""
        return f"Verified: of {T} steps {some} have an eigenvalue outside the unit circle and {none} have none{rest} {how}."

    def table(self) -> list[dict]:
        """One row a step: step, outside, none_outside, radius, cluster."""
        counts = {"outside": self.outside, "none_outside": self.none_outside}
        return rows_of(step=range(len(self.outside)), **counts, radius=self.radius, cluster=self.cluster)

    def to_dict(self) -> dict:
        """Counts over the run."""
        return {
            "steps": len(self.outside),
            "none_outside": int(self.none_outside.sum()),
            "some_outside": int((self.outside > 0).sum()),
            "largest_radius": float(self.radius.max()),
            "largest_cluster": int(self.cluster.max()),
        }

    @panel(6, 4)
    def plot(self, ax: Axes | None = None) -> Axes:
        """Number of eigenvalues outside the unit circle over time, and the steps that rounding leaves open."""
        steps, is_open = np.arange(len(self.outside)), ~self.none_outside & (self.outside == 0)
        ax.plot(steps, self.outside, color=BLUE, marker=".", linewidth=1.3, label="outside for certain")
        if is_open.any():
            ax.plot(steps[is_open], self.outside[is_open], "x", color=ORANGE, label="left open by rounding")
        ax.set(xlabel=time_label(self.unit), ylabel="eigenvalues outside the unit circle", ylim=(-0.1, None))
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        return ax


@torch.no_grad()
@one_thread()
def of_run(run: Run, *, progress: Progress = silent) -> Enclosures:
    """Verified eigenvalues of each step; by python-flint, if it is installed, where float64 leaves the answer open.

    Args:
        progress: called with (steps done, steps in all).
    """
    rows = []
    for _, block in run.require_finite().blocks():
        for A in block:
            found = verified_eigenvalues(A, method="float64")
            if not found.none_outside and not found.outside:
                found = verified_eigenvalues(A)
            rows.append((found.outside, found.none_outside, found.radii.max(), found.clusters.max()))
            progress(len(rows), len(run))
    outside, none_outside, radius, cluster = map(np.array, zip(*rows, strict=True))
    return Enclosures(outside=outside, none_outside=none_outside, radius=radius, cluster=cluster, **run.labels)
