"""No call ends before its threads, and no setting stays changed, whatever interrupts come and
whatever other threads do.
"""

import signal
import threading
from contextlib import ExitStack, contextmanager, suppress
from queue import Empty, SimpleQueue
from types import SimpleNamespace

import pytest
import torch

from gersgorin.autodiff import plain_attention
from gersgorin.double_precision import module_runs
from gersgorin.linalg.threads import by_chunks, one_thread
from rhn.kernels import compiled
from rhn.training.interrupts import deferred_interrupt
from rhn.utils import threads
from rhn.utils.threads import Shared, deterministic, in_threads, is_flushed, until_done

LONG = 60  # seconds that no test waits


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Pressing:
    """An item of a call. In another thread it presses Ctrl-C, each time when the last one has been
    raised, and ends later; in the main thread it waits.
    """

    def __init__(self, times: int):
        # queues: an Event that a handler sets, within another handler, waits for itself
        self.times, self.raised, self.ended = times, SimpleQueue(), SimpleQueue()

    def handle(self, *_) -> None:
        self.raised.put(None)
        raise KeyboardInterrupt

    def __call__(self, *_) -> int:
        main = threading.main_thread()
        if threading.current_thread() is main:
            while self.ended.empty():  # Python may miss a signal just before a wait
                with suppress(Empty):
                    SimpleQueue().get(timeout=0.01)
            return 0
        for _ in range(self.times):
            signal.pthread_kill(main.ident, signal.SIGINT)
            self.raised.get(timeout=LONG)
        self.ended.put(None)
        return 0


def call_of_c(item, monkeypatch):
    name = "rhn_bernoulli"
    fake = {"rhn_float_mode": lambda: 0, "rhn_set_float_mode": lambda mode: None, name: item}
    monkeypatch.setattr(compiled, "library", lambda: SimpleNamespace(**fake))
    sizes, tensors = compiled.FUNCTIONS[name]
    compiled.call_c(name, 2, **dict.fromkeys(sizes, 1), **dict.fromkeys(tensors))


def call_of_lapack(item, monkeypatch):
    def solve(stack):
        item()
        return stack

    by_chunks(solve, torch.zeros(2, 128, 128), workers=2)


CALLS = {
    "C": call_of_c,
    "LAPACK": call_of_lapack,
    "items": lambda item, monkeypatch: in_threads(item, range(2), 2),
}


@pytest.mark.parametrize("times", [1, 2, 5])
@pytest.mark.parametrize("call", list(CALLS))
def test_other_threads_have_ended_when_a_call_is_interrupted(call, times, two_threads, monkeypatch):
    item = Pressing(times)
    before = signal.signal(signal.SIGINT, item.handle)
    try:
        with pytest.raises(KeyboardInterrupt):
            CALLS[call](item, monkeypatch)
        assert not item.ended.empty()
    finally:
        item.ended.get(timeout=LONG)
        signal.signal(signal.SIGINT, before)
    assert torch.get_num_threads() == 2


def test_results_have_the_order_of_the_items():
    for count in (1, 2, 5):
        assert in_threads(lambda k: k * k, range(7), count) == [k * k for k in range(7)]
    assert in_threads(lambda k: k, [], 3) == []


@pytest.mark.parametrize("main_fails", [False, True])
def test_an_error_of_any_thread_ends_the_call(main_fails):
    begun, done = threading.Barrier(2), []

    def item(k):
        is_main = threading.current_thread() is threading.main_thread()
        if k < 2:
            begun.wait(LONG)  # each thread has one of the first two
        if k < 2 and is_main == main_fails:
            raise ValueError(f"item {k}")
        done.append(k)

    with pytest.raises(ValueError, match=r"item [01]"):
        in_threads(item, range(2), 2)
    assert len(done) == 1


def test_an_interrupted_call_drops_the_items_that_have_not_begun(monkeypatch):
    """There are no other threads."""
    monkeypatch.setattr(threads, "_wake", lambda call, count: None)
    begun = []

    def item(k):
        begun.append(k)
        if k == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_threads(item, range(4), 2)
    assert begun == [0, 1]


