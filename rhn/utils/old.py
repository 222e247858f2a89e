"""What only older code uses; a later version deletes this file."""

import base64
import contextlib
import functools
import html
import inspect
import io
import json
import math
import os
import re
import secrets
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import MISSING, Field, dataclass, field, fields, make_dataclass
from difflib import get_close_matches
from functools import cache, partial
from html import escape
from math import inf
from operator import methodcaller
from pathlib import Path
from textwrap import fill, wrap
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    Self,
    TypedDict,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)
from zlib import crc32

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    Group,
    Parameter,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
    ValidationError,
)
from cyclopts.parameter import get_parameters

from rhn.cells.registry import CELLS, accepts
from rhn.errors import DataError, InvalidInputError, OutputError
from rhn.utils.command_line import command_line
from rhn.utils.figures import FIGURE_SUFFIXES as SUFFIXES
from rhn.utils.figures import (
    GREY,
    PAGE_HEIGHT,
    SLIDE_HEIGHT,
    _chosen,
    inches_of,
    our_style,
    save_figure,
)
from rhn.utils.io import (
    _MARK,
    _try_to_write,
    arrays_of,
    as_path,
    check_output,
    finite_json,
    write_arrays,
    write_json,
    write_rows,
    writing,
)
from rhn.utils.tables import printable
from rhn.utils.validation import LARGEST, LARGEST_FLOAT, in_short, number
from rhn.version import __version__

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ft2font import FT2Font

    from rhn.plotting.old_figures import Block

# user:password@host, whatever the password holds: up to the last @ before a question mark, else up
# to the first one
PASSWORD = re.compile(r"(?<=://)([^:/@?\s]*):(?:[^?\s]*|[^@\s]*)@")
NAMES = 26  # columns of a terminal for the name of a quantity
OTHER_WORDS = {  # of other libraries
    "criterion": "loss_fn",
    "epochs": "steps",
    "iterations": "steps",
    "units": "hidden_size",
}
OPTION = re.compile(r"(?<=[?&])(?:ssl)?password=[^&\s]*&?")


def counted(count: int, what: str, several: str | None = None) -> str:
    """Format a number with its unit. `several` is the plural, if it is not formed by -s.

    >>> counted(1, "step"), counted(1500, "step"), counted(2, "batch", "batches")
    ('1 step', '1,500 steps', '2 batches')
    """
    return f"{count:,} {what if count == 1 else several or f'{what}s'}"


def percent(share: float) -> str:
    """Format a share in percent, with two significant digits; with more if a share below 1 would
    be 100 %.

    >>> percent(0.123), percent(0.0004), percent(0.997), percent(1), percent(-0.0)
    ('12 %', '0.04 %', '99.7 %', '100 %', '0 %')
    """
    shown = (float(f"{100 * share + 0:.{digits}g}") for digits in (2, 3, 4, 5, 6))  # + 0: no -0
    return f"{next((each for each in shown if each != 100 or share >= 1), 100 * share):g} %"


def nearest(word: str, names: Iterable[str], most: int = 1) -> list[str]:
    """Return at most `most` of the names that a word probably means. A name qualifies if the word
    is its name in another library, its initials or its beginning, or has similar letters.

    >>> nearest("lr", ["--cell", "--learning-rate"]), nearest("epohcs", ["cell", "epochs"])
    (['--learning-rate'], ['epochs'])
    >>> nearest("lx", ["--cell", "--learning-rate"])
    []
    """
    by_words = {"-".join(words): name for name in names if (words := _words_in(name))}
    words = _words_in(word)
    key, letters = "-".join(words), "".join(words)
    other = "-".join(_words_in(OTHER_WORDS.get(letters, "")))
    found = [other] if other in by_words else [k for k in by_words if _abbreviates(letters, k)]
    return [by_words[k] for k in (found or get_close_matches(key, by_words, most))[:most]]


def _words_in(name: str) -> list[str]:
    """Split the name of a Python variable or an option into its words, in small letters."""
    return re.findall(r"[^\s_-]+", name.lower())


def _abbreviates(letters: str, words: str) -> bool:
    """Return True if `letters` are the initials or the beginning of `words`, which have hyphens
    between them.
    """
    initials = "".join(word[0] for word in words.split("-"))
    starts = words.replace("-", "").startswith(letters)
    return bool(letters) and (starts or letters == initials)


def table(
    header: Sequence[str],
    rows: Iterable[Sequence],
    *,
    left: Collection[str] = (),
    drop: Sequence[str] = (),
    width: float = math.inf,
) -> str:
    """Format a table in plain text. The first column is aligned left, all others right.

    left: further columns to align left.
    drop: columns to drop, one after the other, until the lines fit `width` characters.

    >>> print(table(("study", "best"), [("rhn-depth1", 8.4)]))
    study       best
    rhn-depth1   8.4
    """
    columns: list[list[str]] = []
    drop = list(drop)
    lines = [[printable(str(cell)) for cell in line] for line in (header, *rows)]
    for cells in zip(*lines, strict=True):
        size, name = max(map(len, cells)), cells[0]
        align = str.ljust if not columns or name in left else str.rjust
        columns.append([align(cell, size) for cell in cells])
    while drop and sum(len(column[0]) for column in columns) + 2 * (len(columns) - 1) > width:
        name = drop.pop(0)
        columns = [column for column in columns if column[0].strip() != name]
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def quantity_line(
    name: str, cells: Iterable[float | str], note: str = "", *, width: int = 11
) -> str:
    """Format the line of a quantity: its name, its numbers in columns of `width` characters, and a
    note.

    >>> print(quantity_line("", ["mean"]) + "\\n" + quantity_line("half-life", [1.25], "steps"))
                                     mean
    half-life                        1.25  steps
    """
    shown = (cell if isinstance(cell, str) else f"{cell:.4g}" for cell in cells)
    line = f"{name:<{NAMES}}" + "".join(f"{cell:>{width}}" for cell in shown)
    return f"{line}  {note}" if note else line


