"""`open_run`: the states of a network along one sequence, which every analysis takes, and the
derivatives of its step at many rows, in one batched way.

    run = open_run(model, x)
    run.inputs, run.states, run.jacobians()    (T, m), (T + 1, N), (T, N, N)

    jacobians(step, x, s)          ds'/ds (B, N, N)
    input_jacobians(step, x, s)    ds'/dx (B, N, m)
    difference, jumps              the step beside a state, to compare with its derivative

A cell with a closed form uses it. All other steps are differentiated by autograd: rows do not see
each other, so one reverse pass from entry i of the next states gives row i of every Jacobian, and N
batched passes give everything. A step that writes in place, as into a cache, has no reverse pass;
one forward pass for each column takes its place.

Legend: T time steps, B rows, m inputs, N entries of a state.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from gersgorin import checks
from gersgorin.autodiff import BLOCK, vjps, with_gradients
from gersgorin.step import Rows, Step, as_step
from rhn.utils.io import check_output, write_arrays
from rhn.utils.progress import Progress, reported
from rhn.utils.resources import check_room
from rhn.utils.scale import Scaled, out_of_range, scaled

FEW_ROWS, MOVED = 16, 1e-3  # steps that run twice, at states moved by this share
LONGEST = 4096  # steps of a block; autograd holds several times its numbers
LARGE = 4096  # entries of the largest state whose whole Jacobians are computed
COPIES = 32  # of a block of Jacobians, at most (measured: 23 to 31)
KEPT = 8  # numbers in a result for each entry of the state at each step


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
        checks.nothing_beside_a_run(x=x, **given, title=title, data=data, unit=unit)
        return network if progress is None else replace(network, progress=progress)
    network = checks.a_network(network)
    has_state = s0 is not None or state_size is not None
    if layer is not None or not checks.is_step(network, has_state):
        from gersgorin.layers import record  # not needed for a step

        network, x, own = record(network, x, layer, batch_first)
        s0, batch_first = s0 if has_state else own, None
    step, x = as_step(network, x, s0, state_size=state_size, batch_first=batch_first)
    states = run_states(step, x, progress)
    return Run(step=step, inputs=x, states=states, title=title or step.title, data=data or "x",
               unit=unit or "steps", progress=progress)  # fmt: skip


@torch.no_grad()
def run_states(step: Step, x: Tensor, progress: Progress = None) -> Tensor:
    """Return the states (T + 1, N) along x (T, m), the first state first. Raises InvalidInputError
    unless all steps in one batch give the same states, and other states twice the same.
    """
    states = [step.first[None]]
    of_states = False if callable(progress) else progress  # a callback counts the analysis only
    with reported(of_states, "states", total=len(x)) as advance:
        for t in range(len(x)):
            with checks.users_code(f"{step.name} fails at step {t}"):
                states.append(step.rows(x[t : t + 1], states[-1]))
            advance(t + 1, len(x))
    found = torch.cat(states)
    checks.are_finite(f"state of {step.name}", found)
    first, before = x[:FEW_ROWS], found[:-1][:FEW_ROWS]
    moved = before + MOVED * (1 + before.abs())  # dropout of zeros is invisible
    with checks.users_code(f"{step.name} fails at {len(x)} rows"):
        parts = zip(x.split(LONGEST), found[:-1].split(LONGEST), strict=True)
        after = torch.cat([step.rows(*part) for part in parts])
        twice = [step.rows(torch.cat((first, first)), torch.cat((moved, moved))) for _ in range(2)]
    checks.rows_are_alone(step.name, after, found[1:])
    one, other = twice[0].chunk(2)
    checks.rows_are_alone(step.name, one, other)  # random numbers of each row
    checks.calls_are_equal(step.name, *twice)  # random numbers of each call
    return found


def check_memory(N: int, T: int, weights: int = 0) -> None:
    """Refuse a state of N entries over T steps whose Jacobians, beside a number of weights, do not
    fit into the free memory. A state of more than `LARGE` entries has no whole Jacobians.
    """
    block = COPIES * min(T * N**2, max(BLOCK, N**2)) if N <= LARGE else 0
    need = torch.float64.itemsize * (block + weights + KEPT * N * T)
    check_room(need, f"a state of {N} over {T} steps", "give fewer units or steps")


def jacobians(step: Step, x: Tensor, s: Tensor, first: int | None = 0) -> Tensor:
    """Return ds'/ds (B, N, N), with A[b, i, j] = ds'_i/ds_j, at rows x (B, m) and s (B, N).

    first: the number of the first row, for messages. Raises NotFiniteError for a derivative by
    autograd that is NaN or infinite; not for `first` None.

    >>> from gersgorin.step import as_step
    >>> step, x = as_step(lambda x, s: 2 * s.flip(-1), torch.zeros(1, 1), torch.zeros(2))
    >>> jacobians(step, x, torch.zeros(1, 2))[0].tolist()
    [[0.0, 2.0], [2.0, 0.0]]
    """
    if own := step.own("jacobian"):
        with torch.no_grad():
            return own(x, s)
    return _by_autograd(step, x, s, 1, first)


def input_jacobians(step: Step, x: Tensor, s: Tensor, first: int = 0) -> Tensor:
    """Return ds'/dx (B, N, m); for ids, which have no derivative, NaN (B, N, 1). Arguments and
    errors as for `jacobians`.
    """
    if not x.is_floating_point():
        return s.new_full((*s.shape, 1), torch.nan)
    if own := step.own("input_jacobian"):
        with torch.no_grad():
            return own(x, s)
    return _by_autograd(step, x, s, 0, first)


def _by_autograd(step: Step, x: Tensor, s: Tensor, argument: int, first: int | None) -> Tensor:
    """The derivative with respect to x (0) or s (1)."""
    with checks.users_code(f"{step.name} cannot be differentiated"):
        try:
            A = _by_reverse_passes(step, x, s, argument)
        except RuntimeError as error:  # a step that writes in place
            if "numpy" in str(error):  # in a forward pass, NumPy drops derivatives without an error
                raise
            A = _by_forward_passes(step, x, s, argument)
    if first is not None:
        checks.are_finite(f"derivative of {step.name}", A, first)
    return A


@with_gradients()
def _by_reverse_passes(step: Step, x: Tensor, s: Tensor, argument: int) -> Tensor:
    given = [x.detach().clone(), s.detach().clone()]
    leaf = given[argument].requires_grad_()
    after = step.rows(*given)
    B, N = after.shape
    W = torch.eye(N, dtype=s.dtype, device=s.device)[:, None].expand(N, B, N)
    return vjps(after, [leaf], W)[0].transpose(0, 1).detach()


def _by_forward_passes(step: Step, x: Tensor, s: Tensor, argument: int) -> Tensor:
    columns = list[Tensor]()
    for e in torch.eye((x, s)[argument].shape[1], dtype=s.dtype, device=s.device):
        given = [x.clone(), s.clone()]
        with torch.inference_mode(False), forward_ad.dual_level():
            v = given[argument]
            given[argument] = forward_ad.make_dual(v, e.expand_as(v).clone())
            y, tangent = forward_ad.unpack_dual(step.rows(*given))
            columns.append(torch.zeros_like(y) if tangent is None else tangent.to(y).detach())
    return torch.stack(columns, -1)


def with_scale(step: Step, name: str, A: Tensor, x: Tensor, s: Tensor) -> Scaled:
    """Write the derivatives A (B, N, k) that the method `name` of a cell computes at rows x and s
    as M 2^e. The integer e is 0 unless A over- or underflows and the cell has a scaled form.
    """
    lost = out_of_range(A)
    e, own = torch.zeros_like(lost, dtype=torch.long), step.own(f"scaled_{name}")
    if own and lost.any():
        with torch.no_grad():
            M, e[lost] = scaled(*own(x[lost], s[lost]))
        A = A.index_put((lost.nonzero()[:, 0],), M)
    return A, e


@torch.no_grad()
def difference(rows: Rows, x: Tensor, s: Tensor, push: Callable[[Tensor], Tensor]) -> np.ndarray:
    """|A v - d| / (|d| + rounding) at rows x (B, m) and s (B, N), (B,): d is the central difference
    of a step along v, from s - h v to s + h v with h = eps^(1/3), and v are random signs times the
    largest modulus in s. The rounding of d is 1000 eps^(2/3) |v|. push: v (B, N) -> A v.
    """
    v, eps = random_signs(s), torch.finfo(s.dtype).eps
    h = eps ** (1 / 3)
    above, below = rows(torch.cat((x, x)), torch.cat((s + h * v, s - h * v))).chunk(2)
    d = (above - below) / (2 * h)
    rounding = 1000 * eps ** (2 / 3) * v.norm(dim=1)
    return ((push(v) - d).norm(dim=1) / (d.norm(dim=1) + rounding)).cpu().double().numpy()


def random_signs(s: Tensor, size: Tensor | None = None) -> Tensor:
    """Random signs for states s (B, N), times their size, (B, N). size: (B, 1) or 0-dim; None: the
    largest modulus of an entry, or 1 for 0.
    """
    if size is None:
        size = s.abs().amax(1, keepdim=True)
        size = torch.where(size > 0, size, 1)
    generator = torch.Generator("cpu").manual_seed(0)
    signs = torch.randn(s.shape[1], generator=generator, device="cpu").sign()
    return size * signs.to(s).expand_as(s)


def jumps(rows: Rows, x: Tensor, s: Tensor, after: Tensor, size: Tensor | None = None) -> Tensor:
    """|d - e| / |v| at rows x (B, m) and s (B, N), (B,): the difference quotients d and e of a step
    on two sides of s, along random signs v. Near 0 for a smooth step; the difference of the slopes
    at a kink; far above 1 if the step itself jumps. The smaller number of two distances: the short
    one has the rounding of the step, the long one its curvature.

    after: the next states (B, N).
    size: as for `random_signs`.

    >>> s = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    >>> jumps(lambda x, s: torch.relu(s), s, s, s).round(decimals=6).tolist()
    [1.0, 0.0]
    """
    unit, eps = random_signs(s, size), torch.finfo(s.dtype).eps
    with checks.users_code("the step fails beside a state"):
        each = [(rows(x, s + v) + rows(x, s - v) - 2 * after).norm(dim=1) / v.norm(dim=1)
                for v in (eps**power * unit for power in (1 / 2, 1 / 3))]  # fmt: skip
    return torch.minimum(*each)
