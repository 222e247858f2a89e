"""Run a command: build the network and read the sequence that its options name, call its function,
and show the result.
"""

import contextlib
import runpy
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gersgorin import checks
from gersgorin.cli.options import AnalysisOptions, DataOptions, NetworkOptions
from gersgorin.cli.outputs import checked_outputs, show
from gersgorin.cli.sequences import Sequences, read_chorale, read_numbers, text_data
from gersgorin.run import LARGE, Run, check_memory, open_run
from rhn.cells.memory_init import for_steps
from rhn.cells.options import cell_options, has_depth, read_options
from rhn.cells.registry import import_named, resolve_cell
from rhn.errors import CheckpointError
from rhn.utils.io import check_result
from rhn.utils.resources import resolve_device
from rhn.utils.tables import printable
from rhn.utils.validation import signature_of, whole_number

RECORDING = "record.npz"  # in the folder of a training run
BEFORE, AFTER = "before training", "trained"
NO_USE = "a network that it changes"
IN_FILE = "FILE.py:NAME of a file that exists"
CELL, UNITS = "rhn", 64  # of a new cell
ALLOWED = {
    "cell": {"cell", "depth", "hidden_size", "init", "transform_bias", "cell_option", "seed"},
    "checkpoint": {"checkpoint", "cell", "layer"},
    "module": {"module", "checkpoint", "layer", "state_size", "batch_first", "seed"},
}
"""The options of each kind of network."""


def run_analysis(command: AnalysisOptions) -> None:
    """Call the function of a command with one network."""
    outputs, function = checked_outputs(command), function_of(command)
    has_seed = "seed" in signature_of(function).parameters
    keywords = command.keywords() | (command.given(["seed"]) if has_seed else {})
    check_kind_options(command, [kind_of_network(command)], keywords)
    data = data_of(command, command)
    model = network_of(command, data.x, command.device)
    if command.reads == "model":
        x = data.all
        if keywords.get("of", "outputs") != "outputs":  # of predicting the next step
            keywords["y"], x = [each[1:] for each in x], [each[:-1] for each in x]
        found = function(model, x, **keywords | how_of(command, data))
    else:
        run = opened_network(command, model, data)
        check_figure(command, len(run))
        found = function(run, **keywords)
    show(command, found, outputs, source_of(command))


def compare_networks(command: Any) -> None:
    """Compare new cells, trained networks and modules."""
    outputs, named = checked_outputs(command), checked_networks(command)
    data = data_of(next((one for _, one, _ in named if one.checkpoint), named[0][1]), command)
    check_figure(command, len(data.x))
    networks = dict[Any, list[Run]]()
    for place, options, before in named:
        model = network_of(options, data.x, command.device, before=before)
        each = (replace(data, all=[x]) for x in data.all)  # under the name of the whole
        runs = [opened_network(options, model, one) for one in each]
        networks.setdefault(place, []).extend(runs)
    given = {"panels": command.panels} if command.panels else {}
    found = function_of(command)(networks, **given)
    sources = dict.fromkeys(source_of(one) for _, one, _ in named)
    show(command, found, outputs, "; ".join(sources))


Named = Iterator[tuple[Any, NetworkOptions, bool]]
"""Places in the grid, options of networks, and True for a network before its training."""


def checked_networks(command: Any) -> list[tuple[Any, NetworkOptions, bool]]:
    """All networks that `compare` names. Raises InvalidInputError for options that none of them has
    or a network that is named twice.
    """
    for name, value in [("seeds", command.seeds), *(("depth", depth) for depth in command.depth)]:
        whole_number(name, value, 1, 100_000)
    for option in ("networks", "cell", "depth"):
        words = getattr(command, option)
        checks.require(len({*words}) == len(words), option, " ".join(map(str, words)), "each once")
    named = [*new_cells(command), *positional(command)]
    checks.require(bool(named), "networks", "none", "--cell, a file, a folder or FILE.py:NAME")
    kinds = {kind_of_network(one) for _, one, _ in named}
    check_kind_options(command, kinds)
    trained, fresh = "checkpoint" in kinds, kinds != {"checkpoint"}
    checks.require(trained or not command.before_training, "--before-training", True, NO_USE)
    checks.require(fresh or command.seeds == 1, "--seeds", command.seeds, NO_USE)
    return named


def new_cells(command: Any) -> Named:
    """Yield the new cells that `compare` names, for each depth and seed."""
    for cell in command.cell:
        depths = command.depth if has_depth(resolve_cell(cell)) else ()
        for depth in depths or (None,):
            place = (cell, f"depth {depth}" if depth else "") if command.depth else cell
            one = one_of(command, "cell", cell=cell, depth=depth, **_bias(cell, command))
            yield from of_seeds(place, one, command)


