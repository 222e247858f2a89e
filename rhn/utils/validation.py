"""Check values that a user gives: numbers by their ranges, values and texts by their types, sizes
by the free memory of a device.

`whole_number` and `number` check arguments of functions, `check_fields` checks fields of
dataclasses, and `convert` reads texts such as the value in `skip=last`. `rhn.utils.ranges` has the
same ranges as types of options. `gersgorin.validate` has the checks of tensors and modules.
"""

import contextlib
import inspect
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from math import inf
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin, get_type_hints

from rhn.errors import InvalidInputError

SHORT = 60  # characters of a value in a message
_hints = cache(get_type_hints)
LARGEST = 2**63 - 1  # of whole numbers: the most elements of a tensor
LARGEST_FLOAT = 3e38  # of numbers in networks: the range of float32
DRAWN = {"least": 1e-30, "most": 1e30}  # of axes: Matplotlib squares and multiplies their ends
LARGEST_INIT = 1e6  # of initial weights: with larger ones a network starts with overflow


def plain(value: Any) -> Any:
    """Return the Python value of a NumPy or torch number, including numbers within a list, tuple or
    dictionary. Other values are returned unchanged.

    >>> import numpy as np
    >>> plain([np.float64(0.5), np.int32(3), np.array(True)]), plain("rhn")
    ([0.5, 3, True], 'rhn')
    """
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        return value.item()
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if type(value) is dict:
        return {name: plain(each) for name, each in value.items()}
    return value


@dataclass(frozen=True, kw_only=True)
class Range:
    """Bounds of a finite number; `number in range` compares, and str() describes the bounds.

    >>> str(Range(least=0, below=1)), str(Range(above=0, most=9)), str(Range(least=1, most=9))
    ('0 or more, less than 1', 'a number above 0, at most 9', 'a number from 1 to 9')
    >>> str(Range(above=0))
    'a finite number above 0'
    """

    least: float = -inf
    above: float = -inf
    below: float = inf
    most: float = inf

    def __str__(self) -> str:
        if max(-self.least, self.most) < inf:
            return f"a number from {self.least:g} to {self.most:g}"
        number = "a finite number" if min(self.below, self.most) == inf else "a number"
        words = {
            "{:g} or more": self.least,
            f"{number} above {{:g}}": self.above,
            "less than {:g}": self.below,
            "at most {:g}": self.most,
        }
        given = [text.format(bound) for text, bound in words.items() if abs(bound) < inf]
        return ", ".join(given) or "a finite number"

    def __contains__(self, value: float | None) -> bool:
        """Return True for a number within the bounds, and for None."""
        return value is None or (
            self.least <= value <= self.most and self.above < value < self.below
        )

    def __call__(self, hint: Any, value: float | None) -> None:
        """Raise ValueError for a number outside the bounds. cyclopts prescribes the signature."""
        if value not in self:
            raise ValueError(f"expected {self}")


def check_fields(config) -> None:
    """Raise InvalidInputError unless every value of a dataclass has its field's type and is within
    its field's range. The message names the field. NumPy numbers are replaced by Python numbers.
    """
    hints, ranges = _hints(config.__class__), _ranges_of(config.__class__)
    for f in fields(config):
        value = plain(getattr(config, f.name))
        object.__setattr__(config, f.name, value)
        if not fits(value, hints[f.name]):
            raise InvalidInputError(
                f"{f.name} is {in_short(value)}, expected {expected(hints[f.name])}"
            )
    for name, range_ in ranges:
        if (value := getattr(config, name)) not in range_:
            raise InvalidInputError(f"{name} is {value}, expected {range_}")


@cache
def _ranges_of(kind: Any) -> list[tuple[str, Range]]:
    """Return the ranges of the fields of a dataclass."""
    hints = get_type_hints(kind, include_extras=True)
    return [(name, range_) for name, hint in hints.items() for range_ in _ranges_in(hint)]


