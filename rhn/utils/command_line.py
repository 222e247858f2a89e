"""Read command lines with cyclopts: a command is a dataclass, its fields are options, and their
docstrings are the help.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from operator import methodcaller
from pathlib import Path
from typing import Any, get_args

from cyclopts import App, CoercionError, CycloptsError, Group, Parameter
from cyclopts.help import DefaultFormatter, PanelSpec

from rhn.errors import InvalidInputError
from rhn.version import __version__

FRACTION = re.compile(r"[+-]?\d*\.\d*(e[+-]?\d+)?|[+-]?\d+e-\d+", re.IGNORECASE)
USUAL_FLAGS = {"--help", "--version"}  # of every command, left out of its help


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


def run_read(
    app: App, args: Sequence[str] | None, run: Callable[[Any], None] = methodcaller("run")
) -> None:
    """Read arguments (None: those of this process) into the dataclass of the command that they
    name, and run it. Raises InvalidInputError, with the message of cyclopts.
    """
    words = list(map(str, sys.argv[1:] if args is None else args))
    if not words and app.default_command is None:
        known = ", ".join(name for name in app if not name.startswith("-"))
        raise InvalidInputError(f"a command is missing, expected one of {known}")
    try:
        command = app(words, exit_on_error=False, print_error=False, verbose=False)
    except CycloptsError as error:
        place = " ".join((app.name[0], *(error.command_chain or ())))
        raise InvalidInputError(f"{error} (see {place} --help)") from None
    if command is not None:
        run(command)


class _Plain(DefaultFormatter):
    """Fold texts to the width of the terminal, and show options as tables without lines."""

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
        for paragraph in inspect.cleandoc(str(description.primary_renderable)).split("\n\n"):
            example = "\n  " in paragraph
            text = paragraph if example else " ".join(paragraph.split())
            console.print(text, end="\n\n", markup=False, highlight=False)


def _shown_default(value: Any) -> str | None:
    """Return a default for the help; None for a flag that is off and for an empty value."""
    if value is None or value is False or value in ("", (), {}):
        return None
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check_words(app: App, names: Sequence[str], arguments: Iterable[Any]) -> None:
    """Refuse 1.5 for a whole number, which cyclopts would round, and an empty path."""
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
