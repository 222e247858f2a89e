"""`rhn train`: start from a preset or a configuration file; options replace single fields."""

import json
import sys
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal

from rhn.cli.configuration import read_config, starting_point
from rhn.cli.run_training import RunOptions, load_corpus, run_training
from rhn.errors import InvalidInputError
from rhn.presets import ChoraleConfig, LanguageConfig, parameters, preset
from rhn.training.config import HYPERPARAMETERS
from rhn.utils.options import Device, check_least, configuration, flag, given_flags, option
from rhn.utils.validation import check_seed

Config = LanguageConfig | ChoraleConfig
TEXT_OPTIONS = ("words", "characters", "seeds", "threads")
CELL_FLAGS = ("skip", "coupled", "gate_constant", "activation")  # options of cells that change no size of a preset


def _start(given: dict) -> Config | None:
    """The configuration of a preset or --config with --cell; None without the first two."""
    name, file = given.get("preset"), given.get("config")
    if not (name or file):
        return None
    options = given.get("cell_options", {})
    config = starting_point(name, file, given.get("cell"), options)
    short = {name: given[name] for name in CELL_FLAGS if given.get(name) is not None and name not in options}
    return replace(config, cell_options=config.cell_options | short)


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a model. A training that was stopped or killed goes on by the same command, or by `rhn resume DIR`.

    `rhn presets` lists the presets. Each field of a preset's configuration is an option too: `rhn train PRESET --help` shows
    them with that preset's values.

    examples:
      rhn train ptb-sota --out runs/sota
      rhn train ptb-depth-5 --hidden-size 200 --seeds 3 --max-minutes 60 --out runs/small
      rhn train enwik8-10x1000 --data novel.txt --characters --out runs/novel
      rhn train ptb-sota --cell lstm --depth 1 --print-config
      rhn train jsb-depth-6 --record 50 --out runs/depth6
    """

    preset: str | None = option(
        None, "Name of a complete training; `rhn presets` describes them.", metavar="PRESET", positional=True
    )
    config: Path | None = option(
        None,
        "JSON file of fields: the output of --print-config, config.json of a run, or "
        'your own. Its entry "preset" may name a preset to start from.',
        metavar="FILE",
    )
    out: Path | None = option(
        None,
        "Folder of the run: config.json, metrics.jsonl, best.safetensors, "
        "state.safetensors; texts: last.safetensors, speed.jsonl; record.npz with "
        "--record.",
        metavar="DIR",
    )
    data: Path | None = option(
        None, "Path of the data. Default: that of `rhn data get`; chorales: rebuilt from music21's scores."
    )
    words: bool = option(False, "Text: --data is a text of your own, read as words.")
    characters: bool = option(False, "Text: --data is a text of your own, read as characters.")
    seeds: int = option(1, "Text: train N seeds side by side as one program, from the seed of the configuration on.")
    max_minutes: float | None = option(None, "Stop after X minutes with everything saved.")
    threads: int | None = option(
        None,
        "Text: CPU threads (default: 1 below 500 hidden units, otherwise all). With 1 the results have the same bits every time.",
    )
    record: int | None = option(
        None,
        "Also measure spectra, gains and gates every N steps of the optimizer, into "
        "DIR/record.npz, which `gersgorin recording` draws. Chorales: at the end of the "
        "epoch of that step; an epoch has 7 steps (223 pieces in batches of 32).",
    )
    device: Device = option("auto", "Device of the training.")
    print_config: bool = option(
        False,
        "Print the whole configuration as JSON, which --config reads, and its differences from the preset on stderr; do not train.",
    )
    json: bool = option(False, "Print the result as one JSON object.")
    skip: Literal["all", "last"] | None = option(
        None, "--cell-option skip=...: which layers have a shortcut from the last state, from the second on (dts-rnn)."
    )
    coupled: bool | None = option(None, "--cell-option coupled=...: carry gates are 1 minus the transform gates (rhn).")
    gate_constant: float | None = option(
        None,
        "--cell-option gate_constant=X: added to the input of the transform gates; weight decay does not shrink it (rhn).",
    )
    activation: Literal["tanh", "relu", "sigmoid", "linear"] | None = option(
        None, "--cell-option activation=...: nonlinearity of the candidate state (rhn)."
    )
    settings: dict = configuration(
        (LanguageConfig, ChoraleConfig), _start, "The fields of the preset's configuration, with its values."
    )

    def run(self) -> None:
        config = self.configuration()
        if self.print_config:
            self._print(config)
        elif self.out is None:
            raise InvalidInputError("--out DIR is missing: the folder that the training is written to")
        elif self.out.exists() and not self.out.is_dir():
            raise InvalidInputError(f"--out {self.out} is no folder: expected one, or a name that is free")
        else:
            check_least(self, seeds=1, record=1)
            seeds = range(config.seed, config.seed + self.seeds)
            check_seed(seeds[-1])
            shared = {f.name: getattr(self, f.name) for f in fields(RunOptions)}
            run_training(config, seeds, RunOptions(**shared))

    def configuration(self) -> Config:
        """The configuration with all options; raises InvalidInputError."""
        config = _start(vars(self) | self.settings)
        if config is None:
            raise InvalidInputError(
                "rhn train begins with a preset or --config FILE, as in: rhn train ptb-sota --out runs/sota"
            )
        text = isinstance(config, LanguageConfig)
        self._require_own_options(config, text)
        changes = self.settings | {"cell_options": config.cell_options}
        return replace(config, **changes | (self._own_text(config.corpus) if text else {}))

    def _require_own_options(self, config: Config, text: bool) -> None:
        """Refuse options of language models for chorales, and vice versa, and those of another optimizer."""
        own = {f.name for f in fields(config)}
        others = [flag(name) for name in self.settings if name not in own]
        others += [] if text else given_flags(self, TEXT_OPTIONS)
        kinds = ("chorales", "a language model") if text else ("language models", "a model of chorales")
        for other in others:
            raise InvalidInputError(f"{other} is for {kinds[0]}, and this trains {kinds[1]}: leave it out")
        chosen = self.settings.get("optimizer", config.optimizer)
        for name in self.settings:
            users = [kind for kind, names in HYPERPARAMETERS.items() if name in names]
            if users and chosen not in users:
                raise InvalidInputError(
                    f"{flag(name)} is for {' and '.join(users)}, and the optimizer is {chosen}: leave it out"
                )

    def _own_text(self, usual: str) -> dict[str, str]:
        """The fields that --words and --characters set; refuses other values of them, and a unit without effect."""
        if self.words and self.characters:
            raise InvalidInputError("--words and --characters exclude one another; give one of them")
        if not (self.words or self.characters):
            corpus = self.settings.get("corpus", usual)
            if "unit" in self.settings and corpus != "text":
                raise InvalidInputError(f"--unit is for a text of your own, and {corpus} is none: leave it out")
            return {}
        own = {"corpus": "text", "unit": "words" if self.words else "characters"}
        for name, value in own.items():
            if self.settings.get(name, value) != value:
                raise InvalidInputError(
                    f"--{own['unit']} and {flag(name)} {self.settings[name]} contradict one another"
                )
        return own

    def _print(self, config: Config) -> None:
        name = self.preset or (self.config and read_config(self.config)[0])
        values, usual = asdict(config), asdict(preset(name)) if name else {}
        print(json.dumps(values, indent=2))
        for name, value in values.items():
            if usual.get(name, value) != value:
                print(f"{name} is {json.dumps(value)}, the preset's is {json.dumps(usual[name])}", file=sys.stderr)
        if isinstance(config, ChoraleConfig) or config.corpus != "text":
            count = parameters(config)
        else:  # the size of the vocabulary is that of the text
            count = self.data and parameters(config, len(load_corpus(config, self.data).vocabulary))
        print(f"parameters: {count or 'as many as the text of --data makes'}", file=sys.stderr)
