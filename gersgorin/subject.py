"""What `gersgorin-plot` looks at: new cells by name, or the cell of a checkpoint, checked before any memory is taken."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from rhn.cells import CELLS, resolve_cell
from rhn.errors import InvalidInputError

KEYS = 88  # inputs: the keys of a chorale's frames


@dataclass(frozen=True)
class Subject:
    """A cell to come."""

    name: str
    """Its registry key, `package.module:factory`, or class name."""
    build: Callable[[str, torch.dtype], nn.Module]
    """build(device, dtype) -> cell; on the "meta" device it takes no memory."""
    state_size: int
    parameters: int
    label: str = ""
    """What sets it apart from others of its name."""


def new_cell(name: str, *, depth: int, hidden_size: int, seed: int, compared: bool = False, **options) -> Subject:
    """A cell with fresh weights. Options of None are left to the cell.

    `compared` cells take what applies to them of options meant for another: depth 1 where they have none, and no transform bias.
    Raises InvalidInputError for an unknown name or sizes and options the cell does not have.
    """
    factory = resolve_cell(name)
    options = {k: v for k, v in options.items() if v is not None}
    if compared and not getattr(factory, "deep", True):
        depth = 1
    if "transform_bias" in options and name in CELLS and "transform_bias" not in getattr(factory, "options", ()):
        if not compared:
            raise InvalidInputError(f"--transform-bias is for cells with transform gates (rhn), not for {name}")
        del options["transform_bias"]

    def build(device: str, dtype: torch.dtype) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        return factory(KEYS, hidden_size, depth, generator=generator, device=device, dtype=dtype, **options)

    try:
        return _subject(name, build, build("meta", torch.float64))
    except (TypeError, RuntimeError) as error:  # an unknown keyword of a user's cell; sizes beyond any storage
        raise InvalidInputError(f"cannot build {name} with {hidden_size} units, depth {depth}: {error}") from error


def checkpoint_cell(path: Path, label: str = "") -> Subject:
    """The one recurrent cell of a checkpoint; raises CheckpointError, or InvalidInputError where it is not one over chorales."""
    from rhn.checkpoints import load_checkpoint

    return _cell_of(load_checkpoint(path), path, label)


def initial_cell(path: Path, seed: int) -> Subject:
    """The cell of a checkpoint as it was before its training; raises as `checkpoint_cell`."""
    from rhn.training import initial_model

    model, own = initial_model(path, seed)
    return _cell_of(model, path, "before training" if own else f"fresh weights (seed {seed})")


def _cell_of(model: nn.Module, path: Path, label: str) -> Subject:
    cells = [module for module in model.modules() if hasattr(module, "step") and hasattr(module, "state_size")]
    if len(cells) != 1 or cells[0].input_size != KEYS:
        found = ", ".join(f"{type(c).__name__} of {c.input_size} inputs" for c in cells) or "none"
        raise InvalidInputError(
            f"{path}: expected one recurrent cell with {KEYS} inputs (a chorale's keys), found {found}"
        )
    cell = cells[0]
    name = next((key for key, factory in CELLS.items() if type(cell) is factory), type(cell).__name__)
    return _subject(name, lambda device, dtype: cell.to(device=device, dtype=dtype), cell, label)


def title(cell: nn.Module, subject: Subject) -> str:
    """What a figure calls a cell: "rhn, depth 5, 64 units", after its label where it has one."""
    depth, size = getattr(cell, "depth", 1), getattr(cell, "hidden_size", None)
    words = [subject.name, *[f"depth {depth}"] * (depth > 1), *[f"{size} units"] * (size is not None)]
    return ": ".join([*[subject.label] * bool(subject.label), ", ".join(words)])


def _subject(name: str, build: Callable, cell: nn.Module, label: str = "") -> Subject:
    if not hasattr(cell, "state_size"):
        raise InvalidInputError(
            f"{name} builds a {type(cell).__name__} without state_size: see rhn.cells.Cell for what a cell has"
        )
    return Subject(name, build, cell.state_size, sum(p.numel() for p in cell.parameters()), label)
