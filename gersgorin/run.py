"""`open_run`: the states of a network along one sequence, which every analysis takes.

    run = open_run(model, x)
    run.inputs, run.states, run.jacobians()    (T, m), (T + 1, N), (T, N, N)

Legend: T time steps, m inputs, N entries of a state.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from inspect import Parameter
from pathlib import Path
from typing import Any, TypedDict, TypeVar, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin import checks
from gersgorin.autodiff import BLOCK
from gersgorin.jacobians import input_jacobians, jacobians, with_scale
from gersgorin.kinds import is_step
from gersgorin.step import Step, as_step
from rhn.utils.io import check_output, write_arrays
from rhn.utils.progress import Progress, reported
from rhn.utils.resources import check_room
from rhn.utils.results import TIME_STEPS
from rhn.utils.validation import signature_of

FEW_ROWS, MOVED = 16, 1e-3  # steps that run twice, at states moved by this share
LONGEST = 4096  # steps of a block; autograd holds several times its numbers
LARGE = 4096  # entries of the largest state whose whole Jacobians are computed
COPIES = 32  # of a block of Jacobians, at most (measured: 23 to 31)
KEPT = 8  # numbers in a result for each entry of the state at each step
F = TypeVar("F", bound=Callable)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Run:
    """The states of a step along inputs x, and the derivatives at these states.

    >>> run = open_run(lambda x, s: s / 2 + x, torch.ones(3, 1), torch.zeros(1))
    >>> run.states.ravel().tolist(), run.jacobians().ravel().tolist()
    ([0.0, 1.0, 1.5, 1.75], [0.5, 0.5, 0.5])
    """

    step: Step
    inputs: Tensor
    """The inputs (T, m), or ids (T,)."""
    states: Tensor
    """The states (T + 1, N); the first one is the state before the run."""
    title: str
    """Title of the network."""
    data: str
    """Name of the sequence."""
    unit: str
    """Length of a time step: "quarter notes", "tokens"."""
    progress: Progress = None
    """How an analysis shows its progress, see `open_run`."""

    def __repr__(self) -> str:
        return f"{self.title}; {self.data}, {len(self)} {self.unit}"

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def state_size(self) -> int:
        """N, the number of entries of a state."""
        return self.states.shape[1]

    @property
    def heading(self) -> dict[str, Any]:
        """The fields of a result that name the run."""
        names = {"network": self.title, "data": self.data, "unit": self.unit}
        return {**names, "steps": len(self)}

    def check_memory(self) -> None:
        """Refuse a run whose Jacobians, block by block, do not fit into the free memory. Every
        analysis of whole Jacobians calls this first.
        """
        check_memory(self.state_size, len(self))

    def slices(self) -> Iterator[slice]:
        """Yield slices of consecutive steps whose Jacobians are one block."""
        size = min(LONGEST, max(1, BLOCK // self.state_size**2))
        for start in range(0, len(self), size):
            yield slice(start, min(start + size, len(self)))

    @contextmanager
    def reporting(self, title: str) -> Iterator["Run"]:
        """Return a context that yields this run with a callback as its progress."""
        with reported(self.progress, title, total=len(self)) as advance:
            yield replace(self, progress=advance)

    def report(self, done: int) -> None:
        """Report that so many steps are done, if the progress is a callback."""
        if callable(self.progress):
            self.progress(done, len(self))

    def at(self, now: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """The inputs and states before some steps."""
        return self.inputs[now], self.states[:-1][now]

    def jacobians(self, now: slice = slice(None)) -> Tensor:
        """The Jacobians ds[t+1]/ds[t] of some steps, (steps, N, N). Raises NotFiniteError."""
        return jacobians(self.step, *self.at(now), now.start or 0)

    def input_jacobians(self, now: slice = slice(None)) -> Tensor:
        """The Jacobians ds[t+1]/dx[t] of some steps, (steps, N, m). Raises NotFiniteError."""
        return input_jacobians(self.step, *self.at(now), now.start or 0)

    def blocks(self, back: bool = False) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield (slice of steps, M, integers e) for the Jacobians M 2^e (steps, N, N); the last
        block first if `back` is True. e is 0 unless a Jacobian over- or underflows.
        """
        slices, done = [*self.slices()], 0
        for now in reversed(slices) if back else slices:
            x, s = self.at(now)
            A = jacobians(self.step, x, s, now.start)
            M, e = with_scale(self.step, "jacobian", A, x, s)
            checks.are_finite(f"Jacobian of {self.step.name}", M, now.start)
            yield now, M, e
            done += len(M)
            self.report(done)

    @torch.no_grad()
    def log_norm_bound(self) -> float:
        """The logarithm of a bound on ||ds[t+1]/ds[t]||_2 over all inputs, and all states whose
        entries are as large as those of the run; NaN if the cell has no bound.
        """
        largest = float(self.states[:-1].abs().max())
        if own := self.step.own("scaled_norm_bound"):
            bound, e = own(largest)
            return float(bound.double().log()) + float(e) * math.log(2)
        own = self.step.own("norm_bound")
        bound = own(largest) if own else math.nan
        return float(torch.as_tensor(bound, device="cpu").double().log())

    def save(self, path: str | Path, *, jacobians: bool = False) -> Path:
        """Write `inputs`, `states`, the weights of a module as "weights.NAME", `network` and `data`
        to an .npz file. jacobians: also write `jacobians` (T, N, N). Raises OutputError.
        """
        check_output(path, (".npz",))
        module = self.step.cell if self.step.module is None else self.step.module
        weights = module.state_dict() if isinstance(module, nn.Module) else {}
        tensors = {"inputs": self.inputs, "states": self.states}
        tensors |= {f"weights.{name}": weight for name, weight in weights.items()}
        tensors |= {"jacobians": self.jacobians()} if jacobians else {}
        arrays = {name: t.numpy(force=True) for name, t in tensors.items()}
        names = {"network": np.array(self.title), "data": np.array(self.data)}
        return write_arrays(path, arrays | names)


