"""Train in a folder. You can stop a training run at any moment; the same call continues it, and the
result is that of an uninterrupted run.

    state.safetensors    everything that a resume needs, with the best weights
    metrics.jsonl        one line for each epoch
    best.safetensors     the checkpoint of the best epoch so far
    config.json          configuration and data

With several seeds each has its own metrics.jsonl and checkpoint in seed-N/. A save writes the state
first; the other files follow from it, and after a kill they are written again.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from rhn.checkpoints import save
from rhn.errors import DivergedError, InvalidInputError
from rhn.training.build import build_models
from rhn.training.chorales import ChoraleTask
from rhn.training.config import ChoraleConfig, LanguageConfig, trainable
from rhn.training.configure import load_corpus, preset
from rhn.training.evaluation import check_data, evaluate_chorales, measure
from rhn.training.interrupts import Interrupted, deferred_interrupt
from rhn.training.state import TrialState, best_epoch, finite_rows, locked, read_state, write_state
from rhn.training.trainer import Trainer
from rhn.utils.io import as_path, atomic_path, finite_json, remove_leftovers, write_json
from rhn.utils.progress import Advance, Progress, reported
from rhn.utils.resources import check_device
from rhn.utils.threads import deterministic
from rhn.utils.validation import is_number, plain, unexpected, whole_number

if TYPE_CHECKING:
    from rhn.data import Corpus, TextCorpus

SAVE_SHARE = 0.02  # of the time: a kill costs as much as is trained between two saves


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training run for one seed. Losses are from the best epoch, in nats per frame
    or token; of a text, the training loss is the mean during the epoch, the test loss is None.
    """

    seed: int
    checkpoint: str
    best_epoch: int
    train_nll: float
    valid_nll: float
    test_nll: float | None
    epochs: int
    finished: bool
    diverged: str | None


def train(
    config: str | ChoraleConfig | LanguageConfig,
    data: "Corpus | TextCorpus | None" = None,
    *,
    out: str | Path,
    seeds: Sequence[int] | None = None,
    threads: int = 1,
    device: str = "cpu",
    max_minutes: float = math.inf,
    about: Mapping[str, str | None] = MappingProxyType({}),
    callbacks: Sequence[Callable[[Trainer], None]] = (),
    progress: Progress = None,
    **changes: Any,
) -> list[TrainingResult]:
    """Train in the folder `out`, or continue the training run in it. Returns one result per seed.

    Args:
        config: a preset by name (`rhn presets`), or a configuration. A later call may raise epochs.
        data: chorales or a text. None: the published data of the configuration.
        seeds: seeds to train side by side as one program, all in the minibatch order of the seed of
            the configuration. None: only this seed.
        threads: CPU threads for a text, whose bits are the same in every run with one thread.
        max_minutes: stop after this many minutes; the same call continues.
        about: more entries of config.json, which a later call may change.
        callbacks: functions that are called at the start and after every optimiser step.
        progress: True to show the optimiser steps that are done and the time left, False to show
            nothing, None to show them in a terminal session or notebook; or a function of (steps
            done, steps in all).
        changes: fields of the configuration, such as cell="dts-rnn", hidden_size=64.

    Raises InvalidInputError if the folder holds another training run, DataError if its state is
    damaged, OutputError, DivergedError if every seed has diverged, and Interrupted after Ctrl-C.

    >>> import tempfile
    >>> from rhn.data import Corpus, Piece
    >>> ones = [Piece(np.ones((4, 88)), name="ones", split="train", index=0)] * 2
    >>> data = Corpus(ones, ones, ones, "ones")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (found,) = train("jsb-depth-1", data, out=folder, hidden_size=4, epochs=2)
    >>> found.epochs, found.finished
    (2, True)
    """
    settings = preset(config, **changes)
    data = load_corpus(settings) if data is None else data
    kind: Any = ChoraleTask
    if text := isinstance(settings, LanguageConfig):
        from rhn.training.language import LanguageTask as kind  # chorales do not need it
    check_data(data, kind.data)
    minutes = plain(max_minutes)
    if not is_number(minutes) or not minutes >= 0:
        raise unexpected("max_minutes", max_minutes, "0 or more")
    whole_number("threads", threads)
    # before the folder is made: the model may be refused
    task = kind(settings, data, check_device(device))
    models = build_models(task.model, [settings.seed] if seeds is None else seeds, task.device)
    folder = as_path(out)
    with deterministic(threads if text else 1), locked(folder), deferred_interrupt() as interrupt:
        deadline = time.monotonic() + 60 * minutes
        run = _Run(task, data, folder, models, callbacks)
        write_json(folder / "config.json", {**run.training, "device": device, **about}, indent=2)
        with reported(progress, "train", run.trainer.steps) as advance:
            run.train(interrupt, deadline, advance)
        if interrupt.pending:
            raise Interrupted(f"stopped after epoch {run.trainer.epoch}; {folder} is saved")
        results = [run.result(seed) for seed in models]
    if all(result.diverged for result in results):
        raise DivergedError(results[0].diverged)
    return results


