"""Waiting for a storage that does not answer: a server that restarts, a network that is gone for a while.

What failed is done again once the server takes connections, so it has to be something that may be done twice. A server that does
take them and fails all the same (a wrong password, no such database) is not waited for.
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
# seconds before each retry where the server does take connections: it has cut this one, or has just come back
RETRIES = (0.0, 0.5, 1.0, 2.0)


class Patience:
    """How long to wait in all for a server that is away.

    is_up: whether it takes connections now, be it only to refuse them for their password.
    """

    def __init__(self, seconds: float = 0.0, is_up: Callable[[], bool] = lambda: True):
        self.seconds, self._is_up = seconds, is_up

    def call(self, action: Callable[[], T], *failures: type[Exception]) -> T:
        """What the action returns; raises the last of its failures where the server stays away or fails all the same.

        Raises KeyboardInterrupt at the first Ctrl-C while it waits, also within `rhn.utils.interrupts.deferred_interrupt`.
        """
        gone, retries = None, iter(RETRIES)
        while True:
            try:
                result = action()
            except failures as error:
                if not self._is_up():
                    if gone is None and self.seconds:
                        _logger.warning(
                            "the storage does not answer (%s): waiting up to %s", reason(error), duration(self.seconds)
                        )
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
    """What the server or the network said first, of the failures that led to this one, in one line."""
    chain = [error]
    while (earlier := chain[-1].__cause__ or chain[-1].__context__) and earlier not in chain:
        chain.append(earlier)
    told = next((e.orig for e in reversed(chain) if getattr(e, "orig", None)), error.__cause__ or error)
    return " ".join(str(told).split())


def _sleep(seconds: float) -> None:
    with interruptible():
        time.sleep(seconds)
