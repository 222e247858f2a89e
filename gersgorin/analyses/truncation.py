"""Truncated backpropagation: the error of the gradient of a loss by the length of the window.

    found = truncation(model, x, y, loss_fn)
    found.error, found.sliding_error    of chunks and of sliding windows of found.windows steps
    found.window_10, found.window_1     the shortest chunks with errors of at most 10 % and 1 %

Legend: T time steps; B sequences; W listed windows; K steps of a window.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from gersgorin import checks
from gersgorin.analyses.loss_slopes import LossOfOutputs, loss_slopes
from gersgorin.analyses.truncated_gradients import listed_windows, shortest, truncation_errors
from gersgorin.autodiff import with_gradients
from gersgorin.kinds import batch_first_of, is_recurrent
from gersgorin.layers import as_read, recurrent_layer
from gersgorin.losses import LOSSES, Loss, frame_losses, name_of_loss
from gersgorin.model_map import Axes as StepAxes
from gersgorin.results import StepResult
from gersgorin.run import names_options, open_run
from rhn.models import LanguageModel, PolyphonicModel
from rhn.utils.progress import Progress
from rhn.utils.tables import Block, formatted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEN, ONE = 0.1, 0.01  # errors
LOSS_OF = {PolyphonicModel: "bernoulli", LanguageModel: "categorical"}
WINDOW, LAG, LOSS = "window (time steps)", "lag", "loss"
ERROR, COSINE = "chunks: relative error", "chunks: cosine"
SLIDING_ERROR, SLIDING_COSINE = "sliding: relative error", "sliding: cosine"
SHORTEST = "shortest chunks (time steps)"
WINDOW_10, WINDOW_1 = "error at most 10 %", "error at most 1 %"
OF_MEAN, LOW, MEDIAN, HIGH = "mean loss", "10 % of sequences", "median", "90 % of sequences"
NORM, SEQUENCES = "norm of the gradient by lag", "sequences"
MODE = "evaluation mode; lags count from the states that outputs read"
CHUNKS, SLIDING, RELATIVE = "chunks", "sliding windows", "relative error of the gradient"
QUANTILES = {LOW: 0.1, MEDIAN: 0.5, HIGH: 0.9}

PerWindow = Annotated[np.ndarray, "window"]
PerSequence = Annotated[np.ndarray, "sequence"]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Truncation(StepResult):
    """Errors of truncated gradients in the weights of a recurrent layer.

    >>> model, y = torch.nn.RNN(1, 4), torch.zeros(9, 4)
    >>> found = truncation(model, torch.rand(9, 1), y, "squared")
    >>> found.windows.tolist(), found.by_lag.shape
    ([1, 2, 3, 4, 6, 8, 9], (9,))
    """

    page: ClassVar[str] = "docs/guides/truncation.md"
    item: ClassVar[str] = WINDOW
    texts: ClassVar[tuple[str, ...]] = (
        *StepResult.run_texts, WINDOW, LAG, LOSS, ERROR, COSINE, SLIDING_ERROR, SLIDING_COSINE,
        SHORTEST, WINDOW_10, WINDOW_1, OF_MEAN, LOW, MEDIAN, HIGH, NORM, SEQUENCES, MODE, CHUNKS,
        SLIDING, RELATIVE, *LOSSES,
    )  # fmt: skip
    headline: ClassVar[tuple[str, ...]] = (WINDOW_10, WINDOW_1)

    loss: str
    """The name of the loss."""
    windows: PerWindow
    """The listed windows 1, 2, 3, 4, 6, 8, 12, ..., T, (W,)."""
    error: PerWindow
    """|g - G| / |G| of the gradient g of chunks, against the whole gradient G, (W,): the mean over
    the offsets of the chunks. 0 at T. NaN if G is 0.
    """
    cosine: PerWindow
    """The cosine between g and G of chunks, (W,), the mean over the offsets; NaN if g is 0."""
    sliding_error: PerWindow
    """The relative error of sliding windows, (W,)."""
    sliding_cosine: PerWindow
    """The cosine of sliding windows, (W,)."""
    by_lag: Annotated[np.ndarray, "lag"]
    """The norm of the part of the gradient with each lag, (T,)."""
    windows_10: PerSequence
    """As `window_10`, of the loss of each sequence alone, (B,)."""
    windows_1: PerSequence
    """As `window_1`, of the loss of each sequence alone, (B,)."""

    @property
    def window_10(self) -> float:
        """The shortest listed chunks whose error, and that of all longer ones, is at most 10 %; NaN
        if there are none below T.
        """
        return shortest(self.windows, self.error, TEN)

    @property
    def window_1(self) -> float:
        """As `window_10`, for an error of 1 %."""
        return shortest(self.windows, self.error, ONE)

    def title(self) -> list[str]:
        return [*super().title(), f"{LOSS}: {self.loss}", MODE]

    def table(self) -> Mapping[str, Any]:
        return {
            WINDOW: self.windows,
            ERROR: self.error,
            COSINE: self.cosine,
            SLIDING_ERROR: self.sliding_error,
            SLIDING_COSINE: self.sliding_cosine,
            WINDOW_10: self.window_10,
            WINDOW_1: self.window_1,
            NORM: self.by_lag,
            SEQUENCES: len(self.windows_10),
        }

    def listed(self) -> dict[str, Sequence[Any]]:
        names = (WINDOW, ERROR, COSINE, SLIDING_ERROR, SLIDING_COSINE)
        return {name: self.table()[name].tolist() for name in names}

    def records(self) -> list[dict[str, Any]]:
        by_lag = [{LAG: lag, NORM: norm} for lag, norm in enumerate(self.by_lag.tolist())]
        return [*super().records(), *by_lag]

    def coordinates(self) -> Mapping[str, Any]:
        return {"window": self.windows}

    def blocks(self) -> list[Block]:
        """Return a row for each window, the shortest chunks, a row for each lag, and a count."""
        by_window, _ = super().blocks()
        shortest_chunks = [
            [WINDOW_10, formatted(self.window_10), *_quantiles(self.windows_10)],
            [WINDOW_1, formatted(self.window_1), *_quantiles(self.windows_1)],
        ]
        by_lag = [[str(lag), formatted(norm)] for lag, norm in enumerate(self.by_lag.tolist())]
        return [
            by_window,
            Block(shortest_chunks, heads=[[SHORTEST, OF_MEAN, *QUANTILES]]),
            Block(by_lag, heads=[[LAG, NORM]], is_list=True),
            Block([[SEQUENCES, str(len(self.windows_10))]]),
        ]

    def short(self) -> list[Block]:
        """Return the rows of windows, and the shortest chunks."""
        by_window, shortest_chunks, *_ = self.blocks()
        return [by_window.shortened(), shortest_chunks]

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the errors over the window, into these axes or new ones."""
        from rhn.utils.composer import new_axes  # loads matplotlib
        from rhn.utils.figures import BLUE, GREY, ORANGE

        ax = new_axes() if ax is None else ax
        is_shorter = self.windows < len(self.by_lag)  # at T the error is 0, or rounding
        for name, error, color in (
            (CHUNKS, self.error, BLUE),
            (SLIDING, self.sliding_error, ORANGE),
        ):
            shown = np.where(is_shorter & (error > 0), error, np.nan)
            ax.plot(self.windows, shown, color=color, marker=".", label=name)
        for name, level, window in (
            (WINDOW_10, TEN, self.window_10),
            (WINDOW_1, ONE, self.window_1),
        ):
            ax.plot(window, level, color=GREY, marker="v", linestyle="", label=name)
            ax.axhline(level, color=GREY, linestyle=":", zorder=0)
        ax.set(xscale="log", yscale="log", xlabel=WINDOW, ylabel=RELATIVE)
        ax.legend()
        return ax


