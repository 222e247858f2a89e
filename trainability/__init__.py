"""Why does this network not learn? Compare its training, part by part, with a known good one.

    found = check(model, x, y, loss_fn, optimizer, steps=3000)    # a Diagnosis
    print(found)                                                  # the table, proofs, the fault
    found.part, found.causes, found.table()

    found = cure(model, x, y, loss_fn, optimizer, steps=3000)     # a Cure
    found.model, found.optimizer(found.model.parameters())        # initial weights that help

    assert_learns(model, x, y, loss_fn, optimizer, steps=400)     # in a test: raises if it does not

    Training(model, x, y, loss_fn, optimizer)    all parts of a training run, on copies
    register_swap(part, what)                    one more version that `check` tries
    Recorder(model, probe, loss_fn=loss_fn)      spectra, gradients and what outputs explain

`import trainability` is light: torch is loaded by the first of these names.
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
        "recorder": ("Recorder",),
        "swaps": ("Swap", "register_swap"),
        "testing": ("assert_learns",),
        "training": ("Training",),
    },
    submodules=("starts", "testing"),
)


class _Package(ModuleType):
    """This package, in which a public function keeps its name when its file is imported.

    Python sets `trainability.check` to the module check.py; it becomes the function of that name.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and name in __all__:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
