"""Load modules on first use: the modules in which a package's names are defined, and plugins of
other packages.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from rhn.errors import InvalidInputError

GROUP = "rhn_toolkit.plugins"


def lazy_names(
    package: str, modules: Mapping[str, Sequence[str]], submodules: Sequence[str] = ()
) -> tuple[list[str], Callable, Callable]:
    """Return `__all__`, `__getattr__` and `__dir__` for a package, from the public names in each of
    its modules.

    submodules: modules that are attributes of the package and are imported at their first use.
    """
    homes = {name: module for module, names in modules.items() for name in names}

    def load(name: str):
        if name in submodules:
            return import_module(f"{package}.{name}")
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return sorted(homes), load, lambda: sorted({*homes, *submodules})


def plugin(name: str) -> Any:
    """Load the class or function that an installed package registers under this name, as an entry
    point of the group `GROUP`.

    Raises InvalidInputError if there is none.
    """
    found = [*entry_points(group=GROUP, name=name)]
    if not found:
        raise InvalidInputError(f"no installed package offers {name!r}: install the whole toolkit")
    return found[0].load()
