"""How far the gates of each layer are open along a run.

Legend: T steps, L layers with a gate.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from gersgorin.run import Run
from rhn.utils.result import Result


@dataclass(frozen=True, kw_only=True, repr=False)
class GateActivity(Result, kind="gates"):
    """Mean over the units of each layer's gate, 0 closed to 1 open."""

    mean: np.ndarray
    """(T, L); L = 0 for a cell without gates."""
    gate_name: str = "transform gate"
    """Its name in the cell's literature: an LSTM's is the input gate."""
    unit: str = "steps"
    """Of one step."""

    def summary(self) -> str:
        """One sentence with the mean of each layer."""
        if not self.mean.size:
            return "The cell has no gates."
        layers = ", ".join(f"{value:.3g}" for value in self.mean.mean(0))
        return f"Its {self.gate_name}s are open by {layers} on average."

    def table(self) -> list[dict]:
        """One row a step: step, layer_1, layer_2, ..."""
        return [
            {"step": t} | {f"layer_{k + 1}": v for k, v in enumerate(row)} for t, row in enumerate(self.mean.tolist())
        ]

    def plot(self, ax=None):
        """One line for each layer over time."""
        from gersgorin.plotting.spectra import plot_layers

        names = {"unit": self.unit, "title": self.title, "about": self.about}
        return plot_layers({}, self.mean, "open (0 to 1)", ax, limits=(0, 1), **names)


@torch.no_grad()
def of_run(run: Run, *, progress: Callable[[int, int], None] = lambda done, total: None) -> GateActivity:
    """The mean gate activity of each layer along a run."""
    means = [t.mean(-1) for t in run.gates().t]
    mean = torch.stack(means, 1) if means else run.states.new_empty(len(run), 0)
    progress(len(run), len(run))
    return GateActivity(mean=mean.cpu().numpy(), gate_name=run.gate_name, **run.labels)
