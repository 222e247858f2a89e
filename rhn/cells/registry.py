"""The cells by name, and how a name, one of torch.nn's cells or a user's `package.module:factory`, becomes one."""

import difflib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rhn.cells.antisymmetric import AntisymmetricRNN
from rhn.cells.base import Cell
from rhn.cells.convert import OURS, as_in_torch
from rhn.cells.cornn import CoRNN
from rhn.cells.gated import GRU, LSTM
from rhn.cells.highway import RHN
from rhn.cells.indrnn import IndRNN
from rhn.cells.leaky import LeakyRNN
from rhn.cells.lru import LRU
from rhn.cells.mgu import MGU
from rhn.cells.mingru import MinGRU
from rhn.cells.orthogonal import OrthogonalRNN
from rhn.cells.slstm import SLSTM
from rhn.cells.transition import DTRNN, DTSRNN, IRNN, RNN
from rhn.errors import USERS_FAULT, InvalidInputError

CELLS: dict[str, Callable[..., Cell]] = {
    "rnn": RNN,
    "irnn": IRNN,
    "dt-rnn": DTRNN,
    "dts-rnn": DTSRNN,
    "rhn": RHN,
    "lstm": LSTM,
    "gru": GRU,
    "indrnn": IndRNN,
    "mgu": MGU,
    "mingru": MinGRU,
    "lru": LRU,
    "slstm": SLSTM,
    "antisymmetric": AntisymmetricRNN,
    "orthogonal": OrthogonalRNN,
    "cornn": CoRNN,
    "leaky": LeakyRNN,
}
TORCH_CELLS = {f"torch.nn:{theirs.__name__}": as_in_torch(theirs) for theirs in OURS}


def is_known(name: str) -> bool:
    """Whether a cell's name, read from a file, is safe to resolve: no module of a user's is imported for it."""
    return name in CELLS or name in TORCH_CELLS


def name_of_cell(cell: Any) -> str:
    """What `CELLS` calls a cell; of another module its class's name.

    >>> name_of_cell(DTRNN(3, 4))
    'dt-rnn'
    """
    return next((name for name, factory in CELLS.items() if type(cell) is factory), type(cell).__name__)


def resolve_cell(name: str) -> Callable[..., Cell]:
    """The cell called `name` in `CELLS`, one of torch.nn's in our form, or a user's own as `package.module:factory`.

    A user's module is looked for in the current folder too. Never give a name that was read from a file: see `is_known`.

    Raises InvalidInputError where there is none, with the nearest name, or where the module cannot be imported.
    """
    if is_known(name):
        return CELLS.get(name) or TORCH_CELLS[name]
    if ":" in name:
        factory = import_named(name, "cell")
        if not callable(factory):
            raise InvalidInputError(
                f"{name!r} is not callable: expected a function or class (input_size, hidden_size, depth, ...)"
            )
        return as_in_torch(factory) if factory in OURS else factory
    near = difflib.get_close_matches(name.lower().replace("_", "-"), CELLS, 2, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise InvalidInputError(
        f"unknown cell {name!r}{hint} (cells: {', '.join(CELLS)}, or your own as package.module:factory)"
    )


def import_named(name: str, what: str) -> Any:
    """What `package.module:attribute` names, in a user's code; the module is looked for in the current folder too.

    Never give a name that was read from a file. Raises InvalidInputError, which calls it a `what`, where it cannot be imported.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute or module.startswith("."):
        raise InvalidInputError(f"{name!r} names no {what}: expected package.module:factory")
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        return getattr(importlib.import_module(module), attribute)
    except USERS_FAULT as error:  # whatever a user's module raises
        raise InvalidInputError(f"cannot load the {what} {name!r}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(here)
