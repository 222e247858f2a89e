"""Mean activity of the gates of each layer along a run.

Legend: T steps, L layers with a gate.
"""

import html
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes

from gersgorin.plotting.figure import panel
from gersgorin.plotting.spectra import draw_layers
from gersgorin.run import Progress, Run, silent
from rhn.errors import InvalidInputError
from rhn.utils.result import Result, rows_of


@dataclass(frozen=True, kw_only=True, repr=False)
class GateActivity(Result, kind="gates"):
    """Mean over the units of each layer's gate, 0 closed to 1 open."""

    mean: np.ndarray
    """(T, L); L = 0 for a cell without gates."""
    gate_name: str = "transform gate"
    """Its name in the cell's literature: an LSTM's is the input gate."""
    unit: str = "steps"
    """Of one step."""
    own_loop: bool = False
    """True for a module's own loop, whose gates are not those of its cell."""

    def summary(self) -> str:
        """One sentence with the mean of each layer."""
        if not self.mean.size:
            return "Gates are not measured in a loop of your own." if self.own_loop else "The cell has no gates."
        layers = ", ".join(f"{value:.3g}" for value in self.mean.mean(0))
        return f"Its {self.gate_name}s are open by {layers} on average."

    def table(self) -> list[dict]:
        """One row a step: step, layer_1, layer_2, ..."""
        return rows_of(step=range(len(self.mean)), layer=self.mean)

    @panel(6, 4, columns=4)
    def plot(self, ax: Axes | None = None) -> Axes:
        """One line for each layer over time. Raises InvalidInputError if there are no gates."""
        if not self.mean.size:
            raise InvalidInputError(f"{self.summary().removesuffix('.')}: there is nothing to draw")
        ax.set_ylim(0, 1)
        return draw_layers(self.mean, self.unit, "open (0 to 1)", ax)

    def _repr_html_(self) -> str:
        """The summary and, if there are gates, the figure."""
        return super()._repr_html_() if self.mean.size else f"<pre>{html.escape(repr(self))}</pre>"


@torch.no_grad()
def mean_gates(run: Run) -> np.ndarray:
    """The mean of each layer's gate at every step, (T, L)."""
    means = [t.mean(-1) for t in run.gates().t]
    return (torch.stack(means, 1) if means else run.states.new_empty(len(run), 0)).cpu().numpy()


def of_run(run: Run, *, progress: Progress = silent) -> GateActivity:
    """The mean gate activity of each layer along a run."""
    found = GateActivity(mean=mean_gates(run), gate_name=run.gate_name, own_loop=run.own_loop, **run.labels)
    progress(len(run), len(run))
    return found
