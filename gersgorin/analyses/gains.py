"""Gains within one step: how strongly the input reaches the state, and each layer the next.

Legend: T steps, L layers of a step, s_l the state after layer l.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from gersgorin.linalg.spectrum import one_thread
from gersgorin.run import Run
from rhn.utils.result import Result


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
        rows = zip(self.input.tolist(), self.layers.tolist(), strict=True)
        return [
            {"step": t, "input": gain} | {f"layer_{k + 1}": g for k, g in enumerate(layers)}
            for t, (gain, layers) in enumerate(rows)
        ]

    def plot(self, ax=None):
        """One line for the input and one for each layer over time."""
        from gersgorin.plotting.spectra import plot_layers

        names = {"unit": self.unit, "title": self.title, "about": self.about}
        return plot_layers({"input": self.input}, self.layers, "2-norm", ax, **names)


@torch.no_grad()
@one_thread()
def of_run(run: Run, *, progress: Callable[[int, int], None] = lambda done, total: None) -> Gains:
    """The gains of the input and of each layer along a run."""
    inputs, layers = [], []
    for now in run.slices():
        inputs.append(torch.linalg.matrix_norm(run.input_jacobians(now), 2))
        layers.append(run.state_gains(now))
        progress(now.stop, len(run))
    return Gains(input=torch.cat(inputs).cpu().numpy(), layers=torch.cat(layers).cpu().numpy(), **run.labels)
