"""Declare options as the fields of dataclasses, once for commands, files and Python; read a command
line into them with argparse.

| type of the field          | on the command line                                                 |
|----------------------------|---------------------------------------------------------------------|
| bool                       | --name; of a configuration, or with another default, also --no-name |
| int, float, str, Path      | --name VALUE                                                        |
| Literal                    | --name VALUE, one of its words                                      |
| tuple[X, ...], tuple[X, X] | --name VALUE VALUE; of the first also given more than once          |
| dict                       | --name NAME=VALUE, given once for each entry; values are words      |
| X or None                  | as X, and the word None if X is neither text nor path               |
"""

import argparse
import difflib
import inspect
import operator
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import partial
from math import inf
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NoReturn, get_args, get_origin

from rhn.errors import EarlyExit, InvalidInputError
from rhn.utils.figures import inches_of
from rhn.utils.io import remember_command
from rhn.utils.validation import convert, kinds_of
from rhn.version import __version__

NEGATIVE = re.compile(r"-\.?\d")  # the begin of a number, not of an option
METAVARS = {int: "N", float: "X", str: "NAME", Path: "PATH", dict: "NAME=VALUE"}

RANGES = {  # of an option's numbers, by the keyword of `option`
    "least": (operator.ge, "{:g} or more"),
    "above": (operator.gt, "a number above {:g}"),
    "below": (operator.lt, "less than {:g}"),
    "most": (operator.le, "at most {:g}"),
}

Device = Literal["auto", "cpu", "cuda"]


def option(
    default: Any = MISSING, help: str = "", *, repr: bool = True, **about: str | float
) -> Any:
    """A field that is an option of a command, required without a default; {} makes an empty
    dictionary for each object.

    help: of the field, also where a subclass has another default; `--help` adds the default.
    about: metavar="LOW HIGH", the words for its values in `--help`; flag="--name", if it is not
        called like the field; positional=True for a value without a flag; short="-o"; least, most,
        above, below: the range of a number (`check_ranges`).
    """
    value = {"default_factory": dict} if default == {} else {"default": default}
    return field(**value, repr=repr, metadata=about | ({"help": help} if help else {}))


