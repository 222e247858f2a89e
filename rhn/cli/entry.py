"""Where every command begins: Ctrl-C ends it in a word and with exit code 130 from the first moment on, imports included.

An exception in the middle of an import may end as another one (NumPy reports a broken installation) or be lost in a callback. So
Ctrl-C waits until no import is going on. This module itself imports next to nothing: what is loaded before it cannot be guarded.
"""

import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

INTERRUPTED = 130
AGAIN = 0.05  # seconds after which a Ctrl-C comes again that fell into an import


def enter(module: str) -> int:
    """Load the command that a module's `main` is, and run it; returns its exit code."""
    interrupt = Interrupt()
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # under `nohup ... &` nobody asks for an end
        signal.signal(signal.SIGINT, interrupt)
    try:
        from importlib import import_module

        main = import_module(module).main
        if interrupt.pending:
            raise KeyboardInterrupt
        code = main()
    except KeyboardInterrupt:  # before the command itself could tell it, or once more while it did
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the word is said once, however often one presses
        print("interrupted", file=sys.stderr, flush=True)
        code = INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done: only Python itself still has to end
    if code == INTERRUPTED:
        _leave(code)
    return code


def _leave(code: int) -> None:
    """End the process, with what was to be done at its end, but without taking the interpreter down: threads of libraries that were
    interrupted in the middle may still run, and abort the process when their interpreter is gone."""
    import atexit

    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or nobody reads it any more
            stream.flush()
    os._exit(code)


@contextlib.contextmanager
def quick_imports() -> Iterator[None]:
    """Import torch without garbage collection, a seventh faster: the objects of imported modules stay anyway.

    Nothing changes in a process that has imported torch already, whose garbage would stay too.
    """
    if "torch" in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def rhn() -> int:
    """`rhn`."""
    return enter("rhn.cli.main")


class Interrupt:
    """What Ctrl-C does: raise KeyboardInterrupt, as soon as no import is going on."""

    def __init__(self) -> None:
        self.pending = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self.pending = _imports(frame)
        if self.pending:
            again = threading.Timer(AGAIN, os.kill, (os.getpid(), signal.SIGINT))
            again.daemon = True
            again.start()
        else:
            raise KeyboardInterrupt


def _imports(frame: FrameType | None) -> bool:
    """Whether some caller of this frame is the import system."""
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
