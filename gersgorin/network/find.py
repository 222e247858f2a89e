"""Find the recurrent cell in a module, and its title for figures.

A cell is one of `rhn`, a recurrent module of torch.nn, a user's cell (with `step` and `state_size`,
see `rhn.cells.Cell`), or a step forward(x, state). A module is a cell, or has a cell inside.
`gersgorin.network.trace` runs the cell in a module.
"""

import functools
from collections import Counter
from collections.abc import Callable
from numbers import Number
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from gersgorin.run.cell import Step, cell_name, flat_step, layers_in, own_title, size_to_give
from gersgorin.run.run import Label
from gersgorin.run.state import Sizes, State, checked_sizes, first_state, real_view, takes
from gersgorin.validate import copy_of_module, finite_tensor, state_tensor
from rhn.cells import Cell, name_of_cell
from rhn.cells.registry import TOOLKIT_CELLS
from rhn.errors import InvalidInputError
from rhn.plotting.provenance import words_of_built
from rhn.utils.old import counted, listed, nearest
from rhn.utils.validation import in_short, whole_number, with_article

TORCH_CLASSES = (nn.RNNBase, nn.RNNCellBase)
KNOWN = (Cell, *TORCH_CLASSES)  # cells that need no state_size


def is_cell(part: nn.Module) -> bool:
    """True for a recurrent cell: a cell of `rhn`, a recurrent module of torch.nn, or a module that
    has a `state_size` and either `step` or forward(x, state).
    """
    if isinstance(part, KNOWN):
        return True
    declared = getattr(part, "state_size", None) is not None
    return declared and (hasattr(part, "step") or is_step(part))


def has_no_forward(f: Any) -> bool:
    """True for a torch module that defines no forward, such as a list of modules."""
    return isinstance(f, nn.Module) and getattr(f.forward, "__func__", None) is nn.Module.forward


def is_step(f: Any) -> TypeGuard[nn.Module | Step]:
    """True for a step f(x, s): a function, or a module with forward(x, state).

    Layers that read a sequence often take an optional state or cache too. A module with forward(x,
    state=None) is therefore a step only if it has no cell of `rhn` or torch.nn inside.
    """
    if isinstance(f, KNOWN) or has_no_forward(f) or not takes(f, 2):
        return False
    parts = f.modules() if isinstance(f, nn.Module) and takes(f, 1) else ()
    return not any(isinstance(part, KNOWN) for part in parts)


def is_stepwise(network: Any, *, said: bool = False) -> TypeGuard[nn.Module | Step]:
    """Return True for a network that is called step by step: a function f(x, s), a cell, or a
    module with `step`.

    said: whether a first state or the size of the state is given. If so, a module with
    forward(x, state) counts as a step.
    """
    if not isinstance(network, nn.Module):
        return callable(network)
    return is_cell(network) or hasattr(network, "step") or (said and is_step(network))


def recurrent_cells(module: nn.Module) -> list[nn.Module]:
    """The recurrent cells of a module, itself included, in the order of `modules()`. Cells inside
    other cells are left out.
    """
    found: list[nn.Module] = []
    for part in module.modules():
        if is_cell(part) and not any(part in other.modules() for other in found):
            found.append(part)
    return found


def find_cell(
    module: nn.Module, layer: int | None = None, submodule: str | None = None, *, said: bool = False
) -> tuple[nn.Module, int | None]:
    """Find the recurrent cell of a module. Returns (the cell, the index of its layer from 0, or
    None for all layers).

    Args:
        module: a module that contains the cell, or the cell itself.
        layer: number of the cell, counted from 1; each layer of a torch.nn module counts. None: the
            first cell with all its layers.
        submodule: the part to search, by its name in `named_modules`.
        said: whether a first state or the size of the state is given. If so, a part with
            forward(x, state) counts as a step.

    Raises:
        InvalidInputError: there is no such part, no recurrent cell, or too few of them.
    """
    part = part_of(module, submodule)
    cells = [part] if said and is_step(part) else recurrent_cells(part)
    if not cells:
        others = "" if is_step(part) else _with_cells(module)
        if others:
            raise InvalidInputError(
                f"the submodule {in_short(submodule)}, of the class {cell_name(part)}, has no "
                f"recurrent cell: the submodules with a recurrent cell are {others}"
            )
        raise no_cell(part)
    if layer is None:
        return cells[0], None
    places = [(cell, k) for cell in cells for k in range(layer_count(cell))]
    has = f"the module has {counted(len(places), 'recurrent cell')}"
    cell, k = places[whole_number("layer", layer, 1, len(places), has) - 1]
    return cell, k