class ReadOptions(TypedDict, total=False):
    """The keywords of `open_run` beside the first state and the progress."""

    state_size: checks.Sizes | None
    layer: str | None
    batch_first: bool | None
    title: str | None
    data: str | None
    unit: str | None


class RunOptions(ReadOptions, total=False):
    """The keywords of `open_run` beside the first state."""

    progress: Progress


def names_options(options: type) -> Callable[[F], F]:
    """Return a decorator of a function with `**how: Unpack[options]`: help() and completion name
    each option. options: a TypedDict of keywords whose default is None.
    """

    def named(function: F) -> F:
        signature = signature_of(function)
        own = [p for p in signature.parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
        for name, kind in get_type_hints(options).items():
            own.append(Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=kind))
        function.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
        return function

    return named


def open_run(
    network: Any,
    x: Any = None,
    s0: Any = None,
    *,
    state_size: checks.Sizes | None = None,
    layer: str | None = None,
    batch_first: bool | None = None,
    title: str | None = None,
    data: str | None = None,
    unit: str | None = None,
    progress: Progress = None,
) -> Run:
    """Run a network along a sequence.

    Args:
        network: a cell of rhn.cells, torch.nn.RNN, LSTM or GRU, a module (x, state) -> (output,
            state), a module with step(x, s), a function f(x, s), or a module with one recurrent
            layer inside. A module is copied and runs in float64, a function in the precision of
            s0; a module whose state is optional, with a layer inside, is a step only with s0. A
            `Run`, which then stands alone, is returned as it is.
        x: numbers (T, m), or ids (T,), of any unit. The axis of the batch, if there is one, has
            the length 1, and is the one that `batch_first` says.
        s0: the first state in the shapes of the network, real or complex, of one or several
            tensors; None: that of the network.
        state_size: the number of entries of a first state of zeros, or of each of its tensors.
        layer: the recurrent layer of the module that is measured; None: its only one.
        batch_first: True for x (B, T, m), False for (T, B, m); None: the attribute of the module.
        title, data, unit: names of the network, the sequence and a time step; None: the name of the
            network, with depth and units of a cell, x, and steps.
        progress: True to show the steps done and the time left, False to show nothing, None to show
            them in a terminal session or notebook; or a function of (steps done, steps in all).

    Raises InvalidInputError.

    >>> run = open_run(torch.nn.LSTM(3, 4), torch.rand(9, 3))
    >>> run.states.shape, run.heading["network"]
    (torch.Size([10, 8]), 'LSTM, depth 1, 4 units')
    """
    if isinstance(network, Run):
        given = {"s0": s0, "state_size": state_size, "layer": layer, "batch_first": batch_first}
        nothing_beside_a_run(x=x, **given, title=title, data=data, unit=unit)
        return network if progress is None else replace(network, progress=progress)
    network = checks.a_network(network)
    has_state = s0 is not None or state_size is not None
    if layer is not None or not is_step(network, has_state):
        from gersgorin.layers import record  # not needed for a step

        network, x, own = record(network, x, layer, batch_first)
        s0, batch_first = s0 if has_state else own, None
    step, x = as_step(network, x, s0, state_size=state_size, batch_first=batch_first)
    step_runs(step, x[:1], step.first[None])
    states = run_states(step, x, progress)
    return Run(step=step, inputs=x, states=states, title=title or step.title, data=data or "x",
               unit=unit or TIME_STEPS, progress=progress)  # fmt: skip


