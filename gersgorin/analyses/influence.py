"""Influence: how strongly each output of a model, or the loss of each frame, depends on each input.

    found = influence(model, x)                                    on the outputs
    found = influence(model, x[:-1], of="squared", y=x[1:])        on a loss
    found.influence[t2, t1]    ||d o[t2] / d x[t1]||_F
    found.by_lag[k]            root mean square over all pairs t2 - t1 = k

The influence is computed exactly, from k vector-Jacobian products for each output (one for a loss),
or, for long sequences, by Hutchinson's estimate from a few products with random signs v:
E ||v^T J||^2 = ||J||_F^2.

Legend: T time steps; B sequences; m numbers of an input; S outputs (T, or 1 if there is one output
for each sequence); k numbers of an output; lag t2 - t1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Self, Unpack

import numpy as np
import torch
from torch import Tensor

from gersgorin import checks
from gersgorin.autodiff import with_gradients
from gersgorin.losses import LOSSES, Loss, name_of_loss
from gersgorin.model_map import OUTPUTS, ModelMap, model_maps
from gersgorin.results import UP_TO, StepResult
from gersgorin.run import ReadOptions, names_options
from rhn.utils.progress import Advance, Progress, reported
from rhn.utils.tables import formatted
from rhn.utils.validation import whole_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

EXACT = 1 << 14  # products, S k, up to which the influence is exact by default
PROBES = 16  # random vectors for each output otherwise
EQUAL = 1e-9  # of the largest influence: a difference by rounding
AGAIN = 2  # times the longest stretch below half so far: one that is shorter may end as well
LAG, INFLUENCE = "lag", "||d o[t + lag] / d x[t]||"
LABEL, HALF = "influence (Frobenius norm)", "half of the largest"
ERROR, SHARE, BEYOND = "standard error", "share", "share beyond"
TO_HALF = "time steps from the largest influence to half"
LARGEST_LAG = "lag of the largest influence"
AT_LARGEST = "largest influence"
LENGTH, AHEAD = "effective length (time steps)", "from later inputs (share)"
WITHOUT, SEQUENCES = "outputs without influence", "sequences"
RETURNED, VECTORS = "tensors that the model returns", "random vectors for each output"
GRADIENT = "gradient against differences (relative)"
ROWS = (
    INFLUENCE, ERROR, SHARE, BEYOND, TO_HALF, LARGEST_LAG, AT_LARGEST, LENGTH, AHEAD, WITHOUT,
    SEQUENCES, RETURNED, VECTORS, GRADIENT,
)  # fmt: skip
LABELS_OF_LOSS = {
    INFLUENCE: "||d loss[t + lag] / d x[t]||",
    WITHOUT: "losses without influence",
}
OF, FEATURE, OUTPUT, LOSS, INPUT = "of", "feature", "output", "loss", "input"

Pairs = Annotated[np.ndarray, "output", "input"]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Influence(StepResult):
    """The influence of each input on each output, or on the loss of each frame; for several
    sequences the root mean square over them.

    >>> found = influence(torch.nn.GRU(2, 4), torch.rand(12, 2))
    >>> found.influence.shape, found.by_lag.shape
    ((12, 12), (12,))
    """

    page: ClassVar[str] = "docs/guides/influence.md"
    item: ClassVar[str] = LAG
    headline: ClassVar[tuple[str, ...]] = (TO_HALF, LENGTH)
    printed: ClassVar[tuple[str, ...]] = (
        TO_HALF, LARGEST_LAG, AT_LARGEST, LENGTH, AHEAD, WITHOUT, LABELS_OF_LOSS[WITHOUT], GRADIENT,
    )  # fmt: skip
    texts: ClassVar[tuple[str, ...]] = (
        *StepResult.run_texts, LAG, *ROWS, UP_TO, OF, FEATURE, OUTPUTS, *LOSSES, OUTPUT, LOSS,
        INPUT, LABEL, HALF, *LABELS_OF_LOSS.values(),
    )  # fmt: skip

    influence: Pairs
    """influence[t2, t1] = ||d o[t2] / d x[t1]||_F, (S, T), output over input. T is that of the
    longest sequence. S = 1 if each sequence has one output or loss, which belongs to its last step.
    """
    error: Pairs
    """Standard error of each influence, (S, T); 0 if the influence is exact."""
    of: str
    """What depends on the inputs: "outputs", or the name of the loss."""
    feature: int | None
    """The number of the input whose influence was measured, from 0; None: the norm over all."""
    probes: int
    """Number of random vectors for each output; 0: the influence is exact."""
    sequences: int
    """Number of sequences."""
    without: int
    """Number of outputs, over all sequences, that depend on no input."""
    returned: int
    """Number of tensors that the model returns; the first one is measured."""
    difference: float
    """|g - d| / max(|g|, |d|) over all outputs, for central differences d along one random
    direction of x, and the same g by the gradient.
    """

    @cached_property
    def by_lag(self) -> np.ndarray:
        """Root mean square of the influence over all pairs with the lag t2 - t1 = 0..T-1, (T,)."""
        pairs = _by_lag(self.influence)
        return np.array([math.hypot(*each) / math.sqrt(len(each)) for each in pairs])

    @cached_property
    def by_lag_error(self) -> np.ndarray:
        """Standard error of `by_lag`, (T,); the errors of different outputs are independent."""
        pairs = _by_lag(self.influence * self.error)
        of_sums = np.array([np.linalg.norm(each) / len(each) for each in pairs])
        return np.divide(of_sums, self.by_lag, out=np.zeros(len(pairs)), where=self.by_lag > 0)

    @property
    def share(self) -> np.ndarray:
        """Share of each lag in the sum of the squares of `by_lag`, (T,); NaN without influence."""
        squares = np.square(_scaled(self.by_lag))
        with np.errstate(invalid="ignore"):
            return squares / squares.sum()

    @property
    def reach(self) -> np.ndarray:
        """Share of the 2-norm of `by_lag` that comes from each lag and all longer ones, (T,); NaN
        without influence.
        """
        with np.errstate(invalid="ignore"):
            rest = np.sqrt(np.cumsum(np.square(_scaled(self.by_lag))[::-1])[::-1])
            return rest / rest[0]

    @property
    def is_of_loss(self) -> bool:
        """True for the influence on a loss."""
        return self.of != OUTPUTS

    @property
    def largest(self) -> int:
        """The first lag with the largest influence, up to rounding."""
        return int((self.by_lag >= self.by_lag.max() * (1 - EQUAL)).argmax())

    @property
    def steps_to_half(self) -> float:
        """Steps from the largest influence until `by_lag` stays at or below half of it, with the
        logarithm interpolated: log 2 / -log r for an influence r^k.

        inf if `by_lag` is above half at the last lag, or if the last lags below half are fewer than
        twice the longest earlier stretch of such lags; NaN without influence.
        """
        tail = self.by_lag[self.largest :]
        above = np.flatnonzero(tail > tail[0] / 2 * (1 + EQUAL))
        if not len(above):
            return math.nan
        k, between = int(above[-1]), int(np.diff(above).max(initial=1)) - 1
        if len(tail) - 1 - k < max(1, AGAIN * between):
            return math.inf
        last, after = tail[k], tail[k + 1]
        part = np.log(2 * last / tail[0]) / np.log(last / after) if after > 0 else 1.0
        return float(k + min(part, 1.0))

    @property
    def effective_length(self) -> float:
        """Sum of `by_lag` over its largest value: 1 / (1 - r) for an influence r^k."""
        return float(_scaled(self.by_lag).sum())

    @property
    def ahead(self) -> float:
        """Share of the squared influence that comes from inputs later than the output."""
        squares = np.square(_scaled(self.influence))
        later = 1 + squares.shape[1] - len(squares)
        return float(np.triu(squares, later).sum() / squares.sum()) if squares.any() else 0.0

    def table(self) -> Mapping[str, Any]:
        table = {
            INFLUENCE: self.by_lag,
            ERROR: self.by_lag_error,
            SHARE: self.share,
            BEYOND: np.append(self.reach[1:] ** 2, 0.0),
            TO_HALF: self.steps_to_half,
            LARGEST_LAG: self.largest,
            AT_LARGEST: float(self.by_lag[self.largest]),
            LENGTH: self.effective_length,
            AHEAD: self.ahead,
            WITHOUT: self.without,
            SEQUENCES: self.sequences,
            RETURNED: self.returned,
            VECTORS: self.probes,
            GRADIENT: self.difference,
        }
        labels = LABELS_OF_LOSS if self.is_of_loss else {}
        return {labels.get(row, row): value for row, value in table.items()}

    def coordinates(self) -> Mapping[str, Any]:
        S, T = self.influence.shape
        return {"output": np.arange(T - S, T)}

    def title(self) -> list[str]:
        data = f"{self.network}; {self.data}, {UP_TO} {self.steps} {self.unit}"
        return [data, f"{OF}: {self.of}, {FEATURE}: {formatted(self.feature)}"]

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the influence by lag, with two standard errors, into these axes or new ones."""
        from rhn.utils.composer import new_axes  # loads matplotlib
        from rhn.utils.figures import BLUE, GREY

        ax = new_axes() if ax is None else ax
        shown, error = np.where(self.by_lag > 0, self.by_lag, np.nan), 2 * self.by_lag_error
        lags, low = np.arange(self.steps), np.maximum(shown - error, shown / 100)
        ax.plot(lags, shown, color=BLUE, marker="." if self.steps < 2 else "")
        ax.fill_between(lags, low, shown + error, color=BLUE, alpha=0.25, linewidth=0)
        ax.set(xlabel=f"{LAG} ({self.unit})", ylabel=LABEL)
        ax.set_yscale("log" if np.isfinite(shown).any() else "linear")
        ax.axhline(self.by_lag.max() / 2, color=GREY, linestyle=":", zorder=0, label=HALF)
        ax.legend()
        return ax

    def draw(self, part: "SubFigure") -> float:
        """Draw the influence by lag, and of all pairs of an output and an input."""
        from matplotlib.colors import LogNorm  # loads matplotlib

        from rhn.utils.composer import pair

        left, right, height = pair(part)
        self.plot(left)
        shown = np.where(self.influence > 0, self.influence, np.nan)
        norm = LogNorm() if np.isfinite(shown).any() else None
        S, T = shown.shape
        ends = (-0.5, T - 0.5, T - 0.5, T - S - 0.5)
        image = right.imshow(shown, norm=norm, aspect="auto", interpolation="nearest", extent=ends)
        depends = LOSS if self.is_of_loss else OUTPUT
        right.set(xlabel=f"{INPUT} ({self.unit})", ylabel=f"{depends} ({self.unit})")
        part.colorbar(image, ax=right, label=LABEL)
        return height


