"""Load the networks with an output, and the data, that a command's options name.

model_of_file(options, input_size)    a network with an output, for a loss
model_with_data(options)              a model with its sequences
"""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from gersgorin.cli.load import data_of_options, load_network
from gersgorin.cli.new import (
    UNITS,
    cell_of,
    check_network_options,
    settings_of_new,
    sizes_of_words,
    with_options,
)
from gersgorin.cli.trained import labelled, module_of_user, trained_model
from gersgorin.network.batch_axis import axis_for
from gersgorin.network.find import cell_title, model_label, part_of
from gersgorin.network.open import names_of_data
from gersgorin.network.sequence_map import OUTPUTS, ModelWithData, on_next_frames
from gersgorin.run.run import Label
from gersgorin.validate import users_code
from rhn.data.corpus import KEYS
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.plotting.provenance import words_of_new
from rhn.utils.validation import kind_of


def model_of_file(options: Any, input_size: int) -> tuple[nn.Module, Label, str | None]:
    """Return the network with an output that a command's options name, its names, and the name of
    its loss (None if the network has its own loss).

    Raises InvalidInputError or CheckpointError if it cannot be loaded.
    """
    check_network_options(options)
    loss = "squared" if options.input else "bernoulli"
    if options.module:
        module = part_of(module_of_user(options, input_size)[0], options.submodule)
        name = f"{options.module}, {options.submodule}" if options.submodule else options.module
        return module, Label(name=name), loss
    if not options.checkpoint:
        return *_new_model(options, input_size), loss
    model, label = trained_model(options)
    if not isinstance(model, PolyphonicModel | LanguageModel):
        raise InvalidInputError(
            f"{options.checkpoint} holds only {kind_of(model)}: expected a network with an output"
        )
    return model, replace(label, name=options.checkpoint.name), None


def _new_model(options: Any, width: int) -> tuple[nn.Module, Label]:
    """A model around a new cell, with `width` inputs and as many outputs."""
    cell, units, depth = cell_of(options), options.hidden_size or UNITS, options.depth or 1
    given, own = settings_of_new(cell, options)
    generator = torch.Generator().manual_seed(options.seed)
    given = {"init": None, "hidden_size": units, "depth": depth, "generator": generator} | given
    with users_code(f"cannot build {cell} with {units} units, depth {depth}"):
        built = PolyphonicModel(cell, **given, input_size=width, output_size=width)
    title = with_options(cell_title(built, name=cell), own)
    return built, Label(name=title, made=words_of_new(built.cells[0], options.seed))


def model_with_data(options: Any, *, device: str) -> ModelWithData:
    """The model and the sequences that a command's options name. For a loss (`options.of`) the
    model has an output, and the targets are the next frames. Raises RhnError.
    """
    check_network_options(options)
    data, of = data_of_options(options, options), getattr(options, "of", OUTPUTS)
    if of == OUTPUTS and not options.module and not options.checkpoint:
        module, label = load_network(options, data.input_size, data.steps)
    else:
        module, label = _whole(options, of, data.input_size)
        own = model_label(module)
        words = own.title if options.submodule or not options.module else ""
        title = labelled(options.submodule or "", words or type(module).__name__)
        label = Label(title=title, made=label.made or own.made)
    names = names_of_data(data) | {"sequence": data.label, "data": data.about}
    declared = hasattr(module, "state_shapes")
    state_size = None if declared else sizes_of_words(options.state_size)
    return on_next_frames(
        module.to(device),
        data.all_read_by(module),
        of,
        batch_axis=axis_for(module, data, options.batch_axis, state_size=state_size),
        submodule=options.submodule,
        state_size=state_size,
        label=replace(label, **names),
    )


def _whole(options: Any, of: Any, input_size: int | None) -> tuple[nn.Module, Label]:
    """A whole network: the user's module, that of a checkpoint, or, for a loss, a new one with an
    output.
    """
    if options.module:
        return module_of_user(options, input_size)
    return (
        trained_model(options) if of == OUTPUTS else model_of_file(options, input_size or KEYS)[:2]
    )
