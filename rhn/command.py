"""What every command shares: errors as one sentence, exit codes, the device, progress bars, JSON without NaN.

Exit codes: 0 done, 2 bad input (one sentence on stderr), 130 interrupted. Results go to stdout, progress and notices to stderr.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator

from rhn.errors import InvalidInputError, RhnError
from rhn.files import finite_json


def run_command(main: Callable[[], None]) -> int:
    """Run a command's body and turn what it raises into an exit code and, for bad input, one sentence on stderr."""
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
def own_cell(name: str | None) -> Iterator[None]:
    """Within, what a cell of the user's own raises is bad input; `name` is None for the cells that are ours."""
    try:
        yield
    except Exception as error:
        if name is None or isinstance(error, RhnError):
            raise
        raise InvalidInputError(f"{name} does not run: {type(error).__name__}: {error}") from error


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
