"""Gains within one step: how strongly the input reaches the state, and each layer the next.

Legend: T steps, L layers of a step, s_l the state after layer l.
"""

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes

from gersgorin.linalg.spectrum import one_thread
from gersgorin.plotting.figure import panel
from gersgorin.plotting.spectra import draw_layers
from gersgorin.run import Progress, Run, silent
from rhn.utils.figures import GREEN
from rhn.utils.result import Result, rows_of


@dataclass(frozen=True, kw_only=True, repr=False)
class Gains(Result, kind="gains"):
    """2-norms of the Jacobians of the input and of each layer."""

    input: np.ndarray
    """||ds'/dx||_2 at every step, (T,)."""
    layers: np.ndarray
    """||ds_l/ds_{l-1}||_2 of each layer at every step, (T, L)."""
    unit: str = "steps"
    """Of one step."""

    def summary(self) -> str:
        """One sentence with the means over the steps."""
        layers = ", ".join(f"{gain:.3g}" for gain in self.layers.mean(0))
        return (
            f"Within a step the input reaches the state with a gain of {self.input.mean():.3g}, and a layer passes the state on with a "
            f"gain of {layers} (2-norms, means over the steps)."
        )

    def table(self) -> list[dict]:
        """One row a step: step, input, layer_1, layer_2, ..."""
        return rows_of(step=range(len(self.input)), input=self.input, layer=self.layers)

    @panel(6, 4, columns=4)
    def plot(self, ax: Axes | None = None) -> Axes:
        """One line for the input and one for each layer over time."""
        ax.plot(self.input, color=GREEN, linestyle="--", marker="." if len(self.input) == 1 else None, label="input")
        return draw_layers(self.layers, self.unit, "2-norm", ax)


@torch.no_grad()
@one_thread()
def of_run(run: Run, *, progress: Progress = silent) -> Gains:
    """The gains of the input and of each layer along a run."""
    inputs, layers = [], []
    for now in run.slices():
        inputs.append(torch.linalg.matrix_norm(run.input_jacobians(now), 2))
        layers.append(run.state_gains(now))
        progress(now.stop, len(run))
    return Gains(input=torch.cat(inputs).cpu().numpy(), layers=torch.cat(layers).cpu().numpy(), **run.labels)
