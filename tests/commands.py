"""The commands, and whether their help knows the options of a line."""

import contextlib
import importlib
import importlib.util
import io
import re
import shlex
from functools import cache

MAINS = {
    "rhn": "rhn.cli.main",
    "gersgorin": "gersgorin.cli.commands",
    "gersgorin-plot": "gersgorin.cli.commands",
    "trainability": "trainability.cli",
    "rhn-analyze": "analysis.cli",
    "optim-study": "optim_study.cli",
}
SUBCOMMANDS = ("gersgorin", "trainability", "rhn", "rhn-analyze", "optim-study")


@cache
def help_of(*words: str) -> str:
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        try:
            code = importlib.import_module(MAINS[words[0]]).main([*words[1:], "--help"])
        except SystemExit as end:
            code = end.code
    assert not code, words
    return text.getvalue()


def commands_in(*words: str) -> list[tuple[str, ...]]:
    """The subcommands that the help of a command lists, with its own words."""
    _, _, listed = help_of(*words).partition("\nCommands:\n")
    return [(*words, name) for name in re.findall(r"^  ([a-z][a-z-]+) ", listed, re.MULTILINE)]


@cache
def all_commands() -> list[tuple[str, ...]]:
    """All commands and subcommands, each as words."""
    calls = [call for name in SUBCOMMANDS for call in [(name,), *commands_in(name)]]
    return [*calls, *commands_in("rhn", "data")]


def complaint(line: str) -> str | None:
    """The fault of a shown command line: a subcommand or an option that its help does not
    know; None for other programs.
    """
    command, *rest = shlex.split(line)
    if command == "gersgorin-plot":
        command, rest = "gersgorin", ["plot", *rest]
    if command == "python" and rest[0] == "-m":
        return None if importlib.util.find_spec(rest[1]) else f"there is no module {rest[1]}"
    if command not in MAINS:
        return None
    words = [command]
    if command in SUBCOMMANDS and rest and not rest[0].startswith("-"):
        if not re.search(rf"^ +{re.escape(rest[0])}\b", help_of(command), re.MULTILINE):
            return f"{command} has no {rest[0]}"
        words.append(rest.pop(0))
    if words in (["rhn", "train"], ["rhn", "data"]) and rest and not rest[0].startswith("-"):
        words.append(rest[0])
    if words == ["optim-study", "run"] and "--preset" in rest:
        words += ["--preset", rest[rest.index("--preset") + 1]]
    options = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
    unknown = {
        option
        for option in options
        if not re.search(rf"(?<![\w-]){option}(?![\w-])", help_of(*words))
    }
    return f"{' '.join(words)} has no {', '.join(sorted(unknown))}" if unknown else None
