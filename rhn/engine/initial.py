"""The network a checkpoint was before its training: the same shape, with the weights that were drawn for it."""

from pathlib import Path

import torch
from torch import nn

from rhn.checkpoints import load_model, read_metadata
from rhn.engine.seeds import weights_generator


def initial_model(path: str | Path, seed: int = 0, cell: str | None = None) -> tuple[nn.Module, bool]:
    """(The untrained network, whether these are its own first weights.)

    Trainings and studies of this toolkit leave in the file what their weights were drawn from. For any other file fresh weights are
    drawn by its initialisation scheme from `seed`. `cell` and errors as for `load_model`.
    """
    model, header = load_model(path, cell), read_metadata(path)
    own = _generator(header["metadata"])
    generator = own or torch.Generator().manual_seed(seed)
    if hasattr(model, "reset_parameters"):
        model.reset_parameters(generator)
        return model, own is not None
    dtype = next(model.parameters()).dtype
    return type(model)(**header["config"], generator=generator, dtype=dtype), own is not None


def _generator(metadata: dict) -> torch.Generator | None:
    """The generator of a training's or a study's first weights; None where the metadata, which anybody may write, names none."""
    try:
        run, trial = (metadata["train"], 0) if "train" in metadata else (metadata["study"], metadata["trial"])
        return weights_generator(run["seed"], run["cell" if "train" in metadata else "arch"], run["depth"], trial)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
