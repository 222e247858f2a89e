"""Ctrl-C during a training run: the first waits until everything is saved, the second does not."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

from rhn.utils.threads import until_done

STOPPING = "stopping as soon as everything is saved; Ctrl-C again stops at once"


class Interrupted(KeyboardInterrupt):
    """The user stopped the work, and everything is saved. Commands end with exit code 130."""


@contextmanager
def deferred_interrupt() -> Iterator[SimpleNamespace]:
    """Return a context that sets `pending` and warns at the first Ctrl-C; a second Ctrl-C raises
    KeyboardInterrupt as usual. Nothing changes outside the main thread, or if interrupts are
    ignored (`nohup`).
    """
    request = SimpleNamespace(pending=False)

    def note(signum, frame) -> None:
        if request.pending:
            if callable(previous):
                previous(signum, frame)
            raise KeyboardInterrupt
        request.pending = True
        logging.getLogger(__name__).warning(STOPPING)

    in_main_thread = threading.current_thread() is threading.main_thread()
    previous = signal.getsignal(signal.SIGINT)
    if not in_main_thread or previous is signal.SIG_IGN:
        yield request
        return
    try:
        signal.signal(signal.SIGINT, note)
        yield request
    finally:
        until_done(partial(signal.signal, signal.SIGINT, previous))
