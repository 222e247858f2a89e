"""What every command shares: options parsed from a dataclass, errors as one sentence, exit codes, JSON without NaN.

Exit codes: 0 done, 2 bad input (one sentence on stderr), 130 interrupted. Results go to stdout, progress and notices to stderr.
"""

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar, get_args

from rhn.complaints import help_command, one_sentence
from rhn.errors import InvalidInputError, RhnError
from rhn.fields import check_seed
from rhn.files import finite_json

T = TypeVar("T")

__all__ = ["check_seed", "finite_json", "parse", "print_json", "progress_bars", "resolve_device", "run_command"]


def parse(
    options: type[T], args: Sequence[str] | None = None, *, prog: str, description: str, flag_pairs: bool = False
) -> T:
    """Options from the command line; `options` is a dataclass (or a union of them, for subcommands).

    `flag_pairs`: every flag can also be given as --no-flag, for options whose default is not the same everywhere.

    Raises RhnError with one sentence where the words cannot be read or a path is empty; `--help` prints and exits 0.
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
                registry=_path_registry(),
            )
    except SystemExit as error:
        if not error.code:
            raise
        box, words = complaint.getvalue(), sys.argv[1:] if args is None else args
        command = " ".join([prog, *[word for word in words[:1] if word in _subcommands(options)]])
        raise RhnError(f"{one_sentence(box)} (see {help_command(box, command)} --help)") from None


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


def _subcommands(options) -> set[str]:
    """The names of a union's subcommands."""
    return {about.name for part in get_args(options) for about in getattr(part, "__metadata__", ()) if about.name}


def _path_registry():
    """How tyro reads paths: an empty one, which is commonly an unset variable of the shell, would be the current folder."""
    import tyro

    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def path(type_info):
        return None if type_info.type is not Path else spec

    def read(words: list[str]) -> Path:
        if not words[0].strip():
            raise ValueError("expected a path, got an empty one")
        return Path(words[0])

    spec = tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda value: [str(value)],
    )
    return registry
