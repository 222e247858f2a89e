"""Why does a training run not learn? Facts of it, and its error if one part is changed at a time.

    found = check(model, x, y, loss_fn, optimizer, steps=1000)
    found.starred, found.facts, found.rows

It grows beside the old package until it takes its place.
"""

from rhn.utils.lazy import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        "checks": ("Check", "check"),
        "cures": ("Cure", "cure"),
        "testing": ("assert_learns",),
    },
)
