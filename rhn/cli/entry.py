"""Start a command so that Ctrl-C ends it with one word and exit code 130, also during its imports.

An exception during an import may end as another one (NumPy reports a broken installation) or be lost in a callback, so Ctrl-C waits
for the end of an import. This module imports very little, because imports before it are not guarded.
"""

import contextlib
import os
import signal
import sys
import threading
from types import FrameType

INTERRUPTED = 130
AGAIN = 0.05  # seconds until a Ctrl-C during an import is repeated


def enter(module: str) -> int:
    """Import a module, run its `main`, and return the exit code."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as under `nohup ... &`
        signal.signal(signal.SIGINT, _interrupt)
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        from importlib import import_module

        main = import_module(module).main
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        code = main()
    except KeyboardInterrupt:  # before the command handles it, or while it does
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # print the word only once
        print("interrupted", file=sys.stderr, flush=True)
        code = INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the end of Python itself is left
    if code == INTERRUPTED:
        _leave(code)
    return code


def rhn() -> int:
    """`rhn`."""
    return enter("rhn.cli.main")


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; during an import, send the signal again a little later."""
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    if frame is None:
        raise KeyboardInterrupt
    again = threading.Timer(AGAIN, os.kill, (os.getpid(), signal.SIGINT))
    again.daemon = True
    again.start()


def _leave(code: int) -> None:
    """End the process after its exit functions, but without finalising the interpreter: interrupted threads of libraries may still run,
    and abort the process when their interpreter is gone."""
    import atexit

    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or without a reader
            stream.flush()
    os._exit(code)
