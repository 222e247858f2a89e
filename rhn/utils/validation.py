"""Check values that a user gives: numbers by ranges, fields of configurations by their types."""

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from difflib import SequenceMatcher
from functools import cache, partial
from math import inf
from types import NoneType
from typing import Annotated, Any, NamedTuple, TypeGuard, get_args, get_origin, get_type_hints

from rhn.errors import InvalidInputError

SHORT = 60  # characters of a value in a message
LARGEST = 2**63 - 1  # of whole numbers: the most elements of a tensor
LARGEST_FLOAT = 3e38  # of numbers in networks: the range of float32
HINTS: Any = cache(partial(get_type_hints, include_extras=True))  # of a class, read once
LARGEST_INIT = 1e6  # of initial weights: with larger ones a network starts with overflow


class Range(NamedTuple):
    """The numbers that a field may have: at least `least`, more than `above`, less than `below`, at
    most `most`; None is no limit.
    """

    least: float | None = None
    above: float | None = None
    below: float | None = None
    most: float | None = None

    def limits(self) -> dict[str, Any]:
        """Return the limits by name, as `number` and `whole_number` take them."""
        return {name: limit for name, limit in self._asdict().items() if limit is not None}


Count = Annotated[int, Range(least=1)]
Natural = Annotated[int, Range(least=0)]
Positive = Annotated[float, Range(above=0)]
NonNegative = Annotated[float, Range(least=0, most=LARGEST_FLOAT)]
Fraction = Annotated[float, Range(least=0, below=1)]


def plain(value: Any) -> Any:
    """Return the Python value of a NumPy or torch number; another value unchanged.

    >>> import numpy as np
    >>> plain(np.float64(0.5)), plain([3])
    (0.5, [3])
    """
    return value.item() if getattr(value, "ndim", None) == 0 else value


def is_whole_number(value: Any, least: int = 1, most: int = LARGEST) -> TypeGuard[int]:
    """Return True if a value is a whole number (of Python, NumPy or torch) between two limits.

    >>> is_whole_number(3), is_whole_number(True), is_whole_number(0)
    (True, False, False)
    """
    value = plain(value)
    return type(value) is int and least <= value <= most


def is_number(value: Any) -> bool:
    """Return True for a number, also for NaN and infinity; a whole number has at most 63 bits.

    >>> is_number(2.5), is_number(True), is_number(10**400)
    (True, False, False)
    """
    return type(plain(value)) is float or is_whole_number(value, -LARGEST)


def whole_number(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """Return a whole number between two limits, as an int. Raises InvalidInputError. most: None:
    the largest possible number of elements of a tensor.

    >>> whole_number("count", 3, 1, 5)
    3
    """
    largest = LARGEST if most is None else most
    if not is_whole_number(value, least, largest):
        above = most is None and not (isinstance(value, int) and value > largest)
        limits = f"of at least {least}" if above else f"from {least} to {largest}"
        wanted = f"{least}" if least == largest else f"a whole number {limits}"
        raise unexpected(name, value, wanted)
    return plain(value)


def number(
    name: str,
    value: Any,
    *,
    least: float = -inf,
    above: float = -inf,
    below: float = inf,
    most: float = inf,
) -> float:
    """Return a finite number between these limits. Raises InvalidInputError.

    >>> number("seconds", 1.5, above=0)
    1.5
    """
    found = plain(value)
    if is_number(found) and least <= found <= most and above < found < below:
        return found
    low, high = max(least, above), min(below, most)
    start = "[" if low > above else "("
    end = "]" if high < below else ")"
    raise unexpected(name, value, f"a number in {start}{low:g}, {high:g}{end}")


def check_values(config: Any) -> None:
    """Raise InvalidInputError unless each field of a dataclass has its type and is within its
    `Range`. NumPy and torch numbers become Python numbers.

    >>> from rhn.training.config import LanguageConfig
    >>> LanguageConfig(corpus="ptb", depth=0)
    Traceback (most recent call last):
    rhn.errors.InvalidInputError: depth is 0: expected a whole number of at least 1
    """
    kind: Any = type(config)
    for name, hint in HINTS(kind).items():
        object.__setattr__(config, name, _checked(name, plain(getattr(config, name)), hint))


def _checked(name: str, value: Any, hint: Any) -> Any:
    kinds = get_args(hint)
    if NoneType in kinds:
        return None if value is None else _checked(name, value, kinds[0])
    kind, *about = kinds if get_origin(hint) is Annotated else (hint,)
    if get_origin(kind) is tuple:
        return _checked_each(name, value, get_args(kind))
    if kind in (int, float):
        checked = whole_number if kind is int else number
        ranges = [each for each in about if isinstance(each, Range)]
        return checked(name, value, **(ranges[0].limits() if ranges else {}))
    known = get_args(kind)
    if value not in known if known else not isinstance(value, kind):
        expected = ", ".join(known) or kind.__name__
        raise unexpected(name, value, expected)
    return value


def _checked_each(name: str, value: Any, kinds: tuple) -> tuple:
    """Return the items of a tuple, a list or an array, or a single value, as a tuple."""
    listed = value.tolist() if hasattr(value, "tolist") else value
    values = tuple(listed) if isinstance(listed, tuple | list | range) else (listed,)
    hints = kinds[:1] * len(values) if kinds[-1] is Ellipsis else kinds
    if not values or len(values) != len(hints):
        expected = "one value or more" if kinds[-1] is Ellipsis else f"{len(kinds)} values"
        raise unexpected(name, value, expected)
    return tuple(_checked(name, plain(v), hint) for v, hint in zip(values, hints, strict=True))


def signature_of(function: Callable) -> inspect.Signature:
    """Return the signature of a function, whose annotations are not evaluated: since Python 3.14
    they may be names that only a type checker imports (PEP 649). Raises TypeError or ValueError.
    """
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.STRING)
    return inspect.signature(function)


