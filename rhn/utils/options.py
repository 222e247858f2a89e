"""Declare options as the fields of dataclasses: name, type, default and help, once for commands, files and Python.

| type of the field            | on the command line                                                          |
|------------------------------|------------------------------------------------------------------------------|
| bool                         | --name; of a configuration, or with another default, also --no-name          |
| int, float, str, Path        | --name VALUE                                                                 |
| Literal                      | --name VALUE, one of its words                                               |
| tuple[X, ...], tuple[X, X]   | --name VALUE VALUE                                                           |
| dict                         | --name NAME=VALUE, given once for each entry; values are words               |
| X or None                    | as X, and the word None if X is neither text nor path                        |
"""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from rhn.errors import InvalidInputError
from rhn.utils.validation import kinds_of

METAVARS = {int: "N", float: "X", str: "NAME", Path: "PATH", dict: "NAME=VALUE"}

Device = Literal["auto", "cpu", "cuda"]


def option(default: Any = MISSING, help: str = "", *, repr: bool = True, **about: str | bool) -> Any:
    """A field that is an option of a command, required without a default; {} makes an empty dictionary for each object.

    help: of the field, also where a subclass has another default; `--help` adds the default.
    about: metavar="LOW HIGH", the words for its values in `--help`; flag="--name", if it is not called like the field;
        positional=True for a value without a flag; short="-o".
    """
    value = {"default_factory": dict} if default == {} else {"default": default}
    return field(**value, repr=repr, metadata={"help": help} | about)


def configuration(kinds: tuple[type, ...], shown: Callable[[dict], Any], help: str) -> Any:
    """A field `settings`: a dictionary of the given fields of configurations, whose fields are options, too.

    shown: the configuration from the given options, whose values `--help` prints, or None.
    """
    return field(default_factory=dict, metadata={"kinds": kinds, "shown": shown, "help": help})


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The options of every command about a trained network."""

    checkpoint: Path = option(
        help="best.safetensors of a run or of a study, or the folder of a run: its best weights.",
        metavar="CHECKPOINT",
        positional=True,
    )
    cell: str | None = option(None, "The cell of a checkpoint with a cell of your own, as package.module:factory.")


@dataclass(frozen=True, kw_only=True)
class Writing:
    """The option of every command that writes results."""

    force: bool = option(False, "Overwrite files that this toolkit did not make; its own are always overwritten.")


def default_of(f: Field) -> Any:
    """The value of a missing option, or MISSING."""
    return f.default if f.default_factory is MISSING else f.default_factory()


def about(kind: type, name: str) -> dict[str, Any]:
    """All that a dataclass and its bases declare of an option, with the heading `group` of the class that declares it last."""
    homes = [base for base in kind.__mro__ if name in inspect.get_annotations(base)]
    found = {"group": vars(homes[0]).get("group")}
    for base in reversed(homes):
        found |= vars(base)["__dataclass_fields__"][name].metadata
    return found


def item_of(hint: Any) -> tuple[Any, int | str | None]:
    """The type of a value, and how many values an option has, as argparse writes it: a number, "+", or None for one."""
    if get_origin(hint) is tuple:
        first, *rest = get_args(hint)
        return first, "+" if rest == [...] else 1 + len(rest)
    tuples = [kind for kind in kinds_of(hint) if get_origin(kind) is tuple]
    return item_of(tuples[0]) if tuples else (hint, None)


def metavar_of(hint: Any) -> str:
    """The word for a value of a type."""
    (kind, *_) = (kind for kind in kinds_of(hint) if kind is not NoneType)
    return "{" + ",".join(get_args(kind)) + "}" if get_origin(kind) is Literal else METAVARS[kind]


def flag(name: str) -> str:
    """A field's name as an option: hidden_size is --hidden-size."""
    return "--" + name.replace("_", "-")


def given_flags(options, names: Iterable[str]) -> list[str]:
    """Those of the named options whose value is not the default: ["--mc-official"]."""
    given = (f for f in fields(options) if f.name in names and getattr(options, f.name) != default_of(f))
    return [f.metadata.get("flag", flag(f.name)) for f in given]


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
