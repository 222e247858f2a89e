"""Measure the memory of any sequence module: how strongly each output depends on each earlier
input.

    found = memory(module, x)
    found.influence[t2, t1]    || d o[t2] / d x[t1] ||_F
    found.by_lag[k]            root mean square over all pairs t2 - t1 = k

for the inputs x[t] and the outputs o[t] of one sequence.

Only inputs and outputs count, so recurrences, convolutions and attention can be compared.
The square of an influence is the variance of o[t2] for a small white-noise perturbation of x[t1].
It is exact from k vector-Jacobian products for each output, or for long runs Hutchinson's estimate
from a few products with random signs v: E ||v^T J||^2 = ||J||_F^2.

Legend: T steps, m numbers of an input, k numbers of an output.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from gersgorin._validate import with_gradients
from gersgorin.linalg.products import share_from, vanishes_at
from gersgorin.loading.sequence_map import SequenceMap
from gersgorin.run.run import Progress, silent
from rhn.errors import InvalidInputError
from rhn.plotting.figure import WholeTicks, colour_norm, heat_map, panels
from rhn.utils.figures import BLUE, GREY, ORANGE, time_label
from rhn.utils.result import Result, rows_of
from rhn.utils.validation import check_seed

INFLUENCE = "norm of an output's derivative in an input"
EXACT = 1 << 14  # products, T k, up to which the influence is exact by default
PROBES = 16  # random vectors for each output otherwise


@dataclass(frozen=True, kw_only=True, repr=False)
class Memory(Result, kind="memory"):
    """The influence of each input on each output of one sequence."""

    influence: np.ndarray
    """influence[t2, t1] = ||d o[t2] / d x[t1]||_F, (T, T); (1, T) for one output of the sequence,
    which is that of its last step.
    """
    error: np.ndarray
    """Standard error of each influence, of the same shape; 0 if it is exact."""
    probes: int = 0
    """Random vectors for each output; 0: exact."""
    unit: str = "steps"
    """Of one step."""

    @cached_property
    def by_lag(self) -> np.ndarray:
        """Root mean square of the influence over all pairs with t2 - t1 = 0..T-1, (T,)."""
        return np.array(
            [math.hypot(*pairs) / math.sqrt(len(pairs)) for pairs in _by_lag(self.influence)]
        )

    @property
    def by_lag_error(self) -> np.ndarray:
        """Standard error of `by_lag`, (T,), if the errors of different outputs are independent, as
        they are.
        """
        by_lag = self.by_lag
        of_sums = [
            np.linalg.norm(pairs) / len(pairs) for pairs in _by_lag(self.influence * self.error)
        ]
        return np.divide(of_sums, by_lag, out=np.zeros(len(by_lag)), where=by_lag > 0)

    @property
    def half_life(self) -> float:
        """Lag, in steps after the largest influence, from which on `by_lag` is below half of its
        largest; inf if it never is.

        NaN if an influence is. Between two lags the logarithm is interpolated; for an influence r^k
        this is log 2 / -log r.
        """
        by_lag, top = self.by_lag, int(self.by_lag.argmax())
        half = by_lag[top] / 2
        if np.isnan(half):
            return np.nan
        last = int(np.flatnonzero(by_lag >= half)[-1])
        if half == 0:
            return 0.0
        if last == len(by_lag) - 1:
            return np.inf
        after = by_lag[last + 1]
        part = np.log(by_lag[last] / half) / np.log(by_lag[last] / after) if after > 0 else 0.0
        return float(last - top + part)

    @property
    def effective_length(self) -> float:
        """Sum of `by_lag` over its largest value: T for equal influence of all inputs, 1 / (1 - r)
        for r^k.
        """
        by_lag = self.by_lag
        return float(by_lag.sum() / by_lag.max()) if by_lag.max() > 0 else 0.0

    @property
    def reach(self) -> np.ndarray:
        """Share of the influence, in norm, from each lag on, (T,): 1 first; NaN without
        influence.
        """
        return share_from(self.by_lag)

    def share_beyond(self, lag: int) -> float:
        """Share of the squared influence, summed over lags, from inputs more than this number of
        steps back.
        """
        squares = np.square(self.by_lag)
        return float(squares[lag + 1 :].sum() / squares.sum()) if squares.any() else 0.0

    @property
    def ahead(self) -> float:
        """Share of the squared influence from later inputs: 0 for a causal module."""
        squares, later = (
            np.square(self.influence),
            1 + self.influence.shape[1] - len(self.influence),
        )
        return float(np.triu(squares, later).sum() / squares.sum()) if squares.any() else 0.0

    def sentences(self) -> Iterator[str]:
        """Half-life, effective length, share of long lags."""
        T = self.influence.shape[1]
        if not self.influence.any():
            yield "No output depends on any input."
            return
        beyond = min(10, T - 2)
        far = f"more than {_steps(beyond)} back"
        share = f"{100 * self.share_beyond(beyond):.3g} % of the squared influence is from {far}"
        said = (
            f"The influence of an input {self._decay()}; its effective length is "
            f"{self.effective_length:.3g} of {T} steps; {share}."
        )
        if self.probes:
            relative = np.divide(
                self.by_lag_error, self.by_lag, out=np.zeros(T), where=self.by_lag > 0
            ).max()
            said += (
                f" Estimated from {self.probes} random vectors per output; the relative "
                f"error of a lag is at most {relative:.2g}."
            )
        if (none := vanishes_at(self.by_lag)) is not None:
            said += f" From {_steps(none)} back on it is zero, or too small for normal numbers."
        if self.ahead > 0:
            said += f" {100 * self.ahead:.3g} % of all influence is from later inputs."
        yield said

    def _decay(self) -> str:
        """The lag of the largest influence and the half-life, as the end of a clause."""
        life, top = self.half_life, int(self.by_lag.argmax())
        longest = len(self.by_lag) - 1
        if top == longest > 0:
            return f"is largest at the longest lag of this sequence, {_steps(top)}"
        if np.isfinite(life):
            words = f"falls below half for good within {_steps(life)}"
        else:
            words = f"does not fall below half within {_steps(longest - top)}"
        return f"is largest {_steps(top)} back, and from there {words}" if top else words

    def table(self) -> list[dict]:
        """One row a lag: its influence, the standard error, and the share of squared influence from
        longer lags.
        """
        T = self.influence.shape[1]
        shares = [self.share_beyond(k) for k in range(T)]
        return rows_of(
            lag=range(T), influence=self.by_lag, error=self.by_lag_error, share_beyond=shares
        )

    def derived(self) -> dict:
        """Numbers computed from the influence, for .json files."""
        return {
            "by_lag": self.by_lag.tolist(),
            "half_life": self.half_life,
            "effective_length": self.effective_length,
        }

    @property
    def finding(self) -> str:
        """The first clause of the sentences."""
        words = next(self.sentences()).split(";")[0].rstrip(".")
        return words[0].lower() + words[1:]

    def draw(self, ax: Axes) -> None:
        """The influence by lag on a log scale, with two standard errors, and its half-life."""
        by_lag, lags = self.by_lag, np.arange(self.influence.shape[1])
        shown = np.where(by_lag > 0, by_lag, np.nan)
        ax.plot(lags, shown, color=BLUE, marker="." if len(lags) < 4 else None, label="influence")
        if self.probes:
            low, high = by_lag - 2 * self.by_lag_error, by_lag + 2 * self.by_lag_error
            ax.fill_between(
                lags, np.maximum(low, by_lag / 100), high, color=BLUE, alpha=0.25, linewidth=0
            )
        if by_lag.max() > 0:
            ax.axhline(
                by_lag.max() / 2,
                color=GREY,
                linestyle=":",
                linewidth=1,
                label="half of the largest",
            )
            if np.isfinite(self.half_life):
                at, label = (
                    by_lag.argmax() + self.half_life,
                    f"influence half-life {self.half_life:.3g}",
                )
                ax.axvline(at, label=label, color=ORANGE, linestyle="--", linewidth=1)
            ax.set_yscale("log")
            ax.set_ylim(max(colour_norm(by_lag).vmin, np.nanmin(shown) / 2), 2 * by_lag.max())
        ax.set_xlim(0, len(lags) - 1)
        ax.xaxis.set_major_locator(WholeTicks(6))
        ax.set(
            xlabel=time_label(self.unit, "lag $t_2 - t_1$"), ylabel=f"{INFLUENCE}, RMS over pairs"
        )

    def draw_pairs(self, ax: Axes) -> None:
        """The heat map of all pairs of an output and an input."""
        image = heat_map(ax, self.influence, colour_norm(self.influence))
        ax.set(
            xlabel=time_label(self.unit, "input $t_1$"),
            ylabel=time_label(self.unit, "output $t_2$"),
        )
        ax.figure.colorbar(image, ax=ax, label=INFLUENCE, extend="min", aspect=40)

    plot = panels(8, 3.2, least=2.4)(draw, draw_pairs)  # with a colour bar


def _by_lag(of_pairs: np.ndarray) -> list[np.ndarray]:
    """The numbers of all pairs with t2 - t1 = 0..T-1, of the last S outputs (S, T)."""
    S, T = of_pairs.shape
    return [np.diag(of_pairs, T - S - k) for k in range(T)]


def _steps(lag: float) -> str:
    """
    >>> _steps(0.9996), _steps(2.5)
    ('1 step', '2.5 steps')
    """
    words = f"{lag:.3g}"
    return "1 step" if words == "1" else f"{words} steps"


@with_gradients()
def memory(
    module: nn.Module | Callable | SequenceMap,
    x: Tensor | np.ndarray | None = None,
    *,
    submodule: str | None = None,
    probes: int | None = None,
    seed: int = 0,
    unit: str = "",
    progress: Progress = silent,
) -> Memory:
    """Measure the influence of each input on each output of a module, in float64; the module is
    left as it was.

    Time: T k backward passes, batched (with probes T of them for each probe); memory: the graph of
    one run, and 4 million numbers.

    Args:
        module: any torch module, or function, with one output a step, or one of the sequence:
            recurrent, convolutional, attention, a layer of transformers. See
            `gersgorin.loading.sequence_map.SequenceMap`, which may be given itself, for the layouts
            of x and for ids of tokens.
        x: one sequence.
        submodule: the part whose outputs count while the module reads x, by its name in
            `named_modules`; None: the module.
        probes: random vectors for each output, at least 2; 0: exact (default: exact up to 16384
            outputs in all, else 16).
        seed: of the random vectors.
        unit: of one step, for the axes of time.
        progress: called with (outputs done, outputs in all).

    Raises:
        InvalidInputError: see `SequenceMap`; probes out of range.

    >>> weights = 0.5 ** torch.arange(4, dtype=torch.float64)[:, None]
    >>> found = memory(lambda x: torch.cumsum(weights * x, 0), torch.ones(4, 1))
    >>> found.influence[3].tolist(), found.influence[0].tolist()
    ([1.0, 0.5, 0.25, 0.125], [1.0, 0.0, 0.0, 0.0])
    """
    map_ = (
        module if isinstance(module, SequenceMap) else SequenceMap(module, x, submodule=submodule)
    )
    S, k = map_.outputs.shape
    if probes is None:
        probes = 0 if S * k <= EXACT or k <= PROBES else PROBES
    if probes < 0 or probes == 1:
        raise InvalidInputError(
            f"probes is {probes}: expected a whole number of at least 2, or 0 for the exact "
            "influence"
        )
    check_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for steps in torch.arange(S).split(max(1, map_.at_once // (probes or k))):
        if probes:
            rows.append(_estimated(map_, steps.tolist(), probes, generator))
        else:
            rows.append(_exact(map_, steps.tolist()))
        progress(int(steps[-1]) + 1, S)
    influence, error = (torch.cat(parts).cpu().numpy() for parts in zip(*rows, strict=True))
    if not np.isfinite(influence).all():
        raise InvalidInputError(
            f"{map_.name} has NaN or infinite derivatives along x: expected finite ones"
        )
    labels = map_.label.of_result | ({"unit": unit} if unit else {})
    return Memory(influence=influence, error=error, probes=probes, **labels)


def _exact(map_: SequenceMap, steps: list[int]) -> tuple[Tensor, Tensor]:
    """Influence of all inputs on the outputs of some steps (n, T), and its error 0."""
    k = map_.outputs.shape[1]
    rows = _norms(map_, steps, torch.eye(k).expand(len(steps), k, k))
    found = torch.linalg.vector_norm(rows, dim=1)
    return found, torch.zeros_like(found)


def _estimated(
    map_: SequenceMap, steps: list[int], probes: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The same from random signs, and its standard error."""
    size = len(steps), probes, map_.outputs.shape[1]
    signs = torch.randint(2, size, generator=generator).mul(2).sub(1)
    squares = _norms(map_, steps, signs).square()
    found = squares.mean(1).sqrt()
    return found, torch.where(found > 0, squares.std(1) / (probes**0.5 * 2 * found), 0)


def _norms(map_: SequenceMap, steps: list[int], w: Tensor) -> Tensor:
    """||w[i, j] d o[steps[i]] / d x[t1]|| for weights w (n, b, k): (n, b, T)."""
    pulled = map_.pulled(steps, w.to(map_.outputs))
    return torch.linalg.vector_norm(pulled, dim=3, dtype=torch.float64)
