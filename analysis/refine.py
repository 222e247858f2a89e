"""Refinement within a time step: the loss if the readout is applied after each layer, and the
distance of the output of each layer from that of the last one (section 6 of Zilly et al. 2017).

    s_0 = y[t-1], s_l = layer l of s_{l-1}, s_L = y[t]
    distance after layer l = mean over predicted steps of |s_l - s_L| / |s_0 - s_L|

The readout is what a network computes from the outputs of its last recurrent module, as a rule
s_L; of an LSTM, s is the output h. The states are those of an ordinary run: only the readout gets
another layer's output. The layers of a cell below the last one are read in the same way.

Legend: L layers of a cell, K rows (all layers, and s_0 of each cell), T steps, B sequences of a
batch, N sequences, n units.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from analysis.jackknife import paired_interval
from analysis.layer_results import (
    BEST_CONSTANT,
    ENDS,
    FRAMES,
    LAYER,
    LOSS,
    SEQUENCES,
    LayerResult,
    layer_ticks,
)
from analysis.layers import copied_network, places, recurrent_modules
from analysis.lesions import check_keys, next_frame_nll, stretches_of
from analysis.recorded import CellRun, check_causal, runs_of_module, runs_of_network
from analysis.sequences import Music, NetworkAndData, Text, network_title, opened, task_of
from gersgorin import checks
from rhn.models.networks import RecurrentModel
from rhn.utils.figures import BLUE
from rhn.utils.progress import Progress, reported
from rhn.utils.tables import formatted
from rhn.utils.threads import deterministic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

READ, BEFORE = "readout after layer", "before "
LOSS_ENDS = ("loss from", "loss to")
CHANGE, CHANGE_ENDS = "change by layer", ("change from", "change to")
DISTANCE, DISTANCE_ENDS = "distance to last", ("distance from", "distance to")
UNITS = {"frame": "loss (nats per frame)", "token": "loss (nats per token)"}


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Refinement(LayerResult):
    """The losses of a network whose readout gets the output of each layer in turn, and how far this
    output is from that of the last layer of the cell. A row is a layer, or s_0 of a cell.

    >>> from rhn import PolyphonicModel
    >>> found = refinement(PolyphonicModel("rhn", hidden_size=3, depth=2), [np.ones((5, 88))])
    >>> found.labels, found.distance[[0, 2]].tolist()
    (('before 1', '1', '2'), [1.0, 0.0])
    """

    item: ClassVar[str] = READ
    printed: ClassVar[tuple[str, ...]] = (BEST_CONSTANT,)
    texts: ClassVar[tuple[str, ...]] = (
        SEQUENCES, FRAMES, ENDS, BEST_CONSTANT, READ, LOSS, *LOSS_ENDS, CHANGE, *CHANGE_ENDS,
        DISTANCE, *DISTANCE_ENDS, BEFORE, LAYER, *UNITS.values(),
    )  # fmt: skip

    constant: float
    """Loss of the constant predictor with the lowest loss on these sequences."""
    labels: tuple[str, ...]
    """Name of each row: that of the layer, as in `LesionTable`, or "before 1" for s_0."""
    depth: Annotated[np.ndarray, "row"]
    """Number of the layer within its cell, from 1; 0 for s_0, with which the rows of a cell begin.
    (K,)"""
    lengths: Annotated[np.ndarray, "sequence"]
    """Number of predicted steps of each sequence (N,), in the given order without those of one
    step.
    """
    loss_sums: Annotated[np.ndarray, "row", "sequence"]
    """Loss on each sequence in nats, summed over its predicted steps, (K, N). NaN for layers with
    another number of units than the last one.
    """
    distance_sums: Annotated[np.ndarray, "row", "sequence"]
    """|s_l - s_L| / |s_0 - s_L| on each sequence, summed over its predicted steps, (K, N). NaN if
    the state stays at a step, up to its rounding.
    """

    @property
    def loss(self) -> np.ndarray:
        """Loss of each row in nats per predicted step, (K,)."""
        return self.loss_sums.sum(1) / self.lengths.sum()

    @property
    def distance(self) -> np.ndarray:
        """Mean distance of each row from the last layer of its cell, relative to s_0, (K,)."""
        return self.distance_sums.sum(1) / self.lengths.sum()

    def title(self) -> list[str]:
        return [*super().title(), ENDS]

    def table(self) -> Mapping[str, Any]:
        none = np.zeros(len(self.lengths))
        before = np.roll(self.loss_sums, 1, axis=0)
        before[self.depth == 0] = np.nan
        loss_low, loss_high = paired_interval(self.loss_sums, none, self.lengths)
        change_low, change_high = paired_interval(self.loss_sums, before, self.lengths)
        distance_low, distance_high = paired_interval(self.distance_sums, none, self.lengths)
        return {
            LOSS: self.loss,
            LOSS_ENDS[0]: loss_low,
            LOSS_ENDS[1]: loss_high,
            CHANGE: (self.loss_sums - before).sum(1) / self.lengths.sum(),
            CHANGE_ENDS[0]: change_low,
            CHANGE_ENDS[1]: change_high,
            DISTANCE: self.distance,
            DISTANCE_ENDS[0]: distance_low,
            DISTANCE_ENDS[1]: distance_high,
            BEST_CONSTANT: self.constant,
            SEQUENCES: len(self.lengths),
            FRAMES: int(self.lengths.sum()),
        }

    def items(self) -> Sequence[str]:
        return [*self.labels]

    def coordinates(self) -> Mapping[str, Any]:
        return {"row": self.items()}

    def figure_title(self) -> str:
        numbers = f"{LOSS} {formatted(self.loss[-1])}, {BEST_CONSTANT} {formatted(self.constant)}"
        return f"{self.title_of_data()}\n{numbers}"

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the loss after each layer with its 95 % interval, into these axes or new ones. A
        line joins the layers of a cell.
        """
        return self._plot(LOSS, LOSS_ENDS, UNITS[self.step], ax)

    def plot_distance(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the distance to the last layer in the same way."""
        return self._plot(DISTANCE, DISTANCE_ENDS, DISTANCE, ax)

    def draw(self, part: "SubFigure") -> float:
        from rhn.utils.composer import pair

        left, right, height = pair(part)
        self.plot(left)
        self.plot_distance(right)
        return height

    def _plot(self, column: str, ends: tuple[str, str], label: str, ax: "Axes | None") -> "Axes":
        """Draw a column with its intervals."""
        from rhn.utils.composer import new_axes

        ax = new_axes() if ax is None else ax
        table, every = self.table(), np.arange(len(self.labels))
        middle, low, high = (table[name] for name in (column, *ends))
        errors = np.clip([middle - low, high - middle], 0, None)
        for cell in np.split(every, np.flatnonzero(self.depth == 0)[1:]):
            ax.errorbar(cell, middle[cell], yerr=errors[:, cell], fmt="o-", color=BLUE,
                        markersize=5, linewidth=1.2, capsize=3)  # fmt: skip
        layer_ticks(self.labels, ax.xaxis, 0)
        ax.set(xlabel=READ, ylabel=label, ylim=(0, None))
        return ax


class Batch(NamedTuple):
    """Some sequences that are read together."""

    runs: Callable[[], list[CellRun]]
    """A function that runs every cell along the steps with a prediction."""
    loss: Callable[[], Tensor]
    """A function that returns the loss in nats of each sequence, (B,), by the network."""
    predicted: Tensor
    """1 for steps with a prediction, 0 for padding, (T, B)."""


def refinement(
    model: nn.Module | str | Path | NetworkAndData,
    batch: Any = None,
    *,
    split: str = "",
    chorales: Sequence[str] = (),
    length: int | None = None,
    max_tokens: int | None = None,
    cell: str | None = None,
    batch_first: bool | None = None,
    device: torch.device | str | None = None,
    progress: Progress = None,
) -> Refinement:
    """Measure the loss of a network if its readout gets the output of each layer in turn.

    The arguments are those of `analysis.lesion`; progress is that of batches. One call measures
    one split.

    Raises InvalidInputError as `lesion`, and for cells whose layers cannot be run one by one.

    >>> from rhn import PolyphonicModel
    >>> found = refinement(PolyphonicModel("rhn", hidden_size=3, depth=2), [np.ones((5, 88))])
    >>> found.loss_sums.shape  # s_0 and two layers, one sequence
    (3, 1)
    """
    how: Any = {"split": split, "chorales": chorales, "cell": cell, "length": length}
    given = opened(model, batch, stretches_of, max_tokens=max_tokens, **how)
    network = copied_network(given.model, device)
    task = task_of(network, given.sequences)
    sequences = task.sequences(given.sequences)
    if isinstance(task, Music):
        check_keys(sequences)
    steps = np.array([len(sequence) - 1.0 for sequence in sequences])
    usable = np.flatnonzero(steps)
    checks.require(len(usable) > 0, f"number of {task.step}s to predict", 0, "at least 1")
    longest_first = usable[np.argsort(-steps[usable], kind="stable")]
    batches = _batches(network, task, [sequences[i] for i in longest_first], batch_first)
    losses, distances = list[Tensor](), list[Tensor]()
    with reported(progress, "refinement", total=len(batches)) as advance:
        for done, each in enumerate(batches, start=1):
            loss, distance = _measured(network, each)
            losses.append(loss)
            distances.append(distance)
            advance(done, len(batches))
    given_order = np.argsort(longest_first)
    labels, depth = _rows(network)
    loss_sums, distance_sums = (
        torch.cat(parts, 1).numpy(force=True)[:, given_order] for parts in (losses, distances)
    )
    finite = np.isfinite(loss_sums[-1]).all()
    checks.require(bool(finite), "loss of the network", "not finite", "a number")
    return Refinement(
        network=network_title(given.model),
        data=given.data,
        split=given.split,
        step=task.step,
        constant=task.constant_loss([sequences[i] for i in usable]),
        labels=labels,
        depth=depth,
        lengths=steps[usable],
        loss_sums=loss_sums,
        distance_sums=distance_sums,
    )


def _rows(network: nn.Module) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the label of each row, and the number of its layer within the cell; 0 for s_0."""
    labels, depth = list[str](), list[int]()
    cell = None
    for place in places(network):
        if place.cell is not cell:
            cell = place.cell
            labels.append(BEFORE + place.label)
            depth.append(0)
        labels.append(place.label)
        depth.append(depth[-1] + 1)
    return tuple(labels), np.array(depth)


def _batches(
    network: nn.Module,
    task: Music | Text,
    sequences: Sequence[np.ndarray],
    batch_first: bool | None,
) -> list[Batch]:
    """Return sequences in batches, in this order; of a user's module, one sequence at a time."""
    like, found = next(network.parameters()), list[Batch]()
    if isinstance(network, RecurrentModel):
        for each in task.batches(sequences, like):
            runs = partial(runs_of_network, network, each.frames[:-1])
            loss = partial(task.nll, network, each.frames, each.mask)
            found.append(Batch(runs, loss, each.mask[1:]))
        return found
    every = [task.inputs([sequence], like)[:, 0] for sequence in sequences]
    check_causal(network, every[0], batch_first)
    for x in every:
        runs = partial(runs_of_module, network, x[:-1], batch_first)
        loss = partial(next_frame_nll, network, x, batch_first)
        found.append(Batch(runs, loss, x.new_ones(len(x) - 1, 1)))
    return found


def _measured(network: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the sums of losses and of distances (K, B) float64 over the predicted steps of each
    sequence.
    """
    *_, last = recurrent_modules(network).values()
    losses, distances = list[Tensor](), list[Tensor]()
    is_sequence = batch.predicted.any(0)  # not a row of padding
    with deterministic(), torch.no_grad():
        for run in batch.runs():
            outputs = outputs_of_layers(run)
            distances.append(_distances(outputs, batch.predicted))
            for y in outputs:
                losses.append(_loss_of_readout(last, y, batch)[is_sequence])
    return torch.stack(losses), torch.cat(distances)[:, is_sequence]


def outputs_of_layers(run: CellRun) -> Tensor:
    """Return s_0 and the output of each layer of a cell along a run, (L + 1, T, B, n). Raises
    InvalidInputError if the cell cannot run its layers one by one, or if they do not give its
    states.
    """
    cell, kind = run.cell, type(run.cell).__name__
    checks.require(cell.runs_layers, f"run_layer of {kind}", "missing", "that of each layer")
    x, y, after = (part.flatten(0, 1) for part in (run.x, run.before, run.after))
    states = [y]
    for layer in range(cell.depth):
        states.append(cell.run_layer(layer, x, states[-1], y))
    tolerance = torch.finfo(after.dtype).eps ** 0.5
    same = torch.allclose(states[-1], after, rtol=tolerance, atol=tolerance)
    checks.require(same, f"last state by run_layer of {kind}", "another", "that of step")
    return torch.stack([cell.outputs_of(s) for s in states]).unflatten(1, run.x.shape[:2])


def _distances(outputs: Tensor, predicted: Tensor) -> Tensor:
    """Return |s_l - s_L| / |s_0 - s_L| of outputs (L + 1, T, B, n), summed over the predicted
    steps, (L + 1, B) float64. NaN if a change of the state is within the rounding of the state.
    """
    far = torch.linalg.vector_norm(outputs - outputs[-1], dim=-1)
    rounding = torch.finfo(outputs.dtype).eps * torch.linalg.vector_norm(outputs[-1], dim=-1)
    change = torch.where(far[0] > rounding, far[0], torch.nan)
    return torch.where(predicted > 0, far / change, 0).sum(1, dtype=torch.float64)


def _loss_of_readout(last: nn.Module, y: Tensor, batch: Batch) -> Tensor:
    """Return the loss (B,) float64 if the last recurrent module returns y (T, B, n) as its outputs;
    NaN for another number of units.
    """
    if y.shape[-1] != last.hidden_size:
        return y.new_full(y.shape[1:2], torch.nan, dtype=torch.float64)
    with _outputs_replaced(last, y):
        return batch.loss().reshape(y.shape[1:2])


@contextmanager
def _outputs_replaced(module: nn.Module, y: Tensor) -> Iterator[None]:
    """Let a recurrent module return y (T, B, n) as its outputs, in one call or several that follow
    each other. A cell of one step also gets them as its next states, which is of no effect: its
    outputs are replaced at every step.
    """
    left = iter(y)

    def replace(module: nn.Module, args: Any, result: Any) -> Any:
        output, *states = result if isinstance(result, tuple) else (result,)
        old = output.data  # of a packed sequence all rows
        steps = old.numel() // y[:1].numel()
        new: Any = torch.stack([*islice(left, steps)]).reshape(old.shape)
        if isinstance(output, PackedSequence):
            new = output._replace(data=new)
        return (new, *states) if isinstance(result, tuple) else new

    hook = module.register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()