def _ranges_in(hint: Any) -> list[Range]:
    """Return the ranges in an annotation for cyclopts, such as `Annotated[Count | None, GROUP]`."""
    if get_origin(hint) is not Annotated:
        kinds = [kind for kind in kinds_of(hint) if kind is not NoneType]
        return _ranges_in(kinds[0]) if kinds not in ([hint], []) and len(kinds) == 1 else []
    kind, *about = get_args(hint)
    validators = (v for a in about for v in getattr(a, "validator", ()))
    return [*_ranges_in(kind), *(v for v in validators if isinstance(v, Range))]


def require(config, name: str, holds: bool, expected: str) -> None:
    """Raise InvalidInputError, with the field's name and value and the expected value, unless
    `holds` is True.
    """
    if not holds:
        raise InvalidInputError(f"{name} is {getattr(config, name)}, expected {expected}")


def not_dense_real(t) -> str | None:
    """Return the kind of a tensor in words ("complex", "sparse", ...) if its numbers are not dense,
    real and in memory; otherwise None.
    """
    if t.is_nested:
        return "nested"
    kinds = {
        "on the meta device": t.is_meta,
        "quantised": t.is_quantized,
        "complex": t.is_complex(),
        "sparse": str(t.layout) != "torch.strided",
    }
    return next((kind for kind, is_so in kinds.items() if is_so), None)


def is_whole_number(value: Any, least: int = 1, most: int = LARGEST) -> TypeGuard[int]:
    """Return True if a value is a whole number (of Python, NumPy or torch) between two limits.

    >>> is_whole_number(3), is_whole_number(True), is_whole_number(0)
    (True, False, False)
    """
    value = plain(value)
    return type(value) is int and least <= value <= most


def whole_number(
    name: str, value: Any, least: int = 1, most: int | None = None, why: str = ""
) -> int:
    """Return a whole number between two limits, as an int. Raises InvalidInputError for any other
    value.

    name: the name of the value, for the message. most: the upper limit; None: the largest possible
    number of elements of a tensor. why: the reason for the limits, for the message.

    >>> whole_number("count", 3, 1, 5)
    3
    """
    largest = LARGEST if most is None else most
    if not is_whole_number(value, least, largest):
        too_large = isinstance(value, int) and value > largest
        above = most is None and not too_large
        limits = f"of at least {least}" if above else f"from {least} to {largest}"
        wanted = f"{least}" if least == largest else f"a whole number {limits}"
        because = f"{why}; " if why else ""
        raise InvalidInputError(f"{name} is {in_short(value)}: {because}expected {wanted}")
    return plain(value)


def number(name: str, value: Any, **bounds: float) -> float:
    """Return a finite number within these bounds of `Range`. Raises InvalidInputError for any other
    value.

    >>> number("seconds", 1.5, above=0)
    1.5
    """
    found, range_ = plain(value), Range(**bounds)
    if not fits(found, float) or found not in range_:
        raise InvalidInputError(f"{name} is {in_short(value)}: expected {range_}")
    return found


def check_seed(seed: int) -> int:
    """Return the seed as an int. Raises InvalidInputError unless the seed is valid for every
    generator.
    """
    return whole_number("the seed", seed, 0, LARGEST)


def check_device(device: Any) -> str:
    """Return torch's name of a device. Raises InvalidInputError for a device that this machine does
    not have.
    """
    import torch  # here, because most callers of this file need no torch

    try:
        torch.empty(1, device=(place := torch.device(device))).item()
    # the several errors of torch for a missing device
    except (RuntimeError, AssertionError, TypeError, ValueError, NotImplementedError) as error:
        raise InvalidInputError(f"device is {in_short(device)}: expected {_devices()}") from error
    return str(place)


def _devices() -> str:
    """List the devices of this machine that torch can use."""
    import torch

    count = torch.cuda.device_count()
    gpus = ["cuda"] if count == 1 else [f"cuda:{k}" for k in range(count)]
    gpus += ["mps"] * torch.backends.mps.is_available()
    if not gpus:
        return "'cpu'; torch finds no GPU"
    *first, last = map(repr, ("cpu", *gpus))
    return f"{', '.join(first)} or {last}"


