"""The table of cells by name: every list of names, command and figure reads it.

The table holds places, so that a list of names need not wait for torch; a cell is imported at first use, and its facts are
attributes of its class. A user registers a cell with the decorator `register_cell`, or names it as `package.module:Class` without
registration.
"""

import difflib
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rhn.errors import USERS_FAULT, InvalidInputError

if TYPE_CHECKING:
    from torch import nn

Factory = TypeVar("Factory", bound=Callable)
LEARNING_RATE = 0.2
"""One at which a cell trains on the chorales, unless its class has another `learning_rate`."""


class Cells(Mapping[str, Callable]):
    """Cells by name, in the order of listings: `CELLS["rhn"]` is a class, imported at first use.

    rows: the place of each cell, module:Class within `rhn.cells`, or the class or function of a user.
    """

    def __init__(self, rows: dict[str, str | Callable]):
        self.rows = rows

    def __getitem__(self, name: str) -> Callable:
        row = self.rows[name]
        return _load(row) if isinstance(row, str) else row

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def _load(place: str) -> Callable:
    """The attribute `module:name` of `rhn.cells`; its import takes a second, because it loads torch."""
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
        "indrnn": "indrnn:IndRNN",
        "mgu": "mgu:MGU",
        "mingru": "mingru:MinGRU",
        "lru": "lru:LRU",
        "slstm": "slstm:SLSTM",
        "antisymmetric": "antisymmetric:AntisymmetricRNN",
        "orthogonal": "orthogonal:OrthogonalRNN",
        "cornn": "cornn:CoRNN",
        "leaky": "leaky:LeakyRNN",
    }
)
OURS = tuple(CELLS)
"""The cells of the toolkit; users register theirs later."""
TORCH_CELLS = {f"torch.nn:{kind}{form}": kind.lower() for kind in ("RNN", "LSTM", "GRU") for form in ("", "Cell")}
"""The cells of torch.nn by the name that commands take, and the name of our form of each."""


def register_cell(name: str, *, learning_rate: float | None = None) -> Callable[[Factory], Factory]:
    """Decorator that registers a cell of your own, a class or a function, under a name that functions and commands take.

    learning_rate: one at which the cell trains on the chorales, for `rhn train jsb-depth-1 --cell NAME` (default: its attribute
        `learning_rate`, else 0.2).

    Raises InvalidInputError for a name that is taken or holds other characters than a-z, 0-9, - and _.
    """
    if not re.fullmatch("[a-z][a-z0-9_-]*", name):
        raise InvalidInputError(f"the name of the cell is {name!r}: expected small letters, digits, - and _")

    def register(factory: Factory) -> Factory:
        if name in CELLS and _place(CELLS[name]) != _place(
            factory
        ):  # the same class again: a notebook ran its cell twice
            raise InvalidInputError(
                f"a cell {name!r} is registered already, {_place(CELLS[name])}: choose another name"
            )
        if learning_rate is not None:
            factory.learning_rate = learning_rate
        CELLS.rows[name] = factory
        return factory

    return register


def _place(factory: Callable) -> str:
    return f"{factory.__module__}:{factory.__qualname__}"


def accepts(factory: Callable, keyword: str) -> bool:
    """Return True if a cell has an option of this name.

    >>> accepts(CELLS["rhn"], "transform_bias"), accepts(CELLS["dt-rnn"], "transform_bias")
    (True, False)
    """
    return keyword in inspect.signature(factory).parameters or keyword in getattr(factory, "options", ())


def is_known(name: str) -> bool:
    """Return True if the name of a cell, read from a file, is safe to resolve: no module of a user is imported for it."""
    return name in CELLS or name in TORCH_CELLS


def resolve_cell(name: str) -> Callable[..., "nn.Module"]:
    """The registered cell of this name, our form of a cell of torch.nn, or the cell of a user as `package.module:factory`.

    The module of a user is looked for in the current folder too. Never give a name that was read from a file: see `is_known`.

    Raises InvalidInputError for a name without a cell, with the nearest name, or a module that cannot be imported.
    """
    if name in CELLS:
        return CELLS[name]
    if name in TORCH_CELLS:
        return _load("convert:as_in_torch")(name.partition(":")[2], CELLS[TORCH_CELLS[name]])
    if ":" in name:
        factory = import_named(name, "cell")
        if not callable(factory):
            raise InvalidInputError(
                f"{name!r} is not callable: expected a function or class (input_size, hidden_size, depth, ...)"
            )
        theirs = f"torch.nn:{getattr(factory, '__name__', '')}"
        if getattr(factory, "__module__", "").startswith("torch.nn.modules") and theirs in TORCH_CELLS:
            return resolve_cell(theirs)
        return factory
    near = difflib.get_close_matches(name.lower().replace("_", "-"), CELLS, 2, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise InvalidInputError(
        f"unknown cell {name!r}{hint} (cells: {', '.join(CELLS)}, or your own as package.module:factory)"
    )


def import_named(name: str, what: str) -> Any:
    """The object `package.module:attribute` in the code of a user; the module is looked for in the current folder too.

    Never give a name that was read from a file. Raises InvalidInputError, which calls it a `what`, if it cannot be imported.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute or module.startswith("."):
        raise InvalidInputError(f"{name!r} names no {what}: expected package.module:factory")
    if module.endswith(".py"):
        importable = module.removesuffix(".py").strip("/").replace("/", ".")
        raise InvalidInputError(f"{name!r} names a file: write {importable}:{attribute}, without .py")
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.append(here)
    try:
        return getattr(importlib.import_module(module), attribute)
    except USERS_FAULT as error:  # any error of a user's module
        raise InvalidInputError(f"cannot load the {what} {name!r}: {type(error).__name__}: {error}") from error
    finally:
        if added:
            sys.path.remove(here)


def name_of_cell(cell: Any) -> str:
    """The registered name of a cell, otherwise the name of its class.

    >>> from rhn.cells import DTRNN
    >>> name_of_cell(DTRNN(3, 4))
    'dt-rnn'
    """
    return next((name for name, factory in CELLS.items() if type(cell) is factory), type(cell).__name__)


def is_ours(cell: str | Callable) -> bool:
    """Return True for a cell of the toolkit, by its name or itself, and for the name of one of torch.nn; False for cells of users."""
    return cell in OURS or cell in TORCH_CELLS if isinstance(cell, str) else any(CELLS[name] is cell for name in OURS)


def learning_rate(cell: str) -> float:
    """A learning rate at which a cell, registered or named as package.module:factory, trains on the chorales."""
    return getattr(resolve_cell(cell), "learning_rate", LEARNING_RATE)


def with_depth(name: str, depth: int) -> str:
    """The title of a network.

    >>> with_depth("rhn", 4), with_depth("lstm", 1)
    ('rhn, depth 4', 'lstm')
    """
    return name if "depth" in lacking(name) else f"{name}, depth {depth}"


def lacking(name: str) -> set[str]:
    """The settings among depth and transform_bias that a cell does not have; none for an unregistered cell.

    name: of a cell, or of a cell with options as studies have it.

    >>> sorted(lacking("lstm")), lacking("dts-rnn-skip-last"), lacking("my_cells:Mine")
    (['depth', 'transform_bias'], {'transform_bias'}, set())
    """
    cell = max((cell for cell in CELLS if f"{name}-".startswith(f"{cell}-")), key=len, default=None)
    if cell is None:
        return set()
    factory = CELLS[cell]
    there = {"depth": getattr(factory, "deep", True), "transform_bias": accepts(factory, "transform_bias")}
    return {setting for setting in there if not there[setting]}
