"""Bound the norm of the product of a run's Jacobians, by products of windows of 1, 2, 4, ... layers and steps.

The bounds are theorems about the matrices that the cell's Jacobians are computed to be, float64 or float32: all that is done with them
afterwards is counted in. What rounding did to the states and to the entries of the Jacobians themselves is not covered. How much that
is, against runs in 60 digits, is measured by `python -m benchmarks.bounds_in_digits`.

Legend: T steps; W window lengths, the shortest first; the kinds of bound are those of `kinds.py`. Logarithms are natural.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin._validate import real_tensor
from gersgorin.bounds.kinds import KINDS, Ledger, Weighted, added, diagonal_norm, quadratic_norm
from gersgorin.bounds.products import Enclosed, exactly, windows
from gersgorin.bounds.rounding import scaled, sum_of_logs_above
from gersgorin.jacobian import layer_jacobians
from gersgorin.own_loop import OwnLoop
from gersgorin.run import run_of
from gersgorin.spectrum import one_thread
from rhn.errors import InvalidInputError
from rhn.result import fitted
from rhn.wording import counted


@dataclass(frozen=True, kw_only=True)
class NormBounds:
    """Bounds on log ||dy[t]/dy[0]||_2, t = 1..T, of the products of the Jacobians as computed.

    The rounding of these products is counted in, that of the Jacobians themselves is not covered.
    """

    title: str
    lengths: tuple[str, ...]
    """The window lengths in words, (W,): "1 layer", "2 layers", "1 step", ..., "85 steps"."""
    window_steps: np.ndarray
    """The same in steps, (W,); 0 for windows of layers within a step."""
    upper: np.ndarray
    """(kinds, W, T), at time t from windows of up to that length; inf where a kind says nothing."""
    lower: np.ndarray
    """(W, T); -inf where none is known: the product may be zero."""
    log_norm: np.ndarray
    """What was measured: log ||dy[t]/dy[0]||_2 in plain float64, (T,); -inf where the product as computed is zero."""
    log_condition: dict[str, float]
    """What changing to each fixed norm costs once a run, log cond(S); without the norms that were not found."""
    kinds: tuple[str, ...] = KINDS
    dtype: str = "float64"
    """In which the Jacobians were computed."""
    unit: str = "steps"
    """What a step is, for the axis of time."""
    about: str = ""
    """How network and sequence came to be, under a figure's title."""

    @property
    def steps(self) -> int:
        """T."""
        return len(self.log_norm)

    @property
    def scope(self) -> str:
        """What the bounds are bounds of."""
        return (
            f"Bounds of the products of the {self.dtype} Jacobians as computed; "
            "the rounding of the Jacobians themselves is not covered"
        )

    @property
    def best(self) -> np.ndarray:
        """The smallest upper bound of any kind, (W, T)."""
        return self.upper.min(0)

    @property
    def exponent(self) -> np.ndarray:
        """The upper bound on the exponent of the whole run for each window length, (W,), per step: the measured one is not above it."""
        return self.best[:, -1] / self.steps

    @property
    def lower_exponent(self) -> np.ndarray:
        """The exponent that the measured one is not below, (W,), per step."""
        return self.lower[:, -1] / self.steps

    @property
    def measured_exponent(self) -> float:
        """log ||dy[T]/dy[0]||_2 / T."""
        return float(self.log_norm[-1] / self.steps)

    @property
    def half_life(self) -> np.ndarray:
        """Upper bounds on the half-life, (W,), in steps on average over the run; inf where the bound does not shrink."""
        return np.array([_half_life(exponent) for exponent in self.exponent])

    @property
    def binding(self) -> list[str]:
        """The kind that binds best for each window length, (W,)."""
        return [self.kinds[k] for k in self.upper[:, :, -1].argmin(0)]

    @property
    def sufficient(self) -> int | None:
        """The first window length whose bound shrinks over the run; None where none does."""
        found = np.flatnonzero(self.exponent < 0)
        return int(found[0]) if len(found) else None

    def rows(self) -> list[dict]:
        """One row a window length, as `gersgorin-plot --norm-bounds --json` prints them."""
        return [
            {
                "window": words,
                "window_steps": int(self.window_steps[w]),
                "exponent_bound": float(self.exponent[w]),
                "half_life_bound": float(self.half_life[w]),
                "above_measured": float(self.exponent[w]) - self.measured_exponent,
                "lower_exponent": float(self.lower_exponent[w]),
                "bound": self.binding[w],
                "exponents": {k: float(v) / self.steps for k, v in zip(self.kinds, self.upper[:, w, -1], strict=True)},
            }
            for w, words in enumerate(self.lengths)
        ]

    def summary(self) -> dict:
        """A JSON object of the numbers that tell."""
        return {
            "about": f"{self.scope}.",
            "measured_exponent": self.measured_exponent,
            "measured_half_life": _half_life(self.measured_exponent),
            "sufficient_window": None if self.sufficient is None else self.lengths[self.sufficient],
            "log_condition": self.log_condition,
            "windows": self.rows(),
        }

    def __repr__(self) -> str:
        return fitted(f"{self.title}, {counted(self.steps, 'step')}\n{bounds_table(self)}")


