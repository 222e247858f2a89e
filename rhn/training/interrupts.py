"""Ctrl-C that waits for the end of the epoch: weights in the middle of one are no state to save."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator


class Interrupted(KeyboardInterrupt):
    """The user stopped the training and it is saved; the message says how to go on. Commands end with exit code 130."""


class InterruptRequest:
    """Whether Ctrl-C was pressed."""

    def __init__(self):
        self.pending = False

    def __call__(self, signum, frame) -> None:
        if self.pending:
            raise KeyboardInterrupt
        self.pending = True
        print("stopping at the end of this epoch, with everything saved; Ctrl-C again stops at once", file=sys.stderr)


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[InterruptRequest]:
    """Inside, the first Ctrl-C is only noted and the second raises KeyboardInterrupt.

    Outside the main thread, and where interrupts are ignored (`nohup`), nothing changes.
    """
    request = InterruptRequest()
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield request
        return
    before = signal.signal(signal.SIGINT, request)
    try:
        yield request
    finally:
        signal.signal(signal.SIGINT, before)
