"""Save and load checkpoints: each is one .safetensors file with the weights and a JSON header, from
which the module is rebuilt.

    header["rhn"] = {"format": 1, "class": "RHN", "config": {...constructor arguments},
                     "checksum": of the weights, "versions": {...}, "metadata": {...},
                     "header_checksum": of all other entries}

Loading unpickles nothing and imports nothing that the file names. The module is first built without
memory (torch's meta device), and its names and shapes are compared with the weights in the file.
"""

import json
import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rhn.cells import CELLS
from rhn.cells.registry import TORCH_CELLS, is_known, resolve_cell, unknown_cell
from rhn.errors import (
    CheckpointError,
    DamagedError,
    DataError,
    InvalidInputError,
    UsersCodeError,
    first_line,
)
from rhn.files import checksum, foreign_kind, is_torch_save, read_tensors, write_tensors
from rhn.utils.io import as_path
from rhn.utils.old import with_article
from rhn.version import __version__

ENTRY, FORMAT = "rhn", 1  # of the header
BEST = "best.safetensors"
KINDS = {
    "LanguageModel": "a language model (rhn generate)",
    "PolyphonicModel": "a model of chorales (rhn sample)",
}
WITHOUT_NETWORK = (
    "which does not name its network: give gersgorin --module torch.nn:LSTM for a layer of torch, "
    "or --module package.module:factory for your own module; in Python give "
    'cell="torch.nn:LSTM", or call load_state_dict of the module'
)
DTYPES = {torch.float16, torch.bfloat16, torch.float32, torch.float64}


def save_checkpoint(path: str | Path, model: nn.Module, **metadata) -> Path:
    """Write a cell or model to a file, bit for bit and atomically, with `metadata` as JSON values
    (seed, metrics, data set, ...). Returns the path.

    Raises:
        CheckpointError: the model has no `config()`, or the metadata is not JSON.
        OutputError: the file cannot be written; then an existing file stays as it was.

    >>> import tempfile
    >>> from rhn.models import PolyphonicModel
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = save_checkpoint(f"{folder}/a.safetensors", PolyphonicModel("gru", hidden_size=4))
    ...     file.name
    'a.safetensors'
    """
    config = getattr(model, "config", None)
    if config is None:
        raise CheckpointError(
            f"cannot save {type(model).__name__}: it needs a config(), its constructor's arguments"
        )
    tensors = {name: t.detach().cpu().contiguous() for name, t in _tensors(model).items()}
    header = {
        "format": FORMAT,
        "class": type(model).__name__,
        "config": config(),
        "checksum": checksum(tensors),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "rhn": __version__,
        },
        "metadata": metadata,
    }
    try:
        header["header_checksum"] = _checksum_of_header(header)
        write_tensors(path, tensors, ENTRY, header)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"cannot save {path}: configuration or metadata is not plain JSON ({error})"
        ) from error
    return Path(path)


def load_checkpoint(
    path: str | Path, *, factory: Callable[..., nn.Module] | None = None
) -> nn.Module:
    """Load the cell or model of a checkpoint onto the CPU.

    Args:
        path: file written by `save_checkpoint`, or the folder of a training run, whose best weights
            are loaded.
        factory: the class of your own module; our classes are found by their name in the file.

    Raises:
        CheckpointError: the file is missing or damaged, was not written by this toolkit, or holds
            NaN; or the header does not fit the weights.
    """
    header, tensors = _read(path)
    name, config = header["class"], header["config"]
    build = factory or _ours(path, name, config.get("cell"))
    try:
        dtype = _require_fit(path, build(**config, device="meta"), tensors)
        _require_undamaged(path, header, tensors)
        # building draws initial weights: leave the caller's generator alone
        with torch.random.fork_rng(devices=[]):
            model = build(**config, dtype=dtype)
    except (CheckpointError, UsersCodeError):
        raise
    except Exception as error:  # any error of a constructor
        raise CheckpointError(
            f"{path}: its configuration does not describe {with_article(name)}: {first_line(error)}"
        ) from error
    with torch.no_grad():
        for key, t in _tensors(model).items():
            t.data = t.data.to(tensors[key].dtype)  # of a buffer
            t.copy_(tensors[key])
    return model


