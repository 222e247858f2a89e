"""A Lyapunov spectrum as numbers, without torch.

Legend: T counted steps; N entries of a state; k exponents, descending; C points of the convergence curves; b blocks. Exponents are
natural logarithms per step.

How sure the exponents of one run are: from the scatter of consecutive blocks' means, which are not independent.

In b blocks with standard deviation d and a correlation r of each with the next, the mean has the standard error

    d sqrt(s / b),   s = (1 + r) / (1 - r),

as of b / s independent blocks: exact for an autoregression. r is estimated, and from few blocks too low, by about (1 + 3 r) / b
(M. Kendall, Biometrika 41, 1954). Student's quantile for b / s - 1 degrees of freedom makes up for d being estimated too. Larger blocks
know of longer memory, smaller ones are more: of a short run the larger error of two numbers of blocks is taken.

Measured, runs of 20 to 400 steps: two standard errors cover the exponent in 93 % of the runs and more of products of random matrices, a
driven tanh network and Henon's map; where growth is correlated by 0.9 a step in 88 % of the runs of 20 steps and 93 % of those of 40
and more; of a leaky network that forgets 20 % a step in 77 to 89 % of those of 20 and 40. Errors of independent steps are 1.2 times as
large as they should be, of short runs 1.7 times.

Legend: C pieces of the run, k exponents, b blocks.

What the steps of a run do to small changes of the state: the maps Q -> A[t] Q, one after another, no Jacobian kept.

A[t] = ds[t+1]/ds[t]. The run goes on in blocks of steps, as many as fit a fixed number of entries. Within one,

    a cell with closed forms        all layers' Jacobians of the block at once; Q goes through the layers one by one
    anything else, small states     the Jacobians of the block by autograd, batched over its steps
    anything else                   no Jacobian at all: one forward-mode product A[t] q for each of the k columns

Legend: T steps; m inputs; N entries of a state; Q (N, k), a frame of k directions.

Growth rates of a frame of directions that is carried along by linear maps (G. Benettin et al., Meccanica 15, 1980).

A frame of k directions flattens: all of them turn to the one that grows fastest. A QR decomposition every few steps sets them
upright again, A[t] ... A[t'] Q = Q' R, and log |R_ii| is what the i-th one grew by. The sum over i is the growth of the frame's
volume, exactly: for a full frame the sum of log |det A|, whatever the frame.

`gersgorin.lyapunov`: from a cell, or any step, and its inputs to its leading Lyapunov exponents.

Nothing grows with the length of the run but the inputs that were given: Jacobians are multiplied and forgotten
(`gersgorin.analyses.lyapunov`), growth is added up in at most 240 blocks.

A Lyapunov spectrum in plain text.

Lyapunov spectra drawn from their records: the exponents with their errors, and how the estimates settled.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from scipy.special import stdtrit
from torch import Tensor, nn
from torch.func import jvp, vmap

from gersgorin._validate import real_tensor
from gersgorin.jacobian import (
    Step,
    converted,
    in_a_module,
    layer_jacobians,
    state_size_of,
    step_of,
    temporal_jacobian,
    trajectory,
    transformed,
)
from gersgorin.linalg.spectrum import one_thread
from gersgorin.own_loop import OwnLoop
from gersgorin.plotting.figure import Shown, laid_out, own_axes, plain_numbers
from gersgorin.plotting.spectra import (
    COLOURS,
    DASHED,
    MARKERS,
    as_list,
    complete,
    legend_beside,
    line_style,
    shade_style,
    titled_all,
    told_apart,
)
from rhn.errors import InvalidInputError
from rhn.fields import check_seed
from rhn.figures import drawable, our_style
from rhn.result import Result


@dataclass(frozen=True, kw_only=True, repr=False)
class LyapunovSpectrum(Result):
    """The k leading exponents of one run, how sure they are, and how they came about."""

    exponents: np.ndarray
    """(k,), descending; -inf for a direction that is lost."""
    standard_errors: np.ndarray
    """(k,), twice which are intervals of 95 %: from the scatter of consecutive blocks' means and its memory, see
    `gersgorin.analyses.lyapunov`. Of this run alone; NaN for fewer than 20 steps, or 10 QR decompositions: too short to say."""
    curve_steps: np.ndarray
    """(C,) steps after which the running estimates stand; the last is T."""
    curve: np.ndarray
    """(C, k) the exponents of the first steps of the run alone."""
    state_size: int
    """N."""
    warmup: int
    """Steps run before any was counted."""
    every: int
    """Steps between two QR decompositions."""
    title: str = ""
    """What a figure calls the run."""
    unit: str = "steps"
    """What a step is, for the axis of time."""
    about: str = ""
    """How network and sequence came to be, under a figure's title."""

    @property
    def steps(self) -> int:
        """T."""
        return int(self.curve_steps[-1])

    @property
    def complete(self) -> bool:
        """Whether these are all exponents, k = N: their sum is then the mean of log |det A[t]|."""
        return len(self.exponents) == self.state_size

    @property
    def tells_errors(self) -> bool:
        """Whether the run was long enough for standard errors."""
        return not np.isnan(self.standard_errors).all()

    @property
    def sum(self) -> float:
        """Sum of the k exponents: the mean log growth a step of k-dimensional volumes."""
        return float(self.exponents.sum())

    @property
    def kaplan_yorke(self) -> float:
        """The Kaplan-Yorke dimension; NaN where more exponents are needed to tell."""
        return kaplan_yorke_dimension(self.exponents, complete=self.complete)

    def summary(self) -> dict:
        """JSON-ready."""
        arrays = {name: getattr(self, name).tolist() for name in ("exponents", "standard_errors")}
        counts = {name: getattr(self, name) for name in ("steps", "warmup", "every", "state_size", "complete", "sum")}
        curve = {"steps": self.curve_steps.tolist(), "exponents": self.curve.tolist()}
        return (
            {"title": self.title, "unit": self.unit}
            | arrays
            | {"kaplan_yorke": self.kaplan_yorke}
            | counts
            | {"curve": curve}
        )