def declare_size(part: nn.Module, state_size: Sizes) -> None:
    """Set the state_size of a step. Raises InvalidInputError for a module that is not a step."""
    sizes = checked_sizes(state_size)
    if isinstance(part, KNOWN) or not (hasattr(part, "step") or is_step(part)):
        inside = _step_inside(part)
        hint = f", or add submodule={inside!r}, which is one" if inside else ""
        raise InvalidInputError(
            f"state_size is {in_short(state_size)}, and {cell_name(part)} is no step of your own: "
            f"leave it out{hint}"
        )
    part.state_size = sizes  # type: ignore[assignment]


def _step_inside(module: nn.Module) -> str | None:
    """The name of the first part of a module, itself included, that has a step and needs a
    state.
    """

    def needs_state(part: nn.Module) -> bool:
        return hasattr(part, "step") or (is_step(part) and not takes(part, 1))

    return next((name for name, part in module.named_modules() if needs_state(part)), None)


def run_by_equations(module: nn.Module) -> None:
    """Switch the `rhn` cells in a module from kernels to their equations, in place. The module must
    be a copy. The derivatives of the equations can be batched and differentiated.

    Cells of a subclass with its own `forward` are left unchanged.
    """
    for part in module.modules():
        if isinstance(part, Cell) and type(part).forward is Cell.forward:
            part.kernel = "reference"


def step_hint(module: Callable) -> str:
    """A hint for the error of a step that is called without a state; "" for any other module."""
    if not takes(module, 2) or takes(module, 1):
        return ""
    return (
        "this is a step f(x, state): give its first state s0, or state_size=, such as 5 or (5, 5)"
    )


def kept_hint(module: nn.Module, runs: Callable[[nn.Module], bool]) -> str:
    """A hint for the error of a module that keeps tensors in an attribute. "" if the module runs
    neither with None there nor, for a single tensor, with a buffer.

    runs: function that returns True if a copy of the module runs.
    """
    for path, name, value in _kept(module):
        others = {"make it a buffer": value.double()} if isinstance(value, Tensor) else {}
        works = [
            words
            for words, other in (others | {"set it to None": None}).items()
            if runs(_with_attribute(module, path, name, other))
        ]
        if works:
            kind = str(tree_leaves(value)[0].dtype).removeprefix("torch.")
            place = ".".join(filter(None, (path, name)))
            return f"it keeps a {kind} state in its attribute {place}: {', or '.join(works)}"
    return ""


def _kept(module: nn.Module) -> list[tuple[str, str, Any]]:
    """(Name of a part, attribute, value) for the attributes with floating-point tensors; weights
    and buffers do not count.
    """
    return [
        (path, name, value)
        for path, part in module.named_modules()
        for name, value in vars(part).items()
        if not name.startswith("_") and all(map(_is_floating, tree_leaves(value) or [None]))
    ]


def _is_floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _with_attribute(module: nn.Module, path: str, name: str, value: Any) -> nn.Module:
    """A copy of a module with another value of an attribute of one of its parts."""
    other = copy_of_module(module)
    setattr(other.get_submodule(path), name, value)
    return other


def cell_title(cell: nn.Module, layer: int | None = None, name: str | None = None) -> str:
    """Title of a cell, or of one of its layers, counted from 0: "LSTM, layer 1 of 2, 64 units".
    name: the name in the title; None: that of the class.
    """
    numbers = {key: getattr(cell, key, 0) for key in ("depth", "hidden_size")}
    known = {key: n for key, n in numbers.items() if isinstance(n, int)}
    several = max(layer_count(cell), layers_in(cell))
    depth, units = known.get("depth", 0), known.get("hidden_size", 0)
    registered = isinstance(cell, Cell) and type(cell).__name__ not in TOOLKIT_CELLS
    words = [name or (name_of_cell(cell) if registered else own_title(cell))]
    if several > 1:
        words.append(f"{several} layers" if layer is None else f"layer {layer + 1} of {several}")
    if depth > 1:
        words.append(f"depth {depth}")
    if units:
        words.append(counted(units, "unit"))
    return ", ".join(words)


