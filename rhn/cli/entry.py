"""Run a command: errors are one line, and the result is the exit code: 0 done, 2 wrong input, 130
interrupted. An error of the user's code is printed with its type and the lines of that code.
"""

import atexit
import contextlib
import io
import json
import os
import signal
import sys
import sysconfig
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from rhn.errors import RhnError, is_out_of_memory
from rhn.utils.io import finite_json
from rhn.utils.progress import shown
from rhn.utils.tables import printable

INTERRUPTED = 130
WORD = "interrupted"
IMPORT = "<frozen importlib._bootstrap>"  # of the frames of an import
SHOWN = 10  # last lines of a traceback; an endless recursion has a thousand
OURS = [str(marker.parent) for marker in Path(__file__).parents[2].glob("*/py.typed")]
PYTHONS = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
# the beginnings of files that are not the user's, and the folders of installed packages
LIBRARIES = ("<", *(f"{folder}{os.sep}" for folder in (*OURS, *PYTHONS)))
INSTALLED = {"site-packages", "dist-packages"}


def enter(module: str) -> int:
    """Import a module, run its `main`, and return the exit code. The process ends after that."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not under nohup
        signal.signal(signal.SIGINT, interrupted)
    try:
        code = import_module(module).main()
    except KeyboardInterrupt:  # a second one, when the first has ended the work
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        print(WORD, file=sys.stderr, flush=True)
        code = INTERRUPTED
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if code == INTERRUPTED:  # threads of libraries would abort a process that is finalised
        atexit._run_exitfuncs()
        os._exit(code)
    return code


def interrupted(signum: int, frame: Any) -> None:
    """Handle Ctrl-C: raise KeyboardInterrupt, but during an import end the process at once.
    Libraries in C drop the exception, and go on with a module that is half imported.
    """
    while frame is not None:
        if frame.f_code.co_filename == IMPORT:
            os.write(2, f"{WORD}\n".encode())
            os._exit(INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt


rhn = partial(enter, "rhn.cli.main")
"""Run the command `rhn`, and return its exit code."""


def run_command(main: Callable[[], int | None]) -> int:
    """Run a command's body, which returns its exit code or None for 0, and return the exit code,
    also for errors. An output whose reader has ended is no error.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    out, err = (_Unread(stream or io.StringIO()) for stream in (sys.stdout, sys.stderr))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), shown():
        try:
            code = main()
            sys.stdout.flush()
            return code or 0
        except BaseException as error:
            if (interrupt := _interrupt_of(error)) is not None:
                return _ended(INTERRUPTED, str(interrupt) or WORD)
            if (sentence := _sentence_of(error)) is None:
                raise
            return _ended(2, f"error: {sentence}", error)


def _interrupt_of(error: BaseException | None) -> KeyboardInterrupt | None:
    """Return a Ctrl-C, also one after which a block of torch failed to end; None for others."""
    while error is not None and not isinstance(error, KeyboardInterrupt | RhnError | OSError):
        error = error.__context__
    return error if isinstance(error, KeyboardInterrupt) else None


def _sentence_of(error: BaseException) -> str | None:
    """Return the sentence for an error; None for a bug of ours."""
    if isinstance(error, RhnError):
        return str(error)
    if isinstance(error, OSError):
        where = "the output" if error.filename is None else os.fsdecode(error.filename)
        return f"{where}: {error.strerror or error}"
    if is_out_of_memory(error):
        return "there is not enough memory"
    return f"{type(error).__name__}: {error}" if users_frames(error) else None


def _ended(code: int, sentence: str, error: BaseException | None = None) -> int:
    lines = [" ".join(sentence.split()), *(users_frames(error) if error else ())]
    try:
        sys.stdout.flush()
    except OSError:  # Python would fail again at its end, with another exit code
        _drop(sys.stdout)
    with contextlib.suppress(OSError):  # a broken stderr: the exit code remains
        print(printable("\n".join(lines)), file=sys.stderr, flush=True)
    return code


def users_frames(error: BaseException) -> list[str]:
    """Return the lines of an error's traceback outside our packages, Python and installed
    libraries, outermost call first; those of its cause if it has none.
    """
    if hasattr(error, "frames"):  # sent by another process
        return error.frames
    found = [
        f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}'
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(LIBRARIES)
        and INSTALLED.isdisjoint(Path(frame.filename).parts)
    ]
    if not found and error.__cause__ is not None:
        return users_frames(error.__cause__)
    return found[-SHOWN:]


def _drop(stream: Any) -> None:
    """Send what is written to a stream from now on nowhere."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a number, as in a notebook
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@dataclass(eq=False)
class _Unread:
    """A stream whose reader may end, as in `... | head`, and that a user's code cannot end."""

    stream: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def close(self) -> None:
        """Leave the stream open, for the result of the command."""

    def detach(self) -> Any:
        """Return the buffer of the stream, and keep it."""
        return self.stream.buffer

    def write(self, text: str) -> int:
        try:
            self.stream.write(text)
        except BrokenPipeError:
            _drop(self.stream)
        return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except BrokenPipeError:
            _drop(self.stream)


def print_json(value: Any) -> None:
    """Print a value as JSON at full precision. NaN and infinity become null."""
    print(json.dumps(finite_json(value), allow_nan=False))