@names_options(ReadOptions)
@with_gradients()
def influence(
    model: Any,
    x: Any = None,
    s0: Any = None,
    *,
    of: str | Loss = OUTPUTS,
    y: Any = None,
    lengths: Any = None,
    feature: int | None = None,
    probes: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    **how: Unpack[ReadOptions],
) -> Influence:
    """Measure how strongly each output of a model, or a loss, depends on each of its inputs.

    The exact influence on outputs takes S k reverse passes, that on a loss S; an estimate takes S
    for each random vector. A module is copied, and runs in float64 and evaluation mode, a function
    in the precision of x.

    Args:
        model: a module or function model(x) with one output for each time step, or one for each
            sequence; the first floating-point tensor that it returns counts. Or a `Run`, or, with
            s0, state_size or layer, a step, which runs along x as in `open_run`: its outputs are
            what the step returns beside its state, the hidden units of a cell, or else the state.
        x: numbers (T, m) or ids (T,), whose inputs are the vectors that the first embedding
            returns; one or several sequences (B, T, ...) or (T, B, ...), as `batch_first` says; a
            tuple or dictionary of arguments, of which the first is the sequence; or a list of
            these. Sequences of one batch must not affect each other.
        s0: the first state of a step.
        of: "outputs", or a loss: "bernoulli", "categorical" (class ids, -100 without a loss),
            "squared" (half the sum of squares of a frame), or a function of outputs and y that
            returns a number for each frame, for each sequence, or one.
        y: the targets of a loss; for a list of x a list.
        lengths: the steps of each sequence of a batch, (B,); later steps are not counted. None: T.
        feature: the number of the input, from 0, whose influence is measured; None: all.
        probes: the number of random vectors for each output, at least 2; 0: the exact influence.
            None: exact if S k is at most 16,384 or k at most 16, else 16 vectors.
        seed: the seed of the random vectors.
        progress: as for `open_run`, of the outputs that are done, for each x of a list.
        batch_first: True for (B, T, ...), False for (T, B, ...); None: the attribute of the model
            or of its parts.
        state_size, layer, title, data, unit: as for `open_run`.

    Raises InvalidInputError.

    >>> weights = 0.5 ** torch.arange(4, dtype=torch.float64)[:, None]
    >>> found = influence(lambda x: torch.cumsum(weights * x, 0), torch.ones(4, 1).double())
    >>> found.influence[3].tolist(), found.influence[0].tolist()
    ([1.0, 0.5, 0.25, 0.125], [1.0, 0.0, 0.0, 0.0])
    """
    generator = torch.Generator("cpu").manual_seed(whole_number("seed", seed, 0))
    if probes is not None:
        probes = whole_number("probes", probes, 0)
        checks.require(probes != 1, "probes", probes, "0, or at least 2")
    parts, headings = list[_Part](), list[dict[str, Any]]()
    with torch.random.fork_rng([]):
        for each in model_maps(model, x, s0, of=of, y=y, lengths=lengths, **how):
            with reported(progress, "influence") as advance:
                parts.append(_measured(each, feature, probes, generator, advance))
            headings.append(each.heading)
    found, error = _over_sequences(parts)
    return Influence(
        **headings[0] | {"steps": found.shape[1]},
        influence=found,
        error=error,
        of=OUTPUTS if y is None else name_of_loss(of),
        feature=feature,
        probes=max(part.probes for part in parts),
        sequences=sum(part.sequences for part in parts),
        without=sum(part.without for part in parts),
        difference=sum((part.gap for part in parts), Gap()).relative(),
    )


