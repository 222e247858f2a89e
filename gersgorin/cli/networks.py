"""A network from options: a new cell, trained weights, or a user's module or step, imported."""

import contextlib
import runpy
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gersgorin import checks
from gersgorin.cli.options import NetworkOptions, given_options
from gersgorin.cli.sequences import Sequences, read_numbers
from gersgorin.kinds import takes
from gersgorin.run import LARGE, Run, check_memory, open_run
from rhn.cells.memory_init import for_steps
from rhn.cells.options import read_options
from rhn.cells.registry import import_named, resolve_cell
from rhn.errors import CheckpointError
from rhn.utils.resources import resolve_device
from rhn.utils.validation import whole_number

IN_FILE = "FILE.py:NAME of a file that exists"
CELL, UNITS = "rhn", 64  # of a new cell
ALLOWED = {
    "cell": {"cell", "depth", "hidden_size", "init", "transform_bias", "cell_option", "seed"},
    "checkpoint": {"checkpoint", "cell", "layer"},
    "module": {"module", "checkpoint", "layer", "state_size", "s0", "batch_first", "seed"},
}
"""The options of each kind of network."""


def network_of(
    options: NetworkOptions, x: torch.Tensor, device: str, *, before: bool = False
) -> Any:
    """Return the network that options name, for a sequence x (T, m) or (T,).

    device: "auto", "cpu" or "cuda". before: a trained network before its training. Raises
    InvalidInputError or CheckpointError.
    """
    if options.module:
        model = _module(options)
    elif options.checkpoint:
        from rhn.checkpoints import load  # loads the models of rhn

        model = load(options.checkpoint, options.cell, before_training=before)
    else:
        model = _new_cell(options, x)
    return model.to(resolve_device(device)) if isinstance(model, nn.Module) else model


def kind_of_network(options: NetworkOptions) -> str:
    """The kind of the network that options name, a key of `ALLOWED`."""
    if options.module:
        return "module"
    return "checkpoint" if options.checkpoint else "cell"


def check_kind_options(command: Any, kinds: Iterable[str], also: Iterable[str] = ()) -> None:
    """Refuse options of a command that networks of these kinds do not have, and that `also` does
    not name.
    """
    allowed = {*also}.union(*(ALLOWED[kind] for kind in kinds))
    of_networks = {field.name for field in fields(NetworkOptions)}
    for field in fields(command):
        value, flag = getattr(command, field.name), "--" + field.name.replace("_", "-")
        is_given = value != field.default
        if is_given and field.name in of_networks:
            known = field.name in allowed
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            checks.require(known, flag, shown, f"none, beside {' and '.join(kinds)}")
    whole_number("seed", command.seed or 0, 0)


def options_of_cell(options: NetworkOptions) -> dict[str, Any]:
    """The own options of a new cell. Raises InvalidInputError for one that it does not have."""
    words = dict(word.partition("=")[::2] for word in options.cell_option)
    given: dict[str, Any] = {key.replace("-", "_"): value for key, value in words.items()}
    if options.transform_bias is not None:
        given["transform_bias"] = options.transform_bias
    return read_options(name_of_new_cell(options), given)


def name_of_new_cell(options: NetworkOptions) -> str:
    """The name of a new cell; an RHN unless another one is named."""
    return CELL if options.cell is None else options.cell


def _new_cell(options: NetworkOptions, x: torch.Tensor) -> nn.Module:
    name, seed = name_of_new_cell(options), options.seed or 0
    units = UNITS if options.hidden_size is None else options.hidden_size
    depth = 1 if options.depth is None else options.depth
    checks.require(x.dim() == 2, "x", checks.kind(x), "numbers (T, m), for a new cell")
    check_memory(units, len(x), weights=4 * units**2 if units > LARGE else 0)
    given = options_of_cell(options)
    if options.init is not None:
        given["init"] = for_steps(options.init, len(x))
    generator = torch.Generator().manual_seed(seed)
    with checks.users_code(f"{name} cannot be built"):
        how = {"generator": generator, "device": "cpu", "dtype": torch.float64}
        return resolve_cell(name)(x.shape[1], units, depth, **how, **given)


