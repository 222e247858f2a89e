"""Describe where networks and trainings come from, for the titles of figures: cell, sizes, initialisation, seed, data.

Networks are described by their arguments and checkpoints, trainings by the config.json of their folders, without torch. Missing
entries are left out, and values are cut short, because the files may come from anywhere.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rhn.cells.registry import lacking
from rhn.errors import RhnError
from rhn.utils.io import read_json

if TYPE_CHECKING:
    from torch import nn

SHOWN = 40  # characters of a value


def words_of_new(cell: "nn.Module", seed: int) -> str:
    """Initialisation, biases and seed of a cell with fresh weights.

    >>> from rhn.cells import RHN, RNN
    >>> words_of_new(RHN(3, 4), 0), words_of_new(RNN(3, 4, init="orthogonal"), 7)
    ('uniform:0.04, transform bias -2, seed 0', 'orthogonal:1, seed 7')
    """
    return ", ".join([*_start(vars(cell) | {"options": getattr(cell, "options", ())}), f"seed {seed}"])


def words_of_built(cell: "nn.Module") -> str:
    """Initialisation and biases that a cell was built with, whatever its weights are now; "" for a cell that is not ours.

    >>> from torch.nn import LSTM
    >>> from rhn.cells import RHN
    >>> words_of_built(RHN(3, 4)), words_of_built(LSTM(3, 4))
    ('built with uniform:0.04, transform bias -2', '')
    """
    from rhn.cells import Cell

    if not isinstance(cell, Cell) or getattr(cell, "converted", False):
        return ""
    return "built with " + ", ".join(_start(vars(cell) | {"options": cell.options}))


def words_of_checkpoint(path: Path) -> str:
    """File and folder, initialisation, seed and epoch of a checkpoint, as far as its header has them.

    "rhn/best.safetensors: gaussian:0.05, transform bias -1, seed 0, epoch 40". Raises CheckpointError.
    """
    from rhn.checkpoints import read_metadata, weights_file

    file = weights_file(path)
    header = read_metadata(file)
    config, metadata = header["config"], _dict(header.get("metadata"))
    run = _dict(metadata.get("study")) | _dict(metadata.get("train"))
    words = _start(config | {"options": [name for name in config if name.endswith("_bias")]})
    results = _dict(metadata.get("metrics")) | _dict(metadata.get("outcome"))
    numbers = {"seed": run.get("seed"), "trial": metadata.get("trial"), "epoch": results.get("epoch")}
    words += [f"{name} {number}" for name, number in numbers.items() if type(number) is int]
    return named_file(file) + (f": {', '.join(words)}" if words else "")


def named_file(path: Path) -> str:
    """A file's name after that of its folder: every run has a best.safetensors.

    >>> named_file(Path("runs/depth6/best.safetensors"))
    'depth6/best.safetensors'
    """
    return "/".join(path.parts[-2:]).removeprefix("/")


@dataclass(frozen=True)
class RunTitle:
    """A training in words."""

    network: str = ""
    """ "rhn, depth 5, 200 units"."""
    facts: tuple[str, ...] = ()
    """Initialisation, transform bias, learning rate, seed, data."""
    dropout: bool = False
    """Whether its training loss is measured with dropout."""


def read_title(run: Path, seed: int | None = None) -> RunTitle:
    """The title of the training in a folder; seed: one of several. Empty if its config.json cannot be read."""
    try:
        config = read_json(run / "config.json")
    except (RhnError, OSError, ValueError):
        return RunTitle()
    if not isinstance(config, dict):
        return RunTitle()
    return RunTitle(_network(config), tuple(_facts(config, seed)), _any_dropout(config))


def shared(facts: Sequence[Sequence[str]]) -> str:
    """The facts that all trainings of a figure have in common.

    >>> shared([("gaussian:0.1", "seed 0"), ("gaussian:0.1", "seed 1")])
    'gaussian:0.1'
    """
    return "; ".join(fact for fact in facts[0] if all(fact in others for others in facts)) if facts else ""


def _start(values: dict) -> list[str]:
    """Initialisation, and the biases among the options."""
    words = [_rounded(str(values["init"])[:SHOWN])] if values.get("init") else []
    biases = {name: values.get(name) for name in values["options"] if name.endswith("_bias")}
    return words + [f"{name.replace('_', ' ')} {v:g}" for name, v in biases.items() if isinstance(v, int | float)]


def _rounded(words: str) -> str:
    """Words with their long numbers to four digits."""
    return re.sub(r"\d\.\d{4,}(e-?\d+)?", lambda found: f"{float(found[0]):.4g}", words)


def _dict(value) -> dict:
    return value if isinstance(value, dict) else {}


def _network(config: dict) -> str:
    if "cell" not in config:
        return ""
    words = [_short(config["cell"])]
    words += [f"{config['layers']} layers"] if config.get("layers") not in (None, 1) else []
    words += [f"depth {_short(config['depth'])}"] if "depth" in config.keys() - lacking(_short(config["cell"])) else []
    words += [f"{_short(config['hidden_size'])} units"] if "hidden_size" in config else []
    options = config.get("cell_options")
    options = options.items() if isinstance(options, dict) else ()
    return ", ".join(words + [f"{_short(name).replace('_', ' ')} {_short(value)}" for name, value in options])


def _facts(config: dict, seed: int | None) -> list[str]:
    init = config.get("init") or (f"gaussian:{config['init_std']}" if config.get("init_std") else None)
    gated = "transform_bias" not in lacking(_short(config.get("cell", "")))
    named = {
        "transform bias": config.get("transform_bias") if gated else None,
        "learning rate": config.get("learning_rate"),
        "seed": config.get("seed") if seed is None else seed,
    }
    facts = [_short(init)] if init else []
    facts += [f"{name} {_short(value)}" for name, value in named.items() if value is not None]
    if "corpus" in config:
        words = config.get("vocabulary_size")
        path = config.get("path")
        source = Path(path).name if config["corpus"] == "text" and isinstance(path, str) else config["corpus"]
        return facts + [_short(source)] + ([f"{words} words"] if words else [])
    return facts + ([f"chorales {config['data'][:12]}"] if isinstance(config.get("data"), str) else [])


def _any_dropout(config: dict) -> bool:
    return any(name.startswith("drop_") and isinstance(rate, int | float) and rate > 0 for name, rate in config.items())


def _short(value) -> str:
    return str(value)[:SHOWN]
