"""Cells by name: find or make a cell, read its options, and fit its size to a number of parameters.

The table `CELLS` holds the module and class name of each cell, so that the names can be listed
without an import of torch. A cell is imported at first use, and its properties are attributes of
its class. A user registers a cell with the decorator `register_cell`, or names it as
`package.module:Class` without registration.
"""

import bisect
import contextlib
import importlib
import inspect
import math
import re
import sys
from collections import UserDict
from collections.abc import Callable, Collection, Mapping
from inspect import Parameter
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, get_type_hints

from rhn.errors import USERS_FAULT, BudgetError, InvalidInputError, RhnError
from rhn.utils.old import convert, expected, fits, nearest, plain
from rhn.utils.validation import in_short, whole_number

if TYPE_CHECKING:
    from torch import nn

Factory = TypeVar("Factory", bound=Callable)
COMMON = {"init", "batch_first", "kernel", "generator", "device", "dtype"}  # keywords of every cell


class Cells(UserDict):
    """Cells by name, in the order of listings. `CELLS["rhn"]` is a class, which is imported at
    first use.

    data: for each of our cells, module:Class within `rhn.cells`; for a user's cell, its class or
    function.
    """

    def __getitem__(self, name: str) -> Callable:
        row = self.data[name]
        return _load(row) if isinstance(row, str) else row


def _load(place: str) -> Callable:
    """Import the attribute `module:name` of `rhn.cells`. This takes a second, because it loads
    torch.
    """
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(f"rhn.cells.{module}"), attribute)


CELLS = Cells(
    {
        "rnn": "transition:RNN",
        "irnn": "transition:IRNN",
        "dt-rnn": "transition:DTRNN",
        "dts-rnn": "transition:DTSRNN",
        "rhn": "highway:RHN",
        "lstm": "gated:LSTM",
        "gru": "gated:GRU",
    }
)
TOOLKIT_CELLS = tuple(CELLS)
"""The names of the toolkit's own cells, without cells that users register later."""
TORCH_CELLS = {
    f"torch.nn:{kind}{form}": kind.lower()
    for kind in ("RNN", "LSTM", "GRU")
    for form in ("", "Cell")
}
"""The cells of torch.nn by their names in commands; the value is the name of our own version of
each.
"""


def spoken_name(cell: str) -> str:
    """Return the name of one of the toolkit's own cells for a sentence.

    >>> spoken_name("dt-rnn")
    'DT-RNN'
    """
    return cell.upper()


def register_cell(name: str) -> Callable[[Factory], Factory]:
    """Return a decorator that registers your own cell, a class or a function, under a name.
    Functions and commands then know this name.

    The attributes of your cell are used like those of our cells. For example, `learning_rate` is a
    learning rate at which the cell trains on the chorales (default 0.2).

    Raises InvalidInputError for a name that is taken, or that has characters other than a-z, 0-9, -
    and _.

    >>> @register_cell("mine")
    ... def mine(input_size, hidden_size, depth=1, **options):
    ...     return make_cell("gru", input_size, hidden_size, depth, **options)
    >>> make_cell("mine", 3, 4).hidden_size
    4
    >>> del CELLS["mine"]
    """
    if not re.fullmatch("[a-z][a-z0-9_-]*", name):
        raise InvalidInputError(
            f"the name of the cell is {name!r}: expected small letters, digits, - and _"
        )

    def register(factory: Factory) -> Factory:
        taken = _place(CELLS[name]) if name in CELLS else None
        # the same class again: a notebook ran its cell twice
        if taken not in (None, _place(factory)):
            raise InvalidInputError(
                f"a cell {name!r} is registered already, {taken}: choose another name"
            )
        CELLS[name] = factory
        return factory

    return register


def _place(factory: Callable) -> str:
    return f"{factory.__module__}:{factory.__qualname__}"


def accepts(factory: Callable, keyword: str) -> bool:
    """Return True if a cell has an option of this name.

    >>> accepts(CELLS["rhn"], "transform_bias"), accepts(CELLS["dt-rnn"], "transform_bias")
    (True, False)
    """
    return keyword in inspect.signature(factory).parameters or keyword in getattr(
        factory, "options", ()
    )


def is_known(name: str) -> bool:
    """Return True for the name of a registered cell or a cell of torch.nn. Such a name in a file is
    safe to resolve, because it imports no user's module.
    """
    return name in CELLS or name in TORCH_CELLS


