"""A line on stderr that says how a training is doing; nothing where stderr is not a terminal."""

import contextlib
import sys
from collections.abc import Callable, Iterator

import numpy as np

from rhn.engine.curves import Objective, best_epoch


@contextlib.contextmanager
def epoch_progress(epochs: int, objective: Objective) -> Iterator[Callable[[np.ndarray], None]]:
    """Yields what to call with the curve after every epoch."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    words = TextColumn(
        "train {task.fields[train]:.3f}  valid {task.fields[valid]:.3f} nats/frame  best epoch {task.fields[best]}"
    )
    columns = (TextColumn("epoch"), MofNCompleteColumn(), BarColumn(20), words, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=epochs, train=np.nan, valid=np.nan, best=0)

        def show(curve: np.ndarray) -> None:
            train, valid = curve[-1]
            bar.update(task, completed=len(curve) - 1, train=train, valid=valid, best=best_epoch(curve, objective))

        yield show
