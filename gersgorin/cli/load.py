"""Load the new cell and the data that a command's options name; `gersgorin.cli.trained` loads
modules and trained weights.

    load_network(options, input_size)    (module, its names): new, of a checkpoint, the user's
    datasets_of_options(options)         chorales, sequences of a file, parts of a text

Legend: T steps; m inputs of a cell.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gersgorin.cli.options import DataOptions, NewOrTrained
from gersgorin.data.files import Dataset, chorale_data, chorales_origin, read_numbers
from gersgorin.network.find import cell_title
from gersgorin.network.open import check_memory, open_run
from gersgorin.run.cell import Sizes, checked_sizes
from gersgorin.run.run import Label, Run
from gersgorin.validate import users_code
from rhn.cells import is_known, read_options, resolve_cell
from rhn.cells.init import for_steps
from rhn.cells.registry import import_named
from rhn.data import chorale
from rhn.data.jsb import chorales
from rhn.errors import CheckpointError, InvalidInputError
from rhn.plotting.provenance import words_of_new
from rhn.utils.shared_options import given_flags
from rhn.utils.validation import check_seed

UNITS = 64  # of a new cell
NEW_CELL = ("depth", "hidden_size", "init", "transform_bias", "cell_options")


def load_network(
    options: NewOrTrained, input_size: int | None, steps: int = 100, *, fresh: bool = False
) -> tuple[nn.Module, Label]:
    """The network of these options, for data of `steps` frames, and its names.

    A new cell is in float64. Of a checkpoint and a module the names are those of one of its cells.

    Args:
        input_size: m; None: ids of tokens.
        fresh: a trained network before its training, with the initial weights that the file
            describes, or with weights drawn from the seed.

    Raises:
        InvalidInputError, CheckpointError: no such network, options that it does not have or that
            exclude each other, or a checkpoint whose cell reads other inputs.
    """
    check_network_options(options)
    if options.module or options.checkpoint:
        # here and below, because a new cell needs no files of weights
        from gersgorin.cli.trained import cell_of_checkpoint, cell_of_module

        load = cell_of_module if options.module else cell_of_checkpoint
        return load(options, input_size, fresh=fresh)
    return _new_cell(replace(options, init=for_steps(options.init, steps)), input_size)


def _new_cell(options: NewOrTrained, input_size: int | None) -> tuple[nn.Module, Label]:
    """A new cell, an rhn of depth 1 and 64 units by default, for the keys of chorales."""
    name = options.cell or "rhn"
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
    """(Keyword arguments of a new cell, those of its `cell_options` among them); what is None is
    left to the cell. Raises InvalidInputError for options that the cell does not have.
    """
    bias = {} if options.transform_bias is None else {"transform_bias": options.transform_bias}
    own = read_options(name, options.cell_options)
    init = {} if options.init is None else {"init": options.init}
    return init | read_options(name, bias) | own, own


def with_options(title: str, options: Mapping) -> str:
    """A title of a network with its given options.

    >>> with_options("leaky, 64 units", {"leak": 0.5})
    'leaky, 64 units, leak 0.5'
    """
    words = [title]
    for name, value in options.items():
        shown = f"{value:g}" if isinstance(value, float) else value
        words.append(f"{name.replace('_', ' ')} {shown}")
    return ", ".join(words)


def sizes_of_words(words: str | None) -> Sizes | None:
    """The state_size in the words of a command. Raises InvalidInputError.

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


def run_of(
    options: NewOrTrained, module: nn.Module, label: Label, data: Dataset, device: str
) -> Run:
    """The run of a loaded network along the first sequence of data, with its names."""
    declared = hasattr(module, "state_shapes")  # by `module_of_step`
    run = open_run(
        module,
        data,
        state_size=None if declared else sizes_of_words(options.state_size),
        layer=options.layer,
        submodule=options.submodule,
        batch_axis=options.batch_axis,
        gates=None if options.gates is None else import_named(options.gates, "gates"),
        device=device,
    )
    return run.named(replace(run.label, name=label.name, title=label.title, made=label.made))


def run_of_options(options: Any, *, device: str) -> Run:
    """The run that a command's options name, in float64. Raises RhnError."""
    data = data_of_options(options, options)
    module, label = load_network(options, data.input_size, data.steps)
    return run_of(options, module, label, data, device)


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


def data_of_options(network: NewOrTrained, data: DataOptions) -> Dataset:
    """The data that a command's options name. Raises InvalidInputError or DataError."""
    return datasets_of_options(network, data)[0]


def datasets_of_options(
    network: NewOrTrained, data: DataOptions, count: int | None = None
) -> list[Dataset]:
    """The sequence that options name, or the first `count`: chorales of the test split, sequences
    of a file, or parts of a text.

    Each has at most `data.steps` steps; of several, `about` describes all. A text is what the
    language model of a checkpoint reads.

    Raises DataError, or InvalidInputError if there are fewer, or for options that exclude each
    other.
    """
    if data.input and (given := given_flags(data, ("chorale", "data"))):
        raise InvalidInputError(
            f"--input and {given[0]} both name something to read: give only one"
        )
    text = reads_text(network)
    if text and data.input is None:
        raise InvalidInputError(
            f"{network.checkpoint} holds a language model, which reads a text: give one as input"
        )
    if data.input is None:
        found, where = _chorales(data, count), "the test split"
    else:
        whole = _of_file(data.input, network, data.steps, count, text=text)
        found = [whole] if count is None else [*whole.parts(count)]
        where = whole.name
    if count and len(found) < count:
        raise InvalidInputError(
            f"{count} sequences: {where} has {len(found)}, expected at most that number"
        )
    return found


def _of_file(
    path: Path, network: NewOrTrained, steps: int | None, count: int | None, *, text: bool
) -> Dataset:
    """The numbers of a file, or the tokens of a text that a trained language model reads."""
    if not text:
        return read_numbers(path).cut(steps)
    from gersgorin.cli.trained import text_of_options

    return text_of_options(path, network, steps, count)


def reads_text(network: NewOrTrained) -> bool:
    """True for the checkpoint of a language model. Raises CheckpointError."""
    if network.module or not network.checkpoint:
        return False
    from rhn.checkpoints import read_metadata

    try:
        return read_metadata(network.checkpoint)["class"] == "LanguageModel"
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}; for weights of your own module add --module package.module:factory"
        ) from error


def _chorales(data: DataOptions, count: int | None) -> list[Dataset]:
    """The chorale that options name, or the first ones of the test split."""
    if count is None:
        return [chorale_data(chorale(data.chorale, data.data), data.data).cut(data.steps)]
    found = [chorale_data(piece, data.data) for piece in chorales(data.data).test[:count]]
    found = [each.cut(data.steps and min(data.steps, each.steps)) for each in found]
    most = f"at most {data.steps} steps of each of the " if data.steps else ""
    about = f"{most}first {count} of the test split of {chorales_origin(data.data)}"
    return found if count == 1 else [replace(each, about=about) for each in found]
