"""Processor time: a limit for a training, the cost of one, and the clock of a tool.

Processor seconds are the same on a busy machine.
"""

import signal
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import torch

from evaluation.threads.trainings import Training, fit

SHORT = 2.0  # processor seconds after which the length of a training is extrapolated


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


def seconds_of(training: Training) -> float:
    """Processor seconds that a plain loop takes for all steps, from its first seconds."""
    count, began = count_steps(training), time.process_time()
    until_cut_off(lambda: fit(training), SHORT)
    seconds = time.process_time() - began
    return seconds * max(1.0, training.steps / max(1, count[0]))


def use_processor_time(package: str) -> None:
    """Replace the clock of every loaded module of a package that imports `time`."""
    clock = SimpleNamespace(**vars(time) | {"monotonic": time.process_time})
    for name, module in list(sys.modules.items()):
        if f"{name}.".startswith(f"{package}.") and getattr(module, "time", None) is time:
            module.time = clock  # type: ignore[attr-defined]
