"""Find the recurrent cell in a module: which of its parts steps, and what its figures are called.

A module is a cell of ours, one of torch.nn's recurrent modules, a user's cell (with `step` and
`state_size`, see `rhn.cells.Cell`), a step forward(x, state), or anything that has one of them
inside. The run of the cell in a module is `gersgorin.loading.watched`'s.
"""

import difflib
import functools
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeGuard

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from gersgorin._validate import finite_tensor, state_tensor
from gersgorin.run.cell import (
    Sizes,
    State,
    Step,
    checked_sizes,
    first_state,
    flat_step,
    name_of,
    real_view,
    size_to_give,
    takes,
)
from gersgorin.run.run import Label
from rhn.cells import Cell, name_of_cell
from rhn.errors import InvalidInputError
from rhn.plotting.provenance import words_of_built
from rhn.utils.wording import counted, in_short

TORCH_CELLS = (nn.RNNBase, nn.RNNCellBase)


def recurrent_cells(module: nn.Module) -> list[nn.Module]:
    """The recurrent cells of a module, itself included, in the order of `modules()`; without cells
    inside other cells.
    """
    found: list[nn.Module] = []
    for part in module.modules():
        ours = isinstance(part, Cell) or (hasattr(part, "step") and hasattr(part, "state_size"))
        if (ours or isinstance(part, TORCH_CELLS)) and not any(
            part in other.modules() for other in found
        ):
            found.append(part)
    return found


def cells_in(
    part: nn.Module, s0: State | None, state_size: Sizes | None, *, named: bool
) -> list[nn.Module]:
    """The recurrent cells of a part of a copied module, itself included.

    s0, named: see `first_state`. state_size: of its step, which gets it as an attribute. Raises
    InvalidInputError if there is none.
    """
    if state_size is not None:
        _declare(part, checked_sizes(state_size))
    if is_hand_written(part, s0, named=named):
        return [part]
    cells = cells_of(part)
    if not cells and s0 is not None:
        cells = [*own_steps(part).values()]
    if not cells:
        raise no_cell(part)
    return cells


def _declare(module: nn.Module, state_size: Sizes) -> None:
    """Set the state_size of the step in a module. Raises InvalidInputError unless there is one
    step.
    """
    found = own_steps(module)
    for name, part in module.named_modules():
        if hasattr(part, "step") and not isinstance(part, Cell):
            found[name] = part
    found = {"": module} if "" in found else found
    silent = {k: part for k, part in found.items() if getattr(part, "state_size", None) is None}
    found = silent or found
    if len(found) != 1:
        several = f"{', '.join(found)} are steps, name one as submodule"
        none = "it has no step of your own, leave state_size out"
        raise InvalidInputError(
            f"state_size is {state_size} for {type(module).__name__}: {several if found else none}"
        )
    (step,) = found.values()
    step.state_size = state_size  # type: ignore[assignment]


def cells_of(module: nn.Module) -> list[nn.Module]:
    """The same with modules whose forward(x, state) is a step, from their state_size; they may have
    cells inside.
    """
    written = [part for part in module.modules() if is_hand_written(part, named=False)]
    return written + [
        cell
        for cell in recurrent_cells(module)
        if not any(cell in part.modules() for part in written)
    ]


def run_by_equations(module: nn.Module) -> None:
    """Run our own cells in a module, a copy, by their equations, not by kernels: derivatives can be
    batched and have derivatives.

    Cells of a subclass with another `forward` stay.
    """
    for part in module.modules():
        if isinstance(part, Cell) and type(part).forward is Cell.forward:
            part.kernel = "reference"


def is_step(network, s0: State | None = None) -> TypeGuard[nn.Module | Step]:
    """True for a cell or a function, which is called step by step; False for a module that reads
    whole sequences.

    A module with forward(x, state) is a step if it needs the state. Layers that read a sequence
    often take a state or a cache, too, but run without it: forward(x, state=None) is a step only
    if it declares its `state_size` or a first state s0 is given, and if it has no cell inside.
    """
    if (
        not isinstance(network, nn.Module)
        or isinstance(network, TORCH_CELLS)
        or hasattr(network, "step")
    ):
        return callable(network)
    if not takes(network, 1):
        return takes(network, 2)
    declared = s0 is not None or hasattr(network, "state_size")
    return declared and takes(network, 2) and not recurrent_cells(network)


def is_map(network) -> TypeGuard[Callable]:
    """True for a function f(s), or a module with forward(state) and no recurrent layer inside,
    without input.
    """
    if isinstance(network, nn.Module) and recurrent_cells(network):
        return False
    return (
        callable(network)
        and not hasattr(network, "step")
        and not (takes(network, 2) and not takes(network, 1))
    )


def held(f: Callable) -> Step:
    """A map f(s) as a step that ignores its input."""
    step = lambda x, s: f(s)  # noqa: E731
    step.__name__ = name_of(f).replace("<lambda>", "f(s)")
    return step


def step_hint(module: Callable) -> str:
    """A hint for the error of a step that is called with one input; "" for any other module."""
    if not takes(module, 2) or takes(module, 1):
        return ""
    return (
        "this is a step f(x, state): give its first state s0, or state_size=, such as 5 or (5, 5)"
    )


