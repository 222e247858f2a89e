"""Shared by all commands: errors as one sentence, exit codes, the device, progress bars, JSON without NaN.

Exit codes: 0 done, 2 bad input (one sentence on stderr), 130 interrupted. Results go to stdout, progress and notices to stderr.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rhn.errors import EarlyExit, InvalidInputError, RhnError
from rhn.utils.io import finite_json
from rhn.utils.progress import progress_bars as progress_bars
from rhn.utils.progress import status_line as status_line
from rhn.utils.user_code import own_cell as own_cell
from rhn.utils.user_code import users_frames


def run_command(main: Callable[[], None]) -> int:
    """Run a command's body and turn its errors into an exit code and, for bad input, one sentence on stderr.

    Errors of the machine (no permission, a full disk, too long a name) count as bad input.
    """
    _prepare_streams()
    try:
        main()
        sys.stdout.flush()
    except RhnError as error:
        return _refused(str(error), users_frames(error))
    except EarlyExit:
        raise
    except SystemExit as leaving:  # raised by a user's code: the work is not done
        said = f"sys.exit({leaving.code!r:.80}) was called in the middle of the work: expected code that returns"
        return _refused(said, users_frames(leaving))
    except KeyboardInterrupt as interrupt:
        _print_error(str(interrupt) or "interrupted")
        return 130
    except BrokenPipeError:  # the reader of our output ended, as in `... | head`
        _drop_output()
        return 0
    except OSError as error:
        if error.filename is None:  # Python would write the rest again at its end, and fail again
            _drop_output()
        where = "the output" if error.filename is None else os.fsdecode(error.filename)
        return _refused(f"{where}: {error.strerror or error}")
    return 0


def _prepare_streams() -> None:
    """Replace streams that the caller has closed; print characters that a terminal lacks as question marks."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - open as long as the process
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _refused(sentence: str, frames: Sequence[str] = ()) -> int:
    _print_error("\n".join((f"error: {' '.join(sentence.split())}", *frames)))
    return 2


def _print_error(line: str) -> None:
    with contextlib.suppress(OSError):  # a broken stderr: the exit code remains
        print(line, file=sys.stderr, flush=True)


def _drop_output() -> None:
    with contextlib.suppress(OSError, ValueError):  # a stream without a number, as in a notebook
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def resolve_device(name: str) -> str:
    """ "cpu" or "cuda" for --device auto|cpu|cuda; raises InvalidInputError for a device that is not there."""
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise InvalidInputError("--device cuda: torch sees no CUDA device here; use --device cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def print_json(value) -> None:
    """Print a value as JSON at full precision; NaN and infinity become null."""
    print(json.dumps(finite_json(value), allow_nan=False))
