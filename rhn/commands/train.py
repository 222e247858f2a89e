"""`rhn train`: its options are the fields of a configuration, and a preset or a file gives their defaults.

So the words after `train` are read twice: first for what to start from, then, by tyro, as options of that.
"""

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated

import tyro

from rhn.command import print_json
from rhn.commands.options import Device, File, Folder, Place
from rhn.errors import InvalidInputError
from rhn.presets import PRESETS, ChoraleConfig, LanguageConfig

PRESET_NAMES = tuple(dict.fromkeys(re.sub(r"^(ptb|jsb)-depth-\d+", r"\1-depth-L", name) for name in PRESETS))

SUMMARY = "Train a model; killed at any moment, the same command goes on, and so does `rhn resume DIR`."
HELP = f"""{SUMMARY}

Every field of a configuration is an option: `rhn train PRESET --help` shows them with that preset's values.

presets: {", ".join(PRESET_NAMES)} (L from 1 to 10)

examples:
  rhn train ptb-sota --out runs/sota
  rhn train ptb-depth-5 --hidden-size 200 --seeds 3 --max-minutes 60 --out runs/small
  rhn train enwik8-10x1000 --data novel.txt --characters --out runs/novel
  rhn train ptb-sota --cell lstm --depth 1 --print-config
  rhn train jsb-depth-6 --out runs/depth6"""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a model."""

    preset: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="PRESET")]] = None
    """What to train, the first word; `rhn presets` describes them."""
    config: File = None
    """Instead of a preset or on top of one: a JSON file of the configuration's fields ("preset" names what to start from), or
    a run's config.json."""
    out: Folder = None
    """Folder of the run: config.json, metrics.jsonl, best.safetensors, state.safetensors."""
    data: Place = None
    """Where the data is, instead of where `rhn data get` puts it; chorales: instead of those rebuilt from music21's scores."""
    device: Device = "auto"
    """Where to train."""
    print_config: bool = False
    """Print the whole configuration and what differs from the preset; train nothing."""
    json: bool = False
    """Print the result as one JSON object."""

    def run(self) -> None:
        if type(self) is Train:
            raise InvalidInputError(
                "rhn train begins with a preset or --config FILE, as in: rhn train ptb-sota --out runs/sota"
            )
        if self.print_config:
            self._print_config()
        elif self.out is None:
            raise InvalidInputError("--out DIR is missing: the folder that the training is written to")
        elif self.out.exists() and not self.out.is_dir():
            raise InvalidInputError(f"--out {self.out} is no folder: expected one, or a name that is free")
        else:
            self.train()

    def _print_config(self) -> None:
        from rhn.commands.starting import preset_values

        values, usual = asdict(self.settings()), preset_values(self.preset, self.config)
        count = self.parameters()
        if self.json:
            print_json(values | {"parameters": count})
            return
        for name, value in values.items():
            differs = f"   # preset: {json.dumps(usual[name])}" if usual.get(name, value) != value else ""
            print(f"{name} = {json.dumps(value)}{differs}")
        print(f"parameters = {count if count is not None else 'as many as the text of --data makes'}")


def train_options(words: Sequence[str]) -> Train:
    """The options of `rhn train`, with the defaults that the words after it ask for.

    Raises InvalidInputError for a preset that does not exist, a configuration file that cannot be used, or options that do not go
    with what they say.
    """
    name, file, cell = _preset_word(words), _value(words, "--config"), _value(words, "--cell")
    if name is None and file is None:
        return Train()
    if file is not None and not file.strip():
        raise InvalidInputError("--config expects a path, got an empty one")
    from rhn.commands.starting import starting_point
    from rhn.commands.train_chorales import TrainChorales
    from rhn.commands.train_text import TrainText

    config = starting_point(name, None if file is None else Path(file), cell)
    text = isinstance(config, LanguageConfig)
    _require_own_options(words, text)
    if text:
        _require_one_text(words, config.corpus)
    return (TrainText if text else TrainChorales)(preset=name, training=config)


def _preset_word(words: Sequence[str]) -> str | None:
    """The first word; or after options the first that is a preset's name and no option's value."""
    if not words or words[0] in ("-h", "--help"):
        return None
    if not words[0].startswith("-"):
        return words[0]
    flags = {name for text in (True, False) for name, kind in _fields(text).items() if kind is bool}

    def takes_value(word: str) -> bool:
        return word.startswith("--") and "=" not in word and _field(word) not in flags

    return next((w for before, w in itertools.pairwise(words) if w in PRESETS and not takes_value(before)), None)


def _require_own_options(words: Sequence[str], text: bool) -> None:
    """Refuse options of language models where chorales are trained on, and the other way round."""
    own, others = _fields(text), _fields(not text)
    for word in words:
        if word.startswith("--") and _field(word) in others.keys() - own.keys():
            kinds = ("chorales", "a language model") if text else ("language models", "a model of chorales")
            raise InvalidInputError(f"{word} is for {kinds[0]}, and this trains {kinds[1]}: leave it out")


def _require_one_text(words: Sequence[str], usual: str) -> None:
    """Refuse --corpus and --unit that contradict --words or --characters, or that do nothing."""
    corpus, unit = _value(words, "--corpus"), _value(words, "--unit")
    asked = next((word for word in words if word in ("--words", "--characters")), None)
    if asked and corpus not in (None, "text"):
        raise InvalidInputError(f"{asked} is for a text of your own, and --corpus {corpus} is none: leave one out")
    if asked and unit not in (None, asked[2:]):
        raise InvalidInputError(f"{asked} and --unit {unit} contradict one another; give one of them")
    if unit and not asked and (corpus or usual) != "text":
        raise InvalidInputError(f"--unit is for a text of your own, and {corpus or usual} is none: leave it out")


def _fields(text: bool) -> dict[str, type]:
    """All options of a training by the field they fill, with its type."""
    from rhn.commands.train_chorales import TrainChorales
    from rhn.commands.train_text import TrainText

    kinds = (TrainText, LanguageConfig) if text else (TrainChorales, ChoraleConfig)
    return {field.name: field.type for kind in kinds for field in fields(kind)}


def _field(option: str) -> str:
    """The field that an option fills: --no-tied fills tied."""
    return option.partition("=")[0].removeprefix("--").removeprefix("no-").replace("-", "_")


def _value(words: Sequence[str], option: str) -> str | None:
    """What an option is given, the last time."""
    found = None
    for k, word in enumerate(words):
        if word == option and k + 1 < len(words):
            found = words[k + 1]
        elif word.startswith(f"{option}="):
            found = word.partition("=")[2]
    return found
