"""The network and the sequence that the options of a command name."""

import contextlib
import runpy
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gersgorin import door
from gersgorin.analyses.spectra import LARGE
from gersgorin.autodiff import BLOCK
from gersgorin.cli.options import DataOptions, NetworkOptions
from gersgorin.data import Sequences, read_chorale, read_numbers, text_data
from rhn.cells.init import for_steps
from rhn.cells.registry import import_named, read_options, resolve_cell
from rhn.errors import CheckpointError
from rhn.utils.validation import check_room, check_seed

CELL, UNITS = "rhn", 64  # of a new cell
ALLOWED = {
    "cell": {"cell", "depth", "hidden_size", "init", "transform_bias", "cell_option", "seed"},
    "checkpoint": {"checkpoint", "cell", "layer"},
    "module": {"module", "checkpoint", "layer", "state_size", "batch_first", "seed"},
}
"""The options of each kind of network."""
COPIES = 32  # of a block of Jacobians, at most (measured: 23 to 31)
KEPT = 8  # numbers in a result for each entry of the state at each step


def network_of(options: NetworkOptions, x: torch.Tensor, *, before: bool = False) -> Any:
    """Return the network that options name, for a sequence x (T, m) or (T,).

    before: a trained network before its training. Raises InvalidInputError or CheckpointError.
    """
    if options.module:
        return _module(options)
    if not options.checkpoint:
        return _new_cell(options, x)
    from rhn.checkpoints import load  # loads the models of rhn

    return load(options.checkpoint, options.cell, before_training=before)


def kind_of_network(options: NetworkOptions) -> str:
    """The kind of the network that options name, a key of `ALLOWED`."""
    return next((kind for kind in ("module", "checkpoint") if getattr(options, kind)), "cell")


def check_kind_options(
    options: NetworkOptions, kinds: Iterable[str], also: Iterable[str] = ()
) -> None:
    """Refuse options that networks of these kinds do not have, and that `also` does not name."""
    allowed = {*also}.union(*(ALLOWED[kind] for kind in kinds))
    names = {field.name for field in fields(NetworkOptions)}
    for field in fields(options):
        value, flag = getattr(options, field.name), "--" + field.name.replace("_", "-")
        good = value == field.default or field.name in allowed or field.name not in names
        door.require(good, flag, str(value), f"none, beside {' and '.join(kinds)}")
    check_seed(options.seed or 0)


def _new_cell(options: NetworkOptions, x: torch.Tensor) -> nn.Module:
    name, seed = CELL if options.cell is None else options.cell, options.seed or 0
    units = UNITS if options.hidden_size is None else options.hidden_size
    depth = 1 if options.depth is None else options.depth
    door.require(x.dim() == 2, "x", door.kind(x), "numbers (T, m), for a new cell")
    check_memory(units, len(x))
    words = dict(word.partition("=")[::2] for word in options.cell_option)
    given: dict[str, Any] = {key.replace("-", "_"): value for key, value in words.items()}
    if options.transform_bias is not None:
        given["transform_bias"] = options.transform_bias
    given = read_options(name, given)
    if options.init is not None:
        given["init"] = for_steps(options.init, len(x))
    generator = torch.Generator().manual_seed(seed)
    with door.users_code(f"{name} cannot be built"):
        how = {"generator": generator, "device": "cpu", "dtype": torch.float64}
        return resolve_cell(name)(x.shape[1], units, depth, **how, **given)


def _module(options: NetworkOptions) -> Any:
    """The user's module or step, or what its factory returns; with weights of a file."""
    assert options.module
    model = imported(options.module)
    if not isinstance(model, nn.Module) and not _is_step(model):
        said = f"{options.module} cannot be called"
        with door.users_code(said), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(options.seed or 0)
            model = model()
    if options.checkpoint:
        from rhn.weights import load_weights

        good, wanted = isinstance(model, nn.Module), "a module, for the weights of a file"
        door.require(good, options.module, door.kind(model), wanted)
        load_weights(model, options.checkpoint)
    return model


def imported(word: str) -> Any:
    """The object that FILE.py:NAME or package.module:NAME names. Raises InvalidInputError."""
    file, _, name = word.rpartition(":")
    if not file.endswith(".py"):
        return import_named(word, "module")
    door.require(Path(file).is_file() and name.isidentifier(), "module", word, "FILE.py:NAME")
    path, sys.path = sys.path, [str(Path(file).absolute().parent), *sys.path]
    try:
        with door.users_code(f"{file} cannot be imported"):
            found = runpy.run_path(file, run_name=Path(file).stem)
    finally:
        sys.path = path
    door.require(name in found, "module", word, f"a name that {file} defines")
    return found[name]


def _is_step(found: Callable) -> bool:
    """True for a function f(x, s), which is no class and no factory without arguments."""
    a_function = callable(found) and not isinstance(found, type)
    return a_function and door.takes(found, None, None) and not door.takes(found)


def described(options: NetworkOptions) -> Any:
    """The checkpoint, if its file describes its network."""
    if options.module or not options.checkpoint:
        return None
    from rhn.checkpoints import read

    with contextlib.suppress(CheckpointError):  # load repeats it
        return read(options.checkpoint)


def source_of(options: NetworkOptions) -> str:
    """The file, seed and epoch of the weights of a network, for the footer of a figure."""
    trained, found = described(options), {} if options.checkpoint else {"seed": options.seed or 0}
    if trained:
        parts = [trained.metadata.get(name) for name in ("train", "metrics")]
        found = {k: v for part in parts if isinstance(part, dict) for k, v in part.items()}
    files = [str(file) for file in (options.module, options.checkpoint) if file]
    return ", ".join(
        [*files, *(f"{name} {found[name]}" for name in ("seed", "epoch") if name in found)]
    )


def data_of(network: NetworkOptions, options: DataOptions) -> Sequences:
    """The sequences that options name: a chorale, those of a file, or a text for the language model
    of a checkpoint. Raises InvalidInputError or DataError.
    """
    trained, file = described(network), options.data
    text = trained and trained.header["class"] == "LanguageModel"
    if trained:
        from rhn.training.trained import corpus_of, stored_data, text_of  # loads the training loop
    if options.input:
        for name in ("chorale", "data"):
            value = getattr(options, name)
            door.require(value is None, f"--{name}", str(value), "none, beside --input")
        if text:
            return text_data(options.input, text_of(trained)[1], options.steps)
        return read_numbers(options.input).cut(options.steps)
    door.require(not text, "input", "missing", "a text, for a language model")
    if trained and file is None:
        corpus_of(trained)  # refuses data that have changed
        file = stored_data(trained).path
    return read_chorale(options.chorale, file).cut(options.steps)


def check_memory(N: int, T: int) -> None:
    """Refuse a state of N entries over T steps whose Jacobians do not fit into the memory."""
    block = COPIES * min(T * N**2, max(BLOCK, N**2)) if N <= LARGE else 4 * N**2
    need = torch.float64.itemsize * (block + KEPT * N * T)
    check_room(need, f"a state of {N} over {T} steps", "give fewer units or steps")
