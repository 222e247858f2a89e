"""Why does a training run not learn? Facts of it, and its error if one part is changed at a time.

    found = check(model, x, y, loss_fn, optimizer, steps=1000)
    found.starred, found.facts, found.rows                         # found.whole() shows them all

    found = cure(model, x, y, loss_fn, optimizer, steps=1000)      # initial weights x learning rate
    found.best.weights, found.best.rate

    assert_learns(model, x, y, loss_fn, optimizer, steps=400)      # a test

    with watch() as seen:                                          # any loop as it stands
        train()
    print(seen.result())

`import trainability` is fast: torch is imported when one of these names is first used.
"""

from typing import TYPE_CHECKING

from rhn.utils.lazy import lazy_names
from rhn.version import __version__ as __version__

if TYPE_CHECKING:
    from trainability import cures as cures
    from trainability import initial_weights as initial_weights
    from trainability.check_table import Check as Check
    from trainability.checks import check as check
    from trainability.cures import Cure as Cure
    from trainability.cures import cure as cure
    from trainability.testing import assert_learns as assert_learns
    from trainability.watching.loop_result import LoopResult as LoopResult
    from trainability.watching.watched_loop import watch as watch

__all__, _load, __dir__ = lazy_names(
    __name__,
    {
        "check_table": ("Check",),
        "checks": ("check",),
        "cures": ("Cure", "cure"),
        "testing": ("assert_learns",),
        "watching.loop_result": ("LoopResult",),
        "watching.watched_loop": ("watch",),
    },
    submodules=("cures", "initial_weights"),
)
if not TYPE_CHECKING:  # a name outside the table is an error
    __getattr__ = _load
