"""Load a stored training run on chorales, to run it again from its initial weights.

    stored = stored_training(Path("runs/mine"))
    stored.model, stored.settings["learning_rate"]

| path                                                  | training run                      |
|-------------------------------------------------------|-----------------------------------|
| a folder of `rhn train`, or its seed-N/               | the run of this folder            |
| OUT/ARCH-depthL/trials/0007.json of `optim-study run` | a trial that has ended            |

The initial weights are drawn again from the stored seed and scale, bit for bit.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from rhn.cells import accepts, is_known, resolve_cell
from rhn.cells.init import Initialization
from rhn.cells.registry import lacking
from rhn.checkpoints import BEST, read_metadata
from rhn.data import chorales
from rhn.errors import InvalidInputError
from rhn.models import PolyphonicModel
from rhn.presets import starting_point
from rhn.training.config import ChoraleConfig, TrainingConfig, read_config
from rhn.training.ensemble import build_model, weights_generator
from rhn.training.run import differences
from rhn.training.trained import StoredData, data_of_config, stored_data
from rhn.utils.io import read_json
from rhn.utils.ranges import Count, Fraction, Natural, Positive
from rhn.utils.validation import check_fields, fits, is_whole_number
from rhn.utils.wording import first_line, listed

SETTINGS = ("learning_rate", "momentum", "epochs", "batch_size", "optimizer")
RECORD = "OUT/ARCH-depthL/trials/NUMBER.json of `optim-study run`"


@dataclass(frozen=True)
class StoredTraining:
    """A stored training run, with its initial weights."""

    name: str
    model: nn.Module
    """The network with its initial weights."""
    settings: dict[str, Any]
    """Settings by name: learning_rate, momentum, epochs, batch_size, optimizer, and further
    arguments of this optimizer in torch.optim.
    """
    data: StoredData
    """The chorales of the training run."""

    def chorales(self, given: Path | None) -> Path | None:
        """Return the file of the chorales of this training run: the given file, or the stored one.

        Raises InvalidInputError if the chorales have another checksum.
        """
        path = given or self.data.path
        self.data.require(path, chorales(path))
        return path


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """The entries of a record that determine the weights and the training run of its trial."""

    arch: str
    depth: Count
    data: str
    seed: Natural
    trial: Natural
    hidden_size: Count
    init: str
    learning_rate: Positive
    epochs: Count
    batch_size: Count
    options: Mapping[str, Any]
    momentum: Fraction = 0.0
    """Left out for an optimizer other than SGD."""
    transform_bias: float | None = None
    """Left out for a cell without transform gates."""
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = "sgd"


def is_path(word: str) -> bool:
    """Return True for a word that names a file or folder and not a preset. Such a word is an
    existing path, or looks like a path.
    """
    path = Path(word)
    return path.exists() or len(path.parts) > 1 or bool(path.suffix)


def stored_training(path: Path, cell: str | None = None) -> StoredTraining:
    """Return the training run of a folder, or of the record of a trial.

    cell: the stored cell, as package.module:factory, if it is one of the user's own; it is
    imported.

    Raises InvalidInputError for any other path, for another cell, for a language model, for a
    folder with several seeds, and for stored parts that contradict each other.
    """
    if path.suffix == ".json" and path.is_file():
        return _of_trial(path, cell)
    if not path.is_dir() or not (file := _home(path) / "config.json").is_file():
        raise InvalidInputError(_no_training(path))
    _check_cell(file, read_config(file).get("cell"), cell)
    config = starting_point(None, file, {"cell": cell} if cell else {})
    if not isinstance(config, ChoraleConfig):
        raise InvalidInputError(
            f"{path} is a run of a language model: expected one of chorales; for a text give "
            "FILE.py:NAME with windows of its tokens"
        )
    checksum = read_config(file).get("data")
    if not fits(checksum, str | None):
        raise InvalidInputError(f"{file}: data is {checksum!r:.60}, expected a checksum")
    model = build_model(config, seed=_seed(path, config, checksum))
    data = replace(data_of_config(file), name=path.name)
    return StoredTraining(path.name, model, settings_of(config), data)


def settings_of(config: TrainingConfig) -> dict[str, Any]:
    """Return the settings of a configuration by name.

    >>> from rhn.presets import preset
    >>> settings_of(preset("jsb-depth-1", optimizer="adam"))["arguments"]
    {'weight_decay': 0.0, 'betas': (0.9, 0.999), 'eps': 1e-08}
    """
    further: dict[str, Any] = {"weight_decay": config.weight_decay}
    if config.optimizer in ("adam", "adamw"):
        further |= {"betas": (config.beta1, config.beta2), "eps": config.epsilon}
    if config.optimizer == "rmsprop":
        further |= {"alpha": config.alpha, "eps": config.epsilon}
    return {name: getattr(config, name) for name in SETTINGS} | {"arguments": further}


def _no_training(path: Path) -> str:
    """The reason why a path is no stored training run, and what to give instead."""
    if not path.exists():
        return f"{path} is not there: expected the folder of a run of `rhn train`, or {RECORD}"
    if path.is_file():
        return (
            f"{path} is no record of a trial: expected {RECORD}; a checkpoint is given by "
            "--checkpoint"
        )
    if records := sorted([*path.glob("*/trials/*.json"), *path.glob("trials/*.json")]):
        return f"{path} is a study: give the record of one of its trials, such as {records[0]}"
    return f"{path} holds no config.json: expected the folder of a run of `rhn train`, or {RECORD}"


def _check_cell(path: Path, own: str | None, cell: str | None) -> None:
    """Raise InvalidInputError for another cell than the stored one, or if the stored cell is the
    user's own and was not given.
    """
    if cell is None:
        if own and not is_known(own):
            raise InvalidInputError(
                f"{path} names a cell of your own: add --cell {own} to import it"
            )
    elif cell != (own or "rhn"):
        hint = f"give --cell {own}" if own and not is_known(own) else "leave out --cell"
        raise InvalidInputError(f"{path} is of a network of {own or 'rhn'}, not of {cell}: {hint}")


def _home(path: Path) -> Path:
    """The folder with the configuration; for one of several seeds, the folder above."""
    return path.parent if re.fullmatch(r"seed-\d+", path.name) else path


def _seed(folder: Path, config: TrainingConfig, checksum: str | None) -> int:
    """The seed of the first weights.

    Raises InvalidInputError if the best weights and the configuration are of different training
    runs.
    """
    if folder == _home(folder) and (seeds := sorted(folder.glob("seed-*"))):
        raise InvalidInputError(f"{folder} holds {len(seeds)} seeds: give one, such as {seeds[0]}")
    named = int(folder.name.removeprefix("seed-")) if folder != _home(folder) else None
    best = folder / BEST
    if not best.is_file():
        return config.seed if named is None else named
    about = read_metadata(best)["metadata"]
    train, data = about.get("train"), about.get("data")
    if not isinstance(train, dict) or not is_whole_number(train.get("seed"), 0):
        raise InvalidInputError(
            f"{best} does not say the seed of its training: expected that of a run"
        )
    wanted = asdict(config) | {"seed": train["seed"] if named is None else named}
    if checksum is not None and isinstance(data, dict):
        wanted, train = wanted | {"data": checksum}, train | {"data": data.get("checksum")}
    if different := differences(wanted, train):
        raise InvalidInputError(
            f"{_home(folder) / 'config.json'} and {best} are of different training runs: "
            f"{different}: put the right one back"
        )
    return train["seed"]


def _of_trial(path: Path, cell: str | None) -> StoredTraining:
    """The training run of the record of a trial."""
    trial = _record(path)
    _check_cell(path, trial.arch, cell)
    bias: dict[str, Any] = {"transform_bias": trial.transform_bias}
    model = PolyphonicModel(
        trial.arch,
        hidden_size=trial.hidden_size,
        depth=trial.depth,
        init=trial.init,
        generator=weights_generator(trial.seed, trial.arch, trial.depth, trial.trial),
        **(bias if accepts(resolve_cell(trial.arch), "transform_bias") else {}),
        **trial.options,
    )
    name = f"{trial.arch}, depth {trial.depth}, trial {trial.trial}"
    settings = {name: getattr(trial, name) for name in SETTINGS}
    return StoredTraining(name, model, settings, StoredData(name, _file(path), trial.data))


def _file(record: Path) -> Path | None:
    """The file of the chorales of a trial, as the best checkpoint of its study names it; None if
    there is no such checkpoint.
    """
    best = record.parent.parent / BEST
    return stored_data(best).path if best.is_file() else None


def _record(path: Path) -> _Trial:
    """The entries of the record of a trial.

    Raises InvalidInputError for an entry that is missing, of another type, out of range, or not
    that of its study.
    """
    try:
        record = read_json(path)
        parts = [record["outcome"], record["study"], record["settings"], record]
        merged = {name: value for part in parts for name, value in part.items()}
        # that of a study is the values to choose from
        merged["transform_bias"] = record["settings"].get("transform_bias")
        if absent := [
            f.name for f in fields(_Trial) if f.default is MISSING and f.name not in merged
        ]:
            raise ValueError(f"it lacks {listed(absent)}")
        trial = _Trial(**{f.name: merged[f.name] for f in fields(_Trial) if f.name in merged})
        check_fields(trial)
        if trial.transform_bias is None and "transform_bias" not in lacking(trial.arch):
            raise ValueError("it lacks transform_bias")
        Initialization.parse(trial.init)
        if record["study_fingerprint"] != _fingerprint(record["study"]):
            raise ValueError("its study has another study_fingerprint: an entry was changed")
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{path} is not the record of a trial ({first_line(error)}): expected {RECORD}, of "
            "this version"
        ) from error
    return trial


def _fingerprint(protocol: Mapping[str, Any]) -> str:
    """The fingerprint that `optim-study` stores for the protocol of a study."""
    return hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()[:16]
