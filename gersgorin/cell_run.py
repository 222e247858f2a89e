"""The run of a cell: states by its own recurrence, derivatives from its closed forms or by autograd."""

import functools
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import jvp, vmap

from gersgorin.jacobian import (
    Step,
    check_method,
    converted,
    input_jacobian,
    layer_jacobians,
    name_of,
    norm_bound,
    state_gains,
    temporal_jacobian,
    trajectory,
    transformed,
)
from gersgorin.run import Label, Run, Tangent
from rhn.cells import Gates
from rhn.errors import InvalidInputError

BLOCK = 1 << 21  # numbers of Jacobians held at once by `tangent_maps`
LONGEST = 4096  # steps of a block; autograd holds several times its numbers
SMALL = 100  # entries of a state up to which Jacobians by autograd are cheaper than products step by step


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
        if getattr(converted(self.cell), "norm_bound", None) is None:
            return torch.tensor(torch.nan)
        return norm_bound(self.cell, state_bound=float(self.states[:-1].abs().max()))

    def repeated(self, times: int) -> "CellRun":
        """The run over several repetitions of the sequence."""
        if times == 1:
            return self
        return CellRun(self.cell, self.inputs.repeat(times, *[1] * (self.inputs.dim() - 1)), self._s0, self.label)

    def starting_at(self, s0: Tensor) -> "CellRun":
        """The same run from another state (N,)."""
        return CellRun(self.cell, self.inputs, s0, self.label)

    def tangent_maps(self) -> Iterator[Tangent]:
        """The maps Q (N, k) -> A[t] Q of one sequence; only a block of Jacobians is held at once.

        A cell with `push(x, s, Q)` maps Q by that. One with closed forms maps Q through the Jacobians of its layers, one after the
        other. Any other cell has the Jacobians of a block by autograd, or for a large state a forward-mode product for each column.
        """
        cell, N = converted(self.cell), self.state_size
        if hasattr(cell, "push"):
            yield from (functools.partial(cell.push, x, s) for x, s in zip(*self._at(slice(None)), strict=True))
            return
        closed_form = getattr(cell, "jacobian", None) is not None
        if N > SMALL and not closed_form:
            step = getattr(cell, "step", cell)
            yield from (functools.partial(_pushed, step, x, s) for x, s in zip(*self._at(slice(None)), strict=True))
            return
        size = min(LONGEST, max(1, BLOCK // (N * N * getattr(cell, "depth", 1))))
        for start in range(0, len(self), size):
            x, s = self._at(slice(start, start + size))
            if getattr(cell, "layer_jacobians", None) is not None:
                layers = layer_jacobians(cell, x, s)
            else:
                layers = [temporal_jacobian(cell, x, s, method=None if closed_form else "jacfwd")]
            yield from (functools.partial(_through, matrices) for matrices in zip(*layers, strict=True))

    def _at(self, at) -> tuple[Tensor, Tensor]:
        return self.inputs[at], self.states[:-1][at]


def _through(layers: tuple[Tensor, ...], Q: Tensor) -> Tensor:
    """J_L ... J_1 Q."""
    return functools.reduce(lambda Q, J: J @ Q, layers, Q)


def _pushed(step: Step, x: Tensor, s: Tensor, Q: Tensor) -> Tensor:
    """ds'/ds Q by forward mode, without the Jacobian."""
    with transformed(step):
        return vmap(lambda q: jvp(lambda s: step(x, s), (s,), (q,))[1], in_dims=1, out_dims=1)(Q)


def run_of(cell: "nn.Module | Step | Run", x: Tensor, label: Label | None = None) -> Run:
    """The run of a cell over x, with these names; an own loop is a run itself."""
    if not isinstance(cell, Run):
        return CellRun(cell, x, label=label)
    cell.label = label or cell.label
    return cell
