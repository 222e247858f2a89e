"""Show a training on stderr: its kernel, its speed, the time left, a line for each epoch and now and then one within a long epoch."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from rhn.training.losses import measure
from rhn.training.run import Callback
from rhn.training.trainer import Trainer
from rhn.utils.progress import LINE_SECONDS, Speed, duration, lines_of, rate_words

FIRST_SECONDS = 20.0  # after which the time left is printed
PAUSE = 0.5  # seconds between two changes of the bar: on a GPU each look at the losses waits for all work before it
UNITS = {"nll": ("nats/frame", "frames"), "perplexity": ("perplexity", "tokens")}
UNITS["bits_per_character"] = ("bits/character", "tokens")


@contextlib.contextmanager
def training_progress() -> Iterator["Progress"]:
    """A progress on stderr, with a bar if that is a terminal."""
    if not sys.stderr.isatty():
        yield Progress(lambda line: print(line, file=sys.stderr, flush=True))
        return
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("") as status:
        yield Progress(lambda line: console.print(line, highlight=False, soft_wrap=True), status.update)


class Progress(Callback):
    """Print lines with `say`; `bar` shows the present text in their place, if there is one."""

    def __init__(
        self,
        say: Callable[[str], Any],
        bar: Callable[[str], Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._say, self._bar, self._clock = say, bar, clock
        self._speed, self._begun, self._estimated, self._kernel = Speed(clock), None, False, ""
        self._shown, self._read, self._losses = clock(), 0, ""
        self._trainer: Any = None

    def step(self, trainer: Trainer) -> None:
        """Count a step, and print what is due; the first call is before the first step."""
        self._trainer, now = trainer, self._clock()
        if self._begun is None:
            self._begun = self._shown = now
            return
        self._say_kernel()
        self._speed.add()
        self._say_speed(now)
        done, steps = trainer.position
        if trainer.live() and done and now - self._shown >= (LINE_SECONDS if self._bar is None else PAUSE):
            samples = (trainer.samples_read - self._read) * len(trainer.numbers) / max(now - self._shown, 1e-9)
            speed = "" if self._bar is None else f"  {samples:,.0f} {_units(trainer)[1]}/s"
            where = f"epoch {trainer.epoch + 1}/{trainer.config.epochs}  step {done}/{steps}"
            self._show(f"{where}{speed}  {self._running(trainer)}{self._left()}")

    def epoch(self, seed: int, line: dict) -> None:
        """Print the line of an epoch."""
        self._say_kernel()
        trainer = self._trainer
        losses = "  ".join(f"{split} {_loss(line, split):.4g}" for split in ("train", "valid"))
        self._losses = f"  {losses} {_units(trainer)[0]}"
        more = f"  rate {line['learning_rate']:.4g}" if "learning_rate" in line else ""
        more += f"  gradient {line['gradient_norm']:.3g}" if "gradient_norm" in line else ""
        of = f"seed {seed}  " if len(trainer.numbers) > 1 else ""
        self._show(f"{of}epoch {line['epoch']}/{trainer.config.epochs}{self._losses}{more}{self._left()}")

    def _show(self, text: str) -> None:
        self._shown, self._read = self._clock(), self._trainer.samples_read
        self._say(lines_of(text)) if self._bar is None else self._bar(text + self._losses)

    def _say_kernel(self) -> None:
        """Print, once, what computes the recurrence."""
        if self._trainer.kernel and not self._kernel:
            self._kernel = self._trainer.kernel
            self._say(lines_of(f"recurrence: {self._kernel}"))

    def _say_speed(self, now: float) -> None:
        """Print, once, the speed and the time left."""
        trainer = self._trainer
        settled = now - self._begun >= FIRST_SECONDS or not trainer.position[0]
        if self._estimated or self._speed.rate is None or not settled or not trainer.live():
            return
        most = "at most" if trainer.config.patience else "about"
        speed = rate_words(self._speed.rate, "steps")
        self._say(lines_of(f"{trainer.config.epochs} epochs: {speed}, {most}{self._left()[1:]}"))
        self._estimated = True

    def _left(self) -> str:
        done, steps = self._trainer.position
        left = self._speed.left((self._trainer.config.epochs - self._trainer.epoch) * steps - done)
        return f"  {duration(left)} left" if left else ""

    def _running(self, trainer: Trainer) -> str:
        """Loss and gradient norm of the last steps, and the learning rate."""
        nll, *norm = trainer.running()
        unit = trainer.columns[0].partition("_")[2]
        rate = f"learning rate {trainer.config.learning_rate / trainer.task.schedule(trainer.epoch + 1):.4g}"
        return "  ".join(
            [f"{measure(nll, unit):.4g} {_units(trainer)[0]}", *(f"gradient norm {n:.3g}" for n in norm), rate]
        )


def _units(trainer: Trainer) -> tuple[str, str]:
    """The units of losses and of samples."""
    return UNITS[trainer.columns[0].partition("_")[2]]


def _loss(line: dict, split: str) -> float:
    return next(value for name, value in line.items() if name.startswith(split))
