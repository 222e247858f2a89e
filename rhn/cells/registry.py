"""Cells by name: find or make a cell, and fit its size to a number of parameters.
A cell is imported at first use, so that names can be listed without an import of torch.
"""

import bisect
import importlib
import re
import sys
from collections import UserDict
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeVar

from rhn.errors import InvalidInputError
from rhn.utils.old_names import moved
from rhn.utils.validation import (
    LARGEST,
    in_short,
    number,
    unexpected,
    whole_number,
)

if TYPE_CHECKING:
    from torch import nn

Factory = TypeVar("Factory", bound=Callable)
PARAMETERS_PER_LAYER = 150_000  # the budgets of the paper: 150,000 at depth 1, 900,000 at depth 6
NAMED = re.compile(r"\w[\w.]*:\w")  # package.module:attribute


class _Cells(UserDict):
    """Cells by name; `data` has module:Class of our cells, and users' cells themselves."""

    def __getitem__(self, name: str) -> Callable:
        row = self.data[name]
        return resolve_name(f"rhn.cells.{row}") if isinstance(row, str) else row

    def name_of(self, cell: Callable) -> str | None:
        """Return the name of a cell; None for any other. No cell is imported."""
        place = f"{cell.__module__}:{getattr(cell, '__qualname__', '')}"
        found = (n for n, row in self.data.items() if row is cell or f"rhn.cells.{row}" == place)
        return next(found, None)

    def class_names(self) -> dict[str, str]:
        """Return the names of cells by the names of their classes. No cell is imported."""
        found = {}
        for name, row in self.data.items():
            place = row if isinstance(row, str) else getattr(row, "__name__", str(row))
            found[place.rpartition(":")[2]] = name
        return found


CELLS = _Cells(
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
"""The toolkit's own cells, without those that users register later."""
TORCH_CELLS = {
    f"torch.nn:{kind}{form}": kind.lower()
    for kind in ("RNN", "LSTM", "GRU")
    for form in ("", "Cell")
}
"""The cells of torch.nn by their names in commands, with the name of our version of each."""


def register_cell(name: str) -> Callable[[Factory], Factory]:
    """Return a decorator that registers your own cell, a class or a function, under a name of a-z,
    0-9, - and _, a letter first. Its attribute `learning_rate` is the default learning rate for the
    chorales (otherwise 0.2). Raises InvalidInputError.

    >>> register_cell("mine")(lambda *sizes, **options: CELLS["gru"](*sizes, **options))(3, 4)
    GRU(3, 4, depth=1, init='uniform:0.04', update_bias=None)
    >>> del CELLS["mine"]
    """
    refused = InvalidInputError(
        f"name is {name!r}: expected a new one of a-z, 0-9, - and _, a letter first"
    )
    if not isinstance(name, str) or not re.fullmatch("[a-z][a-z0-9_-]*", name):
        raise refused

    def register(factory: Factory) -> Factory:
        taken = CELLS.get(name, factory)
        # the same class again: a notebook ran its cell twice
        if (taken.__module__, taken.__qualname__) != (factory.__module__, factory.__qualname__):
            raise refused
        CELLS[name] = factory
        return factory

    return register


def is_known(name: str) -> bool:
    """Return True for the name of a registered cell or a cell of torch.nn.

    >>> is_known("rhn"), is_known("torch.nn:LSTM"), is_known("torch.nn:RHN")
    (True, True, False)
    """
    return name in CELLS or name in TORCH_CELLS


def factory_of(cell: Any) -> Callable[..., "nn.Module"]:
    """Return the factory of a cell by its name, see `resolve_cell`, or a factory as it is. Raises
    InvalidInputError, also for a cell that is built already.
    """
    if isinstance(cell, str):
        return resolve_cell(cell)
    from torch import nn  # most callers have a name

    if not callable(cell) or isinstance(cell, nn.Module):
        raise unexpected("cell", cell, "a name, a class or a factory of cells")
    return cell


def resolve_cell(name: str) -> Callable[..., "nn.Module"]:
    """Return the factory of a cell by its name: a name in `CELLS`, "torch.nn:LSTM", or a user's
    cell as "package.module:factory". Raises InvalidInputError.
    """
    if str(name) in CELLS:
        return CELLS[name]
    if str(name) in TORCH_CELLS:
        return resolve_name("rhn.cells.conversion:as_in_torch")(name.partition(":")[2])
    factory = import_named(name, "cell") if NAMED.match(str(name)) else None
    if callable(factory):
        return factory
    raise unexpected("cell", name, f"{', '.join(CELLS)} or package.module:factory")


def import_named(name: str, what: str) -> Any:
    """Import an object `package.module:attribute`; the module may be in the current folder. Never
    pass a name that was read from a file. Raises InvalidInputError.

    >>> import_named("math:pi", "number")
    3.141592653589793
    """
    module, _, attribute = name.partition(":")
    if not NAMED.match(name):
        raise unexpected(what, name, "package.module:NAME")
    here = str(Path.cwd())
    is_on_path = here in sys.path
    if not is_on_path:
        sys.path.append(here)
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InvalidInputError(f"{what} is {in_short(name)}: {error}") from error
    finally:  # it stays for a cell of this folder, which may import when it runs
        if not is_on_path and not _is_inside(module, here):
            sys.path.remove(here)


def _is_inside(module: str, folder: str) -> bool:
    """Return True if a module was imported from a file in a folder."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and Path(file).is_relative_to(folder)


def name_of_cell(cell: Any) -> str:
    """Return the registered name of a cell, or else the name of its class; of a stack, that of its
    first cell.

    >>> from rhn.cells import DTRNN
    >>> name_of_cell(DTRNN(3, 4))
    'dt-rnn'
    """
    kind = type(cell.cells[0] if getattr(cell, "stacked", 1) > 1 else cell)
    return CELLS.name_of(kind) or kind.__name__


def make_cell(
    name: str, input_size: int, hidden_size: int, depth: int = 1, **options
) -> "nn.Module":
    """Make a new cell by its name, see `resolve_cell`. Raises InvalidInputError.

    >>> make_cell("dts-rnn", 3, 5, 2, skip="last")
    DTSRNN(3, 5, depth=2, init='uniform:0.04', nonlinearity='tanh', skip='last')
    """
    return resolve_cell(name)(input_size, hidden_size, depth, **options)


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
    have at most `budget` parameters, as in figure 4 (Zilly et al. 2017, supplement). Raises
    InvalidInputError.

    >>> [hidden_size_for_budget("rhn", 150_000 * depth, depth) for depth in (1, 2, 4, 6)]
    [215, 242, 257, 262]
    """
    factory = factory_of(cell)
    inputs = whole_number("input_size", input_size)
    outputs = whole_number("output_size", output_size)

    def size(n: int) -> int:
        made = factory(inputs, n, depth, device="meta", **options)
        return num_parameters(made) + (n + 1) * outputs

    budget = number("budget", budget, least=size(1), most=LARGEST)
    high = 2
    while size(high) <= budget:
        high *= 2
    return bisect.bisect_right(range(high), budget, lo=high // 2, key=size) - 1


if not TYPE_CHECKING:
    __getattr__ = moved(__name__)
