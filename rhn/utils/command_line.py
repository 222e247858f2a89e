"""Read command lines with cyclopts: a command is a dataclass, its fields are options, and their
docstrings are the help.
"""

import json
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import Signature, signature
from operator import methodcaller
from pathlib import Path
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypedDict,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from cyclopts import App, CoercionError, CycloptsError, Group, Parameter
from cyclopts.validators import Number
from docstring_parser import parse_from_object

from rhn.errors import InvalidInputError
from rhn.utils.command_errors import sentence_of
from rhn.utils.command_help import TwoColumns
from rhn.utils.figures import command as command_text
from rhn.utils.validation import Range
from rhn.version import __version__

Device = Literal["auto", "cpu", "cuda"]
PAIRS = "cell_options", "set"  # options NAME=VALUE


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
        help_formatter=TwoColumns(),
        version=f"{name} {__version__}",
        default_parameter=usual,
        group_arguments=options,
        group_parameters=options,
        config=_check_words,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def command_class(kind: type) -> type:
    """Make a class the dataclass of a command: fields that are not keyword-only have no option."""
    made: Any = dataclass(frozen=True, kw_only=True)(kind)
    hints = get_type_hints(made, include_extras=True)
    made.__annotations__ = {name: _with_validators(hint) for name, hint in hints.items()}
    _, *fields = signature(made.__init__).parameters.values()
    kinds = [f.kind if f.kind is f.KEYWORD_ONLY else f.POSITIONAL_ONLY for f in fields]
    made.__signature__ = Signature([f.replace(kind=k) for f, k in zip(fields, kinds, strict=True)])
    return made


def field_options(names: Sequence[str], *configs: type) -> Any:
    """Return the type of a dictionary: these fields of configurations as options, with their
    docstrings, and --set for every field. `read_fields` reads it.
    """
    about = {p.arg_name: p.description for kind in configs for p in parse_from_object(kind).params}
    types = {k: v for kind in configs for k, v in get_type_hints(kind, include_extras=True).items()}
    pairs = Annotated[tuple[str, ...], Parameter(metavar="NAME=VALUE", consume_multiple=False)]
    types |= {"cell_options": Annotated[pairs, Parameter(name="--cell-option")], "set": pairs}
    about["set"] = "Any field of the configuration, such as seed=1; VALUE is JSON or else a text."
    hints = {
        k: Annotated[_with_validators(types[k]), Parameter(help=about.get(k))]
        for k in (*names, "set")
    }
    group = Group("configuration")
    return Annotated[TypedDict("Fields", hints, total=False), Parameter(name="*", group=group)]  # type: ignore[operator]


def _with_validators(hint: Any) -> Any:
    """Return a type in which each `Range` is a validator of cyclopts."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        kind, *about = parts
        others = [_validator(each) if isinstance(each, Range) else each for each in about]
        return Annotated[_with_validators(kind), *others]
    if origin in (Union, UnionType):
        return Union[*map(_with_validators, parts)]
    if origin is tuple:
        return tuple[*map(_with_validators, parts)]  # type: ignore[misc]  # computed
    return hint


def _validator(limits: Range) -> Parameter:
    least, above, below, most = limits
    return Parameter(validator=Number(gte=least, gt=above, lt=below, lte=most))


def read_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that options give; --set replaces the option of a field.

    >>> read_fields({"depth": 2, "set": ("seed=1", "cell=gru")})
    {'depth': 2, 'seed': 1, 'cell': 'gru'}
    """
    options, fields = (dict(w.partition("=")[::2] for w in given.get(k, ())) for k in PAIRS)
    options = {name.replace("-", "_"): value for name, value in options.items()}
    named = {"cell_options": options} if options else {}
    changes = {name: value for name, value in given.items() if name not in PAIRS}
    return changes | named | {name: _json_or_text(value) for name, value in fields.items()}


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def run_read(
    app: App, args: Sequence[str] | None, run: Callable[[Any], int | None] = methodcaller("run")
) -> int | None:
    """Read arguments (None: those of this process) into the dataclass of the command that they
    name, and run it; no arguments print the help. Returns its exit code; None for 0. Raises
    InvalidInputError.
    """
    words = list(map(str, sys.argv[1:] if args is None else args))
    if words[:1] in ([], ["--help"], ["-h"]):
        list(map(app.__getitem__, app))  # imports all commands: the help has their first lines
    try:
        command = app(words, exit_on_error=False, print_error=False, verbose=False)
    except CycloptsError as error:
        place = " ".join((app.name[0], *(error.command_chain or ())))
        raise InvalidInputError(f"{sentence_of(error, words)} (see {place} --help)") from None
    if command is None:
        return None
    token = command_text.set(shlex.join((app.name[0], *words)))
    try:
        return run(command)
    finally:
        command_text.reset(token)


def _shown_default(value: Any) -> str | None:
    """Return a default for the help; None for a flag that is off and for an empty value."""
    if value is None or value is False or value in ("", (), {}):
        return None
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check_words(app: App, names: Sequence[str], arguments: Iterable[Any]) -> None:
    """Refuse 1.5 and 10**20 for a whole number, and an empty path."""
    for argument in arguments:
        types = _types_in(argument.hint)
        for token in argument.tokens:
            empty = Path in types and not token.value
            if empty or (int in types and ("." in token.value or len(token.value) > 18)):
                kind = Path if empty else int
                raise CoercionError(token=token, argument=argument, target_type=kind)


def _types_in(hint: Any) -> set:
    """Return the types in an annotation: int and str are in tuple[int, ...] | str."""
    return {hint}.union(*map(_types_in, get_args(hint)))
