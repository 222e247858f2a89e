"""A line on stderr that says how a training is doing; nothing where stderr is not a terminal."""

import contextlib
import sys
from collections.abc import Callable, Iterator

import numpy as np

from rhn.chorales.config import ChoraleConfig
from rhn.chorales.loop import Training
from rhn.engine.curves import best_epoch


@contextlib.contextmanager
def training_progress(config: ChoraleConfig) -> Iterator[Callable[[Training], None]]:
    """What to call with the training at its start and after every epoch."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    words = TextColumn(
        "train {task.fields[train]:.3f}  valid {task.fields[valid]:.3f} nats/frame  best epoch {task.fields[best]}"
    )
    columns = (TextColumn("epoch"), MofNCompleteColumn(), BarColumn(20), words, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=config.epochs, train=np.nan, valid=np.nan, best=0)

        def show(training: Training) -> None:
            curve = training.curve(0)
            (train, valid), best = curve[-1], best_epoch(curve, config.objective)
            bar.update(task, completed=training.epoch, train=train, valid=valid, best=best)

        yield show
