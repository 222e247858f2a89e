"""The sets of trainings by name: threads as their owners wrote them, and healthy trainings."""

import importlib
from collections.abc import Callable
from pathlib import Path

from evaluation.threads.trainings import Training

SETS = (
    *("development", "set_aside", "fresh", "healthy", "fresh_healthy", "later", "later_healthy"),
    *("reports", "reports_healthy"),
)
THREADS = Path(__file__).with_name("threads.csv")


def trainings(name: str) -> list[tuple[str, Callable[..., Training]]]:
    """(Number or name, function that makes the training) of each one of a set; threads are made by
    make(repaired, seed), healthy ones by make().
    """
    module = importlib.import_module(f"evaluation.threads.{name}")
    return [(str(number), make) for number, make in getattr(module, name.upper()).items()]
