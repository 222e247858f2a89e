"""Declare options as the fields of dataclasses: the text below a field is its help, its default the value of a missing option.

| type of the field               | on the command line                                            |
|---------------------------------|----------------------------------------------------------------|
| bool                            | --name                                                         |
| int, float, str, Path, Literal  | --name VALUE                                                   |
| tuple[X, ...], tuple[X, X]      | --name VALUE VALUE                                             |
| dict                            | --name NAME=VALUE, given once for each entry; values are words |
| X or None                       | as X, and the word None if X is neither text nor path          |
| Annotated[X, Arg("FILE")]       | as X, shown as FILE; `positional`: without --name              |
| Annotated[dict, Fields((A, B))] | each field of the dataclasses A and B; given values by name    |
"""

import argparse
import ast
import contextlib
import inspect
import itertools
from collections.abc import Callable, Collection, Iterable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from rhn.cells.registry import CELLS
from rhn.errors import InvalidInputError
from rhn.utils.validation import LARGEST, expected

METAVARS = {int: "N", float: "X", str: "NAME", Path: "PATH", dict: "NAME=VALUE"}
BOOLS = {"true": True, "yes": True, "false": False, "no": False}


@dataclass(frozen=True)
class Arg:
    """Names of a field on the command line."""

    metavar: str
    """The word for its value in `--help`."""
    positional: bool = False
    """True for a value without the name of an option."""
    short: str | None = None
    """A letter for its name: "-o"."""
    flag: str | None = None
    """Its name, if that is not the name of the field."""


@dataclass(frozen=True)
class Fields:
    """The fields of configurations as options."""

    kinds: tuple[type, ...]
    shown: Callable[[dict], Any]
    """From the given options: the configuration with the values for `--help`, or None."""
    lacking: Callable[[Any], Collection[str]] = lambda config: ()
    """The fields of that configuration without a meaning in it; `--help` leaves them out."""


File = Annotated[Path | None, Arg("FILE")]
Folder = Annotated[Path | None, Arg("DIR")]
Device = Literal["auto", "cpu", "cuda"]
CellOptions = Annotated[dict, Arg("NAME=VALUE", flag="--cell-option")]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The options of every command about a trained network."""

    checkpoint: Annotated[Path, Arg("CHECKPOINT", positional=True)]
    """best.safetensors of a run or of a study, or the folder of a run: its best weights."""
    cell: str | None = None
    """The cell of a checkpoint with a cell of your own, as package.module:factory."""


@dataclass(frozen=True, kw_only=True)
class Writing:
    """The option of every command that writes results."""

    force: bool = False
    """Overwrite files that this toolkit did not make; its own are always overwritten."""


@dataclass(frozen=True)
class Option:
    """A field as an option."""

    name: str
    kind: Any
    """Its type, without None and annotations."""
    optional: bool
    """Whether its type has None."""
    default: Any
    """Or MISSING."""
    arg: Arg | None
    fields: Fields | None
    group: str | None = None
    """Heading of the option in `--help`: the `group` of the dataclass that declares it."""

    @property
    def flag(self) -> str:
        return (self.arg and self.arg.flag) or flag(self.name)

    @property
    def parts(self) -> list["Option"]:
        """The fields of its configurations, those of one name once; without configurations the option itself."""
        kinds = self.fields.kinds if self.fields else ()
        return list({part.name: part for kind in kinds for part in options_of(kind)}.values()) or [self]

    @property
    def required(self) -> bool:
        return self.default is MISSING

    @property
    def positional(self) -> bool:
        return self.arg is not None and self.arg.positional

    @property
    def item(self) -> tuple[Any, int | str | None]:
        """The type of a value, and argparse's nargs: a number, "+" for one or more, None for one."""
        if get_origin(self.kind) is not tuple:
            return self.kind, None
        first, *rest = get_args(self.kind)
        return first, "+" if rest == [...] else 1 + len(rest)

    @property
    def kinds(self) -> tuple:
        """The types that a value may have, without None."""
        return _parts(self.item[0])

    @property
    def metavar(self) -> str | tuple[str, ...]:
        kind, count = self.item
        if self.arg:
            return tuple(self.arg.metavar.split()) if isinstance(count, int) else self.arg.metavar
        return "{" + ",".join(get_args(kind)) + "}" if get_origin(kind) is Literal else METAVARS[kind]

    def __str__(self) -> str:
        """As it is typed: --output FILE."""
        words = self.metavar if isinstance(self.metavar, tuple) else (self.metavar,)
        return " ".join(words if self.positional else (self.flag, *words))

    def read(self, word: str) -> Any:
        """Convert a word to a value; raises argparse.ArgumentTypeError with the expected type."""
        if self.kind is dict:
            name, equals, value = word.partition("=")
            if not (name and equals):
                raise argparse.ArgumentTypeError(f"expects {self.metavar}, such as leak=0.5, got {word!r:.60}")
            return name.strip().replace("-", "_"), value
        for kind in self.kinds:
            with contextlib.suppress(ValueError):
                return _value(kind, word)
        if self.optional and word == "None":
            return None
        raise argparse.ArgumentTypeError(f"expects {' or '.join(map(expected, self.kinds))}, got {word!r:.60}")


