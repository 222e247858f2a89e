"""Tables of cases: cheap ones of one statement as subtests of one test, costly ones of which one of
each kind is quick.
"""

import inspect
from collections.abc import Iterable

import pytest
import torch


def named(value) -> str:
    """The id of a value: the name of a class or function, or the value as text."""
    return getattr(value, "__name__", str(value))


def others_slow(rows: Iterable, *kept) -> list:
    """The rows of a parametrised test, of which all but those that are kept are slow."""
    return [
        row
        if row in kept
        else pytest.param(*(row if isinstance(row, tuple) else (row,)), marks=pytest.mark.slow)
        for row in rows
    ]


def for_each(names: str | tuple[str, ...], rows: Iterable):
    """Run a test once for each row, as `pytest.mark.parametrize` does, but as subtests of one test.

    Every row starts from the same random numbers; fixtures are shared by the rows, so a row must
    not change them.
    """
    names = (names,) if isinstance(names, str) else names

    def decorate(test):
        given = [p for p in inspect.signature(test).parameters if p not in names]

        def run(subtests, **fixtures):
            if "subtests" in given:
                fixtures["subtests"] = subtests
            for row in rows:
                values = dict(zip(names, (row,) if len(names) == 1 else row, strict=True))
                with subtests.test(", ".join(map(str, values.values()))):
                    torch.manual_seed(0)
                    test(**values, **fixtures)

        run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
        run.__qualname__ = test.__qualname__
        run.pytestmark = getattr(test, "pytestmark", [])
        parameters = dict.fromkeys(["subtests", *given])
        run.__signature__ = inspect.Signature(
            [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in parameters]
        )
        return run

    return decorate