def cell_title(cell: nn.Module, layer: int | None = None, name: str | None = None) -> str:
    """Title of a cell, or of one of its layers counted from 0: "LSTM, layer 1 of 2, 64 units";
    name: None for that of its class.
    """
    numbers = {key: getattr(cell, key, 0) for key in ("depth", "hidden_size")}
    known = {key: n for key, n in numbers.items() if isinstance(n, int)}
    several, depth, units = layers_of(cell), known.get("depth", 0), known.get("hidden_size", 0)
    words = [name or (name_of_cell(cell) if isinstance(cell, Cell) else name_of(cell))]
    if several > 1:
        words.append(f"{several} layers" if layer is None else f"layer {layer + 1} of {several}")
    if depth > 1:
        words.append(f"depth {depth}")
    if units:
        words.append(counted(units, "unit"))
    return ", ".join(words)


def model_label(model: nn.Module) -> Label:
    """The title of a model in figures, "2 x lstm, 8 units", and the initialisation of its cells."""
    cells = recurrent_cells(model)
    names = [
        f"{n} x {name}" if n > 1 else name for name, n in Counter(map(cell_title, cells)).items()
    ]
    made = dict.fromkeys(filter(None, map(words_of_built, cells)))
    return Label(title=" + ".join(names), made=" + ".join(made))


def layers_of(cell: nn.Module) -> int:
    """Number of layers of a torch.nn module; 1 for all else."""
    return cell.num_layers if isinstance(cell, nn.RNNBase) else 1


def part_of(module: nn.Module, name: str | None) -> nn.Module:
    """The submodule of this name in `named_modules`; None or "": the module. Raises
    InvalidInputError with the nearest names.
    """
    parts = dict(module.named_modules())
    if (name or "") in parts:
        return parts[name or ""]
    if near := difflib.get_close_matches(str(name), parts, 3, cutoff=0.6):
        hint = f"did you mean {' or '.join(map(repr, near))}?"
    else:
        names = [k for k, part in parts.items() if k and recurrent_cells(part)] or [*parts][1:]
        hint = f"it has {', '.join(names[:8]) or 'no parts'}"
    raise InvalidInputError(f"{type(module).__name__} has no submodule {in_short(name)}: {hint}")


def is_hand_written(part: nn.Module, s0: State | None = None, *, named: bool = True) -> bool:
    """True for a module with forward(x, state) that is one step, from a state that is given or
    known, see `first_state`.
    """
    if (
        isinstance(part, TORCH_CELLS)
        or hasattr(part, "step")
        or (s0 is None and first_state(part, named) is None)
    ):
        return False
    return is_step(part, s0)


def own_steps(module: nn.Module) -> dict[str, nn.Module]:
    """Modules of the user's own, by name, that are a step with some first state."""
    return {
        name: part
        for name, part in module.named_modules()
        if not type(part).__module__.startswith("torch.") and is_hand_written(part, ())
    }


def no_cell(module: nn.Module) -> InvalidInputError:
    """The error for a module without a recurrent cell."""
    for part in module.modules():
        if hasattr(part, "step") and not hasattr(part, "state_size"):
            return InvalidInputError(
                f"{name_of(part)} has step, but no state_size: {size_to_give(part)}"
            )
    name, hint = next(iter(own_steps(module)), None), ""
    if name is not None:
        hint = (
            f"; {name or 'it'} has forward(x, state): if that is one step, give s0, or "
            "state_size=, such as 5 or (5, 5)"
        )
    return InvalidInputError(
        f"{type(module).__name__} has no recurrent cell: expected one of rhn.cells, torch.nn's "
        "RNN, LSTM or GRU or their cells such as nn.LSTMCell, a module with "
        "step(x (B, m), s (B, n)) -> s and its state_size, or one with forward(x, state) and its "
        f"first state s0{hint}; of any other layer gersgorin.influence(module, x) measures the "
        "influence of its inputs"
    )


def check_state(s0: Any) -> State:
    """The state. Raises InvalidInputError unless it is a floating-point or complex tensor with
    entries, or a tuple of them.
    """
    s0 = tree_map(functools.partial(state_tensor, "s0"), s0)
    if not all(
        (part.is_floating_point() or part.is_complex()) and part.numel()
        for part in tree_leaves(s0) or [torch.empty(0)]
    ):
        raise InvalidInputError(
            "s0: expected a floating-point tensor with at least one entry, or a tuple of them"
        )
    tree_map(lambda part: finite_tensor("s0", real_view(part)), s0)
    return s0


def stepping(network: nn.Module | Step, s0: State | None = None, *, named: bool = False) -> Any:
    """A cell as it is; a function f(x, s), or a module with forward(x, state), as a step of one
    vector, see `flat_step`.

    s0, named: see `first_state`. Raises InvalidInputError if no first state is known.
    """
    if isinstance(network, TORCH_CELLS) or hasattr(network, "step") or not callable(network):
        return network
    s0 = first_state(network, named) if s0 is None else s0
    if s0 is None:
        raise InvalidInputError(
            f"{name_of(network)} is a step, and no first state is given: give s0, a tensor or "
            "a tuple of tensors, or state_size=, such as 5, or (5, 5) for a tuple"
        )
    return flat_step(network, s0)
