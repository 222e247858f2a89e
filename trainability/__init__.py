"""Why does this network not learn? Swap one part of its training at a time for a known good one.

In preparation: it will replace `gersgorin.check` and `gersgorin.cure`.

    found = check(model, x, y, loss_fn, optimizer, steps=3000)    # a Diagnosis
    print(found)                                                  # the part at fault, and the rows
    found.part, found.causes, found.table()
"""

from trainability.check import check
from trainability.diagnosis import Diagnosis
from trainability.swaps import Swap, register_swap
from trainability.training import Training

__all__ = ("Diagnosis", "Swap", "Training", "check", "register_swap")
