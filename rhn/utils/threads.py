"""Threads: calls whose items several threads compute, and settings of one thread or of the process
that an interrupt or another thread cannot leave changed.

    in_threads(function, items, 4)      when it returns or raises, no other thread computes an item
    with torch_threads(1): ...          the number of torch's threads, for this thread only
    with deterministic(): ...           one thread of torch, without slow subnormal numbers
    with without_cudnn(): ...           a setting of the process, for several threads at once
    until_done(restore)                 Ctrl-C is raised when all is restored

Python raises KeyboardInterrupt in the main thread, between any two operations, and again for a
second Ctrl-C. Between two statements outside `try` there remains about a microsecond.
"""

import _thread
import functools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import torch

from rhn.utils.validation import whole_number

CORES = os.cpu_count() or 1
SUBNORMAL = np.float32(1e-40)
PAUSE = 0.05  # seconds until the next look, if an interrupt has swallowed the news of an end


class _Call:
    """The items of a call. A thread enters `running` before it looks for an item: if `todo` is
    empty, a thread that is not in `running` computes nothing any more.
    """

    def __init__(self, function: Callable[[Any], Any], items: Sequence, threads: int):
        self.function: Any = function
        self.others, self.has_begun = min(threads, len(items)) - 1, False
        self.todo = deque(enumerate(items))
        self.results: list[Any] = [None] * len(items)
        self.running, self.news = set[object](), SimpleQueue[None]()
        self.flushed = is_flushed()
        self.error: BaseException | None = None

    def attempt(self) -> None:
        """Compute the items; if that was interrupted, drop the rest and wait for other threads."""
        if not self.has_begun:
            self.has_begun = True
            _wake(self, self.others)
            self.compute()
        self.todo.clear()
        while self.running:
            with suppress(Empty):
                self.news.get(timeout=PAUSE)

    def compute(self) -> None:
        """Compute items until none is left."""
        while self.todo:
            try:
                k, item = self.todo.popleft()
            except IndexError:  # another thread was faster
                return
            self.results[k] = self.function(item)

    def help(self) -> None:
        """Compute items in another thread."""
        me = object()
        self.running.add(me)
        try:
            torch.set_flush_denormal(self.flushed)
            self.compute()
        except BaseException as error:
            self.error = error
            self.todo.clear()
        finally:
            self.running.discard(me)
            self.news.put(None)


def in_threads(function: Callable[[Any], Any], items: Sequence, threads: int) -> list[Any]:
    """Return [function(item) for item in items], computed by this thread and `threads` - 1 others,
    each of which has one thread of torch. Raises the first exception of any thread.

    When it returns or raises, no other thread computes an item, whatever was raised and however
    often Ctrl-C was pressed: items that have begun are finished, the others are dropped.

    >>> in_threads(lambda k: k * k, range(5), 2)
    [0, 1, 4, 9, 16]
    """
    if min(threads, len(items)) < 2:
        return [function(item) for item in items]
    call = _Call(function, items, threads)
    raised = _first_raised(call.attempt, BaseException)
    call.function = None  # what it holds: a thread that is busy now looks at this call later
    raised = raised or call.error
    if raised is not None:
        raise raised
    return call.results


def _wake(call: _Call, count: int) -> None:
    """Give a call to `count` other threads. Those that are busy come late, and find no item."""
    calls, helpers = _helpers(os.getpid())
    with suppress(RuntimeError):  # there are no more threads: this one computes all
        while len(helpers) < count:
            thread = threading.Thread(target=_serve, args=(calls,), daemon=True)
            helpers.append(thread)
            thread.start()
    for _ in range(count):
        calls.put(call)


@functools.cache
def _helpers(process: int) -> tuple[SimpleQueue, list[threading.Thread]]:
    """Return the waiting calls and the other threads of a process; a forked one has its own."""
    return SimpleQueue(), []


def _serve(calls: SimpleQueue) -> None:
    """Help with one call after another, for ever."""
    _set_threads(1)
    while True:
        calls.get().help()


def is_flushed() -> bool:
    """Return True if subnormal numbers count as zero in this thread.

    >>> is_flushed()
    False
    """
    return bool(SUBNORMAL + SUBNORMAL == 0)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Return a context in which torch computes the operations of this thread with `count` threads.
    Other threads keep their numbers, and new ones get the usual number.
    """
    before = torch.get_num_threads()
    if before == count:
        yield
        return
    usual = before
    try:
        usual = _set_threads(count)
        yield
    finally:
        until_done(partial(torch.set_num_threads if usual == before else _set_threads, before))


@contextmanager
def deterministic(threads: int = 1) -> Iterator[None]:
    """Return a context with `threads` threads of torch, in which subnormal numbers (slow) count as
    zero; other threads keep their settings.
    """
    threads, flushed = whole_number("threads", threads, most=CORES), is_flushed()
    with torch_threads(threads):
        try:
            torch.set_flush_denormal(True)
            yield
        finally:
            until_done(partial(torch.set_flush_denormal, flushed))


_setting = threading.Lock()


def _set_threads(count: int) -> int:
    """Set the number of torch's threads for this thread, and return the usual one. torch makes it
    the usual number too: a new thread, which has read that before, puts it back.
    """
    usual = list[int]()
    has_read, is_set, is_back = (_thread.allocate_lock() for _ in range(3))
    for lock in (has_read, is_set, is_back):
        lock.acquire()

    def keep() -> None:
        usual.append(torch.get_num_threads())
        has_read.release()
        is_set.acquire()
        torch.set_num_threads(usual[0])
        is_back.release()

    with _setting:
        _thread.start_new_thread(keep, ())  # without a wait that Ctrl-C could break
        try:
            has_read.acquire()
            torch.set_num_threads(count)
        finally:
            is_set.release()
            is_back.acquire()
    return usual[0]


class Shared:
    """A setting of the whole process that several threads may want at once: the first sets it, and
    the last puts it back.
    """

    def __init__(self, setting: Callable[[], AbstractContextManager]):
        self._setting, self._lock = setting, threading.Lock()
        self._users, self._kept = set[object](), ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        me = object()
        try:
            with self._lock:
                if not self._users:
                    self._kept.enter_context(self._setting())
                self._users.add(me)
            yield
        finally:
            until_done(partial(self._leave, me))

    def _leave(self, me: object) -> None:
        with self._lock:
            self._users.discard(me)
            if not self._users:
                self._kept.close()


without_cudnn = Shared(partial(torch.backends.cudnn.flags, enabled=False))
"""Context without CUDA's own recurrent kernels, which have no batched derivatives."""


def until_done(restore: Callable[[], object]) -> None:
    """Call a function again until a call ends without Ctrl-C; then raise the first Ctrl-C."""
    interrupt = _first_raised(restore, KeyboardInterrupt)
    if interrupt is not None:
        raise interrupt


def _first_raised(attempt: Callable[[], object], kind: type[BaseException]) -> BaseException | None:
    """Call a function until a call ends; return the first exception of a kind, or None."""
    first: BaseException | None = None
    while True:
        try:
            attempt()
            return first
        except kind as error:
            first = first or error
        try:  # noqa: SIM105  # suppress() is itself Python, outside of `try`
            time.sleep(0)  # a second Ctrl-C that is there already is raised here, not at the jump
        except kind:
            pass
