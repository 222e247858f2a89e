"""Run a command. Errors are printed as one sentence, Ctrl-C stops the command, and the result is
the exit code. An error in a user's code is printed with the name of the cell and the lines of that
code.

Exit codes: 0 done, 2 bad input (one sentence on stderr), 130 interrupted. Results go to stdout,
progress and notices to stderr.
"""

import atexit
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from rhn.errors import (
    USERS_FAULT,
    InvalidInputError,
    RhnError,
    UsersCodeError,
    is_out_of_memory,
)
from rhn.utils.io import cache_folder, finite_json
from rhn.utils.tables import printable

INTERRUPTED = 130
NO_MEMORY = "there is not enough memory: use fewer units, steps or sequences at a time"
LONGEST_WORD = 200  # characters in an error
SHOWN = 10  # last frames of a traceback; an endless recursion has a thousand


def enter(module: str) -> int:
    """Import a module, run its `main`, and return the exit code, even after Ctrl-C during the
    import.
    """
    pressed = []

    def interrupt(signum: int, frame) -> None:
        pressed.append(signum)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as under `nohup ... &`
        signal.signal(signal.SIGINT, interrupt)
    try:
        code = import_module(module).main()
    except BaseException:  # a library may report an interrupted import as its broken installation
        if not pressed:
            raise
        print("interrupted", file=sys.stderr, flush=True)
        code = INTERRUPTED
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the end of Python itself is left
    if code == INTERRUPTED:
        _leave(code)
    return code


def rhn() -> int:
    """Run the command `rhn`, and return its exit code."""
    return enter("rhn.cli.main")


def _leave(code: int) -> None:
    """End the process after its exit functions, but without finalising the interpreter. Threads of
    libraries may still run after an interrupt, and would abort the process if the interpreter were
    finalised.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        # a stream may be closed, or without a reader
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def run_command(main: Callable[[], int | None]) -> int:
    """Run a command's body, which returns its exit code or None for 0. Errors become an exit code;
    bad input also prints a sentence on stderr.

    Errors of the machine (no permission, a full disk, a name that is too long) count as bad input.
    An output whose reader has ended is no error: the command does its work, and writes its files.
    """
    _prepare_streams()
    with (
        contextlib.redirect_stdout(_Unread(sys.stdout)),
        contextlib.redirect_stderr(_Unread(sys.stderr)),
    ):
        return _code_of(main)


def _code_of(main: Callable[[], int | None]) -> int:
    """Run a command's body, and return its exit code, also for errors."""
    try:
        replace_unwritable_cache()
        code = main()
        sys.stdout.flush()
    except RhnError as error:
        return _refused(str(error), users_frames(error))
    except SystemExit as leaving:  # raised by a user's code: the work is not done
        said = "was called in the middle of the work: expected code that returns"
        return _refused(f"sys.exit({leaving.code!r:.80}) {said}", users_frames(leaving))
    except KeyboardInterrupt as interrupt:
        _print_error(str(interrupt) or "interrupted")
        return INTERRUPTED
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _refused(NO_MEMORY)
    except OSError as error:
        if error.filename is None:  # Python would write the rest again at its end, and fail again
            _drop(sys.stdout)
        where = "the output" if error.filename is None else os.fsdecode(error.filename)
        return _refused(f"{where}: {error.strerror or error}")
    return code or 0


def _prepare_streams() -> None:
    """Replace streams that the caller has closed. Characters that the terminal cannot print become
    question marks.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - open as long as the process
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def replace_unwritable_cache() -> None:
    """Use a temporary cache folder, and print a notice, if the user's cache folder cannot be
    written, as in a container without a home folder. This applies to this process, the processes
    that it starts, and matplotlib.

    The temporary folder is removed when the process ends. Raises OSError if temporary files cannot
    be written either.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        reason = error.strerror or str(error)
    replacement = tempfile.mkdtemp(prefix="rhn-cache-")
    atexit.register(shutil.rmtree, replacement, ignore_errors=True)
    os.environ["XDG_CACHE_HOME"] = replacement
    os.environ.setdefault("MPLCONFIGDIR", replacement)
    print(
        f"The cache folder {folder} cannot be written ({reason}): the chorales are rebuilt and the "
        "kernels compiled anew each time; to keep them, set XDG_CACHE_HOME to a folder of yours",
        file=sys.stderr,
    )


def _refused(sentence: str, frames: Sequence[str] = ()) -> int:
    """Print an error, with long words cut, because names in a file may have any length. Returns
    exit code 2.
    """
    words = (
        word if len(word) <= LONGEST_WORD else f"{word[:LONGEST_WORD]}..."
        for word in sentence.split()
    )
    _print_error("\n".join((f"error: {' '.join(words)}", *frames)))
    return 2


def _print_error(line: str) -> None:
    with contextlib.suppress(OSError):  # a broken stderr: the exit code remains
        print(printable(line), file=sys.stderr, flush=True)


def _drop(stream: Any) -> None:
    """Send what is written to a stream from now on nowhere."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a number, as in a notebook
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class _Unread:
    """A stream of text that may lose its reader, as in `... | head`. What is written afterwards is
    dropped.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._dropping():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._dropping():
            self._stream.flush()

    @contextlib.contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            _drop(self._stream)


def resolve_device(name: str) -> str:
    """Return "cpu" or "cuda" for --device auto|cpu|cuda. Raises InvalidInputError for a device
    that this machine does not have.
    """
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise InvalidInputError("--device cuda: torch sees no CUDA device here; use --device cpu")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def print_json(value) -> None:
    """Print a value as JSON at full precision. NaN and infinity become null."""
    print(json.dumps(finite_json(value), allow_nan=False))


@contextlib.contextmanager
def own_cell(name: str | None) -> Iterator[None]:
    """Return a context in which an error of a user's own cell becomes a UsersCodeError with the
    name of the cell.

    name: package.module:factory. For None and for the names of our cells, errors are not changed.
    """
    try:
        yield
    except USERS_FAULT as error:
        message = None
        if name is not None and ":" in name:
            message = _fault_of(name, error)
        if message is None:
            raise
        raise UsersCodeError(message) from error


def _fault_of(name: str, error: BaseException) -> str | None:
    """Return the sentence for an error in the code of a cell; None if the error's own message is to
    be printed.
    """
    if isinstance(error, InvalidInputError):
        factory = name.partition(":")[2]
        return None if name in str(error) else f"{name}: {str(error).removeprefix(f'{factory}: ')}"
    of_machine = isinstance(error, OSError) and not users_frames(error)
    if isinstance(error, RhnError) or of_machine:
        return None
    return f"{name} does not run: {type(error).__name__}: {error}"


def users_frames(error: BaseException) -> list[str]:
    """Return the lines of an error's traceback that belong to the user's code, outermost call
    first.
    """
    if hasattr(error, "frames"):  # sent by another process
        return error.frames
    from rhn.cli.tracebacks import frames_outside

    frames: list = []
    cause: BaseException | None = error
    while cause is not None and not frames:
        frames, cause = frames_outside(cause), cause.__cause__
    return [
        f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}'
        for frame in frames[-SHOWN:]
    ]
