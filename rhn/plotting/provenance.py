"""Describe where networks and training runs come from (cell, sizes, initialisation, seed, data),
for the footers of figures.

Descriptions of networks come from their arguments and checkpoints, descriptions of training runs
from the config.json of their folders. The module does not import torch. Missing entries are left
out.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rhn.utils.io import check_file, read_json
from rhn.utils.old import counted

if TYPE_CHECKING:
    from torch import nn

FACTS: tuple[str, ...] = ("depth", "layers", "hidden_size", "init", "init_std", "transform_bias")
FACTS += ("learning_rate", "seed", "corpus", "vocabulary_size", "max_tokens")


def words_of_new(cell: "nn.Module", seed: int) -> str:
    """Describe the initialisation, biases and seed of a new cell.

    >>> from rhn.cells import RHN
    >>> words_of_new(RHN(3, 4), 0)
    'uniform:0.04, transform bias -2, seed 0'
    """
    return ", ".join([*_start(vars(cell)), f"seed {seed}"])


def words_of_built(cell: "nn.Module") -> str:
    """Describe the initialisation and biases with which a cell was built, whatever its weights are
    now; "" for a cell that is not ours.

    >>> from torch.nn import LSTM
    >>> from rhn.cells import RHN
    >>> words_of_built(RHN(3, 4)), words_of_built(LSTM(3, 4))
    ('built with uniform:0.04, transform bias -2', '')
    """
    from rhn.cells import Cell

    ours = isinstance(cell, Cell) and not getattr(cell, "converted", False)
    return f"built with {', '.join(_start(vars(cell)))}" if ours else ""


def words_of_checkpoint(path: Path, *, fresh: bool = False) -> str:
    """Describe the file, initialisation, seed and epoch of a checkpoint, as far as its header has
    them.

    An example is "rhn/best.safetensors: gaussian:0.05, training seed 0, epoch 40". A training run
    draws other weights from a seed than a new cell. fresh: True to leave out the epoch. Raises
    CheckpointError.
    """
    from rhn.checkpoints import read

    checkpoint = read(path)
    file, header = checkpoint.path, checkpoint.header
    found = _metadata(header)
    numbers = {"training_seed": found.get("seed"), "trial": found.get("trial")}
    words = [*_start(header["config"]), *_named(numbers, numbers)]
    words += [] if fresh else [*_named(found, ("epoch",)), *_unfinished(file.parent)]
    return ": ".join(filter(None, (named_file(file), ", ".join(words))))


def epoch_words(path: Path) -> str:
    """Return the epoch of the weights in a checkpoint, such as "epoch 34"; "" if its header has
    none. Raises CheckpointError.
    """
    from rhn.checkpoints import read

    return ", ".join(_named(_metadata(read(path).header), ("epoch",)))


def _metadata(header: Mapping) -> dict:
    """Return the entries about the training run from the header of a checkpoint, in one
    dictionary.
    """
    own = header["metadata"]
    parts = [own, *(own.get(name) for name in ("study", "train", "metrics", "outcome"))]
    return {key: v for part in parts if isinstance(part, dict) for key, v in part.items()}


def _unfinished(folder: Path) -> list[str]:
    """Describe a training run that has done fewer epochs than its config.json says, as ["after 1 of
    30 epochs"]; [] for a complete one.
    """
    try:
        check_file(folder / "metrics.jsonl")
        done = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["epoch"]
        epochs = read_json(folder / "config.json")["epochs"]
        return [f"after {done} of {counted(epochs, 'epoch')}"] if done < epochs else []
    except (OSError, LookupError, TypeError, ValueError):
        return []


def named_file(path: Path) -> str:
    """Return the name of a file with the name of its folder, because every training run has a
    best.safetensors.

    >>> named_file(Path("runs/depth6/best.safetensors"))
    'depth6/best.safetensors'
    """
    return "/".join(path.parts[-2:]).removeprefix("/")


def read_facts(run: Path, seed: int | None = None) -> tuple[str, ...]:
    """Return the facts about the training run in a folder as texts: network, initialisation,
    learning rate, seed and data. The result is empty if its config.json cannot be read.

    seed: the seed to name, for a training run with several seeds.
    """
    try:
        config = read_json(run / "config.json") | ({} if seed is None else {"seed": seed})
        options = dict(config.get("cell_options") or {})
        return config["cell"], *_named(config, FACTS), *_named(options, options)
    except (OSError, LookupError, TypeError, ValueError):
        return ()


def shared(facts: Sequence[Sequence[str]]) -> str:
    """Join the facts that all training runs of a figure have in common to one text.

    >>> shared([("gaussian:0.1", "seed 0"), ("gaussian:0.1", "seed 1")])
    'gaussian:0.1'
    """
    first = facts[0] if facts else ()
    return "; ".join(fact for fact in first if all(fact in others for others in facts))


def _start(values: Mapping) -> list[str]:
    """Describe the initialisation, with long numbers rounded to four digits, and the biases."""
    init = str(values.get("init") or "")
    short = re.sub(r"\d\.\d{4,}(e-?\d+)?", lambda found: f"{float(found[0]):.4g}", init)
    biases = _named(values, [name for name in values if name.endswith("_bias")])
    return [*filter(None, (short,)), *biases]


def _named(values: Mapping, names: Iterable[str]) -> list[str]:
    """Describe the entries with these names, such as "learning rate 0.2". Entries that are None are
    left out.
    """
    found = {name.replace("_", " "): values[name] for name in names if values.get(name) is not None}
    numbers = {name: f"{v:g}" if isinstance(v, float) else v for name, v in found.items()}
    return [f"{name} {number}" for name, number in numbers.items()]
