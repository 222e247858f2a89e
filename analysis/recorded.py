"""The inputs and states of the recurrent layers of a network while it reads sequences. In a user's
module they come from the recorded calls of its layers while it reads one sequence; a test finds
layers that read a frame before its time.

Legend: T steps, B sequences, m inputs, N entries of a state.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analysis.layers import cells_of_layers, recurrent_modules
from gersgorin import checks
from rhn.cells import Cell
from rhn.utils.validation import signature_of

Calls = defaultdict[str, list[tuple[Tensor, Tensor]]]
"""The calls of each recurrent module by its name: what a call reads, and the first states."""


class CellRun(NamedTuple):
    """A cell along some sequences."""

    cell: Cell
    x: Tensor
    """The inputs, (T, B, m)."""
    before: Tensor
    """The states before each step, (T, B, N)."""
    after: Tensor
    """The states after each step, (T, B, N)."""


def runs_of_network(network: Any, inputs: Tensor) -> list[CellRun]:
    """Run each cell of a network of ours along inputs (T, B, m), or ids (T, B), from states of
    zeros.
    """
    takes_ids = getattr(network, "takes_ids", False)
    x = F.embedding(inputs, network.embedding) if takes_ids else inputs
    cells = dict[str, Any](recurrent_modules(network)).values()
    return _runs_of_stack([*cells], x, [x.new_zeros(x.shape[1], c.state_size) for c in cells])


def runs_of_module(module: nn.Module, x: Tensor, batch_first: bool | None) -> list[CellRun]:
    """Run the cell of each layer of a user's module along what the layer reads, from its first
    states, while the module reads one sequence x (T, m).
    """
    calls, runs = recorded_calls(module, partial(in_batch, module, x, batch_first)), []
    for name, recurrent in recurrent_modules(module).items():
        steps = sum(len(read) for read, _ in calls[name])
        checks.require(steps == len(x), f"number of steps that {name} reads", steps, str(len(x)))
        stack = [*dict.fromkeys(cell for cell, _ in cells_of_layers(recurrent))]
        each = [_runs_of_stack(stack, read[:, None], s0[:, None]) for read, s0 in calls[name]]
        runs += [_joined(parts) for parts in zip(*each, strict=True)]
    return runs


def _runs_of_stack(cells: Sequence[Cell], x: Tensor, starts: Iterable[Tensor]) -> list[CellRun]:
    """Run cells one above the other along x (T, B, m), each from its first states (B, N)."""
    runs = []
    for cell, s0 in zip(cells, starts, strict=True):
        states = cell.states(x, s0)
        before = torch.cat((s0.unsqueeze(0), states[:-1]))
        runs.append(CellRun(cell, x, before, states))
        x = cell.outputs_of(states)
    return runs


def _joined(parts: Sequence[CellRun]) -> CellRun:
    """Join the runs of one cell in several calls, one after another."""
    return CellRun(
        cell=parts[0].cell,
        x=torch.cat([part.x for part in parts]),
        before=torch.cat([part.before for part in parts]),
        after=torch.cat([part.after for part in parts]),
    )


def in_batch(module: nn.Module, x: Tensor, batch_first: bool | None) -> tuple[Any, int]:
    """Return what a module returns for one sequence x (T, m), a batch of one, and the axis of the
    batch: 0 with `batch_first`, else 1. None: the attribute of the module.
    """
    known = [getattr(m, "batch_first", None) for m in (module, *recurrent_modules(module).values())]
    axis = 0 if next((b for b in (batch_first, *known) if b is not None), False) else 1
    return module(x.unsqueeze(axis)), axis


@torch.no_grad()
def check_causal(module: nn.Module, x: Tensor, batch_first: bool | None) -> None:
    """Raise InvalidInputError unless a layer reads each frame of x (T, m) at its time: all but the
    last of what it reads stays if the last frame changes.
    """
    later = torch.cat((x[:-1], 1 - x[-1:]))
    calls, others = (
        recorded_calls(module, partial(in_batch, module, each, batch_first)) for each in (x, later)
    )
    for name in calls:
        one, two = (torch.cat([read for read, _ in each[name]]) for each in (calls, others))
        count, wanted = f"number of steps that {name} reads", str(len(x))
        checks.require(len(one) == len(two), count, f"{len(one)} or {len(two)}", wanted)
        checks.require(len(one) % len(x) == 0, count, len(one), wanted)
        one, two = (rows.unflatten(0, (-1, len(x)))[:, :-1] for rows in (one, two))
        same = torch.allclose(one, two, equal_nan=True)
        checks.require(same, f"input of {name}", "of later frames", "of the frames until its step")


def recorded_calls(network: nn.Module, run: Callable[[], Any]) -> Calls:
    """Return the calls of the recurrent modules during a run with one sequence, by name: what the
    call reads (T, m), and the first states of its layers (layers, N). Raises InvalidInputError for
    a call with several sequences.
    """
    calls: Calls = defaultdict(list)
    hooks = []
    for name, module in recurrent_modules(network).items():

        def record(module: Any, args: tuple, keywords: dict, name: str = name) -> None:
            given = signature_of(module.forward).bind(*args, **keywords).args
            x = given[0].data  # of a packed sequence all rows
            rows, wanted = _sequences_in(module, x), "1, or another batch_first"
            checks.require(rows == 1, f"number of sequences that {name} reads", rows, wanted)
            x = x.reshape(-1, module.input_size).clone()
            calls[name].append((x, _first_states(module, x, *given[1:2])))

        hooks.append(module.register_forward_pre_hook(record, with_kwargs=True))
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _sequences_in(module: Any, x: Tensor) -> int:
    """Return the number of sequences in the input of a recurrent module."""
    if isinstance(module, nn.RNNCellBase):
        return len(x) if x.dim() == 2 else 1
    axis = 0 if module.batch_first else 1
    return x.shape[axis] if x.dim() == 3 else 1


def _first_states(module: Any, x: Tensor, state: Any = None) -> Tensor:
    """Return the first states (layers, N) of the layers of a recurrent module."""
    sizes = [cell.state_size for cell in dict.fromkeys(cell for cell, _ in cells_of_layers(module))]
    if state is None:
        return x.new_zeros(len(sizes), sizes[0])
    parts = state if isinstance(state, tuple) else (state,)
    return torch.cat([part.reshape(len(sizes), -1) for part in parts], -1).clone()
