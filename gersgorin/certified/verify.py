"""Where the eigenvalues of every step of a run are for certain: inside the unit circle, outside it, or left open by rounding."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin.certified.rounding import UNIT
from gersgorin.certified.spectrum import verified_eigenvalues
from gersgorin.jacobian import temporal_jacobian, trajectory
from gersgorin.record import SpectrumRecord
from gersgorin.spectrum import one_thread
from rhn.result import Result

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
    cell: nn.Module, x: Tensor, progress: Callable[[int, int], None] = lambda done, total: None
) -> VerifiedRun:
    """Verified eigenvalues of each step of a run over x (T, m) from the zero state; by python-flint where float64 leaves it open."""
    s, rows = trajectory(cell, x)[:-1], []
    block = max(1, BLOCK // s.shape[-1] ** 2)
    for x_t, s_t in zip(x.split(block), s.split(block), strict=True):
        for A in temporal_jacobian(cell, x_t, s_t):
            found = verified_eigenvalues(A, method="float64")
            if not found.none_outside and not found.outside:
                found = verified_eigenvalues(A)
            rows.append((found.outside, found.none_outside, found.radii.max(), found.clusters.max()))
            progress(len(rows), len(x))
    outside, none_outside, radius, cluster = map(np.array, zip(*rows, strict=True))
    return VerifiedRun(outside=outside, none_outside=none_outside, radius=radius, cluster=cluster)


def rounded_outwards(record: SpectrumRecord) -> SpectrumRecord:
    """The same record with the discs' radii rounded up: at least the exact sums of the matrices that were measured."""
    factor = 1 + (record.row_radii.shape[1] + 4) * 2 * float(np.finfo(record.row_radii.dtype).eps)
    grown = {
        f"{axis}_radii": getattr(record, f"{axis}_radii").astype(float) * factor * (1 + 4 * UNIT)
        for axis in ("row", "column")
    }
    return replace(record, **grown)
