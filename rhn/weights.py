"""Read files of weights that do not describe their network: .safetensors, or a state_dict that
torch.save wrote. Only tensors are unpickled.

load_weights(module, path)     load all weights of a module
layer_of_torch(cell, path)     the layer of torch.nn to which the weights belong, as our cell
"""

import itertools
import logging
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from rhn.cells.base import Cell
from rhn.cells.convert import from_torch
from rhn.errors import CheckpointError, DataError, first_line
from rhn.utils.io import check_file
from rhn.utils.old import listed
from rhn.utils.validation import kind_of, not_dense_real

# keys of the weights in files of training runs
WRAPPED = ("state_dict", "model_state_dict", "model")
EXPECTED = "expected what torch.save(model.state_dict(), FILE) writes, or .safetensors"

# first bytes of files
TORCH_SAVE = (b"PK\3\4", b"\x80\2\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19")
NPY = b"\x93NUMPY"

logger = logging.getLogger(__name__)


def load_weights(module: nn.Module, path: Path) -> None:
    """Load all weights of a module from a file. A prefix that all names in the file have, such as
    "module." or "model.", is removed if the names then fit the module.

    Raises CheckpointError for a file that is missing or damaged, contains more than tensors, or
    does not match the module's names and shapes.
    """
    own = module.state_dict()
    found = _fitting(read_weights(path), own)
    if wrong := [f"{name} is {kind}" for name, t in found.items() if (kind := not_dense_real(t))]:
        raise CheckpointError(f"{path}: {wrong[0]}, expected dense real numbers")
    for name, t in found.items():
        if name in own and own[name].is_floating_point() and not t.is_floating_point():
            raise CheckpointError(f"{path}: {name} holds {t.dtype}, expected {own[name].dtype}")
    try:
        module.load_state_dict(found)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} does not fit {type(module).__name__}: {_misfit(found, own, error)}"
        ) from error


def layer_of_torch(cell: str, path: Path) -> Cell:
    """Return our cell with the weights of a layer of torch.nn, whose sizes are read from the file.
    cell: the name of the layer, such as "torch.nn:LSTM".

    Raises CheckpointError for a file that cannot be read, or whose weights do not fit the layer;
    InvalidInputError for two directions.
    """
    factory = getattr(nn, cell.partition(":")[2])
    sizes = sizes_in_file(factory, path)
    if not sizes:
        names = listed([*read_weights(path)])
        raise CheckpointError(f"{path} holds {names}: expected the weights of {cell}")
    with torch.random.fork_rng(devices=[]):
        module = factory(**sizes)
    load_weights(module, path)
    return from_torch(module)


def sizes_in_file(factory: Any, path: Path) -> dict[str, int | bool]:
    """The result of `sizes_in` for the weights in a file. A sentence is logged for an RNN, because
    its weights do not name its activation.
    """
    state = read_weights(path)
    sizes = sizes_in(_without(_common_prefixes(state)[-1], state))
    if sizes and issubclass(factory, nn.RNN | nn.RNNCell):
        logger.warning(
            "%s does not name the activation of the RNN, and tanh is assumed; for relu give a "
            "module of your own, nn.RNN(..., nonlinearity='relu')",
            path,
        )
    return sizes


def sizes_in(state: Mapping[str, Tensor]) -> dict[str, int | bool]:
    """Constructor arguments of the RNN, LSTM, GRU or *Cell of torch.nn to which these weights
    belong; empty for other modules.

    >>> sizes_in(nn.LSTM(3, 5, num_layers=2, bias=False).state_dict())
    {'input_size': 3, 'hidden_size': 5, 'bias': False, 'num_layers': 2}
    """
    layers = sorted(
        {name.removeprefix("weight_ih") for name in state if re.match(r"weight_ih(_l\d+)?$", name)}
    )
    shapes = [
        state[name].shape
        for k in layers[:1]
        for name in (f"weight_ih{k}", f"weight_hh{k}")
        if name in state
    ]
    if [len(shape) for shape in shapes] != [2, 2]:
        return {}
    sizes: dict[str, int | bool] = {
        "input_size": shapes[0][1],
        "hidden_size": shapes[1][1],
        "bias": f"bias_hh{layers[0]}" in state,
    }
    if layers[0]:
        sizes["num_layers"] = len(layers)
    if any(name.endswith("_reverse") for name in state):
        sizes["bidirectional"] = True
    return sizes


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors by name, on the CPU, from a .safetensors file, a file of a state_dict, or a file
    of a training run that contains a state_dict.

    Raises CheckpointError if the file cannot be read.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no file of weights at {path}")
    try:
        check_file(path)
        if kind := foreign_kind(path):
            raise CheckpointError(f"{path} is {kind}, which holds no weights of torch: {EXPECTED}")
        found = _content(path)
    except CheckpointError:
        raise
    except DataError as error:
        raise CheckpointError(str(error)) from error
    except Exception as error:  # whatever torch makes of a damaged file
        raise CheckpointError(f"{path} {_fault(path, error)}") from error
    candidates = [found, *(found.get(key) for key in WRAPPED if isinstance(found, Mapping))]
    for state in candidates:
        if (
            isinstance(state, Mapping)
            and state
            and all(isinstance(t, Tensor) for t in state.values())
        ):
            return dict(state)
    raise CheckpointError(
        f"{path} holds {kind_of(found)}: expected a state_dict, by itself or under "
        f"{' or '.join(WRAPPED)}"
    )


