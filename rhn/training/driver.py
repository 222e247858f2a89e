"""Trains anything in a folder: stopped at any moment, the same call goes on and ends as if nothing had happened.

    config.json          what is trained, and on which data
    metrics.jsonl        a line an epoch
    best.safetensors     the checkpoint of the best epoch so far
    state.safetensors    all that going on needs, saved every now and then and at the end

With several seeds each has its own metrics.jsonl and checkpoints in seed-N/. The state is the truth: lines of epochs after it are
dropped and written again, with the same numbers (on a CPU, the same bits). Checkpoints are written before the state, so a kill between
them leaves nothing that is not written again.
"""

import contextlib
import logging
import math
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rhn.errors import DataError, DivergedError, InvalidInputError, RhnError
from rhn.training.numerics import deterministic
from rhn.training.run_folder import add_line, locked, require_own_folder, require_same_training, write_lines
from rhn.training.state import read_state, write_state
from rhn.utils.interrupts import Interrupted, deferred_interrupt

SAVE_SHARE = 0.02  # of the time may go into saving: a kill costs as much as is trained meanwhile

_logger = logging.getLogger(__name__)


class Run(Protocol):
    """A training as the driver sees it. Its unit, after which it can stop, is an epoch, or a window of a text."""

    unit: str
    """What Ctrl-C lets finish, in a word."""
    homes: Mapping[int, Path]
    """Where the files of each seed are: the folder itself, or seed-N/ in it."""
    saves_every_epoch: bool
    """Whether `keep` has to be called at the end of each epoch."""
    training: Any
    """What callers are shown after every unit."""

    def begin(self, saved: Mapping[str, np.ndarray] | None) -> None:
        """Start, or go on from `arrays`; raises KeyError, TypeError or ValueError where they are of another training."""

    @property
    def epochs(self) -> int:
        """Epochs done."""

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""

    def advance(self) -> bool:
        """Train one unit; whether that ended an epoch. Raises DivergedError where nothing is left that could be trained on."""

    def lines(self, seed: int) -> list[dict]:
        """The lines of a seed's metrics.jsonl so far, with their "epoch"; what is not finite becomes null there."""

    def keep(self, ended: bool) -> None:
        """Write the checkpoints; `ended`: an epoch has just ended."""

    def leave(self) -> None:
        """Called where the training stops before its end, when all is saved: write what there would be nothing of else."""

    def arrays(self) -> Mapping[str, object]:
        """All that going on needs, by name."""


def drive(
    run: Run,
    folder: Path,
    config,
    *,
    fixed: Mapping[str, object],
    free: Mapping[str, object],
    threads: int = 1,
    max_minutes: float = math.inf,
    on_unit: Callable[[Any], None] = lambda training: None,
    on_epoch: Callable[[int, dict], None] = lambda seed, line: None,
    on_save: Callable[[], None] = lambda: None,
) -> None:
    """Train in a folder until nothing is left to train or time runs out; with everything saved then.

    Args:
        config: what is trained, a dataclass; its `epochs` may differ from those the folder was begun with.
        fixed, free: what config.json keeps beside it, such as the data's checksum; what is free may change.
        threads: of a CPU; the numbers are the same bits for one thread, and nearly so for more.
        max_minutes: stop after so long; the same call goes on.
        on_unit: called with the training at the start and after every unit.
        on_epoch: called with (seed, line of metrics.jsonl) after every epoch.
        on_save: called before every save, so that what it writes is never behind the state.

    Raises:
        InvalidInputError: the folder holds something else; the message names what differs.
        DataError: the saved state is damaged, missing or cannot be read.
        DivergedError: nothing finite is left to train; the best checkpoint so far stays.
        OutputError: the folder cannot be written to, or another process trains in it.
        Interrupted: Ctrl-C; everything is saved.
    """
    require_own_folder(folder)

    def save(ended: bool) -> None:
        arrays = run.arrays()
        on_save()
        run.keep(ended)
        write_state(folder / "state.safetensors", arrays, {"epochs": str(run.epochs)})

    with deterministic(threads), locked(folder), deferred_interrupt(run.unit) as interrupt, _explained(folder):
        deadline, next_save = time.monotonic() + 60 * max_minutes, 0.0
        if _begin(run, folder, config, fixed, free):
            save(ended=False)
        for seed, home in run.homes.items():
            home.mkdir(exist_ok=True)
            write_lines(home / "metrics.jsonl", run.lines(seed))
        on_unit(run.training)
        while not run.finished:
            ended = run.advance()
            if ended:
                _write_epoch(run, on_epoch)
            on_unit(run.training)
            now = time.monotonic()
            stop = interrupt.pending or now > deadline
            if stop or now > next_save or run.finished or (ended and run.saves_every_epoch):
                save(ended)
                next_save = time.monotonic() + (time.monotonic() - now) / SAVE_SHARE
            if stop and not run.finished:
                run.leave()
            if interrupt.pending:
                raise Interrupted(
                    f"stopped after epoch {run.epochs}, saved; rhn resume {shlex.quote(str(folder))} goes on"
                )
            if stop:
                break


def _begin(run: Run, folder: Path, config, fixed: Mapping[str, object], free: Mapping[str, object]) -> bool:
    """See that the folder is of this training and go on from its state; whether there was none."""
    path = folder / "state.safetensors"
    saved = read_state(path)
    metrics = [*folder.glob("metrics.jsonl"), *folder.glob("seed-*/metrics.jsonl")]
    if saved is None and any(file.stat().st_size for file in metrics):
        raise DataError(f"{path} is missing, though epochs were done: put it back, or give another --out")
    done = 0 if saved is None else int(saved[1].get("epochs", 0))
    if done > config.epochs:
        raise InvalidInputError(f"{folder} has done {done} epochs already, expected --epochs of {done} or more")
    before = require_same_training(
        folder / "config.json", config, asdict(config) | {**fixed, **free}, {"epochs", *free}
    )
    device, now = (before or {}).get("device"), free.get("device")
    if device != now and device and now:
        _logger.warning("this training was begun on %s: on %s other masks are drawn", device, now)
    try:
        run.begin(None if saved is None else saved[0])
    except RhnError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is of another training ({error}): put its own back, or give another --out") from error
    if before is not None and not run.epochs:
        how = "it begins again" if saved is None else "it goes on from its last save"
        _logger.warning("the training in %s was stopped before its first epoch ended: %s", folder, how)
    return saved is None


def _write_epoch(run: Run, tell: Callable[[int, dict], None]) -> None:
    """Write and tell the line of the epoch that has just ended, of each seed that was trained in it."""
    for seed, home in run.homes.items():
        for line in run.lines(seed)[-1:]:
            if line["epoch"] == run.epochs:
                add_line(home / "metrics.jsonl", line)
                tell(seed, line)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Say beside what diverged what is left and what to do."""
    try:
        yield
    except DivergedError as error:
        kept = sorted(str(path) for path in folder.rglob("best.safetensors"))
        left = f"the last good weights are in {', '.join(kept)}" if kept else "no epoch was finished before"
        raise DivergedError(f"{error}; {left}; try a lower learning rate in another --out") from None
