"""Processor time: a limit for a training.

Processor seconds are the same on a busy machine.
"""

import signal
from collections.abc import Callable

import torch

from evaluation.threads.trainings import Training


class CutOffError(Exception):
    """The processor time is over."""


def until_cut_off(train: Callable[[], object], seconds: float) -> bool:
    """Run for at most so many processor seconds; True if they were not enough."""

    def stop(*_: object) -> None:
        raise CutOffError

    signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        with torch.enable_grad():  # restored if a cut comes within no_grad
            train()
    except CutOffError:
        return True
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return False


def count_steps(training: Training) -> list[int]:
    """A list of one number, which grows with every step of the optimiser."""
    count = [0]

    def add(*_: object) -> None:
        count[0] += 1

    training.optimizer.register_step_post_hook(add)
    return count
