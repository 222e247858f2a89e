"""A language model's training in a folder: stopped at any moment, the same call goes on and ends as if nothing had happened.

    config.json          what is trained, on which text, with which seeds
    metrics.jsonl        a line an epoch: epoch, train_perplexity, valid_perplexity (or ..._bits_per_character), and more
    best.safetensors     the checkpoint of the best epoch on validation so far, with its vocabulary
    last.safetensors     the checkpoint of the last epoch
    state.safetensors    all that going on needs, saved every now and then and at the end
    speed.jsonl          a line an epoch that was ended: tokens read for it since it began or went on, in how many seconds

With several seeds each has its own metrics.jsonl, best and last in seed-N/. The test text is never looked at: `rhn evaluate` reads it.
"""

import contextlib
import json
import logging
import math
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from rhn.checkpoints import save_checkpoint
from rhn.data.text import TextCorpus
from rhn.engine.folder import held, metrics_file, require_same_training
from rhn.engine.numerics import exact
from rhn.engine.state import read_state, write_state
from rhn.errors import DataError, DivergedError, InvalidInputError
from rhn.files import finite_json, writing
from rhn.interrupts import Interrupted, deferred_interrupt
from rhn.language.config import LanguageConfig
from rhn.language.evaluation import perplexity
from rhn.language.loop import Epoch, LanguageTraining