@dataclass(frozen=True)
class Gap:
    """Sums of squares over outputs, to compare slopes g by the gradient with differences d.

    >>> gap = Gap.between(torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0]))
    >>> gap.relative()  # |(3, -4)| over |(0, 4)|
    1.25
    """

    difference: float = 0.0
    """|g - d|^2."""
    gradient: float = 0.0
    """|g|^2."""
    quotient: float = 0.0
    """|d|^2."""

    @classmethod
    def between(cls, g: Tensor, d: Tensor) -> Self:
        """The sums over all entries of two tensors."""
        return cls(_square(g - d), _square(g), _square(d))

    def __add__(self, more: Self) -> Self:
        return type(self)(
            difference=self.difference + more.difference,
            gradient=self.gradient + more.gradient,
            quotient=self.quotient + more.quotient,
        )

    def relative(self) -> float:
        """|g - d| / max(|g|, |d|); 0 if both are 0."""
        largest = max(math.sqrt(self.gradient), math.sqrt(self.quotient))
        return math.sqrt(self.difference) / (largest or 1)


def _square(t: Tensor) -> float:
    """The sum of the squares of all entries."""
    return float(t.double().square().sum())


class _Block(NamedTuple):
    """The influence on the outputs at n steps, over the sequences of one map."""

    norm: Tensor  # the root of the sum over sequences of squared influences, (n, T)
    deviation: Tensor  # standard error of this sum, (n, T)
    present: Tensor  # number of sequences that have a pair, (n, T)
    gap: Gap
    without: int  # outputs that depend on no input


