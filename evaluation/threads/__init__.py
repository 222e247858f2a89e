"""Trainings as their owners wrote them, small, in sets by name.

    for number, make in load_set("fresh"):
        training = make(False)    # as its owner wrote it
        training = make(True)     # with its one repair
    for name, make in load_set("fresh_healthy"):
        training = make()         # nothing is wrong; its docstring names its source

threads.csv has the address, cause and part of each thread. Except `development` and `healthy`, the
sets were written without knowledge of the package that is tested on them.

Legend: N examples, T frames, m inputs, H units, K outputs or classes, V words.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

SETS = (
    *("development", "set_aside", "fresh", "healthy", "fresh_healthy", "later", "later_healthy"),
    *("reports", "reports_healthy"),
)
THREADS = Path(__file__).parents[1] / "threads.csv"


def load_set(name: str) -> list[tuple[str, Callable[..., Any]]]:
    """(Number or name, function that makes the training) of each one of a set; threads are made by
    make(repaired, seed), healthy ones by make().
    """
    module = importlib.import_module(f"evaluation.threads.{name}")
    return [(str(number), make) for number, make in getattr(module, name.upper()).items()]
