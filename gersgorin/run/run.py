"""Runs: states and Jacobians of a recurrence along one sequence, computed once for all analyses.

    run = open_run(model, x)
    run.inputs, run.states, run.jacobians()    (T, m), (T + 1, N), (T, N, N)
    run.cell.module                            the cell with its weights
    run.save("run.npz", jacobians=True)        all of it for NumPy

Legend: T time steps, B sequences, m inputs, N entries of a state, L layers of a step.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin.run.autodiff import BLOCK
from gersgorin.run.cell import GatesOf, Step, StepCell, as_cell
from gersgorin.run.jacobians import trajectory
from gersgorin.run.slopes import gradient_note
from rhn.cells import Gates, StackedCell
from rhn.errors import NotFiniteError
from rhn.utils.io import check_output, write_arrays
from rhn.utils.old import counted
from rhn.utils.validation import check_room

COPIES = 32  # of a block of Jacobians, in all that a command holds at its peak (measured: 23 to 31)
KEPT = 1 << 25  # most numbers of Jacobians that a run stores
ROUNDING = 1e-6  # of the largest entry of all states
LONGEST = 4096  # steps of a block; autograd holds several times its numbers

Tangent = Callable[[Tensor], Tensor]
Progress = Callable[[int, int], None]
"""A function that is called with (steps done, steps in all)."""


@dataclass(frozen=True, kw_only=True)
class Label:
    """Names of a run for figures, tables and messages."""

    name: str = ""
    """Name of the cell: its registry key or its class."""
    title: str = ""
    """Title of the network: "rhn, depth 5, 64 units"."""
    network: str = ""
    """Class of the user's module around the cell, if there is one."""
    sequence: str = ""
    """Name of the sequence: "bwv269"."""
    reads: str = "sequence"
    """Kind of the sequence: "chorale", "text" or "sequence"."""
    unit: str = "steps"
    """Length of one time step: "quarter notes", "tokens", "0.1 s"."""
    made: str = ""
    """Origin of the weights: initialisation and seed, or a file."""
    data: str = ""
    """Origin of the sequence."""
    state: str = ""
    """Training so far, where it is compared: "before training"."""

    @property
    def about(self) -> str:
        """Weights and data, for the second line of a figure's title."""
        return "; ".join(filter(None, (self.made, self.data)))

    @property
    def along(self) -> str:
        """The sequence with its kind: "chorale bwv269"."""
        return f"{self.reads} {self.sequence}".strip()

    @property
    def heading(self) -> str:
        """The network and the sequence: "rhn, depth 5, 64 units on chorale bwv269"."""
        return f"{self.title} on {self.along}" if self.sequence else self.title

    @property
    def of_result(self) -> dict[str, Any]:
        """The fields `title` (which names the sequence too), `about` and `unit` of a result."""
        return {"title": self.heading, "about": self.about, "unit": self.unit}


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """The states of a cell along inputs x, and the derivatives of the cell at these states. No
    gradient flows through. An index `at` of a method selects time steps, or (time steps,
    sequences).

    >>> run = Run.of(lambda x, s: 0.5 * s + x, torch.ones(3, 1), torch.zeros(1))
    >>> run.states.ravel().tolist(), run.jacobians().ravel().tolist()
    ([0.0, 1.0, 1.5, 1.75], [0.5, 0.5, 0.5])
    """

    cell: StepCell
    """The cell as analyses call it; `cell.module` is the module with its weights, or the step
    function.
    """
    inputs: Tensor
    """The inputs (T, m); (T, B, m) for functions that read several sequences."""
    states: Tensor
    """The states (T + 1, N) or (T + 1, B, N); the first one is the state before the run."""
    label: Label = Label()
    lengths: tuple[int, ...] = ()
    """Numbers of steps of the B sequences, if they differ. After its end a sequence keeps its last
    state. (): all sequences have T steps.
    """
    doubt_of_loop: str = ""
    """A sentence if the loop of the network passes states on without their gradient; ""
    otherwise.
    """
    _blocks: dict[tuple[int, int], Tensor] = field(default_factory=dict, init=False, repr=False)
    """Stored Jacobians by their steps; a copy by `replace` starts without any."""

    @classmethod
    @torch.no_grad()
    def of(
        cls, cell: nn.Module | Step, x: Tensor, s0: Tensor | None = None, label: Label | None = None
    ) -> "Run":
        """The run of a cell from the state s0, or from its own first state. Raises
        InvalidInputError, see `trajectory`.
        """
        cell = as_cell(cell)
        label = label or Label(name=cell.name, title=cell.name)
        return Run(cell=cell, inputs=x, states=trajectory(cell, x, s0), label=label)

    def __len__(self) -> int:
        return len(self.states) - 1

    def __repr__(self) -> str:
        """One line: network, sequence, steps, entries of a state."""
        several = f", {self.states.shape[1]} sequences" if self.states.dim() > 2 else ""
        steps = counted(len(self), "step")
        return f"<Run of {self.label.heading}{several}: {steps}, a state of {self.state_size}>"

    @property
    def shared_steps(self) -> int:
        """The number of steps that all sequences have."""
        return min(self.lengths, default=len(self))

    @property
    def state_size(self) -> int:
        """N, the number of entries of a state."""
        return self.states.shape[-1]

    @property
    def hidden_size(self) -> int:
        """Number of units of the cell; N for a cell without a hidden_size."""
        return self.cell.hidden_size or self.state_size

    @property
    def depth(self) -> int:
        """L, the number of layers of a step."""
        return self.cell.depth

    @property
    def labels(self) -> dict[str, Any]:
        """The fields `title`, `about` and `unit` for a result of this run, and the fields that
        `itself` returns.
        """
        label = self.label
        return {"title": label.title, "about": label.about, "unit": label.unit} | self.itself

    @property
    def itself(self) -> dict[str, Any]:
        """The fields `run` (without stored Jacobians) and `doubt` for a result of this run."""
        return {"run": replace(self), "doubt": self.doubt}

    @cached_property
    def doubt(self) -> str:
        """A sentence about a doubt, or "". There is a doubt if the network's own gradient does not
        pass from each step to the next, or if the gradient of a step differs from its slope (see
        `gersgorin.run.slopes`).
        """
        if self.doubt_of_loop:
            return self.doubt_of_loop
        x, s = self._at([len(self) // 2, -1])
        return gradient_note(self.cell, *(x, s) if s.dim() == 2 else (x[:, 0], s[:, 0]))

    @property
    def weights(self) -> dict[str, Tensor]:
        """Weights and buffers of the cell by name; empty for a function."""
        module = getattr(self.cell.module, "wrapped", self.cell.module)
        return dict(module.state_dict()) if isinstance(module, nn.Module) else {}

    def save(self, path: str | Path, *, jacobians: bool = False) -> Path:
        """Write `inputs`, `states`, the weights as "weights.NAME", `title` and `about` to an .npz
        file, atomically.

        jacobians: also write `jacobians` (T, N, N). Raises OutputError if the name does not end in
        .npz, or if the file cannot be written.
        """
        arrays = {"inputs": self.inputs, "states": self.states}
        arrays |= {f"weights.{name}": weight for name, weight in self.weights.items()}
        if jacobians:
            arrays["jacobians"] = self.jacobians()
        words = {"title": np.array(self.label.heading), "about": np.array(self.label.about)}
        numbers = {name: t.detach().cpu().numpy() for name, t in arrays.items()}
        return write_arrays(check_output(path, (".npz",)), numbers | words)

    def ending_at(self, lengths: Sequence[int]) -> Self:
        """Return the run of sequences that end after these numbers of steps. If the numbers are
        equal, return the run unchanged.
        """
        if len({*lengths}) == 1:
            return self
        steps, ends, rows = (
            torch.tensor(each, device="cpu")
            for each in (range(len(self) + 1), lengths, range(len(lengths)))
        )
        states = self.states[steps[:, None].minimum(ends), rows]
        return replace(self, states=states, lengths=tuple(lengths))

    def shared(self) -> Self:
        """Return the run of the steps that all sequences have."""
        T = self.shared_steps
        return replace(self, inputs=self.inputs[:T], states=self.states[: T + 1], lengths=())

    def rests_from(self, step: int) -> bool:
        """Return True if the state does not move from this step on. If this is so from step 0, the
        run starts at a fixed point.
        """
        moved = (self.states[step:] - self.states[step]).abs().max()
        return bool(moved <= ROUNDING * self.states.abs().max())

    def named(self, label: Label) -> Self:
        """Return the same run with other names."""
        return replace(self, label=label)

    def with_gates(self, gates: GatesOf | None) -> Self:
        """Return the same run with the user's function gates(x, s), which returns a tensor or
        tensors by name. None: return the run unchanged.
        """
        return self if gates is None else replace(self, cell=self.cell.with_gates(gates))

    def require_finite(self) -> Self:
        """Return the run itself. Raises NotFiniteError if a state is NaN or infinite."""
        bad = (~torch.isfinite(self.states)).flatten(1).any(1)
        if bad.any():
            before = int(bad.nonzero()[0])
            when = f"after step {before - 1}" if before else "at the start"
            raise NotFiniteError(
                f"{self.label.name or 'the cell'}: a state is NaN or infinite {when} of "
                f"{self.label.along}: change what the step computes, its weights, first state or "
                "inputs"
            )
        return self

    def slices(self, matrices: int = 1) -> Iterator[slice]:
        """Yield slices of consecutive steps. The Jacobians of the steps of a slice fit into one
        block. matrices: the number of matrices for each step.

        Raises InvalidInputError if there is too little memory.
        """
        need = self.states.element_size() * COPIES * max(BLOCK, self.state_size**2)
        what = f"Jacobians of a state of {self.state_size}"
        check_room(
            need, what, "use fewer hidden units, or spectra(leading=K)", self.states.device.type
        )
        size = min(LONGEST, max(1, BLOCK // (matrices * self.state_size**2)))
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))

    def blocks(self, *, back: bool = False) -> Iterator[tuple[slice, Tensor]]:
        """Yield (slice of steps, their Jacobians (steps, N, N)) of one sequence. The Jacobians are
        stored for the next call if all of them together are small enough. back: yield the last
        block first.
        """
        keep = len(self) * self.state_size**2 <= KEPT
        slices = [*self.slices()]
        for now in reversed(slices) if back else slices:
            A = self._blocks.get((now.start, now.stop))
            if A is None:
                A = self.jacobians(now)
                if keep:
                    self._blocks[now.start, now.stop] = A
            yield now, A

    @torch.no_grad()
    def jacobians(self, at=slice(None)) -> Tensor:
        """The Jacobians d s[t+1] / d s[t], (..., N, N). Raises NotFiniteError for a step whose
        derivative by autograd is NaN or infinite.
        """
        return self._finite(self.cell.jacobian(*self._at(at)), at)

    @torch.no_grad()
    def input_jacobians(self, at=slice(None)) -> Tensor:
        """The Jacobians d s[t+1] / d x[t], (..., N, m). Raises NotFiniteError as `jacobians`."""
        return self._finite(self.cell.input_jacobian(*self._at(at)), at)

    @torch.no_grad()
    def layer_jacobians(self, at=slice(None)) -> Tensor | list[Tensor]:
        """The Jacobians of the L layers of a step, from the first layer to the last. Raises
        InvalidInputError if they are not known.
        """
        return self.cell.layer_jacobians(*self._at(at))

    def state_gains(self, at=slice(None)) -> Tensor:
        """The 2-norm of each layer's Jacobian ds_l/ds_{l-1}, (..., L). If a layer also reads the
        state before the step, that state is held fixed. For a stack of cells: the 2-norm of the
        derivative of each cell's state with respect to its own state before the step. If the
        Jacobians of the layers are not known: the 2-norm of the whole step's Jacobian, (..., 1).
        """
        N, stack = self.state_size, self.cell.module
        if isinstance(stack, StackedCell):
            A, ends = self.jacobians(at), accumulate(stack.sizes)
            own = [slice(end - n, end) for n, end in zip(stack.sizes, ends, strict=True)]
            layers = [A[..., rows, rows] for rows in own]
        elif self.cell.has_layers:
            layers = [J[..., :N, :N] for J in self.layer_jacobians(at)]
        else:
            layers = [self.jacobians(at)]
        return torch.stack([torch.linalg.matrix_norm(J, 2) for J in layers], -1)

    @torch.no_grad()
    def gates(self, at=slice(None)) -> Gates:
        """Gates of each layer; empty for a cell without gates."""
        return self.cell.gates(*self._at(at))

    def norm_bound(self) -> Tensor:
        """A bound on the norm of the Jacobian for all inputs, at all states whose entries are at
        most as large as the largest entry of a state of the run. NaN if the cell has no bound.
        """
        return self.cell.norm_bound(float(self.states[:-1].abs().max()))

    @torch.no_grad()
    def repeated(self, times: int) -> "Run":
        """The run over several repetitions of the sequence."""
        x = self.inputs.repeat(times, *[1] * (self.inputs.dim() - 1))
        return replace(self, inputs=x, states=trajectory(self.cell, x, self.states[0]))

    @torch.no_grad()
    def starting_at(self, s0: Tensor) -> Self:
        """The run of the same inputs from another first state (N,)."""
        return replace(self, states=trajectory(self.cell, self.inputs, s0))

    def tangent_maps(self) -> Iterator[list[Tangent]]:
        """Yield, for each step t of one sequence, the maps of the layers of A[t], see
        `StepCell.maps`. Only one block of Jacobians is in memory at a time.
        """
        for steps in self.slices(2 * self.depth):
            yield from self.cell.maps(*self._at(steps))

    def _finite(self, A: Tensor, at) -> Tensor:
        """Return derivatives (..., N, k) at some steps. Raises NotFiniteError if autograd gives NaN
        or infinity. Closed forms may overflow.
        """
        if not self.cell.has_closed_form and not torch.isfinite(A).all():
            steps = torch.arange(len(self), device=A.device)
            if self.states.dim() > 2:
                steps = steps[:, None].expand(-1, self.states.shape[1])
            raise no_derivative(int(steps[at][(~torch.isfinite(A)).flatten(-2).any(-1)].min()))
        return A

    def _at(self, at) -> tuple[Tensor, Tensor]:
        return self.inputs[at], self.states[:-1][at]


def no_derivative(step: int) -> NotFiniteError:
    """The error of a step without a finite derivative."""
    return NotFiniteError(
        f"the derivative of the step is NaN or infinite at step {step}, such as that of sqrt at 0: "
        "give another first state, or change the step there"
    )


def silent(done: int, total: int) -> None:
    """Report no progress."""


def shown_steps(T: int) -> list[int]:
    """Four steps spread over the run, with the first and the last; fewer if the run is shorter.

    >>> shown_steps(33), shown_steps(2)
    ([0, 11, 21, 32], [0, 1])
    """
    return sorted({round(k * (T - 1) / 3) for k in range(4)})
