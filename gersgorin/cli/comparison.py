"""The command `gersgorin compare`: the networks that its options name, side by side."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from gersgorin import checks
from gersgorin.cli.networks import (
    ALLOWED,
    check_kind_options,
    described,
    kind_of_network,
    network_of,
    opened_network,
    source_of,
)
from gersgorin.cli.options import NetworkOptions
from gersgorin.cli.outputs import checked_outputs, show
from gersgorin.cli.sequences import data_of
from gersgorin.cli.work import check_figure, function_of
from gersgorin.run import Run
from rhn.cells.registry import cell_options, has_depth, resolve_cell
from rhn.utils.validation import whole_number

BEFORE, AFTER = "before training", "trained"
NO_USE = "a network that it changes"


def compare_networks(command: Any) -> None:
    """Compare new cells, trained networks and modules."""
    outputs, named = checked_outputs(command), checked_networks(command)
    trained = next((one for _, one, _ in named if one.checkpoint), named[0][1])
    data = data_of(described(trained), command)
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
