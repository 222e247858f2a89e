"""`rhn train` and `rhn resume`: train in a folder, and print a table of losses."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict, get_type_hints

from cyclopts import Group, Parameter
from docstring_parser import parse_from_object

from rhn.cli.entry import print_json, resolve_device
from rhn.errors import InvalidInputError
from rhn.presets import ChoraleConfig, LanguageConfig, load_corpus, preset, read_preset
from rhn.training.config import TrainingConfig, read_config
from rhn.utils.command_line import Count, Device, NonNegative
from rhn.utils.progress import progress_bars
from rhn.utils.tables import aligned, formatted

SPLITS = ("train", "valid", "test")
COLUMNS = (*SPLITS, "epochs", "best epoch", "finished", "diverged")
LABELS = {
    "perplexity": "perplexity",
    "bits_per_character": "bits per character",
    "nll": "nats per frame",
}
ONE_THREAD = 500  # hidden units below which a second thread costs more than it saves


def _fields() -> Any:
    """Return the type of a dictionary of the fields of configurations, with their docstrings."""
    kinds = (TrainingConfig, ChoraleConfig, LanguageConfig)
    about = {p.arg_name: p.description for kind in kinds for p in parse_from_object(kind).params}
    types = {k: v for kind in kinds for k, v in get_type_hints(kind, include_extras=True).items()}
    hints = {name: Annotated[types[name], Parameter(help=about.get(name))] for name in types}
    words = Parameter(name="--cell-option", metavar="NAME=VALUE", consume_multiple=False)
    hints["cell_options"] = Annotated[tuple[str, ...], words, hints["cell_options"].__metadata__[0]]
    group = Group("configuration", sort_key=5)
    return Annotated[TypedDict("Fields", hints, total=False), Parameter(name="*", group=group)]  # type: ignore[operator]


Fields: Any = dict if TYPE_CHECKING else _fields()


@dataclass(frozen=True, kw_only=True)
class Running:
    """The options that `rhn train` and `rhn resume` share."""

    data: Path | None = None
    """Data (default: those of --config, or of the folder; else of `rhn data get` or music21)."""
    max_minutes: NonNegative | None = None
    """Stop after this many minutes, and save everything."""
    threads: Count | None = None
    """CPU threads for a text (default: 1 below 500 hidden units, else all)."""
    device: Device = "auto"
    """Device to train on; auto uses a GPU if there is one."""
    json: bool = False
    """Print the result as one JSON object."""


@dataclass(frozen=True, kw_only=True)
class Train(Running):
    """Train a model in a folder. The same command, or `rhn resume DIR`, continues a training run
    that was stopped or killed.

    examples:
      rhn train ptb-depth-5 --hidden-size 200 --max-minutes 60 --out runs/small
      rhn train enwik8-10x1000 --corpus text --data novel.txt --out runs/novel
      rhn train ptb-sota --cell lstm --depth 1 --print-config
      rhn train jsb-depth-6 --record 50 --out runs/depth6
    """

    preset: str | None = field(default=None, kw_only=False)
    """Name of a complete configuration; `rhn presets` lists the names."""
    config: Path | None = None
    """JSON file of fields, such as the config.json of a run; "preset" in it may name a preset."""
    out: Path | None = None
    """Folder for config.json, metrics.jsonl, best.safetensors and state.safetensors."""
    seeds: Count = 1
    """Train N seeds side by side, beginning with the seed of the configuration."""
    record: Count | None = None
    """Every N optimiser steps measure spectra, gains and gates for `gersgorin recording`."""
    print_config: bool = False
    """Do not train. Print the whole configuration as JSON, which --config can read."""
    settings: Fields = field(default_factory=dict)

    def run(self) -> None:
        changes, data = dict(self.settings), None
        if words := changes.get("cell_options"):
            pairs = [word.partition("=") for word in words]
            changes["cell_options"] = {name.replace("-", "_"): value for name, _, value in pairs}
        if self.config is not None:
            config = read_preset(self.config, self.preset, **changes)
            data = None if "corpus" in changes else read_config(self.config).get("path")
        elif self.preset is not None:
            config = preset(self.preset, **changes)
        else:
            raise InvalidInputError("PRESET is None: expected a preset, or --config FILE")
        if self.print_config:
            print(json.dumps(asdict(config), indent=2))
        elif self.out is None:
            raise InvalidInputError("--out is None: expected the folder of the training run")
        else:
            seeds = range(config.seed, config.seed + self.seeds)
            train_and_print(config, seeds, self.out, self, self.data or data, self.record)


@dataclass(frozen=True, kw_only=True)
class Resume(Running):
    """Continue a training run from its last save, with the results of an uninterrupted one."""

    out: Path = field(kw_only=False)
    """Folder of the training run."""
    epochs: Count | None = None
    """Maximum number of epochs in all (default: that of the configuration)."""
    cell: str | None = None
    """The cell of the training run, if it is your own, as package.module:factory."""

    def run(self) -> None:
        from rhn.cli.recording import recorded_every

        path = self.out / "config.json"
        config, entries = read_preset(path, cell=self.cell), read_config(path)
        if self.epochs is not None:
            config = replace(config, epochs=self.epochs)
        seeds, data = entries.get("seeds", [config.seed]), self.data or entries.get("path")
        train_and_print(config, seeds, self.out, self, data, recorded_every(self.out))


def train_and_print(
    config: ChoraleConfig | LanguageConfig,
    seeds: Sequence[int],
    out: Path,
    options: Running,
    data: Path | str | None,
    record: int | None,
) -> None:
    """Train or continue a training run in `out`, and print the losses."""
    import torch

    from rhn.training import run
    from rhn.training.ensemble import tune_malloc
    from rhn.training.evaluation import measure, measure_name

    device, threads, path = resolve_device(options.device), options.threads, data and Path(data)
    small = isinstance(config, ChoraleConfig) or config.hidden_size < ONE_THREAD
    threads = threads or (1 if small else torch.get_num_threads())
    tune_malloc()
    corpus = load_corpus(config, path)
    with contextlib.ExitStack() as stack:
        advance = stack.enter_context(progress_bars())("training")

        class Steps(run.Callback):
            def step(self, trainer: Any) -> None:
                (done, steps), left = trainer.position, trainer.config.epochs - trainer.epoch
                advance(trainer.steps, trainer.steps + left * steps - done)

        callbacks: list = [Steps()]
        if record is not None:
            from rhn.cli.recording import recorders

            recording = recorders(record, config, out, corpus, seeds)
            callbacks += [stack.enter_context(contextlib.closing(each)) for each in recording]
        how: dict = {"seeds": seeds, "device": device, "threads": threads, "callbacks": callbacks}
        how["about"] = {"path": path and str(path.absolute())}
        if options.max_minutes is not None:
            how["max_minutes"] = options.max_minutes
        results = run.train_in_folder(config, corpus, out, **how)
    name = measure_name(corpus.vocabulary) if hasattr(corpus, "vocabulary") else "nll"
    rows = [_row(result, name) for result in results]
    if options.json:
        print_json(rows[0] if len(rows) == 1 else {"seeds": rows})
        return
    lines = [[LABELS[name], *COLUMNS]]
    for row in rows:
        losses = [formatted(row.get(f"{split}_{name}"), ".5g") for split in SPLITS]
        ended = ["yes" if row["finished"] else "no", row["diverged"] or "-"]
        best = [str(row["epochs"]), str(row["best_epoch"])]
        lines.append([f"seed {row['seed']}", *losses, *best, *ended])
    constant = [formatted(measure(nll, name), ".5g") for nll in _constant_nll(corpus)]
    print(*aligned([*lines, ["constant predictor", *constant]]), sep="\n")


def _row(result: Any, name: str) -> dict[str, Any]:
    """Return the result of a seed for JSON, in the measure of its data."""
    from rhn.training.evaluation import measure

    row, known = asdict(result), Path(result.checkpoint).exists()
    losses = {split: row.pop(f"{split}_nll") for split in SPLITS}
    row |= {f"{k}_{name}": measure(nll, name) for k, nll in losses.items() if nll is not None}
    return row | {"checkpoint": result.checkpoint if known else None}


def _constant_nll(corpus: Any) -> list[float]:
    """Return the losses of the constant predictor with the lowest training loss, in nats."""
    import numpy as np
    import torch

    from rhn.training.chorales import constant_output_nll

    splits = [getattr(corpus, split) for split in SPLITS]
    if not hasattr(corpus, "vocabulary"):
        return [constant_output_nll(corpus, pieces) for pieces in splits]
    counts = [np.bincount(text[1:], minlength=len(corpus.vocabulary)) for text in splits]
    p, *others = (torch.from_numpy(count / count.sum()) for count in counts)
    return [-float(torch.xlogy(q, p).sum()) for q in (p, *others)]
