"""Measure and draw credit over time: which earlier states the loss of each frame reaches, and which
lags make up the gradient.

    found = credit(model, x, targets)
    found.norms[t2, t1]    || dL[t2] / dy[t1] ||
    found.lag_share[k]     the share of the recurrence's gradient from pairs with t2 - t1 = k

A parameter of a recurrence is used at every step. With y[t] the state after step t (of stacked
cells the states of all of them) and L[t] the loss of frame t (Zilly et al. 2017, equation 1),

    g = dL/dtheta = sum over t2 of sum over t1 <= t2 of   (dL[t2]/dy[t1])  (dy[t1]/dtheta)

The left factor is an `adjoint`; the right one is the derivative of a single step, with y[t1 - 1]
held fixed, and all steps are taken in one batch. With g[k] the sum over all pairs of lag k = t2 -
t1, the gradient is g = g[0] + ... + g[T - 1], and backpropagation truncated after k steps gives
g[0] + ... + g[k].

Legend: T frames, B sequences, N entries of a cell's state.
"""

import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from gersgorin._validate import check_order, with_gradients
from gersgorin.analyses.supervised import Supervised
from gersgorin.linalg.products import vanishes_at
from gersgorin.loading.find_cell import TORCH_CELLS, is_hand_written, recurrent_cells
from gersgorin.losses import Loss
from gersgorin.run.autodiff import vjps
from gersgorin.run.cell import name_of, state_in
from gersgorin.run.run import Progress, silent
from rhn.cells import Cell
from rhn.cells.convert import from_torch, weights_of_torch
from rhn.errors import InvalidInputError
from rhn.plotting.figure import (
    Block,
    Shown,
    WholeTicks,
    colour_bar,
    colour_norm,
    compose,
    heat_map,
    names_of,
    title_of,
)
from rhn.utils.figures import BLUE, GREY, ORANGE, drawable, drawn, time_label
from rhn.utils.result import Result, rows_of
from rhn.utils.wording import counted

SMALLEST = 1e-6  # part of the gradient that is drawn
SCALE = "gradient norm"
TRUNCATION = 35  # steps back, those of the paper's language models