SAVE_SHARE = 0.02  # of the time may go into saving: a kill costs as much as is trained meanwhile
FREE = ("epochs", "device")  # a finished training may go on: no epoch depends on how many follow
DEFAULTS = {f.name: f.default for f in fields(LanguageConfig) if f.default is not MISSING}

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a training came to, for one seed; losses at the best epoch, in nats a token (train: with dropout, during the epoch)."""

    seed: int
    checkpoint: str
    best_epoch: int
    train_nll: float
    valid_nll: float
    epochs: int
    finished: bool
    """False where time ran out first."""
    diverged: str | None


def train_language_model(
    config: LanguageConfig,
    corpus: TextCorpus,
    out: str | Path,
    *,
    seeds: Sequence[int] | None = None,
    device: str = "cpu",
    threads: int = 1,
    max_minutes: float = math.inf,
    about: Mapping[str, str | None] = MappingProxyType({}),
    on_window: Callable[[LanguageTraining], None] = lambda training: None,
    on_epoch: Callable[[int, dict], None] = lambda seed, metrics: None,
) -> list[Result]:
    """Train, or go on where the folder says; one result a seed.

    Args:
        seeds: trained side by side as one program; default: the configuration's alone.
        threads: of a CPU; the numbers are the same bits for one thread, and nearly so for more.
        max_minutes: stop after so long, saved; the same call goes on.
        about: entries that config.json keeps beside the configuration, and that may change.
        on_window: called after every window; on_epoch(seed, line of metrics.jsonl) after every epoch.

    Raises:
        InvalidInputError: the folder holds another training; the message names what differs.
        DataError: the text is too short, or the saved state is damaged.
        DivergedError: no loss is finite any more; the best checkpoint so far stays.
        OutputError: the folder cannot be written to, or another process trains in it.
        Interrupted: Ctrl-C; everything is saved.
    """
    folder, seeds = Path(out), tuple(seeds or (config.seed,))
    # what cannot be built leaves no folder behind
    training = LanguageTraining(config, corpus, seeds=seeds, device=device)
    with held(folder), deferred_interrupt("step") as interrupt, exact(threads):
        told = asdict(config) | {"seeds": list(seeds), "text": corpus.checksum, "device": device, **about}
        new = _begin(folder, training, told, free=(*FREE, *about))
        with _Run(folder, training, config, corpus, seeds) as run, _explained(folder):
            deadline, next_save = time.monotonic() + 60 * max_minutes, 0.0
            if new:
                run.save()
            while not training.finished:
                if ended := training.run_window():
                    for seed in training.live:
                        on_epoch(seed, run.end_epoch(seed))
                    run.end_speed()
                on_window(training)
                now = time.monotonic()
                if ended or interrupt.pending or now > min(next_save, deadline):
                    run.save()
                    next_save = time.monotonic() + (time.monotonic() - now) / SAVE_SHARE
                if interrupt.pending:
                    raise Interrupted(f"stopped and saved; rhn resume {shlex.quote(str(folder))} goes on")
                if now > deadline:
                    break
            return [run.result(seed) for seed in seeds]


def measure_name(vocabulary) -> str:
    """What a text of this vocabulary is measured in: "perplexity" for words, "bits_per_character" for the others."""
    return "perplexity" if vocabulary.unit == "words" else "bits_per_character"


def measure(nll: float, name: str) -> float:
    """A loss in nats a token as perplexity or bits."""
    return perplexity(nll) if name == "perplexity" else nll / math.log(2)


class _Run:
    """The files of one training in its folder."""

    def __init__(self, folder, training: LanguageTraining, config, corpus: TextCorpus, seeds: tuple[int, ...]):
        self._folder, self._training, self._config, self._corpus = folder, training, config, corpus
        self._name = measure_name(corpus.vocabulary)
        self._since, self._read = time.monotonic(), 0
        self._homes = {seed: folder if len(seeds) == 1 else folder / f"seed-{seed}" for seed in seeds}

    def __enter__(self) -> "_Run":
        with contextlib.ExitStack() as files:
            self._write = {}
            for seed, home in self._homes.items():
                home.mkdir(exist_ok=True)
                lines = [self._line(k, epoch) for k, epoch in enumerate(self._training.curve(seed), start=1)]
                self._write[seed] = files.enter_context(metrics_file(home / "metrics.jsonl", lines))
            self._files = files.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self._files.close()

    def end_epoch(self, seed: int) -> dict:
        """Write a seed's line and checkpoints; returns the line."""
        curve = self._training.curve(seed)
        line = self._line(len(curve), curve[-1])
        self._checkpoint(seed, "last.safetensors", line)
        if _best(curve) == len(curve):
            self._checkpoint(seed, "best.safetensors", line)
        self._write[seed](line)
        return line

    def end_speed(self) -> None:
        """Write how fast the training has been since the last such line, validation and saving included."""
        seconds, tokens = time.monotonic() - self._since, self._training.tokens_read - self._read
        self._since, self._read = time.monotonic(), self._training.tokens_read
        epoch, _, _ = self._training.position
        rate = tokens * len(self._training.live) / seconds
        line = {"epoch": epoch - 1, "tokens": tokens, "seconds": seconds, "tokens_per_second": rate}
        path = self._folder / "speed.jsonl"
        with writing(path), path.open("a") as file:
            file.write(json.dumps(line | {"device": str(self._training.device)}) + "\n")

    def save(self) -> None:
        """Save the state, unless a loss is not finite; checkpoints were saved before it, so a kill between loses nothing."""
        self._training.check()
        write_state(self._folder / "state.safetensors", self._training.arrays())

    def result(self, seed: int) -> Result:
        curve = self._training.curve(seed)
        best = _best(curve)
        return Result(
            seed=seed,
            checkpoint=str(self._homes[seed] / "best.safetensors"),
            best_epoch=best,
            train_nll=curve[best - 1].train_nll if best else math.nan,
            valid_nll=curve[best - 1].valid_nll if best else math.nan,
            epochs=len(curve),
            finished=self._training.finished,
            diverged=self._training.diverged.get(seed),
        )

    def _line(self, number: int, epoch: Epoch) -> dict:
        losses = {
            f"{split}_{self._name}": measure(getattr(epoch, f"{split}_nll"), self._name) for split in ("train", "valid")
        }
        return {"epoch": number, **losses, "learning_rate": epoch.learning_rate, "gradient_norm": epoch.gradient_norm}

    def _checkpoint(self, seed: int, name: str, metrics: dict) -> None:
        save_checkpoint(
            self._homes[seed] / name,
            self._training.model(seed),
            train=asdict(self._config) | {"seed": seed},
            data={"name": self._corpus.name, "source": self._corpus.source, "checksum": self._corpus.checksum},
            vocabulary=self._corpus.vocabulary.to_json(),
            metrics=finite_json(metrics),
        )


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Say beside what diverged what is left and what to do."""
    try:
        yield
    except DivergedError as error:
        kept = sorted(str(path) for path in folder.rglob("best.safetensors"))
        left = f"the last good weights are in {', '.join(kept)}" if kept else "no epoch was finished before"
        raise DivergedError(f"{error}; {left}; try a lower learning rate in another --out") from None


def _best(curve: list[Epoch]) -> int:
    """The first epoch, from 1, with the least validation loss; 0 where there is none."""
    return min(range(1, len(curve) + 1), key=lambda k: curve[k - 1].valid_nll, default=0)


def _begin(folder: Path, training: LanguageTraining, told: dict, free: Sequence[str]) -> bool:
    """See that the folder is of this training and go on from its state; whether there was none."""
    path = folder / "state.safetensors"
    saved = _saved(path)
    done = 0 if saved is None else int(saved["position"][0]) - 1
    if done > told["epochs"]:
        raise InvalidInputError(f"{folder} has done {done} epochs already, expected --epochs of {done} or more")
    before = require_same_training(folder / "config.json", told, free=tuple(free), defaults=DEFAULTS)
    if before and before.get("device", told["device"]) != told["device"]:
        _logger.warning("this training was begun on %s: on %s other masks are drawn", before["device"], told["device"])
    if saved is not None:
        try:
            training.resume(saved)
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(path, error) from error
    return saved is None


def _saved(path: Path) -> dict[str, Tensor] | None:
    """The state of a training; None where nothing was saved."""
    if (saved := read_state(path)) is None:
        metrics = [*path.parent.glob("metrics.jsonl"), *path.parent.glob("seed-*/metrics.jsonl")]
        if any(file.stat().st_size for file in metrics):
            raise DataError(f"{path} is missing, though epochs were done: put it back, or give another --out") from None
        return None
    return {name: torch.from_numpy(array) for name, array in saved[0].items()}


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} is damaged ({error}): delete it and what else is in its folder to begin this training again"
    )
