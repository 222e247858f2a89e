"""Defer Ctrl-C to the end of an epoch or a step, so that the saved state is consistent."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_logger = logging.getLogger(__name__)


class Interrupted(KeyboardInterrupt):
    """The user stopped the work and it is saved; the message is how to resume. Commands end with exit code 130."""


class InterruptRequest:
    """A handler that notes Ctrl-C; `finished` is the unit that is finished first: "epoch"."""

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
    """Note only the first Ctrl-C, with a warning that the `finished` unit ends first; the second one raises
    KeyboardInterrupt as usual. Nothing changes outside the main thread and while interrupts are ignored (`nohup`)."""
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
    """Let Ctrl-C, also one noted before, raise KeyboardInterrupt at once during a wait within `deferred_interrupt`.
    Elsewhere nothing changes."""
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
