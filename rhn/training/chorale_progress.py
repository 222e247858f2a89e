"""How a training is doing, on stderr: its kernel, its speed and the time left; on a terminal also a line that moves."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rhn.training.chorales import Training
from rhn.training.config import ChoraleConfig
from rhn.training.curves import best_epoch
from rhn.utils.progress import LINE_SECONDS, Speed, duration, lines_of, rate_words


@contextlib.contextmanager
def training_progress(config: ChoraleConfig) -> Iterator[Callable[[Training], None]]:
    """What to call with the training at its start and after every epoch."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    words = TextColumn("{task.description}", table_column=Column(overflow="fold"))  # a narrow terminal gets two lines
    columns = (words, TextColumn("left"), TimeRemainingColumn())
    console, live = Console(stderr=True), sys.stderr.isatty()
    with Progress(*columns, console=console, disable=not live) as bar:
        task, lines = bar.add_task(f"epoch 0/{config.epochs}", total=config.epochs), Lines(config, live)

        def show(training: Training) -> None:
            curve = training.curve(0)
            (train, valid), best = curve[-1], best_epoch(curve, config.objective)
            epochs = f"epoch {training.epoch}/{config.epochs}"
            words = f"{epochs}  train {train:.3f}  valid {valid:.3f} nats/frame  best epoch {best}"
            bar.update(task, completed=training.epoch, description=words)
            for line in lines.of(training):
                console.print(line, highlight=False, soft_wrap=True)

        yield show


class Lines:
    """What is said at the start, of the first epochs, and where there is no terminal now and then."""

    def __init__(self, config: ChoraleConfig, live: bool, clock: Callable[[], float] = time.monotonic):
        self._config, self._live, self._clock = config, live, clock
        self._speed, self._said = Speed(clock), None

    def of(self, training: Training) -> Iterator[str]:
        """The lines that are due."""
        if not training.live():
            return
        if self._said is None:  # the start
            yield lines_of(f"recurrence: {training.profile()}")
            self._said = self._clock()
            return
        told = self._speed.rate is not None
        self._speed.reached(training.epoch)
        if self._speed.rate is None:
            return
        left = duration(self._speed.left(self._config.epochs - training.epoch))
        rate = rate_words(self._speed.rate, "epochs")
        if not told:
            yield lines_of(f"{self._config.epochs} epochs: {rate}, at most {left} left")
        elif not self._live and self._clock() - self._said >= LINE_SECONDS:
            train, valid = training.curve(0)[-1]
            losses = f"train {train:.3f}  valid {valid:.3f} nats/frame"
            yield lines_of(f"epoch {training.epoch}/{self._config.epochs}  {losses}  {rate}  {left} left")
            self._said = self._clock()