def rows_table(
    rows: Iterable[Mapping[str, Any]],
    columns: Sequence[str] = (),
    number: str = ".4g",
) -> str:
    """Format rows, each a dictionary by column name, as a table of all columns or of `columns`.
    None becomes an empty cell.

    number: the format of floats.

    >>> print(rows_table([{"layer": 1, "gain": 0.25}, {"layer": 2, "gain": None}]))
    layer  gain
    1      0.25
    2
    """
    rows = [*rows]
    columns = columns or [*rows[0]]

    def cell(value: Any) -> str:
        return "" if value is None else format(value, number if isinstance(value, float) else "")

    lines = [[cell(row[name]) for name in columns] for row in rows]
    return table(columns, lines)


def without_password(address: str) -> str:
    """Remove the password from the address of a database. A connection by this address still works
    if ~/.pgpass or PGPASSWORD has the password.

    >>> without_password("postgresql://me:secret@host:5432/study?password=secret&sslmode=require")
    'postgresql://me@host:5432/study?sslmode=require'
    """
    return OPTION.sub("", PASSWORD.sub(r"\1@", address)).rstrip("?&")


def capitalised(words: str) -> str:
    """Capitalise the first letter of a text; all other letters stay.

    >>> capitalised("the RHN trains")
    'The RHN trains'
    """
    return words[:1].upper() + words[1:]


def sentence(*clauses: str) -> str:
    """Join the clauses that are not empty to one sentence; "" if all are empty.

    >>> sentence("", "the sum is 2", "the mean is 1"), sentence("")
    ('The sum is 2; the mean is 1.', '')
    """
    words = "; ".join(filter(None, clauses))
    return f"{capitalised(words)}." if words else ""


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

    >>> str(Range(least=0, below=1)), str(Range(above=0)), str(Range(least=1, most=9))
    ('0 or more, less than 1', 'a finite number above 0', 'a number from 1 to 9')
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
        if value is None:
            return True
        return self.least <= value <= self.most and self.above < value < self.below

    def __call__(self, hint: Any, value: float | None) -> None:
        """Raise ValueError for a number outside the bounds. cyclopts prescribes the signature."""
        if value not in self:
            raise ValueError(f"expected {self}")


def within(**bounds: float) -> Parameter:
    """Return the annotation of a number with these bounds of `Range`."""
    return Parameter(validator=Range(**bounds))


Count = Annotated[int, within(least=1)]
Natural = Annotated[int, within(least=0)]
Positive = Annotated[float, within(above=0)]
NonNegative = Annotated[float, within(least=0, most=LARGEST_FLOAT)]
Fraction = Annotated[float, within(least=0, below=1)]
OnOff = Annotated[bool, Parameter(negative=None)]
"""A flag --name that can also be given as --no-name."""
DRAWN = {"least": 1e-30, "most": 1e30}  # of axes: Matplotlib squares and multiplies their ends
Drawable = Annotated[float, within(**DRAWN)]
Finite = Annotated[float, within()]


Device = Literal["auto", "cpu", "cuda"]
OUTPUT_GROUP = Parameter(group=Group("output", sort_key=9))


def _entries(hint: Any, tokens: Sequence[Any]) -> dict[str, str]:
    """Read entries NAME=VALUE, one from each use of the option; gate-constant=1 is the entry
    gate_constant.
    """
    found = {}
    for token in tokens:
        name, equals, value = token.value.partition("=")
        if not (name.strip() and equals):
            raise ValueError(f"expected NAME=VALUE, such as skip=last, got {token.value!r:.60}")
        found[name.strip().replace("-", "_")] = value
    return found


ENTRIES = Parameter(
    converter=_entries,
    accepts_keys=False,
    n_tokens=-1,
    consume_multiple=False,
    metavar="NAME=VALUE",
)
CellOptions = Annotated[dict, ENTRIES, Parameter(name="--cell-option")]


@dataclass(frozen=True, kw_only=True)
class TrainedOptions:
    """The options of every command that reads a trained network."""

    checkpoint: Path = field(kw_only=False)
    """The folder of a training run, or the file best.safetensors of a training run or a study."""
    cell: str | None = None
    """The cell of the checkpoint, if it is your own, as package.module:factory."""


@dataclass(frozen=True, kw_only=True)
class Sized:
    """The option for the size of figures."""

    figure: Annotated[str | None, OUTPUT_GROUP, Parameter(metavar="SIZE")] = None
    """Width of the figure: column (3.25 inches), page (6.75 inches), slide (13.33 inches), or a
    number of inches.
    """

    def __post_init__(self):
        if self.figure is not None:
            inches_of(self.figure)


@dataclass(frozen=True, kw_only=True)
class Drawing(Sized):
    """The options of every command that draws."""

    output: Annotated[tuple[Path, ...], OUTPUT_GROUP] = ()
    """Files to write: a figure (.png, .svg, .pdf) and its numbers (.csv, .json, .npz)."""
    title: Annotated[str | None, OUTPUT_GROUP] = None
    """Title of the figure. Default: a sentence with the result, if there is one."""
    footer: Annotated[bool, OUTPUT_GROUP, Parameter(negative="--no-footer", show=True)] = True
    """Write the network, the data and the version of the toolkit at the bottom of the figure."""


def default_of(f: Field) -> Any:
    """Return the default of a field, or MISSING if it has none."""
    return f.default if f.default_factory is MISSING else f.default_factory()


def flag(name: str) -> str:
    """Return a field's name as an option: hidden_size becomes --hidden-size."""
    return "--" + name.replace("_", "-")


def given_flags(options: Any, names: Iterable[str]) -> list[str]:
    """Among the named options, return those whose values are not the defaults, such as
    ["--mc-official"].
    """
    hints = get_type_hints(type(options), include_extras=True)
    named = [f for f in fields(options) if f.name in names]
    given = [f.name for f in named if getattr(options, f.name) != default_of(f)]
    about = {name: get_parameters(hints[name])[1] for name in given}
    return [next((n for p in about[name] for n in p.name or ()), flag(name)) for name in given]


@dataclass(frozen=True, kw_only=True)
class Configured:
    """A command whose further options are the fields of a configuration (`settings_type`). Their
    defaults follow from the command's own options, so the command prints its help itself
    (`print_help`).
    """

    help: Annotated[bool, Parameter(name=("--help", "-h"))] = False
    """Print this help and exit."""


