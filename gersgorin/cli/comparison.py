"""The command `gersgorin compare`: the networks that its options name, side by side."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from gersgorin import checks
from gersgorin.cli.networks import (
    ALLOWED,
    check_kind_options,
    described,
    kind_of_network,
    network_of,
    opened_network,
    options_of_cell,
    source_of,
)
from gersgorin.cli.options import NetworkOptions, NewCell, ReadingOptions, Seeded
from gersgorin.cli.outputs import checked_outputs, show
from gersgorin.cli.sequences import data_of
from gersgorin.cli.subcommands import CompareCommand
from gersgorin.cli.work import check_figure, function_of
from gersgorin.run import Run
from rhn.cells.options import has_depth
from rhn.cells.registry import resolve_cell
from rhn.utils.seed_folders import trained_paths
from rhn.utils.validation import whole_number

BEFORE, AFTER = "before training", "trained"
VARIED = "depth", "hidden_size", "init", "transform_bias"  # options with a cell for each value
NO_USE = "a network that it changes"
MOST = 100_000  # seeds, and the largest depth


class NamedNetwork(NamedTuple):
    """A network that `compare` names."""

    place: Any
    """Its place in the grid: a name, or (row, column)."""
    options: NetworkOptions
    before_training: bool = False
    """True for a trained network before its training."""


def compare_networks(command: CompareCommand) -> None:
    """Compare new cells, trained networks and modules."""
    outputs, named = checked_outputs(command), checked_networks(command)
    trained = next((one.options for one in named if one.options.checkpoint), named[0].options)
    data = data_of(described(trained), command)
    check_figure(command, len(data.x))
    networks = dict[Any, list[Run]]()
    for place, options, before in named:
        model = network_of(options, data.x, command.device, before=before)
        each = (replace(data, all=[x]) for x in data.all)  # under the name of the whole
        runs = [opened_network(options, model, one) for one in each]
        networks.setdefault(place, []).extend(runs)
    panels = {"panels": command.panels} if command.panels else {}
    found = function_of(command.analysis)(networks, **panels)
    sources = dict.fromkeys(source_of(one.options) for one in named)
    show(command, found, outputs, "; ".join(sources))


def checked_networks(command: CompareCommand) -> list[NamedNetwork]:
    """All networks that `compare` names. Raises InvalidInputError for options that none of them has
    or a network that is named twice.
    """
    whole_number("seeds", command.seeds, 1, MOST)
    for depth in command.depth:
        whole_number("depth", depth, 1, MOST)
    for option in ("networks", "cell", *VARIED):
        words = getattr(command, option)
        checks.require(len({*words}) == len(words), option, " ".join(map(str, words)), "each once")
    named = [*new_cells(command), *positional(command)]
    checks.require(bool(named), "networks", "none", "--cell, a file, a folder or FILE.py:NAME")
    kinds = {kind_of_network(one.options) for one in named}
    check_kind_options(command, kinds)
    some_trained, all_trained = "checkpoint" in kinds, kinds == {"checkpoint"}
    if command.before_training:
        checks.require(some_trained, "--before-training", True, NO_USE)
    if command.seeds != 1:
        checks.require(not all_trained, "--seeds", command.seeds, NO_USE)
    return named


def new_cells(command: CompareCommand) -> Iterator[NamedNetwork]:
    """Yield the new cells that `compare` names, for each combination of values and each seed.
    Raises InvalidInputError for an option that one of them does not have.
    """
    several = [name for name in VARIED if len(getattr(command, name)) > 1]
    in_columns = ["depth", *several] if command.depth else several
    for cell in command.cell:
        for values in combinations(command, cell):
            options = NetworkOptions(cell=cell, **values, **shared_options(command, "cell"))
            options_of_cell(options)
            column = name_of_column({name: values[name] for name in in_columns})
            place = (cell, column) if in_columns else cell
            yield from of_seeds(place, options, command.seeds)


def combinations(command: CompareCommand, cell: str) -> Iterator[dict[str, Any]]:
    """Yield each combination of values of a new cell; None: its default."""
    lists = {name: getattr(command, name) for name in VARIED}
    if not has_depth(resolve_cell(cell)):
        lists["depth"] = ()
    for values in product(*(each or (None,) for each in lists.values())):
        yield dict(zip(lists, values, strict=True))


def name_of_column(values: Mapping[str, Any]) -> str:
    """The name of a column of a grid, of the values that its cells share.

    >>> name_of_column({"depth": 5, "transform_bias": -4.0})
    'depth 5, transform bias -4'
    """
    given = {name.replace("_", " "): value for name, value in values.items() if value is not None}
    shown = {k: f"{v:g}" if isinstance(v, float) else str(v) for k, v in given.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def positional(command: CompareCommand) -> Iterator[NamedNetwork]:
    """Yield the modules that `compare` names, for each seed, and the trained networks."""
    for word in command.networks:
        if ":" in word:
            options = NetworkOptions(module=word, **shared_options(command, "module"))
            yield from of_seeds(word, options, command.seeds)
            continue
        for path in trained_paths(Path(word)):
            options = NetworkOptions(checkpoint=path, **shared_options(command, "checkpoint"))
            if command.before_training:
                yield NamedNetwork((word, BEFORE), options, before_training=True)
            yield NamedNetwork((word, AFTER) if command.before_training else word, options)


def shared_options(command: CompareCommand, kind: str) -> dict[str, Any]:
    """The options of the command that all networks of a kind have."""
    shared = {
        field.name for options in (NewCell, ReadingOptions, Seeded) for field in fields(options)
    }
    return {name: getattr(command, name) for name in shared & ALLOWED[kind]}


def of_seeds(place: Any, options: NetworkOptions, seeds: int) -> Iterator[NamedNetwork]:
    """Yield a network for each seed."""
    first = options.seed or 0
    for seed in range(first, first + seeds):
        yield NamedNetwork(place, replace(options, seed=seed))
