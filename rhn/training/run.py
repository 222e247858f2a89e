"""Train in a folder. You can stop a training run at any moment; the same call continues it, and the
result is that of an uninterrupted run.

    config.json          configuration and data
    metrics.jsonl        one line for each epoch
    best.safetensors     the checkpoint of the best epoch so far
    state.safetensors    everything that a resume needs, with the best weights; saved regularly
                         and at the end

With several seeds each has its own metrics.jsonl and checkpoint in seed-N/. The other files follow
the state. A resume removes the lines of later epochs and writes them again, with the same numbers
(on a CPU, the same bits); it also writes config.json again. The checkpoint is written after the
line and the state of its epoch, and again by a resume: after a kill it belongs to an epoch that has
a line. One process writes to a folder, and a folder holds one training run.
"""

import json
import math
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np

from rhn.checkpoints import save
from rhn.data import Corpus
from rhn.data.text import TextCorpus
from rhn.errors import DataError, DivergedError, InvalidInputError
from rhn.training.chorales import ChoraleTask, evaluate_chorales
from rhn.training.config import ChoraleConfig, LanguageConfig, read_config
from rhn.training.ensemble import build_models, deterministic
from rhn.training.language import LanguageTask
from rhn.training.own_cell import check_own_cell
from rhn.training.state import (
    Interrupted,
    TrialState,
    best_epoch,
    deferred_interrupt,
    locked,
    read_state,
    resumable,
    write_state,
)
from rhn.training.trainer import Trainer
from rhn.utils.io import as_path, atomic_path, finite_json, remove_leftovers, write_json
from rhn.utils.validation import check_device, in_short, plain