def settings_type(*configs: type) -> Any:
    """Return the type of a dictionary that holds the fields of configurations that are given as
    options.
    """
    hints = {
        name: hint
        for config in configs
        for name, hint in get_type_hints(config, include_extras=True).items()
    }
    return Annotated[
        TypedDict("Settings", hints, total=False),  # type: ignore[operator]
        Parameter(name="*", show=False),
    ]


def single(name: str, command: type, **how: Any) -> App:
    """Return the command line of a command without subcommands."""
    app = command_line(name, command.__doc__ or "", **how)
    app.default(command)
    return app


def read(app: App, args: Sequence[str] | None) -> Any:
    """Read arguments into the dataclass of the command that they name; None after `--help` and
    `--version`.

    args: the arguments; None: the arguments of this process.

    Raises InvalidInputError, with one sentence, for arguments that cannot be read.
    """
    words = list(map(str, sys.argv[1:] if args is None else args))
    if not words and app.default_command is None:
        names = ", ".join(_commands(app))
        raise InvalidInputError(f"a command is missing, expected one of {names}")
    try:
        return app(words, exit_on_error=False, print_error=False, verbose=False)
    except CycloptsError as error:
        place = " ".join((app.name[0], *(error.command_chain or ())))
        raise InvalidInputError(f"{_sentence(error)} (see {place} --help)") from None


def _sentence(error: CycloptsError) -> str:
    """Return the message of an error as one sentence."""
    option = error.argument
    if isinstance(error, UnknownOptionError):
        return _unknown_option(error)
    if isinstance(error, UnknownCommandError):
        return _unknown_command(error)
    if isinstance(error, UnusedCliTokensError):
        words = " ".join(error.unused_tokens or ())
        return f"{words}: unexpected argument; is the name of an option missing before it?"
    if isinstance(error, ValidationError) and option:
        return f"{option.name} is {option.value}, {error.exception_message}"
    if isinstance(error, CoercionError) and option and error.token and error.msg is None:
        kind = error.target_type
        if get_origin(kind) is not Literal:  # cyclopts suggests the nearest word
            name = error.token.keyword or option.name
            return f"{name}: expected {expected(kind)}, got {error.token.value!r:.60}"
    return re.sub(r"\. (\w)", lambda found: f"; {found[1].lower()}", str(error)).rstrip(".")


def _unknown_command(error: UnknownCommandError) -> str:
    """Return the sentence for an unknown command, with the nearest known command, or all of
    them.
    """
    word, known = (error.unused_tokens or [""])[0], _commands(error.app) if error.app else []
    near = nearest(word, known)
    hint = f"; did you mean {near[0]}?" if near else f" (commands: {', '.join(known)})"
    return f"Unknown command: {word}{hint}"


def _unknown_option(error: UnknownOptionError) -> str:
    """Return the sentence for an unknown option, with the nearest known option."""
    word = (error.token.keyword or error.token.value).partition("=")[0]
    near = nearest(word, (name for a in error.argument_collection if a.parse for name in a.names))
    return f"Unknown option: {word}" + (f"; did you mean {near[0]}?" if near else "")


def run_read(
    app: App, args: Sequence[str] | None, run: Callable[[Any], None] = methodcaller("run")
) -> None:
    """Read arguments, and run the command that they name."""
    if (command := read(app, args)) is not None:
        run(command)


def print_help(name: str, command: type, config: Any) -> None:
    """Print the help of a `Configured` command, with the fields of a configuration as options and
    their values as defaults.

    config: the configuration; None: print only the command's own options.
    """
    shown = command if config is None else _with_fields(command, config)
    single(name, shown, help_flags=(), version_flags=()).help_print([])


def _with_fields(command: type, config: Any) -> type:
    """Return a command with the fields of a configuration as further options."""
    group, kind = Parameter(group=Group("configuration", sort_key=5)), type(config)
    own: list = [("settings", Annotated[dict, Parameter(parse=False)], field(default_factory=dict))]
    for name, hint in get_type_hints(kind, include_extras=True).items():
        default = field(default_factory=partial(getattr, config, name))
        own.append((name, Annotated[hint, group], default))
    space = {"__module__": command.__module__, "__doc__": command.__doc__}
    bases = (command, kind)
    return make_dataclass("Shown", own, bases=bases, namespace=space, frozen=True, kw_only=True)


def _commands(app: App) -> list[str]:
    """Return the names of the commands of a command line."""
    return [name for name in app if not name.startswith("-")]


_hints = cache(get_type_hints)


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


AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