def kaplan_yorke_dimension(exponents: np.ndarray, *, complete: bool = True) -> float:
    """j + (l_1 + ... + l_j) / |l_{j+1}|, with the largest j whose sum is not negative (J. Kaplan, J. Yorke 1979).

    0 where the first is negative: everything ends on one orbit. Without a negative partial sum it is the number of exponents where
    they are `complete`, and NaN where there may be more, or where one of them is NaN. Their order does not matter.

    >>> round(kaplan_yorke_dimension(np.array([0.906, 0.0, -14.572])), 3)  # Lorenz's attractor
    2.062
    """
    exponents = -np.sort(-np.asarray(exponents, dtype=float))
    if np.isnan(exponents).any():
        return math.nan
    sums = np.cumsum(exponents)
    negative = np.flatnonzero(sums < 0)
    if len(negative) == 0:
        return float(len(exponents)) if complete else math.nan
    j = int(negative[0])
    return j + (float(sums[j - 1]) / abs(float(exponents[j])) if j else 0.0)


BLOCKS = 20, 10
LEAST_STEPS = 20  # of a run that says anything of its errors
LONG = 100  # steps from which 20 blocks are long enough


def standard_errors(lengths: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """(k,), twice which are 95 % intervals, from the steps (C,) and the growth (C, k) of consecutive pieces of the run.

    NaN for fewer than 20 steps, or 10 pieces: too short to say.
    """
    if lengths.sum() < LEAST_STEPS or len(lengths) < min(BLOCKS):
        return np.full(sums.shape[1], np.nan)
    blocks = BLOCKS if lengths.sum() < LONG else BLOCKS[:1]
    return np.max([_of_blocks(_means(lengths, sums, b)) for b in blocks if b <= len(lengths)], axis=0)


def _means(lengths: np.ndarray, sums: np.ndarray, blocks: int) -> np.ndarray:
    """(b, k), of consecutive blocks of (nearly) equal length."""
    pieces = np.array_split(np.arange(len(lengths)), blocks)
    return np.array([sums[piece].sum(0) / lengths[piece].sum() for piece in pieces])


def _of_blocks(means: np.ndarray) -> np.ndarray:
    """(k,) from the means (b, k) of blocks; NaN where one is infinite."""
    b = len(means)
    with np.errstate(invalid="ignore", divide="ignore"):
        rest = means - means.mean(0)
        squares = (rest * rest).sum(0)
        r = np.where(squares > 0, (rest[1:] * rest[:-1]).sum(0) / squares, 0)
        r = np.clip(r + (1 + 3 * r) / b, 0, 1 - 2 / b)
        s = (1 + r) / (1 - r)
        student = stdtrit(np.maximum(b / s - 1, 1.5), 0.975) / 2
        return np.sqrt(squares / (b - 1) * s / b) * student


BLOCK = 1 << 21  # entries of Jacobians, or of states, held at once
LONGEST = 4096  # steps of a block, however small they are: autograd holds several times as much
SMALL = 100  # entries of a state up to which Jacobians by autograd, of many steps at once, are cheaper than products step by step

Tangent = Callable[[Tensor], Tensor]


def tangent_maps(cell: nn.Module | Step, x: Tensor, s: Tensor) -> Iterator[Tangent]:
    """The map Q (N, k) -> A[t] Q for t = 0..T-1, of a run from s (N,) over x (T, m).

    Raises:
        InvalidInputError: a step that returns no state of N entries, or a state that is NaN or infinite.
    """
    N, layers = len(s), getattr(cell, "depth", 1)
    ours = hasattr(cell, "jacobian")
    by_columns = N > SMALL and not ours
    size = min(LONGEST, max(1, BLOCK // (N if by_columns else N * N * layers)))
    for start in range(0, len(x), size):
        now = x[start : start + size]
        states = trajectory(cell, now.unsqueeze(1), s.unsqueeze(0)).squeeze(1)
        finite = torch.isfinite(states).all(-1)
        if not finite.all():
            raise InvalidInputError(
                f"the state is NaN or infinite after step {start + int(finite.int().argmin())} of {len(x)}: "
                "expected a run that stays finite; use smaller weights, or another initial state"
            )
        before, s = states[:-1], states[-1]
        if by_columns:
            step = getattr(cell, "step", cell)
            yield from (functools.partial(_forward_mode, step, x_t, s_t) for x_t, s_t in zip(now, before, strict=True))
            continue
        if hasattr(cell, "layer_jacobians"):
            factors = layer_jacobians(cell, now, before)
        else:
            factors = [temporal_jacobian(cell, now, before, method=None if ours else "jacfwd")]
        yield from (functools.partial(_through, layer_factors) for layer_factors in zip(*factors, strict=True))


def _through(factors: tuple[Tensor, ...], Q: Tensor) -> Tensor:
    """J_L ... J_1 Q."""
    return functools.reduce(lambda Q, J: J @ Q, factors, Q)


def _forward_mode(step: Step, x: Tensor, s: Tensor, Q: Tensor) -> Tensor:
    """ds'/ds Q without the Jacobian."""
    with transformed(step):
        return vmap(lambda q: jvp(lambda s: step(x, s), (s,), (q,))[1], in_dims=1, out_dims=1)(Q)


def random_frame(N: int, k: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """k random orthonormal directions (N, k); the first of them do not depend on k."""
    columns = [torch.randn(N, generator=generator, dtype=torch.float64, device="cpu") for _ in range(k)]
    return torch.linalg.qr(torch.stack(columns, 1).to(like))[0]


def growth(maps: Iterable[Tangent], Q: Tensor, every: int = 1) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(steps since the last one, log |R_ii| (k,), the new Q) after every so many maps, and after the last."""
    steps = 0
    for step in maps:
        Q = step(Q)
        steps += 1
        if steps == every:
            Q, R = torch.linalg.qr(Q)
            yield steps, R.diagonal().abs().log(), Q
            steps = 0
    if steps:
        Q, R = torch.linalg.qr(Q)
        yield steps, R.diagonal().abs().log(), Q


PIECES = 240  # of the run, whose growth is kept: the points of the convergence curve, and what blocks are made of


@torch.no_grad()
@one_thread()
def lyapunov(
    cell: nn.Module | Step | Callable[[Tensor], Tensor] | OwnLoop,
    x: Tensor | None,
    k: int | None = None,
    *,
    s0: Tensor | None = None,
    steps: int | None = None,
    warmup: int = 0,
    every: int = 1,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LyapunovSpectrum:
    """The k largest mean growth rates of small changes along a run, by QR (G. Benettin et al. 1980), natural logarithms per step.

    Args:
        cell: as for `temporal_jacobian`; an LSTM's state is its joint (h, c). With x = None a map f(s) -> s' that has no input.
            Or a module's own loop along one sequence (see `gersgorin.extract_cell`).
        x: inputs (T, m).
        k: how many, at most the N entries of a state; all where None. For k = N the sum is the mean of log |det A[t]|, exactly.
        s0: the state to begin with, (N,); zero where None, for what tells its state_size.
        steps: of a map without input: how many to run.
        warmup: steps at the start of the run that turn the frame and are not counted.
        every: steps between two QR decompositions. More is faster; directions whose growth differs by more than 1e15 within them
            cannot be told apart.
        seed: of the directions to begin with.
        progress: called with (steps done, steps in all).

    The `standard_errors` of the record count what scatters between blocks of the run, with its memory; see this module.

    Raises:
        InvalidInputError: k, warmup or every out of range, shapes that do not fit, a state that is no tensor, NaN or infinite.

    >>> A = torch.tensor([[0.5, 1.0], [0.0, 2.0]], dtype=torch.float64)
    >>> spectrum = lyapunov(lambda s: A @ s, None, s0=torch.zeros(2, dtype=torch.float64), steps=1000)
    >>> np.exp(spectrum.exponents).round(2), round(spectrum.sum, 9)
    (array([2. , 0.5]), 0.0)
    """
    own = isinstance(cell, OwnLoop)
    x, s = (cell.inputs, cell.states[0]) if own else (x, s0)
    if not own:
        cell, x, s = _run_of(cell, x, s0, steps)
    T, N = len(x), len(s)
    k = _count("k", N if k is None else k, 1, N, f"the state has {N} entries")
    every = _count("every", every, 1, T, f"the run has {T} steps")
    check_seed(seed)
    warmup = _count("warmup", warmup, 0, T - 1, f"the run has {T} steps, and at least one is to be counted")
    Q = random_frame(N, k, torch.Generator().manual_seed(seed), s)
    maps = cell.tangent_maps() if own else tangent_maps(cell, x, s)
    for _, _, turned in growth(itertools.islice(maps, warmup), Q, every):
        Q = turned
    lengths, sums, done, reported = [0], [torch.zeros(k, dtype=torch.float64, device=s.device)], warmup, 0
    ends = _ends(T - warmup, every)
    for count, logs, _ in growth(maps, Q, every):
        lengths[-1] += count
        sums[-1] = sums[-1] + logs
        done += count
        if done - warmup >= ends[len(lengths) - 1] and done < T:
            lengths.append(0)
            sums.append(torch.zeros_like(sums[0]))
        if done - reported >= 100 or done == T:
            progress(done, T)
            reported = done
    return _record(np.array(lengths), torch.stack(sums).cpu().numpy(), N, warmup, every)


def _record(lengths: np.ndarray, sums: np.ndarray, N: int, warmup: int, every: int) -> LyapunovSpectrum:
    """From the steps (C,) and the growth (C, k) of consecutive pieces of the run."""
    steps = lengths.cumsum()
    curve = sums.cumsum(0) / steps[:, None]
    order = np.argsort(-curve[-1], kind="stable")
    return LyapunovSpectrum(
        exponents=curve[-1, order],
        standard_errors=standard_errors(lengths, sums)[order],
        curve_steps=steps,
        curve=curve[:, order],
        state_size=N,
        warmup=warmup,
        every=every,
    )


def _ends(T: int, every: int) -> list[int]:
    """The steps at which the pieces of a run end."""
    pieces = max(1, min(PIECES, T // every))
    return [round(T * (piece + 1) / pieces) for piece in range(pieces)]


def _run_of(cell, x: Tensor | None, s0: Tensor | None, steps: int | None) -> tuple[nn.Module | Step, Tensor, Tensor]:
    """(step of an input and a state, inputs (T, m), first state (N,)), checked."""
    s0 = None if s0 is None else real_tensor("s0", s0)
    if s0 is not None and not (s0.dim() == 1 and s0.is_floating_point() and len(s0)):
        raise InvalidInputError(
            f"s0 is {s0.dtype} of shape {tuple(s0.shape)}: expected a floating-point tensor (N,), one state"
        )
    if x is None:
        if s0 is None or not callable(cell):
            raise InvalidInputError("without x, expected a callable f(s) and s0 (N,), the state it begins with")
        steps = _count("steps", steps, 1, 1 << 40, "x is None")
        return (lambda x, s: cell(s)), s0.new_zeros(1, 1).expand(steps, 1), s0
    if steps is not None:
        raise InvalidInputError("steps is for a map without input: x says how many there are")
    x = real_tensor("x", x)
    if x.dim() != 2 or len(x) == 0:
        raise InvalidInputError(f"x: expected a tensor (T, m) with at least one step, got shape {tuple(x.shape)}")
    if bad := int((~torch.isfinite(x)).sum()):
        raise InvalidInputError(f"x: {bad} of {x.numel()} numbers are NaN or infinite, expected finite ones")
    cell = converted(cell)
    if s0 is None:
        if not hasattr(cell, "state_size"):
            step_of(cell)  # a whole network is no step, whatever the state
            raise InvalidInputError(f"the step does not tell its state_size: pass s0, (N,){in_a_module(cell)}")
        s0 = x.new_zeros(state_size_of(cell))
    return cell, x, s0


def _count(name: str, value, least: int, most: int, why: str) -> int:
    if type(value) is not int or not least <= value <= most:
        raise InvalidInputError(f"{name} is {value!r}: {why}; expected a whole number, {least} to {most}")
    return value


LISTED = 8  # of more the first so many, and the last one


def lyapunov_table(spectrum: LyapunovSpectrum) -> str:
    """The first exponents with their errors, what they come to, and from how many steps they are."""
    counted = f"{spectrum.steps} step{'s' * (spectrum.steps > 1)}"
    warmup = f" after {spectrum.warmup} that are not counted" if spectrum.warmup else ""
    errors = "+- standard error (two of them: 95 %)" if spectrum.tells_errors else "too short a run for standard errors"
    lines = [f"Lyapunov exponents a step, from {counted}{warmup}; {errors}"]
    pairs = list(zip(spectrum.exponents, spectrum.standard_errors, strict=True))
    left_out = range(LISTED, len(pairs) - 1)
    for i, (value, error) in enumerate(pairs):
        if i not in left_out:
            told = "" if math.isnan(error) else f"  +- {error:.2g}"
            lines.append(f"{f'exponent {i + 1}':<26}{value:>11.4g}{told}")
        elif i == LISTED:
            lines.append("...")
    which = "all" if spectrum.complete else f"these {len(pairs)} of {spectrum.state_size}"
    lines.append(f"{'sum':<26}{spectrum.sum:>11.4g}  of {which}")
    dimension = spectrum.kaplan_yorke
    told = f"{'':>4}needs more exponents: their sum is not negative" if math.isnan(dimension) else f"{dimension:>11.4g}"
    lines.append(f"{'Kaplan-Yorke dimension':<26}{told}")
    return "\n".join(lines)


CURVES = 8  # of one run: more cannot be told apart
RATE = "exponent (1/step)"


@our_style()
def plot_lyapunov(spectra: LyapunovSpectrum | Sequence[LyapunovSpectrum], ax: Axes | None = None) -> Axes:
    """The exponents of one run, or of each of several, against their number, with bars of two standard errors; lost directions are
    left out."""
    spectra = as_list(spectra)
    alone, ax = ax is None, own_axes(5.5, 4.2) if ax is None else ax
    for i, spectrum in enumerate(spectra):
        number = 1 + np.arange(len(spectrum.exponents))
        finite = np.isfinite(spectrum.exponents)
        style = {"color": COLOURS[i % len(COLOURS)], "fmt": MARKERS[i % len(MARKERS)]}
        bars = np.nan_to_num(2 * spectrum.standard_errors[finite])
        values = spectrum.exponents[finite]
        ax.errorbar(number[finite], values, bars, markersize=3.5, capsize=2, label=_name(spectrum), **style)
    ax.axhline(0, **DASHED, linewidth=0.8)
    told = ", bars of two standard errors" if any(spectrum.tells_errors for spectrum in spectra) else ""
    ax.set(xlabel="number of the exponent", ylabel=RATE, title=f"mean growth rates{told}")
    ax.set_xlim(0.5, 0.5 + max(len(spectrum.exponents) for spectrum in spectra))
    return _finished(spectra, ax, alone)


@our_style()
def plot_convergence(spectra: LyapunovSpectrum | Sequence[LyapunovSpectrum], ax: Axes | None = None) -> Axes:
    """Running estimates against the steps counted: of one run its first eight exponents, of several the largest of each."""
    spectra = as_list(spectra)
    alone, ax = ax is None, own_axes(5.5, 4.2) if ax is None else ax
    if len(spectra) == 1:
        (spectrum,) = spectra
        shown = min(CURVES, len(spectrum.exponents))
        for i in range(shown):
            style, label = shade_style(i, shown), f"exponent {i + 1}"
            ax.plot(spectrum.curve_steps, _finite(spectrum.curve[:, i]), linewidth=1.3, label=label, **style)
    else:
        for i, spectrum in enumerate(spectra):
            known = np.isfinite(spectrum.curve[:, 0])
            style = line_style(i) | {"marker": MARKERS[i % len(MARKERS)], "markersize": 3.5}
            style |= {"markevery": 0.2} if known.sum() > 1 else {}
            ax.plot(spectrum.curve_steps[known], spectrum.curve[known, 0], label=_name(spectrum), **style)
    ax.axhline(0, **DASHED, linewidth=0.8)
    unit, what = spectra[0].unit, "the largest one" if len(spectra) > 1 else "the leading ones"
    ax.set(xlabel="steps counted" if unit == "steps" else f"steps counted ({unit})", ylabel=RATE)
    ax.set_title(f"{what}, from the first steps alone")
    ax.set_xlim(0, max(spectrum.steps for spectrum in spectra))
    return _finished(spectra, ax, alone)


@our_style()
def draw_lyapunov(spectra: LyapunovSpectrum | Sequence[LyapunovSpectrum], along: str = "") -> Shown:
    """Of one run or several, the exponents and how they settled side by side; along: what the title says was read."""
    spectra = as_list(spectra)
    figure = Shown(figsize=(11, 4.2 + 0.25 * max(0, len(spectra) - 4)), layout="constrained")
    left, right = figure.subplots(1, 2)
    plot_lyapunov(spectra, left)
    plot_convergence(spectra, right)
    legend_beside(right)
    named = told_apart([spectrum.title for spectrum in spectra], [spectrum.about for spectrum in spectra])
    titled_all(figure, named, f"Lyapunov exponents on {along}" if along else "Lyapunov exponents")
    return laid_out(figure)


def _finished(spectra: Sequence[LyapunovSpectrum], ax: Axes, alone: bool) -> Axes:
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain_numbers(ax)
    named = told_apart([spectrum.title for spectrum in spectra], [spectrum.about for spectrum in spectra])
    return complete(ax, f"{named.common or 'networks'}: Lyapunov exponents", named.about) if alone else ax


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.nan)


def _name(spectrum: LyapunovSpectrum) -> str:
    dimension = spectrum.kaplan_yorke
    more = "" if np.isnan(dimension) or dimension == 0 else f", dimension {dimension:.2f}"
    return drawable(f"{spectrum.title}{more}") or "one run"
