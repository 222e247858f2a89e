"""Add the keywords that a public function passes on to another function to the signature of the
public function. Any other keyword is refused, with a message that has the nearest known keyword.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar, cast

from rhn.errors import InvalidInputError
from rhn.utils.wording import nearest

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


def check_keywords(
    name: str,
    given: Iterable[str],
    known: Iterable[str],
    removed: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Raise InvalidInputError for the first of the `given` keywords that is not `known`. `name` is
    the function's name, for the message.

    removed: keywords of earlier versions, and what to write instead.

    >>> check_keywords("spectra", ["hidden"], ["depth", "hidden_size"])
    Traceback (most recent call last):
    rhn.errors.InvalidInputError: spectra() has no argument 'hidden': did you mean hidden_size?
    """
    known = list(known)
    unknown = next((word for word in given if word not in known), None)
    if unknown is None:
        return
    if unknown in removed:
        raise InvalidInputError(f"{name}() takes no {unknown}: {removed[unknown]}")
    near = nearest(unknown, known)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
    raise InvalidInputError(f"{name}() has no argument {unknown!r}: {hint}")


def keywords(function: Callable[..., Any]) -> list[str]:
    """Return the names of a function's keyword-only parameters."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]


def keywords_of(
    target: Callable[..., Any],
    without: tuple[str, ...] = (),
    removed: Mapping[str, str] = MappingProxyType({}),
) -> Callable[[AnyFunction], AnyFunction]:
    """Return a decorator for a function that passes **options to a target. In the function's
    signature the target's keywords replace **options, and other keywords are refused.

    target: a function or a class. without: keywords of the target that the function itself passes.
    removed: see `check_keywords`.
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

        @functools.wraps(function)
        def checked(*args: Any, **options: Any) -> Any:
            __tracebackhide__ = True  # pytest shows the lines of the caller only
            check_keywords(function.__name__, options, known, removed)
            return function(*args, **options)

        vars(checked)["__signature__"] = signature.replace(parameters=[*own, *more])
        return cast(AnyFunction, checked)

    return decorate
