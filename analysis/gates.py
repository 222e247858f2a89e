"""Transform gates of a trained network along its sequences: figure 5(b) of Zilly et al. (2017).

Legend: T steps (frames or tokens), B sequences, n units, L layers of the network (all stacked
cells'), t the transform gate in (0, 1).
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from analysis.activity import GateActivity
from analysis.lesion_modes import cells_of, measured_copy, places
from analysis.sequences import name_of, task_of
from rhn.cells import Cell
from rhn.errors import InvalidInputError
from rhn.training.ensemble import deterministic

OPEN, CLOSED = 0.9, 0.1
ROWS = 16  # sequences at once: every gate of every step is held


def gate_activity(
    model: nn.Module,
    batch: Sequence[np.ndarray] | np.ndarray,
    *,
    device: torch.device | str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> GateActivity:
    """Measure the transform gates of each layer at every step, from a state of zeros.

    Args:
        model: a network with gated cells (RHN, LSTM: t = i, GRU: t = 1 - z, or a user's own with
            `gates`), or such a cell alone.
        batch: piano rolls: a list of arrays (T, keys), or one array. For a language model texts:
            excerpts (`analysis.sequences`), arrays of ids (T,), or one.
        device: of the computation (default: that of the network).
        progress: called with (sequences done, sequences in all).

    Raises:
        InvalidInputError: the cells have no transform gates, shapes do not fit, or a gate is not
            finite.

    >>> from rhn.cells import RHN
    >>> cell = RHN(88, 4, 2, transform_bias=-20, init="gaussian:0")  # t = sigmoid(-20)
    >>> activity = gate_activity(cell, np.ones((3, 88)))
    >>> activity.sequences[0].activity.round(6)  # layers x frames
    array([[0., 0., 0.],
           [0., 0., 0.]])
    """
    task, every = task_of(model), places(model)
    sequences = task.sequences(batch)
    measured: list[dict] = [{}] * len(sequences)
    for done, (i, gates) in enumerate(_by_sequence(model, task, sequences, device), 1):
        if not np.isfinite(gates).all():
            raise InvalidInputError(
                f"a gate is NaN along {name_of(sequences[i], i)}: the weights are too large to run"
            )
        measured[i] = {
            "activity": gates.mean(-1),
            "open": (gates > OPEN).mean(-1),
            "closed": (gates < CLOSED).mean(-1),
        }
        progress(done, len(sequences))
    return GateActivity(
        labels=tuple(place.label for place in every),
        names=tuple(name_of(sequence, i) for i, sequence in enumerate(sequences)),
        lengths=np.array([len(sequence) for sequence in sequences]),
        **{
            name: np.concatenate([arrays[name] for arrays in measured], 1)
            for name in ("activity", "open", "closed")
        },  # type: ignore[arg-type]
        symbols=np.array(
            [symbol for sequence in sequences for symbol in task.symbols(sequence)], str
        ),
        gate_name=every[0].cell.gate_name,
    )


def unit_means(
    model: nn.Module, sequences: Sequence[np.ndarray], *, device: torch.device | str | None = None
) -> list[Tensor]:
    """Average the transform gate of each unit over all steps on which a prediction depends.

    One (n,) a layer, float64 on the CPU. The last step of a sequence predicts nothing and does not
    count.
    """
    total, steps, read = 0.0, 0, [s[:-1] for s in sequences if len(s) > 1]
    for _, values in _by_sequence(model, task_of(model), read, device):
        total, steps = total + values.sum(1), steps + values.shape[1]
    return list(torch.from_numpy(total / steps))


def _by_sequence(model, task, sequences, device) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (index, gates of every layer (L, T, n) float64) of each sequence, `ROWS` at a time."""
    model = measured_copy(model, device)
    like, seen = next(model.parameters()), []  # the input of each cell, after any module before it
    for cell in cells_of(model).values():
        cell.register_forward_pre_hook(lambda module, args: seen.append((module, args[0])))
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    for start in range(0, len(order), ROWS):
        some = order[start : start + ROWS]
        inputs = task.inputs([sequences[i] for i in some], like)
        with deterministic(), torch.no_grad():
            seen.clear()
            model(inputs)
            layers = [t for cell, x in seen for t in _transform_gates(cell, x)]
        for row, i in enumerate(some):
            steps = len(sequences[i])
            yield i, np.stack([t[:steps, row].double().numpy(force=True) for t in layers])


def _transform_gates(cell: Cell, x: Tensor) -> Sequence[Tensor]:
    s0 = x.new_zeros(x.shape[1], cell.state_size)
    gates = cell.gates(x, torch.cat((s0.unsqueeze(0), cell.states(x, s0)[:-1]))).t
    if not gates:
        raise InvalidInputError(
            f"{type(cell).__name__} has no transform gates to measure: expected a gated cell "
            "(RHN, LSTM, GRU), or one of your own that defines gates(x, s) (lesions work "
            "without gates: rhn-analyze lesion --mode carry)"
        )
    if {t.shape for t in gates} != {(*x.shape[:-1], cell.hidden_size)} or len(gates) != cell.depth:
        raise InvalidInputError(
            f"{type(cell).__name__}.gates returns transform gates of shapes "
            f"{[tuple(t.shape) for t in gates]}: expected "
            f"{cell.depth}, one per layer, of shape {(*x.shape[:-1], cell.hidden_size)} for x of "
            f"shape {tuple(x.shape)}"
        )
    return gates
