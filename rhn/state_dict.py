"""Read a state_dict, which does not describe its network. Only tensors are unpickled."""

import re
import zipfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from rhn.cells.base import Cell
from rhn.cells.conversion import from_torch
from rhn.errors import CheckpointError, unreadable
from rhn.files import check_encoding


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors by name, on the CPU. Raises CheckpointError for a file of another kind, and
    InvalidInputError for a path of .safetensors that is not UTF-8.
    """
    if path.suffix == ".safetensors":
        check_encoding(path)
    wanted = ".safetensors, or what torch.save(model.state_dict(), FILE) writes"
    other = f"{path} is damaged or of another kind: expected {wanted}"
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        whole = True
        if zipfile.is_zipfile(path):  # torch compares no checksums
            with zipfile.ZipFile(path) as archive:
                whole = archive.testzip() is None
        found = dict(torch.load(path, map_location="cpu", weights_only=True)) if whole else {}
    except Exception as error:  # whatever torch makes of a file of another kind
        raise CheckpointError(unreadable(path, error, other)) from error
    if found and all(isinstance(t, Tensor) for t in found.values()):
        return found
    raise CheckpointError(other)


def load_weights(module: nn.Module, path: Path) -> None:
    """Load all weights of a module from a file. Raises CheckpointError if the file does not fit."""
    found, own = read_weights(path), module.state_dict()
    try:
        for name, t in found.items():
            if name in own and t.dtype.is_floating_point != own[name].dtype.is_floating_point:
                raise RuntimeError(f"{name} has the type {t.dtype}, expected {own[name].dtype}")
        module.load_state_dict(found)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path} does not fit {type(module).__name__}: {reason}") from error


def layer_of_torch(cell: str, path: Path) -> Cell:
    """Return our cell with the weights of a layer of torch.nn, such as "torch.nn:LSTM", whose sizes
    are those of the file; an RNN is one of tanh. Raises CheckpointError.
    """
    state, factory = read_weights(path), getattr(nn, cell.partition(":")[2])
    first = "weight_ih" if factory.__name__.endswith("Cell") else "weight_ih_l0"
    matrices = [state[name] for name in (first, first.replace("ih", "hh")) if name in state]
    if [matrix.ndim for matrix in matrices] != [2, 2]:
        raise CheckpointError(f"{path} has no matrix {first}, which {cell} has")
    inputs, units = (matrix.shape[1] for matrix in matrices)
    options: dict[str, int] = {"bias": first.replace("weight", "bias") in state}
    if first == "weight_ih_l0":
        options["num_layers"] = sum(bool(re.fullmatch(r"weight_ih_l\d+", k)) for k in state)
    module = factory(inputs, units, device="meta", **options).to_empty(device="cpu")
    load_weights(module, path)
    return from_torch(module)
