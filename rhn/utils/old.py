"""What only older code uses; a later version deletes this file."""

import math
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, make_dataclass
from difflib import get_close_matches
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, get_origin, get_type_hints

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

from rhn.errors import InvalidInputError
from rhn.utils.command_line import command_line, within
from rhn.utils.figures import inches_of
from rhn.utils.tables import printable
from rhn.utils.validation import DRAWN, expected

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