class NameOptions(TypedDict, total=False):
    """The names of the network, the sequence and a time step in a result."""

    title: str | None
    data: str | None
    unit: str | None


@names_options(NameOptions)
@with_gradients()
def truncation(
    model: Any,
    x: Any,
    y: Any,
    loss_fn: str | Loss | None = None,
    *,
    layer: str | None = None,
    batch_first: bool | None = None,
    progress: Progress | None = None,
    **names: Unpack[NameOptions],
) -> Truncation:
    """Measure the error of truncated backpropagation by the length of its window.

    The gradient is that in all weights of one recurrent layer; a module is copied, and runs in
    float64 and evaluation mode, without dropout. The two biases of a layer of torch.nn count as one
    where they are only added.

    Args:
        model: a module that is called as model(x), with a recurrent layer of one direction; the
            first floating-point tensor that it returns counts.
        x: numbers (T, m) or ids (T,); several sequences (B, T, ...) or (T, B, ...), as
            `batch_first` says, which must not affect each other; or a list of sequences of one
            length, whose outputs and y are (B, ...).
        y: the targets, as `loss_fn` reads them; for a list of x a list.
        loss_fn: a function of (outputs, y), whose mean is the loss, as it is written for training:
            of every step, the last one, or with a mask. Outputs are in the shape of the model,
            without the axis of the batch if x has none. Or the mean over all steps of "bernoulli",
            "categorical" (class ids, -100 without a loss) or "squared" (half the sum of squares).
            None: that of a model of `rhn`.
        layer: the name of the layer; None: the only one.
        batch_first: True for (B, T, ...), False for (T, B, ...); None: the attribute of the model
            or of its parts.
        progress: as for `open_run`, of lags, then of chunks: listed windows and their offsets.
        title, data, unit: as for `open_run`.

    Raises InvalidInputError.

    >>> model = torch.nn.RNN(1, 1, bias=False, nonlinearity="relu")
    >>> _ = [torch.nn.init.constant_(weight, 0.5) for weight in model.parameters()]
    >>> x, y = torch.ones(40, 1), torch.zeros(40, 1)
    >>> found = truncation(model, x, y, lambda o, y: o[-1].sum())
    >>> found.window_10, found.sliding_error[3].round(6).item()  # 0.5^4
    (16.0, 0.0625)
    """
    model = checks.a_network(model)
    wanted = "a module with a recurrent layer"
    checks.require(isinstance(model, nn.Module), "model", checks.kind(model), wanted)
    loss_fn = _loss_of(model, loss_fn)
    data = LossData.read(model, x, y, batch_first)
    is_layer = layer is None and is_recurrent(model)
    name = "" if is_layer else recurrent_layer(model, layer)
    how: Any = {"layer": layer, "batch_first": batch_first, **names, "progress": False}
    runs = [open_run(model, x_b, **how) for x_b in data.sequences]
    slopes = loss_slopes(model, name, data.sequences, runs, data.loss(loss_fn))
    windows = listed_windows(len(runs[0]))
    found = truncation_errors(slopes, windows, progress)
    return Truncation(
        **runs[0].heading,
        loss=name_of_loss(loss_fn),
        windows=np.array(windows),
        error=found.error,
        cosine=found.cosine,
        sliding_error=found.sliding_error,
        sliding_cosine=found.sliding_cosine,
        by_lag=found.by_lag,
        windows_10=np.array([shortest(windows, error, TEN) for error in found.error_of_each]),
        windows_1=np.array([shortest(windows, error, ONE) for error in found.error_of_each]),
    )


