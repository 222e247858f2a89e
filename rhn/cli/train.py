"""`rhn train` and `rhn resume`: start from a preset or a configuration file, train in a folder, and
print the result.
"""

import contextlib
import json
import math
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rhn.cli.entry import own_cell, print_json, resolve_device
from rhn.errors import InvalidInputError
from rhn.presets import (
    ChoraleConfig,
    LanguageConfig,
    config_class,
    load_corpus,
    parameters,
    preset,
    starting_point,
)
from rhn.training.config import HYPERPARAMETERS, read_config
from rhn.utils.old import (
    Configured,
    Count,
    Device,
    NonNegative,
    check_folder,
    fits,
    flag,
    given_flags,
    print_help,
    run_folder,
    settings_type,
    table,
)
from rhn.utils.progress import Advance, progress_bars
from rhn.utils.validation import check_seed

if TYPE_CHECKING:
    from rhn.data import Corpus, TextCorpus
    from rhn.training.run import TrainingResult
    from rhn.training.trained import StoredData
    from rhn.training.trainer import Trainer

    Settings = dict
else:
    Settings = settings_type(LanguageConfig, ChoraleConfig)

Config = LanguageConfig | ChoraleConfig
TEXT_OPTIONS = ("seeds", "threads")
OF_TEXT = ("corpus", "unit", "vocabulary_size", "max_tokens")  # fields that choose another text
ONE_THREAD = 500  # hidden units below which a second thread costs more than it saves
LEFT = 0.98  # below this share of the constant predictor's loss a network has left its plateau
PAUSE = 0.5  # seconds between two looks at the losses: on a GPU each waits for all work before it


@dataclass(frozen=True, kw_only=True)
class Running:
    """The options that `rhn train` and `rhn resume` share."""

    data: Path | None = None
    """Path of the data. Default for a text: the folder of `rhn data get`. Default for chorales:
    they are rebuilt from music21's scores.
    """
    max_minutes: NonNegative | None = None
    """Stop after this many minutes, and save everything. Default: no limit."""
    threads: int | None = None
    """For texts: number of CPU threads. Default: 1 for a model of fewer than 500 hidden units,
    otherwise all. With one thread, results are bitwise reproducible.
    """
    device: Device = "auto"
    """Device to train on; auto uses a GPU if there is one."""
    json: bool = False
    """Print the result as one JSON object."""


