"""The calls of the recurrent layers of a user's module while it reads one sequence: what each call
reads, its first states, and a test that no layer reads a frame before its time.

Legend: T steps, m inputs, N entries of a state.
"""

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from analysis.layers import cells_of_layers, recurrent_modules
from gersgorin import checks
from rhn.utils.validation import signature_of

Calls = defaultdict[str, list[tuple[Tensor, Tensor]]]
"""The calls of each recurrent module by its name: what a call reads, and the first states."""


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