def check_keywords(name: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise InvalidInputError for the first of the `given` keywords that is not `known`. `name` is
    the function's name, for the message.

    >>> check_keywords("spectra", ["hidden"], ["depth", "hidden_size"])
    Traceback (most recent call last):
    rhn.errors.InvalidInputError: spectra() has no argument 'hidden': did you mean hidden_size?
    """
    known = list(known)
    unknown = next((word for word in given if word not in known), None)
    if unknown is None:
        return
    near = nearest(unknown, known)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
    raise InvalidInputError(f"{name}() has no argument {unknown!r}: {hint}")


def keywords(function: Callable[..., Any]) -> list[str]:
    """Return the names of a function's keyword-only parameters."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]


def typed(function: AnyFunction) -> AnyFunction:
    """Decorate a function so that it refuses values of its keywords that do not have the annotated
    types: texts, flags, functions, and collections of texts. Numbers and arrays are left to the
    function, because they have ranges and shapes too.

    >>> @typed
    ... def draw(step: int, *, unit: str = "steps"):
    ...     return f"{step} {unit}"
    >>> draw(3, unit=4)
    Traceback (most recent call last):
    rhn.errors.InvalidInputError: unit is 4: expected a text
    """
    types = _types_of(inspect.signature(function).parameters.values())

    @functools.wraps(function)
    def checked(*args: Any, **options: Any) -> Any:
        __tracebackhide__ = True  # pytest shows the lines of the caller only
        _check_types(options, types)
        return function(*args, **options)

    return cast(AnyFunction, checked)


def _types_of(parameters: Iterable[inspect.Parameter]) -> dict[str, Any]:
    """Return the annotations of keyword-only parameters, by name, that `_check_types` can check."""
    hints = {p.name: p.annotation for p in parameters if p.kind is p.KEYWORD_ONLY}
    return {name: hint for name, hint in hints.items() if all(map(_is_checked, kinds_of(hint)))}


def _is_checked(kind: Any) -> bool:
    if get_origin(kind) in COLLECTIONS:
        return get_args(kind) == (str,)
    return kind in (str, bool, Path, NoneType) or get_origin(kind) in (Literal, Callable)


def _check_types(given: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """Raise InvalidInputError for the first given value that does not have its type."""
    for name, value in given.items():
        if name in types and not fits(value, types[name]):
            kind = expected(types[name])
            raise InvalidInputError(f"{name} is {in_short(value)}: expected {kind}")


def keywords_of(
    target: Callable[..., Any], without: tuple[str, ...] = ()
) -> Callable[[AnyFunction], AnyFunction]:
    """Return a decorator for a function that passes **options to a target. In the function's
    signature the target's keywords replace **options, and other keywords are refused. Values are
    checked as by `typed`.

    target: a function or a class. without: keywords of the target that the function itself passes.
    """

    def decorate(function: AnyFunction) -> AnyFunction:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        taken = {p.name for p in own} | {*without}
        more = [
            p.replace(kind=p.KEYWORD_ONLY)
            for p in inspect.signature(target).parameters.values()
            if p.name not in taken and p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        known = [p.name for p in (*own, *more)]
        types = _types_of((*own, *more))

        @functools.wraps(function)
        def checked(*args: Any, **options: Any) -> Any:
            __tracebackhide__ = True  # pytest shows the lines of the caller only
            check_keywords(function.__name__, options, known)
            _check_types(options, types)
            return function(*args, **options)

        vars(checked)["__signature__"] = signature.replace(parameters=[*own, *more])
        return cast(AnyFunction, checked)

    return decorate


MARKERS = "osD^vPX*"  # of several series
NUMBERS = (".npz", ".json", ".csv")
FOOT = 10  # points of the foot of a figure, at most
BOLD = 1.18  # times the width of letters: bold ones
_texts: ContextVar[tuple[str | None, bool]] = ContextVar("_texts", default=(None, True))


@contextmanager
def our_texts(title: str | None = None, *, footer: bool = True) -> Iterator[None]:
    """Return a context in which figures have this title instead of their own, or no footer."""
    token = _texts.set((title, footer))
    try:
        yield
    finally:
        _texts.reset(token)


def fold_to_axes(ax) -> None:
    """Fold the title and the labels of a caller's axes to the width and height of the axes. The
    title is placed where matplotlib's current style places it.
    """
    width, height = ax.bbox.size / ax.figure.dpi
    if title := ax.get_title("left") or ax.get_title():
        ax.set_title("", loc="left")
        ax.set_title(folded(title, width, ax.title.get_fontsize()))
    for axis, inches in ((ax.xaxis, width), (ax.yaxis, height)):
        label = folded(axis.get_label_text(), inches, axis.label.get_fontsize())
        axis.set_label_text(label)


def mark_step(ax, step: int) -> None:
    """Mark a time step in curves over time."""
    ax.axvline(step, color=GREY, linewidth=0.8, linestyle=":", zorder=0)


def set_limit(ax, limit: float) -> None:
    """Set the limits of axes. In the complex plane they show the square of half width `limit`
    around 0. A value axis ends at `limit`, and begins at -`limit` if there are negative values.
    """
    if ax.get_aspect() == 1:
        ax.set(xlim=(-limit, limit), ylim=(-limit, limit))
    else:
        low, _ = ax.get_ylim()
        ax.set_ylim(-limit if low < 0 else min(low, limit / 10), limit)


def add_legend(ax) -> None:
    """Give a caller's axes a legend, if they have several named curves and no legend yet."""
    _, labels = ax.get_legend_handles_labels()
    if len(labels) > 1 and not ax.get_legend():
        ax.legend()


def remove_legends(drawing) -> None:
    """Remove the legends from axes or a figure."""
    from matplotlib.legend import Legend

    for artist in drawing.findobj(lambda found: isinstance(found, Legend)):
        artist.remove()


def highest() -> float:
    """Return the largest height in inches that a figure of the chosen width may have on its page or
    slide; infinite if no width was chosen.
    """
    inches = _chosen.get()
    if inches is None:
        return math.inf
    return SLIDE_HEIGHT if inches > 12 else PAGE_HEIGHT


@dataclass(frozen=True)
class Outputs:
    """The files of `--output`."""

    figures: list[Path]
    others: list[Path]
    size: str | None
    """Width of the figures, see `our_style`."""
    title: str | None = None
    """Title of the figures, see `our_texts`."""
    footer: bool = True
    """True if figures have a footer."""

    @classmethod
    def of(cls, options, default: Path | None, suffixes: tuple[str, ...] = NUMBERS) -> "Outputs":
        """Return the files that the options name, or the default figure. Raises InvalidInputError
        or OutputError.
        """
        files = options.output or [path for path in (default,) if path]
        for path in files:
            check_output(path, (*SUFFIXES, *suffixes))
        figures = [path for path in files if path.suffix.lower() in SUFFIXES]
        others = [path for path in files if path not in figures]
        return cls(figures, others, options.figure, options.title, options.footer)

    def __str__(self) -> str:
        """Return a line of text for each file."""
        figures = [f"figure: {path}" for path in self.figures]
        return "\n".join([*figures, *(f"file: {path}" for path in self.others)])

    def write(self, draw: Callable[[], "Figure"], save: Callable[[Path], object]) -> None:
        """Draw the figures with `draw`, and write the other files with `save`."""
        with our_style(self.size), our_texts(self.title, footer=self.footer):
            for path in self.figures:
                save_figure(path, draw)
            for path in self.others:
                save(path)


def image(draw: Callable[[], "Figure"], label: str) -> str:
    """Draw a figure in our style, and return it as an HTML element that contains the picture. On a
    narrow screen it is shown up to 30 % smaller.
    """
    picture = io.BytesIO()
    with our_style():
        figure = draw()
        figure.savefig(picture, format="webp", pil_kwargs={"lossless": True})
    width, encoded = 96 * figure.get_figwidth(), base64.b64encode(picture.getvalue()).decode()
    style = f"width: {width:.0f}px; max-width: max(100%, {0.7 * width:.0f}px)"
    return f'<img alt="{escape(label)}" style="{style}" src="data:image/webp;base64,{encoded}">'


def place(path: Path) -> str | None:
    """Return the name of a file's folder, for a default name; None if that is the current folder or
    its subfolder runs/.
    """
    file, usual = real_path(path), (Path.cwd(), real_path(Path("runs")))
    return None if file.parent in usual or file in usual else file.parent.name


def titled(figure: "Figure", title: str, about: str = "") -> None:
    """Set the title of a figure, and a small footer with its origin and our version. Title and
    footer are wrapped to the figure's width. `our_texts` changes them.

    about: initialisation, bias, seed and data, such as "uniform:0.04, seed 0; chorale bwv269".
    """
    from matplotlib import rcParams

    (chosen, footer), points = _texts.get(), rcParams["font.size"]
    inches, left = figure.get_figwidth() - 0.1, {"x": 0.04 / figure.get_figwidth(), "ha": "left"}
    title = title if chosen is None else chosen
    figure.suptitle(folded(drawable(title), inches, BOLD * (points + 1)), **left)
    if footer:
        words, small = "; ".join(filter(None, (about, made_with()))), min(max(6, points - 2), FOOT)
        figure.supxlabel(folded(drawable(words), inches, small), fontsize=small, color=GREY, **left)


def time_label(unit: str, what: str = "time step") -> str:
    """Return the label of a time axis, with the unit of a time step.

    >>> time_label("tokens"), time_label("steps")
    ('time step (tokens)', 'time step')
    """
    return what if unit == "steps" else f"{what} ({drawable(unit)})"


LEAST = 7.0  # sizes of type in the least width of a line: about 12 letters
DPI, HINTED = 100, 1.06  # at which a line is measured, and how much its width varies with that


def folded(text: str, inches: float, size: float) -> str:
    """Fold each line of a title or label into lines of at most `inches`, for letters of `size`
    points.

    Lines with mathematics are not folded. A number is not separated from the word before it, and an
    escaped dollar is not split.

    >>> folded("the discs reach 0.777", 1.0, 9)
    'the discs\\nreach 0.777'
    """
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))
    font.set_size(size, DPI)
    room, width_of = max(inches, LEAST * size / 72), partial(_line_width, font)
    joined = re.sub(r"(?<=\w) (?=-?\d)", "\xa0", text.replace(r"\$", "\0")).split("\n")
    lines = [line if "$" in line else _folded_line(line, room, width_of) for line in joined]
    return "\n".join(lines).replace("\0", r"\$").replace("\xa0", " ")


def _line_width(font: "FT2Font", line: str) -> float:
    """Return the width of a line in inches. A null character stands for an escaped dollar."""
    font.set_text(line.replace("\0", "$"))
    return HINTED * font.get_width_height()[0] / (64 * DPI)  # it counts in 1/64 of a dot


def _folded_line(line: str, inches: float, width_of: Callable[[str], float]) -> str:
    """Break a line at its spaces. A word that is wider than a line is broken within the word.

    >>> _folded_line("a longer example", 6, len)
    'a\\nlonger\\nexampl\\ne'
    """
    lines = [""]
    for word in line.split(" "):
        share = inches / max(width_of(word), 1e-9)
        pieces = [word] if share >= 1 else wrap(word, max(1, int(share * len(word))))
        for piece in pieces:
            longer = f"{lines[-1]} {piece}".strip(" ")
            if width_of(longer) <= inches:
                lines[-1] = longer
            else:
                lines.append(piece)
    return "\n".join(filter(None, lines))


def run_folder(path: str | Path) -> Path:
    """Return the path of a training run's folder. Raises InvalidInputError if there is no such
    folder.
    """
    path = as_path(path)
    if not os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises for a name too long)
        fault = "is a file" if os.path.exists(path) else "does not exist"  # noqa: PTH110
        raise InvalidInputError(
            f"{path} {fault}: expected the folder of a training run (`rhn train`)"
        )
    return path


