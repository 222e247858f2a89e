"""Read a command line into a dataclass of options (see `rhn.utils.options`) with argparse."""

import argparse
import difflib
import inspect
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, fields
from functools import partial
from typing import Any, Literal, TypeVar, get_args, get_origin

from rhn.errors import EarlyExit, InvalidInputError
from rhn.utils.file_marks import remember_command
from rhn.utils.options import about, default_of, flag, item_of, metavar_of
from rhn.utils.validation import convert, kinds_of
from rhn.version import __version__

T = TypeVar("T")


@dataclass(frozen=True)
class Commands:
    """Commands by name: dataclasses of options, or more commands."""

    about: str
    by_name: dict[str, "type | Commands"]


def parse(options: "type[T] | Commands", args: Sequence[str] | None, *, prog: str) -> T:
    """Read words into a dataclass; with `Commands` the first words choose it.

    args: the words, or None for those of this process.

    Raises InvalidInputError with one sentence for words that cannot be read. `--help` and `--version` print and raise SystemExit(0).
    """
    words = list(map(str, sys.argv[1:] if args is None else args))
    remember_command(prog, words)
    while isinstance(options, Commands):
        name = words[0] if words else None
        if name not in options.by_name:
            parser = _parser_of_commands(options, prog)
            parser.parse_known_args(words[:1])  # --help and --version
            reason = "a command is missing" if name is None else f"{name!r} is no command"
            parser.error(f"{reason}, expected one of {', '.join(options.by_name)}")
        options, prog, words = options.by_name[name], f"{prog} {name}", words[1:]
    parser = _parser_of(options, prog)
    found, unknown = parser.parse_known_args(list(map(_dashed, words)))
    if unknown:
        parser.error(_reason(unknown, parser))
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in vars(found).items()}
    own = {f.name for f in fields(options)}
    settings = {name: value for name, value in given.items() if name not in own}
    given = {name: value for name, value in given.items() if name in own}
    return options(**given, **({"settings": settings} if settings else {}))


class _Parser(argparse.ArgumentParser):
    """A parser that returns only the given values and raises InvalidInputError with one sentence."""

    configuration: dict | None = None
    """The metadata of the options whose defaults follow from other options (`rhn.utils.options.configuration`)."""

    def __init__(self, prog: str, usage: str, about: str):
        layout = partial(argparse.RawDescriptionHelpFormatter, max_help_position=32)
        how = {"formatter_class": layout, "argument_default": argparse.SUPPRESS, "conflict_handler": "resolve"}
        super().__init__(prog, f"{prog} {usage}", _wrapped(about), allow_abbrev=False, add_help=False, **how)
        self._negative_number_matcher = re.compile(r"-\.?\d")  # argparse's own knows -1 and not -1e-3
        self.add_argument("-h", "--help", action=_Help, nargs=0, help="Show this and exit.")
        version = f"{prog.partition(' ')[0]} {__version__}"
        self.add_argument("--version", action="version", version=version, help="Print the version and exit.")

    def error(self, message: str) -> None:
        raise InvalidInputError(f"{message.removeprefix('argument ')} (see {self.prog} --help)")

    def exit(self, status: int = 0, message: str | None = None) -> None:
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
            raise argparse.ArgumentError(self, f"expected {self.metavar}, such as leak=0.5, got {values!r:.60}")
        entries = getattr(namespace, self.dest, {})
        setattr(namespace, self.dest, entries | {name.strip().replace("-", "_"): value})


def _parser_of_commands(commands: Commands, prog: str) -> _Parser:
    parser = _Parser(prog, "COMMAND [options]", commands.about)
    group = parser.add_argument_group("commands", f"{prog} COMMAND --help says more of each.")
    for name, kind in commands.by_name.items():
        text = kind.about if isinstance(kind, Commands) else inspect.getdoc(kind)
        group.add_argument(name, nargs="?", help=text.partition("\n")[0].replace("%", "%%"))
    return parser


def _parser_of(options: type, prog: str) -> _Parser:
    usage = [*(word for f in fields(options) for word in _usage(options, f)), "[options]"]
    parser = _Parser(prog, " ".join(usage), inspect.getdoc(options))
    groups: dict[str | None, Any] = {None: parser}
    for f in fields(options):
        if "kinds" in f.metadata:
            parser.configuration = f.metadata
            for kind in f.metadata["kinds"]:
                for part in fields(kind):
                    _add(parser, kind, part, hidden=True, pair=True)
            continue
        heading = about(options, f.name)["group"]
        if heading not in groups:
            groups[heading] = parser.add_argument_group(heading)
        _add(groups[heading], options, f, default_of(f))
    return parser


def _usage(kind: type, f: Field) -> list[str]:
    """The words of an option in the first line of the help; none if it is among the "[options]"."""
    facts, required = about(kind, f.name), default_of(f) is MISSING
    if facts.get("positional"):
        return [facts["metavar"] if required else f"[{facts['metavar']}]"]
    return [flag(f.name), facts["metavar"]] if required else []


def _add(parser, kind: type, f: Field, default: Any = None, *, hidden: bool = False, pair: bool = False) -> None:
    """Declare an option; pair: a flag can also be given as --no-flag, as one that is on by default."""
    facts, (item, nargs) = about(kind, f.name), item_of(f.type)
    shown = None if default is False and not pair else default
    text = argparse.SUPPRESS if hidden else _with_default(facts.get("help", ""), shown).replace("%", "%%")
    names = [*filter(None, [facts.get("short")]), facts.get("flag", flag(f.name))]
    if bool in kinds_of(item):
        action = argparse.BooleanOptionalAction if pair or default is not False else "store_true"
        parser.add_argument(*names, dest=f.name, action=action, help=text)
        return
    metavar = facts.get("metavar") or metavar_of(item)
    how = {"help": text, "metavar": tuple(metavar.split()) if isinstance(nargs, int) else metavar, "nargs": nargs}
    if item is dict:
        how |= {"action": _Entry}
    elif get_origin(item) is Literal:
        how |= {"choices": get_args(item)}
    else:
        how |= {"type": partial(_read, item)}
    if facts.get("positional"):
        optional = {None: "?", "+": "*"}[nargs]
        parser.add_argument(f.name, **how | {"nargs": nargs if default is MISSING else optional})
    else:
        parser.add_argument(*names, dest=f.name, required=default is MISSING, **how)


def _read(hint: Any, word: str) -> Any:
    try:
        return convert(word, hint)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _reason(unknown: list[str], parser: _Parser) -> str:
    """The error for words that nothing reads: an option, with a similar one, or a word too many."""
    word = next((word.partition("=")[0] for word in unknown if word.startswith("-")), None)
    if word is None:
        return f"{unknown[0]!r} is one word too many"
    near = difflib.get_close_matches(word, parser._option_string_actions, 1, cutoff=0.7)
    return f"{word} is no option" + (f"; perhaps you meant {near[0]}" if near else "")


def _with_default(text: str, value: Any) -> str:
    """The text of an option and its default; without a default only the text."""
    if value in (None, MISSING, (), "", {}):
        return text.replace("None:", "None (default):")
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
    return f"{text.removesuffix('.')} (default: {shown})"


def _wrapped(text: str) -> str:
    """Wrap paragraphs to the width of the terminal; those with indented lines, such as examples, stay."""
    width = shutil.get_terminal_size().columns - 2
    paragraphs = text.split("\n\n")
    return "\n\n".join(p if "\n  " in p else textwrap.fill(" ".join(p.split()), width) for p in paragraphs)


def _dashed(word: str) -> str:
    """--hidden_size is --hidden-size."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if word.startswith("--") else word
