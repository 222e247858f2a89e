"""Gains and gates of the time steps of a run, and norms of the products of its Jacobians.

The gains of single steps do not compose. A gradient over many steps grows by at most the norm of
the product A[t] ... A[0] of their Jacobians.

Legend: T time steps; L layers of a step; A[t] the Jacobian of step t; s' the state after a step;
s_l the state after layer l.
"""

import html
import inspect
import math
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from gersgorin.analyses.growth import gradient_words, growth_over_all, lives, rate_of, tolerance
from gersgorin.linalg.products import RunningProduct
from gersgorin.linalg.spectrum import one_thread
from gersgorin.network.open import open_run
from gersgorin.run.run import Progress, Run, silent
from gersgorin.run.state import State
from rhn.cells import StackedCell
from rhn.cells.registry import TOOLKIT_CELLS, is_ours, spoken_name
from rhn.errors import InvalidInputError
from rhn.plotting.figure import (
    Style,
    WholeTicks,
    draw_growth,
    draw_layers,
    isolated_points,
    log_scale,
)
from rhn.utils.figures import GREEN
from rhn.utils.old import Result, capitalised, keywords_of, percent, table_rows
from rhn.utils.validation import kind_of

GIVE_GATES = (
    "the gates of your step, a function gates=f of x and s (gersgorin gates --gates module:name)"
)


@dataclass(frozen=True, kw_only=True, repr=False)
class Gains(Result, kind="gains"):
    """2-norms of the Jacobians of the input and of each layer: how strongly the input changes the
    state, and how strongly each layer changes the next.

    >>> from rhn.cells import RHN
    >>> found = gains(RHN(3, 8, 2), torch.rand(20, 3))
    >>> found.input.shape, found.layers.shape
    ((20,), (20, 2))
    """

    input: np.ndarray
    """Input gain ||ds'/dx||_2 at every step, (T,); NaN if the Jacobian over- or underflows."""
    layers: np.ndarray
    """State gain ||ds_l/ds_{l-1}||_2 of each layer at every step, (T, L). For stacked layers: the
    2-norm of the derivative of each layer's state with respect to its own state before the step.
    """
    unit: str = "steps"
    """Length of one time step."""

    @property
    def finding(self) -> str:
        """A clause about the mean gain of the input."""
        if np.isnan(self.input).any():
            return "The gain of the input is too small or large for a number"
        return f"The input reaches the state with a mean gain of {self.input.mean():.3g}"

    def notes(self) -> list[str]:
        """Sentences about the mean gains of the layers over the steps."""
        layers = ", ".join(f"{gain:.3g}" for gain in self.layers.mean(0))
        each = "A step has" if self.layers.shape[1] == 1 else "The layers of a step have"
        return [f"{each} a mean gain of {layers}."]

    def _axes(self) -> dict[str, tuple[str, ...]]:
        return {
            "input": ("step",),
            "layers": ("step", "layer"),
        }

    def table(self) -> list[dict]:
        """One row per step: step, input, layer_1, layer_2, ..."""
        return table_rows(step=range(len(self.input)), input=self.input, layer=self.layers)

    def _draw(self, ax: Axes, **_: Any) -> None:
        """Draw one line for the input and one for each layer over time."""
        ax.plot(
            self.input,
            color=GREEN,
            linestyle="--",
            label="input",
            **isolated_points(self.input),
        )
        draw_layers(self.layers, self.unit, "2-norm", ax)
        log_scale(ax, np.column_stack((self.input, self.layers)))

    @property
    def step_count(self) -> int:
        """T, the number of time steps."""
        return len(self.input)


@keywords_of(open_run)
@torch.no_grad()
@one_thread()
def gains(
    network, x=None, *, s0: State | None = None, progress: Progress = silent, **options
) -> Gains:
    """Measure the gains of the input, (T,), and of each layer, (T, L), along a run. Arguments and
    errors as for `gersgorin.open_run`.

    >>> found = gains(lambda x, s: 2 * s + 3 * x, torch.zeros(5, 1), s0=torch.zeros(1))
    >>> found.input.tolist(), found.layers[0].tolist()  # ||ds'/dx||, and ||ds'/ds|| a layer
    ([3.0, 3.0, 3.0, 3.0, 3.0], [2.0])
    """
    run, inputs, layers = open_run(network, x, s0=s0, **options), [], []
    for now in run.slices():
        steps = run.inputs[now], run.states[:-1][now]
        B, lost = run.cell.scaled("input_jacobian", run.input_jacobians(now), *steps)
        inputs.append(_without(torch.linalg.matrix_norm(B, 2), lost != 0))
        layers.append(run.state_gains(now))
        progress(now.stop, len(run))
    return Gains(
        input=torch.cat(inputs).cpu().numpy(), layers=torch.cat(layers).cpu().numpy(), **run.labels
    )


