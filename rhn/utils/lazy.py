"""Load modules on first use: those in which a package's names are defined, and those of extras."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from rhn.errors import RhnError


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


def import_extra(module: str, extra: str) -> Any:
    """Import a module that an extra of this project installs. Raises RhnError if it is missing."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise RhnError(f"{module} is not installed: expected pip install '.[{extra}]'") from None
