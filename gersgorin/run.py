"""A recurrence along a sequence: its states and the derivatives of its steps, which every analysis reads from here.

    Run(cell, x)     a cell, taken step by step from its own closed forms or by autograd
    OwnLoop          a module that calls its cell in a loop of its own (`gersgorin.own_loop`), with the same attributes and methods

Legend: T steps, B sequences, m inputs, N entries of a state, L layers of a step.
"""

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
from gersgorin.own_loop import OwnLoop
from rhn.cells import Gates
from rhn.errors import InvalidInputError


class Run:
    """A cell along x (T, B, m) or (T, m), from the state s0, or from zero.

    An index `at` picks positions of x: steps, or (steps, sequences).
    """

    def __init__(self, cell: nn.Module | Step, x: Tensor, s0: Tensor | None = None):
        self.cell, self.inputs = cell, x
        self.states = trajectory(cell, x, s0)
        """(T + 1, B, N) or (T + 1, N), the first one before the run."""

    def __len__(self) -> int:
        return len(self.states) - 1

    @property
    def state_size(self) -> int:
        """N."""
        return self.states.shape[-1]

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
        """What the gates of each layer did; empty for a cell that does not tell. Raises InvalidInputError for gates that are none."""
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

    def _at(self, at) -> tuple[Tensor, Tensor]:
        return self.inputs[at], self.states[:-1][at]


def run_of(cell: nn.Module | Step | OwnLoop, x: Tensor, s0: Tensor | None = None) -> Run | OwnLoop:
    """The run of a cell over x; an own loop is one already."""
    return cell if isinstance(cell, OwnLoop) else Run(cell, x, s0)