def _quantiles(windows: np.ndarray) -> list[str]:
    """Windows of sequences at `QUANTILES`; one that is not below T is longer than all others."""
    sizes = np.where(np.isnan(windows), np.inf, windows)
    found = np.quantile(sizes, [*QUANTILES.values()], method="inverted_cdf")
    return [formatted(size if np.isfinite(size) else None) for size in found]


def _loss_of(model: nn.Module, loss_fn: str | Loss | None) -> str | Loss:
    """The loss; that of a model of `rhn` if none is given."""
    if loss_fn is None:
        own = [loss for kind, loss in LOSS_OF.items() if isinstance(model, kind)]
        loss_fn = own[0] if own else None
    is_loss = loss_fn in LOSSES if isinstance(loss_fn, str) else callable(loss_fn)
    wanted = f"{', '.join(LOSSES)}, or a function of outputs and y"
    checks.require(is_loss, "loss_fn", repr(loss_fn), wanted)
    return loss_fn  # type: ignore[return-value]


def _tensor(x: Any, model: nn.Module) -> Tensor:
    """Numbers (T, ...) or ids as a tensor on the device of the model."""
    t = checks.argument(x, model)
    is_sequence = isinstance(t, Tensor) and t.dim() > 0
    checks.require(is_sequence, "x", checks.kind(x), "numbers (T, m), or ids (T,)")
    return t


