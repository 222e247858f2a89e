"""Write the help of a command in two aligned columns: names of options, and what they mean. Each
text is wrapped once, at the width of the terminal; the lines of an example stay whole.
"""

import io
import re
import shutil
import textwrap
from collections.abc import Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

NAMES = 28  # characters of the column of names
NARROWEST = 20  # characters of the column of texts
INDENT = 2  # of the lines of a panel
WIDEST = 1_000_000  # of a line that nothing wraps
# an option of several values would take the words behind it
OPTIONS_FIRST = re.compile(r"\[OPTIONS\] (\[ARGS\]|[A-Z]+)$")
WITHIN_TEXT = re.compile(r"(?<=\S)\n(?=\S)")  # a line break that is no new paragraph or example


class TwoColumns:
    """A help formatter of cyclopts."""

    def __call__(self, console: "Console", options: Any, panel: Any) -> None:
        """Print the options of a panel, or the commands."""
        if not panel.entries:
            return
        lines, width = [f"{panel.title}:"], terminal_width()
        for entry in panel.entries:
            name = ", ".join(entry.display_labels_with_metavar)
            lines += two_columns(name, text_of_entry(entry), width)
        _print_lines(console, [*lines, ""])

    def render_usage(self, console: "Console", options: Any, usage: Any) -> None:
        """Print the line of usage, with positional arguments before the options."""
        line = OPTIONS_FIRST.sub(r"\1 [OPTIONS]", plain_text(usage))
        _print_lines(console, [*wrapped_paragraphs(f"Usage: {line}", terminal_width()), ""])

    def render_description(self, console: "Console", options: Any, description: Any) -> None:
        """Print the description of a command."""
        text = plain_text(description)
        if text:
            _print_lines(console, [*wrapped_paragraphs(text, terminal_width()), ""])


def terminal_width() -> int:
    """Return the characters of a line: of COLUMNS, else of the terminal; 80 in a pipe."""
    return shutil.get_terminal_size().columns


def plain_text(content: Any) -> str:
    """Return the text of a renderable of rich, with the line breaks that it was written with."""
    from rich.console import Console  # most commands print no help

    console = Console(file=io.StringIO(), width=WIDEST, color_system=None)
    with console.capture() as capture:
        console.print(content, end="", markup=False, highlight=False, emoji=False)
    return capture.get().rstrip()


def text_of_entry(entry: Any) -> str:
    """Return the text of an option or command, with its choices and its default."""
    parts = [" ".join(plain_text(entry.description).split())]
    if entry.choices:
        parts.append(f"[choices: {', '.join(entry.choices)}]")
    if entry.default is not None:
        parts.append(f"[default: {entry.default}]")
    if entry.required:
        parts.append("[required]")
    return " ".join(part for part in parts if part)


def two_columns(name: str, text: str, width: int) -> Iterator[str]:
    """Yield the lines of an option, at most `width` wide.

    >>> print(*two_columns("--depth INT", "Layers within one time step.", 48), sep="\\n")
      --depth INT                 Layers within one
                                  time step.
    """
    names = textwrap.wrap(name, NAMES - INDENT, break_on_hyphens=False)
    rest = max(width - NAMES - INDENT, NARROWEST)
    texts = textwrap.wrap(text, rest, break_on_hyphens=False)
    for left, right in zip_longest(names, texts, fillvalue=""):
        yield f"{'':{INDENT}}{left:{NAMES}}{right}".rstrip()


def wrapped_paragraphs(text: str, width: int) -> Iterator[str]:
    """Yield the lines of paragraphs; indented lines are examples, and stay whole."""
    for line in WITHIN_TEXT.sub(" ", text).splitlines():
        is_example = line.startswith(" ")
        yield from [line] if is_example or not line else textwrap.wrap(line, width)


def _print_lines(console: "Console", lines: list[str]) -> None:
    """Print lines as they are: `soft_wrap` leaves them whole."""
    for line in lines:
        console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)