def real_path(path: Path) -> Path:
    """Return the absolute path without symbolic links. Links that form a loop stay, because
    `Path.resolve` would raise RuntimeError for them.
    """
    return Path(os.path.realpath(path))


def check_folder(path: str | Path) -> Path:
    """Check that a folder can be created, or written to, later, and return its path. Raises
    OutputError.
    """
    path = as_path(path)
    with writing(path):
        place = _existing_folder(path, path)
        _try_to_write(place / f".{_MARK}-{secrets.token_hex(4)}")
    return path


def made_with() -> str:
    """Return the name and version of the toolkit, such as "rhn-toolkit 0.2.0"."""
    return f"rhn-toolkit {__version__}"


LINES, COLUMNS = 24, 100  # of a screen
FIRST = 6  # rows of numbers that a command prints without --all
KIND = "kind"  # key of a file that names the class


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Result:
    """The base class of results: the numbers of one analysis, and their origin."""

    classes: ClassVar[dict[str, type["Result"]]] = {}
    kind: ClassVar[str] = ""
    """The name of the class in files."""
    writer: ClassVar[str] = "the save() of a result"
    """The function or command that writes such files, for messages."""

    title: str = ""
    """The network, and the sequence if it matters: "rhn, depth 5, 64 units"."""
    about: str = ""
    """Initialisation, seed and data, for the footer of a figure."""
    doubt: str = ""
    """A sentence with a reason to doubt all numbers; "" if there is none."""
    run: Any = field(default=None, repr=False, compare=False, metadata={"saved": False})
    """The run from which the result was computed in this process, so that `result.run.states` has
    its states. None after loading, and for a result without a run.
    """

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "run"}

    def __init_subclass__(cls, kind: str = "", **keywords):
        super().__init_subclass__(**keywords)
        if kind:
            cls.kind = kind
            Result.classes[kind] = cls

    @property
    def finding(self) -> str:
        """The result in one clause, for the title of a figure; "" if there is none."""
        return ""

    def notes(self) -> list[str]:
        """Return at most five further sentences: the main numbers, and all doubts about them."""
        return []

    def sentences(self) -> Iterator[str]:
        """Yield the sentences that a command prints first: the finding, the notes and the doubt."""
        if self.finding:
            yield f"{self.finding}."
        yield from self.notes()
        if self.doubt:
            yield self.doubt

    def lines(self) -> Iterable[str]:
        """Return the lines of the table as text: the names of the columns, then the rows."""
        rows = self.table()
        return rows_table(rows).split("\n") if rows else []

    @property
    def step_count(self) -> int | None:
        """The number of time steps, one of which a figure can draw or mark; None if the result has
        no time steps.
        """
        return None

    def drawn_step(self, step: int | None = None) -> int | None:
        """Return the time step that `plot(step=step)` draws or marks; None if it draws none. Raises
        InvalidInputError for a step outside the run, and for any step if the result has no time
        steps.
        """
        T = self.step_count
        if step is None:
            return None
        if T is None:
            raise InvalidInputError(f"step is {step}: {self.kind or 'this result'} has no steps")
        step = plain(step)
        if type(step) is not int or not 0 <= step < T:
            raise InvalidInputError(f"step is {in_short(step)}: expected 0 to {T - 1}")
        return step

    def summary(self, *, whole: bool = True) -> str:
        """Return the result as text: the sentences, network and data, and the rows of numbers.

        whole: False for only the first rows.
        """
        heading, *lines = [*self.lines()] or [""]
        shown = lines[: None if whole else FIRST]
        if hidden := len(lines) - len(shown):
            shown.append(f"and {counted(hidden, 'more row')} with --all")
        behind = "\n".join(filter(None, (self.title, self.about, heading, *shown)))
        return "\n\n".join(filter(None, ("\n".join(self.sentences()), behind)))

    def table(self) -> list[dict[str, Any]]:
        """Return the table of the result: one row of numbers for each time step, point or
        quantity.
        """
        raise NotImplementedError

    def brief(self) -> dict[str, float]:
        """Return a few numbers by name for comparisons. If this is empty, comparisons use the means
        of the table over the time steps, or its first row.
        """
        return {}

    def to_frame(self) -> "pd.DataFrame":
        """Return the table as a data frame of pandas, with a column for each number."""
        import pandas as pd

        return pd.DataFrame(self.table())

    def _axes(self) -> dict[str, tuple[str, ...]]:
        """Return the names of the axes of each array, by the name of the array."""
        return {}

    def to_xarray(self) -> "xr.Dataset | xr.DataTree":
        """Return the arrays with named axes, such as `step` and `eigenvalue`, as a dataset of
        xarray. A result without such names returns its table, with the axis `row`. Texts and
        numbers are attributes of the dataset.

        Raises InvalidInputError if xarray, which is optional, is not installed.
        """
        xr = optional_xarray()
        if not (axes := self._axes()):
            return xr.Dataset.from_dataframe(self.to_frame().rename_axis("row"))
        known = {name: value for name, value in vars(self).items() if value is not None}
        arrays = {name: (along, known[name]) for name, along in axes.items() if name in known}
        numbers = {k: v for k, v in known.items() if isinstance(v, str | int | float)}
        return xr.Dataset(arrays, attrs={KIND: self.kind} | numbers)

    def plot(
        self,
        ax: "Axes | None" = None,
        *,
        step: int | None = None,
        limit: float | None = None,
        legend: bool = True,
        figure: str | float | None = None,
    ) -> "Axes":
        """Draw the result into matplotlib axes, or into a new figure. Returns the axes.

        Args:
            ax: the axes to draw into; None: those of a new figure.
            step: the time step to draw, or to mark in curves over time. None: the result chooses.
            limit: half the width of the drawn square of the complex plane, or the upper end of the
                value axis. None: chosen from the numbers.
            legend: whether to draw a legend.
            figure: width of a new figure, "column", "page", "slide" or inches. None: the result's
                own width.

        Raises InvalidInputError for a step outside the run, or a limit that cannot be drawn.
        """
        if ax is None:
            with our_style(figure):
                return self.figure(step=step, limit=limit, legend=legend).axes[0]
        if not hasattr(ax, "get_title"):
            raise InvalidInputError(
                f"ax is {in_short(ax)}: expected axes of matplotlib, or None for a new figure"
            )
        self.draw_panel(ax, self.drawn_step(step), checked_limit(limit))
        fold_to_axes(ax)
        if legend:
            add_legend(ax)
        else:
            remove_legends(ax)
        return ax

    def figure(
        self, *, step: int | None = None, limit: float | None = None, legend: bool = True
    ) -> "Figure":
        """Draw and return the whole figure of the result, which `save` writes.
        step, limit and legend are as for `plot`.
        """
        drawing = self._figure(self.drawn_step(step), checked_limit(limit))
        if not legend:
            remove_legends(drawing)
        return drawing

    def check_drawable(self) -> None:
        """Raise InvalidInputError if there is nothing to draw."""

    width: ClassVar[float] = 6.0
    """Width of the figure, in inches."""
    height: ClassVar[float] = 3.2
    """Height of a row of panels, in inches."""
    marks_step: ClassVar[bool] = True
    """True if a time step is marked in curves over time; False if `_draw` draws the step itself."""

    @property
    def origin(self) -> str:
        """Network, initialisation, seed and data, for the footer of a figure."""
        return "; ".join(filter(None, (self.title, self.about)))

    def _draw(self, ax: "Axes", *, step: int | None, limit: float | None) -> None:
        """Draw the result into axes, for `plot`."""
        raise NotImplementedError

    def draw_panel(self, ax: "Axes", step: int | None, limit: float | None) -> None:
        """Draw the result into axes, with a marked time step and a limit."""
        self._draw(ax, step=step, limit=limit)
        if step is not None and self.marks_step:
            mark_step(ax, step)
        if limit is not None:
            set_limit(ax, limit)

    def _blocks(self, panel: Callable[["Axes"], object]) -> "list[Block]":
        """Return the panels of the whole figure; `panel` draws the first of them."""
        from rhn.plotting.old_figures import Block

        return [Block([panel], self.height)]

    def _figure(self, step: int | None, limit: float | None) -> "Figure":
        """Draw and return the whole figure."""
        from rhn.plotting.old_figures import compose

        blocks = self._blocks(partial(self.draw_panel, step=step, limit=limit))
        return compose(self.finding, self.origin, *blocks, width=self.width)

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers, and the numbers derived from them, ready for JSON: complex numbers
        are [real, imaginary], NaN and infinity are None.
        """
        return finite_json(self._to_dict())

    def _to_dict(self) -> dict[str, Any]:
        """Return the same, but with NaN and infinity unchanged."""
        return _plain(self._saved()) | self.derived()

    def save(self, path: str | Path, *, figure: str | float | None = None) -> Path:
        """Write the result to a file, in the format of the suffix, and return the path. Formats:
        arrays as .npz (no pickle), numbers as .json (NaN and infinity become null), the table as
        .csv, the figure as .png, .svg or .pdf.

        figure: width of the figure, "column", "page", "slide" or inches.

        Writing is atomic. Only .npz files can be read again; the result of a training run cannot be
        written as .npz. Raises OutputError.
        """
        others = (".json", ".csv", *SUFFIXES)
        path = check_output(path, (".npz", *others) if self.kind else others)
        match path.suffix.lower():
            case ".npz":
                self._save_arrays(path)
            case ".json":
                write_json(path, {KIND: self.kind} | _plain(self._saved()) | self.derived())
            case ".csv":
                self._save_table(path)
            case _:
                save_figure(path, self.figure, figure)
        return path

    def _save_arrays(self, path: Path) -> None:
        import numpy as np

        saved = {name: value for name, value in self._saved().items() if value is not None}
        arrays = {name: _as_array(value) for name, value in saved.items()}
        write_arrays(path, {KIND: np.array(self.kind)} | arrays)

    def _save_table(self, path: Path) -> None:
        """Write the rows of the table. A row may lack some of the columns."""
        rows = self.table()
        columns = list(dict.fromkeys(name for row in rows for name in row))
        write_rows(path, columns, ([row.get(name) for name in columns] for row in rows))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file that `save` wrote. Raises DataError for any other file."""
        found = load_result(path, cls.writer)
        if not isinstance(found, cls):
            raise DataError(
                f"{path} holds the result {found.kind!r}: expected {cls.kind or 'another'!r}"
            )
        return found

    def derived(self) -> dict[str, Any]:
        """Return numbers that are computed from the fields, for .json files."""
        return {}

    def validate(self) -> None:
        """Raise ValueError for fields that do not fit each other. Called after a file was read."""

    def _saved(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in _saved_fields(self)}

    @classmethod
    def _of_file(cls, values: Mapping) -> Self:
        """Make a result from the arrays in a file."""
        hints, given = get_type_hints(cls), [f for f in _saved_fields(cls) if f.name in values]
        required = {
            f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING
        }
        if lacking := sorted(required - {*values}):
            raise ValueError(f"it lacks {', '.join(lacking)}")
        result = cls(**{f.name: _from_array(values[f.name], hints[f.name]) for f in given})
        result.validate()
        return result

    def __repr__(self) -> str:
        """Return the summary, cut to one screen."""
        lines = fitted(self.summary()).split("\n")
        return "\n".join(lines if len(lines) <= LINES else [*lines[: LINES - 1], "..."])

    def _repr_html_(self) -> str:
        """Return the summary and the figure as HTML for a notebook, without references to other
        files.
        """
        return f"<pre>{html.escape(repr(self))}</pre>{image(self.figure, self.title or 'figure')}"


