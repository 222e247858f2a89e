"""Make a cell by its name: sizes, options as words or values, and as many units as a budget of parameters buys."""

import bisect
import contextlib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, get_type_hints

from torch import nn

from rhn.cells.registry import resolve_cell
from rhn.errors import USERS_FAULT, InvalidInputError, RhnError
from rhn.utils.validation import convert, expected, fits, positive

COMMON = {"init", "batch_first", "kernel", "generator", "device", "dtype"}  # keywords of every cell
LARGEST_BUDGET = 10**12


def make_cell(name: str, input_size: int, hidden_size: int, depth: int = 1, **options) -> nn.Module:
    """A new cell by its name: one of `CELLS`, "torch.nn:LSTM", or "package.module:factory".

    options: keywords of the cell, such as leak=0.5, init="gaussian:0.1", generator=, device=, dtype=; see `cell_options`.

    Raises InvalidInputError for an unknown name, size or option.

    >>> make_cell("leaky", 3, 5, leak=0.5)
    LeakyRNN(3, 5, depth=1, init='uniform:0.04', leak=0.5, spectral_radius=None)
    """
    own = {option: value for option, value in options.items() if option not in COMMON}
    rest = {option: value for option, value in options.items() if option in COMMON}
    return resolve_cell(name)(input_size, hidden_size, depth, **read_options(name, own), **rest)


@dataclass(frozen=True)
class CellOption:
    """A keyword argument of a cell."""

    name: str
    kind: Any
    """Its type."""
    default: Any


def cell_options(cell: str | Callable) -> list[CellOption]:
    """The options of a cell: its keyword arguments that other cells do not have, with types and defaults.

    >>> [(option.name, option.default) for option in cell_options("leaky")]
    [('leak', 0.3), ('spectral_radius', None)]
    """
    factory = resolve_cell(cell) if isinstance(cell, str) else cell
    factory = getattr(factory, "cell", factory)  # of a cell of torch.nn, our form
    constructors = [base.__init__ for base in reversed(factory.__mro__)] if isinstance(factory, type) else [factory]
    found: dict[str, CellOption] = {}
    for constructor in constructors:
        try:
            parameters, hints = inspect.signature(constructor).parameters, get_type_hints(constructor)
        except (TypeError, ValueError, NameError):  # of built-in functions, and of names imported for types only
            continue
        for name, parameter in parameters.items():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in COMMON:
                found[name] = CellOption(name, hints.get(name, _kind_of(parameter.default)), parameter.default)
    return list(found.values())


def read_options(cell: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a cell as values: words, as `--cell-option leak=0.5` gives them, become what the cell expects.

    Raises InvalidInputError for an option that the cell does not have or a value of the wrong type: one sentence with its options.

    >>> read_options("leaky", {"leak": "0.5"})
    {'leak': 0.5}
    """
    options = {option.name: option for option in cell_options(cell)} if given else {}
    return {name: _read(cell, name, value, options) for name, value in given.items()}


def _read(cell: str, name: str, value, options: dict[str, CellOption]):
    known = ", ".join(f"{option.name} ({option.default})" for option in options.values())
    listed = f"options of {cell}, with defaults: {known}" if known else f"{cell} has no options"
    if name not in options:
        raise InvalidInputError(f"the cell {cell} has no option {name!r} ({listed})")
    kind = options[name].kind
    with contextlib.suppress(ValueError):
        value = convert(value, kind) if isinstance(value, str) else value
    if not fits(value, kind) or (isinstance(value, float) and not math.isfinite(value)):
        said = f"the option {name} of {cell} is {value!r:.60}, expected {expected(kind)} ({listed})"
        raise InvalidInputError(said)
    return value


def _kind_of(default) -> Any:
    """The type of an option without annotation, from its default."""
    if isinstance(default, bool | float | str):
        return type(default)
    return int | float | bool | str | (NoneType if default is None else int)


def num_parameters(module: nn.Module) -> int:
    """Number of trainable numbers in a cell or model."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def hidden_size_for_budget(
    cell: str | Callable[..., nn.Module],
    budget: int,
    depth: int = 1,
    *,
    input_size: int = 88,
    output_size: int = 88,
    **options,
) -> int:
    """The largest n for which cell + output layer (n -> output_size, biases) stay within `budget` parameters.

    As for the networks of figure 4 (Zilly et al. 2017, supplement). Raises InvalidInputError if one unit exceeds the budget, or for a
    budget beyond 10**12.

    >>> [hidden_size_for_budget("rhn", 150_000 * depth, depth) for depth in (1, 2, 4, 6)]
    [215, 242, 257, 262]
    """
    factory = resolve_cell(cell) if isinstance(cell, str) else cell
    budget = positive("budget", int(budget) if isinstance(budget, float) and budget.is_integer() else budget)
    if budget > LARGEST_BUDGET:
        raise InvalidInputError(f"a budget of {budget} parameters is beyond any computer: at most {LARGEST_BUDGET}")

    def size(n: int) -> int:
        try:
            network = factory(input_size, n, depth, device="meta", **options)
            return num_parameters(network) + (n + 1) * output_size
        except RhnError:
            raise
        except USERS_FAULT as error:  # any error of a user's cell
            said = f"the parameters of the cell {cell!r} cannot be counted: {type(error).__name__}: {error}"
            raise InvalidInputError(said) from error

    if size(1) > budget:
        raise InvalidInputError(
            f"a budget of {budget} parameters is too small: one unit at depth {depth} already takes {size(1)}"
        )
    return largest_within(size, budget)


def largest_within(size: Callable[[int], int], budget: int) -> int:
    """The largest n with size(n) <= budget, for a size that grows with n and fits at n = 1.

    >>> largest_within(lambda n: n * n, 150)
    12
    """
    high = 2
    while size(high) <= budget:
        high *= 2
    return bisect.bisect_right(range(high), budget, lo=high // 2, key=size) - 1
