"""Gates: the mean over the units of each gate at every step, from 0 (closed) to 1 (open).

Legend: T time steps; G gates, one for each layer and name.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Unpack

import numpy as np
import torch

from gersgorin import checks
from gersgorin.double_precision import module_runs
from gersgorin.results import StepResult
from gersgorin.run import Run, RunOptions, names_options, open_run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ALL, LAYER, MEAN = "mean of all gates", ", layer", "gate (0 to 1)"
NAMES = ("transform gate", "carry gate", "input gate", "forget gate", "1 - update gate", "gate")
"""Names of the gates of rhn.cells, and of a user's gate without a name."""
UNKNOWN = "steps of a network without known gates"


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class MeanGates(StepResult):
    """Means over the units of each gate, 0 to 1.

    >>> found = gates(torch.nn.GRU(3, 8), torch.rand(20, 3))
    >>> found.mean.shape, found.names
    ((20, 1), ('1 - update gate, layer 1',))
    """

    page: ClassVar[str] = "docs/guides/spectra.md"
    headline: ClassVar[tuple[str, ...]] = (ALL,)
    label: ClassVar[str] = MEAN
    texts: ClassVar[tuple[str, ...]] = (*StepResult.run_texts, ALL, *NAMES, LAYER, MEAN, UNKNOWN)

    mean: Annotated[np.ndarray, "step", "gate"]
    """Mean of each gate, (T, G); G = 0 for a network without known gates."""
    names: tuple[str, ...]
    """The name of each gate, (G,)."""

    def table(self) -> Mapping[str, Any]:
        known = self.mean.shape[1] > 0
        whole = self.mean.mean(1) if known else np.full(len(self.mean), np.nan)
        return {ALL: whole, **dict(zip(self.names, self.mean.T, strict=True))}

    def notes(self) -> Mapping[str, int]:
        has_gates = self.mean.shape[1] > 0
        return {UNKNOWN: 0 if has_gates else len(self.mean)}

    def coordinates(self) -> Mapping[str, Any]:
        return {"gate": [*self.names]}

    def curves(self) -> dict[str, np.ndarray]:
        return dict(zip(self.names, self.mean.T, strict=True))

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the gates over the time steps, from 0 to 1, into these axes or new ones."""
        from rhn.utils.named_curves import place_names  # loads matplotlib

        ax = super().plot(ax)
        ax.set(yscale="linear", ylim=(-0.02, 1.02))
        return place_names(ax)


@names_options(RunOptions)
@torch.no_grad()
def gates(
    network: Any,
    x: Any = None,
    s0: Any = None,
    *,
    of: Callable | None = None,
    **how: Unpack[RunOptions],
) -> MeanGates:
    """Measure the mean of each gate along a run, (T, G), from 0 to 1.

    network, x, s0, state_size, ..., progress: as for `open_run`, with its errors. of: a function
    gates(x, s) of one input (m,) and one state in the user's shapes, which returns a tensor, or
    tensors by name; None: the gates of the cell.

    >>> from rhn.cells import RHN
    >>> found = gates(RHN(3, 8, 2, transform_bias=-20.0), torch.rand(20, 3))
    >>> found.mean.shape, bool(found.mean.max() < 1e-6)
    ((20, 2), True)
    """
    run = open_run(network, x, s0, **how)
    mean, names = _of_cell(run) if of is None else _of_function(run, of)
    return MeanGates(**run.heading, mean=mean, names=names)


def _of_cell(run: Run) -> tuple[np.ndarray, tuple[str, ...]]:
    """The means of the gates of a cell, and their names; (T, 0) if it has none."""
    cell, own = run.step.cell, run.step.own("gates")
    found: Any = own(*run.at()) if own else None
    opened = found.t if found else ()
    carry = found.c if opened and cell.carry_name else ()
    means = [gate.mean(-1).cpu().double().numpy() for gate in (*opened, *carry)]
    names = [f"{cell.gate_name}{LAYER} {k + 1}" for k in range(len(opened))]
    names += [f"{cell.carry_name}{LAYER} {k + 1}" for k in range(len(carry))]
    return np.stack(means, 1) if means else np.empty((len(run), 0)), tuple(names)


def _of_function(run: Run, gates_of: Callable) -> tuple[np.ndarray, tuple[str, ...]]:
    """The means of the gates that a user's function returns, and their names."""
    found, unpack = list[dict[str, float]](), run.step.unpack or (lambda s: s)
    with run.reporting("gates") as reporting:
        for x, s in zip(*run.at(), strict=True):
            with checks.users_code("gates(x, s) fails"), module_runs():
                made = checks.gates_of_step(gates_of(x.clone(), unpack(s.clone())))
            found.append({name: float(gate.double().mean()) for name, gate in made.items()})
            reporting.report(len(found))
    names = tuple(found[0])
    same = all(each.keys() == found[0].keys() for each in found)
    checks.require(same, "names of gates(x, s)", "others at another step", "the same at each step")
    return np.array([[each[name] for name in names] for each in found]), names
