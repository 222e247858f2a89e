"""Public names of version 0.7.0 that have moved: each old path works, with a DeprecationWarning.

__getattr__ = moved(__name__)  # in a module from which names have moved
warn("optim_study.run(quiet=)")
"""

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

UNTIL = "1.1"

NEW_NAMES = {
    "analysis.activity.GateActivity": "analysis.gate_table.GateActivity",
    "analysis.damage.LesionTable": "analysis.lesion_table.LesionTable",
    "analysis.lesion_modes.lesioned": "analysis.lesioned_network.lesioned",
    "analysis.sequences.Excerpt": "analysis.texts.Excerpt",
    "analysis.sequences.excerpts": "analysis.texts.excerpts",
    "analysis.sequences.stretches": "analysis.texts.stretches",
    "gersgorin.linalg.ranges.numerical_radius": (
        "gersgorin.linalg.numerical_range.numerical_radius"
    ),
    "rhn.cells.base.from_torch": "rhn.cells.conversion.from_torch",
    "rhn.cells.convert.from_torch": "rhn.cells.conversion.from_torch",
    "rhn.cells.layers.CellMasks": "rhn.cells.gates.CellMasks",
    "rhn.cells.layers.Gates": "rhn.cells.gates.Gates",
    "rhn.cells.registry.cell_options": "rhn.cells.options.cell_options",
    "rhn.presets.preset": "rhn.training.configure.preset",
}
"""By the old path of a name: its path today."""

INSTEAD = {
    "optim_study.run(quiet=)": "optim_study.run(progress=)",
    "optim-study status --out": "optim-study status FOLDER",
    "optim-study export --out": "optim-study export FOLDER",
}
"""By an argument or option that has gone and still works: what takes its place."""


def moved(module: str) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module from which public names have moved."""

    def load(name: str) -> Any:
        path = NEW_NAMES.get(f"{module}.{name}")
        if path is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(sentence(f"{module}.{name}", path), DeprecationWarning, stacklevel=2)
        home, new = path.rsplit(".", 1)
        return getattr(import_module(home), new)

    return load


def warn(old: str) -> None:
    """Warn whoever calls a function of ours with an argument that has gone."""
    warnings.warn(sentence(old, INSTEAD[old]), DeprecationWarning, stacklevel=3)


def sentence(old: str, new: str) -> str:
    """Return what a warning says."""
    return f"{old} works until {UNTIL}: expected {new}"
