"""Ctrl-C that waits for the end of an epoch or of a step: weights in the middle of one are no state to save."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_logger = logging.getLogger(__name__)


class Interrupted(KeyboardInterrupt):
    """The user stopped the work and it is saved; the message says how to go on. Commands end with exit code 130."""


class InterruptRequest:
    """Whether Ctrl-C was pressed; `finished` is what the work finishes before it stops."""

    def __init__(self, finished: str):
        self.finished, self.pending, self.at_once = finished, False, False

    def __call__(self, signum, frame) -> None:
        if self.pending or self.at_once:
            raise KeyboardInterrupt
        self.pending = True
        _logger.warning(
            "stopping at the end of this %s, with everything saved; Ctrl-C again stops at once", self.finished
        )


@contextmanager
def deferred_interrupt(finished: str = "epoch") -> Iterator[InterruptRequest]:
    """Within, the first Ctrl-C is only noted, with a word on what is `finished` first, and the second raises
    KeyboardInterrupt as usual. Outside the main thread, and where interrupts are ignored (`nohup`), nothing changes."""
    request = InterruptRequest(finished)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield request
        return
    previous = signal.signal(signal.SIGINT, request)
    try:
        yield request
    finally:
        signal.signal(signal.SIGINT, previous)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within `deferred_interrupt`, for a wait that nothing is lost by leaving: Ctrl-C, also one that was only noted so far, raises
    KeyboardInterrupt at once. Elsewhere nothing changes."""
    request = signal.getsignal(signal.SIGINT)
    if not isinstance(request, InterruptRequest) or threading.current_thread() is not threading.main_thread():
        yield
        return
    if request.pending:
        raise KeyboardInterrupt
    request.at_once = True
    try:
        yield
    finally:
        request.at_once = False