@dataclass(frozen=True, kw_only=True, repr=False)
class MeanGates(Result, kind="gates"):
    """Mean over the units of each layer's gate, from 0 (closed) to 1 (open).

    >>> found = gates(torch.nn.GRU(3, 8), torch.rand(20, 3))
    >>> found.mean.shape
    (20, 1)
    """

    mean: np.ndarray
    """Mean gate of each layer at every step, (T, L); L = 0 for a cell without known gates."""
    gate_name: str = "transform gate"
    """Name of the gate in the cell's literature: for an LSTM the input gate."""
    unit: str = "steps"
    """Length of one time step."""
    names: tuple[str, ...] = ()
    """Names of the columns of `mean`, for a user's function gates(x, s) and for cells with a
    separate carry gate; () if the columns are layers.
    """
    function: str = ""
    """The step in words, such as "the function f", if the step is a function."""
    gateless: bool = False
    """True for a cell of the toolkit or of torch.nn that has no gates, such as an RNN."""

    @property
    def finding(self) -> str:
        """A clause about the mean of the gates."""
        if self.gateless:
            return f"There are no gates in {subject_of(self.title).removeprefix(' of ')}"
        if not self.mean.size:
            of = f" of {self.function}" if self.function else subject_of(self.title)
            return f"No gates are known{of or ' of the network'}"
        if self.names:
            each = (percent(value) for value in self.mean.mean(0))
            named = ", ".join(
                f"{name} {share}" for name, share in zip(self.names, each, strict=True)
            )
            return f"The gates{subject_of(self.title)} are open on average: {named}"
        return f"The {self.gate_name}s{subject_of(self.title)} are {percent(self.mean.mean())} open"

    def notes(self) -> list[str]:
        """Sentences about the means of the layers."""
        if not self.mean.size:
            return [] if self.gateless else [f"Give {GIVE_GATES}."]
        if self.names or self.mean.shape[1] == 1:
            return []
        layers = ", ".join(percent(value) for value in self.mean.mean(0))
        return [f"From the first layer to the last they are {layers} open."]

    def _axes(self) -> dict[str, tuple[str, ...]]:
        return {
            "mean": ("step", "layer"),
        }

    def table(self) -> list[dict]:
        """One row per step: step, layer_1, layer_2, ..., or the gates by name. There are no rows if
        there are no gates.
        """
        steps = range(len(self.mean) if self.mean.size else 0)
        if self.names:
            return table_rows(step=steps, **dict(zip(self.names, self.mean.T, strict=True)))
        return table_rows(step=steps, layer=self.mean[: len(steps)])

    marks_step = False

    def check_drawable(self) -> None:
        """Raise InvalidInputError if there are no gates."""
        if not self.mean.size:
            remedy = "nothing can be drawn" if self.gateless else f"give {GIVE_GATES}"
            raise InvalidInputError(f"{self.finding}: {remedy}")

    def _draw(self, ax: Axes, *, step: int | None, **_: Any) -> None:
        """Draw one line for each layer over time, or the gates of the layers at one step. Raises
        InvalidInputError if there are no gates.
        """
        self.check_drawable()
        ax.set_ylim(0, 1)
        if step is None:
            draw_layers(self.mean, self.unit, "open (0 to 1)", ax, self.names)
            return
        layers = self.names or range(1, self.mean.shape[1] + 1)
        ax.bar(layers, self.mean[step], color=GREEN, width=0.6)
        if not self.names:
            ax.xaxis.set_major_locator(WholeTicks())
        what = "gate" if self.names else "layer"
        ax.set(xlabel=what, ylabel="open (0 to 1)", title=f"Step {step}")

    @property
    def step_count(self) -> int:
        """T, the number of time steps."""
        return len(self.mean)

    def _repr_html_(self) -> str:
        """The summary and, if there are gates, the figure."""
        return super()._repr_html_() if self.mean.size else f"<pre>{html.escape(repr(self))}</pre>"


