"""Check the keywords of public functions, and their values by their annotations.

`typed` checks the values of a function's own keywords. `keywords_of` adds the keywords that a
public function passes on to another function to the signature of the public function. Any other
keyword is refused, with a message that has the nearest known keyword.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

from rhn.errors import InvalidInputError
from rhn.utils.old import nearest
from rhn.utils.validation import COLLECTIONS, expected, fits, in_short, kinds_of

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


def check_keywords(name: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise InvalidInputError for the first of the `given` keywords that is not `known`. `name` is
    the function's name, for the message.

    >>> check_keywords("spectra", ["hidden"], ["depth", "hidden_size"])
    Traceback (most recent call last):
    rhn.errors.InvalidInputError: spectra() has no argument 'hidden': did you mean hidden_size?
    """
    known = list(known)
    unknown = next((word for word in given if word not in known), None)
    if unknown is None:
        return
    near = nearest(unknown, known)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
    raise InvalidInputError(f"{name}() has no argument {unknown!r}: {hint}")


def keywords(function: Callable[..., Any]) -> list[str]:
    """Return the names of a function's keyword-only parameters."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]


def typed(function: AnyFunction) -> AnyFunction:
    """Decorate a function so that it refuses values of its keywords that do not have the annotated
    types: texts, flags, functions, and collections of texts. Numbers and arrays are left to the
    function, because they have ranges and shapes too.

    >>> @typed
    ... def draw(step: int, *, unit: str = "steps"):
    ...     return f"{step} {unit}"
    >>> draw(3, unit=4)
    Traceback (most recent call last):
    rhn.errors.InvalidInputError: unit is 4: expected a text
    """
    types = _types_of(inspect.signature(function).parameters.values())

    @functools.wraps(function)
    def checked(*args: Any, **options: Any) -> Any:
        __tracebackhide__ = True  # pytest shows the lines of the caller only
        _check_types(options, types)
        return function(*args, **options)

    return cast(AnyFunction, checked)


def _types_of(parameters: Iterable[inspect.Parameter]) -> dict[str, Any]:
    """Return the annotations of keyword-only parameters, by name, that `_check_types` can check."""
    hints = {p.name: p.annotation for p in parameters if p.kind is p.KEYWORD_ONLY}
    return {name: hint for name, hint in hints.items() if all(map(_is_checked, kinds_of(hint)))}


def _is_checked(kind: Any) -> bool:
    if get_origin(kind) in COLLECTIONS:
        return get_args(kind) == (str,)
    return kind in (str, bool, Path, NoneType) or get_origin(kind) in (Literal, Callable)


def _check_types(given: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """Raise InvalidInputError for the first given value that does not have its type."""
    for name, value in given.items():
        if name in types and not fits(value, types[name]):
            kind = expected(types[name])
            raise InvalidInputError(f"{name} is {in_short(value)}: expected {kind}")


def keywords_of(
    target: Callable[..., Any], without: tuple[str, ...] = ()
) -> Callable[[AnyFunction], AnyFunction]:
    """Return a decorator for a function that passes **options to a target. In the function's
    signature the target's keywords replace **options, and other keywords are refused. Values are
    checked as by `typed`.

    target: a function or a class. without: keywords of the target that the function itself passes.
    """

    def decorate(function: AnyFunction) -> AnyFunction:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        taken = {p.name for p in own} | {*without}
        more = [
            p.replace(kind=p.KEYWORD_ONLY)
            for p in inspect.signature(target).parameters.values()
            if p.name not in taken and p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        known = [p.name for p in (*own, *more)]
        types = _types_of((*own, *more))

        @functools.wraps(function)
        def checked(*args: Any, **options: Any) -> Any:
            __tracebackhide__ = True  # pytest shows the lines of the caller only
            check_keywords(function.__name__, options, known)
            _check_types(options, types)
            return function(*args, **options)

        vars(checked)["__signature__"] = signature.replace(parameters=[*own, *more])
        return cast(AnyFunction, checked)

    return decorate
