"""The run of a cell: states by its own recurrence, derivatives from its closed forms or by autograd."""

import torch
from torch import Tensor, nn

from gersgorin.jacobian import (
    Step,
    check_method,
    converted,
    input_jacobian,
    name_of,
    norm_bound,
    state_gains,
    temporal_jacobian,
    trajectory,
)
from gersgorin.run import Label, Run
from rhn.cells import Gates
from rhn.errors import InvalidInputError


class CellRun(Run):
    """A cell along x (T, B, m) or (T, m), from the state s0, or from zero."""

    def __init__(self, cell: nn.Module | Step, x: Tensor, s0: Tensor | None = None, label: Label | None = None):
        self.cell, self.inputs, self._s0 = cell, x, s0
        self.label = label or Label(name=name_of(cell), title=name_of(cell))
        self.states = trajectory(cell, x, s0)

    def jacobians(self, at=slice(None)) -> Tensor:
        """d s[t+1] / d s[t], (..., N, N)."""
        return temporal_jacobian(self.cell, *self._at(at))

    def input_jacobians(self, at=slice(None)) -> Tensor:
        """d s[t+1] / d x[t], (..., N, m)."""
        return input_jacobian(self.cell, *self._at(at))

    def state_gains(self, at=slice(None)) -> Tensor:
        """2-norms of the layers' Jacobians, (..., L)."""
        return state_gains(self.cell, *self._at(at))

    def gates(self, at=slice(None)) -> Gates:
        """Gates of each layer; empty for a cell without gates. Raises InvalidInputError for a `gates` that returns something else."""
        if not hasattr(self.cell, "gates"):
            return Gates()
        check_method(self.cell, "gates", "(x, s)")
        gates = self.cell.gates(*self._at(at))
        if not isinstance(gates, Gates):
            raise InvalidInputError(
                f"{name_of(self.cell)}: gates(x, s) must return rhn.cells.Gates, got {type(gates).__name__}"
            )
        return gates

    def norm_bound(self) -> Tensor:
        """A bound on the norm of every Jacobian at states as large as those of the run; NaN for a cell without one."""
        if not hasattr(converted(self.cell), "norm_bound"):
            return torch.tensor(torch.nan)
        return norm_bound(self.cell, state_bound=float(self.states[:-1].abs().max()))

    def repeated(self, times: int) -> "CellRun":
        """The run over several repetitions of the sequence."""
        if times == 1:
            return self
        return CellRun(self.cell, self.inputs.repeat(times, *[1] * (self.inputs.dim() - 1)), self._s0, self.label)

    def _at(self, at) -> tuple[Tensor, Tensor]:
        return self.inputs[at], self.states[:-1][at]


def run_of(cell: "nn.Module | Step | Run", x: Tensor | None = None, s0: Tensor | None = None) -> Run:
    """The run of a cell over x; a run is returned as it is."""
    return cell if isinstance(cell, Run) else CellRun(cell, x, s0)