def title_in(
    module: nn.Module, cell: nn.Module, layer: int | None = None, submodule: str | None = None
) -> str:
    """Title of a cell that was found in a module, or in this submodule. If this has several cells,
    the title names the cell that was found: "encoder: LSTM, 64 units".
    """
    place = submodule
    if len(recurrent_cells(part_of(module, submodule))) > 1:
        place = next(name for name, part in module.named_modules() if part is cell)
    return ": ".join(filter(None, (place, cell_title(cell, layer))))


def model_label(model: nn.Module) -> Label:
    """The title of a model in figures, "2 x lstm, 8 units", and the initialisation of its cells."""
    cells = recurrent_cells(model)
    names = [
        f"{n} x {name}" if n > 1 else name for name, n in Counter(map(cell_title, cells)).items()
    ]
    made = dict.fromkeys(filter(None, map(words_of_built, cells)))
    return Label(title=" + ".join(names), made=" + ".join(made))


def layer_count(cell: nn.Module) -> int:
    """Number of layers of a torch.nn module; 1 for any other cell."""
    return cell.num_layers if isinstance(cell, nn.RNNBase) else 1


def part_of(module: nn.Module, name: str | None) -> nn.Module:
    """The submodule with this name in `named_modules`; None or "": the module itself. If there is
    none, raises InvalidInputError with the most similar names.
    """
    parts = dict(module.named_modules())
    if (name or "") in parts:
        return parts[name or ""]
    if near := nearest(str(name), parts, 3):
        hint = f"did you mean {' or '.join(map(repr, near))}?"
    else:
        hint = f"it has {listed([*parts][1:], 8) or 'no parts'}"
        if recurrent := _with_cells(module):
            hint = f"its submodules with a recurrent cell are {recurrent}"
    raise InvalidInputError(f"{type(module).__name__} has no submodule {in_short(name)}: {hint}")


def _with_cells(module: nn.Module) -> str:
    """The names of the submodules with a recurrent cell; "" if there are none."""
    parts = [name for name, part in module.named_modules() if name and recurrent_cells(part)]
    return listed(parts, 8) if parts else ""


def no_cell(module: nn.Module) -> InvalidInputError:
    """The error for a module without a recurrent cell."""
    for part in module.modules():
        if hasattr(part, "step") and getattr(part, "state_size", None) is None:
            return InvalidInputError(
                f"{cell_name(part)} has step, but no state_size: {size_to_give(part)}"
            )
    name, hint = _step_inside(module), ""
    if name is not None:
        which = f" and submodule={name!r}" if name else ""
        hint = (
            f"; {name or 'it'} has forward(x, state): if that is one step, give s0{which}, or "
            f"state_size=, such as 5 or (5, 5){which}"
        )
    return InvalidInputError(
        f"{type(module).__name__} has no recurrent cell: expected one of rhn.cells, torch.nn's "
        "RNN, LSTM or GRU or their cells such as nn.LSTMCell, a module with "
        "step(x (B, m), s (B, n)) -> s and its state_size, or one with forward(x, state) and its "
        f"first state s0{hint}; of any other layer gersgorin.influence(module, x) measures the "
        "influence of its inputs"
    )


def check_state(s0: Any) -> State:
    """Return the state. Raises InvalidInputError unless it is a floating-point or complex tensor
    that is not empty, or a tuple of such tensors.
    """
    if isinstance(s0, list | tuple) and any(isinstance(part, Number) for part in tree_leaves(s0)):
        raise InvalidInputError(
            f"s0 is {with_article(type(s0).__name__)} of numbers: expected a tensor, such as "
            "torch.tensor(s0), or a tuple of tensors"
        )
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


def as_step(network: nn.Module | Step, s0: State | None = None) -> Any:
    """Return a cell unchanged; convert a function f(x, s), or a module with forward(x, state), to a
    step of one vector, see `flat_step`.

    s0: the first state; None: the module's `initial_state()`, or zeros of its state_size. Raises
    InvalidInputError if no first state is known.
    """
    if isinstance(network, TORCH_CLASSES) or hasattr(network, "step") or not callable(network):
        return network
    if not takes(network, 2) and takes(network, 1):
        raise InvalidInputError(
            f"{cell_name(network)} takes one argument: expected a step f(x, s); write a map f(s) "
            "as lambda x, s: f(s), and give an x of as many steps, such as torch.zeros(100, 1)"
        )
    s0 = first_state(network) if s0 is None else s0
    if s0 is None:
        raise InvalidInputError(
            f"{cell_name(network)} is a step, and no first state is given: give s0, a tensor or "
            "a tuple of tensors, or state_size=, such as 5, or (5, 5) for a tuple"
        )
    return flat_step(network, s0)
