"""Save and load checkpoints: each is one .safetensors file with the weights and a JSON header, from
which the module is rebuilt. Loading unpickles nothing and imports nothing that the file names.

    header["rhn"] = {"format": 1, "class": "RHN", "config": {...constructor arguments},
                     "checksum": of the weights, "versions": {...}, "metadata": {...},
                     "header_checksum": of all other entries}
"""

import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rhn import models
from rhn.cells.registry import CELLS, TORCH_CELLS, factory_of
from rhn.errors import CheckpointError, DataError, InvalidInputError, first_line
from rhn.files import checksum, read_tensors, write_tensors
from rhn.utils.io import as_path
from rhn.utils.seed_folders import seed_folders
from rhn.utils.torch_private import with_tensors
from rhn.version import __version__

ENTRY, FORMAT = "rhn", 1  # of the header
BEST = "best.safetensors"
DIFFERENT = {
    "format": "another version wrote the file",
    "checksum": "the file is damaged",
    "header_checksum": "the file is damaged",
}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint file, read once: its path, its header and its tensors by name."""

    path: Path
    header: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def metadata(self) -> dict[str, Any]:
        """What `save` was given as JSON values: seed, metrics, data set, ..."""
        return self.header["metadata"]

    def model(self, cell: str | Callable[..., nn.Module] | None = None) -> Any:
        """Build the cell or model on the CPU with its tensors. `cell` and errors as for `load`."""
        try:
            # a user's constructor may draw: leave the caller's generator alone
            with torch.random.fork_rng(devices=[]):
                model = self.new(cell, device="meta")
            own = dict(model.named_parameters()) | dict(model.named_buffers())  # a tied one once
            self._require_fit(own, dict(model.named_parameters()))
            return with_tensors(model, {t: self.tensors[n].clone() for n, t in own.items()})
        except (TypeError, RuntimeError) as error:
            raise CheckpointError(f"{self.path} cannot be built: {first_line(error)}") from error

    def _require_fit(self, own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        found = {name: tuple(t.shape) for name, t in self.tensors.items()}
        expected = {name: tuple(t.shape) for name, t in own.items()}
        for name in sorted(name for name, _ in found.items() ^ expected.items()):
            shapes = f"{found.get(name)}: expected {expected.get(name)}"
            raise CheckpointError(f"shape of {name} in {self.path} is {shapes}")
        for name in weights:
            if not torch.isfinite(self.tensors[name]).all():
                raise CheckpointError(f"{name} in {self.path} is NaN or infinite: expected numbers")

    def new(self, cell: str | Callable[..., nn.Module] | None = None, **options) -> Any:
        """Build the cell or model with new weights. options: device, dtype and generator."""
        name, config = self.header["class"], self.header["config"]
        of_model, own = name in models.__all__, config.get("cell", name)
        known, classes = {*CELLS, *TORCH_CELLS}, CELLS.class_names()
        # never a class that only the file names
        is_ours = str(own) in known if of_model else own in classes
        if cell is None and not is_ours:
            expected = f"{', '.join(CELLS)}, or --cell"
            raise CheckpointError(f"cell of {self.path} is {own!s:.60}: expected {expected}")
        is_known = isinstance(cell, str) and cell in known
        if of_model and is_known and cell != own:
            raise InvalidInputError(f"cell is {cell}: expected {own}, that of {self.path}")
        if of_model:
            return getattr(models, name)(
                **config | {"cell": own if cell is None else cell}, **options
            )
        factory = CELLS[classes[name]] if cell is None else factory_of(cell)
        return factory(**config, **options)


def read(path: str | Path) -> Checkpoint:
    """Read a checkpoint; for the folder of a training run, that of its best epoch. Raises
    CheckpointError.
    """
    path = as_path(path)
    if os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises for a name too long)
        if seeds := seed_folders(path):
            names = ", ".join(map(str, seeds.values()))
            raise CheckpointError(f"{path} has {len(seeds)} seeds: expected one of {names}")
        path = path / BEST
    try:
        header, tensors = read_tensors(path, ENTRY)
    except DataError as error:
        raise CheckpointError(str(error)) from error
    header = header if isinstance(header, dict) else {}
    required = {"format": FORMAT}
    # versions before 0.5.0 wrote no checksum, and those before 0.6.0 none of the header
    sums = {"checksum": checksum(tensors), "header_checksum": _checksum_of_header(header)}
    written = {entry: expected for entry, expected in sums.items() if entry in header}
    for entry, expected in (required | written).items():
        if (found := header.get(entry)) != expected:
            words = f"{entry} of {path} is {found}: expected {expected}; {DIFFERENT[entry]}"
            raise CheckpointError(words)
    for entry, kind in {"class": str, "config": dict, "metadata": dict}.items():
        if not isinstance(found := header.get(entry), kind):
            raise CheckpointError(f"{entry} of {path} is {found!s:.60}: expected {kind.__name__}")
    return Checkpoint(path, header, tensors)


def load(path: str | Path, cell: Any = None, *, before_training: bool = False) -> Any:
    """Load the cell or model of a checkpoint, or of the folder of a training run.

    cell: the cell of the model, if it is your own: a class, or its name as package.module:factory,
        which is imported. For a state_dict of a layer of torch: the name of the layer, such as
        "torch.nn:LSTM"; the result is our cell with these weights.
    before_training: whether to load the initial weights of the training run.

    Raises CheckpointError, and InvalidInputError for another cell.

    >>> import tempfile
    >>> from rhn.cells import GRU
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load(save(f"{folder}/gru.safetensors", GRU(3, 4))).hidden_size
    4
    """
    try:
        checkpoint = read(path)
    except CheckpointError:
        of_torch = isinstance(cell, str) and cell in TORCH_CELLS
        if not of_torch or before_training:
            raise
        from rhn.state_dict import layer_of_torch  # most checkpoints do not need it

        return layer_of_torch(cell, as_path(path))
    model = checkpoint.model(cell)
    if not before_training:
        return model
    generator, dtype = _initial_weights(checkpoint), next(model.parameters()).dtype
    return checkpoint.new(cell, generator=generator, dtype=dtype)


def _initial_weights(checkpoint: Checkpoint) -> torch.Generator:
    """Return the generator that drew the initial weights of a training run or a trial."""
    from rhn.utils.seeds import weights_generator  # loads the training loop

    about = checkpoint.metadata
    try:
        run = about.get("train") or about["study"]
        name, trial = run.get("cell") or run["arch"], about.get("trial", 0)
        return weights_generator(run["seed"], name, run["depth"], trial)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{checkpoint.path} names no training run: expected its seed"
        ) from error


def save(path: str | Path, model: nn.Module, **metadata) -> Path:
    """Write a cell or model to a file, atomically, with `metadata` as JSON values (seed, metrics,
    data set, ...). Returns the path. Raises CheckpointError or OutputError.

    >>> import tempfile
    >>> from rhn.cells import GRU
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/gru.safetensors", GRU(3, 4), seed=1).name
    'gru.safetensors'
    """
    config = getattr(model, "config", None)
    if not callable(config) or isinstance(config, nn.Module):
        raise CheckpointError(f"{type(model).__name__} has no config(): expected its arguments")
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    tensors = {name: t.detach().cpu().contiguous() for name, t in own.items()}
    versions = {"python": platform.python_version(), "torch": torch.__version__, "rhn": __version__}
    header = {
        "format": FORMAT,
        "class": type(model).__name__,
        "config": config(),
        "checksum": checksum(tensors),
        "versions": versions,
        "metadata": metadata,
    }
    try:
        header["header_checksum"] = _checksum_of_header(header)
        write_tensors(path, tensors, ENTRY, header)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"header of {path} is not JSON: {first_line(error)}") from error
    return Path(path)


def _checksum_of_header(header: Mapping[str, Any]) -> str:
    others = {name: value for name, value in header.items() if name != "header_checksum"}
    # a tuple is read again as a list, and a number that is a key as a text
    return checksum({}, json.dumps(json.loads(json.dumps(others))))
