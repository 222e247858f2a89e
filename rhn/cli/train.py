"""`rhn train` and `rhn resume`: train in a folder, and print a table of losses."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rhn.cli.entry import print_json
from rhn.errors import InvalidInputError
from rhn.training.config import ChoraleConfig, LanguageConfig, TrainingConfig
from rhn.training.configure import load_corpus, preset, read_preset
from rhn.utils.command_line import Device, command_class, field_options, read_fields
from rhn.utils.io import read_config
from rhn.utils.resources import resolve_device
from rhn.utils.seed_folders import seed_folders
from rhn.utils.tables import aligned, formatted
from rhn.utils.validation import Count

SPLITS = ("train", "valid", "test")


OWN_OPTIONS = (
    "cell", "depth", "hidden_size", "transform_bias", "cell_options", "init", "init_std",
    "optimizer", "learning_rate", "batch_size", "epochs", "patience", "seed", "objective",
    "corpus", "unit", "max_tokens",
)  # fmt: skip
"""The fields of configurations that are options of their own; --set gives the others."""
CONFIGS = TrainingConfig, ChoraleConfig, LanguageConfig
if TYPE_CHECKING:
    Fields = dict[str, Any]
else:
    Fields = field_options(OWN_OPTIONS, *CONFIGS)


@dataclass(frozen=True, kw_only=True)
class Running:
    """The options that `rhn train` and `rhn resume` share."""

    data: Path | None = None
    """Data (default: those of --config, or with `rhn resume` those of the training run; else of
    `rhn data get` or music21).
    """
    max_minutes: float = float("inf")
    """Stop after this many minutes, and save everything."""
    threads: Count | None = None
    """CPU threads for a text (default: 1 below 500 hidden units, else all)."""
    device: Device = "auto"
    """Device to train on; auto uses a GPU if there is one."""
    json: bool = False
    """Print the result as one JSON object."""

    def train(self, config: Any, seeds: Any, out: Path, data: Any, record: int | None) -> None:
        """Train or continue a training run in `out`, and print the losses."""
        import torch

        from rhn.training import run
        from rhn.utils.resources import tune_malloc

        device, path = resolve_device(self.device), None if data is None else Path(str(data))
        small = isinstance(config, ChoraleConfig) or config.hidden_size < 500  # one is faster
        threads = self.threads or (1 if small else torch.get_num_threads())
        tune_malloc()
        corpus = load_corpus(config, path)
        callbacks: list = []
        if record is not None:
            from rhn.cli.probe import ProbeRecorder  # loads the measurements

            homes = run.homes(out, seeds).items()
            callbacks += [ProbeRecorder(record, config, corpus, *each) for each in homes]
        how: dict = {"device": device, "threads": threads, "max_minutes": self.max_minutes}
        how |= {"seeds": seeds, "about": {"path": path and str(path.absolute())}}
        results = run.train(config, corpus, out=out, callbacks=callbacks, **how)
        _print(results, corpus, self.json)


@command_class
class Train(Running):
    """Train a model in a folder. The same command, or `rhn resume DIR`, continues a training run
    that was stopped or killed.

    examples:
      rhn train jsb-depth-6 --record 50 --out runs/depth6
    """

    preset: str | None = field(default=None, kw_only=False)
    """Name of a complete configuration; `rhn presets` lists the names."""
    config: Path | None = None
    """JSON file of fields, such as the config.json of a run; "preset" in it may name a preset."""
    out: Path | None = None
    """Folder for config.json, metrics.jsonl, best.safetensors and state.safetensors."""
    seeds: Count = 1
    """Train N seeds side by side, beginning with the seed of the configuration, whose minibatch
    order all have.
    """
    record: Count | None = None
    """Measure spectra, gains and gates every N optimiser steps; chorales at the end of an epoch."""
    dry_run: bool = False
    """Train nothing. Only print the whole configuration as JSON, which --config can read."""
    settings: Fields = field(default_factory=dict)

    def run(self) -> None:
        changes, data = read_fields(self.settings), None
        if self.config is not None:
            config = read_preset(self.config, self.preset, **changes)
            data = None if "corpus" in changes else read_config(self.config).get("path")
        else:
            config = preset(self.preset or "", **changes)
        if self.dry_run:
            print(json.dumps(asdict(config), indent=2))
        elif self.out is None:
            raise InvalidInputError("--out is None: expected the folder of the training run")
        else:
            seeds = range(config.seed, config.seed + self.seeds)
            self.train(config, seeds, self.out, self.data or data, self.record)


@command_class
class Resume(Running):
    """Continue a training run from its last save, with the results of an uninterrupted one."""

    out: Path = field(kw_only=False)
    """Folder of the training run."""
    epochs: Count | None = None
    """Maximum number of epochs in all (default: that of the configuration)."""
    cell: str | None = None
    """The cell of the training run, if it is your own, as package.module:factory."""

    def run(self) -> None:
        from rhn.cli.probe import recorded_every  # loads torch

        path = self.out / "config.json"
        config, entries = read_preset(path, cell=self.cell), read_config(path)
        if self.epochs is not None:
            config = replace(config, epochs=self.epochs)
        several = [*seed_folders(self.out)]
        seeds, data = several or [config.seed], self.data or entries.get("path")
        self.train(config, seeds, self.out, data, recorded_every(self.out))


def _print(results: list[Any], corpus: Any, as_json: bool) -> None:
    from rhn.training.evaluation import measure, measure_name

    name = measure_name(corpus.vocabulary) if hasattr(corpus, "vocabulary") else "nll"
    rows = [_row(result, name) for result in results]
    if as_json:
        print_json(rows[0] if len(rows) == 1 else {"seeds": rows})
        return
    label = {"nll": "nats per frame"}.get(name, name.replace("_", " "))
    lines = [[label, *SPLITS, "epochs", "best epoch", "finished", "diverged"]]
    for row in rows:
        shown = [formatted(row.get(f"{split}_{name}"), ".5g") for split in SPLITS]
        shown += [str(row["epochs"]), str(row["best_epoch"]), "yes" if row["finished"] else "no"]
        lines.append([f"seed {row['seed']}", *shown, row["diverged"] or "-"])
    constant = [formatted(measure(nll, name), ".5g") for nll in _constant_nll(corpus)]
    print(*aligned([*lines, ["constant predictor", *constant]]), sep="\n")


def _row(result: Any, name: str) -> dict[str, Any]:
    from rhn.training.evaluation import measure

    row, known = asdict(result), Path(result.checkpoint).exists()
    losses = {split: row.pop(f"{split}_nll") for split in SPLITS}
    row |= {f"{k}_{name}": measure(nll, name) for k, nll in losses.items() if nll is not None}
    return row | {"checkpoint": result.checkpoint if known else None}


def _constant_nll(corpus: Any) -> list[float]:
    """Return the lowest loss of a constant predictor on each split, in nats."""
    import numpy as np
    import torch

    from rhn.training.batches import constant_output_nll

    splits = [getattr(corpus, split) for split in SPLITS]
    if not hasattr(corpus, "vocabulary"):
        return [constant_output_nll(pieces) for pieces in splits]
    counts = [np.bincount(text[1:]) for text in splits]
    shares = [torch.from_numpy(count / count.sum()) for count in counts]
    return [-float(torch.xlogy(p, p).sum()) for p in shares]