@keywords_of(open_run)
@torch.no_grad()
def gates(
    network, x=None, *, s0: State | None = None, progress: Progress = silent, **options
) -> MeanGates:
    """Measure the mean gate of each layer along a run, (T, L), from 0 to 1. Arguments and errors as
    for `gersgorin.open_run`.

    A carry gate with weights of its own, such as the forget gate of an LSTM, has its own column.

    >>> from rhn.cells import RHN
    >>> found = gates(RHN(3, 8, 2, transform_bias=-20.0), torch.rand(20, 3))
    >>> found.mean.shape, bool(found.mean.max() < 1e-6)  # (steps, layers)
    ((20, 2), True)
    """
    run = open_run(network, x, s0=s0, **options)
    found, cell = run.gates(), run.cell
    mean, names = of_units(found.t, run), cell.gate_names
    if found.t and cell.carry_name:
        mean = np.concatenate((mean, of_units(found.c, run)), 1)
        names = (*by_layer(cell.gate_name, len(found.t)), *by_layer(cell.carry_name, len(found.c)))
    progress(len(run), len(run))
    step = getattr(cell.module, "wrapped", cell.module)
    parts = step.cells if isinstance(step, StackedCell) else [step]
    return MeanGates(
        mean=mean,
        gate_name=cell.gate_name,
        names=names,
        function=kind_of(step) if inspect.isroutine(step) else "",
        gateless=not found.t and all(is_ours(type(part)) for part in parts),
        **run.labels,
    )


def of_units(gates: Sequence[Tensor], run: Run) -> np.ndarray:
    """The mean over the units of the gates of each layer, (T, L); L = 0 without gates."""
    means = [gate.mean(-1) for gate in gates]
    return (torch.stack(means, 1) if means else run.states.new_empty(len(run), 0)).cpu().numpy()


def by_layer(name: str, count: int) -> tuple[str, ...]:
    """The names of the gates of `count` layers.

    >>> by_layer("forget gate", 1), by_layer("carry gate", 2)
    (('forget gate',), ('carry gate 1', 'carry gate 2'))
    """
    return (name,) if count == 1 else tuple(f"{name} {k + 1}" for k in range(count))


@dataclass(frozen=True, kw_only=True, repr=False)
class Products(Result, kind="products"):
    """Norms of the Jacobian products of one run: log ||ds[t+1]/ds[0]||_2 from the first state to
    each step, its rate of growth, and log ||ds[T]/ds[t]||_2 from each step to the last state.

    >>> found = products(lambda x, s: s / 2, torch.zeros(10, 1), s0=torch.zeros(1))
    >>> round(found.half_life, 4), round(float(np.exp(found.log_norm_back[-2])), 4)
    (1.0, 0.25)
    """

    log_norm: np.ndarray
    """Natural logarithm of the norm ||A[t] ... A[0]||_2, (T,). From the step at which the product
    is zero, the values are -inf.
    """
    log_norm_back: np.ndarray | None = None
    """log ||A[T-1] ... A[t]||_2, (T,): the logarithm of the largest factor by which a gradient at
    the last state is multiplied on its way back to the state before step t. None: not measured.
    """
    unit: str = "steps"
    """Length of one time step."""

    @property
    def exponent(self) -> np.ndarray:
        """log_norm[t] / (t + 1), (T,): the mean rate of growth per step of the perturbation that
        grows most.
        """
        return self.log_norm / np.arange(1, len(self.log_norm) + 1)

    @property
    def half_life(self) -> float:
        """Number of time steps in which the gradient halves, averaged over the run; inf if the
        gradient does not shrink, up to rounding.
        """
        return lives(rate_of(self.log_norm), tolerance(self.log_norm.dtype))[0]

    @property
    def doubling_time(self) -> float:
        """Number of time steps in which the gradient doubles, averaged over the run; inf if the
        gradient does not grow, up to rounding.
        """
        return lives(rate_of(self.log_norm), tolerance(self.log_norm.dtype))[1]

    @property
    def finding(self) -> str:
        """A clause about the half-life or doubling time of the gradient."""
        words = gradient_words(self.log_norm, subject_of(self.title))
        return capitalised(words)

    def notes(self) -> list[str]:
        """Sentences about the norm of the product over the whole run."""
        return growth_over_all(self.log_norm, self.unit)

    def _axes(self) -> dict[str, tuple[str, ...]]:
        return {
            "log_norm": ("step",),
            "log_norm_back": ("step",),
        }

    def table(self) -> list[dict]:
        """One row per step: step, log_norm, exponent, log_norm_back."""
        back = {} if self.log_norm_back is None else {"log_norm_back": self.log_norm_back}
        steps = range(len(self.log_norm))
        return table_rows(step=steps, log_norm=self.log_norm, exponent=self.exponent, **back)

    def brief(self) -> dict[str, float]:
        """A few numbers about the whole run."""
        return {
            "log_norm": self.log_norm[-1],
            "exponent": self.exponent[-1],
            "half_life": self.half_life,
            "doubling_time": self.doubling_time,
        }

    def _draw(self, ax: Axes, **_: Any) -> None:
        """Draw the norms over time on a log scale: from the first state on, and to the last
        state.
        """
        draw_growth(self.log_norm, self.unit, ax)
        if self.log_norm_back is not None:
            ax.lines[0].set_label("from the first state to this one")
            back = np.r_[self.log_norm_back, 0] / np.log(10)
            shown = np.where(np.isfinite(back), back, np.nan)
            style: Style = {"color": GREEN} | isolated_points(shown)
            ax.plot(shown, linewidth=1.4, label="from this state to the last one", **style)

    @property
    def step_count(self) -> int:
        """T, the number of time steps."""
        return len(self.log_norm)


