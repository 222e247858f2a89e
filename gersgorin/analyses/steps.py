"""Gains and gates of the steps of a run, and norms of the products of its Jacobians.

One-step gains do not compose: the norm of a product A[t] ... A[0] is what a gradient over many
steps is multiplied by.

Legend: T steps, L layers of a step, s_l the state after layer l.
"""

import html
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from gersgorin.linalg.products import half_life, running_log_norms
from gersgorin.linalg.spectrum import one_thread
from gersgorin.loading.open import open_run
from gersgorin.run.cell import State
from gersgorin.run.run import Progress, Run, silent
from rhn.errors import InvalidInputError
from rhn.plotting.figure import draw_growth, draw_layers, panels, title_of
from rhn.utils.figures import GREEN
from rhn.utils.keywords import keywords_of
from rhn.utils.result import Result, rows_of
from rhn.utils.wording import counted

# least extreme of the logarithm to report, and how many times its last value
LEVEL, RETURNS = 0.1, 1.2
# least growth to report of a gradient that vanishes in the end, or the opposite
TWICE = math.log(2)
# a tenth of the steps that makes half of the growth is an uneven growth, which has no rate
EVEN = 10


@dataclass(frozen=True, kw_only=True, repr=False)
class Gains(Result, kind="gains"):
    """2-norms of the Jacobians of the input and of each layer: how strongly the input reaches the
    state, and each layer the next.
    """

    input: np.ndarray
    """||ds'/dx||_2 at every step, (T,)."""
    layers: np.ndarray
    """||ds_l/ds_{l-1}||_2 of each layer at every step, (T, L)."""
    unit: str = "steps"
    """Of one step."""

    def sentences(self) -> Iterator[str]:
        """One sentence with the means over the steps."""
        layers = ", ".join(f"{gain:.3g}" for gain in self.layers.mean(0))
        reaches = (
            f"Within a step the input reaches the state with a gain of {self.input.mean():.3g}"
        )
        yield (
            f"{reaches}, and a layer passes the state on with a gain of {layers} (2-norms, "
            "means over the steps)."
        )

    def table(self) -> list[dict]:
        """One row a step: step, input, layer_1, layer_2, ..."""
        return rows_of(step=range(len(self.input)), input=self.input, layer=self.layers)

    @panels(6, 3.2, "gains of the input and of each layer")
    def plot(self, ax=None) -> Axes:
        """One line for the input and one for each layer over time."""
        ax.plot(
            self.input,
            color=GREEN,
            linestyle="--",
            marker="." if len(self.input) == 1 else None,
            label="input",
        )
        return draw_layers(self.layers, self.unit, "2-norm", ax)


@keywords_of(open_run)
@torch.no_grad()
@one_thread()
def gains(
    network="rhn", x=None, s0: State | None = None, *, progress: Progress = silent, **options
) -> Gains:
    """The gains of the input and of each layer along a run; arguments as of
    `gersgorin.open_run`.
    """
    run, inputs, layers = open_run(network, x, s0, **options), [], []
    for now in run.slices():
        inputs.append(torch.linalg.matrix_norm(run.input_jacobians(now), 2))
        layers.append(run.state_gains(now))
        progress(now.stop, len(run))
    return Gains(
        input=torch.cat(inputs).cpu().numpy(), layers=torch.cat(layers).cpu().numpy(), **run.labels
    )


