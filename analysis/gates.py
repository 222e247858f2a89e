"""Transform gates of a trained network along its sequences: figure 5(b) of Zilly et al. (2017).

Legend: T steps (frames or tokens), B sequences, n units, L layers of the network (of all stacked
cells together), m inputs, N entries of a state, t the transform gate in (0, 1).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from analysis.gate_table import GateActivity
from analysis.layers import copied_network, places
from analysis.recorded import CellRun, check_causal, runs_of_module, runs_of_network
from analysis.sequences import (
    Music,
    NetworkAndData,
    Text,
    network_title,
    opened,
    task_of,
)
from analysis.texts import Excerpt, excerpts
from gersgorin import checks
from rhn.cells import Cell
from rhn.data.text import TextCorpus
from rhn.models.networks import RecurrentModel
from rhn.utils.progress import Progress, reported
from rhn.utils.threads import deterministic

OPEN, CLOSED = 0.9, 0.1
EXCERPT = 60  # tokens of an excerpt of a text
ROWS = 16  # sequences at once: every gate of every step is held


def gate_activity(
    model: nn.Module | str | Path | NetworkAndData,
    batch: Any = None,
    *,
    split: str = "",
    chorales: Sequence[str] = (),
    length: int | None = None,
    cell: str | None = None,
    batch_first: bool | None = None,
    device: torch.device | str | None = None,
    progress: Progress = None,
) -> GateActivity:
    """Measure the transform gates of each layer at every step, from a state of zeros.

    model, batch and the other arguments are those of `analysis.lesion`, except that: the numbers of
    a sequence (T, m) are any numbers, the model can be a cell, and `length` is the number of tokens
    in each of four excerpts of a text (default: 60). The gate is i of an LSTM, and 1 - z of a GRU.

    Raises InvalidInputError for shapes that do not fit, gates that are not finite, and cells
    without transform gates.

    >>> from rhn.cells import RHN
    >>> cell = RHN(88, 4, 2, transform_bias=-20, init="gaussian:0")  # t = sigmoid(-20)
    >>> activity = gate_activity(cell, np.ones((3, 88)))
    >>> activity.sequences[0].activity.round(6)  # layers x frames
    array([[0., 0., 0.],
           [0., 0., 0.]])
    """
    how: Any = {"split": split, "chorales": chorales, "cell": cell, "length": length}
    given = opened(model, batch, excerpts_of, **how)
    task = task_of(given.model, given.sequences)
    sequences = task.sequences(given.sequences)
    network = copied_network(given.model, device)
    parts = dict[int, np.ndarray]()
    names = [getattr(s, "name", None) or f"sequence {i}" for i, s in enumerate(sequences, 1)]
    each = _by_sequence(network, task, sequences, batch_first)
    with reported(progress, "gates", total=len(sequences)) as advance:
        for done, (i, gates) in enumerate(each, start=1):
            finite = all(np.isfinite(layer).all() for layer in gates)
            checks.require(finite, f"gate along {names[i]}", "not finite", "0 to 1")
            units = [(layer, layer > OPEN, layer < CLOSED) for layer in gates]
            parts[i] = np.array([[numbers.mean(-1) for numbers in layer] for layer in units])
            advance(done, len(sequences))
    in_order = [parts[i] for i in range(len(sequences))]
    activity, opened_share, closed = np.concatenate(in_order, 2).swapaxes(0, 1)
    return GateActivity(
        network=network_title(given.model),
        data=given.data,
        split=given.split,
        step=task.step if given.corpus or isinstance(network, RecurrentModel) else "",
        labels=tuple(place.label for place in places(network)),
        names=tuple(names),
        lengths=np.array([len(sequence) for sequence in sequences]),
        symbols=tuple(word for s in sequences for word in getattr(s, "symbols", ())),
        shown=given.chosen or 2,
        activity=activity,
        open=opened_share,
        closed=closed,
    )


def excerpts_of(corpus: TextCorpus, split: str, length: int = EXCERPT) -> list[Excerpt]:
    """Cut the excerpts of a text whose gates are measured."""
    return excerpts(getattr(corpus, split), corpus.vocabulary, split=split, length=length)


def _by_sequence(
    network: nn.Module,
    task: Music | Text,
    sequences: Sequence[np.ndarray],
    batch_first: bool | None,
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Yield (index of a sequence, its transform gates (T, n) float64 of each layer). `ROWS`
    sequences are computed at a time; by a module of the user's, one.
    """
    like = next(network.parameters())
    ours = isinstance(network, RecurrentModel | Cell)
    if not ours:
        check_causal(network, task.inputs([sequences[0]], like)[:, 0], batch_first)
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    rows = ROWS if ours else 1
    for start in range(0, len(order), rows):
        some = order[start : start + rows]
        inputs = task.inputs([sequences[i] for i in some], like)
        with deterministic(), torch.no_grad():
            gates = _gates_of_layers(network, inputs, batch_first)
        for row, i in enumerate(some):
            own = [layer[: len(sequences[i]), row].double() for layer in gates]
            yield i, [layer.numpy(force=True) for layer in own]


def _gates_of_layers(network: nn.Module, inputs: Tensor, batch_first: bool | None) -> list[Tensor]:
    """Return the transform gates (T, B, n) of each layer along inputs (T, B, m), or ids (T, B); of
    a user's module B is 1.
    """
    if isinstance(network, RecurrentModel | Cell):
        runs = runs_of_network(network, inputs)
    else:
        runs = runs_of_module(network, inputs[:, 0], batch_first)
    return [gate for run in runs for gate in _gates_of_run(run)]


def _gates_of_run(run: CellRun) -> list[Tensor]:
    """Return the transform gates (T, B, n) of the layers of a cell."""
    cell, x = run.cell, run.x
    gates = cell.gates(x, run.before).t
    kind, shape = type(cell).__name__, (*x.shape[:2], cell.hidden_size)
    wanted = f"gates(x, s) with t of {cell.depth} layers, as of RHN, LSTM and GRU"
    shapes = [tuple(gate.shape) for gate in gates]
    checks.require(shapes == [shape] * cell.depth, f"gates of {kind}", shapes or "none", wanted)
    return [*gates]