def resolve_cell(name: str) -> Callable[..., "nn.Module"]:
    """Return the factory of a cell by its name: a registered cell, our version of a cell of
    torch.nn, or a user's cell as `package.module:factory`.

    A user's module is also searched for in the current folder. Never pass a name that was read from
    a file: see `is_known`.

    Raises InvalidInputError for an unknown name (the message has the nearest one), or for a module
    that cannot be imported.
    """
    if not isinstance(name, str):
        raise InvalidInputError(f"the cell is {in_short(name)}: expected a name such as 'rhn'")
    if name in CELLS:
        return CELLS[name]
    if name in TORCH_CELLS:
        return _load("convert:as_in_torch")(name.partition(":")[2], CELLS[TORCH_CELLS[name]])
    if ":" in name:
        factory = import_named(name, "cell")
        if not callable(factory):
            raise InvalidInputError(
                f"{name!r} is not callable: expected a function or class (input_size, "
                "hidden_size, depth, ...)"
            )
        return factory
    raise InvalidInputError(unknown_cell(name))


def unknown_cell(name: str) -> str:
    """Return the message for an unknown cell name, with the nearest names and all cells."""
    near = nearest(name, CELLS, 2)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    return (
        f"unknown cell {name!r}{hint} (cells: {', '.join(CELLS)}, or your own as "
        "package.module:factory)"
    )


def import_named(name: str, what: str) -> Any:
    """Import a user's object `package.module:attribute`; the module may be in the current folder.

    what: the object's kind, for the message. Never pass a name that was read from a file. Raises
    InvalidInputError if the object cannot be imported.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute or module.startswith("."):
        raise InvalidInputError(f"{name!r} names no {what}: expected package.module:factory")
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.append(here)
    try:
        return getattr(importlib.import_module(module), attribute)
    except USERS_FAULT as error:  # any error of a user's module
        raise InvalidInputError(
            f"cannot load the {what} {name!r}: {type(error).__name__}: {error}"
        ) from error
    finally:
        if added:
            sys.path.remove(here)


def name_of_cell(cell: Any) -> str:
    """Return the registered name of a cell, or the name of its class if the cell is not registered.
    For a stack of cells, return the names of its cells.

    >>> from rhn.cells import DTRNN
    >>> name_of_cell(DTRNN(3, 4))
    'dt-rnn'
    """
    if getattr(cell, "stacked", 1) > 1:
        return " and ".join(dict.fromkeys(map(name_of_cell, cell.cells)))
    kind = type(cell)
    place = f"{kind.__module__.removeprefix('rhn.cells.')}:{kind.__qualname__}"
    return next((name for name, row in CELLS.data.items() if row in (kind, place)), kind.__name__)


def is_ours(cell: str | Callable) -> bool:
    """Return True for a cell of the toolkit (its name or its class) and for the name of a cell of
    torch.nn; False for users' cells.
    """
    return (
        cell in TOOLKIT_CELLS or cell in TORCH_CELLS
        if isinstance(cell, str)
        else any(CELLS[name] is cell for name in TOOLKIT_CELLS)
    )


def lacking(name: str) -> set[str]:
    """Among the settings depth and transform_bias, return those that a cell does not have. The
    result is empty for an unregistered cell.

    name: the name of a cell, or the architecture name in a study, such as "dts-rnn-skip-last".

    >>> sorted(lacking("lstm")), lacking("dts-rnn-skip-last"), lacking("my_cells:Mine")
    (['depth', 'transform_bias'], {'transform_bias'}, set())
    """
    cell = max((cell for cell in CELLS if f"{name}-".startswith(f"{cell}-")), key=len, default=None)
    if cell is None:
        return set()
    factory = CELLS[cell]
    there = {
        "depth": getattr(factory, "deep", True),
        "transform_bias": accepts(factory, "transform_bias"),
    }
    return {setting for setting in there if not there[setting]}


def make_cell(
    name: str, input_size: int, hidden_size: int, depth: int = 1, **options
) -> "nn.Module":
    """Make a new cell by its name: a name in `CELLS`, "torch.nn:LSTM", or "package.module:factory".

    options: keywords of the cell, such as coupled=False, init="gaussian:0.1", generator=, device=,
    dtype=; see `cell_options`.

    Raises InvalidInputError for an unknown name, size or option.

    >>> make_cell("dts-rnn", 3, 5, 2, skip="last")
    DTSRNN(3, 5, depth=2, init='uniform:0.04', nonlinearity='tanh', skip='last')
    """
    own = {option: value for option, value in options.items() if option not in COMMON}
    rest = {option: value for option, value in options.items() if option in COMMON}
    return resolve_cell(name)(input_size, hidden_size, depth, **read_options(name, own), **rest)


class CellOption(NamedTuple):
    """An option of a cell: its name, type and default."""

    name: str
    kind: Any
    """The type of the option, as an annotation."""
    default: Any


def cell_options(cell: str | Callable) -> list[CellOption]:
    """Return the options of a cell that other cells do not have.

    >>> [(option.name, option.default) for option in cell_options("dts-rnn")]
    [('nonlinearity', 'tanh'), ('skip', 'all')]
    """
    return list(option_table(resolve_cell(cell) if isinstance(cell, str) else cell).values())


def option_table(factory: Callable) -> dict[str, CellOption]:
    """Return the options of a cell by name: those that its class declares, and the keywords of its
    constructors or of its function.
    """
    factory = getattr(factory, "cell", factory)  # of a cell of torch.nn, our form
    found = dict(getattr(factory, "declared", {}))
    bases = reversed(factory.__mro__) if isinstance(factory, type) else ()
    for constructor in [base.__init__ for base in bases] or [factory]:  # type: ignore[misc]  # only read
        # built-in functions, names imported for types only
        with contextlib.suppress(TypeError, ValueError, NameError):
            hints = get_type_hints(constructor)
            for name, parameter in inspect.signature(constructor).parameters.items():
                if parameter.kind is Parameter.KEYWORD_ONLY and name not in COMMON:
                    kind = hints.get(name, _kind_of(parameter.default))
                    found[name] = CellOption(name, kind, parameter.default)
    return found


def read_options(cell: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the options of a cell from text, as in `--cell-option skip=last`, to values of the
    types that the cell expects.

    Raises InvalidInputError for an option that the cell does not have, or a value of the wrong
    type. The message lists the cell's options.

    >>> read_options("rhn", {"gate_constant": "0.5"})
    {'gate_constant': 0.5}
    """
    options = check_options(cell, given)
    read = {}
    for name, value in plain(dict(given)).items():
        kind = options[name].kind
        with contextlib.suppress(ValueError):
            value = convert(value, kind) if isinstance(value, str) else value
        infinite = isinstance(value, float) and not math.isfinite(value)
        if infinite or not fits(value, kind):
            wanted = "a finite number" if infinite else expected(kind)
            raise InvalidInputError(
                f"the option {name} of {cell} is {value!r:.60}, expected {wanted} "
                f"({_listed(cell, options)})"
            )
        read[name] = value
    return read