def unexpected(name: str, value: object, expected: str) -> InvalidInputError:
    """Return the error for a value that is refused: name, value, and what was expected.

    >>> unexpected("depth", 0, "1 or more")
    InvalidInputError('depth is 0: expected 1 or more')
    """
    return InvalidInputError(f"{name} is {in_short(value)}: expected {expected}")


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InvalidInputError:
    """Return the error for a name that does not exist: those that do, nearest first.

    >>> unknown_name("field", "lr", ["depth", "lr_decay", "learning_rate"])
    InvalidInputError('field is lr: expected learning_rate, lr_decay, depth')
    """
    return InvalidInputError(f"{kind} is {name}: expected {', '.join(nearest(name, known))}")


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return known names, the nearest to a name first: those of which it has the initials, those
    that contain it, and then those with many characters in the same order.

    >>> nearest("hidden", ["depth", "idle", "hidden-size"])
    ['hidden-size', 'idle', 'depth']
    """
    word = name.strip("-").replace("-", "_").lower()

    def closeness(other: str) -> tuple[bool, bool, float]:
        plain_other = other.strip("-").replace("-", "_")
        initials = "".join(part[:1] for part in plain_other.split("_"))
        likeness = SequenceMatcher(None, word, plain_other).ratio()
        return word == initials, word in plain_other, likeness

    return sorted(known, key=closeness, reverse=True)


def check_fields(kind: Any, values: Mapping[str, Any]) -> None:
    """Raise InvalidInputError for a value of no field of a dataclass, and for a missing one."""
    known = {field.name: field for field in fields(kind)}
    for name in values:
        if name not in known:
            raise unknown_name("field", name, known)
    for name, field in known.items():
        is_needed = field.default is MISSING and field.default_factory is MISSING
        if is_needed and name not in values:
            raise InvalidInputError(f"{name} is missing: expected a value")


def in_short(value: object) -> str:
    """Describe a value for a message: the kind and shape of an array or tensor, the beginning of a
    text, the repr of any other value, or its kind if the repr is long.

    >>> in_short(range(3)), in_short(list(range(99))), in_short("a" * 99)
    ('range(0, 3)', 'list', "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
    """
    is_nested = getattr(value, "is_nested", False)  # a tensor that has no shape
    shape = None if is_nested else getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{kind_of(value)} of shape {tuple(shape)}"
    text = repr(value)
    if isinstance(value, str):
        return text[:SHORT]
    whole = len(text) <= SHORT and "\n" not in text and not text.startswith("<")
    return text if whole else kind_of(value)


def kind_of(value: object) -> str:
    """Name the kind of an object for a message: its class, or itself if it has a name.

    >>> kind_of(3), kind_of(None), kind_of(len)
    ('int', 'None', 'len')
    """
    return "None" if value is None else getattr(value, "__name__", type(value).__name__)