# share of the time for saving: a kill costs as much as is trained between two saves
SAVE_SHARE = 0.02


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training run for one seed. Losses are from the best epoch, in nats per frame
    or token.
    """

    seed: int
    checkpoint: str
    """Checkpoint file of the best epoch; a language model has none before the end of its first
    epoch.
    """
    best_epoch: int
    """The epoch with the best loss; also 0 if no epoch of a language model has ended."""
    train_nll: float
    """Training loss; for language models the mean during the epoch, with dropout."""
    valid_nll: float
    test_nll: float | None
    """Test loss; None for language models, whose test text `rhn evaluate` reads."""
    epochs: int
    last_train_nll: float
    """Training loss of the last epoch."""
    steps: tuple[int, int]
    """Steps done in the present epoch, and number of steps in it."""
    finished: bool
    """False if the time ran out before the end of the training run."""
    diverged: str | None
    """The description of a loss or weight that was no longer finite; None if all were finite."""


class Callback:
    """The base class of callbacks during a training run, such as progress bars and recorders."""

    def step(self, trainer: Trainer) -> None:
        """Called at the start of a training run, and after every optimiser step."""

    def epoch(self, seed: int, line: dict) -> None:
        """Called with each new line of metrics.jsonl, except the line of an epoch in which the seed
        diverged.
        """

    def save(self) -> None:
        """Called before the state is saved, so that the callback's files are not older than the
        state.
        """


def train_in_folder(
    config: ChoraleConfig | LanguageConfig,
    corpus: Corpus | TextCorpus,
    out: str | Path,
    *,
    seeds: Sequence[int] | None = None,
    device: str = "cpu",
    threads: int = 1,
    max_minutes: float = math.inf,
    about: Mapping[str, str | None] = MappingProxyType({}),
    callbacks: Sequence[Callback] = (),
) -> list[TrainingResult]:
    """Train in the folder `out`, or continue the training run in it. Returns one result for each
    seed.

    Args:
        config: the configuration. Its `epochs` may differ from those with which the training run in
            the folder began.
        seeds: seeds to train side by side as one program; default: the seed of the configuration.
        threads: number of CPU threads. Language models have the same bits in every run with one
            thread, and nearly the same numbers with more. Chorales use one thread.
        max_minutes: stop after this many minutes; the same call continues.
        about: more entries of config.json, which a later call may change.

    Raises:
        InvalidInputError: the folder holds another training run or other files (the message names
            the difference); the data are of another kind, the device is missing, or there is no
            seed.
        DataError: the saved state is damaged, missing or cannot be read.
        DivergedError: every seed has diverged; the best checkpoints so far are kept.
        OutputError: the folder cannot be written to, or another process works in it.
        Interrupted: the user pressed Ctrl-C; everything is saved.
    """
    check_data(corpus, text=isinstance(config, LanguageConfig))
    device = check_device(device)
    if not plain(max_minutes) >= 0:
        raise InvalidInputError(f"max_minutes is {max_minutes}: expected a number of at least 0")
    seeds = [config.seed] if seeds is None else seeds
    # first: a model that cannot be built leaves no folder behind
    run = _Run(config, corpus, as_path(out), seeds, device, callbacks)
    with (
        deterministic(threads if run.text else 1),
        locked(run.folder),
        deferred_interrupt() as interrupt,
        resumable(),
    ):
        # not all below: other training runs may be writing there
        for place in (run.folder, *run.folder.glob("seed-*")):
            remove_leftovers(place)
        deadline = time.monotonic() + 60 * max_minutes
        run.begin({"device": device, **about})
        run.train(interrupt, deadline)
        if interrupt.pending:
            raise run.interrupted()
        results = [run.result(seed) for seed in run.seeds]
        if all(result.diverged for result in results):
            raise run.diverged(results[0])
        return results


def check_data(data: Any, *, text: bool) -> None:
    """Raise InvalidInputError unless `data` are of the expected kind: a text if `text`, else
    chorales.
    """
    if isinstance(data, TextCorpus if text else Corpus):
        return
    model, data_set, example = "model of chorales", "chorales", "rhn.load_data()"
    if text:
        model, data_set = "language model", "a text"
        example = 'rhn.load_data("text", path), or "ptb"'
    raise InvalidInputError(
        f"the data are {in_short(data)}, and this is a {model}: expected {data_set}, as of "
        f"{example}"
    )


class _Run:
    """The files of a training run."""

    def __init__(
        self,
        config,
        corpus,
        folder: Path,
        seeds: Sequence[int],
        device: str,
        callbacks: Sequence[Callback],
    ):
        self.folder, self._config, self._corpus, self._callbacks = folder, config, corpus, callbacks
        self.text = isinstance(config, LanguageConfig)
        self._task = (LanguageTask if self.text else ChoraleTask)(config, corpus, device)
        self._models = build_models(self._task.model, seeds, device)
        self.seeds = list(self._models)
        check_own_cell(self._models[self.seeds[0]])
        self._homes = homes(folder, self.seeds)
        self._training = asdict(config)
        if self.text:
            self._training |= {"seeds": self.seeds, "text": corpus.checksum}
        else:
            self._training |= {"data": corpus.checksum}

    def begin(self, about: Mapping[str, object]) -> None:
        """Check that the folder belongs to this training run, build its trainer, and write the
        files that follow from the state.
        """
        saved = read_state(self.folder / "state.safetensors")
        if saved is None:
            require_own_folder(self.folder)
            self.trainer = Trainer(self._task, self._models)
        else:
            self.trainer = self._resumed(*saved)
        for home in self._homes.values():
            home.mkdir(exist_ok=True)
        if saved is None:
            self._write_state()
        write_json(self.folder / "config.json", {**self._training, **about}, indent=2)
        for seed, home in self._homes.items():
            write_lines(home / "metrics.jsonl", self._lines(seed))
        self._write_checkpoints()

    def train(self, interrupt: SimpleNamespace, deadline: float) -> None:
        """Train to the end, or until an interrupt or the deadline (`time.monotonic`), and save
        regularly.

        A language model is also saved after each epoch; other models save several times in an
        epoch.
        """
        self._report_step()
        next_save, over = 0.0, not self.trainer.live()
        while not over:
            ended = self.trainer.run_step()
            if ended:
                self.end_epoch()
            self._report_step()
            now = time.monotonic()
            over = interrupt.pending or now > deadline or not self.trainer.live()
            due = now > next_save or (ended and self.text)
            if over or due:
                self.save()
                next_save = time.monotonic() + (time.monotonic() - now) / SAVE_SHARE

    def _report_step(self) -> None:
        for callback in self._callbacks:
            callback.step(self.trainer)

    def _resumed(self, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> Trainer:
        """Build the trainer of a saved state. Raises InvalidInputError for the state of another
        training run.
        """
        try:
            there = json.loads(metadata["training"])
            done = int(metadata["epochs"])
            if different := differences(self._training, there):
                raise InvalidInputError(
                    self._edited(there)
                    or f"{self.folder} holds another training run: {different}; give the same "
                    "values or another --out"
                )
            if done > self._config.epochs:
                raise InvalidInputError(
                    f"{self.folder} has done {done} epochs already, expected --epochs of "
                    f"{done} or more"
                )
            saved = {seed: self._saved(seed, arrays) for seed in self._homes}
            return Trainer(self._task, self._models, saved=saved)
        except KeyError as error:
            path = self.folder / "state.safetensors"
            raise DataError(
                f"{path} does not belong to a training run (it lacks {error}): put the right "
                "file back, or give another --out"
            ) from error

    def _edited(self, there: Mapping) -> str | None:
        """Return an error if config.json has the values of this training run, but the saved state
        has others: then the file, or the state, is not that of the folder. Otherwise None.
        """
        path = self.folder / "config.json"
        stored = read_config(path) if path.is_file() else {}
        if differences(self._training, stored):
            return None
        places = f"in {path}", "in the saved state"
        different = differences(self._training, there, places)
        return f"{different}: put the right file back, or train in another folder"

    def _saved(self, seed: int, arrays: Mapping[str, np.ndarray]) -> TrialState:
        """Return the state of a seed from the arrays of all seeds."""
        prefix = self._prefix(seed)
        own = {
            name.removeprefix(prefix): array
            for name, array in arrays.items()
            if name.startswith(prefix)
        }
        curve = own.pop("curve")
        return TrialState(curve, own)

    def end_epoch(self) -> None:
        """Write the lines of each seed that was trained in the epoch that has just ended. The other
        seeds had ended before it.
        """
        rows = self.trainer.epoch + 1 - self._task.first_epoch
        for seed in [seed for seed in self._homes if len(self.trainer.curve(seed)) == rows]:
            lines = self._lines(seed)
            write_lines(self._homes[seed] / "metrics.jsonl", lines)
            if not self.trainer.diverged(seed):
                for callback in self._callbacks:
                    callback.epoch(seed, lines[-1])

    def save(self) -> None:
        """Write the state, then the checkpoints."""
        self._write_state()
        self._write_checkpoints()

    def _prefix(self, seed: int) -> str:
        """Return the prefix of the names of a seed's arrays; "" for a single seed."""
        return f"{seed}/" if len(self._homes) > 1 else ""

    def _write_state(self) -> None:
        for callback in self._callbacks:
            callback.save()
        arrays: dict[str, np.ndarray] = {}
        for seed in self._homes:
            state = self.trainer.state(seed)
            named = {**state.arrays, "curve": state.curve}
            arrays |= {f"{self._prefix(seed)}{name}": array for name, array in named.items()}
        metadata = {"epochs": str(self.trainer.epoch), "training": json.dumps(self._training)}
        write_state(self.folder / "state.safetensors", arrays, metadata)

    def _write_checkpoints(self) -> None:
        """Write the checkpoints that follow from the state."""
        trainer, corpus = self.trainer, self._corpus
        about = {"data": {"source": corpus.source, "checksum": corpus.checksum}}
        if self.text:
            about = {
                "data": {"name": corpus.name, **about["data"]},
                "vocabulary": corpus.vocabulary.to_json(),
            }
        for seed in trainer.numbers:
            lines, best = self._lines(seed), self._best(seed)
            if not lines or not np.isfinite(trainer.curve(seed)[best, :2]).all():
                continue
            metrics = lines[best]
            if not trainer.live() and not self.text:
                metrics = metrics | {"test_nll": self._test_nll(seed)}
            train = asdict(self._config) | {"seed": seed}
            path, model = self._homes[seed] / "best.safetensors", trainer.best_model(seed)
            save(path, model, train=train, **about, metrics=finite_json(metrics))

    def interrupted(self) -> Interrupted:
        """Return the error to raise after Ctrl-C."""
        return Interrupted(
            f"stopped after epoch {self.trainer.epoch}, saved; continue with: rhn resume "
            f"{shlex.quote(str(self.folder))}"
        )

    def diverged(self, result: TrainingResult) -> DivergedError:
        """Return the error to raise if every seed has diverged. It has the reason of one seed."""
        kept = sorted(str(path) for path in self.folder.rglob("best.safetensors"))
        left = "no epoch was finished before"
        if kept:
            left = f"the last good weights are in {', '.join(kept)}"
        return DivergedError(
            f"{result.diverged}; {left}; try a lower learning rate in another --out"
        )

    def result(self, seed: int) -> TrainingResult:
        """Return the result of the training run for a seed."""
        trainer, first, best = self.trainer, self._task.first_epoch, self._best(seed)
        curve = trainer.curve(seed)
        losses = curve[best, :2].tolist() if len(curve) else (math.nan, math.nan)
        return TrainingResult(
            seed=seed,
            checkpoint=str(self._homes[seed] / "best.safetensors"),
            best_epoch=best + first if len(curve) else 0,
            train_nll=losses[0],
            valid_nll=losses[1],
            test_nll=None if self.text else self._test_nll(seed),
            epochs=max(0, len(curve) - 1 + first),
            last_train_nll=float(curve[-1, 0]) if len(curve) else math.nan,
            steps=trainer.position,
            finished=not trainer.live(),
            diverged=trainer.diverged(seed),
        )

    def _best(self, seed: int) -> int:
        """Return the row of the best epoch."""
        curve = self.trainer.curve(seed)
        return best_epoch(curve, self._task.objective) if len(curve) else 0

    def _lines(self, seed: int) -> list[dict]:
        """Return the lines of metrics.jsonl."""
        task, lines = self._task, []
        rows = self.trainer.curve(seed).tolist()
        for epoch, (train, valid, *others) in enumerate(rows, start=task.first_epoch):
            row = (task.measured(train), task.measured(valid), *others)
            lines.append({"epoch": epoch, **dict(zip(task.columns, row, strict=True))})
        return lines

    def _test_nll(self, seed: int) -> float:
        model = self.trainer.best_model(seed)
        return evaluate_chorales(model, self._corpus.test, device=self._task.device).nll


