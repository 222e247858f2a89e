"""Tables of costly cases, of which one of each kind is quick."""

from collections.abc import Iterable

import pytest


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
