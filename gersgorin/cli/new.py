"""Check the network options of a command, and build new cells from them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import torch
from torch import nn

from gersgorin.cli.options import NewOrTrained
from gersgorin.network.find import cell_title
from gersgorin.network.open import check_memory
from gersgorin.run.run import Label
from gersgorin.run.state import Sizes, checked_sizes
from gersgorin.validate import users_code
from rhn.cells import is_known, read_options, resolve_cell
from rhn.cells.registry import TORCH_CELLS
from rhn.errors import InvalidInputError
from rhn.plotting.provenance import words_of_new
from rhn.utils.old import given_flags
from rhn.utils.validation import check_seed

Options = TypeVar("Options", bound=NewOrTrained)
UNITS = 64  # of a new cell
NEW_CELL = ("depth", "hidden_size", "init", "transform_bias", "cell_options")


def check_network_options(options: NewOrTrained) -> None:
    """Raise InvalidInputError for options of the network that exclude each other."""
    new, wrong = given_flags(options, NEW_CELL), ""
    own = given_flags(options, ("batch_axis", "state_size"))
    if own and not options.module:
        wrong = f"{own[0]} is for --module package.module:factory: add that, or leave it out"
    elif options.module:
        if given := given_flags(options, ("cell",)) or [f for f in new if f != "--hidden-size"]:
            wrong = (
                f"{given[0]} cannot be given with --module, whose code decides it: leave one out"
            )
    elif options.submodule:
        wrong = "--submodule names a part of --module package.module:factory: add that"
    elif not options.checkpoint and given_flags(options, ("layer",)):
        wrong = "--layer is for --checkpoint FILE, not for a new cell"
    elif options.checkpoint and new:
        wrong = f"{', '.join(new)} cannot be given with --checkpoint: the file describes the cell"
    if wrong:
        raise InvalidInputError(wrong)
    check_seed(options.seed)


def layer_as_module(options: Options) -> Options:
    """The options with --module in place of --cell torch.nn:LSTM, if the weights are a state_dict
    of this layer; other options unchanged. Raises errors as `check_network_options` does.
    """
    if options.cell not in TORCH_CELLS or options.checkpoint is None:
        return options
    check_network_options(options)
    from rhn.checkpoints import lacks_network  # a new cell needs no files of weights

    if not lacks_network(options.checkpoint):
        return options
    return replace(options, module=options.cell, cell=None)


def cell_of(options: NewOrTrained) -> str:
    """The name of a new cell."""
    return "rhn" if options.cell is None else options.cell


def new_cell(options: NewOrTrained, input_size: int | None) -> tuple[nn.Module, Label]:
    """Build a new cell, by default an rhn of depth 1 with 64 units. Returns (the cell, its
    names).
    """
    name = cell_of(options)
    factory = resolve_cell(name)
    depth = 1 if options.depth is None else options.depth
    units = UNITS if options.hidden_size is None else options.hidden_size
    if input_size is None:
        raise InvalidInputError(
            f"the new cell {name} cannot read a text: name files of language models"
        )
    given, own = settings_of_new(name, options)

    def build(device: str) -> nn.Module:
        generator = torch.Generator().manual_seed(options.seed)
        return factory(
            input_size,
            units,
            depth,
            generator=generator,
            device=device,
            dtype=torch.float64,
            **given,
        )

    expected = (
        "expected a factory of cells (input_size, hidden_size, depth, *, generator, "
        "device, dtype), not of modules"
    )
    with users_code(
        f"cannot build {name} with {units} units, depth {depth}", "" if is_known(name) else expected
    ):
        cell = build("meta")  # where it takes no memory
    check_memory(cell, 1, "cpu")
    title = with_options(cell_title(cell, name=name), own)
    return build("cpu"), Label(name=name, title=title, made=words_of_new(cell, options.seed))


def settings_of_new(name: str, options: NewOrTrained) -> tuple[dict, dict]:
    """Return all keyword arguments of a new cell, and those among them that are `cell_options`.
    Options that are None are left out. Raises InvalidInputError for options that the cell does not
    have.
    """
    bias = {} if options.transform_bias is None else {"transform_bias": options.transform_bias}
    own = read_options(name, options.cell_options)
    init = {} if options.init is None else {"init": options.init}
    return init | read_options(name, bias) | own, own


def with_options(title: str, options: Mapping) -> str:
    """Add the given options to the title of a network.

    >>> with_options("rhn, 64 units", {"gate_constant": 0.5})
    'rhn, 64 units, gate constant 0.5'
    """
    words = [title]
    for name, value in options.items():
        shown = f"{value:g}" if isinstance(value, float) else value
        words.append(f"{name.replace('_', ' ')} {shown}")
    return ", ".join(words)


def sizes_of_words(words: str | None) -> Sizes | None:
    """Read the value of --state-size. Raises InvalidInputError for anything but whole numbers.

    >>> sizes_of_words("5"), sizes_of_words("5,5")
    (5, (5, 5))
    """
    if words is None:
        return None
    try:
        sizes = tuple(map(int, words.split(",")))
    except ValueError:
        raise InvalidInputError(
            f"--state-size {words}: expected a whole number, or several joined by commas, 5,5"
        ) from None
    return checked_sizes(sizes if len(sizes) > 1 else sizes[0])
