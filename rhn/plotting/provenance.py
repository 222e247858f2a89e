"""Describe where networks and trainings come from, for the titles of figures: cell, sizes, initialisation, seed, data.

Networks are described by their arguments and checkpoints, trainings by the config.json of their folders, without torch. Missing
entries are left out.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rhn.cells.registry import lacking
from rhn.utils.io import read_json

if TYPE_CHECKING:
    from torch import nn


def words_of_new(cell: "nn.Module", seed: int) -> str:
    """Initialisation, biases and seed of a cell with fresh weights.

    >>> from rhn.cells import RHN, RNN
    >>> words_of_new(RHN(3, 4), 0), words_of_new(RNN(3, 4, init="orthogonal"), 7)
    ('uniform:0.04, transform bias -2, seed 0', 'orthogonal:1, seed 7')
    """
    return ", ".join([*_start(vars(cell), getattr(cell, "options", ())), f"seed {seed}"])


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
    return "built with " + ", ".join(_start(vars(cell), cell.options))


def words_of_checkpoint(path: Path) -> str:
    """File and folder, initialisation, seed and epoch of a checkpoint, as far as its header has them.

    "rhn/best.safetensors: gaussian:0.05, transform bias -1, seed 0, epoch 40". Raises CheckpointError.
    """
    from rhn.checkpoints import read_metadata, weights_file

    file = weights_file(path)
    header = read_metadata(file)
    config, metadata = header["config"], header["metadata"]
    run, results = (
        {key: value for name in names for key, value in dict(metadata.get(name) or {}).items()}
        for names in (("study", "train"), ("metrics", "outcome"))
    )
    numbers = {"seed": run.get("seed"), "trial": metadata.get("trial"), "epoch": results.get("epoch")}
    words = _start(config, config) + [f"{name} {number}" for name, number in numbers.items() if number is not None]
    return ": ".join(filter(None, (named_file(file), ", ".join(words))))


def _start(values: dict, options: Sequence[str]) -> list[str]:
    """Initialisation, its long numbers to four digits, and the biases among the options."""
    init = re.sub(r"\d\.\d{4,}(e-?\d+)?", lambda found: f"{float(found[0]):.4g}", str(values.get("init") or ""))
    biases = {name: values.get(name) for name in options if name.endswith("_bias")}
    words = [f"{name.replace('_', ' ')} {v:g}" for name, v in biases.items() if isinstance(v, int | float)]
    return [init] * bool(init) + words


def named_file(path: Path) -> str:
    """A file's name after that of its folder: every run has a best.safetensors.

    >>> named_file(Path("runs/depth6/best.safetensors"))
    'depth6/best.safetensors'
    """
    return "/".join(path.parts[-2:]).removeprefix("/")


def read_title(run: Path, seed: int | None = None) -> tuple[str, tuple[str, ...]]:
    """(Network, facts) of the training in a folder, in words; seed: one of several. Empty if its config.json cannot be read.

    "rhn, depth 5, 200 units", and initialisation, transform bias, learning rate, seed, data.
    """
    try:
        config = read_json(run / "config.json")
        return _network(config), tuple(_facts(config, seed))
    except (OSError, AttributeError, TypeError, ValueError):
        return "", ()


def shared(facts: Sequence[Sequence[str]]) -> str:
    """The facts that all trainings of a figure have in common.

    >>> shared([("gaussian:0.1", "seed 0"), ("gaussian:0.1", "seed 1")])
    'gaussian:0.1'
    """
    return "; ".join(fact for fact in facts[0] if all(fact in others for others in facts)) if facts else ""


def _network(config: dict) -> str:
    cell, layers = config.get("cell", ""), config.get("layers") or 1
    sizes = {"depth": "depth {}", "hidden_size": "{} units"}
    words = [cell] + [f"{layers} layers"] * (layers != 1)
    words += [text.format(config[name]) for name, text in sizes.items() if name in config.keys() - lacking(cell)]
    words += [f"{name.replace('_', ' ')} {value}" for name, value in (config.get("cell_options") or {}).items()]
    return ", ".join(words) if cell else ""


def _facts(config: dict, seed: int | None) -> list[str]:
    cell, corpus, words = config.get("cell", ""), config.get("corpus"), config.get("vocabulary_size")
    named = {
        "transform bias": None if "transform_bias" in lacking(cell) else config.get("transform_bias"),
        "learning rate": config.get("learning_rate"),
        "seed": config.get("seed") if seed is None else seed,
    }
    init = config.get("init") or (config.get("init_std") and f"gaussian:{config['init_std']}")
    facts = [init, *(f"{name} {value}" for name, value in named.items() if value is not None)]
    if corpus is None:
        facts += [f"chorales {config['data'][:12]}"] if "data" in config else []
    else:
        facts += [Path(config["path"]).name if corpus == "text" and config.get("path") else corpus]
        facts += [f"{words} words"] if words else []
    return [fact for fact in facts if fact]