def check_options(cell: str, names: Collection[str]) -> dict[str, CellOption]:
    """Return the options of a cell. Raises InvalidInputError if one of `names` is not an option."""
    options = option_table(resolve_cell(cell)) if names else {}
    if unknown := [name for name in names if name not in options]:
        raise InvalidInputError(
            f"the cell {cell} has no option {unknown[0]!r} ({_listed(cell, options)})"
        )
    return options


def _listed(cell: str, options: Mapping[str, CellOption]) -> str:
    """Return a list of a cell's options as text for a message."""
    known = ", ".join(f"{option.name} ({option.default})" for option in options.values())
    return f"options of {cell}, with defaults: {known}" if known else f"{cell} has no options"


def _kind_of(default) -> Any:
    """Return the type of an option without annotation, derived from its default."""
    if isinstance(default, bool | float | str):
        return type(default)
    return int | float | bool | str | (NoneType if default is None else int)


def num_parameters(module: "nn.Module") -> int:
    """Count the trainable parameters of a cell or model."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def hidden_size_for_budget(
    cell: "str | Callable[..., nn.Module]",
    budget: float,
    depth: int = 1,
    *,
    input_size: int = 88,
    output_size: int = 88,
    **options,
) -> int:
    """Return the largest n for which the cell and its output layer (n -> output_size, with biases)
    have at most `budget` parameters.

    The sizes of the networks in figure 4 follow this rule (Zilly et al. 2017, supplement). Raises
    BudgetError if a single unit exceeds the budget, and InvalidInputError if the network would be
    too large for any memory.

    >>> [hidden_size_for_budget("rhn", 150_000 * depth, depth) for depth in (1, 2, 4, 6)]
    [215, 242, 257, 262]
    """
    factory = resolve_cell(cell) if isinstance(cell, str) else cell
    input_size = whole_number("input_size", input_size)
    output_size = whole_number("output_size", output_size)
    budget = plain(budget)
    budget = whole_number(
        "budget", int(budget) if isinstance(budget, float) and budget.is_integer() else budget
    )

    def size(n: int) -> int:
        try:
            network = factory(input_size, n, depth, device="meta", **options)
            return num_parameters(network) + (n + 1) * output_size
        except RhnError:
            raise
        except USERS_FAULT as error:  # any error of a user's cell
            said = (
                f"the parameters of the cell {cell!r} cannot be counted: "
                f"{type(error).__name__}: {error}"
            )
            raise InvalidInputError(said) from error

    if size(1) > budget:
        raise BudgetError(
            f"a budget of {budget} parameters is too small: one unit at depth {depth} already "
            f"takes {size(1)}"
        )
    high = 2
    while size(high) <= budget:
        high *= 2
    return bisect.bisect_right(range(high), budget, lo=high // 2, key=size) - 1
