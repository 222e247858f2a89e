"""Run a command: check its files, load network and sequence, call the function of the command,
print its result, and write the files.
"""

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from gersgorin import door
from gersgorin.cli.networks import (
    ALLOWED,
    CELL,
    check_kind_options,
    check_memory,
    data_of,
    kind_of_network,
    network_of,
)
from gersgorin.cli.options import AnalysisOptions, NetworkOptions, OutputOptions
from gersgorin.data import CHORALE, Sequences
from gersgorin.run import Run, open_run
from rhn.cells.registry import lacking
from rhn.cli.entry import printable, resolve_device
from rhn.plotting.provenance import epoch_words
from rhn.utils.figures import inches_of, save_figure
from rhn.utils.io import check_output, write_rows
from rhn.utils.old import figure_name
from rhn.utils.progress import progress_bars
from rhn.utils.results import SUFFIXES, Result
from rhn.utils.validation import number, whole_number

FIGURES = (".png", ".svg", ".pdf")
RECORDING = "record.npz"  # in the folder of a training run
BEFORE = "before training"
NO_USE = "a network that it changes"
SILENT = {f.name for f in fields(OutputOptions)}  # options that change no number
NAMED = {"networks", "cell", "module", "checkpoint", "chorale", "input", "path"}
"""Options whose values stand alone in the name of a figure."""


def run_analysis(command: AnalysisOptions) -> None:
    """Call the function of a command with one network."""
    outputs, keywords = checked_outputs(command, default_figure(command)), command.keywords()
    check_kind_options(command, [kind_of_network(command)], keywords)
    function = function_of(command)
    with progress_bars() as report:
        data, advance = data_of(command, command), report(command.name)
        if "progress" in inspect.signature(function).parameters:
            keywords["progress"] = advance
        if command.reads == "model":
            of_loss = keywords.get("of", "outputs") != "outputs"
            model, made = network_of(command, data.x, output=of_loss)
            x = data.all
            if of_loss:  # of predicting the next step
                keywords["y"], x = [each[1:] for each in x], [each[:-1] for each in x]
            found = function(on_device(model, command), x, **keywords, **how_of(command, data))
        else:
            model, made = network_of(command, data.x)
            run = opened_network(command, command, model, data)
            check_figure(command, len(run))
            found = function(replace(run, progress=advance), **keywords)
    show(command, found, made, outputs)


def compare_networks(command: Any) -> None:
    """Compare new cells, trained networks and modules."""
    outputs, compare = checked_outputs(command, default_figure(command)), function_of(command)
    named = checked_networks(command)
    data = data_of(next((one for _, one, _ in named if one.checkpoint), named[0][1]), command)
    check_figure(command, len(data.x))
    networks, made = dict[Any, list[Run]](), dict[str, None]()
    with progress_bars() as report:
        for place, options, before in named:
            model, source = network_of(options, data.x, before=before)
            runs = [opened_network(command, options, model, each) for each in data.parts()]
            networks.setdefault(place, []).extend(runs)
            made[source] = None
        given = {"panels": command.panels} if command.panels else {}
        found = compare(networks, progress=report("compare"), **given)
    show(command, found, "; ".join(made), outputs)


Named = Iterator[tuple[Any, NetworkOptions, bool]]
"""Places in the grid, options of networks, and True for a network before its training."""


def checked_networks(command: Any) -> list[tuple[Any, NetworkOptions, bool]]:
    """All networks that `compare` names. Raises InvalidInputError for options that none of them has
    or a network that is named twice.
    """
    whole_number("seeds", command.seeds, 1)
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
        depths = command.depth if "depth" not in lacking(cell) else ()
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
        yield (word, epoch_words(Path(word))) if command.before_training else word, one, False


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
    run = opened_network(command, command, network_of(command, data.x)[0], data)
    print(printable(f"{run.title}; {run.data}, {len(run)} {run.unit}"))
    print(f"file: {run.save(command.output, jacobians=command.jacobians)}")


def show_recording(command: Any) -> None:
    """Show a recording of a training run."""
    path = command.path / RECORDING if command.path.is_dir() else command.path
    outputs = checked_outputs(command, figure_name("gersgorin", command.path.name))
    show(command, function_of(command).load(path), str(path), outputs)


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
    if getattr(command, "limit", None) is not None:
        number("limit", command.limit, above=0)


def checked_outputs(command: OutputOptions, default: Path) -> list[Path]:
    """The files to write, which can be written. Raises OutputError or InvalidInputError."""
    if command.csv:
        check_output(command.csv, (".csv",))
    if command.figure is not None:
        inches_of(command.figure)
    files = [*command.output] or [default]
    return [check_output(path, (*FIGURES, *SUFFIXES)) for path in files]


def default_figure(command: Any) -> Path:
    """The file name of a figure: the network, the sequence, and all options that change numbers.

    >>> from gersgorin.cli.commands import PlotCommand
    >>> print(default_figure(PlotCommand(cell="rhn", depth=5)))
    gersgorin-rhn-depth5-bwv269.png
    """
    values = {f.name: (getattr(command, f.name), f.default) for f in fields(command)}
    given = {name: value for name, (value, default) in values.items()
             if value != default and name not in SILENT}  # fmt: skip
    if not given.keys() & {"networks", "cell", "module", "checkpoint"}:
        given = {"cell": CELL, **given}
    if not given.keys() & {"chorale", "input"}:
        given["chorale"] = CHORALE
    words = [_word(*option) for option in given.items()]
    return figure_name("gersgorin", *words, "" if command.name == "spectra" else command.name)


def _word(name: str, value: Any) -> str:
    """An option as a word of a file name, such as depth5; of a file only its name."""
    parts = [Path(str(one)).name for one in (value if isinstance(value, tuple) else (value,))]
    joined = re.sub("[:=]", "-", "-".join(parts))
    return joined if name in NAMED else f"{name.replace('_', '-')}{joined}"


def show(command: OutputOptions, found: Result, made: str, outputs: list[Path]) -> None:
    """Print a result and the source of its network, and write its files."""
    made = printable(made)
    if command.json:
        print(json.dumps(found.to_dict()), flush=True)
    else:
        print(f"{printable(str(found))}\n\n{made}", flush=True)
    if command.csv:
        write_table(command.csv, found)
    for path in outputs:
        if path.suffix.lower() in FIGURES:
            save_figure(path, lambda: figure_of(command, found, made), command.figure)
        else:
            found.save(path)
    if not command.json:
        for path in [command.csv, *outputs] if command.csv else outputs:
            print(f"{'figure' if path.suffix.lower() in FIGURES else 'file'}: {path}")


def write_table(path: Path, found: Any) -> None:
    """Write the rows of a result as columns; a single number stands in the first line."""
    if hasattr(found, "csv"):
        found.csv(path)
    else:
        table = found.table()
        columns = [np.atleast_1d(np.asarray(row)).tolist() for row in table.values()]
        write_rows(path, [*table], zip_longest(*columns, fillvalue=""))


def figure_of(command: Any, found: Any, made: str) -> Any:
    """The figure of a result, drawn with the options of a command."""
    given = {"size": command.figure, "source": made, "title": command.title}
    given |= {name: getattr(command, name) for name in command.drawn}
    return found.figure(**{name: value for name, value in given.items() if value is not None})