def optional_xarray() -> Any:
    """Import and return the module xarray. Raises InvalidInputError if it is not installed."""
    try:
        import xarray
    except ImportError:
        raise InvalidInputError(
            "to_xarray needs xarray, which is optional: install it with `pip install xarray`"
        ) from None
    return xarray


def checked_limit(limit: float | None) -> float | None:
    """Return the limit of a figure's axis. Raises InvalidInputError for a number that cannot be
    drawn.
    """
    return None if limit is None else number("limit", limit, **DRAWN)


def load_result(path: str | Path, writer: str = Result.writer) -> Result:
    """Read a result of any imported class from an .npz file. Raises DataError for other files; the
    message names the `writer`.
    """
    with arrays_of(path, writer) as arrays:
        if KIND not in arrays:
            raise ValueError("it does not name the kind of its result")
        kind = str(arrays[KIND])
        if kind not in Result.classes:
            raise ValueError(
                f"it holds {kind!r:.40}, expected one of {', '.join(sorted(Result.classes))}"
            )
        return Result.classes[kind]._of_file(arrays)


def _saved_fields(result: Result | type[Result]) -> list[Field]:
    return [f for f in fields(result) if f.metadata.get("saved", True)]


def _from_array(array: "np.ndarray", hint: Any) -> Any:
    """Return a field's value from its array in a file; dictionaries, lists and tuples are read from
    JSON in it.
    """
    import numpy as np

    kinds = {get_origin(kind) or kind for kind in kinds_of(hint)}
    value = array.item() if array.ndim == 0 else None
    if isinstance(value, str) and not kinds.isdisjoint((dict, list, tuple)):
        return _from_json(json.loads(value), hint)
    return array if np.ndarray in kinds and not isinstance(value, str) else value


