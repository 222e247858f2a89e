"""Transform gates of a trained network along its sequences: figure 5(b) of Zilly et al. (2017).

Legend: T steps (frames or tokens), B sequences, n units, L layers of the network (of all stacked
cells together), t the transform gate in (0, 1).
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from analysis.activity import GateActivity
from analysis.network import gates_of, open_network, passes_of, places, recorded_cells
from analysis.sequences import Excerpt, Music, Text, excerpts, sequence_name, task_of
from analysis.trained import opened
from rhn.cells import Cell
from rhn.data.text import TextCorpus
from rhn.errors import InvalidInputError
from rhn.training.ensemble import deterministic
from rhn.utils.old import typed

OPEN, CLOSED = 0.9, 0.1
EXCERPT = 60  # tokens of an excerpt of a text
ROWS = 16  # sequences at once: every gate of every step is held


@typed
def gate_activity(
    model: nn.Module | str | Path,
    batch: Sequence[np.ndarray] | np.ndarray | str | Path | None = None,
    *,
    split: str = "",
    cell: str | None = None,
    batch_axis: int | None = None,
    device: torch.device | str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> GateActivity:
    """Measure the transform gates of each layer at every step, from a state of zeros.

    Args:
        model: a network whose cells have gates: RHN, LSTM (t = i), GRU (t = 1 - z), a gated cell of
            torch.nn, or a cell of your own with a method `gates`. The model can also be such a cell
            without a network, or the path of a checkpoint or run folder.
        batch: one array, or a list of arrays. Each array is a piano roll (T, keys). For a language
            model each array holds token ids (T,), or is an excerpt (`analysis.excerpts`). batch can
            also be the path of a file of chorales or of a text. None: the data of the training run
            of the checkpoint.
        split: the split to read if `batch` is a path or None (default: test; valid for a text).
        cell: the cell of the checkpoint if it is your own, as package.module:factory.
        batch_axis: as for `analysis.lesion`.
        device: device of the computation (default: that of the network).
        progress: called with (sequences done, sequences in all).

    Raises:
        InvalidInputError: shapes do not fit, or a gate is not finite, or the cells have no
            transform gates.

    >>> from rhn.cells import RHN
    >>> cell = RHN(88, 4, 2, transform_bias=-20, init="gaussian:0")  # t = sigmoid(-20)
    >>> activity = gate_activity(cell, np.ones((3, 88)))
    >>> activity.sequences[0].activity.round(6)  # layers x frames
    array([[0., 0., 0.],
           [0., 0., 0.]])
    """
    read, data, _ = opened(model, batch, split, excerpts_of, cell)
    task = task_of(read, data)
    sequences = task.sequences(data)
    network = open_network(read, task.width, batch_axis=batch_axis, device=device)
    measured: list[dict] = [{}] * len(sequences)
    labels: tuple[str, ...] = ()
    for done, (i, activity) in enumerate(_by_sequence(network, task, sequences), 1):
        labels = tuple(activity)
        gates = [*activity.values()]  # (T, n), n of each layer
        if not all(np.isfinite(layer).all() for layer in gates):
            raise InvalidInputError(
                f"a gate is NaN along {sequence_name(sequences[i], i)}: the weights are too large "
                "to run"
            )
        measured[i] = {
            "activity": np.stack([layer.mean(-1) for layer in gates]),
            "open": np.stack([(layer > OPEN).mean(-1) for layer in gates]),
            "closed": np.stack([(layer < CLOSED).mean(-1) for layer in gates]),
        }
        progress(done, len(sequences))
    return GateActivity(
        labels=labels,
        names=tuple(sequence_name(sequence, i) for i, sequence in enumerate(sequences)),
        lengths=np.array([len(sequence) for sequence in sequences]),
        **{
            name: np.concatenate([arrays[name] for arrays in measured], 1)
            for name in ("activity", "open", "closed")
        },  # type: ignore[arg-type]
        symbols=np.array(
            [symbol for sequence in sequences for symbol in task.symbols(sequence)], str
        ),
        gate_name=places(network)[0].cell.gate_name,
        coupled=all(place.cell.carry_name == "" for place in places(network)),
    )


def excerpts_of(corpus: TextCorpus, split: str, length: int = EXCERPT) -> list[Excerpt]:
    """Cut the excerpts of a text whose gates are shown."""
    return excerpts(getattr(corpus, split), corpus.vocabulary, split=split, length=length)


def _by_sequence(
    network: nn.Module, task: Music | Text, sequences: Sequence[np.ndarray]
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yield (index of a sequence, its transform gates: label of a layer -> (T, n) float64).
    `ROWS` sequences are computed at a time.
    """
    like = next(network.parameters())
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    for start in range(0, len(order), ROWS):
        some = order[start : start + ROWS]
        inputs = task.inputs([sequences[i] for i in some], like)
        with deterministic(), torch.no_grad():
            layers = _gates_by_label(network, inputs)
        for row, i in enumerate(some):
            steps = len(sequences[i])
            yield (
                i,
                {
                    label: gates[:steps, row].double().numpy(force=True)
                    for label, gates in layers.items()
                },
            )


def _gates_by_label(network: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """Return the transform gates (T, B, n) of each layer in each pass of its cell, by label."""
    with recorded_cells(network) as calls:
        network(inputs)
    T, B = inputs.shape[:2]
    found, every = dict[str, Tensor](), places(network)
    for name, passes in passes_of(network, calls, T, B).items():
        own = [place for place in every if place.name == name]
        for number, part in enumerate(passes, 1):
            gates = _checked(own[0].cell, gates_of(own[0].cell, part), T, B)
            call = f", call {number}" if len(passes) > 1 else ""
            for k, place in enumerate(own):
                found[f"{place.label}{call}"] = gates[k]
    return found


def _checked(cell: Cell, gates: Sequence[Tensor], T: int, B: int) -> Sequence[Tensor]:
    """Return the transform gates of a cell. Raises InvalidInputError if there are none, or if there
    is not one of the right shape for each layer.
    """
    if not gates:
        raise InvalidInputError(
            f"{type(cell).__name__} has no transform gates to measure: expected a gated cell "
            "(RHN, LSTM, GRU), or one of your own that defines gates(x, s) (lesions work "
            "without gates: rhn-analyze lesion --mode carry)"
        )
    shape = (T, B, cell.hidden_size)
    if {gate.shape for gate in gates} != {shape} or len(gates) != cell.depth:
        raise InvalidInputError(
            f"{type(cell).__name__}.gates returns transform gates of shapes "
            f"{[tuple(gate.shape) for gate in gates]} over {T} steps of {B} sequences: "
            f"expected {cell.depth}, one per layer, of shape {shape}"
        )
    return gates
