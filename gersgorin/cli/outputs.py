"""The options of a result, and its files: check them, print the result, and write it. This module
does not import torch, so that `--help` is fast.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from cyclopts import Group, Parameter

from rhn.utils.command_line import Device
from rhn.utils.figures import FIGURE_SUFFIXES, inches_of, save_figure
from rhn.utils.io import SUFFIXES, check_output, check_result, write_rows
from rhn.utils.seed_folders import with_seed
from rhn.utils.tables import printable

TABLES = "csv", "curves"  # options of a .csv file; not each command has each
OUTPUT_OPTIONS = Parameter(group=Group("output", sort_key=3))
STEPS_OPTIONS = Parameter(group=Group("steps", sort_key=4))


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Options of a result."""

    drawn: ClassVar[tuple[str, ...]] = ()
    """Own options that are passed to the figure, not to the function."""

    json: Annotated[bool, OUTPUT_OPTIONS] = False
    """Print the whole table and all numbers as one JSON object."""
    whole: Annotated[bool, OUTPUT_OPTIONS] = False
    """Print all rows of the table."""
    csv: Annotated[Path | None, OUTPUT_OPTIONS] = None
    """File for the whole table (.csv)."""
    output: Annotated[tuple[Path, ...], OUTPUT_OPTIONS] = ()
    """Files for the figure (.png, .svg, .pdf) and for all numbers (.json, .npz)."""
    figure: Annotated[str | None, OUTPUT_OPTIONS, Parameter(metavar="SIZE")] = None
    """Width of the figure: column, page, slide, or inches."""
    title: Annotated[str | None, OUTPUT_OPTIONS] = None
    """Title of the figure (default: network, data and at most two numbers)."""

    @property
    def name(self) -> str:
        """The name in that of the usual figure."""
        raise NotImplementedError

    def files(self) -> tuple[Path, ...]:
        """The files to write beside --csv."""
        return self.output or (Path(f"gersgorin-{self.name}.png"),)

    def of_seed(self, name: str) -> Self:
        """The command with the names of files of one of several seeds."""
        tables = {each: getattr(self, each, None) for each in TABLES}
        given: dict[str, Any] = {k: with_seed(path, name) for k, path in tables.items() if path}
        return replace(self, **given, output=tuple(with_seed(p, name) for p in self.files()))


@dataclass(frozen=True, kw_only=True)
class CurvesOption:
    """The option of a result that has numbers of each step."""

    curves: Annotated[Path | None, STEPS_OPTIONS] = None
    """File for what goes over steps, with a column step (.csv)."""


@dataclass(frozen=True, kw_only=True)
class DeviceOption:
    """The option of a computation."""

    device: Annotated[Device, OUTPUT_OPTIONS] = "auto"
    """Device of the computation; auto: a GPU if there is one, else the CPU."""


def checked_outputs(command: OutputOptions) -> list[Path]:
    """The files to write, which can be written. Raises OutputError or InvalidInputError.

    >>> from gersgorin.cli.subcommands import PlotCommand
    >>> print(*checked_outputs(PlotCommand()))
    gersgorin-spectra.png
    """
    for path in tables_of(command):
        check_output(path, (".csv",))
    if command.figure is not None:
        inches_of(command.figure)
    return [check_result(path, (*FIGURE_SUFFIXES, *SUFFIXES)) for path in command.files()]


def show(command: OutputOptions, found: Any, outputs: list[Path], source: str) -> None:
    """Print a result, and write its files. source: the footer of the figure."""
    given: Any = {"size": command.figure, "title": command.title, "source": printable(source)}
    given |= {name: getattr(command, name) for name in command.drawn}
    how = {name: value for name, value in given.items() if value is not None}
    curves = curves_of(command)
    print_result(command, found)
    if command.csv:
        found.csv(command.csv)
    if curves:
        columns = found.by_step()
        write_rows(curves, [*columns], zip(*columns.values(), strict=True))
    for path in outputs:
        if path.suffix.lower() in FIGURE_SUFFIXES:
            save_figure(path, lambda: found.figure(**how), command.figure)
        else:
            found.save(path)
    if not command.json:
        for path in (*tables_of(command), *outputs):
            print(f"{'figure' if path.suffix.lower() in FIGURE_SUFFIXES else 'file'}: {path}")


def print_result(command: OutputOptions, found: Any) -> None:
    """Print a result: as JSON, the whole table, or a part of it."""
    if command.json:
        text = json.dumps(found.to_dict())
    elif command.whole:
        text = printable(found.whole())
    else:
        text = printable(str(found))
    print(text, flush=True)


def tables_of(command: OutputOptions) -> list[Path]:
    """The .csv files that a command writes."""
    return [path for path in (command.csv, curves_of(command)) if path is not None]


def curves_of(command: OutputOptions) -> Path | None:
    """The .csv file for what goes over steps; None without the option."""
    return command.curves if isinstance(command, CurvesOption) else None
