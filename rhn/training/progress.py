"""Show the progress of a training on stderr: its kernel, its speed, the time left, one line an epoch, and on a terminal a bar."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from rhn.training.losses import measure
from rhn.training.trainer import Trainer
from rhn.utils.progress import LINE_SECONDS, Speed, duration, lines_of, rate_words

FIRST_SECONDS = 20.0  # after which the time left is printed
PAUSE = 0.5  # seconds between two looks at the losses: on a GPU each waits for all work before it


@contextlib.contextmanager
def training_progress() -> Iterator["Progress"]:
    """Call `unit` of the result with the trainer at its start and after every unit, `epoch` with (seed, line of metrics.jsonl)."""
    if not sys.stderr.isatty():
        yield Progress(lambda line: print(line, file=sys.stderr, flush=True))
        return
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TextColumn, TimeRemainingColumn
    from rich.table import Column

    text = TextColumn("{task.description}", table_column=Column(overflow="fold"))  # a narrow terminal gets two lines
    columns = (text, TextColumn("left"), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True), refresh_per_second=2, speed_estimate_period=600) as bars:
        yield Progress(lambda line: bars.console.print(line, highlight=False, soft_wrap=True), bars)


class Progress:
    """Lines and, with `bars`, a bar.

    After the first step: the kernel of the recurrence. After the first units: the speed and the time left. One line for each epoch, and
    now and then one within a long epoch. With a bar these lines are its text.
    """

    def __init__(self, say: Callable[[str], None], bars: Any = None, clock: Callable[[], float] = time.monotonic):
        self._say_line, self._bars, self._clock = say, bars, clock
        self._bar = None if bars is None else bars.add_task("", total=None)
        self._speed, self._told, self._kernel = Speed(clock), False, ""
        self._begun, self._said, self._looked, self._read = None, clock(), clock(), 0
        self._trainer, self._losses = None, ""

    def unit(self, trainer: Trainer) -> None:
        """Show that a unit is done; the first call is before the first unit."""
        self._trainer = trainer
        if not trainer.live():
            return
        if self._begun is None:
            self._begun = self._looked = self._clock()
            return
        self._say_kernel(trainer)
        self._speed.add()
        self._say_speed(trainer)
        done, steps = trainer.position
        now = self._clock()
        if self._bars is None:
            if done and now - self._said >= LINE_SECONDS:
                self._say(f"{_epoch(trainer, 1)}  step {done}/{steps}  {self._running(trainer)}{self._left(trainer)}")
        elif now - self._looked >= PAUSE or not done:
            samples = (trainer.samples_read - self._read) * len(trainer.numbers)
            speed = f"  {samples / max(now - self._looked, 1e-9):,.0f} {_samples(trainer)}/s"
            self._read, self._looked = trainer.samples_read, now
            running = f"  step {done}/{steps}  {self._running(trainer)}" if done else ""
            text = f"{_epoch(trainer, bool(done))}{speed}{running}{self._losses}"
            completed = trainer.epoch + done / steps
            self._bars.update(self._bar, description=text, completed=completed, total=trainer.config.epochs)

    def epoch(self, seed: int, line: dict) -> None:
        """Show the line of an epoch."""
        trainer = self._trainer
        self._say_kernel(trainer)
        losses = "  ".join(f"{split} {_loss(line, split):.4g}" for split in ("train", "valid"))
        self._losses = f"  {losses} {trainer.task.measure_name}"
        more = f"  rate {line['learning_rate']:.4g}" if "learning_rate" in line else ""
        more += f"  gradient {line['gradient_norm']:.3g}" if "gradient_norm" in line else ""
        if self._bars is None:
            of = f"seed {seed}  " if len(trainer.numbers) > 1 else ""
            self._say(f"{of}epoch {line['epoch']}/{trainer.config.epochs}{self._losses}{more}{self._left(trainer)}")

    def _say_kernel(self, trainer: Trainer) -> None:
        """Print, once, what computes the recurrence."""
        if trainer.kernel and not self._kernel:
            self._kernel = trainer.kernel
            self._say(f"recurrence: {self._kernel}")

    def _say_speed(self, trainer: Trainer) -> None:
        """Print, once, the speed and the time left."""
        epoch_ended = not trainer.position[0]
        settled = self._clock() - self._begun >= FIRST_SECONDS or epoch_ended
        if self._told or self._speed.rate is None or not settled:
            return
        unit, most = trainer.task.rate_unit, "at most" if trainer.config.patience else "about"
        left = duration(self._speed.left(_units_left(trainer)))
        self._say(f"{trainer.config.epochs} epochs: {rate_words(self._speed.rate, unit)}, {most} {left} left")
        self._told = True

    def _left(self, trainer: Trainer) -> str:
        left = self._speed.left(_units_left(trainer))
        return "" if left is None else f"  {duration(left)} left"

    def _running(self, trainer: Trainer) -> str:
        """Loss and gradient norm of the last steps, and the learning rate."""
        nll, norm = trainer.running()
        name = trainer.task.measure_name
        loss = f"{measure(nll, name.replace('/', '_per_')):.4g} {name}"
        return f"{loss}  gradient norm {norm:.3g}  learning rate {trainer.config.rate(trainer.epoch + 1):.4g}"

    def _say(self, text: str) -> None:
        self._say_line(lines_of(text))
        self._said = self._clock()


def _epoch(trainer: Trainer, more: int) -> str:
    return f"epoch {trainer.epoch + more}/{trainer.config.epochs}"


def _samples(trainer: Trainer) -> str:
    return "frames" if trainer.task.unit == "epoch" else "tokens"


def _loss(line: dict, split: str) -> float:
    return next(value for name, value in line.items() if name.startswith(split))


def _units_left(trainer: Trainer) -> int:
    """Units of all remaining epochs: epochs, or steps as many an epoch as in this one."""
    done, steps = trainer.position
    epochs = trainer.config.epochs - trainer.epoch
    return epochs if trainer.task.unit == "epoch" else epochs * steps - done