def _bias(cell: str, command: Any) -> dict[str, float | None]:
    """The transform bias of a cell; None for a cell without one, beside others that have one."""
    without = [each for each in command.cell if "transform_bias" not in cell_options(each)]
    none = cell in without and len(without) < len(command.cell)
    return {"transform_bias": None if none else command.transform_bias}


def positional(command: Any) -> Named:
    """Yield the modules that `compare` names, for each seed, and the trained networks."""
    for word in command.networks:
        if ":" in word:
            one = one_of(command, "module", module=word, checkpoint=None)
            yield from of_seeds(word, one, command)
            continue
        one = one_of(command, "checkpoint", checkpoint=Path(word), cell=None)
        if command.before_training:
            yield (word, BEFORE), one, True
        yield (word, AFTER) if command.before_training else word, one, False


def one_of(command: Any, kind: str, **own: Any) -> NetworkOptions:
    """The options of one network of a kind."""
    return NetworkOptions(**{name: getattr(command, name) for name in ALLOWED[kind]} | own)


def of_seeds(place: Any, options: NetworkOptions, command: Any) -> Named:
    """Yield a network for each seed."""
    for k in range(command.seeds):
        yield place, replace(options, seed=(options.seed or 0) + k), False


def save_run(command: Any) -> None:
    """Run a network, and write its arrays to a file."""
    check_result(command.output, (".npz",))
    check_kind_options(command, [kind_of_network(command)])
    data = data_of(command, command)
    run = opened_network(command, network_of(command, data.x, command.device), data)
    print(printable(f"{run.title}; {run.data}, {len(run)} {run.unit}"))
    print(f"file: {run.save(command.output, jacobians=command.jacobians)}")


def show_recording(command: Any) -> None:
    """Show a recording of a training run."""
    path = command.path / RECORDING if command.path.is_dir() else command.path
    outputs = checked_outputs(command)
    show(command, function_of(command).load(path), outputs, str(path))


def function_of(command: Any) -> Any:
    """The function or class that a command uses."""
    module, _, name = command.function.partition(":")
    return getattr(import_module(f"gersgorin.{module}"), name)


def how_of(options: NetworkOptions, data: Sequences) -> dict[str, Any]:
    """The keywords of `open_run` that options name."""
    how = options.given(("layer", "batch_first"))
    if options.state_size:
        sizes = options.state_size
        how["state_size"] = sizes if len(sizes) > 1 else sizes[0]
    return {**how, "data": data.name, "unit": data.unit}


def opened_network(options: NetworkOptions, model: Any, data: Sequences) -> Run:
    """The run of a network along the first sequence."""
    return open_run(model, data.x, **how_of(options, data.parts()[0]))


def check_figure(command: Any, steps: int) -> None:
    """Refuse a limit of the figure that is no number above 0, and a step that a run has not."""
    if getattr(command, "step", None) is not None:
        checks.step_of_run(command.step, steps)
    checks.limit_of_panel(getattr(command, "limit", None))


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
        checks.require(good, flag, str(value), f"none, beside {' and '.join(kinds)}")
    whole_number("seed", options.seed or 0, 0)


def _new_cell(options: NetworkOptions, x: torch.Tensor) -> nn.Module:
    name, seed = CELL if options.cell is None else options.cell, options.seed or 0
    units = UNITS if options.hidden_size is None else options.hidden_size
    depth = 1 if options.depth is None else options.depth
    checks.require(x.dim() == 2, "x", checks.kind(x), "numbers (T, m), for a new cell")
    check_memory(units, len(x), weights=4 * units**2 if units > LARGE else 0)
    words = dict(word.partition("=")[::2] for word in options.cell_option)
    given: dict[str, Any] = {key.replace("-", "_"): value for key, value in words.items()}
    if options.transform_bias is not None:
        given["transform_bias"] = options.transform_bias
    given = read_options(name, given)
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
    a_function = callable(found) and not isinstance(found, type)
    return a_function and checks.takes(found, None, None) and not checks.takes(found)


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
        from rhn.training.stored import corpus_of, stored_data, text_of  # loads the training loop
    if options.input:
        for name in ("chorale", "data"):
            value = getattr(options, name)
            checks.require(value is None, f"--{name}", str(value), "none, beside --input")
        if text:
            return text_data(options.input, text_of(trained)[1], options.steps)
        return read_numbers(options.input).cut(options.steps)
    checks.require(not text, "input", "missing", "a text, for a language model")
    if trained and file is None:
        corpus_of(trained)  # refuses data that have changed
        file = stored_data(trained).path
    return read_chorale(options.chorale, file).cut(options.steps)
