"""The pseudospectra of a few steps of a run on one grid, as numbers: what `gersgorin-plot --pseudospectra` draws and tells.

sigma_min(z - A) <= eps: some change of A of norm eps has the eigenvalue z. Where the curve of a small eps passes the unit circle,
so can an eigenvalue, however far inside the spectrum is; that eps is the distance to instability (C. Van Loan, 1985).

Legend: S steps shown, N state entries, a grid of (side, side) points.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin.normality.resolvent import pseudospectrum
from gersgorin.own_loop import OwnLoop
from gersgorin.record import SpectrumRecord, shown_steps
from gersgorin.run import run_of
from rhn.result import Result

SIDE, SMALL = 101, 128  # points along a side of the grid for states that are small, half of them for others
CIRCLE_POINTS = 181  # on the upper half of the unit circle


@dataclass(frozen=True, eq=False, repr=False)
class Pseudospectra(Result):
    """sigma_min(z - A) around the spectra of a few steps of one run."""

    title: str
    steps: np.ndarray
    """Which steps, (S,)."""
    axis: np.ndarray
    """Real parts, and imaginary parts, of the grid, (side,)."""
    sigma: np.ndarray
    """(S, side, side): a row an imaginary part, a column a real part."""
    eigenvalues: np.ndarray
    """Complex, (S, N), the largest modulus first."""
    to_circle: np.ndarray
    """The least eps whose pseudospectrum reaches the unit circle, (S,), from points on it: never too small, but for rounding."""
    about: str = ""
    """How network and sequence came to be, under a figure's title."""

    def summary(self) -> dict:
        """A JSON object of the numbers that tell; the grid is drawn."""
        spectra = 1 - np.abs(self.eigenvalues[:, 0])
        rows = zip(self.steps.tolist(), self.to_circle.tolist(), spectra.tolist(), strict=True)
        names = ("step", "epsilon_to_circle", "spectrum_to_circle")
        return {"grid": self.sigma.shape[1:], "steps": [dict(zip(names, row, strict=True)) for row in rows]}


@torch.no_grad()
def measure_pseudospectra(
    cell: nn.Module | OwnLoop,
    x: Tensor,
    record: SpectrumRecord,
    *,
    side: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Pseudospectra:
    """The pseudospectra at the shown steps of a cell's run over x (T, m), of which `record` holds the spectra.

    The grid holds the unit circle and the numerical range of every shown step; `side` points, an odd number, by default 101,
    or 51 where the state has more than 128 entries. `progress` is called with (steps done, steps in all).
    """
    steps = shown_steps(len(x))
    A = run_of(cell, x).jacobians(steps)
    side = side or (SIDE if A.shape[-1] <= SMALL else SIDE // 2 + 1)
    half = 1.15 * max(1, float(record.numerical_radius[steps].max())) * np.linspace(0, 1, side // 2 + 1)
    axis = np.concatenate([-half[:0:-1], half])  # mirrors to the last bit: half of the points are then computed
    circle = np.exp(1j * np.linspace(0, np.pi, CIRCLE_POINTS))
    points = np.concatenate([(axis + 1j * axis[:, None]).ravel(), circle])
    found = []
    for k, one in enumerate(A):
        found.append(pseudospectrum(one, points).numpy())
        progress(k + 1, len(steps))
    sigma, on_circle = np.split(np.stack(found), [side**2], axis=1)
    grid = sigma.reshape(len(steps), side, side)
    values, to_circle = record.eigenvalues[steps], on_circle.min(1)
    return Pseudospectra(record.title, np.array(steps), axis, grid, values, to_circle, record.about)


def pseudospectra_table(found: Pseudospectra) -> str:
    """What the table of a run says of it: how small a change of a step moves an eigenvalue onto the unit circle."""
    lines = []
    for step, eps, values in zip(found.steps, found.to_circle, found.eigenvalues, strict=True):
        away = 1 - abs(values[0])
        where = f"{away:.3g} inside it" if away > 0 else f"{-away:.3g} outside"
        lines.append(
            f"step {step:<5} a change of norm {eps:.3g} puts an eigenvalue on the unit circle; the largest is {where}"
        )
    return "\n".join(["pseudospectra", *lines])
