"""The cells by name, and how a name, or a user's `package.module:factory`, becomes one."""

import difflib
import importlib
from collections.abc import Callable

from rhn.cells.base import Cell
from rhn.cells.gated import GRU, LSTM
from rhn.cells.highway import RHN
from rhn.cells.transition import DTRNN, DTSRNN, IRNN, RNN
from rhn.errors import InvalidInputError

CELLS: dict[str, Callable[..., Cell]] = {
    "rnn": RNN,
    "irnn": IRNN,
    "dt-rnn": DTRNN,
    "dts-rnn": DTSRNN,
    "rhn": RHN,
    "lstm": LSTM,
    "gru": GRU,
}


def resolve_cell(name: str) -> Callable[..., Cell]:
    """The cell called `name` in `CELLS`, or a user's own as `package.module:factory`.

    Raises InvalidInputError where there is none, with the nearest name, or where the module cannot be imported.
    """
    if name in CELLS:
        return CELLS[name]
    if ":" in name:
        module, _, attribute = name.partition(":")
        try:
            factory = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise InvalidInputError(f"cannot load the cell {name!r}: {error}") from error
        if not callable(factory):
            raise InvalidInputError(
                f"{name!r} is not callable: expected a function or class (input_size, hidden_size, depth, ...)"
            )
        return factory
    near = difflib.get_close_matches(name.lower().replace("_", "-"), CELLS, 2, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise InvalidInputError(
        f"unknown cell {name!r}{hint} (cells: {', '.join(CELLS)}, or your own as package.module:factory)"
    )