def subject_of(title: str) -> str:
    """Words for a network in a sentence, from its title.

    >>> subject_of("rhn, depth 5, 64 units"), subject_of("f(x, s)"), subject_of("")
    (' of this RHN', ' of f(x, s)', '')
    >>> subject_of("before training: rhn, depth 5"), subject_of("orthogonal")  # a label
    (' of this RHN', ' of orthogonal')
    """
    name, *rest = re.split(r"(?:, | on )(?![^(]*\))", title.rpartition(": ")[2])
    if name in TOOLKIT_CELLS and rest:
        return f" of this {spoken_name(name)}"
    return f" of {name}" if name else ""


@keywords_of(open_run)
@torch.no_grad()
def products(
    network, x=None, *, s0: State | None = None, progress: Progress = silent, **options
) -> Products:
    """Measure the log norms of two Jacobian products for each step t, (T,) each: from the first
    state to step t, and from step t to the last state. Arguments and errors as for
    `gersgorin.open_run`.

    >>> found = products(lambda x, s: 2 * s + x, torch.zeros(10, 1), s0=torch.zeros(1))
    >>> (found.log_norm / math.log(2)).round(4)[[0, -1]].tolist()  # 2^1, 2^10
    [1.0, 10.0]
    """
    run = open_run(network, x, s0=s0, **options)
    whole = measured(run, lambda A: {}, lambda done, T: progress(done, 2 * T))["log_norm_product"]
    back = log_norms_back(run, lambda done, T: progress(T + done, 2 * T))
    return Products(log_norm=whole, log_norm_back=back, **run.labels)


def log_norms_back(run: Run, progress: Progress) -> np.ndarray:
    """Log norms of the products from each step to the last state: log ||A[T-1] ... A[t]||_2,
    (T,).
    """
    product, logs, exponents = RunningProduct(), [], []
    for now, A, e in scaled_blocks(run, back=True):
        logs += [product.multiply(step).log_norm() for step in A.mT.flip(0)]
        exponents.append(e.flip(0))
        progress(len(run) - now.start, len(run))
    return _logs(logs, exponents)[::-1]


def scaled_blocks(run: Run, *, back: bool = False) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield (slice of steps, M, integers e) for the Jacobians M 2^e (steps, N, N); e is 0 unless a
    Jacobian over- or underflows. back: yield the last block first.
    """
    for now, A in run.blocks(back=back):
        yield now, *run.cell.scaled("jacobian", A, run.inputs[now], run.states[:-1][now])


def measured(
    run: Run,
    measure: Callable[[Tensor], dict[str, Tensor]],
    progress: Progress,
    without_scale: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Measure all Jacobians of a run, block by block. Returns arrays {name: (T, ...)}: the measures
    that the function `measure` returns, and log_norm_product, which is log ||A[t] ... A[0]||_2.

    A measure is NaN at a step whose Jacobian over- or underflows. `without_scale` names the
    exceptions: measures that do not change if a matrix is multiplied by a factor.
    """
    product, logs, exponents, parts = RunningProduct(), [], [], []
    for now, A, e in scaled_blocks(run):
        found = measure(A)
        for name in found.keys() - {*without_scale}:
            found[name] = _without(found[name], e != 0)
        parts.append({name: values.cpu().numpy() for name, values in found.items()})
        logs += [product.multiply(step).log_norm() for step in A]
        exponents.append(e)
        progress(now.stop, len(run))
    return join_steps(parts) | {"log_norm_product": _logs(logs, exponents)}


def _without(values: Tensor, lost: Tensor) -> Tensor:
    """Values (steps, ...), with NaN at the steps that are lost."""
    return (
        values
        if not lost.any()
        else values.masked_fill(
            lost.to(values.device).reshape(-1, *[1] * (values.dim() - 1)), torch.nan
        )
    )


def _logs(log_norms: list[Tensor], exponents: list[Tensor]) -> np.ndarray:
    """Add the exponents of the factors to the logarithms (T,) of the norms of products."""
    logs = torch.stack(log_norms)
    lost = torch.cat(exponents).cumsum(0).double() * math.log(2)
    return (logs + lost).to(logs.dtype).cpu().numpy()


def join_steps(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Join the arrays of consecutive steps, by name."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