@dataclass(frozen=True, kw_only=True, repr=False)
class GateActivity(Result, kind="gates"):
    """Mean over the units of each layer's gate, 0 closed to 1 open."""

    mean: np.ndarray
    """(T, L); L = 0 for a cell without known gates."""
    gate_name: str = "transform gate"
    """Its name in the cell's literature: an LSTM's is the input gate."""
    unit: str = "steps"
    """Of one step."""
    names: tuple[str, ...] = ()
    """Of the columns of `mean`, for gates(x, s) of the user's; (): they are layers."""

    def sentences(self) -> Iterator[str]:
        """One sentence with the mean of each layer, or of each gate by name."""
        if self.names:
            means = zip(self.names, self.mean.mean(0), strict=True)
            yield f"Open on average: {', '.join(f'{name} {value:.3g}' for name, value in means)}."
        elif self.mean.size:
            layers = ", ".join(f"{value:.3g}" for value in self.mean.mean(0))
            yield f"Its {self.gate_name}s are open by {layers} on average."
        else:
            yield "It has no known gates."

    def table(self) -> list[dict]:
        """One row a step: step, layer_1, layer_2, ..., or the gates by name."""
        if self.names:
            return rows_of(
                step=range(len(self.mean)), **dict(zip(self.names, self.mean.T, strict=True))
            )
        return rows_of(step=range(len(self.mean)), layer=self.mean)

    @panels(6, 3.2, lambda self: title_of(self.title, f"mean {self.gate_name}"))
    def plot(self, ax=None) -> Axes:
        """One line for each layer over time. Raises InvalidInputError if there are no gates."""
        if not self.mean.size:
            raise InvalidInputError(
                f"{' '.join(self.sentences()).removesuffix('.')}: there is nothing to draw"
            )
        ax.set_ylim(0, 1)
        return draw_layers(self.mean, self.unit, "open (0 to 1)", ax, self.names)

    def _repr_html_(self) -> str:
        """The summary and, if there are gates, the figure."""
        return super()._repr_html_() if self.mean.size else f"<pre>{html.escape(repr(self))}</pre>"


@keywords_of(open_run)
@torch.no_grad()
def gates(
    network="rhn", x=None, s0: State | None = None, *, progress: Progress = silent, **options
) -> GateActivity:
    """The mean gate activity of each layer along a run; arguments as of `gersgorin.open_run`."""
    run = open_run(network, x, s0, **options)
    found = run.gates()
    means = [t.mean(-1) for t in found.t]
    mean = (torch.stack(means, 1) if means else run.states.new_empty(len(run), 0)).cpu().numpy()
    progress(len(run), len(run))
    names = run.cell.gate_names if len(found) > 1 else ()
    return GateActivity(mean=mean, gate_name=run.cell.gate_name, names=names, **run.labels)


@dataclass(frozen=True, kw_only=True, repr=False)
class Products(Result, kind="products"):
    """log ||ds[t+1]/ds[0]||_2 of one run, and its rate."""

    log_norm: np.ndarray
    """log ||A[t] ... A[0]||_2, natural logarithm, (T,); -inf from where the product is zero."""
    unit: str = "steps"
    """Of one step."""

    @property
    def exponent(self) -> np.ndarray:
        """Mean growth rate of the worst perturbation a step, log_norm[t] / (t + 1), (T,)."""
        return self.log_norm / np.arange(1, len(self.log_norm) + 1)

    @property
    def half_life(self) -> float:
        """Steps in which the gradient over the whole run halves; negative if it doubles in that
        many.
        """
        return float(half_life(self.exponent[-1]))

    def sentences(self) -> Iterator[str]:
        """The growth of the gradient, and the norm of the whole product."""
        T, norm = len(self.log_norm), float(self.log_norm[-1]) / math.log(10)
        yield (
            f"Over {counted(T, 'step')} {gradient_words(self.log_norm)}: from the last step "
            f"to the first one it is 10^{norm:.4g}."
        )

    def table(self) -> list[dict]:
        """One row a step: step, log_norm, exponent."""
        return rows_of(
            step=range(len(self.log_norm)), log_norm=self.log_norm, exponent=self.exponent
        )

    def brief(self) -> dict[str, float]:
        """Of the whole run."""
        return {
            "log_norm": self.log_norm[-1],
            "exponent": self.exponent[-1],
            "half_life": self.half_life,
        }

    @panels(6, 3.2, "the norm of the products of the steps")
    def plot(self, ax=None) -> Axes:
        """The norm over time on a log scale."""
        return draw_growth(self.log_norm, self.unit, ax)