def require_own_folder(folder: Path) -> None:
    """Raise InvalidInputError if a folder has no saved state, but has files that a training run
    would overwrite.
    """
    names = ("config.json", "metrics.jsonl", "best.safetensors")
    if found := [name for name in names if (folder / name).exists()]:
        raise InvalidInputError(
            f"{folder} holds {' and '.join(found)} but no state to continue from "
            "(state.safetensors): train again in a new folder, `rhn train ... --out NEW`"
        )


def homes(folder: Path, seeds: Sequence[int]) -> dict[int, Path]:
    """Return the folder of each seed: the folder itself for one seed, its subfolder seed-N/ for
    several.
    """
    return {seed: folder if len(seeds) == 1 else folder / f"seed-{seed}" for seed in seeds}


def differences(
    wanted: Mapping, found: Mapping, places: tuple[str, str] = ("here", "there")
) -> str:
    """Describe the entries of a training run that differ from those in the folder, except the
    number of epochs, which may differ.

    places: where the values of `wanted` and `found` are.
    """
    ours, theirs = places
    different = [
        f"{name} is {json.dumps(value)} {ours} and {json.dumps(found.get(name))} {theirs}"
        for name, value in wanted.items()
        if found.get(name) != value and name != "epochs"
    ]
    more = f" and {len(different) - 3} more" if len(different) > 3 else ""
    return ", ".join(different[:3]) + more


def write_lines(path: Path, lines: Sequence[dict]) -> None:
    """Write a file with one JSON object on each line, atomically. NaN and infinity become null.
    Raises OutputError.
    """
    with atomic_path(path) as temporary:
        temporary.write_text("".join(json.dumps(finite_json(line)) + "\n" for line in lines))
