"""Describe where networks and training runs come from, for the titles of figures: cell, sizes,
initialisation, seed, data.

Networks are described by their arguments and checkpoints, training runs by the config.json of their
folders, without torch. Missing entries are left out.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rhn.utils.io import check_file, read_json
from rhn.utils.wording import counted

if TYPE_CHECKING:
    from torch import nn

FACTS: tuple[str, ...] = ("depth", "layers", "hidden_size", "init", "init_std", "transform_bias")
FACTS += ("learning_rate", "seed", "corpus", "vocabulary_size", "max_tokens")


def words_of_new(cell: "nn.Module", seed: int) -> str:
    """Describe the initialisation, biases and seed of a new cell.

    >>> from rhn.cells import RHN, RNN
    >>> words_of_new(RHN(3, 4), 0), words_of_new(RNN(3, 4, init="orthogonal"), 7)
    ('uniform:0.04, transform bias -2, seed 0', 'orthogonal:1, seed 7')
    """
    return ", ".join([*_start(vars(cell)), f"seed {seed}"])


def words_of_built(cell: "nn.Module") -> str:
    """Initialisation and biases that a cell was built with, whatever its weights are now; "" for a
    cell that is not ours.

    >>> from torch.nn import LSTM
    >>> from rhn.cells import RHN
    >>> words_of_built(RHN(3, 4)), words_of_built(LSTM(3, 4))
    ('built with uniform:0.04, transform bias -2', '')
    """
    from rhn.cells import Cell

    ours = isinstance(cell, Cell) and not getattr(cell, "converted", False)
    return f"built with {', '.join(_start(vars(cell)))}" if ours else ""


def words_of_checkpoint(path: Path, *, fresh: bool = False) -> str:
    """Describe the file, initialisation, seed and epoch of a checkpoint, if its header has them.

    "rhn/best.safetensors: gaussian:0.05, transform bias -1, seed 0, epoch 40"; fresh: without the
    epoch. Raises CheckpointError.
    """
    from rhn.checkpoints import read_metadata, weights_file

    file = weights_file(path)
    header = read_metadata(file)
    found = _metadata(header)
    words = [*_start(header["config"]), *_named(found, ("seed", "trial"))]
    words += [] if fresh else [*_named(found, ("epoch",)), *_unfinished(file.parent)]
    return ": ".join(filter(None, (named_file(file), ", ".join(words))))


def epoch_words(path: Path) -> str:
    """The epoch of the weights in a checkpoint, "epoch 34"; "" if its header has none. Raises
    CheckpointError.
    """
    from rhn.checkpoints import read_metadata

    return ", ".join(_named(_metadata(read_metadata(path)), ("epoch",)))


def _metadata(header: Mapping) -> dict:
    """The entries about the training run in the header of a checkpoint, in one dictionary."""
    from rhn.checkpoints import entry_of

    own = header["metadata"]
    parts = [own, *(entry_of(own, name) for name in ("study", "train", "metrics", "outcome"))]
    return {key: value for part in parts for key, value in part.items()}


def _unfinished(folder: Path) -> list[str]:
    """Describe a training run with fewer epochs than in its config.json: "after 1 of 30 epochs"."""
    try:
        check_file(folder / "metrics.jsonl")
        done = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["epoch"]
        epochs = read_json(folder / "config.json")["epochs"]
        return [f"after {done} of {counted(epochs, 'epoch')}"] if done < epochs else []
    except (OSError, LookupError, TypeError, ValueError):
        return []


def named_file(path: Path) -> str:
    """The name of a file after that of its folder, because every run has a best.safetensors.

    >>> named_file(Path("runs/depth6/best.safetensors"))
    'depth6/best.safetensors'
    """
    return "/".join(path.parts[-2:]).removeprefix("/")


def read_facts(run: Path, seed: int | None = None) -> tuple[str, ...]:
    """Network, initialisation, learning rate, seed and data of the training run in a folder; none
    if its config.json cannot be read.

    seed: one of several.
    """
    try:
        config = read_json(run / "config.json") | ({} if seed is None else {"seed": seed})
        options = dict(config.get("cell_options") or {})
        return config["cell"], *_named(config, FACTS), *_named(options, options)
    except (OSError, LookupError, TypeError, ValueError):
        return ()


def shared(facts: Sequence[Sequence[str]]) -> str:
    """The facts that all training runs of a figure have in common.

    >>> shared([("gaussian:0.1", "seed 0"), ("gaussian:0.1", "seed 1")])
    'gaussian:0.1'
    """
    first = facts[0] if facts else ()
    return "; ".join(fact for fact in first if all(fact in others for others in facts))


def _start(values: Mapping) -> list[str]:
    """Initialisation, its long numbers to four digits, and the biases."""
    init = str(values.get("init") or "")
    short = re.sub(r"\d\.\d{4,}(e-?\d+)?", lambda found: f"{float(found[0]):.4g}", init)
    biases = _named(values, [name for name in values if name.endswith("_bias")])
    return [short, *biases] if short else biases


def _named(values: Mapping, names: Iterable[str]) -> list[str]:
    """Describe these entries, as "learning rate 0.2", without those that are None."""
    found = {name.replace("_", " "): values[name] for name in names if values.get(name) is not None}
    numbers = {name: f"{v:g}" if isinstance(v, float) else v for name, v in found.items()}
    return [f"{name} {number}" for name, number in numbers.items()]
