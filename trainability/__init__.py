"""Why does this network not learn? Compare its training run, part by part, with a good one.

    found = check(model, x, y, loss_fn, optimizer, steps=3000)    # a Diagnosis
    print(found)                                                  # the table, proofs, the fault
    found.part, found.causes, found.table()

    found = cure(model, x, y, loss_fn, optimizer, steps=3000)     # a Cure
    found.model, found.optimizer(found.model.parameters())        # initial weights that help

    assert_learns(model, x, y, loss_fn, optimizer, steps=400)     # a test: raises unless it learns

    Training(model, x, y, loss_fn, optimizer)    all parts of a training run, on copies
    register_swap(part, what)                    add a replacement for `check` to try

`import trainability` is fast: torch is imported when one of these names is first used.
"""

import sys
from types import ModuleType
from typing import Any

from rhn.utils.lazy import lazy_names
from rhn.version import __version__ as __version__

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "check": ("check",),
        "cure": ("Cure", "cure"),
        "diagnosis": ("Diagnosis",),
        "swaps": ("Swap", "register_swap"),
        "testing": ("assert_learns",),
        "training": ("Training",),
    },
    submodules=("starts", "testing"),
)


class _Package(ModuleType):
    """Module type of this package: `trainability.check` stays the function of that name.

    Importing check.py sets the attribute to the module; this class sets it back to the function.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and name in __all__:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