def _module(options: NetworkOptions) -> Any:
    """The user's module or step, or what its factory returns; with weights of a file."""
    assert options.module
    model = imported(options.module)
    if not isinstance(model, nn.Module) and not _is_step(model):
        said = f"{options.module} cannot be called"
        with checks.users_code(said), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(options.seed or 0)
            model = model()
    if options.checkpoint:
        from rhn.state_dict import load_weights

        good, wanted = isinstance(model, nn.Module), "a module, for the weights of a file"
        checks.require(good, options.module, checks.kind(model), wanted)
        load_weights(model, options.checkpoint)
    return model


def imported(word: str) -> Any:
    """The object that FILE.py:NAME or package.module:NAME names. Raises InvalidInputError."""
    file, _, name = word.rpartition(":")
    if not file.endswith(".py"):
        return import_named(word, "module")
    checks.require(Path(file).is_file() and name.isidentifier(), "module", word, IN_FILE)
    folder = str(Path(file).absolute().parent)
    # as of `python FILE.py`; it stays, for a step that imports when it runs
    sys.path[:] = [folder, *(place for place in sys.path if place != folder)]
    with checks.users_code(f"{file} cannot be imported"):
        found = runpy.run_path(file, run_name=Path(file).stem)
    checks.require(name in found, "module", word, f"a name that {file} defines")
    return found[name]


def _is_step(found: Callable) -> bool:
    """True for a function f(x, s), which is no class and no factory without arguments."""
    is_function = callable(found) and not isinstance(found, type)
    if not is_function or takes(found):
        return False
    return takes(found, None, None)


def described(options: NetworkOptions) -> Any:
    """The checkpoint, if its file describes its network."""
    if options.module or not options.checkpoint:
        return None
    from rhn.checkpoints import read

    with contextlib.suppress(CheckpointError):  # load repeats it
        return read(options.checkpoint)


def source_of(options: NetworkOptions) -> str:
    """The file, seed and epoch of the weights of a network, for the footer of a figure."""
    trained, known = described(options), dict[str, Any]()
    if not options.checkpoint:
        known = {"seed": options.seed or 0}
    elif trained:
        parts = [trained.metadata.get(name) for name in ("train", "metrics")]
        known = {k: v for part in parts if isinstance(part, dict) for k, v in part.items()}
    files = [str(file) for file in (options.module, options.checkpoint) if file]
    numbers = [f"{name} {known[name]}" for name in ("seed", "epoch") if name in known]
    return ", ".join([*files, *numbers])


def how_of(options: NetworkOptions, model: Any, data: Sequences) -> dict[str, Any]:
    """The keywords of `open_run` that options name, for a model."""
    how, sizes = given_options(options, ("layer", "batch_first")), options.state_size
    if options.s0:
        how["s0"] = given_state(options.s0, sizes, has_rows=isinstance(model, nn.Module))
    elif sizes:
        how["state_size"] = sizes if len(sizes) > 1 else sizes[0]
    return {**how, "data": data.name, "unit": data.unit}


def given_state(words: tuple[str, ...], sizes: tuple[int, ...], *, has_rows: bool) -> Any:
    """The first state from words: its numbers, or the name of a file of them. It is one tensor, or
    several of these sizes.

    has_rows: True for tensors (1, n), False for (n,). Raises InvalidInputError or DataError.

    >>> given_state(("1", "1", "20"), (1, 2), has_rows=False)
    (tensor([1.], dtype=torch.float64), tensor([ 1., 20.], dtype=torch.float64))
    """
    try:
        numbers = torch.tensor([float(word) for word in words], dtype=torch.float64)
    except ValueError:
        checks.require(len(words) == 1, "s0", " ".join(words), "numbers, or one file")
        numbers = torch.cat([part.flatten() for part in read_numbers(Path(words[0])).all]).double()
    count, wanted = len(numbers), sum(sizes)
    good = not sizes or count == wanted
    checks.require(good, "s0", f"{count} numbers", f"{wanted}, as state_size has")
    parts = numbers.split(sizes or (count,))
    parts = tuple(part[None] if has_rows else part for part in parts)
    return parts if len(sizes) > 1 else parts[0]


def opened_network(options: NetworkOptions, model: Any, data: Sequences) -> Run:
    """The run of a network along the first sequence."""
    return open_run(model, data.x, **how_of(options, model, data.parts()[0]))
