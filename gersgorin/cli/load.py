"""Load the network and the data that a command's options name: new cells by `gersgorin.cli.new`,
modules and trained weights by `gersgorin.cli.trained`.

    load_network(options, input_size)    (module, its names): new, from a checkpoint, or the user's
    datasets_of_options(options)         chorales, sequences of a file, parts of a text

Legend: T steps; m inputs of a cell.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from gersgorin.cli.new import check_network_options, new_cell, sizes_of_words
from gersgorin.cli.options import DataOptions, NewOrTrained
from gersgorin.data.files import (
    CHORALE,
    Dataset,
    chorale_data,
    chorales_origin,
    read_numbers,
)
from gersgorin.network.open import open_run
from gersgorin.run.run import Label, Run
from rhn.cells.init import for_steps
from rhn.cells.registry import import_named
from rhn.data import Piece, chorale
from rhn.data.corpus import KEYS
from rhn.data.jsb import chorales
from rhn.errors import CheckpointError, InvalidInputError
from rhn.utils.old import given_flags


def load_network(
    options: NewOrTrained, input_size: int | None, steps: int = 100, *, fresh: bool = False
) -> tuple[nn.Module, Label]:
    """Load the network that a command's options name, for data of `steps` frames. Returns (the
    module, its names).

    A new cell is in float64. For a checkpoint or a module, the names are those of its chosen cell.

    Args:
        input_size: m; None if the data are ids of tokens.
        fresh: return a trained network as it was before its training, with the initial weights that
            the file describes, or else with weights drawn from the seed.

    Raises:
        InvalidInputError, CheckpointError: there is no such network, it does not have the options,
            options exclude each other, or the cell of a checkpoint reads other inputs.
    """
    check_network_options(options)
    if options.module or options.checkpoint:
        # here and below, because a new cell needs no files of weights
        from gersgorin.cli.trained import cell_of_checkpoint, cell_of_module

        load = cell_of_module if options.module else cell_of_checkpoint
        return load(options, input_size, fresh=fresh)
    return new_cell(replace(options, init=for_steps(options.init, steps)), input_size)


def run_of(
    options: NewOrTrained, module: nn.Module, label: Label, data: Dataset, device: str
) -> Run:
    """Return the run of a loaded network along the first sequence of the data, with the names of
    network and data.
    """
    declared = hasattr(module, "state_shapes")  # by `module_of_step`
    with chorale_named(data.kind, data.label):
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


@contextmanager
def chorale_named(kind: str, name: str) -> Iterator[None]:
    """Say in an error that shows the shape of a chorale what x is, and how to give other data.

    kind, name: those of the sequence.
    """
    try:
        yield
    except InvalidInputError as error:
        if kind == "chorale" and f" {KEYS})" in str(error):
            own = f"x is the chorale {name}; give your own sequence with --input"
            error.args = (f"{error} ({own})", *error.args[1:])
        raise


def run_of_options(options: Any, *, device: str) -> Run:
    """The run that a command's options name, in float64. Raises RhnError."""
    data = data_of_options(options, options)
    module, label = load_network(options, data.input_size, data.steps)
    return run_of(options, module, label, data, device)


def data_of_options(network: NewOrTrained, data: DataOptions) -> Dataset:
    """The data that a command's options name. Raises InvalidInputError or DataError."""
    return datasets_of_options(network, data)[0]


def datasets_of_options(
    network: NewOrTrained, data: DataOptions, count: int | None = None
) -> list[Dataset]:
    """The sequence that options name, or the first `count` sequences: chorales of the test split,
    sequences of a file, or parts of a text.

    Each sequence has at most `data.steps` steps. If there are several chorales, `about` describes
    all of them. Only the language model of a checkpoint reads a text.

    Raises DataError for a file that cannot be read; InvalidInputError if there are too few
    sequences, or if options exclude each other.
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
        data = replace(data, data=chorales_file(network, data.data))
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

    with own_weights_named():
        return read_metadata(network.checkpoint)["class"] == "LanguageModel"


@contextmanager
def own_weights_named() -> Iterator[None]:
    """Add to a CheckpointError how a command reads the weights of the user's own module."""
    try:
        yield
    except CheckpointError as error:
        if "--module" in str(error):
            raise
        raise CheckpointError(
            f"{error}; for weights of your own module add --module package.module:factory"
        ) from error


def chorales_file(network: NewOrTrained, given: Path | None) -> Path | None:
    """The file of the chorales: the given one, or that of the training run of a checkpoint; None:
    the chorales of music21. Other chorales than those of the training run are logged.

    Raises InvalidInputError if the file of the training run has changed.
    """
    if network.module or not network.checkpoint:
        return given
    from rhn.training.trained import stored_data

    return stored_data(network.checkpoint).chorales(given)


def _chorales(data: DataOptions, count: int | None) -> list[Dataset]:
    """The chorale that options name, or the first ones of the test split."""
    if count is None:
        return [chorale_data(_chorale(data), data.data).cut(data.steps)]
    found = [chorale_data(piece, data.data) for piece in chorales(data.data).test[:count]]
    found = [each.cut(data.steps and min(data.steps, each.steps)) for each in found]
    most = f"at most {data.steps} steps of each of the " if data.steps else ""
    about = f"{most}first {count} of the test split of {chorales_origin(data.data)}"
    return found if count == 1 else [replace(each, about=about) for each in found]


def _chorale(data: DataOptions) -> Piece:
    """The chorale that options name, or the default one: bwv269, or the first of the test split of
    a file without names.
    """
    if data.chorale is not None or data.data is None:
        name = CHORALE if data.chorale is None else data.chorale
        return chorale(name, data.data)
    corpus = chorales(data.data)
    return next((piece for piece in corpus.pieces if piece.name == CHORALE), corpus.test[0])