def options_of(kind: type) -> list[Option]:
    """The options that a dataclass declares."""
    hints = get_type_hints(kind, include_extras=True)
    groups = {
        name: vars(base).get("group") for base in reversed(kind.__mro__) for name in inspect.get_annotations(base)
    }
    defaults = {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(kind)}
    return [option_of(name, hints[name], default, groups[name]) for name, default in defaults.items()]


def flag(name: str) -> str:
    """A field's name as an option: hidden_size is --hidden-size."""
    return "--" + name.replace("_", "-")


def given_flags(options, names: Iterable[str]) -> list[str]:
    """Those of the named options whose value is not the default: ["--mc-official"]."""
    declared = (option for option in options_of(type(options)) if option.name in names)
    return [option.flag for option in declared if getattr(options, option.name) != option.default]


def check_least(options, **least: float) -> None:
    """Raise InvalidInputError for a given option, by its field's name, below its bound."""
    for name, bound in least.items():
        if (value := getattr(options, name, None)) is not None and not value >= bound:
            raise InvalidInputError(f"{flag(name)} is {value}, expected {bound} or more")


def check_most(options, **most: float) -> None:
    """Raise InvalidInputError for a given option, by its field's name, above its bound."""
    for name, bound in most.items():
        if (value := getattr(options, name, None)) is not None and not value <= bound:
            raise InvalidInputError(f"{flag(name)} is {value}, expected {bound} or less")


def field_docs(kind: type) -> dict[str, str]:
    """The texts below the fields of a dataclass and of those it inherits from; "{cells}" becomes the names of our cells.

    >>> field_docs(Option)["kind"]
    'Its type, without None and annotations.'
    """
    docs = {f.name: f.metadata["help"] for f in fields(kind) if "help" in f.metadata}
    for base in filter(is_dataclass, reversed(kind.__mro__)):
        try:
            body = ast.parse(inspect.getsource(base)).body[0].body
        except OSError:  # made by make_dataclass
            continue
        for declared, text in itertools.pairwise(body):
            match declared, text:
                case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(help))):
                    docs[name] = " ".join(help.split()).replace("{cells}", ", ".join(CELLS))
    return docs


def option_of(name: str, hint: Any, default: Any, group: str | None = None) -> Option:
    """An option from a name, a type as in the table above, and a default."""
    parts = _parts(get_args(hint)[0] if get_origin(hint) is Annotated else hint)
    marks = {type(mark): mark for mark in getattr(hint, "__metadata__", ())}
    return Option(
        name=name,
        kind=Union[tuple(part for part in parts if part is not NoneType)],  # noqa: UP007 - the parts are known only here
        optional=NoneType in parts,
        default=default,
        arg=marks.get(Arg),
        fields=marks.get(Fields),
        group=group,
    )


def _parts(hint) -> tuple:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _value(kind, word: str) -> Any:
    """Convert a word to one type; raises ValueError, or ArgumentTypeError for a number beyond 64 bits.

    An empty path is refused: it is commonly an unset shell variable.
    """
    if kind is bool:
        if word.lower() not in BOOLS:
            raise ValueError
        return BOOLS[word.lower()]
    literal = get_origin(kind) is Literal
    if (literal and word not in get_args(kind)) or (kind is Path and not word.strip()):
        raise ValueError
    value = word if literal else kind(word)
    if kind is int and abs(value) > LARGEST:
        raise argparse.ArgumentTypeError(f"expects a whole number of at most {LARGEST}, got {word:.60}")
    return value
