"""Load modules on first use: the modules behind the names of a package, and plugins of packages above this one."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from rhn.errors import InvalidInputError

GROUP = "rhn_toolkit.plugins"
PLUGINS = {  # without installed metadata, as in a source tree
    "recorder": "gersgorin.recorder:Recorder",
    "recording": "gersgorin.recording:Recording",
    "report": "analysis.report.cli:main",
}


def lazy_names(
    package: str, modules: Mapping[str, Sequence[str]], submodules: Sequence[str] = ()
) -> tuple[list[str], Callable, Callable]:
    """Make `__all__`, `__getattr__` and `__dir__` of a package from the names in each of its modules.

    submodules: modules that are attributes of the package without an import of their own.
    """
    homes = {name: module for module, names in modules.items() for name in names}

    def load(name: str):
        if name in submodules:
            return import_module(f"{package}.{name}")
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return sorted(homes), load, lambda: sorted({*vars(sys.modules[package]), *homes, *submodules})


def plugin(name: str):
    """Load the class or function of this name: the recorder of `rhn train --record`, the report.

    Raises InvalidInputError if its package is not installed.
    """
    found = [*entry_points(group=GROUP, name=name), EntryPoint(name, PLUGINS[name], GROUP)]
    try:
        return found[0].load()
    except ModuleNotFoundError as error:
        raise InvalidInputError(f"{found[0].value} cannot be imported ({error}): install the whole toolkit") from error
