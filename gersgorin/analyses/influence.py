"""Measure how far back a model looks: how strongly each output, or the loss of each frame, depends
on each earlier input.

    found = influence(model, x)                                    of the outputs
    found = influence(model, x[:-1], of="squared", y=x[1:])        of a loss
    found.influence[t2, t1]    || d o[t2] / d x[t1] ||_F
    found.by_lag[k]            root mean square over all pairs t2 - t1 = k

Only inputs and outputs count, so recurrences, convolutions and attention can be compared. The
square of an influence is the variance of o[t2] for a small white-noise perturbation of x[t1],
divided by the variance of the perturbation. The influence is computed exactly from k
vector-Jacobian products for each output (one for a loss). For long runs it is Hutchinson's estimate
from a few products with random signs v: E ||v^T J||^2 = ||J||_F^2.

Legend: T time steps; B sequences; m numbers of an input; S outputs (T, or 1 if there is one output
for each sequence); k numbers of an output; lag t2 - t1.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from gersgorin.analyses.fall import FITS, Fall, fall_of
from gersgorin.analyses.growth import SAME, ZERO
from gersgorin.linalg.products import share_from, vanishes_at
from gersgorin.losses import Loss, name_of_loss
from gersgorin.network.sequence_map import (
    OUTPUTS,
    ModelWithData,
    SequenceMap,
    scaled_norm,
    sequence_map,
)
from gersgorin.run.run import Progress, silent
from gersgorin.run.state import Sizes, State
from gersgorin.validate import with_gradients
from rhn.errors import InvalidInputError
from rhn.plotting.figure import Block, WholeTicks, colour_norm, heat_map, isolated_points
from rhn.utils.figures import BLUE, GREY, ORANGE
from rhn.utils.old import (
    Result,
    counted,
    fits,
    percent,
    plain,
    sentence,
    table_rows,
    time_label,
    typed,
)
from rhn.utils.validation import check_seed, in_short, whole_number

EXACT = 1 << 14  # products, S k, up to which the influence is exact by default
PROBES = 16  # random vectors for each output otherwise
PARTS = 10  # of a sequence
EQUAL = 1e-9  # of the largest influence: a difference by rounding
TENTH = 0.9  # of the largest influence: nearer ones are not ranked
ROUNDING = 1e-12  # of the squared influence
AGAIN = 2  # times the longest stretch below half so far: one that is shorter may end as well
LAW = 2  # lags, from which on the notes state the law of the fall


@dataclass(frozen=True, kw_only=True, repr=False)
class Influence(Result, kind="influence"):
    """The influence of each input on each output, or on the loss of each frame. For several
    sequences, the influence is the root mean square over the sequences.

    >>> found = influence(nn.GRU(2, 4), torch.rand(12, 1, 2))
    >>> found.influence.shape, [*found.table()[0]]
    ((12, 12), ['lag', 'influence', 'error', 'share', 'share_beyond', 'fit'])
    """

    influence: np.ndarray
    """influence[t2, t1] = ||d o[t2] / d x[t1]||_F, (T, T); (1, T) if each sequence has one output
    or one loss, which belongs to the last step. T is the length of the longest sequence.
    """
    error: np.ndarray
    """Standard error of each influence, with the same shape; 0 if the influence is exact."""
    of: str = OUTPUTS
    """What depends on the inputs: "outputs", or the name of the loss."""
    output: str = ""
    """The output that was measured if the model returns several: "output 1 of 2"."""
    probes: int = 0
    """Number of random vectors for each output; 0: the influence is exact."""
    feature: int | None = None
    """Index of the input feature whose influence was measured, from 0; None: the norm over all."""
    sequences: int = 1
    """Number of sequences; the influence is the root mean square over them."""
    without: int = 0
    """Number of outputs, over all sequences, that depend on no input, as in padding; their
    influence counts as 0. If each sequence has one output: the number of outputs that do not depend
    on the last input.
    """
    unit: str = "steps"
    """Length of one time step."""

    @cached_property
    def by_lag(self) -> np.ndarray:
        """Root mean square of the influence at each lag t2 - t1 = 0..T-1, over all pairs with this
        lag, (T,).

        Each pair counts once, even if several sequences are long enough to have it.
        """
        return np.array(
            [math.hypot(*pairs) / math.sqrt(len(pairs)) for pairs in _by_lag(self.influence)]
        )

    @property
    def _top(self) -> int:
        """The first lag with the largest influence, up to rounding."""
        by_lag = self.by_lag
        alike = by_lag >= by_lag.max() * (1 - EQUAL)
        return int((alike if alike.any() else by_lag).argmax())

    @property
    def _near_largest(self) -> np.ndarray:
        """The lags with at least half of the largest influence, up to rounding."""
        by_lag = self.by_lag
        return np.flatnonzero(by_lag >= by_lag[self._top] / 2 * (1 - EQUAL))

    @property
    def _ranked(self) -> bool:
        """True if the influence rises as an exponential and no later lag is within a tenth of the
        largest influence, or if no other lag is.
        """
        near = np.flatnonzero(self.by_lag > TENTH * self.by_lag[self._top])
        rises = math.isfinite(self.doubling_time) and near[-1] == self._top
        return rises or len(near) == 1

    @property
    def _positive(self) -> int:
        """Number of lags from the one with the largest influence to the first one without
        influence, or with one too small for full precision.
        """
        tail = np.append(self.by_lag[self._top :], 0)
        return int((tail >= np.finfo(tail.dtype).tiny).argmin())

    @property
    def _is_constant(self) -> bool:
        """True if the influence changes only by rounding from lag to lag."""
        by_lag = self.by_lag
        return bool(by_lag.max() - by_lag.min() <= len(by_lag) * SAME * by_lag.max())

    @property
    def by_lag_error(self) -> np.ndarray:
        """Standard error of `by_lag`, (T,); the errors of different outputs are independent."""
        of_sums = [
            np.linalg.norm(pairs) / len(pairs) for pairs in _by_lag(self.influence * self.error)
        ]
        by_lag = self.by_lag
        return np.divide(of_sums, by_lag, out=np.zeros(len(by_lag)), where=by_lag > 0)

    @property
    def share(self) -> np.ndarray:
        """Share of each lag in the sum of the squares of `by_lag`, (T,). The shares add up to 1;
        NaN without influence.
        """
        return _shares(np.square(_scaled(self.by_lag)))

    @property
    def reach(self) -> np.ndarray:
        """Share of the 2-norm of `by_lag` that comes from each lag and all longer lags, (T,); 1 at
        lag 0. NaN without influence.
        """
        return share_from(self.by_lag)

    @property
    def parts(self) -> np.ndarray:
        """Share of each tenth of the inputs in the sum of all squared influences, (10,); the share
        of each input if there are fewer than 10 inputs. An early input is summed over more outputs
        than a late one.
        """
        inputs = np.square(_scaled(self.influence)).sum(0)
        tenths = np.array_split(inputs, min(PARTS, len(inputs)))
        return _shares(np.array([tenth.sum() for tenth in tenths]))

    @property
    def half_life(self) -> float:
        """Number of lags from the largest value of `by_lag` until `by_lag` stays at or below half
        of this value. Between two lags the logarithm is interpolated: for an influence r^k the
        half-life is log 2 / -log r. If the influence drops to 0 at the second of these lags, the
        half-life is a whole number.

        The half-life is inf if the influence is above half of its largest value at the end, or may
        rise above half again. It may rise again if the last lags at or below half are too few:
        fewer than twice the longest stretch of such lags between two lags above half. The half-life
        is NaN if all influences are 0, or one is NaN.
        """
        tail, above = self.by_lag[self._top :], self._lags_above_half
        if not len(above):
            return math.nan
        if not self._within:
            return math.inf
        last, after = tail[above[-1]], tail[above[-1] + 1]
        part = np.log(2 * last / tail[0]) / np.log(last / after) if after > 0 else 1.0
        return float(above[-1] + min(part, 1.0))  # half up to rounding is half

    @property
    def doubling_time(self) -> float:
        """Number of lags in which the influence doubles while it rises. An exponential is fitted to
        the lags from 0 to the lag with the largest influence. NaN if no exponential describes this
        rise, by the conditions of `fall`.
        """
        rise = fall_of(self.by_lag[self._top :: -1])
        return math.log(2) / rise.rate if rise.law == "exponential" else math.nan

    @cached_property
    def fall(self) -> Fall:
        """The law by which `by_lag` falls, starting at the lag with the largest influence."""
        return fall_of(self.by_lag[self._top :], self._top, self._top)

    @property
    def _described(self) -> tuple[int, Fall]:
        """(First lag, law) of the fall from the lag with the largest influence on. If no law is
        named there: of the fall behind the first lags, which hold 95 % of the squared influence.
        """
        top = self._top
        if self.fall.law or np.isnan(self.share).any():
            return top, self.fall
        held = self.share[top:].cumsum()
        first = top + int(np.argmax(held >= FITS * held[-1])) + 1
        return first, fall_of(self.by_lag[first:], first, top)

    @property
    def effective_length(self) -> float:
        """Sum of `by_lag` divided by its largest value: T if all inputs have the same influence, 1
        / (1 - r) for an influence r^k.
        """
        by_lag = self.by_lag
        return float(by_lag.sum() / by_lag.max()) if by_lag.max() > 0 else 0.0

    def share_beyond(self, lag: int) -> float:
        """Share of the squared influence, summed over lags, that comes from inputs more than `lag`
        steps back.
        """
        lag = whole_number("lag", lag, 0)
        return float(np.nan_to_num(self.share[lag + 1 :]).sum())

    @property
    def ahead(self) -> float:
        """Share of the squared influence that comes from inputs later than the output: 0 for a
        causal model.
        """
        squares = np.square(_scaled(self.influence))
        later = 1 + squares.shape[1] - len(squares)
        return float(np.triu(squares, later).sum() / squares.sum()) if squares.any() else 0.0

    @property
    def finding(self) -> str:
        """A clause about the half-life, or about the lag with the largest influence."""
        by_lag, top, what = self.by_lag, self._top, f"The {self._what}"
        if np.isnan(by_lag).any():
            return f"{what} is not known: it has NaN"
        if not self.influence.any():
            return f"{what} is {ZERO}"
        if not by_lag.any():
            return f"{what} is {ZERO} at all {counted(len(by_lag), 'lag')}"
        if not by_lag[1:].any() and not self.ahead:
            return f"{what} is {ZERO} for every input of another step"
        if self._is_constant:
            return f"{what} is the same at all {counted(len(by_lag), 'lag')}"
        if not top:
            return f"{what} {self._decay()}"
        if self._ranked:
            return f"{what} is largest {_steps(top)} back"
        near = self._near_largest
        first, last = near[[0, -1]]
        at = "all" if len(near) == last - first + 1 else f"{len(near)} of the"
        return f"{what} is about as large (up to a factor of 2) at {at} lags from {first} to {last}"

    def sentences(self) -> Iterator[str]:
        """Yield the sentences that a command prints first. A caution precedes the finding if
        losses, or outputs of several sequences, count as 0, since they may be masked or padding.
        """
        if self._counted_as_0 and self.influence.any():
            yield sentence(self._counted_as_0)
        yield from super().sentences()

    def notes(self) -> list[str]:
        """Sentences about the rise and fall of the influence, later inputs, outputs of one sequence
        without influence, the output that was measured, the mean, and the standard error.
        """
        by_lag = self.by_lag
        if np.isnan(by_lag).any() or not (by_lag[1:].any() or self.ahead):
            return []
        sentences = [
            sentence(self._rise(), self._further_back()),
            sentence(self._law(), self._end()),
            sentence(self._later_inputs()),
            sentence("" if self._counted_as_0 else self._outputs_without()),
            sentence(self._which_output(), self._origin_of_mean(), self._largest_error()),
        ]
        return [*filter(None, sentences)]

    def _rise(self) -> str:
        """A clause of the notes; "" if there is nothing to state. The next functions return the
        same.
        """
        if not self._top:
            return ""
        if math.isfinite(self.doubling_time):
            return f"up to lag {self._top} it doubles every {_steps(self.doubling_time)}"
        first, most = self.by_lag[[0, self._top]]
        return f"it is {first:.3g} at lag 0 and largest, {most:.3g}, at lag {self._top}"

    def _further_back(self) -> str:
        if not self._top or self._first_half is None:
            return ""
        if not self._within:
            return f"it is above half of this again as late as {self._last_above}"
        return f"it stays at or below half of this from lag {self._top + self._within} on"

    def _law(self) -> str:
        """A clause about the law by which the influence falls, or that no law is named."""
        if self._positive < LAW or self._is_constant:
            return ""
        (first, law), top = self._described, self._top
        fitted = f"fitted to lags {first} to {first + int(np.isfinite(law.fit).sum()) - 1}"
        fit = f"R^2 {law.r_squared:.3f} of its logarithm"
        if law.law == "exponential":
            words = f"an exponential {fitted} halves every {_steps(math.log(2) / law.rate)} ({fit})"
        elif law.law:
            power = f"{_above(law.origin - 1)}^-{law.rate:.3g} at lag k"
            words = f"a power law {fitted} is nearer than an exponential: {power} ({fit})"
        elif self.fall.r_squared >= FITS and not self.fall.undecided:
            words = "no law describes the whole fall"
        else:
            falls = self.by_lag[-1] <= TENTH * self.by_lag[top]
            if not falls or self._first_half not in (None, self._within):
                return ""
            n, best = self._positive, self.fall.r_squared
            if best < FITS:
                where = f"lags {top} to {top + n - 1} (R^2 {best:.3f} of its logarithm at best)"
                return f"neither an exponential nor a power law fits {where}"
            return f"{n} lags do not tell whether it falls exponentially or as a power law"
        if first == top:
            return words
        lags = f"lag {top} holds" if first == top + 1 else f"lags {top} to {first - 1} hold"
        held = 100 * self.share[top:first].sum()
        return f"{lags} {held:.3g} % of the squared {self._what}; {words}"

    def _end(self) -> str:
        none, tiny = vanishes_at(self.by_lag), self.by_lag < np.finfo(self.by_lag.dtype).tiny
        if not none:  # all lags: the finding says so
            return ""
        if (zeros := int(tiny.sum())) > len(tiny) - none:
            where = f"at {zeros} of {len(tiny)} lags"
        else:
            where = f"from {_steps(none)} back on"
        return f"it is {ZERO} {where}"

    def _later_inputs(self) -> str:
        share = f"{100 * self.ahead:.3g} % of the squared {self._what}"
        return f"later inputs have {share}" if self.ahead > ROUNDING else ""

    def _outputs_without(self) -> str:
        if not self.without:
            return ""
        last = "the last input" if len(self.influence) == 1 else "any input"
        many = counted(self.without, *(("output",) if self.of == OUTPUTS else ("loss", "losses")))
        return f"{many} without influence of {last} (up to rounding)"

    @property
    def _counted_as_0(self) -> str:
        """A clause about losses of frames, or outputs of several sequences, without influence; ""
        if there are none.
        """
        is_loss, several = self.of != OUTPUTS, self.sequences > 1
        of_frames = is_loss and len(self.influence) > 1
        if not self.without or not (of_frames or several):
            return ""
        padding = (
            "if this is padding, give (x, lengths) to a model that takes lengths, or the sequences "
            "one by one"
        )
        reasons = "; ".join(["masked frames have no loss"] * is_loss + [padding] * several)
        return f"{self._outputs_without()}, counted as 0: {reasons}"

    def _which_output(self) -> str:
        verb = "is measured" if self.of == OUTPUTS else "goes into the loss"
        return f"{self.output} of the model {verb}" if self.output else ""

    def _origin_of_mean(self) -> str:
        several = f"the influence is the root mean square over {self.sequences} sequences"
        return several if self.sequences > 1 else ""

    def _largest_error(self) -> str:
        if not self.probes:
            return ""
        by_lag = self.by_lag
        errors = np.divide(self.by_lag_error, by_lag, out=np.zeros_like(by_lag), where=by_lag > 0)
        return f"the standard error of a lag is at most {percent(errors.max())} of its value"

    @property
    def _what(self) -> str:
        what = "influence of an input" if self.of == OUTPUTS else "gradient of the loss"
        return what if self.feature is None else f"{what} (feature {self.feature}, counted from 0)"

    @property
    def _within(self) -> int:
        """Whole number of lags, from the largest influence on, after which it stays at or below
        half; 0 if it does not, or may not.
        """
        above = self._lags_above_half
        last = int(above.max(initial=0))
        stay = len(self.by_lag) - self._top - 1 - last
        between = int(np.diff(above).max(initial=1)) - 1
        return last + 1 if stay and stay >= AGAIN * between else 0

    @property
    def _lags_above_half(self) -> np.ndarray:
        """The lags, counted from the largest influence, at which the influence is above half of the
        largest by more than rounding.
        """
        tail = self.by_lag[self._top :]
        return np.flatnonzero(tail > tail[0] / 2 * (1 + EQUAL))

    @property
    def _last_above(self) -> str:
        """The last lag at which the influence is above half, in words: "lag 48 of 49"."""
        return f"lag {self._top + self._lags_above_half[-1]} of {len(self.by_lag) - 1}"

    @property
    def _first_half(self) -> int | None:
        """Number of lags, from the largest influence on, after which it is at most half for the
        first time; None if this never happens.
        """
        lags = np.arange(len(self.by_lag) - self._top)
        half = np.setdiff1d(lags, self._lags_above_half)
        return int(half[0]) if len(half) else None

    def _decay(self) -> str:
        """The fall of the influence to half, from lag 0 on, as the end of a clause."""
        first = self._first_half
        if first is None:
            return f"does not fall to half within {_steps(len(self.by_lag) - 1)}"
        fall = f"falls to half within {_steps(first)}"
        if not self._within:
            return f"{fall}, and is above half again as late as {self._last_above}"
        if first == self._within:
            return fall
        lags = f"lag {self._within} to {len(self.by_lag) - 1}"
        return f"{fall}, rises above half again, and stays at or below half from {lags}"

    def _axes(self) -> dict[str, tuple[str, ...]]:
        return {
            "influence": ("output", "input"),
            "error": ("output", "input"),
        }

    def table(self) -> list[dict]:
        """One row per lag: influence, standard error, share of the squared influence, the share
        from longer lags, and the fit of the law by which the influence falls.
        """
        T, (first, law) = len(self.by_lag), self._described
        return table_rows(
            lag=range(T),
            influence=self.by_lag,
            error=self.by_lag_error,
            share=self.share,
            share_beyond=[self.share_beyond(k) for k in range(T)],
            fit=np.append(np.full(first, np.nan), law.fit),
        )

    def derived(self) -> dict:
        """Numbers computed from the influence, for .json files."""
        names = ("half_life", "doubling_time", "effective_length")
        lists = {"by_lag": self.by_lag.tolist(), "parts": self.parts.tolist()}
        fall = self.fall
        law = {name: getattr(fall, name) for name in ("law", "rate", "origin", "r_squared")}
        return lists | {name: getattr(self, name) for name in names} | law

    @property
    def step_count(self) -> int:
        """T, the number of time steps."""
        return self.influence.shape[1]

    def drawn_step(self, step: int | None = None) -> int | None:
        """The time step whose output is drawn; None: the mean over all pairs of an output and an
        input.
        """
        found, (S, T) = super().drawn_step(step), self.influence.shape
        if found is not None and found < T - S:
            raise InvalidInputError(f"step is {found}: expected {T - 1}, the only output")
        return found

    width, marks_step = 8.0, False

    def _blocks(self, panel: Callable[[Axes], object]) -> list[Block]:
        """Panels of the curve by lag and, if the outputs differ, of all pairs of an output and an
        input.
        """
        draws = [panel, self._draw_pairs] if self._differ else [panel]
        return [Block(draws, self.height, 2, least=2.4)]  # with a colour bar

    @property
    def _differ(self) -> bool:
        """True if the influences at one lag differ by a factor of 2 or more. Only lags with at
        least a hundredth of the largest influence count.
        """
        pairs = [each for each in _by_lag(self.influence) if 100 * each.max() >= self.by_lag.max()]
        return any(each.max() >= 2 * each.min() and each.max() > 0 for each in pairs)

    def _draw(self, ax: Axes, *, step: int | None, **_: Any) -> None:
        """Draw the influence by lag on a log scale, with a band of two standard errors: the
        influence on the output of a step, or the mean over all pairs.
        """
        by_lag, error = self._curve(step)
        lags, positive = np.arange(len(by_lag)), by_lag >= np.finfo(by_lag.dtype).tiny
        shown = np.where(positive, by_lag, np.nan)
        ax.plot(lags, shown, color=BLUE, label=self._what, **isolated_points(shown))
        if error.any():
            low = np.maximum(by_lag - 2 * error, by_lag / 100)
            ax.fill_between(lags, low, by_lag + 2 * error, color=BLUE, alpha=0.25, linewidth=0)
        if positive.any():
            if step is None:
                self._draw_half(ax)
            ax.set_yscale("log")
            ax.set_ylim(np.nanmin(shown) / 3, 2 * by_lag.max())
        else:
            ax.text(0.5, 0.5, ZERO, ha="center", va="center", transform=ax.transAxes, color=GREY)
        ax.set_xlim(0, max(1, lags[-1]))
        ax.xaxis.set_major_locator(WholeTicks(6))
        what = "lag $t_2 - t_1$" if len(self.influence) > 1 else "steps before the last"
        ax.set(xlabel=time_label(self.unit, what), ylabel=f"{self._what} (Frobenius norm)")

    def _curve(self, step: int | None) -> tuple[np.ndarray, np.ndarray]:
        """(Influence by lag, its standard error) for all outputs, or for the output of one step."""
        if step is None:
            return self.by_lag, self.by_lag_error
        S, T = self.influence.shape
        row = step - (T - S)
        return self.influence[row, step::-1], self.error[row, step::-1]

    def _draw_half(self, ax: Axes) -> None:
        """Draw a line at half of the largest influence, and one at the lag from which on the curve
        stays at or below it.
        """
        life, top = self.half_life, self._top
        half = self.by_lag.max() / 2
        ax.axhline(half, label="half of the largest", color=GREY, linestyle=":", linewidth=1)
        if np.isfinite(life):
            label = f"half at lag {top + life:.3g}"
            ax.axvline(top + life, label=label, color=ORANGE, linestyle="--", linewidth=1)

    def _draw_pairs(self, ax: Axes) -> None:
        """Draw the heat map of all pairs of an output and an input."""
        colours, positive = colour_norm(self.influence), self.influence[self.influence > 0]
        if positive.size:
            colours.vmin = max(colours.vmin or 0.0, 10.0 ** np.floor(np.log10(positive.min() / 2)))
        image = heat_map(ax, self.influence, colours)
        what = "output" if self.of == OUTPUTS else "loss"
        ax.set(
            xlabel=time_label(self.unit, "input $t_1$"),
            ylabel=time_label(self.unit, f"{what} $t_2$"),
        )
        ax.figure.colorbar(
            image, ax=ax, label=f"{self._what} (Frobenius norm)", extend="min", aspect=40
        )


def _by_lag(of_pairs: np.ndarray) -> list[np.ndarray]:
    """The numbers of all pairs at each lag t2 - t1 = 0..T-1, for the last S outputs (S, T)."""
    S, T = of_pairs.shape
    return [np.diag(of_pairs, T - S - k) for k in range(T)]


def _scaled(values: np.ndarray) -> np.ndarray:
    """Values divided by the largest, so that their squares do not overflow."""
    largest = values.max()
    return values / largest if 0 < largest < np.inf else values


def _shares(squares: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return squares / squares.sum()


def _above(number: int) -> str:
    """The excess of a lag k over a whole number, as a formula.

    >>> _above(-1), _above(0), _above(3)
    ('(k + 1)', 'k', '(k - 3)')
    """
    return f"(k {'-' if number > 0 else '+'} {abs(number)})" if number else "k"


def _steps(lag: float) -> str:
    """A number of steps in words.

    >>> _steps(0.9996), _steps(2.5)
    ('1 step', '2.5 steps')
    """
    words = f"{lag:.3g}"
    return "1 step" if words == "1" else f"{words} steps"


@typed
def influence(
    model: nn.Module | Callable,
    x: Any,
    *,
    of: str | Loss = OUTPUTS,
    y: Any = None,
    batch_axis: int | None = None,
    submodule: str | None = None,
    s0: State | None = None,
    state_size: Sizes | None = None,
    feature: int | None = None,
    probes: int | None = None,
    seed: int = 0,
    unit: str = "",
    progress: Progress = silent,
) -> Influence:
    """Measure how strongly each output of a model, or a loss, depends on each of its inputs.

    The influence is measured on a copy in evaluation mode, in float64 if the model runs in float64.
    Let S be the number of outputs of a sequence, and k the number of entries in one output. The
    exact influence on the outputs needs S k batched backward passes. The influence on a loss needs
    S passes. An estimate needs S passes for each random vector. The memory is that of the autograd
    graph of one run, plus 4 million numbers.

    Args:
        model: any torch module or function with one output for each time step, or one for the
            sequence. The model can be recurrent, convolutional, or use attention. If the model
            returns several outputs (a tuple, a dictionary), the first one counts, and the notes of
            the result name it. A step f(x, s) is run along x. Its outputs are what it returns in
            addition to the state; if it returns only the state, its outputs are the states.
        x: the input of the model, as in your own training loop: numbers (T, m), (B, T, m) or (T, B,
            m), token ids (T,), (B, T) or (T, B), or a packed sequence. x can also be a tuple or a
            dictionary of arguments; the first tensor of floating-point numbers is the sequence. For
            token ids, the inputs are the vectors of their embedding. For several sequences, the
            result is the root mean square over them; a model that mixes sequences is refused.
        of: "outputs", or a loss. The losses by name are "bernoulli"; "squared" or "mse", half the
            sum of squares of a frame; and "categorical" or "cross_entropy". A loss can also be a
            function loss(outputs, y) that returns one number for each frame, one for each sequence,
            or one for all. For a loss, the entry (t2, t1) is the gradient of the loss of frame t2
            with respect to x[t1].
        y: targets of a loss: numbers or a class for each frame or each sequence. A frame of class
            -100 has no loss, as in torch's cross entropy. Such frames at the end of a sequence are
            left out as padding, unless a loss depends on their inputs.
        batch_axis: the axis of the batch in x, 0 or 1; None: the axis that `batch_first` of a part
            of the model declares, or else the axis of length 1.
        submodule: the part of the model whose outputs are measured, by its name in
            `named_modules`; None: the whole model.
        s0, state_size: the first state of a step f(x, s), or the size of a state that starts at
            zero; see `gersgorin.open_run`.
        feature: the number, 0 to m - 1, of the input entry whose influence is measured; None: the
            norm over all m.
        probes: number of random vectors for each output, at least 2, for an estimate. 0: the exact
            influence. None: the exact influence if S k is at most 16384 or k is at most 16,
            otherwise an estimate with 16 vectors.
        seed: seed of the random vectors.
        unit: length of one time step, for the axes of figures, such as "0.1 s".
        progress: called with (outputs done, outputs in all).

    Raises:
        InvalidInputError: x, y, the model or the loss do not fit each other; probes out of range.

    >>> weights = 0.5 ** torch.arange(4, dtype=torch.float64)[:, None]
    >>> found = influence(lambda x: torch.cumsum(weights * x, 0), torch.ones(4, 1))
    >>> found.influence[3].tolist(), found.influence[0].tolist()
    ([1.0, 0.5, 0.25, 0.125], [1.0, 0.0, 0.0, 0.0])
    """
    if y is not None and isinstance(of, str) and of == OUTPUTS:
        raise InvalidInputError("y is given without a loss: add of=, such as 'squared'")
    subject = ModelWithData(
        model=model, x=x, y=y, submodule=submodule, s0=s0, state_size=state_size
    )
    options = {"batch_axis": batch_axis, "feature": feature, "probes": probes, "seed": seed}
    found = of_model(subject, of=of, progress=progress, **options)  # type: ignore[arg-type]
    return replace(found, unit=unit or found.unit)


@with_gradients()
def of_model(
    subject: ModelWithData,
    *,
    of: str = OUTPUTS,
    batch_axis: int | None = None,
    feature: int | None = None,
    probes: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Influence:
    """Measure the influence in a model with its sequences; see `influence`."""
    if batch_axis is not None:
        subject = replace(subject, batch_axis=batch_axis)
    loss = None if isinstance(of, str) and of == OUTPUTS else of
    name = OUTPUTS if loss is None else name_of_loss(loss)
    map_ = sequence_map(subject, loss)
    longest = map_.sequences.longest
    S, k = min(longest, len(map_.outputs)), map_.outputs.shape[2]
    probes = _number_of_probes(probes, S, k)
    seed = check_seed(seed)
    if feature is not None and not (fits(feature, int) and 0 <= feature < map_.input_size):
        raise InvalidInputError(
            f"feature is {in_short(feature)}: an input has {map_.input_size} numbers, expected 0 "
            f"to {map_.input_size - 1}"
        )
    generator = torch.Generator("cpu").manual_seed(seed)
    rows, without = [], 0
    for steps in torch.arange(S, device="cpu").split(max(1, map_.at_once // (probes or k))):
        signs = _signs(map_, len(steps), probes, generator) if probes else _units(map_, len(steps))
        *row, alone = _rows(map_, steps.tolist(), signs, feature, estimate=probes > 0)
        rows.append(row)
        without += alone
        progress(int(steps[-1]) + 1, S)
    # pairs that no sequence has: those behind the longest, of one output those before its begin
    read = slice(-longest, None) if S == 1 else slice(longest)
    found, error = (
        torch.cat(parts)[:, read].numpy(force=True) for parts in zip(*rows, strict=True)
    )
    if not np.isfinite(found).all():
        raise InvalidInputError(
            f"{map_.name} has NaN or infinite derivatives along x, as of a gradient that explodes: "
            "give fewer steps, or take gersgorin.products, whose norms are logarithms"
        )
    return Influence(
        influence=found,
        error=error,
        of=name,
        output=map_.output,
        probes=probes,
        feature=feature,
        sequences=map_.sequences.B,
        without=without,
        doubt=map_.doubt() or map_.other_axis(found) or map_.joined_losses(),
        **map_.label.of_result,
    )


def _number_of_probes(probes: int | None, S: int, k: int) -> int:
    """Number of random vectors for each of S outputs of k numbers; 0: exact. Raises
    InvalidInputError for a number that does not fit.
    """
    if probes is None:
        return 0 if S * k <= EXACT or k <= PROBES else PROBES
    probes = plain(probes)
    if not fits(probes, int) or probes < 0 or probes == 1:
        raise InvalidInputError(
            f"probes is {in_short(probes)}: expected a whole number of at least 2, or 0 for the "
            "exact influence"
        )
    return probes


def _units(map_: SequenceMap, n: int) -> Tensor:
    """One unit vector as weights for each number of n outputs, (n, k, B, k)."""
    _, B, k = map_.outputs.shape
    return torch.eye(k, device="cpu")[:, None].expand(n, k, B, k)


def _signs(map_: SequenceMap, n: int, probes: int, generator: torch.Generator) -> Tensor:
    """Random signs as weights of n outputs, (n, probes, B, k)."""
    size = n, probes, *map_.outputs.shape[1:]
    return torch.randint(2, size, generator=generator, device="cpu").mul(2).sub(1)


def _rows(
    map_: SequenceMap, steps: list[int], w: Tensor, feature: int | None, *, estimate: bool
) -> tuple[Tensor, Tensor, int]:
    """(Influence (n, T) of all inputs on the outputs of n steps, its standard error, number of
    outputs without influence), from weights w (n, j, B, k): unit vectors, or random signs.
    """
    sequences = map_.sequences_with(steps)
    norms, without = map_.norms(steps, w.to(map_.outputs), feature)
    norms = scaled_norm(norms, -1) / sequences.sqrt().unsqueeze(1)
    if not estimate:
        found = scaled_norm(norms, 1)
        return found, torch.zeros_like(found), without
    squares = norms.square()
    found = squares.mean(1).sqrt()
    error = torch.where(found > 0, squares.std(1) / (w.shape[1] ** 0.5 * 2 * found), 0)
    return found, error, without
