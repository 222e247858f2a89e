"""List the keywords that a public function passes on in its signature, and refuse any other with
the nearest right one.
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
    """Raise InvalidInputError for the first given keyword of a function that is not known.

    removed: keywords of earlier versions, and what to write in their place.

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
    """The names of the parameters of a function that only a keyword gives."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]


def keywords_of(
    target: Callable[..., Any],
    without: tuple[str, ...] = (),
    removed: Mapping[str, str] = MappingProxyType({}),
) -> Callable[[AnyFunction], AnyFunction]:
    """Decorate a function that passes **options to a target: its signature lists the target's
    keywords in their place, and others are refused.

    target: a function or a class. without: its keywords that the function gives by itself. removed:
    see `check_keywords`.
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
            check_keywords(function.__name__, options, known, removed)
            return function(*args, **options)

        vars(checked)["__signature__"] = signature.replace(parameters=[*own, *more])
        return cast(AnyFunction, checked)

    return decorate
