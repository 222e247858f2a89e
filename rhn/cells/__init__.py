"""Recurrent cells. Each cell has its equation (`step`), its recurrence over time, its closed-form
Jacobian and a bound on the Jacobian's norm.

`CELLS` maps the names that the commands use to cells; every value is callable as `(input_size,
hidden_size, depth=1, *, ..., device=None, dtype=None)`. CONTRIBUTING.md explains how to add a cell.
"""

from rhn.cells.registry import CELLS
from rhn.utils.lazy import lazy_names

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

__all__, __getattr__, __dir__ = lazy_names(__name__, _MODULES)
