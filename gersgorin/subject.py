"""What `gersgorin-plot` looks at: new cells by name, a cell of a checkpoint or of a user's module, checked before memory is taken.

Legend: T steps; m inputs of a cell; a sequence is numbers (T, m), as a chorale has them, or for a language model ids of tokens (T,).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from gersgorin.modules import drawn_module, load_weights
from gersgorin.own_loop import OwnLoop
from gersgorin.stepping import state_size_of
from gersgorin.watch import Watched, seen_by
from rhn.cells import is_known, name_of_cell, resolve_cell
from rhn.cells.base import require_possible
from rhn.checkpoints import load_model
from rhn.engine.initial import initial_model
from rhn.errors import USERS_FAULT, InvalidInputError, RhnError
from rhn.models import LanguageModel
from rhn.provenance import named_file, words_of_checkpoint, words_of_new
from rhn.wording import counted, first_line

KEYS = 88  # inputs: the keys of a chorale's frames


@dataclass(frozen=True)
class Subject:
    """A cell to come."""

    name: str
    """Its registry key, `package.module:factory`, or class name."""
    build: Callable[[str, torch.dtype], nn.Module]
    """build(device, dtype) -> cell."""
    cell: nn.Module
    """The cell before it is built; a new one is on the "meta" device, where it takes no memory."""
    label: str = ""
    """What sets it apart from others of its name."""
    called: str = ""
    """What a figure calls it without the label; "" for its name and sizes."""
    inputs: Callable[[Tensor], Tensor | OwnLoop] = lambda sequence: sequence
    """What the built cell sees of a sequence: (T, m), in its dtype; or its module's own loop along it."""
    made: str = ""
    """How its weights came to be, in words."""

    def __post_init__(self):
        if not hasattr(self.cell, "state_size"):
            kind = type(self.cell).__name__
            raise InvalidInputError(f"{self.name} builds a {kind} without state_size: see rhn.cells.Cell")
        state_size_of(self.cell)

    def along(self, cell: nn.Module, sequence: Tensor) -> tuple[nn.Module | OwnLoop, Tensor]:
        """(The built cell, or the own loop around it; what it reads (T, m)) along a sequence."""
        seen = self.inputs(sequence)
        return (seen, seen.inputs) if isinstance(seen, OwnLoop) else (cell, seen)

    @property
    def own(self) -> bool:
        """Whether the cell's code is the user's."""
        return ":" in self.name and not is_known(self.name)

    @property
    def title(self) -> str:
        """What a figure calls the cell: "rhn, depth 5, 64 units", after its label where it has one."""
        depth, size = getattr(self.cell, "depth", 1), getattr(self.cell, "hidden_size", None)
        words = [
            self.name,
            *[f"depth {depth}"] * (depth > 1),
            *[counted(size, "unit")] * (size is not None),
        ]
        return ": ".join(filter(None, (self.label, self.called or ", ".join(words))))


def new_cell(
    name: str,
    *,
    depth: int | None,
    hidden_size: int | None,
    seed: int,
    input_size: int = KEYS,
    compared: bool = False,
    **options,
) -> Subject:
    """A cell with fresh weights, of depth 1 and 64 units where these are None. Other options of None are left to the cell.

    `compared` cells take what applies to them of options meant for another: depth 1 where they have none, and no transform bias.
    Raises InvalidInputError for an unknown name or sizes and options the cell does not have.
    """
    factory = resolve_cell(name)
    depth, hidden_size = 1 if depth is None else depth, 64 if hidden_size is None else hidden_size
    options = {k: v for k, v in options.items() if v is not None}
    if compared and not getattr(factory, "deep", True):
        depth = 1
    if "transform_bias" in options and is_known(name) and "transform_bias" not in getattr(factory, "options", ()):
        if not compared:
            raise InvalidInputError(f"--transform-bias is for cells with transform gates (rhn), not for {name}")
        del options["transform_bias"]

    def build(device: str, dtype: torch.dtype) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        return factory(input_size, hidden_size, depth, generator=generator, device=device, dtype=dtype, **options)

    if isinstance(hidden_size, int) and isinstance(depth, int):
        require_possible(input_size, hidden_size, depth)
    try:
        subject = Subject(name, build, build("meta", torch.float64))
        return replace(subject, made=words_of_new(subject.cell, seed))
    except RhnError:
        raise
    except USERS_FAULT as error:  # whatever a user's cell raises; torch's own for sizes beyond any storage
        said = first_line(error) if is_known(name) else f"{type(error).__name__}: {first_line(error)}"
        raise InvalidInputError(f"cannot build {name} with {hidden_size} units, depth {depth}: {said}") from error


