"""One sentence for each command line that cannot be read, from an error of cyclopts."""

from collections.abc import Iterator, Sequence
from typing import Any

from cyclopts import (
    Argument,
    CycloptsError,
    MissingArgumentError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from rhn.utils.validation import nearest

FEW = 5  # options in a message; the help has all


def sentence_of(error: CycloptsError, words: Sequence[str]) -> str:
    """Return the sentence for an error in these words of a command line."""
    match error:
        case UnknownOptionError():
            return _unknown_option(error)
        case UnusedCliTokensError():
            return _unused_words(error, words)
        case MissingArgumentError(argument=Argument() as argument):
            return _missing_values(error, argument)
        case _:
            return str(error)


def _name_of(argument: Any) -> str:
    """The name of an option, or of a positional argument in capitals as in the help."""
    name = argument.name
    return name if name.startswith("--") else name.lstrip("-").upper()


def _missing_values(error: MissingArgumentError, argument: Any) -> str:
    """The sentence for an option or a positional argument with fewer values than it has."""
    count, _ = argument.token_count()
    given = " ".join(error.tokens_so_far) or "missing"
    expected = "a value" if count == 1 else f"{count} values"
    return f"{error.keyword or _name_of(argument)} is {given}: expected {expected}"


def _unknown_option(error: UnknownOptionError) -> str:
    given = (error.token.keyword or error.token.value).partition("=")[0]
    names = [name for each in error.argument_collection if each.parse for name in each.names]
    options = [name for name in names if name.startswith("--")]
    return f"option is {given}: expected {', '.join(nearest(given, options)[:FEW])}"


def _unused_words(error: UnusedCliTokensError, words: Sequence[str]) -> str:
    """The sentence for words that no option takes: the further values of an option of one value, or
    positional arguments.
    """
    unused: Any = error.unused_tokens
    for option, values in options_in(words):
        if unused[0] in values[1:]:
            lists = getattr(error.target, "lists", {})
            expected = lists.get(option, "one value")
            return f"{option} is {' '.join(values)}: expected {expected}"
    return f"argument is {' '.join(unused)}: expected an option"


def options_in(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each option of a command line with the words behind it.

    >>> list(options_in(["plot", "--depth=1", "5", "--json"]))
    [('--depth', ['1', '5']), ('--json', [])]
    """
    found: list[tuple[str, list[str]]] = []
    for word in words:
        option, equals, value = word.partition("=")
        if option.startswith("--"):
            found.append((option, [value] if equals else []))
        elif found:
            found[-1][1].append(word)
    yield from found
