"""Open whole models: with a loss as a `Training`, or from inputs to outputs as a `SequenceMap`; for commands and for Python."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from gersgorin.loading.find_cell import ids_or_numbers, part_of
from gersgorin.loading.network import KEYS, labelled, new_model, trained_network
from gersgorin.loading.open import (
    check_network_options,
    is_array,
    label_of_source,
    network_of_options,
    run_along,
    source_of,
    source_of_options,
)
from gersgorin.loading.options import DataOptions, NewOrTrained
from gersgorin.loading.sequence_map import SequenceMap
from gersgorin.run.run import Label
from gersgorin.training.losses import Loss
from gersgorin.training.training import Training
from rhn.errors import InvalidInputError
from rhn.models import LanguageModel, PolyphonicModel
from rhn.plotting.provenance import words_of_new


def open_training(
    model: nn.Module,
    x: "str | Path | Tensor | np.ndarray | None" = None,
    targets: "Tensor | np.ndarray | None" = None,
    loss: str | Loss | None = None,
    *,
    label: Label,
) -> Training:
    """A model with its loss on data, and with the unit and origin of a run over them; without targets on the next frames."""
    x = x if is_array(x) else source_of(x, DataOptions(), NewOrTrained()).sequence()
    training = Training.of_frames(model, (x[:-1], x[1:]) if targets is None else (x, targets), loss)
    training.label = replace(label, title=training.label.title)
    return training


def training_of_options(options, *, device: str = "cpu") -> Training:
    """The model with an output that a command's options name, and the next frames of their data as its targets. Raises RhnError."""
    check_network_options(options)
    if options.layer is not None:
        raise InvalidInputError(
            "--layer names one recurrent cell, and the whole network is analysed here: leave it out"
        )
    source = source_of_options(options, options)
    frames, width = source.frames(), source.input_size or KEYS
    loss: str | None = "squared" if options.input else "bernoulli"
    if options.module:
        model, made = module_of_options(options, width), ""
    elif options.checkpoint:
        (model, made, _), loss = trained_network(options, width), None
        if not isinstance(model, PolyphonicModel | LanguageModel):
            kind = type(model).__name__
            raise InvalidInputError(f"{options.checkpoint} holds only a {kind}: expected a network with an output")
    else:
        _, model = new_model(options, width)
        made = words_of_new(model.cells[0], options.seed)
    training = Training.of_frames(model.to(device), frames, loss)
    label = label_of_source(source, title=training.label.title, made=made or training.label.made)
    training.label = replace(label, sequence=source.label, data=source.about)
    return training


def map_of_options(options, *, device: str = "cpu") -> SequenceMap:
    """A whole module, a trained network, or a new cell, from the inputs to the outputs of a command's options. Raises RhnError."""
    source = source_of_options(options, options)
    module: Any
    if options.module:
        check_network_options(options)
        module, made, _ = trained_network(options, source.input_size)
        title = labelled(options.submodule or "", type(module).__name__)
        label = label_of_source(source, name=options.module, title=title, made=made)
    else:
        run = run_along(network_of_options(options, source.input_size, source.steps), source, whole=False)
        label, module = run.label, run.cell.module
        if options.checkpoint:
            module, _, _ = trained_network(options, source.input_size)
    x = ids_or_numbers(module, source.sequence())
    return SequenceMap(module.to(device), x, label=label, submodule=options.submodule)


def module_of_options(options, input_size: int | None) -> nn.Module:
    """The whole module that --module, --checkpoint and --submodule name. Raises InvalidInputError or CheckpointError."""
    module, _, _ = trained_network(options, input_size)
    return part_of(module, options.submodule)
