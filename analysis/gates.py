"""Transform gates of a trained network along its sequences: figure 5(b) of Zilly et al. (2017).

Legend: T steps (frames or tokens), B sequences, n units, L layers of the network (of all stacked
cells together), t the transform gate in (0, 1).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from analysis.activity import GateActivity
from analysis.network import (
    OURS,
    check_causal,
    copied_network,
    gates_of_module,
    gates_of_network,
    places,
)
from analysis.sequences import Excerpt, Music, Text, excerpts, task_of
from analysis.trained import NetworkAndData, Progress, no_report, opened
from gersgorin import door
from rhn.cells import Cell
from rhn.data.text import TextCorpus
from rhn.training.ensemble import deterministic

OPEN, CLOSED = 0.9, 0.1
EXCERPT = 60  # tokens of an excerpt of a text
ROWS = 16  # sequences at once: every gate of every step is held


def gate_activity(
    model: nn.Module | str | Path,
    batch: Any = None,
    *,
    split: str = "",
    chorales: Sequence[str] = (),
    length: int | None = None,
    cell: str | None = None,
    batch_first: bool | None = None,
    device: torch.device | str | None = None,
    progress: Progress = no_report,
) -> GateActivity:
    """Measure the transform gates of each layer at every step, from a state of zeros.

    Args:
        model: a network of `rhn.models`, a cell, or a module with cells of `rhn.cells` or RNN,
            LSTM (t = i) and GRU (t = 1 - z) of torch.nn. The model can also be the path of a
            checkpoint or run folder.
        batch: one array, or a list of arrays. Each array is a piano roll or other numbers (T, m).
            For a language model each array holds token ids (T,), or is an excerpt
            (`analysis.excerpts`). batch can also be the path of a file of chorales or of a text.
            None: the data of the training run of the checkpoint.
        split: the split to read if `batch` is a path or None (default: test; valid for a text).
        chorales: names of pieces, or their numbers in the split; none: all of the split.
        length: number of tokens in each of the four excerpts of a text (default: 60).
        cell: the cell of the checkpoint if it is your own, as package.module:factory.
        batch_first: True for a module of x (B, T, m), False for (T, B, m); None: its attribute.
        device: device of the computation (default: that of the network).
        progress: called with (sequences done, sequences in all).

    Raises InvalidInputError for shapes that do not fit, gates that are not finite, and cells
    without transform gates.

    >>> from rhn.cells import RHN
    >>> cell = RHN(88, 4, 2, transform_bias=-20, init="gaussian:0")  # t = sigmoid(-20)
    >>> activity = gate_activity(cell, np.ones((3, 88)))
    >>> activity.sequences[0].activity.round(6)  # layers x frames
    array([[0., 0., 0.],
           [0., 0., 0.]])
    """
    found = opened(
        model, batch, cut=excerpts_of, split=split, chorales=chorales, cell=cell, length=length
    )
    return measured_gates(found, batch_first=batch_first, device=device, progress=progress)


def measured_gates(
    given: NetworkAndData,
    *,
    batch_first: bool | None = None,
    device: torch.device | str | None = None,
    progress: Progress = no_report,
) -> GateActivity:
    """Measure the gates of a network with its sequences; see `gate_activity`."""
    task = task_of(given.model, given.sequences)
    sequences = task.sequences(given.sequences)
    network = copied_network(given.model, device)
    parts: list[dict] = [{}] * len(sequences)
    names = tuple(
        getattr(sequence, "name", None) or f"sequence {i}"
        for i, sequence in enumerate(sequences, 1)
    )
    each = _by_sequence(network, task, sequences, batch_first)
    for done, (i, gates) in enumerate(each, start=1):
        finite = all(np.isfinite(layer).all() for layer in gates)
        door.require(finite, f"gate along {names[i]}", "NaN", "0 to 1")
        parts[i] = {
            "activity": np.stack([layer.mean(-1) for layer in gates]),
            "open": np.stack([(layer > OPEN).mean(-1) for layer in gates]),
            "closed": np.stack([(layer < CLOSED).mean(-1) for layer in gates]),
        }
        progress(done, len(sequences))
    arrays: dict[str, Any] = {
        name: np.concatenate([part[name] for part in parts], 1) for name in parts[0]
    }
    return GateActivity(
        network=given.network,
        data=given.data,
        split=given.split,
        step=task.step if given.corpus or isinstance(network, OURS) else "",
        labels=tuple(place.label for place in places(network)),
        names=names,
        lengths=np.array([len(sequence) for sequence in sequences]),
        symbols=tuple(symbol for sequence in sequences for symbol in task.symbols(sequence)),
        shown=given.chosen or 2,
        **arrays,
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
    like, every = next(network.parameters()), places(network)
    ours = isinstance(network, (*OURS, Cell))
    if not ours:
        with torch.no_grad():
            check_causal(network, task.inputs(sequences[:1], like)[:, 0], batch_first)
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    rows = ROWS if ours else 1
    for start in range(0, len(order), rows):
        some = order[start : start + rows]
        inputs = task.inputs([sequences[i] for i in some], like)
        with deterministic(), torch.no_grad():
            if ours:
                gates = gates_of_network(network, inputs)
            else:
                gates = gates_of_module(network, inputs[:, 0], batch_first, every)
        for row, i in enumerate(some):
            yield i, [_numbers(layer[: len(sequences[i]), row]) for layer in gates]


def _numbers(gates: Tensor) -> np.ndarray:
    return gates.double().numpy(force=True)
