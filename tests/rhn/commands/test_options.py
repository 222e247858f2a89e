"""The options of all commands."""

import re

from helps import SUBCOMMANDS, help_of

MOST = 75


def commands_in(*words: str) -> list[tuple[str, ...]]:
    """The subcommands that the help of a command lists, with its own words."""
    _, _, listed = help_of(*words).partition("\nCommands:\n")
    return [(*words, name) for name in re.findall(r"^  ([a-z][a-z-]+): ", listed, re.MULTILINE)]


def test_all_commands_together_have_few_different_options():
    calls = [call for name in SUBCOMMANDS for call in [(name,), *commands_in(name)]]
    calls += commands_in("rhn", "data")
    names = {name for call in calls for name in re.findall(r"--[a-z][a-z0-9-]*", help_of(*call))}
    assert len(calls) == 36 and len(names) <= MOST, (calls, sorted(names))
