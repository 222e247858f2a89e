"""Packages whose names load their module on first use, so that importing the package itself loads nothing heavy."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module


def lazy_names(
    package: str, modules: Mapping[str, Sequence[str]], submodules: Sequence[str] = ()
) -> tuple[list[str], Callable, Callable]:
    """`__all__`, `__getattr__` and `__dir__` of a package, from the names that each of its modules gives.

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
