"""Recurrent cells. Each cell has its equation (`step`), its recurrence over time, its closed-form
Jacobian and a bound on the Jacobian's norm.

`CELLS` maps the names that the commands use to cells; every value is callable as `(input_size,
hidden_size, depth=1, *, ..., device=None, dtype=None)`. CONTRIBUTING.md explains how to add a cell.
"""

from typing import TYPE_CHECKING

from rhn.cells.registry import CELLS as CELLS
from rhn.utils.lazy import lazy_names

if TYPE_CHECKING:
    from rhn.cells.base import Cell as Cell
    from rhn.cells.conversion import from_torch as from_torch
    from rhn.cells.gated import GRU as GRU
    from rhn.cells.gated import LSTM as LSTM
    from rhn.cells.gates import CellMasks as CellMasks
    from rhn.cells.gates import Gates as Gates
    from rhn.cells.highway import RHN as RHN
    from rhn.cells.init import Initialization as Initialization
    from rhn.cells.layers import GateBlocks as GateBlocks
    from rhn.cells.layers import Layer as Layer
    from rhn.cells.layers import Part as Part
    from rhn.cells.layers import described_layers as described_layers
    from rhn.cells.layers import recurrent_parts as recurrent_parts
    from rhn.cells.options import accepts as accepts
    from rhn.cells.options import cell_options as cell_options
    from rhn.cells.options import read_options as read_options
    from rhn.cells.registry import hidden_size_for_budget as hidden_size_for_budget
    from rhn.cells.registry import is_known as is_known
    from rhn.cells.registry import make_cell as make_cell
    from rhn.cells.registry import name_of_cell as name_of_cell
    from rhn.cells.registry import num_parameters as num_parameters
    from rhn.cells.registry import register_cell as register_cell
    from rhn.cells.registry import resolve_cell as resolve_cell
    from rhn.cells.stack import StackedCell as StackedCell
    from rhn.cells.transition import DTRNN as DTRNN
    from rhn.cells.transition import DTSRNN as DTSRNN
    from rhn.cells.transition import IRNN as IRNN
    from rhn.cells.transition import RNN as RNN

_MODULES = {
    "base": ("Cell",),
    "conversion": ("from_torch",),
    "gates": ("CellMasks", "Gates"),
    "init": ("Initialization",),
    "layers": (
        "GateBlocks",
        "Layer",
        "Part",
        "described_layers",
        "recurrent_parts",
    ),
    "options": ("accepts", "cell_options", "read_options"),
    "registry": (
        "CELLS",
        "hidden_size_for_budget",
        "is_known",
        "make_cell",
        "name_of_cell",
        "num_parameters",
        "register_cell",
        "resolve_cell",
    ),
    "stack": ("StackedCell",),
}
for _place in CELLS.data.values():
    _module, _, _class = _place.partition(":")
    _MODULES[_module] = (*_MODULES.get(_module, ()), _class)

__all__, _load, __dir__ = lazy_names(__name__, _MODULES)
if not TYPE_CHECKING:  # a name outside the table is an error
    __getattr__ = _load