def fits(value, hint) -> bool:
    """Return True if a value has a type: bool, int, float, str, None, Path, dict, Callable, a
    Literal, a tuple, a Sequence (of any kind of collection) or a union of these.

    >>> fits(3, float), fits(True, int), fits(10**400, float)
    (True, False, False)
    >>> fits("all", Literal["all", "last"]), fits(None, int | None)
    (True, True)
    >>> fits({"a", "b"}, Sequence[str]), fits("ab", Sequence[str]), fits(max, Callable[[int], int])
    (True, False, True)
    """
    value = plain(value)
    if get_origin(hint) in COLLECTIONS:
        return _is_collection_of(get_args(hint)[0], value)
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if (origin := get_origin(hint)) in (Mapping, Callable):
        return isinstance(value, origin)
    if get_origin(hint) is tuple:
        return type(value) is tuple and _fit_each(value, get_args(hint))
    if len(kinds := kinds_of(hint)) > 1:
        return any(fits(value, kind) for kind in kinds)
    if hint is float:
        return type(value) is float or fits(value, int)
    if hint is int:
        return type(value) is int and abs(value) <= LARGEST
    return isinstance(value, Path) if hint is Path else type(value) is hint


COLLECTIONS = (Collection, Sequence)


def _is_collection_of(kind: Any, value: Any) -> bool:
    """Return True for a collection of values of a type. A text and a dictionary are one value."""
    several = isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping)
    return several and all(fits(each, kind) for each in value)


def _fit_each(values: tuple, kinds: tuple) -> bool:
    """Return True if the entries of a tuple have the types in `tuple[int, ...]` or `tuple[int,
    int]`.
    """
    if kinds[-1] is ...:
        kinds = kinds[:1] * len(values)
    return len(values) == len(kinds) and all(map(fits, values, kinds))


def convert(word: str, hint) -> Any:
    """Convert a text to a value of a type. "None" becomes None only if the type is neither str nor
    Path. Raises ValueError with the expected type.

    >>> convert("3", int | None), convert("None", int | None)
    (3, None)
    >>> convert("auto", int | Literal["auto"])
    'auto'
    """
    for kind in sorted(kinds_of(hint), key=lambda kind: kind is NoneType):
        with contextlib.suppress(ValueError, KeyError):
            value = word if get_origin(kind) is Literal else CONVERTERS.get(kind, kind)(word)
            if fits(value, kind):
                return value
    raise ValueError(f"expected {expected(hint)}, got {word!r:.60}")


def _path(word: str) -> Path:
    """Return a path. An empty text raises ValueError, because it is commonly an unset shell
    variable.
    """
    if not word.strip():
        raise ValueError
    return Path(word)


CONVERTERS = {
    Path: _path,
    bool: lambda word: {"true": True, "yes": True, "false": False, "no": False}[word.lower()],
    NoneType: {"None": None}.__getitem__,
}