@dataclass(frozen=True, kw_only=True, repr=False)
class Credit(Result, kind="credit"):
    """The credit of one run, T frames: g is the gradient of the mean loss, g[k] its part of lag k.

    All shares are NaN if the gradient is zero.
    """

    loss: float
    """The mean loss, in `loss_unit`."""
    norms: np.ndarray
    """norms[t2, t1] = ||dL[t2]/dy[t1]||_2, root mean square over sequences, L in the unit of the
    loss; 0 where t1 > t2. (T, T)
    """
    gradient_norm: float
    """||g||_2 of the mean loss in all parameters of the recurrence: of the cells, not of the
    embedding or the output. What is frozen does not count; of torch.nn's cells each of the two
    biases does.
    """
    lag_norm: np.ndarray
    """||g[k]|| / ||g||, (T,). Lags that work against each other add up to more than 1."""
    lag_share: np.ndarray
    """<g[k], g> / ||g||^2, (T,): they add up to 1; negative for a lag that works against the
    whole.
    """
    lost: np.ndarray
    """||g - (g[0] + ... + g[k])|| / ||g||, (T,): the part of the gradient lost by truncation after
    k steps.
    """
    unit: str = "steps"
    """Of one frame: "quarter notes", "tokens"; "steps" if unknown."""
    loss_unit: str = "nats a frame"
    """Of the loss."""

    def lost_beyond(self, steps: int) -> float:
        """The part of the gradient lost by truncation after this number of steps; 0 beyond the
        whole sequence.
        """
        return float(self.lost[min(steps, len(self.lost) - 1)])

    @property
    def _by_lag(self) -> np.ndarray:
        """(T,) norm over all pairs of a lag."""
        return np.array([np.linalg.norm(np.diag(self.norms, -k)) for k in range(len(self.norms))])

    @property
    def half(self) -> int:
        """The least lag from which on the shares up to it add up to at least half of the
        gradient.
        """
        return int(np.flatnonzero(np.cumsum(self.lag_share) < 0.5).max(initial=-1)) + 1

    @property
    def most(self) -> str:
        """The part of the gradient from lags up to `half`, in words."""
        share = float(self.lag_share[: self.half + 1].sum())
        return f"{100 * share:.3g} %" if share < 1 else "at least half"

    def sentences(self) -> Iterator[str]:
        """The lags that the gradient comes from, the loss by truncation, and the lag from which on
        there is nothing.
        """
        lost, most = self.lost_beyond(10), self.most[0].upper() + self.most[1:]
        said = f"{most} of the recurrence's gradient comes from {_states(self.half)}; "
        less = f"truncation after 10 steps changes it by {100 * lost:.3g} % of its norm"
        said += f"{less}." if lost < 1 else f"{less}: parts of different lags cancel."
        if (none := vanishes_at(self._by_lag)) is not None:
            said += (
                f" From {counted(none, 'step')} back on it is zero, or too small for "
                "normal numbers."
            )
        yield said

    def table(self) -> list[dict]:
        """One row a lag: norm and share of its part of the gradient, and the part lost beyond
        it.
        """
        return rows_of(
            lag=range(len(self.lost)), norm=self.lag_norm, share=self.lag_share, lost=self.lost
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """The heat map of the norms; without axes a figure with the shares of the lags below."""
        return self.draw(ax, colour_norm(self.norms)) if ax else draw_credit({"": self}).axes[0]

    def draw(self, ax: Axes, colours: LogNorm) -> Axes:
        """||dL[t2]/dy[t1]|| as a heat map, t1 to the right and t2 upwards."""
        heat_map(ax, self.norms, colours)
        ax.set(
            xlabel=time_label(self.unit, "state $t_1$"), ylabel=time_label(self.unit, "loss $t_2$")
        )
        return ax

    def draw_lags(self, ax: Axes) -> Axes:
        """By lag: its share of the gradient, and the part lost if errors go back no further."""
        lags = np.arange(len(self.lag_share))
        ax.plot(lags, self.lag_norm, color=BLUE, label="norm of the lag's part")
        ax.plot(lags, self.lost, color=ORANGE, linestyle="--", label="lost beyond this lag")
        if len(lags) > TRUNCATION:
            ax.axvline(
                TRUNCATION, color=GREY, linestyle=":", linewidth=1, label=f"{TRUNCATION} steps"
            )
        ax.set(yscale="log", xlim=(0, max(1, len(lags) - 1)), ylim=(SMALLEST, 2))
        ax.set(
            xlabel=time_label(self.unit, "lag $t_2 - t_1$"), ylabel="part of the gradient's norm"
        )
        ax.xaxis.set_major_locator(WholeTicks(5))
        return ax


class Unrolled:
    """One run of a model over its sequences, step by step. It changes `problem.model`, which is a
    copy of the user's.

    The cells are in the model's order, the lowest of a stack first; parameters: theirs that are
    trained, by name.

    Raises:
        InvalidInputError: no recurrent cell, or one whose `step` does not run once a frame.
    """

    def __init__(self, problem: Supervised):
        _step_by_step(problem.model)
        cells = [cell for cell in recurrent_cells(problem.model) if hasattr(cell, "step")]
        runs = [_Steps(cell) for cell in cells]
        losses = problem.losses()
        self._runs = [run for run in runs if run.states]
        self._check(problem)
        self.losses = losses / problem.mask.sum()
        inside = {id(p) for run in self._runs for p in run.cell.parameters()}
        self.parameters = {name: p for name, p in problem.parameters.items() if id(p) in inside}
        if not self.parameters:
            raise InvalidInputError(
                "the recurrence has no trained parameter: expected some whose requires_grad is True"
            )
        self._outputs = [run.all_at_once() for run in self._runs]

    def adjoints(self) -> list[Tensor]:
        """For each cell the derivatives of every frame's loss in every state, [t2, t1, b] = dL[t2,
        b]/dy[t1, b], (T, T, B, N).

        L is the mean loss's part of that frame and sequence: all of them add up to the mean loss.
        """
        states = [y for run in self._runs for y in run.states]
        T = len(self.losses)
        one_by_one = torch.eye(T, dtype=self.losses.dtype, device=self.losses.device)
        found = vjps(self.losses.sum(1), states, one_by_one)
        return [torch.stack(found[start : start + T], 1) for start in range(0, len(found), T)]

    def gradient(self, adjoints: list[Tensor]) -> Tensor:
        """The part of the gradient from single steps, all parameters in one vector, for an adjoint
        (T, B, N) of each cell's states.
        """
        weights = [*self.parameters.values()]
        found = torch.autograd.grad(
            self._outputs,
            weights,
            adjoints,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        return torch.cat([g.flatten() for g in found])

    def _check(self, problem: Supervised) -> None:
        if not self._runs:
            raise InvalidInputError(
                f"{type(problem.model).__name__} has no cell of rhn.cells or torch.nn, and no "
                "other with step(x, s) and state_size"
            )
        T, B = problem.mask.shape
        names = {module: name for name, module in problem.model.named_modules()}
        for run in self._runs:
            if len(run.states) != T or any(y.shape[:-1] != (B,) for y in run.states):
                swapped = len(run.states) == B and run.states[0].shape[:-1] == (T,)
                expected = (
                    "a model that reads (T, B, m), not batch_first"
                    if swapped
                    else "its forward to call step(x, s) once for each frame, all sequences "
                    "together"
                )
                raise InvalidInputError(
                    f"{names[run.cell] or 'the model'} took {len(run.states)} steps of states "
                    f"{tuple(run.states[0].shape)} for {T} frames of {B} sequences: expected "
                    f"{expected}"
                )


def _step_by_step(model: nn.Module) -> None:
    """Replace the recurrences of torch.nn, and a user's own, inside a model by cells with a
    `step`.
    """
    replaced: list[nn.Module] = []
    for name, module in [*model.named_modules()]:
        written = is_hand_written(module, named=False)
        recurrent = written or isinstance(module, TORCH_CELLS)
        if not name or not recurrent or any(module in other.modules() for other in replaced):
            continue
        model.set_submodule(name, _FlatStep(module) if written else _StandIn(module))
        replaced.append(module)


class _Steps:
    """Takes the place of a cell's `step` and stores its arguments and its results; the cell then
    runs step by step.
    """

    def __init__(self, cell: Any):
        self._given: list[tuple[Tensor, Tensor]] = []
        self.states: list[Tensor] = []
        self.cell, self._step, cell.step = cell, cell.step, self
        if isinstance(cell, Cell):
            cell.states = types.MethodType(Cell.states, cell)

    def __call__(self, x: Tensor, s: Tensor) -> Tensor:
        if not isinstance(s, Tensor):
            raise InvalidInputError(
                "a state of several tensors belongs to a module with forward(x, state), not "
                "step(x, s)"
            )
        self._given.append((x.detach(), s.detach()))
        self.states.append(self._step(x, s))
        return self.states[-1]

    def all_at_once(self) -> Tensor:
        """The same states (T, B, N), but each step from a state before it that is held fixed."""
        return self._step(*map(torch.stack, zip(*self._given, strict=True)))


def _layer_on_weights(module: nn.Module, layer: int) -> Cell:
    """Our form of a layer of torch.nn whose weights are functions of the module's own."""
    cell = from_torch(module, layer)
    for name, weight in weights_of_torch(module, layer).items():
        shape = cell.get_parameter(name).shape
        delattr(cell, name)
        setattr(cell, name, weight.reshape(shape))
    return cell


class _StandIn(nn.Module):
    """Our form of a torch.nn RNN, LSTM or GRU, a cell a layer, or of their *Cell form, called as
    torch's is, on torch's own parameters.

    So the gradient is in those of them that are trained, and in each of torch's two biases.
    """

    def __init__(self, theirs: nn.Module):
        super().__init__()
        self._single, layers = (
            isinstance(theirs, nn.RNNCellBase),
            range(getattr(theirs, "num_layers", 1)),
        )
        cells = [_layer_on_weights(theirs, k) for k in layers]
        self.cells: Any = nn.ModuleList(cells)
        for cell in cells:
            cell.theirs, cell.batch_first = theirs, False
        self._pair, self._batch_first = (
            cell.state_size != cell.hidden_size,
            getattr(theirs, "batch_first", False),
        )

    def forward(self, x: Tensor, state=None):
        s = torch.cat(state, -1) if self._pair and state is not None else state
        if self._single:
            (cell,) = self.cells
            s = cell.step(x, x.new_zeros(*x.shape[:-1], cell.state_size) if s is None else s)
            return s.chunk(2, -1) if self._pair else s
        x, last = x.transpose(0, 1) if self._batch_first and x.dim() == 3 else x, []
        for k, cell in enumerate(self.cells):
            x, after = cell(x, None if s is None else s[k])
            last.append(after)
        s = torch.stack(last)
        outputs = x.transpose(0, 1) if self._batch_first and x.dim() == 3 else x
        return outputs, s.chunk(2, -1) if self._pair else s


class _FlatStep(nn.Module):
    """A user's module with forward(x, state), called as that is, with a step of one vector: the
    tensors of its state side by side.
    """

    def __init__(self, theirs: nn.Module):
        super().__init__()
        self.theirs, self.state_size = theirs, 0  # known in a call

    def forward(self, x: Tensor, state):
        self._like, self._tree = tree_flatten(state)
        self.state_size = sum(part[0].numel() for part in self._like)
        after = self._state(self.step(x, torch.cat([part.flatten(1) for part in self._like], 1)))
        if tree_flatten(self._returned)[1] == self._tree:
            return after
        output, given = self._returned[0], state_in(self._returned, self._like) or []
        parts = {id(own): part for own, part in zip(given, tree_leaves(after), strict=True)}
        if any(id(each) not in parts for each in tree_leaves(output)):
            raise InvalidInputError(
                f"the output of {name_of(self.theirs)} is no part of its state: compute it "
                "outside of this module"
            )
        return tree_map(lambda each: parts[id(each)], output), after

    def step(self, x: Tensor, s: Tensor) -> Tensor:
        state = self._state(s.flatten(0, -2))
        self._returned = self.theirs(x.flatten(0, -2), state)
        after = state_in(self._returned, tree_leaves(state))
        if after is None:
            raise InvalidInputError(
                f"{name_of(self.theirs)} must return a state like the one that it takes, or "
                "(output, state)"
            )
        return torch.cat([part.flatten(1) for part in after], 1).reshape(s.shape)

    def _state(self, s: Tensor):
        """Rows (B, N) as a state."""
        parts = s.split([part[0].numel() for part in self._like], 1)
        pieces = [
            part.reshape(-1, *like.shape[1:]) for part, like in zip(parts, self._like, strict=True)
        ]
        return tree_unflatten(pieces, self._tree)


@with_gradients()
def credit(
    model: nn.Module, x: Any, targets: Any, *, loss: str | Loss | None = None, unit: str = "steps"
) -> Credit:
    """Measure credit over time, in float64, along the model's run over x.

    Args:
        model: a `PolyphonicModel`, a `LanguageModel`, or any module whose recurrence is a cell of
            ours, one of torch.nn's (each of its layers counts as one, of one direction), or a
            module with a `state_size` and `step(x, s)` or forward(x, state), called once a frame.
        x: frames (T, B, m) or (T, m), ids (T, B) or (T,), or a list of pieces; targets: likewise,
            what the model is to predict at each frame of x, for the next frame x = frames[:-1],
            targets = frames[1:].
        loss: "bernoulli" (of keys), "categorical" or "squared", or loss(outputs, targets) -> (T, B)
            or (T, B, K); None: that of a model of ours.
        unit: of one frame, for the axes of time: "quarter notes", "tokens", "0.1 s".

    Time T single backward passes at once; memory T^2 B N numbers, N entries of the state: 0.2 GB
    for T = 300, N = 262.

    Raises:
        InvalidInputError: weights, data or the loss are not finite, or do not fit; no cell is
            found; the loss of a frame reads later states; or the loss is one number for all
            frames.
    """
    check_order("credit(model, x, targets)", model=model, x=x)
    problem = Supervised(model, x, targets, loss)
    problem.label = replace(problem.label, unit=unit)
    return of_supervised(problem)


@with_gradients()
def of_supervised(problem: Supervised, *, progress: Progress = silent) -> Credit:
    """Measure the credit over time of a model on its sequences."""
    run = Unrolled(problem)
    adjoints = run.adjoints()
    present = problem.mask.sum(1)  # sequences that have this frame
    squares = sum(each.square().sum((2, 3)) for each in adjoints) * problem.mask.sum() ** 2
    norms = (squares / present.unsqueeze(1)).sqrt()
    if norms.triu(1).any():
        raise InvalidInputError(
            f"{type(problem.model).__name__} looks ahead: the loss of a frame changes with later "
            "states; expected a model of inputs (T, B, m) that is not bidirectional"
        )
    T = len(norms)
    whole = run.gradient([each.sum(0) for each in adjoints])
    rest, along = torch.zeros_like(whole), whole / whole.norm() ** 2
    lag_norm, lag_share, lost = np.empty((3, T))
    for lag in reversed(range(T)):
        lost[lag] = rest.norm() / whole.norm()
        # of each state that of the loss `lag` frames later, 0 where there is none
        part = run.gradient(
            [pad(each.diagonal(-lag).movedim(-1, 0), (0, 0, 0, 0, 0, lag)) for each in adjoints]
        )
        lag_norm[lag], lag_share[lag] = part.norm() / whole.norm(), part @ along
        rest += part
        progress(T - lag, T)
    return Credit(
        loss=run.losses.sum().item(),
        norms=norms.numpy(force=True),
        gradient_norm=whole.norm().item(),
        lag_norm=lag_norm,
        lag_share=lag_share,
        lost=lost,
        loss_unit=problem.loss_unit,
        **problem.label.of_result,
    )


def _states(*most: int) -> str:
    """The states up to a lag, or up to several, in words."""
    *others, last = most
    up_to = ", ".join([*map(str, others), counted(last, "step")])
    return f"states at most {up_to} back" if any(most) else "the step of the loss itself"


@drawn
def draw_credit(records: Mapping[str, Credit], about: str = "") -> Shown:
    """Moments of a training, by their names, side by side: heat maps on one scale, and under them
    the lags.

    about: origin of the network, for the title; "" for the one that all records have.
    """
    colours = colour_norm(*(record.norms for record in records.values()))

    def norms(name: str, record: Credit, ax: Axes) -> None:
        loss = f"loss {record.loss:.3g} {record.loss_unit}"
        record.draw(ax, colours).set_title("\n".join(filter(None, (drawable(name), loss))))

    def lags(record: Credit, ax: Axes) -> None:
        long = len(record.lost) > TRUNCATION
        lost = (
            f"lost by truncation after {TRUNCATION} steps: {record.lost_beyond(TRUNCATION):.2g}"
            if long
            else ""
        )
        record.draw_lags(ax).set_title(lost)

    count, (common, same, _) = len(records), names_of([*records.values()])
    maps = Block([partial(norms, *row) for row in records.items()], 3.0, count, "y")
    below = Block(
        [partial(lags, record) for record in records.values()], 2.2, count, "y", legend=True
    )
    bar = colour_bar(ScalarMappable(colours), SCALE, extend="min")
    every = [*records.values()]
    most = every[0].most if count == 1 else "at least half"
    title = (
        f"{most} of the recurrence's gradient comes from "
        f"{_states(*(record.half for record in every))}"
    )
    return compose(
        title_of(common, title), about or same, maps, bar, below, width=max(6, 2.7 * count)
    )
