"""Ctrl-C: the first waits for the end of what is being done and says so, the second does not."""

import os
import signal

import pytest

from rhn.training.interrupts import deferred_interrupt


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def test_the_first_ctrl_c_is_noted_and_says_so(caplog):
    before = signal.getsignal(signal.SIGINT)
    with deferred_interrupt() as interrupt:
        assert not interrupt.pending
        press_ctrl_c()
        assert interrupt.pending
        assert "as soon as everything is saved" in caplog.text
        with pytest.raises(KeyboardInterrupt):
            press_ctrl_c()
    assert signal.getsignal(signal.SIGINT) is before


def test_where_interrupts_are_ignored_they_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with deferred_interrupt() as interrupt:
            press_ctrl_c()
            assert not interrupt.pending
    finally:
        signal.signal(signal.SIGINT, before)