def checkpoint_cells(
    path: Path, layer: int | None, own: str | None, *, input_size: int | None = KEYS, before: int | None = None
) -> list[Subject]:
    """A recurrent cell of a checkpoint, counted from 1 where several are stacked (None: the first); `own` names the user's.

    With `before`, it stands before its training too: with its own first weights, or where the file does not tell them with
    those drawn from this seed. Raises CheckpointError, or InvalidInputError where there is no such cell, or the network reads
    neither tokens nor so many inputs.
    """
    models, made = {"" if before is None else "after training": load_model(path, own)}, words_of_checkpoint(path)
    if before is not None:
        model, known = initial_model(path, before, own)
        models["before training" if known else f"fresh weights (seed {before})"] = model
    return [
        replace(_cell_of(model, path, label, 1 if layer is None else layer, own, input_size), made=made)
        for label, model in models.items()
    ]


def module_cells(
    name: str,
    *,
    weights: Path | None,
    submodule: str | None,
    layer: int | None,
    input_size: int | None,
    hidden_size: int | None,
    seed: int,
    fresh: bool = False,
) -> list[Subject]:
    """A recurrent cell of the module that `package.module:factory` gives, see `gersgorin.watch.Watched`; `fresh`: as it starts, too.

    Raises InvalidInputError or CheckpointError as `build_module`, `load_weights` and `Watched` do.
    """
    found = []
    for file in (weights, None) if fresh else (weights,):
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "weights": weights}
        module, drawn = drawn_module(name, seed=seed, **sizes)
        if file is not None:
            load_weights(module, file)
        fresh_label = f"fresh weights{f' (seed {seed})' * drawn}"
        label = "" if not fresh else "after training" if file else fresh_label
        made = f"seed {seed}" * drawn if file is None else named_file(file)
        found.append(replace(watched_cell(Watched(module, layer, submodule), name, label), made=made))
    return found


def watched_cell(watched: Watched, name: str, label: str = "") -> Subject:
    """The cell in a module of the user's."""

    def build(device: str, dtype: torch.dtype) -> nn.Module:
        watched.module.to(device=device, dtype=dtype)
        return watched.cell

    return Subject(
        name,
        build,
        watched.cell,
        label,
        watched.title,
        lambda sequence: _given_in(watched, sequence),
        watched.made,
    )


def _given_in(watched: Watched, sequence: Tensor) -> Tensor | OwnLoop:
    """What a cell (T, m) reads when its module reads a sequence; or the module's own loop."""
    if watched.alone:
        return watched.inputs(sequence)[:, 0]
    cell, inputs = watched.along(laid_out(watched, sequence), 0)
    return cell if isinstance(cell, OwnLoop) else inputs


def laid_out(watched: Watched, sequence: Tensor) -> Tensor:
    """A sequence (T, m) as the module takes it: a batch of one, time or the batch first, where the cell takes most steps, or as it is.

    Whole numbers, one a step, are ids of tokens for a module with an nn.Embedding. Raises InvalidInputError where no way runs.
    """
    if watched.alone:
        return sequence
    embeds = any(isinstance(part, nn.Embedding) for part in watched.module.modules())
    if embeds and sequence.shape[-1] == 1 and (sequence == sequence.round()).all():
        sequence = sequence[:, 0].long()
    found, errors = [], []
    layouts = [sequence.unsqueeze(batch) for batch in ((0, 1) if watched.batch_first else (1, 0))]
    for x in (*layouts, sequence):
        if found and x is sequence:
            break  # without a batch only where nothing else runs
        try:
            found.append((len(watched.inputs(x)), x))
        except InvalidInputError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    return max(found, key=lambda each: each[0])[1]


def _cell_of(model: nn.Module, path: Path, label: str, layer: int, own: str | None, inputs: int | None) -> Subject:
    cells = [module for module in model.modules() if hasattr(module, "step") and hasattr(module, "state_size")]
    if not cells or not (isinstance(model, LanguageModel) or cells[0].input_size == inputs):
        found = ", ".join(f"{type(c).__name__} of {c.input_size} inputs" for c in cells) or "none with step(x, s)"
        what = "a chorale's keys" if inputs == KEYS else "as many as the sequence has"
        raise InvalidInputError(f"{path}: expected a recurrent cell with {inputs} inputs ({what}), found {found}")
    if not 1 <= layer <= len(cells):
        raise InvalidInputError(
            f"--layer {layer}: {path} has {counted(len(cells), 'stacked cell')}, expected 1 to {len(cells)}"
        )
    cell = cells[layer - 1]
    name = own or name_of_cell(cell)
    which = f"cell {layer} of {len(cells)}" if len(cells) > 1 else ""

    def build(device: str, dtype: torch.dtype) -> nn.Module:
        model.to(device=device, dtype=dtype)
        return cell

    label = ", ".join(filter(None, (label, which)))
    return Subject(name, build, cell, label, inputs=lambda sequence: _seen_by(cell, model, sequence))


@torch.no_grad()
def _seen_by(cell: nn.Module, model: nn.Module, sequence: Tensor) -> Tensor:
    """The inputs (T, m) of a cell when the whole network reads a sequence."""
    return seen_by(cell, model, sequence.unsqueeze(1)).squeeze(1)