def bounds_table(bounds: NormBounds) -> str:
    """The bounds on exponents and half-lives by window length, and what they mean, in plain text."""
    lines = [f"{'windows of':<14}{'exponent <=':>13}{'half-life <=':>13}{'exponent >=':>13}   by"]
    for row in bounds.rows():
        numbers = (row["exponent_bound"], row["half_life_bound"], row["lower_exponent"])
        lines.append(f"{row['window']:<14}" + "".join(_cell(v) for v in numbers) + f"   {row['bound']}")
    lines.append(f"{'measured':<14}{_cell(bounds.measured_exponent)}{_cell(_half_life(bounds.measured_exponent))}")
    return "\n".join([*lines, f"{bounds.scope}.", bounds_sentence(bounds)])


def bounds_sentence(bounds: NormBounds) -> str:
    """What the bounds mean, in a sentence: how long a window it takes."""
    T, measured, w = bounds.steps, bounds.measured_exponent, bounds.sufficient
    over = f"over {counted(T, 'step')}"
    if np.isneginf(measured):
        return (
            f"The product as computed is zero {over}. A zero Jacobian may be a rounded one and counts as one rounding unit: "
            f"the norm is at most e^{bounds.best[-1, -1]:.3g}."
        )
    if w is not None:
        return (
            f"Bounded: {over} the gradient halves, on average, at least every {bounds.half_life[w]:.3g} steps, by windows of "
            f"{bounds.lengths[w]} ({bounds.binding[w]}); measured {_half_life(measured):.3g}, by the longest windows "
            f"{bounds.half_life[-1]:.3g}."
        )
    if bounds.lower_exponent.max() >= 0:
        return f"Bounded: {over} the gradient does not vanish; its measured exponent is {measured:.3g} a step."
    if measured < 0:
        return f"No window bounds the gradient below its start {over}: rounding leaves it open."
    return f"No window bounds the gradient below its start {over}; its measured exponent is {measured:.3g} a step."


def _cell(value: float) -> str:
    return f"{'-' if np.isneginf(value) else format(value, '.4g'):>13}"


def _half_life(exponent: float) -> float:
    return -math.log(2) / exponent if exponent < 0 else math.inf


BLOCK = 1 << 22  # numbers of Jacobians computed at once
SAMPLES = 16  # steps on which norms are tried out
Steps = Callable[[], Iterator[list[np.ndarray]]]