@torch.no_grad()
def run_states(step: Step, x: Tensor, progress: Progress = None) -> Tensor:
    """Return the states (T + 1, N) along x (T, m), the first state first. Raises InvalidInputError
    unless the step itself gives the same states in one batch, and other states twice the same.
    """
    of_states = False if callable(progress) else progress  # a callback counts the analysis only
    with reported(of_states, "states", total=len(x)) as advance:
        found = step.states(x[:, None], advance=advance)[:, 0]
    checks.are_finite(f"state of {step.name}", found)
    first, before = x[:FEW_ROWS], found[:-1][:FEW_ROWS]
    moved = before + MOVED * (1 + before.abs())  # dropout of zeros is invisible
    with checks.users_code(f"{step.name} fails at {len(x)} rows"):
        parts = zip(x.split(LONGEST), found[:-1].split(LONGEST), strict=True)
        after = torch.cat([step.rows(*part) for part in parts])
        twice = [step.rows(torch.cat((first, first)), torch.cat((moved, moved))) for _ in range(2)]
    rows_are_alone(step.name, after, found[1:])
    one, other = twice[0].chunk(2)
    rows_are_alone(step.name, one, other)  # random numbers of each row
    calls_are_equal(step.name, *twice)  # random numbers of each call
    return found


def nothing_beside_a_run(**given: Any) -> None:
    """Refuse arguments beside a `Run`, which was computed without them."""
    for name, value in given.items():
        checks.require(value is None, name, checks.kind(value), "None beside a Run")


@torch.no_grad()
def step_runs(step: Step, x: Tensor, s: Tensor) -> None:
    """Run one step of rows x (1, m) or ids (1,) and s (1, N), and check the next state."""
    said = f"{step.name} takes no step from x[0] {tuple(x.shape[1:])} and a state"
    with checks.users_code(said):
        after = step.rows(x, s)
    good = isinstance(after, Tensor) and after.shape == s.shape and after.dtype == s.dtype
    wanted = f"{s.dtype} of shape {tuple(s.shape)}"
    checks.require(good, f"next state of {step.name}", checks.kind(after), wanted)


def rows_are_alone(name: str, together: Tensor, alone: Tensor) -> None:
    """Refuse states (T, N) of one batch that differ from those of single steps: rows that mix,
    random numbers, or a state that the network keeps.
    """
    # a part may compute in float32
    _are_the_same(name, together, alone, max(torch.finfo(alone.dtype).eps ** 0.5, 1e-5))


def calls_are_equal(name: str, first: Tensor, second: Tensor) -> None:
    """Refuse states of one batch that change at a second call: random numbers that all rows share,
    small ones, or a state that the network keeps.
    """
    _are_the_same(name, first, second, torch.finfo(first.dtype).eps ** 0.5)


def _are_the_same(name: str, first: Tensor, second: Tensor, close: float) -> None:
    same = torch.allclose(first, second, rtol=close, atol=close)
    wanted = "the same one: rows are independent, no dropout, no kept state"
    said = f"state of {name} from equal x and s"
    checks.require(same, said, "another one at a second call", wanted)


def check_memory(N: int, T: int, weights: int = 0) -> None:
    """Refuse a state of N entries over T steps whose Jacobians, beside a number of weights, do not
    fit into the free memory. A state of more than `LARGE` entries has no whole Jacobians.
    """
    block = COPIES * min(T * N**2, max(BLOCK, N**2)) if N <= LARGE else 0
    need = torch.float64.itemsize * (block + weights + KEPT * N * T)
    check_room(need, f"a state of {N} over {T} steps", "give fewer units or steps")