def _content(path: Path) -> Any:
    """The tensors of a .safetensors file by name, or what torch unpickles from another one."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            if damaged := file.testzip():
                raise ValueError(f"the checksum of {damaged} is wrong")
    with warnings.catch_warnings(action="ignore"):  # about pickles of other protocols
        return torch.load(path, map_location="cpu", weights_only=True)


def _fault(path: Path, error: Exception) -> str:
    """Describe the error of a file that cannot be read."""
    unpickling = isinstance(error, pickle.UnpicklingError)
    if unpickling and is_torch_save(path):
        return f"contains more than tensors, and nothing else is unpickled: {EXPECTED}"
    advice = unpickling or "weights_only" in str(error)  # of torch, to run code
    reason = "" if advice or isinstance(error, KeyError) else f": {first_line(error)}"
    return f"is not a complete file of weights (another kind, truncated or damaged){reason}"


def _common_prefixes(names: Iterable[str]) -> list[str]:
    """The prefixes, each with its dot, that all names have; "" is the first, the longest the last.

    >>> _common_prefixes(["module.rnn.weight", "module.rnn.bias"])
    ['', 'module.', 'module.rnn.']
    """
    parts = [name.split(".")[:-1] for name in names]
    both = zip(min(parts), max(parts), strict=False)  # what these two share, all share
    common = itertools.takewhile(lambda pair: pair[0] == pair[1], both)
    return [*itertools.accumulate((f"{part}." for part, _ in common), initial="")]


def _without(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in state.items()}


def _fitting(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without the common prefix whose removal makes most names those of a module."""
    candidates = [_without(prefix, found) for prefix in _common_prefixes(found)]
    return max(candidates, key=lambda state: len(state.keys() & own.keys()))


def _misfit(found: Mapping[str, Tensor], own: Mapping[str, Tensor], error: Exception) -> str:
    """Describe the differences between the names, or else the first difference between the shapes,
    of the weights in a file and in a module.
    """
    lacks = [name for name in own if name not in found]
    more = [name for name in found if name not in own]
    if lacks and more:
        return f"the file lacks {listed(lacks, 2)}, and has {listed(more, 1)} instead"
    if lacks or more:
        return f"the file lacks {listed(lacks)}" if lacks else f"the file also has {listed(more)}"
    for name, t in found.items():
        if t.shape != own[name].shape:
            shapes = tuple(t.shape), tuple(own[name].shape)
            return f"{name} has the shape {shapes[0]}, expected {shapes[1]}"
    return first_line(error)


def is_torch_save(path: Path) -> bool:
    """True for a file that torch.save wrote, complete or truncated."""
    return _first_bytes(path).startswith(TORCH_SAVE) and not foreign_kind(path)


def foreign_kind(path: Path) -> str:
    """Name the kind of a file that belongs to another program and holds no tensors of torch, such
    as "a .npz file"; "" for any other file.
    """
    if _first_bytes(path).startswith(NPY):
        return "a .npy file"
    if not zipfile.is_zipfile(path):
        return ""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("data.pkl") for name in names):  # of torch.save
        return ""
    arrays = bool(names) and all(name.endswith(".npy") for name in names)
    return "a .npz file" if arrays else "an archive (.zip)"


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(20)