@torch.no_grad()
@one_thread()
def norm_bounds(
    cell: nn.Module | Callable | OwnLoop,
    x: Tensor,
    s0: Tensor | None = None,
    *,
    layers: bool = True,
    title: str | None = None,
    unit: str = "steps",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> NormBounds:
    """Bounds on ||dy_t/dy_0|| along a run, from windows of 1, 2, 4, ... layers and steps, of the Jacobians as computed.

    The rounding of the products is counted in. The rounding of the Jacobians themselves, and of the states, is not covered.

    Args:
        cell: what `gersgorin.temporal_jacobian` takes, or a module's own loop (see `gersgorin.recurrent_part`).
        x: inputs (T, m). s0: the first state (n,); zero where None, which a bare callable does not allow.
        layers: also windows of the layers within a step, of a cell that tells its layers' Jacobians.
        title, unit: what the record calls the run and one step of it ("quarter notes").
        progress: called with (steps done, steps in all).

    Raises:
        InvalidInputError: shapes do not fit, or a state or Jacobian is not finite.

    >>> half = norm_bounds(lambda x, s: 0.5 * s.flip(-1), torch.zeros(4, 1).double(), torch.ones(2).double())
    >>> half.lengths, half.half_life.round(6), half.lower_exponent.round(6)
    (('1 step', '2 steps', '4 steps'), array([1., 1., 1.]), array([-0.693147, -0.693147, -0.693147]))
    """
    x = real_tensor("x", x)
    if x.dim() != 2:
        raise InvalidInputError(f"x: expected a tensor (T, m) of one sequence, got {tuple(x.shape)}")
    run = run_of(cell, x, s0)
    s = run.states[:-1]
    if not torch.isfinite(s).all():
        raise InvalidInputError("a state is NaN or infinite along the run: the weights are too large for any bound")
    by_layers = layers and not isinstance(run, OwnLoop) and _tells_its_layers(cell, x, s)

    def steps() -> Iterator[list[np.ndarray]]:
        block = max(1, BLOCK // (s.shape[-1] ** 2 * max(1, getattr(cell, "depth", 1))))
        for start in range(0, len(run), block):
            now = slice(start, start + block)
            found = layer_jacobians(cell, x[now], s[now]) if by_layers else [run.jacobians(now)]
            yield from zip(*(J.double().cpu().numpy() for J in found), strict=True)

    return bounds_of(
        steps,
        len(run),
        title=title or type(cell).__name__,
        unit=unit,
        dtype=f"{s.dtype}".rpartition(".")[2],
        progress=progress,
    )


def bounds_of(
    steps: Steps,
    T: int,
    *,
    title: str = "",
    unit: str = "steps",
    dtype: str = "float64",
    progress=lambda done, total: None,
) -> NormBounds:
    """The bounds of a run whose Jacobians `steps()` gives from the beginning, T times the layers' matrices, the first layer first.

    `dtype`: in which these were computed; its rounding unit is what a zero counts as.

    Raises InvalidInputError for entries that are NaN or infinite.
    """
    norms, zero = _fixed_norms(steps, T), float(torch.finfo(getattr(torch, dtype)).eps) / 2
    along, within, log_norm = Ledger(norms, zero), [], np.empty(T)
    product, exponent = None, 0

    def step_products() -> Iterator[Enclosed]:
        nonlocal product, exponent
        for t, layers in enumerate(steps()):
            ledger = Ledger(norms, zero, first=t == 0)
            for window in windows(map(exactly, layers)):
                ledger.add(window)
            within.append(ledger)
            step = window.product
            product, shift = scaled(step.middle if product is None else step.middle @ product)
            exponent += shift + step.exponent
            with np.errstate(divide="ignore"):
                log_norm[t] = np.log(np.linalg.norm(product, 2)) + exponent * math.log(2)
            progress(t + 1, T)
            yield step

    for window in windows(step_products()):
        along.add(window, known=within[-1].sums[-1] if window.level == 0 else None)
    lengths, upper, lower = _tables(within, along, T)
    constants = [0.0, *(norm.log_condition if norm else 0.0 for norm in norms)]
    return NormBounds(
        title=title,
        unit=unit,
        lengths=tuple(_words(n, unit) for n, unit in lengths),
        window_steps=np.array([n if unit == "step" else 0 for n, unit in lengths]),
        upper=sum_of_logs_above(upper, np.array(constants)[:, None, None]),
        lower=lower,
        log_norm=log_norm,
        dtype=dtype,
        log_condition={kind: norm.log_condition for kind, norm in zip(KINDS[1:], norms, strict=True) if norm},
    )


def _tables(within: list[Ledger], along: Ledger, T: int) -> tuple[list[tuple[int, str]], np.ndarray, np.ndarray]:
    """The window lengths, and the bounds (kinds, W, T) and (W, T) at the ends of the steps."""
    layered, levels = len(within[0].sums) - 1, len(along.sums)
    lengths = [(2**k, "layer") for k in range(layered)] + [(min(2**k, T), "step") for k in range(levels)]
    rows = [list(accumulate((ledger.sums[k] for ledger in within), added)) for k in range(layered)]
    rows += [along.over_time(k, T) for k in range(levels)]
    upper = np.array([[bounds[0] for bounds in row] for row in rows])
    return lengths, upper.transpose(2, 0, 1), np.array([[bounds[1] for bounds in row] for row in rows])


def _fixed_norms(steps: Steps, T: int) -> tuple[Weighted | None, Weighted | None]:
    """A diagonal and a quadratic norm found from the whole run, or None; checks every entry on the way."""
    mean, modulus, samples = 0.0, 0.0, []
    for t, layers in enumerate(steps()):
        if not all(np.isfinite(J).all() for J in layers):
            raise InvalidInputError(f"the Jacobian of step {t} holds NaN or infinity: no bound exists")
        A = functools.reduce(lambda P, J: J @ P, layers)
        mean, modulus = mean + A / T, modulus + np.abs(A) / T
        if t % max(1, -(-T // SAMPLES)) == 0:
            samples.append(A)
    if not np.isfinite(modulus).all() or not modulus.any():
        return None, None
    return diagonal_norm(modulus), quadratic_norm(np.stack(samples), mean)


def _tells_its_layers(cell, x: Tensor, s: Tensor) -> bool:
    try:
        layer_jacobians(cell, x[:1], s[:1])
    except InvalidInputError:
        return False
    return True


def _words(n: int, unit: str) -> str:
    return counted(n, unit)