def gradient_words(log_norm: np.ndarray) -> str:
    """Growth of the products of the steps, from the logarithms of their norms (T,), in words.

    >>> print(gradient_words(np.array([-0.5, -1.0, -1.5])))
    the gradient's norm halves every 1.39 steps
    >>> print(gradient_words(np.full(20, 2.5)))
    the gradient's norm becomes 12.2 times as large, 12.2 times in the first step
    >>> dip = np.array([0.0, -2.0, *np.linspace(0.0, -3.0, 18)])  # it is no part of the growth
    >>> print(gradient_words(dip))
    the gradient's norm halves every 4.62 steps
    >>> print(gradient_words(np.array([0.5, 2.0, 0.1])))
    the gradient's norm becomes 1.11 times as large, after 7.39 times in 2 steps
    >>> print(gradient_words(np.array([1.0, *np.linspace(0, -9, 20)])))  # grows before it vanishes
    the gradient's norm becomes 0.000123 times as large, after 2.72 times in 1 step
    """
    if not len(log_norm) or np.isnan(log_norm).any():
        return "the gradient's growth is not known"
    T, whole = len(log_norm), float(log_norm[-1])
    if whole == -math.inf:
        return "the gradient vanishes entirely"
    # growth of a gradient that vanishes in the end, or the opposite
    against = -np.sign(whole) * log_norm
    turns = abs(whole) > LEVEL and against.max() > TWICE
    k = int((against if turns else np.abs(log_norm)).argmax())
    becomes = f"the gradient's norm becomes {_factor(whole)} times as large"
    becomes = becomes if _factor(whole) != "1" else "the gradient's norm ends as it began"
    if turns or abs(log_norm[k]) > max(LEVEL, RETURNS * abs(whole)):
        return f"{becomes}, after {_factor(log_norm[k])} times in {counted(k + 1, 'step')}"
    if abs(whole) < 1e-6 * T:
        return "the gradient keeps its norm"
    before = np.flatnonzero(log_norm / whole < 0.5)
    half = int(before.max(initial=-1)) + 2  # steps from which on half of its logarithm is reached
    count = min(half, T - half + 1)
    if EVEN * count <= T:
        steps = (
            f"{'first' if count == half else 'last'} "
            f"{'step' if count == 1 else counted(count, 'step')}"
        )
        part = log_norm[count - 1] if count == half else whole - log_norm[T - count - 1]
        return f"{becomes}, {_factor(part)} times in the {steps}"
    every = f"{math.log(2) * T / abs(whole):.3g} steps"
    return (
        f"the gradient's norm {'halves' if whole < 0 else 'doubles'} every "
        f"{'step' if every == '1 steps' else every}"
    )


def _factor(log: float) -> str:
    """A factor from its natural logarithm."""
    return f"{math.exp(log):.3g}" if abs(log) < 20 else f"10^{log / math.log(10):.0f}"


@keywords_of(open_run)
@torch.no_grad()
def products(
    network="rhn", x=None, s0: State | None = None, *, progress: Progress = silent, **options
) -> Products:
    """The norms of the Jacobian products along a run; arguments as of `gersgorin.open_run`."""
    run = open_run(network, x, s0, **options)
    return Products(
        log_norm=measured(run, lambda A: {}, progress)["log_norm_product"], **run.labels
    )


def measured(
    run: Run, measure: Callable[[Tensor], dict[str, Tensor]], progress: Progress
) -> dict[str, np.ndarray]:
    """{name: (T, ...)} of what a function measures of each block of Jacobians, and of
    log_norm_product, log ||A[t] ... A[0]||_2.
    """
    parts = []

    def steps() -> Iterator[Tensor]:
        for now, A in run.blocks():
            parts.append({name: values.cpu().numpy() for name, values in measure(A).items()})
            progress(now.stop, len(run))
            yield from A

    log_norms = torch.stack([*running_log_norms(steps())]).cpu().numpy()
    return joined(parts) | {"log_norm_product": log_norms}


def joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of consecutive steps by name, joined."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
