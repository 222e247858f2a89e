"""What every command shares: options parsed from a dataclass, errors as one sentence, exit codes, JSON without NaN.

Exit codes: 0 done, 2 bad input (one sentence on stderr), 130 interrupted. Results go to stdout, progress and notices to stderr.
"""

import contextlib
import io
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from rhn.errors import InvalidInputError, RhnError

T = TypeVar("T")


def parse(
    options: type[T], args: Sequence[str] | None = None, *, prog: str, description: str, flag_pairs: bool = False
) -> T:
    """Options from the command line; `options` is a dataclass (or a union of them, for subcommands).

    `flag_pairs`: every flag can also be given as --no-flag, for options whose default is not the same everywhere.

    Raises RhnError with one sentence where the words cannot be read; `--help` prints and exits 0.
    """
    import tyro

    complaint, config = io.StringIO(), () if flag_pairs else (tyro.conf.FlagCreatePairsOff,)
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                options,
                prog=prog,
                description=description,
                args=args,
                config=(*config, tyro.conf.OmitArgPrefixes, tyro.conf.CascadeSubcommandArgs),
            )
    except SystemExit as error:
        if not error.code:
            raise
        raise RhnError(f"{_one_sentence(complaint.getvalue())} (see {prog} --help)") from None


def run_command(main: Callable[[], None]) -> int:
    """Run a command's body and turn what it raises into an exit code and, for bad input, one sentence on stderr."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)  # for cells of the user's own, package.module:factory; python -m does it too
    try:
        main()
        sys.stdout.flush()
    except RhnError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or "interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


def resolve_device(name: str) -> str:
    """ "cpu" or "cuda" for --device auto|cpu|cuda; raises InvalidInputError for a device that is not there."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise InvalidInputError("--device cuda: torch sees no CUDA device here; use --device cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def progress_bars() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """report(title) -> callback(done, total): bars on stderr for what takes long; nothing where stderr is not a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bars:

        def report(title: str) -> Callable[[int, int], None]:
            task = bars.add_task(title, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield report


def print_json(value) -> None:
    """Print a value as JSON at full precision; what is not finite becomes null."""
    print(json.dumps(finite_json(value), allow_nan=False))


def finite_json(value):
    """The value with every NaN and infinity replaced by None, ready for JSON."""
    if isinstance(value, dict):
        return {key: finite_json(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite_json(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _one_sentence(box: str) -> str:
    """The message of an error box, without its frame (drawn in Unicode or ASCII) and its repetition of the help."""
    kept = []
    for line in box.splitlines():
        line = re.sub(r"^[│|+╭╰]\s?|\s*[│|+]$", "", line).strip()
        if line.startswith(("For full help", "Argument helptext")):
            break
        if not re.search(r"[─-]{4,}", line):  # titles and rules
            kept.append(line)
    words = re.sub(
        r"^[A-Z][a-z]+ [a-z]+ (?=[A-Z]|invalid)", "", " ".join(" ".join(kept).split())
    )  # an ASCII frame's title
    words = re.sub(r"^Error parsing __\S+: ", "", words)  # a dataclass's own check: it names the field
    number = re.match(r"Error parsing (--[\w-]+): (invalid literal for int|could not convert).*: '(.*)'", words)
    if number:
        option, kind, value = number.groups()
        return f"{option} expects {'a whole number' if 'int' in kind else 'a number'}, got {value!r}"
    unreadable = re.match(r"Error parsing (--[\w-]+): no type matching \{None\}\|(\w+) could .*?\['(.*?)'\]", words)
    if unreadable:
        option, kind, value = unreadable.groups()
        return f"{option} expects {'a whole number' if kind == 'INT' else 'a number'}, got {value!r}"
    return (
        re.sub(r" Perhaps you meant:? (--[\w-]+).*", r"; perhaps you meant \1", words).strip()
        or "the options could not be read"
    )