def configuration(kinds: tuple[type, ...], shown: Callable[[dict], Any], help: str) -> Any:
    """A field `settings`: a dictionary of the given fields of configurations, whose fields are
    options, too.

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
    cell: str | None = option(
        None, "The cell of a checkpoint with a cell of your own, as package.module:factory."
    )


@dataclass(frozen=True, kw_only=True)
class Writing:
    """The option of every command that writes results."""

    force: bool = option(
        False, "Also overwrite files without the mark of this toolkit; tables (.csv) have none."
    )


@dataclass(frozen=True, kw_only=True)
class Sized:
    """The size of figures."""

    group = "output"

    figure: str | None = option(
        None,
        "Width of the figure: column (3.25 inches), page (6.75), slide (13.3), or INCHES.",
        metavar="SIZE",
    )

    def __post_init__(self):
        if self.figure is not None:
            inches_of(self.figure)


@dataclass(frozen=True, kw_only=True)
class Drawing(Sized, Writing):
    """The options of every command that draws."""

    group = "output"

    output: tuple[Path, ...] = option(
        (),
        "Files to write: a figure (.png, .svg, .pdf), its numbers (.csv, .json, .npz).",
        metavar="FILE",
    )


def default_of(f: Field) -> Any:
    """The value of a missing option, or MISSING."""
    return f.default if f.default_factory is MISSING else f.default_factory()


def about(kind: type, name: str) -> dict[str, Any]:
    """All that a dataclass and its bases declare of an option, with the heading `group` of the
    class that declares it last.
    """
    homes = [base for base in kind.__mro__ if name in inspect.get_annotations(base)]
    found = {"group": vars(homes[0]).get("group")}
    for base in reversed(homes):
        found |= vars(base)["__dataclass_fields__"][name].metadata
    return found


def item_of(hint: Any) -> tuple[Any, int | str | None]:
    """The type of a value, and how many values an option has, as argparse writes it: a number, "+",
    or None for one.
    """
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
    named = [f for f in fields(options) if f.name in names]
    given = [f for f in named if getattr(options, f.name) != default_of(f)]
    return [f.metadata.get("flag", flag(f.name)) for f in given]


def check_ranges(options, named: Callable[[str], str] = str) -> None:
    """Raise InvalidInputError for a number that is infinite or outside the range that its option
    declares; None is in every range.

    named: the name of a field in the message.
    """
    for f in fields(options):
        value, facts = getattr(options, f.name), about(type(options), f.name)
        bounds = {RANGES[kind]: facts[kind] for kind in RANGES if kind in facts}
        if not bounds or value is None:
            continue
        if not (value < inf and all(holds(value, bound) for (holds, _), bound in bounds.items())):
            range_ = ", ".join(words.format(bound) for (_, words), bound in bounds.items())
            raise InvalidInputError(f"{named(f.name)} is {value}, expected {range_}")


@dataclass(frozen=True)
class Commands:
    """Commands by name: dataclasses of options, or more commands."""

    about: str
    by_name: dict[str, "type | Commands"]


def parse(options: "type | Commands", args: Sequence[str] | None, *, prog: str) -> Any:
    """Read words into a dataclass; with `Commands` the first words choose it.

    args: the words, or None for those of this process.

    Raises InvalidInputError with one sentence for words that cannot be read. `--help` and
    `--version` print and raise SystemExit(0).
    """
    words = list(map(str, sys.argv[1:] if args is None else args))
    remember_command(prog, words)
    while isinstance(options, Commands):
        options, prog, words = _command(options, prog, words), f"{prog} {words[0]}", words[1:]
    parser = _parser_of(options, prog)
    found, unknown = parser.parse_known_args(list(map(_escaped, words)))
    if unknown:
        parser.error(_reason(unknown, options))
    given: dict = {}
    own = {f.name for f in fields(options)}
    for name, value in vars(found).items():
        place = given if name in own else given.setdefault("settings", {})
        place[name] = tuple(value) if isinstance(value, list) else value
    read = options(**given)
    check_ranges(read, flag)
    return read


class _Parser(argparse.ArgumentParser):
    """A parser that returns only the given values and raises InvalidInputError with one
    sentence.
    """

    configuration: Mapping | None = None
    """The metadata of the options whose defaults follow from other options
    (`rhn.utils.options.configuration`).
    """

    def __init__(self, prog: str, usage: str, about: str):
        layout = partial(argparse.RawDescriptionHelpFormatter, max_help_position=32)
        how: Any = {
            "formatter_class": layout,
            "argument_default": argparse.SUPPRESS,
            "conflict_handler": "resolve",
        }
        super().__init__(
            prog, f"{prog} {usage}", _wrapped(about), allow_abbrev=False, add_help=False, **how
        )
        self.add_argument("-h", "--help", action=_Help, nargs=0, help="Show this and exit.")
        version = f"{prog.partition(' ')[0]} {__version__}"
        self.add_argument(
            "--version", action="version", version=version, help="Print the version and exit."
        )

    def error(self, message: str) -> NoReturn:
        raise InvalidInputError(f"{message.removeprefix('argument ')} (see {self.prog} --help)")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise EarlyExit(status)


class _Help(argparse.Action):
    """Print the help, with the values of the configuration that the options before it name."""

    def __call__(self, parser, namespace, values, option_string=None):
        declared = parser.configuration
        if declared and (config := declared["shown"](vars(namespace))) is not None:
            group = parser.add_argument_group("configuration", declared["help"])
            for f in fields(config):
                _add(group, type(config), f, getattr(config, f.name), pair=True)
        parser.print_help()
        parser.exit()


class _Entry(argparse.Action):
    """Add NAME=VALUE to a dictionary."""

    def __call__(self, parser, namespace, values, option_string=None):
        name, equals, value = values.partition("=")
        if not (name and equals):
            raise argparse.ArgumentError(
                self, f"expected {self.metavar}, such as leak=0.5, got {values!r:.60}"
            )
        entries = getattr(namespace, self.dest, {})
        setattr(namespace, self.dest, entries | {name.strip().replace("-", "_"): value})


def _command(commands: Commands, prog: str, words: list[str]) -> "type | Commands":
    """The command that the first word names; otherwise the help or an error."""
    if words and words[0] in commands.by_name:
        return commands.by_name[words[0]]
    parser = _Parser(prog, "COMMAND [options]", commands.about)
    group = parser.add_argument_group(
        "commands", f"`{prog} COMMAND --help` describes each of them."
    )
    for name, kind in commands.by_name.items():
        text = kind.about if isinstance(kind, Commands) else inspect.getdoc(kind) or ""
        group.add_argument(name, nargs="?", help=text.partition("\n")[0].replace("%", "%%"))
    parser.parse_known_args(words[:1])  # --help and --version
    reason = f"{words[0]!r} is not a command" if words else "a command is missing"
    parser.error(f"{reason}, expected one of {', '.join(commands.by_name)}")


def _parser_of(options: type, prog: str) -> _Parser:
    usage = [*(word for f in fields(options) for word in _usage(options, f)), "[options]"]
    parser = _Parser(prog, " ".join(usage), inspect.getdoc(options) or "")
    groups: dict[str | None, Any] = {None: parser}
    for f in fields(options):
        if "kinds" in f.metadata:
            parser.configuration = f.metadata
            continue
        heading = about(options, f.name)["group"]
        if heading not in groups:
            groups[heading] = parser.add_argument_group(heading)
        _add(groups[heading], options, f, default_of(f))
    for kind, f in _hidden(options):
        _add(parser, kind, f, hidden=True, pair=True)
    return parser


def _hidden(options: type) -> list[tuple[type, Field]]:
    """The fields of configurations that are options, too, each with its class."""
    kinds = [kind for f in fields(options) for kind in f.metadata.get("kinds", ())]
    return [(kind, f) for kind in kinds for f in fields(kind)]


def _usage(kind: type, f: Field) -> list[str]:
    """The words of an option in the first line of the help; none if it is among the "[options]"."""
    facts, required = about(kind, f.name), default_of(f) is MISSING
    if facts.get("positional"):
        return [facts["metavar"] if required else f"[{facts['metavar']}]"]
    return [flag(f.name), facts["metavar"]] if required else []


def _add(
    parser, kind: type, f: Field, default: Any = None, *, hidden: bool = False, pair: bool = False
) -> None:
    """Declare an option; pair: a flag can also be given as --no-flag, as one that is on by
    default.
    """
    facts, (item, nargs) = about(kind, f.name), item_of(f.type)
    names, text = _names(facts, f.name), argparse.SUPPRESS
    if not hidden:
        shown = None if default is False and not pair else default
        text = _with_default(facts.get("help", ""), shown).replace("%", "%%")
    if bool in kinds_of(item):
        action = argparse.BooleanOptionalAction if pair or default is not False else "store_true"
        parser.add_argument(*names, dest=f.name, action=action, help=text)
        return
    required, reading = default is MISSING, _reading(item, nargs, facts.get("metavar"))
    if facts.get("positional"):
        if not required:
            reading["nargs"] = "*" if nargs else "?"
        parser.add_argument(f.name, help=text, **reading)
    else:
        parser.add_argument(*names, dest=f.name, required=required, help=text, **reading)


def _names(facts: Mapping[str, Any], name: str) -> list[str]:
    """The flags of an option, a short one first."""
    usual = facts.get("flag", flag(name))
    return [facts["short"], usual] if "short" in facts else [usual]


def _reading(item: Any, nargs: int | str | None, metavar: str | None) -> dict[str, Any]:
    """How argparse reads the values of an option: their number, their word in the help, and their
    type, choices or action.
    """
    word = metavar or metavar_of(item)
    words = tuple(word.split()) if isinstance(nargs, int) else word
    how: dict[str, Any] = {"nargs": nargs, "metavar": words}
    if item is dict:
        return how | {"action": _Entry}
    if get_origin(item) is Literal:
        return how | {"choices": get_args(item)}
    several = {"action": "extend"} if nargs == "+" else {}  # also given more than once
    return how | several | {"type": partial(_read, item)}


def _read(hint: Any, word: str) -> Any:
    negative = word.startswith(" ") and NEGATIVE.match(word, 1)
    try:
        return convert(word[1:] if negative else word, hint)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _reason(unknown: list[str], options: type) -> str:
    """The error for words that nothing reads: an option, with a similar one, or a word too many."""
    word = next((word.partition("=")[0] for word in unknown if word.startswith("-")), None)
    if word is None:
        return f"{unknown[0].strip()!r} is one word too many"
    known = [(options, f) for f in fields(options)] + _hidden(options)
    flags = [about(kind, f.name).get("flag", flag(f.name)) for kind, f in known]
    near = difflib.get_close_matches(word, ["--help", "--version", *flags], 1, cutoff=0.7)
    hint = f"; perhaps you meant {near[0]}" if near else ""
    return f"{word} is not an option{hint}"


def _with_default(text: str, value: Any) -> str:
    """The text of an option and its default; without a default only the text."""
    if value in (None, MISSING, (), "", {}):
        return text.replace("None:", "None (default):")
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
    return f"{text.removesuffix('.')} (default: {shown})"


def _wrapped(text: str) -> str:
    """Wrap paragraphs to the width of the terminal; those with indented lines, such as examples,
    stay.
    """
    width = shutil.get_terminal_size().columns - 2

    def wrapped(paragraph: str) -> str:
        if "\n  " in paragraph:
            return paragraph
        return textwrap.fill(" ".join(paragraph.split()), width)

    return "\n\n".join(map(wrapped, text.split("\n\n")))


def _escaped(word: str) -> str:
    """A word for argparse: --hidden_size is --hidden-size; a space before a negative number makes
    it no option.
    """
    if NEGATIVE.match(word):
        return f" {word}"
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if word.startswith("--") else word