def _from_json(value: Any, hint: Any) -> Any:
    """Return a dictionary, list or tuple from its JSON value, with the arrays in it."""
    import numpy as np

    kinds = {get_origin(kind) or kind for kind in kinds_of(hint)}
    if get_origin(hint) is dict:
        return {key: _from_json(part, get_args(hint)[1]) for key, part in value.items()}
    if np.ndarray in kinds:
        return np.array(value)
    return tuple(value) if tuple in kinds else value


def _as_array(value: Any) -> "np.ndarray":
    """Return a field's value as an array for an .npz file; dictionaries, lists and tuples become
    JSON.
    """
    import numpy as np

    if isinstance(value, dict | list | tuple):
        return np.array(json.dumps(_plain(value)))
    return np.asarray(value)


def _plain(value: Any) -> Any:
    """Return a field's value for JSON."""
    import numpy as np

    if isinstance(value, np.ndarray | np.generic):
        return (_parts(value) if np.iscomplexobj(value) else value).tolist()
    if isinstance(value, dict):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value._to_dict() if isinstance(value, Result) else value


def _parts(z: "np.ndarray | np.generic") -> "np.ndarray":
    """Return complex numbers as [real, imaginary]."""
    import numpy as np

    return np.stack((z.real, z.imag), -1)


