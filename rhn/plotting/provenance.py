"""How a network came to be, for the second line of a figure's title: how and from which seed it was drawn, or what training."""

import re
from pathlib import Path

from torch import nn

from rhn.cells import Cell
from rhn.checkpoints import read_metadata, weights_file

SHOWN = 40  # characters of what a file says of itself, which anybody may have written


def words_of_new(cell: nn.Module, seed: int) -> str:
    """Of a cell with fresh weights: initialisation, the biases it was given, seed.

    >>> from rhn.cells import RHN, RNN
    >>> words_of_new(RHN(3, 4), 0), words_of_new(RNN(3, 4, init="orthogonal"), 7)
    ('uniform:0.04, transform bias -2, seed 0', 'orthogonal:1, seed 7')
    """
    return ", ".join([*_start(vars(cell) | {"options": getattr(cell, "options", ())}), f"seed {seed}"])


def words_of_built(cell: nn.Module) -> str:
    """Of a cell of ours, whatever weights it has by now: the initialisation and the biases it was built with; "" where none are known.

    >>> from rhn.cells import RHN
    >>> words_of_built(RHN(3, 4)), words_of_built(nn.LSTM(3, 4))
    ('built with uniform:0.04, transform bias -2', '')
    """
    if not isinstance(cell, Cell) or getattr(cell, "converted", False):
        return ""
    return "built with " + ", ".join(_start(vars(cell) | {"options": cell.options}))


def words_of_checkpoint(path: Path) -> str:
    """Of a file of weights: its name in its folder, how it started, its seed and the epoch it is of, as far as it says.

    "rhn/best.safetensors: gaussian:0.05, transform bias -1, seed 0, epoch 40". Raises CheckpointError.
    """
    file = weights_file(path)
    header = read_metadata(file)
    config, made = header["config"], _dict(header.get("metadata"))
    run = _dict(made.get("study")) | _dict(made.get("train"))
    told = _start(config | {"options": [name for name in config if name.endswith("_bias")]})
    told += [f"seed {run['seed']}"] if _whole(run.get("seed")) else []
    told += [f"trial {made['trial']}"] if _whole(made.get("trial")) else []
    results = _dict(made.get("metrics")) | _dict(made.get("outcome"))
    told += [f"epoch {results['epoch']}"] if _whole(results.get("epoch")) else []
    return named_file(file) + (f": {', '.join(told)}" if told else "")


def named_file(path: Path) -> str:
    """A file's name after that of its folder: best.safetensors is called so in every run.

    >>> named_file(Path("runs/depth6/best.safetensors"))
    'depth6/best.safetensors'
    """
    return "/".join(path.parts[-2:]).removeprefix("/")


def _start(values: dict) -> list[str]:
    """Initialisation and the biases among the options, of those that are told."""
    said = [_short(str(values["init"])[:SHOWN])] if values.get("init") else []
    biases = {name: values.get(name) for name in values["options"] if name.endswith("_bias")}
    return said + [f"{name.replace('_', ' ')} {v:g}" for name, v in biases.items() if isinstance(v, int | float)]


def _short(words: str) -> str:
    """Words with their long numbers to four digits."""
    return re.sub(r"\d\.\d{4,}(e-?\d+)?", lambda found: f"{float(found[0]):.4g}", words)


def _whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _dict(value) -> dict:
    return value if isinstance(value, dict) else {}