class _Run:
    """A training run and its files."""

    def __init__(self, task, corpus, folder: Path, models: Mapping, callbacks: Sequence[Callable]):
        self._task, self._corpus, self._callbacks = task, corpus, callbacks
        self._text, self._homes = isinstance(task.config, LanguageConfig), homes(folder, [*models])
        self._prefixes = {seed: f"{seed}/" if len(models) > 1 else "" for seed in models}
        self._path, self._measured = folder / "state.safetensors", dict[int, float]()
        own = {"seeds": list(models), "text" if self._text else "data": corpus.checksum}
        self.training = asdict(task.config) | own
        for place in (folder, *folder.glob("seed-*")):  # below, other runs may be writing
            remove_leftovers(place)
        self.trainer = Trainer(task, models, saved=self._saved())
        for home in self._homes.values():
            home.mkdir(exist_ok=True)
        self._save()

    def train(self, interrupt: SimpleNamespace, deadline: float, advance: Advance) -> None:
        """Train to the end, or until an interrupt or the deadline (`time.monotonic`)."""
        for callback in self._callbacks:
            callback(self.trainer)
        next_save, over = 0.0, not self.trainer.live()
        while not over:
            self.trainer.run_step()
            for callback in self._callbacks:
                callback(self.trainer)
            self._report(advance)
            now = time.monotonic()
            over = interrupt.pending or now > deadline or not self.trainer.live()
            if over or now > next_save:
                self._save()
                next_save = time.monotonic() + (time.monotonic() - now) / SAVE_SHARE

    def _report(self, advance: Advance) -> None:
        """Report the steps done, and those up to the last epoch, without an early stop."""
        trainer = self.trainer
        done, steps = trainer.position
        left = trainer.config.epochs - trainer.epoch
        advance(trainer.steps, trainer.steps + left * steps - done)

    def result(self, seed: int) -> TrainingResult:
        """Return the result of the training run for a seed."""
        trainer, first, curve = self.trainer, self._task.first_epoch, self.trainer.curve(seed)
        best = best_epoch(curve, self._task.objective) if len(curve) else -first
        losses = curve[best, :2].tolist() if len(curve) else (math.nan, math.nan)
        return TrainingResult(
            seed=seed,
            checkpoint=str(self._homes[seed] / "best.safetensors"),
            best_epoch=best + first,
            train_nll=losses[0],
            valid_nll=losses[1],
            test_nll=None if self._text else self._test_nll(seed),
            epochs=max(0, len(curve) - 1 + first),
            finished=not trainer.live(),
            diverged=trainer.diverged(seed),
        )

    def _test_nll(self, seed: int) -> float:
        """Return the loss of the best model of a seed on the test split, which is measured once:
        after the last step.
        """
        if seed not in self._measured:
            model, device = self.trainer.best_model(seed), self._task.device
            found = evaluate_chorales(model, self._corpus.test, device=device)
            self._measured[seed] = found.nll
        return self._measured[seed]

    def _saved(self) -> dict[int, TrialState] | None:
        """Return the saved state of each seed; None if the folder has no training run."""
        folder, found = self._path.parent, read_state(self._path)
        if found is None:
            for file in _files_of_a_run(folder, self._homes.values()):
                if (folder / file).exists():
                    raise InvalidInputError(
                        f"{folder} holds {file} and no {self._path.name}; expected another folder"
                    )
            return None
        arrays, texts = found
        # chorales of 0.6.0 have no seeds
        stored = trainable(json.loads(texts.get("training", "{}")))
        there = {"seeds": self.training["seeds"], **stored}
        for name, value in self.training.items():
            if name != "epochs" and there.get(name) != value:
                raise InvalidInputError(
                    f"{folder} holds another training run: {name} is {json.dumps(value)} here and "
                    f"{json.dumps(there.get(name))} there; expected another folder"
                )
        if self.training["epochs"] < int(texts["epochs"]):
            raise InvalidInputError(
                f"epochs is {self.training['epochs']}: expected {texts['epochs']} or more"
            )
        saved = {}
        for seed, prefix in self._prefixes.items():
            own = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
            saved[seed] = TrialState(own.pop("curve"), own)
        return saved

    def _save(self) -> None:
        """Write the state, then the files that follow from it."""
        arrays: dict[str, np.ndarray] = {}
        for seed, prefix in self._prefixes.items():
            state = self.trainer.state(seed)
            named = {**state.arrays, "curve": state.curve}
            arrays |= {f"{prefix}{name}": array for name, array in named.items()}
        texts = {"epochs": str(self.trainer.epoch), "training": json.dumps(self.training)}
        write_state(self._path, arrays, texts)
        for seed, home in self._homes.items():
            with atomic_path(home / "metrics.jsonl") as temporary:
                lines = [json.dumps(finite_json(line)) + "\n" for line in self._lines(seed)]
                temporary.write_text("".join(lines))
        for seed in self.trainer.numbers:
            self._write_checkpoint(seed)

    def _write_checkpoint(self, seed: int) -> None:
        """Write the checkpoint of a seed if it has a finite loss."""
        trainer, corpus, curve = self.trainer, self._corpus, self.trainer.curve(seed)
        if not finite_rows(curve).any():
            return
        about: dict = {"data": {"source": corpus.source, "checksum": corpus.checksum}}
        if self._text:
            about["data"] = {"name": corpus.name, **about["data"]}
            about["vocabulary"] = corpus.vocabulary.to_json()
        metrics = self._lines(seed)[best_epoch(curve, self._task.objective)]
        if not trainer.live() and not self._text:
            metrics["test_nll"] = self._test_nll(seed)
        train = asdict(self._task.config) | {"seed": seed}
        path, model = self._homes[seed] / "best.safetensors", trainer.best_model(seed)
        save(path, model, train=train, **about, metrics=finite_json(metrics))

    def _lines(self, seed: int) -> list[dict]:
        """Return the lines of metrics.jsonl."""
        task, lines = self._task, []
        rows = self.trainer.curve(seed).tolist()
        for epoch, (train, valid, *others) in enumerate(rows, start=task.first_epoch):
            row = (measure(train, task.measure), measure(valid, task.measure), *others)
            lines.append({"epoch": epoch, **dict(zip(task.columns, row, strict=True))})
        return lines


def _files_of_a_run(folder: Path, places: Iterable[Path]) -> list[Path]:
    """Return the names of all files of a training run but its state, relative to its folder."""
    names = ("metrics.jsonl", "best.safetensors", "record.npz")
    own = [place.relative_to(folder) / name for place in places for name in names]
    return [Path("config.json"), *own]


def homes(folder: Path, seeds: Sequence[int]) -> dict[int, Path]:
    """Return the folder of each seed: of several seeds, the subfolders seed-N/."""
    return {seed: folder if len(seeds) == 1 else folder / f"seed-{seed}" for seed in seeds}