def require_loadable(model: nn.Module, factory: Callable[..., nn.Module]) -> None:
    """Raise CheckpointError unless this model could be saved and loaded again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, BEST)
        try:
            load_checkpoint(save_checkpoint(path, model), factory=factory)
        except CheckpointError as error:
            raise CheckpointError(str(error).removeprefix(f"{path}: ")) from error


def load_model(path: str | Path, cell: str | None = None, kind: type | None = None) -> Any:
    """Load the model of a checkpoint, as `load_checkpoint` does.

    cell: the cell of the model, if it is the user's own, as package.module:factory; this module is
    imported. If the file is a state_dict of a layer of torch: the name of this layer, such as
    torch.nn:LSTM. The result is then our cell with these weights.

    kind: the expected class of the model; None: any class.

    Raises CheckpointError as `load_checkpoint` does, and InvalidInputError if the file has another
    cell or class.
    """
    from rhn import models

    # first: an unknown cell is no fault of the file
    factory = None if cell is None else resolve_cell(cell)
    if cell in TORCH_CELLS and kind is None and lacks_network(path):
        return _layer_of_torch(cell, weights_file(path))
    header = read_metadata(path)
    name, own = header["class"], header["config"].get("cell")
    if cell is not None and own is not None and is_known(cell) and cell != own:
        hint = "leave out --cell" if is_known(own) else f"give --cell {own}"
        raise InvalidInputError(f"{path} holds a network of {own}, not of {cell}: {hint}")
    if kind is not None and name != kind.__name__:
        raise InvalidInputError(
            f"{path} holds {KINDS.get(name) or f'{with_article(name)} alone'}, "
            f"expected {KINDS[kind.__name__]}"
        )
    if cell is not None and name in KINDS:
        factory = models.with_cell(cell, getattr(models, name))
    return load_checkpoint(path, factory=factory)


def _layer_of_torch(cell: str, path: Path) -> nn.Module:
    from rhn.weights import layer_of_torch, read_weights  # most checkpoints do not need it

    layer = layer_of_torch(cell, path)
    _require_finite(path, read_weights(path))  # by the names in the file
    return layer


def lacks_network(path: str | Path) -> bool:
    """True for a file of weights that does not describe its network, because another program than
    this toolkit wrote it.

    Raises CheckpointError for a folder without a file of best weights.
    """
    path = weights_file(path)
    try:
        return read_tensors(path, ENTRY, whole=False)[0] is None
    except DamagedError:
        return is_torch_save(path) or bool(foreign_kind(path))
    except (FileNotFoundError, DataError):
        return False


def require_network(path: str | Path) -> None:
    """Raise CheckpointError for a file of weights that does not describe its network, in a command
    that has no option to name the network.
    """
    if lacks_network(path):
        raise CheckpointError(
            f"{path} does not describe its network: expected the folder of a training run, or a "
            f"file that this toolkit wrote, such as {BEST} of `rhn train`"
        )


def read_metadata(path: str | Path) -> dict:
    """Return the header of a checkpoint: {"format", "class", "config", "versions", "metadata"}.
    Raises CheckpointError.
    """
    return _read(path, weights=False)[0]


def entry_of(metadata: Mapping[str, Any], name: str) -> dict:
    """Return an entry of a checkpoint's metadata, such as "train". The result is {} if the entry is
    missing or is not a dictionary, because users may save any value by that name.
    """
    found = metadata.get(name)
    return found if isinstance(found, dict) else {}


def fault_of(path: str | Path) -> str:
    """Describe the fault of a checkpoint file in one sentence; "" if the file is complete and
    undamaged.
    """
    try:
        _read(path)
    except CheckpointError as error:
        return str(error)
    return ""


def weights_file(path: str | Path) -> Path:
    """Return the path of a checkpoint file; for a folder, the file of the best weights of its
    training run.

    Raises CheckpointError for a folder without a file of best weights.
    """
    path = as_path(path)
    if not os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises for a name too long)
        return path
    best = Path(path, BEST)
    if not best.is_file():
        others = sorted(Path(path).glob(f"*/{BEST}"))
        such = f", such as {others[0].parent}" if others else ""
        raise CheckpointError(
            f"{path} holds no {BEST}: expected a checkpoint, or the folder of one training{such}"
        )
    return best


def _ours(path: str | Path, name: str, cell: str | None) -> Callable[..., nn.Module]:
    """Return the class that a checkpoint names, if it is ours: a file must not decide which code is
    imported.
    """
    from rhn import models  # here, because cells need no model

    if name in KINDS:
        if isinstance(cell, str) and not is_known(cell):
            if ":" not in cell:
                raise CheckpointError(f"{path}: {unknown_cell(cell)}")
            raise CheckpointError(
                f"{path} has a cell of your own: add --cell {cell} to import it, or in Python "
                f"rhn.load(path, cell={cell!r})"
            )
        return getattr(models, name)
    found = next((known for known in CELLS.values() if known.__name__ == name), None)
    if found is None:
        raise CheckpointError(
            f"{path} holds {with_article(name)}, which is not in this toolkit: add --cell "
            f"package.module:{name}, or in Python rhn.load(path, cell='package.module:{name}')"
        )
    return found


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name; a tied parameter occurs once."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _read(path: str | Path, weights: bool = True) -> tuple[dict, dict[str, Tensor]]:
    path = weights_file(path)
    try:
        header, tensors = read_tensors(path, ENTRY, whole=weights)
    except FileNotFoundError:
        raise CheckpointError(
            f"there is no checkpoint at {path}: expected a .safetensors file, or the folder of a "
            f"training run, which holds {BEST}"
        ) from None
    except DamagedError as error:
        if is_torch_save(path):
            raise CheckpointError(f"{path} is a torch.save file, {WITHOUT_NETWORK}") from error
        kind = foreign_kind(path)
        said = f"{path} is {kind}, which holds no weights of torch" if kind else error
        raise CheckpointError(
            f"{said}; expected the weights, {BEST}, or the folder of a training run"
        ) from error
    except DataError as error:
        raise CheckpointError(str(error)) from error
    match header:
        case None:
            raise CheckpointError(
                f"{path} was not written by this toolkit: its header has no {ENTRY!r} entry; it is "
                f"a file of weights {WITHOUT_NETWORK}"
            )
        case {"format": found} if found != FORMAT:
            raise CheckpointError(
                f"{path} has format {found!r}, this version reads {FORMAT}: update the toolkit"
            )
        case {"format": _, "class": str(), "config": dict(), "metadata": dict()}:
            return header, tensors
    raise CheckpointError(
        f"{path}: its header lacks the class of its model, the configuration or the metadata"
    )


def _checksum_of_header(header: Mapping[str, Any]) -> str:
    """Return the checksum of all entries of a header but the checksum itself. Raises TypeError or
    ValueError for entries that are not JSON.
    """
    others = {name: value for name, value in header.items() if name != "header_checksum"}
    # a tuple is read again as a list, and a number that is a key as a text
    return checksum({}, json.dumps(json.loads(json.dumps(others))))


def _require_undamaged(path: str | Path, header: dict, tensors: dict[str, Tensor]) -> None:
    """Raise CheckpointError unless weights and header match their checksums."""
    found = {"checksum": checksum(tensors), "header_checksum": _checksum_of_header(header)}
    for entry, what in {"checksum": "weights", "header_checksum": "header"}.items():
        if header.get(entry) != found[entry]:
            raise CheckpointError(
                f"{path} is damaged: its {what} and the checksum in its header differ; copy it "
                "again, or train again; if you changed it, write it by rhn.save(path, model)"
            )


def _shape(t: Tensor | None) -> tuple[int, ...] | str:
    return "missing" if t is None else tuple(t.shape)


def _require_fit(path, module: nn.Module, found: dict[str, Tensor]) -> torch.dtype:
    """Raise CheckpointError unless the tensors have the names and shapes of a module's. Returns the
    type of its parameters. Buffers may have any type and value.
    """
    expected = _tensors(module)
    for name in sorted(expected.keys() | found.keys()):
        shape, promised = (_shape(tensors.get(name)) for tensors in (found, expected))
        if shape != promised:
            raise CheckpointError(
                f"{path}: its weights do not fit its header: {name} has the shape {shape}, in "
                f"the header {promised}"
            )
    weights = {name: found[name] for name, _ in module.named_parameters()}
    dtypes = {t.dtype for t in weights.values()}
    if len(dtypes) != 1 or not dtypes <= DTYPES:
        raise CheckpointError(
            f"{path}: expected parameters of one floating-point type of 16 to 64 bits"
        )
    _require_finite(path, weights)
    return dtypes.pop()


def _require_finite(path: str | Path, weights: Mapping[str, Tensor]) -> None:
    if lost := [name for name, t in weights.items() if not torch.isfinite(t).all()]:
        raise CheckpointError(
            f"{path}: {lost[0]} holds NaN or infinity, as after a training run that diverged"
        )