@dataclass(frozen=True, kw_only=True)
class Train(Configured, Running):
    """Train a model in a folder. The same command, or `rhn resume DIR`, continues a training run
    that was stopped or killed.

    `rhn presets` lists the presets. Each field of the configuration of a preset is an option too.
    `rhn train PRESET --help` shows these options with the values of the preset.

    examples:
      rhn train ptb-sota --out runs/sota
      rhn train ptb-depth-5 --hidden-size 200 --max-minutes 60 --out runs/small
      rhn train enwik8-10x1000 --corpus text --data novel.txt --out runs/novel
      rhn train ptb-sota --cell lstm --depth 1 --print-config
      rhn train jsb-depth-6 --record 50 --out runs/depth6
    """

    preset: str | None = field(default=None, kw_only=False)
    """Name of a preset, which is a complete configuration; `rhn presets` lists the names."""
    config: Path | None = None
    """JSON file with fields of the configuration: the output of --print-config, the config.json of
    a training run, or your own file. An entry "preset" in the file can name a preset to start from.
    With the config.json of a training run, the data are those of this run.
    """
    out: Path | None = None
    """Folder for the training run (required unless --print-config is given). The command writes
    config.json, metrics.jsonl, best.safetensors and state.safetensors into this folder; with
    --record also record.npz.
    """
    seeds: Count = 1
    """For texts: train N seeds side by side as one program, beginning with the seed of the
    configuration.
    """
    record: Count | None = None
    """Also measure spectra, gains and gates every N optimiser steps, and write them to record.npz
    in the folder of --out. `gersgorin recording` draws them. For chorales, each measurement is made
    at the end of an epoch; an epoch has 7 steps (223 pieces in batches of 32). Default: no record.
    """
    print_config: bool = False
    """Do not train. Print the whole configuration as JSON, which --config can read. The differences
    from the preset are printed on stderr.
    """
    settings: Settings = field(default_factory=dict)

    def run(self) -> None:
        if self.help:
            print_help("rhn train", Train, self._shown())
            return
        config = self.configuration()
        if self.print_config:
            self._print(config)
        elif self.out is None:
            raise InvalidInputError(
                "--out DIR is missing: the folder that the training is written to"
            )
        else:
            check_folder(self.out)
            seeds = range(config.seed, config.seed + self.seeds)
            check_seed(seeds[-1])
            stored = self._stored_data()
            options = (
                self if self.data is not None or stored is None else replace(self, data=stored.path)
            )
            train_with_options(config, seeds, self.out, options, self.record, stored)

    def _stored_data(self) -> "StoredData | None":
        """Return the data that the file of --config names; None if there is no such file, or if
        options choose another text.

        A path that is gone is left out if the checksum is known: the usual data may be the same.
        """
        from rhn.training.trained import data_of_config

        if self.config is None or "corpus" in self.settings:
            return None
        stored = data_of_config(self.config)
        if any(name in self.settings for name in OF_TEXT):
            return replace(stored, checksum=None)
        gone = stored.path is not None and not stored.path.exists()
        return replace(stored, path=None) if gone and stored.checksum else stored

    def configuration(self) -> Config:
        """Return the configuration with all options. Raises InvalidInputError."""
        if not (self.preset or self.config):
            raise InvalidInputError(
                "rhn train needs a preset or --config FILE, for example: rhn train ptb-sota "
                "--out runs/sota"
            )
        self._require_own_options(config_class(self.preset, self.config))
        config = starting_point(self.preset, self.config, self.settings)
        self._require_used_options(config)
        return config

    def _shown(self) -> Config | None:
        """Return the configuration whose values the help shows; None if neither a preset nor a file
        is given.
        """
        if not (self.preset or self.config):
            return None
        own = {name: v for name, v in self.settings.items() if name in ("cell", "cell_options")}
        return starting_point(self.preset, self.config, own)

    def _require_own_options(self, kind: type[Config]) -> None:
        """Raise InvalidInputError for an option of language models if the model is one of chorales,
        and vice versa.
        """
        own = {f.name for f in fields(kind)}
        others = [flag(name) for name in self.settings if name not in own]
        whose, model = "chorales", "a language model"
        if kind is ChoraleConfig:
            others += given_flags(self, TEXT_OPTIONS)
            whose, model = "language models", "a model of chorales"
        for other in others:
            raise InvalidInputError(
                f"{other} is for {whose}, and this trains {model}: leave it out"
            )

    def _require_used_options(self, config: Config) -> None:
        """Raise InvalidInputError for an option of another optimizer, and for --unit if it has no
        effect.
        """
        for name in self.settings:
            users = [kind for kind, names in HYPERPARAMETERS.items() if name in names]
            if users and config.optimizer not in users:
                raise InvalidInputError(
                    f"{flag(name)} is for {' and '.join(users)}, and the optimizer is "
                    f"{config.optimizer}: leave it out"
                )
        corpus = getattr(config, "corpus", None)
        if "unit" in self.settings and corpus != "text":
            raise InvalidInputError(
                f"--unit is for a text of your own, and {corpus} is none: add --corpus text"
            )

    def _print(self, config: Config) -> None:
        name = self.preset or (self.config and read_config(self.config).get("preset"))
        values, usual = asdict(config), asdict(preset(name)) if name else {}
        print(json.dumps(values, indent=2))
        for name, value in values.items():
            if usual.get(name, value) != value:
                print(
                    f"{name} is {json.dumps(value)}, the preset's is {json.dumps(usual[name])}",
                    file=sys.stderr,
                )
        count = None
        if isinstance(config, ChoraleConfig) or config.corpus != "text":
            count = parameters(config)
        elif self.data:  # the size of the vocabulary is that of the text
            count = parameters(config, len(load_corpus(config, self.data).vocabulary))
        print(f"parameters: {count or 'as many as the text of --data makes'}", file=sys.stderr)


