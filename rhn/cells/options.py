"""The options of a cell: the keywords of its factory, and their values from a command line."""

import ast
import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from inspect import Parameter, unwrap
from pkgutil import resolve_name
from typing import Any

from rhn.cells.registry import TOOLKIT_CELLS, TORCH_CELLS, resolve_cell
from rhn.utils.validation import plain, signature_of, unexpected

COMMON = {"depth", "init", "batch_first", "kernel", "generator", "device", "dtype"}
WORDS = {"true": "True", "false": "False", "none": "None"}  # values of options in small letters


def parameters_of(factory: Callable) -> dict[str, Parameter]:
    """Return the parameters of a factory by name, and of base classes to which it passes keywords.

    >>> "nonlinearity" in parameters_of(resolve_cell("rnn"))
    True
    """
    factory = _inner(factory)
    bases = factory.__mro__ if isinstance(factory, type) else ()
    found: dict[str, Parameter] = {}
    for call in [vars(base)["__init__"] for base in bases if "__init__" in vars(base)] or [factory]:
        own = signature_of(call).parameters
        found = {**own, **found}
        if all(p.kind is not Parameter.VAR_KEYWORD for p in own.values()):
            break
    rest = Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL
    return {name: p for name, p in found.items() if p.kind not in rest}


def _inner(factory: Any) -> Any:
    """Return the class or function in a functools.partial or a wrapper, as of a torch.nn cell."""
    while isinstance(factory, partial):
        factory = factory.func
    return unwrap(factory)


def has_depth(factory: Callable) -> bool:
    """Return False for a cell class of this package, or a user's subclass of `Cell`, of one layer.

    >>> has_depth(resolve_cell("rhn")), has_depth(resolve_cell("torch.nn:LSTM"))
    (True, False)
    """
    cell: Any = _inner(factory)
    base = resolve_name("rhn.cells.base:Cell")
    is_cell = isinstance(cell, type) and issubclass(cell, base)
    return cell.deep if is_cell else True


def accepts(factory: Callable, keyword: str) -> bool:
    """Return True if a cell has a parameter of this name.

    >>> accepts(resolve_cell("rhn"), "transform_bias")
    True
    >>> accepts(resolve_cell("dt-rnn"), "transform_bias")
    False
    """
    return keyword in parameters_of(factory)


def cell_options(cell: str) -> dict[str, Any]:
    """Return the options of a cell that other cells do not have, with their defaults.

    >>> cell_options("dts-rnn")
    {'nonlinearity': 'tanh', 'skip': 'all'}
    """
    found = parameters_of(resolve_cell(cell)).values()
    optional = (p for p in found if p.kind is p.KEYWORD_ONLY or p.default != p.empty)
    return {p.name: p.default for p in optional if p.name not in COMMON}


def read_options(cell: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a cell's options. A text that is a Python value, as in `--cell-option
    coupled=false`, becomes this value. Raises InvalidInputError.

    >>> read_options("rhn", {"gate_constant": "0.5", "coupled": "false"})
    {'gate_constant': 0.5, 'coupled': False}
    """
    if not isinstance(given, Mapping):
        raise unexpected(f"options of {cell}", given, "a dictionary")
    if not given:
        return {}
    known = cell_options(cell)
    for name in given:
        if name not in known:
            raise unexpected(f"option of {cell}", name, ", ".join(known) or "none")
    values = {name: _value(value) for name, value in given.items()}
    if cell in TOOLKIT_CELLS or cell in TORCH_CELLS:  # no user's cell is built here
        made = resolve_cell(cell)(1, 1, device="meta", **values)
        return {name: getattr(made, name) for name in values}
    return values


def _value(given: Any) -> Any:
    """Return the Python value of a text; the text itself if it is none."""
    if not isinstance(given, str):
        return plain(given)
    with contextlib.suppress(ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return ast.literal_eval(WORDS.get(given, given))
    return given
