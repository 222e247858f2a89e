"""Run a command: load network and sequence, call its function, and show the result."""

import inspect
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from gersgorin import door
from gersgorin.cli.networks import (
    ALLOWED,
    check_kind_options,
    check_memory,
    data_of,
    kind_of_network,
    network_of,
    source_of,
)
from gersgorin.cli.options import AnalysisOptions, NetworkOptions
from gersgorin.cli.outputs import checked_outputs, show
from gersgorin.data import Sequences
from gersgorin.run import Run, open_run
from rhn.cells.registry import resolve_cell
from rhn.cli.entry import resolve_device
from rhn.utils.io import check_output
from rhn.utils.progress import progress_bars
from rhn.utils.tables import printable
from rhn.utils.validation import whole_number

RECORDING = "record.npz"  # in the folder of a training run
BEFORE, AFTER = "before training", "trained"
NO_USE = "a network that it changes"


def run_analysis(command: AnalysisOptions) -> None:
    """Call the function of a command with one network."""
    outputs, function = checked_outputs(command), function_of(command)
    has_seed = "seed" in inspect.signature(function).parameters
    keywords = command.keywords() | (command.given(["seed"]) if has_seed else {})
    check_kind_options(command, [kind_of_network(command)], keywords)
    with progress_bars() as report:
        data, advance = data_of(command, command), report(command.name)
        model = network_of(command, data.x)
        if command.reads == "model":
            x = data.all
            if keywords.get("of", "outputs") != "outputs":  # of predicting the next step
                keywords["y"], x = [each[1:] for each in x], [each[:-1] for each in x]
            keywords |= how_of(command, data)
            found = function(on_device(model, command), x, progress=advance, **keywords)
        else:
            run = opened_network(command, command, model, data)
            check_figure(command, len(run))
            found = function(replace(run, progress=advance), **keywords)
    show(command, found, outputs, source_of(command))


def compare_networks(command: Any) -> None:
    """Compare new cells, trained networks and modules."""
    outputs, named = checked_outputs(command), checked_networks(command)
    data = data_of(next((one for _, one, _ in named if one.checkpoint), named[0][1]), command)
    check_figure(command, len(data.x))
    networks = dict[Any, list[Run]]()
    with progress_bars() as report:
        for place, options, before in named:
            model = network_of(options, data.x, before=before)
            runs = [opened_network(command, options, model, each) for each in data.parts()]
            networks.setdefault(place, []).extend(runs)
        given = {"panels": command.panels} if command.panels else {}
        found = function_of(command)(networks, progress=report("compare"), **given)
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
        door.require(len({*words}) == len(words), option, " ".join(map(str, words)), "each once")
    named = [*new_cells(command), *positional(command)]
    door.require(bool(named), "networks", "none", "--cell, a file, a folder or FILE.py:NAME")
    kinds = {kind_of_network(one) for _, one, _ in named}
    check_kind_options(command, kinds)
    trained, fresh = "checkpoint" in kinds, kinds != {"checkpoint"}
    door.require(trained or not command.before_training, "--before-training", True, NO_USE)
    door.require(fresh or command.seeds == 1, "--seeds", command.seeds, NO_USE)
    return named


def new_cells(command: Any) -> Named:
    """Yield the new cells that `compare` names, for each depth and seed."""
    for cell in command.cell:
        depths = command.depth if getattr(resolve_cell(cell), "deep", True) else ()
        for depth in depths or (None,):
            place = (cell, f"depth {depth}" if depth else "") if command.depth else cell
            yield from of_seeds(place, one_of(command, "cell", cell=cell, depth=depth), command)


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
    check_output(command.output, (".npz",))
    check_kind_options(command, [kind_of_network(command)])
    data = data_of(command, command)
    run = opened_network(command, command, network_of(command, data.x), data)
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


def opened_network(command: Any, options: NetworkOptions, model: Any, data: Sequences) -> Run:
    """The run of a network along the first sequence, on the device that the command names."""
    run = open_run(on_device(model, command), data.x, **how_of(options, data.parts()[0]))
    check_memory(run.state_size, len(run))
    return run


def on_device(model: Any, command: Any) -> Any:
    """The network on the device that the command names."""
    return model.to(resolve_device(command.device)) if isinstance(model, nn.Module) else model


def check_figure(command: Any, steps: int) -> None:
    """Refuse a limit of the figure that is no number above 0, and a step that a run has not."""
    if getattr(command, "step", None) is not None:
        door.step_of_run(command.step, steps)
    door.limit_of_panel(getattr(command, "limit", None))