@dataclass(frozen=True, kw_only=True)
class Resume(Running):
    """Continue a training run from its last save. The results are the same as those of an
    uninterrupted training run.
    """

    out: Path = field(kw_only=False)
    """Folder of the training run."""
    data: Path | None = None
    """Path of the data, if it has moved since the training run. Default: the path that the training
    run used.
    """
    epochs: Count | None = None
    """Maximum number of epochs in all, including those already done. Default: the number in the
    configuration.
    """
    cell: str | None = None
    """The cell of the training run, if it is your own, as package.module:factory."""

    def run(self) -> None:
        path = run_folder(self.out) / "config.json"
        if not path.is_file():
            raise InvalidInputError(
                f"{self.out} holds no training: there is no config.json in it; `rhn train` "
                "begins one"
            )
        check_folder(self.out)
        config = starting_point(None, path, {} if self.cell is None else {"cell": self.cell})
        seeds = read_config(path).get("seeds", [config.seed])
        if not fits(seeds, list) or not all(fits(seed, int) for seed in seeds):
            raise InvalidInputError(
                f"{path} does not say which seeds were trained: it is not the config.json of a run"
            )
        if self.epochs is not None:
            config = replace(config, epochs=self.epochs)
        from rhn.cli.recording import recorded_every
        from rhn.training.trained import data_of_config

        options = self if self.data is not None else replace(self, data=data_of_config(path).path)
        train_with_options(config, seeds, self.out, options, recorded_every(self.out))


def train_with_options(
    config: Config,
    seeds: Sequence[int],
    out: Path,
    options: Running,
    record: int | None,
    stored: "StoredData | None" = None,
) -> None:
    """Train or continue a training run in `out`, and print the result.

    Raises InvalidInputError if the data is not the stored data of an earlier training run.
    """
    from rhn.training import run
    from rhn.training.ensemble import tune_malloc

    device = resolve_device(options.device)
    tune_malloc()
    with own_cell(config.cell), contextlib.ExitStack() as stack:
        corpus = load_corpus(config, options.data)
        if stored is not None:
            stored.require(corpus)
        callbacks: list = [EpochProgress(stack.enter_context(progress_bars())("training"))]
        if record is not None:
            from rhn.cli.recording import recorders

            callbacks = [*recorders(record, config, out, corpus, seeds), *callbacks]
        results = run.train(
            config,
            corpus,
            out=out,
            seeds=seeds,
            device=device,
            threads=_threads(config, options),
            max_minutes=math.inf if options.max_minutes is None else options.max_minutes,
            about={"path": None if options.data is None else str(options.data.absolute())},
            callbacks=callbacks,
        )
    rows = [_row(result, corpus) for result in results]
    if options.json:
        print_json(rows[0] if len(rows) == 1 else {"seeds": rows})
        return
    _print_rows(rows)
    if not all(result.finished for result in results):
        print(f"time ran out; continue with: rhn resume {shlex.quote(str(out))}")
        return
    advice = [_advice(config, result, corpus) for result in results]
    if all(advice):
        print(advice[0], file=sys.stderr)


def _threads(config: Config, options: Running) -> int:
    import torch

    if options.threads is not None:
        return options.threads
    if isinstance(config, ChoraleConfig) or config.hidden_size < ONE_THREAD:
        return 1
    return torch.get_num_threads()


class EpochProgress:
    """A callback that shows the epoch, its loss so far, and the validation losses of all seeds
    after the previous epoch.
    """

    def __init__(self, advance: Advance):
        self._advance, self._next = advance, 0.0

    def step(self, trainer: "Trainer") -> None:
        """Called at the start of a training run, and after every optimiser step."""
        now, (done, steps), epochs = time.monotonic(), trainer.position, trainer.config.epochs
        if now < self._next:
            return
        self._next = now + PAUSE
        left = (epochs - trainer.epoch) * steps - done
        title = f"epoch {min(trainer.epoch + 1, epochs)}/{epochs}"
        task, curves = trainer.task, [trainer.curve(number) for number in trainer.numbers]
        if trainer.epoch:
            losses = " ".join(f"{task.measured(curve[-1, 1]):.4g}" for curve in curves)
            title += f", {task.columns[1].replace('_', ' ')} {losses}"
        self._advance(trainer.steps, trainer.steps + left, title)

    def save(self) -> None:
        """Do nothing: there is nothing to save."""


