"""What a report says of how a network, a training or a study was made: the values in its files, as one table."""

import json
from collections.abc import Iterator
from pathlib import Path

from gersgorin.modules import read_state
from gersgorin.report.page import Section, Table, shown
from rhn.cell_names import lacking
from rhn.checkpoints import read_metadata, weights_file

LEFT_OUT = ("vocabulary",)  # thousands of words
MOST_ROWS, DEEPEST = 400, 8
ABOUT = "What it is and how it was made"
NETWORK = ("cell", "depth", "layers", "hidden_size", "init", "transform_bias")
TRAINING = ("corpus", "epochs", "batch_size", "learning_rate", "momentum", "seed")


def checkpoint_section(path: Path) -> Section:
    """What a checkpoint says of itself; raises CheckpointError."""
    header = read_metadata(path)
    told = {"file": str(path), "holds": header["class"], "network": header["config"]}
    told |= {"versions": header.get("versions"), "made": header.get("metadata")}
    return Section(title=ABOUT, words=[_in_words(header)], tables=[values_table(told, "All that the file says")])


def weights_section(asked) -> Section:
    """What a file of weights for a user's module holds; raises CheckpointError."""
    state = read_state(weights_file(asked.checkpoint))
    count = sum(t.numel() for t in state.values())
    told = {"module": asked.module, "file": str(asked.checkpoint)}
    told |= {"tensors": {name: "x".join(map(str, t.shape)) for name, t in state.items()}}
    words = f"{asked.module}, with the {count:,} numbers of {asked.checkpoint.name}, which does not say how they were trained."
    return Section(title=ABOUT, words=[words], tables=[values_table(told, "All that the file says")])


def _in_words(header: dict) -> str:
    """The most of it in a sentence: "PolyphonicModel: rhn, depth 6, 24 units; seed 0; train_nll 11.1 at epoch 12; data: ..."."""
    config, made = header["config"], header.get("metadata")
    made = made if isinstance(made, dict) else {}
    how = {**_dict(made.get("study")), **_dict(made.get("train")), **_dict(made.get("settings"))}
    told = [name for name in NETWORK if name in config and name not in lacking(str(config.get("cell")))]
    words = [", ".join(f"{name.replace('_', ' ')} {shown(config[name])}" for name in told)]
    words += [", ".join(f"{name.replace('_', ' ')} {shown(how[name])}" for name in TRAINING if name in how)]
    results = {**_dict(made.get("metrics")), **_dict(made.get("outcome"))}
    words += [", ".join(f"{k.replace('_', ' ')} {shown(v)}" for k, v in results.items() if _is_number(v))]
    words += [f"data: {shown(source)}"] if (source := _dict(made.get("data")).get("source")) else []
    return f"{shown(header['class'])}: {'; '.join(filter(None, words))}."


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _dict(value) -> dict:
    return value if isinstance(value, dict) else {}


def values_table(told: dict, caption: str) -> Table:
    """Nested values as rows, "train.seed" beside 0."""
    rows = list(flat(told))
    left = len(rows) - MOST_ROWS
    rows = rows[:MOST_ROWS] + ([["...", f"{left} more"]] if left > 0 else [])
    return Table(caption=caption, columns=["what", "value"], rows=rows, folded=True)


def flat(value, name: str = "", depth: int = 0) -> Iterator[list]:
    """Rows (name, value) of nested objects; lists as one text. What is nested too deeply is left out.

    >>> list(flat({"train": {"seed": 0, "rates": [1, 2]}, "cell": "rhn"}))
    [['train.seed', '0'], ['train.rates', '[1, 2]'], ['cell', 'rhn']]
    """
    if depth > DEEPEST:
        yield [name, "..."]
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key not in LEFT_OUT:
                yield from flat(inner, f"{name}.{key}" if name else str(key), depth + 1)
    elif isinstance(value, list | tuple):
        try:
            yield [name, json.dumps(value)]
        except RecursionError:
            yield [name, "..."]
    else:
        yield [name, str(value)]
