"""Run a command: check its files, load network and sequence, call the function of the command,
print the table, and write the files.
"""

import inspect
import json
import re
from collections.abc import Callable
from dataclasses import fields, replace
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from gersgorin.next import door
from gersgorin.next.cli.networks import (
    CELL,
    Network,
    check_memory,
    check_options,
    data_of,
    network_of,
)
from gersgorin.next.cli.options import AnalysisOptions, OutputOptions
from gersgorin.next.data import CHORALE, Sequences
from gersgorin.next.run import Run, open_run
from rhn.cli.entry import own_cell, resolve_device
from rhn.utils.figures import inches_of, save_figure
from rhn.utils.io import check_output, write_rows
from rhn.utils.progress import progress_bars
from rhn.utils.results import SUFFIXES, Result

FIGURES = (".png", ".svg", ".pdf")
LONGEST = 200  # characters of a file name
SILENT = {f.name for f in fields(OutputOptions)}  # options that change no number


def run_analysis(command: AnalysisOptions) -> None:
    """Call the function of a command, and print, draw and write its result."""
    outputs = checked_outputs(command, default_figure(command))
    module, _, name = command.function.partition(":")
    function = getattr(import_module(f"gersgorin.next.{module}"), name)
    check_options(command, set(command.own()))
    with progress_bars() as report, own_cell(command.module or command.cell):
        data = data_of(command, command)
        network = network_of(command, data.x)
        if command.reads == "run":
            run = opened(command, network, data)
            check_memory(run.state_size, len(run))
            if "step" in command.given(command.drawn):
                door.step_of_run(getattr(command, "step"), len(run))
            subject: tuple[Any, ...] = (replace(run, progress=report(name)),)
        else:
            subject = (on_device(network.model, command), data.all)
        found = function(*subject, **command.keywords())
    show(command, found, network.made, outputs)


def opened(command: Any, network: Network, data: Sequences) -> Run:
    """The run of a network along the first sequence, on the device that the options name."""
    how = command.given(("layer", "batch_first"))
    if command.state_size:
        size = command.state_size
        how["state_size"] = size if len(size) > 1 else size[0]
    names = {"data": data.first_name, "unit": data.unit}
    return open_run(on_device(network.model, command), data.x, **how, **names)


def on_device(model: Any, command: Any) -> Any:
    """The network on the device that the options name."""
    return model.to(resolve_device(command.device)) if isinstance(model, nn.Module) else model


def save_run(command: Any) -> None:
    """Run a network, and write its arrays to a file."""
    check_output(command.output, (".npz",))
    check_options(command, set())
    with own_cell(command.module or command.cell):
        data = data_of(command, command)
        run = opened(command, network_of(command, data.x), data)
        check_memory(run.state_size, len(run))
        print(f"{run.title}; {run.data}, {len(run)} {run.unit}")
        print(f"file: {run.save(command.output, jacobians=command.jacobians)}")


def checked_outputs(command: OutputOptions, default: Path) -> list[Path]:
    """The files to write, which can be written. Raises OutputError or InvalidInputError."""
    if command.csv:
        check_output(command.csv, (".csv",))
    if command.figure is not None:
        inches_of(command.figure)
    files = [*command.output] or [default]
    return [check_output(path, (*FIGURES, *SUFFIXES)) for path in files]


def default_figure(command: Any) -> Path:
    """The file name of a figure: all options that change numbers, and the sequence.

    >>> from gersgorin.next.cli.commands import PlotCommand
    >>> print(default_figure(PlotCommand(cell="rhn", depth=5)))
    gersgorin-rhn-depth5-bwv269.png
    """
    named = ("networks", "cell", "module", "checkpoint", "chorale", "input")
    words = dict[str, str]()
    for f in fields(command):
        value = getattr(command, f.name)
        if value != f.default and f.name not in SILENT:
            several = value if isinstance(value, tuple) else (value,)
            text = "-".join(Path(str(one)).name for one in several)
            words[f.name] = text if f.name in named else f"{f.name.replace('_', '-')}{text}"
    first = [words.pop(name) for name in named[:4] if name in words] or [CELL]
    last = [words.pop(name) for name in named[4:] if name in words] or [CHORALE]
    name = command.function.partition(":")[2].replace("_", "-")
    name = "" if name == "spectra" else name
    whole = "-".join(filter(None, ("gersgorin", *first, *words.values(), *last, name)))
    return Path(f"{re.sub(r'[^a-zA-Z0-9.-]+', '-', whole)[:LONGEST]}.png")


def show(command: OutputOptions, found: Result, made: str, outputs: list[Path]) -> None:
    """Print a result and the source of its network, and write its files."""
    if command.json:
        print(json.dumps(found.to_dict()), flush=True)
    else:
        print(f"{found}\n\n{made}", flush=True)
    if command.csv:
        table = found.table()
        columns = [np.atleast_1d(np.asarray(row)).tolist() for row in table.values()]
        write_rows(command.csv, [*table], zip_longest(*columns, fillvalue=""))
    for path in outputs:
        if path.suffix.lower() in FIGURES:
            save_figure(path, lambda: figure_of(command, found, made), command.figure)
        else:
            found.save(path)
    if not command.json:
        for path in [command.csv, *outputs] if command.csv else outputs:
            print(f"{'figure' if path.suffix.lower() in FIGURES else 'file'}: {path}")


def figure_of(command: Any, found: Any, made: str) -> Any:
    """The figure of a result, drawn with the options that it takes."""
    given = {"size": command.figure, "source": made, "title": command.title}
    given |= {name: getattr(command, name) for name in command.drawn}
    taken = inspect.signature(found.figure).parameters
    known = {name: value for name, value in given.items() if name in taken and value is not None}
    return found.figure(**known)