def kinds_of(hint) -> tuple:
    """Return the types in a union; for another type, the type itself."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def expected(hint) -> str:
    """Describe a type in words, for a message.

    >>> expected(int | None), expected(Literal["words", "characters"])
    ('a whole number or None', "'words' or 'characters'")
    >>> expected(tuple[int, ...]), expected(tuple[float, float])
    ('whole numbers', '2 numbers')
    >>> expected(str | Sequence[str] | None), expected(Callable[[int], int])
    ('a text, texts or None', 'a function')
    """
    if get_origin(hint) is Literal:
        names = list(map(repr, get_args(hint)))
        return " or ".join(names) if len(names) < 3 else f"one of {', '.join(names)}"
    words = {
        int: "a whole number",
        float: "a number",
        bool: "True or False",
        str: "a text",
        NoneType: "None",
        dict: "a dictionary",
        Path: "a path",
    }
    if get_origin(hint) is Callable:
        return "a function"
    if get_origin(hint) in (tuple, *COLLECTIONS):
        kinds = get_args(hint) if get_origin(hint) is tuple else (*get_args(hint), ...)
        several = {int: "whole numbers", float: "numbers", str: "texts", Path: "paths"}[kinds[0]]
        return several if kinds[-1] is ... else f"{len(kinds)} {several}"
    kinds = kinds_of(hint)
    if len(kinds) == 1:
        return words.get(hint, str(hint))
    *first, last = map(expected, kinds)
    return f"{', '.join(first)} or {last}"


def free_memory(device: str = "cpu") -> int:
    """Return the number of bytes that are free now on a device ("cpu", "cuda", "cuda:1"). On a CPU
    the limit of the process's control group counts too, if there is one.
    """
    if device.startswith("cuda"):
        import torch  # here, because most callers ask about the CPU

        return torch.cuda.mem_get_info(device)[0]
    return int(min(_available(), _left_in_group(Path("/sys/fs/cgroup"))))


def check_room(need: float, what: str, advice: str, device: str = "cpu") -> None:
    """Raise InvalidInputError if `what` needs more bytes than are free on a device."""
    if need > (have := free_memory(device)):
        raise InvalidInputError(
            f"{what} needs about {in_words(need)} of memory, {in_words(have)} are available: "
            f"{advice}"
        )


def in_words(size: float) -> str:
    """Format a size in bytes, such as "1.5 GiB".

    >>> in_words(1.5 * 2**30), in_words(300 * 2**20), in_words(5000), in_words(99)
    ('1.5 GiB', '300 MiB', '5 KiB', '99 bytes')
    """
    if size < 2**10:
        return f"{size:.0f} bytes"
    if size < 2**20:
        return f"{size / 2**10:.0f} KiB"
    if size < 2**30:
        return f"{size / 2**20:.0f} MiB"
    return f"{size / 2**30:.1f} GiB"


def _available() -> int:
    """Return the number of bytes that new processes may take, or of all memory if the system does
    not report it.
    """
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _left_in_group(group: Path) -> float:
    """Return the number of bytes left in a container (control groups, version 2). Cached files
    count as free.
    """
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        lines = (group / "memory.stat").read_text().splitlines()
        cached = int(dict(line.split() for line in lines)["inactive_file"])
        return max(0, limit - used + cached)
    except (OSError, KeyError, ValueError):
        return math.inf


def in_short(value: object) -> str:
    """Describe a value for a message: the kind and shape of an array or tensor, the beginning of a
    text, the repr of any other value, or its kind if the repr is long.

    >>> in_short(range(3)), in_short(list(range(99))), in_short("a" * 99)
    ('range(0, 3)', 'a list', "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
    """
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{kind_of(value)} of shape {tuple(shape)}"
    text = repr(value)
    if isinstance(value, str):
        return text[:SHORT]
    whole = len(text) <= SHORT and "\n" not in text and not text.startswith("<")
    return text if whole else kind_of(value)


def kind_of(value: object) -> str:
    """Name the kind of an object for a message, with an article, or with the object's own name if
    it has one.

    >>> kind_of(3), kind_of(None), kind_of(len), kind_of(int), kind_of(math)
    ('an int', 'None', 'the function len', 'the class int', 'the Python module math')
    """
    if value is None:
        return "None"
    if isinstance(value, ModuleType):
        return f"the Python module {value.__name__}"
    if inspect.isclass(value):
        return f"the class {value.__name__}"
    name = getattr(value, "__name__", "")
    if inspect.isroutine(value) and name:
        return "a lambda function" if name == "<lambda>" else f"the function {name}"
    return with_article(type(value).__name__)


def with_article(name: str) -> str:
    """Return a name with the article "a" or "an", as it is spoken. Capitals at the beginning of the
    name are read as single letters.

    >>> [with_article(name) for name in ("list", "int", "RNN", "GRU", "LSTMCell", "Linear", "UNet")]
    ['a list', 'an int', 'an RNN', 'a GRU', 'an LSTMCell', 'a Linear', 'a UNet']
    """
    by_letters = name[:2].isupper()
    spoken_with_vowel = "AEFHILMNORSX" if by_letters else "AEIOUaeiou"
    return f"an {name}" if name[:1] in [*spoken_with_vowel] else f"a {name}"
