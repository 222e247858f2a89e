"""Parse a command line into a dataclass of options (see `rhn.utils.options`), with one sentence for each error.

argparse reads the words. tyro, cyclopts and jsonargparse take 0.3 s to import (argparse 0.05 s) and print errors as panels or usages of
several lines; they would replace the reading of types, but not one-sentence errors, help with the values of a preset, hints to other
commands, and configurations of which only the given fields count.
"""

import argparse
import difflib
import functools
import inspect
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass
from typing import Any, TypeVar

from rhn.errors import EarlyExit, InvalidInputError
from rhn.utils.file_marks import remember_command
from rhn.utils.options import Option, field_docs, options_of
from rhn.version import __version__

T = TypeVar("T")
HELP = ("-h", "--help")
VERSION = "--version"


@dataclass(frozen=True)
class Commands:
    """Commands by name: dataclasses of options, or more commands."""

    about: str
    by_name: dict[str, "type | Commands"]


def parse(options: "type[T] | Commands", args: Sequence[str] | None, *, prog: str, once: bool = False) -> T:
    """Parse words into a dataclass; with `Commands` the first words choose it.

    args: the words, or None for those of this process.
    once: refuse an option that is given twice; otherwise the last value counts.

    Raises InvalidInputError with one sentence for words that cannot be read. `--help` and `--version` print and raise SystemExit(0).
    """
    words = list(map(str, sys.argv[1:] if args is None else args))
    remember_command(prog, words)
    every, words = list(_leaves(options, prog)), list(map(_dashed, words))
    while isinstance(options, Commands):
        name, *words = words or [None]
        if name in HELP:
            _print_and_exit(_commands_help(options, prog))
        if name == VERSION:
            _print_version(prog)
        if name not in options.by_name:
            reason = "a command is missing" if name is None else f"{name!r} is no command"
            raise _refusal(f"{reason}, expected one of {', '.join(options.by_name)}", prog)
        options, prog = options.by_name[name], f"{prog} {name}"
    declared = options_of(options)
    given = _read(declared, words, prog, every, _Once if once else "store")
    if given.pop("version", False):
        _print_version(prog)
    if given.pop("help", False):
        _print_and_exit(_options_help(options, declared, given, prog))
    if needed := [str(option) for option in declared if option.required and option.name not in given]:
        raise _refusal(f"{prog} needs {' and '.join(needed)}", prog)
    return options(**given)


def _parser(**texts: str) -> argparse.ArgumentParser:
    """A parser without defaults and abbreviations; negative numbers in any notation are values, not options."""
    layout = functools.partial(argparse.RawDescriptionHelpFormatter, max_help_position=32)
    refusing = {"add_help": False, "allow_abbrev": False, "exit_on_error": False}
    parser = argparse.ArgumentParser(**texts, **refusing, formatter_class=layout, argument_default=argparse.SUPPRESS)
    parser._negative_number_matcher = re.compile(r"-\.?\d")  # argparse's own knows -1 and not -1e-3
    return parser


class _Once(argparse.Action):
    """Store the value of an option, and refuse a second one."""

    def __call__(self, parser, namespace, values, option_string=None):
        if hasattr(namespace, self.dest):
            raise argparse.ArgumentError(self, "was given more than once: give it once")
        setattr(namespace, self.dest, values)


def _add(parser, option: Option, *, pair: bool = False, help: str = "", action: Any = "store") -> None:
    """Declare an option; `pair`: a flag can also be given as --no-flag, as one that is on by default."""
    shared = {"help": help.replace("%", "%%")}
    if option.kind is bool:
        pair = pair or option.default is True  # the flag alone would change nothing
        parser.add_argument(option.flag, action=argparse.BooleanOptionalAction if pair else "store_true", **shared)
        return
    shared |= {"type": option.read, "metavar": option.metavar}
    if option.positional:
        parser.add_argument(option.name, nargs="*", **shared)  # counted after `--help`
    else:
        names = [option.arg.short] if option.arg and option.arg.short else []
        action = "append" if option.kind is dict else action
        parser.add_argument(*names, option.flag, dest=option.name, nargs=option.item[1], action=action, **shared)


