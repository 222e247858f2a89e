"""Commands are dataclasses that cyclopts reads: fields are options, with their docstrings as help.

`command_line` makes an `App` with our defaults; `app.command(Draw, name="draw")` adds a command.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, make_dataclass
from functools import partial
from operator import methodcaller
from typing import Annotated, Any, Literal, TypedDict, get_args, get_origin, get_type_hints

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    Group,
    Parameter,
    UnknownOptionError,
    UnusedCliTokensError,
    ValidationError,
)
from cyclopts.help import DefaultFormatter, PanelSpec

from rhn.errors import InvalidInputError
from rhn.utils.io import remember_command
from rhn.utils.validation import expected
from rhn.utils.wording import nearest
from rhn.version import __version__

FRACTION = re.compile(r"[+-]?\d*\.\d*(e[+-]?\d+)?|[+-]?\d+e-\d+", re.IGNORECASE)
USUAL_FLAGS = {"--help", "--version"}
"""Options of every command, which its help leaves out."""


@dataclass(frozen=True, kw_only=True)
class Configured:
    """A command whose further options are the fields of a configuration (`settings_type`), with
    defaults that follow from its own options, so that it prints its help itself (`print_help`).
    """

    help: Annotated[bool, Parameter(name=("--help", "-h"))] = False
    """Display this message and exit."""


def settings_type(*configs: type) -> Any:
    """The type of a dictionary of the fields of configurations that are given as options."""
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
    """An empty command line: `app.command(dataclass, name="draw")` adds to it."""
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
        config=_require_whole_numbers,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        **how,
    )


def single(name: str, command: type, **how: Any) -> App:
    """The command line of one command, without a word for it."""
    app = command_line(name, command.__doc__ or "", **how)
    app.default(command)
    return app


def read(app: App, args: Sequence[str] | None) -> Any:
    """The dataclass of the command that the words name; None after `--help` and `--version`.

    args: the words, or None for those of this process.

    Raises InvalidInputError with one sentence for words that cannot be read.
    """
    words = list(map(str, sys.argv[1:] if args is None else args))
    remember_command(app.name[0], words)
    if not words and app.default_command is None:
        names = ", ".join(name for name in app if not name.startswith("-"))
        raise InvalidInputError(f"a command is missing, expected one of {names}")
    try:
        return app(words, exit_on_error=False, print_error=False, verbose=False)
    except CycloptsError as error:
        place = " ".join((app.name[0], *(error.command_chain or ())))
        raise InvalidInputError(f"{_sentence(error)} (see {place} --help)") from None


def _sentence(error: CycloptsError) -> str:
    """The message of an error as one sentence."""
    option = error.argument
    if isinstance(error, UnknownOptionError):
        return _cells_option(error) or _unknown_option(error)
    if isinstance(error, UnusedCliTokensError):
        words = " ".join(error.unused_tokens or ())
        return f"{words}: expected nothing here, or the name of an option before it"
    if isinstance(error, ValidationError) and option:
        return f"{option.name} is {option.value}, {error.exception_message}"
    if isinstance(error, CoercionError) and option and error.token and error.msg is None:
        kind = error.target_type
        if get_origin(kind) is not Literal:  # cyclopts suggests the nearest word
            name = error.token.keyword or option.name
            return f"{name}: expected {expected(kind)}, got {error.token.value!r:.60}"
    return re.sub(r"\. (\w)", lambda found: f"; {found[1].lower()}", str(error)).rstrip(".")


def _unknown_option(error: UnknownOptionError) -> str:
    """The sentence for an unknown option, with the nearest one."""
    word = _word(error)[0]
    near = nearest(word, (name for a in error.argument_collection if a.parse for name in a.names))
    return f"Unknown option: {word}" + (f"; did you mean {near[0]}?" if near else "")


def _word(error: UnknownOptionError) -> tuple[str, str]:
    """An unknown option, and its value if it has one."""
    word, _, value = (error.token.keyword or error.token.value).partition("=")
    return word, value


def _cells_option(error: UnknownOptionError) -> str | None:
    """The sentence for an option of cells that was given as one of the command: --skip last."""
    word, value = _word(error)
    if not any("--cell-option" in argument.names for argument in error.argument_collection):
        return None
    from rhn.cells.registry import CELLS, cell_options  # here, because it loads torch

    known = {option.name for cell in CELLS for option in cell_options(cell)}
    name = word.removeprefix("--").replace("-", "_")
    if (positive := name.removeprefix("no_")) in known:
        value = value or ("false" if positive != name else "VALUE")
        return f"{word}: options of a cell are given as --cell-option {positive}={value}"
    return None


def run_read(
    app: App, args: Sequence[str] | None, run: Callable[[Any], None] = methodcaller("run")
) -> None:
    """Read the words, and run the command that they name."""
    if (command := read(app, args)) is not None:
        run(command)


def print_help(name: str, command: type, config: Any) -> None:
    """Print the help of a `Configured` command, with the fields of a configuration and their values
    in it as defaults; config: None for a command that has none yet.
    """
    shown = command if config is None else _with_fields(command, config)
    single(name, shown, help_flags=(), version_flags=()).help_print([])


def _with_fields(command: type, config: Any) -> type:
    """A command with the fields of a configuration as further options."""
    group, kind = Parameter(group=Group("configuration", sort_key=5)), type(config)
    own: list = [("settings", Annotated[dict, Parameter(parse=False)], field(default_factory=dict))]
    for name, hint in get_type_hints(kind, include_extras=True).items():
        default = field(default_factory=partial(getattr, config, name))
        own.append((name, Annotated[hint, group], default))
    space = {"__module__": command.__module__, "__doc__": command.__doc__}
    bases = (command, kind)
    return make_dataclass("Shown", own, bases=bases, namespace=space, frozen=True, kw_only=True)


class _Plain(DefaultFormatter):
    """Print texts folded to the width of the terminal, and options as tables without lines; leave
    out --help and --version.
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
    """A default in the help; none for what is off or empty."""
    if value is None or value is False or value in ("", (), {}):
        return None
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _require_whole_numbers(app: App, names: Sequence[str], arguments: Iterable[Any]) -> None:
    """Refuse 1.5 for a whole number, which cyclopts would round."""
    for argument in arguments:
        whole = int in _types_in(argument.hint)
        for token in argument.tokens:
            if whole and FRACTION.fullmatch(token.value):
                raise CoercionError(token=token, argument=argument, target_type=int)


def _types_in(hint: Any) -> set:
    """The types of an annotation: {int, str} of tuple[int, ...] | str."""
    return {hint}.union(*map(_types_in, get_args(hint)))
