"""Retry an action on a storage that does not answer: a server that restarts, a network that is down for a while.

The action is repeated as soon as the server accepts connections, so it must be idempotent. A server that accepts connections and fails
all the same (a wrong password, no such database) is not waited for.
"""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from rhn.utils.interrupts import interruptible
from rhn.utils.progress import duration

_logger = logging.getLogger(__name__)
T = TypeVar("T")

POLL_SECONDS = 0.5
RETRIES = (
    0.0,
    0.5,
    1.0,
    2.0,
)  # seconds before each retry while the server is up: it has cut a connection or just restarted


class Patience:
    """The total time to wait for a server that is down.

    is_up: True if the server accepts connections now, even if it then refuses the password.
    """

    def __init__(self, seconds: float = 0.0, is_up: Callable[[], bool] = lambda: True):
        self.seconds, self._is_up = seconds, is_up

    def call(self, action: Callable[[], T], *failures: type[Exception]) -> T:
        """The result of the action; raises its last failure if the server stays down or fails again and again.

        Raises KeyboardInterrupt at the first Ctrl-C during a wait, also within `rhn.utils.interrupts.deferred_interrupt`.
        """
        gone, retries = None, iter(RETRIES)
        while True:
            try:
                result = action()
            except failures as error:
                if not self._is_up():
                    if gone is None and self.seconds:
                        limit = duration(self.seconds)
                        _logger.warning("the storage does not answer (%s): waiting up to %s", reason(error), limit)
                    gone, retries = gone or time.monotonic(), iter(RETRIES)
                    if not self._comes_back(gone + self.seconds):
                        raise
                elif (pause := next(retries, None)) is None:
                    raise
                else:
                    _sleep(pause)
                continue
            if gone is not None:
                _logger.warning("the storage answers again, after %s", duration(time.monotonic() - gone))
            return result

    def _comes_back(self, deadline: float) -> bool:
        while time.monotonic() < deadline:
            _sleep(POLL_SECONDS)
            if self._is_up():
                return True
        return False


def reason(error: BaseException) -> str:
    """The first message of the server or the network in a chain of exceptions, in one line."""
    chain = [error]
    while (earlier := chain[-1].__cause__ or chain[-1].__context__) and earlier not in chain:
        chain.append(earlier)
    first = next((e.orig for e in reversed(chain) if getattr(e, "orig", None)), error.__cause__ or error)
    return " ".join(str(first).split())


def _sleep(seconds: float) -> None:
    with interruptible():
        time.sleep(seconds)
