"""A language model's training in a folder, as `rhn.training.driver` has it.

    metrics.jsonl        a line an epoch: epoch, train_perplexity, valid_perplexity (or ..._bits_per_character), and more
    last.safetensors     the checkpoint of the last epoch
    speed.jsonl          a line an epoch that was ended: tokens read for it since it began or went on, in how many seconds

The test text is never looked at: `rhn evaluate` reads it.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from rhn.checkpoints import save_checkpoint
from rhn.data.text import TextCorpus
from rhn.training.config import LanguageConfig
from rhn.training.driver import drive
from rhn.training.language import Training
from rhn.training.losses import measure, measure_name
from rhn.training.run_folder import add_line, homes
from rhn.utils.io import finite_json


@dataclass(frozen=True)
class Result:
    """What a training came to, for one seed; losses at the best epoch, in nats a token (train: with dropout, during the epoch)."""

    seed: int
    checkpoint: str
    """Of the best epoch; where none has ended, of the weights as they were when the training stopped."""
    best_epoch: int
    """0 where none has ended."""
    train_nll: float
    valid_nll: float
    epochs: int
    steps: tuple[int, int]
    """Done of the epoch that it is in, and how many there are in it."""
    finished: bool
    """False where time ran out first."""
    diverged: str | None


def train(
    config: LanguageConfig,
    corpus: TextCorpus,
    out: str | Path,
    *,
    seeds: Sequence[int] | None = None,
    device: str = "cpu",
    about: Mapping[str, str | None] = MappingProxyType({}),
    **how,
) -> list[Result]:
    """Train, or go on where the folder says; one result a seed.

    seeds: trained side by side as one program; default: the configuration's alone.
    about: entries that config.json keeps beside the configuration, and that may change.
    how: threads, max_minutes, on_unit, on_epoch and on_save; they and the errors are those of `rhn.training.driver.drive`.
    """
    seeds = seeds or (config.seed,)
    run = _Run(Path(out), config, corpus, seeds, device)  # what cannot be built leaves no folder behind
    fixed, free = {"seeds": list(seeds), "text": corpus.checksum}, {"device": device, **about}
    drive(run, run.folder, config, fixed=fixed, free=free, **how)
    return [run.result(seed) for seed in seeds]


class _Run:
    """Implements `rhn.training.driver.Run`: a unit is a window of the text."""

    unit, saves_every_epoch = "step", True  # the weights of an epoch's end are nowhere else

    def __init__(self, folder: Path, config: LanguageConfig, corpus: TextCorpus, seeds: Sequence[int], device: str):
        self._config, self._corpus, self._measure = config, corpus, measure_name(corpus.vocabulary)
        self.training = Training(config, corpus, seeds=seeds, device=device)
        self.folder, self.homes = folder, homes(folder, seeds)
        self._since, self._read = time.monotonic(), 0

    def begin(self, saved: Mapping[str, np.ndarray] | None) -> None:
        if saved is not None:
            self.training.resume({name: torch.from_numpy(array) for name, array in saved.items()})
        self._since = time.monotonic()

    @property
    def epochs(self) -> int:
        return self.training.position[0] - 1

    @property
    def finished(self) -> bool:
        return self.training.finished

    def advance(self) -> bool:
        return self.training.run_window()

    def lines(self, seed: int) -> list[dict]:
        return [self._line(epoch, losses) for epoch, losses in enumerate(self.training.curve(seed), start=1)]

    def keep(self, ended: bool) -> None:
        if not ended:
            return
        for seed in self.training.live:
            lines = self.lines(seed)
            self._checkpoint(seed, "last.safetensors", lines[-1])
            if self._best_epoch(seed) == len(lines):
                self._checkpoint(seed, "best.safetensors", lines[-1])
        self._end_speed()

    def leave(self) -> None:
        """Before the first epoch ends there is no best one: its checkpoint is of the weights of now, which nobody has validated."""
        _, done, windows = self.training.position
        for seed in self.training.live if done else ():
            if not self.training.curve(seed):
                self._checkpoint(seed, "best.safetensors", {"epoch": 0, "step": done, "steps_an_epoch": windows})

    def arrays(self) -> Mapping[str, object]:
        return self.training.arrays()

    def result(self, seed: int) -> Result:
        path, curve, best = (
            str(self.homes[seed] / "best.safetensors"),
            self.training.curve(seed),
            self._best_epoch(seed),
        )
        losses = curve[best - 1][:2] if best else (math.nan, math.nan)
        steps = self.training.position[1:]
        return Result(seed, path, best, *losses, len(curve), steps, self.finished, self.training.diverged.get(seed))

    def _best_epoch(self, seed: int) -> int:
        """The first epoch, from 1, with the least validation loss; 0 where there is none."""
        losses = [epoch.valid_nll for epoch in self.training.curve(seed)]
        return 1 + losses.index(min(losses)) if losses else 0

    def _line(self, number: int, epoch) -> dict:
        name = self._measure
        losses = {f"{split}_{name}": measure(getattr(epoch, f"{split}_nll"), name) for split in ("train", "valid")}
        return {"epoch": number, **losses, "learning_rate": epoch.learning_rate, "gradient_norm": epoch.gradient_norm}

    def _checkpoint(self, seed: int, name: str, metrics: dict) -> None:
        save_checkpoint(
            self.homes[seed] / name,
            self.training.model(seed),
            train=asdict(self._config) | {"seed": seed},
            data={"name": self._corpus.name, "source": self._corpus.source, "checksum": self._corpus.checksum},
            vocabulary=self._corpus.vocabulary.to_json(),
            metrics=finite_json(metrics),
        )

    def _end_speed(self) -> None:
        """Write how fast the training has been since the last such line, validation and saving included."""
        seconds, tokens = time.monotonic() - self._since, self.training.tokens_read - self._read
        self._since, self._read = time.monotonic(), self.training.tokens_read
        line = {"epoch": self.epochs, "tokens": tokens, "seconds": seconds}
        line |= {"tokens_per_second": tokens * len(self.training.live) / seconds, "device": str(self.training.device)}
        add_line(self.folder / "speed.jsonl", line)
