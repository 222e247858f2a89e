"""Read command lines with cyclopts: a command is a dataclass, its fields are options, and their
docstrings are the help.
"""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from operator import methodcaller
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from cyclopts import App, CoercionError, CycloptsError, Group, Parameter
from cyclopts.validators import Number

from rhn.errors import InvalidInputError
from rhn.utils.validation import LARGEST_FLOAT
from rhn.version import __version__

FRACTION = re.compile(r"[+-]?\d*\.\d*(e[+-]?\d+)?|[+-]?\d+e-\d+", re.IGNORECASE)
Count = Annotated[int, Parameter(validator=Number(gte=1))]
Natural = Annotated[int, Parameter(validator=Number(gte=0))]
Positive = Annotated[float, Parameter(validator=Number(gt=0))]
NonNegative = Annotated[float, Parameter(validator=Number(gte=0, lte=LARGEST_FLOAT))]
Fraction = Annotated[float, Parameter(validator=Number(gte=0, lt=1))]
OnOff = Annotated[bool, Parameter(negative=None)]  # --name and --no-name
Device = Literal["auto", "cpu", "cuda"]


def command_line(name: str, help: str, **how: Any) -> App:
    """Return an empty command line. `app.command(dataclass, name="draw")` adds a command to it, and
    `app.command("package.module:Draw", name="draw")` one that is imported when it is needed.
    """
    usual = Parameter(
        negative=(), consume_multiple=1, allow_repeating=True, show_default=_shown_default
    )
    options = Group("options", sort_key=0)
    return App(
        name,
        help=help,
        help_format="plaintext",
        help_formatter="plain",
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
    if not {"--help", "-h"}.isdisjoint(words):
        list(map(app.__getitem__, app))  # imports all commands: the help has their first lines
    try:
        command = app(words, exit_on_error=False, print_error=False, verbose=False)
    except CycloptsError as error:
        place = " ".join((app.name[0], *(error.command_chain or ())))
        raise InvalidInputError(f"{error} (see {place} --help)") from None
    if command is not None:
        run(command)


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