@pytest.mark.parametrize(
    ("threads_given", "items", "others"),
    [
        pytest.param(3, 7, [2], id="fewer threads than items"),
        pytest.param(5, 2, [1], id="fewer items than threads"),
        pytest.param(1, 7, [], id="one thread"),
        pytest.param(5, 1, [], id="one item"),
    ],
)
def test_a_call_wakes_as_many_other_threads_as_it_can_use(
    threads_given, items, others, monkeypatch
):
    woken = []
    monkeypatch.setattr(threads, "_wake", lambda call, count: woken.append(count))
    in_threads(str, range(items), threads_given)
    assert woken == others


def test_a_call_in_a_busy_process_is_computed_by_its_own_thread():
    """All other threads wait in another call."""
    begun, goes_on = threading.Event(), threading.Event()

    def waits(k):
        begun.set()
        assert goes_on.wait(LONG)

    other = threading.Thread(target=in_threads, args=(waits, range(2), 2))
    other.start()
    assert begun.wait(LONG)
    assert in_threads(lambda k: k + 1, range(3), 2) == [1, 2, 3]
    goes_on.set()
    other.join(LONG)
    assert not other.is_alive()


def test_other_threads_have_one_thread_and_treat_subnormal_numbers_as_the_one_that_calls():
    for flushed in (True, False, True):
        both = threading.Barrier(2)

        def item(_, both=both):
            both.wait(LONG)
            return is_flushed(), torch.get_num_threads()

        torch.set_flush_denormal(flushed)
        try:
            with one_thread():
                assert in_threads(item, range(2), 2) == [(flushed, 1), (flushed, 1)]
        finally:
            torch.set_flush_denormal(False)


def in_new_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join(LONG)
    return found[0]


def overlapping(context):
    """Two threads of which the one that enters first leaves first. Yields inside of both."""
    entered, leave = (
        [threading.Event() for _ in range(2)],
        [threading.Event() for _ in range(2)],
    )

    def use(k):
        with context():
            entered[k].set()
            assert leave[k].wait(LONG)

    users = [threading.Thread(target=use, args=(k,)) for k in range(2)]
    for user, event in zip(users, entered, strict=True):
        user.start()
        assert event.wait(LONG)
    yield
    for user, event in zip(users, leave, strict=True):
        event.set()
        user.join(LONG)


@pytest.mark.parametrize("context", [one_thread, deterministic])
def test_the_number_of_torchs_threads_is_changed_for_one_thread(context, two_threads):
    for _ in overlapping(context):
        assert torch.get_num_threads() == 2 == in_new_thread(torch.get_num_threads)
        with context():
            assert torch.get_num_threads() == 1
            assert in_new_thread(torch.get_num_threads) == 2
    assert torch.get_num_threads() == 2 == in_new_thread(torch.get_num_threads)


def cudnn():
    return torch.backends.cudnn.enabled


@pytest.mark.parametrize(
    ("context", "setting"),
    [
        pytest.param(module_runs, cudnn, id="cuDNN"),
        pytest.param(
            plain_attention, torch.backends.cuda.mem_efficient_sdp_enabled, id="attention"
        ),
    ],
)
def test_settings_of_the_process_are_put_back_by_the_last_thread(context, setting):
    assert setting()
    for _ in overlapping(context):
        assert not setting()
    assert setting()


def test_a_shared_setting_is_set_once_and_put_back_when_no_user_is_left():
    events = []

    @contextmanager
    def setting():
        events.append("set")
        yield
        events.append("put back")

    shared, first, second = Shared(setting), ExitStack(), ExitStack()
    for _ in range(2):
        first.enter_context(shared())
        second.enter_context(shared())
        first.close()
        assert events == ["set"]
        second.close()
        assert events == ["set", "put back"]
        events.clear()


def test_what_restores_is_called_until_it_is_done():
    calls = []

    def restore():
        calls.append(len(calls))
        if len(calls) < 4:
            raise KeyboardInterrupt(len(calls))

    with pytest.raises(KeyboardInterrupt, match="1"):
        until_done(restore)
    assert len(calls) == 4


def test_the_handler_of_ctrl_c_is_put_back_at_a_second_one(monkeypatch):
    before, original, failed = signal.getsignal(signal.SIGINT), signal.signal, []

    def interrupted(number, handler):
        if handler is before and not failed:
            failed.append(True)
            raise KeyboardInterrupt
        return original(number, handler)

    monkeypatch.setattr(signal, "signal", interrupted)
    with pytest.raises(KeyboardInterrupt), deferred_interrupt():
        pass
    assert failed and signal.getsignal(signal.SIGINT) is before
