"""The commands `check FILE.py:NAME`, `cure FILE.py:NAME` and `watch SCRIPT.py ARGS...`.

NAME in FILE.py is a dictionary with the arguments of `check` or `cure`, or a function without
arguments that returns one: model, x, y, loss_fn, optimizer, and others. SCRIPT.py is any script.
"""

import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from inspect import Parameter as Argument
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from rhn.cli.entry import run_command
from rhn.errors import InvalidInputError, first_line
from rhn.utils.command_line import command_class, command_line, run_read
from rhn.utils.figures import FIGURE_SUFFIXES, save_figure
from rhn.utils.io import SUFFIXES, check_output, check_result
from rhn.utils.results import Result
from rhn.utils.validation import Range, in_short, signature_of, unknown_name


@command_class
class CheckCommand:
    """Measure facts of a training run, and train it with one part changed at a time.

    examples:
      trainability check train.py:parts
      trainability check train.py:make --steps 2000 --output check.json
    """

    training: str = field(kw_only=False)
    """FILE.py:NAME: a dictionary with model, x, y, loss_fn, optimizer, or its function."""
    steps: int | None = None
    """Optimiser steps (default: those of FILE.py:NAME, or 1000)."""
    seed: int | None = None
    """First of three seeds (default: that of FILE.py:NAME, or 0)."""
    whole: bool = False
    """Print all rows of the table."""
    csv: Path | None = None
    """File for the whole table (.csv)."""
    output: tuple[Path, ...] = ()
    """Files for all numbers (.json, .npz)."""


@command_class
class CureCommand(CheckCommand):
    """Find initial weights and a learning rate with which a training run learns.

    examples:
      trainability cure train.py:parts
    """


@command_class
class WatchCommand:
    """Run a script as it stands, and print the facts of its training loop. Options of this command
    stand before SCRIPT; all words after SCRIPT are arguments of the script.

    examples:
      trainability watch train.py --epochs 1
      trainability watch --passes 100 --output watch.json train.py
      trainability watch -m package.train --epochs 1
    """

    script: str = field(kw_only=False)
    """Script to run, or the name of a module after -m."""
    args: tuple[str, ...] = field(default=(), kw_only=False)
    """Arguments of the script."""
    module: Annotated[bool, Parameter(name="-m")] = False
    """Run a module, as `python -m` does."""
    passes: Annotated[int, Range(least=1)] | None = None
    """Backward passes after which the script ends (default: it ends by itself)."""
    whole: bool = False
    """Print all rows of the table."""
    csv: Path | None = None
    """File for the whole table (.csv)."""
    output: Annotated[tuple[Path, ...], Parameter(consume_multiple=False)] = ()
    """File for the figure (.png, .svg, .pdf) or all numbers (.json, .npz); repeat it for more."""


OF_CHECK = "losses", "seconds"  # arguments that `cure` has not
COMMANDS = command_line("trainability", "Why does a network not learn, and what makes it learn?")
COMMANDS.command(CheckCommand, name="check")
COMMANDS.command(CureCommand, name="cure")
COMMANDS.command(WatchCommand, name="watch")
FLAGS = "-m", "--whole", "-h", "--help", "--version"
"""Options without a value."""


def arguments_in(word: str) -> dict[str, Any]:
    """Return the arguments in FILE.py:NAME. Raises InvalidInputError."""
    file, _, name = word.rpartition(":")
    if not Path(file).is_file() or not name.isidentifier():
        raise InvalidInputError(
            f"the training is {word}: expected FILE.py:NAME of a file that exists"
        )
    folder = str(Path(file).absolute().parent)
    # as of `python FILE.py`; it stays, for a model that imports when it runs
    sys.path[:] = [folder, *(place for place in sys.path if place != folder)]
    try:
        value = runpy.run_path(file, run_name=Path(file).stem).get(name)
        value = value() if callable(value) else value
    except (SyntaxError, TypeError) as error:  # may have no frame of the user's file
        raise InvalidInputError(f"{word} cannot be read: {first_line(error)}") from error
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"{name} is {in_short(value)}: expected a dictionary")
    return dict(value)


def check_names(word: str, parts: Mapping[str, Any], known: Mapping[str, Argument]) -> None:
    """Refuse an argument that does not exist, and a missing one. word: where the arguments are."""
    for name in parts:
        if name not in known:
            raise unknown_name(f"argument in {word}", str(name), known)
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in parts:
            raise InvalidInputError(f"{name} is missing in {word}: expected a value")


def with_end_of_options(words: Sequence[str]) -> list[str]:
    """Return the words of a command line with -- before the script of `watch`: words after the
    script are no options of ours.

    >>> with_end_of_options(["watch", "--passes", "9", "train.py", "--lr", "1"])
    ['watch', '--passes', '9', '--', 'train.py', '--lr', '1']
    """
    if list(words[:1]) != ["watch"]:
        return list(words)
    place = 1
    while place < len(words) and words[place].startswith("-"):
        has_value_behind = words[place] not in FLAGS and "=" not in words[place]
        place += 2 if has_value_behind else 1
    has_script = place < len(words)
    return [*words[:place], "--", *words[place:]] if has_script else list(words)


def run(options: Any) -> int | None:
    """Run a command, and print and write the result. Returns the exit code; None for 0."""
    if isinstance(options, WatchCommand):
        return run_watch(options)
    run_check(options)
    return None


def run_watch(options: WatchCommand) -> int:
    """Watch a script, print and write the facts, and return the exit code of the script."""
    from trainability.watching.script import watch_script

    for path in options.output:
        check_result(path, (*FIGURE_SUFFIXES, *SUFFIXES))
    if options.csv:
        check_output(options.csv, (".csv",))
    found, code = watch_script(
        options.script, options.args, is_module=options.module, passes=options.passes
    )
    print(f"\n{found.whole() if options.whole else found}")
    if options.csv:
        found.csv(options.csv)
    for path in options.output:
        if path.suffix.lower() in FIGURE_SUFFIXES:
            save_figure(path, found.figure)
        else:
            found.save(path)
    return code


def run_check(options: CheckCommand) -> None:
    """Check or cure a training run, and print and write the result."""
    from trainability.checks import check
    from trainability.cures import cure

    for path in options.output:
        check_result(path)
    if options.csv:
        check_output(options.csv, (".csv",))
    parts = arguments_in(options.training)
    for name in ("steps", "seed"):
        if getattr(options, name) is not None:
            parts[name] = getattr(options, name)
    check_names(options.training, parts, signature_of(check).parameters)
    if isinstance(options, CureCommand):
        parts = {name: value for name, value in parts.items() if name not in OF_CHECK}
    work: Callable[..., Result] = cure if isinstance(options, CureCommand) else check
    found = work(**parts)
    print(found.whole() if options.whole else found)
    if options.csv:
        found.csv(options.csv)
    for path in options.output:
        found.save(path)


def main(args: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    words = with_end_of_options(sys.argv[1:] if args is None else args)
    return run_command(lambda: run_read(COMMANDS, words, run))
