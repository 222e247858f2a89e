"""`layer_inputs`: what a recurrent layer reads while its module reads a sequence.

Forward hooks record the input and the state of each call of the layer. Two numerical tests guard
the record, also if all outputs of the layer change: the state given to a call equals the state that
the call before returned, and inputs do not change. In any other loop the Jacobian of a step is not
that of the layer alone.

Legend: T time steps, m inputs of the layer.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from gersgorin import checks
from gersgorin.double_precision import copied, module_runs
from gersgorin.kinds import (
    batch_first_of,
    batch_first_of_step,
    is_recurrent,
    recurrent_layers,
    required,
    takes,
)
from gersgorin.step import one_direction
from rhn.utils.torch_private import tree_leaves, tree_map
from rhn.utils.validation import signature_of

Change = Callable[[Tensor], Tensor]
OTHER_STATE = "not the state that the call before returned"
OF_OUTPUTS = "a function of its earlier outputs"
WHOLE_STEP = "give the whole step as f(x, s) with s0"


@dataclass
class Call:
    """One call of a layer."""

    x: Any
    given: Any
    """The state argument; None for a call without a state."""
    returned: Any = None

    @property
    def state(self) -> list[Tensor]:
        """The tensors of the state argument."""
        return _tensors(self.given)


def layer_inputs(
    model: nn.Module, x: Any, *, layer: str | None = None, batch_first: bool | None = None
) -> Tensor:
    """Return the sequence (T, m), float64, or ids (T,), that a recurrent layer of a model reads.

    Args:
        model: a module that is called as model(x), or model(*x) for a tuple, model(**x) for a
            dictionary. It is copied and runs in float64.
        x: one sequence: (T, m) or ids (T,), which get the axis of the batch that `batch_first`
            says, or a batch of one.
        layer: the name of the layer; None: the only one.
        batch_first: the layout of the model; None: see `gersgorin.kinds.batch_first_of`.

    Raises InvalidInputError.

    >>> class Model(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.rnn = nn.LSTM(2, 4, batch_first=True)
    ...
    ...     def forward(self, x):
    ...         return self.rnn(2 * x)[0].sum()
    >>> layer_inputs(Model(), torch.ones(5, 2), layer="rnn")[0].tolist()
    [2.0, 2.0]
    """
    return record(model, x, layer, batch_first)[1]


def record(
    model: Any, x: Any, layer: str | None, batch_first: bool | None
) -> tuple[nn.Module, Tensor, Any]:
    """Return a copy of the layer in float64, the sequence that it reads, and its first state."""
    checks.require(
        isinstance(model, nn.Module), "model", checks.kind(model), "a module with layers"
    )
    name = recurrent_layer(model, layer)
    model = copied(model)
    part = model.get_submodule(name)
    one_direction(part)
    given = as_read(x, batch_first_of(model) if batch_first is None else batch_first, model)
    calls = _calls(model, part, given)
    _one_sequence_read(x, name, calls, batch_first_of_step(part))
    starts = sum(not call.state for call in calls[1:]) + bool(calls)
    checks.require(starts == 1, f"number of sequences that layer {name} reads", starts, "1")
    rows = _rows_of(calls, part)
    if len(calls) > 1:
        changed = _calls(model, part, given, _changes())
        for each in (calls, changed):
            for k, (one, other) in enumerate(itertools.pairwise(each), 1):
                said = f"the state given to layer {name} at call {k}"
                wanted = f"this state; {WHOLE_STEP}"
                checks.require(_is_returned(one, other), said, OTHER_STATE, wanted)
        said, free = f"the input of layer {name}", torch.equal(rows, _rows_of(changed, part))
        checks.require(free, said, OF_OUTPUTS, f"one that is none; {WHOLE_STEP}")
    return part, rows, calls[0].given


def recurrent_layer(module: nn.Module, name: str | None) -> str:
    """The name of the recurrent layer in a module; None: of its only one."""
    found = recurrent_layers(module)
    if name is None:
        needs = required(module)
        is_cell_of_three = not found and len(needs) > 2
        said, wanted = f"what {type(module).__name__} requires", "x and a state"
        rest = "; give the rest in a step f(x, s) with s0"
        checks.require(not is_cell_of_three, said, ", ".join(needs), wanted + rest)
        names = f"None, {type(module).__name__} has recurrent layers {', '.join(found) or 'none'}"
        checks.require(len(found) == 1, "layer", names, "the name of one of its layers, or s0")
        return found[0]
    is_name = isinstance(name, str) and name != ""
    part = dict(module.named_modules()).get(name) if is_name else None
    good = part is not None and (is_recurrent(part) or takes(part, None, None))
    usual = ", ".join(found) or "rnn"
    checks.require(good, "layer", repr(name), f"the name of a recurrent layer, such as {usual}")
    return name


def _one_sequence_read(x: Any, name: str, calls: list[Call], batch_first: bool | None) -> None:
    """Refuse the user's x if a layer with a layout then reads several sequences."""
    for call in calls:
        read = call.x
        if batch_first is None or not isinstance(read, Tensor) or read.dim() != 3:
            continue
        count = read.shape[0 if batch_first else 1]
        wanted = f"one sequence of numbers (T, m), or of ids (T,); layer {name} reads {count}"
        checks.require(count == 1, "x", checks.kind(x), wanted)


def _rows_of(calls: list[Call], part: nn.Module) -> Tensor:
    """The steps (T, m) or ids (T,) that calls of a part read."""
    return torch.cat([_rows(call.x, batch_first_of_step(part)) for call in calls])


def as_read(x: Any, batch_first: bool | None, model: nn.Module) -> Any:
    """x as the model reads it, in float64, with an axis of the batch if its place is known."""
    t = tree_map(lambda value: checks.argument(value, model), x)
    if batch_first is None or not isinstance(t, Tensor):
        return t
    axes_of_a_sequence = 2 if t.is_floating_point() else 1
    if t.dim() != axes_of_a_sequence:
        return t
    return t.unsqueeze(0 if batch_first else 1)


def _calls(model: nn.Module, part: nn.Module, x: Any, change: Change | None = None) -> list[Call]:
    """The calls of a part while the model reads x; `change` replaces tensors of its outputs."""
    found = list[Call]()

    def before(_: nn.Module, args: tuple, kwargs: dict) -> None:
        bound = signature_of(part.forward).bind(*args, **kwargs)
        values = [*bound.args, *bound.kwargs.values()]  # in the order of the parameters
        given = values[1] if len(values) > 1 else None
        found.append(Call(*tree_map(_kept, (values[0], given))))

    def after(_: nn.Module, args: Any, returned: Any) -> Any:
        returned = returned if change is None else tree_map(change, returned)
        found[-1].returned = tree_map(_kept, returned)
        return returned

    named = x if isinstance(x, dict) else {}
    args = () if named else x if isinstance(x, tuple) else (x,)
    said = f"{type(model).__name__} cannot read x"
    with (
        part.register_forward_pre_hook(before, with_kwargs=True),
        part.register_forward_hook(after, prepend=True),
        checks.users_code(said),
        torch.no_grad(),
        module_runs(),
    ):
        model(*args, **named)
    return found


def _kept(value: Any) -> Any:
    """A copy of a tensor, which later changes in place do not affect."""
    return value.clone() if isinstance(value, Tensor) else value


def _changes() -> Change:
    """A function that adds random numbers of the size 1 + |t| to a tensor."""
    generator = torch.Generator().manual_seed(0)

    def change(t: Any) -> Any:
        if not isinstance(t, Tensor):
            return t
        noise = torch.randn(t.shape, generator=generator, dtype=torch.float64, device="cpu")
        return t + (1 + t.abs()) * noise.to(t.device)

    return change


def _is_returned(before: Call, after: Call) -> bool:
    """True if a call returned the state of the next call, as all or as the second of a pair."""
    returned, state = before.returned, after.state
    pair = isinstance(returned, tuple | list) and len(returned) == 2
    return any(
        len(parts) == len(state) and all(map(torch.equal, parts, state))
        for parts in map(_tensors, (returned, returned[1]) if pair else (returned,))
    )


def _tensors(value: Any) -> list[Tensor]:
    return [part for part in tree_leaves(value) if isinstance(part, Tensor)]


def _rows(x: Any, batch_first: bool | None) -> Tensor:
    """The steps (t, m) or ids (t,) that one call reads; a cell without a layout reads one step."""
    if isinstance(x, PackedSequence):
        checks.require(bool((x.batch_sizes == 1).all()), "x", "packed", "one sequence")
        return x.data
    if batch_first is None:
        return one_step_read(x)
    return checks.sequence(x, batch_first)


def one_step_read(x: Tensor) -> Tensor:
    """The input (1, m), or id (1,), that a cell without a layout reads in one call."""
    axes_of_a_row = 1 if x.is_floating_point() else 0
    rows = x[None] if x.dim() == axes_of_a_row else x
    is_one_row = rows.dim() == axes_of_a_row + 1 and len(rows) == 1
    wanted = f"one row (1, m); {WHOLE_STEP}"
    checks.require(is_one_row, "input of one call of the layer", checks.kind(x), wanted)
    return rows
