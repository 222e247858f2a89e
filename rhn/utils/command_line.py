"""Read command lines with cyclopts: a command is a dataclass, its fields are options, and their
docstrings are the help.

`command_line` makes an `App` with our defaults; `app.command(Draw, name="draw")` adds a command.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, make_dataclass
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict, get_args, get_origin, get_type_hints

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
from cyclopts.help import DefaultFormatter, PanelSpec

from rhn.errors import InvalidInputError
from rhn.utils.old import nearest
from rhn.utils.validation import expected
from rhn.version import __version__

FRACTION = re.compile(r"[+-]?\d*\.\d*(e[+-]?\d+)?|[+-]?\d+e-\d+", re.IGNORECASE)
USUAL_FLAGS = {"--help", "--version"}
"""Options of every command, which are left out of its help."""


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


def command_line(name: str, help: str, **how: Any) -> App:
    """Return an empty command line. `app.command(dataclass, name="draw")` adds a command to it."""
    usual = Parameter(
        negative=(), consume_multiple=1, allow_repeating=True, show_default=_shown_default
    )
    options = Group("options", sort_key=0)
    return App(
        name,
        help=help,
        help_format="plaintext",
        help_formatter=_Plain(),
        version=f"{name} {__version__}",
        default_parameter=usual,
        group_arguments=options,
        group_parameters=options,
        config=_check_words,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        **how,
    )


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


def _commands(app: App) -> list[str]:
    """Return the names of the commands of a command line."""
    return [name for name in app if not name.startswith("-")]


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


class _Plain(DefaultFormatter):
    """A formatter of help: texts are folded to the width of the terminal, options are tables
    without lines, and --help and --version are left out.
    """

    def __call__(self, console: Any, options: Any, panel: Any) -> None:
        from rich.box import Box
        from rich.text import Text

        self.panel_spec = PanelSpec(box=Box("    \n" * 8), padding=0)
        panel.entries = [e for e in panel.entries if not USUAL_FLAGS.intersection(e.names)]
        if not panel.entries:
            return
        for entry in panel.entries:
            text = str(entry.description.primary_renderable)
            entry.description.primary_renderable = Text(" ".join(text.split()))
        super().__call__(console, options, panel)

    def render_description(self, console: Any, options: Any, description: Any) -> None:
        paragraphs = inspect.cleandoc(str(description.primary_renderable)).split("\n\n")
        for paragraph in paragraphs:
            example = "\n  " in paragraph
            console.print(
                paragraph if example else " ".join(paragraph.split()),
                end="\n\n",
                markup=False,
                highlight=False,
            )


def _shown_default(value: Any) -> str | None:
    """Return the text of a default for the help; None for a flag that is off and for an empty
    value.
    """
    if value is None or value is False or value in ("", (), {}):
        return None
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check_words(app: App, names: Sequence[str], arguments: Iterable[Any]) -> None:
    """Raise CoercionError for words that cyclopts would read as something else: a number such as
    1.5 would be rounded to a whole number, and an empty path would be the current folder.
    """
    for argument in arguments:
        types = _types_in(argument.hint)
        for token in argument.tokens:
            empty = Path in types and not token.value
            if empty or (int in types and FRACTION.fullmatch(token.value)):
                kind = Path if empty else int
                raise CoercionError(token=token, argument=argument, target_type=kind)


def _types_in(hint: Any) -> set:
    """Return the types in an annotation: int and str are in tuple[int, ...] | str."""
    return {hint}.union(*map(_types_in, get_args(hint)))