def _advice(config: Config, result: "TrainingResult", corpus: "Corpus | TextCorpus") -> str | None:
    """Return what to change if a training run did not help; None if it did."""
    if result.test_nll is not None:
        return _advice_on_chorales(result, corpus)
    symbols = len(corpus.vocabulary)
    if result.valid_nll < math.log(symbols):
        return None
    return (
        f"at a learning rate of {config.learning_rate:g} the training run found nothing better "
        f"than equal chances for all {symbols:,} symbols: try another learning rate, a lower one "
        "if the losses have exploded, in another --out"
    )


def _advice_on_chorales(result: "TrainingResult", corpus: "Corpus") -> str | None:
    """Compare losses on chorales with those of the constant predictor. Its validation loss is
    infinite if a key sounds only there; then the training loss is compared.
    """
    from rhn.training.chorales import constant_output_nll

    constant = constant_output_nll(corpus)
    measured = {
        "validation": (result.valid_nll, constant_output_nll(corpus, corpus.valid)),
        "training": (result.train_nll, constant),
    }
    split = "validation" if math.isfinite(measured["validation"][1]) else "training"
    loss, baseline = measured[split]
    rose = result.last_train_nll > max(result.train_nll, constant / LEFT)
    facts = list[str]()
    remedy = "train longer (rhn resume --epochs), or try another --learning-rate"
    if loss >= baseline:
        facts.append(
            f"The {split} loss of the best weights, {_short(loss)}, is not below that of the "
            f"constant predictor, {_short(baseline)}"
        )
        if result.train_nll < LEFT * constant:
            remedy = "the network has learned only the training data: try a smaller --hidden-size"
    if rose:
        facts.append(
            f"The training loss rose from {_short(result.train_nll)} at epoch {result.best_epoch} "
            f"to {_short(result.last_train_nll)} at the end (constant predictor: "
            f"{_short(constant)})"
        )
        remedy = "try a lower --learning-rate"
    return f"{'. '.join(facts)}: {remedy}, in another --out" if facts else None


def _row(result: "TrainingResult", corpus: "Corpus | TextCorpus") -> dict:
    """Return the result of a seed for JSON, in the measure of its data."""
    from rhn.training.evaluation import measure, measure_name

    row = asdict(result)
    if not Path(result.checkpoint).exists():
        row["checkpoint"] = None
    if result.test_nll is not None:
        return row
    name = measure_name(corpus.vocabulary)
    losses = {"train": row.pop("train_nll"), "valid": row.pop("valid_nll")}
    del row["test_nll"]
    return row | {f"{split}_{name}": measure(nll, name) for split, nll in losses.items()}


def _print_rows(rows: list[dict]) -> None:
    """Print the losses of all seeds as a table, and the next command."""
    names = [name for name in rows[0] if name.startswith(("train_", "valid_", "test_"))]
    lines = []
    for row in rows:
        if row["epochs"] or not math.isnan(row[names[1]]):
            lines.append(_line(row, names))
            continue
        done, steps = row["steps"]
        first = f"{done} of {steps} steps of the first are done"
        print(f"seed {row['seed']}: no epoch has ended, {first}")
    if lines:
        print(table(("seed", "epochs", "best", *names, ""), lines, left=("",)))
        if not names[-1].startswith("test_"):  # of a text
            print(f"{names[0]} was measured during training, with its dropout")
    for row in rows:
        if row["checkpoint"]:
            folder = shlex.quote(str(Path(row["checkpoint"]).parent))
            print(f"next: rhn evaluate {folder} --split test")


def _line(row: dict, names: Sequence[str]) -> list:
    """Return a line of the table: a seed, its epochs, and its losses by these names."""
    losses = [_short(row[name]) for name in names]
    return [row["seed"], row["epochs"], row["best_epoch"], *losses, row["diverged"] or ""]


def _short(loss: float) -> str:
    """Return a loss for a table or a sentence."""
    return f"{loss:.4f}" if loss < 1e5 else f"{loss:.4g}"
