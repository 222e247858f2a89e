"""A stand-in for hypothesis where it is not installed: property tests skip, the other tests of
their files run.
"""

import inspect
import sys
from importlib.machinery import ModuleSpec
from unittest.mock import MagicMock

import pytest


def given(*positional, **named):
    """The decorator: the test keeps the parameters that no strategy would fill, so that fixtures
    and tables still fit.
    """

    def skipping(test):
        def skipped(**_):
            raise AssertionError("a test without its strategies ran")

        kept = [p for name, p in inspect.signature(test).parameters.items() if name not in named]
        skipped.__name__, skipped.__doc__ = test.__name__, test.__doc__
        skipped.__dict__.update(test.__dict__)
        skipped.__signature__ = inspect.Signature(kept[: len(kept) - len(positional)])
        return pytest.mark.skip(reason="hypothesis is not installed")(skipped)

    return skipping


def stand_in() -> None:
    """From now on `import hypothesis` finds names that do nothing."""
    hypothesis = MagicMock(given=given)
    hypothesis.__spec__ = ModuleSpec("hypothesis", None)  # torch._dynamo asks for it
    for name in ("settings", "example"):
        getattr(hypothesis, name).side_effect = lambda *_, **__: lambda test: test
    sys.modules |= {"hypothesis": hypothesis, "hypothesis.strategies": hypothesis.strategies}
    sys.modules |= {
        "hypothesis.extra": hypothesis.extra,
        "hypothesis.extra.numpy": hypothesis.extra.numpy,
    }