class LossData(NamedTuple):
    """Sequences of one length, and their targets."""

    sequences: list[Tensor]
    """What the model reads of each sequence: a batch of one, if the axis of the batch is known."""
    y: Tensor
    batch_first: bool | None
    axes: StepAxes
    """The axes of all outputs together, as the loss reads them."""
    has_batch: bool
    """Whether the model reads x with the axis of the batch that the user gave."""

    @classmethod
    def read(cls, model: nn.Module, x: Any, y: Any, batch_first: bool | None) -> "LossData":
        """Check x and y. Raises InvalidInputError."""
        first = batch_first_of(model) if batch_first is None else batch_first
        if isinstance(x, list):
            return cls._of_list(model, x, y, first)
        t, y = _tensor(x, model), checks.numbers("y", y)
        axes_of_one = 2 if t.is_floating_point() else 1
        if t.dim() <= axes_of_one:
            axes = StepAxes(len(t), 1, None)
            return cls([as_read(t, first, model)], y.to(t.device), first, axes, has_batch=False)
        wanted = "True for (B, T, ...), False for (T, B, ...)"
        checks.require(first is not None, f"batch_first of x {tuple(t.shape)}", None, wanted)
        batch, time = (0, 1) if first else (1, 0)
        axes = StepAxes(t.shape[time], t.shape[batch], batch)
        return cls([*t.split(1, batch)], y.to(t.device), first, axes, has_batch=True)

    @classmethod
    def _of_list(cls, model: nn.Module, x: list, y: Any, first: bool | None) -> "LossData":
        each = [_tensor(x_b, model) for x_b in x]
        is_even = len({t.shape for t in each}) == 1
        checks.require(is_even, "x", [*map(checks.kind, each)], "sequences of one length")
        is_like_x = isinstance(y, list) and len(y) == len(each)
        checks.require(is_like_x, "y", checks.kind(y), "a list like x")
        targets = [checks.numbers("y", y_b) for y_b in y]
        are_even = len({t.shape for t in targets}) == 1
        checks.require(are_even, "y", [*map(checks.kind, targets)], "targets of one shape")
        together = torch.stack(targets).to(each[0].device)
        read = [as_read(t, first, model) for t in each]
        axes = StepAxes(len(each[0]), len(each), 0)
        return cls(read, together, first, axes, has_batch=False)

    def loss(self, loss_fn: str | Loss) -> LossOfOutputs:
        """The loss as a function of the outputs of each sequence."""

        def of_outputs(outputs: list[Tensor]) -> Tensor:
            o = self._together(outputs)
            y = self.y.to(o.dtype) if self.y.is_floating_point() else self.y
            if isinstance(loss_fn, str):
                frames = self.axes.frames("output of the model", o), self.axes.frames("y", y)
                return frame_losses(loss_fn, *frames).mean()
            said = f"{name_of_loss(loss_fn)} cannot read outputs {tuple(o.shape)} and y"
            with checks.users_code(f"{said} {tuple(y.shape)}"):
                found = loss_fn(o, y)
            is_number = isinstance(found, Tensor) and found.is_floating_point()
            checks.require(is_number, "what loss_fn returns", checks.kind(found), "real numbers")
            return found.mean()

        return of_outputs

    def _together(self, outputs: list[Tensor]) -> Tensor:
        """The outputs of all sequences in the shape in which the loss reads them."""
        if self.has_batch:
            shape = outputs[0].shape[:2]
            has_each_step = self.axes.batch == 1 and shape == (self.axes.T, 1)
            return torch.cat(outputs, 1 if has_each_step else 0)
        alone = [self._without_batch(o) for o in outputs]
        return alone[0] if self.axes.batch is None else torch.stack(alone)

    def _without_batch(self, o: Tensor) -> Tensor:
        """The output of one sequence without the axis of the batch, if the model has one."""
        if self.batch_first is None:
            return o
        has_each_step = not self.batch_first and o.shape[:2] == (self.axes.T, 1)
        batch = 1 if has_each_step else 0
        return o.squeeze(batch)
