"""A stored training run on chorales, to be run again from its first weights.

    stored = stored_training(Path("runs/mine"))
    stored.model, stored.settings["learning_rate"]

| path                                                 | is                                 |
|------------------------------------------------------|------------------------------------|
| a folder of `rhn train`, also its seed-N/            | that training run                  |
| OUT/ARCH-depthL/trials/0007.json of `optim-study run`| a trial that has ended             |

The weights are those of the training bit for bit: they are drawn again, from the stored seed and
scale.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from rhn.cells import accepts, is_known, resolve_cell
from rhn.checkpoints import BEST, read_metadata
from rhn.errors import InvalidInputError
from rhn.models import PolyphonicModel
from rhn.presets import starting_point
from rhn.training.config import ChoraleConfig, TrainingConfig
from rhn.training.ensemble import build_model, weights_generator
from rhn.training.trained import data_path
from rhn.utils.io import read_json
from rhn.utils.wording import first_line

SETTINGS = ("learning_rate", "momentum", "epochs", "batch_size", "optimizer")
LATER = {"optimizer": "sgd"}  # settings of a study that its protocol leaves out, if they are these


@dataclass(frozen=True)
class StoredTraining:
    """A training run as it began."""

    name: str
    model: nn.Module
    """With the first weights."""
    settings: dict[str, Any]
    """By name: learning_rate, momentum, epochs, batch_size, optimizer, and further arguments of
    that one in torch.optim.
    """
    data: Path | None = None
    """The file of its chorales; None: those rebuilt from music21."""


def is_stored(path: Path) -> bool:
    """True for a folder of `rhn train`, and for the record of a trial."""
    return (_home(path) / "config.json").is_file() or (path.suffix == ".json" and path.is_file())


def stored_training(path: Path, cell: str | None = None) -> StoredTraining:
    """The training of a folder, or of the record of a trial.

    cell: a cell of the user's own, as package.module:factory; it is imported.

    Raises InvalidInputError for a training run of a text, for one of several seeds, and for a
    record without the settings of its trial.
    """
    if path.is_file():
        return _of_trial(path, cell)
    config = starting_point(None, _home(path) / "config.json", {"cell": cell} if cell else {})
    if not isinstance(config, ChoraleConfig):
        raise InvalidInputError(
            f"{path} is a run of a language model: expected one of chorales; for a text give "
            "FILE.py:NAME with windows of its tokens"
        )
    model = build_model(config, seed=_seed(path, config))
    return StoredTraining(path.name, model, settings_of(config), data_path(path))


def settings_of(config: TrainingConfig) -> dict[str, Any]:
    """The settings of a configuration.

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


def _home(path: Path) -> Path:
    """The folder with the configuration: of one seed of several that above it."""
    return path.parent if path.name.startswith("seed-") else path


def _seed(folder: Path, config: TrainingConfig) -> int:
    """The seed of the first weights."""
    if folder.name.startswith("seed-"):
        return int(folder.name.removeprefix("seed-"))
    if seeds := sorted(folder.glob("seed-*")):
        raise InvalidInputError(f"{folder} holds {len(seeds)} seeds: give one, such as {seeds[0]}")
    best = folder / BEST
    if not best.is_file():
        return config.seed
    match read_metadata(best)["metadata"]:
        case {"train": {"seed": int(seed)}}:
            return seed
    raise InvalidInputError(f"{best} does not say the seed of its training: expected that of a run")


def _of_trial(path: Path, cell: str | None) -> StoredTraining:
    """The training of the record of a trial."""
    try:
        record = read_json(path)
        study, settings, number = record["study"], record["settings"], record["trial"]
        arch, depth = study["arch"], study["depth"]
        if arch != cell and not is_known(arch):
            raise InvalidInputError(
                f"{path} names a cell of your own: add --cell {arch} to import it"
            )
        bias = {"transform_bias": settings["transform_bias"]}
        model = PolyphonicModel(
            arch,
            hidden_size=record["outcome"]["hidden_size"],
            depth=depth,
            init=record["init"],
            generator=weights_generator(study["seed"], arch, depth, number),
            **(bias if accepts(resolve_cell(arch), "transform_bias") else {}),
            **study["options"],
        )
    except InvalidInputError:
        raise
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{path} is not the record of a trial ({first_line(error)}): expected "
            "OUT/ARCH-depthL/trials/NUMBER.json of `optim-study run`, of this version"
        ) from error
    known = {name: study[name] for name in SETTINGS if name in study}
    rate = {"learning_rate": settings["learning_rate"]}
    return StoredTraining(f"{arch}, depth {depth}, trial {number}", model, LATER | known | rate)
