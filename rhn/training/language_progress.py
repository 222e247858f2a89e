"""How a language model's training is doing: kernel, speed, time left; a line an epoch, on a terminal one that moves; TensorBoard."""

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rhn.errors import InvalidInputError
from rhn.training.config import LanguageConfig
from rhn.training.language import Training
from rhn.training.losses import measure
from rhn.utils.progress import LINE_SECONDS, Speed, duration, lines_of, rate_words

FIRST_SECONDS = 20.0  # after which the time left is told
WORTH_SAYING = 60.0  # seconds left: before the first steps are timed, less is not told
PAUSE = 0.5  # seconds between two looks at the losses: on a GPU each waits for all work before it


@contextlib.contextmanager
def training_progress(config: LanguageConfig, seeds: Sequence[int], name: str) -> Iterator["_Lines | _Bar"]:
    """What to call, as `unit`, with the training after every window, and as `epoch` with (seed, line of metrics.jsonl).

    `name` is what is measured, "perplexity" or "bits_per_character".
    """
    if not sys.stderr.isatty():
        yield _Lines(config, seeds, name)
        return
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    words = TextColumn("{task.description}", table_column=Column(overflow="fold"))  # a narrow terminal gets two lines
    columns = (words, TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=2, speed_estimate_period=600) as progress:
        yield _Bar(config, name, progress)


@contextlib.contextmanager
def tensorboard_writer(folder: Path | None) -> Iterator[Callable[[int, dict], None]]:
    """What to call with (seed, line of metrics.jsonl): writes events to folder/tensorboard/seed-N, or nothing where None.

    Raises InvalidInputError where the package is missing.
    """
    if folder is None:
        yield lambda seed, line: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InvalidInputError(
            "--tensorboard needs the package tensorboard: pip install 'rhn-toolkit[tensorboard]'"
        ) from error
    with contextlib.ExitStack() as files:
        writers = {}

        def write(seed: int, line: dict) -> None:
            if seed not in writers:
                home = str(folder / "tensorboard" / f"seed-{seed}")
                writers[seed] = files.enter_context(SummaryWriter(home, purge_step=line["epoch"]))
            for name, value in line.items():
                if name != "epoch":
                    writers[seed].add_scalar(name, value, line["epoch"])

        yield write


class _Lines:
    """A line an epoch on stderr, in long ones also now and then; at the beginning what computes the recurrence, how fast, and how long
    it will take."""

    def __init__(self, config: LanguageConfig, seeds: Sequence[int], name: str):
        self._epochs, self._several, self._name = config.epochs, len(seeds) > 1, name
        self._said = time.monotonic()
        self._start = _Start(config, self._say)

    def unit(self, training: Training) -> None:
        self._start.unit(training)
        epoch, done, windows = training.position
        if training.finished or not done or time.monotonic() - self._said < LINE_SECONDS:
            return
        left, (nll, _) = self._start.left(training), training.running()
        loss = f"{measure(nll, self._name):.4g} {self._name.replace('_per_', '/')}"
        words = f"epoch {epoch}/{self._epochs}  step {done}/{windows}  {loss}"
        self._say(lines_of(words if left is None else f"{words}  {duration(left)} left"))

    def epoch(self, seed: int, line: dict) -> None:
        of = f"seed {seed}  " if self._several else ""
        losses = "  ".join(f"{split} {line[f'{split}_{self._name}']:.4g}" for split in ("train", "valid"))
        rate = f"rate {line['learning_rate']:.4g}  gradient {line['gradient_norm']:.3g}"
        told = f"{of}epoch {line['epoch']}/{self._epochs}  {losses} {self._name.replace('_per_', '/')}  {rate}"
        self._say(lines_of(told))

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        self._said = time.monotonic()


class _Bar:
    """One line on a terminal, that moves at most twice a second."""

    def __init__(self, config: LanguageConfig, name: str, progress):
        self._config, self._name, self._progress = config, name, progress
        self._task = progress.add_task("", total=config.epochs)
        self._valid, self._read, self._since = "", 0, time.monotonic()
        self._start = _Start(config, lambda line: progress.console.print(line, highlight=False, soft_wrap=True))

    def unit(self, training: Training) -> None:
        self._start.unit(training)
        now = time.monotonic()
        epoch, done, windows = training.position
        if now - self._since < PAUSE or not done:
            return
        nll, norm = training.running()
        speed = (training.tokens_read - self._read) * len(training.live) / (now - self._since)
        self._read, self._since = training.tokens_read, now
        words = (
            f"epoch {epoch}/{self._config.epochs}  step {done}/{windows}  {speed:,.0f} tokens/s  "
            f"{measure(nll, self._name):.4g} {self._name.replace('_per_', '/')}{self._valid}  "
            f"gradient norm {norm:.3g}  learning rate {self._config.rate(epoch):.4g}"
        )
        self._progress.update(self._task, description=words, completed=epoch - 1 + done / windows)

    def epoch(self, seed: int, line: dict) -> None:
        self._valid = f"  valid {line[f'valid_{self._name}']:.4g}"


class _Start:
    """Says once what computes the recurrence, and once, from the first windows, how long the training will take."""

    def __init__(self, config: LanguageConfig, say: Callable[[str], None]):
        self._epochs, self._say, self._speed = config.epochs, say, Speed(time.monotonic)
        self._begun, self._told, self._windows = None, False, 0

    def unit(self, training: Training) -> None:
        if training.finished:
            return
        if self._begun is None:
            pace = training.profile()
            self._say(lines_of(f"recurrence: {pace}"))
            self._begun = time.monotonic()
            if not math.isnan(pace.step) and (seconds := pace.step * self._windows_left(training)) >= WORTH_SAYING:
                self._say(lines_of(f"about {duration(seconds)} left, judged by the gradients of one window"))
            return
        windows = training.position[2]
        self._windows += 1
        self._speed.reached(self._windows)
        epoch_ended, left = not training.position[1], self.left(training)
        if self._told or left is None or (time.monotonic() - self._begun < FIRST_SECONDS and not epoch_ended):
            return
        rate = rate_words(self._speed.rate, "windows")
        told = f"{windows} windows an epoch: {rate}, {self._epochs} epochs: about {duration(left)} left"
        self._say(lines_of(told))
        self._told = True

    def left(self, training: Training) -> float | None:
        """Seconds; None while unknown."""
        return self._speed.left(self._windows_left(training))

    def _windows_left(self, training: Training) -> int:
        epoch, done, windows = training.position
        return (self._epochs - epoch + 1) * windows - done
