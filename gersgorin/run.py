"""Base class of runs: states and Jacobians of a recurrence along one sequence, computed once for all analyses.

    CellRun (`gersgorin.cell_run`)   a cell, from its closed forms or by autograd
    OwnLoop (`gersgorin.own_loop`)   a module that calls its cell in a loop of its own

Legend: T steps, B sequences, m inputs, N entries of a state, L layers of a step.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rhn.cells import Gates
from rhn.errors import InvalidInputError

BLOCK = 1 << 22  # numbers of Jacobians computed at once
KEPT = 1 << 25  # most numbers of Jacobians that a run stores

Tangent = Callable[[Tensor], Tensor]
Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

UNITS = {"chorale": "quarter notes", "text": "tokens"}


@dataclass(frozen=True, kw_only=True)
class Label:
    """Names of a run for figures, tables and messages."""

    name: str = ""
    """Of the cell: its registry key or its class."""
    title: str = ""
    """Of the network: "rhn, depth 5, 64 units"."""
    sequence: str = ""
    """Of the sequence: "bwv269"."""
    reads: str = "sequence"
    """Kind of the sequence: "chorale", "text" or "sequence"."""
    unit: str = ""
    """Of one step: "0.1 s"; "" for the usual one of its kind."""
    about: str = ""
    """Initialisation, seed and data, for the second line of a figure's title."""

    @property
    def along(self) -> str:
        """The sequence with its kind: "chorale bwv269"."""
        return f"{self.reads} {self.sequence}".strip()

    @property
    def heading(self) -> str:
        """The network and the sequence: "rhn, depth 5, 64 units on chorale bwv269"."""
        return f"{self.title} on {self.along}" if self.sequence else self.title

    @property
    def time_unit(self) -> str:
        """Unit of one step: "quarter notes", "tokens", "steps"."""
        return self.unit or UNITS.get(self.reads, "steps")


class Run:
    """States and derivatives of one run. Subclasses set `cell`, `inputs`, `states` and define the derivatives.

    cell: what is called at every step. inputs: what it reads, (T, B, m) or (T, m). states: (T + 1, B, N) or (T + 1, N), the first one
    before the run. An index `at` selects positions of the inputs: steps, or (steps, sequences).
    """

    cell: nn.Module | Callable
    inputs: Tensor
    states: Tensor
    label: Label = Label()
    _kept: tuple[Tensor, Tensor] | None = None
    """States with their Jacobians; a copy of the run may have others."""

    def __len__(self) -> int:
        return len(self.states) - 1

    @property
    def state_size(self) -> int:
        """N."""
        return self.states.shape[-1]

    @property
    def hidden_size(self) -> int:
        """Units of the cell; N for a cell without that number."""
        return getattr(self.cell, "hidden_size", self.state_size)

    @property
    def depth(self) -> int:
        """L."""
        return getattr(self.cell, "depth", 1)

    @property
    def gate_name(self) -> str:
        """Name of the gate in the cell's literature."""
        return getattr(self.cell, "gate_name", "transform gate")

    @property
    def labels(self) -> dict[str, str]:
        """Fields `title`, `about` and `unit` of a result of this run."""
        return {"title": self.label.title, "about": self.label.about, "unit": self.label.time_unit}

    def require_finite(self) -> "Run":
        """The run itself. Raises InvalidInputError for NaN or infinite states."""
        if not torch.isfinite(self.states).all():
            raise InvalidInputError(
                f"{self.label.name or 'the cell'}: a state is NaN or infinite along {self.label.along}: its weights are too large "
                "to run, or its step(x, s) computes something that is not finite"
            )
        return self

    def slices(self) -> Iterator[slice]:
        """Consecutive steps, as many at once as Jacobians fit into a block."""
        size = max(1, BLOCK // self.state_size**2)
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield (steps, their Jacobians (steps, N, N)) of one sequence; stored for the next call if all of them are small enough."""
        if self._kept is not None and self._kept[0] is self.states:
            yield from ((now, self._kept[1][now]) for now in self.slices())
            return
        keep, parts = len(self) * self.state_size**2 <= KEPT, []
        for now in self.slices():
            A = self.jacobians(now)
            if keep:
                parts.append(A)
            yield now, A
        if keep:
            self._kept = self.states, torch.cat(parts)

    def jacobians(self, at=slice(None)) -> Tensor:
        """d s[t+1] / d s[t], (..., N, N)."""
        raise NotImplementedError

    def input_jacobians(self, at=slice(None)) -> Tensor:
        """d s[t+1] / d x[t], (..., N, m)."""
        raise NotImplementedError

    def state_gains(self, at=slice(None)) -> Tensor:
        """2-norms of the layers' Jacobians, (..., L)."""
        raise NotImplementedError

    def gates(self, at=slice(None)) -> Gates:
        """Gates of each layer; empty for a cell without gates."""
        return Gates()

    def norm_bound(self) -> Tensor:
        """A bound on the norm of every Jacobian at states as large as those of the run; NaN if there is none."""
        return torch.tensor(torch.nan)

    def repeated(self, times: int) -> "Run":
        """The run over several repetitions of the sequence."""
        raise NotImplementedError

    def starting_at(self, s0: Tensor) -> "Run":
        """The same run from another state. Raises InvalidInputError for a run that has one first state only."""
        raise NotImplementedError

    def tangent_maps(self) -> Iterator[Tangent]:
        """The maps Q (N, k) -> A[t] Q of one sequence, for t = 0..T-1; A[t] is the Jacobian of step t."""
        raise NotImplementedError

    def any_step(self) -> nn.Module | Callable:
        """The cell, whose step can start from any state. Raises InvalidInputError for a run without such a cell."""
        return self.cell


def silent(done: int, total: int) -> None:
    """Report no progress."""


def shown_steps(T: int, panels: int = 4) -> list[int]:
    """A few steps spread over the run, the first and the last among them.

    >>> shown_steps(33), shown_steps(2)
    ([0, 11, 21, 32], [0, 1])
    """
    return sorted({round(k * (T - 1) / max(1, panels - 1)) for k in range(panels)})