class _Part(NamedTuple):
    """The influence in the sequences of one map."""

    norm: np.ndarray  # as in `_Block`, for all outputs, (S, T)
    deviation: np.ndarray
    present: np.ndarray
    gap: Gap
    probes: int
    sequences: int
    without: int


def _measured(
    of: ModelMap,
    feature: int | None,
    probes: int | None,
    generator: torch.Generator,
    advance: Advance,
) -> _Part:
    S, (_, B, k) = min(of.longest, len(of.outputs)), of.outputs.shape
    numbers, probes = _chosen_inputs(of, feature), _chosen_probes(probes, S, k)
    one_direction = torch.Generator("cpu").manual_seed(0)
    v = torch.randn(of.leaf.shape, generator=one_direction, device="cpu").to(of.leaf)
    d, blocks = of.difference(v), list[_Block]()
    at_once = max(1, of.at_once // (probes or k))
    for steps in torch.arange(S, device="cpu").split(at_once):
        present = of.has[steps] if S > 1 else of.has[-1:]
        vectors = _weights(len(steps), B, k, probes, generator).to(of.outputs)
        w = vectors * present[:, None, :B, None]  # 0 for sequences that have ended
        norms, depends, g = _products(of, steps, w, v, numbers)
        norm, deviation = _of_weights(norms, estimate=probes > 0)
        along = (w * d[steps][:, None]).sum((2, 3))
        blocks.append(
            _Block(
                norm=norm,
                deviation=deviation,
                present=(present[:, None] & of.has).sum(-1),
                gap=Gap.between(g, along),
                without=int((present & ~depends).sum()),
            )
        )
        advance(int(steps[-1]) + 1, S)
    norm = torch.cat([block.norm for block in blocks]).cpu()
    checks.are_finite(f"derivative of {of.heading['network']}", norm)
    return _Part(
        norm=norm.numpy(),
        deviation=torch.cat([block.deviation for block in blocks]).cpu().numpy(),
        present=torch.cat([block.present for block in blocks]).cpu().numpy(),
        gap=sum((block.gap for block in blocks), Gap()),
        probes=probes,
        sequences=of.axes.B,
        without=sum(block.without for block in blocks),
    )


def _chosen_inputs(of: ModelMap, feature: int | None) -> slice:
    """The numbers of an input whose influence is measured: all m, or one."""
    m = of.leaf.numel() // (of.axes.T * of.axes.B)
    if feature is None:
        return slice(m)
    feature = whole_number(FEATURE, feature, 0, m - 1)
    return slice(feature, feature + 1)


def _chosen_probes(probes: int | None, S: int, k: int) -> int:
    """The number of random vectors for each of S outputs of k numbers; 0: exact."""
    if probes is not None:
        return probes
    few_products = S * k <= EXACT
    return 0 if few_products or k <= PROBES else PROBES


def _weights(n: int, B: int, k: int, probes: int, generator: torch.Generator) -> Tensor:
    """Random signs (n, probes, B, k), or a unit vector for each number, (n, k, B, k)."""
    if probes:
        return torch.randint(2, (n, probes, B, k), generator=generator, device="cpu") * 2 - 1
    return torch.eye(k, device="cpu")[:, None].expand(n, k, B, k)


def _products(
    of: ModelMap, steps: Tensor, w: Tensor, v: Tensor, numbers: slice
) -> tuple[Tensor, Tensor, Tensor]:
    """||w d o / d x[t]|| (n, j, T, B), whether any input matters (n, B), and slopes along v."""
    n, j = w.shape[:2]
    whole = w.new_zeros(n, j, *of.outputs.shape)
    whole[range(n), :, steps] = w
    norms, depends, along = [], [], []
    for part in whole.flatten(0, 1).split(of.at_once):
        slopes = of.pull(part)
        along.append((slopes * v).flatten(1).sum(1))
        each = of.by_step(slopes)
        depends.append(each.any(-1).any(1))
        norms.append(scaled_norm(each[..., numbers], -1))
    norm, depend, along_v = (
        torch.cat(each).unflatten(0, (n, j)) for each in (norms, depends, along)
    )
    return norm, depend.any(1), along_v


def _of_weights(norms: Tensor, *, estimate: bool) -> tuple[Tensor, Tensor]:
    """(Root of the sum of squares over sequences (n, T), its standard error) from (n, j, T, B)."""
    norms = scaled_norm(norms, -1)
    if not estimate:
        return scaled_norm(norms, 1), torch.zeros_like(norms[:, 0])
    squares = norms.square()
    return squares.mean(1).sqrt(), squares.std(1) / norms.shape[1] ** 0.5


def _over_sequences(parts: list[_Part]) -> tuple[np.ndarray, np.ndarray]:
    """(The root mean square over the sequences of all parts (S, T), its standard error)."""
    S, T = (max(part.norm.shape[axis] for part in parts) for axis in (0, 1))
    norm, deviation, count = np.zeros((3, S, T))
    for part in parts:
        s, t = part.norm.shape
        now = slice(s), slice(t) if S > 1 else slice(T - t, T)
        norm[now] = np.hypot(norm[now], part.norm)
        deviation[now] = np.hypot(deviation[now], part.deviation)
        count[now] += part.present
    count = np.maximum(count, 1)
    found = norm / np.sqrt(count)
    error = np.divide(deviation / count, 2 * found, out=np.zeros_like(found), where=found > 0)
    return found, error


def _by_lag(pairs: np.ndarray) -> list[np.ndarray]:
    """The numbers of all pairs at each lag t2 - t1 = 0..T-1, for the last S outputs (S, T)."""
    S, T = pairs.shape
    return [np.diag(pairs, T - S - k) for k in range(T)]


def _scaled(values: np.ndarray) -> np.ndarray:
    """Values over the largest, so that their squares do not overflow."""
    return values / (values.max() or 1)


def scaled_norm(values: Tensor, axis: int) -> Tensor:
    """2-norms along an axis, in float64, also of numbers whose squares would over- or underflow.

    >>> scaled_norm(torch.tensor([3e-200, 4e-200], dtype=torch.float64), 0).item()
    5e-200
    """
    values = values.double()
    largest = values.abs().amax(axis, keepdim=True)
    has_scale = (largest > 0) & largest.isfinite()
    scale = torch.where(has_scale, largest, 1)
    return torch.linalg.vector_norm(values / scale, dim=axis) * scale.squeeze(axis)