def _read(
    declared: list[Option], words: list[str], prog: str, every: list[tuple[str, type]], action: Any
) -> dict[str, Any]:
    """The given values by the names of the fields."""
    parser = _parser()
    parser.add_argument(*HELP, action="store_true")
    parser.add_argument(VERSION, action="store_true")
    for option in declared:
        for part in option.parts:
            _add(parser, part, pair=part is not option, action=action)
    try:
        found, unknown = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        reason = re.sub("^expected (.*) argument", r"expects \1 value", error.message)
        reason = reason.replace("ignored explicit argument", "takes no value, got")
        raise _refusal(f"{error.argument_name} {reason}", prog) from None
    given = vars(found)
    for option in declared:
        for part in option.parts:
            if isinstance(value := given.get(part.name), list):
                if not value:  # argparse drops "--"
                    raise _refusal(f"{part if part.positional else part.flag} expects a value, got '--'", prog)
                if part.kind is dict:
                    names = [name for name, _ in value]
                    if twice := [name for name in names if names.count(name) > 1]:
                        raise _refusal(f"{part.flag} gives {twice[0]} more than once: give it once", prog)
                    given[part.name] = dict(value)
                    continue
                several = part.item[1] is not None
                given[part.name] = tuple(value) if several else value[0]
                unknown += [] if several else map(str, value[1:])
        if option.fields:
            given[option.name] = {part.name: given.pop(part.name) for part in option.parts if part.name in given}
    if unknown:
        raise _refusal(_unknown(unknown, declared, every), prog)
    return given


def _unknown(words: list[str], declared: list[Option], every: list[tuple[str, type]]) -> str:
    """The error for unknown words: a hint to the command with this option, or to a similar option."""
    flag = next((word.partition("=")[0] for word in words if word.startswith("-")), None)
    if flag is None:
        return f"{words[0]!r} is one word too many"
    if homes := [prog for prog, kind in every if flag in _flags(options_of(kind))]:
        return f"{flag} is no option here, but of {' and '.join(homes)}"
    initials = [each for each in _flags(declared) if "".join(re.findall(r"-(\w)", each)) == flag.lstrip("-")]
    near = initials or difflib.get_close_matches(flag, _flags(declared), 1)
    return f"{flag} is no option" + (f"; perhaps you meant {near[0]}" if near else "")


def _flags(declared: list[Option]) -> list[str]:
    return [part.flag for option in declared for part in option.parts]


def _leaves(options: "type | Commands", prog: str) -> Iterator[tuple[str, type]]:
    """Every command by its words, as in "rhn data get"."""
    if not isinstance(options, Commands):
        yield prog, options
        return
    for name, part in options.by_name.items():
        yield from _leaves(part, f"{prog} {name}")


def _commands_help(commands: Commands, prog: str) -> str:
    parser = _parser(usage=f"{prog} COMMAND [options]", description=_wrapped(commands.about))
    group = parser.add_argument_group("commands", f"{prog} COMMAND --help says more of each.")
    for name, kind in commands.by_name.items():
        about = kind.about if isinstance(kind, Commands) else inspect.getdoc(kind)
        group.add_argument(name, help=about.partition("\n")[0].replace("%", "%%"))
    return parser.format_help()


def _options_help(options: type, declared: list[Option], given: dict, prog: str) -> str:
    """The help of a command, with the values of the configuration of the given words."""
    words = [str(o) if o.required else f"[{o}]" for o in declared if o.required or o.positional]
    usage, docs = " ".join([prog, *words, "[options]"]), field_docs(options)
    parser = _parser(usage=usage, description=_wrapped(inspect.getdoc(options)))
    groups = {name: parser.add_argument_group(name) for name in dict.fromkeys(o.group for o in declared if o.group)}
    for option in declared:
        text = docs.get(option.name, "")
        if not option.fields:
            default = None if option.default is False else option.default
            _add(groups.get(option.group, parser), option, help=_with_default(text, default))
        elif (config := option.fields.shown(given)) is not None:
            group, texts = parser.add_argument_group("configuration", text), field_docs(type(config))
            lacking = option.fields.lacking(config)
            for part in (part for part in options_of(type(config)) if part.name not in lacking):
                help = _with_default(texts.get(part.name, ""), getattr(config, part.name))
                _add(group, part, pair=True, help=help)
    parser.add_argument(*HELP, action="store_true", help="Show this and exit.")
    parser.add_argument(VERSION, action="store_true", help="Print the version and exit.")
    return parser.format_help()


def _with_default(text: str, value) -> str:
    """An option's text and its default; without a default only the text."""
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


def _refusal(sentence: str, prog: str) -> InvalidInputError:
    return InvalidInputError(f"{sentence} (see {prog} --help)")


def _print_version(prog: str) -> None:
    _print_and_exit(f"{prog.partition(' ')[0]} {__version__}\n")


def _print_and_exit(text: str) -> None:
    print(text, end="")
    raise EarlyExit(0)
