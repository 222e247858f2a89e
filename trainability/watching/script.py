"""Run a script or a module as `python` does, while its training loop is watched."""

import contextlib
import os
import runpy
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rhn.cli.entry import INTERRUPTED
from rhn.errors import InvalidInputError
from trainability.watching.loop_result import LoopResult
from trainability.watching.watched_loop import watch

RUNPY = "<frozen runpy>"  # the file of its functions


def watch_script(
    name: str, words: Sequence[str], *, is_module: bool, passes: int | None
) -> tuple[LoopResult, int]:
    """Run a script, or a module by its name, and return the facts of its loop and its exit code.

    words: its arguments. passes: backward passes after which it ends. Raises InvalidInputError if
    there is no such script.
    """
    path = Path(name)
    is_script = (path / "__main__.py").exists() if path.is_dir() else path.exists()
    if not (is_module or is_script):
        raise InvalidInputError(f"SCRIPT is {name}: expected a file that exists")
    code = 0  # of a script that ends after its backward passes
    with watch(passes) as seen:
        code = exit_code_of(name, words, is_module=is_module)
    return seen.result(), code


def exit_code_of(name: str, words: Sequence[str], *, is_module: bool) -> int:
    """Run a script or a module, and return its exit code: 1 after an error, 130 after Ctrl-C."""
    folder = os.getcwd() if is_module else str(Path(name).resolve().parent)  # noqa: PTH109
    try:
        with _own_streams(), _arguments(name, words, folder):
            if is_module:
                runpy.run_module(name, run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(name, run_name="__main__")
    except SystemExit as end:
        return _code_of(end)
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        traceback.print_exception(type(error), error, _calls_of_script(error))
        return 1
    return 0


def _calls_of_script(error: Exception) -> TracebackType | None:
    """Return the traceback of an error without our call and those of runpy, as `python` prints."""
    calls = error.__traceback__
    while calls is not None and calls.tb_frame.f_code.co_filename in (__file__, RUNPY):
        calls = calls.tb_next
    return calls


def _code_of(end: SystemExit) -> int:
    """Return the exit code of a process that `end` ends; a text is printed first."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code
    print(end.code, file=sys.stderr)
    return 1


@contextlib.contextmanager
def _arguments(name: str, words: Sequence[str], folder: str) -> Iterator[None]:
    """Return a context in which sys.argv and sys.path are those of `python name words`."""
    argv, path = sys.argv, list(sys.path)
    own = str(Path(argv[0]).resolve().parent) if argv[0] else ""
    sys.argv = [name, *words]
    if sys.path[:1] == [own]:
        del sys.path[0]
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.argv, sys.path[:] = argv, path


_streams_of_scripts: list[Any] = []
"""They stay alive: the end of one may close the buffer that it shares with ours."""


@contextlib.contextmanager
def _own_streams() -> Iterator[None]:
    """Return a context after which sys.stdout and sys.stderr are those of before."""
    own = sys.stdout, sys.stderr
    try:
        yield
    finally:
        for stream in {sys.stdout, sys.stderr} - {*own, None}:
            _streams_of_scripts.append(stream)
            with contextlib.suppress(Exception):  # the script may have closed it
                stream.flush()
        sys.stdout, sys.stderr = own