def table_rows(**columns: Iterable | Mapping[str, Iterable]) -> list[dict[str, Any]]:
    """Return the rows of a table from its columns (R,). An array (R, L) becomes the columns name_1,
    ..., name_L; a dictionary of columns becomes the columns name_KEY.

    >>> import numpy as np
    >>> table_rows(step=range(2), gain=np.array([0.5, 2.0]), norm={"least": [0.1, 0.2]})
    [{'step': 0, 'gain': 0.5, 'norm_least': 0.1}, {'step': 1, 'gain': 2.0, 'norm_least': 0.2}]
    """
    named: dict[str, list] = {}
    for name, values in columns.items():
        named |= _columns(name, values)
    return [dict(zip(named, row, strict=True)) for row in zip(*named.values(), strict=True)]


def _columns(name: str, values: Iterable | Mapping[str, Iterable]) -> dict[str, list]:
    """Return columns by name: one column, or one for each layer or key.

    >>> import numpy as np
    >>> _columns("gain", np.array([[0.5, 2.0]]))
    {'gain_1': [0.5], 'gain_2': [2.0]}
    """
    import numpy as np

    if isinstance(values, np.ndarray) and values.ndim == 2:
        values = {str(k): column for k, column in enumerate(values.T, 1)}
    if isinstance(values, Mapping):
        keys = [f"{name}_{key}".replace(" ", "_") for key in values]
        return dict(zip(keys, map(_plain_column, values.values()), strict=True))
    return {name: _plain_column(values)}


def _plain_column(values: Iterable) -> list:
    """Return the numbers of a column as Python numbers."""
    import numpy as np

    return values.tolist() if isinstance(values, np.ndarray) else [*values]


def fitted(text: str) -> str:
    """Wrap a text to the width of a screen."""

    def wrapped(line: str) -> str:
        return fill(line, COLUMNS, break_on_hyphens=False) if len(line) > COLUMNS else line

    return "\n".join(map(wrapped, text.split("\n")))


def duration(seconds: float) -> str:
    """Format a duration, such as "38 min".

    >>> duration(42), duration(60 * 38), duration(3600 * 5.25)
    ('42 s', '38 min', '5.2 h')
    >>> duration(86400 * 3), duration(86400 * 1400)
    ('3 days', '4 years')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    days = seconds / 86400
    return f"{days:.0f} days" if days < 2 * 365 else f"{days / 365:.0f} years"


def sized(width: float) -> float:
    """Return the width of figures that `our_style` chose, or `width` if it chose none."""
    return _chosen.get() or width


def drawable(text: str) -> str:
    r"""Escape a user's text for a figure. Characters that the font lacks are written as in Python;
    dollars are escaped, so that they do not start mathematics.

    Use it for names of files, data and architectures; `titled` calls it. A second call changes
    nothing.

    >>> print(drawable("naïve 字 $x$"))
    naïve \u5b57 \$x\$
    """
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))

    def shown(character: str) -> str:
        if character.isprintable() and font.get_char_index(ord(character)):
            return character
        return character.encode("unicode_escape").decode()

    return re.sub(r"(?<!\\)\$", r"\\$", "".join(map(shown, text)))


def listed(names: Sequence[str], most: int = 3) -> str:
    """List names in one line, and count those after the first few.

    >>> listed(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def lacking(name: str) -> set[str]:
    """Among the settings depth and transform_bias, return those that a cell does not have. The
    result is empty for an unregistered cell.

    name: the name of a cell, or the architecture name in a study, such as "dts-rnn-skip-last".

    >>> sorted(lacking("lstm")), lacking("dts-rnn-skip-last"), lacking("my_cells:Mine")
    (['depth', 'transform_bias'], {'transform_bias'}, set())
    """
    cell = max((cell for cell in CELLS if f"{name}-".startswith(f"{cell}-")), key=len, default=None)
    if cell is None:
        return set()
    factory = CELLS[cell]
    there = {
        "depth": getattr(factory, "deep", True),
        "transform_bias": accepts(factory, "transform_bias"),
    }
    return {setting for setting in there if not there[setting]}


def _existing_folder(folder: Path, path: Path) -> Path:
    """Return a folder for `path`, or the nearest one above it that exists; refuse a file."""
    place = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not place.is_dir():
        raise OutputError(
            f"cannot write {path}: {place} is not a folder: expected one, or a name that is free"
        )
    return place


LONGEST_NAME = 100  # characters of a figure's default name


def figure_name(*words: object) -> Path:
    """Return the default name of a figure, made from all options that change the figure. None and
    empty words are left out.

    >>> str(figure_name("swarm", "small", None, "by-depth"))
    'swarm-small-by-depth.png'
    """
    whole = "-".join(str(word) for word in words if word not in (None, ""))
    name = re.sub(r"[^\w.-]+", "-", whole)
    if len(name.encode()) > LONGEST_NAME or name != whole:
        # a checksum keeps names apart that were changed
        beginning = name.encode()[:LONGEST_NAME].decode(errors="ignore")
        name = f"{beginning}-{crc32(whole.encode(errors='replace')):08x}"
    return Path(f"{name.lstrip('.-')}.png")


def with_article(name: str) -> str:
    """Return a name with "a" or "an", as it is spoken. Capitals at its begin are single letters.

    >>> [with_article(name) for name in ("list", "int", "RNN", "GRU", "LSTMCell", "Linear", "UNet")]
    ['a list', 'an int', 'an RNN', 'a GRU', 'an LSTMCell', 'a Linear', 'a UNet']
    """
    by_letters = name[:2].isupper()
    spoken_with_vowel = "AEFHILMNORSX" if by_letters else "AEIOUaeiou"
    return f"an {name}" if name[:1] in [*spoken_with_vowel] else f"a {name}"
